"""One body of logic for programs with an event loop and for threads without one.

A procedure is a generator. It yields what must be done outside, an `Effect`, and goes
on with what came of it; `drive` and `drive_sync` do the effects, each in its way.

    def procedure() -> Steps[bytes | None]:
        entry = yield from Effect(lambda: store.get(key), lambda: thread.run(...))
        return entry.value if entry else None
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Effect(Generic[T]):
    """Something to be done outside of a procedure, in either way."""

    perform: Callable[[], Awaitable[T]]
    perform_sync: Callable[[], T]

    def __iter__(self) -> Generator[Effect[Any], Any, T]:
        """Let `yield from` give the result its type."""
        result: T = yield self
        return result


Steps: TypeAlias = Generator[Effect[Any], Any, T]
"""A procedure that comes to a `T`. What an effect raises is raised where it was yielded."""


async def drive(steps: Steps[T]) -> T:
    """Run a procedure on the event loop, and return what it comes to."""
    try:
        effect = next(steps)
        while True:
            try:
                result = await effect.perform()
            except Exception as error:  # noqa: BLE001 - for the procedure to judge
                effect = steps.throw(error)
            else:
                effect = steps.send(result)
    except StopIteration as end:
        value: T = end.value
    return value


def drive_sync(steps: Steps[T]) -> T:
    """Run a procedure in this thread, and return what it comes to."""
    try:
        effect = next(steps)
        while True:
            try:
                result = effect.perform_sync()
            except Exception as error:  # noqa: BLE001 - for the procedure to judge
                effect = steps.throw(error)
            else:
                effect = steps.send(result)
    except StopIteration as end:
        value: T = end.value
    return value
