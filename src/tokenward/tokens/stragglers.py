"""What becomes of requests that still carry the cookie from before a refresh.

Where the session lives in a cookie, the browser sends the old one until an answer
with the new one has reached it. Those requests hold a refresh token that is spent.
They find the session that it was spent for under the hash of that token, sealed
with a key that only the token itself yields: whoever reads the store can use
nothing of it, and whoever holds the old cookie learns nothing he could not have
had by refreshing a moment earlier.
"""

from __future__ import annotations

from contextlib import suppress
from enum import Enum
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from ..errors import Conflict, StoreUnavailable
from ..sealing import Unsealable, open_with, seal_with
from .session_format import (
    InvalidSession,
    LeftAlone,
    NewerFormat,
    read_session,
    write_session,
)

if TYPE_CHECKING:
    from ..secret import Secret
    from .interfaces import Store
    from .session import Session

KEEP: Final = 30.0
"""Seconds for which the result of a refresh waits for stragglers."""

SPENT: Final = 10 * 60.0
"""Seconds for which it is known that a refresh token was spent, and not spent again."""

LEAVING: Final = 60.0
"""Seconds for which one answer alone deletes the cookie of a session that is over."""

_PURPOSE: Final = "straggler"
_MAX_STEPS: Final = 100
_ENDED: Final = b"ended"


class _After(Enum):
    """What came of the newest session that can be read."""

    NOTHING = "nothing"
    SPENT = "its refresh token was spent, and the result is there no more"
    ENDED = "its refresh token was refused, and it is over"
    LEFT_ALONE = "a result that only newer processes can read"


class Stragglers:
    """Leads old cookies to the newest session, and keeps ended sessions ended.

    With a shared store this holds for every process that uses it; with a
    `MemoryStore`, for this process alone.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    async def publish(self, session: Session, new: Session) -> bool:
        """Let requests that carry `session` find `new`; False if somebody else was first.

        False as well when the session has ended: then `new` must not be used.
        """
        token = session.tokens.refresh_token
        if token is None:
            return not await self.has_ended(session)
        key = _result_key(session, token)
        sealed = seal_with(token, write_session(new), purpose=_PURPOSE, record=key)
        try:
            version = await self._store.put(key, sealed, ttl=KEEP, version=None)
        except Conflict:
            return False
        # Publish, then look: a logout marks first and follows the results afterwards, so
        # one of the two always sees the other.
        if not await self.has_ended(session):
            if new.tokens.refresh_token != token:
                await self._mark_spent(key)
            return True
        await self._store.delete(key, version=version, tombstone=KEEP)
        return False

    async def forward(self, session: Session) -> Session | None:
        """Return the newest session that `session` was refreshed into.

        None if it ended. None as well if the result is there no more: the refresh
        token of such a late cookie is spent, and to spend it again would end the
        session of the browser's newer cookie (RFC 9700, section 4.14.2).

        Raises `LeftAlone` if the newest session is there for newer processes alone.
        """
        newest, after = await self._follow(session)
        if await self.has_ended(session):
            return None
        if after is _After.LEFT_ALONE:
            raise LeftAlone
        return newest if after is _After.NOTHING else None

    async def newest(self, session: Session) -> Session:
        """Return the newest session that this process can read, ended or not."""
        return (await self._follow(session))[0]

    async def close(self, session: Session, *, seconds: float) -> bool:
        """End `session` unless it was refreshed into another one; False if it was."""
        if token := session.tokens.refresh_token:
            # Under the same key as a result, so that one of the two comes first.
            try:
                await self._store.put(_result_key(session, token), _ENDED, ttl=KEEP, version=None)
            except Conflict:
                return False
        return await self.end(session, seconds=seconds)

    async def end(self, session: Session, *, seconds: float) -> bool:
        """Mark the session as ended for `seconds`; False if it was marked already."""
        try:
            await self._store.put(_ended_key(session), _ENDED, ttl=max(seconds, KEEP), version=None)
        except Conflict:
            return False
        return True

    async def leave(self, session: Session) -> bool:
        """Note for all processes that a browser is told to forget the session, or has another.

        False if somebody noted it a moment ago.
        """
        try:
            await self._store.put(f"{session.id}:left", b"", ttl=LEAVING, version=None)
        except Conflict:
            return False
        return True

    async def has_ended(self, session: Session) -> bool:
        """Tell whether the session was marked as ended."""
        return await self._store.get(_ended_key(session)) is not None

    async def _follow(self, session: Session) -> tuple[Session, _After]:
        """Return the newest session, and what came of it all the same."""
        for _ in range(_MAX_STEPS):
            token = session.tokens.refresh_token
            if token is None:
                break
            key = _result_key(session, token)
            # Both at once: the mark is written after the result, and outlives it.
            result, spent = await self._store.get_many(key, _spent_key(key))
            if result is not None and result.value == _ENDED:
                return session, _After.ENDED
            try:
                newer = result and _open(token, result.value, key)
            except NewerFormat:
                return session, _After.LEFT_ALONE
            if not newer or newer.id != session.id:
                return session, _After.SPENT if spent else _After.NOTHING
            session = newer
        return session, _After.NOTHING

    async def _mark_spent(self, key: str) -> None:
        # The result is out already: for want of a mark nothing is lost but late cookies.
        with suppress(Conflict, StoreUnavailable):
            await self._store.put(_spent_key(key), b"", ttl=SPENT, version=None)


def _spent_key(result_key: str) -> str:
    return f"{result_key}:spent"


def _result_key(session: Session, refresh_token: Secret) -> str:
    # The version is part of it for providers that give the same refresh token again.
    digest = sha256(refresh_token.reveal().encode()).hexdigest()
    return f"{session.id}:spent-{digest}-{session.version}"


def _ended_key(session: Session) -> str:
    return f"{session.id}:ended"


def _open(token: Secret, sealed: bytes, key: str) -> Session | None:
    """Return a result; None if it is none. Raises `NewerFormat` for one of a newer release."""
    try:
        return read_session(open_with(token, sealed, purpose=_PURPOSE, record=key))
    except NewerFormat:
        is_newer = True
    except Unsealable as error:
        is_newer = error.reason == "newer_format"
    except InvalidSession:
        is_newer = False
    if is_newer:
        raise NewerFormat
    return None
