"""A store on a Redis or Valkey server, for many machines."""

from __future__ import annotations

import asyncio
import math
import re
import secrets
from hashlib import sha256
from typing import TYPE_CHECKING, Final, cast

from ..errors import ConfigurationError, Conflict, StoreUnavailable
from ..secret import Secret
from ..setting_kinds import check_number, read_kind
from ..tokens.interfaces import Entry, Lease
from . import redis_scripts as scripts
from .redis_clients import Clients, client_of_url
from .redis_lost_leases import LostLeases

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .redis_caller import Client
    from .redis_scripts import Script

_PLAIN: Final = re.compile(r"[A-Za-z0-9_.-]{1,128}", re.ASCII)
"""What can be a hash tag as it is."""

_LONGEST: Final = 100 * 365 * 86_400_000
"""Milliseconds; Redis counts them in 64 bits since 1970."""


class RedisStore:
    """Keep bytes on a Redis (7.0 or newer) or Valkey server that all machines reach.

        store = RedisStore.from_url("rediss://:password@sessions.example:6379/0")

    A client that is set up in another way is given as a function that makes it, and is
    closed by `aclose`. So it is with a cluster, and with Sentinel:

        store = RedisStore(lambda: RedisCluster.from_url("rediss://sessions.example"))
        store = RedisStore(lambda: Sentinel([("s1", 26379)]).master_for("main"))

    A client that is not a function stays its owner's: it serves one event loop, and
    `aclose` leaves it open. It must not decode responses.

    `prefix` begins every key, so that several apps can share a server. `timeout` is how
    many seconds the server may take to answer a call before it raises `StoreUnavailable`.
    Each event loop makes `max_connections` calls at once; more than that take turns, for
    5 seconds at most. Nothing connects before the first use. Ends are kept by the
    server's clock, to the millisecond; every key has one. The parts of one session have
    names that differ after the first colon only, and lie in one slot of a cluster.

    It may be shared by event loops and threads; each has connections of its own, which
    `aclose` gives back when it is called there. After a fork the child opens others.

    Raises:
        ConfigurationError: a setting cannot work; or, at use, the server says so.
    """

    def __init__(
        self,
        client: Client | Callable[[], Client],
        *,
        prefix: str = "tokenward:",
        timeout: float = 1.0,
        max_connections: int = 50,
    ) -> None:
        self._clients = Clients(
            client, timeout=_read_timeout(timeout), at_once=_read_number(max_connections)
        )
        self._prefix = _read_prefix(prefix)
        self._lost_leases = LostLeases(self.release)

    @classmethod
    def from_url(
        cls,
        url: str,
        *,
        prefix: str = "tokenward:",
        timeout: float = 1.0,
        max_connections: int = 50,
    ) -> RedisStore:
        """Make a store of one server: `redis://`, `rediss://` (TLS) or `unix://`.

        Options of redis-py can be in the query of the URL.

        Raises:
            ConfigurationError: a setting cannot work.
        """
        # Out of sight: it may hold a password.
        kept = Secret(read_kind("url", url, str))
        del url
        make = client_of_url(
            kept, timeout=_read_timeout(timeout), max_connections=_read_number(max_connections)
        )
        return cls(make, prefix=prefix, timeout=timeout, max_connections=max_connections)

    async def get(self, key: str) -> Entry | None:
        """Return what is under `key`; None if nothing is, or its time is over."""
        return _entry(await self._clients.run("GET", self._name("value", key)))

    async def get_many(self, *keys: str) -> tuple[Entry | None, ...]:
        """Return what is under each key, in one round trip; in a cluster one for each slot."""
        names = [self._name("value", key) for key in keys]
        if not names:
            return ()
        if not self._clients.is_cluster:
            return tuple(map(_entry, await self._clients.read(names)))
        found: dict[str, Entry | None] = {}
        groups = _by_slot(names)
        for group, entries in zip(
            groups, await asyncio.gather(*map(self._read_slot, groups)), strict=True
        ):
            found.update(zip(group, entries, strict=True))
        return tuple(found[name] for name in names)

    async def put(self, key: str, value: bytes, *, ttl: float, version: int | None) -> int:
        """Write, and return the new version; see `Store.put`. Raises `Conflict`."""
        written = await self._do(
            scripts.PUT,
            self._name("value", key),
            self._name("tombstone", key),
            args=(_version(version), _new_write(), _milliseconds(ttl), value),
        )
        if written is None:
            raise Conflict("another version is under the key, or none")
        return int(cast("bytes", written))

    async def touch(self, *keys: str, ttl: float) -> None:
        """Set the time that is left for each key. Never writes a value, never creates."""
        groups = _by_slot([self._name("value", key) for key in keys])
        left = _milliseconds(ttl)
        await asyncio.gather(*(self._do(scripts.TOUCH, *names, args=(left,)) for names in groups))

    async def delete(self, key: str, *, version: int | None = None, tombstone: float = 0.0) -> bool:
        """Delete, and let nothing be created for `tombstone` seconds; see `Store.delete`."""
        deleted = await self._do(
            scripts.DELETE,
            self._name("value", key),
            self._name("tombstone", key),
            args=(
                _version(version),
                _new_write(),
                _milliseconds(tombstone) if tombstone > 0.0 else 0,
            ),
        )
        return deleted == 1

    async def acquire(self, key: str, *, ttl: float) -> Lease | None:
        """Take the lease of `key` for `ttl` seconds; None while somebody else has it."""
        owner = secrets.token_hex(16)
        try:
            fence = await self._do(
                scripts.ACQUIRE, self._name("lease", key), args=(owner, _milliseconds(ttl))
            )
        except (StoreUnavailable, asyncio.CancelledError):
            self._lost_leases.give_back(Lease(key, owner, fence=0))
            raise
        return None if fence is None else Lease(key, owner, fence=int(cast("bytes", fence)))

    async def renew(self, lease: Lease, *, ttl: float) -> bool:
        """Have it for `ttl` seconds from now; False if it was lost meanwhile."""
        name = self._name("lease", lease.key)
        return await self._do(scripts.RENEW, name, args=(lease.owner, _milliseconds(ttl))) == 1

    async def release(self, lease: Lease) -> None:
        """Give it back, if it is still this owner's."""
        await self._do(scripts.RELEASE, self._name("lease", lease.key), args=(lease.owner,))

    async def add(self, index: str, member: str, *, ttl: float) -> None:
        """Put `member` into the set for `ttl` seconds, or for longer if it had longer."""
        await self._do(
            scripts.ADD, self._name("set", index), args=(member.encode(), _milliseconds(ttl))
        )

    async def members(self, index: str) -> frozenset[str]:
        """Return the members of the set whose time is not over."""
        found = await self._do(scripts.MEMBERS, self._name("set", index))
        return frozenset([member.decode() for member in cast("list[bytes]", found)])

    async def discard(self, index: str, member: str) -> None:
        """Take `member` out of the set; fine if it is not there."""
        await self._clients.run("ZREM", self._name("set", index), member.encode())

    async def aclose(self) -> None:
        """Close the connections of the running event loop, when all calls there have ended.

        The next use opens others.
        """
        async with self._lost_leases.left():
            await self._clients.aclose()

    def _name(self, kind: str, key: str) -> str:
        """Name a key: what is before its first colon is the hash tag of a cluster."""
        group, colon, part = key.partition(":")
        if not _PLAIN.fullmatch(group):
            # Braces and nothing at all are no tags, and nobody wants to read the rest.
            group, colon, part = sha256(group.encode()).hexdigest(), "/", key
        return f"{self._prefix}{kind}:{{{group}}}{colon}{part}"

    async def _read_slot(self, names: list[str]) -> list[Entry | None]:
        values = await self._clients.run("MGET", *names)
        return list(map(_entry, cast("list[object]", values)))

    async def _do(
        self, script: Script, *names: str, args: tuple[str | bytes | int, ...] = ()
    ) -> object:
        return await self._clients.evaluate(script, names, args)


def _entry(found: object) -> Entry | None:
    raw = cast("bytes", found or b"")
    try:
        return Entry(raw[scripts.HEADER :], int(raw[: scripts.VERSION]))
    except ValueError:
        # Nothing is there, or what somebody else wrote.
        return None


def _by_slot(names: Iterable[str]) -> list[list[str]]:
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(name[name.index("{") : name.index("}")], []).append(name)
    return list(groups.values())


def _version(version: int | None) -> str:
    return "" if version is None else f"{version:016d}"


def _new_write() -> str:
    return secrets.token_hex(8)


def _milliseconds(seconds: float) -> int:
    """Round up, to one at least: what ends at once ends soon."""
    return max(1, min(math.ceil(min(seconds, _LONGEST) * 1000), _LONGEST))


def _read_timeout(timeout: float) -> float:
    check_number("timeout", timeout)
    if not 0 < timeout <= 60:
        raise ConfigurationError("timeout", "is a number of seconds above 0, 60 at most")
    return timeout


def _read_number(max_connections: int) -> int:
    if read_kind("max_connections", max_connections, int) < 1:
        raise ConfigurationError("max_connections", "must be 1 or more")
    return max_connections


def _read_prefix(prefix: str) -> str:
    if (
        not read_kind("prefix", prefix, str)
        or not prefix.isprintable()
        or "{" in prefix
        or "}" in prefix
    ):
        raise ConfigurationError("prefix", 'is text without braces, such as "shop:"')
    return prefix
