"""Many reads in few commands, each with the answer that is its own."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import pytest

from tokenward.errors import StoreUnavailable
from tokenward.stores.redis import RedisStore
from tokenward.stores.redis_reads import Reads

if TYPE_CHECKING:
    from collections.abc import Sequence


class Server:
    """Has a value for every name, and answers when it is told to."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.commands: list[list[str]] = []
        self.since: list[float] = []
        self.open = asyncio.Event()
        self.failure: Exception | None = None

    async def read(self, names: Sequence[str], since: float) -> list[object]:
        self.commands.append(list(names))
        self.since.append(since)
        await self.open.wait()
        if self.failure:
            raise self.failure
        return [self.values.get(name, f"value of {name}") for name in names]


@pytest.fixture
async def server() -> Server:
    return Server()


@pytest.fixture
async def reads(server: Server) -> Reads:
    return Reads(server.read)


async def start(reads: Reads, *names: str) -> asyncio.Task[list[object]]:
    """Begin a read, and let it come as far as it comes."""
    task = asyncio.ensure_future(reads.get(names))
    await asyncio.sleep(0)
    return task


async def occupy(reads: Reads) -> list[asyncio.Task[list[object]]]:
    """Have as many reads under way as go alone."""
    return [await start(reads, f"early {number}") for number in range(4)]


async def test_a_few_reads_go_alone_and_at_once(reads: Reads, server: Server) -> None:
    tasks = await occupy(reads)
    assert server.commands == [["early 0"], ["early 1"], ["early 2"], ["early 3"]]
    server.open.set()
    assert await asyncio.gather(*tasks) == [[f"value of early {number}"] for number in range(4)]


async def test_many_reads_go_together_and_each_gets_its_own(reads: Reads, server: Server) -> None:
    early = await occupy(reads)
    late = [await start(reads, f"{number}:session", f"{number}:data") for number in range(20)]
    server.open.set()
    for number, task in enumerate(late):
        assert await task == [f"value of {number}:session", f"value of {number}:data"]
    await asyncio.gather(*early)
    assert len(server.commands) == 5


async def test_what_many_want_is_read_once(reads: Reads, server: Server) -> None:
    early = await occupy(reads)
    late = [await start(reads, "a", "b") for _ in range(30)]
    server.open.set()
    assert await asyncio.gather(*late) == [["value of a", "value of b"]] * 30
    await asyncio.gather(*early)
    assert server.commands[4:] == [["a", "b"]]


async def test_no_read_begins_before_it_was_asked_for(reads: Reads, server: Server) -> None:
    early = await occupy(reads)
    late = await start(reads, "early 0")
    server.values["early 0"] = "written before the late one came"
    assert len(server.commands) == 4
    server.open.set()
    assert await late == ["written before the late one came"]
    await asyncio.gather(*early)
    assert server.commands[4:] == [["early 0"]]


async def test_no_command_reads_more_than_a_hundred_keys_and_a_read(
    reads: Reads, server: Server
) -> None:
    early = await occupy(reads)
    late = [await start(reads, f"{number}:session", f"{number}:data") for number in range(175)]
    server.open.set()
    await asyncio.gather(*early, *late)
    assert [len(command) for command in server.commands[4:]] == [100, 100, 100, 50]


async def test_whoever_goes_away_leaves_the_others_their_answer(
    reads: Reads, server: Server
) -> None:
    early = await occupy(reads)
    leaving, staying = await start(reads, "a"), await start(reads, "b")
    leaving.cancel()
    early[0].cancel()
    server.open.set()
    assert await staying == ["value of b"]
    await asyncio.gather(leaving, *early, return_exceptions=True)
    assert leaving.cancelled()
    assert (await reads.get(["c"])) == ["value of c"]


async def test_a_read_that_everybody_left_bothers_nobody(reads: Reads, server: Server) -> None:
    early = await occupy(reads)
    leaving = await start(reads, "a")
    server.failure = StoreUnavailable("down")
    leaving.cancel()
    server.open.set()
    await asyncio.gather(leaving, *early, return_exceptions=True)
    while len(reads._background):  # noqa: ASYNC110 - it is a step or two away
        await asyncio.sleep(0)
    assert not reads._waiting
    assert not reads._under_way


async def test_a_failure_is_told_to_all_who_waited_and_is_over_then(
    reads: Reads, server: Server
) -> None:
    early = await occupy(reads)
    late = [await start(reads, str(number)) for number in range(3)]
    server.failure = StoreUnavailable("down")
    server.open.set()
    outcomes = await asyncio.gather(*early, *late, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [StoreUnavailable] * 7
    server.failure = None
    assert await reads.get(["a"]) == ["value of a"]


async def test_reads_that_wait_have_waited_since_the_first_of_them_came(
    reads: Reads, server: Server
) -> None:
    before = asyncio.get_running_loop().time()
    early = await occupy(reads)
    late = await start(reads, "a")
    begun = asyncio.get_running_loop().time()
    server.open.set()
    await asyncio.gather(late, *early)
    assert before <= server.since[4] <= begun


@pytest.mark.case(235)
async def test_nobody_waits_twice_for_a_server_that_is_silent() -> None:
    connections = 0

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.read()
        writer.close()

    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    async with server:
        store = RedisStore.from_url(
            f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}", timeout=0.5
        )
        reads = [store.get_many(f"{number}:session", f"{number}:data") for number in range(50)]
        outcomes = await asyncio.gather(*reads, return_exceptions=True)
        await store.aclose()
    assert {type(outcome) for outcome in outcomes} == {StoreUnavailable}
    # Those that waited gave up with the four that were under way, and asked nobody.
    assert connections == 4


@pytest.mark.case(248)
async def test_a_thousand_reads_at_once_get_what_is_under_their_keys(redis_url: str) -> None:
    store = RedisStore.from_url(redis_url, prefix=f"reads-{os.getpid()}:", timeout=20.0)
    for number in range(100):
        await store.put(f"{number}:session", b"%d" % number, ttl=60, version=None)
    wanted = [number % 150 for number in range(1000)]
    found = await asyncio.gather(
        *(store.get_many(f"{number}:data", f"{number}:session") for number in wanted)
    )
    for number, (data, session) in zip(wanted, found, strict=True):
        assert data is None
        assert (session and session.value) == (b"%d" % number if number < 100 else None)
    await store.aclose()
