"""Work in the background ends in time, and belongs to its event loop."""

from __future__ import annotations

import asyncio
import gc
from concurrent.futures import ThreadPoolExecutor

import pytest

from tokenward.background import Background


@pytest.fixture
def background() -> Background:
    return Background()


async def test_work_goes_on_though_nobody_holds_it(background: Background) -> None:
    done: list[str] = []
    go_on = asyncio.Event()

    async def work() -> None:
        await go_on.wait()
        done.append("work")

    background.begin(work())
    await asyncio.sleep(0)
    gc.collect()
    assert len(background) == 1
    go_on.set()
    await background.drain(20.0)
    assert done == ["work"]
    assert len(background) == 0


async def test_who_waits_for_it_gets_what_it_brings(background: Background) -> None:
    async def work() -> str:
        return "brought"

    assert await background.begin(work()) == "brought"


async def test_draining_waits_for_what_the_work_begins(background: Background) -> None:
    done: list[int] = []

    async def work(more: int) -> None:
        await asyncio.sleep(0)
        if more:
            background.begin(work(more - 1))
        done.append(more)

    background.begin(work(3))
    await background.drain(20.0)
    assert done == [3, 2, 1, 0]


@pytest.mark.parametrize("seconds", [0.0, 0.01])
async def test_what_takes_longer_is_cancelled(background: Background, seconds: float) -> None:
    cut_short: list[str] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cut_short.append("tidied up")

    task = background.begin(work())
    await asyncio.sleep(0)
    await background.drain(seconds)
    assert task.cancelled()
    assert cut_short == ["tidied up"]
    assert len(background) == 0


async def test_work_that_fails_keeps_nobody_from_draining(background: Background) -> None:
    async def fail() -> None:
        await asyncio.Event().wait()

    async def fail_late() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise OSError

    background.begin(fail_late())
    background.begin(fail())
    await asyncio.sleep(0)
    await background.drain(0.0)
    assert len(background) == 0


async def test_another_loops_work_is_left_alone(background: Background) -> None:
    under_way = asyncio.Event()
    task = background.begin(under_way.wait())

    async def elsewhere() -> int:
        background.begin(asyncio.sleep(0))
        await background.drain(20.0)
        return len(background)

    with ThreadPoolExecutor(1) as thread:
        left = await asyncio.get_running_loop().run_in_executor(thread, asyncio.run, elsewhere())
    assert left == 1
    under_way.set()
    await background.drain(20.0)
    assert await task


def test_a_loop_that_was_stopped_in_the_middle_is_forgotten(background: Background) -> None:
    loop = asyncio.new_event_loop()

    async def begin() -> asyncio.Task[None]:
        return background.begin(asyncio.sleep(3600))

    task = loop.run_until_complete(begin())
    loop.close()

    async def elsewhere() -> int:
        background.begin(asyncio.sleep(0))
        return len(background)

    assert asyncio.run(elsewhere()) == 1
    # It will never end; nobody is to hear of that.
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    task.get_coro().close()  # type: ignore[union-attr]
