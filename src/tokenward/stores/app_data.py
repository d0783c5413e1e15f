"""The app's own data, `request.session`, as they are written down, and as they are merged.

The form is JSON, the same for a record in a store and for a cookie. It has no version
of its own: what is in it is the app's.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from ..errors import SessionError
from ..protocol.json import InvalidJSON, loads_object

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..protocol.json import JSONObject


class _Removed:
    def __repr__(self) -> str:
        return "REMOVED"


REMOVED: Final = _Removed()
"""Marks a key that was deleted from the app's data."""


def write_data(data: Mapping[str, object]) -> bytes:
    """Write the app's data down, the same bytes for the same data.

    Raises `SessionError` for what JSON cannot hold, such as dates, sets and NaN.
    """
    try:
        return json.dumps(data, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
    except RecursionError:
        problem = "it is nested too deep"
    except (TypeError, ValueError) as error:
        problem = str(error)
    raise SessionError(f"request.session holds what JSON cannot: {problem}")


def read_data(written: bytes) -> JSONObject:
    """Read what `write_data` wrote; nothing if it cannot be read."""
    try:
        return loads_object(written)
    except InvalidJSON:
        return {}


def apply_changes(data: JSONObject, changed: Mapping[str, object]) -> JSONObject:
    """Apply what one request changed to what another one wrote.

    `changed` has the new value of every key that was set, and `REMOVED` for the deleted.
    """
    merged = {**data, **changed}
    return {key: value for key, value in merged.items() if value is not REMOVED}  # type: ignore[misc]
