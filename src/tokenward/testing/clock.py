"""Time that stands still until a test moves it."""

from __future__ import annotations

NEW_YEAR_2030 = 1_893_456_000.0
"""Where a frozen clock starts, in seconds since the epoch."""


class FrozenClock:
    """Give the same time until `advance` or `set` is called. Fits every `clock` argument.

    clock = FrozenClock()
    clock.advance(3600)
    """

    def __init__(self, start: float = NEW_YEAR_2030) -> None:
        self._now = start

    def __call__(self) -> float:
        """Return seconds since the epoch."""
        return self._now

    def advance(self, seconds: float) -> float:
        """Move by `seconds`, backwards if negative, and return the new time."""
        self._now += seconds
        return self._now

    def set(self, seconds: float) -> float:
        """Move to `seconds` since the epoch, and return it."""
        self._now = seconds
        return self._now
