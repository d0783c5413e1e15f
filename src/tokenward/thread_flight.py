"""One attempt at a time for the same thing, among threads."""

from __future__ import annotations

import os
from concurrent.futures import Future
from typing import TYPE_CHECKING, Generic, TypeVar

from .process_lock import ProcessLock

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

T = TypeVar("T")


class ThreadFlight(Generic[T]):
    """The twin of `SingleFlight` for programs without an event loop.

    The first thread that wants something makes the attempt, and the others wait for it.
    """

    def __init__(self) -> None:
        self._lock = ProcessLock()
        self._flights: dict[tuple[int, Hashable], Future[T]] = {}

    def run(self, key: Hashable, attempt: Callable[[], T], *, timeout: float) -> T:
        """Return the result of `attempt`, or of the one that is under way for `key`.

        Raises `TimeoutError` for who waited `timeout` seconds for another thread's, and
        `AbandonedError` if that thread came to an end without a result.
        """
        # What a parent process has under way lands there, and never here.
        flown = (os.getpid(), key)
        with self._lock:
            flight = self._flights.get(flown)
            if mine := flight is None:
                flight = self._flights[flown] = Future()
        if not mine:
            return flight.result(timeout)
        try:
            result = attempt()
        except BaseException:
            # Not what was raised: it belongs to the thread that it was raised in.
            flight.set_exception(AbandonedError())
            raise
        else:
            flight.set_result(result)
            return result
        finally:
            with self._lock:
                del self._flights[flown]


class AbandonedError(Exception):
    """The thread that made the attempt came to an end without a result."""
