"""A document of the provider, kept for a while: one fetch for everybody who waits."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from ..errors import (
    ConfigurationError,
    InvalidMetadata,
    ProviderError,
    ProviderUnavailable,
    TokenwardError,
)
from ..single_flight import SingleFlight

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from ..clock import Clock

T = TypeVar("T")

SHORTEST: Final = 5 * 60.0
"""Seconds a document is used at least, whatever the provider says."""

LONGEST: Final = 24 * 60 * 60.0
"""Seconds a document is used at most without a look at the provider's."""

DEFAULT: Final = 60 * 60.0
"""Seconds, when the provider does not say."""

STALE_IF_ERROR: Final = 24 * 60 * 60.0
"""Seconds a document is used beyond its time while the provider gives no new one."""

COOL_DOWN: Final = 60.0
"""Seconds between two fetches that tokens, which anybody may send, can cause."""

_RETRY: Final = 5.0
"""Seconds without another fetch after one that failed, and up to half as long again."""

_AHEAD: Final = 0.8
"""Part of its time after which a document is fetched anew while the old one is served."""

_FETCH: Final = "fetch"


@dataclass(frozen=True, slots=True)
class Fetched(Generic[T]):
    """What a fetch brought."""

    value: T
    max_age: float | None
    """Seconds it may be used, as the provider said; None if it did not."""


@dataclass(frozen=True, slots=True)
class _Held(Generic[T]):
    value: T
    fetched_at: float
    fresh_until: float


class CachedDocument(Generic[T]):
    """Serve a document from memory, and fetch it when its time is over.

    However many tasks wait, one of them fetches, in a task of its own. Shortly
    before its time is over the document is renewed in the background. When the
    provider fails, or sends what breaks a rule, the last good document is served
    for a day more, and the provider is left alone for some seconds. A new document
    replaces the old one as a whole.

    `fetch` raises `ProviderError` or `ConfigurationError`; each failure is reported
    once to `on_failure`. `longest` bounds, in seconds, what the provider may ask for.
    """

    def __init__(
        self,
        fetch: Callable[[], Coroutine[object, object, Fetched[T]]],
        *,
        clock: Clock,
        on_failure: Callable[[TokenwardError], None],
        longest: float = LONGEST,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._fetch = fetch
        self._clock = clock
        self._on_failure = on_failure
        self._longest = longest
        self._jitter = jitter
        self._flights: SingleFlight[bool] = SingleFlight()
        self._held: _Held[T] | None = None
        self._failure: TokenwardError | None = None
        self._retry_at = 0.0
        self._forced_until = 0.0

    async def get(self) -> T:
        """Return the document, from memory if its time is not over.

        Raises a fresh copy of what `fetch` raised when there is nothing to serve.
        """
        now = self._clock()
        held = self._held
        if held is not None and now < held.fresh_until:
            if now >= self._ahead_of(held) and now >= self._retry_at:
                self._flights.start(_FETCH, self._renew)
            return held.value
        if now >= self._retry_at:
            await self._flights.run(_FETCH, self._renew)
        return self._last_good()

    async def newer_than(self, seen: T, *, min_age: float = 0.0) -> T | None:
        """Return a newer document than `seen`, or None if there is none to be had now.

        Fetches once per `COOL_DOWN` at most, whoever asks; an attempt that fails
        counts too. `min_age`: a document younger than this many seconds is taken to
        be the newest. Raises a fresh copy of what `fetch` raised when the fetch fails.
        """
        now = self._clock()
        held = self._held
        if held is not None and held.value is not seen:
            return held.value
        if held is not None and now - held.fetched_at < min_age:
            return None
        if not self._flights.is_under_way(_FETCH):
            if now < max(self._forced_until, self._retry_at):
                return None
            self._forced_until = now + COOL_DOWN
        if not await self._flights.run(_FETCH, self._renew):
            raise self._afresh()
        held = self._held
        return held.value if held is not None and held.value is not seen else None

    async def drain(self, timeout: float) -> None:  # noqa: ASYNC109 - part of what is promised
        """Wait `timeout` seconds at most for a fetch that is under way."""
        await self._flights.drain(timeout)

    async def _renew(self) -> bool:
        """Fetch, and keep what came; tell whether it could be used."""
        try:
            fetched = await self._fetch()
        except (ProviderError, ConfigurationError) as error:
            self._failure = error.with_traceback(None)
            self._retry_at = self._clock() + _RETRY * (1.0 + 0.5 * self._jitter())
            self._on_failure(error)
            return False
        now = self._clock()
        told = DEFAULT if fetched.max_age is None else fetched.max_age
        lifetime = min(max(told, SHORTEST), self._longest)
        self._held = _Held(fetched.value, fetched_at=now, fresh_until=now + lifetime)
        self._failure = None
        self._retry_at = 0.0
        return True

    def _ahead_of(self, held: _Held[T]) -> float:
        return held.fetched_at + _AHEAD * (held.fresh_until - held.fetched_at)

    def _last_good(self) -> T:
        held = self._held
        if held is not None and self._clock() < held.fresh_until + STALE_IF_ERROR:
            return held.value
        raise self._afresh()

    def _afresh(self) -> TokenwardError:
        """Return the last failure as a new exception: one for each caller that raises it."""
        failure = self._failure
        if isinstance(failure, ConfigurationError):
            return ConfigurationError(failure.setting, failure.problem)
        if isinstance(failure, InvalidMetadata):
            return InvalidMetadata(failure.member, failure.problem)
        wait = max(self._retry_at - self._clock(), 1.0)
        return ProviderUnavailable(
            str(failure or "the provider could not be asked"), retry_after=wait
        )


def max_age_of(headers: Mapping[str, str]) -> float | None:
    """Return the seconds for which an answer may be kept (RFC 9111, section 5.2.2).

    0 when it asks not to be kept; None when it does not say.
    """
    directives = [part.strip().lower() for part in headers.get("cache-control", "").split(",")]
    if "no-store" in directives or "no-cache" in directives:
        return 0.0
    for directive in directives:
        name, _, value = directive.partition("=")
        value = value.strip('"')
        if name == "max-age" and value.isascii() and value.isdigit():
            # Longer than any clamp, and shorter than what int() takes long to read.
            return float(value[:18])
    return None
