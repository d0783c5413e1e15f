"""What `UserTokens.token` gives, and when it gives it without asking anybody."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from scripted import HOUR, Handle, Held, World, alter, lost, refusal, refuse

from tokenward import events
from tokenward.errors import (
    InsufficientScope,
    NotAuthenticated,
    ProviderUnavailable,
    SessionEnded,
    SessionNotWritable,
    StoreUnavailable,
    TokenExpired,
    TokenUnavailable,
)
from tokenward.tokens.models import Target

if TYPE_CHECKING:
    from conftest import LoopClock

API = "https://api.test"
ORDERS = "https://orders.test"


# ------------------------------------------------------------- without any renewal


async def test_a_fresh_token_costs_no_store_no_lock_and_no_task(world: World) -> None:
    process, session = world.process(), await world.log_in()
    before = len(asyncio.all_tasks())
    token = await process.token(session)
    assert token == session.tokens.access_token
    assert process.store.calls == []
    assert len(asyncio.all_tasks()) == before
    assert world.provider.calls == []


async def test_nobody_logged_in_is_told_so(world: World) -> None:
    process = world.process()
    with pytest.raises(NotAuthenticated):
        await process.users.token(Handle(process.records, None))


async def test_a_session_that_cannot_be_read_is_an_outage_and_no_logout(world: World) -> None:
    process = world.process()
    handle = Handle(process.records, None)
    handle.failure = StoreUnavailable("the store is out of reach", retry_after=7.0)
    with pytest.raises(TokenUnavailable) as caught:
        await process.users.token(handle)
    assert caught.value.retry_after == 7.0
    assert caught.value.__context__ is None
    assert not handle.forgotten


async def test_all_that_the_session_holds_is_given_as_it_is(world: World, clock: LoopClock) -> None:
    process, session = world.process(), await world.log_in()
    clock.advance(2 * HOUR)
    assert await process.users.tokens(Handle(process.records, session)) == session.tokens
    assert world.provider.calls == []


@pytest.mark.parametrize(
    ("lifetime", "left", "renewed"),
    [
        pytest.param(HOUR, 61, False, id="beyond the margin"),
        pytest.param(HOUR, 60, True, id="within the margin"),
        pytest.param(30, 4, False, id="a tenth of 30 s is the margin", marks=pytest.mark.case(195)),
        pytest.param(30, 3, True, id="within a tenth of 30 s", marks=pytest.mark.case(195)),
    ],
)
async def test_the_margin_is_a_minute_and_never_more_than_a_tenth_of_the_lifetime(
    world: World, clock: LoopClock, lifetime: float, left: float, renewed: bool
) -> None:
    process, session = world.process(), await world.log_in()
    world.provider.lifetime = lifetime
    token = await process.token(session, force_renewal=True)
    session = await process.newest(session)
    clock.advance(lifetime - left)
    assert (await process.token(session) != token) is renewed


# ------------------------------------------------------------- renewal


async def test_an_expired_token_is_renewed_and_the_request_goes_on_with_it(
    world: World, clock: LoopClock
) -> None:
    process, session = world.process(), await world.log_in()
    clock.advance(HOUR)
    handle = Handle(process.records, session)
    token = await process.users.token(handle)
    assert token.value != session.tokens.access_token.value
    assert handle.session is not None
    assert handle.session.tokens.access_token == token
    assert handle.session == await process.newest(session)
    assert await process.users.token(handle) == token
    assert len(world.provider.calls) == 1
    assert len(process.told(events.Refreshed)) == 1


@pytest.mark.case(260)
async def test_expired_and_no_refresh_token_is_told_without_asking(
    world: World, clock: LoopClock
) -> None:
    process, session = world.process(), await world.log_in()
    session = replace(session, tokens=replace(session.tokens, refresh_token=None))
    clock.advance(HOUR)
    handle = Handle(process.records, session)
    with pytest.raises(TokenExpired):
        await process.users.token(handle)
    assert handle.session is session
    assert world.provider.calls == []
    assert process.store.calls == []


async def test_without_refresh_token_a_valid_token_serves_to_its_end(
    world: World, clock: LoopClock
) -> None:
    process, session = world.process(), await world.log_in()
    session = replace(session, tokens=replace(session.tokens, refresh_token=None))
    clock.advance(HOUR - 1)
    assert await process.token(session) == session.tokens.access_token


async def test_a_refused_grant_ends_the_session_once_and_for_all(
    world: World, clock: LoopClock
) -> None:
    process, session = world.process(), await world.log_in()
    world.provider.end_grants()
    assert await process.token(session) == session.tokens.access_token, "valid to its end"
    clock.advance(HOUR)
    handle = Handle(process.records, session)
    with pytest.raises(SessionEnded) as caught:
        await process.users.token(handle)
    assert caught.value.reason == "invalid_grant"
    assert handle.forgotten
    assert await process.records.reload(session) is None
    assert [event.reason for event in process.told(events.SessionEnded)] == ["invalid_grant"]
    with pytest.raises(NotAuthenticated):
        await process.token(session)
    assert len(world.provider.calls) == 1


async def test_a_grant_that_is_over_ends_the_session_also_while_a_token_is_left(
    world: World, clock: LoopClock
) -> None:
    process, session = world.process(), await world.log_in()
    world.provider.end_grants()
    clock.advance(HOUR - 30)
    with pytest.raises(SessionEnded):
        await process.token(session)


@pytest.mark.parametrize(
    "failure",
    [
        pytest.param(lost(), id="no answer"),
        pytest.param(lost(sent=False), id="unreachable"),
        pytest.param(ProviderUnavailable("HTTP 503", retry_after=9.0), id="503"),
        pytest.param(refusal("invalid_client", status=401), id="invalid_client"),
        pytest.param(refusal("access_denied"), id="a refusal that nobody knows"),
        pytest.param(refusal("http_403", status=403), id="a firewall"),
    ],
)
async def test_any_other_failure_serves_a_valid_token_and_keeps_the_session(
    world: World, clock: LoopClock, failure: Exception
) -> None:
    process, session = world.process(), await world.log_in()
    world.provider.script.extend([refuse(failure)] * 2)
    clock.advance(HOUR - 30)
    handle = Handle(process.records, session)
    assert await process.users.token(handle) == session.tokens.access_token
    clock.advance(30)
    with pytest.raises(TokenUnavailable) as caught:
        await process.users.token(handle)
    assert caught.value.retry_after >= 1.0
    assert handle.session is session
    assert await process.records.reload(session) == session
    assert process.told(events.SessionEnded) == []


async def test_a_store_that_is_down_serves_a_valid_token_and_is_told_after(
    world: World, clock: LoopClock
) -> None:
    process, session = world.process(), await world.log_in()
    clock.advance(HOUR - 30)
    with process.store.outage():
        assert await process.token(session) == session.tokens.access_token
        clock.advance(30)
        with pytest.raises(TokenUnavailable) as caught:
            await process.token(session)
    assert caught.value.retry_after == 3.0
    assert world.provider.calls == []


@pytest.mark.case(255)
async def test_what_cannot_be_saved_is_not_spent(world: World, clock: LoopClock) -> None:
    process, session = world.process(), await world.log_in()
    handle = Handle(process.records, session, writable=False)
    clock.advance(HOUR - 30)
    assert await process.users.token(handle) == session.tokens.access_token
    clock.advance(30)
    with pytest.raises(SessionNotWritable):
        await process.users.token(handle)
    with pytest.raises(SessionNotWritable):
        await process.users.revoke_refresh_token(handle)
    assert world.provider.calls == []
    assert world.provider.revoked == []


@pytest.mark.case(190)
async def test_a_token_without_lifetime_is_used_once_at_most(
    world: World, clock: LoopClock
) -> None:
    process, session = world.process(), await world.log_in()
    world.provider.lifetime = 0.0
    clock.advance(HOUR)
    handle = Handle(process.records, session)
    first = await process.users.token(handle)
    assert len(world.provider.calls) == 1, "no loop"
    assert not first.is_valid(clock())
    assert await process.users.token(handle) != first
    assert len(world.provider.calls) == 2


@pytest.mark.case(190)
async def test_a_token_without_lifetime_is_of_no_use_to_another_process(
    world: World, clock: LoopClock
) -> None:
    first, second, session = world.process(), world.process(), await world.log_in()
    world.provider.lifetime = 0.0
    clock.advance(HOUR)
    tokens = await asyncio.gather(first.token(session), second.token(session))
    assert tokens[0] != tokens[1]
    assert len(world.provider.calls) == 2


# ------------------------------------------------------------- force and rejection


@pytest.mark.case(256)
async def test_fifty_who_hold_the_same_token_renew_it_once(world: World) -> None:
    process, session = world.process(), await world.log_in()
    held = session.tokens.access_token
    tasks = [process.token(session, rejected=held) for _ in range(25)]
    tasks += [process.token(session, force_renewal=True) for _ in range(25)]
    tokens = await asyncio.gather(*tasks)
    assert len({token.value for token in tokens}) == 1
    assert tokens[0].value != held.value
    # Those who come later still hold the old one.
    for _ in range(3):
        assert await process.token(session, rejected=held) == tokens[0]
    assert len(world.provider.calls) == 1


async def test_a_rejected_token_that_is_not_the_newest_renews_nothing(world: World) -> None:
    process, session = world.process(), await world.log_in()
    old = session.tokens.access_token
    new = await process.token(session, rejected=old)
    session = await process.newest(session)
    assert await process.token(session, rejected=old) == new
    assert len(world.provider.calls) == 1


async def test_a_rejected_token_is_not_given_again_because_another_target_was_renewed(
    world: World,
) -> None:
    process, session = world.process(), await world.log_in()
    await process.token(session, target=Target(resource=(API,)))
    # The session has a new version; its own token is still the one that was rejected.
    token = await process.token(session, rejected=session.tokens.access_token)
    assert token.value != session.tokens.access_token.value
    assert len(world.provider.calls) == 2


async def test_a_rejected_token_that_this_request_has_not_seen_yet_is_not_given_again(
    world: World, clock: LoopClock
) -> None:
    process, session = world.process(), await world.log_in()
    clock.advance(HOUR)
    rejected = await process.token(session)
    # This request was read before; what it finds renewed is what was rejected.
    token = await process.token(session, rejected=rejected)
    assert token.value != rejected.value
    assert len(world.provider.calls) == 2


async def test_a_rejected_token_is_never_the_spare(world: World) -> None:
    process, session = world.process(), await world.log_in()
    world.provider.script.append(refuse(lost()))
    with pytest.raises(TokenUnavailable):
        await process.token(session, rejected=session.tokens.access_token)


# ------------------------------------------------------------- resources and scopes


async def test_a_token_for_a_resource_is_kept_beside_the_others(
    world: World, clock: LoopClock
) -> None:
    process, session = world.process(), await world.log_in()
    handle = Handle(process.records, session)
    target = Target(resource=(API,), scope=frozenset({"read"}))
    token = await process.users.token(handle, target=target)
    assert (token.resource, token.scope) == ((API,), {"read"})
    assert [(call.scope, call.resource) for call in world.provider.calls] == [("read", (API,))]
    assert await process.users.token(handle, target=target) == token
    assert await process.users.token(handle) == session.tokens.access_token
    clock.advance(HOUR)
    assert await process.users.token(handle, target=target) != token
    assert len(world.provider.calls) == 2


async def test_more_scope_than_the_login_has_is_refused_without_asking(world: World) -> None:
    process, session = world.process(), await world.log_in()
    with pytest.raises(InsufficientScope) as caught:
        await process.token(session, target=Target(scope=frozenset({"read", "admin"})))
    assert caught.value.missing == {"admin"}
    assert world.provider.calls == []


async def test_a_scope_of_another_resource_is_for_the_provider_to_judge(world: World) -> None:
    process, session = world.process(), await world.log_in()
    target = Target(resource=(API,), scope=frozenset({"admin"}))
    assert (await process.token(session, target=target)).scope == {"admin"}


@pytest.mark.case(204)
async def test_a_scope_that_was_lost_is_told_every_time(world: World, clock: LoopClock) -> None:
    process, session = world.process(), await world.log_in()
    world.provider.scope = frozenset({"openid", "read"})
    target = Target(scope=frozenset({"read", "write"}))
    handle = Handle(process.records, session)
    for _ in range(2):
        with pytest.raises(InsufficientScope) as caught:
            await process.users.token(handle, target=target)
        assert caught.value.missing == {"write"}
    assert len(world.provider.calls) == 1
    clock.advance(HOUR)
    assert (await process.users.token(handle)).scope == {"openid", "read"}
    with pytest.raises(InsufficientScope):
        await process.users.token(handle, target=Target(scope=frozenset({"write"})))


@pytest.mark.parametrize("error", ["invalid_target", "invalid_scope", "interaction_required"])
async def test_a_target_that_the_provider_refuses_is_not_asked_for_again_at_once(
    world: World, clock: LoopClock, error: str
) -> None:
    process, session = world.process(), await world.log_in()
    handle = Handle(process.records, session)
    world.provider.script.append(refuse(refusal(error)))
    for _ in range(2):
        with pytest.raises(InsufficientScope) as caught:
            await process.users.token(handle, target=Target(resource=(API,)))
        assert caught.value.missing == {API}
    assert len(world.provider.calls) == 1
    assert (await process.users.token(handle, force_renewal=True)).is_valid(clock()), "others do"
    clock.advance(30)
    assert await process.users.token(handle, target=Target(resource=(API,)))
    assert len(world.provider.calls) == 3


@pytest.mark.case(251)
@pytest.mark.case(248)
async def test_two_targets_spend_the_refresh_token_one_after_the_other(
    world: World, clock: LoopClock
) -> None:
    first, second = world.process(), world.process()
    session = await world.log_in()
    clock.advance(HOUR)
    targets = [
        Target(),
        Target(resource=(API,)),
        Target(resource=(ORDERS,)),
        Target(scope=frozenset({"read"})),
    ]
    asked = [(process, target) for target in targets for process in (first, second)] * 3
    tokens = await asyncio.gather(*(process.token(session, target=t) for process, t in asked))
    assert world.provider.most_at_once == 1
    assert len(world.provider.calls) == len(targets)
    for (_, target), token in zip(asked, tokens, strict=True):
        assert token.resource == target.resource
        assert not target.scope - token.scope
    assert len({token.value for token in tokens}) == len(targets)


@pytest.mark.case(248)
async def test_two_users_never_share(world: World, clock: LoopClock) -> None:
    process = world.process()
    sessions = [await world.log_in(sub) for sub in ("alice", "bob", "carol")]
    clock.advance(HOUR)
    gates = [Held() for _ in sessions]
    world.provider.script.extend(gates)
    tasks = [asyncio.ensure_future(process.token(s)) for s in sessions for _ in range(20)]
    for gate in reversed(gates):
        await gate.entered.wait()
        gate.go_on.set()
    tokens = await asyncio.gather(*tasks)
    for number, session in enumerate(sessions):
        sub = session.claims["sub"]
        assert {t.value.split("-")[3] for t in tokens[20 * number : 20 * number + 20]} == {sub}
    assert len(world.provider.calls) == 3


async def test_the_oldest_of_many_targets_makes_room(world: World) -> None:
    process, session = world.process(), await world.log_in()
    handle = Handle(process.records, session)
    for number in range(9):
        await process.users.token(handle, target=Target(resource=(f"https://{number}.test",)))
    assert handle.session is not None
    kept = [target.resource[0] for target, _ in handle.session.tokens.others]
    assert kept == [f"https://{number}.test" for number in range(1, 9)]


async def test_another_audience_of_the_answer_does_not_change_the_login(world: World) -> None:
    process, session = world.process(), await world.log_in()
    world.provider.script.append(alter(scope=frozenset({"read"})))
    handle = Handle(process.records, session)
    await process.users.token(handle, target=Target(resource=(API,)))
    assert handle.session is not None
    assert handle.session.tokens.scope == session.tokens.scope


# ------------------------------------------------------------- giving back


async def test_the_refresh_token_goes_back_and_the_user_stays(
    world: World, clock: LoopClock
) -> None:
    process, session = world.process(), await world.log_in()
    handle = Handle(process.records, session)
    await process.users.revoke_refresh_token(handle)
    assert session.tokens.refresh_token is not None
    assert world.provider.revoked == [session.tokens.refresh_token.reveal()]
    assert handle.session is not None
    assert handle.session.tokens.refresh_token is None
    assert await process.users.token(handle) == session.tokens.access_token
    await process.users.revoke_refresh_token(handle)
    assert len(world.provider.revoked) == 1
    clock.advance(HOUR)
    with pytest.raises(TokenExpired):
        await process.users.token(handle)


async def test_what_another_request_gave_back_is_not_spent(world: World, clock: LoopClock) -> None:
    process, session = world.process(), await world.log_in()
    await process.users.revoke_refresh_token(Handle(process.records, session))
    clock.advance(HOUR if world.kind == "stored" else 20)
    with pytest.raises(TokenExpired):
        await process.token(session, force_renewal=True)
    assert world.provider.calls == []


async def test_what_the_provider_would_not_take_back_stays(world: World) -> None:
    process, session = world.process(), await world.log_in()
    world.provider.revocation_failures.append(lost())
    handle = Handle(process.records, session)
    with pytest.raises(ProviderUnavailable):
        await process.users.revoke_refresh_token(handle)
    assert handle.session is session
    assert await process.newest(session) == session
    await process.users.revoke_refresh_token(handle)


async def test_a_refresh_under_way_is_waited_for_and_its_token_goes_back(
    world: World, clock: LoopClock
) -> None:
    process, session = world.process(), await world.log_in()
    clock.advance(HOUR)
    gate = Held()
    world.provider.script.append(gate)
    refresh = asyncio.ensure_future(process.token(session))
    await gate.entered.wait()
    handle = Handle(process.records, session)
    back = asyncio.ensure_future(process.users.revoke_refresh_token(handle))
    await asyncio.sleep(1)
    assert world.provider.revoked == []
    gate.go_on.set()
    await asyncio.gather(refresh, back)
    rotated = next(iter(world.provider.families.values())).current
    assert world.provider.revoked == [rotated]


async def test_giving_back_outlives_who_asked_for_it(world: World) -> None:
    process, session = world.process(), await world.log_in()
    task = asyncio.ensure_future(
        process.users.revoke_refresh_token(Handle(process.records, session))
    )
    revoked = asyncio.Event()
    world.provider.on_revoked = revoked.set
    await revoked.wait()
    task.cancel()
    await process.drain()
    assert (await process.newest(session)).tokens.refresh_token is None


async def test_giving_back_while_somebody_else_writes_goes_on_with_what_he_wrote(
    world: World,
) -> None:
    process, other, session = world.process(), world.process(), await world.log_in()
    newer = session.with_tokens(world.provider.log_in("alice"))

    async def write_first(name: str, key: str) -> None:
        if name == "put" and "lease" not in key:
            process.store.before = None
            await other.records.replace(session, newer)

    process.store.before = write_first
    handle = Handle(process.records, session)
    await process.users.revoke_refresh_token(handle)
    assert handle.session is not None
    assert handle.session.tokens == newer.tokens


async def test_giving_back_in_an_ended_session_says_so(world: World) -> None:
    process, session = world.process(), await world.log_in()
    await world.log_out(process, session)
    with pytest.raises(NotAuthenticated):
        await process.users.revoke_refresh_token(Handle(process.records, session))
    await process.drain()


async def test_giving_back_waits_for_the_lease_no_longer_than_a_request(world: World) -> None:
    process, other, session = world.process(), world.process(), await world.log_in()
    gate = Held()
    world.provider.script.append(gate)
    refresh = asyncio.ensure_future(other.token(session, force_renewal=True))
    await gate.entered.wait()
    began = asyncio.get_running_loop().time()
    with pytest.raises(TokenUnavailable):
        await process.users.revoke_refresh_token(Handle(process.records, session))
    assert asyncio.get_running_loop().time() - began == pytest.approx(10.0, abs=0.2)
    gate.go_on.set()
    with pytest.raises(TokenUnavailable):
        await refresh
    await other.drain()
    assert world.provider.revoked == []
