"""Where claims begin: at the head, or where the last one got to, in a backlog or a slow head."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from lockstep import _claimer
from lockstep._claimer import LowWater

ASKED = 1000
"""More than any claim of these tests brings, unless it is to come back full."""

FAST = 0.001
SLOW = 0.5


class Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(_claimer, "time", SimpleNamespace(monotonic=clock.monotonic))
    return clock


def row(queue_name: str, priority: int | None = None, at: str | None = None) -> dict[str, Any]:
    return {"queue_name": queue_name, "priority": priority, "available_at": at}


def start(low_water: LowWater) -> Any:
    """Return the marks for the next claim, by queue; None if it is not to tell places."""
    text = low_water.start()
    if text is None:
        return None
    return {
        mark.pop("queue_name"): (mark.pop("priority"), mark.pop("available_at"), *mark)
        for mark in json.loads(text)
    }


@pytest.fixture
def marked(clock: Clock) -> LowWater:
    """A head that was found slow, and one claim that told where it got to."""
    low_water = LowWater()
    low_water.note(ASKED, [row("q")], SLOW)
    assert start(low_water) == {}
    low_water.note(ASKED, [row("q", 0, "t1"), row("r", 3, "t1"), row("q", 1, "t2")], SLOW)
    return low_water


def test_first_claim_begins_at_the_head(clock: Clock) -> None:
    assert LowWater().start() is None


def test_fast_claims_never_ask_for_marks(clock: Clock) -> None:
    low_water = LowWater()
    for _ in range(10):
        low_water.note(ASKED, [row("q", 0, "t1")] * 100, FAST)
        assert low_water.start() is None
        clock.now += 0.5


def test_claim_may_take_longer_the_more_it_brings(clock: Clock) -> None:
    low_water = LowWater()
    low_water.note(ASKED, [row("q")] * 150, 0.005)
    assert low_water.start() is None
    low_water.note(ASKED, [row("q")] * 10, 0.005)
    assert low_water.start() == "[]"


def test_after_a_slow_claim_the_next_tells_places(clock: Clock) -> None:
    low_water = LowWater()
    low_water.note(ASKED, [row("q")], SLOW)
    assert low_water.start() == "[]"


def test_marks_are_the_last_place_in_each_queue(marked: LowWater) -> None:
    assert start(marked) == {"q": (1, "t2"), "r": (3, "t1")}


def test_marks_move_with_each_claim_in_the_queues_that_it_took_from(marked: LowWater) -> None:
    marked.note(ASKED, [row("q", 1, "t3"), row("q", 1, "t4"), row("s", 0, "t1")], FAST)
    assert start(marked) == {"q": (1, "t4"), "r": (3, "t1"), "s": (0, "t1")}
    marked.note(ASKED, [row("q", 0, "t5")], FAST)
    assert start(marked) == {"q": (0, "t5"), "r": (3, "t1"), "s": (0, "t1")}
    marked.note(ASKED, [], FAST)
    assert start(marked) == {"q": (0, "t5"), "r": (3, "t1"), "s": (0, "t1")}


def test_fast_claim_from_marks_says_nothing_of_the_head(marked: LowWater) -> None:
    marked.note(ASKED, [row("q", 1, "t3")], FAST)
    assert marked.start() is not None


def test_slow_head_that_brought_nothing_is_tried_again(clock: Clock) -> None:
    low_water = LowWater()
    low_water.note(ASKED, [], SLOW)
    for _ in range(3):
        assert low_water.start() == "[]"
        low_water.note(ASKED, [], SLOW)


def test_every_two_seconds_a_claim_begins_at_the_head(clock: Clock, marked: LowWater) -> None:
    clock.now += 1.9
    marked.note(ASKED, [row("q", 1, "t3")], FAST)
    assert start(marked) == {"q": (1, "t3"), "r": (3, "t1")}
    clock.now += 0.1
    assert marked.start() == "[]"
    assert marked.start() == "[]", "also if the call did not claim"


def test_head_that_is_still_slow_is_left_out_for_two_more_seconds(
    clock: Clock, marked: LowWater
) -> None:
    clock.now += 2.0
    assert start(marked) == {}
    marked.note(ASKED, [row("q", 0, "t5")], SLOW)
    clock.now += 1.9
    assert start(marked) == {"q": (0, "t5")}
    clock.now += 0.1
    assert start(marked) == {}


def test_head_that_became_fast_ends_the_marks(clock: Clock, marked: LowWater) -> None:
    clock.now += 2.0
    assert start(marked) == {}
    marked.note(ASKED, [row("q", 0, "t5")], FAST)
    assert marked.start() is None
    clock.now += 10.0
    assert marked.start() is None
    marked.note(ASKED, [row("q")], SLOW)
    assert start(marked) == {}, "no place of before comes back"


def test_full_claims_mark_a_backlog_however_fast(clock: Clock) -> None:
    low_water = LowWater()
    low_water.note(1, [row("q")], FAST)
    assert start(low_water) == {}
    low_water.note(1, [row("q", 0, "t1")], FAST)
    assert start(low_water) == {"q": (0, "t1")}
    clock.now += 2.0
    assert start(low_water) == {}


def test_claim_that_empties_the_backlog_sends_the_next_one_to_the_head(clock: Clock) -> None:
    low_water = LowWater()
    low_water.note(1, [row("q")], FAST)
    low_water.note(1, [row("q", 0, "t1")], FAST)
    low_water.note(2, [row("q", 0, "t2")], FAST)
    assert low_water.start() is None
    low_water.note(2, [row("q")], FAST)
    assert low_water.start() is None
