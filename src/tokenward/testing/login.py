"""Log a user in through an app's real routes, without a browser."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Protocol, TypeVar
from urllib.parse import urlencode, urljoin, urlsplit

from .core import PERSON_EXTENSION

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping

    from starlette.types import Message

    from .provider import Provider

MAX_HOPS = 20
"""Redirects and forms that a login may take."""


class Response(Protocol):
    """What is needed of an answer; httpx and httpx2 both have it."""

    @property
    def status_code(self) -> int:
        """The HTTP status."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """The header fields."""
        ...

    @property
    def url(self) -> object:
        """The address that answered."""
        ...


R = TypeVar("R", bound=Response)
R_co = TypeVar("R_co", bound=Response, covariant=True)


class BrowserLike(Protocol[R_co]):
    """What is needed of a client: `httpx.AsyncClient` and `httpx2.AsyncClient` fit."""

    def get(self, url: str, /, *, follow_redirects: bool) -> Awaitable[R_co]:
        """Send a GET."""
        ...

    def post(self, url: str, /, *, data: dict[str, str], follow_redirects: bool) -> Awaitable[R_co]:
        """Send a form."""
        ...


class LoginAs(Protocol):
    """The type of the fixture `login_as`."""

    def __call__(
        self,
        client: BrowserLike[R],
        user: str,
        *,
        app_login_path: str = "/auth/login",
    ) -> Awaitable[R]:
        """See `login_as`."""
        ...


async def login_as(
    client: BrowserLike[R],
    user: str,
    *,
    provider: Provider,
    app_login_path: str = "/auth/login",
) -> R:
    """Log `user` in at the app that `client` reaches, and return the app's last answer.

    The client needs an absolute `base_url`, and a transport that leads to the app
    alone: addresses of the provider are called in process, and its login form is
    filled in with the password it knows. Redirects are followed one by one, as a
    browser would, until the app answers something else; the client keeps the app's
    cookies. No session at the provider is kept, so every call is a login anew, and
    `sign_in_automatically` has no say in who logs in.

    Raises `LookupError` if the provider does not know the user, `AssertionError` if
    the login does not come to an end.
    """
    if user not in provider.users:
        raise LookupError(f"the provider has no user {user!r}")
    response = await client.get(app_login_path, follow_redirects=False)
    for _ in range(MAX_HOPS):
        if not _is_redirect(response):
            return response
        address = urljoin(str(response.url), response.headers["location"])
        if not address.startswith(f"{provider.issuer.rstrip('/')}/"):
            response = await client.get(address, follow_redirects=False)
            continue
        form = await _through_provider(provider, user, address)
        if form.fields:
            data, action = form.fields, form.action
            response = await client.post(action, data=data, follow_redirects=False)
        else:
            response = await client.get(form.action, follow_redirects=False)
    raise AssertionError(f"the login does not end: more than {MAX_HOPS} redirects")


async def _through_provider(provider: Provider, user: str, address: str) -> _Form:
    """Return where the provider sends the browser: a form to post, or an address alone."""
    answer = await call_in_process(provider, "GET", address)
    form = answer.form()
    if form and "username" in form.fields:
        credentials = {"username": user, "password": provider.users[user].password}
        body = urlencode({**form.fields, **credentials, "action": "sign-in"}).encode()
        answer = await call_in_process(provider, "POST", form.action, body=body)
        form = answer.form()
    if "location" in answer.headers:
        return _Form(answer.headers["location"])
    if form is None:
        raise AssertionError(f"the provider answered {answer.status} without a redirect")
    return form


def _is_redirect(response: Response) -> bool:
    return 300 <= response.status_code < 400 and "location" in response.headers


# --- the provider, called without a socket


@dataclass(frozen=True, slots=True)
class InProcessAnswer:
    """What an ASGI app answered."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    """Names in lower case; of a repeated field the last."""
    body: bytes = field(repr=False)

    def form(self) -> _Form | None:
        """Return the form on the page, or None."""
        reader = _FormReader()
        reader.feed(self.body.decode())
        return reader.form


async def call_in_process(
    provider: Provider, method: str, address: str, *, body: bytes = b""
) -> InProcessAnswer:
    """Send one request to the provider without socket or HTTP library."""
    parts = urlsplit(address)
    content_type = (b"content-type", b"application/x-www-form-urlencoded")
    scope = {
        "type": "http",
        "method": method,
        "scheme": parts.scheme,
        "path": parts.path,
        "root_path": "",
        "query_string": parts.query.encode(),
        "headers": [content_type] if body else [],
        "extensions": {PERSON_EXTENSION: {}},
    }
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    await provider(scope, receive, send)
    headers = {name.decode(): value.decode("latin-1") for name, value in sent[0]["headers"]}
    text = b"".join(message.get("body", b"") for message in sent[1:])
    return InProcessAnswer(sent[0]["status"], headers, text)


@dataclass(slots=True)
class _Form:
    action: str
    fields: dict[str, str] = field(default_factory=dict, repr=False)


class _FormReader(HTMLParser):
    """Reads the first form of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.form: _Form | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form" and self.form is None:
            self.form = _Form(given.get("action", ""))
        elif tag == "input" and self.form and "name" in given:
            self.form.fields[given["name"]] = given.get("value", "")
