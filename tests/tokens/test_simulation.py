"""Random interleavings of several processes, with faults, against what must always hold.

One seed is one interleaving; a failure names its seed, and
`SIMULATION_SEED=<seed> SIMULATION_RUNS=1` runs it again.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from scripted import HOUR, Handle, World, lost, refuse
from simulation import Simulation

from tokenward.errors import (
    AccessError,
    NotAuthenticated,
    ProviderUnavailable,
    SessionEnded,
    TokenUnavailable,
)
from tokenward.tokens.models import Target

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scripted import Act, Process

    from tokenward.provider.grant import Grant
    from tokenward.tokens.session import Session

RUNS = int(os.environ.get("SIMULATION_RUNS", "100"))
"""Interleavings per promise and kind of session; a nightly run takes a hundred times as many."""
FIRST = int(os.environ.get("SIMULATION_SEED", "0"))

PROCESSES = 3
TASKS = 8
START = 1_893_456_000.0
TARGETS = (Target(), Target(), Target(resource=("https://api.test",)))

pytestmark = pytest.mark.parametrize("kind", ["stored", "cookie"])


@pytest.fixture
def simulation() -> Iterator[Simulation]:
    """A loop that all runs of one test share."""
    simulation = Simulation()
    yield simulation
    simulation.close()


class Scene:
    """One interleaving: three processes, one session that has expired, and what goes wrong."""

    def __init__(self, kind: str, simulation: Simulation, seed: int) -> None:
        self.random = Random(seed)
        self.loop = simulation.loop
        self.elapsed = HOUR - simulation.loop.time()
        self.world = World(kind, self.clock)
        # Everything four times as fast as by default, so that a run is short.
        self.processes = [
            self.world.process(lease_ttl=2.0, lease_renewal=0.4, wait=6.0, save_retry=8.0)
            for _ in range(PROCESSES)
        ]

    def clock(self) -> float:
        return START + self.elapsed + self.loop.time()

    async def log_in(self, sub: str = "alice") -> Session:
        self.elapsed -= HOUR
        session = await self.world.log_in(sub)
        self.elapsed += HOUR
        return session

    async def pause(self, longest: float) -> None:
        if self.random.random() < 0.7:
            await asyncio.sleep(self.random.random() * longest)

    async def slowly(self, act: Act) -> Grant:
        """Answer like a provider: the request takes its time, and so does the answer."""
        await self.pause(0.5)
        grant = act()
        await self.pause(0.5)
        return grant

    def be_slow(self) -> None:
        self.world.provider.script.extend([self.slowly] * 50)

    async def flicker(self, process: Process, seconds: float) -> None:
        """Take the store away from one process for a while."""
        await self.pause(0.8)
        operations = ["acquire", "renew", "release", "put", "get", "get_many", "delete", "all"]
        with process.store.outage(self.random.choice(operations)):
            await asyncio.sleep(seconds * self.random.random())

    async def drain(self) -> None:
        await asyncio.gather(*(process.drain() for process in self.processes))

    async def ask(self, process: Process, session: Session, target: Target) -> Any:
        """Come in some time, as a request does that was read before or after the others."""
        await self.pause(1.0)
        handle = Handle(process.records, session)
        try:
            return await process.users.token(handle, target=target)
        except AccessError as error:
            return error

    def requests(self, session: Session) -> list[asyncio.Task[Any]]:
        return [
            asyncio.ensure_future(
                self.ask(
                    process, session, self.random.choice(TARGETS if number % 2 else TARGETS[:1])
                )
            )
            for process in self.processes
            for number in range(TASKS)
        ]


def every_seed(kind: str, simulation: Simulation, play: Any) -> None:
    for seed in range(FIRST, FIRST + RUNS):
        scene = Scene(kind, simulation, seed)
        try:
            simulation.run(play(scene), shuffle=Random(seed))
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise


async def expect_alive(scene: Scene, session: Session) -> None:
    """The session is there, its refresh token is the provider's current one, and it works."""
    process = scene.random.choice(scene.processes)
    newest = await process.newest(session)
    (family,) = {id(f): f for f in scene.world.provider.families.values()}.values()
    assert not family.dead
    assert newest.tokens.refresh_token is not None
    assert newest.tokens.refresh_token.reveal() == family.current


@pytest.mark.case(220)
@pytest.mark.case(223)
def test_one_expiry_is_one_redemption_for_each_target(kind: str, simulation: Simulation) -> None:
    async def play(scene: Scene) -> None:
        scene.be_slow()
        session = await scene.log_in()
        tasks = scene.requests(session)
        # Some browsers go away; what they began goes on.
        for task in scene.random.sample(tasks, 5):
            scene.loop.call_later(scene.random.random(), task.cancel)
        answers = [a for a in await asyncio.gather(*tasks, return_exceptions=True) if a]
        await scene.drain()
        tokens = [a for a in answers if not isinstance(a, BaseException)]
        failures = [a for a in answers if isinstance(a, BaseException)]
        assert {type(failure) for failure in failures} <= {asyncio.CancelledError}
        calls = scene.world.provider.calls
        assert len(calls) == len({call.resource for call in calls})
        assert len({token.value for token in tokens}) <= len(calls)
        assert scene.world.provider.most_at_once == 1
        await expect_alive(scene, session)

    every_seed(kind, simulation, play)


@pytest.mark.case(232)
@pytest.mark.case(233)
def test_outages_of_store_and_provider_lose_no_session(kind: str, simulation: Simulation) -> None:
    async def play(scene: Scene) -> None:
        scene.be_slow()
        faults = [
            refuse(lost(sent=False)),
            refuse(ProviderUnavailable("503", retry_after=1.0)),
            scene.slowly,
        ]
        for _ in range(scene.random.randrange(3)):
            scene.world.provider.script.appendleft(scene.random.choice(faults))
        session = await scene.log_in()
        outages = [
            asyncio.ensure_future(scene.flicker(process, 1.0))
            for process in scene.random.sample(scene.processes, 2)
        ]
        answers = await asyncio.gather(*scene.requests(session))
        await asyncio.gather(*outages)
        failures = {type(answer) for answer in answers if isinstance(answer, Exception)}
        assert failures <= {TokenUnavailable}
        await scene.drain()
        await expect_alive(scene, session)
        scene.world.provider.script.clear()
        await asyncio.sleep(2)
        again = await asyncio.gather(
            *(scene.ask(process, session, Target()) for process in scene.processes)
        )
        assert not [str(error) for error in again if isinstance(error, Exception)]
        assert len(set(again)) == 1, "it goes on as if nothing had been"
        await scene.drain()
        await expect_alive(scene, session)

    every_seed(kind, simulation, play)


@pytest.mark.case(240)
def test_a_logout_at_any_time_wins_and_leaves_no_living_token(
    kind: str, simulation: Simulation
) -> None:
    async def play(scene: Scene) -> None:
        scene.be_slow()
        session = await scene.log_in()
        tasks = scene.requests(session)
        await scene.pause(1.2)
        process = scene.random.choice(scene.processes)
        await scene.world.log_out(process, session)
        answers = await asyncio.gather(*tasks)
        failures = {type(answer) for answer in answers if isinstance(answer, Exception)}
        assert failures <= {NotAuthenticated, SessionEnded}
        await scene.drain()
        for each in scene.processes:
            assert await each.records.reload(session) is None
            with suppress(AccessError):
                await each.token(session)
                raise AssertionError("it came back")
        await scene.drain()
        assert all(family.dead for family in scene.world.provider.families.values())

    every_seed(kind, simulation, play)


@pytest.mark.case(180)
def test_a_grant_that_is_over_is_asked_for_once_and_ends_one_session(
    kind: str, simulation: Simulation
) -> None:
    async def play(scene: Scene) -> None:
        scene.be_slow()
        session, other = await scene.log_in(), await scene.log_in("bob")
        assert session.tokens.refresh_token is not None
        family = scene.world.provider.families[session.tokens.refresh_token.reveal()]
        family.dead = "ended"
        answers = await asyncio.gather(*scene.requests(session), *scene.requests(other))
        await scene.drain()
        mine, theirs = answers[: len(answers) // 2], answers[len(answers) // 2 :]
        assert {type(answer) for answer in mine} <= {SessionEnded, NotAuthenticated}
        assert not any(isinstance(answer, Exception) for answer in theirs)
        assert [call.sub for call in scene.world.provider.calls].count("alice") == 1
        for process in scene.processes:
            assert await process.records.reload(session) is None
            assert await process.records.reload(other) is not None

    every_seed(kind, simulation, play)
