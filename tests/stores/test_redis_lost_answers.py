"""A lease that the server gave, and nobody heard of: the answer was lost."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tokenward.errors import StoreUnavailable
from tokenward.stores.redis import RedisStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from redis_server import RedisServer

KEY, LONG = "session:lease", 3600.0


@pytest.fixture
def server(own_redis: Callable[..., RedisServer]) -> RedisServer:
    return own_redis()


@pytest.fixture
async def store(server: RedisServer) -> AsyncIterator[RedisStore]:
    """A store that is connected, and whose scripts the server knows."""
    store = RedisStore.from_url(server.url, timeout=1.0)
    lease = await store.acquire(KEY, ttl=LONG)
    assert lease is not None
    await store.release(lease)
    yield store
    await store.aclose()


async def lose_the_answer(server: RedisServer, store: RedisStore) -> None:
    """Let the server get the command, and answer when nobody listens any more."""
    server.pause()
    try:
        with pytest.raises(StoreUnavailable):
            await store.acquire(KEY, ttl=LONG)
    finally:
        server.go_on()


@pytest.mark.case(235)
async def test_a_lease_whose_holder_did_not_hear_of_it_is_given_back(
    server: RedisServer, store: RedisStore
) -> None:
    await lose_the_answer(server, store)
    other = RedisStore.from_url(server.url, timeout=20.0)
    async with asyncio.timeout(20):
        # The server tells nobody that the lease is free.
        while await other.acquire(KEY, ttl=LONG) is None:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    await other.aclose()


async def test_a_lease_whose_holder_went_away_while_he_asked_is_given_back(
    server: RedisServer, store: RedisStore
) -> None:
    server.pause()
    asking = asyncio.ensure_future(store.acquire(KEY, ttl=LONG))
    await asyncio.sleep(0)
    asking.cancel()
    await asyncio.wait([asking])
    server.go_on()
    other = RedisStore.from_url(server.url, timeout=20.0)
    async with asyncio.timeout(20):
        while await other.acquire(KEY, ttl=LONG) is None:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    await other.aclose()


async def test_the_lease_of_somebody_else_stays_his(server: RedisServer, store: RedisStore) -> None:
    other = RedisStore.from_url(server.url, timeout=20.0)
    lease = await other.acquire(KEY, ttl=LONG)
    assert lease is not None
    before = asyncio.all_tasks()
    await lose_the_answer(server, store)
    await asyncio.wait(asyncio.all_tasks() - before)

    assert await other.renew(lease, ttl=LONG)
    await other.aclose()


async def test_closing_waits_for_no_lease_and_leaves_no_task(
    server: RedisServer, store: RedisStore
) -> None:
    before = asyncio.all_tasks()
    await lose_the_answer(server, store)
    assert asyncio.all_tasks() > before
    await store.aclose()

    assert asyncio.all_tasks() == before
