"""FastAPI dependencies: the current user, a fresh token, and roles.

    @app.get("/orders")
    async def orders(user: CurrentUser, token: UserAccessToken) -> list[Order]: ...

Each that needs a user shows in OpenAPI as a cookie scheme with a 401, `require_role` with
a 403 as well, and none adds a parameter to the route; so does `Depends` of
`tokenward.get_user_access_token`. The answers come with the middleware; a script that
writes the document of an app that never starts calls `document_unauthorized(app)` first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, TypeAlias, TypeVar

from fastapi import Depends, Security
from fastapi.security import APIKeyCookie
from starlette.requests import HTTPConnection  # noqa: TC002 - FastAPI reads annotations

from .errors import NotAuthenticated, PermissionDenied
from .request_tokens import bound_session
from .tokens.models import AccessToken, Target
from .tokens.session import User
from .web.openapi import SCHEME, SCHEME_NAME, document_unauthorized, refuses_users

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    import httpx

T = TypeVar("T")

__all__ = [
    "CurrentUser",
    "OptionalUser",
    "UserAccessToken",
    "current_user",
    "document_unauthorized",
    "http_client",
    "optional_user",
    "require_role",
    "sync_http_client",
    "typed_client",
    "user_access_token",
]


class _SessionCookie(APIKeyCookie):
    """Shows the session in OpenAPI, and reads nothing: the middleware has done that.

    FastAPI's own would want an HTTP request, and fail for a WebSocket.
    """

    async def __call__(self, _: HTTPConnection) -> None:
        """Do nothing."""


_scheme = _SessionCookie(
    name=SCHEME["name"],
    scheme_name=SCHEME_NAME,
    description=SCHEME["description"],
    auto_error=False,
)


async def optional_user(connection: HTTPConnection) -> User | None:
    """Return who is logged in; None if nobody is.

    Raises:
        StoreUnavailable: the session could not be read. The middleware answers 503.
    """
    bound = bound_session(connection)
    await bound.handle.load()
    return bound.user


async def current_user(
    user: Annotated[User | None, Depends(optional_user)],
    _: Annotated[None, Security(_scheme)],
) -> User:
    """Return who is logged in.

    Raises:
        NotAuthenticated: nobody is. The middleware answers: a navigation goes to the
            login, a script gets a 401.
    """
    if user is None:
        raise NotAuthenticated
    return user


def user_access_token(
    *, resource: str | Sequence[str] = (), scope: str | None = None
) -> Callable[..., Awaitable[AccessToken]]:
    """Make a dependency that gives the user's token for a resource, or with less scope.

        ReportsToken = Annotated[AccessToken, Depends(user_access_token(resource=REPORTS))]

    The arguments are those of `auth.users.token`, and so are the errors.

    Raises:
        ConfigurationError: `resource` is no absolute URI, or `scope` no text.
    """
    # At the start, rather than at the first request.
    Target.of(resource=resource, scope=scope)

    async def dependency(
        connection: HTTPConnection, _: Annotated[None, Security(_scheme)]
    ) -> AccessToken:
        users = bound_session(connection).management.users
        return await users.token(connection, resource=resource, scope=scope)

    return dependency


def http_client(name: str) -> Callable[..., Awaitable[httpx.AsyncClient]]:
    """Make a dependency that gives a named client of `auth.http`.

        Invoices = Annotated[httpx.AsyncClient, Depends(http_client("invoices"))]

        @app.get("/invoices")
        async def invoices(api: Invoices) -> list[Invoice]: ...

    Raises:
        ConfigurationError: no client was added by that name.
    """

    async def dependency(connection: HTTPConnection) -> httpx.AsyncClient:
        return bound_session(connection).management.http.client(name)

    return dependency


def sync_http_client(name: str) -> Callable[..., httpx.Client]:
    """Make a dependency that gives a named client for endpoints written with `def`."""

    def dependency(connection: HTTPConnection) -> httpx.Client:
        return bound_session(connection).management.http.sync_client(name)

    return dependency


def typed_client(kind: Callable[[httpx.AsyncClient], T], name: str) -> Callable[..., Awaitable[T]]:
    """Make a dependency that builds a client class of yours around a named client.

        @app.get("/invoices/{number}")
        async def invoice(
            number: str, api: Annotated[InvoiceAPI, Depends(typed_client(InvoiceAPI, "invoices"))]
        ) -> Invoice:
            return await api.invoice(number)

    `kind` takes the client; one is built for each request, over the same connections.
    """
    client = http_client(name)

    async def dependency(connection: HTTPConnection) -> T:
        return kind(await client(connection))

    return dependency


def require_role(*roles: str) -> Callable[..., Awaitable[User]]:
    """Make a dependency that admits users who have one of `roles`, and returns the user.

        @app.get("/admin", dependencies=[Depends(require_role("admin"))])

    Raises:
        PermissionDenied: the user has none of them. The middleware answers 403.
        NotAuthenticated: nobody is logged in.
    """
    if not roles:
        raise ValueError("name at least one role")

    async def dependency(user: CurrentUser) -> User:
        if user.roles.isdisjoint(roles):
            raise PermissionDenied("the user has none of the roles that are asked for")
        return user

    refuses_users(dependency)
    return dependency


CurrentUser: TypeAlias = Annotated[User, Depends(current_user)]
"""Who is logged in; whoever is not is sent to the login.

@app.get("/")
async def home(user: CurrentUser) -> str:
    return f"Hello {user.name}"
"""

OptionalUser: TypeAlias = Annotated[User | None, Depends(optional_user)]
"""Who is logged in, or None.

@app.get("/")
async def home(user: OptionalUser) -> str:
    return f"Hello {user.name}" if user else "Hello stranger"
"""

UserAccessToken: TypeAlias = Annotated[AccessToken, Depends(user_access_token())]
"""A valid access token of the user, renewed if need be.

@app.get("/raw")
async def raw(token: UserAccessToken) -> str:
    return token.expires_at.isoformat()
"""
