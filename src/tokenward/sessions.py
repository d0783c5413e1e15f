"""The sessions of an app, for administrators: who is logged in, and an end to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from .clock import aware
from .errors import ConfigurationError, StoreUnavailable
from .events import SessionEnded
from .single_flight import SingleFlight

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from .management import TokenManagement
    from .stores.sessions import StoredSessions
    from .tokens.session import Session, User


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """One session, without its tokens."""

    id: str = field(repr=False)
    """Names the session for `auth.sessions.end(id=...)`. It is of no use to log in with."""
    user: User
    provider: str
    """The name under which the app registered the provider."""
    created_at: datetime
    """When the user logged in."""
    renewed_at: datetime
    """When the tokens were last renewed."""
    expires_at: datetime
    """When the session ends at the latest."""


class Sessions:
    """Lists and ends sessions: `auth.sessions`. For sessions that rest in a store.

        for session in await auth.sessions.list(sub="alice"):
            print(session.user.name, session.created_at)
        await auth.sessions.end(sub="alice")

    Users are told apart by issuer and `sub`; where the app has providers of several
    issuers, `issuer` says whose `sub` is meant.
    """

    def __init__(self, management: TokenManagement) -> None:
        self._management = management
        self._flights: SingleFlight[bool] = SingleFlight()
        management.before_stop(self._flights.drain)

    async def list(self, *, sub: str, issuer: str | None = None) -> tuple[SessionInfo, ...]:
        """Return the sessions of a user, the newest login first.

        Raises:
            ConfigurationError: sessions are in cookies, which nobody can list.
            ValueError: there are several issuers, and none is named.
            StoreUnavailable: the store could not be asked.
        """
        keys = await self._stored.index.of_user(self._read_issuer(issuer), sub)
        found = await self._load(keys)
        newest_first = sorted(found, key=lambda session: session.created_at, reverse=True)
        return tuple(self._info(session) for session in newest_first)

    async def end(
        self,
        *,
        id: str | None = None,  # noqa: A002 - what `SessionInfo` calls it
        sub: str | None = None,
        sid: str | None = None,
        issuer: str | None = None,
    ) -> int:
        """End one session, all of a user, or all that belong to a `sid` of the provider.

        Exactly one of `id` (of `SessionInfo`), `sub` and `sid` says which. Refresh tokens go
        back to the provider, as at a logout; a refresh under way brings nothing back. The
        user's other sessions stay. Returns how many there were.

        Raises:
            ConfigurationError: sessions are in cookies, which nobody can end.
            ValueError: it is not clear which sessions are meant.
            StoreUnavailable: the store could not be asked; some may have ended.
        """
        if [id, sub, sid].count(None) != 2:
            raise ValueError("give exactly one of id, sub and sid")
        index, keys = self._stored.index, frozenset({id or ""})
        if sub is not None:
            keys = await index.of_user(self._read_issuer(issuer), sub)
        elif sid is not None:
            keys = await index.of_provider_session(self._read_issuer(issuer), sid)
        # In tasks of their own: whoever goes away leaves no session half ended.
        ended = [await self._flights.run(key, partial(self._end, key)) for key in sorted(keys)]
        return sum(ended)

    async def _end(self, key: str) -> bool:
        management, stored = self._management, self._stored
        known = await stored.look_up(key)
        if known is None:
            if await stored.forbid(key):
                return False
            # A login that was under way has just come to its end.
            known = await stored.look_up(key)
        if known is None:
            # It cannot be read here.
            await stored.end(key)
            return False
        if not management.accepts(known):
            # Of another app that has the same store and keys; or over by itself.
            return False
        try:
            session = await stored.end(key)
        except StoreUnavailable:
            # It may be gone by now; and if it is not, it does not live for long without.
            self._give_back(known)
            raise
        if session is None:
            return False
        self._give_back(session)
        reference = management.reference(session)
        management.emit(SessionEnded(session=reference, reason="administrator"))
        return True

    def _give_back(self, session: Session) -> None:
        if self._management.settings.revoke_at_logout:
            self._management.revoker.begin(session)

    async def _load(self, keys: Collection[str]) -> tuple[Session, ...]:
        accepts = self._management.accepts
        found = await self._stored.look_up_all(sorted(keys))
        return tuple(session for session in found if accepts(session))

    def _info(self, session: Session) -> SessionInfo:
        return SessionInfo(
            id=session.id,
            user=self._management.user_of(session),
            provider=session.provider,
            created_at=aware(session.created_at),
            renewed_at=aware(session.renewed_at),
            expires_at=aware(session.expires_at),
        )

    @property
    def _stored(self) -> StoredSessions:
        if not self._management.settings.server_side:
            raise ConfigurationError(
                "store", "sessions in cookies can be neither listed nor ended from outside"
            )
        return self._management.stored

    def _read_issuer(self, issuer: str | None) -> str:
        issuers = {provider.issuer for provider in self._management.providers.values()}
        if issuer is None and len(issuers) != 1:
            raise ValueError("there are several issuers: name the one whose user is meant")
        return issuer if issuer is not None else issuers.pop()
