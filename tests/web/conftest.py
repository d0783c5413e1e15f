"""A site to test: an app with the middleware around it, a strict provider, and browsers.

    site = make_site("sqlite", carry_over=["cart"])
    await site.login("alice")
    await site.browser.get("/me")

`make_site` takes the kind of session, the app if it is not the usual one, and any
argument of `TokenManagement`. `kind` runs a test once for every kind.
"""

from __future__ import annotations

import inspect
import json
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol, cast

import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route

from tokenward import (
    OpenIDProvider,
    TokenManagement,
    TokenManagementMiddleware,
    get_user_access_token,
)
from tokenward.errors import StoreUnavailable
from tokenward.stores.memory import MemoryStore
from tokenward.stores.sqlite import SQLiteStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    import redis
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp

    from redis_server import RedisServer, TimedStore
    from tokenward.clock import Clock
    from tokenward.events import Event
    from tokenward.testing import FrozenClock, Provider
    from tokenward.testing.login import LoginAs
    from tokenward.tokens.interfaces import Entry, Store

KINDS = ("cookie", "memory", "sqlite", "redis")
KEY = "fuvQBj8B5pts7Km2TfoqPp9ocLVoYlb1z0okhjW-0eHqN5Eh610NzZL7I6tl265Q"
OTHER_KEY = "p3Wn7dQxkUe0t9YwVb6sZc2mHrLfJg84aXoTiE1KyRNDuCqMB5vPShGAzjFOlI-_"
URL = "https://app.test"


async def plain(request: Request) -> Response:
    """Touch nothing."""
    return PlainTextResponse("plain")


async def me(request: Request) -> Response:
    """Tell who is logged in."""
    return JSONResponse({"name": request.user.display_name, "known": request.user.is_authenticated})


async def session(request: Request) -> Response:
    """Return `request.session`; PATCH changes keys first, null deletes one."""
    if request.method == "PATCH":
        for key, value in (await request.json()).items():
            if value is None:
                request.session.pop(key, None)
            else:
                request.session[key] = value
    return JSONResponse(request.session)


async def token(request: Request) -> Response:
    """Return the access token."""
    return PlainTextResponse((await get_user_access_token(request)).value)


ROUTES = (
    Route("/", plain),
    Route("/me", me),
    Route("/session", session, methods=["GET", "PATCH"]),
    Route("/token", token),
)


class Flaky:
    """A store that is out of reach when told so, and counts what it is asked."""

    def __init__(self, store: Store) -> None:
        self.inner = store
        self.broken: frozenset[str] = frozenset()
        self.calls: list[str] = []

    def break_(self, *operations: str) -> None:
        self.broken = frozenset(operations)

    def __getattr__(self, name: str) -> Any:
        operation = getattr(self.inner, name)
        if not inspect.iscoroutinefunction(operation):
            return operation

        async def call(*args: Any, **kwargs: Any) -> Any:
            self.calls.append(name)
            if name in self.broken or "all" in self.broken:
                raise StoreUnavailable("the store is down", retry_after=3.0)
            return await operation(*args, **kwargs)

        return call


@dataclass
class Raw:
    """An answer as it went to the server."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes

    @property
    def set_cookies(self) -> list[str]:
        """The Set-Cookie values."""
        return [value.decode() for name, value in self.headers if name == b"set-cookie"]

    @property
    def cleared(self) -> set[str]:
        """The names of the cookies that it deletes."""
        return {line.partition("=")[0] for line in self.set_cookies if "; Max-Age=0;" in line}

    def json(self) -> Any:
        """The body."""
        return json.loads(self.body)


async def call(
    app: ASGIApp, path: str, headers: list[tuple[bytes, bytes]], method: str = "GET"
) -> Raw:
    """Call an ASGI app with one request."""
    sent: list[Any] = []
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "https",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "server": ("app.test", 443),
    }

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    body = b"".join(message.get("body", b"") for message in sent[1:])
    return Raw(sent[0]["status"], sent[0]["headers"], body)


@dataclass
class Site:
    """An app, its `TokenManagement`, and a browser that visits it."""

    kind: str
    app: ASGIApp
    auth: TokenManagement
    provider: Provider
    clock: FrozenClock
    log_in: LoginAs
    events: list[Event]
    store: Flaky | None
    browser: httpx.AsyncClient = field(init=False)
    _browsers: list[httpx.AsyncClient] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.browser = self.new_browser()

    def new_browser(self, *, raising: bool = True, url: str = URL) -> httpx.AsyncClient:
        """Return another browser, with no cookies yet."""
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=raising)
        browser = httpx.AsyncClient(transport=transport, base_url=url)
        self._browsers.append(browser)
        return browser

    async def login(self, sub: str = "alice", browser: httpx.AsyncClient | None = None) -> None:
        """Log in by the real routes."""
        response = await self.log_in(browser or self.browser, sub)
        assert response.status_code == 200, response.text

    async def who(self, browser: httpx.AsyncClient | None = None) -> str:
        """Return the name of the user who is logged in; empty if nobody is."""
        response = await (browser or self.browser).get("/me")
        assert response.status_code == 200, response.text
        name: str = response.json()["name"]
        return name

    async def keep(
        self, browser: httpx.AsyncClient | None = None, /, **changes: object
    ) -> httpx.Response:
        """Change keys of `request.session`; None deletes one."""
        response = await (browser or self.browser).patch("/session", content=json.dumps(changes))
        assert response.status_code == 200, response.text
        return response

    async def kept(self, browser: httpx.AsyncClient | None = None) -> dict[str, object]:
        """Return `request.session`."""
        found: dict[str, object] = (await (browser or self.browser).get("/session")).json()
        return found

    def cookies(self, browser: httpx.AsyncClient | None = None) -> dict[str, str]:
        """Return the cookies that a browser holds."""
        return {cookie.name: cookie.value or "" for cookie in (browser or self.browser).cookies.jar}

    async def send(self, cookie: str | bytes, path: str = "/me") -> httpx.Response:
        """Send a request with exactly this Cookie header, from a browser that knows nothing."""
        raw = cookie.encode("latin-1") if isinstance(cookie, str) else cookie
        return await self.new_browser().get(path, headers=[(b"cookie", raw)])

    async def ask(self, path: str = "/me", *, cookie: bytes = b"", **fields: str) -> Raw:
        """Send a GET by the bare protocol, which is quick and lets any bytes through."""
        headers = [(b"host", b"app.test")] + [(b"cookie", cookie)] * bool(cookie)
        headers += [(k.replace("_", "-").encode(), v.encode()) for k, v in fields.items()]
        return await call(self.app, path, headers)

    def entries(self) -> dict[str, Entry]:
        """Return what the `MemoryStore` holds."""
        assert self.store is not None
        things = self.store.inner._values._things
        return {key: entry for key, (entry, _) in things.items()}

    def overwrite(self, key: str, value: bytes) -> None:
        """Put other bytes under a key of the `MemoryStore`, as another tenant of it might."""
        assert self.store is not None
        entry = self.entries()[key]
        self.store.inner._values.place(key, replace(entry, value=value), self.clock() + 3600)

    async def aclose(self) -> None:
        if self.store:
            self.store.break_()
        for browser in self._browsers:
            await browser.aclose()
        async with self.auth.lifespan():
            pass


class MakeSite(Protocol):
    """The type of the fixture `make_site`."""

    def __call__(
        self,
        kind: str = "cookie",
        *,
        app: Callable[[], Any] | None = None,
        scope: str = "openid profile email api offline_access",
        client_id: str = "app",
        store: Store | None = None,
        install: bool = True,
        **settings: Any,
    ) -> Site:
        """Make a site."""


@pytest.fixture
def other_key() -> str:
    """Return a `secret_key` that is not the usual one."""
    return OTHER_KEY


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Run the test for every kind of session."""
    kind: str = request.param
    return kind


@pytest.fixture(params=("memory", "sqlite", "redis"))
def stored(request: pytest.FixtureRequest) -> str:
    """Run the test for every kind of session that rests in a store."""
    kind: str = request.param
    return kind


@pytest.fixture(params=("memory", "sqlite", "redis"))
def shared_store(
    request: pytest.FixtureRequest,
    frozen_clock: FrozenClock,
    tmp_path: Path,
    redis_store: Callable[[Clock], TimedStore],
) -> Callable[[], Store]:
    """Stores that processes share: each call opens the same one, as another process would."""
    if request.param == "sqlite":
        return lambda: SQLiteStore(tmp_path / "shared.db", clock=frozen_clock)
    store: Store = (
        MemoryStore(clock=frozen_clock)
        if request.param == "memory"
        else cast("Store", redis_store(frozen_clock))
    )
    return lambda: store


@pytest.fixture
def server(own_redis: Callable[..., RedisServer]) -> RedisServer:
    """A Redis server that the test may break."""
    return own_redis()


@pytest.fixture
def admin(server: RedisServer) -> Iterator[redis.Redis]:
    """A client to do things to the server with."""
    with closing(server.client()) as client:
        yield client


@pytest.fixture(params=("stored", "cookie"))
def resting(request: pytest.FixtureRequest) -> str:
    """Run the test with sessions in the store, and in cookies beside it."""
    place: str = request.param
    return place


@pytest.fixture
def make_process(
    make_site: MakeSite, shared_store: Callable[[], Store], resting: str
) -> Callable[..., Site]:
    """Return a function that makes the same site again, as another process on the same store."""

    def make(**settings: Any) -> Site:
        return make_site(resting, store=shared_store(), **settings)

    return make


@pytest.fixture
async def make_site(
    oidc_provider: Provider,
    frozen_clock: FrozenClock,
    login_as: LoginAs,
    tmp_path: Path,
    redis_store: Callable[[Clock], TimedStore],
) -> AsyncIterator[MakeSite]:
    """Return a function that makes a site; see the module."""
    sites: list[Site] = []

    def make(
        kind: str = "cookie",
        *,
        app: Callable[[], Any] | None = None,
        scope: str = "openid profile email api offline_access",
        client_id: str = "app",
        store: Store | None = None,
        install: bool = True,
        **settings: Any,
    ) -> Site:
        provider = OpenIDProvider(
            oidc_provider.issuer,
            client_id=client_id,
            client_secret="secret",
            scope=scope,
            http=httpx.AsyncClient(transport=httpx.ASGITransport(oidc_provider)),
            clock=frozen_clock,
        )
        if store is None and kind == "memory":
            store = MemoryStore(clock=frozen_clock)
        elif store is None and kind == "sqlite":
            store = SQLiteStore(tmp_path / f"{len(sites)}.db", clock=frozen_clock)
        elif store is None and kind == "redis":
            store = cast("Store", redis_store(frozen_clock))
        flaky = store if isinstance(store, Flaky) or store is None else Flaky(store)
        events: list[Event] = []
        given: dict[str, Any] = {
            "provider": provider,
            "public_url": URL,
            "secret_key": KEY,
            "store": flaky,
            "sessions": "cookie" if kind == "cookie" else None,
            "on_event": events.append,
            **settings,
        }
        auth = TokenManagement(**given)
        built = app() if app else Starlette(routes=list(ROUTES))
        if install:
            built.add_middleware(TokenManagementMiddleware, auth=auth)
        site = Site(kind, built, auth, oidc_provider, frozen_clock, login_as, events, flaky)
        sites.append(site)
        return site

    yield make
    for site in sites:
        # None closes a store that another one still uses.
        await site.auth.user_tokens.drain(timeout=10)
    for site in sites:
        await site.aclose()
