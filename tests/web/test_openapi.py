"""The OpenAPI document shows the scheme and the 401, and no parameter of ours."""

from __future__ import annotations

from typing import Annotated

import pytest
from fastapi import APIRouter, Depends, FastAPI
from starlette.applications import Starlette

from tokenward import AccessToken, TokenManagementMiddleware, get_user_access_token
from tokenward.fastapi import (
    CurrentUser,
    OptionalUser,
    UserAccessToken,
    document_unauthorized,
    require_role,
    user_access_token,
)


async def client(token: Annotated[AccessToken, Depends(get_user_access_token)]) -> str:
    return token.authorization


def make_app():
    app = FastAPI()
    router = APIRouter(prefix="/more")

    @app.get("/public")
    def public() -> str:
        return "public"

    @app.get("/optional")
    def optional(user: OptionalUser) -> str:
        return user.name if user else ""

    @app.get("/user")
    def user(user: CurrentUser) -> str:
        return user.name

    @app.post("/token")
    def token(token: UserAccessToken) -> str:
        return token.value

    @app.get("/getter")
    def getter(token: Annotated[AccessToken, Depends(get_user_access_token)]) -> str:
        return token.value

    @app.get("/resource")
    def resource(
        token: Annotated[AccessToken, Depends(user_access_token(resource="https://api.test"))],
    ) -> str:
        return token.value

    @app.get("/role", dependencies=[Depends(require_role("admin"))])
    def role() -> str:
        return "in"

    @app.get("/own", responses={401: {"description": "mine"}})
    def own(user: CurrentUser) -> str:
        return user.name

    @app.get("/both", dependencies=[Depends(get_user_access_token)])
    def both(user: CurrentUser) -> str:
        return user.name

    @router.get("/getter", dependencies=[Depends(get_user_access_token)])
    def nested_getter() -> str:
        return "in"

    @router.get("/role", dependencies=[Depends(require_role("admin", "auditor"))])
    def nested_role() -> str:
        return "in"

    @app.get("/own-403", responses={403: {"description": "mine"}})
    def own_403(user: Annotated[object, Depends(require_role("admin"))]) -> str:
        return "in"

    @router.get("/user")
    def nested(user: CurrentUser) -> str:
        return user.name

    app.include_router(router)
    return app


@pytest.fixture
async def document(make_site):
    site = make_site("cookie", app=make_app)
    await site.browser.get("/public")
    return (await site.browser.get("/openapi.json")).json()


def operation(document, path):
    (found,) = document["paths"][path].values()
    return found


GUARDED = [
    "/user",
    "/both",
    "/token",
    "/getter",
    "/resource",
    "/role",
    "/more/user",
    "/more/getter",
]


async def test_no_dependency_of_ours_is_a_parameter(document):
    for path in document["paths"]:
        found = operation(document, path)
        assert "parameters" not in found, path
        assert "requestBody" not in found, path
        assert "422" not in found["responses"], path


@pytest.mark.parametrize("path", GUARDED)
async def test_a_route_that_needs_a_user_shows_the_scheme_and_the_401(document, path):
    found = operation(document, path)

    assert found["security"] == [{"session": []}]
    assert found["responses"]["401"]["description"].startswith("Nobody is logged in")
    schema = found["responses"]["401"]["content"]["application/json"]["schema"]
    assert schema["required"] == ["error", "login_url"]


async def test_the_scheme_is_a_cookie(document):
    scheme = document["components"]["securitySchemes"]["session"]
    assert (scheme["type"], scheme["in"], scheme["name"]) == (
        "apiKey",
        "cookie",
        "__Host-tokenward",
    )


@pytest.mark.parametrize("path", ["/public", "/optional"])
async def test_a_route_that_needs_nobody_shows_neither(document, path):
    found = operation(document, path)
    assert "security" not in found
    assert "401" not in found["responses"]


async def test_a_401_of_the_apps_own_is_kept(document):
    assert operation(document, "/own")["responses"]["401"]["description"] == "mine"


@pytest.mark.parametrize("path", ["/role", "/more/role"])
async def test_a_route_that_needs_a_role_shows_the_403_beside_the_401(document, path):
    responses = operation(document, path)["responses"]
    assert responses["403"]["description"] == "The user may not do this."
    assert "401" in responses


@pytest.mark.parametrize("path", ["/public", "/optional", "/user", "/token", "/getter"])
async def test_a_route_that_needs_no_role_shows_no_403(document, path):
    assert "403" not in operation(document, path)["responses"]


async def test_a_403_of_the_apps_own_is_kept(document):
    assert operation(document, "/own-403")["responses"]["403"]["description"] == "mine"


async def test_the_getter_is_found_behind_other_dependencies_and_parameters(make_site):
    app = FastAPI()
    outer, inner = APIRouter(prefix="/outer"), APIRouter(prefix="/inner")

    @inner.delete("/{name:path}")
    def deep(name: str, header: Annotated[str, Depends(client)]) -> str:
        return header

    outer.include_router(inner)
    app.include_router(outer, prefix="/v1")
    document_unauthorized(app)
    operations = app.openapi()["paths"]["/v1/outer/inner/{name}"]
    assert operations.keys() == {"delete"}
    for found in operations.values():
        assert found["security"] == [{"session": []}]
        assert "401" in found["responses"]
        assert [each["name"] for each in found["parameters"]] == ["name"]


async def test_who_changes_the_document_of_one_app_changes_no_other():
    first, second = make_app(), make_app()
    for app in (first, second):
        document_unauthorized(app)
    found = operation(first.openapi(), "/getter")
    found["responses"]["401"]["description"] = "changed"
    first.openapi()["components"]["securitySchemes"]["session"]["name"] = "changed"

    assert operation(second.openapi(), "/getter")["responses"]["401"]["description"] != "changed"
    assert second.openapi()["components"]["securitySchemes"]["session"]["name"] != "changed"


async def test_the_document_is_complete_as_soon_as_the_app_has_started(make_site):
    site = make_site("cookie", app=make_app)
    messages = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]

    async def receive():
        return messages.pop(0)

    async def send(message):
        if message["type"] == "lifespan.startup.complete":
            assert "401" in operation(site.app.openapi(), "/user")["responses"]

    await site.app({"type": "lifespan", "state": {}}, receive, send)


async def test_a_script_that_only_writes_the_document_asks_for_it(make_site):
    site = make_site("cookie", app=make_app)
    before = site.app.openapi()
    assert "401" not in operation(before, "/user")["responses"]
    document_unauthorized(site.app)

    assert "401" in operation(site.app.openapi(), "/user")["responses"]
    await site.browser.get("/public")
    assert site.app.openapi() == (await site.browser.get("/openapi.json")).json()


async def test_a_document_that_the_app_makes_itself_is_extended(make_site):
    def app():
        made = make_app()
        make = made.openapi

        def openapi():
            return {**make(), "x-own": True}

        made.openapi = openapi
        return made

    site = make_site("cookie", app=app)
    document = (await site.browser.get("/openapi.json")).json()

    assert document["x-own"] is True
    assert "401" in operation(document, "/user")["responses"]


async def test_it_is_wrapped_once_however_often_it_is_asked_for(make_site):
    site = make_site("cookie", app=make_app)
    for _ in range(3):
        document_unauthorized(site.app)
    first = site.app.openapi
    await site.browser.get("/public")

    assert site.app.openapi is first


def test_an_app_without_a_document_is_left_alone():
    class App:
        __slots__ = ()

    document_unauthorized(App())
    document_unauthorized(None)


async def test_an_app_that_shows_no_document_works(make_site):
    app = FastAPI(openapi_url=None)

    @app.get("/")
    def home(user: OptionalUser) -> str:
        return user.name if user else "nobody"

    site = make_site("cookie", app=lambda: app)
    assert (await site.browser.get("/")).json() == "nobody"
    assert isinstance(site.app.user_middleware[0].cls, type(TokenManagementMiddleware))


# ----------------------------------------------------------------- however it is put together


def documented(document, *, cookie="__Host-tokenward", login="/auth/login"):
    """Tell whether a document shows the 401, the 403 and this scheme."""
    scheme = document["components"]["securitySchemes"]["session"]
    return (
        scheme["name"] == cookie
        and f"`{login}`" in scheme["description"]
        and "401" in operation(document, "/user")["responses"]
        and "401" in operation(document, "/getter")["responses"]
        and "403" in operation(document, "/role")["responses"]
        and "401" not in operation(document, "/public")["responses"]
    )


class Around:
    """Some other middleware."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        await self.app(scope, receive, send)


@pytest.mark.parametrize(
    "wrap", [lambda app: app, Around, lambda app: Around(Around(app))], ids=["0", "1", "2"]
)
async def test_an_app_that_is_wrapped_from_outside_is_documented(make_site, wrap):
    site = make_site("cookie", app=make_app, install=False)
    site.app = TokenManagementMiddleware(wrap(site.app), auth=site.auth)

    assert documented((await site.new_browser().get("/openapi.json")).json())


@pytest.mark.parametrize("outer", [FastAPI, Starlette])
@pytest.mark.parametrize("outside", [True, False], ids=["wrapped", "added"])
async def test_apps_that_are_mounted_are_documented(make_site, outer, outside):
    def app():
        made, between = outer(), Starlette()
        made.mount("/sub", make_app())
        between.mount("/deep", make_app())
        made.mount("/with", Around(between))
        return made

    site = make_site("cookie", app=app, install=not outside)
    if outside:
        site.app = TokenManagementMiddleware(site.app, auth=site.auth)
    browser = site.new_browser()

    assert (await browser.get("/sub/user")).status_code == 401
    for path in ("/sub", "/with/deep"):
        assert documented((await browser.get(f"{path}/openapi.json")).json()), path


async def test_the_scheme_names_the_cookie_and_the_login_of_this_app(make_site):
    settings = {"public_url": "https://app.test/shop", "prefix": "/account"}
    site = make_site("cookie", app=make_app, **settings)
    expected = {"cookie": "__Host-tokenward_shop", "login": "/shop/account/login"}

    document_unauthorized(site.app)
    assert documented(site.app.openapi()), "nobody knows yet"
    for _ in range(2):
        shown = (await site.browser.get("/openapi.json")).json()
        assert documented(shown, **expected)
    document_unauthorized(site.app)
    assert documented(site.app.openapi(), **expected)


async def test_a_scheme_of_the_apps_own_is_kept(make_site):
    own = {"type": "http", "scheme": "bearer"}

    def app():
        made = make_app()
        make = made.openapi

        def openapi():
            document = make()
            document["components"]["securitySchemes"]["session"] = dict(own)
            return document

        made.openapi = openapi
        return made

    site = make_site("cookie", app=app)
    document = (await site.browser.get("/openapi.json")).json()
    assert document["components"]["securitySchemes"]["session"] == own
