"""Which address leads where."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from .authorize import Login, authorize, login
from .backchannel import backchannel_authentication
from .device import device, device_authorization
from .discovery import discovery, jwks
from .end_session import Logout, end_session
from .endpoints import introspection, revocation, userinfo
from .interactions import Interactions
from .pushed import push
from .registration import registration
from .token_endpoint import token

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .answers import Answer
    from .core import Call, Core
    from .requests import Endpoint

_GET: Final = frozenset({"GET", "HEAD"})
_POST: Final = frozenset({"POST"})
_BOTH: Final = frozenset({"GET", "POST"})

ROUTES: Final[Mapping[str, tuple[Endpoint, frozenset[str]]]] = {
    "/.well-known/openid-configuration": ("discovery", _GET),
    "/jwks": ("jwks", _GET),
    "/authorize": ("authorize", _BOTH),
    "/login": ("login", _POST),
    "/par": ("pushed_authorization_request", _POST),
    "/device_authorization": ("device_authorization", _POST),
    "/device": ("device", _BOTH),
    "/backchannel_authentication": ("backchannel_authentication", _POST),
    "/token": ("token", _POST),
    "/revoke": ("revocation", _POST),
    "/introspect": ("introspection", _POST),
    "/userinfo": ("userinfo", _BOTH),
    "/register": ("registration", _BOTH | {"DELETE"}),
    "/logout": ("end_session", _BOTH),
}
"""Endpoint and methods by the path below the issuer."""
ENDPOINTS: Final = frozenset(endpoint for endpoint, _ in ROUTES.values())
FOR_PEOPLE: Final[frozenset[Endpoint]] = frozenset({"authorize", "login", "device", "end_session"})
"""Endpoints that say no with a page."""


def make_endpoints(core: Core) -> Mapping[Endpoint, Callable[[Call], Answer]]:
    """Return what each endpoint does, with its own memory of open pages."""
    logins: Interactions[Login] = Interactions()
    logouts: Interactions[Logout] = Interactions()
    device_pages: Interactions[None] = Interactions()
    return {
        "discovery": partial(discovery, core),
        "jwks": partial(jwks, core),
        "authorize": partial(authorize, core, logins),
        "login": partial(login, core, logins),
        "pushed_authorization_request": partial(push, core),
        "device_authorization": partial(device_authorization, core),
        "device": partial(device, core, device_pages),
        "backchannel_authentication": partial(backchannel_authentication, core),
        "token": partial(token, core),
        "revocation": partial(revocation, core),
        "introspection": partial(introspection, core),
        "userinfo": partial(userinfo, core),
        "registration": partial(registration, core),
        "end_session": partial(end_session, core, logouts),
    }
