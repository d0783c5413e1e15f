"""A provider that does as it is told, a store that fails on command, and apps over both."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from typing import TYPE_CHECKING, Any

from tokenward.clock import aware
from tokenward.errors import ProtocolError, ProviderUnavailable, StoreUnavailable
from tokenward.protocol.responses import TokenResponse
from tokenward.protocol.token_answer import TokenAnswer
from tokenward.provider.grant import Grant
from tokenward.sealing import KeyRing
from tokenward.secret import Secret
from tokenward.stores.memory import MemoryStore
from tokenward.stores.sessions import StoredSessions
from tokenward.tokens.models import AccessToken, TokenSet
from tokenward.tokens.refresh import Refresher
from tokenward.tokens.refresh_settings import RefreshSettings
from tokenward.tokens.revocation import Revoker
from tokenward.tokens.session import Session
from tokenward.tokens.stragglers import Stragglers
from tokenward.tokens.user import UserTokens
from tokenward.web.cookie_records import CookieRecords, EndedSessions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tokenward.clock import Clock
    from tokenward.events import Event
    from tokenward.protocol.json import JSON
    from tokenward.tokens.interfaces import SessionRecords, Store

Act = Callable[[], Grant]
Step = Callable[[Act], Awaitable[Grant]]

RING = KeyRing("Yz8LmQ2v-scripted-K4tRw7NfJb0PqXc9Ud1Es6Ga3Hi5")
HOUR = 3600.0


@dataclass(frozen=True)
class Call:
    """One refresh request as it came in."""

    sub: str
    scope: str | None
    resource: tuple[str, ...]


@dataclass
class Family:
    """The refresh tokens of one login."""

    sub: str
    current: str
    scope: frozenset[str]
    redeemed: int = 0
    dead: str = ""
    rotated: dict[str, float] = field(default_factory=dict)
    """When each refresh token was exchanged for the next."""
    revoked: set[str] = field(default_factory=set)


def refusal(error: str, *, status: int = 400) -> ProtocolError:
    return ProtocolError(TokenResponse.parse(status, {}, json.dumps({"error": error}).encode()))


def lost(*, sent: bool = True) -> ProviderUnavailable:
    return ProviderUnavailable("no answer came", may_have_been_sent=sent)


class ScriptedProvider:
    """Rotates refresh tokens, kills the family of one that comes twice, and counts.

    `script` is what the next requests meet: each step gets the function that redeems
    the token, and calls it, or not, when it likes. For `overlap` seconds a refresh token
    that was rotated away still brings another one, as many providers allow.
    """

    issuer = "https://op.test"
    client_id = "app"
    default_expires_in = 300.0

    def __init__(self, clock: Clock, *, rotates: bool = True, overlap: float = 0.0) -> None:
        self.clock = clock
        self.rotates = rotates
        self.overlap = overlap
        self.detects_reuse = True
        """Whether a spent refresh token that comes again ends all of its family."""
        self.lifetime: float | None = HOUR
        self.scope: frozenset[str] | None = None
        self.calls: list[Call] = []
        self.script: deque[Step] = deque()
        self.otherwise: Step | None = None
        """What requests meet when the script is over; None: they succeed at once."""
        self.revoked: list[str] = []
        self.revocation_failures: deque[Exception] = deque()
        self.on_revoked: Callable[[], object] = lambda: None
        self.keys_asked = asyncio.Event()
        self.keys_come: asyncio.Event | None = None
        self.at_once = 0
        self.most_at_once = 0
        self.families: dict[str, Family] = {}
        self._numbers = count(1)

    def log_in(self, sub: str, *, scope: str = "openid api read write") -> TokenSet:
        number = next(self._numbers)
        granted = frozenset(scope.split())
        refresh_token = f"rt-{number}-of-{sub}-0123456789"
        self.families[refresh_token] = Family(sub, refresh_token, granted)
        access = AccessToken(
            value=f"at-{number}-of-{sub}-0123456789",
            expires_at=aware(self.clock() + HOUR),
            scope=granted,
            lifetime=HOUR,
        )
        return TokenSet(access, Secret(refresh_token), Secret(f"idt-{number}-of-{sub}"))

    async def keys(self) -> None:
        await asyncio.sleep(0)
        if self.keys_come is not None:
            self.keys_asked.set()
            await self.keys_come.wait()

    async def refresh(
        self,
        refresh_token: Secret,
        *,
        claims: dict[str, JSON],
        scope: str | None = None,
        resource: tuple[str, ...] = (),
    ) -> Grant:
        requested_at = self.clock()
        family = self.families[refresh_token.reveal()]
        assert claims["sub"] == family.sub
        self.calls.append(Call(family.sub, scope, resource))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)

        def act() -> Grant:
            return self._redeem(refresh_token.reveal(), scope, requested_at)

        try:
            if step := self.script.popleft() if self.script else self.otherwise:
                return await step(act)
            await asyncio.sleep(0)
            return act()
        finally:
            self.at_once -= 1

    async def revoke(self, token: Secret, *, token_type_hint: str = "refresh_token") -> None:
        assert token_type_hint == "refresh_token"
        await asyncio.sleep(0)
        if self.revocation_failures:
            raise self.revocation_failures.popleft()
        self.revoked.append(token.reveal())
        self.end_grant(token.reveal())
        self.on_revoked()

    def end_grant(self, value: str) -> None:
        """End all that a refresh token is good for, as most providers do."""
        family = self.families[value]
        family.dead = family.dead or "revoked"
        family.revoked.add(value)

    def takes(self, family: Family, value: str) -> bool:
        """Tell whether a refresh token is good for another one now."""
        since = family.rotated.get(value)
        return since is None or self.clock() - since < self.overlap

    def on_redeemed(self, family: Family, value: str) -> None:
        """Notice that a refresh token was spent."""

    def on_reuse(self, family: Family, value: str) -> None:
        """Notice that one came again that was spent."""

    def end_grants(self) -> None:
        for family in self.families.values():
            family.dead = "ended"

    def _redeem(self, value: str, scope: str | None, requested_at: float) -> Grant:
        family = self.families[value]
        is_reuse = not family.dead and not self.takes(family, value)
        if is_reuse:
            family.dead = "reuse" if self.detects_reuse else ""
            self.on_reuse(family, value)
        if family.dead or is_reuse:
            raise refusal("invalid_grant")
        family.redeemed += 1
        number = next(self._numbers)
        if self.rotates:
            family.rotated[value] = self.clock()
            family.current = f"rt-{number}-of-{family.sub}-0123456789"
            self.families[family.current] = family
        self.on_redeemed(family, value)
        granted = frozenset(scope.split()) if scope else family.scope
        answer = TokenAnswer(
            access_token=Secret(f"at-{number}-of-{family.sub}-0123456789"),
            token_type="Bearer",
            expires_in=self.lifetime,
            refresh_token=Secret(family.current),
            id_token=None,
            scope=granted if self.scope is None else self.scope,
        )
        return Grant(answer, None, requested_at)


class Held:
    """A step that waits, before or after the token is spent, until it is let go on."""

    def __init__(self, *, after_acting: bool = False, then: Exception | None = None) -> None:
        self.entered = asyncio.Event()
        self.go_on = asyncio.Event()
        self._after_acting = after_acting
        self._then = then

    async def __call__(self, act: Act) -> Grant:
        grant = act() if self._after_acting else None
        self.entered.set()
        await self.go_on.wait()
        if self._then is not None:
            raise self._then
        return grant or act()


def refuse(error: Exception) -> Step:
    async def step(act: Act) -> Grant:
        del act
        await asyncio.sleep(0)
        raise error

    return step


def lose_answer(act: Act) -> Awaitable[Grant]:
    async def step() -> Grant:
        act()
        raise lost()

    return step()


def alter(**members: Any) -> Step:
    async def step(act: Act) -> Grant:
        grant = act()
        return replace(grant, answer=replace(grant.answer, **members))

    return step


class FlakyStore:
    """A store that is out of reach when a test says so.

    For some or all operations; `save` is every `put` but the mark before a refresh, as
    if the store had gone while the provider was asked.
    """

    def __init__(self, inner: Store) -> None:
        self.inner = inner
        self.down: frozenset[str] = frozenset()
        self.calls: list[tuple[str, str]] = []
        self.before: Callable[[str, str], Awaitable[None]] | None = None

    def __getattr__(self, name: str) -> Any:
        operation = getattr(self.inner, name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            key = getattr(args[0], "key", args[0]) if args else ""
            self.calls.append((name, key))
            if self.before is not None:
                await self.before(name, key)
            # There and back again: others run before and after it happens.
            await asyncio.sleep(0)
            saving = name == "put" and ":asked-" not in key
            if name in self.down or "all" in self.down or (saving and "save" in self.down):
                raise StoreUnavailable("the store is out of reach", retry_after=3.0)
            try:
                return await operation(*args, **kwargs)
            finally:
                await asyncio.sleep(0)

        return call

    @contextmanager
    def outage(self, *operations: str) -> Iterator[None]:
        self.down = frozenset(operations or ("all",))
        try:
            yield
        finally:
            self.down = frozenset()


class Handle:
    """The session of one request."""

    def __init__(
        self, records: SessionRecords, session: Session | None, *, writable: bool = True
    ) -> None:
        self.records = records
        self.writable = writable
        self.session = session
        self.forgotten = False
        self.failure: StoreUnavailable | None = None

    async def load(self) -> Session | None:
        if self.failure:
            raise self.failure
        return self.session

    def adopt(self, session: Session | None) -> None:
        self.session = session
        self.forgotten = session is None


@dataclass
class Process:
    """What one process has of its own, over a store that others share."""

    users: UserTokens
    refresher: Refresher
    revoker: Revoker
    records: SessionRecords
    stored: StoredSessions
    cookies: CookieRecords
    store: FlakyStore
    provider: ScriptedProvider
    events: list[Event] = field(default_factory=list)

    async def token(self, session: Session, **options: Any) -> AccessToken:
        return await self.users.token(Handle(self.records, session), **options)

    async def newest(self, session: Session) -> Session:
        newest = await self.records.reload(session)
        assert newest is not None
        return newest

    def told(self, kind: type) -> list[Any]:
        return [event for event in self.events if type(event) is kind]

    async def drain(self) -> None:
        await self.users.drain(timeout=120.0)
        await self.revoker.drain(timeout=120.0)


class World:
    """One provider, one store, and as many processes as a test wants."""

    def __init__(
        self, kind: str, clock: Clock, *, provider: ScriptedProvider | None = None
    ) -> None:
        self.kind = kind
        self.clock = clock
        self.memory = MemoryStore(clock)
        self.provider = provider or ScriptedProvider(clock)
        self.providers: dict[str, ScriptedProvider] = {"default": self.provider}
        self._numbers = count(1)

    def process(self, *, renews: bool = True, **settings: Any) -> Process:
        """Start a process; one that does not renew its leases is as good as standing still."""
        store = FlakyStore(self.memory)
        store.down = frozenset() if renews else frozenset({"renew"})
        return self.process_over(store, **settings)

    def process_over(
        self, store: Any, *, jitter: Callable[[], float] = lambda: 0.5, **settings: Any
    ) -> Process:
        """Start a process that reaches the store in its own way."""
        options = RefreshSettings(**settings)
        events: list[Event] = []
        revoker = Revoker(
            providers=self.providers,  # type: ignore[arg-type]
            on_event=events.append,
            jitter=jitter,
        )
        refresher = Refresher(
            providers=self.providers,  # type: ignore[arg-type]
            store=store,
            clock=self.clock,
            settings=options,
            on_event=events.append,
            keep_claims=dict,
            reference=lambda session: session.id[:4],
            revoker=revoker,
            jitter=jitter,
        )
        users = UserTokens(
            providers=self.providers,  # type: ignore[arg-type]
            refresher=refresher,
            settings=options,
            clock=self.clock,
        )
        stored = StoredSessions(store, RING, clock=self.clock, idle=8 * HOUR)
        cookies = CookieRecords(Stragglers(store), clock=self.clock, remember=EndedSessions())
        records: SessionRecords = stored if self.kind == "stored" else cookies
        return Process(
            users, refresher, revoker, records, stored, cookies, store, self.provider, events
        )

    async def log_in(self, sub: str = "alice", *, lasts: float = 7 * 24 * HOUR) -> Session:
        now = self.clock()
        session = Session(
            id=f"{next(self._numbers):04d}-session-of-{sub}",
            provider="default",
            issuer=ScriptedProvider.issuer,
            client_id=ScriptedProvider.client_id,
            claims={"sub": sub},
            proof={"sub": sub},
            tokens=self.provider.log_in(sub),
            created_at=now,
            expires_at=now + lasts,
            renewed_at=now,
            version=1,
        )
        if self.kind == "cookie":
            return session
        return await StoredSessions(self.memory, RING, clock=self.clock, idle=8 * HOUR).create(
            session
        )

    async def log_out(self, process: Process, session: Session) -> None:
        """End the session as the web layer does: the record first, the tokens after."""
        if self.kind == "stored":
            last = await process.stored.end(session.id)
        else:
            await process.cookies.end(session)
            last = await process.cookies.newest(session)
        if last is not None:
            process.revoker.begin(last)
