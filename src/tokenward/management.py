"""`TokenManagement`: the parts put together. It holds nothing of any user."""

from __future__ import annotations

import asyncio
import hmac
import random
import secrets
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Final, Literal

from .events import Event, EventSink, log_event
from .http_clients import HTTPClients
from .request_tokens import RequestTokens
from .sealing import KeyRing
from .secret import Secret
from .sessions import Sessions
from .setting_kinds import check_callable, read_kind
from .settings import (
    DEFAULT_CLAIMS,
    AppSettings,
    Lifetimes,
    read_hook,
    read_keys,
    read_names,
    read_origins,
    read_page,
    read_path,
    read_preload,
    read_providers,
    read_public_urls,
    read_sessions,
    read_store,
)
from .stores.memory import MemoryStore
from .stores.sessions import StoredSessions
from .tokens.client_credentials import ClientCredentialsTokens
from .tokens.exchange import ExchangedTokens
from .tokens.interfaces import TakesClock
from .tokens.refresh import Refresher
from .tokens.refresh_settings import RefreshSettings
from .tokens.revocation import Revoker
from .tokens.session import User
from .tokens.stragglers import Stragglers
from .tokens.user import UserTokens

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence

    from .clock import Clock
    from .protocol.json import JSON
    from .provider import OpenIDProvider
    from .settings import OnLogin, Scope
    from .tokens.interfaces import Store
    from .tokens.session import Session

DRAIN: Final = 10.0
"""Seconds that a shutdown waits for refreshes under way."""

_LIFETIMES: Final = Lifetimes()
_REFRESH: Final = RefreshSettings()


class TokenManagement:
    """Logs users in, keeps their tokens fresh, and gives everything back at logout.

        auth = TokenManagement(
            provider=OpenIDProvider("https://op.example", client_id="app", client_secret=...),
            public_url="https://shop.example",
            secret_key=os.environ["SECRET_KEY"],
            store=SQLiteStore("sessions.db"),
        )
        app.add_middleware(TokenManagementMiddleware, auth=auth)

    Args:
        provider: The OpenID Provider. Either this or `providers`.
        providers: Several of them by name; `/auth/login?provider=name` chooses, the
            first is the default. The name is in the session from the start.
        public_url: The origin under which browsers know the app, perhaps with the
            path where it is mounted; or several. It alone decides the callback's
            address and the cookies; the Host header never does.
        secret_key: At least 32 random characters (`python -m tokenward secret`), or a
            list, newest first: the first seals, all of them open.
        store: Where sessions rest. None: in cookies, which is allowed without
            `offline_access` only, unless `sessions="cookie"` says that it is meant.
        sessions: `"cookie"` keeps sessions in cookies also beside a store, which then
            only coordinates; or without one, in one process.
        prefix: The path below which the login routes live.
        landing: Where a browser goes after a login that named no `return_to`.
        after_logout: Where it goes after a logout that named none.
        allowed_return_origins: Other sites where `return_to` may lead, such as
            `https://spa.example`: exact origins. The app's own pages always may.
        on_login: Called with the user and the tokens before there is a session.
            Raise `LoginFailed` to refuse; return what `request.session` begins with.
        claims: The claims of the id_token that are kept.
        name_claim: The claim that is the user's name.
        role_claim: The claim, a string or a list, that is the user's roles.
        carry_over: Keys of an anonymous `request.session` that survive the login.
        lifetimes: Idle and absolute lifetime of a session.
        refresh: How patient a refresh is.
        revoke_at_logout: Whether the refresh token goes back to the provider at logout.
        preload: Whether the store is asked before the app runs when there is a cookie:
            for a server-side session, or whether one in a cookie has ended; or a
            predicate on the ASGI scope.
        clock: The time; the first provider's unless given.
        on_event: Takes every event; logs them unless given.
        dangerously_allow_http: Allows a plain http `public_url` on loopback: the
            cookies lose Secure and the `__Host-` prefix. For demos.

    Raises:
        ConfigurationError: a setting is unsafe or incomplete.
    """

    def __init__(
        self,
        *,
        provider: OpenIDProvider | None = None,
        providers: Mapping[str, OpenIDProvider] | None = None,
        public_url: str | Sequence[str],
        secret_key: str | Sequence[str],
        store: Store | None = None,
        sessions: Literal["cookie"] | None = None,
        prefix: str = "/auth",
        landing: str = "/",
        after_logout: str = "/",
        allowed_return_origins: Collection[str] = (),
        on_login: OnLogin | None = None,
        claims: Collection[str] = DEFAULT_CLAIMS,
        name_claim: str = "name",
        role_claim: str = "roles",
        carry_over: Sequence[str] = (),
        lifetimes: Lifetimes = _LIFETIMES,
        refresh: RefreshSettings = _REFRESH,
        revoke_at_logout: bool = True,
        preload: bool | Callable[[Scope], bool] = True,
        clock: Clock | None = None,
        on_event: EventSink = log_event,
        dangerously_allow_http: bool = False,
    ) -> None:
        # Out of sight first: error trackers show the variables of a start that fails.
        keys = [Secret(key) for key in read_keys(secret_key)]
        del secret_key
        read_kind("dangerously_allow_http", dangerously_allow_http, bool)
        self.providers: Mapping[str, OpenIDProvider] = read_providers(provider, providers)
        server_side = read_sessions(sessions, store, self.providers)
        self.settings: AppSettings = AppSettings(
            public_urls=read_public_urls(public_url, dangerously_allow_http=dangerously_allow_http),
            prefix=read_path("prefix", prefix),
            landing=read_page("landing", landing, prefix=prefix),
            after_logout=read_page("after_logout", after_logout, prefix=prefix),
            allowed_return_origins=read_origins(
                "allowed_return_origins",
                allowed_return_origins,
                dangerously_allow_http=dangerously_allow_http,
            ),
            carry_over=tuple(read_names("carry_over", carry_over)),
            on_login=read_hook("on_login", on_login),
            preload=read_preload(preload),
            revoke_at_logout=read_kind("revoke_at_logout", revoke_at_logout, bool),
            lifetimes=read_kind("lifetimes", lifetimes, Lifetimes),
            server_side=server_side,
        )
        refresh = read_kind("refresh", refresh, RefreshSettings)
        for setting, function in (("clock", clock), ("on_event", on_event)):
            check_callable(setting, function)
        self.clock: Clock = clock or next(iter(self.providers.values())).clock
        self.ring: KeyRing = KeyRing([key.reveal() for key in keys])
        given = read_store(store)
        self.store: Store = given if given is not None else MemoryStore()
        self.has_store: bool = store is not None
        """Whether it was given, and so may be shared with other processes."""
        if isinstance(self.store, TakesClock):
            self.store.use_clock(self.clock)
        self._name_claim = read_kind("name_claim", name_claim, str)
        self._role_claim = read_kind("role_claim", role_claim, str)
        self._claims = frozenset({*read_names("claims", claims), "sub", name_claim, role_claim})
        self._event_sink = on_event
        self._reference_key = secrets.token_bytes(32)
        self._entered: Counter[asyncio.AbstractEventLoop] = Counter()
        self._drains: list[Callable[[float], Awaitable[object]]] = []
        jitter = random.Random(secrets.randbits(64)).random  # noqa: S311 - spreads load
        self.revoker: Revoker = Revoker(providers=self.providers, on_event=self.emit, jitter=jitter)
        self.stored: StoredSessions = StoredSessions(
            self.store, self.ring, clock=self.clock, idle=lifetimes.idle
        )
        self.stragglers: Stragglers = Stragglers(self.store)
        self.user_tokens: UserTokens = UserTokens(
            providers=self.providers,
            refresher=Refresher(
                providers=self.providers,
                store=self.store,
                clock=self.clock,
                settings=refresh,
                on_event=self.emit,
                keep_claims=self.keep_claims,
                reference=self.reference,
                revoker=self.revoker,
                jitter=jitter,
            ),
            settings=refresh,
            clock=self.clock,
        )
        self.exchanged_tokens: ExchangedTokens = ExchangedTokens(
            users=self.user_tokens,
            providers=self.providers,
            store=self.store,
            ring=self.ring,
            clock=self.clock,
            margin=refresh.margin,
            jitter=jitter,
        )
        self.clients: ClientCredentialsTokens = ClientCredentialsTokens(
            store=store,
            ring=self.ring,
            margin=refresh.margin,
            clock=self.clock,
            on_event=self.emit,
            jitter=jitter,
        )
        """The tokens of the app itself."""
        self.http: HTTPClients = HTTPClients(self.clients)
        """The HTTP clients that the app calls others with, by name."""
        self.users: RequestTokens = RequestTokens(self)
        """The tokens of the user of a request."""
        self.sessions: Sessions = Sessions(self)
        """The sessions of all users, for administrators."""
        for each in self.providers.values():
            each.bind_events(self)

    def emit(self, event: Event) -> None:
        """Tell what happened. A sink that raises is logged, and stops nothing."""
        try:
            self._event_sink(event)
        except Exception:  # noqa: BLE001 - a broken sink must not end a logout (attacks.md 352)
            log_event(event)

    def reference(self, session: Session) -> str:
        """Give a short name of the session for log lines, good for nothing else."""
        return hmac.digest(self._reference_key, session.id.encode(), "sha256").hex()[:8]

    def accepts(self, session: Session) -> bool:
        """Tell whether a session that was read is of this app, and not over."""
        provider = self.providers.get(session.provider)
        return (
            provider is not None
            and provider.issuer == session.issuer
            and provider.client_id == session.client_id
            and self.clock() < session.expires_at
        )

    def keep_claims(self, claims: Mapping[str, JSON]) -> dict[str, JSON]:
        """Keep the claims that the settings name."""
        return {name: value for name, value in claims.items() if name in self._claims}

    def user_of(self, session: Session) -> User:
        """Show the user of a session as the settings say."""
        return User.from_claims(
            session.claims,
            issuer=session.issuer,
            name_claim=self._name_claim,
            role_claim=self._role_claim,
        )

    @asynccontextmanager
    async def lifespan(self, app: object = None) -> AsyncIterator[None]:
        """Run from start to shutdown. Safe to enter twice; the middleware does it by itself.

        For jobs, and for hosts that send no lifespan messages: `async with auth.lifespan():
        ...`, or `Starlette(lifespan=auth.lifespan)`. Shutdown waits for refreshes under way.
        Each event loop has its own.
        """
        loop = asyncio.get_running_loop()
        self._entered[loop] += 1
        self._lend_loop()
        try:
            yield
        finally:
            self._entered[loop] -= 1
            if not self._entered[loop]:
                del self._entered[loop]
                self._lend_loop()
                await self._stop()

    def before_stop(self, drain: Callable[[float], Awaitable[object]]) -> None:
        """Have `drain` awaited at shutdown, with the seconds it may take, before the end."""
        self._drains.append(drain)

    def _lend_loop(self) -> None:
        # That of the app, which came first and lasts longer than that of a job.
        self.clients.borrow_loop(next(iter(tuple(self._entered)), None))

    async def _stop(self) -> None:
        # One that fails keeps none of the others open.
        async with AsyncExitStack() as closing:
            closing.push_async_callback(self.store.aclose)
            for provider in self.providers.values():
                closing.push_async_callback(provider.aclose)
            closing.push_async_callback(self.revoker.drain, timeout=DRAIN)
            closing.push_async_callback(self.user_tokens.drain, timeout=DRAIN)
            closing.push_async_callback(self.clients.aclose)
            closing.push_async_callback(self.exchanged_tokens.drain, timeout=DRAIN)
            closing.push_async_callback(self.http.aclose)
            for drain in self._drains:
                closing.push_async_callback(drain, DRAIN)
