"""An app on two workers, the provider and the store behind them, and browsers in front.

Everything is real but the network and the time: the middleware, the stores, the strict
test provider. What goes wrong is what a rule of the machine asks for.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property
from http.cookies import SimpleCookie
from inspect import iscoroutinefunction
from itertools import count
from random import Random
from typing import TYPE_CHECKING, Any, Final
from unittest.mock import patch
from urllib.parse import urlsplit

import httpx
import redis
from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route
from virtual_loop import VirtualLoop

from redis_server import LET_PASS
from tokenward import (
    Lifetimes,
    OpenIDProvider,
    TokenManagement,
    TokenManagementMiddleware,
    get_user_access_token,
)
from tokenward.errors import StoreUnavailable
from tokenward.stores.memory import MemoryStore
from tokenward.stores.redis import RedisStore
from tokenward.stores.sqlite import SQLiteStore
from tokenward.testing import Client, Provider, User
from tokenward.web.session import ConnectionSession

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from starlette.requests import Request
    from starlette.responses import Response

    from canaries import Canaries
    from tokenward.events import Event
    from tokenward.tokens.interfaces import Store
    from tokenward.tokens.session import Session

ORIGIN: Final = "https://app.test"
START: Final = 1_893_456_000.0
USERS: Final = ("alice", "bob")

TOKEN_LIFETIME: Final = 600
MARGIN: Final = 60.0
IDLE: Final = 3600.0
INTERVAL: Final = 60.0
"""Seconds between two writes that only begin the idle time anew."""
ABSOLUTE: Final = 3 * 3600.0
GRANT_LIFETIME: Final = 9000
"""Of refresh tokens: shorter than that of a session, so that some grants end first."""

CARRIED: Final = "cart"
"""The one key of `request.session` that survives a login."""

NAVIGATION: Final = {"sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
SCRIPT: Final = {"sec-fetch-mode": "cors", "sec-fetch-dest": "empty"}


# ------------------------------------------------------------------- the app


async def _plain(request: Request) -> Response:
    return PlainTextResponse("plain")


async def _me(request: Request) -> Response:
    user = request.user
    sid = user.claims["sid"] if user.is_authenticated else None
    return JSONResponse({"sid": sid, "data": dict(request.session)})


async def _token(request: Request) -> Response:
    token = await get_user_access_token(request)
    return JSONResponse({"sid": request.user.claims["sid"], "token": token.value})


async def _page(request: Request) -> Response:
    return PlainTextResponse(str(request.user.claims["sid"]))


async def _keep(request: Request) -> Response:
    request.session.update(request.query_params)
    return PlainTextResponse("kept")


def _app(auth: TokenManagement) -> Starlette:
    paths = {"/": _plain, "/me": _me, "/token": _token, "/page": _page, "/keep": _keep}
    app = Starlette(routes=[Route(path, answer) for path, answer in paths.items()])
    app.add_middleware(TokenManagementMiddleware, auth=auth)
    return app


# ------------------------------------------------------- stores, and what befalls them


class Gated:
    """The way of one worker to the store. It breaks on command, before or after the act."""

    def __init__(self, inner: Store, world: World) -> None:
        self._inner = inner
        self._world = world
        self.broken: frozenset[str] = frozenset()
        self.broken_after: frozenset[str] = frozenset()

    @property
    def is_broken(self) -> bool:
        return bool(self.broken or self.broken_after)

    def __getattr__(self, name: str) -> Any:
        operation = getattr(self._inner, name)
        if not iscoroutinefunction(operation):
            return operation

        async def call(*args: Any, **kwargs: Any) -> Any:
            self._world.catch_up()
            self._fail_if(name in self.broken or ("all" in self.broken and name != "aclose"))
            with self._world.loop.asking():
                result = await operation(*args, **kwargs)
            self._fail_if(name in self.broken_after)
            return result

        return call

    def _fail_if(self, broken: bool) -> None:
        if broken:
            self._world.trouble()
            raise StoreUnavailable("the store is out of reach", retry_after=2.0)


class Places:
    """Where stores rest, for one test. `redis_url` starts a server for those who need one."""

    def __init__(
        self, folder: Path, redis_url: Callable[[], str], canaries: Canaries | None = None
    ) -> None:
        self.folder = folder
        self.canaries = canaries
        self._redis_url = redis_url

    @cached_property
    def redis_url(self) -> str:
        return self._redis_url()

    @cached_property
    def redis(self) -> redis.Redis:
        return redis.Redis.from_url(self.redis_url, protocol=2)

    def close(self) -> None:
        if "redis" in vars(self):
            self.redis.close()


class Shelf:
    """A place where one world keeps its things, and the stores that lead there."""

    def __init__(self, kind: str, places: Places, clock: Callable[[], float]) -> None:
        self.kind = kind
        self.clock = clock
        self.name = secrets.token_hex(8)
        self._places = places
        self._memory = MemoryStore(clock=clock)
        self._seen = clock()

    def store(self) -> Store:
        """Return what leads there, one for each process but for memory."""
        if self.kind == "sqlite":
            return SQLiteStore(self._path, clock=self.clock)
        if self.kind == "redis":
            url = self._places.redis_url
            return RedisStore.from_url(url, prefix=f"{self.name}:", timeout=15.0)
        return self._memory

    def catch_up(self) -> None:
        """Let the time pass that has passed here; Redis keeps its own."""
        if self.kind != "redis":
            return
        now = self.clock()
        passed, self._seen = now - self._seen, now
        if passed:
            self._places.redis.eval(LET_PASS, 0, f"{self.name}:", round(passed * 1000))

    def flush(self) -> None:
        """Lose everything, as FLUSHALL does."""
        if self.kind == "redis":
            if names := self._places.redis.keys(f"{self.name}:*"):
                self._places.redis.delete(*names)
        elif self.kind == "sqlite":
            with closing(sqlite3.connect(self._path, timeout=20, isolation_level=None)) as direct:
                for table in ("entries", "leases", "members"):
                    direct.execute(f"DELETE FROM {table}")
        else:
            # In place: both workers have it.
            self._memory.__init__(clock=self.clock)  # type: ignore[misc]

    def forget(self) -> None:
        """Leave nothing behind."""
        if self.kind == "redis":
            self.flush()
        for path in self._places.folder.glob(f"{self.name}*"):
            path.unlink()

    @property
    def _path(self) -> Path:
        return self._places.folder / f"{self.name}.db"


# ----------------------------------------------------------------------- the provider


class Wire(httpx.AsyncBaseTransport):
    """The way to the provider, which is cut on command."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._transport = httpx.ASGITransport(world.op)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self._world.op_is_down:
            self._world.trouble()
            raise httpx.ConnectError("refused", request=request)
        return await self._transport.handle_async_request(request)


def make_provider(clock: Callable[[], float]) -> Provider:
    """Make the strictest provider: refresh tokens are good once, and reuse ends the grant."""
    client = Client(
        "app",
        redirect_uris=[f"{ORIGIN}/auth/callback"],
        post_logout_redirect_uris=[f"{ORIGIN}/auth/logout/callback"],
        access_token_lifetime=TOKEN_LIFETIME,
        refresh_token_lifetime=GRANT_LIFETIME,
        # Signing with it takes a tenth of the time.
        id_token_signed_response_alg="ES256",
    )
    return Provider(
        "https://op.test",
        clients=[client],
        users=[User(sub) for sub in USERS],
        clock=clock,
        connection_error=httpx.ReadError,
    )


# --------------------------------------------------------------------------- workers


def secret_key(number: int) -> str:
    """Return one of the keys that the app has had, has, or will have."""
    return f"{number:04d}" + "fuvQBj8B5pts7Km2TfoqPp9ocLVoYlb1z0okhjW-0eHqN5Eh610NzZL7I6tl265Q"


class Worker:
    """One process of the app, with the keys that it was started with, the newest first."""

    def __init__(self, world: World, keys: tuple[int, ...]) -> None:
        self.keys = keys
        self.number = next(world.numbers)
        self.store = Gated(world.shelf.store(), world)
        world.stores.append(self.store)
        self.events: list[Event] = []
        self.auth = world.management(keys, self.store, self.events.append)
        self.app = _app(self.auth)

    @property
    def is_busy(self) -> bool:
        """Whether a refresh, or the saving of what it brought, is under way."""
        users = self.auth.user_tokens
        refresher = users._refresher
        return bool(
            len(users._flights) or len(refresher._unsaved) or len(refresher._unsaved._background)
        )

    @property
    def is_revoking(self) -> bool:
        return bool(self.auth.revoker._background)

    async def stop(self) -> None:
        """Stop as a server does that is told so: what is under way comes to its end."""
        async with self.auth.lifespan():
            pass


@dataclass
class Answer:
    """What a worker answered."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str:
        return next((value for key, value in self.headers if key == name), "")

    @property
    def location(self) -> str:
        return self.header("location")

    @property
    def text(self) -> str:
        return self.body.decode()

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Browser:
    """Cookies with their ends, by the clock of the world."""

    clock: Callable[[], float]
    jar: dict[str, tuple[str, float]] = field(default_factory=dict)

    def cookies(self) -> dict[str, str]:
        """Return what it would send now, oldest first."""
        now = self.clock()
        self.jar = {name: kept for name, kept in self.jar.items() if kept[1] > now}
        return {name: value for name, (value, _) in self.jar.items()}

    def take(self, answer: Answer) -> None:
        """Keep the cookies of an answer, as the `__Host-` prefix and Max-Age tell."""
        for key, line in answer.headers:
            if key != "set-cookie":
                continue
            ((name, morsel),) = SimpleCookie(line).items()
            assert name.startswith("__Host-tokenward"), name
            assert morsel["secure"], line
            assert morsel["httponly"], line
            assert morsel["path"] == "/", line
            assert not morsel["domain"], line
            age = float(morsel["max-age"])
            if age <= 0:
                self.jar.pop(name, None)
            else:
                self.jar[name] = (morsel.value, self.clock() + age)


class World:
    """All of it, for one example."""

    def __init__(self, kind: str, places: Places) -> None:
        self.kind = kind
        self.in_cookies = kind.startswith("cookie")
        self.loop = VirtualLoop()
        self.op = make_provider(self.clock)
        self.op_is_down = False
        self.trouble_until = 0.0
        self.numbers = count(1)
        self.stores: list[Gated] = []
        shelf = {"cookie": "memory", "cookie+sqlite": "sqlite"}.get(kind, kind)
        self.shelf = Shelf(shelf, places, self.clock)
        self._canaries = places.canaries
        # In cookies alone, sessions are safe in one process only: that is what is promised.
        self.workers = [Worker(self, (0,)) for _ in range(1 if kind == "cookie" else 2)]
        self.browsers = [Browser(self.clock) for _ in range(3)]
        self.events: list[Event] = []
        self.auditor = self._audit()
        self.loop.run(self._open())

    # ------------------------------------------------------------------- time and trouble

    def clock(self) -> float:
        return START + self.loop.time()

    def catch_up(self) -> None:
        self.shelf.catch_up()

    def trouble(self, *, seconds: float = 70.0) -> None:
        """Something failed just now: for so long a 503 is no surprise."""
        self.trouble_until = max(self.trouble_until, self.clock() + seconds)

    @property
    def is_troubled(self) -> bool:
        return self.clock() < self.trouble_until or self.is_busy

    @property
    def is_rolling(self) -> bool:
        """Whether workers have different keys, so that one may write what the other cannot read."""
        return len({worker.keys for worker in self.workers}) > 1

    @property
    def is_busy(self) -> bool:
        return any(worker.is_busy for worker in self.workers)

    @property
    def is_revoking(self) -> bool:
        return any(worker.is_revoking for worker in self.workers)

    # ------------------------------------------------------------------------ the parts

    def management(
        self, keys: tuple[int, ...], store: Gated, on_event: Callable[[Event], None]
    ) -> TokenManagement:
        """Make what one process has."""
        provider = OpenIDProvider(
            self.op.issuer,
            client_id="app",
            client_secret="secret",
            scope="openid profile offline_access",
            id_token_algorithms=["ES256"],
            http=httpx.AsyncClient(transport=Wire(self)),
            clock=self.clock,
        )
        with patch("tokenward.management.secrets.randbits", Random(7).getrandbits):
            return TokenManagement(
                provider=provider,
                public_url=ORIGIN,
                secret_key=[secret_key(number) for number in keys],
                store=store,
                sessions="cookie" if self.in_cookies else None,
                carry_over=[CARRIED],
                lifetimes=Lifetimes(idle=IDLE, absolute=ABSOLUTE),
                clock=self.clock,
                on_event=on_event,
            )

    def _audit(self) -> Any:
        """Return what opens sessions with every key there is, and writes nothing."""
        keys = tuple(range(8))
        self.bare = Gated(self.shelf.store(), self)
        self.stores.append(self.bare)
        auth = self.management(keys, self.bare, lambda event: None)
        return TokenManagementMiddleware(_app(auth), auth=auth)

    async def look(self, cookies: Mapping[str, str]) -> Session | None:
        """Return the session that these cookies lead to, the newest version of it."""
        connection = ConnectionSession(
            self.auditor._source, _cookie_header(cookies), writable=False, root_path=""
        )
        return await connection.load()

    async def deploy(self, number: int, keys: tuple[int, ...]) -> None:
        """Stop a worker, and start another one with other keys in its place."""
        old = self.workers[number]
        await old.stop()
        self.events += old.events
        self.workers[number] = Worker(self, keys)
        await self._open()

    async def _open(self) -> None:
        """Let nothing happen sooner or later because a file is opened, which threads do."""
        for store in [self.bare, *(worker.store for worker in self.workers)]:
            with self.loop.asking():
                await store._inner.get("nothing")

    # ------------------------------------------------------------------------- requests

    async def send(
        self,
        worker: int,
        target: str,
        *,
        cookies: Mapping[str, str],
        headers: Mapping[str, str] = NAVIGATION,
        method: str = "GET",
    ) -> Answer:
        """Send one request to a worker. Whatever the app raises fails the example."""
        path, _, query = target.partition("?")
        fields = [(b"host", b"app.test"), *_cookie_header(cookies)]
        fields += [(name.encode(), value.encode()) for name, value in headers.items()]
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "https",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": fields,
            "client": ("127.0.0.1", 1),
            "server": ("app.test", 443),
        }
        sent: list[Any] = []

        async def receive() -> dict[str, object]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def note(message: Any) -> None:
            sent.append(message)

        await self.workers[worker].app(scope, receive, note)
        body = b"".join(message.get("body", b"") for message in sent[1:])
        answered = [(name.decode(), value.decode()) for name, value in sent[0]["headers"]]
        return Answer(sent[0]["status"], answered, body)

    async def authorize(self, address: str, sub: str) -> str:
        """Sign in at the provider as a user does, and return where it sends the browser."""
        assert address.startswith("https://op.test/")
        self.op.sign_in_automatically(sub)
        transport = httpx.ASGITransport(self.op)
        answer = await transport.handle_async_request(httpx.Request("GET", address))
        location = answer.headers["location"]
        assert location.startswith(f"{ORIGIN}/auth/callback?")
        return urlsplit(location)._replace(scheme="", netloc="").geturl()

    # ---------------------------------------------------------------------------- the end

    def close(self) -> None:
        """Stop everything, and see that nothing is left behind."""
        self.op.behave()
        self.op_is_down = False
        for worker in self.workers:
            worker.store.broken = worker.store.broken_after = frozenset()
        try:
            self.loop.run(self._stop())
        finally:
            self.loop.close()
        if self._canaries is not None:
            leaks = self._canaries.leaks()
            # Each example has secrets of its own.
            self._canaries.__init__()  # type: ignore[misc]
            assert not leaks, leaks

    async def _stop(self) -> None:
        for worker in self.workers:
            await worker.stop()
        # A lease that is given back late opens the store of a worker that has stopped.
        for store in self.stores:
            await store.aclose()
        self.shelf.forget()


def _cookie_header(cookies: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    joined = "; ".join(f"{name}={value}" for name, value in cookies.items())
    return [(b"cookie", joined.encode())] if joined else []
