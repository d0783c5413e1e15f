"""Token exchange (RFC 8693)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tokenward.testing import Client, MissingClaim, Provider, WrongClaim
from tokenward.testing.clients import TOKEN_EXCHANGE

URN = "urn:ietf:params:oauth:token-type:"
ACCESS_TOKEN = f"{URN}access_token"
ID_TOKEN = f"{URN}id_token"
JWT = f"{URN}jwt"


@pytest.fixture
def provider(provider):
    for name in ("app", "spa"):
        client = provider.clients[name]
        provider.register(replace(client, grant_types=(*client.grant_types, TOKEN_EXCHANGE)))
    provider.register(
        Client(
            "api",
            secrets=["a"],
            grant_types=["client_credentials", TOKEN_EXCHANGE],
            scopes=["openid", "api", "invoices", "offline_access"],
            access_token_type="jwt",
        )
    )
    return provider


@pytest.fixture
def api(raw):
    """Switch to the API that was called with a user's token."""

    def switch():
        raw.client_auth = ("api", "a")

    return switch


async def exchange(raw, token, **form):
    form = {"subject_token": token, "subject_token_type": ACCESS_TOKEN, **form}
    return await raw.token(grant_type=TOKEN_EXCHANGE, **form)


async def test_api_gets_a_token_of_its_own_for_the_user(raw, provider, api, segments):
    user_token = (await raw.login())["access_token"]
    api()
    response = await exchange(raw, user_token, scope="invoices", audience="invoices")
    answer = response.json()
    assert set(answer) == {
        "access_token",
        "expires_in",
        "issued_token_type",
        "scope",
        "token_type",
    }
    assert answer["issued_token_type"] == ACCESS_TOKEN
    assert answer["token_type"] == "Bearer"
    assert answer["scope"] == "invoices"
    _, claims, _ = segments(answer["access_token"])
    assert claims["sub"] == "alice"
    assert claims["client_id"] == "api"
    assert claims["aud"] == "invoices"
    assert "act" not in claims
    assert provider.requests[-1].sub == "alice"
    assert provider.is_active(answer["access_token"])
    assert provider.is_active(user_token)


async def test_without_a_word_the_scope_is_what_both_may_have(raw, api):
    user_token = (await raw.login(scope="openid email api offline_access"))["access_token"]
    api()
    answer = (await exchange(raw, user_token)).json()
    assert answer["scope"] == "api openid"
    assert "refresh_token" not in answer


@pytest.mark.parametrize("scope", ["admin", "offline_access", "email", "api  openid"])
async def test_scope_that_the_client_may_not_have_is_refused(raw, api, scope):
    user_token = (await raw.login())["access_token"]
    api()
    assert (await exchange(raw, user_token, scope=scope)).json()["error"] == "invalid_scope"


async def test_nothing_in_common_is_no_scope(raw, api):
    user_token = (await raw.login(scope="email"))["access_token"]
    api()
    assert (await exchange(raw, user_token)).json()["error"] == "invalid_scope"


async def test_resources_and_audiences_add_up(raw, api, segments):
    user_token = (await raw.login())["access_token"]
    api()
    form = {"resource": ["https://a.test/", "https://b.test/"], "audience": ["one", "two"]}
    answer = (await exchange(raw, user_token, **form)).json()
    expected = ["https://a.test/", "https://b.test/", "one", "two"]
    assert segments(answer["access_token"])[1]["aud"] == expected


@pytest.mark.parametrize("form", [{"audience": "x"}, {"resource": "https://x.test/"}])
async def test_target_that_the_client_may_not_ask_for_is_refused(raw, provider, api, form):
    user_token = (await raw.login())["access_token"]
    provider.register(replace(provider.clients["api"], resources=["https://a.test/", "a"]))
    api()
    assert (await exchange(raw, user_token, **form)).json()["error"] == "invalid_target"
    right = {"audience": "a", "resource": "https://a.test/"}
    assert (await exchange(raw, user_token, **right)).status_code == 200


async def test_parameters_that_may_not_repeat_still_may_not(raw, api):
    user_token = (await raw.login())["access_token"]
    api()
    response = await exchange(raw, user_token, scope=["api", "api"])
    assert response.json()["error"] == "invalid_request"


async def test_exchanged_token_ends_with_the_login_it_came_from(raw, provider, api):
    user_token = (await raw.login())["access_token"]
    api()
    exchanged = (await exchange(raw, user_token)).json()["access_token"]
    again = (await exchange(raw, exchanged)).json()["access_token"]
    provider.end_grants("alice")
    for token in (exchanged, again):
        assert not provider.is_active(token)
        assert provider.is_revoked(token)


async def test_client_may_exchange_a_token_about_itself(raw, api, segments):
    api()
    own = (await raw.token(grant_type="client_credentials", scope="api")).json()["access_token"]
    answer = (await exchange(raw, own)).json()
    assert segments(answer["access_token"])[1]["sub"] == "api"
    assert answer["scope"] == "api"


# --- on behalf of


async def test_actor_is_named_and_earlier_actors_are_nested(raw, api, segments):
    user_token = (await raw.login())["access_token"]
    actor = (await raw.token(grant_type="client_credentials")).json()["access_token"]
    api()
    other = (await raw.token(grant_type="client_credentials", scope="api")).json()["access_token"]
    first = (
        await exchange(raw, user_token, actor_token=actor, actor_token_type=ACCESS_TOKEN)
    ).json()["access_token"]
    assert segments(first)[1]["act"] == {"sub": "app"}
    second = (await exchange(raw, first, actor_token=other, actor_token_type=ACCESS_TOKEN)).json()[
        "access_token"
    ]
    assert segments(second)[1]["sub"] == "alice"
    assert segments(second)[1]["act"] == {"sub": "api", "act": {"sub": "app"}}
    third = (await exchange(raw, second)).json()["access_token"]
    assert segments(third)[1]["act"] == segments(second)[1]["act"]
    introspected = (await raw.post("/introspect", token=second)).json()
    assert introspected["act"] == segments(second)[1]["act"]


# --- kinds of tokens


async def test_jwt_can_be_asked_for(raw, segments):
    user_token = (await raw.login())["access_token"]
    answer = (await exchange(raw, user_token, requested_token_type=JWT)).json()
    assert answer["issued_token_type"] == JWT
    assert answer["token_type"] == "Bearer"
    assert segments(answer["access_token"])[0]["typ"] == "at+jwt"


async def test_id_token_can_be_asked_for_and_is_no_bearer_token(raw, provider, segments):
    user_token = (await raw.login())["access_token"]
    answer = (await exchange(raw, user_token, requested_token_type=ID_TOKEN)).json()
    assert answer["issued_token_type"] == ID_TOKEN
    assert answer["token_type"] == "N_A"
    assert answer["expires_in"] == 300
    _, claims, _ = segments(answer["access_token"])
    assert claims["sub"] == "alice"
    assert claims["aud"] == "app"
    assert not {"nonce", "at_hash"} & claims.keys()
    assert not provider.is_active(answer["access_token"])


async def test_issued_id_token_can_be_wrong(raw, provider, segments):
    user_token = (await raw.login())["access_token"]
    provider.misbehave("token", WrongClaim({"sub": "mallory"}))
    answer = (await exchange(raw, user_token, requested_token_type=ID_TOKEN)).json()
    assert segments(answer["access_token"])[1]["sub"] == "mallory"


async def test_there_is_no_id_token_about_a_client(raw):
    own = (await raw.token(grant_type="client_credentials")).json()["access_token"]
    response = await exchange(raw, own, requested_token_type=ID_TOKEN)
    assert response.json()["error"] == "invalid_request"


async def test_id_token_of_the_client_is_a_subject_token(raw, provider, segments):
    login = await raw.login()
    form = {"subject_token_type": ID_TOKEN, "requested_token_type": ID_TOKEN}
    answer = (await exchange(raw, login["id_token"], **form)).json()
    _, before, _ = segments(login["id_token"])
    _, after, _ = segments(answer["access_token"])
    assert {n: after[n] for n in ("sub", "sid", "auth_time")} == {
        n: before[n] for n in ("sub", "sid", "auth_time")
    }
    answer = (await exchange(raw, login["id_token"], subject_token_type=ID_TOKEN)).json()
    assert answer["scope"] == "api"
    assert provider.is_active(answer["access_token"])


async def test_jwt_access_token_is_a_subject_token(raw, api):
    api()
    token = (await raw.token(grant_type="client_credentials")).json()["access_token"]
    assert (await exchange(raw, token, subject_token_type=JWT)).status_code == 200


async def test_opaque_token_is_no_jwt(raw):
    token = (await raw.login())["access_token"]
    response = await exchange(raw, token, subject_token_type=JWT)
    assert response.json()["error"] == "invalid_request"


# --- refusals


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"subject_token": None}, id="no subject"),
        pytest.param({"subject_token": None, "subject_token_type": None}, id="no subject at all"),
        pytest.param({"subject_token_type": None}, id="no type"),
        pytest.param({"subject_token_type": f"{URN}saml2"}, id="type not supported"),
        pytest.param({"subject_token": "x"}, id="unknown token"),
        pytest.param({"subject_token_type": ID_TOKEN}, id="not an id_token"),
        pytest.param({"actor_token": "x"}, id="actor without type"),
        pytest.param({"actor_token_type": ACCESS_TOKEN}, id="type without actor"),
        pytest.param({"actor_token": "x", "actor_token_type": ACCESS_TOKEN}, id="unknown actor"),
        pytest.param({"requested_token_type": f"{URN}refresh_token"}, id="refresh token wanted"),
    ],
)
async def test_request_that_is_not_right_is_refused(raw, changes):
    response = await exchange(raw, (await raw.login())["access_token"], **changes)
    assert response.status_code == 400
    assert response.json()["error"] == "invalid_request"


async def test_token_that_is_over_is_no_subject(raw, provider, clock):
    login = await raw.login()
    await raw.post("/revoke", token=login["access_token"])
    assert (await exchange(raw, login["access_token"])).json()["error"] == "invalid_request"
    refreshed = (await raw.refresh(login["refresh_token"])).json()["access_token"]
    clock.advance(3600)
    assert (await exchange(raw, refreshed)).json()["error"] == "invalid_request"


async def test_id_token_must_be_live_and_the_clients_own(raw, clock, api):
    id_token = (await raw.login())["id_token"]
    form = {"subject_token_type": ID_TOKEN}
    clock.advance(299)
    assert (await exchange(raw, id_token, **form)).status_code == 200
    api()
    assert (await exchange(raw, id_token, **form)).json()["error"] == "invalid_request"
    raw.client_auth = ("app", "secret")
    clock.advance(1)
    assert (await exchange(raw, id_token, **form)).json()["error"] == "invalid_request"


@pytest.mark.parametrize("claim", ["exp", "auth_time", "sub", "aud"])
async def test_id_token_that_was_issued_without_a_claim_is_no_subject(raw, provider, claim):
    provider.misbehave("token", MissingClaim(claim))
    id_token = (await raw.login())["id_token"]
    response = await exchange(raw, id_token, subject_token_type=ID_TOKEN)
    assert response.json()["error"] == "invalid_request"


async def test_id_token_of_another_provider_is_refused(raw, provider, clock):
    other = Provider("https://other.test", clients=[provider.clients["app"]], clock=clock)
    claims = WrongClaim({"iss": "https://op.test", "auth_time": 1})
    forged = other.logout_token("app", sub="alice", faults=[claims])
    response = await exchange(raw, forged, subject_token_type=ID_TOKEN)
    assert response.json()["error"] == "invalid_request"


async def test_logout_token_is_no_id_token(raw, provider):
    token = provider.logout_token("app", sub="alice", faults=[WrongClaim({"auth_time": 1})])
    response = await exchange(raw, token, subject_token_type=ID_TOKEN)
    assert response.json()["error"] == "invalid_request"


async def test_public_client_cannot_exchange(raw):
    token = (await raw.login())["access_token"]
    raw.client_auth = None
    response = await exchange(raw, token, client_id="spa")
    assert response.json()["error"] == "unauthorized_client"


async def test_client_without_the_grant_cannot_exchange(raw):
    token = (await raw.login())["access_token"]
    raw.client_auth = ("other", "o")
    assert (await exchange(raw, token)).json()["error"] == "unauthorized_client"


async def test_exchanges_are_counted_and_their_tokens_masked(raw, provider):
    token = (await raw.login())["access_token"]
    await exchange(raw, token, actor_token=token, actor_token_type=ACCESS_TOKEN)
    assert provider.count("token", grant_type=TOKEN_EXCHANGE, outcome="ok") == 1
    assert token not in repr(provider.requests)
    assert TOKEN_EXCHANGE in (await raw.metadata())["grant_types_supported"]
