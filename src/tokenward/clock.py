"""The time, which comes in from outside everywhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeAlias

Clock: TypeAlias = Callable[[], float]
"""Gives the time in seconds since the epoch. Tests pass one that they move."""


class SystemClock:
    """The wall clock of this machine, which never runs backwards.

    When somebody sets the wall clock back, time goes on from where it was, so
    that no token is used past its end (attacks.md 194, 257). A jump forward is
    believed: at worst it costs one refresh too many.
    """

    def __init__(
        self,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._offset = wall() - monotonic()

    def __call__(self) -> float:
        """Return seconds since the epoch."""
        now = self._wall()
        steady = self._monotonic() + self._offset
        if now >= steady:
            self._offset += now - steady
            return now
        return steady


system_clock: Clock = SystemClock()
"""The default of every `clock` argument."""


def aware(seconds: float) -> datetime:
    """Turn seconds since the epoch into an aware datetime in UTC.

    Beyond the calendar's end it stays at the end.
    """
    return datetime.fromtimestamp(min(max(seconds, 0.0), 253402300799.0), UTC)
