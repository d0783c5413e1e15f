"""Everything you may replace. Each protocol is as small as its caller allows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    import asyncio

    from ..clock import Clock
    from .exchange import Exchange
    from .models import AccessToken, Target
    from .session import Session


class TokenSource(Protocol):
    """Anything that can give an access token.

    The user of the current request, the application itself and a constant in a
    test are all token sources; what sends requests need not know which.
    """

    async def token(self, *, rejected: AccessToken | None = None) -> AccessToken:
        """Return a token that is valid now.

        `rejected` asks for another one than this: an API has just refused it. It
        renews only if `rejected` is still the newest, so fifty late refusals are
        one renewal. Safe to call concurrently.
        """
        ...


class SyncTokenSource(Protocol):
    """The twin of `TokenSource` for threads: workers, and endpoints written with `def`.

    What a token source cannot do from a thread raises `TypeError`.
    """

    def token_sync(self, *, rejected: AccessToken | None = None) -> AccessToken:
        """Return a token that is valid now; may be called by many threads. See `TokenSource`."""
        ...


class SessionRecords(Protocol):
    """Where sessions rest, as the refresh sees it.

    One object serves all sessions of an app and knows nothing of a request: an
    attempt to refresh outlives the request that began it.
    """

    @property
    def travels(self) -> bool:
        """Whether a browser holds the session itself, so that it lives on if it is not saved."""
        ...

    async def reload(self, session: Session) -> Session | None:
        """Return what became of `session` by now, past every cache; None if it ended."""
        ...

    async def replace(self, session: Session, new: Session) -> Session | None:
        """Write `new` if `session` is still the newest version, and return it as written.

        None: somebody else wrote first, or the session ended. Never creates one.
        """
        ...

    async def drop(self, session: Session) -> bool:
        """End the session if `session` is still its newest version; True if it was."""
        ...


class SessionHandle(Protocol):
    """The session of one request: what `UserTokens` needs to give its user a token."""

    @property
    def records(self) -> SessionRecords:
        """Where the session rests."""
        ...

    @property
    def writable(self) -> bool:
        """Whether a new version can still be saved (False once a cookie cannot be sent)."""
        ...

    async def load(self) -> Session | None:
        """Return the session of this request, read at most once; None if there is none."""
        ...

    def adopt(self, session: Session | None) -> None:
        """Let this request go on with `session`, and with its cookie where there is one."""
        ...


class RequestSession(SessionHandle, Protocol):
    """The session of the request that is being answered, as outgoing calls see it."""

    async def token(
        self, *, target: Target = ..., rejected: AccessToken | None = None
    ) -> AccessToken:
        """Return a valid token of the session's user. Raises what `UserTokens.token` raises."""
        ...

    async def exchanged(
        self, exchange: Exchange, *, rejected: AccessToken | None = None
    ) -> AccessToken:
        """Return a valid token that the user's token was exchanged for (RFC 8693)."""
        ...

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop that answers the request; its threads ask for tokens there."""
        ...


@dataclass(frozen=True, slots=True)
class Entry:
    """What a store holds under a key."""

    value: bytes = field(repr=False)
    version: int
    """Grows with every write of the key; never 0."""


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to do something alone, for a while."""

    key: str
    owner: str = field(repr=False)
    """Random; only the owner renews or releases."""
    fence: int
    """Rises with every lease of the key."""


@runtime_checkable
class TakesClock(Protocol):
    """A store that keeps the time itself, and can be told whose."""

    def use_clock(self, clock: Clock) -> None:
        """Take the time from `clock` from now on, unless it was made with one."""
        ...


class Store(Protocol):
    """Bytes under keys, for a time; everything tokenward keeps is built on it.

    Times are seconds. What a store cannot do because it is out of reach raises
    `StoreUnavailable`. Values are sealed before they come here. The parts of one
    session have keys `<hash>:<part>`, so that a cluster can keep them together.
    `tokenward.testing.StoreContract` is the test of an implementation.
    """

    async def get(self, key: str) -> Entry | None:
        """Return what is under `key`; None if nothing is, or its time is over."""
        ...

    async def get_many(self, *keys: str) -> tuple[Entry | None, ...]:
        """Return what is under each key, in one round trip."""
        ...

    async def put(self, key: str, value: bytes, *, ttl: float, version: int | None) -> int:
        """Write, and return the new version.

        `version=None` creates, only if nothing is there and no tombstone is; a
        number replaces only that version. Otherwise `Conflict`. Never an upsert.
        """
        ...

    async def touch(self, *keys: str, ttl: float) -> None:
        """Set the time that is left for each key. Never writes a value, never creates."""
        ...

    async def delete(self, key: str, *, version: int | None = None, tombstone: float = 0.0) -> bool:
        """Delete, only that version if one is given; True if something was deleted.

        For `tombstone` seconds nothing can be created under the key. With a
        version that is not the present one nothing happens, not even a tombstone.
        """
        ...

    async def acquire(self, key: str, *, ttl: float) -> Lease | None:
        """Take the lease of `key` for `ttl` seconds; None while somebody else has it."""
        ...

    async def renew(self, lease: Lease, *, ttl: float) -> bool:
        """Have it for `ttl` seconds from now; False if it was lost meanwhile."""
        ...

    async def release(self, lease: Lease) -> None:
        """Give it back, if it is still this owner's."""
        ...

    async def add(self, index: str, member: str, *, ttl: float) -> None:
        """Put `member` into the set `index` for `ttl` seconds, or for longer if it had longer."""
        ...

    async def members(self, index: str) -> frozenset[str]:
        """Return the members of the set whose time is not over."""
        ...

    async def discard(self, index: str, member: str) -> None:
        """Take `member` out of the set; fine if it is not there."""
        ...

    async def aclose(self) -> None:
        """Give back connections and files. The store opens again at its next use."""
        ...
