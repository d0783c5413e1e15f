"""The way to the provider: what starts a login, what does not, and where it may end."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, Final
from urllib.parse import quote, urlsplit

import pytest

from tokenward.errors import ConfigurationError
from tokenward.events import LoginFailure, LoginStarted, RedirectBlocked
from tokenward.web.attempts import LoginAttempts
from tokenward.web.cookies import Cookie

LOGIN: Final = "/auth/login"


def blocked(*cases: tuple[int, str, str]) -> list[Any]:
    return [
        pytest.param(f"return_to={value}", id=name, marks=pytest.mark.case(row))
        for row, name, value in cases
    ]


BLOCKED: Final = [
    *blocked(
        (2, "two-slashes", "//evil.test"),
        (2, "three-slashes", "///evil.test"),
        (2, "four-slashes", "////evil.test"),
        (3, "slash-backslash", quote("/\\evil.test")),
        (3, "backslashes", quote("\\\\evil.test")),
        (3, "backslash-slash", quote("\\/evil.test")),
        (3, "slash-backslash-slash", quote("/\\/evil.test")),
        (4, "tab", "/%09/evil.test"),
        (4, "line-feed", "/%0A/evil.test"),
        (4, "carriage-return", "/%0D/evil.test"),
        (4, "vertical-tab", "/%0B%5Cevil.test"),
        (4, "nul", "/%00/evil.test"),
        (5, "leading-space", "%20//evil.test"),
        (5, "leading-control", "%01//evil.test"),
        (5, "byte-order-mark", quote("\ufeff//evil.test")),
        (5, "no-break-space", quote("\u00a0//evil.test")),
        (5, "ideographic-space", quote("\u3000//evil.test")),
        (6, "scheme-only", "https:evil.test"),
        (6, "scheme-one-slash", "https:/evil.test"),
        (6, "scheme-three-slashes", "https:///evil.test"),
        (6, "scheme-backslashes", quote("HTTPS:\\\\evil.test")),
        (7, "javascript", "javascript:alert(1)"),
        (7, "javascript-mixed-case", "JaVaScRiPt:alert(1)"),
        (7, "javascript-with-line-feed", "java%0Ascript:alert(1)"),
        (7, "data", "data:text/html,x"),
        (7, "vbscript", "vbscript:x"),
        (7, "blob", "blob:https://app.test/x"),
        (8, "user", "https://app.test@evil.test/"),
        (8, "user-backslash", quote("https://app.test\\@evil.test/")),
        (8, "user-port", "https://app.test:443@evil.test/"),
        (8, "user-no-scheme", "//app.test@evil.test/"),
        (9, "host-prefix", "https://app.test.evil.test/"),
        (9, "host-suffix", "https://evil-app.test/"),
        (9, "host-dot", "https://appXtest/"),
        (10, "fragment-user", "https://evil.test%23@app.test/"),
        (10, "query-user", "https://evil.test%3F@app.test/"),
        (10, "slash-user", "https://evil.test%252f@app.test/"),
        (10, "nul-host", "https://app.test%2500.evil.test/"),
        (11, "encoded-slash", "/%252fevil.test"),
        (11, "encoded-backslash", "/%255cevil.test"),
        (11, "encoded-tab", "/%2509/evil.test"),
        (11, "encoded-both", "%252f%252fevil.test"),
        (12, "twice-encoded", "/%25252f%25252fevil.test"),
        (12, "three-times-encoded", "/%2525252fevil.test"),
        (13, "dot", "/.//evil.test"),
        (13, "dots", "/..//evil.test"),
        (13, "dots-inside", "/a/..//evil.test"),
        (13, "encoded-dots", "/%252e%252e//evil.test"),
        (13, "dot-backslash", quote("/./\\evil.test")),
        (14, "fullwidth-slash", quote("/\uff0fevil.test")),
        (14, "ideographic-stop", quote("//evil\u3002test")),
        (14, "line-separator", quote("/\u2028/evil.test")),
        (15, "hexadecimal-host", "//0x7f000001"),
        (15, "octal-host", "http:0330.3856078"),
        (15, "ipv6-host", quote("http://[::ffff:1.2.3.4]")),
        (16, "too-long", f"/{'a' * 2048}"),
        (16, "much-too-long", f"/{'a' * 20_000}"),
        (17, "invalid-percent", "/%25zz"),
        (17, "not-utf-8", "/%ff%fe"),
        (17, "lone-surrogate", "/%ed%a0%80"),
        (18, "header-injection", "/a%0d%0aSet-Cookie:x"),
        (19, "twice", "/a&return_to=/b"),
        (20, "login", "/auth/login"),
        (20, "callback", "/auth/callback"),
        (20, "logout", "/auth/logout?sid=x"),
        (20, "login-encoded", "/%2561uth/login"),
    ),
]


@pytest.mark.parametrize("query", BLOCKED)
async def test_a_target_outside_the_site_is_replaced_by_the_landing_page(
    site: Any, query: str
) -> None:
    browser = site.browser()
    answer = await browser.log_in(query=f"?{query}")
    assert answer.headers["location"] == "/"
    assert len(site.told(RedirectBlocked)) == 1
    assert len(site.told(RedirectBlocked)[0].target) <= 256


@pytest.mark.parametrize("query", ["", "?return_to=", "?return_to", "?return_to[]=//evil.test"])
@pytest.mark.case(1)
async def test_without_a_target_the_landing_page_is_next(site: Any, query: str) -> None:
    assert (await site.browser().log_in(query=query)).headers["location"] == "/"
    assert not site.told(RedirectBlocked)


@pytest.mark.parametrize(
    ("asked", "location"),
    [
        pytest.param("/orders/7", "/orders/7", id="path"),
        pytest.param("/orders?page=2&sort=a%2Cb", "/orders?page=2&sort=a%2Cb", id="query"),
        pytest.param("/app#/orders/7", "/app#/orders/7", id="fragment"),
        pytest.param("https://app.test/orders", "/orders", id="own-address"),
    ],
)
async def test_a_user_comes_back_to_the_page_that_he_wanted(
    site: Any, asked: str, location: str
) -> None:
    answer = await site.browser().log_in(query=f"?return_to={quote(asked, safe='')}")
    assert answer.headers["location"] == location
    assert not site.told(RedirectBlocked)


async def test_a_target_at_a_callback_of_its_own_path_is_refused(make_login_site: Any) -> None:
    site = make_login_site(provider={"redirect_path": "/back"})
    answer = await site.browser().log_in(query="?return_to=/back")
    assert answer.headers["location"] == "/"


def sealed_attempt(site: Any, name: str, value: str, **changes: str) -> tuple[str, str]:
    """Change an attempt as somebody could who has the key."""
    cookie = Cookie.for_origin("https://app.test").named("login")
    attempts = LoginAttempts(site.auth.ring, cookie, clock=site.clock)
    found = attempts._open([(b"cookie", f"{name}={value}".encode())], name.rpartition("-")[2])
    line = attempts.begin([], replace(found.attempt, **changes))[0].decode()
    new_name, _, rest = line.partition("=")
    return new_name, rest.partition(";")[0]


@pytest.mark.case(22)
async def test_a_target_is_judged_again_when_it_is_used(site: Any) -> None:
    browser = site.browser()
    callback = await browser.begin(query="?return_to=/fine")
    ((name, value),) = browser.cookies("login").items()
    name, value = sealed_attempt(site, name, value, return_to="//evil.test")
    browser.plant({name: value})
    assert (await browser.get(callback)).headers["location"] == "/"


@pytest.mark.case(21)
async def test_the_target_cannot_be_changed_on_the_way(any_site: Any) -> None:
    browser = any_site.browser()
    callback = await browser.begin(query="?return_to=/fine")
    assert "fine" not in callback
    ((name, value),) = browser.cookies("login").items()
    assert "fine" not in value
    flipped = value[:-8] + ("A" if value[-8] != "A" else "B") + value[-7:]
    browser.plant({name: flipped})
    answer = await browser.get(callback)
    assert answer.status_code == 400
    assert any_site.exchanges == 0


# ----------------------------------------------------------------- the authorization request


@pytest.mark.case(25)
async def test_the_query_adds_nothing_to_the_authorization_request(site: Any, parse: Any) -> None:
    smuggled = {
        "scope": "admin",
        "client_id": "evil",
        "redirect_uri": "https://evil.test",
        "response_type": "token",
        "request_uri": "https://evil.test",
        "claims": "{}",
        "acr_values": "0",
        "nonce": "mine",
        "state": "mine",
    }
    plain = parse((await site.browser().get(LOGIN)).headers["location"])
    query = "&".join(f"{name}={quote(value, safe='')}" for name, value in smuggled.items())
    sent = parse((await site.browser().get(f"{LOGIN}?{query}")).headers["location"])
    random = {"state", "nonce", "code_challenge"}
    assert {k: v for k, v in sent.items() if k not in random} == {
        k: v for k, v in plain.items() if k not in random
    }
    assert "mine" not in sent.values()


@pytest.mark.case(25)
async def test_three_parameters_reach_the_provider(site: Any, parse: Any) -> None:
    query = "?prompt=login&login_hint=j%C3%B6rg%40example.org&ui_locales=de"
    sent = parse((await site.browser().get(LOGIN + query)).headers["location"])
    assert sent["prompt"] == "login"
    assert sent["login_hint"] == "jörg@example.org"
    assert sent["ui_locales"] == "de"


@pytest.mark.parametrize(
    "query",
    [
        pytest.param(f"login_hint={'a' * 257}", id="too-long"),
        pytest.param(f"login_hint={quote('ö' * 200)}", id="too-long-in-bytes"),
        pytest.param("login_hint=a&login_hint=b", id="twice"),
        pytest.param("login_hint=%ff", id="not-utf-8"),
        pytest.param("login_hint=", id="empty"),
        pytest.param("&".join(f"x{n}=" for n in range(200)), id="many-parameters"),
        pytest.param(f"x={'a' * 60_000}", id="very-long"),
    ],
)
async def test_a_parameter_that_cannot_be_used_is_as_good_as_none(
    site: Any, query: str, parse: Any
) -> None:
    answer = await site.browser().get(f"{LOGIN}?{query}")
    assert answer.status_code == 303
    assert "login_hint" not in parse(answer.headers["location"])


async def test_the_longest_parameters_still_fit_the_address(site: Any) -> None:
    longest = quote("\x7f" * 256)
    query = f"prompt={longest}&login_hint={longest}&ui_locales={longest}"
    answer = await site.browser().get(f"{LOGIN}?{query}&return_to=/{'a' * 2047}")
    assert answer.status_code == 303
    assert len(answer.headers["location"]) < 8192


@pytest.mark.case(34, 35, 36)
async def test_state_nonce_and_challenge_are_strong_and_new_every_time(
    site: Any, parse: Any
) -> None:
    seen = set()
    for _ in range(3):
        sent = parse((await site.browser().get(LOGIN)).headers["location"])
        assert sent["response_type"] == "code"
        assert sent["code_challenge_method"] == "S256"
        for name in ("state", "nonce", "code_challenge"):
            # 43 characters of base64url are 256 bits.
            assert re.fullmatch(r"[A-Za-z0-9_-]{43}", sent[name])
            seen.add(sent[name])
    assert len(seen) == 9


@pytest.mark.case(41)
async def test_an_address_that_is_too_long_is_an_error_that_names_the_remedy(
    make_login_site: Any,
) -> None:
    site = make_login_site(provider={"authorize_parameters": {"hint": "x" * 8000}})
    browser = site.browser()
    answer = await browser.get(LOGIN)
    assert answer.status_code == 500
    assert "xxx" not in answer.text
    assert not browser.attempts()
    (failure,) = site.told(LoginFailure)
    assert failure.reason == "misconfigured"
    assert "PAR" in failure.detail


# ----------------------------------------------------------------- what starts a login


@pytest.mark.case(27)
@pytest.mark.case(33)
async def test_another_site_may_start_a_login_and_nothing_else(any_site: Any) -> None:
    browser = any_site.browser()
    await browser.log_in()
    async with browser.nothing_changes():
        answer = await browser.get(LOGIN, sec_fetch_site="cross-site")
        assert answer.status_code == 303
        begun, forgotten = answer.headers.get_list("set-cookie")
        assert begun.startswith(tuple(browser.attempts()))
        assert forgotten.startswith("__Host-tokenward-loop=;"), "the last login stuck"
    assert len(browser.attempts()) == 1


@pytest.mark.case(29)
@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        pytest.param("HEAD", {}, 405, id="head"),
        pytest.param("OPTIONS", {}, 405, id="options"),
        pytest.param("POST", {}, 405, id="post"),
        pytest.param("GET", {"sec-purpose": "prefetch"}, 204, id="prefetch"),
        pytest.param("GET", {"sec-purpose": "prefetch;prerender"}, 204, id="prerender"),
        pytest.param("GET", {"purpose": "prefetch"}, 204, id="old-prefetch"),
        pytest.param("GET", {"sec-fetch-mode": "no-cors"}, 400, id="image"),
        pytest.param("GET", {"sec-fetch-mode": "cors"}, 400, id="fetch"),
    ],
)
async def test_what_no_user_sees_starts_no_login(
    site: Any, method: str, headers: dict[str, str], status: int
) -> None:
    browser = site.browser()
    answer = await browser.app.request(method, LOGIN, headers=headers)
    assert answer.status_code == status
    assert not browser.app.cookies
    assert not site.told(LoginStarted)
    if status == 405:
        assert answer.headers["allow"] == "GET"


async def test_a_login_in_a_frame_is_started(site: Any) -> None:
    headers = {"sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe"}
    assert (await site.browser().app.get(LOGIN, headers=headers)).status_code == 303


@pytest.mark.case(32)
async def test_logins_that_are_only_begun_cost_no_memory(site: Any) -> None:
    for _ in range(100):
        assert (await site.browser().get(LOGIN)).status_code == 303
    assert site.store.calls == 0


@pytest.mark.case(28)
async def test_another_site_may_name_the_provider_by_its_issuer(site: Any, parse: Any) -> None:
    query = "?iss=https%3A%2F%2Fop.test&login_hint=alice&target_link_uri=https://app.test/deep"
    answer = await site.browser().log_in(query=query)
    assert answer.headers["location"] == "/deep"


@pytest.mark.case(28)
async def test_a_login_for_another_issuer_is_refused(site: Any) -> None:
    browser = site.browser()
    answer = await browser.get(f"{LOGIN}?iss=https%3A%2F%2Fevil.test")
    assert answer.status_code == 400
    assert not browser.attempts()


@pytest.mark.case(28)
async def test_a_target_link_elsewhere_is_replaced_by_the_landing_page(site: Any) -> None:
    answer = await site.browser().log_in(query="?target_link_uri=https://evil.test/deep")
    assert answer.headers["location"] == "/"
    assert len(site.told(RedirectBlocked)) == 1


async def test_a_provider_that_is_not_there_is_refused(site: Any) -> None:
    answer = await site.browser().get(f"{LOGIN}?provider=evil")
    assert answer.status_code == 400
    assert site.told(LoginFailure)[0].reason == "provider_unknown"


# ----------------------------------------------------------------- who is sent to it


@pytest.mark.case(43)
@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-mode": "cors", "sec-fetch-dest": "empty", "accept": "text/html"},
        {"accept": "application/json"},
        {},
    ],
)
async def test_a_script_without_a_user_is_told_so_and_not_redirected(
    site: Any, headers: dict[str, str]
) -> None:
    answer = await site.browser().app.get("/token", headers=headers)
    assert answer.status_code == 401
    assert answer.json() == {"error": "not_authenticated", "login_url": LOGIN}


@pytest.mark.case(44)
async def test_a_form_without_a_user_is_not_sent_again_after_the_login(site: Any) -> None:
    answer = await site.browser().post("/token", {"amount": "100"})
    assert answer.status_code == 303
    assert answer.headers["location"] == LOGIN


@pytest.mark.case(46)
@pytest.mark.case(47)
@pytest.mark.case(425)
@pytest.mark.case(426)
@pytest.mark.parametrize(
    ("path", "headers"),
    [
        pytest.param("/token?/auth/login", {}, id="query"),
        pytest.param("/token?x#/auth/login", {}, id="fragment"),
        pytest.param("/token", {"x-original-url": "/auth/login"}, id="original-url"),
        pytest.param("/token", {"x-rewrite-url": "/public"}, id="rewrite-url"),
        pytest.param("/token", {"x-forwarded-uri": "/public"}, id="forwarded-uri"),
        pytest.param("/token", {"user-agent": "ELB-HealthChecker"}, id="user-agent"),
        pytest.param("/token", {"x-forwarded-user": "alice"}, id="forwarded-user"),
        pytest.param("/token", {"x_forwarded_user": "alice"}, id="underscores"),
        pytest.param("/token", {"oidc_claim_sub": "alice"}, id="identity-header"),
        pytest.param("/token", {"host": "app.test/public?"}, id="host"),
    ],
)
async def test_nothing_but_the_session_says_who_may_pass(
    site: Any, path: str, headers: dict[str, str]
) -> None:
    answer = await site.browser().app.get(path, headers=headers)
    assert answer.status_code == 401


# ----------------------------------------------------------------- several at once


@pytest.mark.case(30)
async def test_five_tabs_log_in_at_once_and_finish_in_any_order(any_site: Any) -> None:
    browser = any_site.browser()
    pages = ["/a", "/b", "/c", "/d", "/e"]
    callbacks = [await browser.begin(query=f"?return_to={page}") for page in pages]
    assert len(browser.attempts()) == 5
    for index in (2, 4, 0, 3, 1):
        answer = await browser.get(callbacks[index])
        assert answer.headers["location"] == pages[index]
    assert await browser.user() == "alice"
    assert not browser.attempts()


@pytest.mark.case(31)
async def test_the_sixth_login_under_way_drops_the_oldest(site: Any) -> None:
    browser = site.browser()
    callbacks = []
    for _ in range(7):
        callbacks.append(await browser.begin())
        site.clock.advance(1)
    assert len(browser.attempts()) == 5
    for callback in callbacks[:2]:
        assert (await browser.get(callback)).status_code == 400
    for callback in callbacks[2:]:
        assert (await browser.get(callback)).status_code == 303


@pytest.mark.case(31)
async def test_logins_under_way_take_a_bounded_part_of_the_header(site: Any) -> None:
    browser = site.browser()
    for _ in range(6):
        await browser.begin(query=f"?return_to=/{'a' * 1000}")
        size = sum(len(f"{name}={value}; ") for name, value in browser.cookies("login").items())
        assert size <= 4096
        site.clock.advance(1)
    callback = await browser.begin(query=f"?return_to=/{'a' * 2047}")
    assert len(browser.attempts()) == 1
    assert (await browser.get(callback)).headers["location"] == f"/{'a' * 2047}"


async def test_of_two_attempts_of_the_same_moment_the_earlier_is_dropped(site: Any) -> None:
    browser = site.browser()
    callbacks = [await browser.begin() for _ in range(6)]
    assert (await browser.get(callbacks[0])).status_code == 400
    assert (await browser.get(callbacks[5])).status_code == 303


# ----------------------------------------------------------------- several providers


async def test_the_query_chooses_between_two_providers(
    make_login_site: Any, other_provider: Any, site: Any
) -> None:
    other, client = other_provider
    (first,) = site.auth.providers.values()
    both = make_login_site(providers={"one": first, "two": client})
    browser = both.browser()
    assert urlsplit((await browser.get(LOGIN)).headers["location"]).netloc == "op.test"
    both.op = other
    browser = both.browser()
    started = await browser.get(f"{LOGIN}?provider=two&return_to=/x")
    assert urlsplit(started.headers["location"]).netloc == "other.test"
    answer = await browser.get(await browser.ask("alice", started.headers["location"]))
    assert answer.headers["location"] == "/x"
    assert (await browser.me())["issuer"] == "https://other.test"


@pytest.mark.parametrize("path", ["/auth/login", "/auth/logout", "back", "/back/", "//back"])
async def test_a_callback_that_cannot_be_reached_stops_the_start(
    make_login_site: Any, path: str
) -> None:
    site = make_login_site(provider={"redirect_path": path})
    with pytest.raises(ConfigurationError, match="redirect_path"):
        site.app.build_middleware_stack()


async def test_a_callback_may_have_a_path_of_its_own(make_login_site: Any, parse: Any) -> None:
    site = make_login_site(provider={"redirect_path": "/back"})
    browser = site.browser()
    callback = await browser.begin()
    assert callback.startswith("https://app.test/back?")
    assert (await browser.get(callback)).status_code == 303
    assert await browser.user() == "alice"


# ----------------------------------------------------------------- what every answer has


@pytest.mark.case(42)
@pytest.mark.case(33)
async def test_every_answer_of_ours_is_kept_from_caches_frames_and_referers(
    any_site: Any,
) -> None:
    browser = any_site.browser()
    callback = await browser.begin()
    sid = (await browser.me())["logout_url"]
    answers = [
        await browser.get(LOGIN),
        await browser.get(callback),
        await browser.get(callback),
        await browser.get("/auth/callback"),
        await browser.get("/auth/callback?state=x&code=y"),
        await browser.app.get("/auth/callback?state=x&code=y"),
        await browser.app.request("DELETE", LOGIN),
        await browser.app.get(LOGIN, headers={"sec-purpose": "prefetch"}),
        await browser.app.get(LOGIN, headers={"host": "evil.test"}),
        await browser.get("/auth/logout"),
        await browser.post("/auth/logout", sec_fetch_site="cross-site"),
        await browser.get(sid.replace("sid=", "sid=0")),
        await browser.log_out(),
        await browser.get("/auth/logout/callback"),
    ]
    for answer in answers:
        assert "no-store" in answer.headers["cache-control"]
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        if 300 <= answer.status_code < 400:
            assert answer.status_code == 303
    assert {answer.status_code for answer in answers} == {303, 400, 405, 204, 200, 403}


# ----------------------------------------------------------------- where the way back leads


@pytest.mark.parametrize(
    ("query", "target"),
    [
        pytest.param("return_to=/a", "/a", id="plain"),
        pytest.param("return_to=%2Fa%3Fb%3Dc", "/a?b=c", id="encoded"),
        pytest.param("x=1&return_to=/a&prompt=login", "/a", id="among-others"),
        pytest.param("return_to=https://app.test/a?b", "/a?b", id="own-address"),
        pytest.param("return_to=", "/", id="empty", marks=pytest.mark.case(1)),
        pytest.param("return_to", "/", id="no-value", marks=pytest.mark.case(1)),
        pytest.param("return_to=/a&return_to=/b", "/", id="twice", marks=pytest.mark.case(19)),
        pytest.param("return_to=/a&return_to=/a", "/", id="same", marks=pytest.mark.case(19)),
        pytest.param("return_to=/a&return_to=", "/", id="empty-2", marks=pytest.mark.case(19)),
        pytest.param("return_to=/a&return%5fto=/b", "/", id="coded", marks=pytest.mark.case(19)),
        pytest.param("return_to[]=/a", "/", id="brackets", marks=pytest.mark.case(19)),
        pytest.param("return_to=//evil.example", "/", id="elsewhere"),
        pytest.param("return_to=https://app.test.evil.example/", "/", id="longer-host"),
        pytest.param("return_to=/%252f%252fevil.example", "/", id="elsewhere-encoded-twice"),
        pytest.param("return_to=/auth/login", "/", id="loop"),
        pytest.param("return_to=%ff", "/", id="not-utf-8", marks=pytest.mark.case(17)),
        pytest.param("a&" * 200 + "return_to=/a", "/", id="many-parameters"),
        pytest.param("return_to=https://spa.test:8443/a", "/", id="other-port"),
        pytest.param("return_to=https://spa.test/a?b%23c", "https://spa.test/a?b#c", id="allowed"),
        pytest.param("return_to=https://spa.test", "https://spa.test", id="allowed-origin"),
        pytest.param("return_to=http://spa.test/", "/", id="plain-http"),
        pytest.param("return_to=https://app.testing/x", "https://app.testing/x", id="like-ours"),
    ],
)
async def test_a_login_leads_to_the_one_allowed_page_that_was_asked_for(
    make_login_site: Any, query: str, target: str
) -> None:
    site = make_login_site(allowed_return_origins=["https://spa.test", "https://app.testing"])
    browser = site.browser()
    assert (await browser.log_in(query=f"?{query}")).headers["location"] == target
    assert await browser.user() == "alice"


async def test_a_logout_may_lead_to_an_allowed_origin(make_login_site: Any, parse: Any) -> None:
    site = make_login_site(allowed_return_origins=["https://spa.test"])
    browser = site.browser()
    await browser.log_in()
    answer = await browser.log_out("?return_to=https://spa.test/bye")
    back = parse(answer.headers["location"])
    final = await browser.get(f"/auth/logout/callback?state={back['state']}")
    assert final.headers["location"] == "https://spa.test/bye"


@pytest.mark.case(23)
@pytest.mark.parametrize(
    "entries",
    [
        ["http://spa.test"],
        ["https://*.spa.test"],
        ["https://spa.test:*"],
        ["*"],
        "https://spa.test",
    ],
)
async def test_an_inexact_origin_stops_the_start(make_login_site: Any, entries: Any) -> None:
    with pytest.raises(ConfigurationError, match="allowed_return_origins"):
        make_login_site(allowed_return_origins=entries)
