"""How often a token that an API refuses is renewed."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ..process_lock import ProcessLock

if TYPE_CHECKING:
    from collections.abc import Hashable

    from ..clock import Clock
    from .models import AccessToken

INTERVAL: Final = 10.0
"""Seconds. An API that refuses a token this young refuses the next one too."""

_REMEMBERED: Final = 10_000
"""Whose renewals a process remembers; the oldest is forgotten."""


@dataclass(frozen=True, slots=True)
class _Renewal:
    of: int
    at: float


class RenewalBudget:
    """Allow one renewal per `interval` seconds for the same holder of tokens.

    An API that answers 401 whatever it is sent would otherwise have a refresh token
    spent at every call. Everybody who was refused the same token is part of one
    renewal, however late he is.
    """

    def __init__(self, *, clock: Clock, interval: float = INTERVAL) -> None:
        self._clock = clock
        self._interval = interval
        self._renewals: OrderedDict[Hashable, _Renewal] = OrderedDict()
        self._lock = ProcessLock()

    def __len__(self) -> int:
        """Return of how many holders a renewal is remembered."""
        return len(self._renewals)

    def allows(self, holder: Hashable, rejected: AccessToken) -> bool:
        """Tell whether another token may be got in place of `rejected`; if so, it counts."""
        now, fingerprint = self._clock(), hash(rejected.value)
        with self._lock:
            last = self._renewals.get(holder)
            if last is not None and now - last.at < self._interval:
                return last.of == fingerprint
            self._renewals[holder] = _Renewal(fingerprint, now)
            self._renewals.move_to_end(holder)
            if len(self._renewals) > _REMEMBERED:
                self._renewals.popitem(last=False)
            return True
