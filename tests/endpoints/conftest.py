"""The four kinds of client, and a provider that answers each of them with the same words."""

from __future__ import annotations

import inspect
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import httpx
import httpx2
import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CLIENTS = [
    pytest.param((httpx, "AsyncClient"), id="httpx-async"),
    pytest.param((httpx, "Client"), id="httpx-sync"),
    pytest.param((httpx2, "AsyncClient"), id="httpx2-async"),
    pytest.param((httpx2, "Client"), id="httpx2-sync"),
]


@dataclass
class Answer:
    """What the provider says once."""

    status: int = 200
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Sent:
    """One request, as it went over the wire."""

    method: str
    url: str
    headers: dict[str, str]
    body: bytes

    @property
    def form(self) -> list[tuple[str, str]]:
        return parse_qsl(self.body.decode(), keep_blank_values=True, strict_parsing=True)


class Wire:
    """One of the four clients, and the provider at its other end.

    What it `answers` is used up one by one, and the last stays. The name of an exception
    of the library stands for a failure.
    """

    address = "https://op.test/endpoint"

    def __init__(self, library: Any, kind: str) -> None:
        self.library = library
        self.is_async = kind == "AsyncClient"
        self.answers: list[Answer | str] = [Answer()]
        self.sent: list[Sent] = []
        self.http = getattr(library, kind)(transport=library.MockTransport(self._handle))

    def _handle(self, request: Any) -> Any:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.sent.append(Sent(request.method, str(request.url), headers, request.content))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, str):
            raise getattr(self.library, answer)("secret-of-the-exception", request=request)
        return self.library.Response(answer.status, content=answer.body, headers=answer.headers)

    def says(
        self, status: int = 200, *, headers: dict[str, str] | None = None, **members: Any
    ) -> None:
        """Answer in JSON, next and from then on."""
        self.answers = [self.answer(status, headers=headers, **members)]

    @staticmethod
    def answer(
        status: int = 200, *, headers: dict[str, str] | None = None, **members: Any
    ) -> Answer:
        return Answer(status, json.dumps(members).encode(), headers or {})

    @staticmethod
    def raw(status: int, body: bytes, **headers: str) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return Answer(status, body, named)

    async def call(self, function: Any, *arguments: Any, **keywords: Any) -> Any:
        """Call the function in the way of this client."""
        result = function(self.http, *arguments, **keywords)
        assert inspect.isawaitable(result) is self.is_async
        return await result if self.is_async else result

    async def aclose(self) -> None:
        if self.is_async:
            await self.http.aclose()
        else:
            self.http.close()


@pytest.fixture(params=CLIENTS)
async def wire(request: pytest.FixtureRequest) -> AsyncIterator[Wire]:
    """Each of the four clients in turn; what is sent and said is the same for all."""
    library, kind = request.param
    wire = Wire(library, kind)
    yield wire
    await wire.aclose()
