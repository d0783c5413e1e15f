"""What came too late to be written goes back, if the session is over; an outage ends none."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tokenward.events import RevocationFailed

if TYPE_CHECKING:
    from scripted import Process, World

    from tokenward.tokens.session import Session


@pytest.fixture
def process(world: World) -> Process:
    return world.process()


@pytest.fixture
async def session(world: World) -> Session:
    return await world.log_in()


def discard(process: Process, session: Session) -> None:
    """Have something that came for the session, and that its record did not take."""
    process.refresher._unsaved.discard(process.records, session)


async def test_what_came_for_a_session_that_lives_stays(process: Process, session: Session) -> None:
    discard(process, session)
    await process.drain()
    assert process.provider.revoked == []
    assert process.told(RevocationFailed) == []


async def test_what_came_for_a_session_that_is_over_goes_back(
    world: World, process: Process, session: Session
) -> None:
    await world.log_out(process, session)
    await process.drain()
    process.provider.revoked.clear()
    discard(process, session)
    await process.drain()
    assert len(process.provider.revoked) == 1


async def test_an_outage_is_waited_for(process: Process, session: Session) -> None:
    with process.store.outage():
        discard(process, session)
        await asyncio.sleep(20)
    await process.drain()
    assert process.provider.revoked == []
    assert process.told(RevocationFailed) == []


async def test_what_nobody_can_tell_about_is_told_and_not_revoked(
    process: Process, session: Session
) -> None:
    with process.store.outage():
        discard(process, session)
        await process.drain()
    assert process.provider.revoked == [], "it may be all that a session has"
    assert [event.error for event in process.told(RevocationFailed)] == ["store_unavailable"]


async def test_a_shutdown_amid_an_outage_tells_too(process: Process, session: Session) -> None:
    with process.store.outage():
        discard(process, session)
        await process.users.drain(timeout=1.0)
    assert process.provider.revoked == []
    assert [event.error for event in process.told(RevocationFailed)] == ["store_unavailable"]
