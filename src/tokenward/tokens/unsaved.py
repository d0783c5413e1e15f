"""What a refresh brought and a store would not take: kept, served, and offered again."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from ..background import Background
from ..errors import StoreUnavailable
from .session_format import LeftAlone
from .waiting import Turns

if TYPE_CHECKING:
    from collections.abc import Callable

    from .interfaces import SessionRecords
    from .lease import HeldLease
    from .revocation import Revoker
    from .session import Session


class UnsavedSessions:
    """Keeps refreshed sessions for as long as their store is out of reach.

    The refresh token in the store is spent by then, and the new one is nowhere but
    here. After `seconds` it is given back, for nobody will ever find it again; unless it
    went to a browser in a cookie.
    """

    def __init__(
        self,
        *,
        seconds: float,
        revoker: Revoker,
        jitter: Callable[[], float],
        on_saved: Callable[[Session], None],
    ) -> None:
        self._seconds = seconds
        self._revoker = revoker
        self._jitter = jitter
        self._on_saved = on_saved
        self._sessions: dict[str, Session] = {}
        self._background = Background()

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._sessions)

    def get(self, session: Session) -> Session | None:
        """Return what the session was refreshed into; None if nothing waits to be saved."""
        return self._sessions.get(session.id)

    def keep(
        self, records: SessionRecords, session: Session, new: Session, held: HeldLease
    ) -> None:
        """Offer `new` in the place of `session` until it is taken; then release the lease."""
        self._sessions[session.id] = new
        self._background.begin(self._offer(records, session, new, held))

    def discard(self, records: SessionRecords, new: Session) -> None:
        """Give back, in the background, what a refresh brought too late to be written.

        Not while the session lives on: what is in its record came from the same grant,
        and most providers end all of a grant with any of its refresh tokens (RFC 7009,
        section 2.1).
        """
        self._background.begin(self._give_back_if_over(records, new))

    async def drain(self, *, timeout: float) -> None:  # noqa: ASYNC109 - part of what is promised
        """Wait `timeout` seconds at most; what is not saved then is given back."""
        await self._background.drain(timeout)

    async def _offer(
        self, records: SessionRecords, session: Session, new: Session, held: HeldLease
    ) -> None:
        finish: Callable[[], object] = partial(self._give_up, records, session, new)
        turns = Turns(self._seconds, jitter=self._jitter)
        try:
            while await turns.again():
                try:
                    stored = await records.replace(session, new)
                except Exception:  # noqa: BLE001, S112 - nothing but success may end this early
                    continue
                finish = (
                    partial(self._on_saved, stored)
                    if stored
                    else partial(self.discard, records, new)
                )
                break
        finally:
            # Also when a shutdown cuts the waiting short.
            self._sessions.pop(session.id, None)
            finish()
            await held.release()

    def _give_up(self, records: SessionRecords, session: Session, new: Session) -> None:
        # A provider may give the same refresh token again, and then the record has it too. And
        # whoever got it in a cookie has it without the store.
        if not records.travels and new.tokens.refresh_token != session.tokens.refresh_token:
            self._revoker.begin(new)

    async def _give_back_if_over(self, records: SessionRecords, new: Session) -> None:
        lives: bool | None = None
        turns = Turns(self._seconds, jitter=self._jitter)
        try:
            while lives is None and await turns.again():
                with suppress(StoreUnavailable):
                    lives = await _is_there(records, new)
        finally:
            # Also when a shutdown cuts the waiting short. An outage ends no session, so what
            # nobody can tell is told.
            if lives is None:
                self._revoker.give_up(new, problem="store_unavailable")
            elif not lives:
                self._revoker.begin(new)


async def _is_there(records: SessionRecords, session: Session) -> bool:
    try:
        return await records.reload(session) is not None
    except LeftAlone:
        return True
