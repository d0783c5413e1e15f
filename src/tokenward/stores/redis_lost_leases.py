"""Leases that a server gave in an answer that nobody received.

A server that stood still does what it was asked when it goes on, though nobody waits for
it any more. A lease that is given so has no holder, and would keep everybody waiting until
it runs out.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from ..background import Background
from ..errors import StoreUnavailable, TokenwardError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from ..tokens.interfaces import Lease

_PAUSE: Final = 0.5
"""Seconds between two attempts."""

_TIMES: Final = 2
"""That a lease is given back: the first time may come before the server has given it."""

_PATIENCE: Final = 60.0
"""Seconds after which a server that is still out of reach is left alone."""

_MOST: Final = 100
"""Leases at once. What is lost beyond them runs out by itself."""


class LostLeases:
    """Gives back what may have been given, in the background, when the server is there again."""

    def __init__(self, release: Callable[[Lease], Awaitable[None]]) -> None:
        self._release = release
        self._background = Background()
        self._closing: set[asyncio.AbstractEventLoop] = set()

    def give_back(self, lease: Lease) -> None:
        """Begin to give back `lease`, which its owner did not hear of."""
        if len(self._background) < _MOST and asyncio.get_running_loop() not in self._closing:
            self._background.begin(self._insist(lease))

    @asynccontextmanager
    async def left(self) -> AsyncIterator[None]:
        """Leave them to run out, while the connections of the running loop are being closed."""
        loop = asyncio.get_running_loop()
        self._closing.add(loop)
        try:
            await self._background.drain(0.0)
            yield
        finally:
            self._closing.discard(loop)

    async def _insist(self, lease: Lease) -> None:
        loop = asyncio.get_running_loop()
        deadline, times = loop.time() + _PATIENCE, 0
        while times < _TIMES and loop.time() < deadline:
            await asyncio.sleep(_PAUSE)
            try:
                await self._release(lease)
            except StoreUnavailable:
                continue
            except TokenwardError:
                return
            times += 1
