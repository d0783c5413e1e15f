"""`secret_key` is a list: the first seals, all of them open."""

from __future__ import annotations

import base64

import pytest

from tokenward.stores.memory import MemoryStore

NAME = "__Host-tokenward"


@pytest.fixture
def site_with(make_site, kind, frozen_clock):
    """Return a function that makes the same site with other keys, as after a restart."""
    store = None if kind == "cookie" else MemoryStore(clock=frozen_clock)

    def make(*keys):
        return make_site("cookie" if kind == "cookie" else "memory", store=store, secret_key=keys)

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
    if later.kind == "cookie":
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

    if later.kind == "cookie":
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
    decoded = [base64.urlsafe_b64decode(v + "=" * (-len(v) % 4)) for v in (first, second)]

    assert first != second
    assert decoded[0].rpartition(b".")[0] == decoded[1].rpartition(b".")[0], "the same id"


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
