"""Refresh tokens go back, best effort, and nobody waits for long."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from scripted import World, lost, refusal

from tokenward.errors import ConfigurationError, ProviderUnavailable
from tokenward.events import RevocationFailed, Revoked


@pytest.fixture
def world(stored_world: World) -> World:
    """Sessions in a store."""
    return stored_world


def now() -> float:
    return asyncio.get_running_loop().time()


async def test_a_token_goes_back_in_the_background(world: World) -> None:
    process, session = world.process(), await world.log_in()
    assert session.tokens.refresh_token is not None
    process.revoker.begin(session)
    assert world.provider.revoked == []
    await process.revoker.drain(timeout=1.0)
    assert world.provider.revoked == [session.tokens.refresh_token.reveal()]
    assert process.told(Revoked) == [Revoked("refresh_token")]


@pytest.mark.parametrize(
    ("failures", "tries", "problem"),
    [
        pytest.param([lost()], 2, None, id="no answer, then well"),
        pytest.param([lost()] * 2, 3, None, id="twice no answer, then well"),
        pytest.param([lost()] * 3, 3, "ProviderUnavailable", id="given up after three"),
        pytest.param([refusal("invalid_client")], 1, "invalid_client", id="a refusal is final"),
        pytest.param([refusal("http_429", status=429)], 2, None, id="too many requests"),
        pytest.param([ProviderUnavailable("503")], 2, None, id="an outage"),
        pytest.param([ConfigurationError("x", "y")] * 3, 3, "ConfigurationError", id="settings"),
    ],
)
async def test_what_may_pass_is_tried_again_and_what_will_not_is_not(
    world: World, failures: list[Exception], tries: int, problem: str | None
) -> None:
    process, session = world.process(), await world.log_in()
    world.provider.revocation_failures.extend(failures)
    process.revoker.begin(session)
    await process.revoker.drain(timeout=60.0)
    told = process.told(RevocationFailed)
    assert [event.error for event in told] == ([problem] if problem else [])
    used = len(failures) - len(world.provider.revocation_failures)
    assert used + len(world.provider.revoked) == tries


async def test_nothing_to_give_back_is_fine(world: World) -> None:
    process, session = world.process(), await world.log_in()
    without = replace(session, tokens=replace(session.tokens, refresh_token=None))
    assert process.revoker.begin(without) is None
    assert process.revoker.begin(replace(session, provider="gone")) is None
    await process.revoker.give_back(without, patience=2.0)


async def test_who_gives_back_waits_as_long_as_he_is_patient(world: World) -> None:
    process, session = world.process(), await world.log_in()
    world.provider.revocation_failures.extend([lost()] * 2)
    began = now()
    await process.revoker.give_back(session, patience=2.0)
    assert now() - began == pytest.approx(2.0, abs=0.01)
    assert world.provider.revoked == []
    await process.revoker.drain(timeout=60.0)
    assert len(world.provider.revoked) == 1


async def test_shutdown_does_not_wait_for_ever(world: World) -> None:
    process, session = world.process(), await world.log_in()
    world.provider.revocation_failures.extend([lost()] * 2)
    process.revoker.begin(session)
    await process.revoker.drain(timeout=1.0)
    assert not process.revoker._background
    assert world.provider.revoked == []
    assert [event.error for event in process.told(RevocationFailed)] == ["shutdown"]
