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
from .sqlite_tidying import PATIENCE, Tidying, checkpoint, in_transaction

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Executor
    from pathlib import Path

_logger = logging.getLogger(__name__)

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_TIDY_SECONDS: Final = 5.0
_TIDY_WRITES: Final = 1000
"""Whichever comes first. A thousand writes are some MB of log to copy and to sync."""

_FIRST_PAUSE: Final = 0.001
_LONGEST_PAUSE: Final = 0.05


class Closed(Exception):
    """It was closed before anything was done."""


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
        # One is enough for all who wait to write: they wait for the same lock. Another one
        # opens and reads at length, so that no reader stands behind a writer; and nobody stands
        # behind the one that tidies.
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="tokenward-sqlite-write")
        self._helper = ThreadPoolExecutor(1, thread_name_prefix="tokenward-sqlite")
        self._tidier = ThreadPoolExecutor(1, thread_name_prefix="tokenward-sqlite-tidy")
        self._tidying = Tidying()
        self._lock = Lock()
        self._closed = False
        self._rounds = 0
        self._tidy_at = 0.0
        self._writes = 0

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
        self._connections.look_after_file()
        result = await self._run(self._writer, is_long, in_transaction, work, *args)
        self._tidy_when_due(now)
        return result

    def close(self) -> None:
        """Wait for the threads, and close every connection. Blocks."""
        with self._lock:
            self._closed = True
        self._writer.shutdown()
        self._helper.shutdown()
        self._tidier.shutdown()
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
        try:
            insisting = loop.run_in_executor(thread, self._insist, deadline, work, *args)
        except RuntimeError:
            # Nothing was done yet. It is also raised where Python itself is ending.
            if not self._closed:
                raise
        else:
            return await insisting
        raise Closed

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
            is_due = now >= self._tidy_at or self._writes >= _TIDY_WRITES
            if self._closed or not is_due:
                return
            self._tidy_at, self._writes = now + _TIDY_SECONDS, 0
            self._rounds += 1
            self._tidier.submit(self._tidy, now)

    def _tidy(self, now: float) -> None:
        with self._lock:
            self._rounds -= 1
            if self._rounds:
                return  # the next one, which is due already, does it all
        try:
            # First the log, which grows with all that others write while rows are deleted.
            self._tidy_by(checkpoint)
            self._tidy_by(self._tidying.forget, now)
        except TokenwardError as error:
            _logger.warning("what has ended could not be deleted: %s", error)

    def _tidy_by(self, work: Callable[[sqlite3.Connection, *Ts], None], *args: *Ts) -> None:
        refused: Exception | None = None
        try:
            connection = self._connections.open()
        except Busy:
            return
        try:
            connection.execute(f"PRAGMA busy_timeout = {PATIENCE}")
            work(connection, *args)
        except sqlite3.Error as error:
            refused = refusal(error, self._path)
        finally:
            # It waits for others, which the idle ones must not: they are for the event loop.
            self._connections.give(connection, is_sound=False)
        if refused is not None and not isinstance(refused, Busy):
            raise refused


def _pauses() -> Iterator[float]:
    pause = _FIRST_PAUSE
    while True:
        yield random.uniform(pause / 2, pause)  # noqa: S311  keeps waiters apart, hides nothing
        pause = min(pause * 2, _LONGEST_PAUSE)
