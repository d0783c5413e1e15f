"""Calls to one Redis server or cluster, in turns, each with a deadline."""

from __future__ import annotations

import asyncio
import math
from contextlib import suppress
from typing import TYPE_CHECKING, Final, TypeAlias, cast

from redis import exceptions as failures
from redis.asyncio import ConnectionPool, Redis, RedisCluster
from redis.asyncio.sentinel import SentinelConnectionPool

from ..background import Background
from ..errors import StoreUnavailable
from .redis_reads import Reads
from .redis_refusals import FAILURES, refusal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .redis_scripts import Script

Client: TypeAlias = Redis | RedisCluster
"""A client of redis-py for asyncio. Sentinel's `master_for` gives one too."""

_PATIENCE: Final = 5.0
"""Seconds that a call waits for its turn while the server answers others."""


class _UnderWay:
    """Counts who is inside, and tells when nobody is."""

    def __init__(self) -> None:
        self._number = 0
        self._nobody = asyncio.Event()

    def __enter__(self) -> None:
        self._number += 1

    def __exit__(self, *_: object) -> None:
        self._number -= 1
        if not self._number:
            self._nobody.set()

    async def all_left(self) -> None:
        """Return as soon as nobody is inside.

        Who leaves may be back before this is told of it, with what goes on from there.
        """
        while self._number:
            self._nobody.clear()
            await self._nobody.wait()


class Caller:
    """Run commands with one client: so many at once, and none of them for long.

    Where more is asked than can be answered at once, calls take turns. That is no outage,
    so the time-out of a call begins with its turn; but when one gets no answer in that
    time, those that have been waiting for it give up with it.
    """

    def __init__(self, client: Client, *, timeout: float, at_once: int) -> None:
        self.client = client
        self._timeout = timeout
        # Who has a turn has a connection: a pool that is full would cost him his time.
        self._turns = asyncio.Semaphore(min(at_once, _most_connections(client)))
        self._silent_at = -math.inf
        self._under_way = _UnderWay()
        self._leaving = Background()
        self.reads: Reads = Reads(self._read)
        """Reads values; raises what `run` raises."""

    async def run(
        self, command: Sequence[str | bytes | int], *, since: float | None = None
    ) -> object:
        """Return the answer to one command; see `Clients.run`.

        `since` is the time of the event loop since when somebody waits for it; None: now.
        """
        since = _time() if since is None else since
        with self._under_way:
            if not await self._has_turn():
                raise StoreUnavailable("Redis: too many calls are waiting; allow more connections")
            try:
                return await self._ask(command, since=since)
            finally:
                self._turns.release()

    async def evaluate(
        self, script: Script, keys: Sequence[str], args: Sequence[str | bytes | int]
    ) -> object:
        """Return what the script returns. Raises as `run`."""
        try:
            return await self.run(("EVALSHA", script.sha, len(keys), *keys, *args))
        except failures.NoScriptError:
            pass
        # It was never sent there, or the server was restarted, or another one took over.
        return await self.run(("EVAL", script.text, len(keys), *keys, *args))

    async def aclose(self) -> None:
        """Close the client, when what is under way is over.

        A call whose connection is taken away would open another, which nobody closes.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE + self._timeout):
                await self._under_way.all_left()
        await self._leaving.drain(0.0)
        with suppress(*FAILURES):
            async with asyncio.timeout(self._timeout):
                await _close(self.client)

    async def _read(self, names: Sequence[str], since: float) -> Sequence[object]:
        return cast("Sequence[object]", await self.run(("MGET", *names), since=since))

    async def _has_turn(self) -> bool:
        if not self._turns.locked():
            # At once, so that nobody who is in no queue pays for a timer.
            return await self._turns.acquire()
        try:
            async with asyncio.timeout(_PATIENCE):
                return await self._turns.acquire()
        except TimeoutError:
            return False

    async def _ask(self, command: Sequence[str | bytes | int], *, since: float) -> object:
        if self._silent_at >= since:
            raise refusal(TimeoutError(), self._timeout)
        begun = _time()
        try:
            async with asyncio.timeout(self._timeout):
                if isinstance(self.client, RedisCluster):
                    # What is sent before it knows the cluster goes anywhere, and when five
                    # such were sent on, it closes the connections of everybody.
                    await self.client.initialize()
                answer: object = await self.client.execute_command(*command)
        except failures.NoScriptError:
            raise
        except FAILURES as error:
            refused = refusal(error, self._timeout)
            if isinstance(error, TimeoutError | failures.TimeoutError):
                if self._silent_at < begun:
                    self._leave_who_is_silent()
                self._silent_at = _time()
        else:
            return answer
        raise refused

    def _leave_who_is_silent(self) -> None:
        """Let the next call connect anew: the server may have another address by now.

        Where a machine is gone, nobody says so on the connections to it. Each of those that
        are idle would cost a call the whole time-out.
        """
        if not isinstance(self.client, Redis):
            return
        pool = self.client.connection_pool
        if isinstance(pool, SentinelConnectionPool):
            # It may as well be the sentinel that was asked.
            sentinels = pool.sentinel_manager.sentinels
            sentinels.append(sentinels.pop(0))
        self._leaving.begin(self._drop_idle(pool))

    async def _drop_idle(self, pool: ConnectionPool) -> None:
        with suppress(*FAILURES):
            async with asyncio.timeout(self._timeout):
                await pool.disconnect(inuse_connections=False)


def _most_connections(client: Client) -> int:
    """Return how many the client opens at once; the nodes of a cluster have as many each."""
    if isinstance(client, RedisCluster):
        most = client.nodes_manager.connection_kwargs.get("max_connections")
    else:
        most = client.connection_pool.max_connections
    return max(1, int(most or 1))


def _time() -> float:
    return asyncio.get_running_loop().time()


async def _close(client: Client) -> None:
    await client.aclose()
    if isinstance(client, Redis) and isinstance(client.connection_pool, SentinelConnectionPool):
        for sentinel in client.connection_pool.sentinel_manager.sentinels:
            await sentinel.aclose()
