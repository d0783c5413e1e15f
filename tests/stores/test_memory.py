"""The store in memory keeps its promises, and its bounds."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tokenward.errors import ConfigurationError, Conflict, StoreUnavailable
from tokenward.stores.memory import MemoryStore
from tokenward.testing.clock import FrozenClock
from tokenward.testing.contracts import StoreContract

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tokenward.tokens.interfaces import Store


class TestMemoryStore(StoreContract):
    @pytest.fixture
    async def store(self, clock: FrozenClock) -> AsyncIterator[Store]:
        store = MemoryStore(clock)
        yield store
        await store.aclose()


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock()


def small(clock: FrozenClock) -> MemoryStore:
    return MemoryStore(clock, max_entries=3)


@pytest.mark.parametrize("number", [0, -1, 2.5, "5", None])
def test_a_number_of_entries_that_is_none_is_refused(number: int) -> None:
    with pytest.raises(ConfigurationError, match="max_entries"):
        MemoryStore(max_entries=number)


async def keys_of(store: MemoryStore, *keys: str) -> list[str]:
    entries = await store.get_many(*keys)
    return [key for key, entry in zip(keys, entries, strict=True) if entry is not None]


async def test_the_oldest_value_makes_room_for_a_new_one(clock: FrozenClock) -> None:
    store = small(clock)
    for key in "abcd":
        await store.put(key, b"", ttl=10, version=None)
    assert await keys_of(store, *"abcd") == ["b", "c", "d"]


async def test_a_value_that_is_used_is_not_the_oldest(clock: FrozenClock) -> None:
    store = small(clock)
    version = await store.put("a", b"", ttl=10, version=None)
    await store.put("b", b"", ttl=10, version=None)
    await store.put("c", b"", ttl=10, version=None)
    await store.put("a", b"", ttl=10, version=version)
    await store.touch("b", ttl=10)
    await store.put("d", b"", ttl=10, version=None)
    assert await keys_of(store, *"abcd") == ["a", "b", "d"]


async def test_replacing_in_a_full_store_costs_nobody_his_place(clock: FrozenClock) -> None:
    store = small(clock)
    versions = [await store.put(key, b"", ttl=10, version=None) for key in "abc"]
    await store.put("c", b"", ttl=10, version=versions[2])
    assert await keys_of(store, *"abc") == ["a", "b", "c"]


async def test_what_has_ended_makes_room_first(clock: FrozenClock) -> None:
    store = small(clock)
    await store.put("a", b"", ttl=60, version=None)
    await store.put("b", b"", ttl=5, version=None)
    await store.put("c", b"", ttl=60, version=None)
    clock.advance(5)
    await store.put("d", b"", ttl=60, version=None)
    assert await keys_of(store, *"abcd") == ["a", "c", "d"]


async def test_values_push_out_no_tombstone(clock: FrozenClock) -> None:
    store = small(clock)
    await store.delete("k", tombstone=10)
    for number in range(20):
        await store.put(str(number), b"", ttl=60, version=None)
    with pytest.raises(Conflict):
        await store.put("k", b"", ttl=60, version=None)


async def test_values_push_out_no_lease_and_no_member(clock: FrozenClock) -> None:
    store = small(clock)
    lease = await store.acquire("k", ttl=10)
    await store.add("i", "m", ttl=10)
    for number in range(20):
        await store.put(str(number), b"", ttl=60, version=None)
    assert lease is not None
    assert await store.acquire("k", ttl=10) is None
    assert await store.renew(lease, ttl=10)
    assert await store.members("i") == {"m"}


async def test_a_full_store_refuses_a_tombstone_and_deletes_nothing(clock: FrozenClock) -> None:
    store = small(clock)
    for key in "abc":
        await store.delete(key, tombstone=10)
    await store.put("k", b"one", ttl=60, version=None)
    with pytest.raises(StoreUnavailable, match="max_entries"):
        await store.delete("k", tombstone=10)
    assert await keys_of(store, "k") == ["k"]
    assert not await store.delete("a", tombstone=20)  # one that stands can be prolonged
    clock.advance(10)
    assert await store.delete("k", tombstone=10)


async def test_a_full_store_refuses_a_lease(clock: FrozenClock) -> None:
    store = small(clock)
    leases = [await store.acquire(key, ttl=10) for key in "abc"]
    with pytest.raises(StoreUnavailable, match="max_entries"):
        await store.acquire("d", ttl=10)
    assert leases[0] is not None
    assert await store.renew(leases[0], ttl=20)
    clock.advance(10)
    assert await store.acquire("d", ttl=10) is not None
    assert await store.acquire("a", ttl=10) is None


async def test_a_full_store_refuses_a_member(clock: FrozenClock) -> None:
    store = small(clock)
    for member in "abcdefghijkl":
        await store.add("i", member, ttl=10)
    with pytest.raises(StoreUnavailable, match="max_entries"):
        await store.add("j", "m", ttl=10)
    await store.add("i", "a", ttl=20)
    clock.advance(10)
    await store.add("j", "m", ttl=10)
    assert await store.members("i") == {"a"}
    assert await store.members("j") == {"m"}


async def test_nothing_is_left_of_what_has_ended(clock: FrozenClock) -> None:
    store = MemoryStore(clock)
    for number in range(200):
        await store.put(f"v{number}", b"", ttl=number % 50, version=None)
        await store.delete(f"t{number}", tombstone=1 + number % 50)
        await store.acquire(f"l{number}", ttl=number % 50)
        await store.add(f"i{number % 7}", str(number), ttl=number % 50)
    clock.advance(60)
    for _ in range(20):
        await store.delete("absent")
    shelves = (store._values, store._tombstones, store._leases, store._members)
    assert [len(shelf._things) for shelf in shelves] == [0, 0, 0, 0]
    assert not store._indexes


async def test_a_key_that_is_written_for_ever_takes_no_more_room(clock: FrozenClock) -> None:
    store = MemoryStore(clock)
    version = None
    for _ in range(1000):
        version = await store.put("k", b"", ttl=1000, version=version)
        await store.touch("k", ttl=2000)
        await store.discard("i", "m")
        await store.add("i", "m", ttl=1000)
    assert len(store._values._ends) < 100
    assert len(store._members._ends) < 100


def test_threads_and_their_event_loops_share_a_store() -> None:
    store = MemoryStore()

    async def count_up(times: int) -> None:
        while times:
            entry = await store.get("k")
            try:
                if entry is None:
                    await store.put("k", b"1", ttl=60, version=None)
                else:
                    value = str(int(entry.value) + 1).encode()
                    await store.put("k", value, ttl=60, version=entry.version)
            except Conflict:
                continue
            times -= 1

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: asyncio.run(count_up(200)), range(4)))
    entry = asyncio.run(store.get("k"))
    assert entry is not None
    assert entry.value == b"800"
