"""Tokens that a user's token is exchanged for, to call on (RFC 8693)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from ..breaker import Breaker
from ..errors import Conflict, NotAuthenticated, ProtocolError, ProviderError, StoreError
from ..protocol.grants import TokenExchange
from ..sealing import Unsealable
from ..secret import Secret
from ..single_flight import SingleFlight
from .budget import RenewalBudget
from .client_cache import TokenMemory
from .models import AccessToken, TokenSet
from .session_format import read_access_token, write_access_token
from .token_client import Outcome, Pauses, Refusal, later
from .verdict import judge

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ..clock import Clock
    from ..provider import OpenIDProvider
    from ..sealing import KeyRing
    from .interfaces import Entry, SessionHandle, Store
    from .session import Session
    from .user import UserTokens

EXCHANGED: Final = "exchanged"
"""The part of a session's record that holds what its token was exchanged for."""

_ACCESS_TOKEN: Final = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105 - a kind
_MAX_PER_SESSION: Final = 8
_MAX_IN_PROCESS: Final = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """What a user's token is exchanged for (RFC 8693, section 2.1).

    auth.http.add("ledger", base_url=..., token=Exchange(audience="ledger-api"))
    """

    audience: str | Sequence[str] = ()
    """Names of the services that the new token is for."""
    resource: str | Sequence[str] = ()
    """Their addresses (RFC 8707)."""
    scope: str | None = None
    """Names separated by a space. None: what the provider gives."""

    def __post_init__(self) -> None:
        for name in ("audience", "resource"):
            given = getattr(self, name)
            listed = (given,) if isinstance(given, str) else given
            object.__setattr__(self, name, tuple(sorted({*listed})))
        if self.scope is not None:
            object.__setattr__(self, "scope", " ".join(sorted({*self.scope.split()})))

    def grant(self, subject: AccessToken) -> TokenExchange:
        """Return the request for it."""
        return TokenExchange(
            Secret(subject.value),
            subject_token_type=_ACCESS_TOKEN,
            requested_token_type=_ACCESS_TOKEN,
            audience=tuple(self.audience),
            resource=tuple(self.resource),
            scope=self.scope,
        )

    def digest(self) -> str:
        """Name it within a session's record."""
        canonical = json.dumps([self.audience, self.resource, self.scope])
        return sha256(canonical.encode()).hexdigest()


class ExchangedTokens:
    """Exchanges users' tokens, and keeps what comes with the session, and no longer.

    One object serves all users. What it holds is found by the session alone, which is
    asked for first.
    """

    def __init__(
        self,
        *,
        users: UserTokens,
        providers: Mapping[str, OpenIDProvider],
        store: Store,
        ring: KeyRing,
        clock: Clock,
        margin: float,
        jitter: Callable[[], float],
    ) -> None:
        self._users = users
        self._providers = providers
        self._store = store
        self._ring = ring
        self._clock = clock
        self._memory = TokenMemory(clock=clock, margin=margin, jitter=jitter, size=_MAX_IN_PROCESS)
        self._budget = RenewalBudget(clock=clock)
        self._pauses = Pauses(clock)
        self._breakers = {name: Breaker(clock=clock, jitter=jitter) for name in providers}
        self._flights: SingleFlight[Outcome] = SingleFlight()

    async def token(
        self, handle: SessionHandle, exchange: Exchange, *, rejected: AccessToken | None = None
    ) -> AccessToken:
        """Return a valid token that the token of the session's user was exchanged for.

        `rejected` is one that an API refused: another one is returned, or the same if it
        was renewed a moment ago.

        Raises:
            AccessError: the user's own token cannot be had, or no other one for it.
            ProtocolError: the provider refuses the exchange.
        """
        await self._users.tokens(handle)
        session = await handle.load()
        if session is None:
            raise NotAuthenticated
        key = (session.id, exchange)
        token = self._memory.fresh(key)
        if token and (rejected is None or token.value != rejected.value):
            return token
        if rejected and not self._budget.allows(key, rejected):
            return rejected
        subject = await self._users.token(handle)
        attempt = partial(self._attempt, session, subject, exchange, rejected)
        outcome = await self._flights.run(key, attempt)
        return self._settle(outcome, self._memory.newest(key), rejected)

    async def drain(self, *, timeout: float) -> None:  # noqa: ASYNC109 - part of what is promised
        """Wait for exchanges under way, `timeout` seconds at most."""
        await self._flights.drain(timeout)

    def _settle(
        self, outcome: Outcome, spare: AccessToken | None, rejected: AccessToken | None
    ) -> AccessToken:
        if isinstance(outcome, AccessToken):
            return outcome
        unwanted = spare is None or (rejected is not None and spare.value == rejected.value)
        if spare is not None and not unwanted and spare.is_valid(self._clock()):
            return spare
        raise outcome.error()

    async def _attempt(
        self,
        session: Session,
        subject: AccessToken,
        exchange: Exchange,
        rejected: AccessToken | None,
    ) -> Outcome:
        key = (session.id, exchange)
        entry = await self._read(session)
        token = self._opened(session, entry).get(exchange.digest())
        if token and (rejected is None or token.value != rejected.value):
            self._memory.keep(key, token)
            if fresh := self._memory.fresh(key):
                return fresh
        outcome = await self._ask(session, subject, exchange)
        if isinstance(outcome, AccessToken):
            self._memory.keep(key, outcome)
            await self._write(session, exchange, outcome, entry)
        return outcome

    async def _ask(self, session: Session, subject: AccessToken, exchange: Exchange) -> Outcome:
        key = (session.id, exchange)
        if refusal := self._pauses.of(key):
            return refusal
        breaker = self._breakers[session.provider]
        if wait := breaker.check():
            return later("the provider is out of reach", wait)
        provider = self._providers[session.provider]
        try:
            grant = await provider.request_token(exchange.grant(subject))
        except ProtocolError as error:
            breaker.success()
            refusal = Refusal(partial(ProtocolError, error.response))
            self._pauses.begin(key, refusal)
            return refusal
        except ProviderError as error:
            verdict = judge(error)
            breaker.failure(verdict.retry_after)
            return later(str(error), verdict.retry_after)
        breaker.success()
        return TokenSet.from_grant(
            grant,
            requested_scope=exchange.scope or " ".join(subject.scope),
            expires_in=provider.default_expires_in,
        ).access_token

    # A store that is out of reach costs an exchange, and stops none.

    async def _read(self, session: Session) -> Entry | None:
        try:
            return await self._store.get(_record(session))
        except StoreError:
            return None

    async def _write(
        self, session: Session, exchange: Exchange, token: AccessToken, entry: Entry | None
    ) -> None:
        kept = self._opened(session, entry)
        kept.pop(exchange.digest(), None)
        tokens = [*kept.items(), (exchange.digest(), token)][-_MAX_PER_SESSION:]
        now = self._clock()
        longest = max(each.expires_at.timestamp() for _, each in tokens)
        ttl = min(longest, session.expires_at) - now
        if ttl <= 0:
            return
        written = json.dumps([[name, write_access_token(each)] for name, each in tokens])
        record = _record(session)
        sealed = self._ring.seal(written.encode(), purpose=EXCHANGED, record=record)
        try:
            version = entry.version if entry else None
            await self._store.put(record, sealed, ttl=ttl, version=version)
        except (Conflict, StoreError):
            # Somebody else wrote, or the session ended: then nothing may be left of it.
            return

    def _opened(self, session: Session, entry: Entry | None) -> dict[str, AccessToken]:
        if entry is None:
            return {}
        try:
            opened = self._ring.open(entry.value, purpose=EXCHANGED, record=_record(session))
            return {name: read_access_token(told) for name, told in json.loads(opened.plaintext)}
        except (Unsealable, LookupError, TypeError, ValueError):
            return {}


def _record(session: Session) -> str:
    return f"{session.id}:{EXCHANGED}"
