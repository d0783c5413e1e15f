"""A token endpoint that does as it is told, for clients of either kind."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

import httpx

from tokenward import ClientCredentials

if TYPE_CHECKING:
    from collections.abc import Callable


URL = "https://op.test/token"


class TokenEndpoint:
    """Gives a new token at every call, and notes what it was asked."""

    def __init__(self, *, lifetime: object = 3600) -> None:
        self.lifetime = lifetime
        self.forms: list[dict[str, str]] = []
        self.headers: list[httpx.Headers] = []
        self.script: deque[Callable[[httpx.Request], httpx.Response]] = deque()
        self.down = False
        self._lock = threading.Lock()

    def __call__(self, request: httpx.Request) -> httpx.Response:
        with self._lock:
            form = dict(parse_qsl(request.content.decode()))
            self.forms.append(form)
            self.headers.append(request.headers)
            number = len(self.forms)
        if self.script:
            return self.script.popleft()(request)
        if self.down:
            raise httpx.ConnectError("refused")
        answer: dict[str, object] = {
            "access_token": f"token-{number}-for-{form.get('scope', '')}".replace(" ", "+"),
            "token_type": "Bearer",
        }
        if self.lifetime is not None:
            answer["expires_in"] = self.lifetime
        return httpx.Response(200, json=answer)

    @property
    def count(self) -> int:
        return len(self.forms)

    def registration(self, **settings: object) -> ClientCredentials:
        """Describe a client of it."""
        given = {
            "token_endpoint": URL,
            "client_secret": "the-secret-of-m2m-0123456789",
            "scope": "api",
            "http": httpx.AsyncClient(transport=httpx.MockTransport(self)),
            "sync_http": httpx.Client(transport=httpx.MockTransport(self)),
        }
        return ClientCredentials("m2m", **{**given, **settings})


def refuse(error: str, *, status: int = 400, **headers: str) -> Callable[..., httpx.Response]:
    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(status, json={"error": error}, headers=headers)

    return answer


def fail(status: int, **headers: str) -> Callable[..., httpx.Response]:
    return lambda _: httpx.Response(status, text="nothing", headers=headers)
