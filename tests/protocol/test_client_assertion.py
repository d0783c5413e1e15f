"""Statements by which a client proves itself: who can read them, and for how long."""

from __future__ import annotations

import base64
import json
import traceback
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from joserfc import jws
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

from tokenward.errors import ConfigurationError
from tokenward.protocol.client_assertion import (
    JWT_BEARER,
    PrivateKey,
    client_secret_jwt,
    private_key_jwt,
    public_json_web_key_set,
    read_private_key,
)
from tokenward.protocol.client_auth import ClientAuth, auth_method_of, client_secret_post
from tokenward.protocol.keys import parse_json_web_key_set
from tokenward.secret import Secret

ISSUER = "https://op.example"
NOW = 1_700_000_000.9
SECRET = "correct-horse-battery-staple-1234"


def clock() -> float:
    return NOW


@pytest.fixture(scope="module")
def rsa_key() -> RSAKey:
    return RSAKey.generate_key(2048)


@pytest.fixture(scope="module")
def ec_key() -> ECKey:
    return ECKey.generate_key("P-256", {"kid": "mine"})


def sent(auth: ClientAuth, client_id: str = "app") -> dict[str, str]:
    form: list[tuple[str, str | Secret]] = [("grant_type", "x")]
    headers: dict[str, str | Secret] = {}
    auth(client_id, form, headers)
    assert headers == {}
    assert len(dict(form)) == len(form)
    return {name: v.reveal() if isinstance(v, Secret) else v for name, v in form}


def segment(token: str, index: int) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(base64.urlsafe_b64decode(token.split(".")[index] + "=="))
    return read


def verified(token: str, key: Any, alg: str) -> bool:
    signed = jws.extract_compact(token.encode())
    name = "Ed25519" if alg == "EdDSA" else alg
    signed.protected["alg"] = name
    signed.protected.pop("typ", None)
    return jws.validate_compact(signed, key, algorithms=[name])


@pytest.mark.case(216)
def test_the_audience_is_the_issuer_as_one_string(ec_key: ECKey) -> None:
    form = sent(private_key_jwt(ec_key, issuer=ISSUER, clock=clock))
    assert form["client_assertion_type"] == JWT_BEARER
    assert form["client_id"] == "app"
    claims = segment(form["client_assertion"], 1)
    assert claims.pop("jti")
    assert claims == {
        "iss": "app",
        "sub": "app",
        "aud": ISSUER,
        "iat": 1_700_000_000,
        "exp": 1_700_000_060,
    }
    assert segment(form["client_assertion"], 0) == {
        "alg": "ES256",
        "kid": "mine",
        "typ": "client-authentication+jwt",
    }


@pytest.mark.case(217)
@pytest.mark.parametrize("kind", ["private_key_jwt", "client_secret_jwt"])
def test_each_use_is_a_new_statement_good_for_a_minute(kind: str, ec_key: ECKey) -> None:
    now = [NOW]
    auth = (
        private_key_jwt(ec_key, issuer=ISSUER, clock=lambda: now[0])
        if kind == "private_key_jwt"
        else client_secret_jwt(SECRET, issuer=ISSUER, clock=lambda: now[0])
    )
    first = segment(sent(auth)["client_assertion"], 1)
    now[0] += 10
    second = segment(sent(auth)["client_assertion"], 1)
    assert first["jti"] != second["jti"]
    assert len(first["jti"]) >= 22
    assert second["iat"] == first["iat"] + 10
    assert all(claims["exp"] - claims["iat"] == 60 for claims in (first, second))
    assert auth_method_of(auth) == kind


@pytest.mark.parametrize(
    ("make", "algorithm", "used"),
    [
        *(
            pytest.param(lambda: None, alg, alg or "RS256", id=f"rsa-{alg}")
            for alg in (None, "RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
        ),
        pytest.param(lambda: ECKey.generate_key("P-256"), None, "ES256", id="p256"),
        pytest.param(lambda: ECKey.generate_key("P-384"), None, "ES384", id="p384"),
        pytest.param(lambda: ECKey.generate_key("P-521"), None, "ES512", id="p521"),
        pytest.param(lambda: OKPKey.generate_key("Ed25519"), None, "EdDSA", id="eddsa"),
        pytest.param(lambda: OKPKey.generate_key("Ed25519"), "Ed25519", "Ed25519", id="ed25519"),
    ],
)
def test_every_algorithm_signs_what_its_key_verifies(
    make: Any, algorithm: str | None, used: str, rsa_key: RSAKey
) -> None:
    key = make() or rsa_key
    token = sent(private_key_jwt(key, issuer=ISSUER, clock=clock, algorithm=algorithm))[
        "client_assertion"
    ]
    header = segment(token, 0)
    assert header["alg"] == used
    assert header["kid"] == key.thumbprint()
    assert verified(token, key, used)


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_a_secret_authenticates_without_being_sent(algorithm: str) -> None:
    secret = SECRET * 2
    form = sent(client_secret_jwt(secret, issuer=ISSUER, clock=clock, algorithm=algorithm))
    assert secret not in json.dumps(form)
    token = form["client_assertion"]
    assert segment(token, 0)["alg"] == algorithm
    assert verified(token, OctKey.import_key(secret), algorithm)
    assert not verified(token, OctKey.import_key(secret[:-1] + "x"), algorithm)


@pytest.mark.case(466)
def test_the_first_of_several_keys_signs_and_only_public_parts_are_published(
    rsa_key: RSAKey, ec_key: ECKey
) -> None:
    keys: list[PrivateKey] = [ec_key, rsa_key]
    token = sent(private_key_jwt(keys, issuer=ISSUER, clock=clock))["client_assertion"]
    assert segment(token, 0)["kid"] == "mine"
    published = public_json_web_key_set(keys)
    text = json.dumps(published)
    assert not {"d", "p", "q", "dp", "dq", "qi"} & {
        name for key in json.loads(text)["keys"] for name in key
    }
    read = parse_json_web_key_set(text.encode())
    assert [key.kid for key in read.keys] == ["mine", rsa_key.thumbprint()]
    turned = sent(private_key_jwt(keys[::-1], issuer=ISSUER, clock=clock))["client_assertion"]
    assert segment(turned, 0)["kid"] == rsa_key.thumbprint()


def pem(key: Any, password: bytes | None = None) -> str:
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    text: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
    return text.decode()


def test_keys_are_read_from_pem_and_from_jwk(rsa_key: RSAKey, ec_key: ECKey) -> None:
    okp = OKPKey.generate_key("Ed25519")
    for key in (rsa_key, ec_key, okp):
        for text in (key.as_pem(private=True).decode(), json.dumps(key.as_dict(private=True))):
            read = read_private_key(text)
            assert read.thumbprint() == key.thumbprint()
            assert read.is_private
            token = sent(private_key_jwt(read, issuer=ISSUER, clock=clock))["client_assertion"]
            assert verified(token, key, segment(token, 0)["alg"])


def test_a_jwk_keeps_its_name_and_its_algorithm(rsa_key: RSAKey) -> None:
    members = {**rsa_key.as_dict(private=True), "kid": "2026", "alg": "PS384", "key_ops": ["sign"]}
    key = read_private_key(Secret(json.dumps(members)))
    token = sent(private_key_jwt(key, issuer=ISSUER, clock=clock))["client_assertion"]
    header = segment(token, 0)
    assert (header["alg"], header["kid"]) == ("PS384", "2026")


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("correct-horse-battery-staple", id="no-key"),
        pytest.param('{"kty": "RSA", "n": "correct-horse-battery-staple"}', id="broken-jwk"),
        pytest.param('{"kty": "RSA", ', id="broken-json"),
        pytest.param('{"kty": "oct", "k": "correct-horse-battery-staple"}', id="symmetric"),
        pytest.param(
            lambda: pem(ec.generate_private_key(ec.SECP256R1()), b"password"), id="encrypted"
        ),
        pytest.param(lambda: pem(ec.generate_private_key(ec.SECP256K1())), id="other-curve"),
        pytest.param(lambda: pem(ed448.Ed448PrivateKey.generate()), id="ed448"),
        pytest.param(lambda: pem(rsa.generate_private_key(65537, 1024)), id="short-rsa"),
    ],
)
def test_what_is_no_usable_key_is_refused_without_showing_it(text: Any) -> None:
    content = text if isinstance(text, str) else text()
    with pytest.raises(ConfigurationError) as raised:
        read_private_key(content)
    assert raised.value.__context__ is None
    whole = traceback.TracebackException.from_exception(raised.value, capture_locals=True)
    frames = [frame for frame in whole.stack if "/tokenward/protocol/" in frame.filename]
    assert frames
    for part in content.split() or ["-"]:
        if len(part) > 16:
            assert part not in "".join(str(frame.locals) for frame in frames)


def test_what_cannot_sign_is_refused_at_configuration(ec_key: ECKey, rsa_key: RSAKey) -> None:
    public = ECKey.import_key(ec_key.as_dict(private=False))
    for keys, algorithm in ((public, None), ((), None), (ec_key, "RS256"), (rsa_key, "HS256")):
        with pytest.raises(ConfigurationError):
            private_key_jwt(keys, issuer=ISSUER, clock=clock, algorithm=algorithm)
    with pytest.raises(ConfigurationError):
        client_secret_jwt(SECRET, issuer=ISSUER, clock=clock, algorithm="none")
    with pytest.raises(ConfigurationError, match="32 bytes"):
        client_secret_jwt(SECRET[:31], issuer=ISSUER, clock=clock)
    with pytest.raises(ConfigurationError, match="48 bytes"):
        client_secret_jwt(SECRET, issuer=ISSUER, clock=clock, algorithm="HS384")


@pytest.mark.case(215)
def test_a_second_proof_is_misuse(ec_key: ECKey) -> None:
    form: list[tuple[str, str | Secret]] = []
    client_secret_post(SECRET)("app", form, {})
    with pytest.raises(ConfigurationError):
        private_key_jwt(ec_key, issuer=ISSUER, clock=clock)("app", form, {})
    with pytest.raises(ConfigurationError):
        private_key_jwt(ec_key, issuer=ISSUER, clock=clock)("app", [], {"authorization": "x"})


def test_its_repr_shows_neither_key_nor_secret(ec_key: ECKey) -> None:
    shown = f"{client_secret_jwt(SECRET, issuer=ISSUER, clock=clock)!r}"
    assert SECRET not in shown
    assert "sign" not in f"{private_key_jwt(ec_key, issuer=ISSUER, clock=clock)!r}".split("(")[1]
