"""
Lockstep: durable workflows in Postgres.

A workflow is a row; a worker executes it and checkpoints every step in the database. See
the README of the project for an example and docs/concepts.md for the guarantees.
"""

from . import sync
from ._app import App, StepFunction, TransactionFunction, WorkflowFunction
from ._async_client import AsyncClient
from ._calls import WorkflowInfo
from ._client import Client
from ._errors import (
    BlockingCall,
    DuplicateWorkflow,
    InvalidArgument,
    InvalidInput,
    LeaseLost,
    LockstepError,
    NotInstalled,
    NotInWorkflow,
    ResultTimeout,
    StepFailed,
    StepMismatch,
    Unserializable,
    WorkflowCancelled,
    WorkflowFailed,
    WorkflowNotFound,
    WrongState,
)
from ._primitives import WorkflowContext, context, receive, send, set_event, sleep
from ._retry import Retry
from ._worker import Worker

__all__ = [
    "App",
    "AsyncClient",
    "BlockingCall",
    "Client",
    "DuplicateWorkflow",
    "InvalidArgument",
    "InvalidInput",
    "LeaseLost",
    "LockstepError",
    "NotInWorkflow",
    "NotInstalled",
    "ResultTimeout",
    "Retry",
    "StepFailed",
    "StepFunction",
    "StepMismatch",
    "TransactionFunction",
    "Unserializable",
    "Worker",
    "WorkflowCancelled",
    "WorkflowContext",
    "WorkflowFailed",
    "WorkflowFunction",
    "WorkflowInfo",
    "WorkflowNotFound",
    "WrongState",
    "context",
    "receive",
    "send",
    "set_event",
    "sleep",
    "sync",
]
