"""What documents point to is there: files, sections, and names of the library."""

from __future__ import annotations

import importlib
import pkgutil
import re
from typing import TYPE_CHECKING, Any, Final

import pytest

import tokenward

if TYPE_CHECKING:
    from pathlib import Path

_LINK: Final = re.compile(r"\]\(([^)\s]+)\)")
_NAME: Final = re.compile(r"`(tokenward(?:\.\w+)+)(?:\(\))?`")
_FENCED: Final = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)


def anchors(text: str) -> set[str]:
    """The names of a page's sections, as they stand in links."""
    headings = re.findall(r"^#+ (.+)$", _FENCED.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(page: Path) -> list[str]:
    broken = []
    for target in _LINK.findall(_FENCED.sub("", page.read_text())):
        if re.match(r"https?:|mailto:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and anchor not in anchors(file.read_text())):
            broken.append(target)
    return broken


def test_every_relative_link_leads_somewhere(page: Path) -> None:
    assert broken_links(page) == []


def resolve(name: str) -> Any:
    """Return what a dotted name stands for, a module or something in one."""
    pieces = name.split(".")
    for size in range(len(pieces), 0, -1):
        try:
            found = importlib.import_module(".".join(pieces[:size]))
        except ModuleNotFoundError:
            continue
        for piece in pieces[size:]:
            found = getattr(found, piece)
        return found
    raise AttributeError(name)


def test_every_name_of_the_library_exists(page: Path) -> None:
    missing = []
    for name in _NAME.findall(page.read_text()):
        try:
            resolve(name)
        except AttributeError:
            missing.append(name)
    assert missing == []


def test_a_link_to_nowhere_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# One *two*: three\n[a](#one-two-three) [b](#four) [c](page.md#one-two-three)\n"
        "[d](other.md) [e](https://op.example/x)\n"
    )
    assert broken_links(page) == ["#four", "other.md"]


@pytest.mark.parametrize("name", ["tokenward.nothing", "tokenward.secret.Secret.nothing"])
def test_a_name_that_is_not_there_is_found(name: str) -> None:
    with pytest.raises(AttributeError):
        resolve(name)


def test_names_are_found_wherever_they_live() -> None:
    assert resolve("tokenward.secret.Secret.reveal") is tokenward.Secret.reveal
    modules = [m.name for m in pkgutil.iter_modules(tokenward.__path__, "tokenward.")]
    assert "tokenward.endpoints" in modules
