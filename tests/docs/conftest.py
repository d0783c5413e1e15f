"""The documents, as the tests see them: pages, and the blocks of code in them.

Pages with a provider are executed from the top to the bottom, in one namespace, as a
reader would who types along. What such a page may rely on:

* `https://op.example` is a `tokenward.testing.Provider` in process, for the clients of
  httpx and of httpx2, async and sync; every other address answers 204.
* CLIENT_SECRET and SECRET_KEY are in the environment, and files land in a folder that is
  thrown away.
* A ```text block after a ```python block is what the code prints; `...` stands for
  anything, as in doctest.
* A ```http block is a request that somebody sent, or an answer that somebody got.
* What other people do meanwhile is in comments that readers do not see,
  `<!-- meanwhile: ... -->`: Python with the names `provider` and `browser`, which takes an
  address as a browser would, and returns the query that the app gets in the end.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import anyio.from_thread
import httpx
import httpx2
import pytest

from tokenward.testing import Client, Provider, User

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from starlette.types import Receive, Scope, Send

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
EXECUTED: Final = [ROOT / "docs" / name for name in ("requesting-a-token.md", "protocol-client.md")]

_BLOCK: Final = re.compile(
    r"^```(?P<language>\S*)[^\n]*\n(?P<code>.*?)^```$|^<!-- meanwhile:(?P<meanwhile>.*?)-->$",
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True)
class Block:
    """A block of code."""

    page: Path
    line: int
    """Of its first line."""
    language: str
    """`meanwhile` for what readers do not see."""
    code: str

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"

    def compiled(self, flags: int = 0) -> Any:
        # Line numbers are those of the page.
        padded = "\n" * (self.line - 1) + self.code
        return compile(padded, str(self.page), "exec", flags=flags, dont_inherit=True)


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text()
    found = []
    for match in _BLOCK.finditer(text):
        hidden = match["meanwhile"]
        group = "code" if hidden is None else "meanwhile"
        line = text.count("\n", 0, match.start(group)) + 1
        language = match["language"] if hidden is None else "meanwhile"
        found.append(Block(page, line, language, match[group]))
    return found


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give each test the pages or the blocks that it is about."""
    if "page" in metafunc.fixturenames:
        metafunc.parametrize("page", PAGES, ids=lambda page: page.name)
    if "executed_page" in metafunc.fixturenames:
        metafunc.parametrize("executed_page", EXECUTED, ids=lambda page: page.name)
    if "block" in metafunc.fixturenames:
        blocks = [block for page in PAGES for block in blocks_of(page)]
        metafunc.parametrize("block", blocks, ids=str)


@pytest.fixture(name="blocks_of")
def blocks_of_fixture() -> Callable[[Path], list[Block]]:
    """Return what reads the blocks of a page."""
    return blocks_of


@dataclass
class Exchange:
    """A request as it was sent, and the answer as it came."""

    method: str
    url: str
    headers: dict[str, str]
    body: str
    status: int = 204
    answer_headers: dict[str, str] = field(default_factory=dict)
    answer: str = ""


class World:
    """The provider of the pages, and all that is sent to anybody."""

    def __init__(self, provider: Provider) -> None:
        self.provider = provider
        self.exchanges: list[Exchange] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as the provider, or as anybody else; see the ASGI specification."""
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        message = await receive()
        while message["more_body"]:
            rest = await receive()
            message = {**rest, "body": message["body"] + rest["body"]}
        path = scope["raw_path"].decode().partition("?")[0]
        query = f"?{scope['query_string'].decode()}" if scope["query_string"] else ""
        url = f"https://{headers['host']}{path}{query}"
        exchange = Exchange(scope["method"], url, headers, message["body"].decode())
        self.exchanges.append(exchange)
        if headers["host"] != urlsplit(self.provider.issuer).netloc:
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body"})
            return

        async def noted(answer: Any) -> None:
            if answer["type"] == "http.response.start":
                exchange.status = answer["status"]
                exchange.answer_headers = {n.decode(): v.decode() for n, v in answer["headers"]}
            else:
                exchange.answer += answer.get("body", b"").decode()
            await send(answer)

        async def again() -> Any:
            return message

        await self.provider(scope, again, noted)

    async def browser(self, url: str) -> bytes:
        """Go where a browser goes, and return the query that it brings to the app."""
        async with httpx.AsyncClient(follow_redirects=True) as http:
            answer = await http.get(url)
        assert answer.status_code == 204, answer.text
        return answer.url.query


def bridge(library: Any, app: World, portal: Any) -> Any:
    """Let a client without an event loop talk to an ASGI app, which runs in another thread."""

    class Bridge(library.BaseTransport):
        def handle_request(self, request: Any) -> Any:
            return portal.call(self._answer, request.method, request.url, request.headers, request)

        async def _answer(self, method: str, url: Any, headers: Any, request: Any) -> Any:
            async with library.AsyncClient(transport=library.ASGITransport(app)) as http:
                answer = await http.request(method, url, headers=headers, content=request.read())
            return library.Response(
                answer.status_code, headers=answer.headers, content=answer.content
            )

    return Bridge()


def wired(client: Any, transport: Callable[[], Any]) -> Any:
    """Return a client class that reaches the world, and nothing beyond it."""

    class Wired(client):
        def __init__(self, **settings: Any) -> None:
            super().__init__(**{"transport": transport(), **settings})

    return Wired


@pytest.fixture
def provider() -> Provider:
    """The provider of the pages, and those whom it knows."""
    device = "urn:ietf:params:oauth:grant-type:device_code"
    exchange = "urn:ietf:params:oauth:grant-type:token-exchange"
    provider = Provider(
        "https://op.example",
        clients=[
            Client("m2m", grant_types=["client_credentials", exchange]),
            Client("legacy", grant_types=["password"]),
            Client(
                "interactive.confidential",
                redirect_uris=[
                    "https://app.example/callback",
                    "https://shop.example/auth/callback",
                ],
                post_logout_redirect_uris=["https://app.example/"],
            ),
            Client("device", secrets=[], grant_types=[device], polling_interval=1),
        ],
        users=[User("alice", name="Alice"), User("bob", name="Bob", password="bob")],
    )
    provider.sign_in_automatically("alice")
    return provider


@pytest.fixture
def world(provider: Provider, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[World]:
    """All that a page may rely on; see above."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CLIENT_SECRET", "secret")
    monkeypatch.setenv("SECRET_KEY", secrets.token_urlsafe(32))
    world = World(provider)
    with anyio.from_thread.start_blocking_portal() as portal:
        for library in (httpx, httpx2):
            transport = library.ASGITransport(world)
            through = bridge(library, world, portal)
            async_client = wired(library.AsyncClient, lambda transport=transport: transport)
            sync_client = wired(library.Client, lambda through=through: through)
            monkeypatch.setattr(library, "AsyncClient", async_client)
            monkeypatch.setattr(library, "Client", sync_client)
        yield world


@pytest.fixture
def browser(world: World) -> Callable[[str], Awaitable[bytes]]:
    """Somebody with a browser, who is alice."""
    return world.browser
