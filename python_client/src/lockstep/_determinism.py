"""What a workflow needs from outside to take the same way each time it is replayed."""

from __future__ import annotations

import random as _random
import uuid as _uuid
from collections.abc import Callable, Coroutine
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter

from ._codec import decode_json, encode
from ._durable import durable, record
from ._run import RecordedStep, Run
from ._scope import current_workflow

_MOMENT = TypeAdapter(datetime)


def _recorded_value(
    name: str, make: Callable[[Run], Any], read: Callable[[Any], Any]
) -> Coroutine[Any, Any, Any]:
    async def operation(run: Run, step_id: int, begun: RecordedStep | None) -> Any:
        value = make(run)
        await record(run, step_id, name, output=encode(value))
        return value

    return durable(name, operation, replay=lambda run, recorded: read(decode_json(recorded.output)))


def _read_moment(text: str) -> datetime:
    return _MOMENT.validate_python(text)  # Python 3.10 cannot read the "Z" by itself


def now() -> Coroutine[Any, Any, datetime]:
    """
    Return the time of the database, in UTC, the same at each replay.

    >>> order_date = (await lockstep.now()).date()    # doctest: +SKIP
    """
    return _recorded_value("now", lambda run: run.worker.database_time(), _read_moment)


def uuid() -> Coroutine[Any, Any, _uuid.UUID]:
    """
    Return a random UUID (version 4), the same at each replay.

    >>> key = await lockstep.uuid()    # doctest: +SKIP
    """
    return _recorded_value("uuid", lambda run: _uuid.uuid4(), _uuid.UUID)


def random() -> Coroutine[Any, Any, float]:
    """
    Return a random number from 0 up to 1, the same at each replay.

    >>> is_sampled = await lockstep.random() < 0.01    # doctest: +SKIP
    """
    return _recorded_value("random", lambda run: _random.random(), float)


def patch(name: str) -> Coroutine[Any, Any, bool]:
    """
    Tell whether a workflow that runs now takes a change of its code.

    True for one that comes here for the first time, which is recorded; False for one that
    went past this place before the change was made, and goes on as it did.

    >>> if await lockstep.patch("insured-parcels"):    # doctest: +SKIP
    ...     await insure(parcel)
    """
    scope = current_workflow("patch")
    step_name = f"patch {name}"
    recorded_name = scope.run.recorded_name(scope.current_branch().next_number)
    if recorded_name not in (None, step_name):
        return _no()

    async def operation(run: Run, step_id: int, begun: RecordedStep | None) -> bool:
        await record(run, step_id, step_name, output="true")
        return True

    return durable(step_name, operation, scope=scope)


async def _no() -> bool:
    return False
