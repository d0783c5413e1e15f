"""Keys and tokens for the tests of the protocol: whatever a provider may send."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, replace
from typing import Any

import pytest
from joserfc.jwk import ECKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

from tokenward.protocol.keys import KeySet, parse_json_web_key_set
from tokenward.secret import Secret


def segment(content: bytes | dict[str, Any]) -> str:
    """Return one segment of a token."""
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


@dataclass(frozen=True)
class Signer:
    """A key of a provider, and the algorithm it signs with."""

    key: Any
    alg: str
    kid: str | None = "one"

    def called(self, kid: str | None) -> Signer:
        """Return the same key under another kid."""
        return replace(self, kid=kid)

    def jwk(self, **members: Any) -> dict[str, Any]:
        """Return the public key as it stands in a JWK Set."""
        named = {} if self.kid is None else {"kid": self.kid}
        return {**self.key.as_dict(private=False), **named, **members}

    def key_set(self, *others: dict[str, Any]) -> KeySet:
        """Return the set that holds this key, and others."""
        return parse_json_web_key_set(json.dumps({"keys": [self.jwk(), *others]}).encode())

    def sign(self, payload: bytes | dict[str, Any], **header: Any) -> Secret:
        """Return a signed token; a header given as `None` is left out."""
        named = {"alg": self.alg, "kid": self.kid, **header}
        return self.sign_raw(segment({k: v for k, v in named.items() if v is not None}), payload)

    def sign_raw(self, header: str, payload: bytes | dict[str, Any] | str) -> Secret:
        """Return a token with a valid signature over any two segments."""
        body = payload if isinstance(payload, str) else segment(payload)
        algorithm = JWSRegistry.algorithms["Ed25519" if self.alg == "EdDSA" else self.alg]
        signature = algorithm.sign(f"{header}.{body}".encode(), self.key)
        return Secret(f"{header}.{body}.{segment(signature)}")


@pytest.fixture(scope="session")
def rsa() -> Signer:
    """The provider's key."""
    return Signer(RSAKey.generate_key(2048), "RS256")


@pytest.fixture(scope="session")
def stranger() -> Signer:
    """A key that is not the provider's, though it says so."""
    return Signer(RSAKey.generate_key(2048), "RS256")


@pytest.fixture(scope="session")
def p256() -> Signer:
    return Signer(ECKey.generate_key("P-256"), "ES256")


@pytest.fixture(scope="session")
def p384() -> Signer:
    return Signer(ECKey.generate_key("P-384"), "ES384")


@pytest.fixture(scope="session")
def p521() -> Signer:
    return Signer(ECKey.generate_key("P-521"), "ES512")


@pytest.fixture(scope="session")
def ed25519() -> Signer:
    return Signer(OKPKey.generate_key("Ed25519"), "Ed25519")
