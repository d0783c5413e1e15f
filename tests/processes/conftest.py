"""Real uvicorn workers on a socket, and a strict provider on another."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from tokenward.testing import Client, Provider, User, login_as, serve
from tokenward.testing.server import listen

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator, Iterator

AT_ONCE = 10
"""Connections that are opened together, so that whoever wakes up first cannot take them all."""


@dataclass
class Workers:
    """Workers behind one socket, and browsers that are connected to one of them each."""

    provider: Provider
    folder: Path
    store: str
    listening: socket.socket
    secret_key: str
    sessions: str
    count: int
    cookies: httpx.Cookies = field(default_factory=httpx.Cookies)
    _process: subprocess.Popen[str] | None = None
    _connected: list[httpx.AsyncClient] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.listening.getsockname()[1]}"

    def start(self) -> None:
        """Start the workers, and return when all are ready."""
        command = [sys.executable, "-m", "uvicorn", "app:app", "--workers", str(self.count)]
        command += ["--fd", str(self.listening.fileno()), "--no-access-log"]
        # A worker that has no processor for seconds is neither hung nor done. But one that dies
        # over a health check is replaced no sooner than that has ended.
        command += ["--timeout-keep-alive", "120", "--timeout-worker-healthcheck", "15"]
        command += ["--app-dir", str(Path(__file__).parent), "--timeout-graceful-shutdown", "10"]
        settings = {
            "TEST_FOLDER": str(self.folder),
            "TEST_STORE": self.store,
            "TEST_ISSUER": self.provider.issuer,
            "TEST_URL": self.url,
            "TEST_SECRET_KEY": self.secret_key,
            "TEST_SESSIONS": self.sessions,
        }
        self._process = subprocess.Popen(
            command,
            env={**os.environ, **settings},
            pass_fds=[self.listening.fileno()],
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._process.stderr is not None
        # A thread that waited for ever would outlive the time-out of the test.
        late = threading.Timer(100, self._process.terminate)
        late.start()
        ready = 0
        try:
            for line in self._process.stderr:
                ready += "Application startup complete" in line
                if ready == self.count:
                    return
        finally:
            late.cancel()
        raise AssertionError("the workers did not start")

    def stop(self) -> None:
        """Ask the workers to end, and wait until they have."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise

    async def log_in(self) -> None:
        """Log alice in, with an access token that is over at once; later ones are not."""
        app = replace(self.provider.clients["app"], refresh_token_overlap=0.0)
        self.provider.register(replace(app, access_token_lifetime=0))
        async with httpx.AsyncClient(base_url=self.url, timeout=60) as browser:
            response = await login_as(browser, "alice", provider=self.provider)
            assert response.status_code == 200, response.text
            self.cookies = browser.cookies
        self.provider.register(replace(app, access_token_lifetime=3600))

    def browser(self) -> httpx.AsyncClient:
        """Return a client with the cookies of the session."""
        return httpx.AsyncClient(
            base_url=self.url,
            cookies=self.cookies,
            timeout=60,
            # Whoever connects again may come to another worker.
            limits=httpx.Limits(keepalive_expiry=None),
            # There is no TLS, whose settings would take longer to read than all the rest.
            verify=False,
        )

    async def connect(self, each: int) -> dict[str, list[httpx.AsyncClient]]:
        """Return `each` clients per worker, whose only connection is to it.

        The kernel may give most connections to one worker, and another may just be started in
        the place of one that died; so what is too many is closed again.
        """
        found: dict[str, list[httpx.AsyncClient]] = {}
        async with asyncio.timeout(60):
            while len(found) < self.count or min(map(len, found.values())) < each:
                some = [self.browser() for _ in range(AT_ONCE)]
                self._connected += some
                pids = await asyncio.gather(*(browser.get("/pid") for browser in some))
                for browser, pid in zip(some, pids, strict=True):
                    known = found.setdefault(pid.text, [])
                    if len(known) < each:
                        known.append(browser)
                    else:
                        self._connected.remove(browser)
                        await browser.aclose()
        return found

    def die(self, where: str) -> None:
        """Let the worker that comes there first die by SIGKILL."""
        (self.folder / "deaths" / where).touch()

    @property
    def somebody_died(self) -> bool:
        """Whether nobody is to die any more."""
        return not any((self.folder / "deaths").iterdir())

    def refreshes(self) -> int:
        return self.provider.count("token", grant_type="refresh_token")

    async def disconnect(self) -> None:
        """Close all browsers."""
        while self._connected:
            await self._connected.pop().aclose()


@pytest.fixture(scope="module")
def count() -> int:
    """How many workers there are."""
    return 2


@pytest.fixture(
    scope="module",
    params=[("sqlite", "stored"), ("redis", "stored"), ("sqlite", "cookie"), ("redis", "cookie")],
    ids="-".join,
)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, count: int
) -> Iterator[Workers]:
    """Workers that serve `app.py`, and the provider that they use.

    Sessions are in a store, or in cookies with a store that coordinates.
    """
    folder = tmp_path_factory.mktemp("processes")
    kind, sessions = request.param
    store = str(folder / "sessions.db")
    if kind == "redis":
        store = request.getfixturevalue("redis_url")
    (folder / "deaths").mkdir()
    with listen("127.0.0.1", 0) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        app = Client("app", redirect_uris=[f"{url}/auth/callback"])
        provider = Provider(
            "http://127.0.0.1:0", clients=[app], users=[User("alice", name="Alice")]
        )
        with serve(provider):
            key = secrets.token_urlsafe(48)
            workers = Workers(provider, folder, store, listening, key, sessions, count)
            try:
                workers.start()
                yield workers
            finally:
                workers.stop()


@pytest.fixture
async def workers(server: Workers) -> AsyncIterator[Workers]:
    """The workers, and a session that has just expired."""
    await server.log_in()
    server.provider.requests.clear()
    yield server
    server.provider.behave()
    await server.disconnect()
