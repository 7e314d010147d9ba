"""
Lockstep: durable workflows in Postgres.

A workflow is a row; a worker executes it and checkpoints every step in the database. See
the README of the project for an example and docs/concepts.md for the guarantees.
"""

from . import sync
from ._app import App
from ._async_client import AsyncClient
from ._bulk_calls import EnqueueOptions
from ._calls import WorkflowInfo
from ._children import WorkflowHandle, map, start_workflow
from ._client import Client
from ._codec import UnreadableJson
from ._determinism import now, patch, random, uuid
from ._errors import (
    BlockingCall,
    DuplicateWorkflow,
    InvalidArgument,
    InvalidInput,
    LeaseLost,
    LockstepError,
    NotDeterministic,
    NotInstalled,
    NotInWorkflow,
    PayloadError,
    QueueNotFound,
    ResultTimeout,
    ScheduleNotFound,
    StepFailed,
    StepMismatch,
    StepTimeout,
    Unserializable,
    WaitTimeout,
    WorkflowCancelled,
    WorkflowFailed,
    WorkflowNotFound,
    WrongState,
)
from ._functions import StepFunction, TransactionFunction, WorkflowFunction
from ._manage_calls import StepInfo, WorkflowFilter
from ._options import ConfiguredWorkflow
from ._own_transaction import Checkpoint, checkpoint
from ._payloads import PayloadCodec
from ._poll import poll
from ._primitives import (
    WorkflowContext,
    close_stream,
    context,
    get_event,
    receive,
    send,
    set_event,
    set_progress,
    sleep,
    sleep_until,
    write_stream,
)
from ._queue_calls import Queue, QueueInfo, QueueLimits
from ._retry import Retry
from ._saga import compensate
from ._schedule_calls import ScheduleInfo, ScheduleOptions
from ._worker import Worker

__all__ = [
    "App",
    "AsyncClient",
    "BlockingCall",
    "Checkpoint",
    "Client",
    "ConfiguredWorkflow",
    "DuplicateWorkflow",
    "EnqueueOptions",
    "InvalidArgument",
    "InvalidInput",
    "LeaseLost",
    "LockstepError",
    "NotDeterministic",
    "NotInWorkflow",
    "NotInstalled",
    "PayloadCodec",
    "PayloadError",
    "Queue",
    "QueueInfo",
    "QueueLimits",
    "QueueNotFound",
    "ResultTimeout",
    "Retry",
    "ScheduleInfo",
    "ScheduleNotFound",
    "ScheduleOptions",
    "StepFailed",
    "StepFunction",
    "StepInfo",
    "StepMismatch",
    "StepTimeout",
    "TransactionFunction",
    "UnreadableJson",
    "Unserializable",
    "WaitTimeout",
    "Worker",
    "WorkflowCancelled",
    "WorkflowContext",
    "WorkflowFailed",
    "WorkflowFilter",
    "WorkflowFunction",
    "WorkflowHandle",
    "WorkflowInfo",
    "WorkflowNotFound",
    "WrongState",
    "checkpoint",
    "close_stream",
    "compensate",
    "context",
    "get_event",
    "map",
    "now",
    "patch",
    "poll",
    "random",
    "receive",
    "send",
    "set_event",
    "set_progress",
    "sleep",
    "sleep_until",
    "start_workflow",
    "sync",
    "uuid",
    "write_stream",
]
