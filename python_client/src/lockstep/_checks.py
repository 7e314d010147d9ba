"""Checks of what decorators and constructors are given: it is refused where it stands."""

from __future__ import annotations

from datetime import timedelta
from reprlib import Repr

from ._errors import InvalidArgument

_MAX_NAME_LENGTH = 512
_LONGEST = timedelta(days=365_000)


class BadValue(InvalidArgument, ValueError):
    """An argument of the right type has a wrong value."""


shown = Repr().repr
"""Shows a value of any origin: shortened, whatever it contains, also if it cannot be shown."""


def refuse_other_type(name: str, value: object, *expected: type) -> None:
    """Refuse an argument that Python would trip over where nobody can tell what it was."""
    if not isinstance(value, expected):
        said = " or a ".join(each.__name__ for each in expected)
        raise InvalidArgument(f"{name} must be a {said}, not {shown(value)}")


def refuse_bad_name(name: str, value: object) -> None:
    """Refuse what the database would not take as a name."""
    refuse_other_type(name, value, str)
    assert isinstance(value, str)
    if not value.strip() or len(value) > _MAX_NAME_LENGTH:
        raise BadValue(
            f"{name} must have 1 to {_MAX_NAME_LENGTH} characters, not {len(value)}: {shown(value)}"
        )
    if "\0" in value or (not value.isascii() and value != value.encode(errors="ignore").decode()):
        raise BadValue(f"{name} has a NUL or a lone surrogate: {shown(value)}")


def refuse_bad_count(name: str, value: object) -> None:
    """Refuse what is no number of things."""
    refuse_other_type(name, value, int)
    if isinstance(value, bool) or not 1 <= value < 2**31:  # type: ignore[operator]
        raise InvalidArgument(f"{name} must be 1 or greater, and below 2 ** 31: {shown(value)}")


def refuse_bad_duration(name: str, value: object, *, is_positive: bool = False) -> None:
    """Refuse what is no duration that the database and clocks can take."""
    refuse_other_type(name, value, timedelta)
    least = timedelta(microseconds=1) if is_positive else timedelta(0)
    if not least <= value <= _LONGEST:  # type: ignore[operator]
        kind = "positive" if is_positive else "0 or positive"
        raise BadValue(f"{name} must be {kind} and at most 1000 years: {shown(value)}")
