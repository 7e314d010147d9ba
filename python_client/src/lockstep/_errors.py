"""
Exceptions of Lockstep.

LockstepError
├── InvalidArgument          22023  a bad argument, also a TypeError's place in SQL
├── WorkflowNotFound         P0002  no workflow has the id
├── ScheduleNotFound         P0002  no schedule has the name
├── QueueNotFound            P0002  no queue of the name has limits or is paused
├── DuplicateWorkflow        23505  the id or deduplication id is taken
├── WrongState               55000  the workflow's status does not allow it
├── LeaseLost                WF001  the work belongs to another executor now
├── WorkflowCancelled        WF002  the workflow was cancelled
├── StepMismatch             WF003  the code does not match the recorded steps
├── NotDeterministic                durable calls whose order depends on timing, or too many of them
├── WorkflowFailed                  the awaited workflow ended without a result
├── StepFailed                      a recorded error whose class is not known here
├── StepTimeout                     a step took longer than it may (a TimeoutError)
├── ResultTimeout                   the result did not come in time (a TimeoutError)
├── WaitTimeout                     what was waited for did not come (a TimeoutError)
├── Unserializable                  a value that JSON in Postgres cannot hold
├── PayloadError                    a payload that the codec cannot read or write
├── InvalidInput                    inputs that do not fit the workflow's signature
├── NotInWorkflow                   a primitive called outside of a workflow
├── BlockingCall                    a blocking call that would stop the event loop
└── NotInstalled                    the database has no Lockstep, or another version
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from psycopg import DataError, NotSupportedError, ProgrammingError

if TYPE_CHECKING:
    import psycopg

_REFUSED_BY_DRIVER = (DataError, ProgrammingError, NotSupportedError)


class LockstepError(Exception):
    """Base of every exception that Lockstep raises."""

    sqlstate: ClassVar[str | None] = None


class InvalidArgument(LockstepError):
    """An argument has a value that the function cannot take."""

    sqlstate = "22023"


class WorkflowNotFound(LockstepError):
    """No workflow has the given id."""

    sqlstate = "P0002"


class ScheduleNotFound(LockstepError):
    """No schedule has the given name."""


class QueueNotFound(LockstepError):
    """No queue of the given name has limits, or is paused."""


class DuplicateWorkflow(LockstepError):
    """The workflow id or deduplication id is taken."""

    sqlstate = "23505"


class WrongState(LockstepError):
    """The workflow's status does not allow the operation."""

    sqlstate = "55000"


class LeaseLost(LockstepError):
    """The executor lost its lease, or the workflow to another executor."""

    sqlstate = "WF001"


class WorkflowCancelled(LockstepError):
    """The workflow was cancelled."""

    sqlstate = "WF002"


class StepMismatch(LockstepError):
    """A step does not match the one that was recorded at its place."""

    sqlstate = "WF003"

    def __init__(self, step_id: int, recorded_name: str, step_name: str) -> None:
        super().__init__(
            f'step {step_id} was "{recorded_name}" when recorded and is "{step_name}" now; '
            "a workflow must call the same steps in the same order each time it runs"
        )
        self.step_id = step_id
        self.recorded_name = recorded_name
        self.step_name = step_name


class NotDeterministic(LockstepError):
    """Durable calls are nested too deeply, or are too many, to be numbered the same each time."""


class WorkflowFailed(LockstepError):
    """The awaited workflow ended in ERROR or in the dead letter."""

    def __init__(self, workflow_id: str, status: str, type: str, message: str) -> None:
        super().__init__(f'workflow "{workflow_id}" ended in {status}: {type}: {message}')
        self.workflow_id = workflow_id
        self.status = status
        self.type = type
        self.message = message


class StepFailed(LockstepError):
    """A step's recorded error, of a class that is not loaded in this process."""

    def __init__(self, type: str, message: str) -> None:
        super().__init__(f"{type}: {message}")
        self.type = type
        self.message = message


class StepTimeout(LockstepError, TimeoutError):
    """A step took longer than its timeout."""


class ResultTimeout(LockstepError, TimeoutError):
    """The workflow did not end in the time given."""


class WaitTimeout(LockstepError, TimeoutError):
    """What was waited for did not come in time."""


class Unserializable(LockstepError):
    """A value cannot be stored as JSON in Postgres."""


class PayloadError(LockstepError):
    """
    The codec cannot read or write a payload.

    Another one wrote it, or one with another key; or the codec itself failed.
    """


class InvalidInput(LockstepError):
    """The inputs of a workflow do not fit its signature."""


class NotInWorkflow(LockstepError):
    """The function is only available inside a running workflow."""


class BlockingCall(LockstepError):
    """A blocking function was called where it would stop the event loop."""


class NotInstalled(LockstepError):
    """The database has no Lockstep, or one of another version."""


_BY_SQLSTATE: dict[str, type[LockstepError]] = {
    cls.sqlstate: cls
    for cls in (
        InvalidArgument,
        WorkflowNotFound,
        DuplicateWorkflow,
        WrongState,
        LeaseLost,
        WorkflowCancelled,
    )
    if cls.sqlstate is not None
}


_NOT_FOUND: dict[str, type[LockstepError]] = {
    "schedule": ScheduleNotFound,
    "queue": QueueNotFound,
}
"""What does not exist where the error names a table; else it is a workflow."""


_OTHER_TYPE = ("42883", "42804", "42846", "42P18", "0A000")
"""States of a call itself, and of nothing inside, that has an argument of a type that it lacks."""


_LONGEST_PART = 800
"""Characters of a message, detail or hint that are shown."""


def translate(error: psycopg.Error) -> LockstepError | None:
    """
    Turn an error of a call into its class, if it has one.

    Class 22 is about an argument, whoever found it: the function, the type of its parameter
    or, without a state, the driver. Class 54 says that one is too large or nested too deeply.
    """
    diag = error.diag
    state = error.sqlstate or ""
    if not state and isinstance(error, _REFUSED_BY_DRIVER):
        return InvalidArgument(_shortened(str(error)))
    cls = _BY_SQLSTATE.get(state)
    if state[:2] in ("22", "54"):
        cls = InvalidArgument
    elif state in _OTHER_TYPE and diag.context is None:
        return InvalidArgument(f"an argument has another type: {diag.message_primary}")
    if cls is None:
        return None
    if cls is WorkflowNotFound:
        cls = _NOT_FOUND.get(diag.table_name or "", cls)
    parts = (diag.message_primary, diag.message_detail, diag.message_hint)
    return cls(". ".join(_shortened(part).rstrip(".") for part in parts if part))


def _shortened(text: str) -> str:
    """Return a text that may quote an argument, which may be as large as any."""
    return text if len(text) <= _LONGEST_PART else f"{text[:_LONGEST_PART]}…"
