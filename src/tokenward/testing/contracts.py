"""What every store has to do, as tests. Yours runs them too.

    from tokenward.testing.contracts import StoreContract

    class TestMyStore(StoreContract):
        @pytest.fixture
        async def store(self, clock):
            store = MyStore(clock=clock)
            yield store
            await store.aclose()

The tests are async and run by the pytest plugin of anyio, on asyncio. Where the time of
a store cannot be moved, because a server keeps it, let it pass instead:

    class TestMyServer(StoreContract):
        second = 0.05  # what the tests call a second

        async def let_pass(self, seconds):
            await asyncio.sleep(seconds)
"""

# ruff: noqa: D102  the name of a test is its promise

from __future__ import annotations

import asyncio
import dataclasses
from typing import TYPE_CHECKING, ClassVar

import pytest

from ..errors import Conflict
from .clock import FrozenClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ..tokens.interfaces import Entry, Lease, Store


@pytest.mark.anyio
class StoreContract:
    """The promises of `tokenward.tokens.interfaces.Store`, one test each.

    Override `store`, and `let_pass` and `second` where the store's clock is not `clock`.
    Every test gets a store of its own; it may share a server with others, since nothing
    here counts what is in it.
    """

    second: ClassVar[float] = 1.0
    """How many seconds a test means by one second."""

    @pytest.fixture
    def anyio_backend(self) -> str:
        """Run on asyncio, as tokenward does."""
        return "asyncio"

    @pytest.fixture
    def clock(self) -> FrozenClock:
        """Give the clock that `store` goes by."""
        return FrozenClock()

    @pytest.fixture
    def store(self, clock: FrozenClock) -> AsyncIterator[Store]:
        """Give the store to test. Every subclass overrides this."""
        raise NotImplementedError("override the fixture `store`")

    @pytest.fixture(autouse=True)
    def _keep_clock(self, clock: FrozenClock) -> None:
        self._clock = clock

    async def let_pass(self, seconds: float) -> None:
        """Let `seconds` pass on the store's clock; by default, by moving `clock`."""
        self._clock.advance(seconds)

    def seconds(self, number: float) -> float:
        """Return how long `number` seconds of a test are for this store."""
        return number * self.second

    # ------------------------------------------------------------ values: get and put

    async def test_nothing_is_under_an_unknown_key(self, store: Store) -> None:
        assert await store.get("k") is None

    async def test_what_was_created_can_be_read(self, store: Store) -> None:
        version = await store.put("k", b"one", ttl=self.seconds(10), version=None)
        entry = await store.get("k")
        assert entry is not None
        assert (entry.value, entry.version) == (b"one", version)
        assert isinstance(version, int)
        assert version > 0

    async def test_creating_twice_is_a_conflict_and_changes_nothing(self, store: Store) -> None:
        await store.put("k", b"one", ttl=self.seconds(10), version=None)
        with pytest.raises(Conflict):
            await store.put("k", b"two", ttl=self.seconds(10), version=None)
        assert _value(await store.get("k")) == b"one"

    async def test_the_present_version_is_replaced_and_grows(self, store: Store) -> None:
        versions = [await store.put("k", b"0", ttl=self.seconds(10), version=None)]
        for value in (b"1", b"2", b"3"):
            version = await store.put("k", value, ttl=self.seconds(10), version=versions[-1])
            versions.append(version)
            entry = await store.get("k")
            assert entry is not None
            assert (entry.value, entry.version) == (value, version)
        assert versions == sorted(set(versions))

    async def test_an_old_version_is_a_conflict_and_changes_nothing(self, store: Store) -> None:
        old = await store.put("k", b"one", ttl=self.seconds(10), version=None)
        new = await store.put("k", b"two", ttl=self.seconds(10), version=old)
        for wrong in (old, new + 1, 0, -1):
            with pytest.raises(Conflict):
                await store.put("k", b"three", ttl=self.seconds(10), version=wrong)
        assert _value(await store.get("k")) == b"two"

    async def test_a_conflict_does_not_prolong_what_is_there(self, store: Store) -> None:
        await store.put("k", b"one", ttl=self.seconds(10), version=None)
        for wrong in (None, 10**9):
            with pytest.raises(Conflict):
                await store.put("k", b"two", ttl=self.seconds(100), version=wrong)
        await self.let_pass(self.seconds(11))
        assert await store.get("k") is None

    async def test_replacing_what_is_not_there_is_a_conflict_and_creates_nothing(
        self, store: Store
    ) -> None:
        with pytest.raises(Conflict):
            await store.put("k", b"one", ttl=self.seconds(10), version=1)
        assert await store.get("k") is None

    async def test_replacing_what_was_deleted_does_not_bring_it_back(self, store: Store) -> None:
        version = await store.put("k", b"one", ttl=self.seconds(10), version=None)
        await store.delete("k")
        with pytest.raises(Conflict):
            await store.put("k", b"two", ttl=self.seconds(10), version=version)
        assert await store.get("k") is None

    async def test_a_version_never_comes_again_after_a_deletion(self, store: Store) -> None:
        versions = []
        for _ in range(3):
            versions.append(await store.put("k", b"same", ttl=self.seconds(10), version=None))
            assert await store.delete("k")
        assert versions == sorted(set(versions))
        await store.put("k", b"same", ttl=self.seconds(10), version=None)
        for old in versions:
            with pytest.raises(Conflict):
                await store.put("k", b"other", ttl=self.seconds(10), version=old)

    async def test_a_version_never_comes_again_after_the_end(self, store: Store) -> None:
        old = await store.put("k", b"same", ttl=self.seconds(1), version=None)
        await self.let_pass(self.seconds(2))
        new = await store.put("k", b"same", ttl=self.seconds(10), version=None)
        assert new > old

    async def test_a_version_never_comes_again_after_a_tombstone(self, store: Store) -> None:
        old = await store.put("k", b"same", ttl=self.seconds(10), version=None)
        await store.delete("k", tombstone=self.seconds(1))
        await self.let_pass(self.seconds(2))
        new = await store.put("k", b"same", ttl=self.seconds(10), version=None)
        assert new > old

    @pytest.mark.parametrize(
        "value",
        [
            pytest.param(b"", id="empty"),
            pytest.param(b"\0", id="NUL"),
            pytest.param(bytes(range(256)), id="every byte"),
            pytest.param(b"\xff\xfe\xc3(", id="not UTF-8"),
            pytest.param(b"1", id="looks like a number"),
            pytest.param(b"\r\n*3\r\n$3\r\n", id="looks like a protocol"),
            pytest.param(b"x" * 300_000, id="300 KB"),
        ],
    )
    async def test_a_value_is_any_bytes(self, store: Store, value: bytes) -> None:
        version = await store.put("k", value, ttl=self.seconds(10), version=None)
        for entry in (await store.get("k"), *await store.get_many("k")):
            assert entry is not None
            assert entry.value == value
            assert type(entry.value) is bytes
        await store.put("k", value + b"!", ttl=self.seconds(10), version=version)
        assert _value(await store.get("k")) == value + b"!"

    async def test_an_empty_value_is_a_value(self, store: Store) -> None:
        await store.put("k", b"", ttl=self.seconds(10), version=None)
        with pytest.raises(Conflict):
            await store.put("k", b"", ttl=self.seconds(10), version=None)
        assert await store.delete("k")

    async def test_keys_are_told_apart_whatever_they_are(self, store: Store) -> None:
        keys = ["", "k", "K", "k ", " k", "k:", "k:a", "k*", "k?", "[k]", "k%", "k_", "k'", "k\0",
                "k\0x", "k\n", "1", "01", "é", "e\u0301", "\U0001f511", "k" * 5000,
                "k" * 4999 + "l"]  # fmt: skip
        for key in keys:
            await store.put(key, key.encode(), ttl=self.seconds(10), version=None)
        assert [_value(await store.get(key)) for key in keys] == [key.encode() for key in keys]
        assert await store.delete("k*")
        assert _value(await store.get("k")) == b"k"

    # ------------------------------------------------------------------ values: ending

    async def test_a_value_is_there_until_its_time_is_over(self, store: Store) -> None:
        await store.put("k", b"one", ttl=self.seconds(10), version=None)
        await self.let_pass(self.seconds(5))
        assert _value(await store.get("k")) == b"one"
        await self.let_pass(self.seconds(5.5))
        assert await store.get("k") is None
        assert await store.get_many("k") == (None,)

    async def test_a_time_need_not_be_whole_seconds(self, store: Store) -> None:
        await store.put("k", b"one", ttl=self.seconds(1.8), version=None)
        await store.acquire("k", ttl=self.seconds(1.8))
        await store.delete("gone", tombstone=self.seconds(1.8))
        await store.add("i", "m", ttl=self.seconds(1.8))
        await self.let_pass(self.seconds(1.2))
        assert _value(await store.get("k")) == b"one"
        assert await store.acquire("k", ttl=self.seconds(10)) is None
        with pytest.raises(Conflict):
            await store.put("gone", b"", ttl=self.seconds(10), version=None)
        assert await store.members("i") == {"m"}

    async def test_what_has_ended_can_be_created_again(self, store: Store) -> None:
        await store.put("k", b"one", ttl=self.seconds(1), version=None)
        await self.let_pass(self.seconds(2))
        await store.put("k", b"two", ttl=self.seconds(10), version=None)
        assert _value(await store.get("k")) == b"two"

    async def test_what_has_ended_can_not_be_replaced(self, store: Store) -> None:
        version = await store.put("k", b"one", ttl=self.seconds(1), version=None)
        await self.let_pass(self.seconds(2))
        with pytest.raises(Conflict):
            await store.put("k", b"two", ttl=self.seconds(10), version=version)
        assert await store.get("k") is None

    async def test_what_has_ended_can_not_be_deleted(self, store: Store) -> None:
        version = await store.put("k", b"one", ttl=self.seconds(1), version=None)
        await self.let_pass(self.seconds(2))
        assert not await store.delete("k", version=version, tombstone=self.seconds(10))
        assert not await store.delete("k")
        await store.put("k", b"two", ttl=self.seconds(10), version=None)

    async def test_replacing_gives_a_new_time(self, store: Store) -> None:
        version = await store.put("k", b"one", ttl=self.seconds(2), version=None)
        version = await store.put("k", b"two", ttl=self.seconds(10), version=version)
        await self.let_pass(self.seconds(4))
        assert _value(await store.get("k")) == b"two"
        await store.put("k", b"three", ttl=self.seconds(2), version=version)
        await self.let_pass(self.seconds(3))
        assert await store.get("k") is None

    # ---------------------------------------------------------------- values: get_many

    async def test_many_are_read_in_the_order_of_the_keys(self, store: Store) -> None:
        for key in ("b", "a", "c"):
            await store.put(key, key.encode(), ttl=self.seconds(10), version=None)
        entries = await store.get_many("c", "none", "a", "c", "b")
        assert [_value(entry) for entry in entries] == [b"c", None, b"a", b"c", b"b"]
        assert entries[0] == await store.get("c")

    async def test_many_may_be_none_or_a_thousand(self, store: Store) -> None:
        assert await store.get_many() == ()
        await store.put("k:7", b"seven", ttl=self.seconds(10), version=None)
        entries = await store.get_many(*[f"k:{number}" for number in range(1000)])
        assert [n for n, entry in enumerate(entries) if entry is not None] == [7]

    # ------------------------------------------------------------------- values: touch

    async def test_touch_sets_the_time_that_is_left(self, store: Store) -> None:
        for key in ("longer", "shorter", "untouched"):
            await store.put(key, b"", ttl=self.seconds(5), version=None)
        await store.touch("longer", ttl=self.seconds(20))
        await store.touch("shorter", ttl=self.seconds(1))
        await self.let_pass(self.seconds(2))
        entries = await store.get_many("longer", "shorter", "untouched")
        assert [entry is not None for entry in entries] == [True, False, True]
        await self.let_pass(self.seconds(5))
        entries = await store.get_many("longer", "shorter", "untouched")
        assert [entry is not None for entry in entries] == [True, False, False]

    async def test_touch_takes_several_keys_and_none(self, store: Store) -> None:
        for key in ("a", "b"):
            await store.put(key, b"", ttl=self.seconds(2), version=None)
        await store.touch("a", "absent", "b", ttl=self.seconds(10))
        await store.touch(ttl=self.seconds(10))
        await self.let_pass(self.seconds(3))
        entries = await store.get_many("a", "absent", "b")
        assert [entry is not None for entry in entries] == [True, False, True]

    async def test_touch_writes_no_value_and_no_version(self, store: Store) -> None:
        await store.put("k", b"one", ttl=self.seconds(10), version=None)
        before = await store.get("k")
        await store.touch("k", ttl=self.seconds(20))
        assert await store.get("k") == before

    async def test_touch_never_creates(self, store: Store) -> None:
        await store.touch("absent", ttl=self.seconds(10))
        await store.put("deleted", b"", ttl=self.seconds(10), version=None)
        await store.delete("deleted")
        await store.touch("deleted", ttl=self.seconds(10))
        await store.put("ended", b"", ttl=self.seconds(1), version=None)
        await self.let_pass(self.seconds(2))
        await store.touch("ended", ttl=self.seconds(10))
        assert await store.get_many("absent", "deleted", "ended") == (None, None, None)

    async def test_touch_racing_a_deletion_brings_nothing_back(self, store: Store) -> None:
        keys = [f"k:{number}" for number in range(20)]
        for key in keys:
            await store.put(key, b"", ttl=self.seconds(10), version=None)
        touches = [store.touch(*keys, ttl=self.seconds(20)) for _ in range(10)]
        deletions = [store.delete(key) for key in keys]
        await asyncio.gather(*touches[:5], *deletions, *touches[5:])
        assert set(await store.get_many(*keys)) == {None}

    async def test_touch_racing_a_write_undoes_nothing(self, store: Store) -> None:
        version = await store.put("k", b"one", ttl=self.seconds(10), version=None)
        touches = [store.touch("k", ttl=self.seconds(20)) for _ in range(10)]
        write = store.put("k", b"two", ttl=self.seconds(10), version=version)
        *_, written = await asyncio.gather(*touches[:5], *touches[5:], write)
        entry = await store.get("k")
        assert entry is not None
        assert (entry.value, entry.version) == (b"two", written)

    # ------------------------------------------------------------------ values: delete

    async def test_delete_tells_whether_something_was_deleted(self, store: Store) -> None:
        assert not await store.delete("k")
        await store.put("k", b"one", ttl=self.seconds(10), version=None)
        assert await store.delete("k")
        assert await store.get("k") is None
        assert not await store.delete("k")

    async def test_a_version_is_deleted_only_while_it_is_the_present_one(
        self, store: Store
    ) -> None:
        old = await store.put("k", b"one", ttl=self.seconds(10), version=None)
        new = await store.put("k", b"two", ttl=self.seconds(10), version=old)
        assert not await store.delete("k", version=old)
        assert _value(await store.get("k")) == b"two"
        assert await store.delete("k", version=new)
        assert await store.get("k") is None

    async def test_after_a_deletion_the_key_can_be_created_at_once(self, store: Store) -> None:
        await store.put("k", b"one", ttl=self.seconds(10), version=None)
        await store.delete("k")
        await store.put("k", b"two", ttl=self.seconds(10), version=None)
        assert _value(await store.get("k")) == b"two"

    # -------------------------------------------------------------------- tombstones

    async def test_a_tombstone_lets_nothing_be_created_for_its_time(self, store: Store) -> None:
        version = await store.put("k", b"one", ttl=self.seconds(60), version=None)
        assert await store.delete("k", version=version, tombstone=self.seconds(10))
        await self.let_pass(self.seconds(5))
        for given in (None, version, version + 1):
            with pytest.raises(Conflict):
                await store.put("k", b"two", ttl=self.seconds(60), version=given)
        assert await store.get("k") is None
        assert await store.get_many("k") == (None,)
        await self.let_pass(self.seconds(6))
        await store.put("k", b"three", ttl=self.seconds(10), version=None)
        assert _value(await store.get("k")) == b"three"

    async def test_a_tombstone_stands_where_nothing_was(self, store: Store) -> None:
        assert not await store.delete("k", tombstone=self.seconds(10))
        with pytest.raises(Conflict):
            await store.put("k", b"one", ttl=self.seconds(10), version=None)

    async def test_deleting_the_wrong_version_leaves_no_tombstone(self, store: Store) -> None:
        version = await store.put("k", b"one", ttl=self.seconds(10), version=None)
        for wrong in (version + 1, 0):
            assert not await store.delete("k", version=wrong, tombstone=self.seconds(10))
        assert not await store.delete("absent", version=1, tombstone=self.seconds(10))
        await store.put("k", b"two", ttl=self.seconds(10), version=version)
        await store.delete("k")
        await store.put("k", b"three", ttl=self.seconds(10), version=None)
        await store.put("absent", b"one", ttl=self.seconds(10), version=None)

    async def test_a_tombstone_is_nothing_that_can_be_deleted(self, store: Store) -> None:
        version = await store.put("k", b"one", ttl=self.seconds(10), version=None)
        assert await store.delete("k", tombstone=self.seconds(10))
        assert not await store.delete("k")
        assert not await store.delete("k", version=version)
        assert not await store.delete("k", tombstone=self.seconds(1))
        await self.let_pass(self.seconds(2))
        with pytest.raises(Conflict):
            await store.put("k", b"two", ttl=self.seconds(10), version=None)

    async def test_a_second_deletion_can_prolong_the_tombstone(self, store: Store) -> None:
        await store.delete("k", tombstone=self.seconds(2))
        await store.delete("k", tombstone=self.seconds(10))
        await self.let_pass(self.seconds(4))
        with pytest.raises(Conflict):
            await store.put("k", b"one", ttl=self.seconds(10), version=None)

    async def test_touch_does_not_move_a_tombstone(self, store: Store) -> None:
        for key, ttl in (("longer", 100), ("shorter", 0.1)):
            await store.delete(key, tombstone=self.seconds(5))
            await store.touch(key, ttl=self.seconds(ttl))
        await self.let_pass(self.seconds(2))
        with pytest.raises(Conflict):
            await store.put("shorter", b"", ttl=self.seconds(10), version=None)
        await self.let_pass(self.seconds(4))
        await store.put("longer", b"", ttl=self.seconds(10), version=None)

    # ------------------------------------------------------------------------- leases

    async def test_a_lease_has_one_holder(self, store: Store) -> None:
        lease = await store.acquire("k", ttl=self.seconds(10))
        assert lease is not None
        assert lease.key == "k"
        assert lease.fence > 0
        assert await store.acquire("k", ttl=self.seconds(10)) is None
        assert await store.acquire("other", ttl=self.seconds(10)) is not None

    async def test_a_lease_that_was_given_back_can_be_taken(self, store: Store) -> None:
        first = await self._acquire(store)
        await store.release(first)
        second = await self._acquire(store)
        assert second.owner != first.owner
        assert second.fence > first.fence

    async def test_a_lease_runs_out(self, store: Store) -> None:
        first = await self._acquire(store, ttl=2)
        await self.let_pass(self.seconds(1))
        assert await store.acquire("k", ttl=self.seconds(2)) is None
        await self.let_pass(self.seconds(1.5))
        second = await self._acquire(store)
        assert second.fence > first.fence
        assert second.owner != first.owner

    async def test_a_renewed_lease_lasts_from_now(self, store: Store) -> None:
        lease = await self._acquire(store, ttl=4)
        for _ in range(3):
            await self.let_pass(self.seconds(2))
            assert await store.renew(lease, ttl=self.seconds(4))
        assert await store.acquire("k", ttl=self.seconds(4)) is None
        await self.let_pass(self.seconds(5))
        assert await store.acquire("k", ttl=self.seconds(4)) is not None

    async def test_a_lease_that_ran_out_is_not_renewed(self, store: Store) -> None:
        lease = await self._acquire(store, ttl=1)
        await self.let_pass(self.seconds(2))
        assert not await store.renew(lease, ttl=self.seconds(10))
        assert await store.acquire("k", ttl=self.seconds(10)) is not None

    async def test_a_lease_that_was_given_back_is_not_renewed(self, store: Store) -> None:
        lease = await self._acquire(store)
        await store.release(lease)
        assert not await store.renew(lease, ttl=self.seconds(10))
        assert await store.acquire("k", ttl=self.seconds(10)) is not None

    async def test_who_lost_a_lease_neither_renews_nor_releases_the_next_one(
        self, store: Store
    ) -> None:
        lost = await self._acquire(store, ttl=1)
        await self.let_pass(self.seconds(2))
        present = await self._acquire(store)
        assert not await store.renew(lost, ttl=self.seconds(10))
        await store.release(lost)
        assert await store.acquire("k", ttl=self.seconds(10)) is None
        assert await store.renew(present, ttl=self.seconds(10))

    async def test_only_the_owner_renews_and_releases(self, store: Store) -> None:
        lease = await self._acquire(store)
        stranger = dataclasses.replace(lease, owner="0" * len(lease.owner))
        assert not await store.renew(stranger, ttl=self.seconds(10))
        await store.release(stranger)
        assert await store.acquire("k", ttl=self.seconds(10)) is None

    async def test_a_lease_may_be_given_back_twice(self, store: Store) -> None:
        lease = await self._acquire(store)
        await store.release(lease)
        await store.release(lease)
        assert await store.acquire("k", ttl=self.seconds(10)) is not None

    async def test_a_lease_does_not_show_its_owner(self, store: Store) -> None:
        lease = await self._acquire(store)
        assert len(lease.owner) >= 16
        assert lease.owner not in repr(lease)

    # --------------------------------------------------------------------------- sets

    async def test_a_set_has_what_was_added(self, store: Store) -> None:
        assert await store.members("i") == frozenset()
        for member in ("a", "b", "a", "", "é\0", "m" * 3000):
            await store.add("i", member, ttl=self.seconds(10))
        assert await store.members("i") == {"a", "b", "", "é\0", "m" * 3000}
        assert await store.members("other") == frozenset()

    async def test_a_member_can_be_taken_out(self, store: Store) -> None:
        await store.discard("i", "a")
        for member in ("a", "b"):
            await store.add("i", member, ttl=self.seconds(10))
        await store.discard("i", "a")
        await store.discard("i", "a")
        assert await store.members("i") == {"b"}
        await store.discard("i", "b")
        assert await store.members("i") == frozenset()
        await store.add("i", "a", ttl=self.seconds(10))
        assert await store.members("i") == {"a"}

    async def test_every_member_has_its_own_time(self, store: Store) -> None:
        await store.add("i", "short", ttl=self.seconds(2))
        await store.add("i", "long", ttl=self.seconds(10))
        await self.let_pass(self.seconds(3))
        assert await store.members("i") == {"long"}
        await self.let_pass(self.seconds(8))
        assert await store.members("i") == frozenset()

    async def test_adding_again_keeps_the_longer_time(self, store: Store) -> None:
        await store.add("i", "kept", ttl=self.seconds(10))
        await store.add("i", "kept", ttl=self.seconds(1))
        await store.add("i", "prolonged", ttl=self.seconds(1))
        await store.add("i", "prolonged", ttl=self.seconds(10))
        await self.let_pass(self.seconds(3))
        assert await store.members("i") == {"kept", "prolonged"}
        await self.let_pass(self.seconds(8))
        assert await store.members("i") == frozenset()

    async def test_what_has_ended_can_be_added_again(self, store: Store) -> None:
        await store.add("i", "a", ttl=self.seconds(2))
        await self.let_pass(self.seconds(3))
        await store.add("i", "a", ttl=self.seconds(1))
        assert await store.members("i") == {"a"}
        await self.let_pass(self.seconds(2))
        assert await store.members("i") == frozenset()

    async def test_a_value_a_lease_and_a_set_of_one_name_do_not_meet(self, store: Store) -> None:
        await store.add("k", "m", ttl=self.seconds(10))
        lease = await self._acquire(store)
        await store.put("k", b"one", ttl=self.seconds(10), version=None)
        assert await store.delete("k", tombstone=self.seconds(10))
        assert await store.members("k") == {"m"}
        assert await store.renew(lease, ttl=self.seconds(10))
        await store.discard("k", "m")
        await store.release(lease)
        assert await store.acquire("k", ttl=self.seconds(10)) is not None

    # -------------------------------------------------------------------- concurrency

    async def test_of_many_that_create_one_does(self, store: Store) -> None:
        values = [str(number).encode() for number in range(20)]
        puts = [store.put("k", value, ttl=self.seconds(10), version=None) for value in values]
        results = await asyncio.gather(*puts, return_exceptions=True)
        (winner,) = [n for n, result in enumerate(results) if isinstance(result, int)]
        assert all(isinstance(r, Conflict) for n, r in enumerate(results) if n != winner)
        entry = await store.get("k")
        assert entry is not None
        assert (entry.value, entry.version) == (values[winner], results[winner])

    async def test_no_write_is_lost_when_many_replace(self, store: Store) -> None:
        await store.put("k", b"0", ttl=self.seconds(60), version=None)

        async def count_up() -> None:
            while True:
                entry = await store.get("k")
                assert entry is not None
                value = str(int(entry.value) + 1).encode()
                try:
                    await store.put("k", value, ttl=self.seconds(60), version=entry.version)
                except Conflict:
                    await asyncio.sleep(0)
                else:
                    return

        await asyncio.gather(*(count_up() for _ in range(25)))
        assert _value(await store.get("k")) == b"25"

    async def test_of_many_that_delete_one_does(self, store: Store) -> None:
        await store.put("k", b"one", ttl=self.seconds(10), version=None)
        results = await asyncio.gather(*(store.delete("k") for _ in range(20)))
        assert results.count(True) == 1

    async def test_deleting_a_version_racing_a_write_deletes_nothing_newer(
        self, store: Store
    ) -> None:
        version = await store.put("k", b"one", ttl=self.seconds(10), version=None)
        deletions = [store.delete("k", version=version) for _ in range(6)]
        write = store.put("k", b"two", ttl=self.seconds(10), version=version)
        *deleted, written = await asyncio.gather(
            *deletions[:3], *deletions[3:], write, return_exceptions=True
        )
        # One of them came first, and the others came too late.
        assert deleted.count(True) == isinstance(written, Conflict)
        assert _value(await store.get("k")) == (None if True in deleted else b"two")

    async def test_of_many_that_want_a_lease_one_gets_it(self, store: Store) -> None:
        fences = []
        for _ in range(3):
            wanted = [store.acquire("k", ttl=self.seconds(10)) for _ in range(20)]
            (lease,) = [lease for lease in await asyncio.gather(*wanted) if lease is not None]
            fences.append(lease.fence)
            await store.release(lease)
        assert fences == sorted(set(fences))

    async def test_renewing_a_lease_that_is_being_given_back_takes_it_from_nobody(
        self, store: Store
    ) -> None:
        lease = await self._acquire(store)
        _, _, taken = await asyncio.gather(
            store.renew(lease, ttl=self.seconds(10)),
            store.release(lease),
            store.acquire("k", ttl=self.seconds(10)),
        )
        present = taken or await store.acquire("k", ttl=self.seconds(10))
        assert present is not None
        assert await store.renew(present, ttl=self.seconds(10))

    async def test_giving_a_lease_back_twice_at_once_gives_back_nobody_elses(
        self, store: Store
    ) -> None:
        lease = await self._acquire(store)

        async def release(steps: int) -> None:
            for _ in range(steps):
                await asyncio.sleep(0)
            await store.release(lease)

        async def acquire(steps: int) -> Lease | None:
            for _ in range(steps):
                await asyncio.sleep(0)
            return await store.acquire("k", ttl=self.seconds(10))

        _, _, *taken = await asyncio.gather(release(1), release(0), *map(acquire, range(5)))
        assert sum(each is not None for each in taken) <= 1

    async def test_a_deletion_with_a_tombstone_beats_writers_in_flight(self, store: Store) -> None:
        version = await store.put("k", b"one", ttl=self.seconds(10), version=None)
        ttl = self.seconds(10)
        before = [store.put("k", b"two", ttl=ttl, version=given) for given in (version, None)]
        after = [store.put("k", b"three", ttl=ttl, version=given) for given in (version, None)]
        deletion = store.delete("k", tombstone=ttl)
        await asyncio.gather(*before, deletion, *after, return_exceptions=True)
        assert await store.get("k") is None

    async def test_many_add_to_one_set(self, store: Store) -> None:
        members = [str(number) for number in range(30)]
        await asyncio.gather(*(store.add("i", m, ttl=self.seconds(10)) for m in members))
        assert await store.members("i") == set(members)

    async def test_adding_while_another_is_taken_out_loses_nobody(self, store: Store) -> None:
        await store.add("i", "a", ttl=self.seconds(10))
        await asyncio.gather(
            store.discard("i", "a"), *(store.add("i", m, ttl=self.seconds(10)) for m in "bcd")
        )
        assert await store.members("i") == {"b", "c", "d"}

    async def test_calls_that_are_cancelled_keep_nobody_from_the_store(self, store: Store) -> None:
        for steps in range(4):
            calls = [
                asyncio.ensure_future(call)
                for call in (
                    store.put(f"k:{steps}", b"one", ttl=self.seconds(10), version=None),
                    store.get("k"),
                    store.add("i", "m", ttl=self.seconds(10)),
                )
            ]
            for _ in range(steps):
                await asyncio.sleep(0)
            for call in calls:
                call.cancel()
            await asyncio.wait(calls)
        async with asyncio.timeout(10):
            await store.put("k", b"two", ttl=self.seconds(10), version=None)
            assert _value(await store.get("k")) == b"two"

    # ------------------------------------------------------------------------ closing

    async def test_a_store_opens_again_after_closing(self, store: Store) -> None:
        await store.put("k", b"one", ttl=self.seconds(10), version=None)
        await store.delete("gone", tombstone=self.seconds(10))
        await store.add("i", "m", ttl=self.seconds(10))
        lease = await self._acquire(store)
        await store.aclose()
        await store.aclose()
        assert _value(await store.get("k")) == b"one"
        with pytest.raises(Conflict):
            await store.put("gone", b"two", ttl=self.seconds(10), version=None)
        assert await store.members("i") == {"m"}
        assert await store.acquire("k", ttl=self.seconds(10)) is None
        assert await store.renew(lease, ttl=self.seconds(10))

    async def _acquire(self, store: Store, ttl: float = 10) -> Lease:
        lease = await store.acquire("k", ttl=self.seconds(ttl))
        assert lease is not None
        return lease


def _value(entry: Entry | None) -> bytes | None:
    return None if entry is None else entry.value
