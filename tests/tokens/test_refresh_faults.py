"""The provider fails, the store fails, the settings are wrong: what becomes of the session."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from scripted import HOUR, Handle, Held, World, alter, lose_answer, lost, refusal, refuse

from tokenward import events
from tokenward.errors import (
    AccessError,
    ConfigurationError,
    InsufficientScope,
    InvalidMetadata,
    InvalidResponse,
    InvalidToken,
    NotAuthenticated,
    ProviderUnavailable,
    SessionEnded,
    TokenUnavailable,
)
from tokenward.tokens.models import LOGIN, Target

if TYPE_CHECKING:
    from scripted import Process

    from conftest import LoopClock
    from tokenward.tokens.session import Session

API = Target(resource=("https://api.test",))


def overloaded(seconds: float | None) -> ProviderUnavailable:
    return ProviderUnavailable("HTTP 503", retry_after=seconds)


async def refused(process: Process, session: Session, **options: Any) -> AccessError:
    with pytest.raises(AccessError) as caught:
        await process.token(session, **options)
    assert caught.value.__context__ is None
    return caught.value


# ------------------------------------------------------------- the store is out of reach


@pytest.mark.case(232)
async def test_without_a_lease_nobody_refreshes(world: World, clock: LoopClock) -> None:
    process, session = world.process(), await world.log_in()
    clock.advance(HOUR)
    with process.store.outage("acquire"):
        error = await refused(process, session)
    assert isinstance(error, TokenUnavailable)
    assert error.retry_after == 3.0
    assert world.provider.calls == []
    assert await process.token(session)


@pytest.mark.case(232)
async def test_without_a_second_look_nobody_refreshes(world: World, clock: LoopClock) -> None:
    process, session = world.process(), await world.log_in()
    clock.advance(HOUR)
    for operation in ("get", "get_many"):
        with process.store.outage(operation):
            assert isinstance(await refused(process, session), TokenUnavailable)
    assert world.provider.calls == []
    await process.drain()
    assert await world.memory.acquire(f"{session.id}:lease", ttl=1.0), "it was released"


@pytest.mark.case(233)
async def test_a_result_that_the_store_would_not_take_is_served_and_saved_later(
    world: World, clock: LoopClock
) -> None:
    process, other, session = world.process(), world.process(), await world.log_in()
    clock.advance(HOUR)
    with process.store.outage("save"):
        token = await process.token(session)
        assert token.is_valid(clock())
        for _ in range(3):
            await asyncio.sleep(2)
            assert await process.token(session) == token
        # The lease is held, so that nobody spends the old refresh token again.
        waiting = asyncio.ensure_future(other.token(session))
        await asyncio.sleep(5)
        assert process.told(events.Refreshed) == []
    assert await waiting == token
    await process.drain()
    assert len(world.provider.calls) == 1
    assert len(process.told(events.Refreshed)) == 1
    assert len(process.refresher._unsaved) == 0
    saved = (await other.newest(session)).tokens
    assert saved.access_token == token
    assert world.provider.revoked == []


@pytest.mark.case(233)
async def test_a_store_that_fails_in_a_way_of_its_own_loses_nothing_either(
    world: World, clock: LoopClock
) -> None:
    process, session = world.process(), await world.log_in()
    clock.advance(HOUR)
    failures = [OSError("disk full"), RuntimeError("?")]

    async def fail(name: str, key: str) -> None:
        if failures and name == "put" and ":asked-" not in key:
            raise failures.pop()

    process.store.before = fail
    token = await process.token(session)
    await process.drain()
    assert (await process.newest(session)).tokens.access_token == token
    assert failures == []


@pytest.mark.case(233)
async def test_a_result_that_is_never_saved_goes_back_after_thirty_seconds(
    stored_world: World, clock: LoopClock
) -> None:
    world = stored_world
    process, session = world.process(), await world.log_in()
    clock.advance(HOUR)
    with process.store.outage("save"):
        await process.token(session)
        await asyncio.sleep(29)
        assert world.provider.revoked == []
        await asyncio.sleep(2)
    assert world.provider.revoked == [next(iter(world.provider.families.values())).current]
    assert len(process.refresher._unsaved) == 0
    assert isinstance(await refused(process, session), SessionEnded)
    assert isinstance(await refused(process, session), NotAuthenticated)
    await process.drain()


async def test_a_refresh_token_that_the_record_holds_too_does_not_go_back(
    world: World, clock: LoopClock
) -> None:
    world.provider.rotates = False
    process, session = world.process(), await world.log_in()
    clock.advance(HOUR)
    with process.store.outage("save"):
        await process.token(session)
        await asyncio.sleep(31)
    await process.drain()
    assert world.provider.revoked == []
    assert await process.token(session)


async def test_what_waits_to_be_saved_is_not_spent_for_another_target(
    world: World, clock: LoopClock
) -> None:
    process, session = world.process(), await world.log_in()
    clock.advance(HOUR)
    handle = Handle(process.records, session)
    with process.store.outage("save"):
        token = await process.users.token(handle)
        assert isinstance(await refused(process, session, target=API), TokenUnavailable)
        with pytest.raises(TokenUnavailable):
            await process.users.token(handle, rejected=token)
    await process.drain()
    assert len(world.provider.calls) == 1
    assert await process.token(session, target=API)


async def test_a_lease_that_ran_out_does_not_spend_what_waits_to_be_saved(
    world: World, clock: LoopClock
) -> None:
    """The store was away for longer than the lease, and took other requests first."""
    process, session = world.process(), await world.log_in()
    clock.advance(HOUR)
    with process.store.outage("save", "renew"):
        token = await process.token(session)
        await asyncio.sleep(9)
        assert await process.token(session) == token
        assert isinstance(await refused(process, session, target=API), TokenUnavailable)
    await process.drain()
    assert len(world.provider.calls) == 1
    assert (await process.newest(session)).tokens.access_token == token


async def test_a_logout_while_the_result_waits_to_be_saved_wins(
    world: World, clock: LoopClock
) -> None:
    process, other, session = world.process(), world.process(), await world.log_in()
    clock.advance(HOUR)
    with process.store.outage("save"):
        await process.token(session)
        await world.log_out(other, session)
    await asyncio.gather(process.drain(), other.drain())
    assert await process.records.reload(session) is None
    assert next(iter(world.provider.families.values())).current in world.provider.revoked


@pytest.mark.case(246)
async def test_what_is_not_saved_when_the_process_ends_goes_back(
    stored_world: World, clock: LoopClock
) -> None:
    world = stored_world
    process, session = world.process(), await world.log_in()
    clock.advance(HOUR)
    with process.store.outage("save"):
        await process.token(session)
        began = asyncio.get_running_loop().time()
        await process.users.drain(timeout=10.0)
        await process.revoker.drain(timeout=10.0)
        assert asyncio.get_running_loop().time() - began == pytest.approx(10.0)
    assert world.provider.revoked == [next(iter(world.provider.families.values())).current]
    assert len(process.refresher._unsaved) == 0
    assert await world.memory.acquire(f"{session.id}:lease", ttl=1.0), "it was released"


async def test_what_a_browser_has_in_its_cookie_does_not_go_back_for_want_of_a_store(
    cookie_world: World, clock: LoopClock
) -> None:
    process, session = cookie_world.process(), await cookie_world.log_in()
    clock.advance(HOUR)
    handle = Handle(process.records, session)
    with process.store.outage("save"):
        await process.users.token(handle)
        await asyncio.sleep(31)
    await process.drain()
    assert cookie_world.provider.revoked == []
    assert handle.session is not None
    assert (await process.token(handle.session, force_renewal=True)).value


async def test_a_result_that_was_refused_goes_back_when_the_store_can_tell_why(
    stored_world: World, clock: LoopClock
) -> None:
    world = stored_world
    process, other, session = world.process(), world.process(), await world.log_in()
    clock.advance(HOUR)
    gate = Held(after_acting=True)
    world.provider.script.append(gate)
    refresh = asyncio.ensure_future(process.token(session))
    await gate.entered.wait()
    await other.stored.end(session.id)
    with process.store.outage("get"):
        gate.go_on.set()
        with pytest.raises(TokenUnavailable):
            await refresh
        assert world.provider.revoked == []
    await process.drain()
    assert world.provider.revoked == [next(iter(world.provider.families.values())).current]


async def test_a_result_that_was_refused_for_reasons_nobody_ever_tells_is_told_of(
    stored_world: World, clock: LoopClock
) -> None:
    world = stored_world
    process, other, session = world.process(), world.process(), await world.log_in()
    clock.advance(HOUR)
    gate = Held(after_acting=True)
    world.provider.script.append(gate)
    refresh = asyncio.ensure_future(process.token(session))
    await gate.entered.wait()
    await other.stored.end(session.id)
    with process.store.outage("get"):
        gate.go_on.set()
        await asyncio.gather(refresh, return_exceptions=True)
        await asyncio.sleep(31)
    assert world.provider.revoked == [], "it may be all that a session has"
    assert [event.error for event in process.told(events.RevocationFailed)] == ["store_unavailable"]


async def test_a_result_that_was_refused_in_a_living_session_is_dropped_and_nothing_is_revoked(
    world: World, clock: LoopClock
) -> None:
    process, session = world.process(), await world.log_in()
    clock.advance(HOUR)
    gate = Held(after_acting=True)
    world.provider.script.append(gate)
    refresh = asyncio.ensure_future(process.token(session))
    await gate.entered.wait()
    newer = await process.records.replace(session, session.with_tokens(session.tokens))
    gate.go_on.set()
    with pytest.raises(TokenUnavailable):
        await refresh
    await process.drain()
    assert await process.newest(session) == newer
    assert world.provider.revoked == []


async def test_a_store_that_takes_no_write_has_nothing_spent(
    world: World, clock: LoopClock
) -> None:
    process, session = world.process(), await world.log_in()
    clock.advance(HOUR)
    with process.store.outage("put"):
        assert isinstance(await refused(process, session), TokenUnavailable)
    assert world.provider.calls == []


async def test_a_store_that_fails_at_the_logout_of_a_dead_grant_is_asked_again(
    world: World, clock: LoopClock
) -> None:
    process, session = world.process(), await world.log_in()
    world.provider.end_grants()
    clock.advance(HOUR)
    with process.store.outage("delete" if world.kind == "stored" else "put"):
        assert isinstance(await refused(process, session), TokenUnavailable)
    assert isinstance(await refused(process, session), SessionEnded)
    assert len(process.told(events.SessionEnded)) == 1


@pytest.mark.parametrize(
    "operation", ["put", "save", "get", "get_many", "acquire", "release", "renew"]
)
async def test_an_outage_of_any_operation_for_five_seconds_loses_no_session(
    world: World, clock: LoopClock, operation: str
) -> None:
    process, session = world.process(), await world.log_in()
    clock.advance(HOUR)
    with process.store.outage(operation):
        await asyncio.gather(process.token(session), return_exceptions=True)
        await asyncio.sleep(5)
    token = await process.token(session)
    await process.drain()
    assert (await process.newest(session)).tokens.access_token == token
    assert len(world.provider.calls) == 1


# ------------------------------------------------------------- the answer never came


@pytest.mark.case(210)
@pytest.mark.case(247)
async def test_an_ambiguous_failure_is_tried_once_more_after_a_second(
    world: World, clock: LoopClock
) -> None:
    process, other, session = world.process(), world.process(), await world.log_in()
    clock.advance(HOUR)
    gate = Held(then=lost())
    world.provider.script.append(gate)
    tasks = [asyncio.ensure_future(process.token(session)) for _ in range(20)]
    await gate.entered.wait()
    gate.go_on.set()
    failures = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(failure) for failure in failures} == {TokenUnavailable}
    assert len({id(failure) for failure in failures}) == 20
    assert len(process.users._flights) == 0
    for asked in (process, other):
        assert isinstance(await refused(asked, session), TokenUnavailable)
    assert len(world.provider.calls) == 1, "no blind retry"
    clock.advance(1)
    tokens = await asyncio.gather(*(p.token(session) for p in (process, other) for _ in range(5)))
    assert len(set(tokens)) == 1
    assert len(world.provider.calls) == 2
    assert process.told(events.RefreshFailed)[0].error == "no_answer"


async def test_two_who_fail_at_once_keep_the_session_waiting_once(
    world: World, clock: LoopClock
) -> None:
    first, second = world.process(renews=False), world.process()
    session = await world.log_in()
    clock.advance(HOUR)
    gates = [Held(then=lost()) for _ in range(2)]
    world.provider.script.extend(gates)
    tasks = [asyncio.ensure_future(first.token(session))]
    await gates[0].entered.wait()
    clock.advance(9)
    tasks.append(asyncio.ensure_future(second.token(session)))
    await gates[1].entered.wait()
    for gate in gates:
        gate.go_on.set()
    failures = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(failure) for failure in failures} == {TokenUnavailable}
    clock.advance(1)
    assert await first.token(session)


@pytest.mark.case(210)
async def test_an_answer_that_was_lost_after_the_rotation_costs_a_login_and_no_loop(
    world: World, clock: LoopClock
) -> None:
    process, session = world.process(), await world.log_in()
    clock.advance(HOUR)
    world.provider.script.append(lose_answer)
    assert isinstance(await refused(process, session), TokenUnavailable)
    clock.advance(1)
    assert isinstance(await refused(process, session), SessionEnded)
    assert isinstance(await refused(process, session), NotAuthenticated)
    assert len(world.provider.calls) == 2


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(InvalidResponse("access_token", "is missing"), id="a broken answer"),
        pytest.param(InvalidResponse("refresh_token", "is not a string"), id="a broken member"),
        pytest.param(InvalidMetadata("issuer", "is another one"), id="broken metadata"),
    ],
)
async def test_an_answer_that_breaks_a_rule_keeps_the_session(
    world: World, clock: LoopClock, error: Exception
) -> None:
    process, session = world.process(), await world.log_in()
    clock.advance(HOUR)
    world.provider.script.append(refuse(error))
    assert isinstance(await refused(process, session), TokenUnavailable)
    assert await process.newest(session) == session
    clock.advance(1)
    assert await process.token(session)


# ------------------------------------------------------------- how often it is asked


@pytest.mark.case(183)
async def test_what_the_provider_asked_for_holds_for_all_sessions(
    world: World, clock: LoopClock
) -> None:
    process = world.process()
    alice, bob = await world.log_in("alice"), await world.log_in("bob")
    clock.advance(HOUR)
    world.provider.script.append(refuse(overloaded(20.0)))
    first = await refused(process, alice)
    assert isinstance(first, TokenUnavailable)
    assert first.retry_after == 20.0
    second = await refused(process, bob)
    assert isinstance(second, TokenUnavailable)
    assert 20.0 <= second.retry_after <= 24.0
    clock.advance(19)
    await refused(process, bob)
    assert len(world.provider.calls) == 1
    clock.advance(3)
    assert await process.token(bob)
    assert await process.token(alice)
    assert len(world.provider.calls) == 3


@pytest.mark.case(183)
async def test_every_request_of_a_session_is_told_what_is_left_of_the_wait(
    world: World, clock: LoopClock
) -> None:
    process, other, session = world.process(), world.process(), await world.log_in()
    clock.advance(HOUR)
    world.provider.script.append(refuse(overloaded(30.0)))
    waits = []
    for asked in (process, process, other):
        failure = await refused(asked, session)
        assert isinstance(failure, TokenUnavailable)
        waits.append(failure.retry_after)
        clock.advance(5)
    assert waits == pytest.approx([30.0, 25.0, 20.0], abs=0.5)
    assert len(world.provider.calls) == 1


@pytest.mark.parametrize("value", [b"", b"soon", b"nan", b"inf", b"-inf", b"1e400"])
async def test_a_wait_that_makes_no_sense_is_a_short_or_a_long_one(
    stored_world: World, clock: LoopClock, value: bytes
) -> None:
    process, session = stored_world.process(), await stored_world.log_in()
    clock.advance(HOUR)
    await stored_world.memory.put(f"{session.id}:pause", value, ttl=60.0, version=None)
    failure = await refused(process, session)
    assert isinstance(failure, TokenUnavailable)
    assert 1.0 <= failure.retry_after <= 3600.0


async def test_one_lost_answer_is_no_outage_and_five_are(world: World, clock: LoopClock) -> None:
    process = world.process()
    sessions = [await world.log_in(f"u{number}") for number in range(8)]
    clock.advance(HOUR)
    world.provider.script.extend([refuse(overloaded(None))] * 5)
    for session in sessions[:7]:
        assert isinstance(await refused(process, session), TokenUnavailable)
    assert len(world.provider.calls) == 5
    clock.advance(7)
    # One goes ahead, and brings good news for all.
    assert await process.token(sessions[7])
    assert await process.token(sessions[0])


async def test_a_session_that_has_to_wait_does_not_use_up_the_one_try(
    world: World, clock: LoopClock
) -> None:
    process = world.process()
    paused, other = await world.log_in("alice"), await world.log_in("bob")
    clock.advance(HOUR)
    world.provider.script.append(refuse(overloaded(1.0)))
    await refused(process, paused)
    await world.memory.delete(f"{paused.id}:pause")
    await world.memory.put(f"{paused.id}:pause", b"inf", ttl=60.0, version=None)
    clock.advance(2)
    await refused(process, paused)
    assert await process.token(other)


@pytest.mark.parametrize(
    ("error", "target", "told"),
    [
        pytest.param("invalid_grant", LOGIN, SessionEnded, id="of the grant"),
        pytest.param("invalid_target", API, InsufficientScope, id="of a target"),
    ],
)
async def test_a_refusal_is_a_sign_of_life(
    world: World, clock: LoopClock, error: str, target: Target, told: type[Exception]
) -> None:
    process = world.process()
    alice, bob = await world.log_in("alice"), await world.log_in("bob")
    clock.advance(HOUR)
    world.provider.script.extend([refuse(overloaded(5.0)), refuse(refusal(error))])
    await refused(process, alice)
    clock.advance(7)
    assert isinstance(await refused(process, alice, target=target), told)
    assert await process.token(bob), "nobody has to wait any more"


# ------------------------------------------------------------- not the user's fault


@pytest.mark.case(181)
@pytest.mark.parametrize(
    ("error", "word"),
    [
        pytest.param(refusal("invalid_client", status=401), "invalid_client", id="invalid_client"),
        pytest.param(refusal("unauthorized_client"), "unauthorized_client", id="unauthorized"),
        pytest.param(refusal("unsupported_grant_type"), "unsupported_grant_type", id="grant type"),
        pytest.param(refusal("invalid_scope"), "invalid_scope", id="invalid_scope"),
        pytest.param(refusal("invalid_target"), "invalid_target", id="invalid_target"),
        pytest.param(
            ConfigurationError("client_auth", "is not supported"),
            "client_auth: is not supported",
            id="settings",
        ),
    ],
)
async def test_wrong_settings_alarm_the_operator_and_log_nobody_out(
    world: World, clock: LoopClock, error: Exception, word: str
) -> None:
    process = world.process()
    sessions = [await world.log_in(f"u{number}") for number in range(5)]
    clock.advance(HOUR)
    world.provider.script.append(refuse(error))
    for session in sessions:
        assert isinstance(await refused(process, session), TokenUnavailable)
        assert await process.newest(session) == session
    assert len(world.provider.calls) == 1, "the circuit is open"
    assert [alarm.error for alarm in process.told(events.ProviderAlarm)] == [word]
    clock.advance(29)
    await refused(process, sessions[0])
    assert len(world.provider.calls) == 1
    clock.advance(8)
    for session in sessions:
        assert await process.token(session), "the secret was put right"


@pytest.mark.parametrize(
    ("error", "alarms"),
    [
        pytest.param("invalid_request", ["invalid_request"], id="what only settings explain"),
        pytest.param("access_denied", [], id="what nobody knows"),
    ],
)
async def test_a_refusal_of_one_session_keeps_no_other_waiting(
    world: World, clock: LoopClock, error: str, alarms: list[str]
) -> None:
    process = world.process()
    alice, bob = await world.log_in("alice"), await world.log_in("bob")
    clock.advance(HOUR)
    world.provider.script.append(refuse(refusal(error)))
    for _ in range(2):
        assert isinstance(await refused(process, alice), TokenUnavailable)
    assert len(world.provider.calls) == 1
    assert [alarm.error for alarm in process.told(events.ProviderAlarm)] == alarms
    assert await process.token(bob)
    assert await process.newest(alice) == alice
    clock.advance(30)
    assert await process.token(alice)


# ------------------------------------------------------------- the end of a session


@pytest.mark.case(180)
@pytest.mark.parametrize(
    ("error", "reason"),
    [
        pytest.param(refusal("invalid_grant"), "invalid_grant", id="invalid_grant"),
        pytest.param(refusal("login_required"), "login_required", id="login_required"),
        pytest.param(InvalidToken("OIDC Core 12.2", "another sub"), "invalid_id_token", id="sub"),
    ],
)
async def test_a_grant_that_is_over_ends_the_session_in_every_process(
    world: World, clock: LoopClock, error: Exception, reason: str
) -> None:
    process, other, session = world.process(), world.process(), await world.log_in()
    clock.advance(HOUR)
    world.provider.script.append(refuse(error))
    failure = await refused(process, session)
    assert isinstance(failure, SessionEnded)
    assert failure.reason == reason
    assert isinstance(await refused(other, session), NotAuthenticated)
    assert len(world.provider.calls) == 1
    assert process.told(events.RefreshFailed)[0].error == reason


@pytest.mark.case(180)
async def test_a_record_that_is_newer_is_used_after_invalid_grant(
    world: World, clock: LoopClock
) -> None:
    process, session = world.process(), await world.log_in()
    clock.advance(HOUR)
    gate = Held(then=refusal("invalid_grant"))
    world.provider.script.append(gate)
    refresh = asyncio.ensure_future(process.token(session))
    await gate.entered.wait()
    newer = await process.records.replace(
        session, session.with_tokens(world.provider.log_in("alice"))
    )
    assert newer is not None
    gate.go_on.set()
    assert await refresh == newer.tokens.access_token
    assert await process.newest(session) == newer


async def test_a_record_that_is_newer_and_of_no_use_is_not_deleted(
    world: World, clock: LoopClock
) -> None:
    process, session = world.process(), await world.log_in()
    clock.advance(HOUR)
    gate = Held(then=refusal("invalid_grant"))
    world.provider.script.append(gate)
    refresh = asyncio.ensure_future(process.token(session))
    await gate.entered.wait()
    newer = await process.records.replace(session, session.with_tokens(session.tokens))
    gate.go_on.set()
    with pytest.raises(TokenUnavailable):
        await refresh
    assert await process.newest(session) == newer
    assert await process.token(session)


async def test_of_two_who_hear_invalid_grant_one_ends_the_session(
    world: World, clock: LoopClock
) -> None:
    """The lease was lost, so both were at the provider at once."""
    first, second = world.process(renews=False), world.process()
    session = await world.log_in()
    clock.advance(HOUR)
    gates = [Held(then=refusal("invalid_grant")) for _ in range(2)]
    world.provider.script.extend(gates)
    tasks = [asyncio.ensure_future(first.token(session))]
    await gates[0].entered.wait()
    clock.advance(9)
    tasks.append(asyncio.ensure_future(second.token(session)))
    await gates[1].entered.wait()
    for gate in gates:
        gate.go_on.set()
    failures = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(failure) for failure in failures} <= {SessionEnded, NotAuthenticated}
    assert len(first.told(events.SessionEnded) + second.told(events.SessionEnded)) == 1


async def test_an_error_that_nobody_foresaw_releases_the_lease_and_is_raised(
    world: World, clock: LoopClock
) -> None:
    process, session = world.process(), await world.log_in()
    clock.advance(HOUR)
    world.provider.script.append(refuse(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        await process.token(session)
    await process.drain()
    assert len(process.users._flights) == 0
    assert await process.token(session)


# ------------------------------------------------------------- what the answer says


@pytest.mark.case(196)
async def test_refresh_answer_without_refresh_token_keeps_the_old_one(
    world: World, clock: LoopClock
) -> None:
    process, session = world.process(), await world.log_in()
    world.provider.rotates = False
    world.provider.script.append(alter(refresh_token=None))
    handle = Handle(process.records, session)
    await process.users.token(handle, force_renewal=True)
    assert handle.session is not None
    assert handle.session.tokens.refresh_token == session.tokens.refresh_token
    assert await process.users.token(handle, force_renewal=True)


@pytest.mark.case(198)
async def test_the_same_refresh_token_again_is_fine_again_and_again(
    world: World, clock: LoopClock
) -> None:
    world.provider.rotates = False
    process, session = world.process(), await world.log_in()
    first_cookie = session
    for _ in range(5):
        clock.advance(HOUR)
        tokens = await asyncio.gather(*(process.token(session) for _ in range(10)))
        assert len(set(tokens)) == 1
        session = await process.newest(session)
        assert session.tokens.access_token == tokens[0]
    assert session.tokens.refresh_token == first_cookie.tokens.refresh_token
    assert len(world.provider.calls) == 5
    assert world.provider.revoked == []


@pytest.mark.case(193)
async def test_a_lifetime_that_is_not_told_is_the_configured_one(
    world: World, clock: LoopClock
) -> None:
    process, session = world.process(), await world.log_in()
    world.provider.lifetime = None
    token = await process.token(session, force_renewal=True)
    assert token.expires_assumed
    assert token.expires_at.timestamp() == pytest.approx(clock() + 300, abs=1)


@pytest.mark.case(203)
async def test_a_scope_that_is_not_told_is_the_old_one(world: World, clock: LoopClock) -> None:
    process, session = world.process(), await world.log_in()
    world.provider.script.extend([alter(scope=None)] * 2)
    assert (await process.token(session, force_renewal=True)).scope == session.tokens.scope
    target = Target(scope=frozenset({"read"}))
    session = await process.newest(session)
    assert (await process.token(session, target=target)).scope == {"read"}


@pytest.mark.case(205)
async def test_an_empty_scope_is_none_at_all(world: World) -> None:
    process, session = world.process(), await world.log_in()
    world.provider.script.append(alter(scope=frozenset()))
    assert (await process.token(session, force_renewal=True)).scope == frozenset()
