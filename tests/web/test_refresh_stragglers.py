"""Requests that still carry the cookie from before a refresh, in one process and in two."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tokenward.sealing import Unsealable
from tokenward.stores.memory import MemoryStore
from tokenward.testing import Client

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import MakeSite, Raw, Site
    from tokenward.testing import FrozenClock, Provider
    from tokenward.tokens.interfaces import Store

HOUR = 3600
SESSION = "__Host-tokenward"


def header(site: Site) -> bytes:
    """Return the Cookie header that the browser would send now."""
    return "; ".join(f"{name}={value}" for name, value in site.cookies().items()).encode()


def given(answer: Raw) -> bytes:
    """Return the Cookie header of a browser that took the cookies of `answer`."""
    assert answer.set_cookies
    assert not answer.cleared
    return "; ".join(line.partition(";")[0] for line in answer.set_cookies).encode()


def refreshes(site: Site) -> int:
    return site.provider.count("token", grant_type="refresh_token")


async def logged_in(site: Site) -> bytes:
    """Log in, let the access token run out, and return the Cookie header."""
    await site.login()
    site.clock.advance(HOUR)
    return header(site)


async def log_out(site: Site, cookie: bytes) -> None:
    response = await site.new_browser().post(
        "/auth/logout", headers=[(b"cookie", cookie), (b"sec-fetch-site", b"same-origin")]
    )
    assert response.status_code == 303


@pytest.fixture(params=["alone", "beside a store"])
def coordinated(
    request: pytest.FixtureRequest, shared_store: Callable[[], Store]
) -> Callable[[], Store] | None:
    """Sessions in cookies of one process alone, and of processes that share a store."""
    return shared_store if request.param == "beside a store" else None


@pytest.mark.case(252)
@pytest.mark.parametrize("seconds", [0, 1, 10, 29])
async def test_a_late_request_is_served_and_its_answer_carries_the_newest_cookie(
    make_site: MakeSite, coordinated: Callable[[], Store] | None, seconds: int
) -> None:
    site = make_site("cookie", store=coordinated and coordinated())
    old = await logged_in(site)
    first = await site.ask("/token", cookie=old)
    site.clock.advance(seconds)
    late = [await site.ask("/token", cookie=old) for _ in range(3)]
    assert {answer.body for answer in late} == {first.body}
    assert refreshes(site) == 1
    # What they carry is good for the next refresh: the newest refresh token is in it.
    newest = given(late[-1])
    assert old != newest
    site.clock.advance(HOUR)
    assert (await site.ask("/token", cookie=newest)).status == 200
    assert refreshes(site) == 2
    assert [family.ended for family in site.provider.families] == [None]


@pytest.mark.case(252)
async def test_late_requests_in_another_process_find_the_result_too(
    make_site: MakeSite, shared_store: Callable[[], Store]
) -> None:
    here, there = (make_site("cookie", store=shared_store()) for _ in range(2))
    old = await logged_in(here)
    first = await here.ask("/token", cookie=old)
    late = await there.ask("/token", cookie=old)
    assert late.body == first.body
    assert refreshes(here) == 1
    newest = given(late)
    here.clock.advance(HOUR)
    assert (await here.ask("/token", cookie=newest)).status == 200
    assert [family.ended for family in here.provider.families] == [None]


@pytest.mark.case(252)
async def test_two_processes_that_share_a_store_refresh_once(
    make_site: MakeSite, shared_store: Callable[[], Store]
) -> None:
    sites = [make_site("cookie", store=shared_store()) for _ in range(2)]
    old = await logged_in(sites[0])
    asked = (site.ask("/token", cookie=old) for _ in range(25) for site in sites)
    answers = await asyncio.gather(*asked)
    assert {answer.status for answer in answers} == {200}
    assert len({answer.body for answer in answers}) == 1
    assert refreshes(sites[0]) == 1


@pytest.mark.case(252)
async def test_after_a_logout_the_old_cookie_brings_neither_session_nor_cookie(
    make_site: MakeSite, shared_store: Callable[[], Store]
) -> None:
    here, there = (make_site("cookie", store=shared_store()) for _ in range(2))
    old = await logged_in(here)
    newest = given(await here.ask("/token", cookie=old))
    await log_out(there, newest)
    for site in (here, there):
        for cookie in (old, newest):
            answer = await site.ask("/token", cookie=cookie)
            assert answer.status == 401
            assert not [line for line in answer.set_cookies if "Max-Age=0" not in line]
    assert refreshes(here) == 1
    await there.auth.revoker.drain(timeout=10)
    assert [family.ended for family in here.provider.families] == ["revoked"]


@pytest.mark.case(240)
async def test_a_logout_with_the_old_cookie_ends_what_it_was_refreshed_into(
    make_site: MakeSite, shared_store: Callable[[], Store]
) -> None:
    here, there = (make_site("cookie", store=shared_store()) for _ in range(2))
    old = await logged_in(here)
    newest = given(await here.ask("/token", cookie=old))
    await log_out(there, old)
    await there.auth.revoker.drain(timeout=10)
    assert (await here.ask("/token", cookie=newest)).status == 401
    assert [family.ended for family in here.provider.families] == ["revoked"]


@pytest.mark.case(240)
async def test_a_logout_elsewhere_during_the_refresh_wins(
    make_site: MakeSite, shared_store: Callable[[], Store]
) -> None:
    here, there = (make_site("cookie", store=shared_store()) for _ in range(2))
    old = await logged_in(here)
    gate = here.provider.hold("token", after_acting=True)
    asked = asyncio.ensure_future(here.ask("/token", cookie=old))
    await gate.entered.wait()
    await log_out(there, old)
    gate.release()
    answer = await asked
    assert answer.status == 401
    assert not [line for line in answer.set_cookies if "Max-Age=0" not in line]
    for site in (here, there):
        await site.auth.user_tokens.drain(timeout=10)
        await site.auth.revoker.drain(timeout=10)
    assert [family.ended for family in here.provider.families] == ["revoked"]


@pytest.mark.case(286)
@pytest.mark.parametrize("hours", [0, 1, 7])
async def test_a_logout_is_known_to_all_processes_until_the_session_would_have_ended(
    make_site: MakeSite, shared_store: Callable[[], Store], hours: int
) -> None:
    """The cookie from before is replayed where nobody logged out."""
    here, there = (make_site("cookie", store=shared_store()) for _ in range(2))
    await here.login()
    await here.keep(cart=[1])
    stolen = header(here)
    assert (await there.ask("/me", cookie=stolen)).json()["name"] == "Alice"
    await log_out(here, stolen)
    here.clock.advance(hours * HOUR)
    answers = {path: await there.ask(path, cookie=stolen) for path in ("/session", "/me", "/token")}
    assert answers["/session"].json() == {}
    assert answers["/me"].json()["known"] is False
    assert answers["/token"].status == 401
    for answer in answers.values():
        assert answer.set_cookies == [], "it may be late, and the browser have a newer one"
    assert refreshes(here) == 0


@pytest.mark.case(286)
async def test_while_the_store_is_out_of_reach_nobody_is_taken_for_logged_out(
    make_site: MakeSite, shared_store: Callable[[], Store]
) -> None:
    site, other = (make_site("cookie", store=shared_store()) for _ in range(2))
    await site.login()
    assert site.store is not None
    await log_out(other, header(site))
    site.store.break_("all")
    site.store.calls.clear()
    for _ in range(3):
        assert await site.who() == "Alice"
        assert (await site.browser.get("/token")).status_code == 200
    assert len(site.store.calls) == 1, "it is not asked at every request"
    site.store.break_()
    site.clock.advance(2)
    assert await site.who() == "", "healthy again in two seconds, by itself"


@pytest.mark.case(254)
@pytest.mark.parametrize("last", [0, 1, 2, 3], ids=["none", "first", "second", "third"])
async def test_whichever_answer_came_last_the_next_one_puts_it_right(
    make_site: MakeSite,
    coordinated: Callable[[], Store] | None,
    oidc_provider: Provider,
    last: int,
) -> None:
    app = oidc_provider.clients["app"]
    oidc_provider.register(Client("app", redirect_uris=app.redirect_uris, access_token_lifetime=7))
    site = make_site("cookie", store=coordinated and coordinated())
    await site.login()
    cookies = [header(site)]
    for _ in range(3):
        site.clock.advance(7)
        newest = await site.ask("/token", cookie=cookies[-1])
        cookies.append(given(newest))
    assert refreshes(site) == 3
    answer = await site.ask("/token", cookie=cookies[last])
    assert answer.body == newest.body
    left_with = given(answer) if answer.set_cookies else cookies[last]
    site.clock.advance(HOUR)
    assert (await site.ask("/token", cookie=left_with)).status == 200
    assert refreshes(site) == 4
    assert [family.ended for family in site.provider.families] == [None]


@pytest.mark.case(198)
async def test_a_provider_that_does_not_rotate_is_asked_once_per_expiry_too(
    make_site: MakeSite, coordinated: Callable[[], Store] | None, oidc_provider: Provider
) -> None:
    app = oidc_provider.clients["app"]
    oidc_provider.register(
        Client("app", redirect_uris=app.redirect_uris, refresh_token_rotation=False)
    )
    site = make_site("cookie", store=coordinated and coordinated())
    cookie = await logged_in(site)
    for expiries in (1, 2, 3):
        answers = await asyncio.gather(*(site.ask("/token", cookie=cookie) for _ in range(10)))
        late = await site.ask("/token", cookie=cookie)
        assert {answer.body for answer in (*answers, late)} == {late.body}
        assert refreshes(site) == expiries
        cookie = given(late)
        site.clock.advance(HOUR)


@pytest.mark.case(254)
async def test_who_only_reads_the_user_is_given_the_newest_cookie_when_one_is_written(
    make_site: MakeSite,
    coordinated: Callable[[], Store] | None,
) -> None:
    """A cookie that is written again for being old must not bring back the old tokens."""
    site = make_site("cookie", store=coordinated and coordinated())
    old = await logged_in(site)
    newest = given(await site.ask("/token", cookie=old))
    answer = await site.ask("/me", cookie=old)
    assert answer.json()["name"] == "Alice"
    if answer.set_cookies:
        site.clock.advance(HOUR)
        assert (await site.ask("/token", cookie=given(answer))).status == 200
    else:
        site.clock.advance(HOUR)
        assert (await site.ask("/token", cookie=newest)).status == 200
    assert refreshes(site) == 2
    assert [family.ended for family in site.provider.families] == [None]


@pytest.mark.case(252)
async def test_the_old_cookie_alone_does_not_open_what_waits_in_the_store(
    make_site: MakeSite, frozen_clock: FrozenClock
) -> None:
    store = MemoryStore(clock=frozen_clock)
    site = make_site("cookie", store=store)
    old = await logged_in(site)
    answer = await site.ask("/token", cookie=old)
    entries = site.entries()
    waiting = [entry.value for key, entry in entries.items() if ":spent-" in key and entry.value]
    assert len(waiting) == 1
    assert answer.body not in waiting[0]
    purposes = ("straggler", "session-cookie", "session")
    for key in entries:
        for purpose in purposes:
            with pytest.raises(Unsealable):
                site.auth.ring.open(waiting[0], purpose=purpose, record=key)
