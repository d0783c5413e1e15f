"""The FastAPI dependencies, in routes of every kind."""

from __future__ import annotations

import asyncio
from typing import Annotated

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI, Request, WebSocket
from fastapi.responses import PlainTextResponse

from tokenward import (
    AccessToken,
    ConfigurationError,
    Lifetimes,
    NotAuthenticated,
    OpenIDProvider,
    TokenManagement,
    TokenManagementMiddleware,
    get_user_access_token,
    login_url,
    revoke_user_refresh_token,
)
from tokenward.errors import StoreUnavailable
from tokenward.fastapi import (
    CurrentUser,
    OptionalUser,
    UserAccessToken,
    current_user,
    require_role,
    user_access_token,
)
from tokenward.stores.memory import MemoryStore
from tokenward.stores.sqlite import SQLiteStore
from tokenward.testing import User

KEY = "fuvQBj8B5pts7Km2TfoqPp9ocLVoYlb1z0okhjW-0eHqN5Eh610NzZL7I6tl265Q"
PAGE = {"sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
ReportsToken = Annotated[AccessToken, Depends(user_access_token(resource="https://reports.test"))]
LesserToken = Annotated[AccessToken, Depends(user_access_token(scope="api"))]


class BrokenStore(MemoryStore):
    broken = False

    async def get_many(self, *keys):
        if self.broken:
            raise StoreUnavailable("down", retry_after=3.0)
        return await super().get_many(*keys)


def make_app():
    app = FastAPI()
    router = APIRouter(dependencies=[Depends(current_user)])

    @app.get("/")
    async def home(user: OptionalUser) -> str:
        return user.name if user else "nobody"

    @app.get("/user")
    async def user(user: CurrentUser) -> dict[str, object]:
        return {"name": user.name, "sub": user.sub, "roles": sorted(user.roles)}

    @app.get("/def")
    def in_a_thread(user: CurrentUser, token: UserAccessToken) -> str:
        return f"{user.name} {token.value}"

    @app.get("/token")
    async def token(token: UserAccessToken) -> dict[str, object]:
        return {"value": token.value, "expires_at": token.expires_at.isoformat()}

    @app.get("/getter")
    async def getter(token: Annotated[AccessToken, Depends(get_user_access_token)]) -> str:
        return token.value

    @app.get("/many")
    async def many(
        one: UserAccessToken,
        two: UserAccessToken,
        three: Annotated[AccessToken, Depends(get_user_access_token)],
    ) -> list[bool]:
        return [one is two, one == three]

    @app.get("/reports")
    async def reports(token: ReportsToken, own: UserAccessToken) -> dict[str, object]:
        return {"value": token.value, "resource": token.resource, "own": own.value}

    @app.get("/lesser")
    async def lesser(token: LesserToken) -> list[str]:
        return sorted(token.scope)

    @app.get("/admin", dependencies=[Depends(require_role("admin", "root"))])
    async def admin() -> str:
        return "in"

    @app.get("/who-is-admin")
    async def who(user: Annotated[object, Depends(require_role("admin"))]) -> str:
        return user.name  # type: ignore[attr-defined]

    @app.get("/session")
    async def session(request: Request) -> dict[str, object]:
        request.session.setdefault("visits", []).append(1)
        return request.session

    @app.post("/revoke")
    async def revoke(request: Request) -> str:
        await revoke_user_refresh_token(request)
        return "revoked"

    @app.get("/login-link")
    async def link(request: Request) -> str:
        return login_url(request)

    @app.websocket("/socket")
    async def socket(websocket: WebSocket, user: CurrentUser, token: UserAccessToken) -> None:
        await websocket.accept()
        await websocket.send_text(f"{user.name} {bool(token.value)}")
        await websocket.close()

    @app.websocket("/open-socket")
    async def open_socket(websocket: WebSocket, user: OptionalUser) -> None:
        await websocket.accept()
        await websocket.send_text(user.name if user else "nobody")
        await websocket.close()

    @router.get("/guarded")
    async def guarded() -> str:
        return "in"

    app.include_router(router)
    return app


class Site:
    def __init__(self, app, auth, login_as):
        self.app, self.auth, self._login_as = app, auth, login_as
        transport = httpx.ASGITransport(app)
        self.browser = httpx.AsyncClient(transport=transport, base_url="https://app.test")

    async def login(self):
        response = await self._login_as(self.browser, "alice")
        assert response.status_code == 200, response.text

    async def get(self, path, **headers):
        return await self.browser.get(path, headers=headers)

    async def socket(self, path):
        """Open a WebSocket; return what came, as type and text or code."""
        cookie = "; ".join(f"{c.name}={c.value}" for c in self.browser.cookies.jar)
        fields = {"host": "app.test", "cookie": cookie, "origin": "https://app.test"}
        scope = {
            "type": "websocket",
            "path": path,
            "query_string": b"",
            "headers": [(k.encode(), v.encode()) for k, v in fields.items()],
            "subprotocols": [],
        }
        inbox = [{"type": "websocket.connect"}]
        sent = []

        async def receive():
            return inbox.pop() if inbox else {"type": "websocket.disconnect", "code": 1000}

        async def send(message):
            sent.append((message["type"][10:], message.get("text", message.get("code"))))

        await self.app(scope, receive, send)
        return sent


@pytest.fixture(params=["cookie", "memory", "sqlite"])
def kind(request):
    return request.param


@pytest.fixture
async def make(oidc_provider, frozen_clock, login_as, tmp_path):
    sites = []

    def make(kind="cookie", app=None, **settings):
        provider = OpenIDProvider(
            "https://op.test",
            client_id="app",
            client_secret="secret",
            scope="openid profile api offline_access",
            http=httpx.AsyncClient(transport=httpx.ASGITransport(oidc_provider)),
            clock=frozen_clock,
        )
        stores = {
            "cookie": lambda: None,
            "memory": lambda: BrokenStore(clock=frozen_clock),
            "sqlite": lambda: SQLiteStore(tmp_path / "sessions.db", clock=frozen_clock),
        }
        auth = TokenManagement(
            provider=provider,
            public_url="https://app.test",
            secret_key=KEY,
            store=stores[kind](),
            sessions="cookie" if kind == "cookie" else None,
            **settings,
        )
        app = app or make_app()
        app.add_middleware(TokenManagementMiddleware, auth=auth)
        site = Site(app, auth, login_as)
        sites.append(site)
        return site

    yield make
    for site in sites:
        await site.browser.aclose()
        async with site.auth.lifespan():
            pass


@pytest.fixture
async def site(make, kind):
    return make(kind)


GUARDED = ["/user", "/def", "/token", "/getter", "/many", "/reports", "/admin", "/guarded"]


@pytest.mark.parametrize("path", GUARDED)
async def test_a_script_without_a_user_gets_401(site, path):
    response = await site.get(path, accept="application/json")

    assert response.status_code == 401
    assert response.json() == {"error": "not_authenticated", "login_url": "/auth/login"}
    assert response.headers["cache-control"] == "no-store" or (
        response.headers["cache-control"] == "private, no-store"
    )


@pytest.mark.parametrize("path", GUARDED)
async def test_a_page_without_a_user_goes_to_the_login_and_comes_back(site, path):
    response = await site.get(path, **PAGE)

    assert response.status_code == 303
    assert response.headers["location"] == f"/auth/login?return_to={path}"


async def test_the_current_user(site):
    assert (await site.get("/")).json() == "nobody"
    await site.login()

    assert (await site.get("/")).json() == "Alice"
    assert (await site.get("/user")).json() == {"name": "Alice", "sub": "alice", "roles": []}
    assert (await site.get("/guarded")).json() == "in"


async def test_a_token_is_fresh_whenever_it_is_asked_for(site, frozen_clock, oidc_provider):
    await site.login()
    first = (await site.get("/token")).json()
    assert (await site.get("/getter")).json() == first["value"]
    frozen_clock.advance(3700)
    second = (await site.get("/token")).json()

    assert second["value"] != first["value"]
    assert oidc_provider.is_active(second["value"])
    assert second["expires_at"] > first["expires_at"]


async def test_a_token_is_worked_out_once_per_request(site):
    await site.login()
    assert (await site.get("/many")).json() == [True, True]


async def test_a_def_endpoint_gets_both(site, oidc_provider):
    await site.login()
    name, token = (await site.get("/def")).json().split()

    assert name == "Alice"
    assert oidc_provider.is_active(token)


async def test_a_token_for_another_resource_is_another_token(site):
    await site.login()
    first = (await site.get("/reports")).json()
    second = (await site.get("/reports")).json()

    assert first["resource"] == ["https://reports.test"]
    assert first["value"] != first["own"]
    assert second == first, "kept in the session"


def test_a_resource_that_is_none_shows_when_the_app_is_written():
    with pytest.raises(ConfigurationError, match="absolute"):
        user_access_token(resource="reports")


async def test_a_token_with_a_narrower_scope(site):
    await site.login()
    assert (await site.get("/lesser")).json() == ["api"]


async def test_roles(site, oidc_provider):
    await site.login()
    response = await site.get("/admin")
    assert (response.status_code, response.json()["error"]) == (403, "permission_denied")
    assert (await site.get("/admin", **PAGE)).status_code == 403, "no login helps"

    oidc_provider.add_user(User("alice", name="Alice", claims={"roles": ["root"]}))
    await site.login()
    assert (await site.get("/admin")).json() == "in"
    assert (await site.get("/who-is-admin")).status_code == 403

    oidc_provider.add_user(User("alice", name="Alice", claims={"roles": "admin"}))
    await site.login()
    assert (await site.get("/who-is-admin")).json() == "Alice"


def test_a_role_must_be_named():
    with pytest.raises(ValueError, match="role"):
        require_role()


async def test_a_route_may_return_the_session(site):
    assert (await site.get("/session")).json() == {"visits": [1]}
    assert (await site.get("/session")).json() == {"visits": [1, 1]}


async def test_a_revoked_refresh_token_is_gone_and_the_user_stays(
    site, frozen_clock, oidc_provider
):
    await site.login()
    assert (await site.browser.post("/revoke")).json() == "revoked"
    assert oidc_provider.count("revocation") == 1
    assert (await site.get("/token")).status_code == 200
    frozen_clock.advance(3700)
    response = await site.get("/token")

    assert (response.status_code, response.json()["error"]) == (401, "token_expired")
    assert (await site.get("/")).json() == "Alice"


async def test_fifty_at_once_are_one_refresh(site, frozen_clock, oidc_provider):
    await site.login()
    frozen_clock.advance(3700)
    answers = await asyncio.gather(*[site.get(path) for path in ["/token", "/getter"] * 25])

    assert {response.status_code for response in answers} == {200}
    assert oidc_provider.count("token", grant_type="refresh_token") == 1


@pytest.mark.parametrize(
    ("path", "nobody", "alice"),
    [
        ("/socket", [("close", 4401)], [("accept", None), ("send", "Alice True"), ("close", 1000)]),
        (
            "/open-socket",
            [("accept", None), ("send", "nobody"), ("close", 1000)],
            [("accept", None), ("send", "Alice"), ("close", 1000)],
        ),
    ],
)
async def test_websockets_have_the_same_dependencies(site, path, nobody, alice):
    assert await site.socket(path) == nobody
    await site.login()
    assert await site.socket(path) == alice


async def test_a_store_that_is_down_is_a_503_also_for_an_optional_user(make):
    site = make("memory")
    await site.login()
    site.auth.store.broken = True
    for path in ("/", "/user", "/token"):
        response = await site.get(path)
        assert response.status_code == 503, path
        assert response.headers["retry-after"] == "3"
    site.auth.store.broken = False

    assert (await site.get("/")).json() == "Alice"


async def test_an_expired_session_is_nobody(make, kind, frozen_clock):
    site = make(kind, lifetimes=Lifetimes(idle=60, absolute=60))
    await site.login()
    frozen_clock.advance(60)

    assert (await site.get("/")).json() == "nobody"
    assert (await site.get("/user")).status_code == 401


async def test_a_mounted_fastapi_app_is_answered_for(make, kind):
    outer = FastAPI()
    outer.mount("/api", make_app())

    @outer.get("/")
    async def home() -> str:
        return "home"

    site = make(kind, app=outer)
    response = await site.get("/api/user")
    assert (response.status_code, response.json()["login_url"]) == (401, "/auth/login")
    assert (await site.get("/api/login-link")).json() == "/auth/login"
    response = await site.get("/api/user", **PAGE)
    assert response.headers["location"] == "/auth/login?return_to=/api/user"
    await site.login()

    assert (await site.get("/api/user")).json()["name"] == "Alice"
    assert (await site.get("/api/token")).status_code == 200


async def test_a_handler_of_the_app_wins(make):
    app = make_app()

    @app.exception_handler(NotAuthenticated)
    async def handler(request: Request, error: NotAuthenticated) -> PlainTextResponse:
        return PlainTextResponse("who are you?", 418)

    response = await make("cookie", app=app).get("/user")
    assert (response.status_code, response.text) == (418, "who are you?")


async def test_an_error_in_a_dependency_with_yield_is_answered(make):
    app = FastAPI()
    closed = []

    async def resource(user: CurrentUser):
        try:
            yield user
        finally:
            closed.append(True)

    async def inner(token: UserAccessToken):
        yield token
        closed.append("inner")

    @app.get("/x", dependencies=[Depends(resource)])
    async def refusing() -> str:
        raise NotAuthenticated

    @app.get("/token", dependencies=[Depends(inner)])
    async def token() -> str:
        return "in"

    site = make("cookie", app=app)
    assert (await site.get("/token")).status_code == 401
    assert closed == []
    await site._login_as(site.browser, "alice")
    assert (await site.get("/x")).status_code == 401
    assert closed == [True]


async def test_dependencies_can_be_overridden_in_tests_of_an_app(make):
    from tokenward.tokens.session import User as CurrentUserValue

    site = make("cookie")
    known = CurrentUserValue(sub="x", issuer="https://op.test", name="Xenia")
    site.app.dependency_overrides[current_user] = lambda: known

    assert (await site.get("/user")).json()["name"] == "Xenia"
