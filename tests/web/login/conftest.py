"""Whole flows in process: an app, a provider, and browsers that can be looked into."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route

from tokenward import OpenIDProvider, TokenManagement, TokenManagementMiddleware
from tokenward.errors import StoreUnavailable
from tokenward.request_tokens import get_user_access_token
from tokenward.stores.memory import MemoryStore
from tokenward.stores.sqlite import SQLiteStore
from tokenward.testing import Client, FrozenClock, Provider, User
from tokenward.web.links import login_url, logout_url

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from pathlib import Path

    from starlette.requests import Request
    from starlette.responses import Response

    from redis_server import TimedStore
    from tokenward.clock import Clock
    from tokenward.events import Event
    from tokenward.tokens.interfaces import Entry, Lease, Store

KEY: Final = "fuvQBj8B5pts7Km2TfoqPp9ocLVoYlb1z0okhjW-0eHqN5Eh610NzZL7I6tl265Q"
ORIGIN: Final = "https://app.test"
NAVIGATION: Final = {"sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
STORED: Final = ("memory", "sqlite", "redis")
SAME_ORIGIN: Final = {**NAVIGATION, "sec-fetch-site": "same-origin"}


class Wire(httpx.AsyncBaseTransport):
    """The way to the provider, which breaks before anything is sent, on command."""

    def __init__(self, provider: Provider) -> None:
        self._transport = httpx.ASGITransport(provider)
        self.refused: dict[str, int] = {}
        """Path to how many connections to it will fail."""
        self.hosts: set[str] = set()
        """Where requests went."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.hosts.add(request.url.host)
        left = self.refused.get(request.url.path, self.refused.get("*", 0))
        if left:
            self.refused[request.url.path] = left - 1
            raise httpx.ConnectError("refused", request=request)
        return await self._transport.handle_async_request(request)


class FaultyStore:
    """A store that is out of reach for the operations named in `down`."""

    def __init__(self, inner: Store) -> None:
        self.inner = inner
        self.down: set[str] = set()
        self.keys: set[str] = set()
        """Every key that was ever written."""
        self.calls = 0

    def _check(self, operation: str) -> None:
        self.calls += 1
        if operation in self.down or "all" in self.down:
            raise StoreUnavailable("the store does not answer", retry_after=7)

    async def get(self, key: str) -> Entry | None:
        self._check("get")
        return await self.inner.get(key)

    async def get_many(self, *keys: str) -> tuple[Entry | None, ...]:
        self._check("get_many")
        return await self.inner.get_many(*keys)

    async def put(self, key: str, value: bytes, *, ttl: float, version: int | None) -> int:
        self._check("put")
        self.keys.add(key)
        return await self.inner.put(key, value, ttl=ttl, version=version)

    async def touch(self, *keys: str, ttl: float) -> None:
        self._check("touch")
        await self.inner.touch(*keys, ttl=ttl)

    async def delete(self, key: str, *, version: int | None = None, tombstone: float = 0.0) -> bool:
        self._check("delete")
        return await self.inner.delete(key, version=version, tombstone=tombstone)

    async def acquire(self, key: str, *, ttl: float) -> Lease | None:
        self._check("mark" if key.endswith(":used") else "acquire")
        return await self.inner.acquire(key, ttl=ttl)

    async def renew(self, lease: Lease, *, ttl: float) -> bool:
        self._check("renew")
        return await self.inner.renew(lease, ttl=ttl)

    async def release(self, lease: Lease) -> None:
        self._check("release")
        await self.inner.release(lease)

    async def add(self, index: str, member: str, *, ttl: float) -> None:
        self._check("add")
        await self.inner.add(index, member, ttl=ttl)

    async def members(self, index: str) -> frozenset[str]:
        self._check("members")
        return await self.inner.members(index)

    async def discard(self, index: str, member: str) -> None:
        self._check("discard")
        await self.inner.discard(index, member)

    async def aclose(self) -> None:
        await self.inner.aclose()


class Browser:
    """A browser at the app and at the provider: it keeps cookies, and follows nothing by itself."""

    def __init__(self, site: Site, origin: str = ORIGIN) -> None:
        self.site = site
        self.origin = origin
        self.app = httpx.AsyncClient(transport=httpx.ASGITransport(site.app), base_url=origin)
        self.op = httpx.AsyncClient(transport=httpx.ASGITransport(site.op))

    async def get(self, path: str, **headers: str) -> httpx.Response:
        """Navigate to a page of the app, or of its callback as an absolute address."""
        return await self.app.get(path, headers={**NAVIGATION, **_dashed(headers)})

    async def post(
        self, path: str, data: Mapping[str, str] | None = None, **headers: str
    ) -> httpx.Response:
        """Send a form."""
        return await self.app.post(path, data=data, headers={**NAVIGATION, **_dashed(headers)})

    async def ask(self, user: str, address: str) -> str:
        """Go to the provider's page and sign in there; return the callback's address."""
        self.op.cookies.clear()
        self.site.op.sign_in_automatically(user)
        answer = await self.op.get(address)
        assert answer.status_code == 303, answer.text
        return answer.headers["location"]

    async def begin(self, user: str = "alice", query: str = "") -> str:
        """Start a login, sign in at the provider, and return the callback's address."""
        started = await self.get(f"{self.site.prefix}/login{query}")
        assert started.status_code == 303, started.text
        return await self.ask(user, started.headers["location"])

    async def log_in(self, user: str = "alice", query: str = "") -> httpx.Response:
        """Log in, and return the answer of the callback."""
        answer = await self.get(await self.begin(user, query))
        assert answer.status_code == 303, answer.text
        return answer

    async def log_out(self, query: str = "") -> httpx.Response:
        """Press the button of a page of the app."""
        return await self.post(f"{self.site.prefix}/logout{query}", **_underscored(SAME_ORIGIN))

    async def me(self) -> dict[str, Any]:
        """Return what the app knows of this browser."""
        me: dict[str, Any] = (await self.get("/me")).json()
        return me

    async def user(self) -> str | None:
        """Return who is logged in."""
        return (await self.me())["sub"]

    def cookies(self, kind: str = "") -> dict[str, str]:
        """Return our cookies: of attempts (`login`), marks (`loop`, `logout`) or the session."""
        found = {}
        for cookie in self.app.cookies.jar:
            name = cookie.name.removeprefix("__Host-")
            purpose = name.split("-")[1] if "-" in name else ""
            mine = purpose == kind if kind else purpose not in {"login", "loop", "logout"}
            if name.startswith("tokenward") and mine:
                found[cookie.name] = cookie.value or ""
        return found

    def jar(self) -> dict[str, str]:
        """Return all cookies that the app has set."""
        return {cookie.name: cookie.value or "" for cookie in self.app.cookies.jar}

    def plant(self, cookies: Mapping[str, str]) -> None:
        """Set cookies as if the app had."""
        for name, value in cookies.items():
            self.app.cookies.set(name, value, domain=urlsplit(self.origin).hostname or "", path="/")

    def attempts(self) -> list[str]:
        """Return the names of the cookies of logins under way."""
        return sorted(self.cookies("login"))

    @asynccontextmanager
    async def nothing_changes(self) -> AsyncIterator[None]:
        """Show that the session stays exactly as it is: same cookies, same user, same tokens."""
        before = (self.cookies(), await self.me())
        alive = self.site.live_families()
        yield
        assert (self.cookies(), await self.me()) == before
        assert alive <= self.site.live_families()

    @asynccontextmanager
    async def refused(self, *, attempt_ends: bool, calls: int = 0) -> AsyncIterator[None]:
        """Show R400 or FAIL: nothing changes, and `calls` token calls are made."""
        attempts, exchanged = self.attempts(), self.site.exchanges
        async with self.nothing_changes():
            yield
        assert self.site.exchanges == exchanged + calls
        assert (self.attempts() != attempts) == attempt_ends


@dataclass
class Site:
    """An app, its provider, and what happened."""

    app: Any
    auth: TokenManagement
    op: Provider
    wire: Wire
    clock: FrozenClock
    events: list[Event]
    store: Any
    browsers: list[Browser] = field(default_factory=list)
    prefix: str = "/auth"
    hook: Callable[..., Any] | None = None

    def browser(self, origin: str = ORIGIN) -> Browser:
        """Open a browser that nobody used before."""
        self.browsers.append(Browser(self, origin))
        return self.browsers[-1]

    @property
    def exchanges(self) -> int:
        """How many codes were sent to the provider."""
        return self.op.count("token", grant_type="authorization_code")

    def live_families(self) -> set[int]:
        """Return the logins whose tokens the provider still takes."""
        return {family.family_id for family in self.op.families if family.ended is None}

    def told(self, kind: type[Event]) -> list[Any]:
        """Return the events of one kind."""
        return [event for event in self.events if isinstance(event, kind)]

    async def settle(self) -> None:
        """Wait for revocations that go on behind the scenes."""
        await self.auth.revoker.drain(timeout=5)


async def _me(request: Request) -> Response:
    known = request.user.is_authenticated
    tokens = await request.app.state.auth.users.tokens(request) if known else None
    return JSONResponse(
        {
            "sub": request.user.sub if known else None,
            "issuer": request.user.issuer if known else None,
            "claims": dict(request.user.claims) if known else None,
            "data": dict(request.session),
            "access_token": tokens.access_token.value if tokens else None,
            "refresh_token": tokens.refresh_token.reveal()
            if tokens and tokens.refresh_token
            else None,
            "login_url": login_url(request),
            "logout_url": logout_url(request),
        }
    )


async def _put(request: Request) -> Response:
    request.session.update(request.query_params)
    return PlainTextResponse("ok")


async def _token(request: Request) -> Response:
    token = await get_user_access_token(request)
    return JSONResponse({"expires_at": token.expires_at.isoformat()})


async def _home(request: Request) -> Response:
    return PlainTextResponse(request.url.path)


def make_app(auth: TokenManagement) -> Starlette:
    """Make the app that the tests log in at."""
    routes = [
        Route("/me", _me),
        Route("/put", _put),
        Route("/token", _token, methods=["GET", "POST"]),
        Route("/{path:path}", _home),
    ]
    app = Starlette(routes=routes)
    app.state.auth = auth
    app.add_middleware(TokenManagementMiddleware, auth=auth)
    return app


@pytest.fixture
def make_login_app() -> Callable[[TokenManagement], Starlette]:
    """Return `make_app`."""
    return make_app


@pytest.fixture
def op(frozen_clock: FrozenClock) -> Provider:
    """Return the provider that the sites log in at."""
    return make_provider(frozen_clock)


def make_provider(clock: FrozenClock, issuer: str = "https://op.test") -> Provider:
    """Make a provider with two users, for which a broken connection is one of httpx."""
    origins = [ORIGIN, "https://shop.test", f"{ORIGIN}/app"]
    client = Client(
        "app",
        redirect_uris=[
            f"{origin}{path}" for origin in origins for path in ("/auth/callback", "/back", "/cb/b")
        ],
        post_logout_redirect_uris=[f"{origin}/auth/logout/callback" for origin in origins],
    )
    users = [User(sub, name=sub.title()) for sub in ("alice", "bob")]
    return Provider(
        issuer, clients=[client], users=users, clock=clock, connection_error=httpx.ReadError
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run every test over every store, but those that say themselves which kinds they want."""
    wanted = set(metafunc.fixturenames)
    if "usual_kind" in wanted and not wanted & {"kind", "any_site"}:
        metafunc.parametrize("usual_kind", STORED, indirect=True)


@pytest.fixture
def usual_kind(request: pytest.FixtureRequest) -> str:
    """Return the kind of sessions of a site that is not told."""
    kind: str = getattr(request, "param", "memory")
    return kind


@pytest.fixture
async def make_login_site(
    op: Provider,
    frozen_clock: FrozenClock,
    tmp_path: Path,
    redis_store: Callable[[Clock], TimedStore],
    usual_kind: str,
) -> AsyncIterator[Callable[..., Site]]:
    """Return a factory of sites. `provider` are settings of the `OpenIDProvider`."""
    sites: list[Site] = []

    def make_store(kind: str) -> FaultyStore | None:
        match kind:
            case "cookie":
                return None
            case "sqlite":
                return FaultyStore(SQLiteStore(tmp_path / "sessions.db", clock=frozen_clock))
            case "redis":
                return FaultyStore(cast("Store", redis_store(frozen_clock)))
            case _:
                return FaultyStore(MemoryStore(clock=frozen_clock))

    def make(
        kind: str = usual_kind, *, provider: Mapping[str, Any] | None = None, **settings: Any
    ) -> Site:
        wire = Wire(op)
        events: list[Event] = []
        client = make_client(op, wire, frozen_clock, **(provider or {}))
        store = make_store(kind)
        given: dict[str, Any] = {
            "public_url": ORIGIN,
            "secret_key": KEY,
            "store": store,
            "sessions": "cookie" if kind.startswith("cookie") else None,
            "on_event": events.append,
            **settings,
        }
        if "providers" not in given:
            given["provider"] = client
        auth = TokenManagement(**given)
        sites.append(Site(make_app(auth), auth, op, wire, frozen_clock, events, store))
        return sites[-1]

    yield make
    for site in sites:
        await site.settle()
        if isinstance(site.store, FaultyStore):
            await site.store.aclose()


def make_client(op: Provider, wire: Wire, clock: FrozenClock, **settings: Any) -> OpenIDProvider:
    """Make a client of the provider."""
    given: dict[str, Any] = {
        "client_id": "app",
        "client_secret": "secret",
        "scope": "openid profile offline_access",
        "http": httpx.AsyncClient(transport=wire),
        "clock": clock,
        **settings,
    }
    return OpenIDProvider(op.issuer, **given)


@pytest.fixture
def other_provider(frozen_clock: FrozenClock) -> tuple[Provider, OpenIDProvider]:
    """Return a second provider and a client of it, for apps that have two."""
    other = make_provider(frozen_clock, "https://other.test")
    return other, make_client(other, Wire(other), frozen_clock, redirect_path="/cb/b")


@pytest.fixture
def site(make_login_site: Callable[..., Site]) -> Site:
    """Return a site with sessions in a store, each in turn."""
    return make_login_site()


@pytest.fixture(params=["cookie", *STORED])
def any_site(request: pytest.FixtureRequest, make_login_site: Callable[..., Site]) -> Site:
    """Return sites with each kind of session."""
    return make_login_site(request.param)


@pytest.fixture
def browser(site: Site) -> Browser:
    """Return a browser at `site`."""
    return site.browser()


@pytest.fixture
def parse() -> Callable[[str], dict[str, str]]:
    """Return what reads the query of an address."""
    return lambda address: dict(parse_qsl(urlsplit(address).query, keep_blank_values=True))


@pytest.fixture
def alter() -> Callable[..., str]:
    """Return what changes parameters of an address; None takes one away."""

    def alter(address: str, **changes: str | None) -> str:
        base, _, query = address.partition("?")
        pairs = {**dict(parse_qsl(query, keep_blank_values=True)), **changes}
        return f"{base}?{urlencode({k: v for k, v in pairs.items() if v is not None})}"

    return alter


def _dashed(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


def _underscored(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("-", "_"): value for name, value in headers.items()}
