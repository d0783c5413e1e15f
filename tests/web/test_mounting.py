"""Apps in apps, apps below a path, and several apps with one secret."""

from __future__ import annotations

import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Mount, Route

from tokenward import (
    ConfigurationError,
    TokenManagementMiddleware,
    get_user_access_token,
    login_url,
    logout_url,
)
from tokenward.stores.memory import MemoryStore
from tokenward.testing import Client, Provider, User

PAGE = {"sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}


async def me(request):
    return JSONResponse({"name": request.user.display_name, "data": request.session})


async def token(request):
    return PlainTextResponse((await get_user_access_token(request)).value)


async def links(request):
    return JSONResponse([login_url(request, return_to="/a?b"), logout_url(request)])


async def write(request):
    request.session["a"] = 1
    return PlainTextResponse("written")


ROUTES = [
    Route("/me", me),
    Route("/token", token),
    Route("/links", links),
    Route("/write", write),
]


def with_sub_app():
    return Starlette(routes=[Mount("/sub", Starlette(routes=ROUTES)), *ROUTES])


@pytest.mark.case(429)
async def test_a_mounted_sub_app_has_the_session_and_the_login_of_the_whole(make_site, kind):
    site = make_site(kind, app=with_sub_app)
    response = await site.browser.get("/sub/token?x=1", headers=PAGE)
    assert response.status_code == 303
    assert response.headers["location"] == "/auth/login?return_to=/sub/token%3Fx%3D1"
    response = await site.browser.get("/sub/token")
    assert response.json() == {"error": "not_authenticated", "login_url": "/auth/login"}
    await site.log_in(site.browser, "alice")

    assert (await site.browser.get("/sub/token")).status_code == 200
    await site.browser.get("/sub/write")
    assert (await site.browser.get("/me")).json() == {"name": "Alice", "data": {"a": 1}}
    assert (await site.browser.get("/sub/me")).json() == {"name": "Alice", "data": {"a": 1}}


@pytest.mark.case(429)
async def test_links_in_a_mounted_sub_app_lead_to_the_login_of_the_whole(make_site, kind):
    site = make_site(kind, app=with_sub_app)
    assert (await site.browser.get("/sub/links")).json() == [
        "/auth/login?return_to=%2Fa%3Fb",
        "/auth/logout",
    ]
    await site.log_in(site.browser, "alice")
    inner, outer = [(await site.browser.get(path)).json() for path in ("/sub/links", "/links")]

    assert inner == outer
    assert inner[1].startswith("/auth/logout?sid=")
    response = await site.browser.get(inner[1])
    assert response.status_code == 303
    assert (await site.browser.get("/me")).json()["name"] == ""


class Below:
    """Serves an app below a path as servers and mounts do: in the path, and as root_path."""

    def __init__(self, app, root, *, stripped):
        self.app, self.root, self.stripped = app, root, stripped

    async def __call__(self, scope, receive, send):
        path = scope["path"]
        assert path.startswith(f"{self.root}/"), path
        if self.stripped == "by a proxy that says nothing":
            scope = {**scope, "path": path.removeprefix(self.root), "raw_path": None}
        elif self.stripped == "by an older server":
            path = path.removeprefix(self.root)
            scope = {**scope, "path": path, "raw_path": None, "root_path": self.root}
        else:
            scope = {**scope, "root_path": self.root}
        await self.app(scope, receive, send)


@pytest.fixture
def below(oidc_provider):
    oidc_provider.register(Client("app", redirect_uris=["https://app.test/shop/auth/callback"]))
    return "https://app.test/shop"


@pytest.mark.case(429)
@pytest.mark.parametrize(
    "stripped", ["by nobody", "by a proxy that says nothing", "by an older server"]
)
async def test_an_app_below_a_path_sends_browsers_to_where_they_know_it(
    make_site, kind, below, stripped, login_as
):
    site = make_site(
        kind, app=lambda: Starlette(routes=[Route("/", me), *ROUTES]), public_url=below
    )
    app = Below(site.app, "/shop", stripped=stripped)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="https://app.test") as browser:
        response = await browser.get("/shop/token?x=1", headers=PAGE)
        assert response.headers["location"] == "/shop/auth/login?return_to=/shop/token%3Fx%3D1"
        assert (await browser.get("/shop/links")).json()[0].startswith("/shop/auth/login?")

        response = await login_as(browser, "alice", app_login_path="/shop/auth/login")
        assert response.status_code == 200, response.text
        assert (await browser.get("/shop/me")).json()["name"] == "Alice"
        assert (await browser.get("/shop/token")).status_code == 200
        for cookie in browser.cookies.jar:
            assert (cookie.path, cookie.name[:7]) == ("/", "__Host-")


async def test_the_mount_is_enough_to_know_the_path(make_site, kind, below, login_as):
    site = make_site(kind, app=lambda: Starlette(routes=[Route("/", me), *ROUTES]))
    outer = Starlette(routes=[Mount("/shop", site.app)])
    transport = httpx.ASGITransport(outer)
    async with httpx.AsyncClient(transport=transport, base_url="https://app.test") as browser:
        response = await browser.get("/shop/token", headers=PAGE)
        assert response.headers["location"] == "/shop/auth/login?return_to=/shop/token"
        await login_as(browser, "alice", app_login_path="/shop/auth/login")
        assert (await browser.get("/shop/me")).json()["name"] == "Alice"


async def test_the_same_management_around_an_app_and_its_sub_app_is_refused(make_site):
    def app():
        return Starlette(routes=[Mount("/sub", inner)])

    inner = Starlette(routes=ROUTES)
    site = make_site("cookie", app=app)
    inner.add_middleware(TokenManagementMiddleware, auth=site.auth)
    with pytest.raises(ConfigurationError, match="twice"):
        await site.browser.get("/sub/me")


# ---------------------------------------------------------------- one secret, several apps


@pytest.fixture
def two_tenants(make_site, kind, frozen_clock, oidc_provider):
    """Two apps with one secret, one store and one host, which differ in one thing."""

    def make(difference):
        store = None if kind == "cookie" else MemoryStore(clock=frozen_clock)
        common = {"store": store, "app": lambda: Starlette(routes=[Route("/", me), *ROUTES])}
        one = make_site("cookie" if kind == "cookie" else "memory", **common)
        if difference == "client":
            oidc_provider.register(
                Client("other", redirect_uris=["https://app.test/auth/callback"])
            )
            return one, make_site(
                "cookie" if kind == "cookie" else "memory", client_id="other", **common
            )
        if difference == "mount":
            return one, make_site(
                "cookie" if kind == "cookie" else "memory",
                public_url="https://app.test/other",
                **common,
            )
        issuer = Provider(
            "https://other.test",
            clients=[Client("app", redirect_uris=["https://app.test/auth/callback"])],
            users=[User("alice", name="Another Alice")],
            clock=frozen_clock,
        )
        from tokenward import OpenIDProvider

        provider = OpenIDProvider(
            issuer.issuer,
            client_id="app",
            client_secret="secret",
            scope="openid profile offline_access",
            http=httpx.AsyncClient(transport=httpx.ASGITransport(issuer)),
            clock=frozen_clock,
        )
        return one, make_site(
            "cookie" if kind == "cookie" else "memory", provider=provider, **common
        )

    return make


@pytest.mark.case(306)
@pytest.mark.parametrize("difference", ["client", "issuer", "mount"])
async def test_a_session_of_one_tenant_is_none_to_another(two_tenants, difference):
    one, two = two_tenants(difference)
    await one.log_in(one.browser, "alice")
    await one.browser.get("/write")
    held = one.cookies()
    raw = "; ".join(f"{name}={value}" for name, value in held.items()).encode()

    answer = await two.ask("/me", cookie=raw)
    assert answer.json() == {"name": "", "data": {}}
    assert answer.set_cookies == [], "and is left to whom it belongs"
    assert (await two.ask("/token", cookie=raw)).status == 401
    await two.ask("/write", cookie=raw)
    assert (await one.browser.get("/me")).json() == {"name": "Alice", "data": {"a": 1}}


@pytest.mark.case(306)
async def test_two_mounts_on_one_host_have_sessions_of_their_own(
    make_site, kind, oidc_provider, login_as
):
    paths = ("/a", "/b")
    oidc_provider.register(
        Client("app", redirect_uris=[f"https://app.test{path}/auth/callback" for path in paths])
    )
    sites = [
        make_site(
            kind,
            app=lambda: Starlette(routes=[Route("/", me), *ROUTES]),
            public_url=f"https://app.test{path}",
        )
        for path in paths
    ]
    outer = Starlette(
        routes=[Mount(path, site.app) for path, site in zip(paths, sites, strict=True)]
    )
    transport = httpx.ASGITransport(outer)
    async with httpx.AsyncClient(transport=transport, base_url="https://app.test") as browser:
        await login_as(browser, "alice", app_login_path="/a/auth/login")
        await login_as(browser, "bob", app_login_path="/b/auth/login")
        await browser.get("/a/write")

        assert (await browser.get("/a/me")).json() == {"name": "Alice", "data": {"a": 1}}
        assert (await browser.get("/b/me")).json() == {"name": "Bob", "data": {}}
        await browser.post("/a/auth/logout", headers={"origin": "https://app.test"})
        assert (await browser.get("/a/me")).json()["name"] == ""
        assert (await browser.get("/b/me")).json()["name"] == "Bob"
