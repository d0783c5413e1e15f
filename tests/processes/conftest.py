"""Real uvicorn workers on a socket, and a strict provider on another."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
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

MOST_CONNECTIONS = 4000
"""The kernel may give most of them to one worker; who has enough closes its own again."""


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
        command += ["--timeout-keep-alive", "60"]
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
        ready = 0
        for line in self._process.stderr:
            ready += "Application startup complete" in line
            if ready == self.count:
                return
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
        async with httpx.AsyncClient(base_url=self.url, timeout=30) as browser:
            response = await login_as(browser, "alice", provider=self.provider)
            assert response.status_code == 200, response.text
            self.cookies = browser.cookies
        self.provider.register(replace(app, access_token_lifetime=3600))

    def browser(self) -> httpx.AsyncClient:
        """Return a client with the cookies of the session."""
        return httpx.AsyncClient(base_url=self.url, cookies=self.cookies, timeout=30)

    async def connect(self, each: int) -> dict[str, list[httpx.AsyncClient]]:
        """Return `each` clients per worker, whose only connection is to it."""
        found: dict[str, list[httpx.AsyncClient]] = {}
        for _ in range(MOST_CONNECTIONS):
            browser = self.browser()
            self._connected.append(browser)
            pid = (await browser.get("/pid")).text
            if len(found.setdefault(pid, [])) < each:
                found[pid].append(browser)
            else:
                await browser.aclose()
            if len(found) == self.count and all(len(known) == each for known in found.values()):
                return found
        raise AssertionError(f"of {MOST_CONNECTIONS} connections too few went to one worker")

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
