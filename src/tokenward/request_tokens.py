"""The tokens of the user of a request, by what the middleware left in its scope."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from starlette.requests import HTTPConnection  # noqa: TC002 - FastAPI reads annotations

from .errors import ConfigurationError, NotAuthenticated
from .stores.handles import UserSource, open_handle, seal_handle
from .tokens.models import Target

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .management import TokenManagement
    from .tokens.exchange import Exchange
    from .tokens.interfaces import SessionHandle
    from .tokens.models import AccessToken, TokenSet
    from .tokens.session import User

SCOPE_KEY: Final = "tokenward"
"""Where the middleware leaves the session of a request in its ASGI scope."""


class BoundSession(Protocol):
    """What the middleware leaves in the scope."""

    @property
    def management(self) -> TokenManagement:
        """The `TokenManagement` of the middleware."""
        ...

    @property
    def handle(self) -> SessionHandle:
        """The session of the request."""
        ...

    @property
    def user(self) -> User | None:
        """Who is logged in; None if nobody is."""
        ...


class RequestTokens:
    """The tokens of the user of a request: `auth.users`."""

    def __init__(self, management: TokenManagement) -> None:
        self._management = management

    async def token(
        self,
        request: HTTPConnection,
        *,
        resource: str | Sequence[str] = (),
        scope: str | None = None,
        force_renewal: bool = False,
    ) -> AccessToken:
        """Return a valid access token of the user.

        `resource` asks for a token for other resource servers than the login's (RFC
        8707), `scope` (space-separated) for one that may do less than was granted.
        Results are kept per resource and scope. `force_renewal` asks for another
        token than the present one.

        Raises:
            ConfigurationError: `resource` is no absolute URI, or `scope` no text.
            AccessError: there is none; `UserTokens.token` says why. The middleware
                answers it.
        """
        target = Target.of(resource=resource, scope=scope)
        return await self._management.user_tokens.token(
            self._handle(request), target=target, force_renewal=force_renewal
        )

    async def tokens(self, request: HTTPConnection) -> TokenSet:
        """Return all that the session holds, as it is: id token, refresh token, scope.

        Raises:
            NotAuthenticated: nobody is logged in.
        """
        return await self._management.user_tokens.tokens(self._handle(request))

    async def exchanged(self, request: HTTPConnection, exchange: Exchange) -> AccessToken:
        """Return a valid token that the user's token was exchanged for (RFC 8693).

        It is kept with the session, and dropped with it.

        Raises:
            AccessError: it cannot be had. The middleware answers it.
            ProtocolError: the provider refuses the exchange.
        """
        handle = self._handle(request)
        return await self._management.exchanged_tokens.token(handle, exchange)

    async def handle(self, request: HTTPConnection) -> str:
        """Name the user's session by a short text, for a job or another process.

        `source` turns it back into a source of tokens, wherever the same secret key and
        store are. It ends with the session, and is of no use to anybody else.

        Raises:
            NotAuthenticated: nobody is logged in.
            ConfigurationError: sessions rest in cookies, which only the browser has.
        """
        if not self._management.settings.server_side:
            raise ConfigurationError(
                "store",
                "tokens outside of a request need sessions in a store; in cookies only the "
                'browser has them: give a store, such as SQLiteStore("sessions.db")',
            )
        session = await self._handle(request).load()
        if session is None:
            raise NotAuthenticated
        return seal_handle(session, self._management.ring)

    def source(self, handle: str) -> UserSource:
        """Return the token source that `handle` stands for, for as long as the session lasts.

        Raises:
            NotAuthenticated: it is no handle of this app; also when a token is asked for
                and the session has ended.
        """
        management = self._management
        return UserSource(
            open_handle(handle, management.ring),
            management.stored,
            management.user_tokens,
            management.accepts,
        )

    async def revoke_refresh_token(self, request: HTTPConnection) -> None:
        """Give the user's refresh token back to the provider, and forget it.

        Raises:
            NotAuthenticated: nobody is logged in.
            ProviderError: the provider did not say that it took it back. The session is as it
                was: to ask again does no harm, and if the token is worth nothing any more, the
                next refresh ends the session.
            StoreUnavailable, TokenUnavailable: the session could not be had; nothing was done.
                A store that fails after the provider took it back is told again, for as long
                as `RefreshSettings.save_retry` says.
            SessionNotWritable: the answer has begun, and the session is in a cookie.
        """
        await self._management.user_tokens.revoke_refresh_token(self._handle(request))

    def _handle(self, request: HTTPConnection) -> SessionHandle:
        bound = bound_session(request)
        if bound.management is not self._management:
            raise ConfigurationError(
                "TokenManagementMiddleware", "this request belongs to another TokenManagement"
            )
        return bound.handle


def bound_session(request: HTTPConnection) -> BoundSession:
    """Return what the middleware left in the scope.

    Raises:
        ConfigurationError: the middleware is not installed around this app.
    """
    bound: BoundSession | None = request.scope.get(SCOPE_KEY)
    if bound is None:
        raise ConfigurationError(
            "TokenManagementMiddleware",
            "is not installed: app.add_middleware(TokenManagementMiddleware, auth=auth)",
        )
    return bound


async def get_user_access_token(request: HTTPConnection) -> AccessToken:
    """Return a valid access token of the current user, renewed if need be.

        token = await get_user_access_token(request)
        await http.get(url, headers={"Authorization": token.authorization})

    Takes nothing but the request, so that it is a FastAPI dependency as it stands;
    `auth.users.token(request, ...)` takes options.

    Raises:
        AccessError: there is none. The middleware answers it: 401 or a login, or 503.
    """
    bound = bound_session(request)
    return await bound.management.user_tokens.token(bound.handle)


async def revoke_user_refresh_token(request: HTTPConnection) -> None:
    """Give the current user's refresh token back to the provider, and forget it.

    The user stays logged in until the access token is needed again.

    Raises:
        NotAuthenticated: nobody is logged in.
        ProviderError: the provider did not say that it took it back. The session is as it
            was: to ask again does no harm, and if the token is worth nothing any more, the
            next refresh ends the session.
        StoreUnavailable, TokenUnavailable: the session could not be had; nothing was done.
            A store that fails after the provider took it back is told again, for as long
            as `RefreshSettings.save_retry` says.
        SessionNotWritable: the answer has begun, and the session is in a cookie.
    """
    await bound_session(request).management.users.revoke_refresh_token(request)


async def load_session(request: HTTPConnection) -> None:
    """Load the session, where it is not preloaded, so that it can be read synchronously.

    Raises:
        StoreUnavailable: the store could not be asked.
    """
    await bound_session(request).handle.load()
