"""The store on a server keeps its promises, over the wire and against the odds."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing, suppress
from typing import TYPE_CHECKING

import pytest
from redis.asyncio import Redis, RedisCluster, Sentinel
from redis.crc import key_slot

from redis_server import RedisServer, TimedStore
from tokenward.errors import ConfigurationError, Conflict, StoreUnavailable
from tokenward.stores.redis import RedisStore
from tokenward.testing.clock import FrozenClock
from tokenward.testing.contracts import StoreContract

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from pathlib import Path

    from tokenward.clock import Clock
    from tokenward.tokens.interfaces import Store

KEY = "5e55" * 16
"""A session's key, as `session_key` makes it."""


class TestRedisStore(StoreContract):
    @pytest.fixture
    async def store(
        self, clock: FrozenClock, redis_store: Callable[[Clock], TimedStore]
    ) -> AsyncIterator[Store]:
        store = redis_store(clock)
        yield store
        await store.aclose()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A cluster of one node, which has all slots."""
    server = RedisServer(
        tmp_path_factory.mktemp("cluster"), "--cluster-enabled", "yes", "--save", ""
    )
    with closing(server.client()) as client:
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        while b"cluster_state:ok" not in client.execute_command("CLUSTER", "INFO"):
            pass
    yield server
    server.kill()


class TestRedisStoreOnACluster(StoreContract):
    """A cluster refuses what reaches into two slots at once."""

    @pytest.fixture
    async def store(self, clock: FrozenClock, cluster: RedisServer) -> AsyncIterator[Store]:
        store = TimedStore(
            cluster.url,
            clock,
            make=lambda: RedisCluster(host="127.0.0.1", port=cluster.port, protocol=2),
        )
        yield store
        await store.aclose()
        store.forget()


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(AttributeError("'NoneType' object has no attribute 'writelines'"), id="gone"),
        pytest.param(RuntimeError("the handler is closed"), id="uvloop"),
    ],
)
async def test_a_connection_that_redis_py_closes_under_a_call_is_an_outage(
    cluster: RedisServer, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise error

    client = RedisCluster(host="127.0.0.1", port=cluster.port, protocol=2)
    monkeypatch.setattr(client, "execute_command", fail)
    store = RedisStore(client)
    with pytest.raises(StoreUnavailable, match="closed") as caught:
        await store.get("k")
    assert caught.value.__context__ is None
    await client.aclose()


@pytest.fixture(scope="module")
def redis_itself(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis, where `redis_url` is most often a Valkey."""
    binary = shutil.which("redis-server")
    if binary is None:
        pytest.skip("there is no redis-server")
    server = RedisServer(tmp_path_factory.mktemp("redis-itself"), binary=binary)
    with closing(server.client()) as client:
        version = client.info("server")["redis_version"]
    assert int(version.split(".")[0]) >= 7
    yield server
    server.kill()


class TestRedisStoreOnRedis(StoreContract):
    """Nothing that Redis does not have is asked for; 7.0, where the machine has Debian 12's."""

    @pytest.fixture
    async def store(self, clock: FrozenClock, redis_itself: RedisServer) -> AsyncIterator[Store]:
        store = TimedStore(redis_itself.url, clock)
        yield store
        await store.aclose()
        store.forget()


@pytest.fixture
async def store(redis_store: Callable[[Clock], TimedStore]) -> AsyncIterator[TimedStore]:
    store = redis_store(FrozenClock())
    yield store
    await store.aclose()


@asynccontextmanager
async def store_on(url: str, *, patience: float = 20.0) -> AsyncIterator[RedisStore]:
    store = RedisStore.from_url(url, timeout=patience)
    try:
        yield store
    finally:
        await store.aclose()


async def value_of(store: Store, key: str) -> bytes | None:
    entry = await store.get(key)
    return entry and entry.value


async def until(is_so: Callable[[], object]) -> None:
    """Wait for what a server does by itself."""
    while not is_so():  # noqa: ASYNC110 - there is nothing to be told by
        await asyncio.sleep(0.005)


# ------------------------------------------------------------------- what it writes


async def write_everything(store: Store, key: str) -> None:
    await store.put(f"{key}:session", b"one", ttl=60, version=None)
    await store.put(f"{key}:data", b"two", ttl=60, version=None)
    await store.touch(f"{key}:session", f"{key}:data", ttl=30)
    await store.delete(f"{key}:other", tombstone=60)
    assert await store.acquire(f"{key}:lease", ttl=8)
    await store.add(f"{key}:index", "member", ttl=60)


@pytest.mark.case(265)
@pytest.mark.parametrize(
    "key",
    [
        pytest.param(KEY, id="hash"),
        pytest.param("", id="empty"),
        pytest.param("{}", id="braces"),
        pytest.param("a}b", id="closing"),
        pytest.param("é", id="not ASCII"),
        pytest.param("k" * 5000, id="long"),
    ],
)
async def test_all_parts_of_a_session_are_in_one_slot(store: TimedStore, key: str) -> None:
    await write_everything(store, key)
    assert len(store.names()) == 5
    assert len({key_slot(name) for name in store.names()}) == 1


async def test_sessions_are_spread_over_the_slots(store: TimedStore) -> None:
    for number in range(50):
        await store.put(f"{number:064x}:session", b"", ttl=60, version=None)
    assert len({key_slot(name) for name in store.names()}) > 40


@pytest.mark.case(266)
@pytest.mark.case(307)
async def test_every_key_on_the_server_has_an_end_and_a_name_that_tells_nothing(
    store: TimedStore,
) -> None:
    await write_everything(store, KEY)
    for name in store.names():
        assert 0 < store.client.pttl(name) <= 60_000
        assert re.fullmatch(rf"{store.prefix}[a-z]+:\{{{KEY}\}}:[a-z]+", name.decode())


async def test_times_are_bounded_and_never_nothing(store: TimedStore) -> None:
    for number, ttl in enumerate([float("inf"), 1e300, 0.0, -5.0, 1e-9]):
        await store.put(f"{number}", b"", ttl=ttl, version=None)
        await store.acquire(f"{number}", ttl=ttl)
        await store.add(f"{number}", "m", ttl=ttl)
    assert all(store.client.pttl(name) != -1 for name in store.names())


async def test_the_server_ends_what_has_an_end(store: TimedStore) -> None:
    await store.put("k", b"", ttl=0.05, version=None)
    lease = await store.acquire("k", ttl=0.05)
    await store.add("k", "m", ttl=0.05)
    assert lease is not None
    ending = [f"{store.prefix}{kind}:{{k}}" for kind in ("value", "lease", "set")]
    await until(lambda: not store.client.exists(*ending))
    assert await store.get("k") is None
    assert not await store.renew(lease, ttl=10)
    assert await store.members("k") == frozenset()


async def test_versions_grow_also_when_the_clock_of_the_server_is_set_back(
    store: TimedStore,
) -> None:
    await store.put("k", b"one", ttl=60, version=None)
    (name,) = store.names()
    ahead = 5_000_000_000_000_000
    store.client.set(name, b"%016d" % ahead + b"0" * 16 + b"two", px=60_000)
    assert await store.put("k", b"three", ttl=60, version=ahead) == ahead + 1


async def test_a_set_holds_no_more_than_is_alive(store: TimedStore) -> None:
    for number in range(100):
        await store.add("i", str(number), ttl=10)
        store._clock.advance(1)
    (name,) = store.names()
    assert store.client.zcard(name) <= 11


async def test_a_member_of_short_life_takes_nothing_from_one_of_long_life(
    store: TimedStore,
) -> None:
    await store.add("i", "long", ttl=100)
    await store.add("i", "short", ttl=1)
    store._clock.advance(50)
    assert await store.members("i") == {"long"}


async def test_a_set_is_gone_when_its_last_member_is(store: TimedStore) -> None:
    await store.add("i", "long", ttl=100)
    await store.add("i", "short", ttl=1)
    await store.discard("i", "long")
    assert len(store.names()) == 1
    store._clock.advance(101)
    assert store.names() == []


async def test_scripts_that_the_server_forgot_are_sent_again(store: TimedStore) -> None:
    version = await store.put("k", b"one", ttl=60, version=None)
    store.client.script_flush()
    version = await store.put("k", b"two", ttl=60, version=version)
    store.client.script_flush()
    assert await store.delete("k", version=version)
    assert store.client.info("stats")["total_error_replies"] >= 2


async def test_scripts_are_sent_once(own_redis: Callable[..., RedisServer]) -> None:
    server = own_redis()
    with closing(server.client()) as client:
        async with store_on(server.url) as store:
            for key in ("a", "b", "c"):
                await store.put(key, b"", ttl=60, version=None)
            calls = client.info("commandstats")
    assert calls["cmdstat_eval"]["calls"] == 1
    # Once before the server knew it.
    assert calls["cmdstat_evalsha"]["calls"] == 3


async def test_nothing_newer_than_redis_7_is_asked(own_redis: Callable[..., RedisServer]) -> None:
    server = own_redis()
    with closing(server.client()) as client:
        async with store_on(server.url) as store:
            client.config_resetstat()
            await write_everything(store, KEY)
            await store.get_many(f"{KEY}:session", f"{KEY}:data")
            await store.members(KEY)
            await store.discard(KEY, "m")
            used = {name.removeprefix("cmdstat_") for name in client.info("commandstats")}
    # Redis 6.2 has them all, with the option GT of ZADD.
    assert used - {"client|setinfo", "config|resetstat"} == {
        "del", "eval", "evalsha", "exists", "get", "getrange", "mget", "pexpire", "pttl", "set",
        "time", "zadd", "zrangebyscore", "zrem", "zremrangebyscore",
    }  # fmt: skip


# --------------------------------------------------------------------------- settings


def test_making_a_store_connects_to_nothing() -> None:
    RedisStore.from_url("redis://nowhere.invalid:1/0")
    RedisStore(lambda: pytest.fail("not before the first use"))


@pytest.mark.parametrize(
    ("setting", "make"),
    [
        pytest.param("url", lambda: RedisStore.from_url("http://u:hunter2@h/"), id="scheme"),
        pytest.param("url", lambda: RedisStore.from_url("redis://u:hunter2@h:x/"), id="port"),
        pytest.param("url", lambda: RedisStore.from_url("redis://h/?hunter2=1"), id="option"),
        pytest.param(
            "max_connections",
            lambda: RedisStore.from_url("redis://h", max_connections=-1),
            id="pool",
        ),
        pytest.param("timeout", lambda: RedisStore.from_url("redis://h", timeout=0), id="0 s"),
        pytest.param("timeout", lambda: RedisStore.from_url("redis://h", timeout=100), id="100 s"),
        pytest.param("prefix", lambda: RedisStore.from_url("redis://h", prefix=""), id="empty"),
        pytest.param("prefix", lambda: RedisStore.from_url("redis://h", prefix="{a}"), id="tag"),
        pytest.param("client", lambda: RedisStore("redis://h"), id="text"),  # type: ignore[arg-type]
        pytest.param("url", lambda: RedisStore.from_url(None), id="no url"),  # type: ignore[arg-type]
        pytest.param(
            "timeout",
            lambda: RedisStore.from_url("redis://h", timeout="1"),  # type: ignore[arg-type]
            id="seconds as text",
        ),
        pytest.param(
            "max_connections",
            lambda: RedisStore.from_url("redis://h", max_connections=1.5),  # type: ignore[arg-type]
            id="half a connection",
        ),
        pytest.param(
            "prefix",
            lambda: RedisStore.from_url("redis://h", prefix=b"shop:"),  # type: ignore[arg-type]
            id="bytes",
        ),
    ],
)
def test_settings_that_cannot_work_are_refused_and_not_repeated(
    setting: str, make: Callable[[], RedisStore]
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        make()
    assert caught.value.setting == setting
    assert "hunter2" not in str(caught.value)
    assert caught.value.__context__ is None


async def test_a_client_that_decodes_is_refused(redis_url: str) -> None:
    async with Redis.from_url(redis_url, decode_responses=True) as client:
        for store in (RedisStore(client), RedisStore.from_url(f"{redis_url}?decode_responses=1")):
            with pytest.raises(ConfigurationError, match="decode"):
                await store.get("k")


async def test_a_function_must_make_a_client() -> None:
    store = RedisStore(lambda: "client")  # type: ignore[arg-type,return-value]
    with pytest.raises(ConfigurationError, match="client"):
        await store.get("k")


async def test_a_socket_in_a_folder_is_a_server_too(
    own_redis: Callable[..., RedisServer], tmp_path: Path
) -> None:
    own_redis("--unixsocket", str(tmp_path / "socket"), "--save", "")
    async with store_on(f"unix://{tmp_path}/socket?db=1") as store:
        assert await store.put("k", b"one", ttl=60, version=None)
        assert await value_of(store, "k") == b"one"


async def test_apps_with_other_prefixes_do_not_meet(redis_url: str, store: TimedStore) -> None:
    other = RedisStore.from_url(redis_url, prefix=f"{store.prefix}other:")
    await store.put("k", b"one", ttl=60, version=None)
    assert await other.get("k") is None
    await other.aclose()


# ------------------------------------------------------------- loops, processes, closing


async def test_closing_gives_the_connections_back(own_redis: Callable[..., RedisServer]) -> None:
    server = own_redis()
    with server.client() as client:
        before = len(client.client_list())
        async with store_on(server.url) as store:
            await asyncio.gather(*(store.get(str(n)) for n in range(20)))
            assert len(client.client_list()) > before
        await until(lambda: len(client.client_list()) == before)


async def test_a_lent_client_stays_open(redis_url: str) -> None:
    async with Redis.from_url(redis_url) as client:
        store = RedisStore(client)
        await store.get("k")
        await store.aclose()
        assert client.connection_pool._available_connections[0].is_connected
        assert await store.get("k") is None


async def test_a_lent_client_serves_one_event_loop(redis_url: str) -> None:
    async with Redis.from_url(redis_url) as client:
        store = RedisStore(client)
        await store.get("k")
        with pytest.raises(ConfigurationError, match="event loop"):
            await asyncio.to_thread(asyncio.run, store.get("k"))
        await store.aclose()


async def test_connections_are_bounded_and_who_finds_none_waits(
    own_redis: Callable[..., RedisServer],
) -> None:
    server = own_redis()
    store = RedisStore.from_url(server.url, max_connections=3, timeout=20.0)
    with server.client() as client:
        before = client.info("stats")["total_connections_received"]
        await asyncio.gather(*(store.get(str(n)) for n in range(200)))
        assert client.info("stats")["total_connections_received"] - before <= 3
    await store.aclose()


@pytest.mark.case(175)
def test_event_loops_of_several_threads_share_a_store(redis_url: str) -> None:
    store = RedisStore.from_url(redis_url, prefix=f"loops-{os.getpid()}:", timeout=20.0)

    async def work(times: int) -> None:
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
        await store.aclose()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: asyncio.run(work(25)), range(4)))
    assert store._clients._of_loops == {}

    async def finish() -> bytes | None:
        value = await value_of(store, "k")
        await store.delete("k")
        await store.aclose()
        return value

    assert asyncio.run(finish()) == b"100"


FORK = """
import asyncio, os, sys
from tokenward.errors import Conflict
from tokenward.stores.redis import RedisStore

store = RedisStore.from_url(sys.argv[1], prefix=sys.argv[2], timeout=20.0)

async def count_up(times):
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

async def work(tasks, times):
    await asyncio.gather(*(count_up(times) for _ in range(tasks)))

async def finish(children):
    await work(4, 5)
    for child in children:
        _, status = await asyncio.to_thread(os.waitpid, child, 0)
        assert status == 0
    await work(1, 1)
    await store.aclose()

async def live():
    await work(4, 5)
    await store.aclose()

loop = asyncio.new_event_loop()
loop.run_until_complete(work(4, 1))
children = []
for _ in range(3):
    child = os.fork()
    if not child:
        asyncio.new_event_loop().run_until_complete(live())
        # What the parent had open is neither used nor closed here.
        assert len(store._clients._inherited) == 1
        os._exit(0)
    children.append(child)
# The parent goes on with the loop and the connections that it had.
loop.run_until_complete(finish(children))
loop.close()
"""


@pytest.mark.case(175)
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
async def test_a_store_that_was_used_before_a_fork_works_in_every_process(
    store: TimedStore, redis_url: str
) -> None:
    command = [sys.executable, "-W", "ignore", "-c", FORK, redis_url, store.prefix]
    # A thread that waited for ever would outlive the time-out of the test.
    run = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, check=False, timeout=60
    )
    assert run.returncode == 0, run.stderr
    assert await value_of(store, "k") == b"85"


# ------------------------------------------------------------------------- outages


class Answers:
    """A server that answers every command with the same line, and counts connections."""

    def __init__(self, line: bytes | None) -> None:
        self.line = line
        self.connections = 0
        self.delay = 0.0
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if self.line == b"":
            writer.close()
        with suppress(ConnectionError):
            while read := await reader.read(65536):
                if self.line:
                    await asyncio.sleep(self.delay)
                    # Every command is an array, and several may come at once.
                    commands = len(re.findall(rb"(?:^|\n)\*", read))
                    writer.write((self.line + b"\r\n") * commands)
        writer.close()


@asynccontextmanager
async def answering(line: bytes | None) -> AsyncIterator[Answers]:
    """Serve `line`; None is silence, and empty is the end of the connection."""
    answers = Answers(line)
    server = await asyncio.start_server(answers.serve, "127.0.0.1", 0)
    answers.url = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
    async with server:
        yield answers


OPERATIONS: dict[str, Callable[[Store], Awaitable[object]]] = {
    "get": lambda store: store.get("k"),
    "get_many": lambda store: store.get_many("k", "l"),
    "put": lambda store: store.put("k", b"sealed", ttl=60, version=None),
    "touch": lambda store: store.touch("k", ttl=60),
    "delete": lambda store: store.delete("k"),
    "acquire": lambda store: store.acquire("k", ttl=8),
    "add": lambda store: store.add("i", "m", ttl=60),
    "members": lambda store: store.members("i"),
    "discard": lambda store: store.discard("i", "m"),
}


@pytest.fixture(params=list(OPERATIONS))
def operation(request: pytest.FixtureRequest) -> Callable[[Store], Awaitable[object]]:
    """Run the test with every operation."""
    return OPERATIONS[request.param]


@pytest.mark.case(234)
@pytest.mark.parametrize(
    "line",
    [
        b"-READONLY You can't write against a read only replica.",
        b"-MISCONF Redis is configured to save RDB snapshots, but is unable to persist to disk.",
        b"-OOM command not allowed when used memory > 'maxmemory'.",
        b"-LOADING Redis is loading the dataset in memory",
        b"-CLUSTERDOWN The cluster is down",
        b"-NOAUTH Authentication required.",
        b"-WRONGPASS invalid username-password pair or user is disabled.",
        b"-NOPERM this user has no permissions to run the 'get' command",
        b"-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
        b"-NOREPLICAS Not enough good replicas to write.",
        b"-TRYAGAIN Multiple keys request during rehashing of slot",
        b"-BUSY Redis is busy running a script.",
        b"-ERR something that nobody has heard of, with sealed in it",
        b"-sealed",
        b"?what is this",
    ],
    ids=lambda line: line[1:].split()[0].decode(),
)
async def test_a_refusal_of_the_server_is_an_outage_and_no_logout(line: bytes) -> None:
    async with answering(line) as server, store_on(server.url) as store:
        for operation in OPERATIONS.values():
            with pytest.raises(StoreUnavailable) as caught:
                await operation(store)
            assert caught.value.__context__ is None
            assert caught.value.retry_after > 0
            assert "sealed" not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "setting"),
    [
        pytest.param(b"-MOVED 3999 127.0.0.1:6381", "client", id="a cluster"),
        pytest.param(b"-CROSSSLOT Keys don't hash to the same slot", "client", id="one shard"),
        pytest.param(b"-ERR unknown command 'EVALSHA', with args: sealed", "client", id="old"),
        pytest.param(b"-ERR DB index is out of range", "url", id="no such database"),
        pytest.param(b"-WRONGTYPE Operation against a key", "prefix", id="somebody else's key"),
    ],
)
async def test_what_waiting_does_not_mend_names_the_setting(line: bytes, setting: str) -> None:
    async with answering(line) as server, store_on(server.url) as store:
        with pytest.raises(ConfigurationError) as caught:
            await store.put("k", b"sealed", ttl=60, version=None)
    assert caught.value.setting == setting
    assert caught.value.__context__ is None
    assert "sealed" not in str(caught.value)


@pytest.mark.case(235)
async def test_a_server_that_is_silent_is_given_up_by_our_own_time_out(
    operation: Callable[[Store], Awaitable[object]],
) -> None:
    async with answering(None) as server, store_on(server.url, patience=0.05) as store:
        async with asyncio.timeout(30):
            with pytest.raises(StoreUnavailable, match=r"0\.05 seconds|in time|reached"):
                await operation(store)


def test_the_time_out_is_a_second_at_most_unless_somebody_says_more() -> None:
    assert RedisStore.from_url("redis://h")._clients._timeout <= 1.0
    assert RedisStore(lambda: Redis())._clients._timeout <= 1.0


@pytest.mark.case(235)
async def test_a_client_of_somebody_else_obeys_our_time_out_too() -> None:
    async with answering(None) as server, Redis.from_url(server.url, socket_timeout=60) as client:
        async with asyncio.timeout(30):
            with pytest.raises(StoreUnavailable):
                await RedisStore(client, timeout=0.05).get("k")


@pytest.mark.case(236)
async def test_a_server_that_refuses_is_not_asked_again_and_again(
    operation: Callable[[Store], Awaitable[object]],
) -> None:
    async with answering(b"") as server, store_on(server.url) as store:
        with pytest.raises(StoreUnavailable, match="reached"):
            await operation(store)
        assert server.connections <= 4


@pytest.mark.case(236)
async def test_where_nobody_listens_the_store_is_out_of_reach(
    operation: Callable[[Store], Awaitable[object]],
) -> None:
    async with answering(b"") as server:
        url = server.url
    async with store_on(url) as store:
        with pytest.raises(StoreUnavailable, match="reached"):
            await operation(store)


async def test_a_right_that_a_script_lacks_is_told_as_such() -> None:
    line = b"-ERR ACL failure in script: User shop has no permissions to run the 'set' command"
    async with answering(line) as server, store_on(server.url) as store:
        with pytest.raises(StoreUnavailable, match="the user may not do this"):
            await store.touch("k", ttl=60)


async def test_connections_to_a_machine_that_is_gone_cost_one_call() -> None:
    """A machine that lost its power, or its address, does not say so: others answer there."""
    connections, gone = 0, 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        number = connections
        with suppress(ConnectionError):
            while read := await reader.read(65536):
                if number > gone:
                    await asyncio.sleep(0.01)
                    writer.write(b"$-1\r\n" * len(re.findall(rb"(?:^|\n)\*", read)))
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        store = RedisStore.from_url(f"redis://127.0.0.1:{port}", timeout=1.0)
        await asyncio.gather(*(store.get("k") for _ in range(8)))
        assert connections == 8
        gone = 8
        with pytest.raises(StoreUnavailable):
            await store.get("k")
        assert await asyncio.gather(*(store.get("k") for _ in range(8))) == [None] * 8
        await store.aclose()


async def test_who_waits_behind_a_call_that_is_not_answered_gives_up_with_it() -> None:
    async with answering(None) as server:
        store = RedisStore.from_url(server.url, max_connections=2, timeout=0.5)
        calls = [store.get("k") for _ in range(30)]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(answer) for answer in answers} == {StoreUnavailable}
        assert server.connections == 2
        # Whoever comes later tries again.
        with pytest.raises(StoreUnavailable):
            await store.get("k")
        assert server.connections == 3
        await store.aclose()


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(
            lambda url: RedisStore.from_url(url, max_connections=1, timeout=1.0), id="argument"
        ),
        pytest.param(
            lambda url: RedisStore.from_url(f"{url}?max_connections=1", timeout=1.0), id="url"
        ),
        pytest.param(
            lambda url: RedisStore(
                lambda: Redis.from_url(url, max_connections=1, protocol=2), timeout=1.0
            ),
            id="own client",
        ),
    ],
)
async def test_a_server_that_is_slow_because_much_is_asked_is_no_outage(
    make: Callable[[str], RedisStore],
) -> None:
    async with answering(b"$-1") as server:
        server.delay = 0.05
        store = make(server.url)
        # In all they take longer than any of them may.
        assert await asyncio.gather(*(store.get("k") for _ in range(40))) == [None] * 40
        assert server.connections == 1
        await store.aclose()


async def test_nobody_waits_for_his_turn_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tokenward.stores.redis_caller._PATIENCE", 0.05)
    async with answering(None) as server:
        store = RedisStore.from_url(server.url, max_connections=1, timeout=20.0)
        first = asyncio.ensure_future(store.get("k"))
        with pytest.raises(StoreUnavailable, match="too many"):
            await asyncio.gather(*(store.get("k") for _ in range(3)))
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        await store.aclose()


@pytest.mark.parametrize("steps", range(8))
async def test_calls_under_way_are_answered_before_the_connections_are_closed(
    own_redis: Callable[..., RedisServer], steps: int
) -> None:
    server = own_redis()
    store = RedisStore.from_url(f"{server.url}?client_name=leaving", timeout=20.0)
    await store.put("k", b"x", ttl=20, version=None)
    calls = asyncio.gather(
        *(store.acquire(f"{number}", ttl=20) for number in range(3)),
        *(store.get_many("k", f"{number}") for number in range(20)),
    )
    for _ in range(1 + steps):
        await asyncio.sleep(0)
    await store.aclose()
    with closing(server.client()) as client:
        assert not [each for each in client.client_list() if each["name"] == "leaving"]
    assert None not in await calls


async def test_a_call_without_an_answer_keeps_nobody_from_closing() -> None:
    async with answering(None) as server:
        store = RedisStore.from_url(server.url, timeout=1.0)
        before = asyncio.all_tasks()
        call = asyncio.ensure_future(store.acquire("k", ttl=20))
        await until(lambda: server.connections)
        await store.aclose()
        with pytest.raises(StoreUnavailable):
            await call
        # Nor is anything given back later, on connections that nobody would close.
        assert asyncio.all_tasks() == before
        assert server.connections == 1


async def test_closing_that_was_cut_short_is_done_by_who_closes_again(
    own_redis: Callable[..., RedisServer],
) -> None:
    server = own_redis()
    store = RedisStore.from_url(f"{server.url}?client_name=leaving", timeout=20.0)
    await store.get("k")
    server.pause()
    call = asyncio.ensure_future(store.get("k"))
    await asyncio.sleep(0)
    closing_it = asyncio.ensure_future(store.aclose())
    await asyncio.sleep(0)
    closing_it.cancel()
    await asyncio.wait([closing_it])
    server.go_on()
    await call
    await store.aclose()
    with closing(server.client()) as client:
        assert not [each for each in client.client_list() if each["name"] == "leaving"]


async def settled(store: Store) -> object:
    """Return what is under "k", as soon as the server is there again."""
    while True:
        try:
            return await store.get("k")
        except StoreUnavailable:
            await asyncio.sleep(0.01)


async def test_a_server_that_stands_still_and_goes_on_answers_nobody_with_what_was_anothers(
    own_redis: Callable[..., RedisServer],
) -> None:
    server = own_redis()
    async with store_on(server.url, patience=1.0) as store:
        for number in range(20):
            await store.put(str(number), str(number).encode(), ttl=60, version=None)
        server.pause()
        lost = await asyncio.gather(*(store.get(str(n)) for n in range(20)), return_exceptions=True)
        assert {type(answer) for answer in lost} == {StoreUnavailable}
        server.go_on()
        await settled(store)
        for number in range(20):
            assert await value_of(store, str(number)) == str(number).encode()


@pytest.mark.case(237)
async def test_a_server_that_comes_back_empty_is_used_at_once(
    own_redis: Callable[..., RedisServer],
) -> None:
    server = own_redis()
    async with store_on(server.url) as store:
        version = await store.put("k", b"one", ttl=60, version=None)
        await asyncio.gather(*(store.get("k") for _ in range(10)))
        server.kill()
        with pytest.raises(StoreUnavailable):
            await store.get("k")
        server.start()
        # No second call is needed to find out that ten connections are dead.
        for _ in range(10):
            assert await store.get("k") is None
        with pytest.raises(Conflict):
            await store.put("k", b"two", ttl=60, version=version)
        assert await store.put("k", b"three", ttl=60, version=None) > version


@pytest.mark.case(234)
async def test_a_replica_and_a_full_server_refuse_writes_until_they_are_mended(
    own_redis: Callable[..., RedisServer],
) -> None:
    server = own_redis()
    with closing(server.client()) as client:
        async with store_on(server.url) as store:
            version = await store.put("k", b"one", ttl=60, version=None)
            for begin, word, end in (
                (("REPLICAOF", "127.0.0.1", "1"), "READONLY", ("REPLICAOF", "NO", "ONE")),
                (("CONFIG", "SET", "maxmemory", "1"), "OOM", ("CONFIG", "SET", "maxmemory", "0")),
                (
                    ("CONFIG", "SET", "min-replicas-to-write", "1"),
                    "NOREPLICAS",
                    ("CONFIG", "SET", "min-replicas-to-write", "0"),
                ),
            ):
                client.execute_command(*begin)
                with pytest.raises(StoreUnavailable, match=word):
                    await store.put("k", b"two", ttl=60, version=version)
                assert await value_of(store, "k") == b"one"
                client.execute_command(*end)
            await store.put("k", b"two", ttl=60, version=version)


@pytest.mark.case(234)
async def test_a_password_that_is_new_on_the_server_is_an_outage(
    own_redis: Callable[..., RedisServer],
) -> None:
    server = own_redis("--requirepass", "hunter2", "--save", "")
    for url, word in (
        (server.url, "another name or password"),
        (server.url.replace("//", "//:hunter3@"), "another name or password"),
    ):
        async with store_on(url) as store:
            with pytest.raises(StoreUnavailable, match=word) as caught:
                await store.get("k")
            assert "hunter" not in str(caught.value)
    async with store_on(server.url.replace("//", "//:hunter2@")) as store:
        assert await store.get("k") is None


async def test_what_was_flushed_is_not_there_and_what_is_new_is(
    own_redis: Callable[..., RedisServer],
) -> None:
    server = own_redis()
    with closing(server.client()) as client:
        async with store_on(server.url) as store:
            version = await store.put("k", b"one", ttl=60, version=None)
            lease = await store.acquire("k", ttl=60)
            assert lease is not None
            client.flushall()
            client.script_flush()
            with pytest.raises(Conflict):
                await store.put("k", b"two", ttl=60, version=version)
            assert not await store.renew(lease, ttl=60)
            assert await store.get("k") is None
            assert await store.put("k", b"two", ttl=60, version=None) > version


# --------------------------------------------------------- answers that are lost or late


class LossyProxy:
    """Passes everything on, but loses the next answer, and the connection, when told so."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.losing = 0
        self.lost = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._port)
        while request := await reader.read(1_000_000):
            server_writer.write(request)
            answer = await server_reader.read(1_000_000)
            if self.losing:
                self.losing -= 1
                self.lost += 1
                break
            writer.write(answer)
        writer.close()
        server_writer.close()


@asynccontextmanager
async def losing_answers(url: str) -> AsyncIterator[tuple[LossyProxy, RedisStore]]:
    """Give a proxy and a store behind it, whose scripts the server knows."""
    proxy = LossyProxy(int(url.rpartition(":")[2].partition("/")[0]))
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    address = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
    store = RedisStore.from_url(
        address, max_connections=1, timeout=20.0, prefix=f"lossy-{os.urandom(8).hex()}:"
    )
    async with server:
        await write_everything(store, "warm")
        yield proxy, store
        await store.aclose()


async def test_a_write_whose_answer_was_lost_is_done_once_and_succeeds(redis_url: str) -> None:
    async with losing_answers(redis_url) as (proxy, store):
        proxy.losing = 1
        version = await store.put("k", b"one", ttl=60, version=None)
        assert proxy.lost == 1
        proxy.losing = 1
        newer = await store.put("k", b"two", ttl=60, version=version)
        assert proxy.lost == 2
        entry = await store.get("k")
        assert entry is not None
        assert (entry.value, entry.version) == (b"two", newer)
        for wrong in (None, version):
            with pytest.raises(Conflict):
                await store.put("k", b"two", ttl=60, version=wrong)


async def test_a_deletion_whose_answer_was_lost_is_still_the_one_that_deleted(
    redis_url: str,
) -> None:
    async with losing_answers(redis_url) as (proxy, store):
        version = await store.put("k", b"one", ttl=60, version=None)
        proxy.losing = 1
        assert await store.delete("k", version=version, tombstone=60)
        assert proxy.lost == 1
        assert not await store.delete("k", tombstone=60)


async def test_a_lease_whose_answer_was_lost_is_held(redis_url: str) -> None:
    async with losing_answers(redis_url) as (proxy, store):
        proxy.losing = 1
        lease = await store.acquire("k", ttl=60)
        assert proxy.lost == 1
        assert lease is not None
        assert await store.acquire("k", ttl=60) is None
        assert await store.renew(lease, ttl=60)


async def test_a_lost_answer_is_asked_for_once_more_and_then_is_an_outage(redis_url: str) -> None:
    async with losing_answers(redis_url) as (proxy, store):
        proxy.losing = 10
        with pytest.raises(StoreUnavailable):
            await store.get("k")
        assert proxy.lost <= 4


@pytest.mark.case(263)
async def test_calls_that_are_cancelled_give_their_answers_to_nobody(store: TimedStore) -> None:
    for number in range(20):
        await store.put(str(number), str(number).encode(), ttl=60, version=None)
    for round_ in range(15):
        tasks = [asyncio.ensure_future(value_of(store, str(n))) for n in range(20)]
        for _ in range(round_):
            await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        for number, answer in enumerate(answers):
            if not isinstance(answer, asyncio.CancelledError):
                assert answer == str(number).encode()


# ------------------------------------------------------------------------- Sentinel


async def test_sentinel_says_who_the_primary_is(
    own_redis: Callable[..., RedisServer], tmp_path: Path
) -> None:
    primary = own_redis()
    settings = tmp_path / "sentinel.conf"
    write_text(settings, f"sentinel monitor main 127.0.0.1 {primary.port} 1\n")
    sentinel = own_redis(str(settings), "--sentinel")
    store = RedisStore(
        lambda: Sentinel([("127.0.0.1", sentinel.port)], protocol=2).master_for("main")
    )
    await store.put("k", b"one", ttl=60, version=None)
    with closing(primary.client()) as client:
        assert client.dbsize() == 1
    await store.aclose()


@pytest.mark.parametrize("is_silent", [False, True], ids=["refuses", "is silent"])
async def test_a_sentinel_that_is_down_leaves_the_others(
    own_redis: Callable[..., RedisServer], tmp_path: Path, is_silent: bool
) -> None:
    primary = own_redis()
    settings = tmp_path / "sentinel.conf"
    write_text(settings, f"sentinel monitor main 127.0.0.1 {primary.port} 1\n")
    sentinel = own_redis(str(settings), "--sentinel")
    async with answering(None if is_silent else b"") as down:
        port = int(down.url.rpartition(":")[2].partition("/")[0])
        sentinels = [("127.0.0.1", port), ("127.0.0.1", sentinel.port)]
        store = RedisStore(
            lambda: Sentinel(sentinels, protocol=2).master_for("main"),
            timeout=0.5 if is_silent else 20.0,
        )
        if is_silent:
            with pytest.raises(StoreUnavailable):
                await store.put("k", b"one", ttl=60, version=None)
        async with asyncio.timeout(15):
            for _ in range(10):  # on a slow machine half a second is not enough the first time
                with suppress(StoreUnavailable):
                    await store.touch("k", ttl=60)
                    break
            else:
                pytest.fail("the other one is never asked")
        await store.aclose()
        if not is_silent:
            assert down.connections == 1


# ----------------------------------------------------------------- a cluster of several


@pytest.fixture
def two_nodes(tmp_path: Path) -> Iterator[tuple[RedisServer, RedisServer]]:
    """A cluster of two nodes, each with half of the slots."""
    nodes = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        nodes.append(RedisServer(tmp_path / name, "--cluster-enabled", "yes", "--save", ""))
    one, two = nodes
    with closing(one.client()) as first, closing(two.client()) as second:
        first.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 8191)
        second.execute_command("CLUSTER", "ADDSLOTSRANGE", 8192, 16383)
        second.execute_command("CLUSTER", "SET-CONFIG-EPOCH", 2)
        first.execute_command("CLUSTER", "MEET", "127.0.0.1", two.port)
        for client in (first, second):
            while b"cluster_state:ok" not in client.execute_command("CLUSTER", "INFO"):
                time.sleep(0.01)
    yield one, two
    for node in nodes:
        node.go_on()
        node.kill()


async def test_the_first_calls_to_a_cluster_find_their_nodes(
    two_nodes: tuple[RedisServer, RedisServer],
) -> None:
    """All at once, as they come to a process that has just been started."""
    for start in range(5):
        store = RedisStore(
            lambda: RedisCluster(host="127.0.0.1", port=two_nodes[0].port, protocol=2),
            timeout=20.0,
        )
        await asyncio.gather(
            *(store.put(f"{start}-{n}", b"", ttl=60, version=None) for n in range(30))
        )
        await store.aclose()


async def test_a_node_that_is_silent_is_left_when_another_has_its_slots(
    two_nodes: tuple[RedisServer, RedisServer],
) -> None:
    one, two = two_nodes
    store = RedisStore(
        lambda: RedisCluster(host="127.0.0.1", port=two.port, protocol=2), timeout=0.5
    )
    keys = [f"{number}" for number in range(8)]
    await asyncio.gather(*(store.get(key) for key in keys))
    two.pause()
    with closing(one.client()) as client:
        client.execute_command("CLUSTER", "DELSLOTSRANGE", 8192, 16383)
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", 8192, 16383)
    async with asyncio.timeout(15):
        for key in keys:
            while True:
                with suppress(StoreUnavailable):
                    await store.get(key)
                    break
    await store.aclose()


def write_text(path: Path, text: str) -> None:
    path.write_text(text)
