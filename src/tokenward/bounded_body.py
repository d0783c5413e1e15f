"""The body of an answer, decoded as it comes, and never more of it than was allowed."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import httpx


class UnusableError(Exception):
    """The answer that is coming in will not be used. Never leaves the transport."""


class BoundedBody:
    """Collects an answer, decodes it, and refuses more than `max_bytes` of it."""

    def __init__(self, response: httpx.Response, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._parts: list[bytes] = []
        self._size = 0
        self._inflate = None
        encoding = response.headers.get("content-encoding", "identity").strip().lower()
        # A stream that is consumed was in memory from the start (mock transports),
        # and decoded with it.
        if response.is_stream_consumed or encoding in ("", "identity"):
            return
        if encoding not in ("gzip", "x-gzip", "deflate"):
            raise UnusableError("the answer is encoded, though identity was asked for")
        self._inflate = zlib.decompressobj(wbits=47)  # 32 + 15: gzip or zlib, by its head

    def add(self, chunk: bytes) -> None:
        """Take the next part; raises `UnusableError` when it is too much."""
        if self._inflate is not None:
            # One byte more than fits, so that a bomb shows before it grows.
            chunk = self._inflate.decompress(chunk, self._max_bytes - self._size + 1)
        self._size += len(chunk)
        if self._size > self._max_bytes:
            raise UnusableError(f"the answer is larger than {self._max_bytes} bytes")
        self._parts.append(chunk)

    def whole(self) -> bytes:
        """Return all of it; raises `UnusableError` if it was cut."""
        if self._inflate is not None and self._size and not self._inflate.eof:
            raise UnusableError("the answer is cut")
        return b"".join(self._parts)
