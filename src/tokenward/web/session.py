"""The session of one request: read at first touch, written before the answer starts.

`ConnectionSession` is what the middleware puts into the scope. What the browser
carries, and where the session rests, is behind `SessionState`: a random id and a
record in a store (`web/stored_session.py`), or all of it in sealed cookies
(`web/cookie_session.py`).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from ..errors import SessionNotLoaded, StoreUnavailable
from ..tokens.models import LOGIN
from .session_data import SessionData

if TYPE_CHECKING:
    from ..management import TokenManagement
    from ..protocol.json import JSONObject
    from ..secret import Secret
    from ..tokens.exchange import Exchange
    from ..tokens.interfaces import SessionRecords
    from ..tokens.models import AccessToken, Target
    from ..tokens.session import Session, User
    from .cookies import Headers


def carries(headers: Headers, name: bytes) -> bool:
    """Tell quickly whether a cookie of this name may be there."""
    for key, value in headers:  # noqa: SIM110 - any() takes three times as long
        if key == b"cookie" and name in value:
            return True
    return False


def touch_interval(idle: float) -> float:
    """Return how many seconds may pass before the idle time is begun anew: a minute at most."""
    return min(60.0, idle / 10)


@dataclass(frozen=True, slots=True)
class NewSession:
    """A session that was just created, to be given to the browser."""

    session: Session
    credential: Secret
    """What the browser must hold to come back to it; empty where it holds all of it."""
    data: JSONObject = field(repr=False)
    """What the app's own data begin with."""


class SessionState(Protocol):
    """What one browser carries, and how it is read and written."""

    @property
    def left_alone(self) -> bool:
        """Whether what was read is no session here, and may be one for a newer process."""
        ...

    async def fetch(self) -> None:
        """Do the I/O that reading needs. That a store is out of reach is told by the readers."""
        ...

    async def forward(self, session: Session) -> Session | None:
        """Return the newest version of a session that was just read; None if it ended."""
        ...

    def read_session(self) -> Session | None:
        """Decrypt who is logged in; None if nobody is.

        Raises:
            SessionNotLoaded: `fetch` was not called.
            StoreUnavailable: the store could not be asked.
        """
        ...

    def read_data(self) -> JSONObject:
        """Decrypt the app's own data. Raises as `read_session`."""
        ...

    async def end(self, session: Session | None) -> Session | None:
        """End the session for good, and return its newest version, whose tokens go back."""
        ...

    def forget(self, session: Session | None) -> None:
        """Take `session` for ended in this process, where it could not be ended for all."""
        ...

    def install(self, new: NewSession) -> None:
        """Let the answer give `new` to the browser."""
        ...

    async def save(
        self, session: Session | None, data: SessionData | None, *, renewed: bool
    ) -> list[bytes]:
        """Write what changed, and return the Set-Cookie values for the answer.

        `session` is the one that this request goes on with, `renewed` whether it is
        another one than the request carried. `data` is None if they did not change.
        """
        ...


class SessionSource(Protocol):
    """Opens and creates the sessions of one app."""

    @property
    def management(self) -> TokenManagement:
        """The `TokenManagement` of the app."""
        ...

    @property
    def records(self) -> SessionRecords:
        """Where the sessions rest."""
        ...

    @property
    def travels(self) -> bool:
        """Whether the sessions travel in cookies, rather than resting in a store."""
        ...

    def is_carried(self, headers: Headers) -> bool:
        """Tell quickly whether a request has a cookie that may lead to a session."""
        ...

    def open(self, headers: Headers) -> SessionState:
        """Look at the cookies of a request. Does no I/O and decrypts nothing."""
        ...

    async def create(self, draft: Session, data: JSONObject, *, headers: Headers) -> NewSession:
        """Create a session with a new id; `draft.id` is replaced.

        `headers` are those of the browser that will hold it. Raises `SessionTooLarge` if
        it cannot.
        """
        ...


class ConnectionSession:
    """The session of one request or WebSocket, as the app, dependencies and calls see it.

    A `SessionHandle`. Costs next to nothing until it is touched.
    """

    __slots__ = (
        "_asked",
        "_headers",
        "_loop",
        "_read",
        "_renewed",
        "_session",
        "_source",
        "_state",
        "_user",
        "carried",
        "data",
        "open",
        "root_path",
    )

    def __init__(
        self, source: SessionSource, headers: Headers, *, writable: bool, root_path: str
    ) -> None:
        self._source = source
        self._headers = headers
        self._loop = asyncio.get_running_loop()
        self._state: SessionState | None = None
        self._session: Session | None = None
        self._user: User | None = None
        self._asked = False
        self._read = False
        self._renewed = False
        self.carried: bool = source.is_carried(headers)
        """Whether the request has a cookie that may lead to a session."""
        self.open: bool = writable
        """Whether cookies can still be sent; the middleware ends it when the answer starts."""
        self.root_path: str = root_path
        """Where the server or the framework says that the app is mounted.

        It is that of the middleware: sub-apps inside have another one in the same scope.
        """
        self.data: SessionData = SessionData(self._read_data if self.carried else None)
        """`request.session`."""
        if not writable:
            self.data.close()

    @property
    def management(self) -> TokenManagement:
        """See `BoundSession`."""
        return self._source.management

    @property
    def handle(self) -> ConnectionSession:
        """See `BoundSession`."""
        return self

    @property
    def touched(self) -> bool:
        """Whether anything of the session was asked for, so that the answer depends on it."""
        return self._asked or self.data.accessed

    @property
    def has_new_cookie(self) -> bool:
        """Whether the browser must get another cookie, or lose the session."""
        return self._renewed and self._source.travels

    @property
    def records(self) -> SessionRecords:
        """See `SessionHandle`."""
        return self._source.records

    @property
    def writable(self) -> bool:
        """See `SessionHandle`."""
        return self.open or not self._source.travels

    @property
    def session(self) -> Session | None:
        """Who is logged in, decrypted at first touch; None if nobody is.

        None as well from the moment that it is over, however long the connection lasts.

        Raises:
            SessionNotLoaded: it was not preloaded; `await load_session(request)` first.
            StoreUnavailable: the store could not be asked.
        """
        self._asked = True
        if not self._read:
            self._session = self._opened.read_session() if self.carried else None
            self._read = True
        session = self._session
        if session is not None and self.management.clock() >= session.expires_at:
            return None
        return session

    @property
    def left_alone(self) -> bool:
        """Whether the browser has what is no session here, and may be one for a newer process."""
        return self.session is None and self.carried and self._opened.left_alone

    @property
    def user(self) -> User | None:
        """The user who is logged in; None if nobody is. Raises as `session`."""
        session = self.session
        if session is None:
            return None
        if self._user is None:
            self._user = self.management.user_of(session)
        return self._user

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """See `RequestSession`."""
        return self._loop

    async def token(
        self, *, target: Target = LOGIN, rejected: AccessToken | None = None
    ) -> AccessToken:
        """See `RequestSession`."""
        return await self.management.user_tokens.token(self, target=target, rejected=rejected)

    async def exchanged(
        self, exchange: Exchange, *, rejected: AccessToken | None = None
    ) -> AccessToken:
        """See `RequestSession`."""
        return await self.management.exchanged_tokens.token(self, exchange, rejected=rejected)

    async def fetch(self) -> None:
        """Do the I/O that `session`, `user` and `data` need."""
        if self.carried:
            await self._opened.fetch()

    async def load(self) -> Session | None:
        """See `SessionHandle`."""
        if self._read:
            return self.session
        await self.fetch()
        session = self.session
        if session and (newest := await self._opened.forward(session)) is not session:
            self.adopt(newest)
            return self.session
        return session

    def adopt(self, session: Session | None) -> None:
        """See `SessionHandle`."""
        # A cookie that only names a record may stay when the record is gone: it leads nowhere,
        # and a late answer must not delete the one of a new login.
        matters = session is not None or self._source.travels
        self._renewed = self._renewed or (matters and session is not self._session)
        self._session, self._asked, self._read, self._user = session, True, True, None

    def forget(self) -> None:
        """Let the browser forget the session, though it could not be ended."""
        self._opened.forget(self._session)
        self._renewed = True
        self.adopt(None)
        self.data.replace({})

    async def log_in(self, new: NewSession) -> Session | None:
        """Go on with a new session; return the one that it takes the place of."""
        old = await self._opened.end(await self.load())
        self._opened.install(new)
        self.adopt(new.session)
        self.data.replace(new.data)
        return old

    async def log_out(self) -> Session | None:
        """End the session; return its newest version, whose tokens are to be given back."""
        old = await self._opened.end(await self.load())
        self._renewed = True
        self.adopt(None)
        self.data.replace({})
        return old

    async def save(self, *, failing: bool = False) -> list[bytes]:
        """Write what changed, and return the Set-Cookie values that the answer must carry.

        An answer that tells of a failure is no sign of life: with `failing` the idle time
        is not begun anew.

        Raises:
            StoreUnavailable: the store could not be written; the answer must not be sent.
            SessionTooLarge: the cookies cannot hold it.
            SessionError: `request.session` holds what cannot be kept.
        """
        if not self.touched:
            return []
        try:
            session = self.session
        except (StoreUnavailable, SessionNotLoaded):
            # It could not be read, so nothing of it changed; and the app answers all the same.
            return []
        changed = self.data if self.data.modified else None
        if failing and session and not self._renewed and changed is None:
            return []
        lines = await self._opened.save(session, changed, renewed=self._renewed)
        if changed is not None:
            changed.mark_saved()
        return lines

    def discard_data(self) -> None:
        """Forget what the app did to `request.session` before it failed."""
        self.data.discard()

    def close(self) -> None:
        """Take no more changes: the answer begins."""
        self.open = False
        self.data.close()

    def _read_data(self) -> JSONObject:
        return self._opened.read_data()

    @property
    def _opened(self) -> SessionState:
        if self._state is None:
            self._state = self._source.open(self._headers)
        return self._state
