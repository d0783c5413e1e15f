"""One SQLite file as one process sees it: waiting for others, and tidying.

Measured on a small machine: a direct read takes 10 microseconds and a direct write some
40, by way of a thread 100 more. So work is done at once, on the event loop, by a connection
that waits for nobody; while another process writes, a thread waits instead. What takes
long by nature (opening, fsync at checkpoints, deleting what has ended) is never done
on the loop.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import TYPE_CHECKING, Final, TypeVar, TypeVarTuple

from ..errors import StoreUnavailable, TokenwardError
from .sqlite_connections import Busy, Connections, refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from concurrent.futures import Executor
    from pathlib import Path

_logger = logging.getLogger(__name__)

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_FORGET_ENTRIES: Final = (
    "UPDATE gone SET highest = max(highest, (SELECT coalesce(max(version), 0) FROM entries"
    " WHERE rowid > :first AND rowid <= :last AND ends <= :now))",
    "DELETE FROM entries WHERE rowid > :first AND rowid <= :last AND ends <= :now",
)
_FORGET_OTHERS: Final = (
    "UPDATE gone SET highest = max(highest, (SELECT coalesce(max(fence), 0) FROM leases"
    " WHERE ends <= :now))",
    "DELETE FROM leases WHERE rowid IN (SELECT rowid FROM leases WHERE ends <= :now LIMIT 500)",
    "DELETE FROM members WHERE (name, member) IN"
    " (SELECT name, member FROM members WHERE ends <= :now LIMIT 500)",
)

_BATCH: Final = 300
"""Row numbers in one transaction: a millisecond or two in which nobody else writes."""

_BATCHES: Final = 20
"""In one round. The next round goes on from there."""

_TIDY_SECONDS: Final = 5.0
_TIDY_WRITES: Final = 1000
"""Whichever comes first. A thousand writes are some MB of log to copy and to sync."""

_LONG_LOG: Final = 8000
"""Pages of 4 KB. Under steady writing the log is never copied to its end, so it could
only grow; from this length on writers are made to wait, each in its thread."""

_FIRST_PAUSE: Final = 0.001
_LONGEST_PAUSE: Final = 0.05


class SQLiteFile:
    """Run short pieces of work on a file, without ever making an event loop wait.

    It belongs to the process that made it: `pid`. Whoever finds another number in it
    after a fork must leave it alone, and make a new one.
    """

    def __init__(self, path: Path, *, patience: float) -> None:
        self.pid: int = os.getpid()
        """The only process that may use this object."""
        self._path = path
        self._patience = patience
        self._connections = Connections(path)
        # One is enough for all who wait to write: they wait for the same lock. The other
        # opens, reads at length and tidies, so that no reader stands behind a writer.
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="tokenward-sqlite-write")
        self._helper = ThreadPoolExecutor(1, thread_name_prefix="tokenward-sqlite")
        self._lock = Lock()
        self._closed = False
        self._tidy_at = 0.0
        self._writes = 0
        self._hand = 0

    async def read(
        self,
        work: Callable[[sqlite3.Connection, *Ts], T],
        *args: *Ts,
        is_long: bool = False,
    ) -> T:
        """Return what `work` returns, done here if it is short and possible at once.

        Raises `StoreUnavailable` or `ConfigurationError`, with what to do.
        """
        return await self._run(self._helper, is_long, work, *args)

    async def write(
        self,
        now: float,
        work: Callable[[sqlite3.Connection, *Ts], T],
        *args: *Ts,
        is_long: bool = False,
    ) -> T:
        """Do `work` in a transaction, as `read` does; then tidy, if it is time.

        Tidying deletes what ended before `now`.
        """
        result = await self._run(self._writer, is_long, in_transaction, work, *args)
        self._tidy_when_due(now)
        return result

    def close(self) -> None:
        """Wait for the threads, and close every connection. Blocks."""
        with self._lock:
            self._closed = True
        self._writer.shutdown()
        self._helper.shutdown()
        self._connections.close()

    async def _run(
        self,
        thread: Executor,
        is_long: bool,
        work: Callable[[sqlite3.Connection, *Ts], T],
        *args: *Ts,
    ) -> T:
        connection = None if is_long else self._connections.take()
        if connection is not None:
            try:
                return self._attempt(connection, work, *args)
            except Busy:
                pass
        deadline = time.monotonic() + self._patience
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(thread, self._insist, deadline, work, *args)

    def _insist(
        self, deadline: float, work: Callable[[sqlite3.Connection, *Ts], T], *args: *Ts
    ) -> T:
        for pause in _pauses():
            try:
                return self._attempt(self._connections.take_or_open(), work, *args)
            except Busy:
                pass
            if time.monotonic() + pause > deadline:
                break
            time.sleep(pause)
        raise StoreUnavailable(f"{self._path} was locked for more than {self._patience} seconds")

    def _attempt(
        self,
        connection: sqlite3.Connection,
        work: Callable[[sqlite3.Connection, *Ts], T],
        *args: *Ts,
    ) -> T:
        """Do it once. Raises `Busy` if somebody else writes, and what `refusal` says."""
        refused: Exception | None = None
        is_sound = False
        try:
            result = work(connection, *args)
            is_sound = True
        except sqlite3.Error as error:
            refused = refusal(error, self._path)
            # Who waits needs it again. After anything else it may be broken.
            is_sound = isinstance(refused, Busy) and not connection.in_transaction
        finally:
            self._connections.give(connection, is_sound=is_sound)
        if refused is not None:
            raise refused
        return result

    def _tidy_when_due(self, now: float) -> None:
        with self._lock:
            self._writes += 1
            if self._closed or (now < self._tidy_at and self._writes < _TIDY_WRITES):
                return
            self._tidy_at, self._writes = now + _TIDY_SECONDS, 0
            self._helper.submit(self._tidy, now)

    def _tidy(self, now: float) -> None:
        try:
            # On a connection of its own: the idle ones are there for the event loop.
            self._attempt(self._connections.open(), self._tidy_on, now)
        except Busy:
            pass  # next time
        except TokenwardError as error:
            _logger.warning("what has ended could not be deleted: %s", error)

    def _tidy_on(self, connection: sqlite3.Connection, now: float) -> None:
        for _ in range(_BATCHES):
            self._hand = _forget(connection, self._hand, now)
            if not self._hand:
                break
        in_transaction(connection, _execute_all, _FORGET_OTHERS, {"now": now})
        _checkpoint(connection)


def in_transaction(
    connection: sqlite3.Connection, work: Callable[[sqlite3.Connection, *Ts], T], *args: *Ts
) -> T:
    """Do `work` in a transaction of its own, which sees what it changes."""
    # IMMEDIATE takes the lock before anything is read, so no reading is out of date.
    # Whatever fails closes the connection, and so undoes it.
    connection.execute("BEGIN IMMEDIATE")
    result = work(connection, *args)
    connection.execute("COMMIT")
    return result


def _pauses() -> Iterator[float]:
    pause = _FIRST_PAUSE
    while True:
        yield random.uniform(pause / 2, pause)  # noqa: S311  keeps waiters apart, hides nothing
        pause = min(pause * 2, _LONGEST_PAUSE)


def _forget(connection: sqlite3.Connection, first: int, now: float) -> int:
    """Delete what has ended in the batch after row `first`; return its last row, 0 at the end."""
    (start,) = connection.execute(
        "SELECT coalesce(min(rowid), 1) - 1 FROM entries WHERE rowid > ?", (first,)
    ).fetchone()
    rows = {"first": start, "last": start + _BATCH, "now": now}
    # Look first: there is mostly nothing to do, and nothing to lock for.
    (any_ended,) = connection.execute(
        "SELECT EXISTS (SELECT 1 FROM entries"
        " WHERE rowid > :first AND rowid <= :last AND ends <= :now)", rows
    ).fetchone()  # fmt: skip
    if any_ended:
        in_transaction(connection, _execute_all, _FORGET_ENTRIES, rows)
    (any_more,) = connection.execute(
        "SELECT EXISTS (SELECT 1 FROM entries WHERE rowid > :last)", rows
    ).fetchone()
    return start + _BATCH if any_more else 0


def _execute_all(
    connection: sqlite3.Connection, statements: Iterable[str], values: Mapping[str, float]
) -> None:
    for statement in statements:
        connection.execute(statement, values)


def _checkpoint(connection: sqlite3.Connection) -> None:
    """Copy the log into the file, with nobody waiting unless the log is long."""
    _, pages, _ = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    if pages > _LONG_LOG:
        connection.execute("PRAGMA busy_timeout = 1000")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        connection.execute("PRAGMA busy_timeout = 0")
