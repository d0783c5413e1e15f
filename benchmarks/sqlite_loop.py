"""How long SQLite holds the event loop, while other processes write the same file.

A heartbeat wakes every millisecond and notes how late it is, while the process reads and
writes sessions as a worker does. Besides

    alone      nobody else has the file
    writer     a process writes as fast as it can
    locked     a process holds the lock for 200 ms at a time, with 20 ms in between
    backlog    200,000 rows have ended, and are tidied away while that process writes

Each is measured three times in turns with a run that does the same work in a
`MemoryStore`, beside the same processes: what is late there is the machine's doing.

    python benchmarks/sqlite_loop.py
    python benchmarks/sqlite_loop.py --seconds 20 --folder /var/tmp
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from tokenward.errors import Conflict
from tokenward.stores.memory import MemoryStore
from tokenward.stores.sqlite import SQLiteStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tokenward.tokens.interfaces import Store

BEAT = 0.001
VALUE = b"x" * 3000
ENDED = 200_000

WRITE = """
import asyncio, os, sys
from tokenward.stores.sqlite import SQLiteStore

async def main():
    store, value = SQLiteStore(sys.argv[1], patience=60), os.urandom(3000)
    number = 0
    while True:
        number += 1
        await store.put(f"{os.getpid()}-{number}", value, ttl=5, version=None)

asyncio.run(main())
"""
HOLD = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)
while True:
    connection.execute("BEGIN IMMEDIATE")
    time.sleep(0.2)
    connection.execute("COMMIT")
    time.sleep(0.02)
"""


@dataclass
class Run:
    """What one run showed."""

    late: list[float] = field(default_factory=list)
    calls: int = 0

    def percentile(self, part: float) -> float:
        return sorted(self.late)[min(int(len(self.late) * part), len(self.late) - 1)] * 1000


@contextmanager
def processes(script: str, number: int, path: Path) -> Iterator[None]:
    """Run a script in several processes."""
    command = [sys.executable, "-c", script, str(path)]
    started = [subprocess.Popen(command) for _ in range(number)]
    try:
        time.sleep(1.0)
        yield
    finally:
        for one in started:
            one.send_signal(signal.SIGKILL)
            one.wait()


async def beat(run: Run, until: float) -> None:
    while (due := time.perf_counter() + BEAT) < until:
        await asyncio.sleep(BEAT)
        run.late.append(max(time.perf_counter() - due, 0.0))


async def work(store: Store, run: Run, until: float) -> None:
    """Do what requests do: read, and now and then write, under a lease."""
    for number in count():
        if time.perf_counter() > until:
            return
        key = f"session-{number % 200}"
        await store.get_many(f"{key}:session", f"{key}:data")
        if number % 4 == 0 and (lease := await store.acquire(f"{key}:lease", ttl=8)):
            entry = await store.get(f"{key}:session")
            try:
                version = entry.version if entry else None
                await store.put(f"{key}:session", VALUE, ttl=600, version=version)
            except Conflict:
                pass
            await store.release(lease)
        run.calls += 1
        await asyncio.sleep(0.002)


async def measure(store: Store, run: Run, seconds: float) -> None:
    """Work and take the beat; what opens the file is not part of it."""
    await store.get("any")
    until = time.perf_counter() + seconds
    await asyncio.gather(beat(run, until), *(work(store, run, until) for _ in range(4)))
    await store.aclose()


def fill(path: Path, rows: int) -> None:
    """Write rows that have ended long ago."""
    asyncio.run(_create(path))
    with closing(sqlite3.connect(path)) as connection, connection:
        value = os.urandom(400)
        connection.executemany(
            "INSERT INTO entries (key, ends, version, value) VALUES (?, 1.0, ?, ?)",
            ((f"ended-{number}", number + 1, value) for number in range(rows)),
        )
        connection.executemany(
            "INSERT INTO leases (key, ends, fence, owner) VALUES (?, 1.0, ?, 'x')",
            ((f"ended-{number}", number + 1) for number in range(rows // 4)),
        )
        connection.executemany(
            "INSERT INTO members (name, member, ends) VALUES (?, 'x', 1.0)",
            ((f"ended-{number}",) for number in range(rows // 4)),
        )


async def _create(path: Path) -> None:
    store = SQLiteStore(path)
    await store.get("any")
    await store.aclose()


def ended(path: Path) -> int:
    with closing(sqlite3.connect(path, timeout=60)) as connection:
        query = "SELECT count(*) FROM entries WHERE ends = 1.0"
        (number,) = connection.execute(query).fetchone()
        return int(number)


def size_of_log(path: Path) -> int:
    log = path.with_name(f"{path.name}-wal")
    return log.stat().st_size if log.exists() else 0


def show(name: str, runs: dict[str, Run], more: str) -> None:
    for kind, run in runs.items():
        figures = [run.percentile(part) for part in (0.5, 0.99, 0.999, 1.0)]
        shown = "  ".join(f"{figure:7.2f}" for figure in figures)
        print(f"{name:8}  {kind:9}  {shown}  {run.calls:7,}  {more if kind == 'sqlite' else ''}")


def scene(name: str, script: str, number: int, *, rows: int, folder: Path, seconds: float) -> None:
    path = folder / f"{name}.db"
    fill(path, rows)
    runs = {"no store": Run(), "sqlite": Run()}
    makers: dict[str, Callable[[], Store]] = {
        "no store": MemoryStore,
        "sqlite": lambda: SQLiteStore(path),
    }
    log = 0
    with processes(script, number, path):
        for kind in [*runs] * 3:
            asyncio.run(measure(makers[kind](), runs[kind], seconds / 3))
            log = max(log, size_of_log(path))
    left = f", {ended(path):,} of {rows:,} rows left" if rows else ""
    show(name, runs, f"log of {log / 1e6:.0f} MB{left}")


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=30.0, help="of each case")
    parser.add_argument("--folder", help="where the files are; on the disk that is meant")
    given = parser.parse_args()
    print("milliseconds that the heartbeat was late")
    print(f"{'':8}  {'':9}  {'p50':>7}  {'p99':>7}  {'p99.9':>7}  {'max':>7}  {'calls':>7}")
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        for name, script, number, rows in (
            ("alone", WRITE, 0, 0),
            ("writer", WRITE, 1, 0),
            ("locked", HOLD, 1, 0),
            ("backlog", WRITE, 1, ENDED),
        ):
            scene(name, script, number, rows=rows, folder=Path(folder), seconds=given.seconds)


if __name__ == "__main__":
    main()
