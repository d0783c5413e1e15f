"""The strict reader in front of the library that verifies signatures, and RFC 7519's claims.

A token is read in one way or not at all: its size, its segments, its alphabet and
its header are judged here, then a key of the provider must have signed it, and only
then is its payload read. joserfc verifies the signature and decides nothing else.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from joserfc import jws
from joserfc.errors import JoseError

from ..errors import ConfigurationError, InvalidSignature, InvalidToken, SigningKeyNotFound
from .json import JSON, InvalidJSON, JSONObject, excerpt, loads_object
from .keys import SIGNATURE_ALGORITHMS, JSONWebKey, KeySet, candidates

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from ..secret import Secret

MAX_TOKEN: Final = 32 * 1024
"""Bytes of a token."""

MAX_HEADER: Final = 2 * 1024
"""Bytes of its header, decoded."""

MAX_LEEWAY: Final = 300.0
"""Seconds. Clocks that differ by more are broken, and a longer leeway would hide it."""

MAX_IDENTIFIER: Final = 255
"""Characters of `sub`, and of what else names a person or a thing (OIDC Core, section 2)."""

LATEST: Final = 253402300799.0
"""Seconds since the epoch at the end of the year 9999. What is later counts as this."""

_HEADER: Final = 0
_PAYLOAD: Final = 1
_SEGMENTS: Final = 3
_MAX_HEADER_SEGMENT: Final = (MAX_HEADER * 4 + 2) // 3


class Claims(dict[str, JSON]):
    """A dict of claims of which neither a log nor a traceback shows more than the names."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"Claims({', '.join(map(excerpt, self))})"


@dataclass(frozen=True, slots=True)
class UnverifiedToken:
    """What a token says of itself before anybody has checked it: good to choose a key by."""

    header: Mapping[str, JSON] = field(repr=False)
    alg: str
    kid: str | None
    """None: the header names no key."""
    typ: str | None
    """None: the header names no type."""


def read_jwt(token: Secret, *, max_bytes: int = MAX_TOKEN) -> UnverifiedToken:
    """Read the header of a signed token, and refuse a token that is not in canonical form.

    Compact serialization only: three segments of unpadded base64url in which no bit
    is left over. Extensions (`crit`, `b64`) are not understood, hence refused.
    Raises `InvalidToken`.
    """
    _check_form(token, max_bytes)
    header = _read_object(token, _HEADER, rule="RFC 7515 4")
    alg = _header_text(header, "alg", rule="RFC 7515 4.1.1")
    if alg is None:
        raise InvalidToken("RFC 7515 4.1.1", "the header has no alg")
    if "crit" in header:
        raise InvalidToken("RFC 7515 4.1.11", "crit lists extensions, and none is understood")
    if header.get("b64", True) is not True:
        raise InvalidToken("RFC 7797 7", "b64 must not be used with a JWT")
    kid = _header_text(header, "kid", rule="RFC 7515 4.1.4")
    return UnverifiedToken(header, alg, kid, _header_text(header, "typ", rule="RFC 7515 4.1.9"))


def verify(
    token: Secret,
    key_set: KeySet,
    *,
    algorithms: Collection[str],
    types: Collection[str | None],
) -> Claims:
    """Return the claims of a token that one of the provider's keys has signed.

    `algorithms` is the client's own list and never the provider's; `types` are the
    values of `typ` that are taken, compared without case and without a leading
    `application/`, with None for a token that names no type. Nothing is said yet
    about the claims but that they are a JSON object.

    Raises `SigningKeyNotFound` when a newer key set may hold the key,
    `InvalidSignature` when the key that fits did not sign, else `InvalidToken`.
    """
    unverified = read_jwt(token)
    alg, kid = unverified.alg, unverified.kid
    if alg not in algorithms or alg not in SIGNATURE_ALGORITHMS:
        raise InvalidToken("RFC 8725 3.1", f"alg {excerpt(alg)} is not among those configured")
    if _media_type(unverified.typ) not in map(_media_type, types):
        raise InvalidToken("RFC 8725 3.11", f"typ {excerpt(unverified.typ)} is another kind")
    keys = candidates(key_set, unverified.header, algorithms=algorithms)
    if not keys:
        raise SigningKeyNotFound("OIDC Core 10.1", f"no key for {alg} with kid {excerpt(kid)}")
    # "If there are multiple keys in the referenced JWK Set document, a kid value MUST be
    # provided in the JOSE Header."
    if kid is None and len(keys) > 1:
        raise InvalidToken("OIDC Core 10.1", f"no kid, and {len(keys)} keys fit {alg}")
    if not any(_is_signed_by(key, alg, token) for key in keys):
        raise InvalidSignature("RFC 7515 5.2", f"the signature is not of kid {excerpt(kid)}")
    return Claims(_read_object(token, _PAYLOAD, rule="RFC 7519 7.2"))


def check_issuer(claims: Mapping[str, JSON], issuer: str, *, rule: str) -> None:
    """Demand that `iss` is the issuer, character by character, or raise `InvalidToken`."""
    told = claims.get("iss")
    if told != issuer:
        raise InvalidToken(rule, f"iss {excerpt(told)} is not {excerpt(issuer)}")


def check_audience(
    claims: Mapping[str, JSON], client_id: str, *, trusted: Collection[str] = (), rule: str
) -> None:
    """Demand that `aud` holds the client, and nobody else who is not trusted.

    `aud` is a string or an array of strings (RFC 7519, section 4.1.3). Raises
    `InvalidToken`.
    """
    aud = claims.get("aud")
    audiences = aud if isinstance(aud, list) else [aud]
    if client_id not in audiences:
        raise InvalidToken(rule, "aud does not hold the client_id")
    for audience in audiences:
        known = isinstance(audience, str) and (audience == client_id or audience in trusted)
        if not known:
            raise InvalidToken(rule, f"aud holds {excerpt(audience)}, which is not trusted")


def identifier(claims: Mapping[str, JSON], name: str, *, rule: str) -> str | None:
    """Return a claim that names a person or a thing; None if it is not there.

    1 to 255 printable ASCII characters, as OIDC Core, section 2 has it for `sub`.
    Raises `InvalidToken`.
    """
    if name not in claims:
        return None
    value = claims[name]
    if not isinstance(value, str) or not 0 < len(value) <= MAX_IDENTIFIER:
        raise InvalidToken(rule, f"{name} must be a string of 1 to {MAX_IDENTIFIER} characters")
    if not (value.isascii() and value.isprintable()):
        raise InvalidToken(rule, f"{name} must be printable ASCII")
    return value


def numeric_date(claims: Mapping[str, JSON], name: str, *, rule: str) -> float:
    """Return a time in seconds since the epoch (NumericDate, RFC 7519, section 2).

    Fractions are taken, what lies beyond the year 9999 counts as its end. Raises
    `InvalidToken` when the claim is missing, negative or anything but a number.
    """
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        raise InvalidToken(rule, f"{name} must be a number of seconds since the epoch")
    return float(min(value, LATEST))


def check_times(
    claims: Mapping[str, JSON],
    *,
    now: float,
    leeway: float,
    max_age: float,
    rules: Mapping[str, str],
    error: type[InvalidToken] = InvalidToken,
) -> None:
    """Demand `exp` and `iat`, and that the token is in force now.

    Seconds throughout. `leeway` is what the two clocks may differ by; `max_age` is
    how long ago the token may have been issued at most, by this machine's clock.
    `rules` gives the rule to name for `exp`, `iat` and `nbf`. A token without a
    usable time raises `InvalidToken`; one whose time is not now raises `error`.
    """
    expires_at = numeric_date(claims, "exp", rule=rules["exp"])
    issued_at = numeric_date(claims, "iat", rule=rules["iat"])
    not_before = numeric_date(claims, "nbf", rule=rules["nbf"]) if "nbf" in claims else 0.0
    # "The current time MUST be before the time represented by the exp Claim."
    if now >= expires_at + leeway:
        raise error(rules["exp"], f"expired {_apart(now - expires_at, leeway)}")
    if issued_at > now + leeway:
        raise error(rules["iat"], f"issued in the future, {_apart(issued_at - now, leeway)}")
    if now - issued_at > max_age:
        raise error(rules["iat"], f"issued {_apart(now - issued_at, leeway)}")
    if not_before > now + leeway:
        raise error(rules["nbf"], f"not valid yet, {_apart(not_before - now, leeway)}")


def check_leeway(leeway: float) -> None:
    """Accept a leeway of 0 to 300 seconds, or raise `ConfigurationError`."""
    if not 0 <= leeway <= MAX_LEEWAY:
        raise ConfigurationError("leeway", f"must be 0 to {MAX_LEEWAY:.0f} seconds")


def _check_form(token: Secret, max_bytes: int) -> None:
    """Judge size and shape before anything is decoded (RFC 7515, sections 2 and 7.1)."""
    if len(token) > max_bytes:
        raise InvalidToken("RFC 7515 7.1", f"longer than {max_bytes} bytes")
    segments = token.reveal().count(".") + 1
    if segments != _SEGMENTS:
        raise InvalidToken("RFC 7515 7.1", f"{segments} segments; a signed token has three")
    if token.reveal().index(".") > _MAX_HEADER_SEGMENT:
        raise InvalidToken("RFC 7515 4", f"the header is longer than {MAX_HEADER} bytes")
    if not all(map(_is_base64url, token.reveal().split("."))):
        raise InvalidToken("RFC 7515 2", "not three segments of unpadded base64url")


def _is_base64url(segment: str) -> bool:
    """Whether the segment is the only way to write what it says."""
    try:
        # What the decoder forgives (padding, other characters, left-over bits) does not
        # come back from the encoder.
        return segment != "" and _encode(_decode(segment)) == segment
    except ValueError:
        return False


def _decode(segment: str) -> bytes:
    return base64.urlsafe_b64decode(f"{segment}==")


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode("ascii").rstrip("=")


def _read_object(token: Secret, segment: int, *, rule: str) -> JSONObject:
    try:
        return loads_object(_decode(token.reveal().split(".")[segment]))
    except InvalidJSON as error:
        problem = str(error)
    part = "header" if segment == _HEADER else "payload"
    raise InvalidToken(rule, f"the {part} is refused: {problem}")


def _header_text(header: JSONObject, name: str, *, rule: str) -> str | None:
    if name not in header:
        return None
    value = header[name]
    if not isinstance(value, str):
        raise InvalidToken(rule, f"{name} must be a string")
    return value


def _media_type(typ: str | None) -> str | None:
    """Bring a `typ` to the form in which it is compared (RFC 7515, section 4.1.9)."""
    return None if typ is None else typ.lower().removeprefix("application/")


def _is_signed_by(key: JSONWebKey, alg: str, token: Secret) -> bool:
    # The older name of the same operation (RFC 9864), about which the library warns.
    name = "Ed25519" if alg == "EdDSA" else alg
    try:
        # Of the token's own header nothing reaches the library.
        signed = jws.CompactSignature({"alg": name}, b"")
        header, payload, signature = token.reveal().encode("ascii").split(b".")
        signed.segments = {"header": header, "payload": payload, "signature": signature}
        return jws.validate_compact(signed, key.key, algorithms=[name])
    except (JoseError, ValueError):
        return False


def _apart(seconds: float, leeway: float) -> str:
    return (
        f"{seconds:.0f} s from the time of this machine; beyond a clock skew of {leeway:.0f} s,"
        " check both clocks"
    )
