"""What users see when the server that holds their sessions fails: never a logout."""

from __future__ import annotations

import asyncio

import pytest

from tokenward.events import StoreFailed
from tokenward.stores.redis import RedisStore
from tokenward.testing import login_as

HOUR = 3600


@pytest.fixture
async def site(make_site, server):
    """A site on a server that the test may break, with alice logged in."""
    site = make_site("redis", store=RedisStore.from_url(server.url, timeout=1.0))
    await site.login("alice")
    site.provider.requests.clear()
    return site


def redemptions(site):
    return site.provider.count("token", grant_type="refresh_token")


async def assert_put_off(site, path):
    """Assert that a request is told to come again, and that the browser keeps its cookies."""
    before = site.cookies()
    response = await site.browser.get(path)
    assert response.status_code == 503, response.text
    assert int(response.headers["retry-after"]) >= 1
    assert "set-cookie" not in response.headers
    assert site.cookies() == before


@pytest.mark.case(235)
async def test_a_server_that_stands_still_puts_requests_off_and_logs_nobody_out(site, server):
    server.pause()
    await assert_put_off(site, "/me")
    await assert_put_off(site, "/token")
    assert (await site.browser.get("/")).status_code == 200
    server.go_on()
    assert await site.who() == "Alice"


@pytest.mark.case(232)
@pytest.mark.case(236)
async def test_a_server_that_is_gone_puts_refreshes_off_and_spends_nothing(site, server):
    site.clock.advance(HOUR)
    server.kill()
    await assert_put_off(site, "/token")
    await assert_put_off(site, "/me")
    assert redemptions(site) == 0
    server.start()


@pytest.mark.case(237)
async def test_a_server_that_comes_back_empty_asks_everybody_to_log_in_and_lets_them(site, server):
    server.kill()
    server.start()
    assert await site.who() == ""
    assert (await site.browser.get("/token")).status_code == 401
    await site.login("alice")
    assert await site.who() == "Alice"


async def test_a_server_that_was_flushed_asks_everybody_to_log_in_and_lets_them(site, admin):
    admin.flushall()
    admin.script_flush()
    assert await site.who() == ""
    await site.login("alice")
    assert (await site.browser.get("/token")).status_code == 200


@pytest.mark.case(234)
@pytest.mark.parametrize(
    ("begin", "end"),
    [
        pytest.param(
            ("REPLICAOF", "127.0.0.1", "1"), ("REPLICAOF", "NO", "ONE"), id="a read-only replica"
        ),
        pytest.param(
            ("CONFIG", "SET", "maxmemory", "1"),
            ("CONFIG", "SET", "maxmemory", "0"),
            id="out of memory",
        ),
    ],
)
async def test_a_server_that_takes_no_writes_serves_valid_tokens_and_spends_none(
    site, admin, begin, end
):
    admin.execute_command(*begin)
    assert await site.who() == "Alice"
    assert (await site.browser.get("/token")).status_code == 200
    site.clock.advance(HOUR)
    await assert_put_off(site, "/token")
    assert redemptions(site) == 0
    assert await site.who() == "Alice"
    admin.execute_command(*end)
    assert (await site.browser.get("/token")).status_code == 200
    assert redemptions(site) == 1


@pytest.mark.parametrize("operation", ["refresh", "write", "login"])
async def test_who_runs_the_app_is_told_why_a_request_was_put_off(site, admin, operation):
    site.clock.advance(HOUR)
    admin.execute_command("REPLICAOF", "127.0.0.1", "1")
    if operation == "refresh":
        response = await site.browser.get("/token")
    elif operation == "write":
        response = await site.browser.patch("/session", json={"a": 1})
    else:
        response = await login_as(site.new_browser(), "alice", provider=site.provider)
    admin.execute_command("REPLICAOF", "NO", "ONE")
    assert response.status_code == 503
    (failed,) = [event for event in site.events if isinstance(event, StoreFailed)]
    assert failed.operation == operation
    assert "READONLY" in failed.error


@pytest.mark.case(234)
async def test_a_server_that_wants_a_password_suddenly_logs_nobody_out(site, admin):
    admin.config_set("requirepass", "hunter2")
    admin.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    await assert_put_off(site, "/me")
    admin.config_set("requirepass", "")
    assert await site.who() == "Alice"


@pytest.mark.case(233)
async def test_what_a_refresh_brings_while_the_server_stands_still_is_served_and_saved_later(
    site, server
):
    site.clock.advance(HOUR)
    gate = site.provider.hold("token", after_acting=True)
    asked = asyncio.ensure_future(site.browser.get("/token"))
    await gate.entered.wait()
    server.pause()
    gate.release()
    answer = await asked
    assert answer.status_code == 200
    server.go_on()
    await site.auth.user_tokens.drain(timeout=10)
    again = await site.browser.get("/token")
    assert (again.status_code, again.text) == (200, answer.text)
    assert redemptions(site) == 1
    assert await site.auth.stored.look_up(await only_key(site))


async def only_key(site):
    (session,) = await site.auth.sessions.list(sub="alice")
    return session.id


@pytest.mark.case(239)
async def test_a_session_that_was_evicted_during_its_refresh_is_not_created_again(site, admin):
    site.clock.advance(HOUR)
    gate = site.provider.hold("token", after_acting=True)
    asked = asyncio.ensure_future(site.browser.get("/token"))
    await gate.entered.wait()
    (name,) = admin.keys("tokenward:value:*:session")
    admin.delete(name)
    gate.release()
    assert (await asked).status_code == 401
    assert not admin.exists(name)
    assert await site.who() == ""
    await site.auth.revoker.drain(timeout=10)
    assert site.provider.count("revocation") == 1


@pytest.mark.case(238)
async def test_a_refresh_token_that_a_failover_brought_back_costs_one_login(site, admin):
    (name,) = admin.keys("tokenward:value:*:session")
    before = admin.get(name)
    site.clock.advance(HOUR)
    assert (await site.browser.get("/token")).status_code == 200
    admin.set(name, before, px=60_000)  # the last second is lost
    site.clock.advance(HOUR)
    assert (await site.browser.get("/token")).status_code == 401
    assert await site.who() == ""
    await site.login("alice")
    assert (await site.browser.get("/token")).status_code == 200


@pytest.mark.case(287)
async def test_a_cookie_that_is_replayed_after_the_logout_is_nobodys(site):
    cookies = dict(site.browser.cookies)
    await site.browser.post("/auth/logout", headers={"origin": "https://app.test"})
    other = site.new_browser()
    other.cookies.update(cookies)
    assert await site.who(other) == ""


@pytest.mark.case(288)
@pytest.mark.case(294)
@pytest.mark.case(307)
async def test_who_reads_or_writes_the_server_has_no_session_of_anybody(site, admin):
    """Neither is a key a login, nor does a value work that was moved or changed."""
    (name,) = admin.keys("tokenward:value:*:session")
    value, key = admin.get(name), name.decode().partition("{")[2].partition("}")[0]
    assert (await site.send(f"__Host-tokenward={key}")).json()["known"] is False
    assert b"Alice" not in value
    bob = site.new_browser()
    await site.login("bob", bob)
    (bobs,) = set(admin.keys("tokenward:value:*:session")) - {name}
    admin.set(bobs, value, px=60_000)
    assert await site.who(bob) == ""
    admin.set(name, value[:-1] + bytes([value[-1] ^ 1]), px=60_000)
    assert await site.who() == ""
    for junk in (b"", b"short", b"1" * 32, b"x" * 100):
        admin.set(name, junk, px=60_000)
        assert await site.who() == ""
