"""The way back: what ends in a session, what ends the attempt, and what touches nothing."""

from __future__ import annotations

import asyncio
import re
from typing import Any, Final

import pytest

from tokenward import OpenIDProvider
from tokenward.errors import ConfigurationError, LoginFailed
from tokenward.events import LoggedIn, LoginFailure
from tokenward.stores.memory import MemoryStore
from tokenward.testing import AlteredAnswer, OAuthError, WrongClaim
from tokenward.web import body

CALLBACK: Final = "/auth/callback"
OTHER_KEY: Final = "m5w6NBMz2l0pT8ISAZ3rX1y9QkUe7HcFvJgDoWtL4xYb"


def neutral(answer: Any, *, status: int = 400) -> None:
    """Show that the browser is told nothing of what it sent, and how to start again."""
    assert answer.status_code == status
    assert "/auth/login" in answer.text
    assert "login_failed" in answer.text
    for told in ("evil", "script", "canary"):
        assert told not in answer.text


# ----------------------------------------------------------------- answers that are nobody's

STRAYS: Final = [
    pytest.param({"state": None}, "state_missing", id="no-state", marks=pytest.mark.case(48)),
    pytest.param({"state": ""}, "state_missing", id="empty-state", marks=pytest.mark.case(48)),
    pytest.param({"state": "evil" * 10}, "state_unknown", id="unknown", marks=pytest.mark.case(49)),
    pytest.param({"state": "x" * 513}, "callback_too_large", id="long", marks=pytest.mark.case(66)),
    pytest.param({"code": "x" * 4097}, "callback_too_large", id="code", marks=pytest.mark.case(66)),
    pytest.param(
        {"padding": "x" * 16_384}, "callback_too_large", id="query", marks=pytest.mark.case(66)
    ),
    pytest.param(
        {"access_token": "evil"}, "token_in_callback", id="token", marks=pytest.mark.case(71)
    ),
    pytest.param(
        {"id_token": "evil"}, "token_in_callback", id="id-token", marks=pytest.mark.case(71)
    ),
    pytest.param({"response": "a.b.c"}, "jarm_not_expected", id="jarm", marks=pytest.mark.case(72)),
    pytest.param(
        {"state": "evil" * 10, "code": None, "error": "access_denied"},
        "state_unknown",
        id="refusal-with-another-state",
        marks=pytest.mark.case(61),
    ),
    pytest.param(
        {"state": None, "code": None, "error": "access_denied"},
        "state_missing",
        id="refusal-without-state",
        marks=pytest.mark.case(61),
    ),
]


@pytest.mark.parametrize(("changes", "reason"), STRAYS)
async def test_an_answer_to_no_attempt_of_this_browser_touches_nothing(
    any_site: Any, alter: Any, changes: dict[str, str | None], reason: str
) -> None:
    browser = any_site.browser()
    await browser.log_in()
    callback = await browser.begin("bob")
    async with browser.refused(attempt_ends=False):
        neutral(await browser.get(alter(callback, **changes)))
    assert any_site.told(LoginFailure)[-1].reason == reason
    assert (await browser.get(callback)).status_code == 303
    assert await browser.user() == "bob"


@pytest.mark.case(54)
@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda state: state[:-1], id="truncated"),
        pytest.param(lambda state: state.swapcase(), id="other-case"),
        pytest.param(lambda state: f"{state} ", id="trailing-space"),
        pytest.param(lambda state: f"{state}\0", id="trailing-nul"),
        pytest.param(lambda state: f"{state}\n", id="trailing-line-feed"),
        pytest.param(lambda state: f"\ufeff{state}", id="byte-order-mark"),
    ],
)
async def test_a_state_is_compared_to_the_letter(
    site: Any, alter: Any, parse: Any, spoil: Any
) -> None:
    browser = site.browser()
    callback = await browser.begin()
    async with browser.refused(attempt_ends=False):
        neutral(await browser.get(alter(callback, state=spoil(parse(callback)["state"]))))
    assert (await browser.get(callback)).status_code == 303


@pytest.mark.case(65)
@pytest.mark.parametrize("name", ["code", "state", "iss", "error"])
async def test_a_parameter_that_comes_twice_is_refused(site: Any, parse: Any, name: str) -> None:
    browser = site.browser()
    callback = await browser.begin()
    value = parse(callback).get(name, "access_denied")
    again = f"{name}={value}&{name}={value}" if name == "error" else f"{name}={value}"
    async with browser.refused(attempt_ends=False):
        neutral(await browser.get(f"{callback}&{again}"))
    assert site.told(LoginFailure)[-1].reason == "parameter_repeated"


@pytest.mark.case(86)
@pytest.mark.parametrize("junk", ["%zz", "%", "%f", "%ff%fe", "%ed%a0%80", "%00"])
@pytest.mark.parametrize("name", ["state", "code", "iss", "error_description", "unknown"])
async def test_what_is_no_text_is_refused(site: Any, parse: Any, name: str, junk: str) -> None:
    browser = site.browser()
    callback = await browser.begin()
    if name in parse(callback):
        callback = re.sub(rf"\b{name}=[^&]*", lambda found: found[0] + junk, callback)
    else:
        callback += f"&{name}={junk}"
    answer = await browser.get(callback)
    if (name, junk) in {("unknown", "%00"), ("error_description", "%00")}:
        assert answer.status_code == 303
    else:
        neutral(answer)
        assert site.exchanges == 0


@pytest.mark.case(87)
async def test_unknown_parameters_are_ignored(site: Any) -> None:
    browser = site.browser()
    callback = await browser.begin()
    answer = await browser.get(f"{callback}&session_state=a.b&scope=openid&authuser=0&prompt=none")
    assert answer.status_code == 303
    assert await browser.user() == "alice"


# ----------------------------------------------------------------- refusals that end the attempt

ENDINGS: Final = [
    pytest.param({"iss": "https://evil.test"}, "issuer_mismatch", marks=pytest.mark.case(57)),
    pytest.param({"iss": "https://op.test/"}, "issuer_mismatch", marks=pytest.mark.case(57)),
    pytest.param({"iss": "https://OP.test"}, "issuer_mismatch", marks=pytest.mark.case(57)),
    pytest.param({"iss": ""}, "issuer_mismatch", marks=pytest.mark.case(57)),
    pytest.param({"iss": None}, "issuer_missing", marks=pytest.mark.case(58)),
    pytest.param({"code": None}, "code_missing", marks=pytest.mark.case(64)),
    pytest.param({"code": ""}, "code_missing", marks=pytest.mark.case(64)),
    pytest.param({"error": "access_denied"}, "error_and_code", marks=pytest.mark.case(63)),
    *(
        pytest.param({"code": None, "error": word}, word, marks=pytest.mark.case(60))
        for word in ("access_denied", "login_required", "interaction_required", "server_error")
    ),
    pytest.param({"code": None, "error": "evil"}, "provider_error", marks=pytest.mark.case(60)),
]


@pytest.mark.parametrize(("changes", "reason"), ENDINGS)
async def test_a_bad_answer_ends_the_attempt_and_keeps_the_session(
    any_site: Any, alter: Any, changes: dict[str, str | None], reason: str
) -> None:
    browser = any_site.browser()
    await browser.log_in()
    callback = await browser.begin("bob")
    cookies = browser.jar()
    async with browser.refused(attempt_ends=True):
        neutral(await browser.get(alter(callback, **changes)))
    assert any_site.told(LoginFailure)[-1].reason == reason
    # The attempt is over for a browser that kept the cookie, too.
    browser.plant(cookies)
    assert (await browser.get(callback)).headers.get("location") == "/"
    assert await browser.user() == "alice"
    assert any_site.exchanges == 1


@pytest.mark.case(59)
@pytest.mark.parametrize(("iss", "status"), [("https://op.test", 303), ("https://evil.test", 400)])
async def test_an_issuer_that_nobody_announced_must_be_the_right_one(
    site: Any, alter: Any, iss: str, status: int
) -> None:
    announced = {"authorization_response_iss_parameter_supported": False}
    site.op.misbehave("discovery", AlteredAnswer(announced), times=None)
    browser = site.browser()
    answer = await browser.get(alter(await browser.begin(), iss=iss))
    assert answer.status_code == status
    assert site.exchanges == (status == 303)


async def test_without_an_announcement_no_issuer_is_needed(site: Any, alter: Any) -> None:
    announced = {"authorization_response_iss_parameter_supported": False}
    site.op.misbehave("discovery", AlteredAnswer(announced), times=None)
    browser = site.browser()
    assert (await browser.get(alter(await browser.begin(), iss=None))).status_code == 303


@pytest.mark.case(39)
@pytest.mark.case(60)
async def test_a_user_who_gives_up_at_the_provider_stays_who_he_was(any_site: Any) -> None:
    browser = any_site.browser()
    await browser.log_in()
    any_site.op.misbehave("authorize", OAuthError("access_denied", "no thanks"))
    async with browser.nothing_changes():
        callback = await browser.begin("bob")
    async with browser.refused(attempt_ends=True):
        neutral(await browser.get(callback))
    assert any_site.told(LoginFailure)[-1].reason == "access_denied"


@pytest.mark.case(62)
@pytest.mark.case(410)
@pytest.mark.parametrize(
    "text",
    [
        "<script>evil()</script>",
        "evil" * 2500,
        "evil\r\nSet-Cookie: a=b",
        "evil\x1b[2J\u202e\u2066",
    ],
)
async def test_what_the_provider_says_goes_to_the_log_alone_clipped_and_escaped(
    site: Any, alter: Any, text: str
) -> None:
    browser = site.browser()
    callback = await browser.begin()
    changes = {"code": None, "error": "access_denied", "error_description": text, "error_uri": text}
    answer = await browser.get(alter(callback, **changes))
    neutral(answer)
    assert "a=b" not in str(answer.headers)
    (failure,) = site.told(LoginFailure)
    assert failure.detail.isprintable()
    assert len(failure.detail) <= 256


@pytest.mark.parametrize("word", ["evil\r\nx", "<script>", "x" * 5000])
async def test_a_word_that_nobody_registered_is_told_by_one_that_we_chose(
    site: Any, alter: Any, word: str
) -> None:
    browser = site.browser()
    neutral(await browser.get(alter(await browser.begin(), code=None, error=word)))
    (failure,) = site.told(LoginFailure)
    assert failure.reason == "provider_error"
    assert failure.detail.isprintable()


async def test_a_script_is_told_in_json(site: Any) -> None:
    answer = await site.browser().app.get(f"{CALLBACK}?state=evil&code=evil")
    assert answer.status_code == 400
    assert answer.json() == {"error": "login_failed", "login_url": "/auth/login"}


# ----------------------------------------------------------------- whose answer it is


@pytest.mark.case(50)
@pytest.mark.case(49)
@pytest.mark.parametrize("kind", ["cookie", "memory", "sqlite", "redis", "cookie+store"])
async def test_an_answer_opened_in_another_browser_logs_nobody_in(
    make_login_site: Any, kind: str
) -> None:
    site = make_login_site(kind)
    attacker, victim, logged_in = (site.browser() for _ in range(3))
    await logged_in.log_in("alice")
    callback = await attacker.begin("bob")
    for browser in (victim, logged_in):
        async with browser.refused(attempt_ends=False):
            neutral(await browser.get(callback))
    assert await victim.user() is None
    assert (await attacker.get(callback)).status_code == 303


@pytest.mark.case(73)
async def test_a_stolen_code_is_of_no_use_with_another_state(
    site: Any, alter: Any, parse: Any
) -> None:
    victim, attacker = site.browser(), site.browser()
    stolen = parse(await victim.begin("alice"))["code"]
    callback = await attacker.begin("bob")
    async with attacker.refused(attempt_ends=True, calls=1):
        neutral(await attacker.get(alter(callback, code=stolen)))
    assert site.told(LoginFailure)[-1].reason == "code_refused"
    assert await attacker.user() is None


@pytest.mark.case(73)
async def test_a_code_of_another_login_is_refused_by_its_nonce(site: Any) -> None:
    browser = site.browser()
    callback = await browser.begin()
    site.op.misbehave("token", WrongClaim({"nonce": "that of another login"}))
    async with browser.refused(attempt_ends=True, calls=1):
        neutral(await browser.get(callback))


@pytest.mark.case(74)
async def test_an_answer_to_a_request_without_state_is_refused(site: Any, alter: Any) -> None:
    browser = site.browser()
    started = (await browser.get("/auth/login")).headers["location"]
    callback = await browser.ask("alice", alter(started, state=None, nonce=None))
    async with browser.refused(attempt_ends=False):
        answer = await browser.get(callback)
        neutral(answer)
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert "default-src 'none'" in answer.headers["content-security-policy"]


@pytest.mark.case(55)
@pytest.mark.parametrize("kind", ["cookie", "memory", "sqlite", "redis"])
@pytest.mark.parametrize(
    "spoil", ["tampered", "truncated", "session", "other-attempt", "other-key"]
)
async def test_an_attempt_that_cannot_be_read_is_refused_and_cleared(
    make_login_site: Any, kind: str, spoil: str
) -> None:
    site = make_login_site(kind)
    browser = site.browser()
    await browser.log_in()
    callback = await browser.begin()
    ((name, value),) = browser.cookies("login").items()
    if spoil == "other-attempt":
        await browser.begin()
        value = next(v for n, v in browser.cookies("login").items() if n != name)
    elif spoil == "other-key":
        stranger = make_login_site(kind, secret_key=OTHER_KEY)
        other = stranger.browser()
        await other.begin()
        (value,) = other.cookies("login").values()
    else:
        value = {
            "tampered": value[:40] + ("A" if value[40] != "A" else "B") + value[41:],
            "truncated": value[:60],
            "session": next(iter(browser.cookies().values())),
        }[spoil]
    browser.plant({name: value})
    exchanged = site.exchanges
    async with browser.nothing_changes():
        neutral(await browser.get(callback))
    assert site.exchanges == exchanged
    assert name not in browser.cookies("login")


@pytest.mark.case(55)
@pytest.mark.parametrize("kind", ["cookie", "memory", "sqlite", "redis"])
async def test_an_attempt_pasted_as_a_session_is_none(make_login_site: Any, kind: str) -> None:
    site = make_login_site(kind)
    browser = site.browser()
    await browser.log_in()
    await browser.begin()
    (attempt,) = browser.cookies("login").values()
    name = next(name for name in browser.cookies() if not name.endswith("-data"))
    stranger = site.browser()
    stranger.plant({name: attempt})
    assert await stranger.user() is None


@pytest.mark.case(56)
async def test_an_attempt_at_one_provider_is_refused_at_the_callback_of_another(
    make_login_site: Any, other_provider: Any, site: Any
) -> None:
    other, client = other_provider
    (first,) = site.auth.providers.values()
    both = make_login_site(providers={"one": first, "two": client})
    browser = both.browser()
    callback = await browser.begin()
    strayed = callback.replace("/auth/callback", "/cb/b")
    neutral(await browser.get(strayed))
    assert both.told(LoginFailure)[-1].reason == "state_of_another_provider"
    assert both.exchanges == 0
    assert other.count("token") == 0
    assert not browser.attempts()


async def test_an_attempt_at_a_provider_that_is_configured_no_more_is_refused(
    make_login_site: Any, other_provider: Any
) -> None:
    _, client = other_provider
    site = make_login_site()
    browser = site.browser()
    callback = await browser.begin()
    later = make_login_site(providers={"two": client})
    moved = later.browser()
    moved.plant(browser.jar())
    answer = await moved.app.get(callback.replace("/auth/callback", "/cb/b"))
    assert answer.status_code == 400
    assert later.told(LoginFailure)[-1].reason == "state_of_another_provider"


@pytest.mark.case(56)
@pytest.mark.parametrize("changed", ["issuer", "client_id"])
async def test_an_attempt_of_before_a_change_of_settings_is_refused(
    make_login_site: Any, other_provider: Any, changed: str
) -> None:
    browser = make_login_site().browser()
    callback = await browser.begin()
    if changed == "issuer":
        other, _ = other_provider
        client = OpenIDProvider(other.issuer, client_id="app", client_secret="secret")
        later = make_login_site(providers={"default": client})
    else:
        later = make_login_site(provider={"client_id": "app2"})
    moved = later.browser()
    moved.plant(browser.jar())
    neutral(await moved.get(callback))
    assert later.told(LoginFailure)[-1].reason == "state_of_another_provider"
    assert not moved.attempts()


# ----------------------------------------------------------------- once, and in time


@pytest.mark.case(51)
async def test_the_back_button_leads_to_the_landing_page_and_spends_nothing(any_site: Any) -> None:
    browser = any_site.browser()
    callback = await browser.begin(query="?return_to=/deep")
    assert (await browser.get(callback)).headers["location"] == "/deep"
    async with browser.refused(attempt_ends=False):
        for _ in range(2):
            answer = await browser.get(callback)
            assert (answer.status_code, answer.headers["location"]) == (303, "/")


@pytest.mark.case(51)
async def test_a_reload_after_the_logout_is_refused(any_site: Any) -> None:
    browser = any_site.browser()
    callback = await browser.begin()
    await browser.get(callback)
    await browser.log_out()
    neutral(await browser.get(callback))
    assert any_site.exchanges == 1
    assert await browser.user() is None


@pytest.mark.case(51)
async def test_a_used_answer_in_another_browser_logs_nobody_in(any_site: Any) -> None:
    browser, stranger = any_site.browser(), any_site.browser()
    callback = await browser.begin()
    stranger.plant(browser.jar())
    await browser.get(callback)
    neutral(await stranger.get(callback))
    assert any_site.exchanges == 1
    assert await stranger.user() is None


@pytest.mark.case(52)
async def test_two_answers_of_the_same_moment_are_one_token_call(any_site: Any) -> None:
    browser = any_site.browser()
    callback = await browser.begin(query="?return_to=/deep")
    gate = any_site.op.hold("token")
    tasks = [asyncio.create_task(browser.get(callback)) for _ in range(2)]
    await gate.entered.wait()
    for _ in range(20):  # until the second waits as well
        await asyncio.sleep(0)
    gate.release()
    answers = await asyncio.gather(*tasks)
    assert [answer.headers["location"] for answer in answers] == ["/deep", "/deep"]
    assert any_site.exchanges == 1
    assert len(any_site.told(LoggedIn)) == 1
    assert await browser.user() == "alice"
    assert len(any_site.live_families()) == 1


async def test_a_browser_that_goes_away_does_not_stop_the_exchange(site: Any) -> None:
    browser = site.browser()
    callback = await browser.begin()
    gate = site.op.hold("token")
    first = asyncio.create_task(browser.get(callback))
    await gate.entered.wait()
    second = asyncio.create_task(browser.get(callback))
    for _ in range(20):
        await asyncio.sleep(0)
    first.cancel()
    gate.release()
    assert (await second).status_code == 303
    assert await browser.user() == "alice"
    assert site.exchanges == 1


@pytest.mark.case(53)
@pytest.mark.case(89)
@pytest.mark.parametrize(
    ("seconds", "status"), [(599, 303), (600, 303), (601, 400), (30 * 86400, 400)]
)
async def test_a_user_has_ten_minutes_at_the_provider(
    any_site: Any, seconds: float, status: int
) -> None:
    browser = any_site.browser()
    started = (await browser.get("/auth/login")).headers["location"]
    any_site.clock.advance(seconds)
    callback = await browser.ask("alice", started)
    answer = await browser.get(callback)
    assert answer.status_code == status
    assert any_site.exchanges == (status == 303)
    if status == 400:
        neutral(answer)
        assert any_site.told(LoginFailure)[-1].reason == "state_expired"
        assert not browser.attempts()


# ----------------------------------------------------------------- how it comes


@pytest.mark.case(70)
@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        pytest.param("HEAD", {}, 405, id="head"),
        pytest.param("OPTIONS", {}, 405, id="options"),
        pytest.param("GET", {"sec-purpose": "prefetch"}, 204, id="prefetch"),
        pytest.param("GET", {"sec-purpose": "prefetch;prerender"}, 204, id="prerender"),
        pytest.param("GET", {"x-moz": "prefetch"}, 204, id="old-firefox"),
        pytest.param("POST", {}, 405, id="post", marks=pytest.mark.case(67)),
        pytest.param("PUT", {}, 405, id="put"),
    ],
)
async def test_another_method_or_a_prefetch_spends_nothing(
    any_site: Any, method: str, headers: dict[str, str], status: int
) -> None:
    browser = any_site.browser()
    callback = await browser.begin()
    async with browser.refused(attempt_ends=False):
        answer = await browser.app.request(method, callback, headers=headers)
        assert answer.status_code == status
    assert (await browser.get(callback)).status_code == 303


@pytest.mark.case(434)
async def test_a_full_memory_makes_no_used_answer_good_again(
    make_login_site: Any, frozen_clock: Any
) -> None:
    site = make_login_site(store=MemoryStore(clock=frozen_clock, max_entries=5))
    browser = site.browser()
    callback = await browser.begin()
    kept = browser.jar()
    await browser.get(callback)
    for _ in range(20):
        await site.browser().get("/put?a=1")
    assert await browser.user() is None, "the session made room"
    browser.plant(kept)
    neutral(await browser.get(callback))
    assert site.told(LoginFailure)[-1].reason == "state_used"
    assert site.exchanges == 1


@pytest.mark.case(434)
async def test_a_memory_full_of_used_answers_refuses_logins_and_forgets_none(
    make_login_site: Any, frozen_clock: Any
) -> None:
    site = make_login_site(store=MemoryStore(clock=frozen_clock, max_entries=2))
    answers = []
    for _ in range(3):
        browser = site.browser()
        callback, kept = await browser.begin(), browser.jar()
        answers.append((await browser.get(callback)).status_code)
        browser.plant(kept)
        answers.append((await browser.get(callback)).status_code)
    assert answers == [303, 303, 303, 303, 503, 503]
    assert site.exchanges == 2
    frozen_clock.advance(601)
    assert (await site.browser().log_in()).status_code == 303


@pytest.fixture
def posting(make_login_site: Any) -> Any:
    """Return a site whose provider answers by form_post."""
    return make_login_site(provider={"response_mode": "form_post"})


async def fields_of(
    browser: Any, parse: Any, query: str = "", user: str = "alice"
) -> dict[str, str]:
    """Return the form that the provider would have the browser post."""
    from tokenward.testing.login import _FormReader

    started = (await browser.get(f"/auth/login{query}")).headers["location"]
    assert parse(started)["response_mode"] == "form_post"
    browser.op.cookies.clear()
    browser.site.op.sign_in_automatically(user)
    reader = _FormReader()
    reader.feed((await browser.op.get(started)).text)
    assert reader.form
    assert reader.form.action == "https://app.test/auth/callback"
    return reader.form.fields


@pytest.mark.case(68)
async def test_an_answer_may_come_by_form(posting: Any, parse: Any) -> None:
    browser = posting.browser()
    started = await browser.get("/auth/login")
    (line,) = started.headers.get_list("set-cookie")
    assert line.endswith("; HttpOnly; Secure; SameSite=None")
    fields = await fields_of(browser, parse, "?return_to=/deep")
    answer, final = await come_back(browser, fields)
    assert (final.status_code, final.headers["location"]) == (303, "/deep")
    assert fields["code"] not in answer.headers["location"]
    for line in (*answer.headers.get_list("set-cookie"), *final.headers.get_list("set-cookie")):
        assert ("SameSite=None" in line) == ("-login-" in line)
    assert await browser.user() == "alice"
    assert browser.attempts() == [started.headers["set-cookie"].partition("=")[0]]


async def come_back(browser: Any, fields: dict[str, str]) -> tuple[Any, Any]:
    """Post the provider's form as browsers do, without what is SameSite=Lax, and follow."""
    lax = {name: value for name, value in browser.jar().items() if "-login-" not in name}
    for name in lax:
        browser.app.cookies.delete(name)
    answer = await browser.post(
        CALLBACK, fields, origin="https://op.test", sec_fetch_site="cross-site"
    )
    browser.plant(lax)
    assert answer.status_code == 303, answer.text
    return answer, await browser.get(answer.headers["location"], sec_fetch_site="cross-site")


@pytest.mark.parametrize("kind", ["cookie", "memory", "sqlite", "redis"])
@pytest.mark.parametrize("again", ["alice", "bob"])
async def test_a_login_by_form_ends_the_session_that_it_takes_the_place_of(
    make_login_site: Any, parse: Any, kind: str, again: str
) -> None:
    site = make_login_site(kind, provider={"response_mode": "form_post"}, carry_over=("cart",))
    browser = site.browser()
    await come_back(browser, await fields_of(browser, parse, user="alice"))
    await browser.get("/put?cart=7")
    thief = site.browser()
    thief.plant(browser.cookies())
    assert await thief.user() == "alice"
    _, final = await come_back(browser, await fields_of(browser, parse, user=again))
    assert final.headers["location"] == "/"
    assert await thief.user() is None
    assert (await browser.me())["data"] == ({"cart": "7"} if again == "alice" else {})
    await site.settle()
    assert [family.ended for family in site.op.families] == ["revoked", None]


async def test_whoever_posts_an_answer_again_and_is_logged_in_lands(
    posting: Any, parse: Any
) -> None:
    browser = posting.browser()
    fields = await fields_of(browser, parse)
    await come_back(browser, fields)
    _, final = await come_back(browser, fields)
    assert (final.status_code, final.headers["location"]) == (303, "/")
    _, elsewhere = await come_back(posting.browser(), fields)
    neutral(elsewhere)
    assert posting.exchanges == 1


async def test_a_posted_answer_of_no_attempt_of_this_browser_leaves_no_cookie(
    posting: Any, parse: Any
) -> None:
    fields = await fields_of(posting.browser(), parse)
    victim = posting.browser()
    answer, final = await come_back(victim, fields)
    assert answer.headers.get_list("set-cookie") == []
    neutral(final)
    assert victim.jar() == {}


async def test_a_long_answer_takes_several_cookies_and_all_of_them_go(
    posting: Any, parse: Any
) -> None:
    browser = posting.browser()
    fields = await fields_of(browser, parse)
    answer, final = await come_back(browser, {**fields, "session_state": "x" * 5000})
    assert len(answer.headers.get_list("set-cookie")) > 1
    assert final.headers["location"] == "/"
    assert browser.attempts() == []
    more = {**await fields_of(browser, parse), "session_state": "x" * 8000}
    refused = await browser.post(CALLBACK, more)
    assert refused.status_code == 413


@pytest.mark.case(68)
async def test_form_post_needs_https(make_login_site: Any) -> None:
    site = make_login_site(
        provider={"response_mode": "form_post"},
        public_url="http://localhost:8000",
        dangerously_allow_http=True,
    )
    with pytest.raises(ConfigurationError, match="response_mode"):
        site.app.build_middleware_stack()


@pytest.mark.parametrize(
    ("content_type", "content", "status"),
    [
        pytest.param("multipart/form-data; boundary=x", b"--x--", 415, id="multipart"),
        pytest.param("text/plain", b"state=x", 415, id="text"),
        pytest.param("application/json", b"{}", 415, id="json"),
        pytest.param("", b"state=x", 415, id="no-type"),
        pytest.param("application/x-www-form-urlencoded", b"a" * 65537, 413, id="64-KB"),
        pytest.param("application/x-www-form-urlencoded", b"a" * 16385, 413, id="16-KB"),
        pytest.param("application/x-www-form-urlencoded", b"a=&" * 50 + b"a=", 413, id="51-fields"),
    ],
)
@pytest.mark.case(69)
async def test_a_form_that_no_provider_sends_is_refused(
    posting: Any, content_type: str, content: bytes, status: int
) -> None:
    browser = posting.browser()
    headers = {"content-type": content_type} if content_type else {}
    answer = await browser.app.post(CALLBACK, content=content, headers=headers)
    assert answer.status_code == status
    assert posting.exchanges == 0


@pytest.mark.case(67)
async def test_parameters_in_query_and_body_are_refused(posting: Any, parse: Any) -> None:
    browser = posting.browser()
    fields = await fields_of(browser, parse)
    async with browser.refused(attempt_ends=False):
        neutral(await browser.post(f"{CALLBACK}?state={fields['state']}", fields))
    assert (await browser.post(CALLBACK, fields)).status_code == 303


@pytest.mark.case(67)
async def test_an_answer_in_the_query_is_refused_where_a_form_is_expected(
    posting: Any, parse: Any
) -> None:
    browser = posting.browser()
    fields = await fields_of(browser, parse)
    async with browser.refused(attempt_ends=True):
        neutral(await browser.app.get(CALLBACK, params=fields))
    assert posting.told(LoginFailure)[-1].reason == "response_mode_mismatch"


@pytest.mark.case(67)
async def test_each_of_two_providers_answers_in_its_own_way_alone(
    make_login_site: Any, posting: Any, other_provider: Any, parse: Any
) -> None:
    (by_form,) = posting.auth.providers.values()
    _, client = other_provider
    by_query = OpenIDProvider(
        client.issuer, client_id="app", client_secret="secret", clock=posting.clock
    )
    both = make_login_site(providers={"form": by_form, "query": by_query})
    browser = both.browser()
    fields = await fields_of(browser, parse)
    async with browser.refused(attempt_ends=True):
        neutral(await browser.app.get(CALLBACK, params=fields))
    assert both.told(LoginFailure)[-1].reason == "response_mode_mismatch"


async def _never() -> dict[str, Any]:
    await asyncio.Event().wait()
    raise AssertionError


@pytest.mark.case(440)
async def test_a_body_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    assert body.DEADLINE == 5.0
    monkeypatch.setattr(body, "DEADLINE", 0.0)
    scope = {"headers": [(b"content-type", b"application/x-www-form-urlencoded")]}
    with pytest.raises(LoginFailed, match="body_too_slow"):
        await body.read_form(scope, _never)


async def test_a_client_that_goes_away_in_the_middle_is_given_up() -> None:
    messages = [
        {"type": "http.request", "body": b"state=", "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    scope = {"headers": [(b"content-type", b"application/x-www-form-urlencoded")]}
    with pytest.raises(LoginFailed, match="body_incomplete"):
        await body.read_form(scope, receive)


async def test_a_body_in_pieces_is_put_together_and_bounded() -> None:
    scope = {"headers": [(b"content-type", b"application/X-WWW-form-urlencoded; charset=UTF-8")]}

    def pieces(count: int) -> Any:
        left = [
            {"type": "http.request", "body": b"a" * 1024, "more_body": n < count - 1}
            for n in range(count)
        ]

        async def receive() -> dict[str, Any]:
            return left.pop(0)

        return receive

    assert len(await body.read_form(scope, pieces(64))) == 64 * 1024
    with pytest.raises(LoginFailed, match="body_too_large"):
        await body.read_form(scope, pieces(65))


# ----------------------------------------------------------------- what the session begins with


@pytest.mark.case(76)
async def test_every_login_gets_a_new_session(any_site: Any) -> None:
    browser = any_site.browser()
    await browser.log_in()
    first, old = dict(browser.cookies()), await browser.me()
    await browser.log_in()
    assert not set(first.values()) & set(browser.cookies().values())
    await any_site.settle()
    assert any_site.op.is_revoked(old["refresh_token"])
    # The old session is over wherever its cookie was copied to.
    thief = any_site.browser()
    thief.plant(first)
    assert await thief.user() is None


@pytest.mark.case(76)
async def test_a_session_that_was_planted_before_the_login_is_not_kept(any_site: Any) -> None:
    attacker, victim = any_site.browser(), any_site.browser()
    await attacker.get("/put?cart=evil")
    victim.plant(attacker.cookies())
    assert (await victim.me())["data"] == {"cart": "evil"}
    await victim.log_in()
    assert (await victim.me())["data"] == {}
    assert await attacker.user() is None


@pytest.mark.case(77)
@pytest.mark.parametrize("kind", ["cookie", "memory", "sqlite", "redis"])
async def test_only_what_is_named_survives_the_login_of_a_visitor(
    make_login_site: Any, kind: str
) -> None:
    site = make_login_site(kind, carry_over=("cart", "absent"))
    browser = site.browser()
    await browser.get("/put?cart=7&role=admin")
    await browser.log_in()
    assert (await browser.me())["data"] == {"cart": "7"}
    await browser.get("/put?more=1")
    await browser.log_in("alice")
    assert (await browser.me())["data"] == {"cart": "7"}


@pytest.mark.case(77)
@pytest.mark.case(78)
@pytest.mark.parametrize("kind", ["cookie", "memory", "sqlite", "redis"])
async def test_another_user_in_the_same_browser_takes_over_nothing(
    make_login_site: Any, kind: str
) -> None:
    site = make_login_site(kind, carry_over=("cart",))
    browser = site.browser()
    await browser.log_in("alice")
    await browser.get("/put?cart=alice")
    alice, cookies = await browser.me(), browser.cookies()
    await browser.log_in("bob")
    bob = await browser.me()
    assert (bob["sub"], bob["data"]) == ("bob", {})
    await site.settle()
    assert site.op.is_revoked(alice["refresh_token"])
    assert site.op.is_active(bob["refresh_token"])
    thief = site.browser()
    thief.plant(cookies)
    assert await thief.user() is None


async def test_the_old_refresh_token_stays_where_that_is_wanted(make_login_site: Any) -> None:
    site = make_login_site(revoke_at_logout=False)
    browser = site.browser()
    await browser.log_in("alice")
    alice = await browser.me()
    await browser.log_in("bob")
    await site.settle()
    assert site.op.is_active(alice["refresh_token"])


# ----------------------------------------------------------------- what the app has to say


@pytest.mark.parametrize("kind", ["cookie", "memory", "sqlite", "redis"])
async def test_the_app_may_add_to_the_session(make_login_site: Any, kind: str) -> None:
    async def on_login(user: Any, tokens: Any) -> dict[str, Any]:
        assert tokens.access_token.value
        return {"greeting": f"Hello {user.name}", "cart": []}

    browser = make_login_site(kind, on_login=on_login, carry_over=("cart",)).browser()
    await browser.get("/put?cart=7")
    await browser.log_in()
    assert (await browser.me())["data"] == {"greeting": "Hello Alice", "cart": []}


class Broken(Exception):
    """What an app may raise."""


def raising(error: BaseException) -> Any:
    async def on_login(user: Any, tokens: Any) -> None:
        detail = tokens.refresh_token.reveal()
        assert detail
        if isinstance(error, Broken):
            raise Broken(detail)
        raise error

    return on_login


def returning(value: object) -> Any:
    async def on_login(user: Any, tokens: Any) -> Any:
        return value

    return on_login


HOOKS: Final = [raising(LoginFailed("not_a_member")), raising(LoginFailed("on_login_failed"))]


@pytest.mark.case(88)
@pytest.mark.parametrize("kind", ["cookie", "memory", "sqlite", "redis"])
@pytest.mark.parametrize(
    ("hook", "reason"),
    [
        pytest.param(HOOKS[0], "not_a_member", id="refuses"),
        pytest.param(HOOKS[1], "on_login_failed", id="refuses-with-our-word"),
        pytest.param(raising(Broken()), "on_login_failed", id="raises"),
        pytest.param(raising(KeyError("x")), "on_login_failed", id="key-error"),
        pytest.param(raising(TimeoutError()), "on_login_failed", id="timeout"),
        pytest.param(returning({"x": object()}), "on_login_failed", id="no-json"),
        pytest.param(returning({"x": b""}), "on_login_failed", id="bytes"),
        pytest.param(returning(["x"]), "on_login_failed", id="list"),
        pytest.param(returning(7), "on_login_failed", id="number"),
    ],
)
async def test_a_login_that_the_app_does_not_want_leaves_no_trace(
    make_login_site: Any, kind: str, hook: Any, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    hooks = [returning(None), hook]

    async def on_login(user: Any, tokens: Any) -> Any:
        return await hooks.pop(0)(user, tokens)

    site = make_login_site(kind, on_login=on_login)
    browser = site.browser()
    await browser.log_in("alice")
    callback = await browser.begin("bob")
    async with browser.refused(attempt_ends=True, calls=1):
        answer = await browser.get(callback)
    refused = hook is HOOKS[0] or hook is HOOKS[1]
    assert answer.status_code == (403 if refused else 500)
    assert ("login_refused" if refused else "internal_error") in answer.text
    assert ("/auth/login" in answer.text) == refused, "to sign in again does not mend a fault"
    (failure,) = site.told(LoginFailure)
    assert failure.reason == reason
    assert refused == (failure.detail == "")
    assert refused == ("on_login" not in caplog.text)
    await site.settle()
    assert [family.ended for family in site.op.families] == [None, "revoked"]


async def _look_up(tokens: Any) -> None:
    try:
        {}[tokens.access_token.value]
    except KeyError as error:
        raise Broken(tokens.access_token.value) from error


@pytest.mark.case(88)
async def test_a_crash_of_on_login_is_logged_with_where_it_happened_and_no_token(
    make_login_site: Any, caplog: pytest.LogCaptureFixture
) -> None:
    # The plugin of the suite searches the log for every token there was.
    async def on_login(user: Any, tokens: Any) -> None:
        await _look_up(tokens)

    site = make_login_site(on_login=on_login)
    browser = site.browser()
    answer = await browser.get(await browser.begin())

    assert answer.status_code == 500
    (record,) = [each for each in caplog.records if "on_login" in each.getMessage()]
    assert (record.levelname, record.name, record.exc_info) == (
        "ERROR",
        "tokenward.web.callback",
        None,
    )
    told = record.getMessage()
    assert told.index("Broken") < told.index("in on_login") < told.index("after KeyError")
    assert told.count("in _look_up") == 2
    (failure,) = site.told(LoginFailure)
    assert failure.detail.startswith("Broken in _look_up, line ")


@pytest.mark.case(83)
@pytest.mark.parametrize("where", ["claims", "data"])
async def test_a_session_that_cookies_cannot_hold_is_a_refusal_that_names_the_limit(
    make_login_site: Any, where: str
) -> None:
    async def on_login(user: Any, tokens: Any) -> dict[str, Any] | None:
        return {"cart": "x" * 40_000} if where == "data" else None

    site = make_login_site("cookie", on_login=on_login)
    browser = site.browser()
    callback = await browser.begin()
    if where == "claims":
        site.op.misbehave("token", WrongClaim({"groups": ["x" * 100] * 200}))
    async with browser.refused(attempt_ends=True, calls=1):
        neutral(await browser.get(callback))
    (failure,) = site.told(LoginFailure)
    assert failure.reason == "session_too_large"
    assert "16384 bytes" in failure.detail
    await site.settle()
    assert site.live_families() == set()


@pytest.mark.parametrize("kind", ["cookie", "memory", "sqlite", "redis"])
async def test_a_session_that_the_provider_ends_before_it_begins_is_refused(
    make_login_site: Any, kind: str
) -> None:
    site = make_login_site(kind)
    browser = site.browser()
    callback = await browser.begin()
    site.op.misbehave("token", WrongClaim({"session_expiry": site.clock() - 1}))
    async with browser.refused(attempt_ends=True, calls=1):
        neutral(await browser.get(callback))
    assert site.told(LoginFailure)[0].reason == "session_expiry_past"
    await site.settle()
    assert site.live_families() == set()


async def test_the_provider_may_bound_the_session(any_site: Any) -> None:
    browser = any_site.browser()
    callback = await browser.begin()
    any_site.op.misbehave("token", WrongClaim({"session_expiry": int(any_site.clock()) + 60}))
    await browser.get(callback)
    any_site.clock.advance(59)
    assert await browser.user() == "alice"
    any_site.clock.advance(1)
    assert await browser.user() is None


@pytest.mark.case(139)
async def test_claims_with_names_of_ours_are_claims(make_login_site: Any) -> None:
    names = ("_sid", "tokens", "exp", "id", "data", "rt")
    site = make_login_site("cookie", claims=names)
    browser = site.browser()
    callback = await browser.begin()
    site.op.misbehave(
        "token", WrongClaim({"_sid": "a", "tokens": "b", "id": "c", "data": {"d": 1}, "rt": "e"})
    )
    await browser.get(callback)
    me = await browser.me()
    assert me["claims"]["_sid"] == "a"
    assert me["claims"]["data"] == {"d": 1}
    assert me["data"] == {}
    assert me["refresh_token"] != "e"


@pytest.mark.case(81)
async def test_an_answer_without_id_token_is_refused_and_its_tokens_go_back(any_site: Any) -> None:
    browser = any_site.browser()
    callback = await browser.begin()
    any_site.op.misbehave("token", AlteredAnswer(without=["id_token"]))
    async with browser.refused(attempt_ends=True, calls=1):
        neutral(await browser.get(callback))
    assert any_site.live_families() == set()
    assert await browser.user() is None


async def test_a_login_is_told_once(site: Any) -> None:
    await site.browser().log_in()
    (event,) = site.told(LoggedIn)
    assert event.provider == "default"
