"""Tokens for a JWT that somebody trusted has signed (RFC 7523, section 2.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .answers import Refused
from .assertions import find_problem, spend_jti
from .client_authentication import is_signed_by_client
from .jws import import_keys, read_jws
from .ledger import Grant
from .scopes import read_own_scope, read_resources, read_scope_or_default
from .token_answers import access_token, first_tokens

if TYPE_CHECKING:
    from .clients import JSON, Client
    from .core import Call, Core
    from .jws import Jws


def redeem_assertion(core: Core, call: Call, client: Client) -> dict[str, JSON]:
    """Give tokens for an assertion of the client's own, or of an issuer that is trusted.

    Its `sub` is a user, or the client itself. The client proves itself as well.
    """
    assertion = read_jws(call.parameters.required("assertion"))
    if assertion is None or not _is_trusted(core, client, assertion):
        raise Refused("invalid_grant", "nobody who is trusted signed the assertion")
    if problem := find_problem(core, client, assertion.claims):
        raise Refused("invalid_grant", problem)
    resources = read_resources(client, call.parameters)
    if assertion.claims.get("sub") == client.client_id:
        scope = read_own_scope(client, call.parameters)
        _spend(core, assertion)
        return access_token(core, client, Grant(client.client_id, None, scope, resources), None)
    user = core.users.get(str(assertion.claims.get("sub")))
    if user is None:
        raise Refused("invalid_grant", "sub is nobody who is known here")
    scope = read_scope_or_default(client, call.parameters)
    # RFC 7521, section 4.1: "refresh tokens are not typically issued".
    if "offline_access" in scope:
        raise Refused("invalid_scope", "an assertion brings no refresh token")
    _spend(core, assertion)
    asked = Grant(client.client_id, None, scope, resources)
    return first_tokens(core, call, client, asked.given_by(core.new_session(user)))


def _is_trusted(core: Core, client: Client, assertion: Jws) -> bool:
    issuer = str(assertion.claims.get("iss"))
    if issuer == client.client_id:
        return is_signed_by_client(client, assertion)
    jwks = core.trusted_issuers.get(issuer)
    return jwks is not None and assertion.is_signed_by(import_keys(jwks))


def _spend(core: Core, assertion: Jws) -> None:
    if not spend_jti(core, assertion.claims, required=False):
        raise Refused("invalid_grant", "the jti was used before")
