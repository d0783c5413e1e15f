"""One attempt to refresh, from the lease to the last write.

The attempt runs in a task of its own (`single_flight`), so that a browser that goes
away neither stops the others nor loses a rotated refresh token. The order of the
steps is the point:

1. take the lease of the session; who does not get it watches the record instead
2. under the lease, read again: somebody may have refreshed meanwhile
3. call the token endpoint once, and never again where it may have been spent
4. compare-and-set before anything else happens
5. if the session ended or changed hands, revoke what the refresh brought
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Final, TypeAlias

from .. import events
from ..breaker import Breaker
from ..errors import (
    ConfigurationError,
    Conflict,
    InsufficientScope,
    ProviderError,
    StoreUnavailable,
    TokenExpired,
    TokenUnavailable,
)
from .lease import SessionLeases
from .models import LOGIN
from .outcome import Failed, Outcome, Renewed, ended, later, logged_out
from .session import Session
from .unsaved import UnsavedSessions
from .verdict import ALARM_PAUSE, Verdict, judge
from .waiting import Rooms, Turns

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..clock import Clock
    from ..events import EventSink
    from ..protocol.json import JSON
    from ..provider import OpenIDProvider
    from ..provider.grant import Grant
    from ..secret import Secret
    from .interfaces import Entry, SessionRecords, Store
    from .lease import HeldLease
    from .models import Target
    from .refresh_settings import RefreshSettings
    from .revocation import Revoker

PAUSE: Final = 1.0
"""Seconds between two attempts for one session, at least, after one that failed."""

SECOND_LOOK: Final = 2.0
"""Seconds to look out for what another process may have got for the same refresh token."""

_LONGEST_PAUSE: Final = 3600.0
_ASKED: Final = 60.0
"""Seconds for which it is known that a process began to spend a refresh token."""

KeepClaims: TypeAlias = Callable[[Mapping[str, "JSON"]], Mapping[str, "JSON"]]
"""Says which claims of an id_token a session keeps."""


class Refresher:
    """Spends refresh tokens, one at a time per session over all processes of a store."""

    def __init__(
        self,
        *,
        providers: Mapping[str, OpenIDProvider],
        store: Store,
        clock: Clock,
        settings: RefreshSettings,
        on_event: EventSink,
        keep_claims: KeepClaims,
        reference: Callable[[Session], str],
        revoker: Revoker,
        jitter: Callable[[], float],
    ) -> None:
        self._providers = providers
        self._store = store
        self._clock = clock
        self._settings = settings
        self._on_event = on_event
        self._keep_claims = keep_claims
        self._reference = reference
        self._jitter = jitter
        self._revoker = revoker
        self._breakers = {name: Breaker(clock=clock, jitter=jitter) for name in providers}
        self._rooms = Rooms(settings.concurrency)
        self._unsaved = UnsavedSessions(
            seconds=settings.save_retry, revoker=revoker, jitter=jitter, on_saved=self._tell_saved
        )
        self._leases = SessionLeases(store, settings, jitter=jitter)
        self._stopping: set[asyncio.AbstractEventLoop] = set()

    async def attempt(self, records: SessionRecords, session: Session, target: Target) -> Outcome:
        """Get a token for `target`, starting from a `session` that has none that will do."""
        try:
            return await self._attempt(records, session, target)
        except StoreUnavailable as error:
            retry_after, problem = error.retry_after, str(error)
        self._on_event(events.StoreFailed(operation="refresh", error=problem))
        return later("the session store is out of reach", retry_after=retry_after)

    async def give_back(self, records: SessionRecords, session: Session) -> Session | None:
        """Revoke the refresh token and forget it; return the session, or None if it ended.

        Where the store fails in between, what it must forget is kept in memory and offered
        to it again, as the result of a refresh is. If it takes it never, the session ends
        at its next refresh, which the provider refuses.

        Raises:
            ProviderError: the provider did not say that it is revoked; the session is as
                it was. If it is revoked all the same, the next refresh shows it.
            StoreUnavailable: nothing was done.
            TokenUnavailable: somebody else is still refreshing; nothing was done.
        """
        held = await self._leases.wait(session.id)
        if held is None:
            raise TokenUnavailable("somebody else is still refreshing", retry_after=PAUSE)
        keep = False
        try:
            latest = await records.reload(session)
            if latest is None or (refresh_token := latest.tokens.refresh_token) is None:
                return latest
            await self._providers[latest.provider].revoke(refresh_token)
            without = latest.with_tokens(replace(latest.tokens, refresh_token=None))
            try:
                return await records.replace(latest, without) or await records.reload(latest)
            except StoreUnavailable:
                keep = True
                self._unsaved.keep(records, latest, without, held)
                return without
        finally:
            self._leases.finish(session.id, held, keep=keep)

    @contextmanager
    def stopping(self) -> Iterator[None]:
        """Spend no refresh token on this event loop: its answer might come too late to be kept."""
        loop = asyncio.get_running_loop()
        self._stopping.add(loop)
        try:
            yield
        finally:
            self._stopping.discard(loop)

    async def drain(self, *, timeout: float) -> None:  # noqa: ASYNC109 - part of what is promised
        """Wait for what goes on behind the scenes, `timeout` seconds at most."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        await self._unsaved.drain(timeout=timeout)
        await self._leases.drain(timeout=max(deadline - loop.time(), 0.0))

    async def _attempt(self, records: SessionRecords, session: Session, target: Target) -> Outcome:
        turns = Turns(self._settings.wait, jitter=self._jitter)
        while await turns.again():
            if held := await self._leases.take(session.id):
                if outcome := await self._under_lease(records, session, target, held):
                    return outcome
                continue
            found = await self._look(records, session, target)
            if not isinstance(found, Session):
                return found
        return later("somebody else is still refreshing", retry_after=PAUSE)

    async def _under_lease(
        self, records: SessionRecords, session: Session, target: Target, held: HeldLease
    ) -> Outcome | None:
        """Refresh, unless somebody has; None if the lease was lost before anything was spent."""
        keep = False
        try:
            latest = await self._look(records, session, target)
            if not isinstance(latest, Session):
                return latest
            if (refresh_token := latest.tokens.refresh_token) is None:
                return Failed(TokenExpired)
            if failed := await self._may_not_ask(latest, target):
                return failed
            alone = await self._mark(_asked_key(latest), _ASKED)
            answer = await self._ask(latest, target, refresh_token, held)
            if answer is None or isinstance(answer, Failed):
                return answer
            if isinstance(answer, Verdict):
                return await self._refused(records, latest, target, answer, alone=alone)
            outcome, keep = await self._save(records, latest, target, answer, held)
            return outcome
        finally:
            self._leases.finish(session.id, held, keep=keep)

    async def _look(
        self, records: SessionRecords, session: Session, target: Target
    ) -> Outcome | Session:
        """Return the outcome if there is one by now; else the session that must be refreshed."""
        unsaved = self._unsaved.get(session)
        latest = unsaved or await records.reload(session)
        if latest is None:
            return logged_out()
        token = latest.tokens.token_for(target)
        unwanted = session.tokens.token_for(target)
        # Another version need not be news: a token for another target may have been renewed.
        if token and token != unwanted and token.is_fresh(self._clock(), margin=self._margin):
            return Renewed(latest, token)
        if unsaved:
            return later("the session is yet to be saved", retry_after=PAUSE)
        return latest

    async def _may_not_ask(self, session: Session, target: Target) -> Failed | None:
        if self._clock() >= session.expires_at:
            return ended("expired")
        paused, refused = await self._store.get_many(
            _pause_key(session), _refused_key(session, target)
        )
        if refused:
            return _insufficient(target)
        if paused:
            wait = _left(paused, now=self._clock())
            return later("the last refresh failed a moment ago", retry_after=wait)
        return None

    async def _ask(
        self, session: Session, target: Target, refresh_token: Secret, held: HeldLease
    ) -> Grant | Verdict | Failed | None:
        provider = self._providers[session.provider]
        async with self._rooms.enter(session.provider, patience=self._settings.wait) as entered:
            if not entered:
                return later("too many refreshes are under way", retry_after=PAUSE)
            # Late, since it may let a single caller through.
            if wait := self._breakers[session.provider].check():
                return later("the provider is out of reach", retry_after=wait)
            try:
                # What may take long comes before the last look at the lease.
                await provider.keys()
                if not await held.confirm():
                    return None
                if asyncio.get_running_loop() in self._stopping:
                    return later("the process is ending", retry_after=PAUSE)
                return await provider.refresh(
                    refresh_token,
                    claims=session.proof,
                    scope=" ".join(sorted(target.scope)) or None,
                    resource=target.resource,
                )
            except (ProviderError, ConfigurationError) as error:
                return judge(error)

    async def _refused(
        self,
        records: SessionRecords,
        session: Session,
        target: Target,
        verdict: Verdict,
        *,
        alone: bool,
    ) -> Outcome:
        failure = events.RefreshFailed(
            kind=verdict.kind, error=verdict.reason, session=self._reference(session)
        )
        self._on_event(failure)
        breaker = self._breakers[session.provider]
        if verdict.kind in ("refused", "login") and target != LOGIN:
            breaker.success()
            await self._mark(_refused_key(session, target), ALARM_PAUSE)
            return _insufficient(target)
        if verdict.kind in ("dead", "login"):
            breaker.success()
            if not alone and (found := await self._second_look(records, session, target)):
                return found
            return await self._dead(records, session, target, verdict.reason)
        if verdict.kind != "later":
            self._on_event(events.ProviderAlarm(provider=session.provider, error=verdict.reason))
        if verdict.shared:
            breaker.failure(verdict.retry_after)
        else:
            # It answered: nobody else has to wait.
            breaker.success()
        seconds = verdict.retry_after or PAUSE
        until = repr(self._clock() + seconds).encode()
        await self._mark(_pause_key(session), seconds, value=until)
        return later("the provider gave no token", retry_after=seconds)

    async def _second_look(
        self, records: SessionRecords, session: Session, target: Target
    ) -> Outcome | None:
        """Wait for what another process may be about to write; None if it wrote nothing.

        One that stood still for longer than its lease may have spent the refresh token,
        and have the answer that ours was refused for.
        """
        turns = Turns(SECOND_LOOK, jitter=self._jitter)
        while await turns.again():
            found = await self._look(records, session, target)
            if not isinstance(found, Session):
                return found
        return None

    async def _dead(
        self, records: SessionRecords, session: Session, target: Target, reason: str
    ) -> Outcome:
        if await records.drop(session):
            self._on_event(events.SessionEnded(reason=reason, session=self._reference(session)))
            return ended(reason)
        # Somebody spent the token before us: what he wrote is the truth.
        found = await self._look(records, session, target)
        return later("it was refreshed", retry_after=PAUSE) if isinstance(found, Session) else found

    async def _save(
        self,
        records: SessionRecords,
        session: Session,
        target: Target,
        grant: Grant,
        held: HeldLease,
    ) -> tuple[Outcome, bool]:
        """Write the result; True with it if the lease must be held on."""
        self._breakers[session.provider].success()
        new = self._renewed(session, target, grant)
        token = new.tokens.token_for(target) or new.tokens.access_token
        if self._clock() >= session.expires_at:
            self._revoker.begin(new)
            await records.drop(session)
            return ended("expired"), False
        try:
            stored = await records.replace(session, new)
        except Exception:  # noqa: BLE001 - whatever it is, the old token is spent
            self._unsaved.keep(records, session, new, held)
            return Renewed(new, token), True
        if stored is not None:
            self._tell_saved(stored)
            return Renewed(stored, token), False
        # The session ended, or was written by somebody else, while the provider answered.
        self._unsaved.discard(records, new)
        found = await self._look(records, session, target)
        if isinstance(found, Session):
            return later("the session changed meanwhile", retry_after=PAUSE), False
        return found, False

    def _renewed(self, session: Session, target: Target, grant: Grant) -> Session:
        provider = self._providers[session.provider]
        return session.renewed(
            grant,
            target,
            claims=self._keep_claims(grant.id_token.claims) if grant.id_token else {},
            expires_in=provider.default_expires_in,
            now=self._clock(),
        )

    def _tell_saved(self, session: Session) -> None:
        if session.tokens.refresh_token is None:
            # It was given back: nothing was refreshed.
            return
        self._on_event(events.Refreshed(session=self._reference(session)))

    async def _mark(self, key: str, seconds: float, *, value: bytes = b"") -> bool:
        """Leave a mark for some seconds; False if it is there already."""
        try:
            await self._store.put(key, value, ttl=seconds, version=None)
        except Conflict:
            return False
        return True

    @property
    def _margin(self) -> float:
        return self._settings.margin


def _pause_key(session: Session) -> str:
    return f"{session.id}:pause"


def _asked_key(session: Session) -> str:
    return f"{session.id}:asked-{session.version}"


def _left(paused: Entry, *, now: float) -> float:
    try:
        left = float(paused.value) - now
    except ValueError:
        return PAUSE
    return min(max(PAUSE, left), _LONGEST_PAUSE)


def _refused_key(session: Session, target: Target) -> str:
    canonical = json.dumps([target.resource, sorted(target.scope)])
    return f"{session.id}:refused-{sha256(canonical.encode()).hexdigest()}"


def _insufficient(target: Target) -> Failed:
    return Failed(partial(InsufficientScope, target.scope or frozenset(target.resource)))
