"""How patient a refresh is, as an app may set it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..errors import ConfigurationError
from ..setting_kinds import check_number, read_kind


@dataclass(frozen=True, slots=True)
class RefreshSettings:
    """How patient a refresh is. All times in seconds."""

    margin: float = 60.0
    """Renew this long before the end; never more than a tenth of the token's lifetime."""
    lease_ttl: float = 8.0
    """A process that dies holding the lease keeps the others waiting this long."""
    lease_renewal: float = 2.0
    """How often the lease is renewed while the provider is being asked."""
    wait: float = 10.0
    """A request waits this long for the refresh, then `TokenUnavailable`."""
    save_retry: float = 30.0
    """How long a result that the store would not take is kept in memory and offered again."""
    concurrency: int = 50
    """Refresh requests under way at once in one process, per provider."""

    def __post_init__(self) -> None:
        for name in ("margin", "lease_ttl", "lease_renewal", "wait", "save_retry", "concurrency"):
            check_number(f"refresh.{name}", getattr(self, name))
        for name in ("lease_ttl", "lease_renewal", "wait", "save_retry"):
            if not 0 < getattr(self, name) < math.inf:
                raise ConfigurationError(f"refresh.{name}", "must be a number of seconds above 0")
        if not 0 <= self.margin < math.inf:
            raise ConfigurationError("refresh.margin", "must be a number of seconds, or 0")
        if self.lease_renewal > self.lease_ttl / 2:
            # Two renewals may fail, and nobody else takes the lease of a slow refresh.
            raise ConfigurationError("refresh.lease_renewal", "must be at most half of lease_ttl")
        # A semaphore that counts in halves never comes to 0, and lets everybody in.
        if read_kind("refresh.concurrency", self.concurrency, int) < 1:
            raise ConfigurationError("refresh.concurrency", "must be at least 1")
