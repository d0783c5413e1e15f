"""What administrators do with sessions: `auth.sessions`, over every store."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from tokenward import OpenIDProvider
from tokenward.errors import ConfigurationError, Conflict, StoreUnavailable
from tokenward.events import SessionEnded
from tokenward.stores.memory import MemoryStore


async def sid_of(site, browser):
    """Return the provider's name for the session of a browser."""
    session = await site.auth.stored.look_up(browser.session)
    return session.proof["sid"]


async def log_in(site, sub="alice"):
    """Log in with another browser, and remember the session's name in it."""
    browser = site.new_browser()
    before = {session.id for session in await site.auth.sessions.list(sub=sub)}
    site.clock.advance(1)
    await site.login(sub, browser)
    (new,) = {session.id for session in await site.auth.sessions.list(sub=sub)} - before
    browser.session = new
    return browser


def refresh_tokens_given_back(site):
    return site.provider.count("revocation")


@pytest.mark.case(293)
async def test_a_users_sessions_are_listed_newest_first(make_site, stored):
    site = make_site(stored)
    first, second = await log_in(site), await log_in(site)
    found = await site.auth.sessions.list(sub="alice")
    assert [session.id for session in found] == [second.session, first.session]
    assert [session.user.name for session in found] == ["Alice", "Alice"]
    assert [session.provider for session in found] == ["default", "default"]
    assert found[0].created_at > found[1].created_at
    assert found[0].renewed_at == found[0].created_at
    assert found[0].expires_at > found[0].created_at
    assert found[0].id not in repr(found[0])
    assert await site.auth.sessions.list(sub="bob") == ()


@pytest.mark.case(293)
@pytest.mark.case(308)
async def test_ending_one_session_leaves_the_users_others_alone_and_findable(make_site, stored):
    site = make_site(stored)
    first, second, third = [await log_in(site) for _ in range(3)]
    assert await site.auth.sessions.end(id=second.session) == 1
    assert [await site.who(browser) for browser in (first, second, third)] == ["Alice", "", "Alice"]
    left = await site.auth.sessions.list(sub="alice")
    assert {session.id for session in left} == {first.session, third.session}
    assert await site.auth.sessions.end(sub="alice") == 2
    assert [await site.who(browser) for browser in (first, third)] == ["", ""]


async def test_ending_all_sessions_of_a_user_leaves_other_users_alone(make_site, stored):
    site = make_site(stored)
    alices, bob = [await log_in(site) for _ in range(2)], await log_in(site, "bob")
    assert await site.auth.sessions.end(sub="alice") == 2
    assert [await site.who(browser) for browser in (*alices, bob)] == ["", "", "Bob"]
    assert await site.auth.sessions.end(sub="alice") == 0
    assert await site.auth.sessions.list(sub="alice") == ()
    assert len(await site.auth.sessions.list(sub="bob")) == 1


async def test_what_belongs_to_a_session_of_the_provider_is_ended_by_its_sid(make_site, stored):
    site = make_site(stored, claims=["email"])
    first, second = await log_in(site), await log_in(site)
    sid = await sid_of(site, first)
    assert sid != await sid_of(site, second)
    assert await site.auth.sessions.end(sid="another") == 0
    assert await site.auth.sessions.end(sid=sid) == 1
    assert [await site.who(browser) for browser in (first, second)] == ["", "Alice"]


async def test_an_end_gives_the_refresh_token_back_and_is_told(make_site, stored):
    site = make_site(stored)
    browser = await log_in(site)
    assert await site.auth.sessions.end(id=browser.session) == 1
    await site.auth.revoker.drain(timeout=10)
    assert refresh_tokens_given_back(site) == 1
    (event,) = [event for event in site.events if isinstance(event, SessionEnded)]
    assert event.reason == "administrator"
    assert event.session


async def test_an_app_that_does_not_revoke_at_logout_does_not_revoke_here(make_site, stored):
    site = make_site(stored, revoke_at_logout=False)
    await log_in(site)
    assert await site.auth.sessions.end(sub="alice") == 1
    await site.auth.revoker.drain(timeout=10)
    assert refresh_tokens_given_back(site) == 0


@pytest.mark.case(240)
async def test_an_end_wins_against_a_refresh_under_way(make_site, stored):
    site = make_site(stored)
    browser = await log_in(site)
    site.clock.advance(3600)
    gate = site.provider.hold("token", after_acting=True)
    asked = asyncio.ensure_future(browser.get("/token"))
    await gate.entered.wait()
    assert await site.auth.sessions.end(sub="alice") == 1
    gate.release()
    assert (await asked).status_code == 401
    assert await site.who(browser) == ""
    assert await site.auth.sessions.list(sub="alice") == ()


@pytest.mark.case(241)
async def test_a_providers_end_of_a_session_wins_against_its_refresh_under_way(make_site, stored):
    """It names the session by `sid`, as its logout token does."""
    site = make_site(stored)
    browser, other = await log_in(site), await log_in(site)
    site.clock.advance(3600)
    gate = site.provider.hold("token", after_acting=True)
    asked = asyncio.ensure_future(browser.get("/token"))
    await gate.entered.wait()
    sid = await sid_of(site, browser)
    assert await site.auth.sessions.end(sid=sid) == 1
    gate.release()
    assert (await asked).status_code == 401
    await site.auth.revoker.drain(timeout=10)
    (ended,) = [family.grant.sid for family in site.provider.families if family.ended]
    assert ended == sid
    assert await site.auth.stored.look_up(browser.session) is None
    assert await site.who(browser) == ""
    assert (await other.get("/token")).status_code == 200


@pytest.mark.case(240)
@pytest.mark.parametrize("ending", ["administrator", "logout", "refused"])
async def test_whatever_ended_a_session_nothing_in_flight_writes_it_again(
    make_site, stored, ending
):
    site = make_site(stored)
    browser = await log_in(site)
    session = await site.auth.stored.look_up(browser.session)
    if ending == "administrator":
        await site.auth.sessions.end(id=session.id)
    elif ending == "logout":
        await browser.post("/auth/logout", headers={"origin": "https://app.test"})
    else:
        site.provider.end_grants("alice")
        site.clock.advance(3600)
        assert (await browser.get("/token")).status_code == 401
    with pytest.raises(Conflict):
        await site.auth.stored.create(session)
    assert await site.auth.stored.look_up(session.id) is None


async def test_a_login_under_way_does_not_survive_the_end_of_what_it_begins(make_site, stored):
    """Between the entry in the index and the record itself, an end finds the entry."""
    site = make_site(stored)
    put, ended = site.auth.stored._store.put, []

    async def end_first(key, value, **how):
        if key.endswith(":session") and value:
            ended.append(await site.auth.sessions.end(sub="alice"))
        return await put(key, value, **how)

    site.auth.stored._store.put = end_first
    await site.log_in(site.browser, "alice")
    assert ended == [0]
    assert await site.who() == ""
    assert await site.auth.sessions.list(sub="alice") == ()


async def test_a_logout_takes_the_session_from_the_list(make_site, stored):
    site = make_site(stored)
    browser = await log_in(site)
    index = site.auth.stored.index
    assert len(await index.of_user(site.provider.issuer, "alice")) == 1
    await browser.post("/auth/logout", headers={"origin": "https://app.test"})
    assert await index.of_user(site.provider.issuer, "alice") == frozenset()


async def test_a_session_that_is_over_is_not_listed(make_site, stored):
    site = make_site(stored)
    await log_in(site)
    site.clock.advance(10 * 24 * 3600)
    assert await site.auth.sessions.list(sub="alice") == ()


async def test_sessions_found_under_an_old_key_are_still_found(make_site, other_key):
    store = MemoryStore()
    old = make_site("memory", store=store)
    browser = await log_in(old)
    new = make_site(
        "memory",
        store=store,
        secret_key=[other_key, "fuvQBj8B5pts7Km2TfoqPp9ocLVoYlb1z0okhjW-0eHqN5Eh610NzZL7I6tl265Q"],
    )
    assert [s.id for s in await new.auth.sessions.list(sub="alice")] == [browser.session]
    assert await new.auth.sessions.end(sub="alice") == 1
    assert await old.who(browser) == ""
    assert await old.auth.sessions.list(sub="alice") == ()


@pytest.mark.case(307)
async def test_the_store_does_not_learn_who_the_user_is(make_site):
    site = make_site("memory")
    await log_in(site)
    names = list(site.store.inner._indexes)
    assert len(names) == 2
    assert not any("alice" in name or "op.test" in name for name in names)


@pytest.mark.case(306)
async def test_sessions_of_another_app_on_the_same_store_and_key_are_left_alone(
    make_site, oidc_provider
):
    store = MemoryStore()
    oidc_provider.register(replace(oidc_provider.clients["app"], client_id="other"))
    ours, theirs = (make_site("memory", store=store, client_id=name) for name in ("app", "other"))
    browser = await log_in(theirs)
    assert await ours.auth.sessions.list(sub="alice") == ()
    assert await ours.auth.sessions.end(sub="alice") == 0
    assert await ours.auth.sessions.end(id=browser.session) == 0
    assert await theirs.who(browser) == "Alice"
    assert len(await theirs.auth.sessions.list(sub="alice")) == 1


async def test_sessions_in_cookies_are_refused(make_site):
    site = make_site("cookie")
    with pytest.raises(ConfigurationError, match="cookies"):
        await site.auth.sessions.list(sub="alice")
    with pytest.raises(ConfigurationError, match="cookies"):
        await site.auth.sessions.end(sub="alice")


@pytest.mark.parametrize(
    "which",
    [{}, {"sub": "a", "sid": "b"}, {"id": "a", "sub": "b"}, {"id": "a", "sid": "b", "sub": "c"}],
)
async def test_it_must_be_clear_what_is_to_end(make_site, which):
    with pytest.raises(ValueError, match="exactly one"):
        await make_site("memory").auth.sessions.end(**which)


async def test_with_several_issuers_one_must_be_named(make_site, frozen_clock):
    providers = {
        name: OpenIDProvider(f"https://{name}.test", client_id="app", client_secret="s")
        for name in ("one", "two")
    }
    site = make_site("memory", provider=None, providers=providers)
    with pytest.raises(ValueError, match="issuer"):
        await site.auth.sessions.list(sub="alice")
    assert await site.auth.sessions.list(sub="alice", issuer="https://one.test") == ()
    with pytest.raises(ValueError, match="issuer"):
        await site.auth.sessions.end(sid="s")


async def test_a_store_out_of_reach_is_told(make_site, stored):
    site = make_site(stored)
    browser = await log_in(site)
    site.store.break_("members")
    with pytest.raises(StoreUnavailable):
        await site.auth.sessions.list(sub="alice")
    with pytest.raises(StoreUnavailable):
        await site.auth.sessions.end(sub="alice")
    site.store.break_()
    assert await site.who(browser) == "Alice"


async def test_an_index_that_cannot_be_tidied_fails_no_logout(make_site, stored):
    site = make_site(stored)
    browser = await log_in(site)
    site.store.break_("discard")
    assert await site.auth.sessions.end(sub="alice") == 1
    site.store.break_()
    assert await site.who(browser) == ""
    assert await site.auth.sessions.list(sub="alice") == ()
    assert await site.auth.sessions.end(sub="alice") == 0


class Gated(MemoryStore):
    """Holds the writing of a session until a gate is opened."""

    def __init__(self, clock):
        super().__init__(clock)
        self.came, self.gate = asyncio.Event(), asyncio.Event()

    async def put(self, key, value, **options):
        if key.endswith(":session") and value and not self.gate.is_set():
            self.came.set()
            await self.gate.wait()
        return await super().put(key, value, **options)


async def test_a_login_that_comes_to_its_end_amid_an_end_gives_its_refresh_token_back(
    make_site, frozen_clock
):
    store = Gated(frozen_clock)
    site = make_site("memory", store=store)
    look_up = site.auth.stored.look_up

    async def look_up_and_be_overtaken(key):
        found = await look_up(key)
        if not store.gate.is_set():
            store.gate.set()
            await asyncio.sleep(0.05)
        return found

    site.auth.stored.look_up = look_up_and_be_overtaken
    login = asyncio.ensure_future(site.log_in(site.browser, "alice"))
    await store.came.wait()
    assert await site.auth.sessions.end(sub="alice") == 1
    await login
    assert await site.who() == ""
    await site.auth.revoker.drain(timeout=10)
    assert refresh_tokens_given_back(site) == 1


async def test_a_user_with_very_many_sessions_is_listed_in_few_calls(make_site):
    site = make_site("memory")
    await site.login("alice")
    (known,) = await site.auth.sessions.list(sub="alice")
    session = await site.auth.stored.look_up(known.id)
    # Those of a monitor that logs in again and again; most have ended by themselves.
    for number in range(1000):
        await site.auth.stored.index.add(replace(session, id=f"{number:064x}"), ttl=3600)
    site.store.calls.clear()
    assert [each.id for each in await site.auth.sessions.list(sub="alice")] == [known.id]
    assert len(site.store.calls) < 30
