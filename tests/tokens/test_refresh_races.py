"""Many who want the same at once, in one process and in several, and those who come between."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING

import pytest
from scripted import HOUR, Handle, Held, World, lose_answer, lost, refusal, refuse
from simulation import VirtualTimeLoop

from tokenward import events
from tokenward.clock import SystemClock
from tokenward.errors import NotAuthenticated, SessionEnded, TokenUnavailable
from tokenward.tokens.lease import HeldLease

if TYPE_CHECKING:
    from scripted import Act, Process

    from conftest import LoopClock
    from tokenward.provider.grant import Grant
    from tokenward.tokens.models import AccessToken
    from tokenward.tokens.session import Session


def now() -> float:
    return asyncio.get_running_loop().time()


def begin(process: Process, session: Session) -> asyncio.Task[AccessToken]:
    return asyncio.ensure_future(process.token(session))


# ------------------------------------------------------------- together


@pytest.mark.case(220)
@pytest.mark.case(223)
async def test_a_hundred_tasks_are_one_call_and_one_lease(world: World, clock: LoopClock) -> None:
    process, session = world.process(), await world.log_in()
    clock.advance(HOUR)
    tokens = await asyncio.gather(*(process.token(session) for _ in range(100)))
    assert len(set(tokens)) == 1
    assert len(world.provider.calls) == 1
    assert [name for name, _ in process.store.calls].count("acquire") == 1


@pytest.mark.case(223)
async def test_three_processes_are_one_call(world: World, clock: LoopClock) -> None:
    processes = [world.process() for _ in range(3)]
    session = await world.log_in()
    clock.advance(HOUR)
    tokens = await asyncio.gather(*(p.token(session) for _ in range(25) for p in processes))
    assert len(set(tokens)) == 1
    assert len(world.provider.calls) == 1


@pytest.mark.case(223)
async def test_who_gets_the_lease_after_the_winner_reads_again_and_asks_nobody(
    world: World, clock: LoopClock
) -> None:
    winner, late = world.process(), world.process()
    session = await world.log_in()
    clock.advance(HOUR)
    held = await world.memory.acquire(f"{session.id}:lease", ttl=8.0)
    assert held is not None
    waiting = begin(late, session)
    await asyncio.sleep(0.5)
    # The winner's result is there before its lease is free.
    renewed = await winner.records.replace(
        session, session.with_tokens(replace(world.provider.log_in("alice"), others=()))
    )
    assert renewed is not None
    await world.memory.release(held)
    assert await waiting == renewed.tokens.access_token
    assert world.provider.calls == []


@pytest.mark.case(222)
def test_threads_with_loops_of_their_own_are_one_call() -> None:
    clock = SystemClock()
    world = World("stored", clock)
    process = world.process()
    session = asyncio.run(world.log_in())
    barrier = threading.Barrier(4)
    tokens: list[AccessToken] = []

    async def ask() -> None:
        barrier.wait()
        rejected = session.tokens.access_token
        asked = (process.token(session, rejected=rejected) for _ in range(10))
        tokens.extend(await asyncio.gather(*asked))
        await process.drain()

    threads = [threading.Thread(target=asyncio.run, args=(ask(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(tokens) == 40
    assert len(set(tokens)) == 1
    assert len(world.provider.calls) == 1


@pytest.mark.case(250)
async def test_nobody_finds_the_flight_gone_and_the_result_not_yet_there(
    world: World, clock: LoopClock
) -> None:
    """At every step of the loop during one refresh somebody new comes in."""
    process, other, session = world.process(), world.process(), await world.log_in()
    clock.advance(HOUR)
    tasks = [begin(process, session)]
    while not tasks[0].done():
        tasks += [begin(process, session), begin(other, session)]
        await asyncio.sleep(0)
    for _ in range(5):
        tasks += [begin(process, session), begin(other, session)]
        await asyncio.sleep(0)
    assert len(set(await asyncio.gather(*tasks))) == 1
    assert len(world.provider.calls) == 1


@pytest.mark.case(224)
async def test_who_waits_in_vain_is_told_after_ten_seconds_and_never_refreshes_anyway(
    world: World, clock: LoopClock
) -> None:
    holder, waiter, session = world.process(), world.process(), await world.log_in()
    clock.advance(HOUR)
    gate = Held()
    world.provider.script.append(gate)
    slow = begin(holder, session)
    await gate.entered.wait()
    began = now()
    with pytest.raises(TokenUnavailable) as caught:
        await waiter.token(session)
    assert now() - began == pytest.approx(10.0, abs=0.2)
    assert caught.value.retry_after > 0
    gate.go_on.set()
    await asyncio.gather(slow, return_exceptions=True)
    await holder.drain()
    assert len(world.provider.calls) == 1
    assert await waiter.token(session)
    assert len(world.provider.calls) == 1


@pytest.mark.case(259)
async def test_a_thousand_who_wait_for_a_slow_provider_are_one_task_and_wait_ten_seconds(
    world: World, clock: LoopClock
) -> None:
    process, session = world.process(), await world.log_in()
    clock.advance(HOUR)
    gate = Held()
    world.provider.script.append(gate)
    began, before = now(), len(asyncio.all_tasks())
    waiting = [begin(process, session) for _ in range(1000)]
    await gate.entered.wait()
    assert len(process.users._flights) == 1
    assert len(asyncio.all_tasks()) - before - len(waiting) <= 2, "the flight and its lease"
    failures = await asyncio.gather(*waiting, return_exceptions=True)
    assert {type(failure) for failure in failures} == {TokenUnavailable}
    assert now() - began == pytest.approx(10.0, abs=0.1)
    gate.go_on.set()
    await process.drain()
    assert await process.token(session), "what came late was saved"
    assert len(world.provider.calls) == 1


@pytest.mark.case(212)
async def test_an_answer_that_comes_after_everybody_gave_up_is_saved(
    world: World, clock: LoopClock
) -> None:
    process, session = world.process(wait=0.5), await world.log_in()
    clock.advance(HOUR)
    gate = Held(after_acting=True)
    world.provider.script.append(gate)
    with pytest.raises(TokenUnavailable):
        await process.token(session)
    gate.go_on.set()
    await process.drain()
    assert (await process.token(session)).is_valid(clock())
    assert len(world.provider.calls) == 1


@pytest.mark.case(258)
async def test_a_thousand_sessions_ask_the_provider_fifty_at_a_time(
    world: World, clock: LoopClock
) -> None:
    process = world.process()
    sessions = [await world.log_in(f"u{number}") for number in range(1000)]
    clock.advance(HOUR)
    tokens = await asyncio.gather(*(process.token(session) for session in sessions))
    assert len(set(tokens)) == 1000
    assert world.provider.most_at_once == 50


async def test_who_finds_no_room_at_the_provider_spends_nothing(
    world: World, clock: LoopClock
) -> None:
    process = world.process(concurrency=1)
    first, second = await world.log_in("alice"), await world.log_in("bob")
    clock.advance(HOUR)
    gate = Held()
    world.provider.script.append(gate)
    tasks = [begin(process, first)]
    await gate.entered.wait()
    tasks.append(begin(process, second))
    failures = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(failure) for failure in failures] == [TokenUnavailable] * 2
    gate.go_on.set()
    await process.drain()
    assert [call.sub for call in world.provider.calls] == ["alice"]
    assert await process.token(second), "the room is free again"


# ------------------------------------------------------------- the caller goes away


@pytest.mark.case(245)
async def test_a_caller_that_is_cancelled_at_any_step_loses_nothing(
    world: World, clock: LoopClock
) -> None:
    for steps in count():
        process, session = world.process(), await world.log_in(f"u{steps}")
        clock.advance(HOUR)
        caller = begin(process, session)
        for _ in range(steps):
            await asyncio.sleep(0)
        if caller.done():
            assert steps > 10
            break
        follower = begin(process, session)
        caller.cancel()
        await asyncio.gather(caller, return_exceptions=True)
        assert caller.cancelled()
        token = await follower
        assert (await process.newest(session)).tokens.access_token == token
        assert [call.sub for call in world.provider.calls].count(f"u{steps}") == 1
        await process.drain()
        assert len(process.users._flights) == 0


@pytest.mark.case(245)
async def test_a_rotated_token_is_saved_though_everybody_went_away(
    world: World, clock: LoopClock
) -> None:
    process, session = world.process(), await world.log_in()
    clock.advance(HOUR)
    gate = Held(after_acting=True)
    world.provider.script.append(gate)
    callers = [begin(process, session) for _ in range(3)]
    await gate.entered.wait()
    for caller in callers:
        caller.cancel()
    await asyncio.gather(*callers, return_exceptions=True)
    gate.go_on.set()
    await process.drain()
    current = next(iter(world.provider.families.values())).current
    saved = (await process.newest(session)).tokens.refresh_token
    assert saved is not None
    assert saved.reveal() == current


@pytest.mark.case(246)
async def test_shutdown_waits_for_a_refresh_under_way(world: World, clock: LoopClock) -> None:
    process, session = world.process(), await world.log_in()
    clock.advance(HOUR)
    gate = Held(after_acting=True)
    world.provider.script.append(gate)
    caller = begin(process, session)
    await gate.entered.wait()
    stopping = asyncio.ensure_future(process.users.drain(timeout=10.0))
    await asyncio.sleep(5)
    assert not stopping.done()
    gate.go_on.set()
    await stopping
    assert (await process.newest(session)).tokens.access_token == await caller
    assert len(asyncio.all_tasks()) <= 2, "no lease is renewed any more"


@pytest.mark.case(246)
async def test_a_shutdown_spends_nothing_that_it_cannot_wait_for(
    world: World, clock: LoopClock
) -> None:
    process = world.process(concurrency=1)
    sessions = [await world.log_in(f"user{number}") for number in range(6)]
    clock.advance(HOUR)

    async def act_and_be_slow(act: Act) -> Grant:
        grant = act()
        await asyncio.sleep(3)
        return grant

    world.provider.otherwise = act_and_be_slow
    callers = [begin(process, session) for session in sessions]
    await asyncio.sleep(0.5)
    for caller in callers:
        caller.cancel()
    await process.users.drain(timeout=10.0)
    await asyncio.gather(*callers, return_exceptions=True)
    assert len(world.provider.calls) == 1
    for session in sessions:
        saved, given = (await process.newest(session)).tokens.refresh_token, session.tokens
        assert saved is not None
        assert given.refresh_token is not None
        family = world.provider.families[given.refresh_token.reveal()]
        assert saved.reveal() == family.current


@pytest.mark.case(246)
async def test_shutdown_waits_no_longer_than_it_was_told(world: World, clock: LoopClock) -> None:
    process, session = world.process(), await world.log_in()
    clock.advance(HOUR)
    world.provider.script.append(Held())
    caller = begin(process, session)
    await asyncio.sleep(0.1)
    began = now()
    await process.users.drain(timeout=3.0)
    assert now() - began == pytest.approx(3.0)
    await asyncio.gather(caller, return_exceptions=True)
    assert caller.cancelled()
    assert len(process.users._flights) == 0


# ------------------------------------------------------------- logout, login, another writer


@pytest.mark.case(240)
@pytest.mark.parametrize("after_acting", [False, True], ids=["before acting", "after acting"])
async def test_a_logout_during_the_refresh_wins_and_the_rotated_token_goes_back(
    world: World, clock: LoopClock, after_acting: bool
) -> None:
    process, other, session = world.process(), world.process(), await world.log_in()
    clock.advance(HOUR)
    gate = Held(after_acting=after_acting)
    world.provider.script.append(gate)
    refresh = begin(process, session)
    await gate.entered.wait()
    waiter = begin(other, session)
    if after_acting:
        await world.log_out(other, session)
    elif world.kind == "stored":
        await other.stored.end(session.id)
    else:
        await other.cookies.end(session)
    gate.go_on.set()
    for task in (refresh, waiter):
        with pytest.raises(NotAuthenticated):
            await task
    await asyncio.gather(process.drain(), other.drain())
    assert await process.records.reload(session) is None, "it never comes back"
    current = next(iter(world.provider.families.values())).current
    assert current in world.provider.revoked
    assert process.told(events.Refreshed) == []


@pytest.mark.case(240)
async def test_a_logout_at_any_step_of_the_refresh_leaves_no_session_and_no_living_token(
    world: World, clock: LoopClock
) -> None:
    for steps in count():
        sub = f"u{steps}"
        process, other, session = world.process(), world.process(), await world.log_in(sub)
        clock.advance(HOUR)
        refresh = begin(process, session)
        for _ in range(steps):
            await asyncio.sleep(0)
        over = refresh.done()
        await world.log_out(other, session)
        await asyncio.gather(refresh, return_exceptions=True)
        await asyncio.gather(process.drain(), other.drain())
        assert await process.records.reload(session) is None
        family = next(f for f in world.provider.families.values() if f.sub == sub)
        assert family.dead
        if over:
            assert steps > 10
            break


@pytest.mark.case(239)
async def test_a_record_that_vanished_is_not_made_again(
    stored_world: World, clock: LoopClock
) -> None:
    world = stored_world
    process, session = world.process(), await world.log_in()
    clock.advance(HOUR)
    gate = Held()
    world.provider.script.append(gate)
    refresh = begin(process, session)
    await gate.entered.wait()
    await world.memory.delete(f"{session.id}:session")
    gate.go_on.set()
    with pytest.raises(NotAuthenticated):
        await refresh
    await process.drain()
    assert await process.records.reload(session) is None
    assert len(world.provider.revoked) == 1


@pytest.mark.case(244)
async def test_a_new_login_during_the_refresh_of_the_old_one_is_left_alone(
    world: World, clock: LoopClock
) -> None:
    process, old = world.process(), await world.log_in()
    clock.advance(HOUR)
    gate = Held(after_acting=True)
    world.provider.script.append(gate)
    refresh = begin(process, old)
    await gate.entered.wait()
    new = await world.log_in()
    await world.log_out(process, old)
    gate.go_on.set()
    with pytest.raises(NotAuthenticated):
        await refresh
    await process.drain()
    assert await process.newest(new) == new
    families = {family.current: family.dead for family in world.provider.families.values()}
    assert new.tokens.refresh_token is not None
    assert families.pop(new.tokens.refresh_token.reveal()) == ""
    assert set(families.values()) == {"revoked"}


async def test_who_wrote_first_is_served_and_his_grant_is_not_revoked(
    world: World, clock: LoopClock
) -> None:
    """Two hold the lease, and both got tokens of one grant: revoking one would end both."""
    world.provider.rotates = False
    first, second = world.process(), world.process(renews=False)
    session = await world.log_in()
    clock.advance(HOUR)
    gate = Held()
    world.provider.script.append(gate)
    slow = begin(second, session)
    await gate.entered.wait()
    clock.advance(9)  # the lease is over, and nobody renewed it
    token = await first.token(session)
    gate.go_on.set()
    assert await slow == token
    await asyncio.gather(first.drain(), second.drain())
    assert world.provider.revoked == []
    assert (await first.newest(session)).tokens.access_token == token


@pytest.mark.case(229)
async def test_invalid_grant_after_somebody_else_spent_the_token_is_no_logout(
    world: World, clock: LoopClock
) -> None:
    """The holder stood still for longer than its lease; the others went on."""
    stopped, other = world.process(renews=False), world.process()
    session = await world.log_in()
    clock.advance(HOUR)
    gate = Held(then=refusal("invalid_grant"))
    world.provider.script.append(gate)
    slow = begin(stopped, session)
    await gate.entered.wait()
    clock.advance(9)
    token = await other.token(session)
    gate.go_on.set()
    assert await slow == token
    assert stopped.told(events.SessionEnded) == []
    assert (await other.newest(session)).tokens.access_token == token


@pytest.mark.case(229)
async def test_invalid_grant_while_another_has_the_answer_waits_for_it(
    world: World, clock: LoopClock
) -> None:
    """The holder stood still with the answer in its hands, and wakes up a second later."""
    stopped, other = world.process(renews=False), world.process()
    session = await world.log_in()
    clock.advance(HOUR)
    gate = Held(after_acting=True)
    world.provider.script.extend([gate, refuse(refusal("invalid_grant"))])
    slow = begin(stopped, session)
    await gate.entered.wait()
    clock.advance(9)
    second = begin(other, session)
    await asyncio.sleep(1)
    gate.go_on.set()
    token = await slow
    assert await second == token
    assert len(world.provider.calls) == 2
    assert other.told(events.SessionEnded) == []


@pytest.mark.case(229)
async def test_invalid_grant_is_believed_at_once_where_nobody_else_asked(
    world: World, clock: LoopClock
) -> None:
    process, session = world.process(), await world.log_in()
    world.provider.end_grants()
    clock.advance(HOUR)
    began = now()
    with pytest.raises(SessionEnded):
        await process.token(session)
    assert now() == began


@pytest.mark.case(229)
async def test_who_stood_still_for_longer_than_its_lease_spends_nothing(
    world: World, clock: LoopClock
) -> None:
    stopped, other = world.process(renews=False), world.process()
    session = await world.log_in()
    clock.advance(HOUR)
    world.provider.keys_come = asyncio.Event()
    slow = begin(stopped, session)
    await world.provider.keys_asked.wait()
    goes_on, world.provider.keys_come = world.provider.keys_come, None
    await asyncio.sleep(8.5)
    token = await other.token(session)
    stopped.store.down = frozenset()
    goes_on.set()
    assert await slow == token
    assert len(world.provider.calls) == 1


async def test_a_lease_is_asked_about_only_when_nothing_renewed_it(world: World) -> None:
    process = world.process()
    lease = await world.memory.acquire("k", ttl=8.0)
    assert lease is not None
    held = HeldLease(process.store, lease, ttl=8.0, renewal=100.0, since=now())
    assert await held.confirm()
    await asyncio.sleep(3.9)
    assert await held.confirm()
    assert process.store.calls == []
    await asyncio.sleep(0.2)
    assert await held.confirm()
    await asyncio.sleep(3)
    assert await held.confirm()
    assert process.store.calls == [("renew", "k")]
    await asyncio.sleep(9)
    assert not await held.confirm()
    assert not await held.confirm()
    assert len(process.store.calls) == 2
    await held.release()


@pytest.mark.case(232)
async def test_a_lease_that_cannot_be_confirmed_is_none(world: World, clock: LoopClock) -> None:
    process, session = world.process(renews=False), await world.log_in()
    clock.advance(HOUR)
    world.provider.keys_come = asyncio.Event()
    slow = begin(process, session)
    await world.provider.keys_asked.wait()
    await asyncio.sleep(5)
    world.provider.keys_come.set()
    with pytest.raises(TokenUnavailable):
        await slow
    assert world.provider.calls == []


@pytest.mark.case(229)
async def test_a_late_writer_does_not_overwrite(world: World, clock: LoopClock) -> None:
    world.provider.rotates = False
    stopped, other = world.process(renews=False), world.process()
    session = await world.log_in()
    clock.advance(HOUR)
    gate = Held(after_acting=True)
    world.provider.script.append(gate)
    slow = begin(stopped, session)
    await gate.entered.wait()
    clock.advance(9)
    token = await other.token(session)
    gate.go_on.set()
    assert await slow == token
    assert (await other.newest(session)).tokens.access_token == token


async def test_a_session_that_ends_while_others_wait_tells_all_of_them(
    world: World, clock: LoopClock
) -> None:
    process, other, session = world.process(), world.process(), await world.log_in()
    world.provider.end_grants()
    clock.advance(HOUR)
    handles = [Handle(process.records, session) for _ in range(10)]
    others = [begin(other, session) for _ in range(10)]
    mine = [asyncio.ensure_future(process.users.token(handle)) for handle in handles]
    failures = await asyncio.gather(*mine, *others, return_exceptions=True)
    assert {type(failure) for failure in failures} == {SessionEnded, NotAuthenticated}
    assert len({id(failure) for failure in failures}) == 20, "each has one of his own"
    assert len(world.provider.calls) == 1


# ------------------------------------------------------------- the absolute end


@pytest.mark.case(262)
async def test_what_comes_after_the_absolute_end_is_dropped_and_goes_back(
    world: World, clock: LoopClock
) -> None:
    process, session = world.process(), await world.log_in()
    clock.advance(HOUR)
    gate = Held(after_acting=True)
    world.provider.script.append(gate)
    refresh = begin(process, session)
    await gate.entered.wait()
    clock.advance(7 * 24 * HOUR)
    gate.go_on.set()
    with pytest.raises(SessionEnded) as caught:
        await refresh
    assert caught.value.reason == "expired"
    await process.drain()
    assert world.provider.revoked == [next(iter(world.provider.families.values())).current]
    assert await process.records.reload(session) is None


async def test_after_the_absolute_end_nothing_is_spent(world: World, clock: LoopClock) -> None:
    process, session = world.process(), await world.log_in(lasts=HOUR)
    clock.advance(HOUR)
    with pytest.raises((SessionEnded, NotAuthenticated)):
        await process.token(session)
    assert world.provider.calls == []


# ------------------------------------------------------------- nothing is left over


@pytest.mark.case(249)
async def test_nothing_is_left_after_outcomes_of_every_kind(world: World, clock: LoopClock) -> None:
    process = world.process()
    # This many in a row would open the breaker.
    steps = [None, refuse(lost(sent=False)), None, lose_answer, refuse(refusal("invalid_grant"))]
    before = len(asyncio.all_tasks())
    for number in range(200):
        session = await world.log_in(f"u{number}")
        clock.advance(HOUR)
        step = steps[number % len(steps)]
        if step is not None:
            world.provider.script.append(step)
        tasks = [begin(process, session) for _ in range(3)]
        if number % 2:
            await asyncio.sleep(0)
            tasks[0].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    await process.drain()
    assert len(process.users._flights) == 0
    assert len(process.refresher._unsaved) == 0
    assert not process.refresher._leases._releases
    assert not process.revoker._background
    assert len(asyncio.all_tasks()) == before


@pytest.mark.case(257)
@pytest.mark.parametrize("jump", [HOUR, -HOUR, 1.0, -1.0])
async def test_hosts_whose_clocks_differ_refresh_once_and_nobody_is_logged_out(
    world: World, clock: LoopClock, jump: float
) -> None:
    session = await world.log_in()
    here, there = world.process(), World(world.kind, lambda: clock() + jump)
    there.memory, there.provider = world.memory, world.provider
    there.providers = world.providers
    elsewhere = there.process()
    clock.advance(HOUR - 60)
    tokens = [await here.token(session), await elsewhere.token(await here.newest(session))]
    assert tokens[0].is_valid(clock())
    assert len(world.provider.calls) <= 2
    assert not any(family.dead for family in world.provider.families.values())
    assert await here.records.reload(session)


# ------------------------------------------------------------- the lease


@pytest.mark.case(228)
async def test_a_lease_shorter_than_the_provider_is_renewed(world: World, clock: LoopClock) -> None:
    settings = {"lease_ttl": 2.0, "lease_renewal": 0.5}
    processes = [world.process(**settings) for _ in range(3)]
    session = await world.log_in()
    clock.advance(HOUR)
    gate = Held()
    world.provider.script.append(gate)
    tasks = [begin(process, session) for process in processes]
    await gate.entered.wait()
    await asyncio.sleep(7)
    gate.go_on.set()
    assert len(set(await asyncio.gather(*tasks))) == 1
    assert len(world.provider.calls) == 1


@pytest.mark.case(225)
async def test_who_died_with_the_lease_keeps_the_others_waiting_for_its_time_only(
    world: World, clock: LoopClock
) -> None:
    process, session = world.process(), await world.log_in()
    clock.advance(HOUR)
    await world.memory.acquire(f"{session.id}:lease", ttl=8.0)
    began = now()
    assert (await process.token(session)).is_valid(clock())
    assert now() - began == pytest.approx(8.0, abs=0.2)
    assert len(world.provider.calls) == 1


@pytest.mark.case(226)
async def test_who_died_between_the_rotation_and_the_write_costs_a_login_and_no_loop(
    world: World, clock: LoopClock
) -> None:
    process, session = world.process(), await world.log_in()
    clock.advance(HOUR)
    await world.memory.acquire(f"{session.id}:lease", ttl=8.0)
    assert session.tokens.refresh_token is not None
    await world.provider.refresh(session.tokens.refresh_token, claims=dict(session.proof))
    with pytest.raises(SessionEnded):
        await process.token(session)
    for _ in range(3):
        with pytest.raises(NotAuthenticated):
            await process.token(session)
    assert len(world.provider.calls) == 2


@pytest.mark.case(227)
async def test_who_died_after_writing_leaves_a_result_that_costs_nobody_a_call(
    world: World, clock: LoopClock
) -> None:
    dead, process, session = world.process(), world.process(), await world.log_in()
    clock.advance(HOUR)
    dead.store.down = frozenset({"release"})
    token = await dead.token(session)
    assert await process.token(session) == token
    assert len(world.provider.calls) == 1


async def test_a_released_lease_is_free_and_renewed_no_more(world: World) -> None:
    lease = await world.memory.acquire("k", ttl=8.0)
    assert lease is not None
    held = HeldLease(world.memory, lease, ttl=8.0, renewal=2.0, since=now())
    await asyncio.sleep(30)
    assert await world.memory.acquire("k", ttl=8.0) is None
    await held.release()
    assert await world.memory.acquire("k", ttl=8.0) is not None


@pytest.mark.case(230)
async def test_a_lease_that_was_lost_is_not_taken_from_its_new_holder(
    world: World, clock: LoopClock
) -> None:
    lease = await world.memory.acquire("k", ttl=8.0)
    assert lease is not None
    held = HeldLease(world.memory, lease, ttl=8.0, renewal=2.0, since=now())
    clock.advance(8)
    theirs = await world.memory.acquire("k", ttl=60.0)
    assert theirs is not None
    await asyncio.sleep(10)
    await held.release()
    assert await world.memory.acquire("k", ttl=8.0) is None
    assert await world.memory.renew(theirs, ttl=60.0)


async def test_a_store_that_is_down_for_a_while_does_not_end_the_renewing(world: World) -> None:
    process = world.process()
    lease = await world.memory.acquire("k", ttl=8.0)
    assert lease is not None
    held = HeldLease(process.store, lease, ttl=8.0, renewal=2.0, since=now())
    with process.store.outage():
        await asyncio.sleep(5)
    await asyncio.sleep(20)
    assert await world.memory.acquire("k", ttl=8.0) is None
    with process.store.outage():
        await held.release()
    await asyncio.sleep(9)
    assert await world.memory.acquire("k", ttl=8.0) is not None, "it ran out"


def test_the_loop_of_these_tests_notices_when_everybody_waits() -> None:
    loop = VirtualTimeLoop()
    try:
        with pytest.raises(AssertionError):
            loop.run_until_complete(asyncio.Event().wait())
    finally:
        for task in asyncio.all_tasks(loop):
            task.cancel()
            loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
        loop.close()
