"""What happens in a schedule in which everything goes wrong, and what must hold after it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from schedules import API, HOUR

from tokenward.errors import NotAuthenticated, SessionEnded

if TYPE_CHECKING:
    from schedules import Scene, User


async def storm(scene: Scene) -> None:
    """Let everything go wrong at once, and see that nothing is left of it."""
    scene.dice.store = 0.0 if scene.alone else scene.random.choice((0.0, 0.04, 0.1, 0.3))
    scene.dice.provider = scene.random.choice((0.0, 0.2, 0.5))
    for sub in ("alice", "bob")[: scene.random.choice((1, 1, 2))]:
        await scene.log_in(sub)
    disasters = scene.disasters()
    requests = scene.requests()
    scene.lose_patience(scene.random.choice((0, 3, 12)))
    await asyncio.wait([*requests, *disasters])
    for each in (*requests, *disasters):
        if not each.cancelled():
            each.result()
    await scene.settle()


async def expect_orderly(scene: Scene) -> list[User]:
    """Return whose sessions live on; see that those of the others ended in order."""
    alive = []
    for user in scene.users:
        # Whatever was lost, another request shows it, be it for the other target.
        await scene.ask_everywhere(user, resource=API)
        answers = await scene.ask_everywhere(user)
        failures = {type(answer) for answer in answers if isinstance(answer, BaseException)}
        assert failures <= {SessionEnded, NotAuthenticated}
        session = await scene.newest(user)
        if session is None or not scene.is_good(user, session):
            is_explained = user.family.dead == "reuse" or scene.provider.never_received(user.family)
            assert is_explained, "the session is lost, and nobody knows why"
        else:
            assert not failures
            assert len({answer.value for answer in answers}) == 1, "all have the same token"
            alive.append(user)
    return alive


async def expect_next_expiry(scene: Scene) -> None:
    """See that whoever still has a session goes on with it, as if nothing had been."""
    alive = await expect_orderly(scene)
    scene.elapsed += HOUR
    for user in alive:
        before = user.family.redeemed
        answers = await scene.ask_everywhere(user)
        assert not [answer for answer in answers if isinstance(answer, BaseException)]
        assert user.family.redeemed == before + 1
    await scene.drain()
    scene.expect_nothing_left()
