"""One execution of a workflow in a worker: its recorded past, its changes and its end."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic_core import to_json

from ._branches import Branches, RunEnded
from ._codec import decode_json, encode, encode_error
from ._errors import InvalidInput, NotDeterministic, PayloadError, StepMismatch, Unserializable
from ._options import SCHEDULED_AT
from ._payloads import Payloads

if TYPE_CHECKING:
    from ._functions import WorkflowFunction
    from ._worker import Worker

_RECORDED = "SELECT output::text, error::text FROM lockstep.get_step(%s, %s)"

_FINAL_ERRORS = (InvalidInput, NotDeterministic, StepMismatch, Unserializable)
"""Errors of a workflow that come again however often it is tried."""

_UNTIL_IT_CAN_BE_READ: dict[str, Any] = {
    "max_attempts": 2**31 - 1,
    "delay": 1,
    "backoff": 2,
    "max_delay": 60,
}
"""Policy of a workflow whose payloads this worker has no key for: another may have it."""

_LAST_RESORT = '{"type": "Unserializable", "message": "the database refused the outcome"}'
"""The error of a workflow whose value the database refused, and the error saying so, too."""


@dataclass(frozen=True, slots=True)
class RecordedStep:
    """
    A step as an earlier attempt left it.

    ``output`` and ``error`` are JSON texts, read when the workflow comes to the step. One
    that is not finished has ``began_at`` and, if it waits for a moment, ``wakes_at``, both
    on this process's monotonic clock; ``child_id`` is the workflow that it started.
    """

    step_name: str
    output: str | None
    error: str | None
    attempts: int
    child_id: str | None
    is_finished: bool
    wakes_at: float | None
    began_at: float


class Run:
    """One claimed workflow. Everything here happens on the worker's event loop."""

    def __init__(self, worker: Worker, claimed: dict[str, Any]) -> None:
        self.worker = worker
        self.loop = worker.loop
        self.payloads = Payloads(
            worker.app.codec, is_strict=True, on_failure=self._note_payload_failure
        )
        self.workflow_id: str = claimed["workflow_id"]
        self.workflow_name: str = claimed["workflow_name"]
        self.queue_name: str = claimed["queue_name"]
        self.attempt: int = claimed["attempt"]
        self.headers: dict[str, Any] = {}
        self._claimed = claimed
        self.ended: str | None = None
        self.task: asyncio.Task[None] | None = None
        self._identity = to_json({"workflow_id": self.workflow_id, "attempt": self.attempt})[
            :-1
        ].decode()
        self._recorded: dict[int, RecordedStep] = {}
        self.fatal: StepMismatch | PayloadError | None = None
        self._unreplayed_count = 0
        self._loose_id = 0
        self.branches = Branches(self)
        for step in claimed["steps"] or ():
            self._unreplayed_count += step["is_finished"]
            self._recorded[step["step_id"]] = RecordedStep(
                step["step_name"],
                step["output"],
                step["error"],
                step["attempts"],
                step["child_id"],
                step["is_finished"],
                self.moment(step["remaining"]),
                time.monotonic() - (step["elapsed"] or 0.0),
            )

    # what replay needs

    def recorded(self, step_id: int, step_name: str) -> RecordedStep | None:
        """Return what an earlier attempt recorded for the step, after comparing names."""
        step = self._recorded.get(step_id)
        if self.fatal is None and step is not None and step.step_name != step_name:
            self.fatal = StepMismatch(step_id, step.step_name, step_name)
        if self.fatal is not None:
            raise self.fatal  # also if user code caught it before
        if step is not None and step.is_finished:
            self._unreplayed_count -= 1
        return step

    def _note_payload_failure(self, error: PayloadError) -> None:
        self.fatal = error

    def recorded_name(self, step_id: int) -> str | None:
        """Return the name under which an earlier attempt recorded a step, if it did."""
        step = self._recorded.get(step_id)
        return None if step is None else step.step_name

    def next_loose_id(self) -> int:
        """Return an id for a change that is no step, by which its answer is found."""
        self._loose_id -= 1
        return self._loose_id

    @property
    def is_replaying(self) -> bool:
        """Whether steps are left that an earlier attempt finished."""
        return self._unreplayed_count > 0

    @staticmethod
    def moment(remaining: float | None) -> float | None:
        """Return when the seconds remaining are over, on this process's monotonic clock."""
        return None if remaining is None else time.monotonic() + remaining

    # what a run says to the database

    def change(self, kind: str, step_id: int = 0, **fields: str) -> asyncio.Future[Any]:
        """Hand a change, whose fields are JSON texts, to the writer; its commit resolves it."""
        return self.worker.writer.submit(kind, self, step_id, self._body(step_id, fields))

    def _body(self, step_id: int, fields: dict[str, str]) -> str:
        if self.ended is not None:
            raise RunEnded
        body = "".join(f',"{name}":{text}' for name, text in fields.items())
        return f'{self._identity},"step_id":{step_id}{body}}}'

    def record_step_in_thread(self, step_id: int, **fields: str) -> None:
        """Record a step from the workflow's thread and block until it is committed."""
        body = self._body(step_id, fields)
        self.worker.writer.submit_from_thread("steps", self, step_id, body).wait()

    async def recorded_outcome(self, step_id: int) -> tuple[str | None, str | None] | None:
        """Return the output and the error of a step as the database has them, if it has."""
        rows = await self.worker.session.call_patiently(
            self.worker.log_trouble, _RECORDED, self.workflow_id, step_id
        )
        return (rows[0][0], rows[0][1]) if rows else None

    async def start_timer(
        self,
        step_id: int,
        step_name: str,
        seconds: float,
        attempts: int = 0,
        error: str = "null",
    ) -> float | None:
        """Start the durable timer of a step; return when it ends."""
        remaining = await self.change(
            "timers",
            step_id,
            step_name=encode(step_name),
            attempts=str(attempts),
            error=error,
            delay=repr(seconds),
        )
        return self.moment(remaining)

    # the end

    def end(self, how: str) -> None:
        """End the run here, whatever user code still does; its later writes go nowhere."""
        if self.ended is not None:
            return
        self.ended = how
        self.branches.end()
        self.worker.discard(self)

    async def execute(self) -> None:
        """Run the workflow function to its end and record its outcome."""
        workflow = self.worker.workflows[self.workflow_name]
        policy: dict[str, Any] | None = None
        is_final = False
        try:
            self.headers = decode_json(self._claimed["headers"]) or {}
            args, kwargs = workflow.arguments.decode(self._inputs_for(workflow))
            value = await workflow.call_in(self, args, kwargs)
            if self.fatal is not None:
                raise self.fatal
            kind, document = "output", self.payloads.seal(workflow.returns.encode(value)[0])
        except BaseException as error:
            if self.ended is not None or isinstance(error, RunEnded):  # or the worker's end
                return
            if not isinstance(error, Exception):
                self.worker.log.warning(
                    'workflow "%s" raised %s', self.workflow_id, type(error).__name__
                )
            cause = self.fatal or error
            kind = "error"
            try:
                document = self._error_document(cause)
            except PayloadError as unwritten:
                cause = unwritten
                document = self._error_document(cause)
            is_final = isinstance(cause, _FINAL_ERRORS) or not workflow.is_retried(cause)
            policy = workflow.retry_policy
            if isinstance(cause, PayloadError):
                is_final, policy = False, _UNTIL_IT_CAN_BE_READ
                self.worker.log_unreadable(self.workflow_id, cause)
        self.finish(kind, document, policy, is_final)

    def _inputs_for(self, workflow: WorkflowFunction[..., Any]) -> dict[str, Any]:
        """
        Return the inputs, without the time of a tick that the function has no parameter for.

        Who makes a schedule in SQL, or by the name of its workflow, cannot look at it.
        """
        inputs = self.payloads.open_inputs(decode_json(self._claimed["inputs"]))
        named_args = inputs["namedArgs"]
        if (
            "schedule_name" in self.headers
            and named_args.get(SCHEDULED_AT) == self.headers.get(SCHEDULED_AT)
            and not workflow.arguments.takes(SCHEDULED_AT)
        ):
            named_args.pop(SCHEDULED_AT, None)
        return inputs

    def _error_document(self, error: BaseException) -> str:
        if isinstance(error, PayloadError):  # sealed by the wrong key nobody could read it
            return encode({"type": "PayloadError", "message": str(error)})
        return self.payloads.seal_error(encode_error(error))

    def finish(
        self,
        kind: str,
        document: str,
        policy: dict[str, Any] | None = None,
        is_final: bool = True,
    ) -> None:
        """Record the outcome, ``output`` or ``error``; the run ends when it is committed."""
        if self.ended is None:
            fields = {kind: document}
            if kind == "error":
                fields |= {"retries": encode(policy), "is_final": "true" if is_final else "false"}
            body = self._body(0, fields)
            self.worker.writer.submit_for("outcomes", self, 0, body, _Ending(self, kind, document))


class _Ending:
    """What waits for the outcome of a run: not the run's task, which is over."""

    __slots__ = ("_document", "_kind", "_run")

    def __init__(self, run: Run, kind: str, document: str) -> None:
        self._run = run
        self._kind = kind
        self._document = document

    def done(self) -> bool:
        return self._run.ended is not None

    def set_result(self, result: Any, /) -> None:
        self._run.end("finished")
        if self._kind == "error":
            self._run.worker.pulse.check_due()  # its next try may come soon

    def set_exception(self, exception: BaseException, /) -> None:
        if isinstance(exception, RunEnded) or self._document == _LAST_RESORT:
            self._run.end("lost")
            return
        document = encode_error(exception)  # the database refused the value
        self._run.finish("error", _LAST_RESORT if document == self._document else document)
