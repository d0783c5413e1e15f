"""Tokens of the app itself: for its jobs, its workers and its calls without a user."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from ..clock import system_clock
from ..errors import ConfigurationError
from ..events import deliver, log_event
from ..loop_thread import LoopThread
from .client_cache import SharedTokens, TokenMemory
from .client_registration import ClientCredentials
from .client_tokens import ClientTokens, Wish
from .effects import drive, drive_sync
from .token_client import TokenClient

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping, Sequence
    from typing import Self

    from ..clock import Clock
    from ..events import Event, EventSink
    from ..sealing import KeyRing
    from ..secret import Secret
    from .client_registration import TokenTarget
    from .interfaces import Store
    from .models import AccessToken

__all__ = ["ClientCredentials", "ClientCredentialsTokens", "ClientTokenSource"]

MAX_TOKENS: Final = 1024
"""Tokens that a process holds; scopes may come from outside, so there is a bound."""

_DRAIN: Final = 5.0
_CLOSE: Final = 5.0


class ClientCredentialsTokens:
    """Gets tokens of registered clients, keeps them, and renews them when it is time.

        tokens = ClientCredentialsTokens()
        tokens.add(
            "reports",
            ClientCredentials("m2m", issuer="https://op.example", client_secret=..., scope="api"),
        )
        token = await tokens.token("reports")
        token = tokens.token_sync("reports")       # in a worker without an event loop

    Concurrent callers that want the same share one request, and a token that is still
    good costs no lock of the event loop, no task and no I/O. One object may serve
    threads and several event loops; a forked process goes on by itself.

    Args:
        store: Where processes share tokens, sealed. None: each process has its own.
        ring: Seals them: `KeyRing(secret_key)`. Needed with a store.
        margin: Seconds before its end that a token is renewed; never more than a tenth of
            its life. Each process takes up to a fifth less, so that they do not all renew
            at once.
        size: How many tokens are held.
        clock: The time.
        on_event: Takes every event; logs them unless given.
        jitter: Gives numbers from 0 to 1.

    Raises:
        ConfigurationError: a store without a ring.
    """

    def __init__(
        self,
        *,
        store: Store | None = None,
        ring: KeyRing | None = None,
        margin: float = 60.0,
        size: int = MAX_TOKENS,
        clock: Clock = system_clock,
        on_event: EventSink = log_event,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        if store is not None and ring is None:
            raise ConfigurationError("ring", "tokens in a store are sealed: KeyRing(secret_key)")
        self._clock = clock
        self._on_event = on_event
        self._jitter = jitter
        self._clients: dict[str, TokenClient] = {}
        self._store = store
        self._thread = LoopThread()
        shared: SharedTokens | None = None
        if store is not None and ring is not None:
            shared = SharedTokens(
                store, ring, clock, margin=margin, emit=self._emit, thread=self._thread
            )
        memory = TokenMemory(clock=clock, margin=margin, jitter=jitter, size=size)
        self._tokens = ClientTokens(memory, shared, clock=clock)

    def __len__(self) -> int:
        """Return how many tokens this process holds."""
        return len(self._tokens)

    def add(self, name: str, registration: ClientCredentials) -> None:
        """Register a client by a name, of which there is only one.

        Raises:
            ConfigurationError: the name is taken, or the registration cannot work.
        """
        if name in self._clients:
            raise ConfigurationError("clients", f"there is a client {name!r} already")
        registration.check()
        self._clients[name] = TokenClient(
            name, registration, clock=self._clock, jitter=self._jitter, emit=self._emit
        )

    def source(
        self,
        name: str,
        *,
        scope: str | None = None,
        resource: str | Sequence[str] | None = None,
        extra: Mapping[str, str | Secret] | None = None,
    ) -> ClientTokenSource:
        """Return a source of one kind of token, for whatever sends requests.

        What is not given is as registered; `extra` is added. Raises `ConfigurationError`
        if there is no such client.
        """
        client = self._client(name)
        target = client.registration.request(
            name=name, scope=scope, resource=resource, extra=extra or {}
        )
        return ClientTokenSource(self._tokens, client, target)

    async def token(
        self,
        name: str,
        *,
        scope: str | None = None,
        resource: str | Sequence[str] | None = None,
        extra: Mapping[str, str | Secret] | None = None,
        rejected: AccessToken | None = None,
        force_renewal: bool = False,
    ) -> AccessToken:
        """Return a valid token of the client.

        What is not given is as registered; `extra` is added. `rejected` is a token that
        an API refused: another one is returned, or the same if it was renewed a moment
        ago. `force_renewal` replaces the token that is kept.

        Raises:
            TokenUnavailable: the provider is out of reach and no valid token is left.
            ProtocolError: the provider refuses the client, or what it asks for.
            InvalidMetadata: what the provider says about itself breaks a rule.
            ConfigurationError: there is no such client.
        """
        source = self.source(name, scope=scope, resource=resource, extra=extra)
        return await source.token(rejected=rejected, force_renewal=force_renewal)

    def token_sync(
        self,
        name: str,
        *,
        scope: str | None = None,
        resource: str | Sequence[str] | None = None,
        extra: Mapping[str, str | Secret] | None = None,
        rejected: AccessToken | None = None,
        force_renewal: bool = False,
    ) -> AccessToken:
        """Do what `token` does, for threads without an event loop."""
        source = self.source(name, scope=scope, resource=resource, extra=extra)
        return source.token_sync(rejected=rejected, force_renewal=force_renewal)

    async def delete(
        self,
        name: str,
        *,
        scope: str | None = None,
        resource: str | Sequence[str] | None = None,
        extra: Mapping[str, str | Secret] | None = None,
    ) -> None:
        """Forget a token, here and in the store. The next call gets another one."""
        source = self.source(name, scope=scope, resource=resource, extra=extra)
        await drive(self._tokens.forget(source.target))

    def delete_sync(
        self,
        name: str,
        *,
        scope: str | None = None,
        resource: str | Sequence[str] | None = None,
        extra: Mapping[str, str | Secret] | None = None,
    ) -> None:
        """Do what `delete` does, for threads without an event loop."""
        source = self.source(name, scope=scope, resource=resource, extra=extra)
        drive_sync(self._tokens.forget(source.target))

    def borrow_loop(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """Let threads reach the store by this loop, as in a web app; None: by one of our own."""
        self._thread.borrow(loop)

    async def aclose(self) -> None:
        """Wait for requests under way, and close the HTTP clients of this event loop.

        What was passed stays open, and everything opens again at its next use.
        """
        await self._tokens.drain(_DRAIN)
        for client in self._clients.values():
            await client.aclose()

    def close(self) -> None:
        """Close what threads without an event loop use. It opens again at its next use."""
        for client in self._clients.values():
            client.close()
        store = self._store
        if store is not None and self._thread.is_running:
            self._thread.run(store.aclose, timeout=_CLOSE)
        self._thread.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _client(self, name: str) -> TokenClient:
        client = self._clients.get(name)
        if client is None:
            raise ConfigurationError("clients", f"there is no client {name!r}")
        return client

    def _emit(self, event: Event) -> None:
        deliver(event, self._on_event)


@dataclass(frozen=True, slots=True)
class ClientTokenSource:
    """One kind of token of one client. A `TokenSource` and a `SyncTokenSource`."""

    tokens: ClientTokens = field(repr=False)
    client: TokenClient = field(repr=False)
    target: TokenTarget
    """Everything that the token depends on."""

    async def token(
        self, *, rejected: AccessToken | None = None, force_renewal: bool = False
    ) -> AccessToken:
        """See `ClientCredentialsTokens.token`."""
        if rejected is None and not force_renewal and (token := self.tokens.fresh(self.target)):
            return token
        return await self.tokens.token(self.client, self.target, Wish(rejected, force_renewal))

    def token_sync(
        self, *, rejected: AccessToken | None = None, force_renewal: bool = False
    ) -> AccessToken:
        """See `ClientCredentialsTokens.token_sync`."""
        if rejected is None and not force_renewal and (token := self.tokens.fresh(self.target)):
            return token
        return self.tokens.token_sync(self.client, self.target, Wish(rejected, force_renewal))
