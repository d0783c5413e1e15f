"""The routes that the middleware owns: which there are, and who answers them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from starlette.responses import PlainTextResponse, Response

from ..errors import (
    ConfigurationError,
    LoginFailed,
    ProviderError,
    ProviderUnavailable,
    StoreUnavailable,
)
from ..events import LoginFailure, StoreFailed
from ..settings import read_path
from .attempts import LoginAttempts, UsedStates
from .callback import Callback
from .challenge import is_prefetch
from .login import Login
from .logout import Logout
from .marks import LoopGuard, Mark
from .pages import protect
from .visit import Visit, base_path, callback_path

if TYPE_CHECKING:
    from starlette.types import Receive, Scope

    from ..errors import TokenwardError
    from ..management import TokenManagement
    from ..settings import PublicUrl
    from .cookies import Cookie
    from .session import ConnectionSession, SessionSource

Handler = Callable[[Visit], Awaitable[Response]]


class Routes:
    """Finds the route of a path, and answers it."""

    def __init__(
        self, management: TokenManagement, source: SessionSource, *, cookie: Cookie
    ) -> None:
        self._management = management
        ring, clock = management.ring, management.clock
        attempts = LoginAttempts(ring, _attempt_cookie(management, cookie), clock=clock)
        guard = LoopGuard(Mark(ring, cookie.named("loop"), purpose="loop"), clock=clock)
        mark = Mark(ring, cookie.named("logout"), purpose="logout")
        login = Login(management, attempts=attempts, guard=guard)
        used = UsedStates(management.store)
        callback = Callback(management, source, attempts=attempts, used=used, guard=guard)
        logout = Logout(management, mark=mark, guard=guard)
        prefix = management.settings.prefix
        self._table: dict[str, dict[str, Handler]] = {
            f"{prefix}/login": {"GET": _signing_in(login.start)},
            f"{prefix}/logout": {"GET": logout.start, "POST": logout.start},
            f"{prefix}/logout/callback": {"GET": logout.finish},
        }
        self._add_callbacks(callback)
        self._endings = tuple(self._table)

    def path_of(self, scope: Scope) -> str | None:
        """Return the path of a route of ours, relative to where the app is mounted; None: not ours.

        Where the app is mounted may be in the path or be cut off already: servers and
        proxies differ.
        """
        path: str = scope["path"]
        if not path.endswith(self._endings):
            return None
        roots = (scope.get("root_path", ""), self._management.settings.public_urls[0].path)
        for mounted in roots:
            root = mounted.rstrip("/")
            if root and path.startswith(f"{root}/"):
                path = path[len(root) :]
                break
        return path if path in self._table else None

    async def answer(
        self, path: str, scope: Scope, receive: Receive, connection: ConnectionSession
    ) -> Response:
        """Answer a request to a route of ours. Raises what the middleware answers."""
        handlers = self._table[path]
        handler = handlers.get(scope["method"])
        if handler is None:
            allow = ", ".join(handlers)
            return protect(PlainTextResponse("", 405, headers={"allow": allow}))
        if is_prefetch(scope["headers"]):
            return protect(Response(status_code=204))
        public_url = self._public_url(scope)
        if public_url is None:
            return protect(PlainTextResponse("This host is not ours.\n", 400))
        base = base_path(self._management, root_path=scope.get("root_path", ""))
        return await handler(
            Visit(self._management, connection, scope, receive, path, public_url, base)
        )

    def _add_callbacks(self, callback: Callback) -> None:
        finish, take = _signing_in(callback.finish), _signing_in(callback.take)
        others = frozenset(self._table)
        for provider in self._management.providers.values():
            path = read_path("redirect_path", callback_path(self._management, provider))
            if path in others:
                raise ConfigurationError("redirect_path", f"{path} is another route of ours")
            handlers = self._table.setdefault(path, {})
            handlers["GET"] = finish
            if provider.response_mode == "form_post":
                handlers["POST"] = take

    def _public_url(self, scope: Scope) -> PublicUrl | None:
        """Return the address that the browser used, if it is one of ours."""
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        if len(hosts) != 1:
            return None
        host = hosts[0].decode("latin-1").lower()
        for url in self._management.settings.public_urls:
            if url.is_host(host):
                return url
        return None


def _signing_in(handler: Handler) -> Handler:
    """Let whatever keeps a login from being completed be told, to the browser and by an event."""

    async def answered(visit: Visit) -> Response:
        failure: TokenwardError
        try:
            return await handler(visit)
        except LoginFailed as error:
            return visit.refuse(error)
        except StoreUnavailable as error:
            visit.management.emit(StoreFailed(operation="login", error=str(error)))
            raise
        except ConfigurationError as error:
            reason, failure = "misconfigured", error
        except ProviderUnavailable as error:
            reason, failure = "provider_unavailable", error
        except ProviderError as error:
            reason, failure = "provider_unusable", ProviderUnavailable(str(error))
        visit.management.emit(LoginFailure(reason=reason, detail=str(failure)))
        return visit.tell(failure)

    return answered


def _attempt_cookie(management: TokenManagement, cookie: Cookie) -> Cookie:
    """Return the cookie of login attempts.

    A POST from the provider's site brings cookies only that are SameSite=None, so
    with form_post these are; the session's never is (RFC 6265bis, section 5.6.7), and
    `Callback.take` sees to it that it comes all the same.
    """
    attempt = cookie.named("login")
    if all(provider.response_mode == "query" for provider in management.providers.values()):
        return attempt
    if not cookie.secure:
        raise ConfigurationError("response_mode", "form_post needs an https public_url")
    return replace(attempt, same_site="None")
