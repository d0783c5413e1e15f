"""An app that calls an API, by every way there is, and the API, which knows whose a token is."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import httpx
import pytest
from fastapi import BackgroundTasks, Depends, FastAPI, Request, WebSocket
from fastapi.responses import PlainTextResponse, StreamingResponse

from tokenward import ClientCredentials, OpenIDProvider, TokenManagement, TokenManagementMiddleware
from tokenward.errors import ProtocolError
from tokenward.fastapi import CurrentUser, http_client, sync_http_client, typed_client
from tokenward.httpx import UserTokenAuth
from tokenward.stores.memory import MemoryStore
from tokenward.stores.sqlite import SQLiteStore
from tokenward.testing import Client
from tokenward.testing.clients import TOKEN_EXCHANGE, USUAL_GRANTS
from tokenward.tokens.exchange import Exchange

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from tokenward.events import Event
    from tokenward.testing import FrozenClock, Provider
    from tokenward.testing.login import LoginAs

KEY = "fuvQBj8B5pts7Km2TfoqPp9ocLVoYlb1z0okhjW-0eHqN5Eh610NzZL7I6tl265Q"
API = "https://api.test"
LIFETIME = 3600


Named = Annotated[httpx.AsyncClient, Depends(http_client("api"))]


@dataclass
class Api:
    """Answers whose token it was sent; refuses what it is told to, and what is not valid."""

    provider: Provider
    seen: list[httpx.Headers] = field(default_factory=list)
    refuse: Callable[[httpx.Request], bool] = lambda _: False
    cookie: str | None = None

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.seen.append(request.headers)
        value = request.headers.get("authorization", "").removeprefix("Bearer ")
        token = self.provider._core.ledger.live_access_token(value)
        if token is None or self.refuse(request):
            return httpx.Response(401, headers={"www-authenticate": 'Bearer error="invalid_token"'})
        headers = {"set-cookie": self.cookie} if self.cookie else {}
        who = {"sub": token.grant.sub or token.grant.client_id, "aud": [*token.grant.resources]}
        return httpx.Response(200, json=who, headers=headers)

    async def asynchronously(self, request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0)
        return self(request)


class Invoices:
    """A typed client."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    async def owner(self) -> str:
        return (await self.http.get("/")).json()["sub"]


def make_app(auth: TokenManagement, plain: httpx.AsyncClient) -> FastAPI:
    app = FastAPI()
    jobs: list[str] = []
    app.state.jobs = jobs

    async def ask(api: httpx.AsyncClient, **headers: str) -> str:
        answer = await api.get("/", headers=headers)
        return answer.json()["sub"] if answer.is_success else str(answer.status_code)

    @app.get("/named")
    async def named(api: Named) -> str:
        return await ask(api)

    @app.get("/checked")
    async def checked(api: Named, user: CurrentUser) -> str:
        return await ask(api, **{"x-user": user.sub})

    @app.get("/plain")
    async def by_plain_client() -> str:
        return await ask(plain)

    @app.get("/typed")
    async def typed(api: Annotated[Invoices, Depends(typed_client(Invoices, "api"))]) -> str:
        return await api.owner()

    @app.get("/def")
    def in_a_thread(api: Annotated[httpx.Client, Depends(sync_http_client("api"))]) -> str:
        return api.get("/").json()["sub"]

    @app.get("/def-on-loop")
    async def in_no_thread(api: Annotated[httpx.Client, Depends(sync_http_client("api"))]) -> str:
        try:
            return api.get("/").json()["sub"]
        except TypeError as error:
            return str(error)

    @app.get("/to-thread")
    async def to_thread() -> str:
        client = auth.http.sync_client("api")
        return (await asyncio.to_thread(client.get, "/")).json()["sub"]

    @app.get("/self")
    async def myself(api: Annotated[httpx.AsyncClient, Depends(http_client("self"))]) -> str:
        return await ask(api)

    @app.get("/nobody")
    async def nobody(api: Annotated[httpx.AsyncClient, Depends(http_client("open"))]) -> str:
        return await ask(api)

    @app.get("/exchanged")
    async def exchanged(
        api: Annotated[httpx.AsyncClient, Depends(http_client("ledger"))],
    ) -> Any:
        try:
            return (await api.get("/")).json()
        except ProtocolError as error:
            return str(error)

    @app.get("/exchanged-status")
    async def exchanged_status() -> int:
        return (await auth.http.client("ledger").get("/")).status_code

    @app.get("/exchanged-token")
    async def exchanged_token(request: Request) -> PlainTextResponse:
        token = await auth.users.exchanged(request, Exchange(audience="ledger-api"))
        return PlainTextResponse(token.value)

    @app.get("/gather")
    async def gather(api: Named) -> list[str]:
        return await asyncio.gather(*(ask(api) for _ in range(10)))

    @app.get("/background")
    async def background(api: Named, tasks: BackgroundTasks) -> str:
        async def job() -> None:
            jobs.append(await ask(api))

        tasks.add_task(job)
        return "later"

    @app.get("/stream")
    async def stream(api: Named) -> StreamingResponse:
        async def parts() -> AsyncIterator[str]:
            for _ in range(3):
                yield await ask(api) + ";"

        return StreamingResponse(parts())

    @app.get("/handle")
    async def handle(request: Request) -> str:
        return await auth.users.handle(request)

    @app.websocket("/ws")
    async def socket(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text(await ask(plain))
        await websocket.close()

    return app


@dataclass
class Site:
    """The app, its browsers, and the API."""

    app: FastAPI
    auth: TokenManagement
    api: Api
    provider: Provider
    clock: FrozenClock
    log_in: LoginAs
    events: list[Event]
    browsers: list[httpx.AsyncClient] = field(default_factory=list)

    async def browser(self, sub: str | None = None) -> httpx.AsyncClient:
        """Return another browser, logged in if somebody is named."""
        transport = httpx.ASGITransport(self.app)
        browser = httpx.AsyncClient(transport=transport, base_url="https://app.test")
        self.browsers.append(browser)
        if sub:
            await self.log_in(browser, sub)
        return browser

    def refreshes(self) -> int:
        return self.provider.count("token", grant_type="refresh_token")


class MakeSite(Protocol):
    """The type of the fixture `make_site`."""

    def __call__(self, kind: str = "memory", **settings: Any) -> Site:
        """Make a site whose sessions rest in memory, sqlite or cookies."""


@pytest.fixture
async def make_site(
    oidc_provider: Provider, frozen_clock: FrozenClock, login_as: LoginAs, tmp_path: Path
) -> AsyncIterator[MakeSite]:
    """Return a function that makes a site; see the module."""
    sites: list[Site] = []
    oidc_provider.register(
        Client(
            "app",
            redirect_uris=["https://app.test/auth/callback"],
            grant_types=(*USUAL_GRANTS, TOKEN_EXCHANGE),
            access_token_lifetime=LIFETIME,
            refresh_token_lifetime=10**9,
            id_token_on_refresh=False,
        )
    )

    def make(kind: str = "memory", **settings: Any) -> Site:
        provider = OpenIDProvider(
            oidc_provider.issuer,
            client_id="app",
            client_secret="secret",
            scope="openid api offline_access",
            http=httpx.AsyncClient(transport=httpx.ASGITransport(oidc_provider)),
            clock=frozen_clock,
        )
        stores = {
            "memory": lambda: MemoryStore(clock=frozen_clock),
            "sqlite": lambda: SQLiteStore(tmp_path / f"{len(sites)}.db", clock=frozen_clock),
            "cookie": lambda: None,
        }
        events: list[Event] = []
        auth = TokenManagement(
            provider=provider,
            public_url="https://app.test",
            secret_key=KEY,
            store=stores[kind](),
            sessions="cookie" if kind == "cookie" else None,
            on_event=events.append,
            **settings,
        )
        api = Api(oidc_provider)

        def make() -> httpx.AsyncClient:
            return httpx.AsyncClient(transport=httpx.MockTransport(api.asynchronously))

        def make_sync() -> httpx.Client:
            return httpx.Client(transport=httpx.MockTransport(api))

        auth.clients.add("self", ClientCredentials.of_provider(provider, scope="api"))
        ways = {
            "api": "user",
            "self": "client:self",
            "open": None,
            "ledger": Exchange(audience="ledger-api"),
        }
        for name, token in ways.items():
            auth.http.add(name, base_url=API, token=token, make=make, make_sync=make_sync)
        plain = make()
        plain.base_url, plain.auth = API, UserTokenAuth(origins=API)
        app = make_app(auth, plain)
        app.add_middleware(TokenManagementMiddleware, auth=auth)
        site = Site(app, auth, api, oidc_provider, frozen_clock, login_as, events)
        sites.append(site)
        return site

    yield make
    for site in sites:
        for browser in site.browsers:
            await browser.aclose()
        async with site.auth.lifespan():
            pass
