"""The clients of one Redis store: one for each event loop."""

from __future__ import annotations

import asyncio
import os
from threading import Lock
from typing import TYPE_CHECKING, Final

from redis.asyncio import BlockingConnectionPool, Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.backoff import NoBackoff

from ..errors import ConfigurationError
from .redis_caller import Caller

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..secret import Secret
    from .redis_caller import Client
    from .redis_scripts import Script

_RETRIES: Final = 1
"""A connection may have died since it was last used. No write is done twice by it, as
`redis_scripts` says; and more tries than one would only hide an outage."""


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
        loop = asyncio.get_running_loop()
        with self._lock:
            caller = self._of_loops.pop(loop, None)
        if caller is None or caller.client is self._lent:
            return
        try:
            await caller.aclose()
        except asyncio.CancelledError:
            # Whoever closes again finds what was left open.
            self._of_loops.setdefault(loop, caller)
            raise

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
            client = _hastened(_checked(self._make()), timeout=self._timeout)
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


def _hastened(client: Client, *, timeout: float) -> Client:
    """Let it turn to another sentinel, or to the rest of a cluster, before a call is given up.

    The defaults of redis-py take longer, and a call that is cut off learns nothing.
    """
    if isinstance(client, RedisCluster):
        nodes = client.nodes_manager
        for settings in (
            nodes.connection_kwargs,
            *(node.connection_kwargs for node in nodes.startup_nodes.values()),
        ):
            for name in ("socket_timeout", "socket_connect_timeout"):
                settings[name] = min(settings.get(name) or timeout, 0.4 * timeout)
    elif isinstance(client.connection_pool, SentinelConnectionPool):
        for sentinel in client.connection_pool.sentinel_manager.sentinels:
            sentinel.set_retry(Retry(NoBackoff(), 0))
    return client
