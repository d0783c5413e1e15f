"""An authorization request that the client signs (RFC 9101; OpenID Connect Core 1.0, section 6).

    signed = request_object(
        request, client_id="app", keys=key, issuer="https://op.example", clock=system_clock
    )
    response = await push_authorization_request(http, address, client_id="app", request=signed)

What the browser carries it cannot change then, and the provider knows who asks. Pushed
(RFC 9126, section 3), it is not seen by the browser at all.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

from ..errors import ConfigurationError
from .client_assertion import LIFETIME, jwt_signer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..secret import Secret
    from .authorization import AuthorizationRequest
    from .client_assertion import PrivateKey
    from .form import Form
    from .json import JSON, JSONObject

_TYPE: Final = "oauth-authz-req+jwt"
_ABOUT_THE_JWT: Final = frozenset({"iss", "aud", "exp", "nbf", "iat", "jti", "sub"})


def request_object(
    request: AuthorizationRequest,
    *,
    client_id: str,
    keys: PrivateKey | Sequence[PrivateKey],
    issuer: str,
    clock: Callable[[], float],
    algorithm: str | None = None,
) -> Secret:
    """Return the request as a JWT that the client has signed, good for one minute.

    Of several keys the first one signs, as with `private_key_jwt`; there is no way to
    leave it unsigned. `issuer` is the provider, exactly as its metadata spell it, and
    the only audience. `clock` gives seconds since the epoch.

    Raises `ConfigurationError` when the key cannot sign so, and when `extra` of the
    request has one of the claims that say what the JWT itself is.
    """
    signer = jwt_signer(keys, algorithm=algorithm)
    for name in sorted(_ABOUT_THE_JWT.intersection(request.extra)):
        raise ConfigurationError("extra", f"`{name}` is set by the library")
    now = int(clock())
    about: JSONObject = {
        "iss": client_id,
        "aud": issuer,
        "iat": now,
        "nbf": now,
        "exp": now + LIFETIME,
        "jti": secrets.token_urlsafe(24),
    }
    return signer.sign({**_claims(request.form(client_id)), **about}, typ=_TYPE)


def _claims(form: Form) -> dict[str, JSON | Secret]:
    """Return the parameters as claims (RFC 9101, section 4): numbers as numbers, lists as lists."""
    claims: dict[str, JSON | Secret] = {}
    resources: list[JSON] = []
    for name, value in form:
        if name == "resource" and isinstance(value, str):
            resources.append(value)
        else:
            claims[name] = int(value) if name == "max_age" and isinstance(value, str) else value
    if resources:
        # One is text, several are an array (RFC 8707, section 2.1)
        claims["resource"] = resources[0] if len(resources) == 1 else resources
    return claims
