"""Random interleavings with everything that goes wrong: what may be lost, and what not.

One seed is one interleaving; a failure names its seed, and
`SIMULATION_SEED=<seed> SIMULATION_RUNS=1` runs it again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from promises import expect_next_expiry, storm
from schedules import API, explore

if TYPE_CHECKING:
    from schedules import Scene
    from simulation import Simulation

topologies = pytest.mark.parametrize("topology", ["store", "cookies", "alone"])


@topologies
@pytest.mark.case(232)
@pytest.mark.case(233)
def test_a_session_is_lost_only_with_an_answer_that_nobody_received(
    request: pytest.FixtureRequest, simulation: Simulation, topology: str
) -> None:
    async def play(scene: Scene) -> None:
        scene.provider.detects_reuse = scene.random.random() < 0.7
        await storm(scene)
        for user in scene.users:
            unacknowledged = len(scene.provider.unacknowledged(user.family))
            assert not user.family.dead or unacknowledged
            for resource in ((), (API,)):
                assert scene.provider.redeemed(user.family, resource) <= 1 + unacknowledged
        await expect_next_expiry(scene)

    explore(request, simulation, play, topology=topology, runs=2500)
