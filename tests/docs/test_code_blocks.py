"""Every block of code in every document is at least one that can be read."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import re
import subprocess
import textwrap
import tomllib
from typing import TYPE_CHECKING, Any, Final

import pytest
import yaml

from tokenward import endpoints

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Block

DIAGRAMS: Final = (
    "flowchart",
    "sequenceDiagram",
    "stateDiagram-v2",
    "classDiagram",
    "erDiagram",
    "gantt",
    "pie",
    "timeline",
)


def python(block: Block) -> None:
    block.compiled(ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    for node in ast.walk(ast.parse(block.code)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tokenward"):
            module = importlib.import_module(str(node.module))
            missing = [alias.name for alias in node.names if not has(module, alias.name)]
            assert missing == [], f"{node.module} has no {missing}"


def has(module: Any, name: str) -> bool:
    try:
        return hasattr(module, name) or bool(importlib.import_module(f"{module.__name__}.{name}"))
    except ImportError:
        return False


def shell(block: Block) -> None:
    subprocess.run(["bash", "-n"], input=block.code, check=True, text=True, capture_output=True)


def http(block: Block) -> None:
    first = block.code.splitlines()[0]
    assert re.match(r"HTTP/1\.1 \d{3} \S|(GET|POST|DELETE) /", first), first
    body = block.code.partition("\n\n")[2]
    if body.lstrip().startswith("{"):
        json.loads(body)


def mermaid(block: Block) -> None:
    first, *rest = block.code.strip().splitlines()
    assert first.split()[0] in DIAGRAMS, first
    assert rest, "an empty diagram"


READERS: Final[dict[str, Callable[[Block], object]]] = {
    "python": python,
    "meanwhile": python,
    "bash": shell,
    "console": shell,
    "json": lambda block: json.loads(block.code),
    "toml": lambda block: tomllib.loads(block.code),
    "yaml": lambda block: yaml.safe_load(block.code),
    "http": http,
    "mermaid": mermaid,
    "text": lambda block: block.code,
    "": lambda block: block.code,
}


def test_a_block_can_be_read(block: Block) -> None:
    assert block.code.strip()
    assert block.language in READERS, f"not one of {sorted(READERS)}"
    READERS[block.language](block)


@pytest.mark.parametrize("name", [name for name in endpoints.__all__ if name.islower()])
def test_the_docstring_of_every_exported_function_promises_and_shows_a_use(name: str) -> None:
    function = getattr(endpoints, name)
    first, _, rest = inspect.getdoc(function).partition("\n")
    assert first.endswith("."), "the first line is a sentence"
    example = re.search(r"\n\n((?:    .*\n|\n)+)", f"\n{rest}\n")
    assert example, "no example"
    code = textwrap.dedent(example[1])
    compile(code, name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    assert f"{name}(" in code
    check_keywords(ast.parse(code))


def check_keywords(tree: ast.AST) -> None:
    """Refuse a call of one of our functions that could not be made."""
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
            continue
        function = getattr(endpoints, node.func.id, None)
        if function is not None:
            signature = inspect.signature(function)
            signature.bind(*node.args, **{str(word.arg): word for word in node.keywords})


@pytest.mark.parametrize(
    ("language", "code"),
    [
        pytest.param("python", "def f(:\n", id="python"),
        pytest.param("python", "from tokenward.endpoints import no_such_thing\n", id="import"),
        pytest.param("bash", "if true; then\n", id="bash"),
        pytest.param("json", "{\n", id="json"),
        pytest.param("toml", "a = \n", id="toml"),
        pytest.param("yaml", "a: [\n", id="yaml"),
        pytest.param("mermaid", "scribble\n  a --> b\n", id="mermaid"),
        pytest.param("mermaid", "flowchart TD\n", id="empty-mermaid"),
        pytest.param("http", "token, please\n", id="http"),
        pytest.param("pyhton", "x\n", id="unknown-language"),
    ],
)
def test_a_block_that_cannot_be_read_fails(
    language: str, code: str, tmp_path: Any, blocks_of: Any
) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"```{language}\n{code}```\n")
    (block,) = blocks_of(page)
    with pytest.raises(Exception):  # noqa: B017, PT011 - whatever the reader of the language raises
        test_a_block_can_be_read(block)
