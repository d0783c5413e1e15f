"""Questions that are open in browsers."""

from __future__ import annotations

from typing import Final, Generic, TypeVar

from .answers import Refused

T = TypeVar("T")

MAX_OPEN: Final = 1000
"""Pages that are remembered; beyond it the oldest is forgotten."""


class Interactions(Generic[T]):
    """What each open page is about, under a random name that the page carries."""

    def __init__(self) -> None:
        self._open: dict[str, T] = {}

    def open(self, subject: T, *, name: str) -> str:
        """Remember what a page is about, and return its name."""
        while len(self._open) >= MAX_OPEN:
            del self._open[next(iter(self._open))]
        self._open[name] = subject
        return name

    def close(self, name: str | None) -> T:
        """Return what the page was about; an answer counts once. Refuses unknown ones."""
        if name not in self._open:
            raise Refused("invalid_request", "this page is too old; please start again")
        return self._open.pop(name)
