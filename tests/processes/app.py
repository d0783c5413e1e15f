"""The app that the workers of these tests serve; its settings are in the environment."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.authentication import requires
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

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from tokenward.tokens.interfaces import Lease, Store

FOLDER = Path(os.environ["TEST_FOLDER"])


def open_store(where: str) -> Store:
    """Open the store that a URL, or the name of a file, tells."""
    return RedisStore.from_url(where, timeout=10.0) if "://" in where else SQLiteStore(where)


class DeadlyStore:
    """A store in which a worker dies by SIGKILL, once, where a file says so.

    The file `before-put` kills who is about to write what a refresh brought, `before-mark`
    who is about to write anything else, `after-acquire` who has just got a lease. Whoever removes
    the file dies, so it is only one. Before that it shortens what is left of its lease,
    so that nobody has to wait for all of it.
    """

    def __init__(self) -> None:
        self._inner = open_store(os.environ["TEST_STORE"])
        self._lease: Lease | None = None

    async def acquire(self, key: str, *, ttl: float) -> Lease | None:
        """See `Store.acquire`."""
        lease = await self._inner.acquire(key, ttl=ttl)
        if lease is not None:
            self._lease = lease
            await self._die_if_told("after-acquire")
        return lease

    def __getattr__(self, name: str) -> Any:
        operation = getattr(self._inner, name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            # The result of a refresh takes the place of a record, or waits for old cookies.
            marks = name == "put" and kwargs["version"] is None and ":spent-" not in args[0]
            await self._die_if_told(f"before-{'mark' if marks else name}")
            return await operation(*args, **kwargs)

        return call

    async def _die_if_told(self, where: str) -> None:
        try:
            (FOLDER / "deaths" / where).unlink()
        except FileNotFoundError:
            return
        if self._lease is not None:
            await self._inner.renew(self._lease, ttl=1.0)
        os.kill(os.getpid(), signal.SIGKILL)


async def pid(request: Request) -> Response:
    """Tell which worker this is."""
    del request
    return PlainTextResponse(str(os.getpid()))


async def token(request: Request) -> Response:
    """Return the access token."""
    given = await get_user_access_token(request)
    return JSONResponse({"token": given.value, "pid": os.getpid()})


async def hasty(request: Request) -> Response:
    """Give up at once; the refresh goes on."""
    with suppress(TimeoutError):
        async with asyncio.timeout(0.1):
            await get_user_access_token(request)
    return PlainTextResponse("later")


@requires("authenticated")
async def me(request: Request) -> Response:
    """Tell who is logged in."""
    return PlainTextResponse(request.user.display_name)


auth = TokenManagement(
    provider=OpenIDProvider(
        os.environ["TEST_ISSUER"],
        client_id="app",
        client_secret="secret",
        scope="openid profile api offline_access",
        dangerously_allow_http=True,
        timeout=30.0,
    ),
    public_url=os.environ["TEST_URL"],
    secret_key=os.environ["TEST_SECRET_KEY"],
    store=DeadlyStore(),
    sessions="cookie" if os.environ["TEST_SESSIONS"] == "cookie" else None,
    # A machine that is busy is no outage.
    refresh=RefreshSettings(wait=40.0),
    dangerously_allow_http=True,
)
app = Starlette(
    routes=[
        Route("/", pid),
        Route("/pid", pid),
        Route("/token", token),
        Route("/hasty", hasty),
        Route("/me", me),
    ]
)
app.add_middleware(TokenManagementMiddleware, auth=auth)
