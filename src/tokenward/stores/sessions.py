"""Server-side sessions on any store: the browser holds a random id and nothing else.

The store sees neither ids nor plaintext. The key is the SHA-256 of the id, the value
is sealed with the key as its record, so that whoever reads the store can neither log
in nor read a token, and a value that is moved to another key is refused. Identity
with tokens, and the app's own data, are two records: neither write can undo the other.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from ..errors import Conflict, StoreUnavailable
from ..protocol.json import InvalidJSON, loads_object
from ..sealing import Unsealable
from ..tokens.exchange import EXCHANGED
from ..tokens.lease import lease_key
from ..tokens.session_format import (
    LEFT_ALONE,
    InvalidSession,
    LeftAlone,
    NewerFormat,
    read_session,
    write_session,
)
from .app_data import apply_changes, write_data
from .session_index import SessionIndex

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..clock import Clock
    from ..protocol.json import JSONObject
    from ..sealing import KeyRing, Opened
    from ..secret import Secret
    from ..tokens.interfaces import Entry, Store
    from ..tokens.session import Session

TOMBSTONE: Final = 60.0
"""Seconds for which an ended session cannot be created again; longer than any refresh takes."""

GIVEN_UP: Final = 60.0
"""Seconds for which it is known that a browser left an id."""

_SESSION: Final = "session"
_DATA: Final = "data"
_GIVEN_UP: Final = "given-up"
_LEASE_SECONDS: Final = 10.0
_TRIES: Final = 3
_AT_ONCE: Final = 50
"""Sessions that are read together: some milliseconds' work."""


def session_key(session_id: Secret) -> str:
    """Name the session whose id the browser holds, without giving the id away."""
    return sha256(session_id.reveal().encode()).hexdigest()


class StoredSessions:
    """Sessions in a `Store`, sealed. The `SessionRecords` of server-side sessions.

    A session is named by its key, `session_key(id)`, which is `Session.id`.
    """

    travels = False

    def __init__(self, store: Store, ring: KeyRing, *, clock: Clock, idle: float) -> None:
        self._store = store
        self._ring = ring
        self._clock = clock
        self._idle = idle
        self.index: SessionIndex = SessionIndex(store, ring)
        """Where the sessions of a user are found."""

    async def fetch(self, key: str) -> tuple[Entry | None, Entry | None]:
        """Read both records in one round trip: identity with tokens, and the app's data."""
        session, data = await self._store.get_many(_record(key, _SESSION), _record(key, _DATA))
        return session, data

    def open_session(self, key: str, entry: Entry) -> Session | None:
        """Decrypt what `fetch` gave; None if it is not the session of this key.

        Raises:
            Unsealable, InvalidSession: it cannot be read, for the reason given.
        """
        record = _record(key, _SESSION)
        opened = self._ring.open(entry.value, purpose=_SESSION, record=record)
        session = replace(read_session(opened.plaintext), version=entry.version)
        return session if session.id == key else None

    def open_data(self, key: str, entry: Entry, *, anonymous: bool) -> JSONObject:
        """Decrypt the app's data. Raises `Unsealable` or `InvalidJSON`.

        What was kept for a login is not there for whoever comes with the id when the
        login is over: `anonymous` data are sealed as such.
        """
        record = _sealed_for(key, anonymous=anonymous)
        return loads_object(self._ring.open(entry.value, purpose=_DATA, record=record).plaintext)

    async def create(self, session: Session) -> Session:
        """Write a new session. Raises `Conflict` if its key is taken or was ended."""
        # First, so that there is never a session that nobody can find and end.
        await self.index.add(session, ttl=session.expires_at - self._clock())
        version = await self._put(session, version=None)
        return replace(session, version=version)

    async def reload(self, session: Session) -> Session | None:
        """Return the session as it is in the store; None if it ended.

        Raises `LeftAlone` if it is there for newer processes alone.
        """
        entry = await self._store.get(_record(session.id, _SESSION))
        if entry is None:
            return None
        try:
            return self.open_session(session.id, entry)
        except Unsealable as error:
            is_there = error.reason in LEFT_ALONE
        except InvalidSession as error:
            is_there = isinstance(error, NewerFormat)
        if is_there:
            raise LeftAlone
        return None

    async def look_up(self, key: str) -> Session | None:
        """Return the session of this key; None if it ended, or is none that we can read."""
        entry = await self._store.get(_record(key, _SESSION))
        return None if entry is None else self._opened(key, entry)

    async def look_up_all(self, keys: Sequence[str]) -> list[Session]:
        """Return those of the sessions that are there, in steps that hold up nobody else."""
        found: list[Session] = []
        for start in range(0, len(keys), _AT_ONCE):
            some = keys[start : start + _AT_ONCE]
            entries = await self._store.get_many(*(_record(key, _SESSION) for key in some))
            opened = (
                self._opened(key, entry) for key, entry in zip(some, entries, strict=True) if entry
            )
            found += (session for session in opened if session)
            # A store may have it all at hand.
            await asyncio.sleep(0)
        return found

    async def replace(self, session: Session, new: Session) -> Session | None:
        """Write `new` over exactly `session`; None if that is not what is there."""
        try:
            version = await self._put(new, version=session.version)
        except Conflict:
            return None
        return replace(new, version=version)

    async def drop(self, session: Session) -> bool:
        """End the session if nobody wrote since `session` was read."""
        gone = await self._store.delete(
            _record(session.id, _SESSION), version=session.version, tombstone=TOMBSTONE
        )
        if gone:
            await self._drop_rest(session.id)
            await self._lose(session)
        return gone

    async def end(self, key: str) -> Session | None:
        """End the session whatever is being written; return its last version.

        The tombstone comes with the deletion, so nothing in flight brings it back,
        and what a refresh in flight brings is revoked by that refresh. An answer of the
        store that was lost is asked for again, so that what was deleted is known.
        """
        last = None
        for turn in range(_TRIES):
            try:
                entry = await self._store.get(_record(key, _SESSION))
                if entry is None:
                    break
                last = self._opened(key, entry)
                if await self._store.delete(
                    _record(key, _SESSION), version=entry.version, tombstone=TOMBSTONE
                ):
                    break
            except StoreUnavailable:
                if turn == _TRIES - 1:
                    raise
        else:
            await self._store.delete(_record(key, _SESSION), tombstone=TOMBSTONE)
        await self._drop_rest(key)
        if last is not None:
            await self._lose(last)
        return last

    async def forbid(self, key: str) -> bool:
        """Let no session be created under this key, by a login that is under way.

        False if something is there by now: it is not touched, for its refresh token is to be
        given back.
        """
        record = _record(key, _SESSION)
        try:
            version = await self._store.put(record, b"", ttl=TOMBSTONE, version=None)
        except Conflict:
            return False
        await self._store.delete(record, version=version, tombstone=TOMBSTONE)
        return True

    async def give_up(self, key: str) -> bool:
        """Note that a browser leaves this id; False if one did in the last minute.

        The cookie of an id that leads nowhere is deleted by one answer in a minute, and by
        none in the minute after a login or a logout: that put something in its place, which an
        answer that is late would delete. Raises `StoreUnavailable`.
        """
        try:
            await self._store.put(_record(key, _GIVEN_UP), b"", ttl=GIVEN_UP, version=None)
        except Conflict:
            return False
        return True

    async def touch(self, key: str, *, expires_at: float | None) -> None:
        """Begin the idle time anew; never past `expires_at` (None: an anonymous session)."""
        records = (_record(key, _SESSION), _record(key, _DATA))
        await self._store.touch(*records, ttl=self._left(expires_at))

    async def reseal(
        self, key: str, session: Entry | None, data: Entry | None, *, expires_at: float | None
    ) -> None:
        """Seal with the newest key what `fetch` gave and an older one had sealed.

        The older key can be taken away when everything that lives has been through this.
        Whatever was written since stays as it is: the newest key sealed it. `session` is
        None for what the app keeps of an anonymous visitor, and then so is `expires_at`.
        """
        if session is not None:
            await self._reseal_session(key, session)
        if data is not None:
            record, sealed_for = _record(key, _DATA), _sealed_for(key, anonymous=session is None)
            if opened := self._outdated(data, purpose=_DATA, record=sealed_for):
                sealed = self._ring.seal(opened.plaintext, purpose=_DATA, record=sealed_for)
                with suppress(Conflict):
                    await self._store.put(
                        record, sealed, ttl=self._left(expires_at), version=data.version
                    )

    async def write_data(
        self,
        key: str,
        data: JSONObject,
        *,
        changed: Mapping[str, object],
        version: int | None,
        expires_at: float | None,
        anonymous: bool,
    ) -> None:
        """Write the app's data; when somebody wrote since, apply the changed keys to his.

        `changed` holds the new value of every key that was set, and `REMOVED` for
        keys that were deleted. Nothing is written if the session ended meanwhile, or if
        what is there is in a newer form than this process knows.
        `expires_at` bounds the idle time; None does not.

        Raises:
            Conflict: others wrote first, three times in a row.
        """
        record, sealed_for = _record(key, _DATA), _sealed_for(key, anonymous=anonymous)
        for _ in range(_TRIES):
            sealed = self._ring.seal(write_data(data), purpose=_DATA, record=sealed_for)
            try:
                await self._store.put(record, sealed, ttl=self._left(expires_at), version=version)
            except Conflict:
                entry = await self._store.get(record)
            else:
                return
            known = self._opened_data(key, entry, anonymous=anonymous) if entry else None
            if entry is None or known is None:
                return
            data = apply_changes(known, changed)
            version = entry.version
        raise Conflict("request.session is being written by too many requests at once")

    async def forget_data(self, key: str, *, version: int) -> bool:
        """Delete the app's data if nobody wrote since; True if they are gone."""
        return await self._store.delete(_record(key, _DATA), version=version)

    async def _drop_rest(self, key: str) -> None:
        # The session has ended, and without it nobody opens them. They end by themselves.
        for part in (_DATA, EXCHANGED):
            with suppress(StoreUnavailable):
                await self._store.delete(_record(key, part), tombstone=TOMBSTONE)

    async def _lose(self, session: Session) -> None:
        # It has ended, whether or not this succeeds; what is left over ends by itself.
        with suppress(StoreUnavailable):
            await self.index.discard(session)

    async def _reseal_session(self, key: str, entry: Entry) -> None:
        opened = self._outdated(entry, purpose=_SESSION, record=_record(key, _SESSION))
        if opened is None:
            return
        # What a refresh under way has spent is in no record yet, and another version than
        # the one that it read would keep its result from being written.
        lease = await self._store.acquire(lease_key(key), ttl=_LEASE_SECONDS)
        if lease is None:
            return
        try:
            session = read_session(opened.plaintext)
            # What is in the index was named with a key, too.
            await self.index.add(session, ttl=session.expires_at - self._clock())
            with suppress(Conflict):
                await self._put(session, version=entry.version)
        finally:
            await self._store.release(lease)

    def _outdated(self, entry: Entry, *, purpose: str, record: str) -> Opened | None:
        """Open what an older key sealed; None for anything else."""
        try:
            opened = self._ring.open(entry.value, purpose=purpose, record=record)
        except Unsealable:
            return None
        return None if opened.newest else opened

    def _opened(self, key: str, entry: Entry) -> Session | None:
        try:
            return self.open_session(key, entry)
        except (Unsealable, InvalidSession):
            return None

    def _opened_data(self, key: str, entry: Entry, *, anonymous: bool) -> JSONObject | None:
        """Return the app's data, none if they are good for nobody; None if for newer processes."""
        try:
            return self.open_data(key, entry, anonymous=anonymous)
        except Unsealable as error:
            return None if error.reason == "newer_format" else {}
        except InvalidJSON:
            return {}

    async def _put(self, session: Session, *, version: int | None) -> int:
        ttl = self._left(session.expires_at)
        if ttl <= 0:
            raise Conflict("the session is over")
        record = _record(session.id, _SESSION)
        sealed = self._ring.seal(write_session(session), purpose=_SESSION, record=record)
        return await self._store.put(record, sealed, ttl=ttl, version=version)

    def _left(self, expires_at: float | None) -> float:
        if expires_at is None:
            return self._idle
        return min(self._idle, expires_at - self._clock())


def _record(key: str, part: str) -> str:
    return f"{key}:{part}"


def _sealed_for(key: str, *, anonymous: bool) -> str:
    record = _record(key, _DATA)
    return f"{record}:anonymous" if anonymous else record
