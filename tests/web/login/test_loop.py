"""A browser that is sent to log in again and again is stopped, and told."""

from __future__ import annotations

from typing import Any, Final

import pytest

from tokenward.events import LoginFailure
from tokenward.testing import AlteredAnswer

LOGIN: Final = "/auth/login"


async def visit(browser: Any, *, lose: bool) -> Any:
    """Ask for a page that needs a login, and follow until something else than a redirect comes."""
    answer = await browser.get("/token")
    for _ in range(20):
        if answer.status_code != 303:
            return answer
        address = answer.headers["location"]
        if address.startswith("https://op.test/"):
            address = await browser.ask("alice", address)
        answer = await browser.get(address)
        if lose:
            for name in browser.cookies():
                browser.app.cookies.delete(name, domain="app.test", path="/")
    return answer


@pytest.mark.case(84)
async def test_a_browser_that_keeps_no_session_is_stopped_after_three_logins(any_site: Any) -> None:
    browser = any_site.browser()
    answer = await visit(browser, lose=True)
    assert answer.status_code == 400
    assert "login_loop" in answer.text
    assert any_site.exchanges == 3
    assert any_site.told(LoginFailure)[-1].reason == "login_loop"
    any_site.clock.advance(61)
    assert (await browser.get(LOGIN)).status_code == 303


@pytest.mark.case(84)
async def test_tokens_that_are_over_at_once_make_no_loop(make_login_site: Any) -> None:
    site = make_login_site("memory", provider={"scope": "openid"})
    site.op.misbehave("token", AlteredAnswer({"expires_in": 0}), times=None)
    answer = await visit(site.browser(), lose=False)
    assert answer.status_code == 400
    assert "login_loop" in answer.text
    assert site.exchanges == 3


@pytest.mark.case(84)
async def test_without_any_cookies_there_is_no_loop(site: Any) -> None:
    browser = site.browser()
    callback = await browser.begin()
    browser.app.cookies.clear()
    answer = await browser.get(callback)
    assert answer.status_code == 400
    assert "location" not in answer.headers
    assert f'href="{LOGIN}"' in answer.text


async def test_a_script_is_told_of_the_loop_in_json(site: Any) -> None:
    browser = site.browser()
    await visit(browser, lose=True)
    answer = await browser.app.get(LOGIN)
    assert (answer.status_code, answer.json()["error"]) == (400, "login_failed")


async def test_who_logs_out_in_between_may_log_in_as_often_as_he_likes(any_site: Any) -> None:
    browser = any_site.browser()
    for _ in range(5):
        await browser.log_in()
        await browser.log_out()
    assert not browser.cookies("loop")


async def test_who_takes_his_time_may_log_in_as_often_as_he_likes(site: Any) -> None:
    browser = site.browser()
    for _ in range(6):
        await browser.log_in()
        site.clock.advance(25)


async def test_a_mark_that_somebody_made_up_stops_nobody(site: Any) -> None:
    browser = site.browser()
    await visit(browser, lose=True)
    (name,) = browser.cookies("loop")
    browser.plant({name: "AAAA"})
    assert (await browser.get(LOGIN)).status_code == 303


async def test_who_changes_accounts_may_log_in_as_often_as_he_likes(any_site: Any) -> None:
    browser = any_site.browser()
    for user in ["alice", "bob"] * 4:
        await browser.log_in(user)
        assert await browser.user() == user
        any_site.clock.advance(2)


async def test_a_session_whose_token_can_be_renewed_is_of_use(any_site: Any) -> None:
    any_site.op.misbehave("token", AlteredAnswer({"expires_in": 1}), times=None)
    browser = any_site.browser()
    for _ in range(5):
        await browser.log_in()
        any_site.clock.advance(5)


async def test_a_login_that_stuck_makes_those_before_it_not_count(any_site: Any) -> None:
    browser = any_site.browser()
    for _ in range(3):
        for _ in range(2):
            await browser.log_in()
            for name in browser.cookies():
                browser.app.cookies.delete(name, domain="app.test", path="/")
        await browser.log_in()
        assert await browser.user() == "alice"
        assert (await browser.get(LOGIN)).status_code == 303, "it is forgotten here"
        for name in browser.cookies():
            browser.app.cookies.delete(name, domain="app.test", path="/")


@pytest.mark.parametrize("kind", ["memory", "sqlite", "redis", "cookie+store"])
async def test_a_store_that_is_down_says_nothing_of_the_last_login(
    make_login_site: Any, kind: str
) -> None:
    site = make_login_site(kind)
    browser = site.browser()
    await browser.log_in()
    site.store.down = {"get", "get_many", "touch", "put"}
    for _ in range(3):
        assert (await browser.get(LOGIN)).status_code == 303


@pytest.mark.case(85)
async def test_a_silent_login_that_needs_the_user_ends_each_time(any_site: Any) -> None:
    browser = any_site.browser()
    for _ in range(2):
        started = await browser.get(f"{LOGIN}?prompt=none")
        answer = await browser.op.get(started.headers["location"])
        async with browser.refused(attempt_ends=True):
            answer = await browser.get(answer.headers["location"])
        assert answer.status_code == 400
        assert "location" not in answer.headers
    assert [failure.reason for failure in any_site.told(LoginFailure)] == ["login_required"] * 2
