"""Logout: who may ask for it, what it ends, in which order, and whatever the provider does."""

from __future__ import annotations

import asyncio
import html
import re
from types import SimpleNamespace
from typing import Any, Final
from urllib.parse import quote, urlsplit

import pytest

from tokenward.errors import ProviderUnavailable
from tokenward.events import (
    LoggedOut,
    LoginFailure,
    RedirectBlocked,
    RevocationFailed,
    Revoked,
    StoreFailed,
)
from tokenward.settings import Lifetimes
from tokenward.testing import (
    AlteredAnswer,
    Fault,
    HtmlAnswer,
    LostAnswer,
    LostRequest,
    OAuthError,
    RawAnswer,
    ServerError,
    TooManyRequests,
    WrongClaim,
)
from tokenward.tokens import revocation
from tokenward.web import logout

LOGOUT: Final = "/auth/logout"
SITE_KEY: Final = "fuvQBj8B5pts7Km2TfoqPp9ocLVoYlb1z0okhjW-0eHqN5Eh610NzZL7I6tl265Q"


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the pauses between two attempts to revoke take no time."""

    async def pause(_: float) -> None:
        await asyncio.sleep(0)

    monkeypatch.setattr(revocation, "asyncio", SimpleNamespace(**{**vars(asyncio), "sleep": pause}))


async def link_of(browser: Any) -> str:
    """Return the address behind "sign out" on a page of the app."""
    link: str = (await browser.me())["logout_url"]
    return link


def button_of(answer: Any) -> str:
    """Return where the button of the confirmation page posts."""
    action = re.search(r'<form method="post" action="([^"]+)">', answer.text)
    assert action, answer.text
    return html.unescape(action[1])


# ----------------------------------------------------------------- what it does


@pytest.mark.case(319)
@pytest.mark.case(322)
async def test_a_logout_ends_the_session_here_and_at_the_provider(
    any_site: Any, parse: Any
) -> None:
    browser = any_site.browser()
    await browser.log_in()
    before = await browser.me()
    answer = await browser.log_out("?return_to=/bye")
    assert answer.status_code == 303
    assert answer.headers["location"].startswith("https://op.test/logout?")
    sent = parse(answer.headers["location"])
    assert sent["post_logout_redirect_uri"] == "https://app.test/auth/logout/callback"
    assert sent["id_token_hint"]
    assert not browser.cookies()
    assert await browser.user() is None
    assert any_site.op.is_revoked(before["refresh_token"])
    (request,) = [r for r in any_site.op.requests if r.endpoint == "revocation"]
    assert dict(request.parameters)["token_type_hint"] == "refresh_token"
    assert len(any_site.told(LoggedOut)) == 1
    assert len(any_site.told(Revoked)) == 1
    back = await browser.op.get(answer.headers["location"])
    assert (await browser.get(back.headers["location"])).headers["location"] == "/bye"
    assert not browser.cookies("logout")


@pytest.mark.case(322)
async def test_the_newest_refresh_token_is_revoked(any_site: Any) -> None:
    browser = any_site.browser()
    await browser.log_in()
    any_site.clock.advance(3601)
    assert (await browser.get("/token")).status_code == 200
    newest = (await browser.me())["refresh_token"]
    await browser.log_out()
    assert any_site.op.is_revoked(newest)
    assert any_site.op.count("revocation") == 1


@pytest.mark.case(326)
async def test_a_logout_in_one_tab_is_seen_in_the_other(any_site: Any) -> None:
    browser, tab = any_site.browser(), any_site.browser()
    await browser.log_in()
    tab.plant(browser.jar())
    assert await tab.user() == "alice"
    await browser.log_out()
    # Its cookies are from before, as in a request that was on its way.
    assert await tab.user() is None
    answer = await tab.get("/token")
    assert answer.headers["location"].startswith("/auth/login")


@pytest.mark.case(319)
async def test_the_session_is_over_before_the_provider_is_asked(any_site: Any) -> None:
    browser, thief = any_site.browser(), any_site.browser()
    await browser.log_in()
    thief.plant(browser.jar())
    gate = any_site.op.hold("revocation")
    leaving = asyncio.create_task(browser.log_out())
    await gate.entered.wait()
    assert await thief.user() is None
    gate.release()
    assert (await leaving).status_code == 303


@pytest.mark.case(324)
async def test_a_refresh_under_way_brings_nothing_back(any_site: Any) -> None:
    browser, tab = any_site.browser(), any_site.browser()
    await browser.log_in()
    tab.plant(browser.jar())
    any_site.clock.advance(3601)
    gate = any_site.op.hold("token", after_acting=True)
    refreshing = asyncio.create_task(tab.get("/token"))
    await gate.entered.wait()
    await browser.log_out()
    gate.release()
    answer = await refreshing
    assert answer.status_code in {303, 401}
    await any_site.auth.user_tokens.drain(timeout=5)
    await any_site.settle()
    assert any_site.live_families() == set()
    assert await tab.user() is None


@pytest.mark.case(325)
async def test_a_second_logout_leads_home(any_site: Any) -> None:
    browser = any_site.browser()
    await browser.log_in()
    link = await link_of(browser)
    await browser.log_out()
    for answer in (
        await browser.log_out("?return_to=/bye"),
        await browser.get(f"{link}&return_to=/bye"),
        await any_site.browser().get(f"{LOGOUT}?return_to=/bye"),
    ):
        assert (answer.status_code, answer.headers["location"]) == (303, "/bye")
    assert any_site.op.count("revocation") == 1
    assert len(any_site.told(LoggedOut)) == 1


@pytest.mark.case(325)
async def test_a_logout_after_the_session_is_over_leads_home(any_site: Any) -> None:
    browser = any_site.browser()
    await browser.log_in()
    any_site.clock.advance(8 * 86400)
    assert (await browser.log_out()).headers["location"] == "/"
    assert any_site.op.count("revocation") == 0


async def test_the_refresh_token_stays_where_that_is_wanted(make_login_site: Any) -> None:
    site = make_login_site(revoke_at_logout=False)
    browser = site.browser()
    await browser.log_in()
    token = (await browser.me())["refresh_token"]
    assert (await browser.log_out()).headers["location"].startswith("https://op.test/logout?")
    await site.settle()
    assert site.op.is_active(token)
    assert await browser.user() is None


async def test_the_page_after_a_logout_can_be_set(make_login_site: Any) -> None:
    site = make_login_site(after_logout="/bye")
    browser = site.browser()
    await browser.log_in()
    answer = await browser.op.get((await browser.log_out()).headers["location"])
    assert (await browser.get(answer.headers["location"])).headers["location"] == "/bye"


# ----------------------------------------------------------------- who may ask for it

FOREIGN: Final = [
    pytest.param({"sec-fetch-site": "cross-site", "origin": "https://evil.test"}, id="cross-site"),
    pytest.param({"sec-fetch-site": "same-site"}, id="same-site"),
    pytest.param({"sec-fetch-site": "none"}, id="none"),
    pytest.param({"origin": "https://evil.test"}, id="origin"),
    pytest.param({"origin": "https://app.test.evil.test"}, id="origin-longer"),
    pytest.param({"origin": "http://app.test"}, id="origin-http"),
    pytest.param({"origin": "null"}, id="origin-null"),
    pytest.param({"referer": "https://app.test/"}, id="referer-alone"),
    pytest.param({}, id="nothing"),
]


@pytest.mark.case(313)
@pytest.mark.parametrize("headers", FOREIGN)
async def test_a_form_of_another_site_ends_nothing(any_site: Any, headers: dict[str, str]) -> None:
    browser = any_site.browser()
    await browser.log_in()
    async with browser.nothing_changes():
        answer = await browser.app.post(LOGOUT, headers=headers)
        assert answer.status_code == 403
    assert any_site.op.count("revocation") == 0


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"sec-fetch-site": "same-origin"}, id="fetch-metadata"),
        pytest.param({"origin": "https://app.test"}, id="origin"),
        pytest.param({"sec-fetch-site": "same-origin", "origin": "null"}, id="no-referrer"),
    ],
)
async def test_a_form_of_the_app_needs_no_more(site: Any, headers: dict[str, str]) -> None:
    browser = site.browser()
    await browser.log_in()
    assert (await browser.app.post(LOGOUT, headers=headers)).status_code == 303
    assert await browser.user() is None


@pytest.mark.case(312)
@pytest.mark.parametrize("kind", ["cookie", "memory", "sqlite", "redis"])
@pytest.mark.parametrize(
    "sid", ["none", "empty", "wrong", "another-session", "twice", "session-id"]
)
async def test_a_link_of_another_site_asks_first(make_login_site: Any, kind: str, sid: str) -> None:
    site = make_login_site(kind)
    browser, other = site.browser(), site.browser()
    await browser.log_in("alice")
    await other.log_in("bob")
    own = (await link_of(browser)).partition("?")[2]
    query = {
        "none": "",
        "empty": "?sid=",
        "wrong": "?sid=" + "0" * 32,
        "another-session": "?" + (await link_of(other)).partition("?")[2],
        "twice": f"?{own}&{own}",
        "session-id": f"?sid={quote(next(iter(browser.cookies().values())))}",
    }[sid]
    async with browser.nothing_changes():
        answer = await browser.get(f"{LOGOUT}{query}", sec_fetch_site="cross-site")
        assert answer.status_code == 200
        assert "Sign out?" in answer.text
        prefetched = await browser.app.get(await link_of(browser), headers={"purpose": "prefetch"})
        assert prefetched.status_code == 204
    assert site.op.count("revocation") == 0


async def test_a_link_on_a_page_of_this_session_is_enough(any_site: Any) -> None:
    browser = any_site.browser()
    await browser.log_in()
    link = await link_of(browser)
    for value in browser.cookies().values():
        assert value not in link
    answer = await browser.get(f"{link}&return_to=/bye")
    assert answer.headers["location"].startswith("https://op.test/logout?")
    assert await browser.user() is None


async def test_a_link_still_works_when_the_key_was_rotated(make_login_site: Any) -> None:
    site = make_login_site()
    browser = site.browser()
    await browser.log_in()
    link = await link_of(browser)
    newest = "m5w6NBMz2l0pT8ISAZ3rX1y9QkUe7HcFvJgDoWtL4xYb"
    later = make_login_site(store=site.store, secret_key=[newest, SITE_KEY])
    moved = later.browser()
    moved.plant(browser.jar())
    assert (await moved.get(link)).status_code == 303
    assert await moved.user() is None


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"sec-fetch-site": "same-origin", "origin": "null"}, id="chromium"),
        pytest.param({"origin": "null"}, id="without-fetch-metadata"),
        pytest.param({}, id="very-old"),
    ],
)
async def test_the_button_of_the_question_works(any_site: Any, headers: dict[str, str]) -> None:
    browser = any_site.browser()
    await browser.log_in()
    question = await browser.get(f"{LOGOUT}?return_to=/bye%3Fa%26b")
    assert "form-action 'self'" in question.headers["content-security-policy"]
    answer = await browser.app.post(button_of(question), headers=headers)
    assert answer.status_code == 303
    assert await browser.user() is None
    back = await browser.op.get(answer.headers["location"])
    assert (await browser.get(back.headers["location"])).headers["location"] == "/bye?a&b"


async def test_the_button_of_another_session_is_of_no_use(any_site: Any) -> None:
    browser, other = any_site.browser(), any_site.browser()
    await browser.log_in("alice")
    await other.log_in("bob")
    action = button_of(await other.get(LOGOUT))
    async with browser.nothing_changes():
        assert (await browser.app.post(action)).status_code == 403


@pytest.mark.parametrize("method", ["HEAD", "PUT", "DELETE", "OPTIONS"])
async def test_another_method_ends_nothing(site: Any, method: str) -> None:
    browser = site.browser()
    await browser.log_in()
    link = await link_of(browser)
    async with browser.nothing_changes():
        answer = await browser.app.request(method, link)
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET, POST")


# ----------------------------------------------------------------- where it leads


@pytest.mark.case(314)
@pytest.mark.parametrize(
    "target", ["//evil.test", "https://evil.test", "/%5Cevil.test", "/auth/login", "/a/../b"]
)
async def test_a_logout_leads_to_no_other_site(any_site: Any, parse: Any, target: str) -> None:
    browser = any_site.browser()
    await browser.log_in()
    answer = await browser.log_out(f"?return_to={quote(target, safe='')}")
    assert len(any_site.told(RedirectBlocked)) == 1
    assert "evil" not in answer.headers["location"]
    back = await browser.op.get(answer.headers["location"])
    assert (await browser.get(back.headers["location"])).headers["location"] == "/"
    # And for nobody, who is sent home at once.
    answer = await browser.log_out(f"?return_to={quote(target, safe='')}")
    assert answer.headers["location"] == "/"


@pytest.mark.case(314)
async def test_the_target_of_a_logout_is_judged_again_on_the_way_back(
    site: Any, parse: Any
) -> None:
    from tokenward.web.cookies import Cookie
    from tokenward.web.marks import Mark

    cookie = Cookie.for_origin("https://app.test").named("logout")
    mark = Mark(site.auth.ring, cookie, purpose="logout")
    (line,) = mark.write({"state": "s", "return_to": "//evil.test"}, max_age=60)
    browser = site.browser()
    browser.plant({cookie.full_name: line.decode().partition("=")[2].partition(";")[0]})
    answer = await browser.get("/auth/logout/callback?state=s")
    assert answer.headers["location"] == "/"


@pytest.mark.case(315)
async def test_the_address_of_the_way_back_is_the_public_one(site: Any, parse: Any) -> None:
    browser = site.browser()
    await browser.log_in()
    async with browser.nothing_changes():
        answer = await browser.post(LOGOUT, host="evil.test", sec_fetch_site="same-origin")
        assert answer.status_code == 400
    answer = await browser.post(
        LOGOUT, sec_fetch_site="same-origin", x_forwarded_host="evil.test", x_forwarded_proto="http"
    )
    sent = parse(answer.headers["location"])
    assert sent["post_logout_redirect_uri"] == "https://app.test/auth/logout/callback"


@pytest.mark.case(316)
@pytest.mark.parametrize(
    "spoil", ["missing", "wrong", "twice", "other-browser", "again", "expired"]
)
async def test_a_way_back_that_is_not_ours_is_a_plain_page(
    any_site: Any, parse: Any, spoil: str
) -> None:
    browser = any_site.browser()
    await browser.log_in()
    state = parse((await browser.log_out("?return_to=/bye")).headers["location"])["state"]
    callback = f"/auth/logout/callback?state={state}"
    if spoil == "other-browser":
        browser = any_site.browser()
    if spoil == "again":
        assert (await browser.get(callback)).headers["location"] == "/bye"
    if spoil == "expired":
        browser.app.cookies.delete("__Host-tokenward-logout", domain="app.test", path="/")
    await browser.log_in("bob")
    changed = {
        "missing": callback.partition("?")[0],
        "wrong": f"{callback}x",
        "twice": f"{callback}&state=x",
    }
    async with browser.nothing_changes():
        answer = await browser.get(changed.get(spoil, callback))
    assert answer.status_code == 200
    assert "location" not in answer.headers
    assert state not in answer.text


# ----------------------------------------------------------------- what the provider does


@pytest.mark.case(318)
@pytest.mark.case(321)
async def test_a_provider_without_a_logout_of_its_own_is_left_alone(any_site: Any) -> None:
    lacking = ["end_session_endpoint", "revocation_endpoint"]
    any_site.op.misbehave("discovery", AlteredAnswer(without=lacking), times=None)
    browser = any_site.browser()
    await browser.log_in()
    answer = await browser.log_out("?return_to=/bye")
    assert (answer.status_code, answer.headers["location"]) == (303, "/bye")
    assert await browser.user() is None


@pytest.mark.case(317)
async def test_an_id_token_that_is_over_is_a_good_hint(any_site: Any, parse: Any) -> None:
    browser = any_site.browser()
    await browser.log_in()
    any_site.clock.advance(1800)
    answer = await browser.log_out()
    assert "id_token_hint" in parse(answer.headers["location"])
    assert (await browser.op.get(answer.headers["location"])).status_code == 303


@pytest.mark.case(317)
async def test_an_id_token_that_is_too_long_is_left_out(site: Any, parse: Any) -> None:
    browser = site.browser()
    callback = await browser.begin()
    site.op.misbehave("token", WrongClaim({"groups": ["x" * 100] * 60}))
    await browser.get(callback)
    sent = parse((await browser.log_out()).headers["location"])
    assert sent["client_id"] == "app"
    assert "id_token_hint" not in sent


@pytest.mark.case(320)
async def test_a_token_that_the_provider_has_forgotten_counts_as_revoked(site: Any) -> None:
    browser = site.browser()
    await browser.log_in()
    site.op.end_grants("alice")
    assert (await browser.log_out()).status_code == 303
    assert len(site.told(Revoked)) == 1


@pytest.mark.case(321)
@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("kind", ["cookie", "memory", "sqlite", "redis"])
@pytest.mark.parametrize(
    ("fault", "calls"),
    [
        pytest.param(ServerError(503, retry_after=30), 3, id="503"),
        pytest.param(ServerError(500), 3, id="500"),
        pytest.param(TooManyRequests(), 3, id="429"),
        pytest.param(LostAnswer(), 3, id="lost-answer"),
        pytest.param(LostRequest(), 3, id="lost-request"),
        pytest.param(OAuthError("unsupported_token_type"), 1, id="unsupported"),
        pytest.param(RawAnswer(404), 1, id="404"),
        pytest.param(
            RawAnswer(307, {"location": "https://evil.test/"}),
            None,
            id="307",
            marks=pytest.mark.case(323),
        ),
    ],
)
async def test_a_logout_needs_no_provider_that_takes_tokens_back(
    make_login_site: Any, kind: str, fault: Fault, calls: int | None
) -> None:
    site = make_login_site(kind)
    browser = site.browser()
    await browser.log_in()
    site.op.misbehave("revocation", fault, times=None)
    answer = await browser.log_out()
    assert answer.headers["location"].startswith("https://op.test/logout?")
    assert await browser.user() is None
    await site.settle()
    assert len(site.told(RevocationFailed)) == 1
    if calls is not None:
        assert site.op.count("revocation") == calls
    assert site.wire.hosts == {"op.test"}


@pytest.mark.case(321)
@pytest.mark.usefixtures("at_once")
async def test_what_failed_once_is_tried_again_behind_the_scenes(any_site: Any) -> None:
    browser = any_site.browser()
    await browser.log_in()
    any_site.op.misbehave("revocation", ServerError(503), times=2)
    await browser.log_out()
    await any_site.settle()
    assert any_site.live_families() == set()
    assert not any_site.told(RevocationFailed)
    assert len(any_site.told(Revoked)) == 1


@pytest.mark.case(321)
async def test_nobody_waits_for_a_provider_that_does_not_answer(
    any_site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert logout.PATIENCE <= 2.0
    monkeypatch.setattr(logout, "PATIENCE", 0.0)
    browser = any_site.browser()
    await browser.log_in()
    gate = any_site.op.hold("revocation")
    answer = await browser.log_out()
    assert answer.status_code == 303
    assert not any_site.told(Revoked)
    assert await browser.user() is None
    gate.release()
    await any_site.settle()
    assert any_site.live_families() == set()


@pytest.mark.case(321)
async def test_nobody_waits_for_metadata_either(
    make_login_site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logout, "PATIENCE", 0.0)
    site = make_login_site(
        lifetimes=Lifetimes(idle=7 * 86400), revoke_at_logout=False, provider={"timeout": 60}
    )
    browser = site.browser()
    await browser.log_in()
    site.clock.advance(26 * 3600)
    gate = site.op.hold("discovery", times=None)
    async with asyncio.timeout(15):  # a test that would wait for ever fails
        answer = await browser.log_out("?return_to=/bye")
    assert (answer.status_code, answer.headers["location"]) == (303, "/bye")
    assert await browser.user() is None
    gate.release()


@pytest.mark.case(321)
@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("fault", [ServerError(500), HtmlAnswer()], ids=["500", "html"])
async def test_a_logout_needs_no_metadata(make_login_site: Any, fault: Fault) -> None:
    site = make_login_site(lifetimes=Lifetimes(idle=7 * 86400))
    browser = site.browser()
    await browser.log_in()
    site.clock.advance(26 * 3600)
    site.op.misbehave("discovery", fault, times=None)
    assert (await browser.log_out()).headers["location"] == "/"
    assert await browser.user() is None
    await site.settle()
    assert len(site.told(RevocationFailed)) == 1


# ----------------------------------------------------------------- the store


@pytest.mark.case(327)
@pytest.mark.parametrize("operation", ["get_many", "delete", "all"])
async def test_a_logout_while_the_store_is_down_forgets_the_browser(
    site: Any, operation: str
) -> None:
    browser = site.browser()
    await browser.log_in()
    token = (await browser.me())["refresh_token"]
    site.store.down = {operation}
    answer = await browser.log_out()
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "7"
    assert "ends by itself" in answer.text
    assert not browser.cookies()
    assert site.told(StoreFailed)
    await site.settle()
    # Where the session could be read, its refresh token goes back at least.
    assert site.op.is_revoked(token) == (operation == "delete")


@pytest.mark.case(327)
async def test_a_cookie_session_is_over_though_nobody_else_can_be_told(
    make_login_site: Any,
) -> None:
    site = make_login_site("cookie+store")
    browser = site.browser()
    await browser.log_in()
    before = browser.jar()
    site.store.down = {"all"}
    assert (await browser.log_out()).status_code == 503
    assert not browser.cookies()
    await site.settle()
    assert site.live_families() == set()
    site.store.down = set()
    thief = site.browser()
    thief.plant(before)
    assert await thief.user() is None


@pytest.mark.case(312)
@pytest.mark.case(327)
async def test_a_link_of_another_site_ends_nothing_while_the_store_is_down(site: Any) -> None:
    browser = site.browser()
    await browser.log_in()
    async with browser.nothing_changes():
        site.store.down = {"all"}
        answer = await browser.get(f"{LOGOUT}?sid=x", sec_fetch_site="cross-site")
        assert answer.status_code == 503
        site.store.down = set()


@pytest.mark.case(327)
async def test_a_link_of_the_app_works_as_far_as_it_can_while_the_store_is_down(site: Any) -> None:
    browser = site.browser()
    await browser.log_in()
    link = await link_of(browser)
    site.store.down = {"delete"}
    assert (await browser.get(link)).status_code == 503
    assert not browser.cookies()


async def test_a_logout_of_one_browser_leaves_the_others(any_site: Any) -> None:
    browser, other = any_site.browser(), any_site.browser()
    await browser.log_in()
    await other.log_in()
    async with other.nothing_changes():
        await other.me()
    await browser.log_out()
    assert await other.user() == "alice"
    assert any_site.op.is_active((await other.me())["refresh_token"])


async def test_what_the_app_kept_is_gone_after_a_logout(any_site: Any) -> None:
    browser = any_site.browser()
    await browser.log_in()
    await browser.get("/put?cart=7")
    await browser.log_out()
    assert (await browser.me())["data"] == {}
    assert urlsplit((await browser.me())["logout_url"]).query == ""


async def test_a_logout_that_fails_is_no_failed_login(
    site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise ProviderUnavailable("the provider is down")

    browser = site.browser()
    await browser.log_in()
    monkeypatch.setattr(site.auth.revoker, "give_back", fail)
    answer = await browser.log_out()
    assert answer.status_code == 503
    assert site.told(LoginFailure) == []
    assert await browser.user() is None, "the session had ended before"
