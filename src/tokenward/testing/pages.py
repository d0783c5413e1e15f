"""The few HTML pages that the provider shows."""

from __future__ import annotations

import base64
import hashlib
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_STYLE = """
:root { color-scheme: light dark; --accent: #2f5bd7; --line: #8886; }
* { box-sizing: border-box; }
body { margin: 0; min-height: 100vh; display: grid; place-items: center;
       font: 16px/1.5 system-ui, sans-serif; background: Canvas; color: CanvasText; }
main { width: min(24rem, 92vw); padding: 2rem; border: 1px solid var(--line);
       border-radius: 12px; }
h1 { margin: 0 0 .25rem; font-size: 1.3rem; }
p { margin: 0 0 1.25rem; opacity: .8; }
label { display: block; margin: 0 0 1rem; font-size: .9rem; }
input { display: block; width: 100%; margin-top: .25rem; padding: .6rem .7rem; font: inherit;
        border: 1px solid var(--line); border-radius: 8px; }
button { width: 100%; padding: .65rem; font: inherit; font-weight: 600; border-radius: 8px;
         border: 1px solid var(--accent); background: var(--accent); color: #fff; }
button.plain { margin-top: .6rem; background: none; color: inherit; border-color: var(--line); }
.error { padding: .6rem .8rem; border-radius: 8px; background: #d3303022; opacity: 1; }
code { overflow-wrap: anywhere; }
"""

_SUBMIT = "document.forms[0].submit()"
_SUBMIT_HASH = base64.b64encode(hashlib.sha256(_SUBMIT.encode()).digest()).decode()

# Without form-action: browsers apply it to the redirect that follows a form as
# well, and that one leads to the client.
PAGE_CSP = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'"
"""Content-Security-Policy of every page."""
FORM_POST_CSP = f"{PAGE_CSP}; script-src 'sha256-{_SUBMIT_HASH}'"
"""The same, for the page that submits itself."""


def login_page(
    *, action: str, interaction: str, client_id: str, hint: str = "", error: str = ""
) -> str:
    """Ask for user name and password."""
    return _page(
        "Sign in",
        f"""<h1>Sign in</h1>
<p>to continue to <code>{escape(client_id)}</code></p>
{_problem(error)}
<form method="post" action="{escape(action)}">
{_hidden({"interaction": interaction})}
{_credentials(hint, focus=True)}
<button name="action" value="sign-in">Sign in</button>
<button class="plain" name="action" value="cancel" formnovalidate>Cancel</button>
</form>""",
    )


def device_page(
    *, action: str, interaction: str, user_code: str, password_needed: bool, error: str = ""
) -> str:
    """Ask whether the device that shows this code may have what it asks for."""
    credentials = _credentials("", focus=bool(user_code)) if password_needed else ""
    focus = "" if user_code else " autofocus"
    return _page(
        "Connect a device",
        f"""<h1>Connect a device</h1>
<p>Go on only if you see this code on a device of your own.</p>
{_problem(error)}
<form method="post" action="{escape(action)}">
{_hidden({"interaction": interaction})}
<label>Code
<input name="user_code" value="{escape(user_code)}" autocomplete="off" required{focus}></label>
{credentials}
<button name="action" value="allow">Allow</button>
<button class="plain" name="action" value="deny" formnovalidate>Deny</button>
</form>""",
    )


def form_post_page(address: str, parameters: Mapping[str, str]) -> str:
    """Carry the parameters to the client (OAuth 2.0 Form Post Response Mode, section 2)."""
    return _page(
        "Signing in",
        f"""<form method="post" action="{escape(address)}">
{_hidden(parameters)}
<noscript><button>Continue</button></noscript>
</form>
<script>{_SUBMIT}</script>""",
    )


def sign_out_page(*, action: str, interaction: str) -> str:
    """Ask whether to sign out, because nothing proves that the user wants it."""
    return _page(
        "Sign out",
        f"""<h1>Sign out?</h1>
<p>An application asks to sign you out.</p>
<form method="post" action="{escape(action)}">
{_hidden({"interaction": interaction})}
<button>Sign out</button>
</form>""",
    )


def message_page(title: str, text: str) -> str:
    """Tell something, and stop there."""
    return _page(title, f"<h1>{escape(title)}</h1>\n<p>{escape(text)}</p>")


def _credentials(hint: str, *, focus: bool) -> str:
    autofocus = " autofocus" if focus else ""
    return f"""<label>User name
<input name="username" value="{escape(hint)}" autocomplete="username" required{autofocus}></label>
<label>Password
<input name="password" type="password" autocomplete="current-password" required></label>"""


def _problem(error: str) -> str:
    return f'<p class="error" role="alert">{escape(error)}</p>' if error else ""


def _hidden(parameters: Mapping[str, str]) -> str:
    return "\n".join(
        f'<input type="hidden" name="{escape(name)}" value="{escape(value)}">'
        for name, value in parameters.items()
    )


def _page(title: str, body: str) -> str:
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""
