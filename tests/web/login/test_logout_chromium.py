"""The page that asks whether a logout is meant, in a real browser, under its own policy."""

from __future__ import annotations

import shutil
import socket
from typing import TYPE_CHECKING, Any

import pytest

from tokenward import OpenIDProvider, TokenManagement
from tokenward.stores.memory import MemoryStore
from tokenward.testing import Client, Provider, User, serve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

playwright = pytest.importorskip("playwright.sync_api")

pytestmark = pytest.mark.browser


@pytest.fixture
def app_and_provider(make_login_app: Callable[..., Any]) -> Iterator[tuple[str, Provider]]:
    """Serve an app and its provider on loopback, each on a port of its own."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    app_url = f"http://127.0.0.1:{port}"
    client = Client(
        "app",
        redirect_uris=[f"{app_url}/auth/callback"],
        post_logout_redirect_uris=[f"{app_url}/auth/logout/callback"],
    )
    provider = Provider("http://127.0.0.1:0", clients=[client], users=[User("alice")])
    provider.sign_in_automatically("alice")
    with serve(provider) as issuer:
        auth = TokenManagement(
            provider=OpenIDProvider(
                issuer,
                client_id="app",
                client_secret="secret",
                scope="openid offline_access",
                dangerously_allow_http=True,
            ),
            public_url=app_url,
            secret_key="fuvQBj8B5pts7Km2TfoqPp9ocLVoYlb1z0okhjW-0eHqN5Eh610NzZL7I6tl265Q",
            store=MemoryStore(),
            dangerously_allow_http=True,
        )
        with serve(make_login_app(auth), port=port) as address:
            yield address, provider


@pytest.mark.case(312)
def test_the_button_of_the_question_logs_out_in_chromium(
    app_and_provider: tuple[str, Provider],
) -> None:
    address, provider = app_and_provider
    chromium = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
    if chromium is None:
        pytest.skip("no Chromium on the PATH")
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        page.goto(f"{address}/auth/login?return_to=/start")
        assert page.url == f"{address}/start"
        page.goto(f"{address}/auth/logout?return_to=/bye")
        assert page.url == f"{address}/auth/logout?return_to=/bye"
        assert page.evaluate("getComputedStyle(document.querySelector('main')).maxWidth") == "512px"
        page.get_by_role("button", name="Sign out").click()
        page.wait_for_url(f"{address}/bye")
        browser.close()
    assert said == []
    assert [family.ended for family in provider.families] == ["revoked"]
