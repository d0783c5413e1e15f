"""What the provider publishes about itself: its metadata and its keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .answers import Document
from .clients import CIBA, DEVICE_CODE, SCOPE_CLAIMS
from .jws import ASYMMETRIC_ALGS, HMAC_ALGS

if TYPE_CHECKING:
    from .answers import Headers
    from .clients import JSON
    from .core import Call, Core

CACHED: Headers = (("cache-control", "public, max-age=300"),)


def discovery(core: Core, call: Call) -> Document:
    """Describe the provider (OpenID Connect Discovery 1.0, section 3).

    What clients have to be registered for is there as soon as one of them is.
    """
    call.raise_refusal()
    members: dict[str, JSON] = {
        "issuer": core.issuer,
        **_endpoints(core),
        **_what_is_supported(core),
        **_signing_algs(core),
        **_auth_methods(core, "token", public=True),
        **_auth_methods(core, "revocation", public=True),
        **_auth_methods(core, "introspection", public=False),
    }
    return Document(members, headers=CACHED)


def _endpoints(core: Core) -> dict[str, JSON]:
    paths = {
        "authorization_endpoint": "/authorize",
        "token_endpoint": "/token",
        "userinfo_endpoint": "/userinfo",
        "jwks_uri": "/jwks",
        "revocation_endpoint": "/revoke",
        "introspection_endpoint": "/introspect",
        "end_session_endpoint": "/logout",
        "pushed_authorization_request_endpoint": "/par",
    }
    if DEVICE_CODE in core.grant_types:
        paths["device_authorization_endpoint"] = "/device_authorization"
    if CIBA in core.grant_types:
        paths["backchannel_authentication_endpoint"] = "/backchannel_authentication"
    if core.registration:
        paths["registration_endpoint"] = "/register"
    return {name: core.url(path) for name, path in paths.items()}


def _what_is_supported(core: Core) -> dict[str, JSON]:
    clients = core.clients.values()
    scopes = {scope for client in clients for scope in client.scopes}
    claims = {claim for names in SCOPE_CLAIMS.values() for claim in names}
    members: dict[str, JSON] = {
        "scopes_supported": sorted(scopes | {"openid"}),
        "claims_supported": sorted(claims | {"sub", "iss", "auth_time", "sid"}),
        "response_types_supported": ["code"],
        "response_modes_supported": ["query", "form_post"],
        "grant_types_supported": sorted(core.grant_types),
        "subject_types_supported": ["public"],
        "prompt_values_supported": ["none", "login", "consent", "select_account"],
        "code_challenge_methods_supported": ["S256"],
        "authorization_response_iss_parameter_supported": True,
        "request_parameter_supported": False,
        "request_uri_parameter_supported": False,
        # RFC 9126, section 5: only if it holds for everybody.
        "require_pushed_authorization_requests": bool(clients)
        and all(client.require_pushed_authorization_requests for client in clients),
    }
    if CIBA in core.grant_types:
        members["backchannel_token_delivery_modes_supported"] = ["poll"]
        members["backchannel_user_code_parameter_supported"] = False
    return members


def _signing_algs(core: Core) -> dict[str, JSON]:
    clients = core.clients.values()
    told: dict[str, list[str]] = {
        # OpenID Connect Discovery 1.0, section 3: "The algorithm RS256 MUST be included".
        "id_token": ["RS256", *(client.id_token_signed_response_alg for client in clients)],
        "introspection": [client.introspection_alg for client in clients],
        "userinfo": [client.userinfo_signed_response_alg or "" for client in clients],
    }
    algs = {name: sorted({alg for alg in given if alg}) for name, given in told.items()}
    return {f"{name}_signing_alg_values_supported": found for name, found in algs.items() if found}


def _auth_methods(core: Core, endpoint: str, *, public: bool) -> dict[str, JSON]:
    listed = {m for client in core.clients.values() for m in client.token_endpoint_auth_methods}
    methods = listed | {"client_secret_basic", "client_secret_post"}
    algs = (ASYMMETRIC_ALGS if "private_key_jwt" in methods else frozenset()) | (
        HMAC_ALGS if "client_secret_jwt" in methods else frozenset()
    )
    name = f"{endpoint}_endpoint_auth"
    return {
        f"{name}_methods_supported": [*sorted(methods), *(["none"] if public else [])],
        # RFC 8414, section 2: REQUIRED with these two methods.
        **({f"{name}_signing_alg_values_supported": sorted(algs)} if algs else {}),
    }


def jwks(core: Core, call: Call) -> Document:
    """Publish the keys that sign (RFC 7517)."""
    call.raise_refusal()
    algs = {alg for client in core.clients.values() for alg in client.signing_algs}
    for alg in sorted(algs or {"RS256"}):
        core.keys.current_for(alg)
    return Document(core.keys.key_set(), headers=CACHED)
