"""The version of this package, which is that of the extension, and what it works with."""

from __future__ import annotations

from ._errors import NotInstalled

__version__ = "0.2.0"


def numbers_of(version: str) -> tuple[int, ...]:
    """
    Return the numbers of a version, which compare as versions do.

    >>> numbers_of("0.10.1") > numbers_of("0.9.0")
    True
    """
    return tuple(int(number) for number in version.split("."))


def check_version(installed: str) -> None:
    """
    Refuse to work with a database of another release, but for the next one.

    A release keeps the functions of the one before it, so that the workers of that one go on,
    and start, while they are replaced.
    """
    major, minor, *_ = numbers_of(__version__)
    if numbers_of(installed)[:2] < (major, minor):
        raise NotInstalled(
            f"the database has lockstep {installed}, this worker needs {__version__}: "
            'run "lockstep upgrade", or ALTER EXTENSION lockstep UPDATE'
        )
    if numbers_of(installed)[:2] > (major, minor + 1):
        raise NotInstalled(
            f"the database has lockstep {installed}, this worker is of {__version__}: "
            "update the package pg-lockstep"
        )
