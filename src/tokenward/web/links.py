"""Addresses of the login routes, for templates."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast
from urllib.parse import urlencode

from ..request_tokens import bound_session
from .logout import logout_sid
from .visit import base_path

if TYPE_CHECKING:
    from starlette.requests import HTTPConnection

    from .session import ConnectionSession


def login_url(
    request: HTTPConnection, *, return_to: str | None = None, provider: str | None = None
) -> str:
    """Return where a link "sign in" leads.

    `return_to` is a path of this site, `provider` the name of one of several.
    """
    given = {"return_to": return_to, "provider": provider}
    return _with_query(_own(request, "login"), given)


def logout_url(request: HTTPConnection, *, return_to: str | None = None) -> str:
    """Return where a link "sign out" leads: it works for the present session alone.

    A form that posts to `/auth/logout` needs no such address.

    Raises:
        SessionNotLoaded, StoreUnavailable: as `request.user` does.
    """
    bound = cast("ConnectionSession", bound_session(request))
    session = bound.session
    sid = logout_sid(bound.management, session) if session else None
    return _with_query(_own(request, "logout"), {"sid": sid, "return_to": return_to})


def _own(request: HTTPConnection, route: str) -> str:
    bound = cast("ConnectionSession", bound_session(request))
    base = base_path(bound.management, root_path=bound.root_path)
    return f"{base}{bound.management.settings.prefix}/{route}"


def _with_query(path: str, given: dict[str, str | None]) -> str:
    query = urlencode({name: value for name, value in given.items() if value is not None})
    return f"{path}?{query}" if query else path
