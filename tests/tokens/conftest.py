"""Tests of this folder run on a loop whose time jumps; see `simulation.py`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

# `scripted` and `simulation` are modules beside this one.
sys.path.insert(0, str(Path(__file__).parent))

from scripted import World
from simulation import Simulation, VirtualTimeLoop

if TYPE_CHECKING:
    from collections.abc import Iterator

START = 1_893_456_000.0


class LoopClock:
    """The time of the running loop, from a start that is a date."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return START + self.ahead + asyncio.get_running_loop().time()

    def advance(self, seconds: float) -> None:
        """Let time pass for the tokens, and for nobody who waits."""
        self.ahead += seconds


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Run async tests on virtual time."""
    return "asyncio", {"loop_factory": VirtualTimeLoop}


@pytest.fixture
def clock() -> LoopClock:
    """The time of tokens and stores."""
    return LoopClock()


@pytest.fixture(params=["stored", "cookie"])
def world(request: pytest.FixtureRequest, clock: LoopClock) -> World:
    """A provider and a store, with sessions in the store and with sessions in cookies."""
    return World(request.param, clock)


@pytest.fixture
def stored_world(clock: LoopClock) -> World:
    """A provider and a store, with sessions in the store."""
    return World("stored", clock)


@pytest.fixture
def cookie_world(clock: LoopClock) -> World:
    """A provider, and a store that only coordinates: sessions are in cookies."""
    return World("cookie", clock)


@pytest.fixture
def simulation() -> Iterator[Simulation]:
    """A loop that all schedules of one test share."""
    simulation = Simulation()
    yield simulation
    simulation.close()
