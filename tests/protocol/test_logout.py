"""The browser is sent to the right place, and only the provider can say that it is over."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenward.errors import (
    ConfigurationError,
    InvalidSignature,
    InvalidToken,
    SigningKeyNotFound,
)
from tokenward.protocol.logout import (
    BACKCHANNEL_LOGOUT_EVENT,
    LogoutToken,
    end_session_url,
    validate_logout_token,
)
from tokenward.secret import Secret

if TYPE_CHECKING:
    from conftest import Signer

NOW = 1_800_000_000.0
ISSUER = "https://op.example"
ENDPOINT = "https://op.example/logout"
HINT = Secret("header.payload.signature")

LOGOUT: dict[str, Any] = {
    "iss": ISSUER,
    "sub": "alice",
    "sid": "session-1",
    "aud": "app",
    "exp": NOW + 120,
    "iat": NOW - 1,
    "jti": "token-1",
    "events": {BACKCHANNEL_LOGOUT_EVENT: {}},
}


def url_of(endpoint: str = ENDPOINT, **changed: Any) -> str:
    usual: dict[str, Any] = {
        "client_id": "app",
        "id_token_hint": HINT,
        "post_logout_redirect_uri": "https://app.example/auth/logout/callback",
        "state": Secret("state-of-this-logout"),
    }
    return end_session_url(endpoint, **(usual | changed))


def query(url: str) -> dict[str, str]:
    pairs = parse_qsl(urlsplit(url).query, keep_blank_values=True, strict_parsing=True)
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


# ----------------------------------------------------------------- to the provider


def test_the_hint_names_the_user_and_the_client() -> None:
    url = url_of()
    assert url.startswith(f"{ENDPOINT}?")
    assert query(url) == {
        "id_token_hint": "header.payload.signature",
        "post_logout_redirect_uri": "https://app.example/auth/logout/callback",
        "state": "state-of-this-logout",
    }


@pytest.mark.case(317)
def test_without_a_hint_the_client_is_named() -> None:
    assert query(url_of(id_token_hint=None))["client_id"] == "app"
    assert "id_token_hint" not in query(url_of(id_token_hint=None))


@pytest.mark.case(317)
def test_a_hint_that_is_too_long_is_left_out() -> None:
    fits = query(url_of(id_token_hint=Secret("x" * 6144)))
    assert len(fits["id_token_hint"]) == 6144
    assert "client_id" not in fits
    without = query(url_of(id_token_hint=Secret("x" * 6145)))
    assert without.keys() == {"client_id", "post_logout_redirect_uri", "state"}


@pytest.mark.case(317)
def test_a_hint_that_makes_the_address_too_long_is_left_out() -> None:
    limit = len(url_of())
    assert "id_token_hint" in query(url_of(max_url=limit))
    assert query(url_of(max_url=limit - 1))["client_id"] == "app"
    assert "id_token_hint" not in query(url_of(max_url=limit - 1))


@pytest.mark.case(317)
def test_a_hint_that_has_expired_is_sent(rsa: Signer) -> None:
    hint = rsa.sign({"sub": "alice", "exp": 1})
    assert query(url_of(id_token_hint=hint))["id_token_hint"] == hint.reveal()


def test_the_browser_may_stay_at_the_provider() -> None:
    assert query(url_of(post_logout_redirect_uri=None, state=None)).keys() == {"id_token_hint"}


def test_everything_is_encoded_once() -> None:
    told = {"logout_hint": "a b&c=d/ü%20", "ui_locales": "de-CH de"}
    url = url_of(**told)
    assert query(url) == query(url_of()) | told
    assert "+" not in url


@pytest.mark.parametrize("hint", [HINT, None])
def test_parameters_of_the_providers_own_are_added(hint: Secret | None) -> None:
    told = query(url_of(id_token_hint=hint, extra={"logout_uri": "https://app.example/?a=b"}))
    assert told["logout_uri"] == "https://app.example/?a=b"
    assert told["state"] == "state-of-this-logout"


@pytest.mark.parametrize("name", ["id_token_hint", "client_id", "state", "logout_hint"])
def test_an_addition_replaces_nothing(name: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        url_of(extra={name: "x"})


def test_the_endpoint_keeps_its_own_query() -> None:
    url = url_of(f"{ENDPOINT}?tenant=1")
    assert url.startswith(f"{ENDPOINT}?tenant=1&id_token_hint=")


# --------------------------------------------------------------- from the provider


def claims_of(*without: str, **changed: Any) -> dict[str, Any]:
    return {name: value for name, value in LOGOUT.items() if name not in without} | changed


class Client:
    """A client that trusts one key."""

    def __init__(self, signer: Signer) -> None:
        self.signer = signer

    def validate(self, token: Secret, **options: Any) -> LogoutToken:
        expected: dict[str, Any] = {
            "key_set": self.signer.key_set(),
            "issuer": ISSUER,
            "client_id": "app",
            "now": NOW,
        }
        return validate_logout_token(token, **(expected | options))

    def logout(self, claims: dict[str, Any], typ: str | None = "logout+jwt", **options: Any) -> Any:
        return self.validate(self.signer.sign(claims, typ=typ), **options)


@pytest.fixture(scope="module")
def client(rsa: Signer) -> Client:
    return Client(rsa)


def refused(rule: str) -> Any:
    return pytest.raises(InvalidToken, match=re.escape(f"({rule})") + "$")


def rule(number: int) -> str:
    return f"Back-Channel Logout 2.6 ({number})"


def test_a_good_token_says_what_is_over(client: Client) -> None:
    assert client.logout(LOGOUT) == LogoutToken(
        iss=ISSUER, sub="alice", sid="session-1", jti="token-1", iat=NOW - 1
    )


def test_sub_or_sid_is_enough(client: Client) -> None:
    only_sid, only_sub = client.logout(claims_of("sub")), client.logout(claims_of("sid"))
    assert (only_sid.sub, only_sid.sid) == (None, "session-1")
    assert (only_sub.sub, only_sub.sid) == ("alice", None)


@pytest.mark.case(332)
def test_rule_2_another_key_is_refused(client: Client, stranger: Signer) -> None:
    with pytest.raises(InvalidSignature):
        client.validate(stranger.sign(LOGOUT))
    with pytest.raises(SigningKeyNotFound):
        client.validate(stranger.called("two").sign(LOGOUT))


@pytest.mark.case(332)
def test_rule_3_the_algorithm_is_the_one_of_id_tokens(
    client: Client, rsa: Signer, p256: Signer
) -> None:
    for token, key_set in (
        (rsa.sign(LOGOUT, alg="none"), rsa.key_set()),
        (p256.sign(LOGOUT), p256.key_set()),
        (replace(rsa, alg="PS256").sign(LOGOUT), rsa.key_set()),
    ):
        with refused("RFC 8725 3.1"):
            client.validate(token, key_set=key_set)
    assert client.validate(p256.sign(LOGOUT), key_set=p256.key_set(), algorithms=("ES256",))
    for algorithms in (("none",), ("HS256",), ()):
        with pytest.raises(ConfigurationError, match="id_token_algorithms"):
            client.logout(LOGOUT, algorithms=algorithms)


@pytest.mark.case(332)
def test_rule_3_the_public_key_is_no_hmac_secret(client: Client, rsa: Signer) -> None:
    body = rsa.sign(LOGOUT, alg="HS256").reveal().rpartition(".")[0]
    mac = hmac.digest(rsa.key.as_pem(private=False), body.encode(), hashlib.sha256).hex()
    with refused("RFC 8725 3.1"):
        client.validate(Secret(f"{body}.{mac}"))


@pytest.mark.case(333)
@pytest.mark.parametrize(
    "claims",
    [
        pytest.param(claims_of("iss"), id="no iss"),
        pytest.param(claims_of(iss=f"{ISSUER}/"), id="other iss"),
        pytest.param(claims_of("aud"), id="no aud"),
        pytest.param(claims_of(aud="other"), id="other aud"),
        pytest.param(claims_of(aud=["app", "other"]), id="others in aud"),
        pytest.param(claims_of(aud=[]), id="empty aud"),
    ],
)
def test_rule_4_issuer_and_audience_are_those_of_id_tokens(
    client: Client, claims: dict[str, Any]
) -> None:
    with refused(rule(4)):
        client.logout(claims)


@pytest.mark.case(334)
@pytest.mark.parametrize(
    "claims",
    [
        pytest.param(claims_of("iat"), id="no iat"),
        pytest.param(claims_of(iat="1"), id="iat is a string"),
        pytest.param(claims_of(iat=NOW + 61), id="iat in the future"),
        pytest.param(claims_of(iat=NOW - 181), id="iat older than two minutes and the leeway"),
        pytest.param(claims_of("exp"), id="no exp"),
        pytest.param(claims_of(exp=True), id="exp is true"),
        pytest.param(claims_of(exp=NOW - 60), id="expired"),
    ],
)
def test_rule_4_the_token_is_of_now(client: Client, claims: dict[str, Any]) -> None:
    with refused(rule(4)):
        client.logout(claims)


def test_rule_4_clocks_may_differ(client: Client) -> None:
    for changed in ({"iat": NOW + 60}, {"iat": NOW - 180}, {"exp": NOW - 59}):
        assert client.logout(claims_of(**changed)).sub == "alice"
    with pytest.raises(ConfigurationError, match="leeway"):
        client.logout(LOGOUT, leeway=301)
    with refused("RFC 7519 4.1.5"):
        client.logout(claims_of(nbf=NOW + 61))


@pytest.mark.case(340)
def test_rule_5_sub_or_sid_is_required(client: Client) -> None:
    with refused(rule(5)):
        client.logout(claims_of("sub", "sid"))


@pytest.mark.case(349)
@pytest.mark.parametrize("sid", [None, 1, ["session-1"], "", "x" * 256, "x" * 10_240, "a\nb", "ü"])
def test_rule_5_sid_is_a_short_string(client: Client, sid: object) -> None:
    with refused(rule(5)):
        client.logout(claims_of(sid=sid))


@pytest.mark.parametrize("sub", [None, 1, "", "x" * 256, "a\nb"])
def test_rule_5_sub_is_a_short_string(client: Client, sub: object) -> None:
    with refused(rule(5)):
        client.logout(claims_of(sub=sub))


@pytest.mark.case(337)
@pytest.mark.parametrize(
    "claims",
    [
        pytest.param(claims_of("events"), id="missing"),
        pytest.param(claims_of(events=BACKCHANNEL_LOGOUT_EVENT), id="string"),
        pytest.param(claims_of(events=[BACKCHANNEL_LOGOUT_EVENT]), id="list"),
        pytest.param(claims_of(events=None), id="null"),
        pytest.param(claims_of(events={}), id="empty"),
        pytest.param(claims_of(events={"http://other.example/event": {}}), id="other event"),
        pytest.param(claims_of(events={f"{BACKCHANNEL_LOGOUT_EVENT}/": {}}), id="slash"),
        pytest.param(claims_of(events={BACKCHANNEL_LOGOUT_EVENT: None}), id="null inside"),
        pytest.param(claims_of(events={BACKCHANNEL_LOGOUT_EVENT: True}), id="true inside"),
        pytest.param(claims_of(events={BACKCHANNEL_LOGOUT_EVENT: []}), id="list inside"),
    ],
)
def test_rule_6_the_event_is_a_logout(client: Client, claims: dict[str, Any]) -> None:
    with refused(rule(6)):
        client.logout(claims)


def test_rule_6_other_events_may_stand_beside_it(client: Client) -> None:
    events = {BACKCHANNEL_LOGOUT_EVENT: {"a": 1}, "http://other.example/event": None}
    assert client.logout(claims_of(events=events)).sub == "alice"


@pytest.mark.case(338)
@pytest.mark.parametrize("nonce", ["nonce-of-some-login", "", None])
def test_rule_7_an_id_token_is_no_logout_token(client: Client, nonce: object) -> None:
    with refused(rule(7)):
        client.logout(claims_of(nonce=nonce))


@pytest.mark.parametrize(
    "claims", [claims_of("jti"), *(claims_of(jti=jti) for jti in ("", None, 1, "x" * 256))]
)
def test_jti_is_required(client: Client, claims: dict[str, Any]) -> None:
    with refused("Back-Channel Logout 2.4"):
        client.logout(claims)


@pytest.mark.case(339)
@pytest.mark.parametrize("typ", [None, "JWT", "logout+jwt", "LOGOUT+JWT", "application/logout+jwt"])
def test_typ_is_absent_or_says_logout(client: Client, typ: str | None) -> None:
    assert client.logout(LOGOUT, typ).sub == "alice"


@pytest.mark.case(339)
@pytest.mark.parametrize("typ", ["id_token", "at+jwt", "dpop+jwt", "secevent+jwt", ""])
def test_typ_of_another_kind_is_refused(client: Client, typ: str) -> None:
    with refused("RFC 8725 3.11"):
        client.logout(LOGOUT, typ)


values = st.none() | st.booleans() | st.integers() | st.text("ax", max_size=3) | st.lists(st.none())


@settings(max_examples=60, deadline=None)
@given(changed=st.dictionaries(st.sampled_from([*LOGOUT, "nonce", "nbf"]), values, max_size=3))
def test_no_claims_raise_anything_but_invalid_token(p256: Signer, changed: dict[str, Any]) -> None:
    with contextlib.suppress(InvalidToken):
        token = Client(p256).logout(claims_of(**changed), algorithms=("ES256",))
        assert token.sub or token.sid
