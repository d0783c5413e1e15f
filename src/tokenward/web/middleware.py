"""`TokenManagementMiddleware`: pure ASGI, around a Starlette or FastAPI app."""

from __future__ import annotations

import logging
import re
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final

from ..errors import ConfigurationError, SessionError
from ..request_tokens import SCOPE_KEY
from ..tokens.session import current_session
from .challenge import answer, close_websocket, current_target, is_navigation
from .cookie_session import CookieSource
from .cookies import Cookie
from .openapi import document_unauthorized, security_scheme
from .request_user import RequestAuth, RequestUser
from .return_to import local_target
from .routes import Routes
from .sending import Answer, Socket, answerable
from .session import ConnectionSession
from .stored_session import StoredSource
from .visit import base_path

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from ..errors import TokenwardError
    from ..management import TokenManagement
    from .cookies import Headers
    from .session import SessionSource

_logger = logging.getLogger(__name__)

_INSTALLED: Final = f"{SCOPE_KEY}.installed"


class TokenManagementMiddleware:
    """Gives every request its session, answers the login routes, and writes what changed.

        app.add_middleware(TokenManagementMiddleware, auth=auth)

    Puts `request.session`, `request.user` and `request.auth` into the scope, which
    are read at first touch. Answers `NotAuthenticated` and its kin wherever the app
    raises them, unless the app has a handler of its own. Starts and stops `auth`
    with the app's lifespan. A WebSocket has the session only if its Origin is a
    `public_url`, and cannot write to it.

    Raises:
        ConfigurationError: it is installed twice around one app (at start).
    """

    def __init__(self, app: ASGIApp, *, auth: TokenManagement) -> None:
        self.app = app
        self._auth = auth
        urls = auth.settings.public_urls
        cookie = Cookie.for_origin(
            urls[0].origin,
            name=_cookie_name(urls[0].path),
            dangerously_allow_http=not urls[0].secure,
        )
        self._source: SessionSource = (
            StoredSource(auth, cookie) if auth.settings.server_side else CookieSource(auth, cookie)
        )
        self._routes = Routes(auth, self._source, cookie=cookie)
        self._origins = frozenset(url.origin for url in urls)
        # What travels in cookies is here already.
        self._preload = auth.has_store and auth.settings.preload
        login = f"{urls[0].path}{auth.settings.prefix}/login"
        self._scheme = security_scheme(cookie=cookie.full_name, login=login)
        self._documented = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection, as ASGI has it."""
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._documented:
            self._document(scope)
        connection = self._connect(scope, scope["headers"], writable=True)
        outgoing = Answer(connection, send)
        token = current_session.set(connection)
        try:
            path = self._routes.path_of(scope)
            if path is not None:
                response = await self._routes.answer(path, scope, receive, connection)
                await response(scope, receive, outgoing)
            else:
                if connection.carried and self._is_preloaded(scope):
                    await connection.fetch()
                await self.app(scope, receive, outgoing)
            if outgoing.is_unfinished:
                await outgoing.finish()
        except Exception as error:
            # The app may have made another error of what kept its answer from being sent.
            failure = outgoing.failure or answerable(error)
            if outgoing.started or failure is None:
                await outgoing.give_up(scope, receive)
                raise
        else:
            return
        finally:
            current_session.reset(token)
        await outgoing.replace(self._response_to(failure, scope, connection), scope, receive)

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = scope["headers"] if self._is_own_page(scope) else []
        connection = self._connect(scope, headers, writable=False)
        socket = Socket(receive, send)
        token = current_session.set(connection)
        try:
            if connection.carried and self._is_preloaded(scope):
                await connection.fetch()
            await self.app(scope, socket.receive, socket.send)
            connection.data.check_saved()
        except Exception as error:
            failure = answerable(error)
            if socket.is_over or failure is None:
                raise
        else:
            return
        finally:
            current_session.reset(token)
        _log(failure)
        await close_websocket(failure)(scope, receive, send)

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Start before the app's own lifespan, and stop after it."""
        installed: list[TokenManagement] = scope.setdefault(_INSTALLED, [])
        if self._auth in installed:
            # A server takes an exception alone for an app that knows no lifespan, and goes on.
            await receive()
            await send({"type": "lifespan.startup.failed", "message": str(_installed_twice())})
            raise _installed_twice()
        installed.append(self._auth)
        self._document(scope)
        async with AsyncExitStack() as running:

            async def receive_and_start() -> Message:
                message = await receive()
                if message["type"] == "lifespan.startup":
                    await running.enter_async_context(self._auth.lifespan())
                return message

            async def stop_and_send(message: Message) -> None:
                if message["type"] in ("lifespan.shutdown.complete", "lifespan.shutdown.failed"):
                    await running.aclose()
                await send(message)

            await self.app(scope, receive_and_start, stop_and_send)

    def _document(self, scope: Scope) -> None:
        """Complete the OpenAPI documents of what is inside, however we were put around it."""
        self._documented = True
        for app in (scope.get("app"), self.app):
            document_unauthorized(app, scheme=self._scheme)

    def _connect(self, scope: Scope, headers: Headers, *, writable: bool) -> ConnectionSession:
        if (outer := scope.get(SCOPE_KEY)) is not None and outer.management is self._auth:
            raise _installed_twice()
        connection = ConnectionSession(
            self._source, headers, writable=writable, root_path=scope.get("root_path", "")
        )
        scope[SCOPE_KEY] = connection
        scope["session"] = connection.data
        scope["user"] = RequestUser(connection)
        scope["auth"] = RequestAuth(connection)
        return connection

    def _is_own_page(self, scope: Scope) -> bool:
        """Tell whether a page of ours opens this WebSocket: for any other there is no session.

        Browsers send cookies along whoever asks, and no CORS stands in the way.
        """
        origins = [value for name, value in scope["headers"] if name == b"origin"]
        return len(origins) == 1 and origins[0].decode("latin-1") in self._origins

    def _is_preloaded(self, scope: Scope) -> bool:
        return self._preload(scope) if callable(self._preload) else self._preload

    def _response_to(
        self, error: TokenwardError, scope: Scope, connection: ConnectionSession
    ) -> ASGIApp:
        _log(error)
        base = base_path(self._auth, root_path=connection.root_path)
        own = f"{base}{self._auth.settings.prefix}"
        target = current_target(scope)
        if target is not None:
            # As browsers see it, whether or not a proxy took the path away.
            target = base + _below(target, connection.root_path.rstrip("/"))
        return answer(
            error,
            navigation=is_navigation(scope["method"], headers=scope["headers"]),
            login_url=f"{own}/login",
            return_to=local_target(target, forbidden_prefixes=(own,)),
        )


def _cookie_name(path: str) -> str:
    """Name the cookies, so that two apps below one host leave each other's alone."""
    return "tokenward" + re.sub("[^A-Za-z0-9]", "_", path)


def _below(target: str, root_path: str) -> str:
    inside = bool(root_path) and target.startswith(f"{root_path}/")
    return target.removeprefix(root_path) if inside else target


def _installed_twice() -> ConfigurationError:
    return ConfigurationError("TokenManagementMiddleware", "is installed twice around one app")


def _log(error: TokenwardError) -> None:
    """What the app did wrong is for its developers to know; the browser is not told."""
    if isinstance(error, SessionError):
        _logger.error("%s: %s", type(error).__name__, error)
