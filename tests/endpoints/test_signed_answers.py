"""Answers that the provider signs: taken when he did, and never instead of a signature."""

from __future__ import annotations

import json
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import RSAKey

from tokenward.endpoints import get_userinfo, introspect_token
from tokenward.errors import ConfigurationError, InvalidResponse, InvalidToken
from tokenward.protocol.keys import parse_json_web_key_set
from tokenward.protocol.signed_answer import AnswerSigner
from tokenward.secret import Secret

ISSUER = "https://op.test"
NOW = 1_700_000_000.0
INTROSPECTION = "application/token-introspection+jwt"


@pytest.fixture(scope="module")
def key() -> RSAKey:
    return RSAKey.generate_key(2048, {"kid": "one"})


@pytest.fixture(scope="module")
def other_key() -> RSAKey:
    return RSAKey.generate_key(2048, {"kid": "one"})


@pytest.fixture(scope="module")
def signer(key: RSAKey) -> AnswerSigner:
    keys = json.dumps({"keys": [key.as_dict(private=False)]}).encode()
    return AnswerSigner(ISSUER, audience="api", key_set=parse_json_web_key_set(keys))


def signed(key: RSAKey, claims: dict[str, Any], **header: Any) -> bytes:
    told = {name: value for name, value in claims.items() if value is not ...}
    return jwt.encode({"alg": "RS256", "kid": "one", **header}, told, key).encode()


def introspected(key: RSAKey, *, typ: str = "token-introspection+jwt", **claims: Any) -> bytes:
    usual = {
        "iss": ISSUER,
        "aud": "api",
        "iat": int(NOW),
        "token_introspection": {"active": True, "sub": "bob", "scope": ["a", "b"]},
    }
    return signed(key, usual | claims, typ=typ)


async def asked(wire: Any, signer: AnswerSigner | None) -> Any:
    return await wire.call(
        introspect_token,
        wire.address,
        token="tok",
        client_id="api",
        signer=signer,
        clock=lambda: NOW,
    )


async def userinfo(wire: Any, signer: AnswerSigner | None) -> Any:
    return await wire.call(
        get_userinfo, wire.address, access_token="at", signer=signer, clock=lambda: NOW
    )


async def test_a_signed_introspection_is_asked_for_and_read(
    wire: Any, key: RSAKey, signer: AnswerSigner
) -> None:
    body = introspected(key)
    wire.answers = [wire.raw(200, body, content_type=f"{INTROSPECTION}; charset=utf-8")]
    response = await asked(wire, signer)
    assert wire.sent[0].headers["accept"] == INTROSPECTION
    assert (response.error_type, response.error) == ("none", None)
    assert response.active
    assert (response.sub, response.scope) == ("bob", frozenset({"a", "b"}))
    assert response.raw == Secret(body.decode())
    assert "bob" not in repr(response)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"iss": "https://evil.test"}, id="other-issuer"),
        pytest.param({"iss": ...}, id="no-issuer"),
        pytest.param({"aud": "other"}, id="other-audience"),
        pytest.param({"aud": ["api", "other"]}, id="one-audience-too-many"),
        pytest.param({"aud": ...}, id="no-audience"),
        pytest.param({"iat": ...}, id="no-iat"),
        pytest.param({"iat": int(NOW) + 61}, id="from-the-future"),
        pytest.param({"token_introspection": ...}, id="nothing-said"),
        pytest.param({"token_introspection": True}, id="no-object"),
        pytest.param({"typ": "JWT"}, id="another-kind-of-token"),
        pytest.param({"typ": "at+jwt"}, id="an-access-token"),
    ],
)
async def test_a_signed_introspection_that_breaks_a_rule_makes_no_token_active(
    wire: Any, key: RSAKey, signer: AnswerSigner, change: dict[str, Any]
) -> None:
    wire.answers = [wire.raw(200, introspected(key, **change), content_type=INTROSPECTION)]
    response = await asked(wire, signer)
    assert response.error_type == "policy"
    assert isinstance(response.exception, InvalidToken)
    assert not response.active
    assert response.json is None


async def test_a_signature_of_somebody_else_makes_no_token_active(
    wire: Any, other_key: RSAKey, signer: AnswerSigner
) -> None:
    wire.answers = [wire.raw(200, introspected(other_key), content_type=INTROSPECTION)]
    response = await asked(wire, signer)
    assert (response.error_type, response.active) == ("policy", False)


async def test_json_instead_of_a_signature_is_no_answer(wire: Any, signer: AnswerSigner) -> None:
    wire.says(active=True, headers={"content-type": "application/json"})
    response = await asked(wire, signer)
    assert isinstance(response.exception, InvalidResponse)
    assert not response.active
    wire.says(sub="bob", headers={"content-type": "application/json"})
    assert (await userinfo(wire, signer)).is_error


async def test_a_signature_that_nobody_asked_for_is_no_answer(wire: Any, key: RSAKey) -> None:
    wire.answers = [wire.raw(200, introspected(key), content_type=INTROSPECTION)]
    response = await asked(wire, None)
    assert response.error_type == "exception"
    assert not response.active


async def test_a_refusal_of_a_signed_answer_is_a_refusal(wire: Any, signer: AnswerSigner) -> None:
    wire.says(401, error="invalid_client")
    response = await asked(wire, signer)
    assert (response.error_type, response.error) == ("protocol", "invalid_client")
    wire.answers = [wire.raw(500, b"<html>")]
    assert (await userinfo(wire, signer)).error == "http_500"


@pytest.mark.parametrize(
    "claims",
    [
        pytest.param({"iss": ISSUER, "aud": "api"}, id="addressed"),
        pytest.param({"iss": ISSUER, "aud": ["api"], "exp": int(NOW) + 1}, id="with-an-end"),
        pytest.param({}, id="claims-alone"),
    ],
)
async def test_signed_userinfo_is_read(
    wire: Any, key: RSAKey, signer: AnswerSigner, claims: dict[str, Any]
) -> None:
    told = {"sub": "bob", "email": "b@example.org", **claims}
    wire.answers = [wire.raw(200, signed(key, told), content_type="application/jwt")]
    response = await userinfo(wire, signer)
    assert wire.sent[0].headers["accept"] == "application/jwt"
    assert not response.is_error
    assert (response.sub, response.get("email")) == ("bob", "b@example.org")
    assert "b@example.org" not in repr(response)


@pytest.mark.parametrize(
    "claims",
    [
        pytest.param({"iss": "https://evil.test"}, id="other-issuer"),
        pytest.param({"aud": "other"}, id="other-audience"),
        pytest.param({"exp": int(NOW) - 61}, id="over"),
    ],
)
async def test_signed_userinfo_that_breaks_a_rule_is_an_error(
    wire: Any, key: RSAKey, signer: AnswerSigner, claims: dict[str, Any]
) -> None:
    body = signed(key, {"sub": "bob", **claims})
    wire.answers = [wire.raw(200, body, content_type="application/jwt")]
    response = await userinfo(wire, signer)
    assert (response.error_type, response.sub) == ("policy", None)


def test_a_signer_without_sense_is_misuse(signer: AnswerSigner) -> None:
    for change in ({"algorithms": ("none",)}, {"algorithms": ()}, {"leeway": 301.0}):
        with pytest.raises(ConfigurationError):
            AnswerSigner(ISSUER, audience="api", key_set=signer.key_set, **change)
