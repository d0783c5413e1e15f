"""The session of a user outside of his requests: for jobs, WebSockets and other processes."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from ..errors import NotAuthenticated
from ..sealing import Unsealable
from ..tokens.models import LOGIN
from ..tokens.session_format import InvalidSession

if TYPE_CHECKING:
    from ..sealing import KeyRing
    from ..tokens.interfaces import SessionRecords
    from ..tokens.models import AccessToken, Target
    from ..tokens.session import Session
    from ..tokens.user import UserTokens
    from .sessions import StoredSessions

_PURPOSE: Final = "user-handle"
_MAX_LENGTH: Final = 512
"""Characters. A handle has some 160."""


class Accepts(Protocol):
    """Tells whether a session that was read is of this app, and not over."""

    def __call__(self, session: Session, /) -> bool:
        """Tell it."""
        ...


def seal_handle(session: Session, ring: KeyRing) -> str:
    """Name a session, for those alone who have the secret key and the store."""
    return _encode(ring.seal(session.id.encode(), purpose=_PURPOSE, record=""))


def open_handle(handle: str, ring: KeyRing) -> str:
    """Return the key of the session that `seal_handle` named.

    Raises:
        NotAuthenticated: it is no handle, or sealed with a key that is gone.
    """
    try:
        padded = handle[:_MAX_LENGTH].encode("ascii") + b"=" * (-len(handle) % 4)
        sealed = base64.b64decode(padded, altchars=b"-_", validate=True)
        # Other last letters would stand for the same bytes.
        if _encode(sealed) == handle:
            return ring.open(sealed, purpose=_PURPOSE, record="").plaintext.decode("ascii")
    except (Unsealable, ValueError, binascii.Error):
        pass
    raise NotAuthenticated("this is no handle of a user's session")


def _encode(sealed: bytes) -> str:
    return base64.urlsafe_b64encode(sealed).decode().rstrip("=")


@dataclass(frozen=True, slots=True)
class UserSource:
    """The tokens of one user's login, for as long as it lasts. A `TokenSource`.

    The session is read anew each time, so that a logout is noticed at once.
    """

    key: str = field(repr=False)
    records: StoredSessions = field(repr=False)
    users: UserTokens = field(repr=False)
    accepts: Accepts = field(repr=False)
    target: Target = LOGIN

    async def token(self, *, rejected: AccessToken | None = None) -> AccessToken:
        """Return a valid token of the user. Raises what `UserTokens.token` raises."""
        handle = StoredHandle(self.key, self.records, self.accepts)
        return await self.users.token(handle, target=self.target, rejected=rejected)


class StoredHandle:
    """One look at a stored session, without a browser. A `SessionHandle`."""

    __slots__ = ("_accepts", "_key", "_loaded", "_records", "_session")

    def __init__(self, key: str, records: StoredSessions, accepts: Accepts) -> None:
        self._key = key
        self._records = records
        self._accepts = accepts
        self._loaded = False
        self._session: Session | None = None

    @property
    def records(self) -> SessionRecords:
        """See `SessionHandle`."""
        return self._records

    @property
    def writable(self) -> bool:
        """See `SessionHandle`. A store is there to be written at any time."""
        return True

    async def load(self) -> Session | None:
        """See `SessionHandle`."""
        if not self._loaded:
            self._session = await self._read()
            self._loaded = True
        return self._session

    def adopt(self, session: Session | None) -> None:
        """See `SessionHandle`. There is no browser that has to be told."""
        self._session, self._loaded = session, True

    async def _read(self) -> Session | None:
        entry, _ = await self._records.fetch(self._key)
        if entry is None:
            return None
        try:
            session = self._records.open_session(self._key, entry)
        except (Unsealable, InvalidSession):
            return None
        return session if session is not None and self._accepts(session) else None
