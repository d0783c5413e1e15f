"""One file under several real processes: nothing is lost, and nothing is had twice."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import pytest

from tokenward.stores.sqlite import SQLiteStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

PRELUDE = """
import asyncio, os, signal, sys
from pathlib import Path
from tokenward.errors import Conflict
from tokenward.stores.sqlite import SQLiteStore

store = SQLiteStore(sys.argv[1], patience=60.0)


def tell(word):
    print(word, flush=True)


async def count_up(key, times):
    while times:
        entry = await store.get(key)
        try:
            if entry is None:
                await store.put(key, b"1", ttl=600, version=None)
            else:
                value = str(int(entry.value) + 1).encode()
                await store.put(key, value, ttl=600, version=entry.version)
        except Conflict:
            continue
        times -= 1
"""

COUNT = """
async def main():
    await asyncio.gather(*(count_up(f"k{n % 3}", 20) for n in range(6)))
    await store.aclose()

asyncio.run(main())
"""

# The number in the plain file is safe only if nobody else is between reading and writing.
TAKE_TURNS = """
async def main():
    number = Path(sys.argv[2])
    fences = []
    while len(fences) < 15:
        lease = await store.acquire("turn", ttl=600)
        if lease is None:
            await asyncio.sleep(0)
            continue
        count = int(number.read_text())
        await asyncio.sleep(0)
        number.write_text(str(count + 1))
        fences.append(lease.fence)
        await store.release(lease)
    assert fences == sorted(set(fences)), fences
    await store.aclose()

asyncio.run(main())
"""

HOLD_AND_DIE = """
async def main():
    await store.put("k", b"written", ttl=600, version=None)
    lease = await store.acquire("l", ttl=30)
    tell(lease.fence)
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""

DIE_WHILE_WRITING = """
async def main():
    await count_up("k", 5)
    connection = store._file._connections._idle[0]
    connection.execute("PRAGMA busy_timeout = 10000")
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("UPDATE entries SET value = 'half'")
    tell("writing")
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""

WRITE_UNTIL_KILLED = """
async def main():
    tell("ready")
    for number in range(10**9):
        await count_up("k", 1)
        await store.delete(f"t{number}", tombstone=60)
        await store.acquire(f"l{number}", ttl=60)
        await store.add("i", str(number), ttl=60)

asyncio.run(main())
"""

FORK = """
def work(name):
    async def main():
        await asyncio.gather(*(count_up("k", 20) for _ in range(2)))
        assert await store.acquire("held", ttl=60) is None
        await store.aclose()
        entry = await store.get("k")
        assert entry is not None
        await store.aclose()
    asyncio.run(main())

async def load():
    await count_up("k", 1)
    assert await store.acquire("held", ttl=60) is not None

asyncio.run(load())
parents = store._file
children = []
for number in range(3):
    child = os.fork()
    if not child:
        assert not parents._connections._idle  # SQLite would mistake their locks for its own
        work(f"child {number}")
        assert store._file is not parents
        assert store._inherited == [parents]
        os._exit(0)
    children.append(child)
work("parent")
assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
"""

HOLD_THE_LOCK = """
import sqlite3
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
tell("locked")
sys.stdin.readline()
connection.execute("ROLLBACK")
"""


@contextmanager
def process(script: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", PRELUDE + script, *map(str, arguments)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as started:
        try:
            yield started
        finally:
            started.kill()


def run_together(script: str, count: int, *arguments: object) -> None:
    command = [sys.executable, "-c", PRELUDE + script, *map(str, arguments)]
    started = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(count)]
    errors = [one.communicate()[1] for one in started]
    assert [one.returncode for one in started] == [0] * count, "\n".join(errors)


def next_line(started: subprocess.Popen[str]) -> str:
    assert started.stdout is not None
    line = started.stdout.readline().strip()
    if not line:
        assert started.stderr is not None
        pytest.fail(started.stderr.read())
    return line


def rows(path: Path, statement: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(statement).fetchall()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sessions.db"


class Now:
    """The clock of this machine, and what a test adds to it."""

    later = 0.0

    def __call__(self) -> float:
        return time.time() + self.later


@pytest.fixture
def now() -> Now:
    return Now()


@pytest.fixture
async def store(path: Path, now: Now) -> AsyncIterator[SQLiteStore]:
    store = SQLiteStore(path, clock=now, patience=30.0)
    yield store
    await store.aclose()


async def value_of(store: SQLiteStore, key: str) -> bytes | None:
    entry = await store.get(key)
    return entry and entry.value


async def test_no_write_of_any_process_is_lost(store: SQLiteStore, path: Path) -> None:
    run_together(COUNT, 3, path)
    assert [await value_of(store, f"k{n}") for n in range(3)] == [b"120"] * 3


async def test_a_lease_has_one_holder_among_all_processes(path: Path, tmp_path: Path) -> None:
    number = tmp_path / "number"
    write_text(number, "0")
    run_together(TAKE_TURNS, 3, path, number)
    assert read_text(number) == "45"


def write_text(path: Path, text: str) -> None:
    path.write_text(text)


def read_text(path: Path) -> str:
    return path.read_text()


async def test_the_lease_of_a_killed_process_runs_out(
    store: SQLiteStore, path: Path, now: Now
) -> None:
    with process(HOLD_AND_DIE, path) as holder:
        fence = int(next_line(holder))
        assert holder.wait() == -signal.SIGKILL
    assert await value_of(store, "k") == b"written"
    assert await store.acquire("l", ttl=30) is None
    now.later += 31
    lease = await store.acquire("l", ttl=30)
    assert lease is not None
    assert lease.fence > fence


async def test_what_a_killed_process_had_half_written_is_not_there(
    store: SQLiteStore, path: Path
) -> None:
    with process(DIE_WHILE_WRITING, path) as writer:
        assert next_line(writer) == "writing"
        assert writer.wait() == -signal.SIGKILL
    assert await value_of(store, "k") == b"5"
    entry = await store.get("k")
    assert entry is not None
    await store.put("k", b"6", ttl=60, version=entry.version)


@pytest.mark.case(266)
async def test_after_crashes_the_file_is_whole_and_everything_in_it_has_an_end(
    store: SQLiteStore, path: Path, now: Now
) -> None:
    seen = 0
    for _ in range(3):
        with process(WRITE_UNTIL_KILLED, path) as writer:
            next_line(writer)
            while int(await value_of(store, "k") or b"0") < seen + 10:
                pass
            writer.kill()
            writer.wait()
        seen = int(await value_of(store, "k") or b"0")
    assert rows(path, "PRAGMA integrity_check") == [("ok",)]
    limit = now() + 700
    for table in ("entries", "leases", "members"):
        assert rows(path, f"SELECT count(*) > 0, max(ends) < {limit} FROM {table}") == [(1, 1)]
    now.later += 700
    for _ in range(20):
        await store.discard("i", "none")
        now.later += 10
    await store.aclose()
    for table in ("entries", "leases", "members"):
        assert rows(path, f"SELECT count(*) FROM {table}") == [(0,)]


@pytest.mark.case(175)
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
async def test_a_store_that_was_used_before_a_fork_works_in_every_process(
    store: SQLiteStore, path: Path
) -> None:
    with process(FORK, path) as parent:
        _, errors = parent.communicate()
        assert parent.returncode == 0, errors
    assert await value_of(store, "k") == b"161"


async def test_while_another_process_holds_the_lock_the_event_loop_goes_on(
    store: SQLiteStore, path: Path
) -> None:
    await store.put("k", b"one", ttl=60, version=None)
    with process(HOLD_THE_LOCK, path) as holder:
        next_line(holder)
        # The other process goes on only when this loop tells it to, after the call began.

        call = asyncio.ensure_future(store.put("new", b"two", ttl=60, version=None))
        for _ in range(20):
            await asyncio.sleep(0)
        assert not call.done()
        assert await value_of(store, "k") == b"one"
        assert holder.stdin is not None
        holder.stdin.write("go on\n")
        holder.stdin.flush()
        await call
        holder.communicate()
    assert await value_of(store, "new") == b"two"


async def test_processes_that_start_together_make_one_file(store: SQLiteStore, path: Path) -> None:
    run_together("asyncio.run(count_up('k', 1))", 4, path)
    assert await value_of(store, "k") == b"4"
