"""The few pages that the library shows by itself. Nothing of a request is ever in them."""

from __future__ import annotations

import base64
import hashlib
import html
from typing import Final

from starlette.responses import HTMLResponse, RedirectResponse, Response

_STYLE: Final = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { display: grid; min-height: 90vh; place-content: center; padding: 1rem; }
main { max-width: 32rem; }
h1 { font-size: 1.5rem; margin: 0 0 .5rem; }
code { opacity: .65; }
button { font: inherit; padding: .5rem 1rem; }
"""
_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()


def protect(response: Response, *, form_action: str = "'none'") -> Response:
    """Keep a response out of caches, frames and Referer fields (RFC 9700, 4.2 and 4.16)."""
    response.headers.update(
        {
            "cache-control": "no-store",
            "referrer-policy": "no-referrer",
            "x-content-type-options": "nosniff",
            "content-security-policy": (
                f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; "
                f"base-uri 'none'; form-action {form_action}; frame-ancestors 'none'"
            ),
        }
    )
    return response


def page(
    title: str,
    text: str,
    *,
    status: int = 200,
    link: tuple[str, str] | None = None,
    button: tuple[str, str] | None = None,
    word: str = "",
) -> Response:
    """Return a small page. `link` is a label and an address, `button` a label and where it posts.

    `word` is a stable word for whoever asks for help.
    """
    parts = [f"<h1>{html.escape(title)}</h1><p>{html.escape(text)}</p>"]
    if button:
        label, action = map(html.escape, button)
        parts.append(f'<form method="post" action="{action}"><button>{label}</button></form>')
    if link:
        label, address = map(html.escape, link)
        parts.append(f'<p><a href="{address}">{label}</a></p>')
    if word:
        parts.append(f"<p><code>{html.escape(word)}</code></p>")
    document = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width"><meta name="robots" content="noindex">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head>"
        f"<body><main>{''.join(parts)}</main></body></html>"
    )
    # Browsers hold the redirect to the provider that follows a form against form-action, too.
    form_action = "'self' https: http:" if button else "'none'"
    return protect(HTMLResponse(document, status), form_action=form_action)


def redirect(target: str) -> Response:
    """Send the browser to `target` by a GET, whatever it came with (RFC 9700, section 4.12)."""
    return protect(RedirectResponse(target, status_code=303))


def with_cookies(response: Response, lines: list[bytes]) -> Response:
    """Return the response with these Set-Cookie values."""
    response.raw_headers.extend((b"set-cookie", line) for line in lines)
    return response
