"""An event loop that waits for nobody: time passes when there is nothing else to do.

Servers and threads answer in real time, so while somebody waits for one of them, no
time passes here. What is to happen next is a matter of the steps alone, not of the
machine that runs them.
"""

from __future__ import annotations

import asyncio
import selectors
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from typing import TypeVar

    T = TypeVar("T")
    Select = Callable[[float | None], list[Any]]

LONGEST: Final = 20.0
"""Real seconds to wait for a server or a thread; who waits longer waits for ever."""


class EverybodyWaits(AssertionError):
    """Nothing is ready, nothing is due, and nobody outside is being asked."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """Runs steps one after the other; `time()` jumps to whatever is due next."""

    def __init__(self) -> None:
        self._now = 0.0
        self._asked = 0
        self._waiting: list[asyncio.Future[None]] = []
        self.problems: list[str] = []
        super().__init__(_Selector(self._turn))
        self.set_exception_handler(self._note)

    def time(self) -> float:
        return self._now

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Let no time pass while somebody outside is being asked."""
        self._asked += 1
        try:
            yield
        finally:
            self._asked -= 1

    async def quiet(self) -> None:
        """Return when nothing is left to do but to wait for the time."""
        waiting = self.create_future()
        self._waiting.append(waiting)
        await waiting

    def run(self, step: Coroutine[Any, Any, T]) -> T:
        """Run one step, and what it set going, until there is nothing to do at this time."""

        async def whole() -> T:
            result = await step
            await self.quiet()
            return result

        result = self.run_until_complete(whole())
        problems, self.problems = self.problems, []
        assert not problems, problems
        return result

    def _turn(
        self, select: Callable[[float | None], list[Any]], timeout: float | None
    ) -> list[Any]:
        """Answer the loop's question whether there is something to do within `timeout`."""
        events = select(0)
        if events or timeout == 0:
            return events
        if self._asked:
            events = select(LONGEST)
            if not events:
                raise EverybodyWaits("a server or a thread does not answer")
        elif self._waiting:
            waiting, self._waiting = self._waiting, []
            for each in waiting:
                if not each.done():
                    each.set_result(None)
        elif timeout is not None:
            self._now += timeout
        else:
            # A thread may be about to end, of which nobody told.
            events = select(LONGEST)
            if not events:
                raise EverybodyWaits
        return events

    def _note(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        del loop
        self.problems.append(f"{context['message']}: {context.get('exception')!r}")


class _Selector(selectors.DefaultSelector):
    def __init__(self, turn: Callable[..., list[Any]]) -> None:
        super().__init__()
        self._turn = turn

    def select(self, timeout: float | None = None) -> list[Any]:
        return self._turn(super().select, timeout)
