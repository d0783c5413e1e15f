"""Backchannel authentication, polled (CIBA Core 1.0)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tokenward.testing import OAuthError
from tokenward.testing.clients import CIBA


@pytest.fixture
def provider(provider):
    for name in ("app", "other", "spa"):
        client = provider.clients[name]
        provider.register(replace(client, grant_types=(*client.grant_types, CIBA)))
    return provider


async def ask(raw, **form):
    form = {"scope": "openid offline_access", "login_hint": "alice", **form}
    return await raw.post("/backchannel_authentication", **form)


async def asked(raw, **form):
    response = await ask(raw, **form)
    assert response.status_code == 200, response.text
    return response.json()


async def poll(raw, answer):
    return await raw.token(grant_type=CIBA, auth_req_id=answer["auth_req_id"])


async def test_client_gets_what_it_polls_with(raw):
    response = await ask(raw, binding_message="W4SCT")
    answer = response.json()
    assert set(answer) == {"auth_req_id", "expires_in", "interval"}
    assert answer["expires_in"] == 120
    assert answer["interval"] == 5
    assert response.headers["cache-control"] == "no-store"


async def test_client_waits_until_the_user_approves_and_then_gets_everything(
    raw, provider, clock, segments
):
    answer = await asked(raw)
    assert (await poll(raw, answer)).json()["error"] == "authorization_pending"
    clock.advance(5)
    assert provider.approve_backchannel("alice") == 1
    tokens = (await poll(raw, answer)).json()
    assert segments(tokens["id_token"])[1]["sub"] == "alice"
    assert segments(tokens["id_token"])[1]["auth_time"] == int(clock())
    assert (await raw.refresh(tokens["refresh_token"])).status_code == 200
    clock.advance(5)
    assert (await poll(raw, answer)).json()["error"] == "invalid_grant"


async def test_denied_request_is_told_so(raw, provider):
    answer = await asked(raw)
    assert provider.deny_backchannel("alice") == 1
    assert (await poll(raw, answer)).json()["error"] == "access_denied"


async def test_client_that_polls_too_fast_must_slow_down(raw, provider, clock):
    answer = await asked(raw)
    await poll(raw, answer)
    assert (await poll(raw, answer)).json()["error"] == "slow_down"
    clock.advance(9)
    assert (await poll(raw, answer)).json()["error"] == "slow_down"
    clock.advance(15)
    assert (await poll(raw, answer)).json()["error"] == "authorization_pending"


async def test_request_expires(raw, provider, clock):
    answer = await asked(raw)
    clock.advance(120)
    assert (await poll(raw, answer)).json()["error"] == "expired_token"
    with pytest.raises(LookupError):
        provider.approve_backchannel("alice")


@pytest.mark.parametrize(("seconds", "granted"), [("30", 30), ("120", 120), ("900", 120)])
async def test_client_may_ask_for_less_time_but_not_for_more(raw, seconds, granted):
    assert (await asked(raw, requested_expiry=seconds))["expires_in"] == granted


async def test_request_belongs_to_its_client(raw, provider):
    answer = await asked(raw)
    provider.approve_backchannel("alice")
    raw.client_auth = ("other", "o")
    assert (await poll(raw, answer)).json()["error"] == "invalid_grant"


async def test_decision_is_about_one_user_and_about_all_that_is_open(raw, provider):
    mine, also_mine, bobs = [await asked(raw, login_hint=u) for u in ("alice", "alice", "bob")]
    assert provider.approve_backchannel("alice") == 2
    for answer in (mine, also_mine):
        assert (await poll(raw, answer)).status_code == 200
    assert (await poll(raw, bobs)).json()["error"] == "authorization_pending"
    with pytest.raises(LookupError):
        provider.deny_backchannel("alice")


async def test_id_token_is_a_hint_even_when_it_has_expired(raw, provider, clock):
    hint = (await raw.login())["id_token"]
    clock.advance(10_000)
    await asked(raw, login_hint=None, id_token_hint=hint)
    assert provider.approve_backchannel("alice") == 1


@pytest.mark.parametrize(
    ("form", "error"),
    [
        pytest.param({"scope": "api"}, "invalid_scope", id="no openid"),
        pytest.param({"scope": None}, "invalid_scope", id="no scope"),
        pytest.param({"scope": "openid admin"}, "invalid_scope", id="foreign scope"),
        pytest.param({"login_hint": None}, "invalid_request", id="no hint"),
        pytest.param({"id_token_hint": "x.y.z"}, "invalid_request", id="two hints"),
        pytest.param(
            {"login_hint": None, "login_hint_token": "x"}, "invalid_request", id="hint token"
        ),
        pytest.param(
            {"login_hint": None, "id_token_hint": "x.y.z"}, "invalid_request", id="no id_token"
        ),
        pytest.param({"login_hint": "mallory"}, "unknown_user_id", id="unknown user"),
        pytest.param({"binding_message": "x" * 65}, "invalid_binding_message", id="long message"),
        pytest.param({"binding_message": "a\nb"}, "invalid_binding_message", id="unprintable"),
        pytest.param({"requested_expiry": "0"}, "invalid_request", id="no time"),
        pytest.param({"requested_expiry": "-5"}, "invalid_request", id="negative time"),
        pytest.param({"requested_expiry": "9" * 5000}, "invalid_request", id="endless"),
        pytest.param({"request": "x.y.z"}, "invalid_request", id="signed request"),
        pytest.param({"resource": "relative"}, "invalid_target", id="resource"),
    ],
)
async def test_request_that_is_not_right_is_refused(raw, form, error):
    response = await ask(raw, **form)
    assert response.status_code == 400
    assert response.json()["error"] == error


async def test_public_client_cannot_ask(raw):
    raw.client_auth = None
    assert (await ask(raw, client_id="spa")).json()["error"] == "unauthorized_client"


async def test_client_without_the_grant_cannot_ask_and_discovery_tells_nothing(raw, provider):
    for name in ("app", "other", "spa"):
        client = replace(provider.clients[name], grant_types=("authorization_code",))
        provider.register(client)
    assert (await ask(raw)).json()["error"] == "unauthorized_client"
    assert not {name for name in await raw.metadata() if "backchannel" in name}


async def test_discovery_announces_polling(raw):
    metadata = await raw.metadata()
    address = "https://op.test/backchannel_authentication"
    assert metadata["backchannel_authentication_endpoint"] == address
    assert metadata["backchannel_token_delivery_modes_supported"] == ["poll"]
    assert metadata["backchannel_user_code_parameter_supported"] is False
    assert CIBA in metadata["grant_types_supported"]


async def test_requests_are_counted_by_user_and_masked(raw, provider):
    answer = await asked(raw)
    await poll(raw, answer)
    assert provider.requests[-2].sub == "alice"
    assert provider.count("backchannel_authentication", client_id="app", outcome="ok") == 1
    assert provider.count("token", grant_type=CIBA, outcome="authorization_pending") == 1
    assert answer["auth_req_id"] not in repr(provider.requests)


async def test_backchannel_can_misbehave(raw, provider):
    provider.misbehave("backchannel_authentication", OAuthError("server_error", status=500))
    assert (await ask(raw)).status_code == 500


async def test_user_who_is_not_there_cannot_approve(provider):
    with pytest.raises(LookupError, match="mallory"):
        provider.approve_backchannel("mallory")
