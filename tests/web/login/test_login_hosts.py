"""Addresses come from the settings; of a request, only the Host is looked at, to refuse it."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.routing import Mount

LOGIN: Final = "/auth/login"


async def ask(app: Any, path: str, *hosts: bytes, **scope: Any) -> tuple[int, dict[str, str]]:
    """Send one request as it would come from a server; httpx sends no such hosts."""
    sent: list[Any] = []
    given = {
        "type": "http",
        "method": "GET",
        "scheme": "https",
        "path": path,
        "root_path": "",
        "query_string": b"",
        "headers": [(b"host", host) for host in hosts],
        **scope,
    }

    async def receive() -> Any:
        return {"type": "http.request"}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(given, receive, send)
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], headers


@pytest.mark.case(38)
@pytest.mark.case(419)
@pytest.mark.case(420)
@pytest.mark.parametrize(
    "hosts",
    [
        pytest.param((b"evil.test",), id="other"),
        pytest.param((b"app.test.evil.test",), id="longer"),
        pytest.param((b"evil-app.test",), id="suffix"),
        pytest.param((b"app.test/evil",), id="slash"),
        pytest.param((b"app.test?evil",), id="question-mark"),
        pytest.param((b"app.test#evil",), id="hash"),
        pytest.param((b"app.test@evil.test",), id="at"),
        pytest.param((b"evil.test@app.test",), id="user"),
        pytest.param((b"app.test evil",), id="space"),
        pytest.param((b" app.test",), id="leading-space"),
        pytest.param((b"app.test:99999",), id="port"),
        pytest.param((b"app.test:80",), id="http-port"),
        pytest.param((b"app.test:8443",), id="other-port"),
        pytest.param((b"app.test", b"app.test"), id="two"),
        pytest.param((b"app.test", b"evil.test"), id="two-different"),
        pytest.param((b"app.test, evil.test",), id="list"),
        pytest.param((b"app.test\xff",), id="not-ascii"),
        pytest.param((b"",), id="empty"),
        pytest.param((), id="none"),
    ],
)
@pytest.mark.parametrize("path", [LOGIN, "/auth/callback", "/auth/logout"])
async def test_a_host_that_is_not_ours_is_refused(
    site: Any, hosts: tuple[bytes, ...], path: str
) -> None:
    status, headers = await ask(site.app, path, *hosts)
    assert status == 400
    assert "location" not in headers
    assert "set-cookie" not in headers


@pytest.mark.case(427)
@pytest.mark.parametrize("host", [b"APP.test", b"app.test.", b"app.test:443", b"app.TEST.:443"])
async def test_a_host_may_be_spelt_in_several_ways(site: Any, host: bytes, parse: Any) -> None:
    status, headers = await ask(site.app, LOGIN, host)
    assert status == 303
    assert parse(headers["location"])["redirect_uri"] == "https://app.test/auth/callback"


@pytest.mark.case(427)
async def test_a_host_may_be_an_address(make_login_site: Any, parse: Any) -> None:
    site = make_login_site(public_url="https://[2001:db8::1]:8443")
    status, headers = await ask(site.app, LOGIN, b"[2001:DB8::1]:8443")
    assert status == 303
    sent = parse(headers["location"])
    assert sent["redirect_uri"] == "https://[2001:db8::1]:8443/auth/callback"


@pytest.mark.case(419)
async def test_pages_of_the_app_link_to_paths_whatever_the_host(site: Any) -> None:
    browser = site.browser()
    await browser.log_in()
    headers = {
        "host": "evil.test",
        "cookie": "; ".join(f"{n}={v}" for n, v in browser.jar().items()),
    }
    me = (await browser.app.get("/me", headers=headers)).json()
    assert me["login_url"] == LOGIN
    assert me["logout_url"].startswith("/auth/logout?sid=")


@pytest.mark.case(421)
@pytest.mark.case(38)
@pytest.mark.parametrize(
    "headers",
    [
        {"x-forwarded-host": "evil.test"},
        {"x-forwarded-proto": "http"},
        {"x-forwarded-port": "8443"},
        {"x-forwarded-prefix": "/evil"},
        {"x-forwarded-uri": "/evil"},
        {"forwarded": "host=evil.test;proto=http"},
        {"x-original-url": "/evil"},
        {"x-host": "evil.test"},
    ],
    ids=lambda headers: next(iter(headers)),
)
async def test_headers_of_proxies_say_nothing(
    site: Any, parse: Any, headers: dict[str, str]
) -> None:
    answer = await site.browser().app.get(LOGIN, headers=headers)
    sent = parse(answer.headers["location"])
    assert sent["redirect_uri"] == "https://app.test/auth/callback"
    assert "; Secure;" in answer.headers["set-cookie"]
    assert answer.headers["set-cookie"].startswith("__Host-")


@pytest.mark.case(430)
@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"server": ("evil.test", 80)}, id="authority"),
        pytest.param({"scheme": "http"}, id="scheme"),
        pytest.param({"client": ("203.0.113.9", 1)}, id="client"),
        pytest.param({"client": None, "server": None}, id="neither"),
        pytest.param({"http_version": "2"}, id="http-2"),
    ],
)
async def test_of_the_scope_the_path_alone_counts(
    site: Any, change: dict[str, Any], parse: Any
) -> None:
    browser = site.browser()
    inner = site.app

    async def changed(scope: Any, receive: Any, send: Any) -> None:
        await inner({**scope, **change}, receive, send)

    browser.app = httpx.AsyncClient(
        transport=httpx.ASGITransport(changed), base_url="https://app.test"
    )
    started = await browser.get("/auth/login")
    assert parse(started.headers["location"])["redirect_uri"] == "https://app.test/auth/callback"
    assert "Secure" in started.headers["set-cookie"]
    answer = await browser.get(await browser.ask("alice", started.headers["location"]))
    assert answer.headers["location"] == "/"
    assert await browser.user() == "alice"


@pytest.mark.case(423)
async def test_behind_a_proxy_that_ends_tls_addresses_stay_https(site: Any, parse: Any) -> None:
    status, headers = await ask(site.app, LOGIN, b"app.test", scheme="http")
    assert status == 303
    assert parse(headers["location"])["redirect_uri"] == "https://app.test/auth/callback"
    assert "; Secure;" in headers["set-cookie"]


@pytest.mark.case(75)
async def test_an_answer_on_another_host_is_refused(site: Any) -> None:
    browser = site.browser()
    callback = await browser.begin()
    async with browser.refused(attempt_ends=False):
        assert (await browser.get(callback, host="evil.test")).status_code == 400
    # Over http a browser does not send the cookies.
    plain = httpx.AsyncClient(transport=httpx.ASGITransport(site.app), cookies=browser.app.cookies)
    assert (await plain.get(callback.replace("https:", "http:"))).status_code == 400
    assert site.exchanges == 0


@pytest.mark.case(75)
async def test_an_answer_comes_back_to_the_address_where_the_login_began(
    make_login_site: Any, parse: Any
) -> None:
    site = make_login_site(public_url=["https://app.test", "https://shop.test"])
    browser, shop = site.browser(), site.browser("https://shop.test")
    callback = await shop.begin("bob")
    assert callback.startswith("https://shop.test/auth/callback?")
    strayed = callback.replace("https://shop.test", "https://app.test")
    # Even for a browser that would send the cookie to both.
    browser.plant(shop.jar())
    async with browser.refused(attempt_ends=True):
        assert (await browser.get(strayed)).status_code == 400
    assert (await shop.get(callback)).status_code == 303
    assert await shop.user() == "bob"
    assert await browser.user() is None
    answer = await shop.log_out()
    sent = parse(answer.headers["location"])
    assert sent["post_logout_redirect_uri"] == "https://shop.test/auth/logout/callback"


async def test_a_page_of_one_address_may_not_be_named_at_another(make_login_site: Any) -> None:
    site = make_login_site(public_url=["https://app.test", "https://shop.test"])
    browser = site.browser()
    assert (await browser.log_in(query="?return_to=https://shop.test/x")).headers["location"] == "/"


# ----------------------------------------------------------------- where the app is mounted


def mounted(inner: Any, kind: str) -> Any:
    if kind == "starlette":
        return Starlette(routes=[Mount("/app", app=inner)])
    app = FastAPI()
    app.mount("/app", inner)
    return app


@pytest.mark.case(429)
@pytest.mark.parametrize("kind", ["starlette", "fastapi"])
@pytest.mark.parametrize("public_url", ["https://app.test", "https://app.test/app"])
async def test_a_mounted_app_finds_its_callback(
    make_login_site: Any, kind: str, public_url: str
) -> None:
    site = make_login_site(public_url=public_url)
    site.app, site.prefix = mounted(site.app, kind), "/app/auth"
    browser = site.browser()
    callback = await browser.begin(query="?return_to=/app/deep")
    assert callback.startswith("https://app.test/app/auth/callback?")
    answer = await browser.get(callback)
    assert answer.headers["location"] == "/app/deep"
    for line in answer.headers.get_list("set-cookie"):
        assert "; Path=/;" in line
    me = (await browser.get("/app/me")).json()
    assert me["sub"] == "alice"
    assert me["login_url"] == "/app/auth/login"
    assert (await browser.log_in(query="?return_to=/app/auth/logout")).headers[
        "location"
    ] == "/app/"
    answer = await browser.post("/app/auth/logout", sec_fetch_site="same-origin")
    back = await browser.op.get(answer.headers["location"])
    assert back.headers["location"].startswith("https://app.test/app/auth/logout/callback?")
    assert (await browser.get(back.headers["location"])).headers["location"] == "/app/"


@pytest.mark.case(429)
@pytest.mark.parametrize(
    ("path", "root_path"),
    [
        pytest.param("/auth/login", "", id="prefix-cut-off"),
        pytest.param("/auth/login", "/app", id="prefix-cut-off-and-told"),
        pytest.param("/app/auth/login", "/app", id="prefix-kept-and-told"),
        pytest.param("/app/auth/login", "/app/", id="told-with-a-slash"),
        pytest.param("/app/auth/login", "", id="prefix-kept"),
    ],
)
async def test_a_proxy_may_cut_the_prefix_off_or_not(
    make_login_site: Any, parse: Any, path: str, root_path: str
) -> None:
    site = make_login_site(public_url="https://app.test/app")
    status, headers = await ask(site.app, path, b"app.test", root_path=root_path)
    assert status == 303
    assert parse(headers["location"])["redirect_uri"] == "https://app.test/app/auth/callback"


@pytest.mark.case(424)
@pytest.mark.parametrize(
    "root_path", ["//evil.test", "/..", "/a/../b", "/\\evil.test", "evil", "/%2e"]
)
async def test_a_mount_that_no_server_has_makes_no_address(
    site: Any, parse: Any, root_path: str
) -> None:
    status, headers = await ask(site.app, LOGIN, b"app.test", root_path=root_path)
    assert status == 303
    assert parse(headers["location"])["redirect_uri"] == "https://app.test/auth/callback"
    status, headers = await ask(site.app, "/auth/logout", b"app.test", root_path=root_path)
    assert headers["location"] == "/"
    page = [(b"host", b"app.test"), (b"sec-fetch-mode", b"navigate")]
    _, headers = await ask(site.app, "/token", headers=page, root_path=root_path)
    assert urlsplit(headers["location"]).path == LOGIN


async def test_a_prefix_of_its_own_moves_all_routes(make_login_site: Any, parse: Any) -> None:
    site = make_login_site(prefix="/konto", provider={"redirect_path": "/back"})
    site.prefix = "/konto"
    browser = site.browser()
    await browser.log_in()
    assert await browser.user() == "alice"
    assert (await browser.get("/auth/login")).status_code == 200
    answer = await browser.log_out()
    assert parse(answer.headers["location"])["post_logout_redirect_uri"].endswith(
        "/konto/logout/callback"
    )
