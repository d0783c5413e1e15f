"""What a process and its store remember of sessions that live in cookies.

The sessions are in browsers. Here is only what became of them: what they were refreshed
into, and which of them ended.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ..clock import Clock
    from ..tokens.session import Session
    from ..tokens.stragglers import Stragglers

_ENDED: Final = 10_000
"""Ended sessions that a process remembers by itself, to refuse their cookies."""


class CookieRecords:
    """The `SessionRecords` of sessions in cookies: what was refreshed waits for stragglers."""

    travels = True

    def __init__(self, stragglers: Stragglers, *, clock: Clock, remember: EndedSessions) -> None:
        self._stragglers = stragglers
        self._clock = clock
        self._remember = remember

    async def reload(self, session: Session) -> Session | None:
        """See `SessionRecords`."""
        return await self._stragglers.forward(session)

    async def replace(self, session: Session, new: Session) -> Session | None:
        """See `SessionRecords`."""
        new = replace(new, version=session.version + 1)
        return new if await self._stragglers.publish(session, new) else None

    async def drop(self, session: Session) -> bool:
        """See `SessionRecords`."""
        if not await self._stragglers.close(session, seconds=self._left(session)):
            return False
        self._remember.add(session)
        return True

    async def end(self, session: Session) -> bool:
        """End the session whatever is being refreshed; False if it had ended."""
        is_news = await self._stragglers.end(session, seconds=self._left(session))
        # Not before: a login that fails for want of a store leaves the old session as it was.
        self._remember.add(session)
        return is_news

    async def has_ended(self, session: Session) -> bool:
        """Tell whether any process of the store ended the session."""
        return await self._stragglers.has_ended(session)

    async def newest(self, session: Session) -> Session:
        """Return what the session was refreshed into, ended or not."""
        return await self._stragglers.newest(session)

    async def leave(self, session: Session) -> bool:
        """Note that a browser is told to forget the session; see `Stragglers.leave`."""
        return await self._stragglers.leave(session)

    def _left(self, session: Session) -> float:
        return session.expires_at - self._clock()


class EndedSessions:
    """Remembers in this process which sessions ended, at no cost for the others."""

    def __init__(self) -> None:
        self._ids: OrderedDict[str, None] = OrderedDict()

    def add(self, session: Session) -> None:
        """Remember that the session ended; the oldest is forgotten when there are many."""
        self._ids[session.id] = None
        if len(self._ids) > _ENDED:
            self._ids.popitem(last=False)

    def __contains__(self, session: Session) -> bool:
        return session.id in self._ids
