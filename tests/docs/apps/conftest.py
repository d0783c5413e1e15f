"""Run the documents: their code in order, in one namespace, against a provider in process."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import httpx
import pytest

from tokenward.testing import Client, Provider, User
from tokenward.testing.clients import TOKEN_EXCHANGE, USUAL_GRANTS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

DOCS: Final = Path(__file__).parents[3] / "docs"
ISSUER: Final = "https://demo.duendesoftware.com"
APIS: Final = {"api.example", "ledger.example"}


class World:
    """Everything that the documents call."""

    def __init__(self) -> None:
        self.provider = Provider(
            ISSUER,
            clients=[
                Client("m2m", scopes=["api", "admin"]),
                Client(
                    "interactive.confidential",
                    redirect_uris=["https://shop.example/auth/callback"],
                    grant_types=(*USUAL_GRANTS, TOKEN_EXCHANGE),
                ),
            ],
            users=[User("alice")],
        )
        self._op = httpx.ASGITransport(self.provider)

    async def answer(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        if request.url.host in APIS or path.startswith("/api/"):
            return self._api(request)
        if path == "/connect/token":  # as it is called there
            await request.aread()
            url = request.url.copy_with(path="/token")
            request = httpx.Request("POST", url, headers=request.headers, content=request.content)
        return await self._op.handle_async_request(request)

    def _api(self, request: httpx.Request) -> httpx.Response:
        value = request.headers.get("authorization", "").removeprefix("Bearer ")
        token = self.provider._core.ledger.live_access_token(value)
        if token is None:
            return httpx.Response(401)
        if request.url.path == "/api/test":
            return httpx.Response(200, json=["a", "b"])
        grant = token.grant
        return httpx.Response(200, json={"sub": grant.sub, "aud": [*grant.resources]})


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> World:
    """Let every client of httpx reach it, and nothing else."""
    world = World()

    async def handle(_: object, request: httpx.Request) -> httpx.Response:
        return await world.answer(request)

    def handle_sync(_: object, request: httpx.Request) -> httpx.Response:
        request.read()
        again = httpx.Request(
            request.method, request.url, headers=request.headers, content=request.content
        )

        async def whole() -> httpx.Response:
            response = await world.answer(again)
            body = await response.aread()
            return httpx.Response(response.status_code, headers=response.headers, content=body)

        return asyncio.run(whole())

    monkeypatch.setattr(httpx.AsyncHTTPTransport, "handle_async_request", handle)
    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", handle_sync)
    monkeypatch.setenv(
        "SECRET_KEY", "fuvQBj8B5pts7Km2TfoqPp9ocLVoYlb1z0okhjW-0eHqN5Eh610NzZL7I6tl265Q"
    )
    monkeypatch.setenv("M2M_SECRET", "secret")
    monkeypatch.chdir(tmp_path)
    return world


@pytest.fixture
def run(world: World) -> Callable[[str], Awaitable[dict[str, Any]]]:
    """Return a function that runs the code of a document, and gives the names it leaves."""
    del world

    async def run(name: str) -> dict[str, Any]:
        module = types.ModuleType("document")
        text = (DOCS / name).read_text()
        blocks = list(re.finditer(r"```(\w*)\n(.*?)```", text, re.DOTALL))
        assert {block[1] for block in blocks} == {"python"}
        for block in blocks:
            line = text[: block.start()].count("\n") + 1
            code = compile(
                "\n" * line + block[2], name, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, True
            )
            if name == "machine-to-machine.md" and "with httpx.Client(" in block[2]:
                await asyncio.to_thread(eval, code, vars(module))
                continue
            result = eval(code, vars(module))
            if inspect.isawaitable(result):
                await result
        return vars(module)

    return run
