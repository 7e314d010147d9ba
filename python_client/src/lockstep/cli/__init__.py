"""The ``lockstep`` command."""

from . import _change, _look, _queues, _schedules  # noqa: F401 - they register their commands
from ._main import main

__all__ = ["main"]
