"""Pushed authorization requests (RFC 9126)."""

from __future__ import annotations

from dataclasses import replace

import httpx
import pytest

from tokenward.testing import Client, OAuthError

PREFIX = "urn:ietf:params:oauth:request_uri:"


async def push(raw, **changes):
    return await raw.post("/par", **raw.request(**changes))


async def pushed(raw, **changes):
    response = await push(raw, **changes)
    assert response.status_code == 201, response.text
    return response.json()["request_uri"]


async def visit(raw, request_uri, **more):
    parameters = {"client_id": "app", "request_uri": request_uri, **more}
    return await raw.http.get("/authorize", params=parameters)


async def test_pushed_request_gives_a_uri_for_a_minute_that_nobody_may_cache(raw):
    response = await push(raw)
    assert response.status_code == 201
    assert response.json()["expires_in"] == 60
    assert response.json()["request_uri"].startswith(PREFIX)
    assert response.headers["cache-control"] == "no-store"


async def test_each_pushed_request_has_a_uri_of_its_own(raw):
    assert await pushed(raw) != await pushed(raw)


async def test_request_uri_brings_the_browser_through_the_whole_login(raw, query, segments):
    parameters = query(await visit(raw, await pushed(raw, scope="openid api")))
    assert parameters["state"] == "the-state"
    assert parameters["iss"] == "https://op.test"
    answer = (await raw.redeem(parameters["code"])).json()
    assert answer["scope"] == "api openid"
    assert segments(answer["id_token"])[1]["nonce"] == "the-nonce"


async def test_pushed_response_mode_is_obeyed(raw):
    response = await visit(raw, await pushed(raw, response_mode="form_post"))
    assert 'name="state" value="the-state"' in response.text


async def test_request_uri_is_good_once(raw, query):
    request_uri = await pushed(raw)
    assert "code" in query(await visit(raw, request_uri))
    response = await visit(raw, request_uri)
    assert response.status_code == 400
    assert "location" not in response.headers


@pytest.mark.parametrize(("seconds", "status"), [(59.9, 303), (60, 400)])
async def test_request_uri_lives_a_minute(raw, clock, seconds, status):
    request_uri = await pushed(raw)
    clock.advance(seconds)
    assert (await visit(raw, request_uri)).status_code == status


async def test_request_uri_belongs_to_the_client_that_pushed(raw, query):
    request_uri = await pushed(raw)
    assert (await visit(raw, request_uri, client_id="other")).status_code == 400
    assert "code" in query(await visit(raw, request_uri))


async def test_request_uri_that_nobody_pushed_is_refused_on_a_page(raw):
    response = await visit(raw, f"{PREFIX}guessed")
    assert response.status_code == 400
    assert "location" not in response.headers


async def test_request_uri_without_a_client_is_refused(raw):
    response = await raw.http.get("/authorize", params={"request_uri": await pushed(raw)})
    assert response.status_code == 400


async def test_parameters_beside_a_pushed_request_are_refused_and_spend_it(raw, query):
    request_uri = await pushed(raw)
    parameters = query(await visit(raw, request_uri, scope="openid"))
    assert parameters["error"] == "invalid_request"
    assert parameters["state"] == "the-state"
    assert (await visit(raw, request_uri)).status_code == 400


async def test_refusal_on_command_spends_no_request_uri(raw, provider, query):
    request_uri = await pushed(raw)
    provider.misbehave("authorize", OAuthError("server_error"))
    assert query(await visit(raw, request_uri))["error"] == "server_error"
    assert "code" in query(await visit(raw, request_uri))


async def test_login_page_carries_a_pushed_request_on(raw, provider, query):
    provider.sign_in_automatically(None)
    page = (await visit(raw, await pushed(raw))).text
    interaction = page.split('name="interaction" value="')[1].split('"')[0]
    form = {"username": "alice", "password": "wonderland", "interaction": interaction}
    assert query(await raw.http.post("/login", data=form))["state"] == "the-state"


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        pytest.param({"request_uri": f"{PREFIX}x"}, "invalid_request", id="request_uri"),
        pytest.param({"request": "x.y.z"}, "request_not_supported", id="request"),
        pytest.param({"client_id": "other"}, "invalid_request", id="another client"),
        pytest.param({"client_id": None}, "invalid_request", id="no client_id in the body"),
        pytest.param({"redirect_uri": "https://evil.test/"}, "invalid_request", id="redirect_uri"),
        pytest.param({"redirect_uri": None}, "invalid_request", id="no redirect_uri"),
        pytest.param({"response_type": "token"}, "unsupported_response_type", id="implicit"),
        pytest.param({"code_challenge": None}, "invalid_request", id="no PKCE"),
        pytest.param({"scope": "admin"}, "invalid_scope", id="foreign scope"),
        pytest.param({"resource": "relative"}, "invalid_target", id="resource"),
    ],
)
async def test_request_that_would_be_refused_later_is_refused_at_once(raw, changes, error):
    response = await push(raw, **changes)
    assert response.status_code == 400
    assert response.json()["error"] == error


async def test_parameter_pushed_twice_is_refused(raw):
    response = await raw.post("/par", **{**raw.request(), "scope": ["openid", "api"]})
    assert response.json()["error"] == "invalid_request"


async def test_client_must_prove_itself_to_push(raw):
    raw.client_auth = ("app", "wrong")
    assert (await push(raw)).status_code == 401


async def test_public_client_pushes_with_its_id_alone(raw, query):
    raw.client_auth = None
    request_uri = await pushed(raw, client_id="spa")
    assert "code" in query(await visit(raw, request_uri, client_id="spa"))


async def test_secret_in_the_body_is_no_part_of_what_is_pushed(raw, query):
    raw.client_auth = None
    response = await raw.post("/par", **raw.request(), client_secret="secret")
    assert "code" in query(await visit(raw, response.json()["request_uri"]))


async def test_client_that_must_push_cannot_send_parameters_through_the_browser(
    raw, provider, query
):
    must = replace(provider.clients["app"], require_pushed_authorization_requests=True)
    provider.register(must)
    assert query(await raw.authorize())["error"] == "invalid_request"
    assert "code" in query(await visit(raw, await pushed(raw)))


async def test_discovery_says_whether_everybody_must_push(raw, provider):
    metadata = await raw.metadata()
    assert metadata["pushed_authorization_request_endpoint"] == "https://op.test/par"
    assert metadata["require_pushed_authorization_requests"] is False
    for client in tuple(provider.clients.values()):
        provider.register(replace(client, require_pushed_authorization_requests=True))
    assert (await raw.metadata())["require_pushed_authorization_requests"] is True


async def test_pushes_are_counted_and_their_uris_are_masked(raw, provider):
    request_uri = await pushed(raw)
    await visit(raw, request_uri)
    assert provider.count("pushed_authorization_request", client_id="app", outcome="ok") == 1
    assert dict(provider.requests[-1].parameters) == {
        "client_id": "app",
        "request_uri": "**********",
    }
    assert "the-state" not in repr(provider.requests)


async def test_push_can_misbehave(raw, provider):
    provider.misbehave("pushed_authorization_request", OAuthError("server_error", status=503))
    assert (await push(raw)).status_code == 503
    assert (await push(raw)).status_code == 201


async def test_client_without_the_code_grant_cannot_push(raw, provider):
    app = Client("app", redirect_uris=[raw.callback], grant_types=["client_credentials"])
    provider.register(app)
    assert (await push(raw)).json()["error"] == "unauthorized_client"


async def test_push_is_a_post(raw):
    response = await raw.http.get("/par", params=httpx.QueryParams(raw.request()))
    assert response.status_code == 405
