"""Sessions, of every kind, against everything that browsers and stores may bring."""

from __future__ import annotations

import asyncio
import base64
import gc
import json
import os
import tracemalloc
import zlib
from dataclasses import replace

import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route

from tokenward import Lifetimes
from tokenward.errors import Conflict
from tokenward.events import CookieRejected
from tokenward.secret import Secret
from tokenward.stores.sessions import session_key
from tokenward.testing import User
from tokenward.tokens.session_format import read_session

NAME = "__Host-tokenward"
LEFT_ALONE = ("newer_format", "unknown_key")
HOSTILE = [
    b"",
    b"null",
    b"[]",
    b"0",
    b"{}",
    b"[1]",
    b'["1"]',
    b"[1,1]",
    b'{"0":1}',
    b"not json",
    b"\xff\xfe",
    b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x94.",
    b"!!python/object/apply:os.system [id]",
    b'{"__class__":"os.system","args":["id"]}',
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b"[NaN]",
    b"[1e999]",
    b"1" * 5000,
]


def cookie_header(cookies):
    return "; ".join(f"{name}={value}" for name, value in cookies.items()).encode("latin-1")


def rejected(site):
    return [event.reason for event in site.events if isinstance(event, CookieRejected)]


def unsealed(cookie):
    """Return the sealed bytes that an unsplit cookie holds."""
    return base64.b64decode(cookie + "=" * (-len(cookie) % 4), validate=True)


def as_cookie(sealed):
    return base64.b64encode(sealed).rstrip(b"=").decode()


async def assert_nobody(site, cookie, *, cleared=True):
    """Assert that a Cookie header is no session and no data, and is deleted."""
    raw = cookie.encode("latin-1") if isinstance(cookie, str) else cookie
    answer = await site.ask(cookie=raw)
    assert (answer.status, answer.json()) == (200, {"name": "", "known": False})
    assert (NAME in answer.cleared) == cleared
    assert [line for line in answer.set_cookies if "Max-Age=0" not in line] == []
    assert (await site.ask("/session", cookie=raw)).json() == {}


# ---------------------------------------------------------------- the usual way


async def test_a_login_is_a_session_and_a_logout_ends_it(make_site, kind):
    site = make_site(kind)
    assert await site.who() == ""
    await site.login()
    assert await site.who() == "Alice"
    response = await site.browser.post("/auth/logout", headers={"origin": "https://app.test"})

    assert response.status_code == 303
    assert await site.who() == ""
    assert NAME not in site.cookies()


@pytest.mark.case(309)
async def test_anonymous_visitors_get_nothing_and_cost_nothing(make_site, kind):
    site = make_site(kind)
    for path in ("/", "/me", "/session"):
        response = await site.browser.get(path)
        assert "set-cookie" not in response.headers

    assert site.cookies() == {}
    assert site.store is None or site.store.calls == []


async def test_the_first_write_of_an_anonymous_visitor_begins_a_session(make_site, kind):
    site = make_site(kind)
    await site.keep(cart=[1])

    assert await site.kept() == {"cart": [1]}
    assert await site.who() == ""
    assert await site.kept(site.new_browser()) == {}


@pytest.mark.case(283)
async def test_cookies_have_the_safest_attributes(make_site, kind):
    site = make_site(kind)
    answers = [await site.keep(a=1), await site.log_in(site.browser, "alice")]
    await site.login()
    answers.append(await site.browser.get("/me"))
    answers.append(await site.keep(a=2))
    lines = [line for r in answers for line in r.headers.get_list("set-cookie")]

    assert lines
    for line in lines:
        name, _, rest = line.partition("=")
        _, *attributes = rest.split("; ")
        ages = [a for a in attributes if a.startswith("Max-Age=")]
        assert name.startswith("__Host-")
        assert len(ages) == 1
        assert sorted(set(attributes) - set(ages)) == [
            "HttpOnly",
            "Path=/",
            "SameSite=Lax",
            "Secure",
        ]


async def test_logout_deletes_with_the_attributes_that_were_set(make_site, kind):
    site = make_site(kind)
    await site.login()
    await site.keep(a=1)
    held = site.cookies()
    response = await site.browser.post("/auth/logout", headers={"origin": "https://app.test"})
    lines = response.headers.get_list("set-cookie")
    ours = [line for line in lines if line.partition("=")[0] in held]

    assert {line.partition("=")[0] for line in ours} == set(held)
    for line in ours:
        assert line.partition("=")[2] == "; Max-Age=0; Path=/; HttpOnly; Secure; SameSite=Lax"


@pytest.mark.case(305)
async def test_plain_http_on_loopback_needs_the_flag_and_drops_the_prefix(make_site, kind):
    site = make_site(kind, public_url="http://localhost:8000", dangerously_allow_http=True)
    browser = site.new_browser(url="http://localhost:8000")
    response = await site.keep(browser, a=1)
    line = response.headers["set-cookie"]

    assert line.startswith("tokenward-8000")
    assert "Secure" not in line
    assert await site.kept(browser) == {"a": 1}


@pytest.mark.case(293)
async def test_two_devices_of_one_user_are_independent(make_site, kind):
    site = make_site(kind)
    phone, laptop = site.new_browser(), site.new_browser()
    await site.login("alice", phone)
    await site.login("alice", laptop)
    await site.keep(phone, where="phone")
    await site.keep(laptop, where="laptop")
    await phone.post("/auth/logout", headers={"origin": "https://app.test"})

    assert await site.who(phone) == ""
    assert await site.who(laptop) == "Alice"
    assert await site.kept(laptop) == {"where": "laptop"}


async def test_two_users_in_two_browsers_never_meet(make_site, kind):
    site = make_site(kind)
    one, two = site.new_browser(), site.new_browser()
    await site.login("alice", one)
    await site.login("bob", two)
    answers = await asyncio.gather(*[site.who(b) for _ in range(20) for b in (one, two)])

    assert answers == ["Alice", "Bob"] * 20


# ---------------------------------------------------------------- fixation


@pytest.mark.case(267)
async def test_a_planted_anonymous_cookie_is_dead_after_the_login(make_site, kind):
    site = make_site(kind)
    attacker, victim = site.new_browser(), site.browser
    await site.keep(attacker, trap=1)
    victim.cookies.update(attacker.cookies)
    planted = site.cookies(attacker)
    await site.login("alice", victim)
    await site.keep(victim, secret="hers")

    assert await site.who(attacker) == ""
    assert "secret" not in await site.kept(attacker)
    assert await site.kept(victim) == {"secret": "hers"}, "nothing planted survives"
    assert site.cookies(victim)[NAME] != planted.get(NAME)


@pytest.mark.case(267)
async def test_a_planted_session_of_the_attacker_is_dead_after_the_login(make_site, kind):
    site = make_site(kind)
    attacker, victim = site.new_browser(), site.browser
    await site.login("bob", attacker)
    await site.keep(attacker, trap=1)
    victim.cookies.update(attacker.cookies)
    assert await site.who(victim) == "Bob"
    await site.login("alice", victim)

    assert await site.who(victim) == "Alice"
    assert await site.kept(victim) == {}
    assert await site.who(attacker) == "", "the id that was planted is dead"


@pytest.mark.case(267)
async def test_the_store_has_nothing_left_under_a_planted_id(make_site):
    site = make_site("memory")
    await site.keep(trap=1)
    planted = set(site.entries())
    await site.login()

    assert planted
    assert not planted & set(site.entries())


async def test_only_what_is_named_is_carried_over(make_site, kind):
    site = make_site(kind, carry_over=["cart"])
    await site.keep(cart=[1], other=2)
    await site.login()

    assert await site.kept() == {"cart": [1]}


# ---------------------------------------------------------------- damaged cookies


@pytest.mark.case(268)
async def test_a_flipped_bit_anywhere_is_no_session(make_site, kind):
    site = make_site(kind)
    await site.login()
    value = site.cookies()[NAME].encode()
    for position in range(len(value)):
        flipped = bytearray(value)
        flipped[position] ^= 1 << position % 7
        answer = await site.ask(cookie=NAME.encode() + b"=" + bytes(flipped))
        assert answer.status == 200, position
        assert answer.json()["known"] is False, position
        # What may be of a newer release or key is left to the process that knows it.
        assert NAME in answer.cleared or rejected(site)[-1] in LEFT_ALONE, position
    assert len(value) - rejected(site).count("unknown_key") > 40
    assert await site.who() == "Alice"


@pytest.mark.case(268)
async def test_a_flipped_bit_in_the_data_is_no_data(make_site):
    site = make_site("cookie")
    await site.login()
    await site.keep(a=1)
    cookies = site.cookies()
    value = cookies[f"{NAME}-data"].encode()
    for position in range(len(value)):
        flipped = bytearray(value)
        flipped[position] ^= 1 << position % 7
        header = f"{NAME}={cookies[NAME]}; {NAME}-data=".encode() + bytes(flipped)
        answer = await site.ask("/session", cookie=header)
        assert (answer.status, answer.json()) == (200, {}), position
        cleared = rejected(site)[-1] not in LEFT_ALONE
        assert answer.cleared == ({f"{NAME}-data"} if cleared else set()), position


@pytest.mark.case(269)
async def test_a_cookie_of_another_app_is_no_session(make_site, kind, other_key):
    site, other = make_site(kind), make_site(kind, secret_key=other_key)
    await other.login()
    await other.keep(a=1)

    raw = cookie_header(other.cookies())
    answer = await site.ask(cookie=raw)
    assert answer.json()["known"] is False
    assert (await site.ask("/session", cookie=raw)).json() == {}


@pytest.mark.case(269)
async def test_a_cookie_that_was_sealed_for_something_else_is_no_session(make_site, kind):
    site = make_site(kind)
    await site.login()
    await site.keep(a=1)
    await site.browser.get("/auth/login")
    others = {name: value for name, value in site.cookies().items() if name != NAME}

    assert others
    for value in others.values():
        await assert_nobody(site, f"{NAME}={value}")


@pytest.mark.case(269)
async def test_the_session_is_not_taken_for_data(make_site):
    site = make_site("cookie")
    await site.login()
    value = site.cookies()[NAME]

    answer = await site.ask("/session", cookie=f"{NAME}-data={value}".encode())
    assert answer.json() == {}
    assert answer.cleared == {f"{NAME}-data"}


async def test_the_data_of_one_session_do_not_open_in_another(make_site):
    site = make_site("cookie")
    one, two = site.new_browser(), site.new_browser()
    await site.login("alice", one)
    await site.login("alice", two)
    await site.keep(one, admin=True)
    mixed = {NAME: site.cookies(two)[NAME], f"{NAME}-data": site.cookies(one)[f"{NAME}-data"]}

    assert (await site.ask("/session", cookie=cookie_header(mixed))).json() == {}


async def test_the_data_of_a_session_do_not_open_without_it(make_site):
    site = make_site("cookie")
    await site.login()
    await site.keep(admin=True)
    data = site.cookies()[f"{NAME}-data"]

    assert (await site.ask("/session", cookie=f"{NAME}-data={data}".encode())).json() == {}


@pytest.mark.case(270)
async def test_every_write_has_a_nonce_of_its_own(make_site):
    site = make_site("cookie")
    nonces = set()
    for number in range(300):
        response = await site.keep(number=number)
        value = response.headers["set-cookie"].partition("=")[2].partition(";")[0]
        nonces.add(unsealed(value)[9:21])

    assert len(nonces) == 300


def _large(cookies):
    assert len(cookies) >= 3, "the session takes several cookies"
    return dict(cookies)


def _truncated(cookies, older):
    return {**cookies, f"{NAME}.2": cookies[f"{NAME}.2"][:-5]}


def _without_middle(cookies, older):
    return {name: value for name, value in cookies.items() if name != f"{NAME}.1"}


def _without_first(cookies, older):
    return {name: value for name, value in cookies.items() if name != NAME}


def _one_more(cookies, older):
    return {**cookies, f"{NAME}.{len(cookies)}": cookies[f"{NAME}.1"]}


def _of_an_older_write(cookies, older):
    return {**cookies, f"{NAME}.1": older[f"{NAME}.1"]}


def _swapped(cookies, older):
    return {**cookies, f"{NAME}.1": cookies[f"{NAME}.2"], f"{NAME}.2": cookies[f"{NAME}.1"]}


def _hundred(cookies, older):
    return cookies | {f"{NAME}.{number}": "AAAA" for number in range(3, 100)}


TORN = [
    _truncated,
    _without_middle,
    _without_first,
    _one_more,
    _of_an_older_write,
    _swapped,
    _hundred,
]


@pytest.fixture
def large_user(oidc_provider):
    groups = [base64.b32encode(os.urandom(10)).decode() for _ in range(160)]
    oidc_provider.add_user(User("alice", name="Alice", claims={"address": {"x": groups}}))
    for client_id, client in list(oidc_provider.clients.items()):
        scopes = (*client.scopes, "address")
        oidc_provider.register(replace(client, client_id=client_id, scopes=scopes))
    return "openid profile address offline_access"


@pytest.mark.case(273)
@pytest.mark.parametrize("tear", TORN)
async def test_torn_chunks_are_no_session_and_all_of_them_are_deleted(make_site, large_user, tear):
    site = make_site("cookie", scope=large_user)
    await site.login()
    older = site.cookies()
    await site.login()
    cookies = {name: value for name, value in site.cookies().items() if name.startswith(NAME)}
    cookies.pop(f"{NAME}-loop", None)
    torn = tear(_large(cookies), older)
    answer = await site.ask(cookie=cookie_header(torn))

    assert answer.json()["known"] is False
    assert answer.cleared >= set(torn) & {NAME, *(f"{NAME}.{n}" for n in range(1, 9))}
    browser = site.new_browser()
    for name, value in torn.items():
        browser.cookies.set(name, value, domain="app.test")
    await site.login("alice", browser)
    assert await site.who(browser) == "Alice", "no loop: the next login works"


@pytest.mark.case(273)
@pytest.mark.case(279)
async def test_the_same_cookie_twice_is_no_session(make_site, kind):
    site = make_site(kind)
    await site.login()
    value = site.cookies()[NAME]
    await assert_nobody(site, f"{NAME}={value}; {NAME}={value}")
    await assert_nobody(site, f"{NAME}=evil; x=y; {NAME}={value}")

    assert "duplicate" in rejected(site)


@pytest.mark.case(273)
async def test_a_stray_chunk_of_ours_is_no_session_for_any_kind(make_site, kind):
    site = make_site(kind)
    await site.login()
    value = site.cookies()[NAME]
    answer = await site.ask(cookie=f"{NAME}={value}; {NAME}.1=AAAA".encode())

    assert answer.json()["known"] is False
    assert answer.cleared == {NAME, f"{NAME}.1"}


LOOKALIKES = [
    b"\x85__Host-tokenward=%b",
    b"\xa0__Host-tokenward=%b",
    b"\x0b__Host-tokenward=%b",
    b"\x0c__Host-tokenward=%b",
    b"\xe2\x80\x8b__Host-tokenward=%b",
    b"=__Host-tokenward=%b",
    b"$Version=1; $__Host-tokenward=%b",
    b"__HOST-TOKENWARD=%b",
    b"__host-tokenward=%b",
    b"__Host-tokenward-=%b",
    b"x__Host-tokenward=%b",
    b"__Host-tokenward =x%b",
    b"__Secure-tokenward=%b",
    b"tokenward=%b",
]


@pytest.mark.case(280)
@pytest.mark.case(281)
@pytest.mark.parametrize("planted", LOOKALIKES, ids=repr)
async def test_a_cookie_of_a_similar_name_is_not_ours(make_site, kind, planted):
    site = make_site(kind)
    await site.login("bob")
    hers = site.new_browser()
    await site.login("alice", hers)
    his = planted % site.cookies()[NAME].encode()
    ours = f"{NAME}={site.cookies(hers)[NAME]}".encode()

    assert (await site.ask(cookie=his)).json()["known"] is False
    if not his.startswith(b"__Host-tokenward ="):
        assert (await site.ask(cookie=his + b"; " + ours)).json()["name"] == "Alice"
        assert (await site.ask(cookie=ours + b"; " + his)).json()["name"] == "Alice"


@pytest.mark.case(281)
async def test_a_quoted_value_is_not_unquoted(make_site, kind):
    site = make_site(kind)
    await site.login()
    value = site.cookies()[NAME]
    octal = "".join(f"\\{ord(character):03o}" for character in value)

    await assert_nobody(site, f'{NAME}="{value}"')
    await assert_nobody(site, f'{NAME}="{octal}"')


@pytest.mark.case(282)
async def test_a_huge_cookie_header_is_refused_before_any_cryptography(
    make_site, kind, monkeypatch
):
    site = make_site(kind)
    await site.login()
    opened = []
    ring = type(site.auth.ring)
    real = ring.open

    def counting(self, sealed, **kwargs):
        opened.append(sealed)
        return real(self, sealed, **kwargs)

    monkeypatch.setattr(ring, "open", counting)
    calls = len(site.store.calls) if site.store else 0
    ours = f"{NAME}={site.cookies()[NAME]}"
    pairs = "; ".join(f"c{number}={'x' * 30}" for number in range(5000))
    for header in (f"{ours}; {pairs}", f"{pairs}; {ours}", f"{NAME}={'A' * 200_000}"):
        assert (await site.ask("/", cookie=header.encode())).status == 200
        await assert_nobody(site, header)

    assert opened == []
    assert site.store is None or len(site.store.calls) == calls


@pytest.mark.case(435)
async def test_a_large_cookie_that_looks_valid_costs_one_decryption_at_most(
    make_site, kind, monkeypatch
):
    site = make_site(kind)
    await site.login()
    opened = []
    ring = type(site.auth.ring)
    real = ring.open

    def counting(self, sealed, **kwargs):
        opened.append(len(sealed))
        return real(self, sealed, **kwargs)

    monkeypatch.setattr(ring, "open", counting)
    start = site.cookies()[NAME][:40]
    await site.ask(cookie=f"{NAME}={start}{'A' * 10_000}".encode())
    assert opened == [], "too large for one cookie: not even decoded"
    await site.ask(cookie=f"{NAME}={start}{'A' * 3000}".encode())
    assert len(opened) <= 1


# ---------------------------------------------------------------- size


@pytest.mark.case(275)
@pytest.mark.case(276)
async def test_sessions_of_every_size_come_back_and_shrink_again(make_site, kind):
    site = make_site(kind)
    await site.login()
    for size in (1, 1000, 2800, 2900, 3000, 3100, 6000, 9000, 3000, 10, 7000, 1):
        text = base64.b64encode(os.urandom(size))[:size].decode()
        response = await site.keep(text=text)
        assert all(len(line) <= 4096 for line in response.headers.get_list("set-cookie"))
        assert await site.kept() == {"text": text}
    data = [name for name in site.cookies() if name.startswith(f"{NAME}-data")]
    assert len(data) == (1 if kind == "cookie" else 0), "no chunk is left over"


async def test_data_come_back_from_as_deep_as_they_may_be_written(make_site, kind):
    site = make_site(kind)
    await site.login()
    deepest = 0
    for depth in range(25, 40):
        nested = json.loads("[" * depth + "]" * depth)
        response = await site.browser.patch("/session", content=json.dumps({"nested": nested}))
        if response.status_code == 200:
            deepest = depth
            assert await site.kept() == {"nested": nested}
        else:
            assert response.json() == {"error": "internal_error"}

    assert deepest == 31


@pytest.mark.case(275)
async def test_data_that_cookies_cannot_hold_are_an_error_and_change_nothing(make_site):
    site = make_site("cookie")
    await site.login()
    await site.keep(a=1)
    response = await site.browser.patch("/session", content=json.dumps({"big": "x" * 20_000}))

    assert response.status_code == 500
    assert response.json() == {"error": "session_too_large"}
    assert await site.kept() == {"a": 1}


async def test_stored_sessions_have_no_such_limit(make_site, stored):
    site = make_site(stored)
    await site.login()
    await site.keep(big="x" * 200_000)

    assert len((await site.kept())["big"]) == 200_000


@pytest.mark.case(275)
async def test_a_login_that_cookies_cannot_hold_is_told_and_is_no_loop(make_site, oidc_provider):
    oidc_provider.add_user(User("alice", name="x" * 20_000))
    site = make_site("cookie")
    response = await site.log_in(site.browser, "alice")

    assert response.status_code == 400
    assert await site.who() == ""
    assert not [name for name in site.cookies() if name == NAME]


@pytest.mark.case(275)
async def test_a_login_whose_two_cookies_are_too_large_together_is_told(make_site, large_user):
    async def on_login(user, tokens):
        return {"big": base64.b64encode(os.urandom(6500)).decode()}

    site = make_site("cookie", scope=large_user, on_login=on_login)
    response = await site.log_in(site.browser, "alice")

    assert response.status_code == 400
    assert await site.who() == ""


async def test_a_login_takes_the_room_of_what_it_replaces(make_site, large_user):
    site = make_site("cookie", scope=large_user)
    await site.keep(big=base64.b64encode(os.urandom(6500)).decode())
    await site.login()

    assert await site.who() == "Alice"


# ---------------------------------------------------------------- time


LIMITS = Lifetimes(idle=600.0, absolute=3600.0)


@pytest.mark.case(290)
@pytest.mark.parametrize(("after", "name"), [(599, "Alice"), (600, ""), (601, "")])
async def test_the_idle_limit_is_kept_to_the_second(make_site, kind, after, name):
    site = make_site(kind, lifetimes=LIMITS)
    await site.login()
    await site.keep(a=1)
    site.clock.advance(after)

    assert await site.who() == name
    assert await site.kept() == ({"a": 1} if name else {})


@pytest.mark.case(290)
@pytest.mark.parametrize(("after", "name"), [(3599, "Alice"), (3600, ""), (3601, "")])
async def test_the_absolute_limit_is_kept_to_the_second_whatever_the_user_does(
    make_site, kind, after, name
):
    site = make_site(kind, lifetimes=LIMITS)
    await site.login()
    for _ in range(11):
        site.clock.advance(300)
        response = await site.browser.get("/me")
        assert response.json()["name"] == "Alice"
        for line in response.headers.get_list("set-cookie"):
            age = int(line.partition("Max-Age=")[2].partition(";")[0])
            assert age <= 3600 - (site.clock() - 1_893_456_000), "never past the end"
    site.clock.advance(after - 3300)

    assert await site.who() == name


@pytest.mark.case(290)
async def test_every_request_that_asks_begins_the_idle_time_anew(make_site, kind):
    site = make_site(kind, lifetimes=LIMITS)
    await site.login()
    for _ in range(4):
        site.clock.advance(500)
        assert await site.who() == "Alice"


async def test_writing_data_all_the_time_keeps_the_session_alive(make_site, kind):
    site = make_site(kind, lifetimes=LIMITS)
    await site.login()
    for number in range(100):
        site.clock.advance(20)
        await site.keep(number=number)

    assert await site.who() == "Alice"
    assert await site.kept() == {"number": 99}


async def test_data_of_an_anonymous_visitor_end_when_he_stays_away(make_site, kind):
    site = make_site(kind, lifetimes=LIMITS)
    await site.keep(cart=[1])
    for _ in range(3):
        site.clock.advance(500)
        assert await site.kept() == {"cart": [1]}
    held = cookie_header(site.cookies())
    site.clock.advance(601)

    assert (await site.ask("/session", cookie=held)).json() == {}


async def test_data_do_not_outlive_the_login_that_they_belong_to(make_site, kind):
    site = make_site(kind, lifetimes=LIMITS)
    await site.login()
    assert await site.who() == "Alice"
    site.clock.advance(50)
    await site.keep(admin=True)
    site.clock.advance(580)

    assert await site.kept() == {}
    assert await site.who() == ""


@pytest.mark.case(389)
async def test_a_script_with_an_expired_session_gets_401_and_loses_the_cookie(make_site, kind):
    site = make_site(kind, lifetimes=LIMITS)
    await site.login()
    site.clock.advance(700)
    response = await site.browser.get("/token", headers={"accept": "application/json"})

    assert response.status_code == 401
    assert response.json() == {"error": "not_authenticated", "login_url": "/auth/login"}
    assert NAME not in site.cookies()


async def test_a_late_answer_does_not_delete_the_cookie_of_a_new_login(make_site, stored):
    site = make_site(stored)
    await site.login("bob")
    assert await site.who() == "Bob"
    old = cookie_header({NAME: site.cookies()[NAME]})
    await site.login("alice")
    answer = await site.ask(cookie=old)

    assert answer.json()["known"] is False
    assert answer.set_cookies == []


@pytest.mark.case(291)
async def test_activity_is_written_down_once_a_minute_at_most(make_site, kind):
    site = make_site(kind)
    await site.login()
    site.clock.advance(61)
    if site.store:
        site.store.calls.clear()
    cookies = 0
    for _ in range(120):
        cookies += len((await site.browser.get("/me")).headers.get_list("set-cookie"))
        site.clock.advance(0.5)
    writes = cookies + (site.store.calls.count("touch") if site.store else 0)

    assert writes == 1


@pytest.mark.case(299)
@pytest.mark.parametrize("now", [2**31 - 60, 2**31 + 60, 2**32 + 60, 2**34])
async def test_sessions_work_beyond_2038(make_site, kind, now):
    site = make_site(kind)
    site.clock.set(float(now))
    await site.login()
    await site.keep(a=1)
    site.clock.advance(3600)

    assert await site.who() == "Alice"
    assert (await site.browser.get("/token")).status_code == 200
    assert await site.kept() == {"a": 1}


# ---------------------------------------------------------------- after a logout


@pytest.mark.case(286)
@pytest.mark.case(287)
async def test_a_cookie_that_is_replayed_after_the_logout_is_no_session(make_site, kind):
    site = make_site(kind)
    await site.login()
    await site.keep(a=1)
    stolen = cookie_header(site.cookies())
    assert (await site.ask(cookie=stolen)).json()["name"] == "Alice"
    await site.browser.post("/auth/logout", headers={"origin": "https://app.test"})

    for _ in range(3):
        assert (await site.ask(cookie=stolen)).json()["known"] is False
        assert (await site.ask("/session", cookie=stolen)).json() == {}
        assert (await site.ask("/token", cookie=stolen)).status == 401
        site.clock.advance(3600)
    assert site.provider.count("revocation") == 1, "the refresh token went back"


async def test_what_was_being_written_does_not_bring_a_session_back(make_site, kind):
    began, goes_on = asyncio.Event(), asyncio.Event()

    async def slow(request):
        request.session["late"] = request.user.display_name
        began.set()
        await goes_on.wait()
        return PlainTextResponse("late")

    async def me(request):
        return JSONResponse({"name": request.user.display_name, "data": request.session})

    site = make_site(kind, app=lambda: Starlette(routes=[Route("/slow", slow), Route("/me", me)]))
    await site.log_in(site.browser, "alice")
    tab = site.new_browser()
    tab.cookies.update(site.browser.cookies)
    late = asyncio.create_task(tab.get("/slow"))
    await began.wait()
    await site.browser.post("/auth/logout", headers={"origin": "https://app.test"})
    goes_on.set()
    await late

    for browser in (tab, site.browser):
        assert (await browser.get("/me")).json() == {"name": "", "data": {}}


# ---------------------------------------------------------------- ids


@pytest.mark.case(288)
async def test_an_id_that_we_did_not_give_costs_no_look_into_the_store(make_site, stored):
    site = make_site(stored)
    for _ in range(200):
        guess = as_cookie(base64.urlsafe_b64encode(os.urandom(32)) + b"." + os.urandom(27))
        await assert_nobody(site, f"{NAME}={guess}")

    assert site.store.calls == []


@pytest.mark.case(277)
async def test_nothing_is_compressed_and_nothing_inflated(make_site):
    site = make_site("cookie")
    await site.login()
    await site.keep(chosen="a" * 3000)
    assert len(site.cookies()[f"{NAME}-data"]) > 3000 * 4 / 3, "its length tells nothing but that"
    bomb = zlib.compress(b"a" * 10_000_000)
    for purpose, name in (("session-cookie", NAME), ("data-cookie", f"{NAME}-data")):
        sealed = site.auth.ring.seal(bomb, purpose=purpose, record=name)
        tracemalloc.start()
        await assert_nobody(site, f"{NAME}={as_cookie(sealed)}")
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 1_000_000


@pytest.mark.case(288)
async def test_the_store_names_sessions_by_a_hash_of_256_random_bits(make_site):
    site = make_site("memory")
    ids = set()
    for _ in range(50):
        browser = site.new_browser()
        await site.keep(browser, a=1)
        value = unsealed(site.cookies(browser)[f"{NAME}-data"])[8:].decode()
        session_id, _, signature = value.rpartition(".")
        assert len(base64.urlsafe_b64decode(session_id + "=")) == 32
        assert len(signature) == 43, "SHA-256"
        assert f"{session_key(Secret(session_id))}:data" in site.entries()
        ids.add(session_id)

    assert len(ids) == 50
    assert not [key for key in site.entries() for each in ids if each in key]


@pytest.mark.case(288)
async def test_an_id_is_of_no_use_to_whoever_reads_the_store(make_site):
    site = make_site("memory")
    await site.login()
    for key in list(site.entries()):
        for guess in (key, key.partition(":")[0]):
            await assert_nobody(site, f"{NAME}={as_cookie(guess.encode())}")


@pytest.mark.case(289)
async def test_an_id_is_read_from_the_cookie_alone(make_site, kind):
    site = make_site(kind)
    await site.login()
    value, other = site.cookies()[NAME], site.new_browser()
    fields = {NAME: value, "x-session-id": value, "authorization": f"Bearer {value}"}

    response = await other.get(f"/me?{NAME}={value}&session={value}&sid={value}", headers=fields)
    assert response.json()["known"] is False
    response = await other.request("GET", "/me", data={NAME: value})
    assert response.json()["known"] is False


@pytest.mark.case(412)
async def test_log_lines_of_one_session_are_told_by_a_short_keyed_hash(make_site, kind):
    site, other = make_site(kind), make_site(kind)
    await site.login()
    (reference,) = {e.session for e in site.events if getattr(e, "session", "")}
    session = read_session(_session_bytes(site)) if kind == "cookie" else None

    assert len(reference) == 8
    int(reference, 16)
    if session:
        assert site.auth.reference(session) == reference
        assert other.auth.reference(session) != reference, "the key is the process's own"


def _session_bytes(site):
    sealed = unsealed(site.cookies()[NAME])
    return site.auth.ring.open(sealed, purpose="session-cookie", record=NAME).plaintext


# ---------------------------------------------------------------- in the store


@pytest.mark.case(307)
async def test_names_in_the_store_are_hashes_and_everything_has_an_end(make_site):
    site = make_site("memory")
    await site.login()
    await site.keep(note="confidential-note")
    site.clock.advance(4000)
    assert (await site.browser.get("/token")).status_code == 200
    things = site.store.inner._values._things

    assert things
    for key, (entry, ends) in things.items():
        name, _, part = key.partition(":")
        assert len(name) in (32, 64)
        int(name, 16)
        assert part.replace("-", "").isalnum()
        assert ends <= site.clock() + 8 * 3600
        assert b"alice" not in entry.value
        assert b"confidential" not in entry.value


@pytest.mark.case(307)
async def test_the_file_of_the_store_shows_no_id_no_token_and_no_user(make_site, tmp_path):
    site = make_site("sqlite")
    await site.login()
    await site.keep(note="confidential-note")
    token = (await site.browser.get("/token")).text
    site.clock.advance(4000)
    newer = (await site.browser.get("/token")).text
    session_id = unsealed(site.cookies()[NAME])[8:].decode().rpartition(".")[0]
    written = b"".join(path.read_bytes() for path in tmp_path.iterdir())

    assert len(written) > 4096
    assert session_key(Secret(session_id)).encode() in written
    for secret in ("alice", "Alice", "example.org", "confidential", session_id, token, newer):
        assert secret.encode() not in written


@pytest.mark.case(294)
@pytest.mark.parametrize("spoil", ["flipped", "cut", "empty", "other", "moved"])
async def test_a_record_that_was_altered_or_moved_is_no_session(make_site, stored, spoil):
    site = make_site(stored)
    await site.login("alice")
    hers = cookie_header({NAME: site.cookies()[NAME]})
    his = site.new_browser()
    await site.login("bob", his)
    value, moved = [(await record(site, sub, "session")).value for sub in ("alice", "bob")]
    changed = {
        "flipped": value[:-1] + bytes([value[-1] ^ 1]),
        "cut": value[:20],
        "empty": b"",
        "other": b"\1" + os.urandom(len(value) - 1),
        "moved": moved,
    }
    await overwrite(site, "alice", "session", changed[spoil])

    answer = await site.ask(cookie=hers)
    assert (answer.status, answer.json()["known"]) == (200, False)
    assert rejected(site)
    assert await site.who(his) == "Bob"


async def named(site, sub, part):
    """Return the key of a record of the user's only session."""
    (session,) = await site.auth.sessions.list(sub=sub)
    return f"{session.id}:{part}"


async def record(site, sub, part):
    return await site.store.get(await named(site, sub, part))


async def overwrite(site, sub, part, value):
    """Write as another tenant of the store might."""
    key = await named(site, sub, part)
    entry = await site.store.get(key)
    await site.store.put(key, value, ttl=3600, version=entry.version)


@pytest.mark.case(294)
async def test_data_that_were_altered_or_moved_are_no_data(make_site, stored):
    site = make_site(stored)
    await site.login()
    await site.keep(a=1)
    his = site.new_browser()
    await site.login("bob", his)
    await site.keep(his, admin=True)
    await overwrite(site, "alice", "data", (await record(site, "bob", "data")).value)

    assert await site.kept() == {}
    assert await site.who() == "Alice"
    await site.keep(b=2)
    assert await site.kept() == {"b": 2}


async def test_a_session_that_is_not_readable_is_not_written_either(make_site):
    site = make_site("memory")
    await site.login()
    await site.keep(a=1)
    (key,) = [name for name in site.entries() if name.endswith(":session")]
    value = site.entries()[key].value
    site.overwrite(key, value[:-1] + bytes([value[-1] ^ 1]))
    before = dict(site.entries())
    await site.keep(b=2)

    assert await site.kept() == {"b": 2}
    assert all(site.entries()[name] == entry for name, entry in before.items())


@pytest.mark.case(295)
@pytest.mark.case(296)
@pytest.mark.parametrize("payload", HOSTILE, ids=lambda payload: repr(payload[:24]))
async def test_a_hostile_payload_under_our_own_seal_is_no_session(make_site, kind, payload):
    site = make_site(kind)
    await site.login()
    await site.keep(a=1)
    cookies, ring = site.cookies(), site.auth.ring
    if kind == "cookie":
        sealed = ring.seal(payload, purpose="session-cookie", record=NAME)
        cookies[NAME] = as_cookie(sealed)[:4000]
    else:
        session_id = unsealed(cookies[NAME])[8:].decode().rpartition(".")[0]
        key = f"{session_key(Secret(session_id))}:session"
        sealed = ring.seal(payload, purpose="session", record=key)
        entry = await site.store.get(key)
        await site.store.put(key, sealed, ttl=100, version=entry.version)

    answer = await site.ask(cookie=cookie_header(cookies))
    assert (answer.status, answer.json()["known"]) == (200, False)
    assert (await site.ask("/session", cookie=cookie_header(cookies))).json() == {}
    assert (await site.ask("/token", cookie=cookie_header(cookies))).status == 401


def _may_be(value, good):
    if isinstance(good, list) and isinstance(value, list):
        # No refresh token, and no other access tokens.
        return value == []
    return type(value) is type(good)


@pytest.mark.case(296)
async def test_every_field_of_another_type_is_no_session(make_site):
    site = make_site("cookie")
    await site.login()
    good = json.loads(_session_bytes(site))
    for place, known in enumerate(good):
        for value in (None, True, 1.5, "x", [], {}, [[]], "é" * 3):
            if not _may_be(value, known):
                await _refused(site, [*good[:place], value, *good[place + 1 :]])
        await _refused(site, [*good[:place], *good[place + 1 :]])


async def _refused(site, record):
    sealed = site.auth.ring.seal(json.dumps(record).encode(), purpose="session-cookie", record=NAME)
    answer = await site.ask(cookie=f"{NAME}={as_cookie(sealed)}".encode())
    assert (answer.status, answer.json()["known"]) == (200, False), record


@pytest.mark.case(297)
@pytest.mark.parametrize("layer", ["envelope", "session"])
async def test_a_newer_format_is_no_session_and_stays_where_it_is(make_site, kind, layer):
    site = make_site(kind)
    await site.login()
    await site.keep(a=1)
    cookies, ring = site.cookies(), site.auth.ring
    if kind == "cookie":
        purpose, record, sealed, entry = "session-cookie", NAME, unsealed(cookies[NAME]), None
    else:
        session_id = unsealed(cookies[NAME])[8:].decode().rpartition(".")[0]
        purpose, record = "session", f"{session_key(Secret(session_id))}:session"
        entry = await site.store.get(record)
        sealed = entry.value
    if layer == "envelope":
        newer = bytes([sealed[0] + 1]) + sealed[1:]
    else:
        known = json.loads(ring.open(sealed, purpose=purpose, record=record).plaintext)
        newer = ring.seal(json.dumps([2, *known[1:]]).encode(), purpose=purpose, record=record)
    if entry is None:
        cookies[NAME] = as_cookie(newer)
    else:
        await site.store.put(record, newer, ttl=3600, version=entry.version)

    answer = await site.ask(cookie=cookie_header(cookies))
    assert answer.json()["known"] is False
    assert answer.set_cookies == [], "another process can read it"
    assert (await site.ask("/session", cookie=cookie_header(cookies))).set_cookies == []
    assert "newer_format" in rejected(site)
    if entry is not None:
        assert (await site.store.get(record)).value == newer


# ---------------------------------------------------------------- at the same time


@pytest.mark.case(292)
async def test_changes_of_two_requests_at_once_are_both_kept(make_site, stored):
    all_here = asyncio.Barrier(3)

    async def add(request):
        key = request.query_params["key"]
        request.session[key] = 1
        request.session.pop("gone" if key == "a" else "other", None)
        await all_here.wait()
        return PlainTextResponse("added")

    async def show(request):
        return JSONResponse(request.session)

    async def begin(request):
        request.session.update(gone=1, other=1, stays=1)
        return PlainTextResponse("begun")

    routes = [Route("/add", add), Route("/", show), Route("/begin", begin)]
    site = make_site(stored, app=lambda: Starlette(routes=routes))
    await site.browser.get("/begin")
    await asyncio.gather(*[site.browser.get(f"/add?key={key}") for key in "abc"])

    assert (await site.browser.get("/")).json() == {"stays": 1, "a": 1, "b": 1, "c": 1}


@pytest.mark.case(292)
async def test_writing_data_does_not_undo_a_refresh_nor_a_refresh_the_data(make_site, kind):
    site = make_site(kind)
    await site.login()
    before = (await site.browser.get("/token")).text
    site.clock.advance(3700)
    answers = await asyncio.gather(site.browser.get("/token"), site.keep(a=1))

    assert answers[0].text != before
    assert (await site.browser.get("/token")).text == answers[0].text
    assert await site.kept() == {"a": 1}


async def test_a_write_that_is_overtaken_again_and_again_is_told(make_site):
    site = make_site("memory")
    await site.keep(a=1)
    real = site.store.inner.put

    async def overtaken(key, value, *, ttl, version):
        raise Conflict("somebody was first")

    site.store.inner.put = overtaken
    response = await site.browser.patch("/session", content=b'{"b": 2}')
    assert (response.status_code, response.json()["error"]) == (503, "conflict")
    site.store.inner.put = real
    assert await site.kept() == {"a": 1}


# ---------------------------------------------------------------- caches


@pytest.mark.case(300)
@pytest.mark.parametrize("path", ["/me", "/session", "/token"])
async def test_an_answer_that_depends_on_the_session_is_not_for_shared_caches(
    make_site, kind, path
):
    site = make_site(kind)
    answers = [await site.browser.get(path)]
    await site.login()
    answers.append(await site.browser.get(path))
    site.clock.advance(100)
    answers.append(await site.browser.get(path))
    answers.append(await site.browser.head(path))

    for response in answers:
        assert response.headers["cache-control"] in ("private, no-store", "no-store")
        assert "Cookie" in response.headers["vary"]


@pytest.mark.case(300)
async def test_what_the_app_says_of_caching_does_not_outweigh_the_session(make_site, kind):
    async def page(request):
        headers = {"cache-control": "public, max-age=3600", "vary": "Accept"}
        return PlainTextResponse(request.user.display_name, headers=headers)

    site = make_site(kind, app=lambda: Starlette(routes=[Route("/", page)]))
    response = await site.browser.get("/")

    assert response.headers.get_list("cache-control") == ["private, no-store"]
    assert response.headers["vary"] == "Accept, Cookie"


async def test_an_answer_that_does_not_depend_on_it_is_left_alone(make_site, kind):
    site = make_site(kind)
    await site.login()
    response = await site.browser.get("/")

    assert not {"cache-control", "vary", "set-cookie"} & set(response.headers)


# ---------------------------------------------------------------- memory


@pytest.mark.case(310)
@pytest.mark.case(431)
async def test_anonymous_visitors_leave_no_trace_in_memory(make_site, kind):
    site = make_site(kind, on_event=lambda event: None)

    async def visit(numbers):
        for number in numbers:
            junk = f"{NAME}={as_cookie(number.to_bytes(4, 'big') * 12)}; visitor={number}"
            await site.ask("/me", cookie=junk.encode(), user_agent=f"browser {number}")
            await site.ask("/session", user_agent=f"browser {number}")

    await visit(range(100))
    gc.collect()
    tracemalloc.start()
    try:
        await visit(range(1000, 1100))
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        await visit(range(2000, 2500))
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()

    assert grown < 10_000, "1,000 visitors more, less than ten bytes each"


async def test_what_a_process_remembers_of_sessions_is_bounded(make_site, monkeypatch):
    monkeypatch.setattr("tokenward.web.stored_session._SEEN", 5)
    site = make_site("memory")
    await site.browser.get("/")
    source = site.app.middleware_stack.app._source
    for number in range(20):
        source.see(str(number))

    assert len(source._seen) == 5
