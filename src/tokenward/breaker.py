"""How often to call somebody who does not answer."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from .clock import Clock


_LONGEST: Final = 60.0
"""Seconds that jitter may lengthen a wait to."""


class Breaker:
    """Bound the calls to a server that fails, and notice soon that it is back.

    After `threshold` failures in a row callers are told to wait `cool_down`
    seconds; then one at a time tries, once per `probe_interval`, until one
    succeeds. A `Retry-After` of the server is obeyed at the first failure.

        if wait := breaker.check():
            raise ProviderUnavailable("too many failures", retry_after=wait)
    """

    def __init__(
        self,
        *,
        clock: Clock,
        threshold: int = 5,  # a single lost answer is no outage
        cool_down: float = 5.0,  # with `probe_interval`, at most some ten calls a minute
        probe_interval: float = 2.0,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._clock = clock
        self._threshold = threshold
        self._cool_down = cool_down
        self._probe_interval = probe_interval
        self._jitter = jitter
        self._failures = 0
        self._closed_at = 0.0
        self._open = False

    def check(self) -> float:
        """Return the seconds to wait before a call; 0.0 lets this caller through.

        When the time is over, one caller gets 0.0 and the others wait for what it
        reports. If it never does, the next is let through a probe interval later.
        """
        if not self._open:
            return 0.0
        now = self._clock()
        left = self._closed_at - now
        if left > 0:
            return left
        self._closed_at = now + self._probe_interval
        return 0.0

    def failure(self, retry_after: float | None = None) -> None:
        """Report a call that failed.

        `retry_after`, in seconds, is what the server asked for; it opens the
        breaker at once and for that time. None: it did not say.
        """
        self._failures += 1
        if retry_after is None and self._failures < self._threshold:
            return
        # Up to a fifth longer, so that many processes do not come back together.
        asked = self._cool_down if retry_after is None else retry_after
        wait = min(asked * (1.0 + 0.2 * self._jitter()), max(asked, _LONGEST))
        self._closed_at = max(self._closed_at if self._open else 0.0, self._clock() + wait)
        self._open = True

    def success(self) -> None:
        """Report a call that was answered. Everybody may call again."""
        self._failures = 0
        self._open = False
