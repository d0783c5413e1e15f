"""A lease that could not be given back holds nobody up once the store is there again."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tokenward.errors import TokenUnavailable
from tokenward.tokens.lease import HeldLease

if TYPE_CHECKING:
    from conftest import LoopClock, World

HOUR = 3600


def now() -> float:
    return asyncio.get_running_loop().time()


@pytest.mark.case(232)
async def test_who_lost_the_store_under_his_lease_keeps_nobody_waiting_when_it_is_back(
    world: World, clock: LoopClock
) -> None:
    cut_off, other, session = world.process(), world.process(), await world.log_in()
    clock.advance(HOUR)
    cut_off.store.down = frozenset({"put", "release", "renew"})
    with pytest.raises(TokenUnavailable):
        await cut_off.token(session)
    await asyncio.sleep(1)
    assert await world.memory.acquire(f"{session.id}:lease", ttl=1.0) is None
    cut_off.store.down = frozenset()
    back = now()
    await other.token(session)

    assert now() - back < 2
    assert len(world.provider.calls) == 1


async def test_a_lease_that_has_run_out_is_not_given_back_again_and_again(world: World) -> None:
    process = world.process()
    lease = await world.memory.acquire("k", ttl=8.0)
    assert lease is not None
    held = HeldLease(process.store, lease, ttl=8.0, renewal=2.0, since=now())
    with process.store.outage():
        begun = now()
        await held.release()
    assert now() - begun == pytest.approx(8.0, abs=0.5)


async def test_a_refresh_token_is_given_back_without_waiting_for_the_lease(world: World) -> None:
    process, session = world.process(), await world.log_in()
    process.store.down = frozenset({"release", "renew"})
    begun = now()
    await process.refresher.give_back(process.records, session)

    assert now() - begun < 1
