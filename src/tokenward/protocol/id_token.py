"""Whether an id_token proves who logged in (OpenID Connect Core 1.0).

The rules are in the order of section 3.1.3.7 and carry its numbers, those for a
refreshed token in the order of section 12.2. No rule is skipped because a claim is
missing: what a rule needs and does not find is refused.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from ..errors import ConfigurationError, InvalidResponse, InvalidToken
from ..secret import Secret
from .json import JSON, excerpt
from .jwt import (
    Claims,
    check_audience,
    check_issuer,
    check_leeway,
    check_times,
    identifier,
    numeric_date,
    read_jwt,
    verify,
)
from .keys import KeySet, check_algorithms

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

MAX_ISSUED_AGE: Final = 600.0
"""Seconds since `iat`. A token that comes straight from the token endpoint is younger."""

REFRESH_CLAIMS: Final = frozenset({"iss", "sub", "aud", "azp", "nonce", "auth_time"})
"""Claims of the id_token at login that `validate_refreshed_id_token` compares; whoever keeps
only some claims keeps these."""

_TYPES: Final = (None, "JWT")
_TIME_RULES: Final[Mapping[str, str]] = {
    "exp": "OIDC Core 3.1.3.7 (9)",
    "iat": "OIDC Core 3.1.3.7 (10)",
    "nbf": "RFC 7519 4.1.5",
}


class StaleIdToken(InvalidToken):
    """The id_token is genuine, but its time is not now: expired, old, or not yet valid."""


class InsufficientUserAuthentication(InvalidToken):
    """The user logged in, but not as strongly or as lately as asked for (RFC 9470)."""


@dataclass(frozen=True, slots=True)
class IdToken:
    """A validated id_token."""

    token: Secret
    """As the provider sent it: the hint for the logout."""
    issuer: str
    sub: str
    """Names the user, together with `issuer`, and nothing else does (OIDC Core, 5.7)."""
    claims: Mapping[str, JSON] = field(repr=False)
    """All claims, as signed."""


def validate_id_token(
    token: Secret,
    *,
    key_set: KeySet,
    issuer: str,
    client_id: str,
    nonce: Secret | None,
    now: float,
    algorithms: Collection[str] = ("RS256",),
    leeway: float = 60.0,
    max_age: float | None = None,
    acr_values: Collection[str] = (),
    access_token: Secret | None = None,
    trusted_audiences: Collection[str] = (),
    dangerously_expect_no_nonce: bool = False,
) -> IdToken:
    """Return the id_token of a login if every rule of OIDC Core 3.1.3.7 holds.

    `now` is in seconds since the epoch; `leeway`, 0 to 300 seconds, is what the
    clocks may differ by. `nonce` is the one of this login attempt; None is a
    mistake unless `dangerously_expect_no_nonce` says that none was sent.
    `max_age=None`: no limit to how long ago the user logged in was asked for.
    `acr_values`: those of which one is required; empty: any. `access_token` is the
    one that came with the token, for `at_hash`; None: there is none.
    `trusted_audiences` may stand in `aud` beside the client.

    Raises `InvalidToken` or one of its kinds: `SigningKeyNotFound`,
    `InvalidSignature`, `StaleIdToken`, `InsufficientUserAuthentication`.
    Raises `ConfigurationError` for settings that cannot be meant.
    """
    _check_expected_nonce(nonce, expect_none=dangerously_expect_no_nonce)
    _check_several("acr_values", acr_values)
    claims = _verify(  # Rules 1 to 8
        token,
        key_set,
        issuer=issuer,
        client_id=client_id,
        algorithms=algorithms,
        trusted_audiences=trusted_audiences,
    )
    _check_times(claims, now=now, leeway=leeway)  # Rules 9 and 10
    _check_nonce(claims, nonce)  # Rule 11
    _check_acr(claims, acr_values)  # Rule 12
    _check_auth_time(claims, max_age=max_age, now=now, leeway=leeway)  # Rule 13
    sub = _required_sub(claims)
    _check_at_hash(claims, alg=read_jwt(token).alg, access_token=access_token)
    return IdToken(token, issuer, sub, claims)


def validate_refreshed_id_token(
    token: Secret,
    *,
    previous: Mapping[str, JSON],
    key_set: KeySet,
    issuer: str,
    client_id: str,
    now: float,
    algorithms: Collection[str] = ("RS256",),
    leeway: float = 60.0,
    access_token: Secret | None = None,
    trusted_audiences: Collection[str] = (),
) -> IdToken:
    """Return the id_token of a refresh if it speaks of the same login (OIDC Core 12.2).

    `previous` are the claims of the id_token at login, at least those named in
    `REFRESH_CLAIMS`; the other parameters are those of `validate_id_token`.

    Raises `InvalidToken` when it may speak of somebody or something else: then
    nothing of the answer may be used. Raises `StaleIdToken` only when all else is
    right and its time is not now: the access token beside it can be used, and the
    old id_token is kept.
    """
    previous = Claims(previous)
    claims = _verify(
        token,
        key_set,
        issuer=issuer,
        client_id=client_id,
        algorithms=algorithms,
        trusted_audiences=trusted_audiences,
    )
    sub = _required_sub(claims)
    _check_same_login(claims, previous)
    _check_at_hash(claims, alg=read_jwt(token).alg, access_token=access_token)
    # Last, because what it raises means that everything else is right.
    _check_times(claims, now=now, leeway=leeway)
    return IdToken(token, issuer, sub, claims)


def validate_userinfo(claims: Mapping[str, JSON], *, sub: str) -> Mapping[str, JSON]:
    """Return the claims of the UserInfo answer if they are about the user of the id_token.

    "The sub Claim in the UserInfo Response MUST be verified to exactly match the sub
    Claim in the ID Token; if they do not match, the UserInfo Response values MUST
    NOT be used" (OIDC Core, section 5.3.2). Raises `InvalidResponse`.
    """
    if claims.get("sub") != sub:
        raise InvalidResponse("sub", "is not the sub of the id_token")
    return claims


def _verify(
    token: Secret,
    key_set: KeySet,
    *,
    issuer: str,
    client_id: str,
    algorithms: Collection[str],
    trusted_audiences: Collection[str],
) -> Claims:
    """Apply rules 1 to 8, the signature first: nothing else can be believed before."""
    # 8. "If the JWT alg Header Parameter uses a MAC based algorithm": none is ever taken.
    check_algorithms(algorithms)
    _check_several("trusted_audiences", trusted_audiences)
    # 1. An encrypted id_token has five segments and is refused: none was registered for.
    # 6. The signature is verified also when the token came straight from the provider.
    # 7. "The alg value SHOULD be the default of RS256 or the algorithm sent by the Client."
    claims = verify(token, key_set, algorithms=algorithms, types=_TYPES)
    # 2. "The Issuer Identifier MUST exactly match the value of the iss Claim."
    check_issuer(claims, issuer, rule="OIDC Core 3.1.3.7 (2)")
    # 3. "rejected if the ID Token does not list the Client as a valid audience, or if it
    #    contains additional audiences not trusted by the Client"
    rule = "OIDC Core 3.1.3.7 (3)"
    check_audience(claims, client_id, trusted=trusted_audiences, rule=rule)
    # 4. No extension that gives azp another meaning is in use.
    # 5. "when an azp Claim is present, the Client SHOULD verify that its client_id is the
    #    Claim Value."
    if "azp" in claims and claims["azp"] != client_id:
        raise InvalidToken("OIDC Core 3.1.3.7 (5)", f"azp is {excerpt(claims['azp'])}")
    return claims


def _check_times(claims: Mapping[str, JSON], *, now: float, leeway: float) -> None:
    """Rules 9 and 10, and `nbf`."""
    check_leeway(leeway)
    check_times(
        claims,
        now=now,
        leeway=leeway,
        max_age=MAX_ISSUED_AGE,
        rules=_TIME_RULES,
        error=StaleIdToken,
    )


def _check_several(setting: str, values: Collection[str]) -> None:
    # In a single string every part of it would be found.
    if isinstance(values, str):
        raise ConfigurationError(setting, "must be several strings, such as a tuple")


def _check_expected_nonce(nonce: Secret | None, *, expect_none: bool) -> None:
    if expect_none and nonce is not None:
        raise ConfigurationError("dangerously_expect_no_nonce", "a nonce was given as well")
    if not expect_none and not nonce:
        raise ConfigurationError("nonce", "every login has one")


def _check_nonce(claims: Mapping[str, JSON], nonce: Secret | None) -> None:
    """Rule 11: "the value checked to verify that it is the same value as the one sent"."""
    rule = "OIDC Core 3.1.3.7 (11)"
    if nonce is None:
        if "nonce" in claims:
            raise InvalidToken(rule, "a nonce, though none was sent")
        return
    if not _is_nonce(claims.get("nonce"), nonce):
        raise InvalidToken(rule, "nonce is not the one of this login")


def _is_nonce(value: JSON, nonce: Secret) -> bool:
    return isinstance(value, str) and Secret(value) == nonce


def _check_acr(claims: Mapping[str, JSON], acr_values: Collection[str]) -> None:
    """Rule 12: "the Client SHOULD check that the asserted Claim Value is appropriate"."""
    acr = claims.get("acr")
    if acr_values and not (isinstance(acr, str) and acr in acr_values):
        problem = f"acr {excerpt(acr)} is none of those required"
        raise InsufficientUserAuthentication("OIDC Core 3.1.3.7 (12)", problem)


def _check_auth_time(
    claims: Mapping[str, JSON], *, max_age: float | None, now: float, leeway: float
) -> None:
    """Rule 13: "request re-authentication if it determines too much time has elapsed"."""
    if max_age is None:
        return
    rule = "OIDC Core 3.1.3.7 (13)"
    auth_time = numeric_date(claims, "auth_time", rule=rule)
    if auth_time > now + leeway:
        raise InvalidToken(rule, "auth_time is in the future, beyond the clock skew allowed")
    if now - auth_time > max_age + leeway:
        problem = f"the user logged in {now - auth_time:.0f} s ago; max_age is {max_age:.0f} s"
        raise InsufficientUserAuthentication(rule, problem)


def _required_sub(claims: Mapping[str, JSON]) -> str:
    sub = identifier(claims, "sub", rule="OIDC Core 2")
    if sub is None:
        raise InvalidToken("OIDC Core 2", "sub is missing")
    return sub


def _check_same_login(claims: Mapping[str, JSON], previous: Mapping[str, JSON]) -> None:
    """The rules of OIDC Core 12.2, in its order; `iat` is rule 10 of 3.1.3.7."""
    rule = "OIDC Core 12.2"
    # "its iss Claim Value MUST be the same as in the ID Token issued when the original
    #  authentication occurred, its sub Claim Value MUST be the same"
    for name in ("iss", "sub"):
        if claims[name] != previous.get(name):
            raise InvalidToken(rule, f"{name} is not the one at login")
    # "its aud Claim Value MUST include the value in the ID Token issued when the original
    #  authentication occurred"
    audiences = _audiences(previous)
    if not audiences or not audiences <= _audiences(claims):
        raise InvalidToken(rule, "aud lacks an audience of the login")
    # "if the ID Token contains an auth_time Claim, its value MUST represent the time of the
    #  original authentication"
    # "it SHOULD NOT have a nonce Claim [...]; however, if it is present, its value MUST be
    #  the same"
    for name in ("auth_time", "nonce"):
        if name in claims and name in previous and claims[name] != previous[name]:
            raise InvalidToken(rule, f"{name} is not the one at login")
    if "nonce" in claims and "nonce" not in previous:
        raise InvalidToken(rule, "a nonce, though the login had none")
    # "its azp Claim Value MUST be the same [...]; if no azp Claim was present in the original
    #  ID Token, one MUST NOT be present in the new ID Token"
    if claims.get("azp") != previous.get("azp"):
        raise InvalidToken(rule, "azp is not the one at login")


def _audiences(claims: Mapping[str, JSON]) -> frozenset[str]:
    aud = claims.get("aud")
    audiences = aud if isinstance(aud, list) else [aud]
    return frozenset(audience for audience in audiences if isinstance(audience, str))


def _check_at_hash(claims: Mapping[str, JSON], *, alg: str, access_token: Secret | None) -> None:
    """Bind the access token to the id_token if the provider does (OIDC Core 3.1.3.8)."""
    if "at_hash" not in claims or access_token is None:
        return
    if claims["at_hash"] != _left_half_hash(access_token, alg):
        raise InvalidToken("OIDC Core 3.1.3.8", "at_hash is not of the access token beside it")


def _left_half_hash(access_token: Secret, alg: str) -> str:
    """Hash as OIDC Core 3.1.3.6 has it, with the hash algorithm of a verified `alg`.

    "the base64url encoding of the left-most half of the hash of the octets of the
    ASCII representation of the access_token value"
    """
    # Ed25519 is defined over SHA-512 (RFC 8032, section 5.1); the others say what they use.
    name = "sha512" if alg in {"EdDSA", "Ed25519"} else f"sha{alg[2:]}"
    digest = hashlib.new(name, access_token.reveal().encode(errors="replace")).digest()
    return base64.urlsafe_b64encode(digest[: len(digest) // 2]).decode("ascii").rstrip("=")
