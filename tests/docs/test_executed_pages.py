"""Pages are executed: what they show is what happens."""

from __future__ import annotations

import ast
import contextlib
import doctest
import inspect
import io
import json
import re
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Block, Exchange, World


async def run(block: Block, namespace: dict[str, Any]) -> str:
    """Execute a block, with `await` wherever it likes, and return what it prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        result = eval(block.compiled(ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), namespace)
        if inspect.isawaitable(result):
            await result
    return printed.getvalue()


async def test_a_page_does_and_prints_what_it_says(
    executed_page: Path, world: World, blocks_of: Callable[[Path], list[Block]]
) -> None:
    namespace: dict[str, Any] = {"__name__": executed_page.stem}
    others = {"provider": world.provider, "browser": world.browser}
    printed, code = "", None
    for block in blocks_of(executed_page):
        if block.language == "text":
            assert code, f"{block}: the output of nothing"
            assert doctest.OutputChecker().check_output(block.code, printed, doctest.ELLIPSIS), (
                f"{code} prints:\n{printed}"
            )
            printed = ""
        elif block.language in ("python", "meanwhile"):
            assert not printed, f"{code} prints what the page does not show:\n{printed}"
            # What is for the tests alone is not there for the reader's code.
            if block.language == "python":
                printed = await run(block, namespace)
            else:
                seen = {**namespace, **others}
                assert not await run(block, seen)
                namespace |= {name: seen[name] for name in seen.keys() - others.keys()}
            code = block
    assert not printed, f"{code} prints what the page does not show:\n{printed}"
    assert code, "nothing was executed"
    sent = [f"{e.method} {urlsplit(e.url).path} {e.status}" for e in world.exchanges]
    for block in blocks_of(executed_page):
        if block.language == "http":
            seen = any(shows(block.code, exchange) for exchange in world.exchanges)
            assert seen, f"{block}: nobody sent or got it, but {sent}"


def shows(message: str, exchange: Exchange) -> bool:
    """Whether an HTTP message, as a page shows it, is the request or the answer."""
    head, _, body = message.partition("\n\n")
    # Long addresses and forms are broken before a parameter, or indented.
    head = re.sub(r"\n +", "", head)
    first, *lines = head.splitlines()
    headers = dict(line.split(": ", 1) for line in lines)
    if first.startswith("HTTP/"):
        return (
            first.split()[1] == str(exchange.status)
            and has(exchange.answer_headers, headers)
            and members(body) == members(exchange.answer)
        )
    method, target, _ = first.split()
    host = headers.pop("Host")
    return (
        method == exchange.method
        and matches(f"https://{host}{target}", exchange.url)
        and has(exchange.headers, headers)
        and matches(re.sub(r"\s+", "", body), exchange.body)
    )


def members(text: str) -> dict[str, str | int]:
    """What an answer says; of text that differs each time, no more than that it is there."""
    told = json.loads(text) if text.strip() else {}
    return {
        name: value if name in ("token_type", "expires_in", "scope", "error") else "..."
        for name, value in told.items()
    }


def has(headers: dict[str, str], shown: dict[str, str]) -> bool:
    return all(matches(value, headers.get(name.lower(), "")) for name, value in shown.items())


def matches(shown: str, real: str) -> bool:
    pattern = ".+".join(re.escape(piece) for piece in shown.split("..."))
    return re.fullmatch(pattern, real, re.DOTALL) is not None


@pytest.mark.parametrize(
    ("shown", "fits"),
    [
        pytest.param("POST /t?a=b HTTP/1.1\nHost: op.test\n\nc=d&\ne=f", True, id="same"),
        pytest.param("POST /t?a=b HTTP/1.1\nHost: op.test\n\nc=...", True, id="elided"),
        pytest.param("POST /t?\n  a=b HTTP/1.1\nHost: op.test\nX-A: 1\n\nc=...", True, id="head"),
        pytest.param("GET /t?a=b HTTP/1.1\nHost: op.test\n\nc=...", False, id="method"),
        pytest.param("POST /t HTTP/1.1\nHost: op.test\n\nc=...", False, id="address"),
        pytest.param("POST /t?a=b HTTP/1.1\nHost: op.test\nX-A: 2\n\nc=...", False, id="header"),
        pytest.param("POST /t?a=b HTTP/1.1\nHost: op.test\n\nc=d", False, id="body"),
        pytest.param('HTTP/1.1 200 OK\nX-B: 2\n\n{"scope": "a", "x": 1}', True, id="answer"),
        pytest.param('HTTP/1.1 200 OK\n\n{"scope": "a"}', False, id="member"),
        pytest.param('HTTP/1.1 200 OK\n\n{"scope": "b", "x": 1}', False, id="value"),
        pytest.param('HTTP/1.1 400 Bad Request\n\n{"scope": "a", "x": 1}', False, id="status"),
    ],
)
def test_messages_are_compared_with_what_went_over_the_wire(shown: str, fits: bool) -> None:
    exchange: Any = SimpleNamespace(
        method="POST",
        url="https://op.test/t?a=b",
        headers={"x-a": "1"},
        body="c=d&e=f",
        status=200,
        answer_headers={"x-b": "2"},
        answer='{"scope": "a", "x": 2}',
    )
    assert shows(shown, exchange) is fits


@pytest.fixture
def one_page(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        page = tmp_path / "page.md"
        page.write_text(text)
        return page

    return write


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        pytest.param("```python\nprint(1)\n```\n", "does not show", id="output-not-shown"),
        pytest.param("```python\nprint(1)\n```\n```text\n2\n```\n", "prints:", id="other-output"),
        pytest.param("```text\n1\n```\n", "output of nothing", id="no-code"),
        pytest.param("words\n", "nothing was executed", id="no-block"),
        pytest.param(
            "```python\npass\n```\n```http\nGET /x HTTP/1.1\nHost: op.example\n```\n",
            "nobody sent",
            id="never-sent",
        ),
    ],
)
async def test_a_page_that_says_something_else_fails(
    one_page: Callable[[str], Path],
    world: World,
    blocks_of: Callable[[Path], list[Block]],
    text: str,
    complaint: str,
) -> None:
    with pytest.raises(AssertionError, match=complaint):
        await test_a_page_does_and_prints_what_it_says(one_page(text), world, blocks_of)
