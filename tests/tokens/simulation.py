"""An event loop whose time jumps, and whose order of steps a seed decides.

`VirtualTimeLoop` runs everything at once: nobody sleeps, the time goes on to whoever
is due next. With `shuffle` the steps that are ready run in the order of a seeded
generator, so that one seed is one interleaving, and a seed that fails is a bug report.
"""

from __future__ import annotations

import asyncio
import selectors
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from random import Random


class EverybodyWaits(AssertionError):
    """Nothing is ready and nothing is due: whoever waits does so for ever."""


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Time that passes when there is nothing else to do."""

    def __init__(self) -> None:
        self._virtual_time = 0.0
        self.shuffle: Random | None = None
        """Decides the order of steps that are ready at once; None: as they became ready."""
        super().__init__(_JumpingSelector(self._jump))

    def time(self) -> float:
        return self._virtual_time

    def _jump(self, seconds: float) -> None:
        self._virtual_time += seconds

    def _run_once(self) -> None:
        if self.shuffle is not None and len(self._ready) > 1:
            ready = list(self._ready)
            self.shuffle.shuffle(ready)
            self._ready.clear()
            self._ready.extend(ready)
        super()._run_once()  # type: ignore[misc]


class _JumpingSelector(selectors.DefaultSelector):
    def __init__(self, jump: Callable[[float], None]) -> None:
        super().__init__()
        self._jump = jump

    def select(self, timeout: float | None = None) -> list[Any]:
        events = super().select(0)
        if timeout is None and not events:
            raise EverybodyWaits
        if timeout and not events:
            self._jump(timeout)
        return events


class Simulation:
    """Runs one coroutine after the other, each in the interleaving of its seed.

    What a run leaves behind, a task or a callback, fails it. `problems` collects what
    the loop was told about exceptions that nobody looked at.
    """

    def __init__(self) -> None:
        self.loop = VirtualTimeLoop()
        self.problems: list[str] = []
        self.loop.set_exception_handler(self._note)

    def run(self, world: Coroutine[Any, Any, None], *, shuffle: Random) -> None:
        self.loop.shuffle = shuffle
        try:
            self.loop.run_until_complete(world)
        finally:
            self.loop.shuffle = None
        left = [task.get_coro().__qualname__ for task in asyncio.all_tasks(self.loop)]  # type: ignore[union-attr]
        assert not left, f"left behind: {left}"
        assert not self.problems, self.problems

    def close(self) -> None:
        self.loop.close()

    def _note(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        del loop
        self.problems.append(f"{context['message']}: {context.get('exception')!r}")
