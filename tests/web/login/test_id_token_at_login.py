"""What a login makes of an id_token that breaks a rule: nothing, and it tells nobody why."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, Final

import pytest
from joserfc.jwk import RSAKey

from tokenward.events import IdTokenRejected, LoginFailure
from tokenward.testing import (
    AlteredAnswer,
    BrokenSignature,
    ClockSkew,
    Fault,
    ForeignKey,
    HtmlAnswer,
    MissingClaim,
    RawAnswer,
    ServerError,
    UnsignedIdToken,
    WrongAlg,
    WrongClaim,
    WrongHeader,
    WrongKid,
)

if TYPE_CHECKING:
    from tokenward.testing.answers import Answer

YEAR: Final = 365 * 86400
NEW_YEAR_2030: Final = 1_893_456_000


class Reshaped(Fault):
    """Change the text of the id_token after it was signed."""

    def __init__(self, reshape: Any) -> None:
        self._reshape = reshape

    def answer(self, answer: Answer) -> Answer:
        """See `Fault`."""
        members = answer.members  # type: ignore[union-attr]
        changed = AlteredAnswer({"id_token": self._reshape(members["id_token"])})
        return changed.answer(answer)


class SignedWithThePublicKey(Fault):
    """Sign by HMAC, with the provider's public key for a secret."""

    def token(self, draft: Any, keys: Any) -> Any:
        """See `Fault`."""
        key = keys.current("RSA")
        assert isinstance(key, RSAKey)
        return WrongAlg("HS256", key.as_pem(private=False)).token(draft, keys)


def payload_of(raw: bytes) -> Any:
    """Put other bytes in the place of the claims; the signature fits them no more."""

    def reshape(token: str) -> str:
        header, _, signature = token.split(".")
        return f"{header}.{base64.urlsafe_b64encode(raw).rstrip(b'=').decode()}.{signature}"

    return Reshaped(reshape)


def row(number: int, name: str, fault: Fault) -> Any:
    return pytest.param(fault, id=f"{number}-{name}", marks=pytest.mark.case(number))


BAD: Final = [
    row(90, "none", UnsignedIdToken()),
    row(90, "None", UnsignedIdToken("None")),
    row(90, "nOnE", UnsignedIdToken("nOnE")),
    row(91, "no-alg", WrongHeader({"alg": None})),
    row(91, "alg-number", WrongHeader({"alg": 1})),
    row(91, "alg-list", WrongHeader({"alg": ["RS256"]})),
    row(92, "hmac-with-the-public-key", SignedWithThePublicKey()),
    row(93, "hmac-with-the-client-secret", WrongAlg("HS256")),
    row(95, "another-algorithm", WrongAlg("ES256")),
    row(95, "ps256", WrongAlg("PS256")),
    row(96, "alg-of-another-key-type", WrongHeader({"alg": "ES256"})),
    row(97, "bad-signature", BrokenSignature()),
    row(97, "another-key", ForeignKey()),
    row(97, "cut-signature", Reshaped(lambda token: token[:-8])),
    row(97, "swapped-payload", payload_of(b'{"sub":"bob"}')),
    row(98, "trailing-newline", Reshaped(lambda token: f"{token}\n")),
    row(98, "padding", Reshaped(lambda token: f"{token}==")),
    row(98, "two-segments", Reshaped(lambda token: token.rpartition(".")[0])),
    row(98, "four-segments", Reshaped(lambda token: f"{token}.x")),
    row(99, "unknown-key", WrongKid()),
    row(107, "crit-unknown", WrongHeader({"crit": ["x"], "x": 1})),
    row(107, "crit-empty", WrongHeader({"crit": []})),
    row(107, "b64", WrongHeader({"crit": ["b64"], "b64": False})),
    row(108, "at+jwt", WrongHeader({"typ": "at+jwt"})),
    row(108, "logout+jwt", WrongHeader({"typ": "logout+jwt"})),
    row(108, "dpop+jwt", WrongHeader({"typ": "dpop+jwt"})),
    row(110, "long-header", WrongHeader({"x": "a" * 3000})),
    row(110, "long-token", WrongClaim({"x": "a" * 40_000})),
    row(111, "encrypted", Reshaped(lambda token: f"{token}.x.x")),
    row(114, "flattened", Reshaped(lambda token: f'{{"protected":"{token}"}}')),
    row(115, "no-iss", MissingClaim("iss")),
    row(115, "iss-slash", WrongClaim({"iss": "https://op.test/"})),
    row(115, "iss-case", WrongClaim({"iss": "https://OP.test"})),
    row(115, "iss-list", WrongClaim({"iss": ["https://op.test"]})),
    row(115, "iss-longer", WrongClaim({"iss": "https://op.test.evil.test"})),
    row(115, "iss-shorter", WrongClaim({"iss": "https://op"})),
    row(117, "no-aud", MissingClaim("aud")),
    row(117, "aud-empty", WrongClaim({"aud": []})),
    row(117, "aud-other", WrongClaim({"aud": "other"})),
    row(117, "aud-number", WrongClaim({"aud": ["app", 1]})),
    row(118, "aud-second", WrongClaim({"aud": ["app", "other"]})),
    row(119, "aud-other-azp-ours", WrongClaim({"aud": "other", "azp": "app"})),
    row(120, "azp-other", WrongClaim({"azp": "other"})),
    row(121, "no-exp", MissingClaim("exp")),
    row(121, "exp-past", WrongClaim({"exp": NEW_YEAR_2030 - 3600})),
    row(121, "exp-just-past", WrongClaim({"exp": NEW_YEAR_2030 - 61})),
    row(122, "exp-string", WrongClaim({"exp": "soon"})),
    row(122, "exp-bool", WrongClaim({"exp": True})),
    row(122, "exp-null", WrongClaim({"exp": None})),
    row(122, "exp-negative", WrongClaim({"exp": -1})),
    row(123, "no-iat", MissingClaim("iat")),
    row(123, "iat-ahead", WrongClaim({"iat": NEW_YEAR_2030 + 61})),
    row(123, "iat-old", WrongClaim({"iat": NEW_YEAR_2030 - 700})),
    row(124, "nbf-ahead", WrongClaim({"nbf": NEW_YEAR_2030 + 61})),
    row(125, "clock-ahead", ClockSkew(300)),
    row(125, "clock-behind", ClockSkew(-700)),
    row(126, "no-nonce", MissingClaim("nonce")),
    row(126, "nonce-empty", WrongClaim({"nonce": ""})),
    row(126, "nonce-other", WrongClaim({"nonce": "other"})),
    row(126, "nonce-list", WrongClaim({"nonce": ["x"]})),
    row(126, "nonce-number", WrongClaim({"nonce": 1})),
    row(128, "at-hash-wrong", WrongClaim({"at_hash": "AAAAAAAAAAAAAAAAAAAAAA"})),
    row(128, "at-hash-number", WrongClaim({"at_hash": 1})),
    row(130, "no-sub", MissingClaim("sub")),
    row(130, "sub-empty", WrongClaim({"sub": ""})),
    row(130, "sub-number", WrongClaim({"sub": 1})),
    row(130, "sub-list", WrongClaim({"sub": ["alice"]})),
    row(130, "sub-long", WrongClaim({"sub": "a" * 256})),
    row(130, "sub-not-ascii", WrongClaim({"sub": "alïce"})),
    row(130, "sub-control", WrongClaim({"sub": "alice\r\nadmin"})),
    row(137, "utf-16", payload_of('{"sub":"bob"}'.encode("utf-16"))),
    row(138, "list", payload_of(b"[]")),
    row(138, "number", payload_of(b"1")),
    row(138, "long-number", payload_of(b'{"exp":' + b"9" * 5000 + b"}")),
]


async def reference(site: Any) -> str:
    """Return the page that a failed login shows."""
    answer = await site.browser().get("/auth/callback?state=x&code=y")
    site.events.clear()
    text: str = answer.text
    return text


@pytest.mark.case(148)
@pytest.mark.parametrize("fault", BAD)
async def test_a_bad_id_token_makes_no_session_and_touches_none(site: Any, fault: Fault) -> None:
    page = await reference(site)
    browser = site.browser()
    await browser.log_in("alice")
    callback = await browser.begin("bob")
    site.op.misbehave("token", fault)
    async with browser.refused(attempt_ends=True, calls=1):
        answer = await browser.get(callback)
    # Whatever was wrong with it, the browser sees the same.
    assert (answer.status_code, answer.text) == (400, page)
    (failure,) = site.told(LoginFailure)
    assert failure.reason in {"id_token_invalid", "code_refused"}
    if isinstance(fault, ClockSkew):
        assert "clock skew" in failure.detail
    await site.settle()
    assert [family.ended for family in site.op.families] == [None, "revoked"]
    assert (await browser.get(callback)).headers["location"] == "/"
    assert site.exchanges == 2


@pytest.mark.parametrize("kind", ["cookie", "memory", "sqlite", "redis"])
@pytest.mark.parametrize(
    "fault", [BrokenSignature(), WrongClaim({"nonce": "x"}), UnsignedIdToken()], ids=repr
)
async def test_that_holds_wherever_sessions_rest(
    make_login_site: Any, kind: str, fault: Fault
) -> None:
    site = make_login_site(kind)
    browser = site.browser()
    await browser.log_in("alice")
    callback = await browser.begin("bob")
    site.op.misbehave("token", fault)
    async with browser.refused(attempt_ends=True, calls=1):
        assert (await browser.get(callback)).status_code == 400
    (event,) = site.told(IdTokenRejected)
    assert event.rule
    await site.settle()
    assert [family.ended for family in site.op.families] == [None, "revoked"]


GOOD: Final = [
    row(90, "metadata-speak-of-none", WrongClaim({})),
    row(
        106, "jwk-and-jku", WrongHeader({"jku": "https://evil.test/k", "x5u": "https://evil.test"})
    ),
    row(108, "typ-jwt", WrongHeader({"typ": "JWT"})),
    row(121, "exp-within-leeway", WrongClaim({"exp": NEW_YEAR_2030 - 59})),
    row(122, "exp-float", WrongClaim({"exp": NEW_YEAR_2030 + 299.5})),
    row(122, "exp-far", WrongClaim({"exp": NEW_YEAR_2030 + 1000 * YEAR})),
    row(125, "clock-a-minute-ahead", ClockSkew(60)),
    row(125, "clock-a-minute-behind", ClockSkew(-60)),
    row(129, "no-at-hash", MissingClaim("at_hash")),
]


@pytest.mark.parametrize("fault", GOOD)
async def test_an_id_token_within_the_rules_logs_in(site: Any, fault: Fault) -> None:
    lax = {"id_token_signing_alg_values_supported": ["none", "HS256", "RS256"]}
    site.op.misbehave("discovery", AlteredAnswer(lax), times=None)
    browser = site.browser()
    callback = await browser.begin()
    site.op.misbehave("token", fault)
    assert (await browser.get(callback)).status_code == 303
    assert await browser.user() == "alice"
    assert site.wire.hosts == {"op.test"}


@pytest.mark.case(94)
async def test_a_symmetric_key_that_the_provider_publishes_is_none(site: Any) -> None:
    secret = b"published-for-everybody-to-see-it"
    k = base64.urlsafe_b64encode(secret).rstrip(b"=").decode()
    keys = [{"kty": "oct", "kid": "oct", "alg": "HS256", "use": "sig", "k": k}]
    site.op.misbehave("jwks", AlteredAnswer({"keys": keys}), times=None)
    browser = site.browser()
    callback = await browser.begin()
    site.op.misbehave("token", WrongAlg("HS256", secret), WrongHeader({"kid": "oct"}))
    assert (await browser.get(callback)).status_code == 400


@pytest.mark.case(90)
@pytest.mark.case(170)
async def test_none_is_refused_even_if_the_provider_lists_it(site: Any) -> None:
    lax = {"id_token_signing_alg_values_supported": ["none", "HS256", "RS256"]}
    site.op.misbehave("discovery", AlteredAnswer(lax), times=None)
    browser = site.browser()
    callback = await browser.begin()
    site.op.misbehave("token", UnsignedIdToken())
    assert (await browser.get(callback)).status_code == 400


@pytest.mark.case(99)
async def test_unknown_keys_are_looked_for_once_a_minute(site: Any) -> None:
    browser = site.browser()
    site.op.misbehave("token", WrongKid(), times=None)
    for _ in range(4):
        assert (await browser.get(await browser.begin())).status_code == 400
    assert site.op.count("jwks") == 2
    site.clock.advance(61)
    assert (await browser.get(await browser.begin())).status_code == 400
    assert site.op.count("jwks") == 3


@pytest.mark.case(101)
async def test_new_keys_of_the_provider_need_no_restart(site: Any) -> None:
    await site.browser().log_in()
    site.op.rotate_keys(keep_old=False)
    await site.browser().log_in()
    assert site.op.count("jwks") == 2


@pytest.mark.case(103)
@pytest.mark.case(104)
async def test_a_key_without_a_name_is_found_where_only_one_fits(site: Any) -> None:
    site.op.misbehave("token", WrongKid(None), times=None)
    await site.browser().log_in()
    site.op.rotate_keys()
    site.clock.advance(3601)
    browser = site.browser()
    assert (await browser.get(await browser.begin())).status_code == 400


@pytest.mark.case(127)
async def test_the_id_token_of_another_login_is_refused(site: Any) -> None:
    browser = site.browser()
    seen: list[str] = []
    callback = await browser.begin()
    site.op.misbehave("token", Reshaped(lambda token: (seen.append(token), token)[1]))
    assert (await browser.get(callback)).status_code == 303
    callback = await browser.begin()
    site.op.misbehave("token", Reshaped(lambda _: seen[0]))
    async with browser.refused(attempt_ends=True, calls=1):
        assert (await browser.get(callback)).status_code == 400


@pytest.mark.case(131)
@pytest.mark.parametrize(
    "fault",
    [
        MissingClaim("auth_time"),
        WrongClaim({"auth_time": NEW_YEAR_2030 - 400}),
        WrongClaim({"auth_time": "now"}),
    ],
    ids=["missing", "too-old", "string"],
)
async def test_a_login_that_is_too_old_is_refused(make_login_site: Any, fault: Fault) -> None:
    site = make_login_site(provider={"max_age": 300})
    browser = site.browser()
    callback = await browser.begin()
    site.op.misbehave("token", fault)
    assert (await browser.get(callback)).status_code == 400
    await browser.log_in()


@pytest.mark.parametrize("fault", [MissingClaim("acr"), WrongClaim({"acr": "weak"})], ids=repr)
async def test_a_login_that_is_too_weak_is_refused(make_login_site: Any, fault: Fault) -> None:
    site = make_login_site(provider={"acr_values": ["strong"]})
    browser = site.browser()
    callback = await browser.begin()
    site.op.misbehave("token", fault)
    assert (await browser.get(callback)).status_code == 400
    callback = await browser.begin()
    site.op.misbehave("token", WrongClaim({"acr": "strong"}))
    assert (await browser.get(callback)).status_code == 303


@pytest.mark.case(141)
async def test_users_with_one_address_are_two_users(site: Any) -> None:
    browser = site.browser()
    for sub in ("alice", "Alice"):
        callback = await browser.begin("alice")
        site.op.misbehave("token", WrongClaim({"sub": sub, "email": "same@example.org"}))
        await browser.get(callback)
        assert await browser.user() == sub


# ----------------------------------------------------------------- userinfo


@pytest.fixture
def asking(make_login_site: Any) -> Any:
    """Return a site that asks the UserInfo endpoint at every login."""
    return make_login_site(provider={"userinfo": True})


async def test_what_userinfo_tells_is_kept(asking: Any) -> None:
    asking.op.misbehave("userinfo", AlteredAnswer({"nickname": "Al"}))
    browser = asking.browser()
    await browser.log_in()
    assert (await browser.me())["claims"]["nickname"] == "Al"


@pytest.mark.case(145)
@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(
            AlteredAnswer({"sub": "alice"}), id="somebody-else", marks=pytest.mark.case(144)
        ),
        pytest.param(AlteredAnswer(without=["sub"]), id="nobody", marks=pytest.mark.case(144)),
        pytest.param(HtmlAnswer(), id="html"),
        pytest.param(RawAnswer(200, {"content-type": "application/json"}, b"[]"), id="list"),
        pytest.param(RawAnswer(401), id="401"),
        pytest.param(ServerError(500), id="500"),
        pytest.param(
            RawAnswer(
                200, {"content-type": "application/json"}, b'{"x":"' + b"a" * 300_000 + b'"}'
            ),
            id="large",
        ),
        pytest.param(RawAnswer(200, {"content-type": "application/jwt"}, b"a.b.c"), id="jwt"),
    ],
)
async def test_without_good_userinfo_there_is_no_login(asking: Any, fault: Fault) -> None:
    browser = asking.browser()
    await browser.log_in("alice")
    callback = await browser.begin("bob")
    asking.op.misbehave("userinfo", fault, times=2)
    async with browser.refused(attempt_ends=True, calls=1):
        answer = await browser.get(callback)
    assert answer.status_code in {400, 503}
    await asking.settle()
    assert [family.ended for family in asking.op.families] == [None, "revoked"]
