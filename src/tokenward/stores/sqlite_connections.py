"""Connections to one SQLite file: how they are opened and shared, and what can fail."""

from __future__ import annotations

import errno
import os
import sqlite3
import weakref
from threading import Condition, Lock
from typing import TYPE_CHECKING, Final

from ..errors import ConfigurationError, StoreUnavailable

if TYPE_CHECKING:
    from pathlib import Path

FORMAT_VERSION: Final = 1
"""`user_version` of the files written here."""

APPLICATION_ID: Final = 0x746F6B77  # "tokw"
"""Tells our files from those of other programs."""

_SCHEMA: Final = """
    CREATE TABLE entries (key TEXT PRIMARY KEY, ends REAL NOT NULL, version INTEGER NOT NULL,
                          value BLOB);
    CREATE TABLE leases (key TEXT PRIMARY KEY, ends REAL NOT NULL, fence INTEGER NOT NULL,
                         owner TEXT NOT NULL);
    CREATE TABLE members (name TEXT, member TEXT, ends REAL NOT NULL,
                          PRIMARY KEY (name, member)) WITHOUT ROWID;
    CREATE INDEX members_by_end ON members (ends);
    CREATE TABLE gone (highest INTEGER NOT NULL);
    INSERT INTO gone VALUES (0)
"""
"""`value` is NULL in a tombstone. No version and no fence of a row that was deleted is
above `gone.highest`, so none comes again, and a write need not count. Entries have no
index by their end: it would be a third of the cost of every write."""

_MAX_IDLE: Final = 4
"""A loop uses one at a time; the threads, and loops in other threads, want some more."""

_FORK_PATIENCE: Final = 1.0
"""Seconds that a fork waits for the connections that are in use just then."""


class Busy(Exception):
    """Another process, or another thread, has the lock."""


class Connections:
    """Connections that wait for nobody, each used by one thread at a time.

    None is open while the process forks: SQLite keeps its locks in tables of the process,
    and what a child inherits of them is wrong (sqlite.org/howtocorrupt.html, section 2.6).
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._changed = Condition(Lock())
        self._opening = Lock()
        self._idle: list[sqlite3.Connection] = []
        self._outdated: list[sqlite3.Connection] = []
        self._file: tuple[int, int] | None = None
        self._of_file: set[sqlite3.Connection] = set()
        self._has_worked = False
        self._in_use = 0
        self._closed = False
        self._forking = False
        self._is_guarded = False

    def take(self) -> sqlite3.Connection | None:
        """Return one that is idle; None if there is none. Never blocks for long."""
        with self._changed:
            if not self._idle:
                return None
            self._in_use += 1
            return self._idle.pop()

    def open(self) -> sqlite3.Connection:
        """Return a new one. Blocks; raises `Busy`, or what `refusal` says.

        What is wrong with the file is a setting when it is opened first. Once it has
        worked, something happened to it: `StoreUnavailable`, until that is mended.
        """
        with self._changed:
            self._changed.wait_for(lambda: not self._forking)
            self._in_use += 1
        connection, problem = None, ""
        try:
            # One at a time, so that nobody closes the file that another one just opened.
            with self._opening:
                connection = self._connect()
                self._guard()
        except ConfigurationError as error:
            if not self._has_worked:
                raise
            problem = error.problem
        finally:
            if connection is None:
                self._leave()
        if connection is None:
            raise StoreUnavailable(problem)
        return connection

    def look_after_file(self) -> None:
        """Go on with the file that has the name now, if it was removed or replaced.

        Nobody else would see what is written to one that was removed, and two processes
        could hold the same lease. Costs a look at the directory; closes nothing.
        """
        if self._file is None or _identity(self._path) == self._file:
            return
        with self._changed:
            self._outdated += self._idle
            self._idle = []
            self._of_file.clear()
            self._file = None

    def take_or_open(self) -> sqlite3.Connection:
        """Return one that is idle, or a new one."""
        return self.take() or self.open()

    def give(self, connection: sqlite3.Connection, *, is_sound: bool) -> None:
        """Give one back. It is closed if it is not sound, or not wanted any more."""
        with self._changed:
            is_wanted = not self._closed and not self._forking and len(self._idle) < _MAX_IDLE
            if is_sound and is_wanted and connection in self._of_file:
                self._in_use -= 1
                self._idle.append(connection)
                return
            self._of_file.discard(connection)
        try:
            connection.close()
        finally:
            self._leave()

    def close(self) -> None:
        """Close those that are idle, and the others when they are given back."""
        with self._changed:
            self._closed = True
            self._close_idle()

    def _connect(self) -> sqlite3.Connection:
        self.look_after_file()
        while self._outdated:
            self._outdated.pop().close()
        connection = _connect(self._path)
        with self._changed:
            self._file = _identity(self._path)
            self._of_file.add(connection)
            self._has_worked = True
        return connection

    def _leave(self) -> None:
        with self._changed:
            self._in_use -= 1
            self._changed.notify_all()

    def _close_idle(self) -> None:
        while self._idle or self._outdated:
            (self._idle or self._outdated).pop().close()
        self._of_file.clear()

    def _guard(self) -> None:
        if self._is_guarded or not hasattr(os, "register_at_fork"):
            return
        self._is_guarded = True
        reference = weakref.ref(self)

        def before() -> None:
            if (connections := reference()) is not None:
                connections.before_fork()

        def after() -> None:
            if (connections := reference()) is not None:
                connections.after_fork()

        # Not in the child: there this object is never used again.
        os.register_at_fork(before=before, after_in_parent=after)

    def before_fork(self) -> None:
        """Close all connections, and open none until `after_fork`."""
        with self._changed:
            self._forking = True
            self._changed.wait_for(lambda: not self._in_use, timeout=_FORK_PATIENCE)
            self._close_idle()

    def after_fork(self) -> None:
        """Let connections be opened again."""
        with self._changed:
            self._forking = False
            self._changed.notify_all()


# ------------------------------------------------------------------------- opening


def _identity(path: Path) -> tuple[int, int] | None:
    """Tell which file has the name; None if none has, or nobody can tell."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _connect(path: Path) -> sqlite3.Connection:
    _check_file(path)
    refused: Exception
    try:
        connection = sqlite3.connect(
            path, timeout=0.0, isolation_level=None, check_same_thread=False
        )
    except sqlite3.Error as error:
        refused = refusal(error, path)
    else:
        try:
            _prepare(connection, path)
        except sqlite3.Error as error:
            refused = refusal(error, path)
        except ConfigurationError as error:
            refused = error
        else:
            return connection
        connection.close()
    raise refused


_MISTAKES: Final = frozenset({errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.EROFS})
"""Errors that will not go away by themselves. Others may: no descriptor is left, or the directory,
which was there when the store was made, is not there for a while."""


def _check_file(path: Path) -> None:
    """Create the file for its owner alone, or see that the one there can be used."""
    problem, outage = "", ""
    try:
        # Never opened if it is there: closing it would drop the locks that SQLite has
        # on it in this process (sqlite.org/howtocorrupt.html, section 2.2).
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:
        problem = "" if path.is_file() else "is no file; name one"
    except OSError as error:
        if error.errno in _MISTAKES:
            problem = f"cannot be created ({error.strerror}); check its directory"
        else:
            outage = f"{path} cannot be opened: {error.strerror}"
    if outage:
        raise StoreUnavailable(outage)
    if not problem and not (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)):
        problem = "cannot be written to; check owner and mode of the file and its directory"
    if problem:
        raise ConfigurationError("path", f"{path} {problem}")


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    is_ours = _check_format(connection, path)
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise ConfigurationError("path", f"{path} is not on a local disk; SQLite needs one for WAL")
    # Nothing is lost when a process dies. When the machine does, so may be the last
    # seconds; to sync every write would hold the event loop for milliseconds each.
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA wal_autocheckpoint = 0")  # a thread does it
    connection.execute("PRAGMA journal_size_limit = 16777216")
    if not is_ours:
        _create(connection, path)


# One statement sees one state of the file, which another process may be creating.
_FORMAT: Final = """
    SELECT user_version, application_id, (SELECT count(*) FROM sqlite_master)
    FROM pragma_user_version, pragma_application_id
"""


def _check_format(connection: sqlite3.Connection, path: Path) -> bool:
    """Return whether the file is ours; it is nobody's, and empty, if not."""
    version, application, tables = connection.execute(_FORMAT).fetchone()
    if (version, application, tables) == (0, 0, 0):
        return False
    if application != APPLICATION_ID:
        raise ConfigurationError("path", f"{path} belongs to another program; name another file")
    if version > FORMAT_VERSION:
        raise ConfigurationError(
            "path",
            f"{path} was written by a newer release (format {version}, this one knows"
            f" {FORMAT_VERSION}); upgrade, or name another file",
        )
    return True


def _create(connection: sqlite3.Connection, path: Path) -> None:
    connection.execute("BEGIN IMMEDIATE")
    # Once more, under the lock: another process may have been faster. Whatever fails
    # here closes the connection, and so undoes it.
    if not _check_format(connection, path):
        for statement in _SCHEMA.split(";"):
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {FORMAT_VERSION}")
    connection.execute("COMMIT")


# ------------------------------------------------------------------- what can fail

_UNAVAILABLE: Final = {
    sqlite3.SQLITE_FULL: "the disk is full; make room",
    sqlite3.SQLITE_READONLY: "cannot be written to any more; check the file and its directory",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened; check the limit on open files",
    sqlite3.SQLITE_IOERR: "cannot be read or written; check the disk",
    sqlite3.SQLITE_CORRUPT: "is damaged; stop the app and move the file away",
}


def refusal(error: sqlite3.Error, path: Path) -> Exception:
    """Return what to raise, once the block that caught `error` is left."""
    # The low byte is the kind of error, the rest only details.
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return Busy()
    if code == sqlite3.SQLITE_NOTADB:
        return ConfigurationError("path", f"{path} is no SQLite database; name another file")
    return StoreUnavailable(f"{path}: {_UNAVAILABLE.get(code, f'SQLite failed (code {code})')}")
