"""Good keys are used, bad ones are left out, and no token chooses its own."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenward.errors import ConfigurationError, InvalidMetadata
from tokenward.protocol.keys import (
    SIGNATURE_ALGORITHMS,
    KeySet,
    candidates,
    check_algorithms,
    parse_json_web_key_set,
)

if TYPE_CHECKING:
    from conftest import Signer

ALL = SIGNATURE_ALGORITHMS


def parse(*keys: object) -> KeySet:
    return parse_json_web_key_set(json.dumps({"keys": keys}).encode())


def number(value: int) -> str:
    data = value.to_bytes((value.bit_length() + 7) // 8, "big")
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def rsa_of(bits: int, exponent: int = 65537) -> dict[str, str]:
    """A public key of any size; no need to know its factors."""
    return {"kty": "RSA", "kid": "big", "n": number((1 << (bits - 1)) | 1), "e": number(exponent)}


def kids(key_set: KeySet, **header: Any) -> list[str | None]:
    return [key.kid for key in candidates(key_set, header, algorithms=ALL)]


def test_keys_of_every_kind_say_what_they_can_sign(
    rsa: Signer, p256: Signer, p384: Signer, p521: Signer, ed25519: Signer
) -> None:
    key_set = parse(rsa.jwk(), p256.jwk(), p384.jwk(), p521.jwk(), ed25519.jwk())
    assert key_set.skipped == 0
    assert [sorted(key.algorithms) for key in key_set.keys] == [
        ["PS256", "PS384", "PS512", "RS256", "RS384", "RS512"],
        ["ES256"],
        ["ES384"],
        ["ES512"],
        ["Ed25519", "EdDSA"],
    ]


@pytest.mark.case(105)
@pytest.mark.parametrize(
    "bad",
    [
        pytest.param({"kty": "AKP", "alg": "ML-DSA-44", "pub": "x"}, id="unknown kty"),
        pytest.param({"kty": ["RSA"]}, id="kty is a list"),
        pytest.param({"n": "x", "e": "AQAB"}, id="no kty"),
        pytest.param({"kty": "RSA", "e": "AQAB"}, id="no modulus"),
        pytest.param({"kty": "RSA", "n": 5, "e": "AQAB"}, id="modulus is a number"),
        pytest.param({"kty": "RSA", "n": "!!", "e": "AQAB"}, id="modulus is garbage"),
        pytest.param({"kty": "RSA", "n": "", "e": ""}, id="empty modulus"),
        pytest.param({"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}, id="not on the curve"),
        pytest.param({"kty": "EC", "crv": "P-1", "x": "AA", "y": "AA"}, id="unknown curve"),
        pytest.param({"kty": "EC", "crv": {}, "x": "AA", "y": "AA"}, id="curve is an object"),
        pytest.param({"kty": "EC", "x": "AA", "y": "AA"}, id="no curve"),
        pytest.param({"kty": "OKP", "crv": "Ed25519", "x": "AA"}, id="short Ed25519"),
        pytest.param({"kty": "OKP", "crv": "X25519", "x": "A" * 43}, id="for agreement only"),
        pytest.param("key", id="string"),
        pytest.param(None, id="null"),
        pytest.param([], id="list"),
    ],
)
def test_a_bad_key_never_spoils_the_good_ones(rsa: Signer, bad: object) -> None:
    key_set = parse(bad, rsa.jwk(), bad)
    assert [key.kid for key in key_set.keys] == ["one"]
    assert key_set.skipped == 2


@pytest.mark.case(105)
@pytest.mark.parametrize(
    "members",
    [
        pytest.param({"use": "enc"}, id="for encryption"),
        pytest.param({"use": ["sig"]}, id="use is a list"),
        pytest.param({"use": None}, id="use is null"),
        pytest.param({"key_ops": ["encrypt"]}, id="key_ops without verify"),
        pytest.param({"key_ops": []}, id="no key_ops"),
        pytest.param({"key_ops": "verify"}, id="key_ops is a string"),
        pytest.param({"kid": 1}, id="kid is a number"),
        pytest.param({"alg": "RSA-OAEP"}, id="alg for encryption"),
        pytest.param({"alg": "ES256"}, id="alg of another kind"),
        pytest.param({"alg": "HS256"}, id="alg is an HMAC"),
        pytest.param({"alg": None}, id="alg is null"),
        pytest.param({"alg": ["RS256"]}, id="alg is a list"),
        pytest.param({"d": "AQAB"}, id="private parts"),
        pytest.param({"k": "AQAB"}, id="symmetric parts"),
    ],
)
def test_a_key_that_is_not_for_verifying_is_left_out(
    rsa: Signer, p256: Signer, members: dict[str, Any]
) -> None:
    key_set = parse(rsa.jwk(**members), p256.jwk(kid="two"))
    assert [key.kid for key in key_set.keys] == ["two"]


@pytest.mark.case(105)
def test_what_a_key_carries_besides_does_not_matter(rsa: Signer) -> None:
    jwk = rsa.jwk(
        use="sig", key_ops=["verify", "sign"], x5c="garbage", x5u="x", x5t=[], crv="P-1", new={}
    )
    assert kids(parse(jwk), alg="RS256", kid="one") == ["one"]


@pytest.mark.case(94)
def test_symmetric_keys_are_dropped(rsa: Signer) -> None:
    secret = {"kty": "oct", "kid": "hmac", "alg": "HS256", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQ"}
    key_set = parse(secret, rsa.jwk())
    assert [key.kid for key in key_set.keys] == ["one"]
    assert candidates(key_set, {"alg": "HS256", "kid": "hmac"}, algorithms=["HS256"]) == ()


@pytest.mark.parametrize(
    ("jwk", "kept"),
    [
        pytest.param(rsa_of(1024), 0, marks=pytest.mark.case(96), id="1,024 bits"),
        pytest.param(rsa_of(2047), 0, marks=pytest.mark.case(96), id="2,047 bits"),
        pytest.param(rsa_of(2048), 1, id="2,048 bits"),
        pytest.param(rsa_of(8192), 1, id="8,192 bits"),
        pytest.param(rsa_of(8193), 0, marks=pytest.mark.case(436), id="8,193 bits"),
        pytest.param(rsa_of(10_000), 0, marks=pytest.mark.case(436), id="10,000 bits"),
        pytest.param(rsa_of(2048, 3), 0, marks=pytest.mark.case(436), id="exponent 3"),
        pytest.param(rsa_of(2048, 2**1000 + 1), 0, marks=pytest.mark.case(436), id="exponent"),
        pytest.param(rsa_of(400_000), 0, marks=pytest.mark.case(436), id="400,000 bits"),
    ],
)
def test_rsa_keys_have_a_sound_size_and_exponent(jwk: dict[str, str], kept: int) -> None:
    assert len(parse(jwk).keys) == kept


@pytest.mark.case(105)
@pytest.mark.parametrize(
    ("body", "member"),
    [
        pytest.param(b"[]", "document", id="list"),
        pytest.param(b"<html>", "document", id="html"),
        pytest.param(b'{"keys": [], "keys": []}', "document", id="duplicate member"),
        pytest.param(b"{}", "keys", id="no keys"),
        pytest.param(b'{"keys": {}}', "keys", id="keys is an object"),
        pytest.param(b'{"keys": null}', "keys", id="keys is null"),
        pytest.param(json.dumps({"keys": [{}] * 101}).encode(), "keys", id="101 keys"),
        pytest.param(json.dumps({"keys": [{}] * 10_000}).encode(), "keys", id="10,000 keys"),
    ],
)
def test_a_document_that_is_no_key_set_is_refused(body: bytes, member: str) -> None:
    with pytest.raises(InvalidMetadata) as caught:
        parse_json_web_key_set(body)
    assert caught.value.member == member


def test_a_hundred_keys_are_read_and_none_is_a_set_too(rsa: Signer) -> None:
    assert len(parse(*[rsa.jwk()] * 100).keys) == 100
    assert parse() == KeySet((), skipped=0)
    assert kids(parse(), alg="RS256") == []


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        pytest.param({"alg": "RS256", "kid": "a"}, ["a"], id="by kid"),
        pytest.param({"alg": "PS512", "kid": "b"}, ["b"], id="any RSA algorithm"),
        pytest.param({"alg": "RS512", "kid": "a"}, [], id="the key names another alg"),
        pytest.param({"alg": "ES256", "kid": "a"}, [], id="the key is of another kind"),
        pytest.param({"alg": "ES384", "kid": "ec"}, [], id="the curve is another"),
        pytest.param({"alg": "RS256", "kid": "A"}, [], id="kid in other case"),
        pytest.param({"alg": "RS256", "kid": ""}, [], id="empty kid"),
        pytest.param({"alg": "RS256"}, ["a", "b", None], id="without kid all that fit"),
        pytest.param({"alg": "ES256"}, ["ec"], id="without kid the only one that fits"),
        pytest.param({"alg": "none"}, [], id="none"),
        pytest.param({"alg": None, "kid": "a"}, [], id="no alg"),
        pytest.param({"alg": ["RS256"], "kid": "a"}, [], id="alg is a list"),
    ],
)
def test_the_header_chooses_by_alg_and_kid(
    rsa: Signer, stranger: Signer, p256: Signer, header: dict[str, Any], expected: list[str | None]
) -> None:
    key_set = parse(
        rsa.jwk(kid="a", alg="RS256"),
        stranger.jwk(kid="b"),
        rsa.called(None).jwk(),
        p256.jwk(kid="ec"),
    )
    assert kids(key_set, **header) == expected


def test_the_same_kid_on_keys_of_two_kinds_is_told_apart_by_alg(rsa: Signer, p256: Signer) -> None:
    key_set = parse(rsa.jwk(), p256.jwk())
    assert [key.algorithms for key in candidates(key_set, {"alg": "ES256"}, algorithms=ALL)] == [
        frozenset({"ES256"})
    ]


@pytest.mark.case(106)
def test_the_header_cannot_bring_its_own_key(rsa: Signer, stranger: Signer) -> None:
    own = {"jwk": stranger.jwk(), "jku": "https://evil.example/jwks", "x5u": "x", "x5c": ["x"]}
    assert kids(parse(rsa.jwk()), alg="RS256", kid="one", **own) == ["one"]
    assert kids(parse(), alg="RS256", kid="one", **own) == []


@pytest.mark.parametrize("published", [None, "EdDSA", "Ed25519"])
@pytest.mark.parametrize("alg", ["EdDSA", "Ed25519"])
def test_both_names_of_ed25519_are_the_same(
    ed25519: Signer, published: str | None, alg: str
) -> None:
    key_set = parse(ed25519.jwk(**({"alg": published} if published else {})))
    assert kids(key_set, alg=alg, kid="one") == ["one"]


def test_an_algorithm_that_was_not_configured_has_no_candidates(rsa: Signer) -> None:
    assert candidates(parse(rsa.jwk()), {"alg": "PS256"}, algorithms=("RS256",)) == ()


def test_neither_key_nor_set_shows_its_numbers(rsa: Signer) -> None:
    assert rsa.jwk()["n"][:12] not in repr(parse(rsa.jwk()))


@pytest.mark.case(95)
@pytest.mark.parametrize(
    "algorithms", [("none",), ("HS256",), ("RS256", "HS512"), ("ES256K",), (), "RS256", ("rs256",)]
)
def test_algorithms_that_prove_nothing_cannot_be_configured(algorithms: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check_algorithms(algorithms)
    assert caught.value.setting == "id_token_algorithms"


def test_every_algorithm_of_the_list_can_be_configured() -> None:
    check_algorithms(SIGNATURE_ALGORITHMS)
    check_algorithms(["RS256", "ES256"])


values = (
    st.sampled_from(["RSA", "EC", "OKP", "oct", "P-256", "Ed25519", "sig", "AQAB", "verify"])
    | st.none()
    | st.integers()
    | st.text("AQ-_=+é", max_size=90)
    | st.lists(st.sampled_from(["verify", "sign"]), max_size=2)
    | st.dictionaries(st.text("x"), st.none(), max_size=1)
)
names = st.sampled_from(
    ["kty", "crv", "n", "e", "x", "y", "d", "k", "use", "key_ops", "alg", "kid"]
)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.dictionaries(names, values) | values, max_size=3))
def test_junk_is_left_out_without_an_exception(junk: list[object]) -> None:
    key_set = parse(*junk)
    assert len(key_set.keys) + key_set.skipped == len(junk)
