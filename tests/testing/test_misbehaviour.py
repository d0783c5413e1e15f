"""Misbehaviour on command, and the record of what happened."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import httpx
import pytest

from tokenward.secret import Secret
from tokenward.testing import (
    AlteredAnswer,
    AnswerLost,
    Client,
    CutAnswer,
    Fault,
    HtmlAnswer,
    LostAnswer,
    LostRequest,
    OAuthError,
    Provider,
    RawAnswer,
    ServerError,
    Slow,
    TooManyRequests,
)

DISCOVERY = "/.well-known/openid-configuration"


@pytest.mark.parametrize(
    ("fault", "status", "header", "body"),
    [
        pytest.param(
            ServerError(503, retry_after=7), 503, ("retry-after", "7"), "<html>", id="503"
        ),
        pytest.param(
            ServerError(), 500, ("content-type", "text/html"), "<html>", id="500 without hint"
        ),
        pytest.param(
            TooManyRequests(retry_after="soon"), 429, ("retry-after", "soon"), "too many", id="429"
        ),
        pytest.param(HtmlAnswer(), 200, ("content-type", "text/html"), "hotel", id="html"),
        pytest.param(
            RawAnswer(307, {"Location": "https://x"}, b"b"), 307, ("location", "https://x"), "b"
        ),
        pytest.param(
            OAuthError("invalid_client", status=401),
            401,
            ("content-type", "application/json"),
            '{"error": "invalid_client"}',
            id="oauth error",
        ),
    ],
)
async def test_answer_without_acting_spends_nothing(raw, provider, fault, status, header, body):
    token = (await raw.login())["refresh_token"]
    provider.misbehave("token", fault)
    response = await raw.refresh(token)
    assert response.status_code == status
    assert response.headers[header[0]] == header[1]
    assert body in response.text
    assert (await raw.refresh(token)).status_code == 200
    assert provider.refreshes_of("alice") == 1


async def test_fault_hits_once_unless_told_otherwise(raw, provider):
    provider.misbehave("discovery", ServerError())
    assert [(await raw.http.get(DISCOVERY)).status_code for _ in range(2)] == [500, 200]


async def test_fault_can_hit_several_times_or_for_ever(raw, provider):
    provider.misbehave("discovery", ServerError(), times=2)
    provider.misbehave("jwks", ServerError(), times=None)
    assert [(await raw.http.get(DISCOVERY)).status_code for _ in range(3)] == [500, 500, 200]
    assert [(await raw.http.get("/jwks")).status_code for _ in range(3)] == [500, 500, 500]
    provider.behave("jwks")
    assert (await raw.http.get("/jwks")).status_code == 200


async def test_faults_come_in_the_order_they_were_planned(raw, provider):
    for status in (500, 502):
        provider.misbehave("jwks", ServerError(status))
    assert [(await raw.http.get("/jwks")).status_code for _ in range(3)] == [500, 502, 200]
    provider.misbehave("jwks", ServerError())
    provider.behave()
    assert (await raw.http.get("/jwks")).status_code == 200


async def test_fault_hits_only_the_requests_that_are_meant(raw, provider):
    provider.misbehave("token", ServerError(), when=lambda r: r.grant_type == "refresh_token")
    answer = await raw.login()
    assert (await raw.refresh(answer["refresh_token"])).status_code == 500


async def test_endpoint_that_does_not_exist_cannot_misbehave(provider):
    with pytest.raises(ValueError, match="tokens"):
        provider.misbehave("tokens", ServerError())


async def test_answer_can_be_altered_after_acting(raw, provider):
    token = (await raw.login())["refresh_token"]
    fault = AlteredAnswer({"expires_in": "3600"}, without=["refresh_token"], status=201)
    provider.misbehave("token", fault)
    response = await raw.refresh(token)
    assert response.status_code == 201
    assert response.json()["expires_in"] == "3600"
    assert "refresh_token" not in response.json()
    assert provider.refreshes_of("alice") == 1


async def test_authorization_response_can_be_altered(raw, provider, query):
    fault = AlteredAnswer({"iss": "https://evil.test"}, without=["state"])
    provider.misbehave("authorize", fault)
    parameters = query(await raw.authorize())
    assert parameters["iss"] == "https://evil.test"
    assert set(parameters) == {"iss", "code"}


async def test_alteration_planned_for_authorize_waits_for_the_password(raw, provider, query):
    provider.sign_in_automatically(None)
    provider.misbehave("authorize", AlteredAnswer(without=["iss"]))
    page = (await raw.authorize()).text
    interaction = page.split('name="interaction" value="')[1].split('"')[0]
    form = {"username": "alice", "password": "wonderland", "interaction": interaction}
    assert "iss" not in query(await raw.http.post("/login", data=form))


# --- lost and cut


async def test_lost_answer_has_spent_the_token(raw, provider):
    token = (await raw.login())["refresh_token"]
    provider.misbehave("token", LostAnswer())
    with pytest.raises(AnswerLost):
        await raw.refresh(token)
    assert provider.refreshes_of("alice") == 1
    assert not provider.is_active(token)
    assert provider.requests[-1].outcome == "ok"
    assert not provider.requests[-1].answered


async def test_lost_request_has_spent_nothing(raw, provider):
    token = (await raw.login())["refresh_token"]
    provider.misbehave("token", LostRequest())
    with pytest.raises(AnswerLost):
        await raw.refresh(token)
    assert provider.requests[-1].outcome == "lost_request"
    assert (await raw.refresh(token)).status_code == 200


@pytest.mark.parametrize("at", [0, 1, 10_000])
async def test_cut_answer_has_spent_the_token_and_never_comes_whole(raw, provider, at):
    token = (await raw.login())["refresh_token"]
    provider.misbehave("token", CutAnswer(at=at))
    with pytest.raises(AnswerLost):
        await raw.refresh(token)
    assert provider.refreshes_of("alice") == 1


async def test_in_process_the_caller_may_choose_what_a_lost_connection_looks_like():
    provider = Provider(connection_error=httpx.ReadError)
    provider.misbehave("jwks", LostAnswer())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(provider)) as http:
        with pytest.raises(httpx.ReadError):
            await http.get("https://op.test/jwks")


# --- slow


async def test_held_request_waits_for_its_release(raw, provider):
    token = (await raw.login())["refresh_token"]
    gate = provider.hold("token")
    refreshing = asyncio.create_task(raw.refresh(token))
    await gate.entered.wait()
    assert provider.refreshes_of("alice") == 0
    assert not refreshing.done()
    gate.release()
    assert (await refreshing).status_code == 200
    assert gate.arrived == 1
    assert provider.refreshes_of("alice") == 1


async def test_request_held_after_acting_has_spent_its_token(raw, provider):
    token = (await raw.login())["refresh_token"]
    gate = provider.hold("token", after_acting=True)
    refreshing = asyncio.create_task(raw.refresh(token))
    await gate.entered.wait()
    assert provider.refreshes_of("alice") == 1
    gate.release()
    assert (await refreshing).status_code == 200


@pytest.mark.parametrize(
    ("after_acting", "outcome", "spent"), [(True, "ok", 1), (False, "cancelled", 0)]
)
async def test_client_that_goes_away_leaves_a_record(raw, provider, after_acting, outcome, spent):
    token = (await raw.login())["refresh_token"]
    gate = provider.hold("token", after_acting=after_acting)
    refreshing = asyncio.create_task(raw.refresh(token))
    await gate.entered.wait()
    refreshing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await refreshing
    assert provider.requests[-1].outcome == outcome
    assert not provider.requests[-1].answered
    assert provider.refreshes_of("alice") == spent


async def test_gate_that_is_open_holds_nobody(raw, provider):
    gate = provider.hold("jwks", times=None)
    gate.release()
    for _ in range(2):
        assert (await raw.http.get("/jwks")).status_code == 200
    assert gate.arrived == 2


@pytest.mark.parametrize("after_acting", [True, False])
async def test_slow_answer_comes(raw, provider, after_acting):
    provider.misbehave("jwks", Slow(0.001, after_acting=after_acting))
    assert (await raw.http.get("/jwks")).status_code == 200


async def test_own_fault_is_a_subclass(raw, provider):
    @dataclass(frozen=True, slots=True)
    class Teapot(Fault):
        def instead(self):
            return RawAnswer(418).instead()

    provider.misbehave("jwks", Teapot())
    assert (await raw.http.get("/jwks")).status_code == 418


# --- records


async def test_every_request_is_counted(raw, provider):
    answer = await raw.login()
    await raw.refresh(answer["refresh_token"])
    await raw.refresh(answer["refresh_token"])
    assert provider.count("authorize") == 1
    assert provider.count("token") == 3
    assert provider.count("token", grant_type="refresh_token") == 2
    assert provider.count("token", grant_type="refresh_token", outcome="ok") == 1
    assert provider.count("token", outcome="invalid_grant") == 1
    assert provider.count("token", client_id="app") == 3
    assert provider.count("token", client_id="other") == 0


async def test_record_says_what_was_asked_and_no_secret(raw, provider):
    answer = await raw.login(resource="https://a.test/")
    await raw.refresh(answer["refresh_token"], resource="https://a.test/")
    record = provider.requests[-1]
    assert record.sub == "alice"
    assert record.client_id == "app"
    assert record.answered
    assert ("resource", "https://a.test/") in record.parameters
    assert dict(record.parameters)["refresh_token"] == "**********"
    kept = repr(provider.requests) + repr(provider.families)
    for secret in (*answer.values(), "the-state", "the-nonce", "v" * 43):
        assert str(secret) == "3600" or len(str(secret)) < 41 or str(secret) not in kept
    assert "the-state" not in kept
    assert "the-nonce" not in kept


async def test_record_of_a_login_page_says_so(raw, provider):
    provider.sign_in_automatically(None)
    await raw.authorize()
    assert provider.requests[-1].outcome == "login_page"


async def test_secrets_of_clients_and_users_are_not_printed():
    assert "hush" not in repr(Client("app", secrets=["hush"]))


async def test_tokens_can_be_asked_about_as_secrets(raw, provider):
    token = (await raw.login())["access_token"]
    assert provider.is_active(Secret(token))
    assert not provider.is_revoked(Secret(token))
