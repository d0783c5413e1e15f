"""HTTP clients of our own, for every event loop that needs one and for threads."""

from __future__ import annotations

import asyncio
import logging
import os
import urllib.request
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from ..process_lock import ProcessLock
from ..transport import new_async_client, new_sync_client

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

_logger = logging.getLogger("tokenward")


class OwnClient:
    """Give each event loop the client that belongs to it, made at its first use.

    The connections of a client are bound to the loop, and to the process: after a
    fork the child makes clients of its own, and leaves its parent's sockets alone.
    """

    def __init__(self, make: Callable[[], httpx.AsyncClient] = new_async_client) -> None:
        self._make = make
        self._pid = os.getpid()
        self._clients: WeakKeyDictionary[asyncio.AbstractEventLoop, httpx.AsyncClient] = (
            WeakKeyDictionary()
        )

    def get(self) -> httpx.AsyncClient:
        """Return the client of the running loop."""
        self._leave_to_parent()
        loop = asyncio.get_running_loop()
        client = self._clients.get(loop)
        if client is None or client.is_closed:
            if not self._clients and self._make is new_async_client:
                _tell_about_proxies()
            client = self._clients[loop] = self._make()
        return client

    async def aclose(self) -> None:
        """Close the client of the running loop. It is made again at its next use.

        The clients of other loops are theirs to close; those of loops that are
        gone are dropped with them.
        """
        self._leave_to_parent()
        client = self._clients.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.aclose()

    def _leave_to_parent(self) -> None:
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self._clients = WeakKeyDictionary()


class OwnSyncClient:
    """Give the threads of a process one client, made at its first use."""

    def __init__(self, make: Callable[[], httpx.Client] = new_sync_client) -> None:
        self._make = make
        self._lock = ProcessLock()
        self._pid = os.getpid()
        self._client: httpx.Client | None = None

    def get(self) -> httpx.Client:
        """Return the client of this process. After a fork its parent's sockets are left alone."""
        with self._lock:
            if self._client is None or self._client.is_closed or self._pid != os.getpid():
                self._pid, self._client = os.getpid(), self._make()
            return self._client

    def close(self) -> None:
        """Close the client. It is made again at its next use."""
        with self._lock:
            if self._client is not None and self._pid == os.getpid():
                self._client.close()
            self._client = None


def _tell_about_proxies() -> None:
    # The schemes alone: the address of a proxy may hold a password.
    if schemes := sorted(urllib.request.getproxies()):
        _logger.info(
            "calls to the provider obey the proxy settings of the environment: %s",
            ", ".join(schemes),
        )
