"""Sessions in cookies, and the server that coordinates their refreshes fails: never a logout."""

from __future__ import annotations

import asyncio

import pytest

from tokenward.stores.redis import RedisStore

HOUR = 3600


@pytest.fixture
async def sites(make_site, server):
    """Two processes of a site on a server that the test may break, with alice logged in."""
    made = [
        make_site("cookie", store=RedisStore.from_url(server.url, timeout=1.0)) for _ in range(2)
    ]
    await made[0].login("alice")
    made[1].browser._cookies = made[0].browser._cookies
    made[0].provider.requests.clear()
    return made


def redemptions(site):
    return site.provider.count("token", grant_type="refresh_token")


async def assert_served(site):
    """Assert that a user stays known, with the token that he has, and keeps his cookies."""
    before = site.cookies()
    assert await site.who() == "Alice"
    assert (await site.browser.get("/token")).status_code == 200
    assert site.cookies() == before


async def assert_put_off(site):
    """Assert that who needs another token is told to come again, and is not logged out."""
    before = site.cookies()
    response = await site.browser.get("/token")
    assert response.status_code == 503, response.text
    assert int(response.headers["retry-after"]) >= 1
    assert "set-cookie" not in response.headers
    assert site.cookies() == before
    assert await site.who() == "Alice"
    assert redemptions(site) == 0, "no refresh without its lease"


@pytest.mark.case(232)
@pytest.mark.case(234)
@pytest.mark.case(235)
@pytest.mark.case(236)
@pytest.mark.parametrize("trouble", ["gone", "silent", "full", "read-only"])
async def test_no_refresh_runs_and_nobody_is_logged_out_until_the_server_is_back(
    sites, server, admin, trouble
):
    begin, end = {
        "gone": (server.kill, server.start),
        "silent": (server.pause, server.go_on),
        "full": (
            lambda: admin.config_set("maxmemory", 1),
            lambda: admin.config_set("maxmemory", 0),
        ),
        "read-only": (
            lambda: admin.execute_command("REPLICAOF", "127.0.0.1", "1"),
            lambda: admin.execute_command("REPLICAOF", "NO", "ONE"),
        ),
    }[trouble]
    begin()
    for site in sites:
        await assert_served(site)
    sites[0].clock.advance(HOUR)
    for site in sites:
        await assert_put_off(site)
    end()
    sites[0].clock.advance(2)
    asked = [site.browser.get("/token") for site in sites * 5]
    answers = await asyncio.gather(*asked)
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.text for answer in answers}) == 1
    assert redemptions(sites[0]) == 1


@pytest.mark.case(237)
async def test_a_server_that_comes_back_empty_costs_nobody_his_session(sites, server):
    server.kill()
    server.start()
    sites[0].clock.advance(HOUR)
    for site in sites:
        assert (await site.browser.get("/token")).status_code == 200
        assert await site.who() == "Alice"
    assert redemptions(sites[0]) == 1


@pytest.mark.case(233)
async def test_what_a_refresh_brings_while_the_server_stands_still_is_in_the_answer(sites, server):
    here, there = sites
    here.clock.advance(HOUR)
    gate = here.provider.hold("token", after_acting=True)
    asked = asyncio.ensure_future(here.browser.get("/token"))
    await gate.entered.wait()
    server.pause()
    gate.release()
    answer = await asked
    assert answer.status_code == 200
    assert "set-cookie" in answer.headers
    server.go_on()
    await here.auth.user_tokens.drain(timeout=10)
    here.clock.advance(2)
    again = await there.browser.get("/token")
    assert (again.status_code, again.text) == (200, answer.text)
    assert redemptions(here) == 1


async def test_a_cookie_that_may_be_out_of_date_is_not_sent_again_while_nobody_can_tell(
    sites, server
):
    """It would take the place of the newer one in the browser, and be spent a second time."""
    here, there = sites
    old = "; ".join(f"{name}={value}" for name, value in here.cookies().items())
    here.clock.advance(HOUR)
    assert (await here.browser.get("/token")).status_code == 200
    server.kill()
    late = await there.send(old, "/me")
    assert late.json()["name"] == "Alice"
    assert "set-cookie" not in late.headers
    server.start()
    here.clock.advance(HOUR)
    assert (await here.browser.get("/token")).status_code == 200
    assert [family.ended for family in here.provider.families] == [None]


async def test_a_logout_without_the_server_is_told_and_the_browser_forgets(sites, server):
    here, there = sites
    server.kill()
    answer = await here.browser.post("/auth/logout", headers={"origin": "https://app.test"})
    assert answer.status_code in {303, 503}
    assert await here.who() == ""
    server.start()
    there.clock.advance(HOUR)
    assert await there.who() == ""
