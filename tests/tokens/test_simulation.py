"""Random interleavings of several processes: one expiry is one refresh, for all who wait.

One seed is one interleaving; a failure names its seed, and
`SIMULATION_SEED=<seed> SIMULATION_RUNS=1` runs it again.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from schedules import API, explore

from tokenward.errors import NotAuthenticated, SessionEnded, TokenUnavailable

if TYPE_CHECKING:
    from schedules import Scene
    from simulation import Simulation

topologies = pytest.mark.parametrize("topology", ["store", "cookies", "alone"])


@topologies
@pytest.mark.case(220)
@pytest.mark.case(223)
def test_one_expiry_is_one_redemption_for_each_target(
    request: pytest.FixtureRequest, simulation: Simulation, topology: str
) -> None:
    async def play(scene: Scene) -> None:
        for sub in ("alice", "bob")[: scene.random.choice((1, 1, 2))]:
            await scene.log_in(sub)
        requests = scene.requests()
        scene.lose_patience(5)
        answers = await asyncio.gather(*requests, return_exceptions=True)
        await scene.drain()
        failures = {type(answer) for answer in answers if isinstance(answer, BaseException)}
        assert failures <= {asyncio.CancelledError}
        for user in scene.users:
            assert user.family.redeemed <= 2
            assert {scene.provider.redeemed(user.family, (API,))} <= {0, 1}
            assert {scene.provider.redeemed(user.family, ())} <= {0, 1}
            session = await scene.newest(user)
            assert session is not None
            assert scene.is_good(user, session)
        scene.expect_nothing_left()

    explore(request, simulation, play, topology=topology, runs=1800)


@topologies
@pytest.mark.case(180)
def test_a_grant_that_is_over_is_asked_for_once_and_ends_one_session(
    request: pytest.FixtureRequest, simulation: Simulation, topology: str
) -> None:
    async def play(scene: Scene) -> None:
        mine, other = await scene.log_in("alice"), await scene.log_in("bob")
        mine.family.dead = "ended"
        requests = scene.requests()
        answers = await asyncio.gather(*requests)
        await scene.drain()
        failures = {type(answer) for answer in answers if isinstance(answer, BaseException)}
        assert failures <= {SessionEnded, NotAuthenticated}
        assert [call.sub for call in scene.provider.calls].count("alice") <= 1
        again = await scene.ask_everywhere(other)
        assert not [answer for answer in again if isinstance(answer, TokenUnavailable)]
        assert await scene.newest(other) is not None
        ended = await scene.ask_everywhere(mine)
        assert {type(answer) for answer in ended} <= {SessionEnded, NotAuthenticated}
        assert await scene.newest(mine) is None
        await scene.drain()
        scene.expect_nothing_left()

    explore(request, simulation, play, topology=topology, runs=400)
