"""Client metadata, read strictly and told back (RFC 7591, section 2; OIDC Registration 1.0)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, TypeVar, get_args
from urllib.parse import urlsplit

from .answers import Refused
from .clients import Client, ClientAuthMethod, GrantType, SigningAlg
from .jws import import_keys

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .clients import JSON

AuthMethod: TypeAlias = ClientAuthMethod | Literal["none"]
T = TypeVar("T", bound=str)

_GRANTS: Final[tuple[GrantType, ...]] = get_args(GrantType)
_ALGS: Final[tuple[SigningAlg, ...]] = get_args(SigningAlg)
_METHODS: Final[tuple[AuthMethod, ...]] = (*get_args(ClientAuthMethod), "none")
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_PRIVATE_USE: Final = re.compile(r"[a-z][a-z0-9+-]*(\.[a-z0-9+-]+)+")
"""RFC 8252, section 7.1: a scheme that is a domain name in reverse."""


def read_client(
    document: Mapping[str, JSON], *, client_id: str, new_secret: Callable[[], str]
) -> Client:
    """Make the client that the metadata describe, or refuse them.

    What is not understood is ignored (RFC 7591, section 2). A secret is made where
    the client needs one.
    """
    method = _one(document, "token_endpoint_auth_method", _METHODS) or "client_secret_basic"
    grant_types = _several(document, "grant_types", _GRANTS) or ("authorization_code",)
    _several(document, "response_types", ("code",))
    default = Client(client_id)
    return Client(
        client_id,
        secrets=() if method in {"none", "private_key_jwt"} else (new_secret(),),
        grant_types=grant_types,
        token_endpoint_auth_methods=() if method == "none" else (method,),
        jwks=_read_jwks(document, needed=method == "private_key_jwt"),
        redirect_uris=_read_redirect_uris(document, needed="authorization_code" in grant_types),
        post_logout_redirect_uris=_addresses(document, "post_logout_redirect_uris"),
        scopes=tuple((_text(document, "scope") or " ".join(default.scopes)).split()),
        require_pushed_authorization_requests=_flag(
            document, "require_pushed_authorization_requests"
        ),
        id_token_signed_response_alg=_one(document, "id_token_signed_response_alg", _ALGS)
        or default.id_token_signed_response_alg,
        userinfo_signed_response_alg=_one(document, "userinfo_signed_response_alg", _ALGS),
        introspection_signed_response_alg=_one(
            document, "introspection_signed_response_alg", _ALGS
        ),
    )


def registered_metadata(client: Client) -> dict[str, JSON]:
    """Tell all that is registered, defaults included (RFC 7591, section 3.2.1)."""
    given: dict[str, JSON] = {
        "redirect_uris": list(client.redirect_uris),
        "post_logout_redirect_uris": list(client.post_logout_redirect_uris),
        "grant_types": list(client.grant_types),
        "response_types": ["code"] if "authorization_code" in client.grant_types else [],
        "token_endpoint_auth_method": next(iter(client.token_endpoint_auth_methods), "none"),
        "scope": " ".join(client.scopes),
        "jwks": client.jwks,
        "require_pushed_authorization_requests": client.require_pushed_authorization_requests,
        "id_token_signed_response_alg": client.id_token_signed_response_alg,
        "userinfo_signed_response_alg": client.userinfo_signed_response_alg,
        "introspection_signed_response_alg": client.introspection_alg,
    }
    return {name: value for name, value in given.items() if value is not None}


# --- addresses and keys


def _read_redirect_uris(document: Mapping[str, JSON], *, needed: bool) -> tuple[str, ...]:
    addresses = _addresses(document, "redirect_uris")
    if needed and not addresses:
        raise Refused("invalid_redirect_uri", "redirect_uris is missing")
    return addresses


def _addresses(document: Mapping[str, JSON], name: str) -> tuple[str, ...]:
    addresses = _strings(document, name) or ()
    if not all(_is_callback(address) for address in addresses):
        raise Refused("invalid_redirect_uri", f"{name}: https, loopback or private-use, bare")
    return addresses


def _is_callback(address: str) -> bool:
    """RFC 9700, section 4.1.3, and RFC 8252, section 7."""
    try:
        parts = urlsplit(address)
        host = parts.hostname
    except ValueError:
        return False
    if "#" in address or "@" in parts.netloc:
        return False
    if parts.scheme == "http":
        return host in _LOOPBACK
    return bool(host) if parts.scheme == "https" else bool(_PRIVATE_USE.fullmatch(parts.scheme))


def _read_jwks(document: Mapping[str, JSON], *, needed: bool) -> Mapping[str, JSON] | None:
    if document.get("jwks_uri") is not None:
        raise _wrong("jwks_uri", "nothing is fetched from clients; give jwks")
    jwks = document.get("jwks")
    if jwks is None and not needed:
        return None
    try:
        keys = import_keys(jwks) if isinstance(jwks, dict) else []
    except ValueError:
        keys = []
    if not keys or any(key.is_private for key in keys):
        raise _wrong("jwks", "a set of public keys is needed")
    return jwks if isinstance(jwks, dict) else None


# --- members


def _one(document: Mapping[str, JSON], name: str, allowed: tuple[T, ...]) -> T | None:
    given = document.get(name)
    if given is None:
        return None
    for value in allowed:
        if value == given:
            return value
    raise _wrong(name, f"one of {', '.join(allowed)}")


def _several(
    document: Mapping[str, JSON], name: str, allowed: tuple[T, ...]
) -> tuple[T, ...] | None:
    given = _strings(document, name)
    if given is None:
        return None
    if set(given) - set(allowed):
        raise _wrong(name, f"only {', '.join(allowed)}")
    return tuple(value for value in allowed if value in given)


def _strings(document: Mapping[str, JSON], name: str) -> tuple[str, ...] | None:
    given = document.get(name)
    if given is None:
        return None
    texts = tuple(one for one in given if isinstance(one, str)) if isinstance(given, list) else ()
    if not isinstance(given, list) or len(texts) != len(given):
        raise _wrong(name, "a list of strings")
    return texts


def _text(document: Mapping[str, JSON], name: str) -> str | None:
    given = document.get(name)
    if given is not None and not isinstance(given, str):
        raise _wrong(name, "a string")
    return given


def _flag(document: Mapping[str, JSON], name: str) -> bool:
    given = document.get(name, False)
    if not isinstance(given, bool):
        raise _wrong(name, "true or false")
    return given


def _wrong(name: str, expected: str) -> Refused:
    return Refused("invalid_client_metadata", f"{name}: {expected}")
