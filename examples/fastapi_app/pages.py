"""The HTML of the app. Nothing here knows how a token is got."""

from __future__ import annotations

import inspect
import json
from html import escape
from typing import TYPE_CHECKING, Final

from fastapi.responses import HTMLResponse

from introspection import fingerprint

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import httpx

    from tokenward.tokens.models import AccessToken, TokenSet
    from tokenward.tokens.session import User

_LAYOUT: Final = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} - tokenward</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/static/style.css">
<header>
  <a class="brand" href="/">tokenward</a>
  <nav>{links}</nav>
  {account}
</header>
<main>
{body}
</main>
</html>
"""

_LINKS: Final = {
    "/claims": "Claims",
    "/tokens": "Tokens",
    "/call/by-dependency": "Call by dependency",
    "/call/by-hand": "Call by hand",
    "/call/by-named-client": "Named client",
    "/call/by-typed-client": "Typed client",
    "/call/as-the-app": "As the app",
}

_ACCOUNT: Final = """<form class="account" method="post" action="/log-out">
    <span>{name}</span> <button>Log out</button>
  </form>"""

_LOG_IN: Final = '<a class="button" href="/auth/login?return_to=/tokens">Log in</a>'


def home(user: User | None) -> HTMLResponse:
    """Greet a user, or a visitor."""
    if user is None:
        return _page(
            None,
            "Welcome",
            f"""<h1>Nobody is logged in</h1>
            <p>Log in as <b>alice</b> with the password <b>alice</b>. You come back with an access
            token that lives for a short while only, and with a refresh token that keeps it
            alive for as long as you stay.</p>
            <p>{_LOG_IN}</p>""",
        )
    return _page(
        user,
        "Home",
        f"""<h1>Hello, {escape(user.name)}</h1>
        <p>Watch your <a href="/tokens">access token</a> being replaced before it expires, call
        an API with it <a href="/call/by-dependency">by a dependency</a>,
        <a href="/call/by-hand">by hand</a>, by a <a href="/call/by-named-client">named</a> or a
        <a href="/call/by-typed-client">typed client</a>, or
        <a href="/call/as-the-app">as the app itself</a>, and look at
        <a href="/claims">what the provider says</a> about you.</p>""",
    )


def logged_out(*, revoked: bool) -> HTMLResponse:
    """Say goodbye, and what became of the refresh token."""
    fate = (
        '<b class="good" id="fate">revoked</b>: the provider was asked, and takes it no longer'
        if revoked
        else '<b class="bad" id="fate">still active</b>: the provider would take it'
    )
    return _page(
        None,
        "Logged out",
        f"""<h1>You are logged out</h1>
        <p>Your session is gone, here and at the provider.</p>
        <p>Its refresh token is {fate}.</p>
        <p>{_LOG_IN}</p>""",
    )


def claims(user: User) -> HTMLResponse:
    """Show the claims of the id_token."""
    rows = "".join(
        f"<tr><th>{escape(name)}</th><td>{escape(json.dumps(value, ensure_ascii=False))}</td></tr>"
        for name, value in sorted(user.claims.items())
    )
    return _page(
        user,
        "Claims",
        f"""<h1>Claims</h1>
        <p>What <code>{escape(user.issuer)}</code> says about you, in the id_token.</p>
        <table>{rows}</table>""",
    )


def tokens(user: User, held: TokenSet) -> HTMLResponse:
    """Show the tokens, masked; static/tokens.js counts down and sees replacements."""
    return _page(
        user,
        "Tokens",
        f"""<h1>Tokens</h1>
        {_access_token(held.access_token)}
        <h2>Replaced so far</h2>
        <ol class="card" id="replaced"><li class="none">None yet. Stay on this page.</li></ol>
        <h2>The others</h2>
        <table>
          <tr><th>Refresh token</th><td>{_masked(present=bool(held.refresh_token))}</td></tr>
          <tr><th>id_token</th><td>{_masked(present=bool(held.id_token))}</td></tr>
          <tr><th>Scope</th><td>{escape(" ".join(sorted(held.scope)))}</td></tr>
        </table>
        <script src="/static/tokens.js"></script>""",
    )


def _access_token(token: AccessToken) -> str:
    return f"""<section class="card token" id="token"
        data-fingerprint="{fingerprint(token.value)}"
        data-expires-at="{token.expires_at.isoformat()}" data-lifetime="{token.lifetime:.0f}">
      <p>Access token <span class="masked">{"&bull;" * 24}</span></p>
      <p>Fingerprint <code id="fingerprint">{fingerprint(token.value)}</code></p>
      <div class="bar"><div id="life"></div></div>
      <p><b id="seconds"></b> seconds to live</p>
    </section>"""


def _masked(*, present: bool) -> str:
    return f'<span class="masked">{"&bull;" * 24}</span>' if present else "none"


def api_answer(
    user: User, view: Callable[..., Awaitable[object]], answer: httpx.Response
) -> HTMLResponse:
    """Show what the API answered, and the view that called it."""
    body = json.dumps(answer.json(), indent=2) if answer.is_success else answer.reason_phrase
    return _page(
        user,
        "Call the API",
        f"""<h1>The API says <span class="{"good" if answer.is_success else "bad"}"
        id="status">{answer.status_code}</span></h1>
        <pre class="card" id="answer">{escape(body)}</pre>
        <p>The fingerprint is the one of the token that the API received. This is the view
        that called it:</p>
        <pre class="card">{escape(inspect.getsource(view).strip())}</pre>""",
    )


def _page(user: User | None, title: str, body: str) -> HTMLResponse:
    links = "".join(f'<a href="{path}">{text}</a>' for path, text in _LINKS.items())
    account = _ACCOUNT.format(name=escape(user.name)) if user else _LOG_IN
    html = _LAYOUT.format(title=title, links=links if user else "", account=account, body=body)
    return HTMLResponse(html)
