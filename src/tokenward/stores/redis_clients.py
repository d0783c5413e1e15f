"""The clients of one Redis store: one for each event loop, and what can fail there."""

from __future__ import annotations

import asyncio
import math
import os
from contextlib import suppress
from threading import Lock
from typing import TYPE_CHECKING, Final, TypeAlias, cast

from redis import exceptions as failures
from redis.asyncio import BlockingConnectionPool, Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.backoff import NoBackoff

from ..errors import ConfigurationError, StoreUnavailable
from .redis_reads import Reads

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..secret import Secret
    from .redis_scripts import Script

Client: TypeAlias = Redis | RedisCluster
"""A client of redis-py for asyncio. Sentinel's `master_for` gives one too."""

_RETRIES: Final = 1
"""A connection may have died since it was last used. No write is done twice by it, as
`redis_scripts` says; and more tries than one would only hide an outage."""


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
        self._turns = asyncio.Semaphore(at_once)
        self._silent_at = -math.inf
        self._under_way = _UnderWay()
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
        with suppress(*_FAILURES, OSError, TimeoutError):
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
        try:
            async with asyncio.timeout(self._timeout):
                answer: object = await self.client.execute_command(*command)
        except failures.NoScriptError:
            raise
        except (*_FAILURES, OSError, TimeoutError) as error:
            refused = refusal(error, self._timeout)
            if isinstance(error, TimeoutError | failures.TimeoutError):
                self._silent_at = _time()
        else:
            return answer
        raise refused


class Clients:
    """Run commands with the client that belongs to the running event loop.

    The connections of a client are bound to the loop, and to the process: after a fork
    the child makes clients of its own, and neither uses nor closes those of its parent.
    """

    def __init__(
        self, client: Client | Callable[[], Client], *, timeout: float, at_once: int
    ) -> None:
        self._lent = client if isinstance(client, Redis | RedisCluster) else None
        self._make = _maker(client)
        self._timeout = timeout
        self._at_once = at_once
        self._pid = os.getpid()
        self._lock = Lock()
        self._of_loops: dict[asyncio.AbstractEventLoop, Caller] = {}
        self._inherited: list[dict[asyncio.AbstractEventLoop, Caller]] = []

    @property
    def is_cluster(self) -> bool:
        """Whether the client is one of a cluster, which reads slot by slot."""
        return isinstance(self._get().client, RedisCluster)

    async def run(self, *command: str | bytes | int) -> object:
        """Return the answer to one command.

        Raises:
            StoreUnavailable: there was none in time, or it was a refusal.
            ConfigurationError: it will be refused until somebody changes a setting.
        """
        return await self._get().run(command)

    async def read(self, names: Sequence[str]) -> list[object]:
        """Return the value of each key, not of a cluster; others' reads may go with it.

        Raises what `run` raises.
        """
        return await self._get().reads.get(names)

    async def evaluate(
        self, script: Script, keys: Sequence[str], args: Sequence[str | bytes | int]
    ) -> object:
        """Return what the script returns. Raises what `run` raises."""
        return await self._get().evaluate(script, keys, args)

    async def aclose(self) -> None:
        """Close the client of the running loop, unless it is lent."""
        self._leave_to_parent()
        with self._lock:
            caller = self._of_loops.pop(asyncio.get_running_loop(), None)
        if caller is not None and caller.client is not self._lent:
            await caller.aclose()

    def _get(self) -> Caller:
        self._leave_to_parent()
        loop = asyncio.get_running_loop()
        return self._of_loops.get(loop) or self._begin(loop)

    def _begin(self, loop: asyncio.AbstractEventLoop) -> Caller:
        with self._lock:
            # Those of loops that are gone, and did not close them, are gone with them.
            for each in [each for each in self._of_loops if each.is_closed()]:
                del self._of_loops[each]
            if self._lent is not None and (self._of_loops or self._inherited):
                raise ConfigurationError(
                    "client",
                    "serves the event loop that used it first, in its process; give a function"
                    " that makes a client, and every loop has its own",
                )
            client = _checked(self._make())
            caller = Caller(client, timeout=self._timeout, at_once=self._at_once)
            self._of_loops[loop] = caller
        return caller

    def _leave_to_parent(self) -> None:
        if self._pid == os.getpid():
            return
        if self._of_loops:
            # To close them here would take the sockets out of the parent's event loop, whose
            # selector is shared. So they are kept.
            self._inherited.append(self._of_loops)
        self._pid, self._lock, self._of_loops = os.getpid(), Lock(), {}


def client_of_url(url: Secret, *, timeout: float, max_connections: int) -> Callable[[], Redis]:
    """Return what makes a client that connects as the URL says. Raises `ConfigurationError`."""
    # A socket in a folder has no peer that could vanish, and takes no such option.
    alive = {} if url.reveal().startswith("unix:") else {"socket_keepalive": True}

    def make() -> Redis:
        return Redis.from_pool(
            BlockingConnectionPool.from_url(
                url.reveal(),
                max_connections=max_connections,
                # `Caller` times the whole of a call; timers for each of its parts cost more
                # than the command.
                timeout=None,
                socket_timeout=None,
                socket_connect_timeout=None,
                retry=Retry(NoBackoff(), _RETRIES),
                protocol=2,
                **alive,
            )
        )

    try:
        # Options are looked at when a connection is made, which does not yet connect.
        pool = make().connection_pool
        pool.connection_class(**pool.connection_kwargs)
    except (ValueError, TypeError):
        pass
    else:
        return make
    raise ConfigurationError("url", "is redis://, rediss:// or unix://, with options of redis-py")


def _maker(client: Client | Callable[[], Client]) -> Callable[[], Client]:
    if isinstance(client, Redis | RedisCluster):
        return lambda: client
    if not callable(client):
        raise ConfigurationError("client", "is redis.asyncio.Redis, or a function that makes one")
    return client


def _checked(client: Client) -> Client:
    if not isinstance(client, Redis | RedisCluster):
        raise ConfigurationError("client", "must make redis.asyncio.Redis or RedisCluster")
    if client.get_encoder().decode_responses:
        raise ConfigurationError("client", "must not decode responses: values are bytes")
    return client


def _time() -> float:
    return asyncio.get_running_loop().time()


async def _close(client: Client) -> None:
    await client.aclose()
    if isinstance(client, Redis) and isinstance(client.connection_pool, SentinelConnectionPool):
        for sentinel in client.connection_pool.sentinel_manager.sentinels:
            await sentinel.aclose()


# ------------------------------------------------------------------- what can fail

_FAILURES: Final = (failures.RedisError, failures.RedisClusterException)

_TEMPORARY: Final[tuple[tuple[type[Exception], str], ...]] = (
    (failures.AuthenticationError, "the server wants another name or password; check the URL"),
    (failures.NoPermissionError, "the user may not do this; give it the prefix and scripts"),
    (failures.BusyLoadingError, "the server is loading its data"),
    (failures.MaxConnectionsError, "every connection is in use; allow more"),
    (failures.TimeoutError, "the server did not answer in time"),
    (failures.ConnectionError, "the server cannot be reached"),
    (failures.ReadOnlyError, "the server is a replica (READONLY); find the new primary"),
    (failures.OutOfMemoryError, "the server is out of memory (OOM); give it more"),
    (failures.ClusterDownError, "the cluster is down (CLUSTERDOWN)"),
    (failures.TryAgainError, "the cluster is moving the slot (TRYAGAIN)"),
    (failures.RedisClusterException, "the cluster cannot be reached"),
)

_TEMPORARY_CODES: Final = {
    "NOAUTH": "the server wants another name or password; check the URL",
    "WRONGPASS": "the server wants another name or password; check the URL",
    "MISCONF": "the server cannot save to its disk (MISCONF); make room there",
    "MASTERDOWN": "the replica has lost its primary (MASTERDOWN)",
    "NOREPLICAS": "too few replicas follow the server (NOREPLICAS)",
    "BUSY": "a script holds the server up (BUSY)",
    "LOADING": "the server is loading its data",
    "OOM": "the server is out of memory (OOM); give it more",
    "READONLY": "the server is a replica (READONLY); find the new primary",
}


def refusal(error: Exception, timeout: float) -> Exception:
    """Return what to raise, once the block that caught `error` is left.

    What the server said is not repeated: it may quote the command, with everything in it.
    """
    if isinstance(error, failures.MovedError | failures.AskError):
        return ConfigurationError("client", "the server is part of a cluster; give a RedisCluster")
    for kind, problem in _TEMPORARY:
        if isinstance(error, kind):
            return StoreUnavailable(f"Redis: {problem}")
    if isinstance(error, TimeoutError):
        return StoreUnavailable(f"Redis: no answer within {timeout} seconds")
    if isinstance(error, OSError):
        return StoreUnavailable("Redis: the server cannot be reached")
    return _refusal_of_command(str(error))


def _refusal_of_command(said: str) -> Exception:
    code = said.partition(" ")[0]
    if "unknown command" in said.lower():
        return ConfigurationError("client", "the server must be Redis 7.0 or newer, or Valkey")
    if "DB index" in said:
        return ConfigurationError("url", "names a database that the server does not have")
    if code == "WRONGTYPE":
        return ConfigurationError("prefix", "is used by another program on the server; choose one")
    known = code if code.isalpha() and code.isupper() else "ERR"
    return StoreUnavailable(f"Redis: {_TEMPORARY_CODES.get(code, f'a command failed ({known})')}")
