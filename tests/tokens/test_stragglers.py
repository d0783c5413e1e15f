"""Old cookies lead to the newest session, and ended sessions stay ended."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import permutations
from typing import TYPE_CHECKING

import pytest
from scripted import HOUR, World

from tokenward import events
from tokenward.errors import AccessError, NotAuthenticated, StoreUnavailable
from tokenward.secret import Secret
from tokenward.tokens.session_format import write_session
from tokenward.tokens.stragglers import KEEP
from tokenward.web.cookie_records import EndedSessions

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from scripted import Process

    from conftest import LoopClock
    from tokenward.tokens.session import Session


@pytest.fixture
def world(cookie_world: World) -> World:
    """Sessions in cookies."""
    return cookie_world


def next_version(world: World, session: Session) -> Session:
    return session.with_tokens(world.provider.log_in(str(session.claims["sub"])))


@pytest.mark.case(252)
@pytest.mark.parametrize("seconds", [0, 1, 10, 29])
async def test_the_old_cookie_leads_to_the_result_for_thirty_seconds(
    world: World, clock: LoopClock, seconds: float
) -> None:
    process, other, session = world.process(), world.process(), await world.log_in()
    clock.advance(HOUR)
    token = await process.token(session)
    clock.advance(seconds)
    assert await process.token(session) == token
    assert await other.token(session) == token, "also where it was not refreshed"
    assert len(world.provider.calls) == 1


async def test_after_that_the_store_forgets(world: World, clock: LoopClock) -> None:
    process, session = world.process(), await world.log_in()
    await process.token(session, force_renewal=True)
    clock.advance(KEEP)
    assert await process.cookies.newest(session) is session


@pytest.mark.case(252)
async def test_a_cookie_that_comes_later_still_spends_nothing(
    world: World, clock: LoopClock
) -> None:
    """A long upload, say: the browser has a newer cookie, whose session must live on."""
    process, other, session = world.process(), world.process(), await world.log_in()
    await process.token(session, force_renewal=True)
    newer = await process.newest(session)
    clock.advance(KEEP)
    with pytest.raises(NotAuthenticated):
        await other.token(session, force_renewal=True)
    assert await other.token(newer, force_renewal=True)
    assert len(world.provider.calls) == 2
    assert other.told(events.SessionEnded) == []


async def test_a_refresh_token_that_does_not_rotate_is_never_spent(
    world: World, clock: LoopClock
) -> None:
    world.provider.rotates = False
    process, session = world.process(), await world.log_in()
    await process.token(session, force_renewal=True)
    clock.advance(KEEP)
    assert await process.token(session, force_renewal=True)


@pytest.mark.case(254)
async def test_an_old_cookie_is_led_through_several_refreshes(
    world: World, clock: LoopClock
) -> None:
    process, first = world.process(), await world.log_in()
    generations = [first]
    for _ in range(3):
        await process.token(generations[-1], force_renewal=True)
        generations.append(await process.newest(generations[-1]))
        clock.advance(5)
    newest = generations[-1]
    assert [session.version for session in generations] == [1, 2, 3, 4]
    for order in permutations(generations):
        for session in order:
            assert await process.newest(session) == newest
    assert len(world.provider.calls) == 3


async def test_the_store_can_read_nothing_of_what_waits(world: World) -> None:
    process, session = world.process(), await world.log_in()
    await process.token(session, force_renewal=True)
    new = await process.newest(session)
    old_token, new_token = session.tokens.refresh_token, new.tokens.refresh_token
    assert old_token is not None
    assert new_token is not None
    key = next(key for name, key in process.store.calls if name == "put" and ":spent-" in key)
    entry = await world.memory.get(key)
    assert entry is not None
    for secret in (old_token.reveal(), new_token.reveal(), new.tokens.access_token.value):
        assert secret not in key
        assert secret.encode() not in entry.value
    assert write_session(new) not in entry.value


@pytest.mark.case(263)
async def test_a_result_of_another_session_is_none(world: World) -> None:
    process = world.process()
    alice, bob = await world.log_in("alice"), await world.log_in("bob")
    # The worst that a store can do: give what belongs to bob under the key of alice.
    disguised = replace(alice, tokens=replace(bob.tokens, refresh_token=alice.tokens.refresh_token))
    theirs = replace(disguised, id=bob.id)
    assert await process.cookies._stragglers.publish(alice, theirs)
    assert await process.cookies.newest(alice) is alice


async def test_what_was_tampered_with_is_no_result(world: World) -> None:
    process, session = world.process(), await world.log_in()
    await process.token(session, force_renewal=True)
    key = next(key for name, key in process.store.calls if name == "put" and ":spent-" in key)
    entry = await world.memory.get(key)
    assert entry is not None
    spoilt = entry.value[:-1] + bytes([entry.value[-1] ^ 1])
    await world.memory.put(key, spoilt, ttl=30, version=entry.version)
    assert await process.cookies.newest(session) is session


async def test_whoever_has_another_refresh_token_finds_nothing(world: World) -> None:
    process, session = world.process(), await world.log_in()
    await process.token(session, force_renewal=True)
    guess = replace(session, tokens=replace(session.tokens, refresh_token=Secret("guess")))
    assert await process.cookies.newest(guess) is guess


async def test_of_two_results_the_first_stays(world: World) -> None:
    process, session = world.process(), await world.log_in()
    first, second = next_version(world, session), next_version(world, session)
    assert await process.cookies.replace(session, first) == first
    assert await process.cookies.replace(session, second) is None
    assert await process.newest(session) == first


async def test_a_session_without_refresh_token_is_what_it_is(world: World) -> None:
    process, session = world.process(), await world.log_in()
    session = replace(session, tokens=replace(session.tokens, refresh_token=None))
    changed = replace(session, version=2)
    assert await process.records.reload(session) is session
    assert await process.records.replace(session, changed) == changed
    await process.cookies.end(session)
    assert await process.records.reload(session) is None
    assert await process.records.replace(session, changed) is None


# ------------------------------------------------------------- the end


@pytest.mark.case(252)
async def test_after_a_logout_the_old_cookie_leads_nowhere(world: World, clock: LoopClock) -> None:
    process, other, session = world.process(), world.process(), await world.log_in()
    await process.token(session, force_renewal=True)
    newest = await process.newest(session)
    assert await other.cookies.end(session)
    for cookie in (session, newest):
        assert await process.records.reload(cookie) is None
    clock.advance(6 * 24 * HOUR)
    assert await process.records.reload(session) is None
    assert not await process.cookies.end(session), "a session ends once"


async def test_a_logout_and_a_result_always_see_each_other(world: World) -> None:
    """At every step of one the other runs through: what is published is never living."""
    for steps in range(12):
        process, other, session = world.process(), world.process(), await world.log_in()
        new = next_version(world, session)
        writing = asyncio.ensure_future(process.records.replace(session, new))
        for _ in range(steps):
            await asyncio.sleep(0)
        await other.cookies.end(session)
        last = await other.cookies.newest(session)
        written = await writing
        # Either the refresh knows, and revokes; or the logout found what it has to revoke.
        assert written is None or last == new
        assert await process.records.reload(session) is None
        published = [key for name, key in process.store.calls if name == "put"]
        assert written or not any([await world.memory.get(key) for key in published])


async def test_a_grant_that_is_dead_and_a_result_never_both_win(world: World) -> None:
    outcomes = set()
    for steps in range(12):
        process, other, session = world.process(), world.process(), await world.log_in()
        new = next_version(world, session)
        writing = asyncio.ensure_future(process.records.replace(session, new))
        for _ in range(steps):
            await asyncio.sleep(0)
        dropped = await other.records.drop(session)
        written = await writing
        assert dropped is (written is None)
        assert await other.records.reload(session) == written
        outcomes.add(dropped)
    assert outcomes == {True, False}


async def test_the_process_remembers_by_itself_who_ended(world: World) -> None:
    process, session = world.process(), await world.log_in()
    ended = process.cookies._remember
    assert session not in ended
    with process.store.outage("put"), pytest.raises(Exception, match="out of reach"):
        await process.cookies.end(session)
    assert session not in ended, "it goes on: nobody else would know"
    await process.cookies.end(session)
    with process.store.outage("get"):
        assert session in ended


async def test_a_process_remembers_ten_thousand_and_forgets_the_oldest(world: World) -> None:
    session = await world.log_in()
    ended = EndedSessions()
    for number in range(10_001):
        ended.add(replace(session, id=str(number)))
    assert replace(session, id="0") not in ended
    assert replace(session, id="1") in ended
    assert replace(session, id="10000") in ended


async def test_a_chain_that_never_ends_is_not_followed_for_ever(world: World) -> None:
    session = first = await world.log_in()
    process = world.process()
    for _ in range(120):
        new = next_version(world, session)
        await process.records.replace(session, new)
        session = new
    found = await process.newest(first)
    assert found.version == 101


async def test_a_session_whose_end_was_marked_by_half_is_over(world: World) -> None:
    """The store went away between the two marks of an end."""
    process, other, session = world.process(), world.process(), await world.log_in()
    process.store.before = fail_at(process, f"{session.id}:ended")
    with pytest.raises(StoreUnavailable):
        await process.cookies.drop(session)
    assert await other.records.reload(session) is None
    assert isinstance(await refused(other, session), NotAuthenticated)


def fail_at(process: Process, key: str) -> Callable[[str, str], Awaitable[None]]:
    async def fail(name: str, asked: str) -> None:
        if asked == key:
            process.store.down = frozenset({name})

    return fail


async def refused(process: Process, session: Session) -> Exception:
    with pytest.raises(AccessError) as caught:
        await process.token(session, force_renewal=True)
    return caught.value
