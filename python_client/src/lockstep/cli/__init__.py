"""The ``lockstep`` command."""

from . import _change, _enqueue, _look, _queues, _schedules  # noqa: F401 - they register
from ._main import main

__all__ = ["main"]
