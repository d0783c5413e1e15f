"""An event loop in a thread of its own, for programs that have none."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import TYPE_CHECKING, TypeVar

from .process_lock import ProcessLock

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

T = TypeVar("T")


class LoopThread:
    """Run coroutines for threads, one loop for all of them, begun at its first use.

    What is bound to a loop, as the connections of a store are, so stays with one. Where
    the program has a loop after all, `borrow` lets threads use that one. A process that
    was forked begins a loop of its own.
    """

    def __init__(self) -> None:
        self._lock = ProcessLock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._borrowed: tuple[int, asyncio.AbstractEventLoop] | None = None

    def borrow(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """Use the loop of the program from now on; None: no more."""
        self._borrowed = None if loop is None else (os.getpid(), loop)

    @property
    def is_running(self) -> bool:
        """Whether there is a loop in this process."""
        return self._thread is not None and self._thread.is_alive()

    def run(self, work: Callable[[], Coroutine[None, None, T]], *, timeout: float) -> T:
        """Return what `work` brings.

        Raises what it raises, and `TimeoutError` after `timeout` seconds.
        """
        future = asyncio.run_coroutine_threadsafe(work(), self._running())
        try:
            return future.result(timeout)
        finally:
            future.cancel()

    def close(self) -> None:
        """Stop the loop. It begins anew at its next use."""
        with self._lock:
            if self._loop is None or self._thread is None or not self._thread.is_alive():
                return
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()
            self._loop = self._thread = None

    def _running(self) -> asyncio.AbstractEventLoop:
        if self._borrowed is not None:
            pid, loop = self._borrowed
            # The child of a fork has a copy, which nobody runs.
            if pid == os.getpid() and loop.is_running() and not is_on_loop():
                return loop
        with self._lock:
            # A thread is not alive in the child of a fork, whatever it was in the parent.
            if self._loop is None or self._thread is None or not self._thread.is_alive():
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=self._loop.run_forever, name="tokenward-store", daemon=True
                )
                self._thread.start()
            return self._loop


def is_on_loop() -> bool:
    """Tell whether this thread runs a loop, which would wait for itself."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
