"""An id_token proves a login only if every rule of OpenID Connect Core holds."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenward.errors import (
    ConfigurationError,
    InvalidResponse,
    InvalidSignature,
    InvalidToken,
    SigningKeyNotFound,
)
from tokenward.protocol.id_token import (
    REFRESH_CLAIMS,
    IdToken,
    InsufficientUserAuthentication,
    StaleIdToken,
    validate_id_token,
    validate_refreshed_id_token,
    validate_userinfo,
)
from tokenward.protocol.keys import SIGNATURE_ALGORITHMS
from tokenward.protocol.metadata import DiscoveryPolicy, parse_provider_metadata
from tokenward.secret import Secret

if TYPE_CHECKING:
    from conftest import Signer

NOW = 1_800_000_000.0
ISSUER = "https://op.example"
NONCE = "nonce-of-this-login-attempt"
ACCESS_TOKEN = "access-token-beside-the-id-token"

LOGIN: dict[str, Any] = {
    "iss": ISSUER,
    "sub": "alice",
    "aud": "app",
    "exp": NOW + 300,
    "iat": NOW - 1,
    "nonce": NONCE,
}


def claims_of(*without: str, **changed: Any) -> dict[str, Any]:
    return {name: value for name, value in LOGIN.items() if name not in without} | changed


class Client:
    """A client that trusts one key; `login` and `refresh` validate claims signed by it."""

    def __init__(self, signer: Signer) -> None:
        self.signer = signer

    def validate(self, token: Secret, **options: Any) -> IdToken:
        expected: dict[str, Any] = {
            "key_set": self.signer.key_set(),
            "issuer": ISSUER,
            "client_id": "app",
            "nonce": Secret(NONCE),
            "now": NOW,
        }
        return validate_id_token(token, **(expected | options))

    def login(self, claims: dict[str, Any], **options: Any) -> IdToken:
        return self.validate(self.signer.sign(claims), **options)

    def refresh(
        self, claims: dict[str, Any], previous: dict[str, Any] = LOGIN, **options: Any
    ) -> IdToken:
        expected: dict[str, Any] = {
            "previous": previous,
            "key_set": self.signer.key_set(),
            "issuer": ISSUER,
            "client_id": "app",
            "now": NOW,
        }
        return validate_refreshed_id_token(self.signer.sign(claims), **(expected | options))


@pytest.fixture(scope="module")
def client(rsa: Signer) -> Client:
    return Client(rsa)


def refused(rule: str, kind: type[InvalidToken] = InvalidToken) -> Any:
    """Expect a refusal that names the rule, and is of no other kind."""
    return pytest.raises(kind, match=re.escape(f"({rule})") + "$")


CORE = "OIDC Core 3.1.3.7"


def test_a_good_token_tells_who_logged_in(client: Client) -> None:
    token = client.signer.sign(LOGIN)
    id_token = client.validate(token)
    assert (id_token.issuer, id_token.sub, id_token.token) == (ISSUER, "alice", token)
    assert id_token.claims == LOGIN
    assert NONCE not in repr(id_token)
    assert token.reveal() not in repr(id_token)


# ------------------------------------------------------------- rules 1 and 6 to 8


@pytest.mark.case(111)
def test_rule_1_an_encrypted_token_is_refused(client: Client) -> None:
    with refused("RFC 7515 7.1"):
        client.validate(Secret("A.A.A.A.A"))


@pytest.mark.case(97)
def test_rule_6_another_key_is_refused(client: Client, stranger: Signer) -> None:
    with pytest.raises(InvalidSignature):
        client.validate(stranger.sign(LOGIN))
    with pytest.raises(SigningKeyNotFound):
        client.validate(stranger.called("two").sign(LOGIN))


@pytest.mark.case(95)
def test_rule_7_the_algorithm_is_rs256_unless_configured(client: Client, p256: Signer) -> None:
    with refused("RFC 8725 3.1"):
        client.validate(p256.sign(LOGIN), key_set=p256.key_set())
    key_set = p256.key_set()
    assert client.validate(p256.sign(LOGIN), key_set=key_set, algorithms=["ES256"]).sub == "alice"


@pytest.mark.case(170)
@pytest.mark.parametrize("alg", ["none", "HS256"])
def test_rule_7_what_the_provider_supports_changes_nothing(client: Client, alg: str) -> None:
    document = {
        "issuer": ISSUER,
        "authorization_endpoint": ISSUER,
        "token_endpoint": ISSUER,
        "jwks_uri": ISSUER,
        "id_token_signing_alg_values_supported": [alg],
    }
    body = json.dumps(document).encode()
    metadata = parse_provider_metadata(body, issuer=ISSUER, policy=DiscoveryPolicy())
    assert metadata.id_token_signing_alg_values_supported == (alg,)
    with refused("RFC 8725 3.1"):
        client.validate(client.signer.sign(LOGIN, alg=alg))
    assert client.login(LOGIN).sub == "alice"


@pytest.mark.case(93)
@pytest.mark.parametrize("algorithms", [("HS256",), ("none",), ("RS256", "none"), (), "RS256"])
def test_rule_8_neither_a_mac_nor_nothing_can_be_configured(
    client: Client, algorithms: object
) -> None:
    for validate in (client.login, client.refresh):
        with pytest.raises(ConfigurationError, match="id_token_algorithms"):
            validate(LOGIN, algorithms=algorithms)


@pytest.mark.case(108)
@pytest.mark.parametrize("typ", ["at+jwt", "logout+jwt", "dpop+jwt", "secevent+jwt"])
def test_another_kind_of_token_is_no_id_token(client: Client, typ: str) -> None:
    with refused("RFC 8725 3.11"):
        client.validate(client.signer.sign(LOGIN, typ=typ))


# -------------------------------------------------------------------- rule 2: iss


@pytest.mark.case(115)
@pytest.mark.parametrize(
    "iss",
    [
        pytest.param("https://evil.example", id="other"),
        pytest.param("https://op.example/", id="slash"),
        pytest.param("https://OP.example", id="case"),
        pytest.param("https://op", id="start of it"),
        pytest.param("https://op.example.evil", id="more than it"),
        pytest.param([ISSUER], id="list"),
        pytest.param(None, id="null"),
        pytest.param("", id="empty"),
    ],
)
def test_rule_2_iss_is_the_issuer(client: Client, iss: object) -> None:
    with refused(f"{CORE} (2)"):
        client.login(claims_of(iss=iss))


@pytest.mark.case(115)
def test_rule_2_iss_is_required(client: Client) -> None:
    with refused(f"{CORE} (2)"):
        client.login(claims_of("iss"))


# ----------------------------------------------------------- rules 3 to 5: aud, azp


@pytest.mark.case(117)
@pytest.mark.parametrize(
    "aud",
    [
        pytest.param("other", id="other"),
        pytest.param("ap", id="part of it"),
        pytest.param("apps", id="more than it"),
        pytest.param([], id="empty list"),
        pytest.param("", id="empty"),
        pytest.param(None, id="null"),
        pytest.param({"app": 1}, id="object"),
        pytest.param(["app", 1], id="a number in the list"),
        pytest.param(["app", None], id="null in the list"),
        pytest.param(["app", ["app"]], id="a list in the list"),
        pytest.param([["app"]], id="only a list in the list"),
        pytest.param(["app", {}], id="an object in the list"),
    ],
)
def test_rule_3_aud_is_the_client(client: Client, aud: object) -> None:
    for trusted in ((), frozenset({"api"})):
        with refused(f"{CORE} (3)"):
            client.login(claims_of(aud=aud), trusted_audiences=trusted)


@pytest.mark.case(117)
def test_rule_3_aud_is_required(client: Client) -> None:
    with refused(f"{CORE} (3)"):
        client.login(claims_of("aud"))


@pytest.mark.case(118)
def test_rule_3_other_audiences_must_be_trusted(client: Client) -> None:
    claims = claims_of(aud=["app", "api"])
    for trusted in ((), ("other",), ("ap", "i")):
        with refused(f"{CORE} (3)"):
            client.login(claims, trusted_audiences=trusted)
        with refused(f"{CORE} (3)"):
            client.login({**claims, "azp": "app"}, trusted_audiences=trusted)
    assert client.login(claims, trusted_audiences=("api",)).sub == "alice"


def test_rule_3_a_list_of_the_client_alone_is_fine(client: Client) -> None:
    assert client.login(claims_of(aud=["app"])).sub == "alice"


@pytest.mark.parametrize("setting", ["trusted_audiences", "acr_values"])
def test_one_string_is_not_several(client: Client, setting: str) -> None:
    """In "api-internal" both "api" and "a" would be found."""
    with pytest.raises(ConfigurationError, match=setting):
        client.login(LOGIN, **{setting: "api-internal"})


@pytest.mark.case(119)
def test_rule_3_azp_does_not_stand_in_for_aud(client: Client) -> None:
    with refused(f"{CORE} (3)"):
        client.login(claims_of(aud="other", azp="app"))


@pytest.mark.case(120)
@pytest.mark.parametrize("azp", ["other", "", None, ["app"], 1])
def test_rule_5_azp_is_the_client(client: Client, azp: object) -> None:
    with refused(f"{CORE} (5)"):
        client.login(claims_of(azp=azp))
    assert client.login(claims_of(azp="app")).sub == "alice"


# ------------------------------------------------------------ rules 9 and 10: times


@pytest.mark.parametrize(
    ("exp", "leeway", "accepted"),
    [
        pytest.param(NOW - 3600, 60, False, id="past"),
        pytest.param(NOW, 0, False, id="now, no leeway"),
        pytest.param(NOW + 1, 0, True, id="in a second, no leeway"),
        pytest.param(NOW - 59, 60, True, id="inside leeway"),
        pytest.param(NOW, 60, True, id="now, inside leeway"),
        pytest.param(NOW - 60, 60, False, id="at the end of the leeway"),
        pytest.param(NOW - 61, 60, False, id="beyond the leeway"),
    ],
)
@pytest.mark.case(121)
def test_rule_9_now_is_before_exp(
    client: Client, exp: float, leeway: float, accepted: bool
) -> None:
    if accepted:
        assert client.login(claims_of(exp=exp), leeway=leeway).sub == "alice"
    else:
        with refused(f"{CORE} (9)", StaleIdToken):
            client.login(claims_of(exp=exp), leeway=leeway)


@pytest.mark.case(121)
def test_rule_9_exp_is_required_and_leeway_is_sixty_seconds(client: Client) -> None:
    with refused(f"{CORE} (9)"):
        client.login(claims_of("exp"))
    assert client.login(claims_of(exp=NOW - 59)).sub == "alice"
    with refused(f"{CORE} (9)"):
        client.login(claims_of(exp=NOW - 60))
    for validate in (client.login, client.refresh):
        with pytest.raises(ConfigurationError, match="leeway"):
            validate(LOGIN, leeway=301)


@pytest.mark.case(122)
@pytest.mark.parametrize("exp", ["1.8e9", "1800000300", True, None, [NOW + 9], -1])
def test_rule_9_exp_is_a_number(client: Client, exp: object) -> None:
    with refused(f"{CORE} (9)") as caught:
        client.login(claims_of(exp=exp))
    assert not isinstance(caught.value, StaleIdToken)


@pytest.mark.case(122)
@pytest.mark.parametrize("exp", [NOW + 0.5, 1e300, 10**400])
def test_rule_9_exp_may_have_a_fraction_or_be_far_away(client: Client, exp: float) -> None:
    assert client.login(claims_of(exp=exp)).sub == "alice"


@pytest.mark.case(122)
@pytest.mark.parametrize("exp", [b"NaN", b"Infinity", b"1e999"])
def test_rule_9_exp_is_finite(client: Client, exp: bytes) -> None:
    payload = json.dumps(LOGIN).encode().replace(b"1800000300.0", exp)
    assert exp in payload
    with refused("RFC 7519 7.2"):
        client.validate(client.signer.sign(payload))


@pytest.mark.parametrize(
    ("iat", "accepted"),
    [
        pytest.param(NOW + 60, True, id="60 s ahead"),
        pytest.param(NOW + 61, False, id="61 s ahead"),
        pytest.param(NOW - 600, True, id="10 minutes old"),
        pytest.param(NOW - 601, False, id="older"),
        pytest.param(NOW - 7 * 24 * 3600, False, id="a week old"),
        pytest.param(0, False, id="1970"),
    ],
)
@pytest.mark.case(123)
def test_rule_10_iat_is_now(client: Client, iat: float, accepted: bool) -> None:
    if accepted:
        assert client.login(claims_of(iat=iat)).sub == "alice"
    else:
        with refused(f"{CORE} (10)", StaleIdToken):
            client.login(claims_of(iat=iat))


@pytest.mark.case(123)
@pytest.mark.parametrize("claims", [claims_of("iat"), claims_of(iat="1"), claims_of(iat=True)])
def test_rule_10_iat_is_required(client: Client, claims: dict[str, Any]) -> None:
    with refused(f"{CORE} (10)"):
        client.login(claims)


@pytest.mark.case(124)
@pytest.mark.parametrize(
    ("nbf", "accepted"), [(NOW - 9, True), (NOW + 60, True), (NOW + 61, False), (1e300, False)]
)
def test_nbf_is_not_in_the_future(client: Client, nbf: float, accepted: bool) -> None:
    if accepted:
        assert client.login(claims_of(nbf=nbf)).sub == "alice"
    else:
        with refused("RFC 7519 4.1.5", StaleIdToken):
            client.login(claims_of(nbf=nbf))


@pytest.mark.parametrize("nbf", ["0", None, False, -1])
def test_nbf_is_a_number(client: Client, nbf: object) -> None:
    with refused("RFC 7519 4.1.5"):
        client.login(claims_of(nbf=nbf))


@pytest.mark.case(125)
@pytest.mark.parametrize("skew", [-60, -30, 0, 30, 59])
def test_clocks_may_differ_by_a_minute(client: Client, skew: float) -> None:
    """Skew is what the clock here is ahead of the provider's; the token lives for a moment."""
    assert client.login(claims_of(iat=NOW, exp=NOW + 1), now=NOW + skew).sub == "alice"


@pytest.mark.case(125)
@pytest.mark.parametrize("skew", [-300, -61, 61, 300])
def test_clocks_that_differ_by_more_are_named(client: Client, skew: float) -> None:
    with pytest.raises(StaleIdToken, match="clock skew") as caught:
        client.login(claims_of(iat=NOW, exp=NOW + 1), now=NOW + skew)
    assert "check both clocks" in caught.value.problem


# ----------------------------------------------------------------- rule 11: nonce


@pytest.mark.case(126)
@pytest.mark.parametrize(
    "nonce",
    ["", "another-nonce-than-this-one", NONCE + "x", NONCE[:-1], NONCE.upper(), [NONCE], 1, None],
)
def test_rule_11_the_nonce_is_the_one_of_this_login(client: Client, nonce: object) -> None:
    with refused(f"{CORE} (11)"):
        client.login(claims_of(nonce=nonce))


@pytest.mark.case(126)
def test_rule_11_the_nonce_is_required(client: Client) -> None:
    with refused(f"{CORE} (11)"):
        client.login(claims_of("nonce"))


@pytest.mark.case(126)
def test_rule_11_nonces_are_compared_in_constant_time(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[tuple[bytes, bytes]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return True

    monkeypatch.setattr("hmac.compare_digest", compare)
    client.login(claims_of(nonce="of-somebody-else-entirely"))
    assert sorted(compared[0]) == [NONCE.encode(), b"of-somebody-else-entirely"]


@pytest.mark.case(127)
def test_rule_11_a_token_of_another_login_is_refused(client: Client) -> None:
    token = client.signer.sign(LOGIN)
    assert client.validate(token).sub == "alice"
    with refused(f"{CORE} (11)"):
        client.validate(token, nonce=Secret("nonce-of-the-next-login"))


@pytest.mark.parametrize("nonce", [None, Secret("")])
def test_rule_11_no_nonce_is_a_mistake_and_not_a_switch(
    client: Client, nonce: Secret | None
) -> None:
    with pytest.raises(ConfigurationError, match="nonce: every login has one"):
        client.login(claims_of("nonce"), nonce=nonce)


def test_rule_11_a_login_without_nonce_takes_a_dangerous_name(client: Client) -> None:
    options: dict[str, Any] = {"dangerously_expect_no_nonce": True}
    assert client.login(claims_of("nonce"), nonce=None, **options).sub == "alice"
    for claims in (LOGIN, claims_of(nonce=None)):
        with refused(f"{CORE} (11)"):
            client.login(claims, nonce=None, **options)
    with pytest.raises(ConfigurationError, match="dangerously_expect_no_nonce"):
        client.login(LOGIN, **options)


# ------------------------------------------------------- rules 12 and 13: acr, max_age


@pytest.mark.case(132)
@pytest.mark.parametrize(
    "claims", [claims_of(), claims_of(acr="1"), claims_of(acr=["gold"]), claims_of(acr=None)]
)
def test_rule_12_acr_is_one_of_those_required(client: Client, claims: dict[str, Any]) -> None:
    for required in (("gold", "silver"), frozenset({"gold"})):
        with refused(f"{CORE} (12)", InsufficientUserAuthentication):
            client.login(claims, acr_values=required)


def test_rule_12_acr_is_free_unless_required(client: Client) -> None:
    assert client.login(claims_of(acr="1")).sub == "alice"
    assert client.login(claims_of(acr="gold"), acr_values=("gold",)).sub == "alice"


@pytest.mark.case(131)
@pytest.mark.parametrize("auth_time", [None, "1799999999", True, [NOW], -1])
def test_rule_13_auth_time_is_a_number(client: Client, auth_time: object) -> None:
    with refused(f"{CORE} (13)"):
        client.login(claims_of(auth_time=auth_time), max_age=60)
    with refused(f"{CORE} (13)"):
        client.login(LOGIN, max_age=60)


@pytest.mark.case(131)
def test_rule_13_auth_time_is_not_longer_ago_than_asked_for(client: Client) -> None:
    for ago in (0, 100, 160):
        assert client.login(claims_of(auth_time=NOW - ago), max_age=100).sub == "alice"
    with refused(f"{CORE} (13)", InsufficientUserAuthentication):
        client.login(claims_of(auth_time=NOW - 161), max_age=100)
    with refused(f"{CORE} (13)", InsufficientUserAuthentication):
        client.login(claims_of(auth_time=NOW - 1), max_age=0, leeway=0)


def test_rule_13_auth_time_is_not_in_the_future(client: Client) -> None:
    assert client.login(claims_of(auth_time=NOW + 60), max_age=100).sub == "alice"
    with refused(f"{CORE} (13)"):
        client.login(claims_of(auth_time=NOW + 61), max_age=100)


def test_rule_13_auth_time_is_free_unless_asked_for(client: Client) -> None:
    assert client.login(claims_of(auth_time="yesterday")).sub == "alice"


# -------------------------------------------------------------------------- sub


@pytest.mark.case(130)
@pytest.mark.parametrize(
    "sub",
    [
        pytest.param("", id="empty"),
        pytest.param(7, id="number"),
        pytest.param(None, id="null"),
        pytest.param(["alice"], id="list"),
        pytest.param("a" * 256, id="256 characters"),
        pytest.param("zoë", id="non-ASCII"),
        pytest.param("alice\r\nadmin", id="line end"),
        pytest.param("alice\x00", id="NUL"),
        pytest.param("alice\x7f", id="DEL"),
    ],
)
def test_sub_is_a_short_printable_string(client: Client, sub: object) -> None:
    for validate in (client.login, client.refresh):
        with refused("OIDC Core 2"):
            validate(claims_of(sub=sub))


@pytest.mark.case(130)
def test_sub_is_required(client: Client) -> None:
    for validate in (client.login, client.refresh):
        with refused("OIDC Core 2"):
            validate(claims_of("sub"))


@pytest.mark.parametrize("sub", ["a", "A", "a" * 255, "auth0|5f 7~", "alice@op.example"])
def test_sub_is_kept_as_it_is(client: Client, sub: str) -> None:
    assert client.login(claims_of(sub=sub)).sub == sub


# ---------------------------------------------------------------------- at_hash


def at_hash(token: str, name: str) -> str:
    digest = hashlib.new(name, token.encode()).digest()
    return base64.urlsafe_b64encode(digest[: len(digest) // 2]).decode().rstrip("=")


def test_at_hash_of_the_specification_is_accepted(client: Client) -> None:
    """The example of OIDC Core, appendix A.3."""
    token = Secret("jHkWEdUXMU1BwAsC4vtUsZwnNvTIxEl0z9K3vx5KF0Y")
    claims = claims_of(at_hash="77QmUPtjPfzWtF2AnpK9RQ")
    assert client.login(claims, access_token=token).sub == "alice"


@pytest.mark.case(128)
@pytest.mark.parametrize(
    "value",
    [
        at_hash("another-access-token", "sha256"),
        at_hash(ACCESS_TOKEN, "sha512"),
        at_hash(ACCESS_TOKEN, "sha256") + "=",
        "",
        1,
        None,
        ["x"],
    ],
)
def test_at_hash_of_another_token_is_refused(client: Client, value: object) -> None:
    for validate in (client.login, client.refresh):
        with refused("OIDC Core 3.1.3.8"):
            validate(claims_of(at_hash=value), access_token=Secret(ACCESS_TOKEN))


@pytest.mark.case(128)
def test_at_hash_is_computed_for_every_algorithm(
    rsa: Signer, p256: Signer, p384: Signer, p521: Signer, ed25519: Signer
) -> None:
    """None is unknown: a hash that cannot be computed would have to be a refusal."""
    rsa_names = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"]
    signers = [replace(rsa, alg=alg) for alg in rsa_names]
    signers += [p256, p384, p521, ed25519, replace(ed25519, alg="EdDSA")]
    assert {signer.alg for signer in signers} == SIGNATURE_ALGORITHMS
    for signer in signers:
        size = "512" if signer.alg.startswith("Ed") else signer.alg[2:]
        options: dict[str, Any] = {
            "algorithms": [signer.alg],
            "access_token": Secret(ACCESS_TOKEN),
        }
        good = claims_of(at_hash=at_hash(ACCESS_TOKEN, f"sha{size}"))
        assert Client(signer).login(good, **options).sub == "alice"
        with refused("OIDC Core 3.1.3.8"):
            Client(signer).login(claims_of(at_hash="AAAA"), **options)


@pytest.mark.case(129)
def test_at_hash_may_be_absent(client: Client) -> None:
    assert client.login(LOGIN, access_token=Secret(ACCESS_TOKEN)).sub == "alice"


def test_at_hash_binds_nothing_where_no_access_token_came_along(client: Client) -> None:
    for validate in (client.login, client.refresh):
        assert validate(claims_of(at_hash="AAAA")).sub == "alice"


def test_a_strange_access_token_is_no_exception(client: Client) -> None:
    with refused("OIDC Core 3.1.3.8"):
        client.login(claims_of(at_hash="AAAA"), access_token=Secret("über-ungewöhnlich"))


# --------------------------------------------------------------- 12.2: after a refresh


def test_a_refreshed_token_speaks_of_the_same_login(client: Client) -> None:
    later = {"now": NOW + 3600}
    claims = claims_of("nonce", iat=NOW + 3600, exp=NOW + 3900, auth_time=NOW - 5, email="a@b.c")
    id_token = client.refresh(claims, {**LOGIN, "auth_time": NOW - 5}, **later)
    assert (id_token.issuer, id_token.sub) == (ISSUER, "alice")
    assert id_token.claims == claims


@pytest.mark.parametrize(
    ("claims", "rule"),
    [
        pytest.param(claims_of(sub="mallory"), "OIDC Core 12.2", id="other sub"),
        pytest.param(claims_of(sub="Alice"), "OIDC Core 12.2", id="sub in other case"),
        pytest.param(claims_of(iss="https://evil.example"), f"{CORE} (2)", id="other iss"),
        pytest.param(claims_of(aud="other"), f"{CORE} (3)", id="other aud"),
        pytest.param(claims_of(aud=["app", "api"]), f"{CORE} (3)", id="another aud"),
        pytest.param(claims_of(auth_time=NOW - 9), "OIDC Core 12.2", id="older auth_time"),
        pytest.param(claims_of(auth_time=NOW - 1), "OIDC Core 12.2", id="newer auth_time"),
        pytest.param(claims_of(auth_time="x"), "OIDC Core 12.2", id="auth_time of another type"),
        pytest.param(claims_of("iat"), f"{CORE} (10)", id="no iat"),
        pytest.param(claims_of("exp"), f"{CORE} (9)", id="no exp"),
        pytest.param(claims_of(azp="other"), f"{CORE} (5)", id="other azp"),
        pytest.param(claims_of(azp="app"), "OIDC Core 12.2", id="azp that was not there"),
    ],
)
@pytest.mark.parametrize("expired", [False, True])
def test_a_refreshed_token_of_something_else_is_refused(
    client: Client, claims: dict[str, Any], rule: str, expired: bool
) -> None:
    """Also when it has expired: only what is right in all else is merely stale."""
    if expired and "exp" in claims:
        claims = {**claims, "exp": NOW - 999}
    with refused(rule) as caught:
        client.refresh(claims, {**LOGIN, "auth_time": NOW - 5})
    if claims.keys() >= {"exp", "iat"}:
        assert not isinstance(caught.value, StaleIdToken)


def test_a_refreshed_token_is_signed_as_well(client: Client, stranger: Signer) -> None:
    with pytest.raises(InvalidSignature):
        client.refresh(LOGIN, key_set=stranger.key_set())
    with refused("RFC 8725 3.1"):
        client.refresh(LOGIN, algorithms=("ES256",))


@pytest.mark.case(201)
def test_the_nonce_of_a_refreshed_token_is_absent_or_the_same(client: Client) -> None:
    assert client.refresh(claims_of("nonce")).sub == "alice"
    assert client.refresh(claims_of("nonce"), claims_of("nonce")).sub == "alice"
    assert client.refresh(claims_of()).sub == "alice"
    for nonce in ("of-another-login-attempt", "", None, [NONCE]):
        with refused("OIDC Core 12.2"):
            client.refresh(claims_of(nonce=nonce))
    with refused("OIDC Core 12.2"):
        client.refresh(claims_of(), claims_of("nonce"))


def test_a_refreshed_token_keeps_every_audience(client: Client) -> None:
    trusted: dict[str, Any] = {"trusted_audiences": ["api"]}
    before = claims_of(aud=["app", "api"])
    assert client.refresh(claims_of(aud=["api", "app"]), before, **trusted).sub == "alice"
    assert client.refresh(claims_of(aud=["api", "app"]), LOGIN, **trusted).sub == "alice"
    with refused("OIDC Core 12.2"):
        client.refresh(claims_of(aud=["app"]), before, **trusted)


def test_a_refreshed_token_keeps_azp(client: Client) -> None:
    assert client.refresh(claims_of(azp="app"), claims_of(azp="app")).sub == "alice"
    with refused("OIDC Core 12.2"):
        client.refresh(claims_of(), claims_of(azp="app"))


def test_without_auth_time_at_login_there_is_nothing_to_compare(client: Client) -> None:
    assert client.refresh(claims_of(auth_time=NOW)).sub == "alice"
    assert client.refresh(claims_of(), {**LOGIN, "auth_time": NOW}).sub == "alice"


@pytest.mark.parametrize(
    ("claims", "rule"),
    [
        pytest.param(claims_of(exp=NOW - 61), f"{CORE} (9)", id="expired"),
        pytest.param(claims_of(iat=NOW - 601), f"{CORE} (10)", id="issued at login"),
        pytest.param(claims_of(iat=NOW + 61), f"{CORE} (10)", id="clock skew"),
        pytest.param(claims_of(nbf=NOW + 61), "RFC 7519 4.1.5", id="not valid yet"),
    ],
)
def test_a_refreshed_token_that_is_right_but_not_now_is_stale(
    client: Client, claims: dict[str, Any], rule: str
) -> None:
    with refused(rule, StaleIdToken):
        client.refresh(claims)


@pytest.mark.parametrize("name", ["iss", "sub", "aud"])
def test_claims_of_the_login_that_were_not_kept_refuse_the_refresh(
    client: Client, name: str
) -> None:
    with refused("OIDC Core 12.2"):
        client.refresh(claims_of(), claims_of(name))


def test_the_claims_to_keep_are_enough(client: Client) -> None:
    before = claims_of(azp="app", auth_time=NOW - 5, email="a@b.c")
    kept = {name: value for name, value in before.items() if name in REFRESH_CLAIMS}
    assert client.refresh(before, kept).sub == "alice"


# --------------------------------------------------------------------- userinfo


@pytest.mark.case(144)
@pytest.mark.parametrize("claims", [{}, {"sub": "mallory"}, {"sub": ["alice"]}, {"sub": "Alice"}])
def test_userinfo_of_somebody_else_is_refused(claims: dict[str, Any]) -> None:
    with pytest.raises(InvalidResponse, match="sub: is not the sub of the id_token") as caught:
        validate_userinfo(claims, sub="alice")
    assert caught.value.member == "sub"


def test_userinfo_of_the_user_is_given_back() -> None:
    assert validate_userinfo({"sub": "alice", "a": [1]}, sub="alice") == {"sub": "alice", "a": [1]}


# --------------------------------------------------------------------- anything else


values = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from([ISSUER, "alice", "app", NONCE, "", NOW, NOW + 9, 10**400])
    | st.lists(st.none() | st.sampled_from(["app", "x"]) | st.dictionaries(st.text("x"), st.none()))
    | st.dictionaries(st.text("x"), st.none())
)
names = st.sampled_from([*LOGIN, "azp", "acr", "auth_time", "nbf", "at_hash"])


@settings(max_examples=60, deadline=None)
@given(changed=st.dictionaries(names, values, max_size=2))
def test_no_claims_raise_anything_but_invalid_token(p256: Signer, changed: dict[str, Any]) -> None:
    """Lists where strings belong, numbers where lists belong: signed, and yet nonsense."""
    client = Client(p256)
    options: dict[str, Any] = {
        "algorithms": ["ES256"],
        "access_token": Secret(ACCESS_TOKEN),
        "trusted_audiences": frozenset({"x"}),
    }
    for attempt in (
        lambda: client.login(claims_of(**changed), max_age=60, acr_values={"1"}, **options),
        lambda: client.refresh(claims_of(**changed), **options),
        lambda: client.refresh(LOGIN, changed, **options),
    ):
        with contextlib.suppress(InvalidToken):
            attempt()
