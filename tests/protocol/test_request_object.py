"""Authorization requests that the client signs (RFC 9101)."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from joserfc import jws
from joserfc.jwk import ECKey, OKPKey, RSAKey

from tokenward.errors import ConfigurationError
from tokenward.protocol.authorization import AuthorizationRequest
from tokenward.protocol.request_object import request_object
from tokenward.secret import Secret

ISSUER = "https://op.test"
NOW = 1_800_000_000.9
RSA = RSAKey.generate_key(2048, {"kid": "rsa"})
EC = ECKey.generate_key("P-256", {"kid": "ec"})
ED = OKPKey.generate_key("Ed25519", {"kid": "ed"})


def request(**changes: Any) -> AuthorizationRequest:
    given = {
        "redirect_uri": "https://app.test/callback",
        "scope": "openid api",
        "state": Secret("the-state"),
        "nonce": Secret("the-nonce"),
        "code_challenge": "the-challenge",
        **changes,
    }
    return AuthorizationRequest(**given)


def sign(asked: AuthorizationRequest | None = None, **changes: Any) -> Secret:
    given: dict[str, Any] = {
        "client_id": "app",
        "keys": EC,
        "issuer": ISSUER,
        "clock": lambda: NOW,
        **changes,
    }
    return request_object(asked or request(), **given)


def read(signed: Secret, key: Any = EC) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return header and claims of a JWT whose signature fits."""
    algorithms = ["RS256", "PS256", "ES256", "EdDSA", "Ed25519"]
    found = jws.deserialize_compact(signed.reveal(), key, algorithms=algorithms)
    return found.headers(), json.loads(found.payload)


def test_all_parameters_are_in_it_and_say_who_asks() -> None:
    header, claims = read(sign())
    jti = claims.pop("jti")
    assert header == {"alg": "ES256", "kid": "ec", "typ": "oauth-authz-req+jwt"}
    assert claims == {
        "response_type": "code",
        "client_id": "app",
        "redirect_uri": "https://app.test/callback",
        "scope": "openid api",
        "state": "the-state",
        "nonce": "the-nonce",
        "code_challenge": "the-challenge",
        "code_challenge_method": "S256",
        "iss": "app",
        "aud": ISSUER,
        "iat": 1_800_000_000,
        "nbf": 1_800_000_000,
        "exp": 1_800_000_060,
    }
    assert len(jti) >= 32
    assert read(sign())[1]["jti"] != jti


@pytest.mark.case(465)
@pytest.mark.parametrize(
    ("key", "alg"), [(RSA, "RS256"), (EC, "ES256"), (ED, "EdDSA")], ids=["rsa", "ec", "ed"]
)
def test_it_is_signed_for_the_issuer_alone_and_ends_in_a_minute(key, alg) -> None:
    signed = sign(keys=key).reveal()
    header, claims = (
        json.loads(base64.urlsafe_b64decode(part + "==")) for part in signed.split(".")[:2]
    )
    assert header["alg"] == alg
    assert claims["aud"] == ISSUER
    assert claims["exp"] - claims["iat"] == 60


@pytest.mark.case(465)
@pytest.mark.parametrize("algorithm", ["none", "None", "HS256", "RS256", "ES384", "x"])
def test_an_algorithm_that_the_key_has_not_is_refused(algorithm) -> None:
    with pytest.raises(ConfigurationError, match="the key signs ES256"):
        sign(algorithm=algorithm)


@pytest.mark.case(465)
@pytest.mark.parametrize(
    "claim", ["iss", "sub", "aud", "exp", "nbf", "iat", "jti", "request", "request_uri"]
)
def test_nothing_that_is_added_says_what_the_jwt_is(claim) -> None:
    with pytest.raises(ConfigurationError, match=f"`{claim}` is set by the library"):
        sign(request(extra={claim: "x"}))


def test_a_public_key_does_not_sign() -> None:
    public = ECKey.import_key(EC.as_dict(private=False))
    with pytest.raises(ConfigurationError, match="public"):
        sign(keys=public)


def test_of_several_keys_the_first_signs() -> None:
    assert read(sign(keys=[RSA, EC]), RSA)[0]["kid"] == "rsa"
    with pytest.raises(ConfigurationError, match="at least one"):
        sign(keys=[])


@pytest.mark.parametrize(
    ("resource", "claim"),
    [
        (("https://a.test/",), "https://a.test/"),
        (("https://a.test/", "https://b.test/"), ["https://a.test/", "https://b.test/"]),
    ],
)
def test_resources_are_one_text_or_an_array(resource, claim) -> None:
    assert read(sign(request(resource=resource)))[1]["resource"] == claim


def test_max_age_is_a_number_and_additions_are_text() -> None:
    _, claims = read(sign(request(max_age=0, extra={"audience": "7", "name": "Jürgen"})))
    assert (claims["max_age"], claims["audience"], claims["name"]) == (0, "7", "Jürgen")


def test_the_request_can_be_signed_again() -> None:
    asked = request()
    assert sign(asked) != sign(asked)
