"""The demo answers as it should where there is no Chromium, too."""

from __future__ import annotations

import re
import signal
import subprocess
from html import unescape
from typing import TYPE_CHECKING

import httpx
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(params=["127.0.0.1", "localhost"])
def visitor(demo, request) -> Iterator[httpx.Client]:
    """A browser at either of the two names of this machine."""
    url = f"http://{request.param}:{demo.port}"
    navigation = {
        "accept": "text/html",
        "sec-fetch-mode": "navigate",
        "sec-fetch-dest": "document",
        "sec-fetch-site": "same-origin",
        "origin": url,
    }
    with httpx.Client(base_url=url, headers=navigation, follow_redirects=True) as client:
        yield client


def log_in(visitor: httpx.Client, path: str) -> httpx.Response:
    page = visitor.get(path)
    action = unescape(re.findall(r'<form method="post" action="([^"]+)"', page.text)[0])
    hidden = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', page.text))
    form = {**hidden, "username": "alice", "password": "alice", "action": "sign-in"}
    return visitor.post(str(page.url.join(action)), data=form)


def test_nobody_is_logged_in_at_first(visitor) -> None:
    assert "Nobody is logged in" in visitor.get("/").text


def test_a_script_without_a_session_gets_401_and_no_redirect(demo) -> None:
    answer = httpx.get(f"{demo.url}/tokens/current", headers={"sec-fetch-mode": "cors"})
    assert answer.status_code == 401


@pytest.mark.parametrize(
    "path",
    [
        "/call/by-dependency",
        "/call/by-hand",
        "/call/by-named-client",
        "/call/by-typed-client",
        "/call/as-the-app",
    ],
)
def test_the_api_takes_the_token(visitor, path: str) -> None:
    page = log_in(visitor, path)
    assert page.url.path == path
    assert '<span class="good"' in page.text
    assert "Garden table" in page.text
    owner = "app" if path == "/call/as-the-app" else "alice"
    assert f'"owner": "{owner}"' in unescape(page.text)


def test_the_api_refuses_a_token_that_the_provider_does_not_know(demo) -> None:
    headers = {"authorization": "Bearer made-up"}
    answer = httpx.get(f"http://127.0.0.1:{demo.port + 2}/invoices", headers=headers)
    assert answer.status_code == 401


def test_logging_out_twice_is_no_login(visitor) -> None:
    assert visitor.post("/log-out").url.path == "/"


def test_logging_out_revokes_the_refresh_token(visitor) -> None:
    assert log_in(visitor, "/claims").url.path == "/claims"
    assert 'id="fate">revoked' in visitor.post("/log-out").text
    assert "Nobody is logged in" in visitor.get("/").text


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_whatever_ends_the_demo_stops_every_server(demo_of_its_own, name: str) -> None:
    demo_of_its_own.process.send_signal(getattr(signal, name))
    assert demo_of_its_own.process.wait(30) == 0
    for port in range(demo_of_its_own.port, demo_of_its_own.port + 3):
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"http://127.0.0.1:{port}/")


@pytest.mark.parametrize("port", ["0", "65534", "99999", "-1", "eighty"])
def test_a_port_that_cannot_be_is_refused_in_a_line(demo_command, port: str) -> None:
    run = subprocess.run(
        [*demo_command, "--port", port], check=False, capture_output=True, text=True, timeout=60
    )
    assert run.returncode == 2
    assert "--port" in run.stderr
    assert "Traceback" not in run.stderr
