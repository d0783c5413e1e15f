"""One schedule: three processes, users whose tokens have expired, and what goes wrong."""

from __future__ import annotations

import asyncio
import os
from contextlib import contextmanager
from random import Random
from typing import TYPE_CHECKING, Any

from faults import (
    Dice,
    FaultyProvider,
    FaultyStore,
    Life,
    abandon,
    at_once,
    forever,
)
from scripted import HOUR, Handle, World
from seeds import REGRESSIONS

from tokenward.errors import (
    NotAuthenticated,
    SessionEnded,
    StoreUnavailable,
    TokenExpired,
    TokenUnavailable,
)
from tokenward.tokens.models import Target
from tokenward.tokens.refresh import SECOND_LOOK
from tokenward.tokens.stragglers import KEEP

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    import pytest
    from scripted import Family, Process
    from simulation import Simulation, VirtualTimeLoop

    from tokenward.clock import Clock
    from tokenward.tokens.session import Session

SHARE = int(os.environ.get("SIMULATION_SHARE", "1"))
"""How many times as many schedules as `scripts/test` runs; `scripts/soak` runs more."""
FIRST = int(os.environ.get("SIMULATION_SEED", "0"))
ONLY = int(os.environ.get("SIMULATION_RUNS", "0"))
"""Schedules of each test, whatever its share; 0: its share."""

PROCESSES = 3
TASKS = 8
START = 1_893_456_000.0
API = "https://api.test"
TARGETS = (Target(), Target(), Target(resource=(API,)))

# Everything sixteen times as fast as by default: whoever waits looks twenty times a second.
LEASE = 0.5
SETTINGS: dict[str, Any] = {
    "lease_ttl": LEASE,
    "lease_renewal": LEASE / 4,
    # Longer than a process looks out for what another one may have got.
    "wait": SECOND_LOOK + 1.0,
    # Longer than a process stands still.
    "save_retry": 6.0,
}

ARRIVAL = 0.25
"""Seconds within which all requests come."""
SHORT_STOP = 0.3
"""Seconds that a process may stand still without losing a lease, with a renewal that is due
and slow."""
LONG_STOP = 1.0

DECLARED = (
    TokenUnavailable,
    SessionEnded,
    NotAuthenticated,
    TokenExpired,
    asyncio.CancelledError,
)


class User:
    """Who is logged in, and what his browser holds."""

    def __init__(self, session: Session, family: Family) -> None:
        self.first = session
        self.cookie = session
        self.family = family
        self.sub = family.sub


class Machine:
    """Runs a process of the app: it may die and start again, and stand still."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self.start()

    def start(self) -> None:
        scene = self._scene
        self.life = Life()
        self.store = FaultyStore(scene.world.memory, scene.dice, self.life)
        self.process: Process = scene.world.process_over(
            self.store, jitter=scene.random.random, **SETTINGS
        )

    def begin(self, work: Any) -> asyncio.Task[Any]:
        """Begin what a browser wants of this process."""
        task = self._scene.loop.begin_for(self.life, work)
        self.life.requests.append(task)
        return task

    def die(self) -> None:
        """End like after SIGKILL: nothing is cleaned up, and nothing remembered."""
        self.life.dead = self.life.crashed = True

    async def rise(self) -> None:
        """Start again after `die`."""
        while tasks := self._scene.loop.tasks_of(self.life):
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        self.start()

    async def restart(self) -> None:
        """End as servers do: answer who is there, wait for what goes on, and then stop."""
        life, process = self.life, self.process
        self.start()
        if life.requests:
            await asyncio.wait(life.requests)
        await process.drain()
        life.dead = True

    def freeze(self) -> None:
        """Do nothing from now on, as after SIGSTOP, or when something blocks the loop."""
        freeze(self.life, self._scene.loop, self._scene.clock)

    async def thaw(self, seconds: float) -> None:
        """Go on after that many seconds."""
        await thaw(self.life, self._scene.loop, self._scene.clock, seconds)


def freeze(life: Life, loop: VirtualTimeLoop, clock: Clock) -> None:
    loop.hold(life)
    life.stood_still.append(forever(clock()))


async def thaw(life: Life, loop: VirtualTimeLoop, clock: Clock, seconds: float) -> None:
    await asyncio.sleep(seconds)
    since, _ = life.stood_still.pop()
    if seconds > SHORT_STOP:
        life.stood_still.append((since, clock()))
    loop.go_on(life)


class Scene:
    """One interleaving, from one seed."""

    def __init__(
        self, topology: str, simulation: Simulation, seed: int, *, overlap: float = 0.0
    ) -> None:
        self.random = Random(seed)
        self.loop = simulation.loop
        self.elapsed = HOUR - simulation.loop.time()
        self.dice = Dice(self.random)
        self.provider = FaultyProvider(self.clock, self.loop, self.dice, overlap=overlap)
        self.provider.judge = self.judge
        kind = "stored" if topology == "store" else "cookie"
        self.world = World(kind, self.clock, provider=self.provider)
        # Without a store beside them, cookies are good for one process alone.
        self.alone = topology == "alone"
        self.machines = [Machine(self) for _ in range(1 if self.alone else PROCESSES)]
        self.users: list[User] = []
        self.problems: list[str] = []

    def clock(self) -> float:
        return START + self.elapsed + self.loop.time()

    async def log_in(self, sub: str) -> User:
        """Log in an hour ago: the token is over now."""
        self.elapsed -= HOUR
        session = await self.world.log_in(sub)
        self.elapsed += HOUR
        assert session.tokens.refresh_token is not None
        user = User(session, self.provider.families[session.tokens.refresh_token.reveal()])
        self.users.append(user)
        return user

    async def newest(self, user: User) -> Session | None:
        """Return what anybody would find of the session; None if it ended."""
        process = self.world.process_over(self.world.memory)
        return await process.records.reload(user.cookie)

    def judge(self, family: Family, value: str) -> None:
        """Tell whose fault it is that a refresh token was sent that had been spent.

        Nobody's, if nobody had the answer of the first time when he needed it.
        """
        (user,) = [user for user in self.users if user.family is family]
        known = at_once(self.newest(user))
        saved = known is not None and known.tokens.refresh_token.reveal() != value
        if not any(
            each.lost or each.by.was_away(each.at) or (each.by.crashed and not saved)
            for each in self.provider.redemptions[value]
        ):
            self.problems.append("a refresh token was spent twice")

    # ------------------------------------------------------------------ requests

    async def ask(
        self, machine: Machine, user: User, target: Target, *, within: float = ARRIVAL
    ) -> Any:
        """Come in some time, as a request does that was read before or after the others."""
        process = machine.process
        handle = Handle(process.records, user.cookie)
        try:
            handle.session = await self.read(process, user)
            await self.dice.pause(within)
            token = await process.users.token(handle, target=target)
        except DECLARED as error:
            return error
        assert f"-of-{user.sub}-" in token.value, "somebody else's token"
        assert token.resource == target.resource
        user.cookie = handle.session or user.cookie
        return token

    async def read(self, process: Process, user: User) -> Session | None:
        """Read the session as a request does: the record, or the cookie, if that may be old."""
        session = user.cookie
        renewed = session.renewed_at
        if self.world.kind == "cookie" and (
            renewed == session.created_at or self.clock() - renewed >= KEEP
        ):
            return session
        try:
            return await process.records.reload(session)
        except StoreUnavailable:
            if self.world.kind == "cookie":
                return session
        raise TokenUnavailable("the session store is out of reach")

    def requests(self) -> list[asyncio.Task[Any]]:
        """Let every process have its requests, of all users and for several targets."""
        number = PROCESSES * TASKS
        return [
            machine.begin(self.ask(machine, user, self._target(turn)))
            for turn in range(number // len(self.machines))
            for machine in self.machines
            for user in [self.random.choice(self.users)]
        ]

    def _target(self, turn: int) -> Target:
        return self.random.choice(TARGETS) if turn % 2 else TARGETS[0]

    def lose_patience(self, number: int) -> None:
        """Let some browsers go away; what they began goes on."""
        for _ in range(number):
            life = self.random.choice(self.machines).life
            self.loop.call_later(self.random.random() * 2 * ARRIVAL, abandon, self.random, life)

    # ---------------------------------------------------------------- disasters

    def disasters(self) -> list[asyncio.Task[Any]]:
        """Begin what befalls processes; one that comes to an end is asked by others again."""
        befalls = (self._crash, self._restart, self._stop_shortly, self._stop_long, self._stutter)
        number = 0 if self.alone else self.random.choice((0, 0, 1, 1, 2))
        if number:
            self.dice.renewals = 0
        return [
            self.loop.create_task(self.random.choice(befalls)(machine))
            for machine in self.random.sample(self.machines, number)
        ]

    async def _strike(
        self, machine: Machine, strike: Callable[[], None], *, steps: int = 60
    ) -> None:
        """Let something happen at some time, or between two steps that take no time."""
        if self.random.random() < 0.3:
            await asyncio.sleep(self.random.random() * 2 * ARRIVAL)
            strike()
        else:
            number = self.random.randrange(steps) + 1
            await machine.life.come_to(number, strike, within=2 * ARRIVAL)

    async def _crash(self, machine: Machine) -> None:
        await self._strike(machine, machine.die)
        await machine.rise()
        await self._ask_again(machine)

    async def _restart(self, machine: Machine) -> None:
        await asyncio.sleep(self.random.random() * 2 * ARRIVAL)
        await asyncio.gather(machine.restart(), self._ask_again(machine))

    async def _stop_shortly(self, machine: Machine) -> None:
        await self._strike(machine, machine.freeze)
        await machine.thaw(self.random.random() * SHORT_STOP)

    async def _stop_long(self, machine: Machine) -> None:
        await self._strike(machine, machine.freeze)
        await machine.thaw(SHORT_STOP + self.random.random() * LONG_STOP)

    async def _stutter(self, machine: Machine) -> None:
        for steps in (40, 6, 6):
            await self._strike(machine, machine.freeze, steps=steps)
            await machine.thaw(SHORT_STOP + self.random.random() * LONG_STOP)

    async def _ask_again(self, machine: Machine) -> None:
        await asyncio.sleep(0)
        again = [
            machine.begin(self.ask(machine, self.random.choice(self.users), TARGETS[0]))
            for _ in range(2)
        ]
        await asyncio.wait(again)

    # ------------------------------------------------------------------ the end

    async def drain(self) -> None:
        for machine in self.machines:
            await self.loop.begin_for(machine.life, machine.process.drain())

    async def settle(self) -> None:
        """Let everything that still goes on end, and nothing go wrong any more."""
        self.dice.calm()
        await self.drain()
        # Pauses after failures, breakers, and leases of the dead.
        await asyncio.sleep(8.0)

    async def ask_everywhere(self, user: User, *, resource: str = "") -> list[Any]:
        """Ask each process once."""
        target = Target(resource=(resource,)) if resource else Target()
        asked = [
            machine.begin(self.ask(machine, user, target, within=0.1)) for machine in self.machines
        ]
        return await asyncio.gather(*asked)

    def expect_nothing_left(self) -> None:
        """See that no process holds anything of what is over."""
        now = self.clock()
        for machine in self.machines:
            users, refresher = machine.process.users, machine.process.refresher
            assert len(users._flights) == len(users._revocations) == 0
            assert len(refresher._unsaved) == len(refresher._unsaved._background) == 0
            assert not refresher._leases._releases
            assert not refresher._leases._at_work
            assert not machine.process.revoker._background
            for rooms in refresher._rooms._loops.values():
                assert not any(room.locked() or room._waiters for room in rooms.values())
        leases = self.world.memory._leases
        assert not [key for key in leases._things if leases.has(key, now)], "a lease is left"
        assert not self.problems, self.problems

    def is_good(self, user: User, session: Session) -> bool:
        """Tell whether the provider would take the refresh token that the session has."""
        token = session.tokens.refresh_token
        assert token is not None
        return not user.family.dead and self.provider.takes(user.family, token.reveal())


def seeds_of(test: str, topology: str, runs: int) -> Iterator[int]:
    """Yield the seeds that failed once, and then others."""
    yield from (r.seed for r in REGRESSIONS if (r.test, r.topology) == (test, topology))
    yield from range(FIRST, FIRST + (ONLY or runs * SHARE))


@contextmanager
def named(seed: int) -> Iterator[None]:
    """Let a failure tell which seed it was."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"SIMULATION_SEED={seed} SIMULATION_RUNS=1 shows it again")
        raise


def explore(
    request: pytest.FixtureRequest,
    simulation: Simulation,
    play: Callable[[Scene], Awaitable[None]],
    *,
    topology: str,
    runs: int,
    overlap: float = 0.0,
) -> None:
    """Play a scene in the interleaving of each seed."""
    for seed in seeds_of(request.node.originalname, topology, runs):
        scene = Scene(topology, simulation, seed, overlap=overlap)
        with named(seed):
            simulation.run(play(scene), shuffle=Random(seed))
