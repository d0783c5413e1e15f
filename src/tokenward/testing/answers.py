"""What the provider answers, before it becomes HTTP."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import urlencode, urlsplit

from starlette.responses import Response

from .pages import FORM_POST_CSP, PAGE_CSP, form_post_page

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .clients import JSON

Headers: TypeAlias = tuple[tuple[str, str], ...]

NO_STORE: Headers = (("cache-control", "no-store"), ("pragma", "no-cache"))
"""RFC 6749, section 5.1: required on every answer that holds a token."""


@dataclass(frozen=True, slots=True)
class Document:
    """A JSON object."""

    members: Mapping[str, JSON] = field(repr=False)
    status: int = 200
    headers: Headers = NO_STORE
    outcome: str = "ok"


@dataclass(frozen=True, slots=True)
class Redirect:
    """Parameters that the browser carries to another address."""

    address: str
    parameters: Mapping[str, str] = field(repr=False)
    form_post: bool = False
    """In the body of a POST (OAuth 2.0 Form Post Response Mode), not in the query."""
    headers: Headers = field(default=(), repr=False)
    outcome: str = "ok"


@dataclass(frozen=True, slots=True)
class Page:
    """Something for a person to read."""

    html: str = field(repr=False)
    status: int = 200
    headers: Headers = field(default=(), repr=False)
    outcome: str = "ok"


@dataclass(frozen=True, slots=True)
class Raw:
    """Bytes as they are, headers included."""

    body: bytes = field(repr=False)
    status: int = 200
    headers: Headers = ()
    outcome: str = "ok"


Answer: TypeAlias = Document | Redirect | Page | Raw


class Refused(Exception):
    """The provider says no (RFC 6749, sections 4.1.2.1 and 5.2)."""

    def __init__(
        self, error: str, description: str = "", *, status: int = 400, headers: Headers = ()
    ) -> None:
        super().__init__(error)
        self.error = error
        self.description = description
        self.status = status
        self.headers = headers

    @property
    def members(self) -> dict[str, str]:
        """The members of the answer."""
        described = {"error_description": self.description} if self.description else {}
        return {"error": self.error, **described}

    def document(self) -> Document:
        """Say no to a client."""
        return Document(self.members, self.status, NO_STORE + self.headers, self.error)


def render(answer: Answer) -> Response:
    """Turn an answer into HTTP."""
    match answer:
        case Document():
            return _response(_json(answer), answer, "application/json")
        case Redirect(form_post=True):
            html = form_post_page(answer.address, answer.parameters)
            csp = ("content-security-policy", FORM_POST_CSP)
            page = Page(html, headers=(*answer.headers, csp))
            return _response(html.encode(), page, "text/html; charset=utf-8")
        case Redirect():
            return _redirect(answer)
        case Page():
            page = Page(
                answer.html,
                answer.status,
                (*answer.headers, ("content-security-policy", PAGE_CSP)),
            )
            return _response(answer.html.encode(), page, "text/html; charset=utf-8")
        case Raw():
            response = Response(answer.body, answer.status)
            response.raw_headers += [(n.lower().encode(), v.encode()) for n, v in answer.headers]
            return response


def _json(answer: Document) -> bytes:
    return json.dumps(answer.members).encode()


def _response(body: bytes, answer: Document | Page, media_type: str) -> Response:
    response = Response(body, answer.status, media_type=media_type)
    for name, value in answer.headers:
        response.headers.append(name, value)
    response.headers["x-content-type-options"] = "nosniff"
    if isinstance(answer, Page):
        response.headers["cache-control"] = "no-store"
        response.headers["referrer-policy"] = "no-referrer"
    return response


def _redirect(answer: Redirect) -> Response:
    query = urlencode(answer.parameters)
    separator = "&" if urlsplit(answer.address).query else "?"
    location = f"{answer.address}{separator}{query}" if query else answer.address
    # RFC 9700, section 4.12: 303, so that no browser repeats a POST with a password in it.
    response = Response(status_code=303, headers={"location": location})
    for name, value in answer.headers:
        response.headers.append(name, value)
    response.headers["cache-control"] = "no-store"
    response.headers["referrer-policy"] = "no-referrer"
    return response
