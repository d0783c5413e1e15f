"""What asks the workers: raw connections, and a browser that costs little CPU."""

from __future__ import annotations

import asyncio
from typing import NamedTuple
from urllib.parse import urlsplit


class Answer(NamedTuple):
    """What came back."""

    status: int
    fields: list[tuple[str, str]]
    body: bytes

    def field(self, name: str) -> str | None:
        return dict(self.fields).get(name)


class Connection:
    """One open connection, over which one request at a time goes."""

    def __init__(self, reader, writer, host: str) -> None:
        self._reader, self._writer, self._host = reader, writer, host

    @classmethod
    async def open(cls, url: str, *, host: str = "app") -> Connection:
        """Connect; `host` is what the Host header says."""
        parts = urlsplit(url)
        return cls(*await asyncio.open_connection(parts.hostname, parts.port), host)

    async def ask(self, path: str, cookie: str = "") -> Answer:
        """Send a GET. Raises `OSError` or `EOFError` if the connection breaks."""
        fields = f"Host: {self._host}\r\nAccept: */*\r\nCookie: {cookie}"
        self._writer.write(f"GET {path} HTTP/1.1\r\n{fields}\r\n\r\n".encode())
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        lines = [line.partition(": ") for line in head[1:] if line]
        fields = [(name.lower(), value) for name, _, value in lines]
        answer = Answer(int(head[0].split(" ")[1]), fields, b"")
        return answer._replace(
            body=await self._reader.readexactly(int(answer.field("content-length") or 0))
        )

    def close(self) -> None:
        self._writer.close()


class Browser:
    """Cookies, and requests that have a connection of their own each.

    Whichever worker they go to, they are addressed to the app, as behind a load balancer.
    """

    def __init__(self, public_url: str) -> None:
        self._host = urlsplit(public_url).netloc
        self._cookies: dict[str, str] = {}

    @property
    def cookie(self) -> str:
        """What goes into the Cookie header."""
        return "; ".join(f"{name}={value}" for name, value in self._cookies.items())

    async def get(self, url: str, path: str) -> Answer:
        """Send a GET, and keep the cookies that come back. Raises as `Connection.ask`."""
        connection = await Connection.open(url, host=self._host)
        try:
            answer = await connection.ask(path, self.cookie)
        finally:
            connection.close()
        for line in [value for name, value in answer.fields if name == "set-cookie"]:
            name, _, value = line.partition(";")[0].partition("=")
            if "max-age=0" in line.lower():
                self._cookies.pop(name, None)
            else:
                self._cookies[name] = value
        return answer
