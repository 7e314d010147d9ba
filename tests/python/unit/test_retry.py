from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from lockstep import Retry


def test_pause_grows_by_the_backoff_up_to_the_maximum() -> None:
    retry = Retry(
        max_attempts=10, delay=timedelta(seconds=1), backoff=3, max_delay=timedelta(seconds=20)
    )
    pauses = [retry.pause_after(attempt, ValueError()) for attempt in (1, 2, 3, 4)]
    assert pauses == [timedelta(seconds=n) for n in (1, 3, 9, 20)]


def test_last_attempt_is_not_followed_by_a_pause() -> None:
    retry = Retry(max_attempts=3)
    assert retry.pause_after(2, ValueError()) is not None
    assert retry.pause_after(3, ValueError()) is None


def test_only_listed_exceptions_are_retried() -> None:
    retry = Retry(retry_on=(OSError, ValueError))
    assert retry.pause_after(1, UnicodeError()) is not None
    assert retry.pause_after(1, KeyError()) is None


def test_jitter_stays_within_its_share() -> None:
    retry = Retry(max_attempts=2, delay=timedelta(seconds=10), jitter=0.5)
    pauses = {retry.pause_after(1, ValueError()) for _ in range(200)}
    assert len(pauses) > 100
    assert all(p is not None and 5 <= p.total_seconds() <= 15 for p in pauses)


def test_endless_backoff_ends_at_the_maximum() -> None:
    retry = Retry(max_attempts=10_000, backoff=10.0, max_delay=timedelta(minutes=1))
    assert retry.pause_after(5_000, ValueError()) == timedelta(minutes=1)


@pytest.mark.parametrize(
    "arguments",
    [
        {"max_attempts": 0},
        {"delay": timedelta(seconds=-1)},
        {"max_delay": timedelta(seconds=-1)},
        {"backoff": 0.5},
        {"jitter": 2.0},
    ],
)
def test_senseless_policies_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))):
        Retry(**arguments)
