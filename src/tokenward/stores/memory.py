"""A store in the memory of one process, for tests, demos and single-process apps."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from heapq import heapify, heappop, heappush
from itertools import count
from threading import Lock
from typing import Final, Generic, TypeVar

from ..clock import Clock, system_clock
from ..errors import ConfigurationError, Conflict, StoreUnavailable
from ..setting_kinds import read_kind
from ..tokens.interfaces import Entry, Lease

K = TypeVar("K")
V = TypeVar("V")

_SWEEP: Final = 16
"""How many ended things one write forgets: more than it adds, and still no pause."""

_SLACK: Final = 64
"""Ends that may be left over before they are tidied."""


class MemoryStore:
    """Keep bytes in this process. They are gone when it ends, and no other sees them.

    `max_entries` bounds each of values, tombstones and leases, and a fourth of the members
    of sets: a session is in two, and stays there for a while when its value is gone. What
    has ended is forgotten first. After that the oldest value makes room for a new one:
    a user has to log in again. A tombstone, a lease or a member makes room for nothing,
    because a logged-out session could come back, a token be spent twice, or a session
    be missed by a logout: `StoreUnavailable`, and nothing was changed. So a mark that
    must not be lost, such as that of a token that is good once, is better a lease.

    It may be shared by event loops and threads. There is no background task.

    Raises:
        ConfigurationError: `max_entries` is no number above 0.
    """

    def __init__(self, clock: Clock | None = None, max_entries: int = 100_000) -> None:
        self._clock = clock or system_clock
        self._has_own_clock = clock is not None
        if read_kind("max_entries", max_entries, int) < 1:
            raise ConfigurationError("max_entries", "must be 1 or more")
        self._lock = Lock()
        self._numbers = count(1)
        self._values: _Shelf[str, Entry] = _Shelf(max_entries)
        self._tombstones: _Shelf[str, None] = _Shelf(max_entries)
        self._leases: _Shelf[str, Lease] = _Shelf(max_entries)
        self._members: _Shelf[tuple[str, str], None] = _Shelf(4 * max_entries)
        self._indexes: dict[str, set[str]] = {}

    def use_clock(self, clock: Clock) -> None:
        """Take the time from `clock` from now on, unless the store was made with one."""
        if not self._has_own_clock:
            self._clock = clock

    # Reading takes no lock: it is one look into one dict, at a tuple that never changes.

    async def get(self, key: str) -> Entry | None:
        """Return what is under `key`; None if nothing is, or its time is over."""
        return self._values.get(key, self._clock())

    async def get_many(self, *keys: str) -> tuple[Entry | None, ...]:
        """Return what is under each key."""
        now = self._clock()
        with self._lock:
            return tuple([self._values.get(key, now) for key in keys])

    async def put(self, key: str, value: bytes, *, ttl: float, version: int | None) -> int:
        """Write, and return the new version; see `Store.put`. Raises `Conflict`."""
        now = self._clock()
        with self._lock:
            self._sweep(now)
            present = self._values.get(key, now)
            if version is None:
                if present is not None or self._tombstones.has(key, now):
                    raise Conflict("something is under the key, or was until just now")
            elif present is None or present.version != version:
                raise Conflict("another version is under the key, or none")
            entry = Entry(value, next(self._numbers))
            self._values.place(key, entry, now + ttl)
            return entry.version

    async def touch(self, *keys: str, ttl: float) -> None:
        """Set the time that is left for each key. Never writes a value, never creates."""
        now = self._clock()
        with self._lock:
            for key in keys:
                entry = self._values.get(key, now)
                if entry is not None:
                    self._values.place(key, entry, now + ttl)

    async def delete(self, key: str, *, version: int | None = None, tombstone: float = 0.0) -> bool:
        """Delete, and let nothing be created for `tombstone` seconds; see `Store.delete`."""
        now = self._clock()
        with self._lock:
            self._sweep(now)
            present = self._values.get(key, now)
            if version is not None and (present is None or present.version != version):
                return False
            if tombstone > 0.0:
                self._tombstones.prolong(key, None, now + tombstone)
            self._values.remove(key)
            return present is not None

    async def acquire(self, key: str, *, ttl: float) -> Lease | None:
        """Take the lease of `key` for `ttl` seconds; None while somebody else has it."""
        now = self._clock()
        with self._lock:
            self._sweep(now)
            if self._leases.has(key, now):
                return None
            lease = Lease(key, owner=secrets.token_hex(16), fence=next(self._numbers))
            self._leases.place_if_room(key, lease, now + ttl)
            return lease

    async def renew(self, lease: Lease, *, ttl: float) -> bool:
        """Have it for `ttl` seconds from now; False if it was lost meanwhile."""
        now = self._clock()
        with self._lock:
            if self._leases.get(lease.key, now) != lease:
                return False
            self._leases.place(lease.key, lease, now + ttl)
            return True

    async def release(self, lease: Lease) -> None:
        """Give it back, if it is still this owner's."""
        now = self._clock()
        with self._lock:
            if self._leases.get(lease.key, now) == lease:
                self._leases.remove(lease.key)

    async def add(self, index: str, member: str, *, ttl: float) -> None:
        """Put `member` into the set for `ttl` seconds, or for longer if it had longer."""
        now = self._clock()
        with self._lock:
            self._sweep(now)
            self._members.prolong((index, member), None, now + ttl)
            self._indexes.setdefault(index, set()).add(member)

    async def members(self, index: str) -> frozenset[str]:
        """Return the members of the set whose time is not over."""
        now = self._clock()
        with self._lock:
            members = self._indexes.get(index, ())
            return frozenset(
                [member for member in members if self._members.has((index, member), now)]
            )

    async def discard(self, index: str, member: str) -> None:
        """Take `member` out of the set; fine if it is not there."""
        with self._lock:
            if self._members.remove((index, member)):
                self._forget_member(index, member)

    async def aclose(self) -> None:
        """Do nothing: there is nothing to give back, and what is kept stays."""

    def _sweep(self, now: float) -> None:
        for shelf in (self._values, self._tombstones, self._leases):
            shelf.sweep(now)
        for index, member in self._members.sweep(now):
            self._forget_member(index, member)

    def _forget_member(self, index: str, member: str) -> None:
        members = self._indexes[index]
        members.discard(member)
        if not members:
            del self._indexes[index]


class _Shelf(Generic[K, V]):
    """Things with an end, oldest first, and at most `size` of them."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._things: OrderedDict[K, tuple[V, float]] = OrderedDict()
        self._ends: list[tuple[float, K]] = []

    def get(self, key: K, now: float) -> V | None:
        held = self._things.get(key)
        return held[0] if held is not None and held[1] > now else None

    def has(self, key: K, now: float) -> bool:
        held = self._things.get(key)
        return held is not None and held[1] > now

    def place(self, key: K, thing: V, ends: float) -> None:
        """Put it there, as the newest, instead of the oldest if there is no room."""
        if key not in self._things and len(self._things) >= self._size:
            self._things.popitem(last=False)
        self._things[key] = (thing, ends)
        self._things.move_to_end(key)
        heappush(self._ends, (ends, key))
        # What was replaced or removed left its end behind.
        if len(self._ends) > 2 * len(self._things) + _SLACK:
            self._ends = [(ends, key) for key, (_, ends) in self._things.items()]
            heapify(self._ends)

    def place_if_room(self, key: K, thing: V, ends: float) -> None:
        """Put it there, or raise `StoreUnavailable`: nothing here makes room."""
        if key not in self._things and len(self._things) >= self._size:
            raise StoreUnavailable("the memory store is full; give it more max_entries")
        self.place(key, thing, ends)

    def prolong(self, key: K, thing: V, ends: float) -> None:
        """Let it be there until `ends`, or for longer if it had longer."""
        held = self._things.get(key)
        if held is None or held[1] < ends:
            self.place_if_room(key, thing, ends)

    def remove(self, key: K) -> bool:
        return self._things.pop(key, None) is not None

    def sweep(self, now: float) -> list[K]:
        """Forget some of what has ended, and return the keys."""
        gone: list[K] = []
        while self._ends and self._ends[0][0] <= now and len(gone) < _SWEEP:
            _, key = heappop(self._ends)
            held = self._things.get(key)
            if held is not None and held[1] <= now:
                del self._things[key]
                gone.append(key)
        return gone
