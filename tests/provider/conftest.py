"""Servers that say exactly what a test wants: one on the wire, one in memory."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import RSAKey

from tokenward.provider import OpenIDProvider

if TYPE_CHECKING:
    from tokenward.events import Event

Answer = Callable[["Exchange"], Awaitable[None]]


@dataclass
class Exchange:
    """One request as it came, and the means to answer it."""

    head: bytes
    body: bytes
    writer: asyncio.StreamWriter

    @property
    def path(self) -> str:
        return self.head.split(b" ", 2)[1].decode()

    @property
    def headers(self) -> dict[str, str]:
        lines = self.head.decode("latin-1").split("\r\n")[1:]
        pairs = (line.split(": ", 1) for line in lines if line)
        return {name.lower(): value for name, value in pairs}

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(
        self, body: bytes = b"{}", *, status: str = "200 OK", headers: tuple[str, ...] = ()
    ) -> None:
        lines = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", *headers]
        await self.say("\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    def reset(self) -> None:
        self.writer.transport.abort()


@dataclass
class Wire:
    """A raw HTTP server on loopback; `answers` are used up one by one, the last stays."""

    answers: list[Answer] = field(default_factory=list)
    exchanges: list[Exchange] = field(default_factory=list)
    connections: int = 0
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(
            ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError
        ):
            while not writer.is_closing():
                await self._exchange(reader, writer)
        writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        exchange = Exchange(await reader.readuntil(b"\r\n\r\n"), b"", writer)
        length = int(exchange.headers.get("content-length", "0"))
        exchange.body = await reader.readexactly(length)
        self.exchanges.append(exchange)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        await answer(exchange)


@pytest.fixture
async def wire() -> AsyncIterator[Wire]:
    """A `Wire` that is listening."""
    tasks: set[asyncio.Task[None]] = set()
    wire = Wire()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(wire.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    wire.port = server.sockets[0].getsockname()[1]
    yield wire
    server.close()
    for task in list(tasks):
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class MovableClock:
    """A clock that a test moves."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> MovableClock:
    """Time that stands still until it is advanced."""
    return MovableClock()


ISSUER = "https://op.test"


@dataclass(frozen=True)
class Key:
    """A signing key of a provider."""

    kid: str
    key: RSAKey

    def public(self) -> dict[str, Any]:
        return {**self.key.as_dict(private=False), "kid": self.kid, "use": "sig"}

    def called(self, kid: str) -> Key:
        return Key(kid, self.key)


@pytest.fixture(scope="session")
def key() -> Key:
    return Key("one", RSAKey.generate_key(2048))


@pytest.fixture(scope="session")
def other_key() -> Key:
    return Key("two", RSAKey.generate_key(2048))


Planned = httpx.Response | Exception


class OP:
    """A provider in memory, which answers as it is told and remembers what it was asked."""

    def __init__(self, key: Key, clock: MovableClock, library: Any = httpx) -> None:
        self.library = library
        self.clock = clock
        self.keys = [key]
        self.signer = key
        self.metadata: dict[str, Any] = {
            "issuer": ISSUER,
            "jwks_uri": f"{ISSUER}/jwks",
            **{
                f"{name}_endpoint": f"{ISSUER}/{name}"
                for name in ("authorization", "token", "revocation", "userinfo", "end_session")
            },
        }
        self.headers: dict[str, str] = {}
        self.planned: dict[str, list[Planned]] = {}
        """What to answer once, by the last part of the path, instead of the usual."""
        self.down: set[str] = set()
        self.held: dict[str, asyncio.Event] = {}
        self.entered = asyncio.Event()
        self.requests: list[Any] = []
        self.answer: dict[str, Any] = {}
        self.userinfo: dict[str, Any] = {"sub": "alice", "email": "a@example.org"}

    def count(self, place: str) -> int:
        return sum(self.place(request) == place for request in self.requests)

    def forms(self, place: str) -> list[dict[str, str]]:
        asked = [request for request in self.requests if self.place(request) == place]
        return [dict(parse_qsl(request.content.decode())) for request in asked]

    @staticmethod
    def place(request: Any) -> str:
        return str(request.url).rpartition("/")[2]

    def id_token(self, **claims: Any) -> str:
        now = self.clock()
        usual = {
            "iss": ISSUER,
            "aud": "app",
            "sub": "alice",
            "iat": int(now),
            "exp": int(now) + 300,
            "nonce": "the-nonce",
        }
        told = {name: value for name, value in (usual | claims).items() if value is not None}
        return jwt.encode({"alg": "RS256", "kid": self.signer.kid}, told, self.signer.key)

    def gives(self, *, id_token: str | None = "", **members: Any) -> None:
        """Let the token endpoint give tokens, with an id_token unless it is None."""
        self.answer = {
            "access_token": "access-canary",
            "token_type": "Bearer",
            "expires_in": 60,
            "refresh_token": "refresh-canary",
            **members,
        }
        if id_token is not None:
            self.answer["id_token"] = id_token or self.id_token()

    async def __call__(self, request: Any) -> Any:
        place = self.place(request)
        self.requests.append(request)
        if place in self.held:
            self.entered.set()
            await self.held[place].wait()
        if self.planned.get(place):
            planned = self.planned[place].pop(0)
            if isinstance(planned, Exception):
                raise planned
            return planned
        if place in self.down:
            raise self.library.ConnectTimeout("down", request=request)
        return self.library.Response(200, json=self.usual(place), headers=self.headers)

    def usual(self, place: str) -> dict[str, Any]:
        return {
            "openid-configuration": lambda: self.metadata,
            "jwks": lambda: {"keys": [key.public() for key in self.keys]},
            "token": lambda: self.answer,
            "revocation": dict,
            "userinfo": lambda: self.userinfo,
        }[place]()

    def client(self) -> Any:
        return self.library.AsyncClient(transport=self.library.MockTransport(self))


@pytest.fixture
def op(key: Key, clock: MovableClock) -> OP:
    """A provider in memory."""
    return OP(key, clock)


@pytest.fixture
def events() -> list[Event]:
    """What happened."""
    return []


Make = Callable[..., OpenIDProvider]


@pytest.fixture
def make(op: OP, clock: MovableClock, events: list[Event]) -> Make:
    """Make an `OpenIDProvider` that talks to `op`."""

    def make(issuer: str = ISSUER, **settings: Any) -> OpenIDProvider:
        usual: dict[str, Any] = {
            "client_id": "app",
            "client_secret": "client-secret-canary",
            "http": op.client(),
            "clock": clock,
            "on_event": events.append,
        }
        return OpenIDProvider(issuer, **(usual | settings))

    return make


@pytest.fixture
def provider(make: Make) -> OpenIDProvider:
    """An `OpenIDProvider` that talks to `op`."""
    return make()
