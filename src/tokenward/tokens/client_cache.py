"""Where tokens of clients rest: in this process, and in a store that processes share."""

from __future__ import annotations

import json
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from ..errors import Conflict, StoreError
from ..events import StoreFailed
from ..process_lock import ProcessLock
from ..sealing import Unsealable
from .effects import Effect
from .session_format import read_access_token, write_access_token

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Hashable

    from ..clock import Clock
    from ..events import EventSink
    from ..loop_thread import LoopThread
    from ..sealing import KeyRing
    from .client_registration import TokenTarget
    from .effects import Steps
    from .interfaces import Store
    from .models import AccessToken

_PURPOSE: Final = "client-credentials"
_PATIENCE: Final = 5.0
"""Seconds that a thread waits for the store. A token can be had without it."""

_PART: Final = 0.1
"""A token is renewed in the last tenth of its life at most, however long the margin is."""

_SPREAD: Final = 0.2
"""Part of the margin by which processes differ, so that they do not renew together."""


@dataclass(frozen=True, slots=True)
class Held:
    """A token in this process, and when it is time for another one."""

    token: AccessToken
    renew_at: float


class TokenMemory:
    """The tokens of this process, `size` of them at most; the one unused longest goes first."""

    def __init__(
        self, *, clock: Clock, margin: float, jitter: Callable[[], float], size: int
    ) -> None:
        self._clock = clock
        self._margin = margin
        self._jitter = jitter
        self._size = size
        self._held: OrderedDict[Hashable, Held] = OrderedDict()
        self._lock = ProcessLock()

    def __len__(self) -> int:
        """Return how many tokens are held."""
        return len(self._held)

    def fresh(self, key: Hashable) -> AccessToken | None:
        """Return a token that need not be renewed yet."""
        held = self._held.get(key)
        if held is None or self._clock() >= held.renew_at:
            return None
        # Without the lock, at every call; somebody may have dropped it just now.
        with suppress(KeyError):
            self._held.move_to_end(key)
        return held.token

    def newest(self, key: Hashable) -> AccessToken | None:
        """Return the token that was kept last, whatever its age."""
        held = self._held.get(key)
        return held.token if held else None

    def keep(self, key: Hashable, token: AccessToken) -> None:
        """Keep a token until it is time to renew it, and beyond, in case nobody can."""
        longest = min(self._margin, token.lifetime * _PART)
        margin = longest * (1.0 - _SPREAD * self._jitter())
        with self._lock:
            self._held[key] = Held(token, token.expires_at.timestamp() - margin)
            self._held.move_to_end(key)
            if len(self._held) > self._size:
                self._held.popitem(last=False)

    def drop(self, key: Hashable) -> None:
        """Forget a token."""
        with self._lock:
            self._held.pop(key, None)


@dataclass(frozen=True, slots=True)
class Shared:
    """What the store has under a key."""

    token: AccessToken | None
    """None: nothing, or nothing that can be read."""
    version: int | None
    """None: there is nothing to be replaced."""


_NOTHING: Final = Shared(None, None)


@dataclass(frozen=True, slots=True)
class SharedTokens:
    """Tokens in a `Store`, sealed. A store that fails costs a request, and stops nothing."""

    store: Store
    ring: KeyRing = field(repr=False)
    clock: Clock
    margin: float
    emit: EventSink = field(repr=False)
    thread: LoopThread = field(repr=False)

    def read(self, target: TokenTarget) -> Steps[Shared]:
        """Look up the token for a target."""
        key = _key(target)
        try:
            entry = yield from Effect(
                lambda: self.store.get(key),
                lambda: self.thread.run(lambda: self.store.get(key), timeout=_PATIENCE),
            )
        except (StoreError, TimeoutError) as error:
            failure = type(error).__name__
        else:
            if entry is None:
                return _NOTHING
            return Shared(self._open(key, entry.value), entry.version)
        self.emit(StoreFailed(operation="read", error=failure))
        return _NOTHING

    def write(self, target: TokenTarget, token: AccessToken, *, version: int | None) -> Steps[None]:
        """Keep a token for the others, in place of exactly the version that was read.

        Not for longer than this process would use it.
        """
        margin = min(self.margin, token.lifetime * _PART)
        ttl = token.expires_at.timestamp() - self.clock() - margin
        if ttl <= 0:
            return
        key = _key(target)
        sealed = self.ring.seal(
            json.dumps(write_access_token(token)).encode(), purpose=_PURPOSE, record=key
        )
        yield from self._change(
            "write", lambda: self.store.put(key, sealed, ttl=ttl, version=version)
        )

    def delete(self, target: TokenTarget) -> Steps[None]:
        """Forget a token, for all who share the store."""
        key = _key(target)
        yield from self._change("delete", lambda: self.store.delete(key))

    def _change(
        self, operation: str, work: Callable[[], Coroutine[None, None, object]]
    ) -> Steps[None]:
        try:
            yield from Effect(work, lambda: self.thread.run(work, timeout=_PATIENCE))
        except Conflict:
            # Somebody else's token is as good.
            return
        except (StoreError, TimeoutError) as error:
            failure = type(error).__name__
        else:
            return
        self.emit(StoreFailed(operation=operation, error=failure))

    def _open(self, key: str, sealed: bytes) -> AccessToken | None:
        try:
            opened = self.ring.open(sealed, purpose=_PURPOSE, record=key)
            return read_access_token(json.loads(opened.plaintext))
        except (Unsealable, LookupError, TypeError, ValueError):
            return None


def _key(target: TokenTarget) -> str:
    return f"{target.digest()}:client-token"
