"""Work that goes on when whoever began it has left."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")


class Background:
    """Do work that nobody waits for, and end it in time.

        background = Background()
        background.begin(give_back(token))
        await background.drain(5.0)

    Usable from several event loops; each drains its own. Work that may fail tells so
    itself: whatever it raises is only logged by the loop.
    """

    def __init__(self) -> None:
        self._loops: dict[asyncio.AbstractEventLoop, set[asyncio.Task[object]]] = {}

    def __len__(self) -> int:
        """Return how much is under way."""
        return sum(map(len, tuple(self._loops.values())))

    def begin(self, work: Coroutine[object, object, T]) -> asyncio.Task[T]:
        """Begin `work` on the running event loop, and keep it alive until it is over."""
        loop = asyncio.get_running_loop()
        task = loop.create_task(work)
        tasks = self._tasks_of(loop)
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        return task

    async def drain(self, timeout: float) -> None:  # noqa: ASYNC109 - part of what is promised
        """Wait `timeout` seconds at most until this loop's work is over; cancel the rest."""
        loop = asyncio.get_running_loop()
        tasks = self._loops.get(loop, set())
        deadline = loop.time() + timeout
        # What is under way may begin more.
        while tasks and (left := deadline - loop.time()) > 0:
            await asyncio.wait(tasks, timeout=left)
        late = tuple(tasks)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)

    def _tasks_of(self, loop: asyncio.AbstractEventLoop) -> set[asyncio.Task[object]]:
        if loop not in self._loops:
            # A loop that was stopped never ends what it began.
            for gone in [other for other in tuple(self._loops) if other.is_closed()]:
                self._loops.pop(gone, None)
        return self._loops.setdefault(loop, set())
