"""Something that happens once, and that any thread may wait for."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress


class Signal:
    """An event that the tasks of any event loop can await, and any thread can set.

    The provider may live on another thread than the test (see `serve`), where an
    `asyncio.Event` would not wake anybody.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._set = False
        self._waiting: list[asyncio.Future[None]] = []

    def is_set(self) -> bool:
        """Return whether it has happened."""
        return self._set

    def set(self) -> None:
        """Let everybody go on who waits now or later."""
        with self._lock:
            self._set = True
            waiting, self._waiting = self._waiting, []
        for future in waiting:
            # A loop that is closed has nobody left to wake.
            with suppress(RuntimeError):
                future.get_loop().call_soon_threadsafe(_wake, future)

    async def wait(self) -> None:
        """Return once it has happened."""
        with self._lock:
            if self._set:
                return
            future = asyncio.get_running_loop().create_future()
            self._waiting.append(future)
        await future


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class Gate:
    """Requests that are held until `release` is called. Made by `Provider.hold`.

    gate = provider.hold("token")
    task = asyncio.create_task(refresh())
    await gate.entered.wait()
    gate.release()
    """

    def __init__(self) -> None:
        self.entered: Signal = Signal()
        """Set when the first request has arrived."""
        self._released = Signal()
        self._arrived = 0

    @property
    def arrived(self) -> int:
        """How many requests have come so far."""
        return self._arrived

    def release(self) -> None:
        """Let all requests go on, those that come later as well."""
        self._released.set()

    async def pass_through(self) -> None:
        """Wait for `release`. The provider calls it; a fault of your own may."""
        self._arrived += 1
        self.entered.set()
        await self._released.wait()
