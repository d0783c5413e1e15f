"""Auth classes for outgoing calls with httpx2.

    api = httpx2.AsyncClient(
        base_url="https://invoices.example",
        auth=UserTokenAuth(origins="https://invoices.example"),
    )

One client serves all users: whose token a call carries is looked up when it is sent.
If no token can be had, the call is not sent, and raises what `auth.users.token` raises.
After a 401 a call is made once more with another token, unless its body was a stream.

All take these arguments:

* `origins`: the API's origin, or several; https. A call to anywhere else raises
  `CallRefused`. A redirect to another origin loses the token.
* `keep_authorization`: send a request that has its own Authorization header as it is.
  Otherwise it raises `CallRefused`.
* `resend_unsafe_methods`: whether a POST, PUT, PATCH or DELETE is made again after a 401,
  which says that it was not carried out (RFC 9110, section 15.5.2).
* `dangerously_allow_http`: allow plain http on loopback, for development.
"""

from __future__ import annotations

import httpx2

from .outgoing import (
    NOT_RESENT,
    ClientCredentialsFlow,
    TokenFlow,
    UserTokenFlow,
)
from .transport import no_cookies

__all__ = [
    "NOT_RESENT",
    "ClientCredentialsAuth",
    "TokenAuth",
    "UserTokenAuth",
    "new_async_client",
    "new_client",
]


class TokenAuth(TokenFlow[httpx2.Request, httpx2.Response], httpx2.Auth):
    """Send the tokens of any source, or one token.

    TokenAuth(auth.users.source(handle), origins="https://invoices.example")
    """


class UserTokenAuth(UserTokenFlow[httpx2.Request, httpx2.Response], httpx2.Auth):
    """Send the token of the user whose request is being answered.

    On an `AsyncClient`, and on a `Client` in endpoints that are written with `def`.
    `resource` and `scope` ask for a token for them (`auth.users.token`), `exchange` for one
    that the user's token is exchanged for. Where no request is being answered it raises
    `NotAuthenticated`.
    """


class ClientCredentialsAuth(ClientCredentialsFlow[httpx2.Request, httpx2.Response], httpx2.Auth):
    """Send a token of the app itself, on a client of either kind.

    ClientCredentialsAuth(tokens, "reports", origins="https://reports.example")

    `scope`, `resource` and `extra` are those of `ClientCredentialsTokens.token`.
    """


def new_async_client() -> httpx2.AsyncClient:
    """Return a client that keeps no cookies: those of one user's answer are not another's."""
    return httpx2.AsyncClient(cookies=no_cookies())


def new_client() -> httpx2.Client:
    """Return what `new_async_client` does, for threads."""
    return httpx2.Client(cookies=no_cookies())
