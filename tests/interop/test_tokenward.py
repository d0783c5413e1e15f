"""tokenward against a certified provider that is not ours: login, refresh, replay, logout."""

from __future__ import annotations

import re
import secrets
import time
from typing import TYPE_CHECKING, Final

import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from tokenward import (
    OpenIDProvider,
    TokenManagement,
    TokenManagementMiddleware,
    get_user_access_token,
    revoke_user_refresh_token,
)
from tokenward.stores.sqlite import SQLiteStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from starlette.requests import Request

pytestmark = pytest.mark.interop

APP: Final = "https://app.test"

ACCESS_TOKEN_LIFETIME: Final = 2
"""Seconds; see server.js."""


class MovableClock:
    """The time of the machine, which the provider has too, and what the test adds to it."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead

    def let_the_access_token_expire(self) -> None:
        self.ahead += ACCESS_TOKEN_LIFETIME + 1


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


@pytest.fixture
async def app(interop_op, clock: MovableClock, tmp_path: Path) -> AsyncIterator[Starlette]:
    auth = TokenManagement(
        provider=OpenIDProvider(
            interop_op.issuer,
            client_id=interop_op.client_id,
            client_secret=interop_op.client_secret,
            scope="openid profile offline_access",
            authorize_parameters={"prompt": "consent"},  # or it grants no offline_access
            clock=clock,
            dangerously_allow_http=True,
        ),
        public_url=APP,
        secret_key=secrets.token_urlsafe(32),
        store=SQLiteStore(tmp_path / "sessions.db", clock=clock),
        clock=clock,
    )

    async def token(request: Request) -> JSONResponse:
        access_token = await get_user_access_token(request)
        held = await auth.users.tokens(request)
        refresh_token = held.refresh_token.reveal() if held.refresh_token else None
        return JSONResponse({"access": access_token.value, "refresh": refresh_token})

    async def me(request: Request) -> JSONResponse:
        return JSONResponse({"name": request.user.display_name})

    async def revoke(request: Request) -> JSONResponse:
        await revoke_user_refresh_token(request)
        return JSONResponse({})

    routes = [
        Route("/token", token),
        Route("/me", me),
        Route("/revoke", revoke, methods=["POST"]),
        Route("/", lambda request: JSONResponse({"at": "home"})),
    ]
    app = Starlette(routes=routes)
    app.add_middleware(TokenManagementMiddleware, auth=auth)
    async with auth.lifespan():
        yield app


@pytest.fixture
async def browser(app: Starlette) -> AsyncIterator[httpx.AsyncClient]:
    mounts = {APP: httpx.ASGITransport(app)}
    async with httpx.AsyncClient(mounts=mounts, base_url=APP, follow_redirects=True) as client:
        yield client


@pytest.fixture
async def back_channel(interop_op) -> AsyncIterator[httpx.AsyncClient]:
    auth = (interop_op.client_id, interop_op.client_secret)
    async with httpx.AsyncClient(base_url=interop_op.issuer, auth=auth) as client:
        yield client


async def log_in(browser: httpx.AsyncClient) -> dict[str, str]:
    response = await browser.get("/auth/login?return_to=/token")
    assert response.url.path == "/token", response.text
    assert response.status_code == 200, response.text
    return response.json()


async def tokens(browser: httpx.AsyncClient) -> dict[str, str]:
    response = await browser.get("/token")
    assert response.status_code == 200, response.text
    return response.json()


async def is_active(back_channel: httpx.AsyncClient, token: str) -> bool:
    answer = await back_channel.post("/token/introspection", data={"token": token})
    return answer.json()["active"]


async def test_a_login_and_three_refreshes(browser, back_channel, clock) -> None:
    seen = [await log_in(browser)]
    assert await tokens(browser) == seen[0]
    for _ in range(3):
        clock.let_the_access_token_expire()
        seen.append(await tokens(browser))
    assert len({each["access"] for each in seen}) == 4
    assert len({each["refresh"] for each in seen}) == 4
    assert await is_active(back_channel, seen[-1]["access"])


async def test_the_user_is_who_the_provider_says(browser) -> None:
    await log_in(browser)
    assert (await browser.get("/me")).json() == {"name": "Alice Anders"}


async def test_a_replayed_refresh_token_ends_the_session_and_the_next_login_is_clean(
    browser, back_channel, clock
) -> None:
    stolen = (await log_in(browser))["refresh"]
    clock.let_the_access_token_expire()
    await tokens(browser)

    form = {"grant_type": "refresh_token", "refresh_token": stolen}
    replay = await back_channel.post("/token", data=form)
    assert replay.json()["error"] == "invalid_grant"

    clock.let_the_access_token_expire()
    ended = await browser.get("/token", headers={"sec-fetch-mode": "cors"})
    assert ended.status_code == 401
    assert ended.json()["error"] == "session_ended"

    fresh = await log_in(browser)
    assert fresh["refresh"] != stolen
    clock.let_the_access_token_expire()
    assert (await tokens(browser))["access"] != fresh["access"]


async def test_a_logout_revokes_the_refresh_token_and_ends_the_session_at_the_provider(
    browser, back_channel
) -> None:
    refresh_token = (await log_in(browser))["refresh"]
    assert await is_active(back_channel, refresh_token)

    headers = {"origin": APP, "sec-fetch-site": "same-origin"}
    page = await browser.post("/auth/logout", headers=headers)
    assert page.url.path == "/session/end"
    assert not await is_active(back_channel, refresh_token)

    xsrf = re.findall(r'name="xsrf" value="([^"]+)"', page.text)[0]
    confirm = str(page.url.join("/session/end/confirm"))
    home = await browser.post(confirm, data={"xsrf": xsrf, "logout": "yes"})
    assert str(home.url) == f"{APP}/"
    assert "/auth/logout/callback" in [each.url.path for each in home.history]

    gone = await browser.get("/token", headers={"sec-fetch-mode": "cors"})
    assert gone.status_code == 401


async def test_a_revoked_refresh_token_leaves_the_user_logged_in(browser, back_channel) -> None:
    before = await log_in(browser)
    assert (await browser.post("/revoke")).status_code == 200
    assert not await is_active(back_channel, before["refresh"])
    assert (await browser.get("/me")).json() == {"name": "Alice Anders"}
