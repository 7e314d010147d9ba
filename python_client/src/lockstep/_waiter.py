"""What waits for a change to be committed: a coroutine on the loop, or a thread."""

from __future__ import annotations

import threading
from typing import Any, Protocol


class Waiter(Protocol):
    """The part of a future that the writer uses."""

    def done(self) -> bool: ...
    def set_result(self, result: Any, /) -> None: ...
    def set_exception(self, exception: BaseException, /) -> None: ...


class ThreadWaiter:
    """
    A future for a blocked thread: one lock, and no trip through the event loop.

    A plain workflow waits for each of its checkpoints; waking its thread from the loop
    by a lock costs a fraction of a concurrent.futures.Future chained to a task.
    """

    __slots__ = ("_error", "_is_done", "_lock", "_result")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()
        self._is_done = False
        self._result: Any = None
        self._error: BaseException | None = None

    def done(self) -> bool:
        return self._is_done

    def set_result(self, result: Any, /) -> None:
        self._result = result
        self._is_done = True
        self._lock.release()

    def set_exception(self, exception: BaseException, /) -> None:
        self._error = exception
        self._is_done = True
        self._lock.release()

    def wait(self) -> Any:
        """Block the calling thread until the change is committed, or raise why it is not."""
        with self._lock:
            if self._error is not None:
                raise self._error
            return self._result
