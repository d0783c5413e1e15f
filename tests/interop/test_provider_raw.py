"""The other provider behaves as the tests beside this file need it, without our client.

When one of these fails, look at server.js and not at tokenward.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.interop


@pytest.fixture
def browser(interop_op) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=interop_op.issuer) as client:
        yield client


@pytest.fixture
def back_channel(interop_op) -> Iterator[httpx.Client]:
    auth = (interop_op.client_id, interop_op.client_secret)
    with httpx.Client(base_url=interop_op.issuer, auth=auth) as client:
        yield client


def follow(browser: httpx.Client, url: str, *, until: str) -> dict[str, str]:
    """Follow redirects inside the provider; return the query of the one that leaves it."""
    for _ in range(10):
        response = browser.get(url)
        assert response.is_redirect, response.text
        url = str(response.url.join(response.headers["location"]))
        if url.startswith(until):
            return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
    pytest.fail("the provider goes on redirecting")


def log_in(interop_op, browser: httpx.Client, back_channel: httpx.Client) -> dict[str, object]:
    verifier = secrets.token_urlsafe(32)
    digest = hashlib.sha256(verifier.encode()).digest()
    question = httpx.QueryParams(
        client_id=interop_op.client_id,
        redirect_uri=interop_op.redirect_uri,
        response_type="code",
        scope="openid profile offline_access",
        prompt="consent",
        state="s",
        nonce="n",
        code_challenge=base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
        code_challenge_method="S256",
    )
    answer = follow(browser, f"/auth?{question}", until=interop_op.redirect_uri)
    assert (answer["state"], answer["iss"]) == ("s", interop_op.issuer)
    tokens = back_channel.post(
        "/token",
        data={
            "grant_type": "authorization_code",
            "code": answer["code"],
            "redirect_uri": interop_op.redirect_uri,
            "code_verifier": verifier,
        },
    )
    assert tokens.status_code == 200, tokens.text
    return tokens.json()


def refresh(back_channel: httpx.Client, refresh_token: object) -> httpx.Response:
    form = {"grant_type": "refresh_token", "refresh_token": refresh_token}
    return back_channel.post("/token", data=form)


def is_active(back_channel: httpx.Client, token: object) -> bool:
    return back_channel.post("/token/introspection", data={"token": token}).json()["active"]


def test_a_login_gives_short_access_tokens_and_a_refresh_token(
    interop_op, browser, back_channel
) -> None:
    tokens = log_in(interop_op, browser, back_channel)
    assert tokens["expires_in"] == 2
    assert tokens["refresh_token"]
    assert tokens["id_token"]


def test_a_login_without_pkce_is_refused(interop_op, browser) -> None:
    question = httpx.QueryParams(
        client_id=interop_op.client_id,
        redirect_uri=interop_op.redirect_uri,
        response_type="code",
        scope="openid",
        state="s",
    )
    answer = follow(browser, f"/auth?{question}", until=interop_op.redirect_uri)
    assert answer["error"] == "invalid_request"


def test_refresh_tokens_rotate_and_a_replay_kills_the_family(
    interop_op, browser, back_channel
) -> None:
    first = log_in(interop_op, browser, back_channel)["refresh_token"]
    second = refresh(back_channel, first).json()["refresh_token"]
    assert second != first
    replay = refresh(back_channel, first)
    assert (replay.status_code, replay.json()["error"]) == (400, "invalid_grant")
    assert refresh(back_channel, second).json()["error"] == "invalid_grant"


def test_a_revoked_refresh_token_is_inactive(interop_op, browser, back_channel) -> None:
    token = log_in(interop_op, browser, back_channel)["refresh_token"]
    assert is_active(back_channel, token)
    assert back_channel.post("/token/revocation", data={"token": token}).status_code == 200
    assert not is_active(back_channel, token)


def test_logout_ends_the_session_and_comes_back(interop_op, browser, back_channel) -> None:
    tokens = log_in(interop_op, browser, back_channel)
    question = httpx.QueryParams(
        id_token_hint=str(tokens["id_token"]),
        post_logout_redirect_uri=interop_op.post_logout_redirect_uri,
        state="bye",
    )
    page = browser.get(f"/session/end?{question}")
    assert page.status_code == 200
    xsrf = page.text.split('name="xsrf" value="')[1].split('"')[0]
    done = browser.post("/session/end/confirm", data={"xsrf": xsrf, "logout": "yes"})
    assert done.headers["location"] == f"{interop_op.post_logout_redirect_uri}?state=bye"
