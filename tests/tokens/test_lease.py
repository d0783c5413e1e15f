"""A lease is known to be held, or what must not happen twice does not happen."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from scripted import HOUR, FlakyStore, Held

from tokenward.stores.memory import MemoryStore
from tokenward.tokens.lease import HeldLease
from tokenward.tokens.models import Target

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from scripted import World

    from conftest import LoopClock

TTL = 8.0


@pytest.fixture
def store(clock: Any) -> FlakyStore:
    return FlakyStore(MemoryStore(clock))


@pytest.fixture
async def held(store: FlakyStore) -> AsyncIterator[HeldLease]:
    """A lease that nobody renews but `confirm`."""
    lease = await store.acquire("key", ttl=TTL)
    since = asyncio.get_running_loop().time()
    held = HeldLease(store, lease, ttl=TTL, renewal=3600.0, since=since)
    yield held
    await held.release()


async def test_a_young_lease_is_held_without_asking(store: FlakyStore, held: HeldLease) -> None:
    assert await held.confirm()
    assert [name for name, _ in store.calls] == ["acquire"]


async def test_an_old_lease_is_held_if_the_store_says_so(
    store: FlakyStore, held: HeldLease
) -> None:
    await asyncio.sleep(TTL / 2)
    assert await held.confirm()
    assert store.calls[-1][0] == "renew"


async def test_a_lease_that_ran_out_is_lost(held: HeldLease) -> None:
    await asyncio.sleep(TTL)
    assert not await held.confirm()


async def test_an_answer_that_took_long_to_be_read_is_no_answer(
    store: FlakyStore, held: HeldLease
) -> None:
    """The store said yes, and then this process stood still: by now it may be another's."""

    class Asleep(FlakyStore):
        async def renew(self, *args: Any, **options: Any) -> bool:
            renewed: bool = await store.renew(*args, **options)
            await asyncio.sleep(TTL)
            return renewed

    held._store = Asleep(store.inner)
    await asyncio.sleep(TTL / 2)
    assert not await held.confirm()
    assert await store.acquire("key", ttl=TTL) is not None, "it is to be had by others"


@pytest.mark.case(228)
async def test_a_process_that_lost_its_lease_waits_for_itself(
    world: World, clock: LoopClock
) -> None:
    """It stood still, and what it asked the provider for is still to come."""
    process, session = world.process(renews=False), await world.log_in()
    clock.advance(HOUR)
    gate = Held()
    world.provider.script.append(gate)
    first = asyncio.ensure_future(process.token(session))
    await gate.entered.wait()
    await asyncio.sleep(TTL + 0.5)
    target = Target(resource=("https://api.test",))
    second = asyncio.ensure_future(process.token(session, target=target))
    await asyncio.sleep(0.5)
    assert len(world.provider.calls) == 1
    gate.go_on.set()
    assert len({await first, await second}) == 2
    assert not [family for family in world.provider.families.values() if family.dead]
    assert not process.refresher._leases._at_work
    await process.drain()
