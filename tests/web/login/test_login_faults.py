"""Logins while the provider, or the store, is out of reach."""

from __future__ import annotations

from typing import Any, Final

import pytest

from tokenward.events import LoginFailure, ProviderAlarm, RevocationFailed
from tokenward.testing import (
    AlteredAnswer,
    CutAnswer,
    Fault,
    HtmlAnswer,
    LostAnswer,
    LostRequest,
    OAuthError,
    RawAnswer,
    ServerError,
    TooManyRequests,
    UnsignedIdToken,
    WrongKid,
)

DISCOVERY: Final = "/.well-known/openid-configuration"
JSON: Final = {"content-type": "application/json"}


def busy(answer: Any, *, navigation: bool = True) -> None:
    """Show a 503 that says when to come again, and nothing of what is behind it."""
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) >= 1
    assert "Traceback" not in answer.text
    assert "op.test" not in answer.text
    if not navigation:
        assert set(answer.json()) == {"error", "retry_after"}


# ----------------------------------------------------------------- at the login


@pytest.mark.case(40)
@pytest.mark.case(162)
@pytest.mark.parametrize("navigation", [True, False])
async def test_a_login_while_the_provider_is_down_is_answered_and_begins_nothing(
    any_site: Any, navigation: bool
) -> None:
    any_site.wire.refused[DISCOVERY] = 1000
    browser = any_site.browser()
    answer = await (browser.get if navigation else browser.app.get)("/auth/login")
    busy(answer, navigation=navigation)
    assert not browser.jar()
    assert any_site.told(LoginFailure)[-1].reason == "provider_unavailable"
    any_site.wire.refused.clear()
    any_site.clock.advance(10)
    await browser.log_in()


@pytest.mark.case(40)
@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(ServerError(503), id="503"),
        pytest.param(HtmlAnswer(), id="html"),
        pytest.param(RawAnswer(404), id="404"),
        pytest.param(RawAnswer(200, JSON, b""), id="empty"),
        pytest.param(AlteredAnswer({"issuer": "https://evil.test"}), id="issuer"),
        pytest.param(AlteredAnswer({"authorization_endpoint": "http://evil.test/"}), id="http"),
        pytest.param(
            AlteredAnswer({"authorization_endpoint": "https://op.test/authorize?state=x"}),
            id="endpoint-with-state",
        ),
        pytest.param(AlteredAnswer(without=["token_endpoint"]), id="no-token-endpoint"),
        pytest.param(LostAnswer(), id="lost-answer"),
    ],
)
async def test_a_login_with_bad_metadata_is_answered_and_begins_nothing(
    site: Any, fault: Fault
) -> None:
    site.op.misbehave("discovery", fault, times=None)
    browser = site.browser()
    busy(await browser.get("/auth/login"))
    assert not browser.jar()


@pytest.mark.case(35)
@pytest.mark.case(169)
async def test_a_provider_without_s256_is_the_operators_affair(site: Any) -> None:
    lacking = {"code_challenge_methods_supported": ["plain"]}
    site.op.misbehave("discovery", AlteredAnswer(lacking), times=None)
    browser = site.browser()
    answer = await browser.get("/auth/login")
    assert answer.status_code == 500
    assert not browser.jar()
    (failure,) = site.told(LoginFailure)
    assert failure.reason == "misconfigured"
    assert "S256" in failure.detail


@pytest.mark.case(163)
async def test_a_provider_that_goes_down_later_stops_nobody_who_is_logged_in(any_site: Any) -> None:
    browser, other = any_site.browser(), any_site.browser()
    await browser.log_in()
    any_site.wire.refused = {DISCOVERY: 1000, "/jwks": 1000, "/token": 1000}
    any_site.clock.advance(1800)
    assert (await browser.get("/token")).status_code == 200
    any_site.clock.advance(1800 + 3600)
    assert (await other.get("/auth/login")).status_code == 303
    busy(await browser.get("/token"))
    assert await browser.user() == "alice"


# ----------------------------------------------------------------- at the exchange


@pytest.mark.case(79)
async def test_a_code_that_was_not_sent_is_sent_again(any_site: Any) -> None:
    browser = any_site.browser()
    callback = await browser.begin()
    any_site.wire.refused["/token"] = 1
    assert (await browser.get(callback)).status_code == 303
    assert any_site.exchanges == 1


@pytest.mark.parametrize("path", ["/token", "/jwks"])
async def test_an_answer_that_could_not_be_used_yet_can_be_used_later(
    any_site: Any, path: str
) -> None:
    browser = any_site.browser()
    await browser.log_in("alice")
    # Beyond the day for which old keys would do.
    any_site.clock.advance(26 * 3600)
    callback = await browser.begin("bob")
    any_site.wire.refused[path] = 1000
    exchanged = any_site.exchanges
    busy(await browser.get(callback))
    assert any_site.exchanges == exchanged
    assert len(browser.attempts()) == 1
    any_site.wire.refused.clear()
    any_site.clock.advance(10)
    assert (await browser.get(callback)).status_code == 303
    assert await browser.user() == "bob"


@pytest.mark.parametrize("fault", [HtmlAnswer(), ServerError(500)], ids=["html", "500"])
async def test_no_answer_is_spent_while_there_are_no_keys(any_site: Any, fault: Fault) -> None:
    browser = any_site.browser()
    callback = await browser.begin()
    any_site.op.misbehave("jwks", fault, times=1)
    async with browser.refused(attempt_ends=False):
        busy(await browser.get(callback))
    any_site.clock.advance(10)
    assert (await browser.get(callback)).status_code == 303


@pytest.mark.case(80)
@pytest.mark.parametrize("kind", ["cookie", "memory", "sqlite", "redis"])
@pytest.mark.parametrize(
    ("fault", "status"),
    [
        pytest.param(LostRequest(), 503, id="lost-request"),
        pytest.param(LostAnswer(), 503, id="lost-answer"),
        pytest.param(CutAnswer(20), 503, id="cut-answer"),
        pytest.param(CutAnswer(20, chunked=True), 503, id="cut-chunked"),
        pytest.param(ServerError(500), 503, id="500"),
        pytest.param(ServerError(503, retry_after=2), 503, id="503"),
        pytest.param(TooManyRequests(), 503, id="429"),
        pytest.param(HtmlAnswer(), 400, id="html", marks=pytest.mark.case(177)),
        pytest.param(RawAnswer(200, JSON), 400, id="empty", marks=pytest.mark.case(177)),
        pytest.param(RawAnswer(200, JSON, b"[]"), 400, id="list", marks=pytest.mark.case(177)),
        pytest.param(RawAnswer(200, JSON, b'"x"'), 400, id="string", marks=pytest.mark.case(177)),
        pytest.param(
            RawAnswer(200, JSON, b'{"error":"invalid_grant"}'),
            400,
            id="error-200",
            marks=pytest.mark.case(178),
        ),
        pytest.param(RawAnswer(307, {"location": "https://evil.test/"}), 400, id="redirect"),
        pytest.param(OAuthError("invalid_grant"), 400, id="invalid_grant"),
        pytest.param(AlteredAnswer(without=["access_token"]), 400, id="no-access-token"),
        pytest.param(AlteredAnswer({"token_type": "mac"}), 400, id="token-type"),
    ],
)
async def test_a_code_that_may_have_been_used_is_never_sent_again(
    make_login_site: Any, kind: str, fault: Fault, status: int
) -> None:
    site = make_login_site(kind)
    browser = site.browser()
    await browser.log_in("alice")
    callback = await browser.begin("bob")
    jar = browser.jar()
    site.op.misbehave("token", fault, when=lambda r: r.grant_type == "authorization_code")
    async with browser.refused(attempt_ends=True, calls=1):
        answer = await browser.get(callback)
        assert answer.status_code == status
        assert ("retry-after" in answer.headers) == (status == 503)
        assert "/auth/login" in answer.text
    browser.plant(jar)
    assert (await browser.get(callback)).headers["location"] == "/"
    assert site.exchanges == 2
    assert await browser.user() == "alice"
    assert site.wire.hosts == {"op.test"}


@pytest.mark.case(80)
@pytest.mark.parametrize("path", ["/userinfo", "/jwks"])
async def test_a_code_is_spent_though_the_provider_is_gone_just_after(
    make_login_site: Any, path: str
) -> None:
    site = make_login_site(provider={"userinfo": True})
    await site.browser().log_in()
    browser = site.browser()
    callback = await browser.begin()
    site.wire.refused[path] = 1000
    site.op.misbehave("token", WrongKid() if path == "/jwks" else AlteredAnswer())
    async with browser.refused(attempt_ends=True, calls=1):
        assert (await browser.get(callback)).status_code == 503
    await site.settle()
    assert [family.ended for family in site.op.families] == [None, "revoked"]


async def test_a_client_that_the_provider_refuses_is_an_alarm(site: Any) -> None:
    browser = site.browser()
    callback = await browser.begin()
    site.op.misbehave("token", OAuthError("invalid_client", status=401))
    assert (await browser.get(callback)).status_code == 400
    assert site.told(ProviderAlarm)[0].error == "invalid_client"


@pytest.mark.case(409)
async def test_the_providers_error_page_is_neither_logged_nor_shown(
    site: Any, caplog: pytest.LogCaptureFixture, canaries: Any
) -> None:
    canaries.add("a-long-secret-of-the-provider", "the error page")
    page = b"<html>a-long-secret-of-the-provider</html>"
    site.op.misbehave("token", RawAnswer(500, {"content-type": "text/html"}, page))
    browser = site.browser()
    answer = await browser.get(await browser.begin())
    assert "a-long-secret" not in answer.text
    assert "a-long-secret" not in str(site.events)
    assert "a-long-secret" not in caplog.text


async def test_a_bad_login_is_answered_though_its_tokens_cannot_be_given_back(site: Any) -> None:
    browser = site.browser()
    callback = await browser.begin()
    site.op.misbehave("token", UnsignedIdToken())
    site.op.misbehave("revocation", ServerError(500), times=None)
    assert (await browser.get(callback)).status_code == 400
    assert site.told(RevocationFailed)


# ----------------------------------------------------------------- the store


@pytest.mark.parametrize("kind", ["memory", "sqlite", "redis", "cookie+store"])
@pytest.mark.parametrize("logged_in", [True, False])
async def test_an_answer_while_the_store_is_down_spends_nothing(
    make_login_site: Any, kind: str, logged_in: bool
) -> None:
    site = make_login_site(kind)
    browser = site.browser()
    if logged_in:
        await browser.log_in("alice")
    callback = await browser.begin("bob")
    jar, exchanged = browser.jar(), site.exchanges
    site.store.down = {"all"}
    answer = await browser.get(callback)
    busy(answer)
    assert site.exchanges == exchanged
    assert browser.jar() == jar
    site.store.down = set()
    assert (await browser.get(callback)).status_code == 303
    assert await browser.user() == "bob"


async def test_a_store_that_takes_no_marks_spends_nothing(site: Any) -> None:
    browser = site.browser()
    callback = await browser.begin()
    site.store.down = {"mark"}
    answer = await browser.get(callback)
    busy(answer)
    assert answer.headers["retry-after"] == "7"
    assert site.exchanges == 0
    site.store.down = set()
    assert (await browser.get(callback)).status_code == 303


@pytest.mark.case(82)
@pytest.mark.parametrize("operation", ["put", "delete"])
async def test_a_session_that_cannot_be_saved_is_none_and_its_tokens_go_back(
    site: Any, operation: str
) -> None:
    browser = site.browser()
    await browser.log_in("alice")
    callback = await browser.begin("bob")
    before = browser.cookies()
    site.store.down = {operation}
    answer = await browser.get(callback)
    busy(answer)
    assert not [line for line in answer.headers.get_list("set-cookie") if "-login-" not in line]
    site.store.down = set()
    assert browser.cookies() == before
    assert await browser.user() == "alice"
    await site.settle()
    assert [family.ended for family in site.op.families] == [None, "revoked"]
    assert (await browser.get(callback)).headers["location"] == "/"
    assert site.exchanges == 2


async def test_strangers_do_not_reach_the_store(site: Any) -> None:
    browser = site.browser()
    for _ in range(10):
        assert (await browser.get("/auth/callback?state=x&code=y")).status_code == 400
    assert site.store.calls == 0


async def test_a_login_can_begin_while_the_store_is_down(site: Any) -> None:
    site.store.down = {"all"}
    assert (await site.browser().get("/auth/login")).status_code == 303


@pytest.mark.case(404)
@pytest.mark.case(408)
@pytest.mark.parametrize("kind", ["cookie", "memory", "sqlite", "redis"])
async def test_no_secret_of_a_whole_visit_is_logged_at_any_level(
    make_login_site: Any, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    from tokenward.events import log_event

    # The plugin of the suite searches the log, DEBUG included, for every secret there was.
    site = make_login_site(kind, on_event=log_event)
    browser = site.browser()
    callback = await browser.begin()
    answer = await browser.get(callback)
    assert answer.status_code == 303
    assert "code=" not in answer.headers["location"]
    site.clock.advance(3601)
    assert (await browser.get("/token")).status_code == 200
    await browser.get(callback)
    await browser.log_out()
    await browser.get(callback)
    assert "LoggedIn" in caplog.text


@pytest.mark.parametrize(
    ("fault", "seconds"),
    [
        pytest.param(ServerError(503, retry_after=30), "30", id="told"),
        pytest.param(ServerError(500), "5", id="not-told"),
        pytest.param(LostAnswer(), "5", id="no-answer"),
    ],
)
async def test_a_login_that_an_outage_cut_short_says_when_to_begin_anew(
    any_site: Any, fault: Fault, seconds: str
) -> None:
    browser = any_site.browser()
    callback = await browser.begin()
    any_site.op.misbehave("token", fault)
    answer = await browser.get(callback)
    busy(answer)
    assert answer.headers["retry-after"] == seconds
    assert 'href="/auth/login"' in answer.text
    assert "provider_unavailable" in answer.text
    assert any_site.told(LoginFailure)[-1].reason == "no_answer"
    await browser.log_in()


async def test_a_script_is_told_where_a_login_that_an_outage_cut_short_begins_anew(
    site: Any,
) -> None:
    browser = site.browser()
    callback = await browser.begin()
    site.op.misbehave("token", ServerError(503, retry_after=30))
    answer = await browser.app.get(callback, headers={"accept": "application/json"})
    assert answer.status_code == 503
    assert answer.json() == {
        "error": "provider_unavailable",
        "login_url": "/auth/login",
        "retry_after": 30,
    }
