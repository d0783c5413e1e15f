"""An ASGI app on a socket of this machine, for browsers and for other processes."""

from __future__ import annotations

import asyncio
import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from .provider import DROP_EXTENSION, Provider

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.types import ASGIApp, Receive, Scope, Send

START_DEADLINE = 10.0
"""Seconds that an app may take to start."""


@contextmanager
def serve(app: ASGIApp, *, host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """Run an app in a thread of its own, and give its address, `http://127.0.0.1:<port>`.

    Port 0 takes a free one. A `Provider` whose issuer has port 0 learns its address
    and becomes that issuer:

        provider = Provider("http://127.0.0.1:0", clients=[...], users=[...])
        with serve(provider) as address:
            assert provider.issuer == address

    Lifespan messages are sent. Leaving ends the app, and requests that still run
    after a second with it. Raises `OSError` if the port is taken, `RuntimeError` if
    the app does not start.
    """
    with listen(host, port) as listening:
        address = f"http://{host}:{listening.getsockname()[1]}"
        if isinstance(app, Provider) and app.issuer.endswith(":0"):
            app.move_to(address)
        server = _Server(configure(app))
        thread = threading.Thread(target=server.run_until_told, args=(listening,), daemon=True)
        thread.start()
        try:
            if not server.settled.wait(START_DEADLINE) or not server.started:
                raise RuntimeError("the app did not start")
            yield address
        finally:
            server.should_exit = True
            thread.join()


def listen(host: str, port: int) -> socket.socket:
    """Take a port; raises `OSError` if somebody else has it."""
    return socket.create_server((host, port), backlog=128)


def configure(app: ASGIApp) -> uvicorn.Config:
    """Return settings with which a connection can be dropped, and requests are not logged."""
    return uvicorn.Config(
        app,
        http=DroppingProtocol,
        ws="none",
        lifespan="auto",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=1,
    )


class DroppingProtocol(H11Protocol):
    """HTTP/1.1 on a connection that the app can drop instead of answering."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Let the app see, in its scope, how to drop this connection."""
        super().connection_made(transport)
        inner = self.app
        self._gone = asyncio.Event()

        async def drop() -> None:
            # The server would answer 500 if the app returned while it is open.
            transport.close()
            await self._gone.wait()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            scope.setdefault("extensions", {})[DROP_EXTENSION] = drop
            await inner(scope, receive, send)

        self.app = app

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        super().connection_lost(exc)
        self._gone.set()


class _Server(uvicorn.Server):
    """A server that says when it has started, or will not."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.settled = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.settled.set()

    def run_until_told(self, listening: socket.socket) -> None:
        try:
            self.run([listening])
        except SystemExit:
            # How uvicorn says that the app's lifespan failed; `started` stays False.
            pass
        finally:
            self.settled.set()
