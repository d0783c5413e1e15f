"""JSON with one meaning, or none at all.

What two readers could read differently, and what could not be written back, is
refused: the key that was checked must be the key that is used (RFC 8725, section
2.4; RFC 7493).
"""

from __future__ import annotations

import json
import math
import re
from itertools import accumulate
from typing import Final, TypeAlias

JSON: TypeAlias = "bool | int | float | str | list[JSON] | dict[str, JSON] | None"
"""Any JSON value."""

JSONObject: TypeAlias = dict[str, JSON]
"""A JSON object, its members in the order of the text."""

MAX_DEPTH: Final = 32
"""Levels of nesting. Nothing in these protocols has more than five."""

MAX_DIGITS: Final = 4300
"""Digits of an integer: reading takes time that grows with their square (CVE-2020-10735)."""

_EXCERPT: Final = 80

# A string, also one that never ends, or a bracket. The quantifiers are possessive and every
# match moves on, so the time is linear whatever the text.
_STRING_OR_BRACKET: Final = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[\]{}]', re.DOTALL)
_STEPS: Final = {"[": 1, "{": 1, "]": -1, "}": -1}


class InvalidJSON(ValueError):
    """The text is not JSON, or could be read in two ways. Says why, and never quotes it."""


def loads(data: bytes | str, *, max_depth: int = MAX_DEPTH) -> JSON:
    """Read JSON, and refuse what another reader might read differently.

    Bytes are UTF-8 without a byte order mark (RFC 8259, section 8.1). Refused are
    members that appear twice, NaN and Infinity, numbers that become infinite or
    have more than 4,300 digits, lone surrogates, and nesting deeper than
    `max_depth`, which is looked at before the parser recurses.

    Raises `InvalidJSON`.
    """
    value, problem = _parse(data, max_depth)
    # The text may hold tokens: a traceback with locals must not show it.
    del data
    if problem is not None:
        raise InvalidJSON(problem)
    return value


def loads_object(data: bytes | str, *, max_depth: int = MAX_DEPTH) -> JSONObject:
    """Read a JSON object by the rules of `loads`. Raises `InvalidJSON`."""
    value, problem = _parse(data, max_depth)
    del data
    if problem is not None:
        raise InvalidJSON(problem)
    if not isinstance(value, dict):
        del value
        raise InvalidJSON("not a JSON object")
    return value


def excerpt(value: JSON) -> str:
    """Show a value from outside in a message: printable ASCII, at most 80 characters."""
    text = ascii(value) if isinstance(value, str | int | float | None) else type(value).__name__
    return text if len(text) <= _EXCERPT else f"{text[: _EXCERPT - 3]}..."


def _parse(data: bytes | str, max_depth: int) -> tuple[JSON, str | None]:
    """Return the value, or what is wrong; an exception of the parser would hold the text."""
    try:
        text = data if isinstance(data, str) else data.decode("utf-8")
        if _depth(text, max_depth) > max_depth:
            return None, f"nested deeper than {max_depth} levels"
        value: JSON = json.loads(
            text,
            object_pairs_hook=_unique_members,
            parse_int=_integer,
            parse_float=_finite,
            parse_constant=_no_constant,
        )
        if "\\u" in text or not text.isascii():
            _check_writable(value)
    except InvalidJSON as error:
        return None, str(error)
    except UnicodeDecodeError:
        return None, "not UTF-8"
    except ValueError:
        return None, "not JSON"
    return value, None


def _depth(text: str, enough: int) -> int:
    brackets = text.count("[") + text.count("{")
    if brackets <= enough:
        return brackets
    steps = (_STEPS.get(found[0], 0) for found in _STRING_OR_BRACKET.finditer(text))
    return max(accumulate(steps), default=0)


def _unique_members(members: list[tuple[str, JSON]]) -> JSONObject:
    value = dict(members)
    if len(value) < len(members):
        raise InvalidJSON("a member appears twice")
    return value


def _integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise InvalidJSON(f"an integer has more than {MAX_DIGITS} digits")
    return int(digits)


def _finite(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise InvalidJSON("a number is out of range")
    return value


def _no_constant(_: str) -> JSON:
    raise InvalidJSON("NaN and Infinity are not JSON")


def _check_writable(value: JSON) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        pass
    else:
        return
    raise InvalidJSON("a lone surrogate")
