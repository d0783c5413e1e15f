"""Waiting for the user: as often as the provider allows, and no longer than it makes sense."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import TYPE_CHECKING, Any

import pytest

from tokenward.endpoints import (
    poll_backchannel_authentication_token,
    poll_device_token,
    request_backchannel_authentication,
    request_device_authorization,
)
from tokenward.errors import InvalidResponse, ProtocolError
from tokenward.protocol.authorization_responses import (
    BackchannelAuthenticationResponse,
    DeviceAuthorizationResponse,
)
from tokenward.protocol.client_assertion import client_secret_jwt
from tokenward.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Callable

TOKEN = {"access_token": "t", "token_type": "Bearer"}
NOW = 1_700_000_000.0


def device(**members: Any) -> DeviceAuthorizationResponse:
    told = {
        "device_code": "the-device-code",
        "user_code": "ABCD",
        "verification_uri": "https://op.test/device",
        "expires_in": 100,
        **members,
    }
    return DeviceAuthorizationResponse.parse(200, {}, json.dumps(told).encode())


def authentication(**members: Any) -> BackchannelAuthenticationResponse:
    told = {"auth_req_id": "the-request", "expires_in": 100, **members}
    return BackchannelAuthenticationResponse.parse(200, {}, json.dumps(told).encode())


class Time:
    """Time that passes only while somebody sleeps."""

    def __init__(self, *, is_async: bool) -> None:
        self.now = NOW
        self.pauses: list[float] = []
        self.sleep: Callable[[float], Any] = self._asleep if is_async else self._sleep
        self.before: Callable[[], object] = lambda: None

    def __call__(self) -> float:
        return self.now

    def _sleep(self, seconds: float) -> None:
        self.before()
        self.pauses.append(seconds)
        self.now += seconds

    async def _asleep(self, seconds: float) -> None:
        self._sleep(seconds)


@pytest.fixture
def time(wire: Any) -> Time:
    return Time(is_async=wire.is_async)


@pytest.fixture(params=["device", "ciba"])
def poll(request: pytest.FixtureRequest, wire: Any, time: Time) -> Any:
    """Poll in one of the two ways; what the provider told at the beginning can be changed."""

    async def poll(**members: Any) -> Any:
        usual: dict[str, Any] = {"client_id": "tv", "clock": time, "sleep": time.sleep}
        if request.param == "device":
            usual["device"] = device(**members)
            return await wire.call(poll_device_token, wire.address, **usual)
        usual["authentication"] = authentication(**members)
        return await wire.call(poll_backchannel_authentication_token, wire.address, **usual)

    return poll


@pytest.mark.case(474)
async def test_it_waits_before_each_question_until_the_user_has_decided(
    wire: Any, time: Time, poll: Any
) -> None:
    pending = wire.answer(400, error="authorization_pending")
    wire.answers = [pending, pending, wire.answer(**TOKEN)]
    response = await poll(interval=7)
    assert response.access_token == Secret("t")
    assert time.pauses == [7.0, 7.0, 7.0]
    grants = {dict(sent.form)["grant_type"].rpartition(":")[2] for sent in wire.sent}
    assert grants <= {"device_code", "ciba"}


@pytest.mark.case(474)
async def test_every_slow_down_adds_five_seconds_for_good(wire: Any, time: Time, poll: Any) -> None:
    slow = wire.answer(400, error="slow_down")
    pending = wire.answer(400, error="authorization_pending")
    wire.answers = [slow, pending, slow, pending, wire.answer(**TOKEN)]
    assert not (await poll()).is_error
    assert time.pauses == [5.0, 10.0, 10.0, 15.0, 15.0]


@pytest.mark.case(474)
@pytest.mark.parametrize("error", ["access_denied", "expired_token", "invalid_grant", "other"])
async def test_any_other_refusal_ends_it(wire: Any, time: Time, poll: Any, error: str) -> None:
    wire.says(400, error=error)
    response = await poll()
    assert (response.error_type, response.error) == ("protocol", error)
    assert time.pauses == [5.0]


@pytest.mark.case(474)
async def test_it_stops_when_the_time_of_the_user_is_over(wire: Any, time: Time, poll: Any) -> None:
    wire.says(400, error="authorization_pending")
    response = await poll(expires_in=12)
    assert response.is_error
    assert (response.error_type, response.error) == ("policy", "expired_token")
    assert time.pauses == [5.0, 5.0]  # a third question would come too late
    with pytest.raises(ProtocolError):
        response.raise_for_error()


async def test_nothing_is_asked_when_there_is_no_time_for_a_question(wire: Any, poll: Any) -> None:
    assert (await poll(expires_in=5)).error == "expired_token"
    assert wire.sent == []


@pytest.mark.parametrize("failure", ["ReadTimeout", 503, 429])
async def test_an_outage_is_waited_for_and_asked_less_often(
    wire: Any, time: Time, poll: Any, failure: str | int
) -> None:
    out = failure if isinstance(failure, str) else wire.raw(failure, b"<html>")
    wire.answers = [out, out, wire.answer(**TOKEN)]
    assert not (await poll()).is_error
    assert time.pauses == [5.0, 10.0, 20.0]


async def test_retry_after_is_obeyed(wire: Any, time: Time, poll: Any) -> None:
    out = wire.raw(429, b"", retry_after="42")
    wire.answers = [out, wire.answer(**TOKEN)]
    assert not (await poll()).is_error
    assert time.pauses == [5.0, 42.0]


async def test_outages_stretch_the_interval_to_a_minute_at_most(
    wire: Any, time: Time, poll: Any
) -> None:
    wire.answers = [wire.raw(500, b"")]
    assert (await poll(expires_in=400)).error == "expired_token"
    assert time.pauses == [5.0, 10.0, 20.0, 40.0, 60.0, 60.0, 60.0, 60.0, 60.0]


async def test_an_answer_that_cannot_be_read_ends_it(wire: Any, time: Time, poll: Any) -> None:
    wire.answers = [wire.raw(200, b"<html>")]
    response = await poll()
    assert isinstance(response.exception, InvalidResponse)
    assert time.pauses == [5.0]


@pytest.mark.parametrize(
    ("told", "used"), [(0, 1.0), (-3, 1.0), ("7", 7.0), ([], 5.0), (True, 5.0), (None, 5.0)]
)
async def test_an_interval_that_makes_no_sense_makes_no_storm(
    wire: Any, time: Time, poll: Any, told: object, used: float
) -> None:
    wire.says(**TOKEN)
    await poll(interval=told)
    assert time.pauses == [used]


@pytest.mark.case(217)
async def test_each_question_has_a_proof_of_its_own(wire: Any, time: Time) -> None:
    proof = client_secret_jwt("k" * 32, issuer="https://op.test", clock=time)
    wire.answers = [wire.answer(400, error="authorization_pending"), wire.answer(**TOKEN)]
    await wire.call(
        poll_device_token,
        wire.address,
        client_id="tv",
        client_auth=proof,
        device=device(),
        clock=time,
        sleep=time.sleep,
    )
    first, second = (claims(dict(sent.form)["client_assertion"]) for sent in wire.sent)
    assert first["jti"] != second["jti"]
    # Made after the pause: it may be longer than a proof is good for.
    assert (first["iat"], second["iat"]) == (NOW + 5, NOW + 10)


async def test_a_refused_beginning_is_misuse(wire: Any) -> None:
    refused = DeviceAuthorizationResponse.parse(400, {}, b'{"error": "invalid_scope"}')
    with pytest.raises(ProtocolError):
        poll_device_token(wire.http, wire.address, client_id="tv", device=refused)


async def test_what_sleep_raises_ends_it(wire: Any, time: Time, poll: Any) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    time.before = stop
    with pytest.raises(KeyboardInterrupt):
        await poll()
    assert wire.sent == []


async def test_a_cancelled_task_stops_asking(wire: Any, time: Time) -> None:
    if not wire.is_async:
        return
    asleep = asyncio.Event()

    async def sleep(_: float) -> None:
        asleep.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(
        poll_device_token(
            wire.http, wire.address, client_id="tv", device=device(), clock=time, sleep=sleep
        )
    )
    await asleep.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert wire.sent == []


async def test_the_whole_way_from_the_beginning(wire: Any, time: Time) -> None:
    wire.says(
        device_code="d-c",
        user_code="ABCD",
        verification_uri="https://op.test/device",
        expires_in=60,
        interval=1,
    )
    begun = await wire.call(request_device_authorization, wire.address, client_id="tv")
    wire.says(**TOKEN)
    keywords = {"client_id": "tv", "clock": time, "sleep": time.sleep}
    response = await wire.call(poll_device_token, wire.address, device=begun, **keywords)
    assert response.access_token == Secret("t")
    assert dict(wire.sent[1].form)["device_code"] == "d-c"
    wire.says(auth_req_id="a-r", expires_in=60)
    begun = await wire.call(
        request_backchannel_authentication, wire.address, client_id="tv", request="a.b.c"
    )
    assert wire.sent[2].form == [("request", "a.b.c"), ("client_id", "tv")]
    wire.says(**TOKEN)
    response = await wire.call(
        poll_backchannel_authentication_token, wire.address, authentication=begun, **keywords
    )
    assert response.access_token == Secret("t")


def claims(assertion: str) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(base64.urlsafe_b64decode(assertion.split(".")[1] + "=="))
    return read
