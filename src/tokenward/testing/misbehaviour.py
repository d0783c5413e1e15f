"""Ways in which the provider can misbehave on command. Queue them with `Provider.misbehave`.

Those that spoil what is signed are in `token_misbehaviour.py`. A fault of your own is a
subclass of `Fault` that overrides what should go wrong.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, TypeAlias

from .answers import Answer, Document, Headers, Raw, Redirect, Refused
from .requests import Endpoint, RequestRecord

if TYPE_CHECKING:
    from starlette.types import Message, Send

    from .clients import JSON
    from .gate import Gate
    from .keys import Draft, SigningKeys

When: TypeAlias = Callable[[RequestRecord], bool]
"""Decides whether a fault hits a request. The record's outcome is not known yet."""


class AnswerLost(ConnectionError):
    """The connection ended before the whole answer was sent.

    In process this is what the caller of the ASGI app sees, unless the provider
    was made with another `connection_error`. On a socket the connection is closed.
    """


class Fault:
    """One way to misbehave. Everything not overridden goes well."""

    __slots__ = ()

    loses_answer: ClassVar[bool] = False
    """Whether the client does not get the whole answer."""

    async def before(self) -> None:
        """Wait, or do something else, before the provider acts."""

    def instead(self) -> Answer | Refused | None:
        """Return what is answered without acting; None lets the provider act."""
        return None

    def token(self, draft: Draft, keys: SigningKeys) -> Draft:
        """Return what is to be signed as it is to be signed: an id_token, a logout_token ..."""
        del keys
        return draft

    def answer(self, answer: Answer) -> Answer:
        """Return what is answered in place of `answer`."""
        return answer

    async def after(self) -> None:
        """Wait, or do something else, after the provider has acted."""

    def sending(self, send: Send) -> Send:
        """Return the ASGI `send` for the answer."""
        return send


@dataclass(frozen=True, slots=True)
class Slow(Fault):
    """Answer late."""

    seconds: float
    after_acting: bool = False
    """True: the code or refresh token is spent before the wait."""

    async def before(self) -> None:
        """See `Fault`."""
        if not self.after_acting:
            await asyncio.sleep(self.seconds)

    async def after(self) -> None:
        """See `Fault`."""
        if self.after_acting:
            await asyncio.sleep(self.seconds)


@dataclass(frozen=True, slots=True)
class Held(Fault):
    """Answer when a gate opens. See `Provider.hold`."""

    gate: Gate
    after_acting: bool = False
    """True: the code or refresh token is spent before the wait."""

    async def before(self) -> None:
        """See `Fault`."""
        if not self.after_acting:
            await self.gate.pass_through()

    async def after(self) -> None:
        """See `Fault`."""
        if self.after_acting:
            await self.gate.pass_through()


@dataclass(frozen=True, slots=True)
class RawAnswer(Fault):
    """Answer these bytes, without acting."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = field(default=b"", repr=False)

    def instead(self) -> Answer:
        """See `Fault`."""
        return Raw(self.body, self.status, tuple(self.headers.items()), f"http_{self.status}")


@dataclass(frozen=True, slots=True)
class ServerError(Fault):
    """Fail with an HTML page, without acting."""

    status: int = 500
    retry_after: float | str | None = None
    """Seconds, or any text, for the Retry-After header; None sends none."""

    def instead(self) -> Answer:
        """See `Fault`."""
        headers = (("content-type", "text/html"), *_retry_after(self.retry_after))
        body = b"<html><body><h1>It does not work.</h1></body></html>"
        return Raw(body, self.status, headers, f"http_{self.status}")


@dataclass(frozen=True, slots=True)
class TooManyRequests(Fault):
    """Ask the client to come back later, without acting (RFC 6585, section 4)."""

    retry_after: float | str | None = 5

    def instead(self) -> Answer:
        """See `Fault`."""
        headers = (("content-type", "text/plain"), *_retry_after(self.retry_after))
        return Raw(b"too many requests", 429, headers, "http_429")


@dataclass(frozen=True, slots=True)
class HtmlAnswer(Fault):
    """Answer an HTML page with status 200, without acting, as a captive portal does."""

    html: str = "<html><body>Welcome to the hotel's network.</body></html>"
    status: int = 200

    def instead(self) -> Answer:
        """See `Fault`."""
        return Raw(self.html.encode(), self.status, (("content-type", "text/html"),), "html_answer")


@dataclass(frozen=True, slots=True)
class OAuthError(Fault):
    """Refuse with this error, without acting; at `authorize` by redirect."""

    error: str
    description: str = ""
    status: int = 400

    def instead(self) -> Refused:
        """See `Fault`."""
        return Refused(self.error, self.description, status=self.status)


@dataclass(frozen=True, slots=True)
class AlteredAnswer(Fault):
    """Act, then change members of the JSON object, or parameters of the redirect."""

    members: Mapping[str, JSON] = field(default_factory=dict, repr=False)
    """What is added or replaced."""
    without: Sequence[str] = ()
    """What is left out."""
    status: int | None = None
    """None keeps the status. Only for JSON."""

    def answer(self, answer: Answer) -> Answer:
        """See `Fault`."""
        match answer:
            case Document():
                members = self._alter(answer.members)
                return replace(answer, members=members, status=self.status or answer.status)
            case Redirect():
                altered = self._alter(answer.parameters).items()
                return replace(answer, parameters={k: str(v) for k, v in altered})
            case _:
                return answer

    def _alter(self, members: Mapping[str, JSON]) -> dict[str, JSON]:
        altered = {**members, **self.members}
        return {name: value for name, value in altered.items() if name not in self.without}


@dataclass(frozen=True, slots=True)
class LostRequest(Fault):
    """Drop the connection without acting."""

    loses_answer: ClassVar[bool] = True

    async def before(self) -> None:
        """See `Fault`."""
        raise AnswerLost("the connection was dropped before the request was handled")


@dataclass(frozen=True, slots=True)
class LostAnswer(Fault):
    """Act, then drop the connection before the status line."""

    loses_answer: ClassVar[bool] = True

    def sending(self, send: Send) -> Send:
        """See `Fault`."""
        del send

        async def lose(message: Message) -> None:
            del message
            raise AnswerLost("the connection was dropped instead of an answer")

        return lose


@dataclass(frozen=True, slots=True)
class CutAnswer(Fault):
    """Act, then drop the connection in the middle of the body."""

    at: int
    """How many bytes of the body are sent."""
    chunked: bool = False
    """True: without Content-Length, so that only the missing last chunk tells."""
    loses_answer: ClassVar[bool] = True

    def sending(self, send: Send) -> Send:
        """See `Fault`."""

        async def cut(message: Message) -> None:
            if message["type"] == "http.response.start":
                await send(_without_length(message) if self.chunked else message)
                return
            if part := message["body"][: self.at]:
                await send({**message, "body": part, "more_body": True})
            raise AnswerLost(f"the connection was dropped after {len(part)} bytes of the body")

        return cut


def _without_length(message: Message) -> Message:
    headers = [(name, value) for name, value in message["headers"] if name != b"content-length"]
    return {**message, "headers": headers}


def _retry_after(value: float | str | None) -> Headers:
    return () if value is None else (("retry-after", str(value)),)


@dataclass(slots=True)
class _Planned:
    faults: tuple[Fault, ...]
    times: int | None
    when: When | None


class Script:
    """What will go wrong, in the order it was asked for."""

    def __init__(self) -> None:
        self._planned: dict[Endpoint, list[_Planned]] = {}

    def plan(
        self,
        endpoint: Endpoint,
        faults: tuple[Fault, ...],
        *,
        times: int | None,
        when: When | None,
    ) -> None:
        """Let `faults` hit the next `times` fitting requests; None: all of them."""
        self._planned.setdefault(endpoint, []).append(_Planned(faults, times, when))

    def clear(self, endpoint: Endpoint | None = None) -> None:
        """Behave again, at one endpoint or at all."""
        if endpoint is None:
            self._planned.clear()
        else:
            self._planned.pop(endpoint, None)

    def take(self, record: RequestRecord) -> tuple[Fault, ...]:
        """Return the faults of this request: those of the first plan that fits."""
        plans = self._planned.get(record.endpoint, [])
        for plan in plans:
            if plan.when is None or plan.when(record):
                if plan.times is not None:
                    plan.times -= 1
                    if plan.times <= 0:
                        plans.remove(plan)
                return plan.faults
        return ()
