"""`secret_key` is a list: the first seals, all of them open."""

from __future__ import annotations

import asyncio
import base64

import httpx
import pytest

from tokenward import Lifetimes
from tokenward.stores.memory import MemoryStore
from tokenward.stores.sqlite import SQLiteStore

NAME = "__Host-tokenward"


@pytest.fixture
def site_with(make_site, kind, frozen_clock, tmp_path, redis_store):
    """Return a function that makes the same site with other keys, as after a restart."""
    store = None
    if kind == "memory":
        store = MemoryStore(clock=frozen_clock)
    elif kind == "sqlite":
        store = SQLiteStore(tmp_path / "shared.db", clock=frozen_clock)
    elif kind == "redis":
        store = redis_store(frozen_clock)

    def make(*keys, **settings):
        return make_site(kind, store=store, secret_key=keys, **settings)

    return make


@pytest.fixture
def keys(other_key):
    return other_key, other_key[::-1]


def move(source, target):
    target.browser.cookies = source.browser.cookies


@pytest.mark.case(271)
async def test_a_new_key_in_front_keeps_sessions_and_replaces_the_old_one(site_with, keys):
    old, new = keys
    before, after, later = site_with(old), site_with(new, old), site_with(new)
    await before.login()
    await before.keep(a=1)
    first = before.cookies()
    move(before, after)

    assert await after.who() == "Alice"
    assert await after.kept() == {"a": 1}
    rewritten = after.cookies()
    assert all(rewritten[name] != first[name] for name in first if not name.endswith("loop"))

    move(after, later)
    assert await later.who() == "Alice", "nothing needs the old key any more"
    assert await later.kept() == {"a": 1}


@pytest.mark.case(271)
async def test_an_anonymous_session_moves_to_the_new_key_too(site_with, keys):
    old, new = keys
    before, after, later = site_with(old), site_with(new, old), site_with(new)
    await before.keep(cart=[1])
    move(before, after)
    assert await after.kept() == {"cart": [1]}
    move(after, later)

    assert await later.kept() == {"cart": [1]}
    value = after.cookies()[f"{NAME}-data"]
    again = await after.browser.get("/session")
    assert "set-cookie" not in again.headers, "once is enough"
    assert value


@pytest.mark.case(271)
async def test_a_session_whose_key_was_taken_away_is_a_login_and_no_error(site_with, keys):
    old, new = keys
    before, after = site_with(old), site_with(new)
    await before.login()
    await before.keep(a=1)
    move(before, after)

    assert await after.who() == ""
    assert await after.kept() == {}
    response = await after.browser.get("/token", headers={"accept": "text/html"})
    assert response.status_code == 303
    await after.login()
    assert await after.who() == "Alice"


async def test_a_refresh_seals_the_record_with_the_new_key(site_with, keys):
    old, new = keys
    before, after, later = site_with(old), site_with(new, old), site_with(new)
    await before.login()
    move(before, after)
    after.clock.advance(3700)
    assert (await after.browser.get("/token")).status_code == 200
    move(after, later)

    assert await later.who() == "Alice"


@pytest.mark.parametrize("kind", ["memory"])
async def test_the_cookie_of_a_session_in_the_store_is_signed_anew(site_with, keys):
    old, new = keys
    before, after = site_with(old), site_with(new, old)
    await before.login()
    first = before.cookies()[NAME]
    move(before, after)
    await after.who()
    second = after.cookies()[NAME]
    decoded = [base64.b64decode(f"{value}===") for value in (first, second)]

    assert first != second
    assert decoded[0][:8] != decoded[1][:8], "another key"
    one, two = (value[8:].rpartition(b".")[0] for value in decoded)
    assert one == two, "the same id"


@pytest.mark.case(304)
@pytest.mark.parametrize("spelling", ["{}\n", "  {}\r\n"])
async def test_white_space_around_a_key_from_the_environment_is_no_part_of_it(
    site_with, keys, spelling
):
    one, two = site_with(keys[0]), site_with(spelling.format(keys[0]))
    await one.login()
    move(one, two)

    assert await two.who() == "Alice"


@pytest.mark.case(304)
async def test_a_key_beyond_ascii_is_its_utf8_bytes(site_with):
    key = "hügel-straße-Ω-κλειδί-7f3a9c1e5b-ключ-鍵穴"
    one, two = site_with(key), site_with(key)
    await one.login()
    move(one, two)

    assert await two.who() == "Alice"


# ----------------------------------------------------------------- while it is rolled out


@pytest.mark.case(271)
async def test_a_process_without_the_new_key_leaves_alone_what_it_signed(site_with, keys):
    old, new = keys
    behind, ahead = site_with(old), site_with(new, old)
    await behind.login()
    await behind.keep(a=1)
    move(behind, ahead)
    assert await ahead.who() == "Alice"
    assert await ahead.kept() == {"a": 1}
    cookies = ahead.cookies()

    move(ahead, behind)
    answer = await behind.browser.get("/me")
    assert (answer.status_code, answer.json()["known"]) == (200, False)
    assert "set-cookie" not in answer.headers
    assert await behind.kept() == {}
    assert behind.cookies() == cookies
    assert {event.reason for event in behind.events if hasattr(event, "reason")} == {"unknown_key"}
    assert await ahead.who() == "Alice"
    assert await ahead.kept() == {"a": 1}


@pytest.mark.parametrize("kind", ["memory"])
@pytest.mark.parametrize("name", [NAME, f"{NAME}-data"])
async def test_what_a_known_key_did_not_sign_is_deleted(site_with, keys, name):
    site = site_with(keys[0])
    await site.keep(cart=[1])
    if name == NAME:
        await site.login()
    value = base64.b64decode(f"{site.cookies()[name]}===")
    last = b"A" if value[-5:-4] != b"A" else b"B"
    for changed, reason in (
        (value[:-5] + last + value[-4:], "forged"),
        (value[:8] + b"\xff" + value[9:], "forged"),
        (value[:-1], "malformed"),
        (value[8:], "malformed"),
    ):
        site.events.clear()
        sent = base64.b64encode(changed).decode().rstrip("=")
        answer = await site.ask(cookie=f"{name}={sent}".encode())
        assert answer.cleared == {name}
        assert [event.reason for event in site.events] == [reason]


# Each step is rolled out to all processes before the next one begins.
STEPS = [
    pytest.param(lambda old, new: [old], lambda old, new: [old, new], id="readable everywhere"),
    pytest.param(lambda old, new: [old, new], lambda old, new: [new, old], id="seals"),
    pytest.param(lambda old, new: [new, old], lambda old, new: [new], id="the old one goes"),
]


@pytest.fixture
def make_worker(make_process, keys):
    """Return a function that makes a worker with some of the two keys, of one browser."""
    jars = []

    def make(choose):
        site = make_process(secret_key=choose(*keys))
        jars.append(site.browser._cookies)
        site.browser._cookies = jars[0]
        return site

    return make


async def assert_shared(workers, cart):
    """Assert that every worker knows the same user and data, whoever wrote them last."""
    for number, worker in enumerate(workers):
        assert await worker.who() == "Alice"
        assert await worker.kept() == {"cart": cart}
        cart = [*cart, number]
        await worker.keep(cart=cart)
    return cart


@pytest.mark.case(271)
async def test_a_key_that_is_rolled_out_step_by_step_logs_nobody_out(make_worker, oidc_provider):
    workers = [make_worker(STEPS[0].values[0]) for _ in range(2)]
    await workers[0].login()
    cart = []
    await workers[0].keep(cart=cart)
    expiries = 0
    for step in STEPS:
        for place in range(2):
            # One after the other is replaced, and sessions are used and refreshed in between.
            workers[place] = make_worker(step.values[1])
            for first in (workers, workers[::-1]):
                cart = await assert_shared(first, cart)
                workers[0].clock.advance(3700)
                expiries += 1
                tokens = [(await worker.browser.get("/token")).text for worker in first]
                assert tokens[0] == tokens[1]
                assert oidc_provider.is_active(tokens[0])
    assert oidc_provider.count("token", grant_type="refresh_token") == expiries
    assert [family.ended for family in oidc_provider.families] == [None]
    await workers[1].browser.post("/auth/logout", headers={"origin": "https://app.test"})
    assert await workers[0].who() == ""


@pytest.mark.case(271)
@pytest.mark.parametrize(("before", "after"), STEPS)
async def test_a_login_begun_before_a_step_ends_after_it(make_worker, before, after):
    behind, ahead = make_worker(before), make_worker(after)
    for begins, ends in ((behind, ahead), (ahead, behind)):
        if (begins, ends) == (ahead, behind) and after(1, 2) == [2]:
            continue  # nobody has the old key alone any more
        begun = await begins.browser.get("/auth/login")
        begins.provider.sign_in_automatically("alice")
        transport = httpx.ASGITransport(begins.provider)
        async with httpx.AsyncClient(transport=transport) as browser:
            back = (await browser.get(begun.headers["location"])).headers["location"]
        assert (await ends.browser.get(back)).status_code == 303
        assert await begins.who() == "Alice"


@pytest.mark.case(271)
@pytest.mark.parametrize(("before", "after"), STEPS)
async def test_one_expiry_between_two_steps_is_one_refresh(
    make_worker, oidc_provider, before, after
):
    behind, ahead = make_worker(before), make_worker(after)
    await behind.login()
    behind.clock.advance(3700)
    cookie = "; ".join(f"{name}={value}" for name, value in behind.cookies().items()).encode()
    asked = [site.ask("/token", cookie=cookie) for site in (behind, ahead) * 10]
    answers = await asyncio.gather(*asked)
    assert {answer.status for answer in answers} == {200}
    assert len({answer.body for answer in answers}) == 1
    assert oidc_provider.count("token", grant_type="refresh_token") == 1


@pytest.mark.parametrize("keep_old", [True, False], ids=["beside the old", "alone"])
async def test_a_provider_that_changes_its_keys_logs_nobody_out(
    make_process, oidc_provider, keep_old
):
    """Sessions live longer than keys: a refresh brings an id_token that a new one signed."""
    workers = [make_process() for _ in range(2)]
    for worker in workers:
        worker.browser._cookies = workers[0].browser._cookies
    await workers[0].login()
    for turn in range(4):
        oidc_provider.rotate_keys(keep_old=keep_old)
        workers[0].clock.advance(3700)
        assert (await workers[turn % 2].browser.get("/token")).status_code == 200
        assert await workers[(turn + 1) % 2].who() == "Alice"
    assert oidc_provider.count("token", grant_type="refresh_token") == 4


# ----------------------------------------------------------------- records in a store


in_a_store = pytest.mark.parametrize("kind", ["memory", "sqlite", "redis"])


@in_a_store
async def test_a_record_is_sealed_anew_once(site_with, keys):
    old, new = keys
    before, after = site_with(old), site_with(new, old)
    await before.login()
    await before.keep(a=1)
    move(before, after)
    await after.who()
    after.store.calls.clear()
    for _ in range(3):
        after.clock.advance(61)
        assert await after.who() == "Alice"

    assert after.store.calls == ["get_many", "touch"] * 3


@in_a_store
async def test_a_record_sealed_anew_ends_when_it_would_have(site_with, keys):
    old, new = keys
    lifetimes = Lifetimes(idle=1000.0, absolute=1500.0)
    before, after = (site_with(*ks, lifetimes=lifetimes) for ks in ([old], [new, old]))
    await before.login()
    before.clock.advance(600)
    move(before, after)
    assert await after.who() == "Alice"
    after.clock.advance(890)
    assert await after.who() == "Alice"
    after.clock.advance(11)
    assert await after.who() == ""


@in_a_store
async def test_what_others_wrote_meanwhile_is_not_undone(site_with, keys):
    old, new = keys
    before, after, later = site_with(old), site_with(new, old), site_with(new)
    await before.login()
    await before.keep(a=1)
    records, key = after.auth.stored, (await sessions_of(before))[0]
    session, data = await records.fetch(key)
    await before.keep(a=2)
    ends = records.open_session(key, session).expires_at
    await records.reseal(key, session, data, expires_at=ends)
    move(before, after)
    assert await after.kept() == {"a": 2}

    move(after, later)
    await after.who()
    assert await later.who() == "Alice"


@in_a_store
async def test_a_refresh_under_way_is_not_undone_by_sealing_anew(site_with, keys, oidc_provider):
    old, new = keys
    before, after = site_with(old), site_with(new, old)
    await before.login()
    move(before, after)
    after.clock.advance(3700)
    gate = oidc_provider.hold("token", after_acting=True)
    refresh = asyncio.create_task(before.browser.get("/token"))
    await gate.entered.wait()
    assert await after.who() == "Alice"
    gate.release()
    token = (await refresh).text

    assert (await after.browser.get("/token")).text == token, "what it brought was written"


@in_a_store
async def test_a_session_whose_lease_cannot_be_had_is_served_all_the_same(site_with, keys):
    old, new = keys
    before, after = site_with(old), site_with(new, old)
    await before.login()
    move(before, after)
    after.store.break_("acquire", "put")
    assert await after.who() == "Alice"


@pytest.mark.case(271)
@in_a_store
async def test_a_user_is_found_when_the_old_key_is_gone(site_with, keys):
    old, new = keys
    before, after, later = site_with(old), site_with(new, old), site_with(new)
    await before.login()
    move(before, after)
    await after.who()

    assert await sessions_of(later) == await sessions_of(before)
    assert await sessions_of(later)


async def sessions_of(site):
    issuer = site.provider.issuer
    return [*await site.auth.stored.index.of_user(issuer, "alice")]


@in_a_store
async def test_who_sealed_anew_keeps_nobody_from_refreshing(site_with, keys):
    old, new = keys
    before, after = site_with(old), site_with(new, old)
    await before.login()
    move(before, after)
    await after.who()
    (key,) = await sessions_of(after)

    assert await after.store.acquire(f"{key}:lease", ttl=10) is not None
