"""Tidying one SQLite file: what has ended is deleted, and the log is copied into the file.

All of it waits for other writers, and for the disk, so a thread does it that nobody waits for.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, TypeVar, TypeVarTuple

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Mapping

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

PATIENCE: Final = 1000
"""Milliseconds that one step waits for other writers; the next round makes up for it."""

_BATCH: Final = 300
"""Rows in one transaction: a millisecond or two in which nobody else writes."""

_BATCHES: Final = 20
"""Of one table in one round. The next round goes on from there."""

_BETWEEN: Final = 0.005
"""Seconds between two transactions, for others to get their turn."""

_LONG_LOG: Final = 8000
"""Pages of 4 KB. Under steady writing the log is never copied to its end, so it could
only grow; from this length on writers are made to wait, each in its thread."""

# No version and no fence comes again, also when its row is gone: see `gone.highest`.
_NUMBERED: Final = {"entries": "version", "leases": "fence"}
_MEMBERS_ENDED: Final = "SELECT EXISTS (SELECT 1 FROM members WHERE ends <= :now)"
_FORGET_MEMBERS: Final = (
    "DELETE FROM members WHERE (name, member) IN"
    " (SELECT name, member FROM members WHERE ends <= :now LIMIT :batch)",
)


class Tidying:
    """Deletes what has ended, a little at a time; remembers how far it came."""

    def __init__(self) -> None:
        self._hands = dict.fromkeys(_NUMBERED, 0)

    def forget(self, connection: sqlite3.Connection, now: float) -> None:
        """Delete some of what ended before `now`."""
        for table in self._hands:
            for _ in range(_BATCHES):
                last = self._hands[table] = _forget(connection, table, self._hands[table], now)
                if not last:
                    break
        ended = {"now": now, "batch": _BATCH}
        for _ in range(_BATCHES):
            if not _ask(connection, _MEMBERS_ENDED, {"now": now}):
                break
            _change(connection, _FORGET_MEMBERS, ended)


def checkpoint(connection: sqlite3.Connection) -> None:
    """Copy the log into the file, with nobody waiting unless the log is long."""
    _, pages, copied = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    if pages > _LONG_LOG:
        _, pages, copied = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    if pages == copied:
        # Who writes next begins the log anew, and SQLite syncs its first page before anything
        # else, whatever `synchronous` says short of OFF. No event loop shall have to wait.
        _change(connection, ("UPDATE gone SET highest = highest + 1",), {})


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


def _forget(connection: sqlite3.Connection, table: str, first: int, now: float) -> int:
    """Delete what has ended in the batch after row `first`; return its last row, 0 at the end."""
    start = _ask(
        connection,
        f"SELECT coalesce(min(rowid), 1) - 1 FROM {table} WHERE rowid > :first",  # noqa: S608
        {"first": first},
    )
    rows = {"first": start, "last": start + _BATCH, "now": now}
    ended = f"FROM {table} WHERE rowid > :first AND rowid <= :last AND ends <= :now"
    # Look first: there is mostly nothing to do, and nothing to lock for.
    if _ask(connection, f"SELECT EXISTS (SELECT 1 {ended})", rows):
        number = _NUMBERED[table]
        highest = f"SELECT coalesce(max({number}), 0) {ended}"
        remember = f"UPDATE gone SET highest = max(highest, ({highest}))"  # noqa: S608
        _change(connection, (remember, f"DELETE {ended}"), rows)
    more = f"SELECT EXISTS (SELECT 1 FROM {table} WHERE rowid > :last)"  # noqa: S608
    return start + _BATCH if _ask(connection, more, {"last": start + _BATCH}) else 0


def _ask(connection: sqlite3.Connection, query: str, values: Mapping[str, float]) -> int:
    (answer,) = connection.execute(query, values).fetchone()
    return int(answer)


def _change(
    connection: sqlite3.Connection, statements: Iterable[str], values: Mapping[str, float]
) -> None:
    in_transaction(connection, _execute_all, statements, values)
    time.sleep(_BETWEEN)


def _execute_all(
    connection: sqlite3.Connection, statements: Iterable[str], values: Mapping[str, float]
) -> None:
    for statement in statements:
        connection.execute(statement, values)
