"""The provider's signing keys, and what it signs with them."""

from __future__ import annotations

import hmac
import json
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, TypeAlias

from joserfc.jwk import ECKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

from .jws import base64url, read_jws

if TYPE_CHECKING:
    from collections.abc import Mapping

    from joserfc.jwk import KeyParameters

    from .clients import JSON
    from .jws import Jws

Key: TypeAlias = RSAKey | ECKey | OKPKey
KeyType: TypeAlias = Literal["RSA", "EC", "OKP"]

KEY_TYPES: Mapping[str, KeyType] = {
    "RS256": "RSA",
    "PS256": "RSA",
    "ES256": "EC",
    "EdDSA": "OKP",
}
"""Which type of key an algorithm signs with."""


def generate_key(key_type: KeyType, kid: str) -> Key:
    """Make a key: RSA with 2048 bits, P-256 or Ed25519."""
    parameters: KeyParameters = {"kid": kid, "use": "sig"}
    match key_type:
        case "RSA":
            return RSAKey.generate_key(2048, parameters)
        case "EC":
            return ECKey.generate_key("P-256", parameters)
        case "OKP":
            return OKPKey.generate_key("Ed25519", parameters)


@lru_cache(maxsize=64)
def _test_key(issuer: str, key_type: KeyType, kid: str, number: int) -> Key:
    """Make a key once per process: an RSA key costs up to half a second, per test.

    Fit for tests alone. The issuer is part of the name, so that no provider can
    sign for another.
    """
    del issuer, number
    return generate_key(key_type, kid)


class SigningKeys:
    """Hold the key of each type that signs now, and what the key set publishes.

    Keys are made when first used. `keys` gives some from outside, each with a
    `kid`; they sign until the first rotation.
    """

    def __init__(self, issuer: str, keys: tuple[Key, ...] = ()) -> None:
        self._issuer = issuer
        self._number = 1
        self._current: dict[KeyType, Key] = {_type_of(key): key for key in keys}
        self._published: list[Key] = list(keys)
        self._ever: list[Key] = list(keys)

    def current(self, key_type: KeyType) -> Key:
        """Return the key that signs now."""
        if key_type not in self._current:
            self._adopt(key_type, kid=f"{key_type.lower()}-{self._number}")
        return self._current[key_type]

    def current_for(self, alg: str) -> Key:
        """Return the key that signs now with this algorithm."""
        return self.current(KEY_TYPES[alg])

    def rotate(self, *, keep_old: bool, same_kid: bool) -> None:
        """Sign with new keys from now on; the old ones stay published if `keep_old`."""
        old = dict(self._current) or {"RSA": self.current("RSA")}
        self._number += 1
        if not keep_old:
            self._published.clear()
        for key_type, key in old.items():
            kid = key.kid if same_kid else f"{key_type.lower()}-{self._number}"
            self._adopt(key_type, kid=str(kid))

    def _adopt(self, key_type: KeyType, *, kid: str) -> None:
        key = _test_key(self._issuer, key_type, kid, self._number)
        self._current[key_type] = key
        self._published.append(key)
        self._ever.append(key)

    def key_set(self) -> dict[str, JSON]:
        """Return the public halves (RFC 7517, section 5)."""
        return {"keys": [dict(key.as_dict(private=False)) for key in self._published]}

    def verify(self, token: str) -> Jws | None:
        """Return a token that one of these keys signed at any time, or None."""
        jws = read_jws(token)
        return jws if jws and jws.is_signed_by(self._ever) else None


@dataclass(frozen=True, slots=True)
class Draft:
    """A JWT before it is signed; faults replace parts of it."""

    header: Mapping[str, JSON]
    claims: Mapping[str, JSON]
    alg: str
    """What really signs, whatever the header says. `none` leaves the signature empty."""
    key: Key | bytes = field(repr=False)
    """Bytes for an HMAC: HS256, HS384 or HS512."""
    client_secret: str = field(default="", repr=False)
    """For faults that sign with it."""
    broken: bool = False
    """Whether the signature is spoiled."""

    def sign(self) -> str:
        """Return the compact serialization (RFC 7515, section 7.1)."""
        text = f"{_json(self.header)}.{_json(self.claims)}"
        if self.alg == "none":
            return f"{text}."
        signature = self._signature(text.encode())
        if self.broken:
            signature = bytes([signature[0] ^ 0xFF]) + signature[1:]
        return f"{text}.{base64url(signature)}"

    def _signature(self, signed: bytes) -> bytes:
        if isinstance(self.key, bytes):
            # Not joserfc, which warns about secrets as short as those of tests.
            return hmac.digest(self.key, signed, f"sha{self.alg[2:]}")
        return JWSRegistry.algorithms[self.alg].sign(signed, self.key)


def _type_of(key: Key) -> KeyType:
    match key:
        case RSAKey():
            return "RSA"
        case ECKey():
            return "EC"
        case OKPKey():
            return "OKP"


def _json(value: Mapping[str, JSON]) -> str:
    return base64url(json.dumps(value, separators=(",", ":")).encode())
