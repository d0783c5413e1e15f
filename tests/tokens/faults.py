"""What goes wrong in a simulated schedule: stores, a provider and processes that fail by dice."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from scripted import ScriptedProvider, lost

from tokenward.errors import ProtocolError, ProviderUnavailable, StoreUnavailable
from tokenward.tokens.interfaces import Store
from tokenward.tokens.refresh import SECOND_LOOK

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from random import Random

    from scripted import Act, Family
    from simulation import VirtualTimeLoop

    from tokenward.clock import Clock
    from tokenward.provider.grant import Grant
    from tokenward.secret import Secret

STORE_LATENCY = 0.03
"""Seconds that a slow operation of a store takes, at most; none otherwise."""

PROVIDER_LATENCY = 0.12
"""Seconds that a request to the provider takes, and its answer too, at most, on most days."""

SLOW_PROVIDER = 0.6
"""The same on other days: longer than a lease, which has to be renewed."""

_OPERATIONS = frozenset(name for name in vars(Store) if not name.startswith("_"))
_STORE_FAULTS = ("slow", "slow", "refused", "refused", "lost", "lost", "abandoned")
_PROVIDER_FAULTS = ("refused", "lost", "unacknowledged", "unacknowledged", "503", "429")


@dataclass(eq=False)
class Life:
    """One run of a process, from its start to its end."""

    dead: bool = False
    """Nothing that it does has any effect."""
    crashed: bool = False
    """It ended without notice, and what it knew is gone."""
    stood_still: list[tuple[float, float]] = field(default_factory=list)
    """From when to when it stood still for longer than its leases last."""
    requests: list[asyncio.Task[Any]] = field(default_factory=list)
    """What browsers want of it."""
    steps: int = 0
    """How many more steps it takes until something befalls it; 0: nothing will."""
    strike: Callable[[], None] = lambda: None

    async def step(self) -> None:
        """Take a step, be it the last one for a while."""
        if self.steps:
            self.steps -= 1
            if not self.steps:
                self.strike()
                await asyncio.sleep(0)

    async def come_to(self, steps: int, strike: Callable[[], None], *, within: float) -> None:
        """Let `strike` happen after some steps; when the time is over if there are fewer."""
        struck = asyncio.Event()

        def strike_now() -> None:
            strike()
            struck.set()

        self.steps, self.strike = steps, strike_now
        try:
            async with asyncio.timeout(within):
                await struck.wait()
        except TimeoutError:
            self.steps = 0
            strike()

    def was_away(self, since: float, *, longer_than: float = 0.0) -> bool:
        """Tell whether it stood still since then, for that many seconds in all."""
        stops = [end - start for start, end in self.stood_still if end >= since]
        return sum(stops) > longer_than


class Dice:
    """Decides what goes wrong. With `store` and `provider` at 0, nothing does."""

    def __init__(self, random: Random, *, store: float = 0.0, provider: float = 0.0) -> None:
        self.random = random
        self.store = store
        """How many operations of a store fail, from 0 to 1."""
        self.provider = provider
        """How many requests to the provider fail, from 0 to 1."""
        self.latency = SLOW_PROVIDER if random.random() < 0.1 else PROVIDER_LATENCY
        """Seconds that a request to the provider takes, and its answer too, at most."""
        self.renewals = 2
        """How many renewals of a lease may fail in a row, if any: as many as it bears."""

    def calm(self) -> None:
        self.store = self.provider = 0.0
        self.latency = PROVIDER_LATENCY

    def for_store(self) -> str:
        return self.random.choice(_STORE_FAULTS) if self.random.random() < self.store else ""

    def for_provider(self) -> str:
        return self.random.choice(_PROVIDER_FAULTS) if self.random.random() < self.provider else ""

    async def pause(self, longest: float) -> None:
        if self.random.random() < 0.7:
            await asyncio.sleep(self.random.random() * longest)


class FaultyStore:
    """The way of one process to a store that all share.

    An operation may be slow, may fail before it is done or after (the answer was lost), and
    a caller may go away while it is under way. What a dead process began is not done.
    """

    def __init__(self, inner: Store, dice: Dice, life: Life) -> None:
        self.inner = inner
        self.life = life
        self._dice = dice
        self._failed_renewals: dict[str, int] = {}

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        if name not in _OPERATIONS:
            raise AttributeError(name)
        operation = partial(self._do, name, getattr(self.inner, name))
        setattr(self, name, operation)
        return operation

    async def _do(self, name: str, operation: Any, *args: Any, **options: Any) -> Any:
        fault = self._dice.for_store()
        if name == "renew" and fault:
            fault = self._bearable(args[0].key, fault)
        if fault == "abandoned":
            abandon(self._dice.random, self.life)
        await self.life.step()
        # Others may run before and after it happens, or neither.
        order = self._dice.random.random()
        if fault == "slow":
            await asyncio.sleep(STORE_LATENCY * order)
        elif order < 0.6:
            await asyncio.sleep(0)
        self._check(broken=fault == "refused")
        try:
            return await operation(*args, **options)
        finally:
            await self.life.step()
            if order > 0.4:
                await asyncio.sleep(0)
            self._check(broken=fault == "lost")

    def _bearable(self, key: str, fault: str) -> str:
        failed = self._failed_renewals.get(key, 0)
        if fault in ("refused", "lost") and failed >= self._dice.renewals:
            fault = ""
        self._failed_renewals[key] = failed + 1 if fault in ("refused", "lost") else 0
        return fault

    def _check(self, *, broken: bool) -> None:
        if self.life.dead:
            raise asyncio.CancelledError
        if broken:
            raise StoreUnavailable("the store is out of reach", retry_after=1.0)


def abandon(random: Random, life: Life) -> None:
    """Let one who waits for an answer go away: a browser that is closed."""
    if waiting := [task for task in life.requests if not task.done()]:
        random.choice(waiting).cancel()


@dataclass
class Redemption:
    """A refresh token that was spent, and what became of the answer."""

    family: Family
    resource: tuple[str, ...]
    by: Life
    at: float
    lost: bool
    """The answer reached nobody."""

    @property
    def is_from_afar(self) -> bool:
        """Whether its process ended, or stood still for too long, since then."""
        return self.by.crashed or self.by.was_away(self.at)


class FaultyProvider(ScriptedProvider):
    """A provider behind a network that loses requests and answers.

    A request that was sent is answered, whether or not its sender still lives. The
    provider knows who spent which refresh token, and so whose fault it is if one comes
    twice.
    """

    def __init__(
        self, clock: Clock, loop: VirtualTimeLoop, dice: Dice, *, overlap: float = 0.0
    ) -> None:
        super().__init__(clock, overlap=overlap)
        self.otherwise = self._serve
        self.redemptions: dict[str, list[Redemption]] = {}
        """By the refresh token that was spent."""
        self.reused: list[tuple[Family, str]] = []
        self.judge: Callable[[Family, str], None] = lambda family, value: None
        """Told of every refresh token that comes again, when it comes."""
        self._loop = loop
        self._dice = dice
        self.too_late: list[Redemption] = []
        """Requests with a spent token whose process was gone when they came."""
        self._next: tuple[tuple[str, ...], Life, bool, float] | None = None

    def unacknowledged(self, family: Family) -> list[Redemption]:
        """Return the redemptions whose answer nobody may have had when it was needed.

        With those that came too late, from a process that had ended or stood still.
        """
        return [each for each in self.too_late if each.family is family] + [
            redemption
            for each in self.redemptions.values()
            for redemption in each
            if redemption.family is family and (redemption.lost or redemption.is_from_afar)
        ]

    def never_received(self, family: Family) -> bool:
        """Tell whether an answer reached nobody while others still looked out for it."""
        return any(
            each.lost or each.by.crashed or each.by.was_away(each.at, longer_than=SECOND_LOOK)
            for each in self.unacknowledged(family)
        )

    def redeemed(self, family: Family, resource: tuple[str, ...]) -> int:
        return sum(
            redemption.family is family and redemption.resource == resource
            for each in self.redemptions.values()
            for redemption in each
        )

    def on_redeemed(self, family: Family, value: str) -> None:
        assert self._next is not None
        resource, life, is_lost, _ = self._next
        redemption = Redemption(family, resource, life, self.clock(), is_lost or life.crashed)
        self.redemptions.setdefault(value, []).append(redemption)

    def on_reuse(self, family: Family, value: str) -> None:
        assert self._next is not None
        resource, life, is_lost, sent_at = self._next
        request = Redemption(family, resource, life, sent_at, is_lost)
        if request.is_from_afar:
            self.too_late.append(request)
        else:
            self.judge(family, value)

    async def revoke(self, token: Secret, *, token_type_hint: str = "refresh_token") -> None:
        life = self._loop.owner()
        assert isinstance(life, Life)
        fault = self._dice.for_provider()
        await self._dice.pause(PROVIDER_LATENCY / 5)
        if life.dead:
            raise asyncio.CancelledError
        if fault in ("refused", "503", "429", "lost"):
            raise lost(sent=fault == "lost")
        await super().revoke(token, token_type_hint=token_type_hint)
        if fault:
            raise lost()

    async def _serve(self, act: Act) -> Grant:
        life, resource = self._loop.owner(), self.calls[-1].resource
        assert isinstance(life, Life)
        fault = self._dice.for_provider()
        if life.dead:
            raise asyncio.CancelledError
        if fault in ("refused", "503", "429", "lost"):
            await self._dice.pause(self._dice.latency)
            raise self._failure(fault)
        work = self._answer(act, resource, life, is_lost=fault == "unacknowledged")
        answer = self._loop.begin_for(None, work)
        # Whatever becomes of the sender, what was sent is acted on.
        await asyncio.wait((answer,))
        await life.step()
        if life.dead:
            raise asyncio.CancelledError
        grant = answer.result()
        if fault or isinstance(grant, ProtocolError):
            raise lost() if fault else grant
        return grant

    async def _answer(
        self, act: Act, resource: tuple[str, ...], life: Life, *, is_lost: bool
    ) -> Grant | ProtocolError:
        sent_at = self.clock()
        await self._dice.pause(self._dice.latency)
        self._next = (resource, life, is_lost, sent_at)
        try:
            answer: Grant | ProtocolError = act()
        except ProtocolError as refusal:
            answer = refusal
        await self._dice.pause(self._dice.latency)
        return answer

    def _failure(self, fault: str) -> ProviderUnavailable:
        if fault == "503":
            return ProviderUnavailable("the provider answered 503", may_have_been_sent=True)
        if fault == "429":
            wait = 0.5 + 1.5 * self._dice.random.random()
            return ProviderUnavailable("the provider answered 429", retry_after=wait)
        return lost(sent=fault == "lost")


def forever(since: float) -> tuple[float, float]:
    return since, math.inf


def at_once(work: Any) -> Any:
    """Return what a coroutine comes to that waits for nothing."""
    try:
        work.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("it waits for something")
