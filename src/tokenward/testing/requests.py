"""What clients ask: reading it strictly, and remembering it without its secrets."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, TypeAlias
from urllib.parse import parse_qsl

from .answers import Refused
from .clients import TOKEN_EXCHANGE
from .jws import load_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

    from .clients import JSON

Endpoint: TypeAlias = Literal[
    "discovery",
    "jwks",
    "authorize",
    "login",
    "token",
    "revocation",
    "introspection",
    "userinfo",
    "end_session",
    "pushed_authorization_request",
    "device_authorization",
    "device",
    "backchannel_authentication",
    "registration",
]
"""The names under which requests are counted and misbehaviour is queued."""

MAX_BODY: Final = 64 * 1024
"""Bytes of a body that are read."""

_MASKED: Final = "**********"
_SECRET_PARAMETERS: Final = frozenset(
    {
        "actor_token",
        "assertion",
        "auth_req_id",
        "client_assertion",
        "client_notification_token",
        "client_secret",
        "code",
        "code_verifier",
        "device_code",
        "id_token_hint",
        "interaction",
        "login_hint_token",
        "nonce",
        "password",
        "refresh_token",
        "request_uri",
        "state",
        "subject_token",
        "token",
        "user_code",
    }
)


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """One request that reached the provider, and what became of it."""

    endpoint: Endpoint
    method: str
    client_id: str | None
    """Who the client says it is; None if it does not say."""
    grant_type: str | None
    """Of a token request."""
    parameters: tuple[tuple[str, str], ...]
    """In the order they came; secrets are masked."""
    sub: str | None = None
    """The user it turned out to be about."""
    outcome: str = ""
    """`ok`, an OAuth error, `login_page`, `http_<status>`, `cancelled`; empty until known."""
    answered: bool = False
    """Whether the whole answer was handed over; False when it was cut or lost on purpose."""


@dataclass(frozen=True, slots=True)
class Parameters:
    """The parameters of one request, of which hardly any may come twice."""

    pairs: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    def one(self, name: str) -> str | None:
        """Return the value, or None; empty counts as omitted (RFC 6749, section 3.1)."""
        return next((value for key, value in self.pairs if key == name and value), None)

    def all(self, name: str) -> tuple[str, ...]:
        """Return every value, in order."""
        return tuple(value for key, value in self.pairs if key == name and value)

    def required(self, name: str) -> str:
        """Return the value, or refuse."""
        value = self.one(name)
        if value is None:
            raise Refused("invalid_request", f"{name} is missing")
        return value

    def refuse_duplicates(self) -> None:
        """RFC 6749, section 3.1: "parameters MUST NOT be included more than once".

        `resource` may (RFC 8707, section 2), and `audience` where tokens are exchanged
        (RFC 8693, section 2.1).
        """
        exchange = self.one("grant_type") == TOKEN_EXCHANGE
        repeatable = {"resource", "audience"} if exchange else {"resource"}
        for name in self._names():
            if name not in repeatable and self._names().count(name) > 1:
                raise Refused("invalid_request", f"{name} is given more than once")

    def masked(self) -> tuple[tuple[str, str], ...]:
        """Return them fit for keeping."""
        return tuple((k, _MASKED if k in _SECRET_PARAMETERS else v) for k, v in self.pairs)

    def without(self, names: frozenset[str]) -> Parameters:
        """Return the others."""
        return Parameters(tuple((k, v) for k, v in self.pairs if k not in names))

    def _names(self) -> list[str]:
        return [name for name, _ in self.pairs]


async def read_parameters(request: Request) -> Parameters:
    """Read the query, or the form of a POST. Anything else is refused."""
    query = request.scope["query_string"]
    if request.method != "POST":
        return _parse(query)
    if query:
        raise Refused("invalid_request", "a POST takes its parameters in the body alone")
    body = await _read_body(request)
    content_type = _content_type(request)
    if (body or content_type) and content_type != "application/x-www-form-urlencoded":
        raise Refused("invalid_request", "the body must be application/x-www-form-urlencoded")
    return _parse(body)


async def read_document(request: Request) -> Mapping[str, JSON]:
    """Read the JSON object that is the body."""
    if _content_type(request) != "application/json":
        raise Refused("invalid_request", "the body must be application/json")
    body = await _read_body(request)
    try:
        document = load_json(body)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise Refused("invalid_request", "the body is not a JSON object")
    return document


def as_parameters(document: Mapping[str, JSON]) -> Parameters:
    """Return the members for the record: text as it is, anything else as JSON."""
    return Parameters(
        tuple((k, v if isinstance(v, str) else json.dumps(v)) for k, v in document.items())
    )


def _content_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def _read_body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            raise Refused("invalid_request", "the body is too large", status=413)
    return bytes(body)


def _parse(data: bytes) -> Parameters:
    try:
        pairs = parse_qsl(
            data.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=100
        )
    except ValueError:
        pairs = None
    if pairs is None:
        raise Refused("invalid_request", "the parameters are not well-formed UTF-8")
    return Parameters(tuple(pairs))
