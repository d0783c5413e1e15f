"""An event loop whose time jumps, and whose order of steps a seed decides.

`VirtualTimeLoop` runs everything at once: nobody sleeps, the time goes on to whoever
is due next. With `shuffle` the steps that are ready run in the order of a seeded
generator, so that one seed is one interleaving, and a seed that fails is a bug report.

A task belongs to whom the task belongs to that began it, so that the tasks of one
virtual process can stand still together, as after SIGSTOP, or end together.
"""

from __future__ import annotations

import asyncio
import selectors
from heapq import heappop
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Coroutine, Hashable
    from random import Random


class EverybodyWaits(AssertionError):
    """Nothing is ready and nothing is due: whoever waits does so for ever."""


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Time that passes when there is nothing else to do."""

    def __init__(self) -> None:
        self._virtual_time = 0.0
        self.shuffle: Random | None = None
        """Decides the order of steps that are ready at once; None: as they became ready."""
        self._owners: dict[asyncio.Task[Any], Hashable] = {}
        self._held: dict[Hashable, list[asyncio.Handle]] = {}
        self._ready: deque[asyncio.Handle]
        super().__init__(_NoSelector())

    def time(self) -> float:
        return self._virtual_time

    # ------------------------------------------------------------------- owners

    def know_owners(self) -> None:
        """Begin to notice whose a task is."""
        self.set_task_factory(self._make_task)

    def forget_owners(self) -> None:
        self._owners.clear()
        self._held.clear()

    def _make_task(
        self, loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, Any], **options: Any
    ) -> asyncio.Task[Any]:
        task = asyncio.Task(coro, loop=loop, **options)
        if (beginner := asyncio.current_task(self)) is not None:
            self._owners[task] = self._owners.get(beginner)
        return task

    def begin_for(self, owner: Hashable, coro: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Begin a task of `owner`."""
        task = self.create_task(coro)
        self._owners[task] = owner
        return task

    def owner(self) -> Hashable:
        """Return whose task is running; None if it is nobody's."""
        task = asyncio.current_task(self)
        return None if task is None else self._owners.get(task)

    def tasks_of(self, owner: Hashable) -> list[asyncio.Task[Any]]:
        """Return the tasks of `owner` that are not over."""
        return [task for task, whose in self._owners.items() if whose is owner and not task.done()]

    def hold(self, owner: Hashable) -> None:
        """Let no task of `owner` take a step until `go_on`, as SIGSTOP does."""
        self._held.setdefault(owner, [])

    def go_on(self, owner: Hashable) -> None:
        self._ready.extend(self._held.pop(owner, ()))  # type: ignore[attr-defined]

    # ---------------------------------------------------------------- the order

    def _run_once(self) -> None:
        """Run what is ready; what is next, if nothing is. Much less than other loops do."""
        if self._held:
            self._set_aside()
        if not self._ready and not self._go_to_next():
            super()._run_once()  # type: ignore[misc]
            return
        ready = list(self._ready)
        self._ready.clear()
        if self.shuffle is not None and len(ready) > 1:
            self.shuffle.shuffle(ready)
        for handle in ready:
            if not handle._cancelled:
                handle._run()

    def _go_to_next(self) -> bool:
        """Let the time go on to whoever is due next; False if nobody is."""
        scheduled = self._scheduled  # type: ignore[attr-defined]
        while scheduled and (not self._ready or scheduled[0]._when <= self._virtual_time):
            handle = heappop(scheduled)
            handle._scheduled = False
            if handle._cancelled:
                self._timer_cancelled_count -= 1  # type: ignore[attr-defined]
            else:
                self._virtual_time = max(self._virtual_time, handle._when)
                self._ready.append(handle)
        return bool(self._ready)

    def _set_aside(self) -> None:
        ready = list(self._ready)
        self._ready.clear()
        for handle in ready:
            task = getattr(handle._callback, "__self__", None)
            owner = self._owners.get(task) if isinstance(task, asyncio.Task) else None
            self._held.get(owner, self._ready).append(handle)


class _NoSelector(selectors.DefaultSelector):
    """Nobody comes in from outside: whoever waits for that waits for ever."""

    def select(self, timeout: float | None = None) -> list[Any]:
        events = super().select(0)
        if timeout is None and not events:
            raise EverybodyWaits
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
        self.loop.know_owners()

    def run(self, world: Coroutine[Any, Any, None], *, shuffle: Random) -> None:
        self.loop.shuffle = shuffle
        try:
            self.loop.run_until_complete(world)
        finally:
            self.loop.shuffle = None
            self.loop.forget_owners()
        left = [task.get_coro().__qualname__ for task in asyncio.all_tasks(self.loop)]  # type: ignore[union-attr]
        assert not left, f"left behind: {left}"
        assert not self.problems, self.problems

    def close(self) -> None:
        # There are tasks left if something failed, and they are not what failed.
        self.loop.set_exception_handler(lambda loop, context: None)
        while tasks := asyncio.all_tasks(self.loop):
            for task in tasks:
                task.cancel()
            self.loop.run_until_complete(asyncio.wait(tasks, timeout=60.0))
            if any(task in tasks for task in asyncio.all_tasks(self.loop)):
                break
        self.loop.close()

    def _note(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        del loop
        self.problems.append(f"{context['message']}: {context.get('exception')!r}")
