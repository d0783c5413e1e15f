"""Random interleavings before a provider that forgives: nothing is lost, whatever goes wrong.

One seed is one interleaving; a failure names its seed, and
`SIMULATION_SEED=<seed> SIMULATION_RUNS=1` runs it again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from promises import expect_next_expiry, storm
from schedules import explore

if TYPE_CHECKING:
    from schedules import Scene
    from simulation import Simulation

OVERLAP = 30.0
"""Seconds for which the provider takes a spent refresh token once more."""

topologies = pytest.mark.parametrize("topology", ["store", "cookies", "alone"])


@topologies
def test_no_session_is_lost_where_the_provider_takes_a_spent_token_for_a_while(
    request: pytest.FixtureRequest, simulation: Simulation, topology: str
) -> None:
    async def play(scene: Scene) -> None:
        await storm(scene)
        assert not [user for user in scene.users if user.family.dead]
        await expect_next_expiry(scene)

    explore(request, simulation, play, topology=topology, runs=2000, overlap=OVERLAP)
