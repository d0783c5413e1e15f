"""A small FastAPI app: log in, look at the tokens, call an API, log out.

Everything that has to do with tokenward is in this file; pages.py is HTML.
`scripts/demo` starts it with all that it needs.
"""

from __future__ import annotations

import secrets
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import httpx
from fastapi import Cookie, Depends, FastAPI, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel

from introspection import Introspection, fingerprint
from tokenward import (
    ClientCredentials,
    OpenIDProvider,
    TokenManagement,
    TokenManagementMiddleware,
    get_user_access_token,
)
from tokenward.fastapi import (
    CurrentUser,
    OptionalUser,
    UserAccessToken,
    http_client,
    typed_client,
)
from tokenward.stores.sqlite import SQLiteStore

from . import pages
from .settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tokenward.secret import Secret

settings = Settings.from_environment()

auth = TokenManagement(
    provider=OpenIDProvider(
        settings.issuer,
        client_id=settings.client_id,
        client_secret=settings.client_secret,
        scope="openid profile email offline_access",
        dangerously_allow_http=settings.dangerously_allow_http,
    ),
    public_url=settings.public_url,
    secret_key=settings.secret_key,
    store=SQLiteStore(settings.session_db),
    dangerously_allow_http=settings.dangerously_allow_http,
)

# Two clients for the API: one calls it for the user, the other for the app itself.
auth.clients.add("shop", ClientCredentials.of_provider(auth.providers["default"]))
for name, whose in {"invoices": "user", "invoices-of-shop": "client:shop"}.items():
    auth.http.add(
        name,
        base_url=settings.api_url,
        token=whose,
        dangerously_allow_http=settings.dangerously_allow_http,
    )


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Open one client for the API, and keep it open."""
    async with httpx.AsyncClient(base_url=settings.api_url) as api:
        app.state.api = api
        yield


app = FastAPI(title="tokenward example", lifespan=lifespan)
app.add_middleware(TokenManagementMiddleware, auth=auth)
app.mount("/static", StaticFiles(directory=Path(__file__).parent / "static"))


@app.get("/claims")
async def claims(user: CurrentUser) -> HTMLResponse:
    """Show who is logged in. `CurrentUser` sends everybody else to the login first."""
    return pages.claims(user)


@app.get("/tokens")
async def tokens(request: Request, user: CurrentUser) -> HTMLResponse:
    """Show the tokens of the session, and their remaining life."""
    await get_user_access_token(request)  # renews the token if it is about to expire
    return pages.tokens(user, await auth.users.tokens(request))


class TokenState(BaseModel):
    """What the page of the tokens asks for again and again."""

    fingerprint: str
    expires_at: datetime


@app.get("/tokens/current")
async def current_token(token: UserAccessToken) -> TokenState:
    """Tell which token is in use now. It is always a valid one."""
    return TokenState(fingerprint=fingerprint(token.value), expires_at=token.expires_at)


@app.get("/call/by-dependency")
async def call_by_dependency(
    request: Request, user: CurrentUser, token: UserAccessToken
) -> HTMLResponse:
    """Call the API with a token that comes as a parameter."""
    api: httpx.AsyncClient = request.app.state.api
    answer = await api.get("/invoices", headers={"Authorization": token.authorization})
    return pages.api_answer(user, call_by_dependency, answer)


@app.get("/call/by-hand")
async def call_by_hand(request: Request, user: CurrentUser) -> HTMLResponse:
    """Call the API with a token that is asked for where it is needed."""
    api: httpx.AsyncClient = request.app.state.api
    token = await get_user_access_token(request)
    answer = await api.get("/invoices", headers={"Authorization": token.authorization})
    return pages.api_answer(user, call_by_hand, answer)


@app.get("/call/by-named-client")
async def call_by_named_client(
    user: CurrentUser, api: Annotated[httpx.AsyncClient, Depends(http_client("invoices"))]
) -> HTMLResponse:
    """Call the API with a client that puts the user's token on every call by itself."""
    return pages.api_answer(user, call_by_named_client, await api.get("/invoices"))


class InvoiceApi:
    """The API as the app sees it: what it can be asked, and nothing of tokens."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def invoices(self) -> httpx.Response:
        """Return the invoices of whoever asks."""
        return await self._http.get("/invoices")


@app.get("/call/by-typed-client")
async def call_by_typed_client(
    user: CurrentUser, api: Annotated[InvoiceApi, Depends(typed_client(InvoiceApi, "invoices"))]
) -> HTMLResponse:
    """Call the API by a class of the app's own, built around the named client."""
    return pages.api_answer(user, call_by_typed_client, await api.invoices())


@app.get("/call/as-the-app")
async def call_as_the_app(
    user: CurrentUser, api: Annotated[httpx.AsyncClient, Depends(http_client("invoices-of-shop"))]
) -> HTMLResponse:
    """Call the API with a token of the app itself: no user is in it."""
    return pages.api_answer(user, call_as_the_app, await api.get("/invoices"))


# --- The rest is for the show: what becomes of the refresh token after the logout. ---
# In an app of yours the button posts to /auth/logout, and the home page is one line.

introspection = Introspection(
    settings.issuer, client_id=settings.client_id, client_secret=settings.client_secret
)
left_behind: dict[str, Secret] = {}


@app.post("/log-out")
async def log_out(request: Request) -> RedirectResponse:
    """Remember the refresh token, so that its fate can be shown; then log out."""
    if not request.user.is_authenticated:
        return RedirectResponse("/", status_code=303)
    response = RedirectResponse("/auth/logout", status_code=307)
    refresh_token = (await auth.users.tokens(request)).refresh_token
    if refresh_token:
        ticket = secrets.token_urlsafe()
        left_behind[ticket] = refresh_token
        response.set_cookie("left_behind", ticket, max_age=60, httponly=True, samesite="lax")
    return response


@app.get("/")
async def home(
    user: OptionalUser, left_behind_ticket: Annotated[str, Cookie(alias="left_behind")] = ""
) -> HTMLResponse:
    """Greet whoever it is."""
    refresh_token = left_behind.pop(left_behind_ticket, None)
    if user or refresh_token is None:
        return pages.home(user)
    revoked = await introspection.claims(refresh_token.reveal()) is None
    return pages.logged_out(revoked=revoked)
