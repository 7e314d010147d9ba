"""How the durable calls of a workflow are numbered."""

from __future__ import annotations

import pytest
from lockstep import NotDeterministic
from lockstep._scope import Branch


def take(branch: Branch, count: int) -> list[int]:
    return [branch.take_number() for _ in range(count)]


def test_calls_of_a_branch_are_65536_apart() -> None:
    main = Branch()
    assert take(main, 2) == [1, 2]
    left, right = Branch(main), Branch(main)
    assert (take(right, 3), take(left, 2)) == ([4, 65540, 131076], [3, 65539])
    assert take(main, 1) == [5]


def test_no_two_calls_have_one_number() -> None:
    main = Branch()
    branches = [Branch(main) for _ in range(3)]
    numbers = take(main, 2)
    for branch in branches:
        nested = [Branch(branch) for _ in range(3)]
        numbers += [*take(branch, 2), *(take(each, 1)[0] for each in nested)]
    assert len(numbers) == len(set(numbers))


@pytest.mark.parametrize("calls_before", [0, 1])
def test_branch_of_a_branch_makes_one_call(calls_before: int) -> None:
    branch = Branch(Branch())
    take(branch, calls_before)
    nested = Branch(branch)
    take(nested, 1)
    with pytest.raises(NotDeterministic, match="a task inside a task"):
        take(nested, 1)


def test_main_branch_makes_65535_calls() -> None:
    main = Branch()
    take(main, 65535)
    with pytest.raises(NotDeterministic, match="at most 65535"):
        take(main, 1)


def test_numbers_of_a_branch_fit_the_column() -> None:
    main = Branch()
    take(main, 65534)
    branch = Branch(main)
    assert take(branch, 32768)[-1] == 2**31 - 1
    with pytest.raises(NotDeterministic, match="at most 32768"):
        take(branch, 1)
