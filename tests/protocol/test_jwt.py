"""A token is read in one way or not at all, and only a key of the provider makes it true."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenward.errors import (
    ConfigurationError,
    InvalidSignature,
    InvalidToken,
    SigningKeyNotFound,
)
from tokenward.protocol.jwt import (
    Claims,
    check_audience,
    check_leeway,
    identifier,
    numeric_date,
    read_jwt,
    verify,
)
from tokenward.protocol.keys import KeySet, parse_json_web_key_set
from tokenward.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Signer
    from tokenward.protocol.json import JSON

CLAIMS: dict[str, Any] = {"iss": "https://op.example", "sub": "alice"}


def b64(content: bytes | dict[str, Any]) -> str:
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def check(token: Secret, key_set: KeySet, *algorithms: str) -> Claims:
    return verify(token, key_set, algorithms=algorithms or ("RS256",), types=(None, "JWT"))


def change(token: Secret, segment: int, content: Callable[[str], str]) -> Secret:
    """Return the token with one of its segments changed."""
    segments = token.reveal().split(".")
    segments[segment] = content(segments[segment])
    return Secret(".".join(segments))


@pytest.mark.parametrize("typ", [None, "JWT", "jwt", "application/jwt"])
def test_a_signed_token_gives_its_claims(rsa: Signer, typ: str | None) -> None:
    assert check(rsa.sign(CLAIMS, typ=typ), rsa.key_set()) == CLAIMS


def test_every_algorithm_verifies(
    rsa: Signer, p256: Signer, p384: Signer, p521: Signer, ed25519: Signer
) -> None:
    signers = [p256, p384, p521, ed25519, replace(ed25519, alg="EdDSA")]
    signers += [
        replace(rsa, alg=alg) for alg in ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
    ]
    for signer in signers:
        token = signer.sign(CLAIMS)
        assert check(token, signer.key_set(), signer.alg) == CLAIMS
        with pytest.raises(InvalidSignature):
            check(change(token, 1, lambda _: b64({"sub": "x"})), signer.key_set(), signer.alg)


def test_the_header_is_read_before_anything_is_verified(rsa: Signer) -> None:
    token = rsa.sign(CLAIMS, typ="JWT", kid="two")
    unverified = read_jwt(token)
    assert (unverified.alg, unverified.kid, unverified.typ) == ("RS256", "two", "JWT")
    assert unverified.header["alg"] == "RS256"


@pytest.mark.case(90)
@pytest.mark.parametrize("alg", ["none", "None", "nOnE", "NONE", ""])
@pytest.mark.parametrize("kid", [{}, {"kid": "one"}])
def test_an_unsigned_token_is_refused(rsa: Signer, alg: str, kid: dict[str, str]) -> None:
    unsigned = f"{b64({'alg': alg, **kid})}.{b64(CLAIMS)}"
    for signature in ("", b64(b"x")):
        with pytest.raises(InvalidToken):
            check(Secret(f"{unsigned}.{signature}"), rsa.key_set(), "RS256", alg)


@pytest.mark.case(90)
def test_a_signed_token_that_says_none_is_refused_whatever_is_allowed(rsa: Signer) -> None:
    with pytest.raises(InvalidToken, match=r"\(RFC 8725 3\.1\)"):
        check(rsa.sign(CLAIMS, alg="none"), rsa.key_set(), "none")


@pytest.mark.case(91)
@pytest.mark.parametrize(
    "header", [{}, {"alg": None}, {"alg": 256}, {"alg": ["RS256"]}, {"alg": {"RS256": 1}}]
)
def test_alg_is_a_string(rsa: Signer, header: dict[str, Any]) -> None:
    with pytest.raises(InvalidToken, match=r"RFC 7515 4\.1\.1\)"):
        check(rsa.sign_raw(b64({**header, "kid": "one"}), CLAIMS), rsa.key_set())


@pytest.mark.case(92)
@pytest.mark.parametrize("form", ["PEM", "DER", "JWK"])
@pytest.mark.parametrize("algorithms", [("RS256",), ("RS256", "HS256")])
def test_the_public_key_is_no_hmac_secret(
    rsa: Signer, form: str, algorithms: tuple[str, ...]
) -> None:
    secrets = {
        "PEM": rsa.key.as_pem(private=False),
        "DER": rsa.key.as_der(private=False),
        "JWK": json.dumps(rsa.jwk()).encode(),
    }
    signed = f"{b64({'alg': 'HS256', 'kid': 'one'})}.{b64(CLAIMS)}"
    mac = hmac.digest(secrets[form], signed.encode(), hashlib.sha256)
    with pytest.raises(InvalidToken, match=r"\(RFC 8725 3\.1\)"):
        check(Secret(f"{signed}.{b64(mac)}"), rsa.key_set(), *algorithms)


@pytest.mark.case(93)
@pytest.mark.case(94)
@pytest.mark.parametrize("algorithms", [("RS256",), ("RS256", "HS256")])
def test_no_shared_secret_signs_a_token(rsa: Signer, algorithms: tuple[str, ...]) -> None:
    """Neither the client's, nor one that somebody put into the key set."""
    secret = b"a-client-secret-of-thirty-two-bytes"
    signed = f"{b64({'alg': 'HS256', 'kid': 'hmac'})}.{b64(CLAIMS)}"
    token = Secret(f"{signed}.{b64(hmac.digest(secret, signed.encode(), hashlib.sha256))}")
    with pytest.raises(InvalidToken, match=r"\(RFC 8725 3\.1\)"):
        check(token, rsa.key_set({"kty": "oct", "kid": "hmac", "k": b64(secret)}), *algorithms)


@pytest.mark.case(95)
def test_alg_outside_of_the_list_is_refused_though_the_signature_is_good(
    rsa: Signer, p256: Signer
) -> None:
    for signer in (replace(rsa, alg="PS256"), replace(rsa, alg="RS512"), p256):
        with pytest.raises(InvalidToken, match=r"\(RFC 8725 3\.1\)"):
            check(signer.sign(CLAIMS), signer.key_set(), "RS256")


@pytest.mark.case(96)
def test_a_key_of_another_kind_or_curve_does_not_fit(
    rsa: Signer, p256: Signer, p384: Signer
) -> None:
    for signer, header, key_set in (
        (rsa, "RS256", p256.key_set()),
        (p384, "ES256", p384.key_set()),
        (p256, "ES384", p256.key_set()),
    ):
        with pytest.raises(SigningKeyNotFound):
            check(signer.sign(CLAIMS, alg=header), key_set, "RS256", "ES256", "ES384")


@pytest.mark.case(97)
@pytest.mark.parametrize(
    "forge",
    [
        pytest.param(lambda s: ("A" if s[0] != "A" else "B") + s[1:], id="changed"),
        pytest.param(lambda s: b64(base64.urlsafe_b64decode(s + "==")[:-1]), id="truncated"),
        pytest.param(lambda s: s[:4], id="three bytes"),
        pytest.param(lambda s: s + s, id="twice"),
    ],
)
def test_a_bad_signature_is_refused(
    rsa: Signer, p256: Signer, ed25519: Signer, forge: Callable[[str], str]
) -> None:
    for signer in (rsa, p256, ed25519):
        with pytest.raises(InvalidSignature):
            check(change(signer.sign(CLAIMS), 2, forge), signer.key_set(), signer.alg)


@pytest.mark.case(97)
def test_a_signature_belongs_to_one_payload_and_one_key(rsa: Signer, stranger: Signer) -> None:
    swapped = change(rsa.sign(CLAIMS), 1, lambda _: b64({**CLAIMS, "sub": "mallory"}))
    for token in (swapped, stranger.sign(CLAIMS)):
        with pytest.raises(InvalidSignature, match="kid 'one'"):
            check(token, rsa.key_set())


@pytest.mark.case(98)
@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda t: t + "\n", id="line end after it"),
        pytest.param(lambda t: t + " ", id="space after it"),
        pytest.param(lambda t: " " + t, id="space before it"),
        pytest.param(lambda t: t.replace(".", ".\n", 1), id="line end inside"),
        pytest.param(lambda t: t + "==", id="padding"),
        pytest.param(lambda t: t.replace(".", "=.", 1), id="padded header"),
        pytest.param(lambda t: t[:-2] + "+/", id="the other alphabet"),
        pytest.param(lambda t: t[:-1] + "é", id="non-ASCII"),
        pytest.param(lambda t: t + "AAA", id="a length that no bytes have"),
        pytest.param(lambda t: t.rpartition(".")[0], id="two segments"),
        pytest.param(lambda t: t + ".x", id="four segments"),
        pytest.param(lambda t: t + ".x.y.z", id="six segments"),
        pytest.param(lambda t: t.split(".")[0], id="one segment"),
        pytest.param(lambda _: "", id="empty"),
        pytest.param(lambda _: "..", id="three empty segments"),
        pytest.param(lambda t: "." + t.split(".", 1)[1], id="no header"),
        pytest.param(lambda t: t.rpartition(".")[0] + ".", id="no signature"),
        pytest.param(lambda t: re.sub(r"\..*\.", "..", t), id="no payload"),
    ],
)
def test_a_token_has_one_form(rsa: Signer, spoil: Callable[[str], str]) -> None:
    with pytest.raises(InvalidToken, match=r"RFC 7515 [27]"):
        check(Secret(spoil(rsa.sign(CLAIMS).reveal())), rsa.key_set())


@pytest.mark.case(98)
@pytest.mark.parametrize("segment", [0, 1, 2])
def test_spare_bits_are_zero(rsa: Signer, segment: int) -> None:
    """Two texts that decode to the same bytes would be two names of one token."""
    token = rsa.sign(b'{"sub":"alice"}'.ljust(16), typ="JWT")
    while len(token.reveal().split(".")[segment]) % 4 == 0:  # no spare bits in whole groups
        token = rsa.sign(b'{"sub":"alice"}'.ljust(16), typ="JWT", x="x" * len(token.reveal()))
    spoilt = change(token, segment, lambda s: s[:-1] + chr(ord(s[-1]) + 1))
    decoded = [
        base64.urlsafe_b64decode(t.reveal().split(".")[segment] + "==") for t in (token, spoilt)
    ]
    assert decoded[0] == decoded[1]
    with pytest.raises(InvalidToken, match="RFC 7515 2"):
        read_jwt(spoilt)


@pytest.mark.case(103)
def test_without_kid_the_only_key_that_fits_is_taken(rsa: Signer, p256: Signer) -> None:
    assert check(rsa.sign(CLAIMS, kid=None), rsa.key_set(p256.jwk())) == CLAIMS
    assert check(rsa.sign(CLAIMS, kid=None), rsa.called(None).key_set()) == CLAIMS


@pytest.mark.case(104)
def test_without_kid_several_keys_that_fit_are_too_many(rsa: Signer, stranger: Signer) -> None:
    with pytest.raises(InvalidToken, match="no kid, and 2 keys fit") as caught:
        check(rsa.sign(CLAIMS, kid=None), rsa.key_set(stranger.jwk(kid="two")))
    assert not isinstance(caught.value, SigningKeyNotFound)


def test_an_unknown_kid_asks_for_a_new_key_set(rsa: Signer) -> None:
    with pytest.raises(SigningKeyNotFound, match="kid 'two'"):
        check(rsa.called("two").sign(CLAIMS), rsa.key_set())


@pytest.mark.case(105)
def test_two_keys_under_one_kid_are_both_tried(rsa: Signer, stranger: Signer) -> None:
    for key_set in (rsa.key_set(stranger.jwk()), stranger.key_set(rsa.jwk())):
        assert check(rsa.sign(CLAIMS), key_set) == CLAIMS


@pytest.mark.case(106)
def test_keys_in_the_header_are_ignored(rsa: Signer, stranger: Signer) -> None:
    own: dict[str, Any] = {
        "jwk": stranger.jwk(),
        "jku": "https://evil.example/jwks",
        "x5u": "ftp://evil.example",
        "x5c": "not even a list",
    }
    with pytest.raises(InvalidSignature):
        check(stranger.sign(CLAIMS, **own), rsa.key_set())
    with pytest.raises(SigningKeyNotFound):
        check(stranger.called("evil").sign(CLAIMS, **own), rsa.key_set())
    assert check(rsa.sign(CLAIMS, **own), rsa.key_set()) == CLAIMS


@pytest.mark.case(107)
@pytest.mark.parametrize(
    "header",
    [
        pytest.param({"crit": ["exp"], "exp": 1}, id="unknown name"),
        pytest.param({"crit": []}, id="empty"),
        pytest.param({"crit": "alg"}, id="not a list"),
        pytest.param({"crit": {}}, id="object"),
        pytest.param({"b64": False}, id="b64 alone"),
        pytest.param({"b64": False, "crit": ["b64"]}, id="b64 with crit"),
        pytest.param({"b64": "true"}, id="b64 is a string"),
    ],
)
def test_extensions_are_refused(rsa: Signer, header: dict[str, Any]) -> None:
    with pytest.raises(InvalidToken, match=r"RFC 7515 4\.1\.11|RFC 7797"):
        check(rsa.sign(CLAIMS, **header), rsa.key_set())


def test_a_null_crit_is_a_crit(rsa: Signer) -> None:
    header = b64({"alg": "RS256", "kid": "one", "crit": None})
    with pytest.raises(InvalidToken, match="crit"):
        check(rsa.sign_raw(header, CLAIMS), rsa.key_set())


@pytest.mark.case(108)
@pytest.mark.parametrize(
    "typ",
    ["at+jwt", "application/at+jwt", "logout+jwt", "dpop+jwt", "secevent+jwt", "JOSE", "", "J WT"],
)
def test_a_token_of_another_kind_is_refused(rsa: Signer, typ: str) -> None:
    with pytest.raises(InvalidToken, match=r"RFC 8725 3\.11"):
        check(rsa.sign(CLAIMS, typ=typ), rsa.key_set())


def test_no_type_is_a_type_that_must_be_allowed(rsa: Signer) -> None:
    with pytest.raises(InvalidToken, match="typ None"):
        verify(rsa.sign(CLAIMS), rsa.key_set(), algorithms=("RS256",), types=("JWT",))


@pytest.mark.parametrize("name", ["kid", "typ"])
@pytest.mark.parametrize("value", [None, 1, ["one"], {}])
def test_kid_and_typ_are_strings(rsa: Signer, name: str, value: object) -> None:
    header = b64({"alg": "RS256", "kid": "one"} | {name: value})
    with pytest.raises(InvalidToken, match=f"{name} must be a string"):
        check(rsa.sign_raw(header, CLAIMS), rsa.key_set())


@pytest.mark.case(109)
@pytest.mark.parametrize(
    "header",
    [b'{"alg":"none","kid":"one","alg":"RS256"}', b'{"alg":"RS256","kid":"x","kid":"one"}'],
)
def test_a_header_member_appears_once(rsa: Signer, header: bytes) -> None:
    with pytest.raises(InvalidToken, match="the header is refused: a member appears twice"):
        check(rsa.sign_raw(b64(header), CLAIMS), rsa.key_set())


@pytest.mark.parametrize("header", [b"", b"[]", b"null", b"\xff", b'{"alg":"RS256"', b"x" * 9])
def test_a_header_is_a_json_object(rsa: Signer, header: bytes) -> None:
    with pytest.raises(InvalidToken, match="RFC 7515"):
        check(rsa.sign_raw(b64(header), CLAIMS), rsa.key_set())


@pytest.mark.case(110)
def test_sizes_are_limited(rsa: Signer) -> None:
    for header, fits in ((2048, True), (2049, False)):
        padded = json.dumps({"alg": "RS256", "kid": "one"}).encode().ljust(header)
        token = rsa.sign_raw(b64(padded), CLAIMS)
        if fits:
            assert check(token, rsa.key_set()) == CLAIMS
        else:
            with pytest.raises(InvalidToken, match="header is longer than 2048 bytes"):
                read_jwt(token)
    with pytest.raises(InvalidToken, match="longer than 32768 bytes"):
        read_jwt(Secret("!" * 32_769))  # said before it is seen that this is not base64
    with pytest.raises(InvalidToken, match="1 segments"):
        read_jwt(Secret("!" * 32_768))
    with pytest.raises(InvalidToken, match="longer than 100 bytes"):
        read_jwt(rsa.sign(CLAIMS), max_bytes=100)


@pytest.mark.case(111)
@pytest.mark.case(112)
@pytest.mark.case(113)
@pytest.mark.case(437)
@pytest.mark.parametrize(
    "header",
    [
        {"alg": "RSA1_5", "enc": "A128CBC-HS256"},
        {"alg": "PBES2-HS256+A128KW", "enc": "A128GCM", "p2c": 2**31, "p2s": "AAAA"},
        {"alg": "dir", "enc": "A128GCM"},
        {"alg": "ECDH-ES", "enc": "A128GCM"},
        {"alg": "RSA-OAEP", "enc": "A128GCM", "zip": "DEF"},
        {"alg": "RS256", "kid": "one"},
    ],
)
def test_an_encrypted_token_is_refused_unopened(rsa: Signer, header: dict[str, Any]) -> None:
    """Whatever is inside, signed or not, is never looked at."""
    inside = f"{b64({'alg': 'none'})}.{b64(CLAIMS)}."
    token = Secret(".".join([b64(header), "AAAA", "AAAA", b64(inside.encode()), "AAAA"]))
    with pytest.raises(InvalidToken, match="5 segments"):
        check(token, rsa.key_set())


@pytest.mark.case(114)
def test_the_json_serialization_is_refused(rsa: Signer) -> None:
    header, payload, signature = rsa.sign(CLAIMS).reveal().split(".")
    flattened = {"protected": header, "payload": payload, "signature": signature}
    general = {"payload": payload, "signatures": [{"protected": header, "signature": signature}]}
    for form in (flattened, general):
        with pytest.raises(InvalidToken, match=r"RFC 7515 7\.1"):
            check(Secret(json.dumps(form)), rsa.key_set())
    dotted = {"a": "x.y.z", **flattened}
    with pytest.raises(InvalidToken, match="RFC 7515 2"):
        check(Secret(json.dumps(dotted)), rsa.key_set())


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(b'{"sub":"a","sub":"b"}', marks=pytest.mark.case(133), id="twice"),
        pytest.param(b'{"a":{"b":1,"b":2}}', marks=pytest.mark.case(133), id="twice, nested"),
        pytest.param(b'{"exp":NaN}', marks=pytest.mark.case(134), id="NaN"),
        pytest.param(b'{"exp":Infinity}', marks=pytest.mark.case(134), id="Infinity"),
        pytest.param(
            b'{"a":' + b"[" * 3000 + b"]" * 3000 + b"}",
            marks=pytest.mark.case(135),
            id="3,000 deep",
        ),
        pytest.param(b'{"name":"\\ud800"}', marks=pytest.mark.case(136), id="lone surrogate"),
        pytest.param('{"a":1}'.encode("utf-16"), marks=pytest.mark.case(137), id="UTF-16"),
        pytest.param('{"a":1}'.encode("utf-16-be"), marks=pytest.mark.case(137), id="UTF-16 BE"),
        pytest.param('{"a":1}'.encode("utf-32"), marks=pytest.mark.case(137), id="UTF-32"),
        pytest.param(b'\xef\xbb\xbf{"a":1}', marks=pytest.mark.case(137), id="byte order mark"),
        pytest.param(b"[1]", marks=pytest.mark.case(138), id="list"),
        pytest.param(b'"claims"', marks=pytest.mark.case(138), id="string"),
        pytest.param(b"1", marks=pytest.mark.case(138), id="number"),
        pytest.param(
            b'{"exp":' + b"9" * 5000 + b"}", marks=pytest.mark.case(138), id="5,000 digits"
        ),
    ],
)
def test_a_payload_with_two_readings_is_refused_though_it_is_signed(
    rsa: Signer, payload: bytes
) -> None:
    with pytest.raises(InvalidToken, match="the payload is refused") as caught:
        check(rsa.sign(payload), rsa.key_set())
    assert type(caught.value) is InvalidToken


def test_a_payload_is_not_read_before_the_signature_is_good(rsa: Signer, stranger: Signer) -> None:
    with pytest.raises(InvalidSignature):
        check(stranger.sign(b"[" * 3000), rsa.key_set())


def test_claims_are_a_dict_that_shows_only_names(rsa: Signer) -> None:
    claims = check(rsa.sign({"sub": "alice", "nonce": "n-0S6_WzA2Mj"}), rsa.key_set())
    assert json.loads(json.dumps(claims)) == {"sub": "alice", "nonce": "n-0S6_WzA2Mj"}
    assert repr(claims) == str(claims) == f"{claims}" == "Claims('sub', 'nonce')"


@pytest.mark.case(438)
@pytest.mark.parametrize(
    "text", ["A" * 100_000, "A." * 50_000, "=" * 100_000, "A" * 40_000 + ".A.A"]
)
def test_reading_takes_linear_time(text: str) -> None:
    with pytest.raises(InvalidToken):
        read_jwt(Secret(text), max_bytes=200_000)


@settings(max_examples=200, deadline=None)
@given(
    st.text("eyJhbGciOiJSUzI1NiJ9.-_=+ \né", max_size=60)
    | st.lists(st.binary(max_size=30).map(b64), min_size=3, max_size=3).map(".".join)
    | st.dictionaries(
        st.sampled_from(["alg", "kid", "typ", "crit", "b64", "jwk"]),
        st.none() | st.sampled_from(["RS256", "one", "JWT"]) | st.booleans() | st.lists(st.none()),
    ).map(lambda header: f"{b64(header)}.{b64(CLAIMS)}.{b64(b'signature')}")
)
def test_junk_raises_nothing_but_invalid_token(junk: str) -> None:
    empty = parse_json_web_key_set(b'{"keys":[]}')
    with pytest.raises(InvalidToken):
        check(Secret(junk), empty)


RULE = "a rule"


@pytest.mark.case(122)
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param(1_800_000_000, 1_800_000_000.0, id="integer"),
        pytest.param(1_800_000_000.25, 1_800_000_000.25, id="fraction"),
        pytest.param(0, 0.0, id="zero"),
        pytest.param(1e300, 253402300799.0, id="1e300"),
        pytest.param(10**4000, 253402300799.0, id="4,001 digits"),
    ],
)
def test_a_numeric_date_is_a_number(value: JSON, expected: float) -> None:
    assert numeric_date({"exp": value}, "exp", rule=RULE) == expected


@pytest.mark.case(122)
@pytest.mark.parametrize(
    "value", [True, False, "1800000000", None, [1], {}, -1, -0.5, float("nan"), ""]
)
def test_anything_else_is_no_numeric_date(value: JSON) -> None:
    with pytest.raises(InvalidToken, match=r"exp must be a number .* \(a rule\)"):
        numeric_date({"exp": value}, "exp", rule=RULE)
    with pytest.raises(InvalidToken):
        numeric_date({}, "exp", rule=RULE)


def test_an_identifier_that_is_not_there_is_none() -> None:
    assert identifier({}, "sid", rule=RULE) is None
    assert identifier({"sid": "a b~"}, "sid", rule=RULE) == "a b~"


def test_a_single_audience_and_a_list_of_one_are_the_same() -> None:
    for aud in ("app", ["app"], ["app", "app"]):
        check_audience({"aud": aud}, "app", rule=RULE)  # type: ignore[dict-item]


@pytest.mark.case(121)
@pytest.mark.parametrize("leeway", [-1.0, 300.5, float("nan"), float("inf")])
def test_a_leeway_beyond_five_minutes_cannot_be_configured(leeway: float) -> None:
    with pytest.raises(ConfigurationError, match="leeway: must be 0 to 300"):
        check_leeway(leeway)


@pytest.mark.parametrize("leeway", [0, 60.0, 300])
def test_a_leeway_up_to_five_minutes_can_be(leeway: float) -> None:
    check_leeway(leeway)
