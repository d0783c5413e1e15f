"""The way out of an app: what changed is written first, and errors are held back."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from starlette.responses import PlainTextResponse

from ..errors import AccessError, ProviderUnavailable, SessionError, StoreError
from .cookies import keep_private

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from ..errors import TokenwardError
    from .session import ConnectionSession

ANSWERED: Final = (AccessError, SessionError, StoreError, ProviderUnavailable)
"""The exceptions that the middleware answers, wherever in the app they are raised."""


def answerable(error: BaseException | None) -> TokenwardError | None:
    """Return the exception that the middleware answers for `error`; None if it answers none.

    An `asyncio.TaskGroup` raises what its tasks raise in a group. Where all that is in it
    would be answered, the first speaks for them.
    """
    if isinstance(error, ANSWERED):
        return error
    if not isinstance(error, BaseExceptionGroup):
        return None
    found = [answerable(each) for each in error.exceptions]
    return None if None in found else found[0]


_MOST_HELD: Final = 64 * 1024
"""Bytes of a 500 that are held back. Pages of error handlers are smaller."""


class Answer:
    """The `send` of one HTTP request.

    Writes what changed before the answer starts. Where one of our exceptions passes
    through an app that is mounted inside, that app answers a plain 500 and raises on; its
    answer is held until ours can take its place. A 500 that an app means is not held.
    """

    __slots__ = ("_connection", "_held", "_held_bytes", "_send", "failure", "started")

    def __init__(self, connection: ConnectionSession, send: Send) -> None:
        self._connection = connection
        self._send = send
        self._held: list[Message] = []
        self._held_bytes = 0
        self.failure: TokenwardError | None = None
        """What could not be saved, so that the app's answer was dropped; None so far."""
        self.started: bool = False
        """Whether anything has gone out."""

    async def __call__(self, message: Message) -> None:
        """Send a message of the app, as ASGI has it. Raises what could not be saved."""
        if self.started:
            await self._send(message)
        elif self.failure is not None:
            return
        elif self._held:
            await self._hold(message)
        elif message["type"] != "http.response.start":
            await self._send(message)
        elif message["status"] == 500:
            self._held.append(message)
        else:
            await self._begin(message)

    @property
    def is_unfinished(self) -> bool:
        """Whether `finish` has anything to do."""
        return bool(self._held or self.failure or self._connection.data.accessed)

    async def finish(self) -> None:
        """Send what was held. Raises what kept the answer from being sent."""
        if self.failure is not None:
            raise self.failure
        await self._release()
        if self.started:
            self._connection.data.check_saved()

    async def replace(self, response: ASGIApp, scope: Scope, receive: Receive) -> None:
        """Send `response` instead of what was held, or of what could not be saved."""
        self._held = []
        await response(scope, receive, self._send_instead)

    async def give_up(self, scope: Scope, receive: Receive) -> None:
        """Let out what an app inside answered to an error of its own.

        If it answered nothing, the 500 of the app around us does not pass through here;
        so where a refreshed token waits in a cookie to be sent, a plain one is sent first.
        """
        if self.started or self.failure is not None:
            return
        if self._held:
            held, self._held = self._held, []
            for message in held:
                await self._send_instead(message)
        elif self._connection.has_new_cookie:
            self._connection.discard_data()
            await self.replace(PlainTextResponse("Internal Server Error", 500), scope, receive)

    async def _hold(self, message: Message) -> None:
        self._held.append(message)
        self._held_bytes += len(message.get("body", b""))
        whole = len(self._held) == 2 and not message.get("more_body", False)
        # Error middleware sends its page while it handles the exception. In several pieces it
        # may come from behind a BaseHTTPMiddleware, in whose task that cannot be seen.
        meant = whole and answerable(sys.exception()) is None
        if meant or self._held_bytes > _MOST_HELD:
            await self._release()

    async def _release(self) -> None:
        held, self._held = self._held, []
        for message in held:
            await (self._send(message) if self.started else self._begin(message))

    async def _send_instead(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            await self._begin(message, failing=True)
        else:
            await self._send(message)

    async def _begin(self, message: Message, *, failing: bool = False) -> None:
        connection = self._connection
        if connection.touched:
            lines = await self._save(failing=failing)
            headers = keep_private(message.get("headers", ()))
            headers.extend((b"set-cookie", line) for line in lines)
            message = {**message, "headers": headers}
        self.started = True
        connection.close()
        await self._send(message)

    async def _save(self, *, failing: bool) -> list[bytes]:
        if failing:
            return await self._save_session()
        try:
            return await self._connection.save()
        except ANSWERED as error:
            # The app's answer speaks of a state that was not saved: it is dropped.
            self.failure = error
            raise

    async def _save_session(self) -> list[bytes]:
        """Write what must not be lost with an answer that failed: a renewed session."""
        if isinstance(self.failure, StoreError):
            return []
        try:
            return await self._connection.save(failing=True)
        except ANSWERED:
            pass
        # What the app put into `request.session` may be at fault; a spent refresh token is not
        # to be lost for it.
        self._connection.discard_data()
        try:
            return await self._connection.save(failing=True)
        except ANSWERED:
            return []


class Socket:
    """The `receive` and `send` of one WebSocket; knows whether it is over."""

    __slots__ = ("_receive", "_send", "is_over")

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self.is_over: bool = False
        """Whether one of the two sides has closed it, so that it cannot be closed again."""

    async def receive(self) -> Message:
        """Receive, as ASGI has it."""
        message = await self._receive()
        self.is_over = self.is_over or message["type"] == "websocket.disconnect"
        return message

    async def send(self, message: Message) -> None:
        """Send, as ASGI has it."""
        kind = message["type"]
        self.is_over = self.is_over or kind in ("websocket.close", "websocket.http.response.start")
        await self._send(message)
