"""One attempt for everybody who wants the same."""

from __future__ import annotations

import asyncio
import gc
import random
from contextvars import ContextVar

import pytest

from tokenward.single_flight import SingleFlight

request_of: ContextVar[str] = ContextVar("request_of", default="nobody")


class Attempts:
    """An attempt that counts, and waits until it is let go."""

    def __init__(self, result: int | Exception = 1) -> None:
        self.result = result
        self.count = 0
        self.entered = asyncio.Event()
        self.gate = asyncio.Event()
        self.seen: list[str] = []

    async def __call__(self) -> int:
        self.count += 1
        self.seen.append(request_of.get())
        self.entered.set()
        await self.gate.wait()
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


@pytest.fixture
def flights() -> SingleFlight[int]:
    return SingleFlight()


async def test_a_thousand_callers_share_one_attempt(flights: SingleFlight[int]) -> None:
    attempt = Attempts(7)
    callers = [asyncio.create_task(flights.run("key", attempt)) for _ in range(1000)]
    await attempt.entered.wait()
    assert len(flights) == 1
    attempt.gate.set()
    assert await asyncio.gather(*callers) == [7] * 1000
    assert attempt.count == 1
    assert len(flights) == 0


async def test_other_keys_are_other_attempts(flights: SingleFlight[int]) -> None:
    one, two = Attempts(1), Attempts(2)
    one.gate.set()
    two.gate.set()
    assert await asyncio.gather(flights.run("a", one), flights.run("b", two)) == [1, 2]


@pytest.mark.case(245)
async def test_a_cancelled_caller_stops_neither_the_attempt_nor_the_others(
    flights: SingleFlight[int],
) -> None:
    attempt = Attempts()
    first = asyncio.create_task(flights.run("key", attempt))
    await attempt.entered.wait()
    second = asyncio.create_task(flights.run("key", attempt))
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    attempt.gate.set()
    assert await second == 1
    assert attempt.count == 1


@pytest.mark.case(245)
async def test_the_attempt_completes_when_every_caller_has_gone(
    flights: SingleFlight[int],
) -> None:
    attempt = Attempts()
    caller = asyncio.create_task(flights.run("key", attempt))
    await attempt.entered.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    attempt.gate.set()
    assert await flights.drain(5) == 0
    assert len(flights) == 0


async def test_a_failure_reaches_every_caller_and_the_next_call_tries_again(
    flights: SingleFlight[int],
) -> None:
    attempt = Attempts(ValueError("down"))
    callers = [asyncio.create_task(flights.run("key", attempt)) for _ in range(3)]
    await attempt.entered.wait()
    attempt.gate.set()
    results = await asyncio.gather(*callers, return_exceptions=True)
    assert [str(result) for result in results] == ["down"] * 3
    attempt.result = 5
    assert await flights.run("key", attempt) == 5


@pytest.mark.case(444)
async def test_a_failure_that_nobody_waits_for_is_not_reported_as_lost(
    flights: SingleFlight[int],
) -> None:
    reports: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, report: reports.append(report))
    attempt = Attempts(ValueError("down"))
    caller = asyncio.create_task(flights.run("key", attempt))
    await attempt.entered.wait()
    caller.cancel()
    await asyncio.gather(caller, return_exceptions=True)
    attempt.gate.set()
    await flights.drain(5)
    del caller
    gc.collect()
    await asyncio.sleep(0)
    assert reports == []


@pytest.mark.case(249)
async def test_the_map_is_empty_after_many_mixed_outcomes(flights: SingleFlight[int]) -> None:
    dice = random.Random(1)

    async def attempt() -> int:
        await asyncio.sleep(0)
        if dice.random() < 0.3:
            raise ValueError
        return 1

    for _ in range(100):
        started = [flights.start(key, attempt) for key in range(990)]
        callers = [asyncio.create_task(flights.run(key, attempt)) for key in range(980, 1000)]
        await asyncio.sleep(0)
        for task in (*dice.sample(started, 50), *dice.sample(callers, 5)):
            task.cancel()
        await asyncio.gather(*callers, return_exceptions=True)
        await flights.drain(5)
    assert len(flights) == 0


async def test_nothing_of_the_first_callers_context_is_seen_by_the_attempt(
    flights: SingleFlight[int],
) -> None:
    request_of.set("alice")
    attempt = Attempts()
    attempt.gate.set()
    await flights.run("key", attempt)
    assert attempt.seen == ["nobody"]


@pytest.mark.case(250)
async def test_a_caller_that_comes_at_the_end_finds_the_flight_or_what_it_stored() -> None:
    flights: SingleFlight[int] = SingleFlight()
    stored: list[int] = []

    async def attempt() -> int:
        await asyncio.sleep(0)
        stored.append(1)
        return 1

    async def caller() -> None:
        if not stored:
            await flights.run("key", attempt)

    async def latecomer(turns: int) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)
        await caller()

    await asyncio.gather(*(latecomer(turns) for turns in range(20)))
    assert stored == [1]


async def test_draining_cancels_what_does_not_end(flights: SingleFlight[int]) -> None:
    attempt = Attempts()
    caller = asyncio.create_task(flights.run("key", attempt))
    await attempt.entered.wait()
    assert await flights.drain(0) == 1
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert len(flights) == 0


async def test_draining_waits_also_for_what_begins_meanwhile(flights: SingleFlight[int]) -> None:
    second = Attempts()
    second.gate.set()

    async def first() -> int:
        flights.start("second", second)
        return 1

    flights.start("first", first)
    assert await flights.drain(5) == 0
    assert second.count == 1


@pytest.mark.case(175)
async def test_every_event_loop_has_flights_of_its_own(flights: SingleFlight[int]) -> None:
    here = Attempts(1)
    caller = asyncio.create_task(flights.run("key", here))
    await here.entered.wait()

    async def elsewhere() -> int:
        there = Attempts(2)
        there.gate.set()
        return await flights.run("key", there)

    assert await asyncio.to_thread(lambda: asyncio.run(elsewhere())) == 2
    here.gate.set()
    assert await caller == 1


def test_a_loop_that_was_closed_in_flight_leaves_nothing(flights: SingleFlight[int]) -> None:
    async def forever() -> int:
        await asyncio.Event().wait()
        return 1

    loop = asyncio.new_event_loop()

    async def start() -> asyncio.Task[int]:
        return flights.start("key", forever)

    task = loop.run_until_complete(start())
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    loop.close()

    async def another() -> int:
        attempt = Attempts()
        attempt.gate.set()
        return await flights.run("key", attempt)

    assert asyncio.run(another()) == 1
    assert len(flights) == 0
