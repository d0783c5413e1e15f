"""The header fields of an answer, found whatever the case of their name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import final


@final
class HeaderFields(Mapping[str, str]):
    """Finds a field by its name in any case (RFC 9110, section 5.1).

    Iterating gives the names in lower case. Nothing can be changed, and the repr shows
    the names alone, because values may hold codes and tokens.
    """

    __slots__ = ("_fields",)

    def __init__(self, fields: Mapping[str, str]) -> None:
        self._fields = {name.lower(): value for name, value in fields.items()}

    def __getitem__(self, name: str) -> str:
        return self._fields[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __repr__(self) -> str:
        return f"HeaderFields({[*self._fields]})"
