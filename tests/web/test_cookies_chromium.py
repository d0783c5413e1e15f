"""Cookies that are deleted are gone, in a real browser engine."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest

from tokenward.testing import serve
from tokenward.web.cookies import Cookie

if TYPE_CHECKING:
    from collections.abc import Iterator

playwright = pytest.importorskip("playwright.sync_api")

pytestmark = pytest.mark.browser

COOKIES = {
    "host-prefix": Cookie("session"),
    "host-prefix-none": Cookie("session", same_site="None"),
    "secure-prefix": Cookie("session", prefix="__Secure-", path="/app"),
    "plain-http": Cookie("session", prefix="", secure=False),
    "strict": Cookie("session", prefix="", secure=False, same_site="Strict"),
}


def app_of(cookie: Cookie) -> Any:
    """Return an app that sets the cookie to a value of any size, and deletes it."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        reading = cookie.read(scope["headers"])
        size = int(scope["query_string"] or 0)
        lines = cookie.write(b"x" * size, max_age=600, reading=reading) if size else None
        lines = cookie.clear(reading) if lines is None else lines
        if scope["path"] != "/app/page":
            lines = []  # the icon of the page, which browsers ask for at some time or other
        headers = [(b"content-type", b"text/plain"), *((b"set-cookie", line) for line in lines)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"done"})

    return app


@pytest.fixture
def chromium() -> Iterator[Any]:
    """Start Chromium, where there is one."""
    path = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
    if path is None:
        pytest.skip("no Chromium on the PATH")
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.mark.case(285)
def test_a_cookie_that_is_deleted_is_gone_with_all_its_pieces(chromium: Any) -> None:
    for kind, cookie in COOKIES.items():
        with serve(app_of(cookie)) as address:
            page = chromium.new_page()
            home = f"{address.replace('127.0.0.1', 'localhost')}/app/page"
            held = []
            for query in ("?9000", "?4000", "?10", ""):
                page.goto(home + query)
                held.append(len(page.context.cookies()))
            assert held == [3, 2, 1, 0], kind
            page.close()
