"""Signed JWTs, read strictly: those that clients send, and those that come back."""

from __future__ import annotations

import base64
import hmac
import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .clients import JSON
    from .keys import Key

ASYMMETRIC_ALGS = frozenset(
    {
        *("RS256", "RS384", "RS512"),
        *("PS256", "PS384", "PS512"),
        *("ES256", "ES384", "ES512"),
        *("EdDSA", "Ed25519"),
    }
)
"""What a key pair can sign with."""
HMAC_ALGS = frozenset({"HS256", "HS384", "HS512"})
"""What a shared secret can sign with."""

_KEY_CLASSES: Mapping[str, type[Key]] = {"RSA": RSAKey, "EC": ECKey, "OKP": OKPKey}
_SEGMENT = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class Jws:
    """A JWT as it was sent. Nothing in it is proven before a signature is."""

    header: Mapping[str, JSON]
    claims: Mapping[str, JSON] = field(repr=False)
    signed: bytes = field(repr=False)
    """What the signature is over."""
    signature: bytes = field(repr=False)

    @property
    def alg(self) -> str:
        """The algorithm that the header names; empty if it names none."""
        return str(self.header.get("alg", ""))

    def is_signed_by(self, keys: Sequence[Key]) -> bool:
        """Whether one of the keys that the header allows signed it."""
        if self.alg not in ASYMMETRIC_ALGS:
            return False
        kid = self.header.get("kid")
        named = [key for key in keys if kid is None or key.kid == kid]
        return any(self._verifies(key) for key in named)

    def is_signed_with(self, secret: str) -> bool:
        """Whether the secret signed it."""
        if self.alg not in HMAC_ALGS:
            return False
        expected = hmac.digest(secret.encode(), self.signed, f"sha{self.alg[2:]}")
        return hmac.compare_digest(expected, self.signature)

    def _verifies(self, key: Key) -> bool:
        algorithm = JWSRegistry.algorithms[self.alg]
        try:
            algorithm.check_key(key)
            return algorithm.verify(self.signed, self.signature, key)
        except (JoseError, ValueError):
            # A key of another type, curve or use did not sign it.
            return False


def read_jws(token: str) -> Jws | None:
    """Take a JWT apart (RFC 7515, section 5.2); None if it is none, or needs an extension."""
    segments = token.split(".")
    if len(segments) != 3 or not all(_SEGMENT.fullmatch(segment) for segment in segments):
        return None
    try:
        header, claims = (load_json(unbase64(segment)) for segment in segments[:2])
        signature = unbase64(segments[2])
    except ValueError:
        return None
    # RFC 7515, section 4.1.11: extensions that are not understood are refused; none is.
    if not isinstance(header, dict) or not isinstance(claims, dict) or "crit" in header:
        return None
    return Jws(header, claims, ".".join(segments[:2]).encode(), signature)


def load_json(data: bytes) -> JSON:
    """Read JSON as RFC 8259 has it. Raises `ValueError`."""
    try:
        value: JSON = json.loads(data, parse_constant=_refuse_constant)
    except RecursionError:
        pass
    else:
        return value
    raise ValueError("nested too deeply")


def _refuse_constant(name: str) -> JSON:
    raise ValueError(f"{name} is not JSON")


def import_keys(jwks: Mapping[str, JSON]) -> list[Key]:
    """Read the keys of a set (RFC 7517, section 5) that can verify a signature.

    Raises `ValueError` if one of them is no key, or if there is none.
    """
    given = jwks.get("keys")
    keys = [_import_key(jwk) for jwk in given] if isinstance(given, list | tuple) else []
    if not keys:
        raise ValueError("jwks has no keys")
    return keys


def _import_key(jwk: JSON) -> Key:
    key_class = _KEY_CLASSES.get(str(jwk.get("kty"))) if isinstance(jwk, dict) else None
    try:
        key = key_class.import_key({**jwk}) if key_class and isinstance(jwk, dict) else None
    except (JoseError, ValueError, KeyError, TypeError):
        key = None
    if key is None:
        raise ValueError("jwks has a member that is no RSA, EC or OKP key")
    return key


def base64url(data: bytes) -> str:
    """Encode without padding (RFC 7515, section 2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unbase64(text: str) -> bytes:
    """Decode what has no padding. Raises `ValueError`."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
