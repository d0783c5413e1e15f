"""From a wish to a token: this process, then the store, then the provider."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from ..errors import TokenUnavailable
from ..single_flight import SingleFlight
from ..thread_flight import AbandonedError, ThreadFlight
from .budget import RenewalBudget
from .client_cache import Shared
from .effects import drive, drive_sync
from .models import AccessToken

if TYPE_CHECKING:
    from ..clock import Clock
    from .client_cache import SharedTokens, TokenMemory
    from .client_registration import TokenTarget
    from .effects import Steps
    from .token_client import Outcome, TokenClient

_PATIENCE: Final = 10.0
"""Seconds that a thread waits for another one's attempt, beyond two deadlines of a call."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What a caller will not have."""

    rejected: AccessToken | None = None
    """This token, which an API refused."""
    force: bool = False
    """Any token that is there already."""

    def takes(self, token: AccessToken | None) -> bool:
        """Tell whether a token that is there already will do."""
        if token is None or self.force:
            return False
        return self.rejected is None or token.value != self.rejected.value


class ClientTokens:
    """Gives the tokens of all clients; those who want the same share one attempt.

    What is done is in `_obtain`, once for event loops and for threads. `shared` is None
    where processes do not share.
    """

    def __init__(self, memory: TokenMemory, shared: SharedTokens | None, *, clock: Clock) -> None:
        self._memory = memory
        self._shared = shared
        self._clock = clock
        self._budget = RenewalBudget(clock=clock)
        self._flights: SingleFlight[Outcome] = SingleFlight()
        self._thread_flights: ThreadFlight[Outcome] = ThreadFlight()

    def __len__(self) -> int:
        """Return how many tokens this process holds."""
        return len(self._memory)

    def fresh(self, target: TokenTarget) -> AccessToken | None:
        """Return the token of this process if it need not be renewed yet."""
        return self._memory.fresh(target)

    async def token(self, client: TokenClient, target: TokenTarget, wish: Wish) -> AccessToken:
        """Return a token, on the event loop."""
        if ready := self._ready(target, wish):
            return ready
        outcome = await self._share(client, target, wish)
        if self._is_late(wish, outcome):
            outcome = await self._share(client, target, wish)
        return self._settle(target, wish, outcome)

    def token_sync(self, client: TokenClient, target: TokenTarget, wish: Wish) -> AccessToken:
        """Return a token, in this thread."""
        if ready := self._ready(target, wish):
            return ready
        outcome = self._share_sync(client, target, wish)
        if self._is_late(wish, outcome):
            outcome = self._share_sync(client, target, wish)
        return self._settle(target, wish, outcome)

    def forget(self, target: TokenTarget) -> Steps[None]:
        """Drop a token, here and in the store."""
        self._memory.drop(target)
        if self._shared:
            yield from self._shared.delete(target)

    async def drain(self, timeout: float) -> None:  # noqa: ASYNC109 - part of what is promised
        """Wait `timeout` seconds at most for the requests that are under way."""
        await self._flights.drain(timeout)

    def _ready(self, target: TokenTarget, wish: Wish) -> AccessToken | None:
        """Return the token to be used as it is; None if another one must be got."""
        if wish.force:
            return None
        fresh = self._memory.fresh(target)
        if wish.rejected is None or wish.takes(fresh):
            return fresh
        return None if self._budget.allows(target, wish.rejected) else wish.rejected

    def _obtain(self, client: TokenClient, target: TokenTarget, wish: Wish) -> Steps[Outcome]:
        """Look once more, here and in the store; then ask the provider."""
        found = self._memory.fresh(target)
        if found is not None and wish.takes(found):
            return found
        shared = (yield from self._shared.read(target)) if self._shared else Shared(None, None)
        if shared.token is not None and self._is_news(target, shared.token, wish):
            self._memory.keep(target, shared.token)
            found = self._memory.fresh(target)
            if found is not None and wish.takes(found):
                return found
        if refusal := client.may_not_ask(target):
            return refusal
        outcome = yield from client.ask(target)
        # A lifetime of 0: over already. Good for those who wait, if for anybody.
        if isinstance(outcome, AccessToken) and outcome.lifetime > 0:
            self._memory.keep(target, outcome)
            if self._shared:
                yield from self._shared.write(target, outcome, version=shared.version)
        return outcome

    async def _share(self, client: TokenClient, target: TokenTarget, wish: Wish) -> Outcome:
        """Join the attempt that is under way on this event loop, or begin it."""

        async def attempt() -> Outcome:
            return await drive(self._obtain(client, target, wish))

        return await self._flights.run((target, wish.force), attempt)

    def _share_sync(self, client: TokenClient, target: TokenTarget, wish: Wish) -> Outcome:
        """Join the attempt that another thread is making, or make it."""
        wait = 2 * client.registration.deadline + _PATIENCE
        attempt = partial(drive_sync, self._obtain(client, target, wish))
        try:
            return self._thread_flights.run((target, wish.force), attempt, timeout=wait)
        except TimeoutError:
            problem = "another thread's request takes too long"
        except AbandonedError:
            problem = "another thread's request came to nothing"
        raise TokenUnavailable(problem)

    def _is_late(self, wish: Wish, outcome: Outcome) -> bool:
        """Tell whether it came of an attempt that began before the API said no to it."""
        if wish.rejected is None or not isinstance(outcome, AccessToken):
            return False
        return outcome.value == wish.rejected.value

    def _settle(self, target: TokenTarget, wish: Wish, outcome: Outcome) -> AccessToken:
        """Return what came, or a token that is still valid; otherwise raise."""
        if isinstance(outcome, AccessToken):
            return outcome
        spare = self._memory.newest(target)
        if spare is not None and wish.takes(spare) and spare.is_valid(self._clock()):
            return spare
        raise outcome.error()

    def _is_news(self, target: TokenTarget, token: AccessToken, wish: Wish) -> bool:
        """Tell whether another process left what is better than what is here."""
        newest = self._memory.newest(target)
        return wish.takes(token) and (newest is None or token.expires_at >= newest.expires_at)
