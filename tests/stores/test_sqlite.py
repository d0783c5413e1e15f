"""The store in a file keeps its promises, and never holds up the event loop."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import sqlite3
import stat
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from tokenward.errors import ConfigurationError, Conflict, StoreUnavailable
from tokenward.stores import sqlite_connections, sqlite_file, sqlite_tidying
from tokenward.stores.sqlite import SQLiteStore
from tokenward.testing.clock import FrozenClock
from tokenward.testing.contracts import StoreContract

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tokenward.tokens.interfaces import Store


class TestSQLiteStore(StoreContract):
    @pytest.fixture
    async def store(self, clock: FrozenClock, tmp_path: Path) -> AsyncIterator[Store]:
        store = SQLiteStore(tmp_path / "store.db", clock=clock)
        yield store
        await store.aclose()


class TestSQLiteStoreOfTwoProcesses(StoreContract):
    """What one store writes another one sees, on the same file."""

    @pytest.fixture
    async def store(self, clock: FrozenClock, tmp_path: Path) -> AsyncIterator[Store]:
        store = _Alternating([SQLiteStore(tmp_path / "a.db", clock=clock) for _ in range(2)])
        yield store
        await store.aclose()


class _Alternating:
    """Hands every call to the next of several stores."""

    def __init__(self, stores: list[SQLiteStore]) -> None:
        self._stores = stores

    def __getattr__(self, name: str) -> object:
        self._stores.append(self._stores.pop(0))
        return getattr(self._stores[0], name)

    async def aclose(self) -> None:
        for store in self._stores:
            await store.aclose()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sessions.db"


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock()


@pytest.fixture
async def store(path: Path, clock: FrozenClock) -> AsyncIterator[SQLiteStore]:
    store = SQLiteStore(path, clock=clock)
    yield store
    await store.aclose()


def query(path: Path, statement: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        return connection.execute(statement).fetchall()


def read(path: Path) -> bytes:
    return path.read_bytes()


def size_of(path: Path) -> int:
    return path.stat().st_size


def write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


# ------------------------------------------------------------------------- the file


def test_making_a_store_touches_no_file(path: Path) -> None:
    SQLiteStore(path)
    assert not path.exists()


async def test_the_file_is_for_its_owner_alone(store: SQLiteStore, path: Path) -> None:
    await store.put("k", b"one", ttl=10, version=None)
    names = [path, path.with_name("sessions.db-wal"), path.with_name("sessions.db-shm")]
    assert [stat.S_IMODE(name.stat().st_mode) for name in names] == [0o600] * 3


async def test_closing_leaves_one_file_with_everything_in_it(
    store: SQLiteStore, path: Path, clock: FrozenClock
) -> None:
    await store.put("k", b"one", ttl=10, version=None)
    await store.delete("gone", tombstone=10)
    await store.add("i", "m", ttl=10)
    assert await store.acquire("l", ttl=10)
    await store.aclose()
    assert [name.name for name in path.parent.iterdir()] == ["sessions.db"]

    again = SQLiteStore(str(path), clock=clock)
    entry = await again.get("k")
    assert entry is not None
    assert entry.value == b"one"
    with pytest.raises(Conflict):
        await again.put("gone", b"", ttl=10, version=None)
    assert await again.members("i") == {"m"}
    assert await again.acquire("l", ttl=10) is None
    await again.aclose()


async def test_a_store_stays_with_its_file_when_the_directory_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = SQLiteStore("relative.db")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    await store.put("k", b"", ttl=10, version=None)
    await store.aclose()
    assert (tmp_path / "relative.db").exists()


async def test_versions_and_fences_go_on_after_everything_was_tidied_away(
    store: SQLiteStore, path: Path, clock: FrozenClock
) -> None:
    version = await store.put("k", b"", ttl=10, version=None)
    for _ in range(5):
        version = await store.put("k", b"", ttl=10, version=version)
    lease = await store.acquire("l", ttl=10)
    assert lease is not None
    for _ in range(5):
        await store.release(lease)
        lease = await store.acquire("l", ttl=10)
        assert lease is not None
    clock.advance(20)
    await store.delete("other", tombstone=100)
    await store.aclose()
    assert query(path, "SELECT key FROM entries") == [("other",)]
    assert query(path, "SELECT key FROM leases") == []
    assert await store.put("k", b"", ttl=10, version=None) > version
    again = await store.acquire("l", ttl=10)
    assert again is not None
    assert again.fence > lease.fence


async def test_a_version_goes_on_over_a_tombstone(store: SQLiteStore, clock: FrozenClock) -> None:
    version = None
    for _ in range(5):
        version = await store.put("k", b"", ttl=10, version=version)
    await store.delete("k", tombstone=5)
    clock.advance(5)
    assert version is not None
    assert await store.put("k", b"", ttl=10, version=None) > version


@pytest.mark.parametrize("name", ["", ":memory:", "file:a.db?mode=memory"])
def test_what_is_no_file_name_is_refused_at_once(name: str) -> None:
    with pytest.raises(ConfigurationError, match="path"):
        SQLiteStore(name)


def test_a_path_that_is_not_there_is_refused_at_once() -> None:
    with pytest.raises(ConfigurationError, match="path: must be of type str or PathLike"):
        SQLiteStore(None)  # type: ignore[arg-type]


@pytest.mark.parametrize("patience", [-1, float("nan"), float("inf"), "5", None])
def test_a_patience_that_is_no_number_of_seconds_is_refused(path: Path, patience: float) -> None:
    with pytest.raises(ConfigurationError, match="patience"):
        SQLiteStore(path, patience=patience)


async def _refusal(store: SQLiteStore) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as refused:
        await store.put("k", b"the value", ttl=10, version=None)
    assert refused.value.setting == "path"
    assert refused.value.__context__ is None
    await store.aclose()
    return refused.value


def test_a_missing_directory_stops_the_start_and_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="absent is not there"):
        SQLiteStore(tmp_path / "absent" / "a.db")


async def test_a_directory_that_went_away_is_named(tmp_path: Path) -> None:
    directory = tmp_path / "absent"
    directory.mkdir()
    store = SQLiteStore(directory / "a.db")
    directory.rmdir()
    # It was there a moment ago, so it may be back.
    with pytest.raises(StoreUnavailable, match=r"absent/a\.db cannot be opened") as refused:
        await store.get("k")
    assert os.strerror(errno.ENOENT) in str(refused.value)
    directory.mkdir()
    assert await store.get("k") is None
    await store.aclose()


@pytest.mark.parametrize("call", [1, 2, 3])
def test_a_file_that_another_process_creates_meanwhile_is_not_anothers(
    path: Path, call: int
) -> None:
    class Interrupted(sqlite3.Connection):
        calls = 0

        def execute(self, *args: Any) -> sqlite3.Cursor:
            self.calls += 1
            if self.calls == call:
                asyncio.run(create())
            return super().execute(*args)

    async def create() -> None:
        store = SQLiteStore(path)
        await store.put("k", b"v", ttl=60, version=None)
        await store.aclose()

    with closing(sqlite3.connect(path, factory=Interrupted)) as connection:
        assert sqlite_connections._check_format(connection, path) in {True, False}
        while connection.calls <= call:
            connection.execute("SELECT 1")
        assert sqlite_connections._check_format(connection, path)


async def test_a_directory_is_no_file(tmp_path: Path) -> None:
    assert "is no file" in str(await _refusal(SQLiteStore(tmp_path)))


@pytest.mark.parametrize("content", [b"x" * 5000, b"SQLite", b"SQLite format 3\0" + b"x" * 5000])
async def test_a_file_that_is_no_database_is_refused_and_left_alone(
    path: Path, content: bytes
) -> None:
    write(path, content)
    assert "no SQLite database" in str(await _refusal(SQLiteStore(path)))
    assert read(path) == content


async def test_the_database_of_another_program_is_refused_and_left_alone(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE theirs (a)")
    before = read(path)
    assert "another program" in str(await _refusal(SQLiteStore(path)))
    assert read(path) == before


async def test_a_newer_format_is_refused_and_left_alone(store: SQLiteStore, path: Path) -> None:
    await store.put("k", b"", ttl=10, version=None)
    await store.aclose()
    query(path, "PRAGMA user_version = 2")
    refusal = await _refusal(SQLiteStore(path))
    assert "newer release (format 2, this one knows 1)" in str(refusal)
    assert query(path, "SELECT key FROM entries") == [("k",)]


async def test_a_file_that_cannot_be_written_to_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(path, b"")
    monkeypatch.setattr("os.access", lambda name, _: name != path)  # tests may run as root
    assert "owner and mode" in str(await _refusal(SQLiteStore(path)))


async def test_a_place_without_shared_memory_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = sqlite3.connect
    monkeypatch.setattr("sqlite3.connect", lambda _path, **options: connect(":memory:", **options))
    assert "local disk" in str(await _refusal(SQLiteStore(path)))


def wait_for_tidying(store: SQLiteStore) -> None:
    store._file._tidier.submit(int).result()


def set_on_every_connection(store: SQLiteStore, pragma: str) -> None:
    wait_for_tidying(store)
    for connection in store._file._connections._idle:
        connection.execute(f"PRAGMA {pragma}")


async def test_a_full_disk_is_unavailable_and_heals(store: SQLiteStore, path: Path) -> None:
    await store.put("k", b"one", ttl=60, version=None)
    set_on_every_connection(store, "max_page_count = 1")
    connections = len(store._file._connections._idle)
    with pytest.raises(StoreUnavailable, match="the disk is full; make room") as refused:
        await store.put("l", b"x" * 50_000, ttl=60, version=None)
    assert refused.value.__context__ is None
    # What failed is not used again.
    assert len(store._file._connections._idle) < connections
    await store.aclose()
    await store.put("l", b"two", ttl=60, version=None)
    assert [entry is not None for entry in await store.get_many("k", "l")] == [True, True]


async def test_a_disk_that_became_read_only_is_unavailable(store: SQLiteStore) -> None:
    await store.put("k", b"one", ttl=60, version=None)
    set_on_every_connection(store, "query_only = 1")
    with pytest.raises(StoreUnavailable, match="cannot be written to any more"):
        await store.touch("k", ttl=60)
    assert await store.get("k") is not None


async def test_a_damaged_file_is_unavailable(store: SQLiteStore, path: Path) -> None:
    version = await store.put("k", b"one", ttl=60, version=None)
    await store.aclose()
    damaged = bytearray(read(path))
    damaged[4096:] = b"\xff" * (len(damaged) - 4096)
    write(path, damaged)
    with pytest.raises(StoreUnavailable, match="is damaged"):
        await store.put("k", b"two", ttl=60, version=version)


async def test_a_failure_shows_no_value(store: SQLiteStore) -> None:
    with pytest.raises(StoreUnavailable) as refused:
        await store.put("k", b"hidden" * 4, ttl=float("nan"), version=None)
    assert "hidden" not in str(refused.value)
    assert refused.value.__context__ is None
    assert await store.get("k") is None


# ------------------------------------------------------------------- the event loop


class Writer:
    """Another process that is writing, as far as SQLite can tell."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)

    def begin(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")

    def end(self) -> None:
        self._connection.execute("ROLLBACK")


@pytest.fixture
async def writer(store: SQLiteStore, path: Path) -> AsyncIterator[Writer]:
    await store.put("k", b"one", ttl=60, version=None)
    writer = Writer(path)
    yield writer
    writer._connection.close()


def write_calls(store: SQLiteStore) -> list[asyncio.Task[object]]:
    calls = [
        store.put("new", b"", ttl=60, version=None),
        store.touch("k", ttl=60),
        store.delete("k"),
        store.acquire("l", ttl=60),
        store.add("i", "m", ttl=60),
        store.discard("i", "n"),
    ]
    return [asyncio.ensure_future(call) for call in calls]


async def test_while_another_process_writes_the_event_loop_goes_on(
    store: SQLiteStore, writer: Writer
) -> None:
    # The lock is given back by this very loop. A call that waited on the loop would wait
    # for itself.
    writer.begin()
    calls = write_calls(store)
    for _ in range(50):
        await asyncio.sleep(0)
    assert not any(call.done() for call in calls)
    entry = await store.get("k")  # readers do not wait for writers
    assert entry is not None
    writer.end()
    await asyncio.gather(*calls)
    assert await store.get_many("k") == (None,)


async def test_only_other_threads_wait(
    store: SQLiteStore, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[int] = []
    sleep, waiting = time.sleep, threading.Event()

    def watched(seconds: float) -> None:
        waited.append(threading.get_ident())
        if len(waited) >= 5:
            waiting.set()
        sleep(seconds)

    monkeypatch.setattr("time.sleep", watched)
    writer.begin()
    call = asyncio.ensure_future(store.touch("k", ttl=60))
    assert await asyncio.to_thread(waiting.wait, 60)
    writer.end()
    await call
    assert threading.get_ident() not in waited


async def test_connections_of_the_loop_wait_for_nobody_and_sync_nothing(
    store: SQLiteStore, writer: Writer
) -> None:
    settings = ("busy_timeout", "wal_autocheckpoint", "synchronous", "journal_mode")
    connection = store._file._connections._idle[0]
    values = [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in settings]
    assert values == [0, 0, 1, "wal"]


async def test_what_takes_long_is_done_by_a_thread(
    store: SQLiteStore, clock: FrozenClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.put("k", b"", ttl=60, version=None)  # opened
    threads: set[int] = set()
    real = sqlite_file.SQLiteFile._attempt

    def watched(self: sqlite_file.SQLiteFile, connection: object, *work: object) -> object:
        threads.add(threading.get_ident())
        return real(self, connection, *work)  # type: ignore[arg-type]

    def tidying(self: sqlite_file.SQLiteFile, now: float) -> None:
        threads.add(threading.get_ident())

    monkeypatch.setattr(sqlite_file.SQLiteFile, "_attempt", watched)
    monkeypatch.setattr(sqlite_file.SQLiteFile, "_tidy", tidying)
    keys = [str(number) for number in range(100)]
    here = threading.get_ident()
    for call, is_long in [
        (store.get("k"), False),
        (store.get_many(*keys[:50]), False),
        (store.get_many(*keys), True),
        (store.put("small", b"x" * 10_000, ttl=60, version=None), False),
        (store.put("large", b"x" * 100_000, ttl=60, version=None), True),
        (store.touch(*keys[:50], ttl=60), False),
        (store.touch(*keys, ttl=60), True),
    ]:
        await call
        assert (here in threads) is not is_long
        threads.clear()
    clock.advance(60)
    await store.discard("i", "m")
    threads.discard(here)
    await store.aclose()
    assert threads
    assert here not in threads  # tidying


async def test_readers_do_not_stand_behind_writers_that_wait(
    store: SQLiteStore, writer: Writer
) -> None:
    writer.begin()
    calls = write_calls(store)
    await asyncio.sleep(0)
    connections = store._file._connections
    taken = []  # by other loops
    while connection := connections.take():
        taken.append(connection)
    assert await store.get("k") is not None
    for connection in taken:
        connections.give(connection, is_sound=True)
    writer.end()
    await asyncio.gather(*calls)


async def test_opening_is_done_by_a_thread(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[int] = []
    connect = sqlite_connections._connect

    def watched(path: Path) -> sqlite3.Connection:
        threads.append(threading.get_ident())
        return connect(path)

    monkeypatch.setattr(sqlite_connections, "_connect", watched)
    store = SQLiteStore(path)
    await asyncio.gather(*(store.get("k") for _ in range(50)))
    await store.aclose()
    assert 1 <= len(threads) <= 2
    assert threading.get_ident() not in threads


async def test_patience_ends(path: Path, store: SQLiteStore, writer: Writer) -> None:
    hasty = SQLiteStore(path, patience=0.02)
    wait_for_tidying(store)  # it would hold the lock, too
    writer.begin()
    with pytest.raises(StoreUnavailable, match=r"locked for more than 0\.02 seconds") as refused:
        await hasty.put("new", b"", ttl=60, version=None)
    assert refused.value.__context__ is None
    writer.end()
    await hasty.put("new", b"", ttl=60, version=None)
    await hasty.aclose()


async def test_a_cancelled_call_leaves_a_store_that_works(
    store: SQLiteStore, writer: Writer
) -> None:
    writer.begin()
    calls = write_calls(store)
    await asyncio.sleep(0)
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    writer.end()
    await store.put("next", b"", ttl=60, version=None)
    assert await store.get("next") is not None


async def test_an_error_inside_a_transaction_gives_the_lock_back(
    store: SQLiteStore, path: Path
) -> None:
    for _ in range(3):
        with pytest.raises(UnicodeEncodeError):
            await store.put("k", "no bytes\udcff", ttl=60, version=None)  # type: ignore[arg-type]
    other = SQLiteStore(path, patience=0.0)
    with pytest.raises(Conflict):
        await other.put("k", b"", ttl=60, version=1)
    await other.aclose()


# --------------------------------------------------------------------------- tidying


async def test_what_has_ended_is_deleted_some_seconds_of_writing_later(
    store: SQLiteStore, path: Path, clock: FrozenClock
) -> None:
    for number in range(700):
        await store.put(f"short{number}", b"", ttl=5, version=None)
    await store.put("long", b"", ttl=60, version=None)
    await store.delete("tombstone", tombstone=5)
    await store.add("i", "m", ttl=5)
    await store.acquire("l", ttl=5)
    clock.advance(5)
    await store.touch("long", ttl=60)
    await store.aclose()
    assert query(path, "SELECT key FROM entries") == [("long",)]
    assert query(path, "SELECT * FROM members") == query(path, "SELECT * FROM leases") == []


async def test_tidying_goes_round_whatever_the_row_numbers_are(
    store: SQLiteStore, path: Path, clock: FrozenClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_tidying, "_BATCH", 2)
    monkeypatch.setattr(sqlite_tidying, "_BATCHES", 3)
    for number in range(40):
        await store.put(f"{number}", b"", ttl=10 if number % 9 else 10_000, version=None)
    wait_for_tidying(store)
    query(path, "UPDATE entries SET rowid = rowid + 1000000 WHERE rowid > 30")
    for _ in range(10):
        clock.advance(10)
        await store.add("i", "m", ttl=1)
        wait_for_tidying(store)
    await store.aclose()
    assert query(path, "SELECT key FROM entries ORDER BY rowid") == [
        ("0",), ("9",), ("18",), ("27",), ("36",)
    ]  # fmt: skip


async def test_tidying_is_not_done_at_every_write(
    store: SQLiteStore, clock: FrozenClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds: list[float] = []
    monkeypatch.setattr(sqlite_file.SQLiteFile, "_tidy", lambda _, now: rounds.append(now))
    start = clock()
    for _ in range(20):
        await store.add("i", "m", ttl=1)
        clock.advance(1)
    await store.aclose()
    assert rounds == [start, start + 5, start + 10, start + 15]


async def test_tidying_leaves_few_connections_open(store: SQLiteStore, clock: FrozenClock) -> None:
    for _ in range(20):
        await store.add("i", "m", ttl=1)
        clock.advance(10)
    connections = store._file._connections
    store._file._tidier.shutdown()
    assert len(connections._idle) <= 4
    assert not connections._in_use


async def test_many_writes_are_tidied_even_when_time_stands_still(
    store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds: list[float] = []
    monkeypatch.setattr(sqlite_file.SQLiteFile, "_tidy", lambda _, now: rounds.append(now))
    monkeypatch.setattr(sqlite_file, "_TIDY_WRITES", 10)
    for _ in range(31):
        await store.add("i", "m", ttl=1)
    await store.aclose()
    assert len(rounds) == 4


async def test_a_log_that_grew_long_is_cut(
    store: SQLiteStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_file, "_TIDY_WRITES", 1)
    sizes = []
    for limit in (1_000_000, 0):
        monkeypatch.setattr(sqlite_tidying, "_LONG_LOG", limit)
        for _ in range(2):
            await store.add("i", "m", ttl=1)
            wait_for_tidying(store)
        sizes.append(size_of(path.with_name("sessions.db-wal")))
    assert sizes[0] > sizes[1]
    assert sizes[1] < 10_000, "its first pages"


async def test_nothing_is_tidied_once_the_file_is_closed(
    store: SQLiteStore, clock: FrozenClock
) -> None:
    await store.add("i", "m", ttl=1)
    file = store._file
    await store.aclose()
    file._tidy_when_due(clock() + 100)


async def test_tidying_that_fails_fails_no_write(
    store: SQLiteStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> int:
        raise sqlite3.OperationalError("no")

    monkeypatch.setattr(sqlite_tidying, "_forget", broken)
    with caplog.at_level(logging.WARNING):
        await store.put("k", b"", ttl=60, version=None)
        await store.aclose()
    assert "could not be deleted" in caplog.text
    assert await store.get("k") is not None


# ------------------------------------------------------------------ loops and threads


@pytest.mark.case(175)
def test_event_loops_of_several_threads_share_a_store(path: Path) -> None:
    store = SQLiteStore(path)

    async def count_up(times: int) -> None:
        while times:
            entry = await store.get("k")
            try:
                if entry is None:
                    await store.put("k", b"1", ttl=60, version=None)
                else:
                    value = str(int(entry.value) + 1).encode()
                    await store.put("k", value, ttl=60, version=entry.version)
            except Conflict:
                continue
            times -= 1

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: asyncio.run(count_up(25)), range(4)))
    assert len(store._file._connections._idle) <= 6

    async def finish() -> bytes | None:
        entry = await store.get("k")
        await store.aclose()
        return entry and entry.value

    assert asyncio.run(finish()) == b"100"


@pytest.mark.case(175)
@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
async def test_another_process_number_means_new_connections(
    store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.put("k", b"one", ttl=60, version=None)
    parents = store._file
    parents._tidier.shutdown()  # tidied
    connections = list(parents._connections._idle)
    monkeypatch.setattr("os.getpid", lambda: -1)
    assert await store.get("k") is not None
    assert store._file is not parents
    assert not set(connections) & set(store._file._connections._idle)
    await store.aclose()
    assert parents._connections._idle == connections
    for connection in connections:
        assert connection.execute("SELECT 1").fetchone() == (1,)  # neither used nor closed
    parents.close()


# ------------------------------------------------------ what happens to a file in use


def log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def beginning_of_log(path: Path) -> bytes:
    """Return what is written, and synced, when the log is begun anew."""
    return read(log_of(path))[:32]


async def test_no_write_of_the_event_loop_begins_the_log_anew(
    store: SQLiteStore, path: Path, clock: FrozenClock
) -> None:
    """It would wait for the disk: SQLite syncs the beginning of a log at once."""
    begun = set()
    for number in range(4):
        await store.put(f"k{number}", b"x" * 10_000, ttl=60, version=None)
        wait_for_tidying(store)
        before = beginning_of_log(path)
        await store.put(f"l{number}", b"", ttl=60, version=None)
        assert beginning_of_log(path) == before
        begun.add(before)
        clock.advance(6)
    assert len(begun) == 4, "each round of tidying began it anew"


async def test_the_log_is_copied_though_nothing_can_be_deleted(
    store: SQLiteStore, path: Path, clock: FrozenClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While others write all the time the lock may not be had, and the log would only grow."""
    monkeypatch.setattr(sqlite_file, "PATIENCE", 0)
    await store.put("k", b"ended", ttl=1, version=None)
    wait_for_tidying(store)
    await store.put("l", b"in the log", ttl=60, version=None)
    clock.advance(6)
    assert b"in the log" not in read(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        store._file._tidy_when_due(clock())
        wait_for_tidying(store)
        assert b"in the log" in read(path)
    assert query(path, "SELECT count(*) FROM entries WHERE key = 'k'") == [(1,)]


@pytest.mark.parametrize("table", ["entries", "leases", "members"])
async def test_many_that_have_ended_are_deleted_in_small_steps(
    store: SQLiteStore, path: Path, clock: FrozenClock, table: str
) -> None:
    await store.discard("i", "m")  # opened, and tidied
    wait_for_tidying(store)
    rows = {
        "entries": "'k' || n, 1.0, n, x'00'",
        "leases": "'k' || n, 1.0, n, 'o'",
        "members": "'k' || n, 'm', 1.0",
    }
    numbers = "WITH RECURSIVE some(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM some LIMIT 2000)"
    query(path, f"INSERT INTO {table} {numbers} SELECT {rows[table]} FROM some")
    changes: list[int] = []
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        tidying, before = sqlite_tidying.Tidying(), connection.total_changes

        def committed(statement: str) -> None:
            if statement == "COMMIT":
                changes.append(connection.total_changes - before - sum(changes))

        connection.set_trace_callback(committed)
        tidying.forget(connection, clock())
    assert query(path, f"SELECT count(*) FROM {table}") == [(0,)]
    assert len(changes) >= 2000 / 300
    assert max(changes) <= 301


async def test_a_file_that_was_removed_is_left_at_the_next_write(
    store: SQLiteStore, path: Path, clock: FrozenClock
) -> None:
    """Nobody else sees what is written to it: two processes would hold the same lease."""
    other = SQLiteStore(path, clock=clock)
    await store.put("k", b"old", ttl=60, version=None)
    await other.get("k")
    for name in path.parent.iterdir():
        name.unlink()
    assert await store.acquire("lease", ttl=10) is not None
    assert await other.acquire("lease", ttl=10) is None, "it is the same file for both"
    assert await store.get("k") is None
    await store.put("k", b"new", ttl=60, version=None)
    entry = await other.get("k")
    assert entry is not None
    assert entry.value == b"new"
    assert not store._file._connections._outdated
    await other.aclose()


async def test_a_file_that_was_put_in_its_place_is_used(
    store: SQLiteStore, path: Path, clock: FrozenClock
) -> None:
    await store.put("k", b"old", ttl=60, version=None)
    backup = SQLiteStore(path.with_name("backup.db"), clock=clock)
    await backup.put("k", b"restored", ttl=60, version=None)
    await backup.aclose()
    for name in path.parent.glob("sessions.db*"):
        name.unlink()
    path.with_name("backup.db").rename(path)
    await store.touch("k", ttl=60)
    entry = await store.get("k")
    assert entry is not None
    assert entry.value == b"restored"


async def test_a_directory_that_is_gone_for_a_while_is_unavailable_and_heals(
    tmp_path: Path, clock: FrozenClock
) -> None:
    directory = tmp_path / "mounted"
    directory.mkdir()
    store = SQLiteStore(directory / "sessions.db", clock=clock)
    await store.put("k", b"one", ttl=60, version=None)
    await asyncio.to_thread(store._file._tidier.shutdown)
    directory.rename(tmp_path / "away")
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="cannot be opened") as refused:
            await store.touch("k", ttl=60)
        assert refused.value.__context__ is None
    (tmp_path / "away").rename(directory)
    await store.put("l", b"two", ttl=60, version=None)
    assert [entry is not None for entry in await store.get_many("k", "l")] == [True, True]
    await store.aclose()


async def test_a_file_that_becomes_read_only_is_unavailable_and_heals(
    store: SQLiteStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.put("k", b"one", ttl=60, version=None)
    await store.aclose()
    await store.get("k")
    set_on_every_connection(store, "query_only = 1")
    with monkeypatch.context() as patch:
        patch.setattr("os.access", lambda name, _: name != path)  # tests may run as root
        for _ in range(2):
            with pytest.raises(StoreUnavailable, match="cannot be written to"):
                await store.touch("k", ttl=60)
    await store.touch("k", ttl=60)
    assert await store.get("k") is not None


async def test_a_newer_file_in_its_place_is_unavailable_to_what_is_running(
    store: SQLiteStore, path: Path
) -> None:
    """While a release is rolled out: who starts is told, and who runs loses nobody's session."""
    await store.put("k", b"one", ttl=60, version=None)
    wait_for_tidying(store)
    connections = store._file._connections
    query(path, "PRAGMA user_version = 2")
    connections.before_fork()
    connections.after_fork()
    with pytest.raises(StoreUnavailable, match="newer release"):
        await store.get("k")
    query(path, "PRAGMA user_version = 1")
    assert await store.get("k") is not None


def test_a_close_by_another_event_loop_fails_nobody(tmp_path):
    store = SQLiteStore(tmp_path / "sessions.db")

    async def use():
        file = store._file
        helper = file._helper
        # Just between the choice of the file and its use.
        real = helper.submit

        def submit(*args):
            helper.submit = real
            closing = threading.Thread(target=asyncio.run, args=(store.aclose(),))
            closing.start()
            closing.join()
            return real(*args)

        helper.submit = submit
        assert await store.get("k") is None
        await store.aclose()

    asyncio.run(use())
