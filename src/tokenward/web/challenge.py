"""What a browser or a script is told when there is no user, no token or no store.

A navigation is sent to the login; a script gets a status and a word that it can act
on, never a redirect to another origin. Which of the two a request is, browsers say
themselves in Fetch Metadata, and nothing that a page can set outweighs that.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from starlette.responses import JSONResponse
from starlette.websockets import WebSocketClose

from ..errors import (
    Conflict,
    InsufficientScope,
    LoginFailed,
    NotAuthenticated,
    PermissionDenied,
    ProviderUnavailable,
    SessionEnded,
    SessionNotLoaded,
    SessionNotWritable,
    SessionTooLarge,
    StoreUnavailable,
    TokenExpired,
    TokenUnavailable,
)
from .login_errors import LoginBroken, LoginInterrupted, LoginRefused
from .pages import page, protect, redirect
from .return_to import local_target

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from starlette.responses import Response
    from starlette.types import Scope

    from ..errors import TokenwardError
    from .cookies import Headers

_DAY: Final = 86400.0

# ----------------------------------------------------------------- who is asking


def is_navigation(method: str, *, headers: Headers, scope_type: str = "http") -> bool:
    """Tell whether the answer to a request is a page that the user will see.

    Decided by the first of these that says anything: Sec-Fetch-Mode and -Dest, which
    no page can forge; Accept, where naming JSON or an event stream is a script's way,
    and only a browser asks for HTML by name; X-Requested-With and HX-Request. Frames
    and prefetches are none: the user would not see a login there, or did not ask.
    """
    if scope_type != "http" or method == "OPTIONS":
        return False
    fields = _fields(headers)
    if _prefetches(fields):
        return False
    mode, destination = fields.get(b"sec-fetch-mode"), fields.get(b"sec-fetch-dest")
    if mode is not None:
        # A service worker that passes a navigation on may send the destination `empty`.
        return mode == b"navigate" and destination in {b"document", b"empty", None}
    if destination is not None:
        return destination == b"document"
    if not _asks_for_html(fields.get(b"accept", b"")):
        return False
    return b"x-requested-with" not in fields and b"hx-request" not in fields


def is_prefetch(headers: Headers) -> bool:
    """Tell whether a browser asks for a page ahead of the user.

    Nothing may be started for it: no login, no logout, no cookie.
    """
    return _prefetches(_fields(headers))


def is_subresource(headers: Headers) -> bool:
    """Tell whether a browser says that a page, such as its script or an image, asks for this.

    No user sees the answer, so a login cannot come to its end. Frames are none: there
    it can, silently. Who does not say is believed to show pages.
    """
    return _fields(headers).get(b"sec-fetch-mode", b"navigate") != b"navigate"


def is_same_origin_post(headers: Headers, *, allowed_origins: Collection[str]) -> bool:
    """Tell whether a POST shows by itself that a page of the app caused it.

    `allowed_origins` are the app's own, as `https://shop.example`. A browser that says
    nothing of where the request comes from is refused; Referer is no proof.
    """
    fields = _fields(headers)
    site, origin = fields.get(b"sec-fetch-site"), fields.get(b"origin")
    if site is not None and site != b"same-origin":
        return False
    if origin is None or origin == b"null":
        # "null" is also what a page of ours sends under `Referrer-Policy: no-referrer`; the
        # browser must vouch for it, as for one that does not send Origin with every POST.
        return site is not None
    return origin.decode("latin-1") in allowed_origins


def current_target(scope: Scope, *, forbidden_prefixes: Collection[str] = ()) -> str | None:
    """Return the path and query of a request, to come back to after the login.

    None if it is no GET or HEAD, whose body cannot be sent again, or if it has not
    the form of a local target. Host and forwarding headers are not looked at.
    """
    if scope["type"] != "http" or scope["method"] not in {"GET", "HEAD"}:
        return None
    path = scope.get("raw_path") or quote(scope["path"], safe="/:@!$&'()*+,;=").encode()
    query = scope["query_string"]
    target = path.partition(b"?")[0] + (b"?" + query if query else b"")
    return local_target(target.decode("latin-1"), forbidden_prefixes=forbidden_prefixes)


def _fields(headers: Headers) -> Mapping[bytes, bytes]:
    """Join fields of one name, so that a field which must come once is then no known value."""
    fields: dict[bytes, bytes] = {}
    for name, value in headers:
        fields[name] = fields[name] + b", " + value if name in fields else value
    return fields


def _prefetches(fields: Mapping[bytes, bytes]) -> bool:
    purposes = (fields.get(n, b"") for n in (b"sec-purpose", b"purpose", b"x-moz", b"x-purpose"))
    return any(p.lower().startswith((b"prefetch", b"preview")) for p in purposes)


def _asks_for_html(accept: bytes) -> bool:
    ranges = [r.strip().lower() for r in accept.split(b",") if not _REFUSED.search(r)]
    types = {r.partition(b";")[0].strip() for r in ranges}
    if any(t.endswith((b"/json", b"+json", b"/event-stream")) for t in types):
        return False
    return not types.isdisjoint({b"text/html", b"application/xhtml+xml"})


_REFUSED: Final = re.compile(rb";[ \t]*q=0(?:\.0{0,3})?[ \t]*(?:;|$)", re.IGNORECASE)
"""A weight of 0: the type is not wanted (RFC 9110, section 12.4.2)."""


# ----------------------------------------------------------------- what it is told


@dataclass(frozen=True, slots=True)
class _Verdict:
    word: str
    """`error` of the JSON answer: stable, and all that is told of the cause."""
    status: int
    close: int
    """Code of RFC 6455, section 7.4; 4000 and above are an application's own."""
    title: str = ""
    text: str = ""
    login: bool = False
    """Whether logging in may help."""


_DENIED: Final = ("Not allowed", "You are signed in, but may not see this page.")
_REFUSED_LOGIN: Final = ("Not allowed", "You are known here, but this site does not let you in.")
_BUSY: Final = ("Back in a moment", "Something that we need does not answer. Please try again.")
_FAULT: Final = ("Something went wrong", "The fault is ours, and it has been noted.")

_UNKNOWN: Final = _Verdict("internal_error", 500, 1011, *_FAULT)
_VERDICTS: Final[tuple[tuple[type[TokenwardError], _Verdict], ...]] = (
    (NotAuthenticated, _Verdict("not_authenticated", 401, 4401, login=True)),
    (TokenExpired, _Verdict("token_expired", 401, 4401, login=True)),
    (SessionEnded, _Verdict("session_ended", 401, 4401, login=True)),
    (PermissionDenied, _Verdict("permission_denied", 403, 4403, *_DENIED)),
    (InsufficientScope, _Verdict("insufficient_scope", 403, 4403, *_DENIED, login=True)),
    (TokenUnavailable, _Verdict("token_unavailable", 503, 1013, *_BUSY)),
    (StoreUnavailable, _Verdict("store_unavailable", 503, 1013, *_BUSY)),
    (ProviderUnavailable, _Verdict("provider_unavailable", 503, 1013, *_BUSY)),
    (Conflict, _Verdict("conflict", 503, 1013, *_BUSY)),
    (LoginRefused, _Verdict("login_refused", 403, 4403, *_REFUSED_LOGIN, login=True)),
    (LoginBroken, _Verdict("internal_error", 500, 1011, *_FAULT)),
    (LoginInterrupted, _Verdict("provider_unavailable", 503, 1013, *_BUSY, login=True)),
    (
        LoginFailed,
        _Verdict("login_failed", 400, 1008, "Signing in failed", "Please try again.", login=True),
    ),
    (SessionNotWritable, _Verdict("session_not_writable", 500, 1011, *_FAULT)),
    (SessionNotLoaded, _Verdict("session_not_loaded", 500, 1011, *_FAULT)),
    (SessionTooLarge, _Verdict("session_too_large", 500, 1011, *_FAULT)),
)


def answer(
    error: TokenwardError, *, navigation: bool, login_url: str, return_to: str | None = None
) -> Response:
    """Return the response that tells a client of `error`, and tells nobody more than that.

    Where logging in is the remedy, a navigation goes to `login_url` with a 303, so
    that a form is never sent again, and comes back to `return_to` (`current_target`;
    None is the landing page). A script gets a 401 with `error` and `login_url` in
    JSON. Outages are a 503 with Retry-After for both, refusals a 403, and misuse by
    the app a 500: the log knows the rest.
    """
    verdict = _verdict(error)
    if navigation and verdict.status == 401:
        response = redirect(_with_target(login_url, local_target(return_to)))
    elif navigation:
        response = _page(verdict, login_url)
    else:
        response = protect(JSONResponse(_body(error, verdict, login_url), verdict.status))
    if verdict.status == 401 and not navigation:
        # RFC 9110, section 15.5.2, wants a challenge. Browsers ask for a password only
        # for schemes that they know, and they know none of this name.
        response.headers["www-authenticate"] = f'Cookie realm="login", error="{verdict.word}"'
    if verdict.status == 503:
        response.headers["retry-after"] = str(_retry_after(error))
    return response


def close_websocket(error: TokenwardError) -> WebSocketClose:
    """Return the ASGI app that ends a WebSocket on account of `error`, and never redirects.

    4401 asks for a login, 4403 is a refusal, 1013 says try again later, 1011 is a
    fault. Before the handshake is accepted, servers turn any of them into HTTP 403.
    """
    verdict = _verdict(error)
    return WebSocketClose(verdict.close, verdict.word)


_TELLS_WHEN: Final = (TokenUnavailable, StoreUnavailable, ProviderUnavailable, LoginInterrupted)


def _verdict(error: TokenwardError) -> _Verdict:
    return next((v for kind, v in _VERDICTS if isinstance(error, kind)), _UNKNOWN)


def _with_target(login_url: str, target: str | None) -> str:
    if target is None:
        return login_url
    return f"{login_url}{'&' if '?' in login_url else '?'}return_to={quote(target, safe='/')}"


def _body(error: TokenwardError, verdict: _Verdict, login_url: str) -> dict[str, str | int]:
    body: dict[str, str | int] = {"error": verdict.word}
    if verdict.login:
        body["login_url"] = login_url
    if verdict.status == 503:
        body["retry_after"] = _retry_after(error)
    if isinstance(error, InsufficientScope):
        body["scope"] = " ".join(sorted(error.missing))
    return body


def _retry_after(error: TokenwardError) -> int:
    """Whole seconds, at least one; a day at most, whatever a provider said."""
    seconds = 1.0
    if isinstance(error, _TELLS_WHEN):
        seconds = max(seconds, error.retry_after)
    return math.ceil(min(seconds, _DAY))


def _page(verdict: _Verdict, login_url: str) -> Response:
    link = ("Sign in", login_url) if verdict.login else None
    return page(verdict.title, verdict.text, status=verdict.status, link=link, word=verdict.word)
