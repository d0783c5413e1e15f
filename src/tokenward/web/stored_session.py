"""Server-side sessions in one browser: signed random ids in cookies, records in a store.

Who is logged in has one cookie, and what the app keeps for a visitor who is not has
another. Answers reach a browser in any order: a late one to a visitor who has logged in
meanwhile must not put anything in the place of his session.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from ..errors import SessionNotLoaded, StoreUnavailable
from ..events import CookieRejected, StoreFailed
from ..protocol.json import InvalidJSON
from ..sealing import Unsealable
from ..stores.sessions import session_key
from ..tokens.session_format import LEFT_ALONE, InvalidSession, NewerFormat
from .session import NewSession, carries, touch_interval
from .session_id import IdCookie, new_id

if TYPE_CHECKING:
    from ..management import TokenManagement
    from ..protocol.json import JSONObject
    from ..stores.sessions import StoredSessions
    from ..tokens.interfaces import Entry
    from ..tokens.session import Session
    from .cookies import Cookie, Headers
    from .session_data import SessionData
    from .session_id import CarriedId

_RETRY: Final = 1.0
"""Seconds after which a request that found the store out of reach may ask it again."""

_SEEN: Final = 10_000
"""Sessions of which a process remembers when it saw them last."""


class StoredSource:
    """Opens and creates server-side sessions. A `SessionSource`."""

    travels = False

    def __init__(self, management: TokenManagement, cookie: Cookie) -> None:
        self.management = management
        self.records: StoredSessions = management.stored
        self.login: IdCookie = IdCookie(management.ring, cookie)
        """The id of who is logged in."""
        self.visit: IdCookie = IdCookie(management.ring, cookie.named("data"))
        """The id of what the app keeps for a visitor who is not."""
        self._name = cookie.full_name.encode()
        self.interval: float = touch_interval(management.settings.lifetimes.idle)
        """Seconds between two writes that only begin the idle time anew."""
        self._seen: OrderedDict[str, float] = OrderedDict()

    def is_carried(self, headers: Headers) -> bool:
        """See `SessionSource`."""
        return carries(headers, self._name)

    def open(self, headers: Headers) -> StoredState:
        """See `SessionSource`."""
        return StoredState(self, headers)

    async def create(self, draft: Session, data: JSONObject, *, headers: Headers) -> NewSession:
        """See `SessionSource`."""
        credential = new_id()
        key = session_key(credential)
        if data:
            # First, so that a failure leaves no session behind that nobody can end.
            await self.records.write_data(
                key,
                data,
                changed=data,
                version=None,
                expires_at=draft.expires_at,
                anonymous=False,
            )
        session = await self.records.create(replace(draft, id=key))
        return NewSession(session, credential, data)

    def was_seen(self, key: str, *, within: float) -> bool:
        """Tell whether this process saw the session alive in the last `within` seconds."""
        last = self._seen.get(key)
        return last is not None and 0 <= self.management.clock() - last < within

    def see(self, key: str) -> None:
        """Remember that the session is alive; the oldest is forgotten when there are many."""
        self._seen[key] = self.management.clock()
        self._seen.move_to_end(key)
        if len(self._seen) > _SEEN:
            self._seen.popitem(last=False)

    def lose_sight(self, key: str) -> None:
        """Forget that the session was seen."""
        self._seen.pop(key, None)


class StoredState:
    """What one browser carries of server-side sessions. A `SessionState`."""

    __slots__ = (
        "_again_at",
        "_data_stay",
        "_failure",
        "_fetched",
        "_foreign",
        "_headers",
        "_left_alone",
        "_login",
        "_login_data",
        "_login_entry",
        "_new",
        "_session",
        "_session_read",
        "_source",
        "_visit",
        "_visit_data",
    )

    def __init__(self, source: StoredSource, headers: Headers) -> None:
        self._source = source
        self._headers = headers
        self._login = self._read(source.login)
        self._visit = self._read(source.visit)
        self._login_entry: Entry | None = None
        self._login_data: Entry | None = None
        self._visit_data: Entry | None = None
        self._fetched = False
        self._failure: StoreUnavailable | None = None
        self._again_at = 0.0
        self._session: Session | None = None
        self._session_read = False
        self._foreign = False
        self._left_alone = self._login.rejected in LEFT_ALONE
        self._data_stay = False
        self._new: NewSession | None = None

    def _read(self, cookie: IdCookie) -> CarriedId:
        carried = cookie.read(self._headers)
        if carried.rejected:
            self._source.management.emit(CookieRejected(reason=carried.rejected))
        return carried

    @property
    def left_alone(self) -> bool:
        """See `SessionState`."""
        return self._left_alone

    # ----------------------------------------------------------------- reading

    async def fetch(self) -> None:
        """See `SessionState`. Asks once, and after a failure again when some time has passed."""
        if self._is_fetched or self._source.management.clock() < self._again_at:
            return
        records = self._source.records
        try:
            if self._login.key:
                self._login_entry, self._login_data = await records.fetch(self._login.key)
            if self._visit.key:
                _, self._visit_data = await records.fetch(self._visit.key)
            self._fetched, self._failure = True, None
        except StoreUnavailable as error:
            self._failure = error
            self._again_at = self._source.management.clock() + _RETRY
            self._source.management.emit(StoreFailed(operation="read", error=str(error)))

    @property
    def _is_fetched(self) -> bool:
        return self._fetched or not (self._login.key or self._visit.key)

    async def forward(self, session: Session) -> Session | None:
        """See `SessionState`: what was read from the store is the newest."""
        return session

    def read_session(self) -> Session | None:
        """See `SessionState`."""
        self._check_fetched()
        if not self._session_read:
            self._session_read = True
            self._session = self._open_session()
        return self._session

    def _open_session(self) -> Session | None:
        management, entry = self._source.management, self._login_entry
        if self._login.key is None or entry is None:
            return None
        reason, session = "", None
        try:
            session = self._source.records.open_session(self._login.key, entry)
        except Unsealable as error:
            reason = error.reason
        except InvalidSession as error:
            reason = "newer_format" if isinstance(error, NewerFormat) else "invalid"
        if reason:
            management.emit(CookieRejected(reason=reason))
            self._left_alone = reason in LEFT_ALONE
            self._foreign = not self._left_alone
            return None
        if session is None or not management.accepts(session):
            self._foreign = True
            return None
        return session

    def read_data(self) -> JSONObject:
        """See `SessionState`. What belongs to a session that is not ours is not ours either."""
        self.read_session()
        anonymous = not self._has_record
        key = self._visit.key if anonymous else self._login.key
        entry = self._visit_data if anonymous else self._login_data
        if key is None or entry is None:
            return {}
        try:
            return self._source.records.open_data(key, entry, anonymous=anonymous)
        except (Unsealable, InvalidJSON) as error:
            reason = str(error)
        if reason == "newer_format":
            # What a visitor had gives way when the app writes anew; what is of a login does not.
            self._data_stay = not anonymous
        elif anonymous:
            self._visit_data = None
        self._source.management.emit(CookieRejected(reason=reason))
        return {}

    @property
    def _has_record(self) -> bool:
        """Whether the data are those of a login, be it one that this process cannot read."""
        return self._login_entry is not None and not self._foreign

    # ----------------------------------------------------------------- writing

    async def end(self, session: Session | None) -> Session | None:
        """See `SessionState`."""
        last = None
        # First, so that no late answer finds that an id leads nowhere before it is noted.
        for carried in (self._login, self._visit):
            await self._leave(carried)
        if self._login.key and not self._foreign:
            last = await self._source.records.end(self._login.key)
        if self._visit.key:
            await self._source.records.end(self._visit.key)
        return last

    def forget(self, session: Session | None) -> None:
        """See `SessionState`. Only the store can tell what has ended."""

    def install(self, new: NewSession) -> None:
        """See `SessionState`."""
        self._new = new

    async def save(
        self, session: Session | None, data: SessionData | None, *, renewed: bool
    ) -> list[bytes]:
        """See `SessionState`."""
        source = self._source
        if self._new is not None:
            max_age = self._new.session.expires_at - source.management.clock()
            given = source.login.write(self._new.credential, self._login, max_age=max_age)
            return given + source.visit.clear(self._visit)
        if renewed and session is None:
            return source.login.clear(self._login) + source.visit.clear(self._visit)
        if not self._has_record:
            return await self._drop_login() + await self._save_visit(data)
        if session is None and self._session is not None:
            # It ended while it was being answered: nothing of it is kept, or kept longer.
            return []
        if data is not None and self._login.key and not self._data_stay:
            await self._write(self._login.key, self._login_data, data, session, anonymous=False)
        return await self._keep_login(session)

    async def _keep_login(self, session: Session | None) -> list[bytes]:
        key, credential = self._login.key, self._login.credential
        if session is None or key is None or credential is None:
            return []
        carried = (self._login_entry, self._login_data)
        touched = await self._touch(key, *carried, session.expires_at)
        if touched and self._login.outdated and await self._is_there(key):
            max_age = session.expires_at - self._source.management.clock()
            return self._source.login.write(credential, self._login, max_age=max_age)
        return []

    async def _is_there(self, key: str) -> bool:
        """Tell whether a session is still there: it may have ended for a login in another tab.

        The cookie of that one must not be replaced by this one's, signed anew.
        """
        try:
            entry, _ = await self._source.records.fetch(key)
        except StoreUnavailable:
            return False
        return entry is not None

    async def _drop_login(self) -> list[bytes]:
        """Delete a cookie that leads nowhere. One that leads to what is not ours stays."""
        if self._foreign or not await self._leave(self._login):
            return []
        return self._source.login.clear(self._login)

    async def _save_visit(self, data: SessionData | None) -> list[bytes]:
        """Save what the app keeps for a visitor; he gets an id of ours, never one that he brought.

        Whoever keeps nothing needs none.
        """
        source, key, entry = self._source, self._visit.key, self._visit_data
        if key is None or entry is None:
            if data:
                return await self._begin_visit(data)
            return source.visit.clear(self._visit) if await self._leave(self._visit) else []
        if data is not None:
            if not data and await source.records.forget_data(key, version=entry.version):
                return source.visit.clear(self._visit)
            await self._write(key, entry, data, None, anonymous=True)
        credential = self._visit.credential
        touched = await self._touch(key, None, entry, None)
        if credential and touched and self._visit.outdated:
            return source.visit.write(credential, self._visit, max_age=self._longest)
        return []

    async def _begin_visit(self, data: SessionData) -> list[bytes]:
        credential = new_id()
        await self._write(session_key(credential), None, data, None, anonymous=True)
        await self._leave(self._visit)
        return self._source.visit.write(credential, self._visit, max_age=self._longest)

    async def _write(
        self,
        key: str,
        entry: Entry | None,
        data: SessionData,
        session: Session | None,
        *,
        anonymous: bool,
    ) -> None:
        try:
            await self._source.records.write_data(
                key,
                data.copy(),
                changed=data.changes(),
                version=entry.version if entry else None,
                expires_at=session.expires_at if session else None,
                anonymous=anonymous,
            )
        except StoreUnavailable as error:
            self._source.management.emit(StoreFailed(operation="write", error=str(error)))
            raise

    async def _touch(
        self, key: str, session: Entry | None, data: Entry | None, expires_at: float | None
    ) -> bool:
        """Once a minute begin the idle time anew; True if it is that time.

        That is often enough for what an old key sealed to be sealed with the newest, too.
        """
        source = self._source
        if source.was_seen(key, within=source.interval):
            return False
        source.see(key)
        try:
            await source.records.touch(key, expires_at=expires_at)
            await source.records.reseal(key, session, data, expires_at=expires_at)
        except StoreUnavailable as error:
            # What was not done is done by the next request, not a minute later.
            source.lose_sight(key)
            source.management.emit(StoreFailed(operation="touch", error=str(error)))
        return True

    async def _leave(self, carried: CarriedId) -> bool:
        """Tell whether the answer may delete this cookie, which leads to nothing of ours."""
        if carried.key is None:
            return carried.rejected is not None and carried.rejected not in LEFT_ALONE
        try:
            return await self._source.records.give_up(carried.key)
        except StoreUnavailable:
            return False

    @property
    def _longest(self) -> float:
        return self._source.management.settings.lifetimes.absolute

    def _check_fetched(self) -> None:
        if self._failure is not None:
            raise StoreUnavailable(str(self._failure), retry_after=self._failure.retry_after)
        if not self._is_fetched:
            raise SessionNotLoaded("the session was not loaded: await load_session(request)")
