"""Reads of one Redis server: a few alone, and many together."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final

from ..background import Background

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

_ALONE: Final = 4
"""Reads that are under way before others wait to go together."""

_LARGEST: Final = 100
"""Keys that are read by one command at most, so that no other command waits long for it."""


class Reads:
    """Read keys with as few commands as the load asks for.

    What a command costs is mostly what its sending and its answer cost, whatever it reads.
    So while some reads are under way, those that come join the next one, which starts
    when one of them is over. No read begins before it was asked for: everybody sees what
    was written before.

    `read` gets names, and the time of the event loop since when somebody waits for them.
    """

    def __init__(self, read: Callable[[Sequence[str], float], Awaitable[Sequence[object]]]) -> None:
        self._read = read
        self._under_way = 0
        self._waiting: deque[_Batch] = deque()
        self._background = Background()

    async def get(self, names: Sequence[str]) -> list[object]:
        """Return what is under each name. Raises what `read` raises."""
        now = asyncio.get_running_loop().time()
        if self._under_way < _ALONE:
            return [*await self._begin(names, now)]
        if not self._waiting or len(self._waiting[-1].names) >= _LARGEST:
            self._waiting.append(_Batch(now))
        batch = self._waiting[-1]
        batch.names.update(dict.fromkeys(names))
        # Unlike shield(), wait() leaves the others' answer alone.
        await asyncio.wait((batch.answer,))
        found = batch.answer.result()
        return [found[name] for name in names]

    async def _begin(self, names: Sequence[str], since: float) -> Sequence[object]:
        self._under_way += 1
        try:
            return await self._read(names, since)
        finally:
            self._under_way -= 1
            if self._waiting:
                self._background.begin(self._answer(self._waiting.popleft()))

    async def _answer(self, batch: _Batch) -> None:
        names = list(batch.names)
        try:
            found = await self._begin(names, batch.since)
        except Exception as error:  # noqa: BLE001 - those who wait raise it
            batch.answer.set_exception(error)
        else:
            batch.answer.set_result(dict(zip(names, found, strict=True)))
        finally:
            # If the loop is shut down. And nobody hears of a failure that all went away from.
            batch.answer.cancel()


class _Batch:
    """Names that wait to be read together, and the answer for all who want them."""

    def __init__(self, since: float) -> None:
        self.since = since
        self.names: dict[str, None] = {}
        self.answer: asyncio.Future[dict[str, object]] = asyncio.get_running_loop().create_future()
