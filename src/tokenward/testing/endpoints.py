"""The smaller endpoints: revocation, introspection and userinfo."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from .answers import NO_STORE, Document, Raw, Refused

if TYPE_CHECKING:
    from .answers import Answer
    from .clients import JSON, Client
    from .core import Call, Core
    from .ledger import IssuedToken

INTROSPECTION_JWT: Final = "application/token-introspection+jwt"
"""RFC 9701, section 4."""


def revocation(core: Core, call: Call) -> Raw:
    """End a token; a refresh token takes its family with it (RFC 7009)."""
    client = core.authenticate(call)
    # RFC 7009, section 2.1: the hint only makes the search faster, so it is not needed.
    core.ledger.revoke(call.parameters.required("token"), client_id=client.client_id)
    return Raw(b"", headers=(("cache-control", "no-store"),))


def introspection(core: Core, call: Call) -> Answer:
    """Tell a client with a secret whether a token is good (RFC 7662)."""
    client = core.authenticate(call)
    if client.is_public:
        raise Refused("invalid_client", "introspection needs a secret", status=401)
    state = _state(core, client, call.parameters.required("token"))
    if INTROSPECTION_JWT not in _accepted(call):
        return Document(state)
    # RFC 9701, section 5: no `sub` and no `exp` outside, lest it pass for a token.
    claims: dict[str, JSON] = {
        "iss": core.issuer,
        "aud": client.client_id,
        "iat": core.now,
        "token_introspection": state,
    }
    alg = client.introspection_alg
    signed = core.sign_token(client, "token-introspection+jwt", claims, call.faults, alg=alg)
    return _jwt(signed, INTROSPECTION_JWT)


def _accepted(call: Call) -> set[str]:
    ranges = ",".join(call.request.headers.getlist("accept")).split(",")
    return {one.partition(";")[0].strip().lower() for one in ranges}


def _jwt(signed: str, media_type: str) -> Raw:
    return Raw(signed.encode(), headers=(("content-type", media_type), *NO_STORE))


def _state(core: Core, client: Client, value: str) -> dict[str, JSON]:
    if access_token := core.ledger.live_access_token(value):
        claims = core.access_token_claims(access_token)
        return {"active": True, "token_type": "Bearer", **claims}
    return _refresh_token_state(core, client, value)


def _refresh_token_state(core: Core, client: Client, value: str) -> dict[str, JSON]:
    """A refresh token is nobody's business but its client's."""
    family = core.ledger.live_refresh_token(value)
    if family is None or family.client_id != client.client_id:
        return {"active": False}
    return {
        "active": True,
        "iss": core.issuer,
        "sub": family.sub,
        "client_id": family.client_id,
        "scope": " ".join(sorted(family.grant.scope)),
        "exp": int(family.expires_at),
    }


def userinfo(core: Core, call: Call) -> Answer:
    """Tell who the user is, signed if the client is registered so (OIDC Core, section 5.3)."""
    call.raise_refusal()
    token = _live_token(core, call)
    grant = token.grant
    user = core.users.get(grant.sub or "")
    if user is None or "openid" not in grant.scope:
        raise bearer_error("insufficient_scope", 403)
    call.sub = user.sub
    claims: dict[str, JSON] = {**user.claims_for(grant.scope), "sub": user.sub}
    client = core.clients.get(grant.client_id)
    if client is None or client.userinfo_signed_response_alg is None:
        return Document(claims)
    # Section 5.3.2: signed, it SHOULD say by whom, and for whom.
    claims |= {"iss": core.issuer, "aud": client.client_id}
    alg = client.userinfo_signed_response_alg
    return _jwt(core.sign_token(client, "JWT", claims, call.faults, alg=alg), "application/jwt")


def _live_token(core: Core, call: Call) -> IssuedToken:
    token = core.ledger.live_access_token(read_bearer(call))
    if token is None:
        raise bearer_error("invalid_token", 401)
    return token


def read_bearer(call: Call) -> str:
    """Return the token of the Authorization header, or refuse (RFC 6750, section 2.1)."""
    given = call.request.headers.getlist("authorization")
    scheme, _, value = given[0].partition(" ") if given else ("", "", "")
    if scheme.lower() != "bearer":
        # RFC 6750, section 3.1: no error code when there were no credentials at all.
        challenge = (("www-authenticate", 'Bearer realm="provider"'),)
        raise Refused("invalid_token", status=401, headers=challenge)
    if len(given) > 1:
        raise bearer_error("invalid_request", 400)
    return value


def bearer_error(error: str, status: int) -> Refused:
    """Return the refusal of a token, or of what it was used for (RFC 6750, section 3)."""
    challenge = (("www-authenticate", f'Bearer realm="provider", error="{error}"'),)
    return Refused(error, status=status, headers=challenge)
