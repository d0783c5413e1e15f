"""Every line of code in the documents runs, and does what the text says."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tokenward.testing import login_as

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from conftest import World

    Run = Callable[[str], Awaitable[dict[str, Any]]]


@asynccontextmanager
async def browser(names: dict[str, Any]) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(names["app"])
    async with (
        names["auth"].lifespan(),
        httpx.AsyncClient(transport=transport, base_url="https://shop.example") as client,
    ):
        yield client


async def test_machine_to_machine(run: Run, world: World, capsys) -> None:
    names = await run("machine-to-machine.md")
    assert capsys.readouterr().out == "Bearer 3600.0\n"
    async with browser(names) as client:
        assert (await client.get("/data")).json() == ["a", "b"]
        assert (await names["auth"].clients.token("shop")).scope == {"api"}
        assert (await names["tokens"].token("rotating")).scope == {"api"}
    await names["tokens"].aclose()
    await names["api"].aclose()
    names["tokens"].close()
    assert world.provider.count("token", client_id="m2m", grant_type="client_credentials") > 0


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/by-hand", {"sub": "alice", "aud": []}),
        ("/named", {"sub": "alice", "aud": []}),
        ("/typed", "alice"),
        ("/own", {"sub": "alice", "aud": []}),
        ("/in-a-thread", {"sub": "alice", "aud": []}),
        ("/elsewhere", "origin"),
        ("/ledger", {"sub": "alice", "aud": ["ledger-api"]}),
    ],
)
async def test_http_clients(run: Run, world: World, path: str, answer: object) -> None:
    names = await run("http-clients.md")
    async with browser(names) as client:
        assert (await client.get("/named")).status_code == 401
        await login_as(client, "alice", provider=world.provider)
        assert (await client.get(path)).json() == answer
    await names["own"].aclose()


async def test_a_job_of_the_document(run: Run, world: World) -> None:
    names = await run("http-clients.md")
    async with browser(names) as client:
        await login_as(client, "alice", provider=world.provider)
        handle = (await client.post("/reports")).json()
        assert await names["make_report"](handle) == "alice"
    await names["own"].aclose()
