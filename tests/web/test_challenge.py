from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final

import pytest

from tokenward import errors
from tokenward.web.challenge import (
    answer,
    close_websocket,
    current_target,
    is_navigation,
    is_prefetch,
    is_same_origin_post,
)

if TYPE_CHECKING:
    from starlette.types import Message, Scope

OWN: Final = frozenset({"https://shop.example", "https://shop2.example:8443"})
LOGIN: Final = "/auth/login"

CHROME_ACCEPT: Final = (
    "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,"
    "*/*;q=0.8,application/signed-exchange;v=b3;q=0.7"
)
FIREFOX_ACCEPT: Final = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


def raw(**fields: str) -> list[tuple[bytes, bytes]]:
    return [(n.replace("_", "-").encode(), v.encode("latin-1")) for n, v in fields.items()]


def fetched(mode: str, dest: str, site: str = "same-origin", **more: str) -> dict[str, str]:
    return {"sec_fetch_site": site, "sec_fetch_mode": mode, "sec_fetch_dest": dest, **more}


# ------------------------------------------------------------------------- navigation

NAVIGATIONS: Final = [
    pytest.param(
        "GET",
        fetched("navigate", "document", "none", sec_fetch_user="?1", accept=CHROME_ACCEPT),
        id="chrome-address-bar",
    ),
    pytest.param(
        "GET",
        fetched("navigate", "document", "cross-site", accept=CHROME_ACCEPT),
        id="chrome-link-from-another-site",
    ),
    pytest.param("GET", fetched("navigate", "document", accept=FIREFOX_ACCEPT), id="firefox-link"),
    pytest.param("GET", fetched("navigate", "document", accept="*/*"), id="no-html-in-accept"),
    pytest.param(
        "POST", fetched("navigate", "document", accept=CHROME_ACCEPT), id="chrome-form-post"
    ),
    pytest.param("HEAD", fetched("navigate", "document"), id="head"),
    pytest.param("GET", fetched("navigate", "empty"), id="through-a-service-worker"),
    pytest.param("GET", {"sec_fetch_mode": "navigate"}, id="mode-without-destination"),
    pytest.param("GET", {"sec_fetch_dest": "document"}, id="destination-without-mode"),
    pytest.param("GET", {"accept": FIREFOX_ACCEPT}, id="firefox-over-plain-http"),
    pytest.param(
        "GET",
        {"accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"},
        id="safari-15",
    ),
    pytest.param("GET", {"accept": "text/html, application/xhtml+xml, */*"}, id="ie-11"),
    pytest.param(
        "GET", {"accept": "text/html;q=0.9, text/plain, text/sgml, */*;q=0.01"}, id="lynx"
    ),
    pytest.param("GET", {"accept": "application/xhtml+xml"}, id="xhtml"),
    pytest.param("GET", {"accept": "TEXT/HTML ; charset=utf-8"}, id="upper-case"),
    pytest.param("POST", {"accept": FIREFOX_ACCEPT}, id="form-post-over-plain-http"),
    pytest.param(
        "GET",
        fetched("navigate", "document", x_requested_with="XMLHttpRequest", hx_request="true"),
        id="fetch-metadata-outweighs-what-a-proxy-adds",
    ),
    pytest.param(
        "GET",
        fetched("navigate", "document", accept="application/json"),
        id="fetch-metadata-outweighs-accept",
    ),
]

SCRIPTS: Final = [
    pytest.param("GET", fetched("cors", "empty", accept="*/*"), id="fetch"),
    pytest.param("POST", fetched("cors", "empty", accept="application/json"), id="fetch-json"),
    pytest.param("GET", fetched("same-origin", "empty", accept="*/*"), id="fetch-same-origin"),
    pytest.param("GET", fetched("no-cors", "empty", accept="*/*"), id="fetch-no-cors"),
    pytest.param("GET", fetched("cors", "empty", accept=FIREFOX_ACCEPT), id="fetch-asks-for-html"),
    pytest.param("GET", fetched("cors", "document"), id="fetch-with-a-strange-destination"),
    pytest.param("GET", fetched("cors", "empty", accept="text/event-stream"), id="eventsource"),
    pytest.param("GET", {"accept": "text/event-stream"}, id="eventsource-over-plain-http"),
    pytest.param("GET", fetched("cors", "empty", hx_request="true", accept="*/*"), id="htmx"),
    pytest.param("GET", {"hx_request": "true", "accept": "*/*"}, id="htmx-over-plain-http"),
    pytest.param(
        "GET", {"hx_request": "true", "hx_boosted": "true", "accept": "text/html"}, id="htmx-boost"
    ),
    pytest.param(
        "GET",
        {"x_requested_with": "XMLHttpRequest", "accept": "text/html, */*; q=0.01"},
        id="jquery",
    ),
    pytest.param("GET", {"accept": "application/json, text/plain, */*"}, id="axios"),
    pytest.param("GET", {"accept": "application/json, text/html"}, id="json-and-html"),
    pytest.param("GET", {"accept": "text/html, application/problem+json"}, id="html-and-json"),
    pytest.param("GET", {"accept": "*/*", "user_agent": "curl/8.5.0"}, id="curl"),
    pytest.param("GET", {"accept": "*/*", "user_agent": "Wget/1.21"}, id="wget"),
    pytest.param("GET", {"accept": "*/*", "user_agent": "python-httpx/0.28"}, id="httpx"),
    pytest.param("GET", {}, id="nothing-at-all"),
    pytest.param("GET", {"accept": ""}, id="empty-accept"),
    pytest.param("GET", {"accept": "text/html;q=0, */*"}, id="html-refused"),
    pytest.param("GET", {"accept": "text/html; q=0.000"}, id="html-refused-at-length"),
    pytest.param("GET", {"accept": "text/htmlx, x/text/html"}, id="nearly-html"),
    pytest.param("GET", {"accept": "*/*", "user_agent": "Mozilla/5.0"}, id="browser-by-its-name"),
    pytest.param("GET", fetched("navigate", "iframe", accept=CHROME_ACCEPT), id="iframe"),
    pytest.param("GET", fetched("navigate", "frame", accept=CHROME_ACCEPT), id="frame"),
    pytest.param("GET", fetched("navigate", "object"), id="object"),
    pytest.param("GET", fetched("navigate", "embed"), id="embed"),
    pytest.param("GET", fetched("navigate", "fencedframe"), id="fencedframe"),
    pytest.param("GET", fetched("no-cors", "image", accept="image/webp,*/*"), id="image"),
    pytest.param("GET", fetched("no-cors", "script", accept="*/*"), id="script"),
    pytest.param("GET", fetched("no-cors", "style", accept="text/css,*/*;q=0.1"), id="style"),
    pytest.param("GET", fetched("same-origin", "worker"), id="worker"),
    pytest.param("GET", fetched("cors", "manifest"), id="manifest"),
    pytest.param("POST", fetched("no-cors", "empty"), id="beacon"),
    pytest.param("GET", fetched("websocket", "empty"), id="websocket-as-http"),
    pytest.param("OPTIONS", {"origin": "https://a.example", "accept": "*/*"}, id="preflight"),
    pytest.param("OPTIONS", fetched("navigate", "document"), id="options"),
    pytest.param(
        "GET",
        fetched("navigate", "document", sec_purpose="prefetch", accept=CHROME_ACCEPT),
        id="prefetch",
    ),
    pytest.param(
        "GET", fetched("navigate", "document", sec_purpose="prefetch;prerender"), id="prerender"
    ),
    pytest.param("GET", {"purpose": "prefetch", "accept": FIREFOX_ACCEPT}, id="old-prefetch"),
]


@pytest.mark.parametrize(("method", "fields"), NAVIGATIONS)
def test_a_page_that_the_user_will_see_is_a_navigation(method: str, fields: dict[str, str]) -> None:
    assert is_navigation(method, headers=raw(**fields))


@pytest.mark.parametrize(("method", "fields"), SCRIPTS)
def test_what_the_user_will_not_see_is_no_navigation(method: str, fields: dict[str, str]) -> None:
    assert not is_navigation(method, headers=raw(**fields))


def test_a_websocket_is_no_navigation() -> None:
    headers = raw(**fetched("navigate", "document"))
    assert not is_navigation("GET", headers=headers, scope_type="websocket")


def test_fetch_metadata_that_comes_twice_is_no_navigation() -> None:
    twice = [*raw(**fetched("cors", "empty")), *raw(**fetched("navigate", "document"))]
    assert not is_navigation("GET", headers=twice)
    assert not is_navigation("GET", headers=twice[::-1])


def test_accept_that_comes_in_parts_is_one_list() -> None:
    headers = [(b"accept", b"image/png"), (b"accept", b"text/html")]
    assert is_navigation("GET", headers=headers)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param({"sec_purpose": "prefetch"}, True, id="prefetch"),
        pytest.param({"sec_purpose": "prefetch;prerender"}, True, id="prerender"),
        pytest.param({"sec_purpose": "prefetch;anonymous-client-ip"}, True, id="by-proxy"),
        pytest.param({"purpose": "prefetch"}, True, id="chrome-before-103"),
        pytest.param({"x_moz": "prefetch"}, True, id="firefox"),
        pytest.param({"x_purpose": "preview"}, True, id="safari-top-sites"),
        pytest.param({"purpose": "Preview"}, True, id="upper-case"),
        pytest.param({}, False, id="none"),
        pytest.param({"sec_purpose": ""}, False, id="empty"),
        pytest.param({"x_moz": "microsummary"}, False, id="other"),
    ],
)
def test_a_browser_that_asks_ahead_is_recognised(fields: dict[str, str], expected: bool) -> None:
    assert is_prefetch(raw(**fields)) is expected


# ---------------------------------------------------------------------- same origin

CROSS: Final = [
    pytest.param({"sec_fetch_site": "cross-site"}, id="cross-site", marks=pytest.mark.case(313)),
    pytest.param({"sec_fetch_site": "same-site"}, id="sub-domain", marks=pytest.mark.case(313)),
    pytest.param({"sec_fetch_site": "none"}, id="no-page", marks=pytest.mark.case(313)),
    pytest.param(
        {"sec_fetch_site": "cross-site", "origin": "https://shop.example"},
        id="metadata-against-origin",
        marks=pytest.mark.case(380),
    ),
    pytest.param(
        {"sec_fetch_site": "same-origin", "origin": "https://evil.example"},
        id="origin-against-metadata",
        marks=pytest.mark.case(380),
    ),
    pytest.param({"origin": "https://evil.example"}, id="other", marks=pytest.mark.case(380)),
    pytest.param({"origin": "https://a.shop.example"}, id="sub", marks=pytest.mark.case(380)),
    pytest.param({"origin": "http://shop.example"}, id="http", marks=pytest.mark.case(380)),
    pytest.param({"origin": "https://shop.example:444"}, id="port", marks=pytest.mark.case(380)),
    pytest.param({"origin": "https://shop.example/"}, id="slash", marks=pytest.mark.case(380)),
    pytest.param({"origin": ""}, id="empty-origin", marks=pytest.mark.case(380)),
    pytest.param({"sec_fetch_site": "SAME-ORIGIN"}, id="no-such-word"),
    pytest.param({"sec_fetch_site": ""}, id="empty-metadata"),
    pytest.param({"origin": "null"}, id="null"),
    pytest.param(
        {"origin": "null", "sec_fetch_site": "cross-site"},
        id="null-in-a-sandbox",
    ),
]

SAME: Final = [
    pytest.param({"sec_fetch_site": "same-origin"}, id="metadata"),
    pytest.param({"sec_fetch_site": "same-origin", "origin": "https://shop.example"}, id="both"),
    pytest.param({"origin": "https://shop.example"}, id="origin-of-an-older-browser"),
    pytest.param({"origin": "https://shop2.example:8443"}, id="the-other-origin"),
    pytest.param({"sec_fetch_site": "same-origin", "origin": "null"}, id="no-referrer-policy"),
]


@pytest.mark.parametrize("fields", CROSS)
def test_a_post_of_another_site_is_refused(fields: dict[str, str]) -> None:
    assert not is_same_origin_post(raw(**fields), allowed_origins=OWN)


@pytest.mark.parametrize("fields", SAME)
def test_a_post_of_an_own_page_is_accepted(fields: dict[str, str]) -> None:
    assert is_same_origin_post(raw(**fields), allowed_origins=OWN)


@pytest.mark.parametrize(
    "fields", [{}, {"referer": "https://shop.example/a"}, {"referer": "https://evil.example/"}]
)
def test_a_request_that_shows_no_origin_is_refused(fields: dict[str, str]) -> None:
    assert not is_same_origin_post(raw(**fields), allowed_origins=OWN)


def test_an_origin_that_comes_twice_is_refused() -> None:
    twice = [(b"origin", b"https://shop.example"), (b"origin", b"https://shop.example")]
    assert not is_same_origin_post(twice, allowed_origins=OWN)


# ------------------------------------------------------------------ where to come back to


def http(path: str, query: bytes = b"", *, method: str = "GET", raw_path: bytes | None) -> Scope:
    scope: Scope = {"type": "http", "method": method, "path": path, "query_string": query}
    if raw_path is not None:
        scope["raw_path"] = raw_path
    return {**scope, "headers": raw(host="evil.example", x_forwarded_uri="/x", referer="/y")}


@pytest.mark.parametrize(
    ("scope", "target"),
    [
        pytest.param(http("/a", b"b=c&d=%20", raw_path=b"/a"), "/a?b=c&d=%20", id="query"),
        pytest.param(http("/a/b c", raw_path=b"/a/b%20c"), "/a/b%20c", id="encoded"),
        pytest.param(http("/a/b", raw_path=b"/a%2Fb"), "/a%2Fb", id="encoded-slash"),
        pytest.param(http("/\xe9 :@", raw_path=None), "/%C3%A9%20:@", id="no-raw-path"),
        pytest.param(http("/a", raw_path=b"/a?x=y"), "/a", id="raw-path-with-query"),
        pytest.param(http("/a", method="HEAD", raw_path=b"/a"), "/a", id="head"),
        pytest.param(http("/a", method="POST", raw_path=b"/a"), None, id="post"),
        pytest.param(http("/a", method="PUT", raw_path=b"/a"), None, id="put"),
        pytest.param(http("//h", raw_path=b"//h"), None, id="elsewhere"),
        pytest.param(http("//h", raw_path=None), None, id="elsewhere-no-raw-path"),
        pytest.param(http("/\\h", raw_path=b"/\\h"), None, id="backslash"),
        pytest.param(http("/auth/user", raw_path=b"/auth/user"), None, id="own-route"),
        pytest.param(http("/a", b"b=%0d%0a", raw_path=b"/a"), None, id="control-characters"),
        pytest.param(http("/a", b"b=" + b"c" * 3000, raw_path=b"/a"), None, id="long"),
        pytest.param(http("/a", b"\xff", raw_path=b"/a"), None, id="raw-bytes"),
        pytest.param({"type": "websocket", "path": "/a"}, None, id="websocket"),
    ],
)
def test_a_user_comes_back_to_the_page_that_asked(scope: Scope, target: str | None) -> None:
    assert current_target(scope, forbidden_prefixes=("/auth",)) == target


# -------------------------------------------------------------------------- answers

DETAIL: Final = "postgres://10.0.0.7 <b>sub=alice</b>"

LOGIN_ERRORS: Final = [
    pytest.param(errors.NotAuthenticated(DETAIL), "not_authenticated", id="not-authenticated"),
    pytest.param(errors.TokenExpired(DETAIL), "token_expired", id="token-expired"),
    pytest.param(errors.SessionEnded(DETAIL), "session_ended", id="session-ended"),
]

BUSY_ERRORS: Final = [
    pytest.param(
        errors.TokenUnavailable(DETAIL, retry_after=7.2), "token_unavailable", "8", id="token"
    ),
    pytest.param(
        errors.StoreUnavailable(DETAIL, retry_after=2.0), "store_unavailable", "2", id="store"
    ),
    pytest.param(
        errors.ProviderUnavailable(DETAIL, retry_after=0.0),
        "provider_unavailable",
        "1",
        id="provider",
    ),
    pytest.param(
        errors.TokenUnavailable(DETAIL, retry_after=float("inf")),
        "token_unavailable",
        "86400",
        id="for-ever",
    ),
    pytest.param(
        errors.TokenUnavailable(DETAIL, retry_after=float("nan")),
        "token_unavailable",
        "1",
        id="no-number",
    ),
    pytest.param(errors.Conflict(DETAIL), "conflict", "1", id="conflict"),
]

OTHER_ERRORS: Final = [
    pytest.param(errors.PermissionDenied(DETAIL), 403, "permission_denied", id="permission"),
    pytest.param(
        errors.InsufficientScope(frozenset({"b", "a"})), 403, "insufficient_scope", id="scope"
    ),
    pytest.param(errors.LoginFailed("state_unknown", DETAIL), 400, "login_failed", id="login"),
    pytest.param(errors.SessionNotWritable(DETAIL), 500, "session_not_writable", id="writable"),
    pytest.param(errors.SessionNotLoaded(DETAIL), 500, "session_not_loaded", id="loaded"),
    pytest.param(errors.SessionTooLarge(DETAIL), 500, "session_too_large", id="large"),
    pytest.param(errors.InvalidMetadata("issuer", DETAIL), 500, "internal_error", id="metadata"),
    pytest.param(errors.TokenwardError(DETAIL), 500, "internal_error", id="any"),
]


def text(body: bytes | memoryview) -> str:
    return bytes(body).decode()


@pytest.mark.case(43)
@pytest.mark.parametrize(("error", "word"), LOGIN_ERRORS)
def test_a_script_is_told_to_log_in_and_is_not_redirected(
    error: errors.TokenwardError, word: str
) -> None:
    for fields in (fetched("cors", "empty"), {"accept": "application/json"}):
        navigation = is_navigation("GET", headers=raw(**fields))
        response = answer(error, navigation=navigation, login_url=LOGIN, return_to="/a")
        assert response.status_code == 401
        assert json.loads(text(response.body)) == {"error": word, "login_url": LOGIN}
        assert response.headers["content-type"] == "application/json"
        assert response.headers["cache-control"] == "no-store"
        assert "location" not in response.headers


@pytest.mark.parametrize(("error", "word"), LOGIN_ERRORS)
def test_the_challenge_makes_no_browser_ask_for_a_password(
    error: errors.TokenwardError, word: str
) -> None:
    challenge = answer(error, navigation=False, login_url=LOGIN).headers["www-authenticate"]
    assert challenge == f'Cookie realm="login", error="{word}"'


@pytest.mark.parametrize(("error", "word"), LOGIN_ERRORS)
@pytest.mark.parametrize(
    ("return_to", "location"),
    [
        pytest.param("/a/b", "/auth/login?return_to=/a/b", id="path"),
        pytest.param("/a?b=c&d=%20", "/auth/login?return_to=/a%3Fb%3Dc%26d%3D%2520", id="query"),
        pytest.param(None, "/auth/login", id="none", marks=pytest.mark.case(44)),
        pytest.param("//h", "/auth/login", id="elsewhere", marks=pytest.mark.case(22)),
        pytest.param("https://h/", "/auth/login", id="absolute", marks=pytest.mark.case(22)),
    ],
)
def test_a_navigation_goes_to_the_login_and_comes_back(
    error: errors.TokenwardError, word: str, return_to: str | None, location: str
) -> None:
    response = answer(error, navigation=True, login_url=LOGIN, return_to=return_to)
    assert response.status_code == 303
    assert response.headers["location"] == location
    assert response.headers["cache-control"] == "no-store"
    assert response.body == b""


@pytest.mark.case(44)
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_a_form_is_not_sent_again_after_the_login(method: str) -> None:
    scope = http("/order", method=method, raw_path=b"/order")
    assert is_navigation(method, headers=raw(**fetched("navigate", "document")))
    response = answer(
        errors.NotAuthenticated(), navigation=True, login_url=LOGIN, return_to=current_target(scope)
    )
    assert response.status_code == 303
    assert response.headers["location"] == LOGIN


def test_a_login_url_with_a_query_keeps_it() -> None:
    response = answer(
        errors.NotAuthenticated(),
        navigation=True,
        login_url="/auth/login?provider=a",
        return_to="/b",
    )
    assert response.headers["location"] == "/auth/login?provider=a&return_to=/b"


@pytest.mark.parametrize("navigation", [True, False])
@pytest.mark.parametrize(("error", "word", "retry_after"), BUSY_ERRORS)
def test_an_outage_is_a_503_and_says_when_to_come_again(
    error: errors.TokenwardError, word: str, retry_after: str, navigation: bool
) -> None:
    response = answer(error, navigation=navigation, login_url=LOGIN)
    assert response.status_code == 503
    assert response.headers["retry-after"] == retry_after
    assert "www-authenticate" not in response.headers
    if navigation:
        assert response.headers["content-type"] == "text/html; charset=utf-8"
    else:
        assert json.loads(text(response.body)) == {"error": word, "retry_after": int(retry_after)}


@pytest.mark.parametrize(("error", "status", "word"), OTHER_ERRORS)
def test_every_other_error_has_its_status_and_its_word(
    error: errors.TokenwardError, status: int, word: str
) -> None:
    page = answer(error, navigation=True, login_url=LOGIN)
    script = answer(error, navigation=False, login_url=LOGIN)
    assert (page.status_code, script.status_code) == (status, status)
    assert json.loads(text(script.body))["error"] == word
    assert f"<code>{word}</code>" in text(page.body)
    assert "retry-after" not in page.headers


def test_a_missing_scope_is_named_so_that_a_script_can_ask_for_it() -> None:
    error = errors.InsufficientScope(frozenset({"b", "a"}))
    told = json.loads(text(answer(error, navigation=False, login_url=LOGIN).body))
    assert told == {"error": "insufficient_scope", "login_url": LOGIN, "scope": "a b"}


@pytest.mark.parametrize(
    "error", [param.values[0] for param in (*LOGIN_ERRORS, *BUSY_ERRORS, *OTHER_ERRORS)]
)
@pytest.mark.parametrize("navigation", [True, False])
def test_no_answer_tells_a_detail(error: errors.TokenwardError, navigation: bool) -> None:
    response = answer(error, navigation=navigation, login_url=LOGIN, return_to="/secret-page")
    seen = text(response.body) + str({k: v for k, v in response.headers.items() if k != "location"})
    assert not re.search("postgres|alice|state_unknown|secret-page|Traceback|issuer", seen)
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["referrer-policy"] == "no-referrer"
    assert "frame-ancestors 'none'" in response.headers["content-security-policy"]


def test_a_page_quotes_the_login_url() -> None:
    page = answer(errors.LoginFailed("x"), navigation=True, login_url='/a?"><script>&b')
    assert '<a href="/a?&quot;&gt;&lt;script&gt;&amp;b">' in text(page.body)


@pytest.mark.case(45)
@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        pytest.param(errors.NotAuthenticated(DETAIL), 4401, "not_authenticated", id="login"),
        pytest.param(errors.TokenExpired(DETAIL), 4401, "token_expired", id="expired"),
        pytest.param(errors.SessionEnded(DETAIL), 4401, "session_ended", id="ended"),
        pytest.param(errors.PermissionDenied(DETAIL), 4403, "permission_denied", id="denied"),
        pytest.param(errors.StoreUnavailable(DETAIL), 1013, "store_unavailable", id="store"),
        pytest.param(errors.SessionNotLoaded(DETAIL), 1011, "session_not_loaded", id="fault"),
        pytest.param(errors.TokenwardError(DETAIL), 1011, "internal_error", id="any"),
    ],
)
async def test_a_websocket_is_closed_and_not_redirected(
    error: errors.TokenwardError, code: int, reason: str
) -> None:
    sent: list[Message] = []

    async def receive() -> Message:
        raise AssertionError("nothing is read")

    async def send(message: Message) -> None:
        sent.append(message)

    await close_websocket(error)({"type": "websocket"}, receive, send)
    assert sent == [{"type": "websocket.close", "code": code, "reason": reason}]
