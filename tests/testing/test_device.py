"""The device authorization grant (RFC 8628)."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from tokenward.testing import AlteredAnswer, OAuthError
from tokenward.testing.clients import DEVICE_CODE


@pytest.fixture
def provider(provider):
    for name in ("app", "other", "spa"):
        client = provider.clients[name]
        provider.register(replace(client, grant_types=(*client.grant_types, DEVICE_CODE)))
    provider.sign_in_automatically(None)
    return provider


async def start(raw, **form):
    form = {"scope": "openid offline_access", **form}
    response = await raw.post("/device_authorization", **form)
    assert response.status_code == 200, response.text
    return response.json()


async def poll(raw, started, **form):
    return await raw.token(grant_type=DEVICE_CODE, device_code=started["device_code"], **form)


async def test_device_gets_two_codes_and_addresses_for_the_user(raw):
    response = await raw.post("/device_authorization", scope="openid")
    answer = response.json()
    code = answer["user_code"]
    assert re.fullmatch(r"[BCDFGHJKLMNPQRSTVWXZ]{4}-[BCDFGHJKLMNPQRSTVWXZ]{4}", code)
    assert answer["verification_uri"] == "https://op.test/device"
    assert answer["verification_uri_complete"] == f"https://op.test/device?user_code={code}"
    assert answer["expires_in"] == 600
    assert answer["interval"] == 5
    assert len(answer["device_code"]) > 40
    assert set(answer) == {
        "device_code",
        "user_code",
        "verification_uri",
        "verification_uri_complete",
        "expires_in",
        "interval",
    }
    assert response.headers["cache-control"] == "no-store"


async def test_device_waits_until_the_user_approves_and_then_gets_everything(
    raw, provider, clock, segments
):
    started = await start(raw)
    assert (await poll(raw, started)).json()["error"] == "authorization_pending"
    clock.advance(5)
    provider.approve_device(started["user_code"], "alice")
    answer = (await poll(raw, started)).json()
    assert set(answer) == {
        "access_token",
        "expires_in",
        "id_token",
        "refresh_token",
        "scope",
        "token_type",
    }
    _, claims, _ = segments(answer["id_token"])
    assert claims["sub"] == "alice"
    assert claims["auth_time"] == int(clock())
    assert "nonce" not in claims
    assert (await raw.refresh(answer["refresh_token"])).status_code == 200
    assert provider.refreshes_of("alice") == 1


async def test_device_code_is_good_once(raw, provider, clock):
    started = await start(raw)
    provider.approve_device(started["user_code"], "alice")
    assert (await poll(raw, started)).status_code == 200
    clock.advance(5)
    assert (await poll(raw, started)).json()["error"] == "invalid_grant"


async def test_denied_device_is_told_so_once(raw, provider, clock):
    started = await start(raw)
    provider.deny_device(started["user_code"])
    assert (await poll(raw, started)).json()["error"] == "access_denied"
    clock.advance(5)
    assert (await poll(raw, started)).json()["error"] == "invalid_grant"


async def test_device_that_polls_too_fast_must_slow_down_for_good(raw, provider, clock):
    started = await start(raw)
    polls = []
    for seconds in (0, 4.9, 9.9, 15, 15):
        clock.advance(seconds)
        polls.append((await poll(raw, started)).json()["error"])
    # 5 seconds are asked for; then 10, and 15 after the second haste.
    slow, wait = "slow_down", "authorization_pending"
    assert polls == [wait, slow, slow, wait, wait]


async def test_haste_is_refused_even_when_the_user_has_approved(raw, provider, clock):
    started = await start(raw)
    await poll(raw, started)
    provider.approve_device(started["user_code"], "alice")
    assert (await poll(raw, started)).json()["error"] == "slow_down"
    clock.advance(10)
    assert (await poll(raw, started)).status_code == 200


async def test_interval_and_lifetime_are_those_of_the_client(raw, provider, clock):
    app = replace(provider.clients["app"], polling_interval=1, device_code_lifetime=30)
    provider.register(app)
    started = await start(raw)
    assert (started["interval"], started["expires_in"]) == (1, 30)
    await poll(raw, started)
    clock.advance(1)
    assert (await poll(raw, started)).json()["error"] == "authorization_pending"


@pytest.mark.parametrize("approved", [True, False])
async def test_device_code_expires_approved_or_not(raw, provider, clock, approved):
    started = await start(raw)
    if approved:
        provider.approve_device(started["user_code"], "alice")
    clock.advance(599)
    if not approved:
        assert (await poll(raw, started)).json()["error"] == "authorization_pending"
    clock.advance(1)
    assert (await poll(raw, started)).json()["error"] == "expired_token"


async def test_device_code_belongs_to_its_client(raw, provider):
    started = await start(raw)
    provider.approve_device(started["user_code"], "alice")
    raw.client_auth = ("other", "o")
    assert (await poll(raw, started)).json()["error"] == "invalid_grant"
    raw.client_auth = ("app", "secret")
    assert (await poll(raw, started)).status_code == 200


async def test_user_code_is_no_device_code(raw, provider):
    started = await start(raw)
    provider.approve_device(started["user_code"], "alice")
    response = await raw.token(grant_type=DEVICE_CODE, device_code=started["user_code"])
    assert response.json()["error"] == "invalid_grant"
    assert (await raw.token(grant_type=DEVICE_CODE)).json()["error"] == "invalid_request"


async def test_public_client_is_a_device_like_any_other(raw, provider):
    raw.client_auth = None
    started = await start(raw, client_id="spa")
    provider.approve_device(started["user_code"], "bob")
    assert (await poll(raw, started, client_id="spa")).status_code == 200


@pytest.mark.parametrize(
    ("form", "error"),
    [
        pytest.param({"scope": "admin"}, "invalid_scope", id="scope"),
        pytest.param({"resource": "relative"}, "invalid_target", id="resource"),
    ],
)
async def test_device_asks_only_for_what_its_client_may_have(raw, form, error):
    assert (await raw.post("/device_authorization", **form)).json()["error"] == error


async def test_device_without_a_scope_asks_for_nothing_about_the_user(raw, provider):
    started = await start(raw, scope=None, resource="https://a.test/")
    provider.approve_device(started["user_code"], "alice")
    answer = (await poll(raw, started)).json()
    assert answer["scope"] == "api"
    assert "id_token" not in answer


async def test_client_without_the_grant_gets_no_code_and_discovery_tells_nothing(raw, provider):
    for name in ("app", "other", "spa"):
        client = replace(provider.clients[name], grant_types=("authorization_code",))
        provider.register(client)
    response = await raw.post("/device_authorization", scope="openid")
    assert response.json()["error"] == "unauthorized_client"
    assert "device_authorization_endpoint" not in await raw.metadata()
    response = await raw.token(grant_type=DEVICE_CODE, device_code="x")
    assert response.json()["error"] == "unsupported_grant_type"


async def test_discovery_announces_the_grant(raw):
    metadata = await raw.metadata()
    address = "https://op.test/device_authorization"
    assert metadata["device_authorization_endpoint"] == address
    assert DEVICE_CODE in metadata["grant_types_supported"]


async def test_polls_are_counted_by_what_came_of_them(raw, provider):
    started = await start(raw)
    await poll(raw, started)
    await poll(raw, started)
    assert provider.count("device_authorization", outcome="ok") == 1
    assert provider.count("token", grant_type=DEVICE_CODE, outcome="authorization_pending") == 1
    assert provider.count("token", grant_type=DEVICE_CODE, outcome="slow_down") == 1
    assert started["device_code"] not in repr(provider.requests)


async def test_device_endpoints_can_misbehave(raw, provider):
    provider.misbehave("device_authorization", AlteredAnswer(without=["interval"]))
    assert "interval" not in await start(raw)
    provider.misbehave("device", OAuthError("server_error", status=500))
    assert (await raw.http.get("/device")).status_code == 500


@pytest.mark.parametrize(
    "decide",
    [
        pytest.param(lambda p, code: p.approve_device("BBBB-BBBB", "alice"), id="unknown code"),
        pytest.param(lambda p, code: p.approve_device(code, "mallory"), id="unknown user"),
        pytest.param(lambda p, code: p.deny_device("BBBB-BBBB"), id="unknown code to deny"),
        pytest.param(
            lambda p, code: (p.deny_device(code), p.approve_device(code, "alice")), id="twice"
        ),
    ],
)
async def test_test_that_decides_what_cannot_be_decided_is_told_so(raw, provider, decide):
    started = await start(raw)
    with pytest.raises(LookupError):
        decide(provider, started["user_code"])


async def test_code_that_has_expired_cannot_be_approved(raw, provider, clock):
    started = await start(raw)
    clock.advance(600)
    with pytest.raises(LookupError):
        provider.approve_device(started["user_code"], "alice")


# --- the page


async def open_page(raw, user_code=None):
    params = {"user_code": user_code} if user_code else {}
    response = await raw.http.get("/device", params=params)
    assert response.status_code == 200
    return response.text


def interaction(page):
    found = re.search(r'name="interaction" value="([^"]+)"', page)
    assert found
    return found[1]


async def submit(raw, page, **form):
    form = {"username": "alice", "password": "wonderland", "action": "allow", **form}
    return await raw.http.post("/device", data={"interaction": interaction(page), **form})


async def test_user_lets_the_device_in_with_code_and_password(raw, provider, query):
    started = await start(raw)
    page = await open_page(raw)
    assert 'name="password"' in page
    response = await submit(raw, page, user_code=started["user_code"])
    assert response.status_code == 200
    assert "Allowed" in response.text
    assert (await poll(raw, started)).status_code == 200
    assert provider.requests[-1].sub == "alice"
    assert "code" in query(await raw.authorize(prompt="none"))


async def test_address_with_the_code_fills_it_in_and_still_asks(raw):
    started = await start(raw)
    page = await open_page(raw, started["user_code"])
    assert f'value="{started["user_code"]}"' in page
    assert (await poll(raw, started)).json()["error"] == "authorization_pending"


@pytest.mark.parametrize("dash", ["", " ", " - "])
async def test_code_may_be_typed_as_people_type(raw, dash):
    started = await start(raw)
    typed = started["user_code"].lower().replace("-", dash)
    await submit(raw, await open_page(raw), user_code=typed)
    assert (await poll(raw, started)).status_code == 200


async def test_user_says_no_without_a_password(raw):
    started = await start(raw)
    form = {"user_code": started["user_code"], "action": "deny", "password": ""}
    response = await submit(raw, await open_page(raw), **form)
    assert "Denied" in response.text
    assert (await poll(raw, started)).json()["error"] == "access_denied"


@pytest.mark.parametrize(
    ("form", "status"),
    [
        pytest.param({"password": "wrong"}, 401, id="wrong password"),
        pytest.param({"password": ""}, 401, id="no password"),
        pytest.param({"username": "nobody"}, 401, id="nobody"),
        pytest.param({"user_code": "BBBB-BBBB"}, 400, id="wrong code"),
        pytest.param({"user_code": ""}, 400, id="no code"),
    ],
)
async def test_what_is_wrong_on_the_page_can_be_mended(raw, form, status):
    started = await start(raw)
    right = {"user_code": started["user_code"]}
    response = await submit(raw, await open_page(raw), **(right | form))
    assert response.status_code == status
    assert "set-cookie" not in response.headers
    assert (await poll(raw, started)).json()["error"] == "authorization_pending"
    assert (await submit(raw, response.text, **right)).status_code == 200


async def test_page_is_answered_once(raw):
    started, page = await start(raw), await open_page(raw)
    await submit(raw, page, user_code=started["user_code"])
    assert (await submit(raw, page, user_code=started["user_code"])).status_code == 400


async def test_form_that_no_page_asked_for_is_refused(raw):
    started = await start(raw)
    form = {"username": "alice", "password": "wonderland", "user_code": started["user_code"]}
    assert (await raw.http.post("/device", data=form)).status_code == 400
    assert (await poll(raw, started)).json()["error"] == "authorization_pending"


async def test_user_who_is_signed_in_is_asked_for_the_code_alone(raw, provider):
    provider.sign_in_automatically("alice")
    await raw.login()
    provider.sign_in_automatically(None)
    started, page = await start(raw), await open_page(raw)
    assert 'name="password"' not in page
    await submit(raw, page, user_code=started["user_code"], username="", password="")
    assert (await poll(raw, started)).status_code == 200


async def test_user_who_signs_in_automatically_is_asked_for_the_code_alone(raw, provider):
    provider.sign_in_automatically("bob")
    started, page = await start(raw), await open_page(raw)
    assert 'name="password"' not in page
    await submit(raw, page, user_code=started["user_code"], username="", password="")
    assert (await poll(raw, started)).status_code == 200
    assert provider.families[-1].sub == "bob"


async def test_page_shows_the_code_as_text(raw):
    response = await raw.http.get("/device", params={"user_code": '"><script>x</script>'})
    assert "<script>x" not in response.text
    assert response.headers["cache-control"] == "no-store"
    assert "frame-ancestors 'none'" in response.headers["content-security-policy"]
