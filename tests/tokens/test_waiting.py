"""Every wait has an end, and nobody hammers."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from tokenward.tokens.waiting import Rooms, Turns


def now() -> float:
    return asyncio.get_running_loop().time()


async def test_turns_come_at_once_then_slower_and_end_with_the_time() -> None:
    began = now()
    turns = Turns(1.0, jitter=lambda: 0.5)
    times = []
    while await turns.again():
        times.append(now() - began)
    pauses = [later - earlier for earlier, later in pairwise(times)]
    assert times[0] == 0.0
    assert pauses[:4] == pytest.approx([0.01, 0.02, 0.04, 0.05])
    assert max(pauses) == pytest.approx(0.05)
    assert times[-1] == pytest.approx(1.0)


async def test_jitter_spreads_those_who_wait_for_the_same() -> None:
    async def second(jitter: float) -> float:
        turns, began = Turns(1.0, jitter=lambda: jitter), now()
        for _ in range(2):
            await turns.again()
        return now() - began

    assert await second(0.0) == pytest.approx(0.005)
    assert await second(1.0) == pytest.approx(0.015)


async def test_there_is_one_turn_even_when_there_is_no_time() -> None:
    turns = Turns(0.0, jitter=lambda: 0.5)
    assert await turns.again()
    assert not await turns.again()


async def test_a_room_takes_so_many_and_each_name_has_its_own() -> None:
    rooms = Rooms(2)
    inside: dict[str, int] = {"a": 0, "b": 0}
    most = dict(inside)

    async def visit(name: str) -> None:
        async with rooms.enter(name, patience=100.0) as entered:
            assert entered
            inside[name] += 1
            most[name] = max(most[name], inside[name])
            await asyncio.sleep(1)
            inside[name] -= 1

    await asyncio.gather(*(visit(name) for name in "ab" for _ in range(7)))
    assert most == {"a": 2, "b": 2}


async def test_who_finds_no_place_is_told_and_takes_none() -> None:
    rooms = Rooms(1)
    async with rooms.enter("a", patience=1.0) as first:
        async with rooms.enter("a", patience=1.0) as second:
            assert (first, second) == (True, False)
        async with rooms.enter("a", patience=0.0) as third:
            assert not third
    async with rooms.enter("a", patience=0.0) as entered:
        assert entered


async def test_a_place_is_free_again_after_an_error() -> None:
    rooms = Rooms(1)
    with pytest.raises(ZeroDivisionError):
        async with rooms.enter("a", patience=1.0):
            raise ZeroDivisionError
    async with rooms.enter("a", patience=1.0) as entered:
        assert entered
