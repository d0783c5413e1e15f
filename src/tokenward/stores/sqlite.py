"""A store in one file, for one machine with any number of worker processes."""

from __future__ import annotations

import asyncio
import math
import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar, TypeVarTuple

from ..clock import Clock, system_clock
from ..errors import ConfigurationError, Conflict
from ..setting_kinds import check_kind, check_number
from ..tokens.interfaces import Entry, Lease
from .sqlite_file import Closed, SQLiteFile

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from sqlite3 import Connection

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_LARGE_VALUE: Final = 65_536
_MANY_KEYS: Final = 64
"""From here on it is no short call, and a thread does it."""

_MAX_PARAMETERS: Final = 500
"""Of one statement; SQLite allowed 999 for long."""


class SQLiteStore:
    """Keep bytes in a file that all processes of this machine share, and that stays.

        store = SQLiteStore("sessions.db")

    The file is opened at first use and created for its owner alone (mode 0600); its
    directory must be there, on a local disk: shared memory does not reach across a
    network. Beside it lie `-wal` and `-shm` while it is in use; they belong to it. A
    process may fork at any time: the child opens connections of its own.

    `patience` is how many seconds a call waits while other processes write, before it
    raises `StoreUnavailable`. The event loop does not wait: a thread does. Writes survive
    the death of every process; a power failure can undo those of the last seconds.

    Raises `ConfigurationError` for a directory that is not there; for a file that cannot
    be used, at first use.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, clock: Clock | None = None, patience: float = 5.0
    ) -> None:
        check_kind("path", path, (str, os.PathLike))
        name = os.fspath(path)
        if not name or name.startswith((":", "file:")):
            raise ConfigurationError(
                "path", "is the name of a file; tokenward.stores.memory keeps things in memory"
            )
        # Absolute now: a process that changes its directory keeps its file.
        self._path = Path(name).absolute()
        if not self._path.parent.is_dir():
            raise ConfigurationError("path", f"the directory {self._path.parent} is not there")
        self._clock = clock or system_clock
        self._has_own_clock = clock is not None
        check_number("patience", patience)
        if not 0 <= patience < math.inf:
            raise ConfigurationError("patience", "must be a number of seconds, or 0")
        self._patience = patience
        self._file = SQLiteFile(self._path, patience=patience)
        self._inherited: list[SQLiteFile] = []

    def use_clock(self, clock: Clock) -> None:
        """Take the time from `clock` from now on, unless the store was made with one."""
        if not self._has_own_clock:
            self._clock = clock

    async def get(self, key: str) -> Entry | None:
        """Return what is under `key`; None if nothing is, or its time is over."""
        return await self._read(_get, key, self._clock())

    async def get_many(self, *keys: str) -> tuple[Entry | None, ...]:
        """Return what is under each key, in one transaction."""
        is_long = len(keys) >= _MANY_KEYS
        return await self._read(_get_many, keys, self._clock(), is_long=is_long)

    async def put(self, key: str, value: bytes, *, ttl: float, version: int | None) -> int:
        """Write, and return the new version; see `Store.put`. Raises `Conflict`."""
        now = self._clock()
        is_long = len(value) >= _LARGE_VALUE
        new = await self._write(now, _put, key, value, version, now, now + ttl, is_long=is_long)
        if new is None:
            raise Conflict("another version is under the key, or none")
        return new

    async def touch(self, *keys: str, ttl: float) -> None:
        """Set the time that is left for each key. Never writes a value, never creates."""
        now = self._clock()
        is_long = len(keys) >= _MANY_KEYS
        await self._write(now, _touch, keys, now, now + ttl, is_long=is_long)

    async def delete(self, key: str, *, version: int | None = None, tombstone: float = 0.0) -> bool:
        """Delete, and let nothing be created for `tombstone` seconds; see `Store.delete`."""
        now = self._clock()
        ends = now + tombstone if tombstone > 0.0 else None
        return await self._write(now, _delete, key, version, now, ends)

    async def acquire(self, key: str, *, ttl: float) -> Lease | None:
        """Take the lease of `key` for `ttl` seconds; None while somebody else has it."""
        now = self._clock()
        owner = secrets.token_hex(16)
        return await self._write(now, _acquire, key, owner, now, now + ttl)

    async def renew(self, lease: Lease, *, ttl: float) -> bool:
        """Have it for `ttl` seconds from now; False if it was lost meanwhile."""
        now = self._clock()
        return await self._write(now, _renew, lease, now, now + ttl)

    async def release(self, lease: Lease) -> None:
        """Give it back, if it is still this owner's."""
        await self._write(self._clock(), _release, lease)

    async def add(self, index: str, member: str, *, ttl: float) -> None:
        """Put `member` into the set for `ttl` seconds, or for longer if it had longer."""
        now = self._clock()
        await self._write(now, _add, index, member, now + ttl)

    async def members(self, index: str) -> frozenset[str]:
        """Return the members of the set whose time is not over."""
        return await self._read(_members, index, self._clock())

    async def discard(self, index: str, member: str) -> None:
        """Take `member` out of the set; fine if it is not there."""
        await self._write(self._clock(), _discard, index, member)

    async def aclose(self) -> None:
        """Close the file. The store opens it again at its next use."""
        file, self._file = self._own_file(), SQLiteFile(self._path, patience=self._patience)
        await asyncio.to_thread(file.close)

    # Another event loop may close the file just before it is used here: then the next one is.

    async def _read(
        self, work: Callable[[Connection, *Ts], T], *args: *Ts, is_long: bool = False
    ) -> T:
        while True:
            with suppress(Closed):
                return await self._own_file().read(work, *args, is_long=is_long)

    async def _write(
        self, now: float, work: Callable[[Connection, *Ts], T], *args: *Ts, is_long: bool = False
    ) -> T:
        while True:
            with suppress(Closed):
                return await self._own_file().write(now, work, *args, is_long=is_long)

    def _own_file(self) -> SQLiteFile:
        if self._file.pid != os.getpid():
            # Forked. What the parent opened is neither used nor closed here: if a fork was
            # not announced to Python, connections are still in it.
            self._inherited.append(self._file)
            self._file = SQLiteFile(self._path, patience=self._patience)
        return self._file


def _get(connection: Connection, key: str, now: float) -> Entry | None:
    row = connection.execute(
        "SELECT value, version FROM entries WHERE key = ? AND ends > ? AND value IS NOT NULL",
        (key, now),
    ).fetchone()
    return None if row is None else Entry(*row)


def _get_many(connection: Connection, keys: Sequence[str], now: float) -> tuple[Entry | None, ...]:
    found: dict[str, Entry] = {}
    for start in range(0, len(keys), _MAX_PARAMETERS):
        some = keys[start : start + _MAX_PARAMETERS]
        marks = ",".join("?" * len(some))
        rows = connection.execute(
            "SELECT key, value, version FROM entries"  # noqa: S608  question marks only
            f" WHERE key IN ({marks}) AND ends > ? AND value IS NOT NULL",
            (*some, now),
        )
        found.update((key, Entry(value, version)) for key, value, version in rows)
    return tuple(map(found.get, keys))


def _find(connection: Connection, key: str, now: float) -> tuple[int, bool, bool]:
    """Return the last version of the row, whether it is a value, and a tombstone.

    Neither, when there is no row or its time is over.
    """
    row = connection.execute(
        "SELECT version, ends, value IS NULL FROM entries WHERE key = ?", (key,)
    ).fetchone()
    if row is None:
        return 0, False, False
    version, ends, is_null = row
    return version, ends > now and not is_null, ends > now and bool(is_null)


def _next_number(connection: Connection, last: int) -> int:
    """Return a number that the key never had; `last` is that of its row, 0 without one."""
    if not last:
        (last,) = connection.execute("SELECT highest FROM gone").fetchone()
    return last + 1


def _put(
    connection: Connection, key: str, value: bytes, version: int | None, now: float, ends: float
) -> int | None:
    last, is_value, is_tombstone = _find(connection, key, now)
    if version is None:
        if is_value or is_tombstone:
            return None
    elif not is_value or version != last:
        return None
    new = _next_number(connection, last)
    connection.execute(
        "INSERT INTO entries (key, ends, version, value) VALUES (?, ?, ?, ?) ON CONFLICT (key)"
        " DO UPDATE SET ends = excluded.ends, version = excluded.version, value = excluded.value",
        (key, ends, new, value),
    )
    return new


def _touch(connection: Connection, keys: Sequence[str], now: float, ends: float) -> None:
    connection.executemany(
        "UPDATE entries SET ends = ? WHERE key = ? AND ends > ? AND value IS NOT NULL",
        [(ends, key, now) for key in keys],
    )


def _delete(
    connection: Connection, key: str, version: int | None, now: float, tombstone: float | None
) -> bool:
    last, is_value, _ = _find(connection, key, now)
    if version is not None and not (is_value and version == last):
        return False
    if tombstone is not None:
        connection.execute(
            "INSERT INTO entries (key, ends, version, value) VALUES (?, ?, 0, NULL)"
            " ON CONFLICT (key) DO UPDATE SET value = NULL, ends ="
            " CASE WHEN value IS NULL THEN max(ends, excluded.ends) ELSE excluded.ends END",
            (key, tombstone),
        )
    elif is_value:
        connection.execute("DELETE FROM entries WHERE key = ?", (key,))
        connection.execute("UPDATE gone SET highest = max(highest, ?)", (last,))
    return is_value


def _acquire(connection: Connection, key: str, owner: str, now: float, ends: float) -> Lease | None:
    held = connection.execute("SELECT fence, ends FROM leases WHERE key = ?", (key,)).fetchone()
    if held is not None and held[1] > now:
        return None
    lease = Lease(key, owner, fence=_next_number(connection, 0 if held is None else held[0]))
    connection.execute(
        "INSERT OR REPLACE INTO leases (key, ends, fence, owner) VALUES (?, ?, ?, ?)",
        (key, ends, lease.fence, owner),
    )
    return lease


def _renew(connection: Connection, lease: Lease, now: float, ends: float) -> bool:
    cursor = connection.execute(
        "UPDATE leases SET ends = ? WHERE key = ? AND owner = ? AND ends > ?",
        (ends, lease.key, lease.owner, now),
    )
    return cursor.rowcount == 1


def _release(connection: Connection, lease: Lease) -> None:
    # The row stays until it is tidied away: the next lease counts on from its fence.
    connection.execute(
        "UPDATE leases SET ends = 0 WHERE key = ? AND owner = ?", (lease.key, lease.owner)
    )


def _add(connection: Connection, index: str, member: str, ends: float) -> None:
    connection.execute(
        "INSERT INTO members (name, member, ends) VALUES (?, ?, ?) ON CONFLICT (name, member)"
        " DO UPDATE SET ends = max(ends, excluded.ends)",
        (index, member, ends),
    )


def _members(connection: Connection, index: str, now: float) -> frozenset[str]:
    rows = connection.execute(
        "SELECT member FROM members WHERE name = ? AND ends > ?", (index, now)
    )
    return frozenset([member for (member,) in rows])


def _discard(connection: Connection, index: str, member: str) -> None:
    connection.execute("DELETE FROM members WHERE name = ? AND member = ?", (index, member))
