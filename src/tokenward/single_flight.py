"""One attempt at a time for the same thing."""

from __future__ import annotations

import asyncio
from contextvars import Context
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Hashable

T = TypeVar("T")


class SingleFlight(Generic[T]):
    """Let concurrent callers that want the same thing share one attempt.

    The attempt runs in a task of its own, outside the context of the caller that
    happened to come first. A caller that is cancelled, because a browser went
    away, neither stops the others nor loses a rotated refresh token.

        flights: SingleFlight[Grant] = SingleFlight()
        grant = await flights.run((session_id, generation), refresh)

    Usable from several event loops; attempts are shared within one of them. What
    an attempt brings must be stored by the attempt itself: a caller that comes
    when it is over starts another one.
    """

    def __init__(self) -> None:
        self._loops: dict[asyncio.AbstractEventLoop, dict[Hashable, asyncio.Task[T]]] = {}

    def __len__(self) -> int:
        """Return how many attempts are under way."""
        return sum(map(len, self._loops.values()))

    def is_under_way(self, key: Hashable) -> bool:
        """Whether there is an attempt for `key` on the running event loop."""
        return key in self._loops.get(asyncio.get_running_loop(), {})

    async def run(self, key: Hashable, attempt: Callable[[], Coroutine[object, object, T]]) -> T:
        """Return the result of `attempt`, or of the one that is under way for `key`.

        Every caller gets the same result or the same exception. `CancelledError`
        means that the caller was cancelled, or that the loop shuts down.
        """
        flight = self.start(key, attempt)
        # Unlike shield(), wait() leaves the task alone and marks nothing as lost.
        await asyncio.wait((flight,))
        return flight.result()

    def start(
        self, key: Hashable, attempt: Callable[[], Coroutine[object, object, T]]
    ) -> asyncio.Task[T]:
        """Begin `attempt` without waiting, unless one is under way for `key`."""
        loop = asyncio.get_running_loop()
        flights = self._flights_of(loop)
        flight = flights.get(key)
        if flight is None:
            # An empty context: nothing of one request may be seen by the others.
            flight = flights[key] = loop.create_task(attempt(), context=Context())
            flight.add_done_callback(lambda done: self._land(loop, key, done))
        return flight

    async def drain(self, timeout: float) -> int:  # noqa: ASYNC109 - part of what is promised
        """Wait `timeout` seconds at most until this loop's attempts are over.

        Those that are not are cancelled; their number is returned.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        while flights := list(self._loops.get(loop, {}).values()):
            left = deadline - loop.time()
            if left <= 0:
                break
            await asyncio.wait(flights, timeout=left)
        late = list(self._loops.get(loop, {}).values())
        for flight in late:
            flight.cancel()
        await asyncio.gather(*late, return_exceptions=True)
        return len(late)

    def _flights_of(self, loop: asyncio.AbstractEventLoop) -> dict[Hashable, asyncio.Task[T]]:
        if loop not in self._loops:
            # A loop that was stopped in flight never lands anything.
            for gone in [other for other in list(self._loops) if other.is_closed()]:
                self._loops.pop(gone, None)
        return self._loops.setdefault(loop, {})

    def _land(self, loop: asyncio.AbstractEventLoop, key: Hashable, done: asyncio.Task[T]) -> None:
        flights = self._loops[loop]
        del flights[key]
        if not flights:
            del self._loops[loop]
        if not done.cancelled():
            # Looked at, even when every caller has gone away.
            done.exception()
