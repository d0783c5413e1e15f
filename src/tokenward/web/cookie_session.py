"""Sessions that live in sealed cookies: no server state but what coordinates refreshes.

Identity with tokens, and the app's own data, are two cookies: neither write can undo
the other. The data are bound to the session that they belong to.
"""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from ..errors import StoreUnavailable
from ..events import CookieRejected, StoreFailed
from ..sealing import Opened, Unsealable
from ..secret import Secret
from ..stores.app_data import read_data, write_data
from ..tokens.session_format import (
    LEFT_ALONE,
    InvalidSession,
    NewerFormat,
    read_session,
    write_session,
)
from ..tokens.stragglers import KEEP
from .cookie_records import CookieRecords, EndedSessions
from .cookies import CookieReading
from .session import NewSession, carries, touch_interval

if TYPE_CHECKING:
    from ..management import TokenManagement
    from ..protocol.json import JSONObject
    from ..tokens.session import Session
    from .cookies import Cookie, Headers
    from .session_data import SessionData

_SESSION: Final = "session-cookie"
_DATA: Final = "data-cookie"
_ABSENT: Final = CookieReading()
_RETRY: Final = 1.0
"""Seconds after which a process that found the store out of reach may ask it again."""


class CookieSource:
    """Opens and creates sessions that live in cookies. A `SessionSource`."""

    travels = True

    def __init__(self, management: TokenManagement, cookie: Cookie) -> None:
        self.management = management
        self.cookie = cookie
        self.data_cookie: Cookie = cookie.named("data")
        self.ended: EndedSessions = EndedSessions()
        self.records: CookieRecords = CookieRecords(
            management.stragglers, clock=management.clock, remember=self.ended
        )
        self.idle: float = management.settings.lifetimes.idle
        self.interval: float = touch_interval(self.idle)
        """Seconds between two writes that only begin the idle time anew."""
        self._name = cookie.full_name.encode()
        self._ask_again_at = 0.0

    def is_carried(self, headers: Headers) -> bool:
        """See `SessionSource`."""
        return carries(headers, self._name)

    def open(self, headers: Headers) -> CookieState:
        """See `SessionSource`."""
        return CookieState(self, headers)

    async def create(self, draft: Session, data: JSONObject, *, headers: Headers) -> NewSession:
        """See `SessionSource`. What is too large shows now, rather than after the login."""
        session = replace(draft, id=secrets.token_hex(16), version=1, seen_at=draft.created_at)
        new = NewSession(session, Secret(""), data)
        self.open(headers).give(new)
        return new

    async def look_up(self, session: Session) -> None:
        """Learn whether another process ended the session.

        Only what is in a store tells. While that is out of reach, for a logout that cannot
        be known of nobody else is logged out; and it is not asked at every request.
        """
        management = self.management
        if management.clock() < self._ask_again_at:
            return
        try:
            if session not in self.ended and await self.records.has_ended(session):
                self.ended.add(session)
        except StoreUnavailable as error:
            self._ask_again_at = management.clock() + _RETRY
            management.emit(StoreFailed(operation="read", error=str(error)))

    def seal_both(
        self,
        session: Session,
        data: JSONObject,
        session_cookie: _Carried,
        data_cookie: _Carried,
        *,
        others: int,
    ) -> list[bytes]:
        """Return the Set-Cookie values of a login, beside `others` bytes of other cookies."""
        reading = replace(session_cookie.reading, others=others)
        lines = self.seal_session(session, reading)
        beside = others + sum(map(len, lines))
        reading = replace(data_cookie.reading, others=beside)
        return lines + self.seal_data(data, session, reading)

    def seal_session(self, session: Session, reading: CookieReading) -> list[bytes]:
        """Return the Set-Cookie values that carry the session."""
        name = self.cookie.full_name
        sealed = self.management.ring.seal(write_session(session), purpose=_SESSION, record=name)
        return self.cookie.write(sealed, max_age=self._left(session), reading=reading)

    def seal_data(
        self, data: JSONObject, session: Session | None, reading: CookieReading
    ) -> list[bytes]:
        """Return the Set-Cookie values that carry the app's data, bound to the session."""
        if not data:
            return self.data_cookie.clear(reading) if reading.names else []
        written = _write_seen(self.management.clock(), data)
        record = self.data_record(session)
        sealed = self.management.ring.seal(written, purpose=_DATA, record=record)
        max_age = self._left(session) if session else self.idle
        return self.data_cookie.write(sealed, max_age=max_age, reading=reading)

    def data_record(self, session: Session | None) -> str:
        """Name what the data belong to, so that no other session opens them."""
        return f"{self.data_cookie.full_name} {session.id if session else 'anonymous'}"

    def _left(self, session: Session) -> float:
        return session.expires_at - self.management.clock()


class _Carried:
    """One sealed cookie as a request carries it, and what the answer must do about it."""

    __slots__ = ("outdated", "reading", "spoilt")

    def __init__(self, reading: CookieReading = _ABSENT) -> None:
        self.reading: CookieReading = reading
        self.outdated: bool = False
        """Good, but to be written anew: its key is old, or the idle time begins again."""
        self.spoilt: bool = False
        """Good for nothing any more: to be deleted."""


class CookieState:
    """What one browser carries of a session in cookies. A `SessionState`."""

    __slots__ = (
        "_data",
        "_data_cookie",
        "_data_stay",
        "_elsewhere",
        "_headers",
        "_left_alone",
        "_looked_up",
        "_new",
        "_over",
        "_read",
        "_session",
        "_session_cookie",
        "_source",
    )

    def __init__(self, source: CookieSource, headers: Headers) -> None:
        self._source = source
        self._headers = headers
        self._session_cookie: _Carried | None = None
        self._data_cookie: _Carried | None = None
        self._new: NewSession | None = None
        self._session: Session | None = None
        self._over: Session | None = None
        self._data: JSONObject = {}
        self._read = False
        self._elsewhere = False
        self._left_alone = False
        self._looked_up = not source.management.has_store
        self._data_stay = False

    @property
    def left_alone(self) -> bool:
        """See `SessionState`."""
        return self._left_alone

    async def fetch(self) -> None:
        """See `SessionState`. The request brought it all, but that it ended meanwhile."""
        if self._looked_up:
            return
        self._looked_up = True
        session = self.read_session()
        if session is not None:
            await self._source.look_up(session)
            if session in self._source.ended:
                self._elsewhere, self._session = True, None

    async def forward(self, session: Session) -> Session | None:
        """See `SessionState`.

        Answers may reach a browser in another order than they were sent, so for as long
        as a refresh may have overtaken this cookie, it is looked up.
        """
        if session.renewed_at == session.created_at:
            return session
        if self._source.management.clock() - session.renewed_at >= KEEP:
            return session
        return await self._newest(session, otherwise=session)

    def read_session(self) -> Session | None:
        """See `SessionState`."""
        if not self._read:
            self._read = True
            self._session = self._open_session()
        return self._session

    def _open_session(self) -> Session | None:
        source, carried = self._source, self._carried_session()
        management = source.management
        opened = self._open(carried, _SESSION, source.cookie.full_name)
        if opened is None:
            return None
        try:
            session = read_session(opened.plaintext)
        except InvalidSession as error:
            self._reject(carried, "newer_format" if isinstance(error, NewerFormat) else "invalid")
            return None
        now = management.clock()
        idle = now - session.seen_at
        if idle >= source.idle or now >= session.expires_at:
            self._over = session
            return None
        if session in source.ended or not management.accepts(session):
            self._elsewhere = True
            return None
        carried.outdated = not opened.newest or idle >= source.interval
        return session

    def read_data(self) -> JSONObject:
        """See `SessionState`. What belongs to a session that is not ours is not ours either."""
        session = self.read_session()
        if self._elsewhere:
            return {}
        source, carried = self._source, self._carried_data()
        opened = self._open(carried, _DATA, source.data_record(session))
        if opened is None:
            return {}
        seen, data = _read_seen(opened.plaintext)
        idle = source.management.clock() - seen
        if session is None and idle >= source.idle:
            return {}
        # With a session it is the session's cookie that tells when it was used last.
        carried.outdated = not opened.newest or (session is None and idle >= source.interval)
        self._data = data
        return data

    async def end(self, session: Session | None) -> Session | None:
        """See `SessionState`. Marks first and looks for newer ones afterwards: see `Stragglers`."""
        if session is not None:
            await self._source.records.end(session)
        # Before anybody can find that it leads nowhere, and deletes the cookie.
        await self._leaves()
        return None if session is None else await self._source.records.newest(session)

    def forget(self, session: Session | None) -> None:
        """See `SessionState`."""
        if session is not None:
            self._source.ended.add(session)

    def install(self, new: NewSession) -> None:
        """See `SessionState`."""
        self._new = new

    async def save(
        self, session: Session | None, data: SessionData | None, *, renewed: bool
    ) -> list[bytes]:
        """See `SessionState`."""
        source, session_cookie = self._source, self._carried_session()
        if self._new is not None:
            return self.give(self._new)
        if renewed and session is None:
            data_reading = self._carried_data().reading
            return source.cookie.clear(session_cookie.reading) + source.data_cookie.clear(
                data_reading
            )
        if session_cookie.outdated:
            # Neither of the two keeps a key that may be taken away soon.
            self.read_data()
        lines = await self._write_session(session, renewed=renewed)
        return lines + self._write_data(session, data)

    def give(self, new: NewSession) -> list[bytes]:
        """Return the Set-Cookie values that put `new` in the place of what is carried."""
        session_cookie, data_cookie = self._carried_session(), self._carried_data()
        # What the two take of the header now, they leave for what comes in their place.
        total = sum(len(value) for name, value in self._headers if name == b"cookie")
        others = max(session_cookie.reading.others + data_cookie.reading.others - total, 0)
        return self._source.seal_both(
            new.session, new.data, session_cookie, data_cookie, others=others
        )

    async def _write_session(self, session: Session | None, *, renewed: bool) -> list[bytes]:
        source, carried = self._source, self._carried_session()
        if session is None:
            is_useless = carried.spoilt or await self._leaves()
            return source.cookie.clear(carried.reading) if is_useless else []
        if not renewed and not carried.outdated:
            return []
        # A logout that came meanwhile wins; and a refresh that did is sent along.
        # If nobody can tell: what was renewed may be nowhere else by now; and what was not may be
        # out of date, and must not take the place of a newer cookie.
        newest = await self._newest(session, otherwise=session if renewed else None)
        if newest is None:
            return []
        newest = replace(newest, seen_at=source.management.clock())
        return source.seal_session(newest, carried.reading)

    async def _newest(self, session: Session, *, otherwise: Session | None) -> Session | None:
        """Return what became of `session`, None if it ended; `otherwise` if nobody can tell."""
        try:
            return await self._source.records.reload(session)
        except StoreUnavailable as error:
            self._source.management.emit(StoreFailed(operation="read", error=str(error)))
        return None if session in self._source.ended else otherwise

    async def _leaves(self) -> bool:
        """Tell whether the cookie of a session that is over by itself may be deleted.

        Once only, and not after a login in another tab replaced it: an answer that is late
        must not delete the new one.
        """
        if self._over is None:
            return False
        try:
            return await self._source.records.leave(self._over)
        except StoreUnavailable:
            return False

    def _write_data(self, session: Session | None, data: SessionData | None) -> list[bytes]:
        if data is None and self._data_cookie is None:
            return []
        source, carried = self._source, self._carried_data()
        if data is not None:
            if self._data_stay:
                return []
            return source.seal_data(data.copy(), session, carried.reading)
        if carried.outdated:
            return source.seal_data(self._data, session, carried.reading)
        return source.data_cookie.clear(carried.reading) if carried.spoilt else []

    def _carried_session(self) -> _Carried:
        if self._session_cookie is None:
            self._session_cookie = _Carried(self._source.cookie.read(self._headers))
        return self._session_cookie

    def _carried_data(self) -> _Carried:
        if self._data_cookie is None:
            self._data_cookie = _Carried(self._source.data_cookie.read(self._headers))
        return self._data_cookie

    def _open(self, carried: _Carried, purpose: str, record: str) -> Opened | None:
        reading = carried.reading
        if reading.value is None:
            if reading.rejected:
                self._reject(carried, reading.rejected)
            return None
        try:
            return self._source.management.ring.open(reading.value, purpose=purpose, record=record)
        except Unsealable as error:
            reason = error.reason
        self._reject(carried, reason)
        return None

    def _reject(self, carried: _Carried, reason: str) -> None:
        self._source.management.emit(CookieRejected(reason=reason))
        if reason in LEFT_ALONE:
            self._elsewhere = True
            is_session = carried is self._session_cookie
            self._left_alone = self._left_alone or is_session
            # What a visitor had gives way when the app writes anew; what is of a login does not.
            is_of_login = is_session or self._session is not None
            self._data_stay = self._data_stay or (is_of_login and reason == "newer_format")
        else:
            carried.spoilt = True


def _write_seen(now: float, data: JSONObject) -> bytes:
    """Write down when the data were used last, and the data."""
    return f"{now!r} ".encode() + write_data(data)


def _read_seen(written: bytes) -> tuple[float, JSONObject]:
    """Read what `_write_seen` wrote; what is not of that form was used never."""
    seen, _, data = written.partition(b" ")
    try:
        return float(seen), read_data(data)
    except ValueError:
        return 0.0, {}
