"""The token endpoint (RFC 6749, section 3.2)."""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import replace
from typing import TYPE_CHECKING

from .answers import Document, Refused
from .clients import CIBA, DEVICE_CODE, JWT_BEARER, TOKEN_EXCHANGE
from .jws import base64url
from .jwt_bearer import redeem_assertion
from .ledger import Grant
from .scopes import read_own_scope, read_resources, read_scope_or_default, split_scope
from .token_answers import access_token, first_tokens, with_id_token
from .token_exchange import exchange

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .clients import JSON, Client
    from .core import Call, Core
    from .ledger import AuthorizationCode
    from .requests import Parameters

_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}")


def token(core: Core, call: Call) -> Document:
    """Give tokens for whatever the client has to show for them."""
    client = core.authenticate(call)
    grant_type = call.parameters.required("grant_type")
    if grant_type not in _GRANTS or grant_type not in core.grant_types:
        raise Refused("unsupported_grant_type")
    if grant_type not in client.grant_types:
        raise Refused("unauthorized_client", "the client may not use this grant")
    return Document(_GRANTS[grant_type](core, call, client))


# --- authorization_code


def _redeem_code(core: Core, call: Call, client: Client) -> dict[str, JSON]:
    parameters = call.parameters
    value = parameters.required("code")
    code = core.ledger.find_code(value, client_id=client.client_id)
    # Whatever comes of it: nobody gets a second guess at the verifier.
    core.ledger.spend_code(value)
    _check_code(core, code, parameters)
    resources = _narrow_resources(client, code.grant, parameters)
    return first_tokens(core, call, client, code.grant, code=value, resources=resources)


def _check_code(core: Core, code: AuthorizationCode, parameters: Parameters) -> None:
    if core.ledger.clock() >= code.expires_at:
        raise Refused("invalid_grant", "the code has expired")
    if parameters.required("redirect_uri") != code.redirect_uri:
        raise Refused("invalid_grant", "the redirect_uri is another one")
    verifier = parameters.required("code_verifier")
    digest = hashlib.sha256(verifier.encode()).digest()
    fits = hmac.compare_digest(base64url(digest), code.code_challenge)
    if not (_VERIFIER.fullmatch(verifier) and fits):
        raise Refused("invalid_grant", "the code_verifier does not fit")


# --- refresh_token


def _refresh(core: Core, call: Call, client: Client) -> dict[str, JSON]:
    """Everything is checked before the token is spent, so a mistake costs nothing."""
    value = call.parameters.required("refresh_token")
    family = core.ledger.find_refresh_token(value, client_id=client.client_id)
    scope = split_scope(call.parameters.one("scope")) or family.grant.scope
    # RFC 6749, section 6: "MUST NOT include any scope not originally granted".
    if scope - family.grant.scope:
        raise Refused("invalid_scope", "the scope is wider than what was granted")
    resources = _narrow_resources(client, family.grant, call.parameters)
    grant = replace(family.grant, scope=scope, resources=resources)
    call.sub = grant.sub
    family = core.ledger.count_refresh(family)
    answer = access_token(core, client, grant, family)
    if client.refresh_token_rotation:
        overlap = client.refresh_token_overlap
        answer["refresh_token"] = core.ledger.rotate(value, overlap=overlap)
    else:
        answer["refresh_token"] = value
    if not client.id_token_on_refresh:
        return answer
    # OIDC Core, section 12.2: "it SHOULD NOT have a nonce Claim".
    return with_id_token(core, call, client, replace(grant, nonce=None), answer)


# --- client_credentials


def _client_credentials(core: Core, call: Call, client: Client) -> dict[str, JSON]:
    if client.is_public:
        raise Refused("unauthorized_client", "a public client cannot act for itself")
    scope = read_own_scope(client, call.parameters)
    resources = read_resources(client, call.parameters)
    return access_token(core, client, Grant(client.client_id, None, scope, resources), None)


# --- password


def _password(core: Core, call: Call, client: Client) -> dict[str, JSON]:
    """RFC 6749, section 4.3; RFC 9700, section 2.4, says that it MUST NOT be used."""
    for name in ("username", "password"):
        call.parameters.required(name)
    scope = read_scope_or_default(client, call.parameters)
    resources = read_resources(client, call.parameters)
    user = core.check_password(call.parameters)
    if user is None:
        raise Refused("invalid_grant", "unknown user or password")
    grant = Grant(client.client_id, None, scope, resources).given_by(core.new_session(user))
    return first_tokens(core, call, client, grant)


# --- device_code and CIBA


def _poll_device_code(core: Core, call: Call, client: Client) -> dict[str, JSON]:
    """RFC 8628, section 3.4."""
    device_code = call.parameters.required("device_code")
    grant = core.device_codes.poll(device_code, client_id=client.client_id)
    return first_tokens(core, call, client, grant)


def _poll_backchannel(core: Core, call: Call, client: Client) -> dict[str, JSON]:
    """CIBA Core 1.0, section 10.1."""
    auth_req_id = call.parameters.required("auth_req_id")
    grant = core.backchannel_requests.poll(auth_req_id, client_id=client.client_id)
    return first_tokens(core, call, client, grant)


# --- resources


def _narrow_resources(client: Client, grant: Grant, parameters: Parameters) -> tuple[str, ...]:
    """RFC 8707, section 2.2: a subset of what the user granted, or all of it."""
    resources = read_resources(client, parameters)
    if grant.resources and set(resources) - set(grant.resources):
        raise Refused("invalid_target", "the resource was not granted")
    return resources or grant.resources


_GRANTS: Mapping[str, Callable[[Core, Call, Client], dict[str, JSON]]] = {
    "authorization_code": _redeem_code,
    "refresh_token": _refresh,
    "client_credentials": _client_credentials,
    "password": _password,
    DEVICE_CODE: _poll_device_code,
    CIBA: _poll_backchannel,
    TOKEN_EXCHANGE: exchange,
    JWT_BEARER: redeem_assertion,
}
