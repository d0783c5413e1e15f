"""Reading a small urlencoded body, bounded in size and time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from ..errors import LoginFailed

if TYPE_CHECKING:
    from starlette.types import Receive, Scope

MAX_BODY: Final = 64 * 1024
"""Bytes of a form that a provider posts; they are a tenth of that."""

DEADLINE: Final = 5.0
"""Seconds for the whole body."""

_FORM: Final = b"application/x-www-form-urlencoded"


async def read_form(scope: Scope, receive: Receive) -> bytes:
    """Return the body of a form post, undecoded.

    Raises `LoginFailed`: `body_type` for another content type, `body_too_large`,
    `body_too_slow`, or `body_incomplete` if the client went away.
    """
    types = [value for name, value in scope["headers"] if name == b"content-type"]
    if len(types) != 1 or types[0].partition(b";")[0].strip().lower() != _FORM:
        raise LoginFailed("body_type")
    try:
        async with asyncio.timeout(DEADLINE):
            return await _read(receive)
    except TimeoutError:
        pass
    raise LoginFailed("body_too_slow")


async def _read(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise LoginFailed("body_incomplete")
        body += message.get("body", b"")
        if len(body) > MAX_BODY:
            raise LoginFailed("body_too_large")
        if not message.get("more_body", False):
            return bytes(body)
