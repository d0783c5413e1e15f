"""How clients prove who they are (RFC 6749, section 2.3; OIDC Core, section 9)."""

from __future__ import annotations

import base64
import binascii
import hmac
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_plus

from .answers import Refused
from .assertions import find_problem, spend_jti
from .jws import import_keys, read_jws

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request

    from .clients import Client
    from .core import Core
    from .jws import Jws
    from .requests import Parameters

ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
"""RFC 7523, section 2.2."""
PROOF_PARAMETERS: Final = frozenset({"client_secret", "client_assertion", "client_assertion_type"})
"""What proves who the client is, and is not part of what it asks."""
_TYPES: Final = (None, "JWT", "client-authentication+jwt")


@dataclass(frozen=True, slots=True)
class Proof:
    """How a client says that it proves itself."""

    client_id: str
    secret: str | None = field(default=None, repr=False)
    in_header: bool = False
    assertion: Jws | None = None


def claimed_client_id(request: Request, parameters: Parameters) -> str | None:
    """Return who the client says it is, for the record; proves nothing."""
    try:
        return _read_proof(request, parameters).client_id or None
    except Refused:
        return parameters.one("client_id")


def authenticate_client(core: Core, request: Request, parameters: Parameters) -> Client:
    """Return the client that proves itself, or refuse."""
    proof = _read_proof(request, parameters)
    client = core.clients.get(proof.client_id)
    if client is None:
        raise invalid_client("unknown client or secret")
    if proof.assertion:
        _check_assertion(core, client, proof.assertion)
    elif not _proves(client, proof):
        raise invalid_client("unknown client or secret")
    return client


def _read_proof(request: Request, parameters: Parameters) -> Proof:
    basic = _basic_credentials(request)
    assertion = _client_assertion(parameters)
    secret = parameters.one("client_secret")
    if sum(way is not None for way in (basic, assertion, secret)) > 1:
        raise Refused("invalid_request", "the client authenticates in two ways at once")
    proof = basic or assertion or Proof(parameters.one("client_id") or "", secret)
    if parameters.one("client_id") not in {None, proof.client_id}:
        raise Refused("invalid_request", "the request names two different clients")
    return proof


# --- by secret


def _proves(client: Client, proof: Proof) -> bool:
    if client.is_public:
        return proof.secret is None
    method = "client_secret_basic" if proof.in_header else "client_secret_post"
    if proof.secret is None or method not in client.token_endpoint_auth_methods:
        return False
    return _is_one_of(proof.secret, client.secrets)


def _is_one_of(secret: str, known: Sequence[str]) -> bool:
    return any(hmac.compare_digest(secret.encode(), one.encode()) for one in known)


def _basic_credentials(request: Request) -> Proof | None:
    """Return id and secret of the Authorization header; None without one.

    Both are form-encoded inside the pair (RFC 6749, section 2.3.1).
    """
    given = request.headers.getlist("authorization")
    if not given:
        return None
    scheme, _, encoded = given[0].partition(" ")
    if len(given) > 1 or scheme.lower() != "basic":
        raise invalid_client("unknown client or secret")
    try:
        pair = base64.b64decode(encoded, validate=True).decode("ascii").split(":")
        client_id, secret = (unquote_plus(part, errors="strict") for part in pair)
    except (binascii.Error, ValueError):
        client_id = secret = ""
    if not client_id:
        raise invalid_client("unknown client or secret")
    return Proof(client_id, secret, in_header=True)


# --- by assertion (RFC 7523, section 2.2)


def _client_assertion(parameters: Parameters) -> Proof | None:
    assertion = parameters.one("client_assertion")
    assertion_type = parameters.one("client_assertion_type")
    if assertion is None and assertion_type is None:
        return None
    if assertion is None or assertion_type != ASSERTION_TYPE:
        raise Refused("invalid_request", "client_assertion and its type do not fit together")
    jws = read_jws(assertion)
    if jws is None:
        raise invalid_client("client_assertion is not a signed JWT")
    # Section 3: "For client authentication, the subject MUST be the client_id".
    return Proof(str(jws.claims.get("sub", "")), assertion=jws)


def _check_assertion(core: Core, client: Client, assertion: Jws) -> None:
    if assertion.header.get("typ") not in _TYPES:
        raise invalid_client("typ is not that of a client_assertion")
    if not _is_signed_by(client, assertion):
        raise invalid_client("the client did not sign its assertion")
    if assertion.claims.get("iss") != client.client_id:
        raise invalid_client("iss is not the client")
    if problem := find_problem(core, client, assertion.claims):
        raise invalid_client(problem)
    # OIDC Core, section 9: jti is REQUIRED, "MUST only be used once".
    if not spend_jti(core, assertion.claims, required=True):
        raise invalid_client("jti is missing, or was used before")


def _is_signed_by(client: Client, assertion: Jws) -> bool:
    methods = client.token_endpoint_auth_methods
    if "private_key_jwt" in methods and is_signed_by_client(client, assertion):
        return True
    secrets = client.secrets if "client_secret_jwt" in methods else ()
    return any(assertion.is_signed_with(secret) for secret in secrets)


def is_signed_by_client(client: Client, jws: Jws) -> bool:
    """Whether one of the client's registered keys signed it."""
    return client.jwks is not None and jws.is_signed_by(import_keys(client.jwks))


def invalid_client(description: str) -> Refused:
    """Return the refusal of somebody who did not prove to be a client."""
    challenge = (("www-authenticate", 'Basic realm="provider"'),)
    return Refused("invalid_client", description, status=401, headers=challenge)
