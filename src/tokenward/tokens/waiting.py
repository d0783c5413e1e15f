"""Waiting with an end to it: for a turn, and for room."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

_FIRST: Final = 0.01
_LONGEST: Final = 0.05
"""Seconds between two looks: every look costs the store a call or two."""


class Turns:
    """Come round again and again, a little slower every time, until the time is over.

        turns = Turns(10.0, jitter=random.random)
        while await turns.again():
            ...

    The first turn comes at once, the last one when `seconds` are over. `jitter` gives
    numbers from 0 to 1, so that those who wait for the same do not come together.
    """

    def __init__(self, seconds: float, *, jitter: Callable[[], float]) -> None:
        self._deadline = _time() + seconds
        self._jitter = jitter
        self._pause = 0.0

    async def again(self) -> bool:
        """Wait for the next turn; False if the time is over."""
        if not self._pause:
            self._pause = _FIRST
            return True
        left = self._deadline - _time()
        if left <= 0:
            return False
        await asyncio.sleep(min(self._pause * (0.5 + self._jitter()), left))
        self._pause = min(self._pause * 2, _LONGEST)
        return True


class Rooms:
    """Bound how many are at the same thing at once, per event loop and name."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._loops: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, asyncio.Semaphore]] = (
            WeakKeyDictionary()
        )

    @asynccontextmanager
    async def enter(self, name: str, *, patience: float) -> AsyncIterator[bool]:
        """Wait `patience` seconds at most for a place; False if there was none."""
        room = self._room(name)
        try:
            async with asyncio.timeout(patience):
                await room.acquire()
        except TimeoutError:
            entered = False
        else:
            entered = True
        try:
            yield entered
        finally:
            if entered:
                room.release()

    def _room(self, name: str) -> asyncio.Semaphore:
        rooms = self._loops.setdefault(asyncio.get_running_loop(), {})
        return rooms.setdefault(name, asyncio.Semaphore(self._size))


def _time() -> float:
    return asyncio.get_running_loop().time()
