"""What decorators and constructors cannot take is refused where it stands, in words."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import lockstep
import pytest
from property.hostile_python import DURATIONS, INTEGERS, MAPPINGS, OBJECTS, TEXTS

VALUES = [*OBJECTS, *TEXTS, *INTEGERS, *DURATIONS, *MAPPINGS]
LONGEST_TEXT = 1000


def act(*_: Any) -> None:
    """Do nothing."""


def _app() -> lockstep.App:
    app = lockstep.App()
    app.workflow(act)
    return app


def _scheduled(cron: Any = "@daily", **options: Any) -> None:
    app = _app()
    app.scheduled(cron, **options)(app.workflows["act"])


def _queue(queue_name: Any = "mail", **limits: Any) -> None:
    lockstep.App().queue(queue_name, **limits)


def _worker(app: Any = None, **options: Any) -> None:
    lockstep.Worker(_app() if app is None else app, **options)


def _decorated(kind: str) -> Callable[..., None]:
    def decorate(function: Any = act, **options: Any) -> None:
        getattr(lockstep.App(), kind)(**options)(function)

    return decorate


# with how many of the values it may be called: those that fit, and those that nothing can refuse
TAKEN: list[tuple[Callable[..., Any], str, int]] = [
    *((lockstep.Retry, name, 6) for name in ("max_attempts", "delay", "max_delay", "jitter")),
    *((lockstep.Retry, "backoff", 12), (lockstep.Retry, "retry_on", 2)),
    *(
        (_decorated(kind), name, most)
        for kind in ("workflow", "step", "transaction")
        for name, most in (("function", 0), ("name", 12), ("retries", 1))
    ),
    *((_decorated("workflow"), "queue_name", 12), (_decorated("step"), "timeout", 4)),
    *((_queue, "queue_name", 12), (_queue, "concurrency", 12)),
    *((_scheduled, "cron", 0), (_scheduled, "time_zone", 0), (_scheduled, "queue_name", 12)),
    *((_scheduled, "name", 14), (_scheduled, "time_arg", 2), (_scheduled, "timeout", 4)),
    *((_worker, "app", 1), (_worker, "concurrency", 4), (_worker, "max_connections", 4)),
    *((_worker, name, 4) for name in ("lease", "grace", "poll_interval")),
    *((_worker, "app_version", 12), (_worker, "dsn", 5)),
    *((lockstep.Client, "dsn", len(TEXTS) + 4), (lockstep.App, "codec", 1)),
]


@pytest.mark.parametrize(
    ("call", "name", "most"),
    TAKEN,
    ids=[f"{place}-{name}" for place, (_, name, _) in enumerate(TAKEN)],
)
def test_what_does_not_fit_is_refused_where_it_stands(
    call: Callable[..., Any], name: str, most: int
) -> None:
    taken = 0
    for value in VALUES:
        try:
            call(**{name: value})
        except (lockstep.LockstepError, ValueError, TypeError) as error:
            text = str(error)
        else:
            text = "taken"
            taken += 1
        assert 0 < len(text.strip()) < LONGEST_TEXT, text[:200]
    assert taken <= most


def test_a_queue_whose_name_is_a_text_and_not_a_list_of_them_is_refused() -> None:
    with pytest.raises(lockstep.InvalidArgument, match="must be a list of names, not 'mail'"):
        _worker(queues="mail")
    with pytest.raises(ValueError, match="must be positive and at most 1000 years"):
        _worker(lease=timedelta(days=400_000))
