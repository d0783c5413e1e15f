"""A person at the demo: logs in, waits, calls the API, logs out."""

from __future__ import annotations

import os
import socket
import subprocess
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser


def log_in(page: Page, url: str) -> None:
    page.goto(url)
    page.locator("main").get_by_role("link", name="Log in").click()
    page.locator("[name=username]").fill("alice")
    page.locator("[name=password]").fill("alice")
    page.locator("[type=submit], form button").first.click()
    expect(page.get_by_role("heading", name="Tokens")).to_be_visible()


def test_log_in_see_the_token_replaced_call_the_api_log_out(page: Page, demo) -> None:
    log_in(page, demo.url)
    first = page.locator("#fingerprint").inner_text()

    # Its time is over, and the page stays as it is: only the token is another one.
    expect(page.locator("#replaced")).to_contain_text(first, timeout=30_000)
    expect(page.locator("#fingerprint")).not_to_have_text(first)
    if picture := os.environ.get("TOKENWARD_SCREENSHOT"):
        page.locator("#replaced code").nth(2).wait_for(timeout=90_000)
        page.wait_for_timeout(3_000)
        page.screenshot(path=picture)

    for link, view in (
        ("Call by dependency", "call_by_dependency"),
        ("Call by hand", "call_by_hand"),
    ):
        page.get_by_role("link", name=link, exact=True).click()
        expect(page.locator("#status")).to_have_text("200")
        expect(page.locator("#answer")).to_contain_text('"owner": "alice"')
        expect(page.locator("main")).to_contain_text(f"async def {view}")

    page.get_by_role("link", name="Claims", exact=True).click()
    expect(page.locator("main")).to_contain_text("alice")

    page.get_by_role("button", name="Log out").click()
    expect(page.locator("#fate")).to_have_text("revoked")
    page.goto(f"{demo.url}/tokens")  # asks for a login: the session is gone at the provider, too
    expect(page.locator("[name=password]")).to_be_visible()


def test_a_page_that_wants_a_login_comes_back_to_itself(page: Page, demo) -> None:
    page.goto(f"{demo.url}/claims")
    page.locator("[name=username]").fill("bob")
    page.locator("[name=password]").fill("bob")
    page.locator("[type=submit], form button").first.click()
    expect(page).to_have_url(f"{demo.url}/claims")
    expect(page.locator("main")).to_contain_text("bob")


def test_no_token_reaches_the_browser(page: Page, demo) -> None:
    """Cookies cannot be read by scripts, and hold no JWT; the page shows fingerprints."""
    log_in(page, demo.url)
    assert page.evaluate("document.cookie") == ""
    cookies = [one for one in page.context.cookies() if str(demo.port) in one["name"]]
    assert cookies
    assert all(one["httpOnly"] and "eyJ" not in one["value"] for one in cookies)
    assert "eyJ" not in page.content()


def test_ctrl_c_stops_everything(demo_of_its_own) -> None:
    assert demo_of_its_own.interrupt() == 0
    for port in range(demo_of_its_own.port, demo_of_its_own.port + 3):
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0


@pytest.mark.parametrize("offset", [0, 1, 2])
def test_a_port_in_use_is_named(demo_command: list[str], three_ports: int, offset: int) -> None:
    port = three_ports + offset
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        command = [*demo_command, "--port", str(three_ports)]
        run = subprocess.run(command, check=False, capture_output=True, text=True, timeout=30)
    assert run.returncode == 1
    assert run.stderr.startswith(f"scripts/demo: port {port} is in use")
    assert "--port" in run.stderr
