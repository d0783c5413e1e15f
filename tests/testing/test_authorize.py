"""The authorization endpoint and the login page."""

from __future__ import annotations

import re

import httpx
import pytest

from tokenward.testing import Client, OAuthError, User


async def test_browser_comes_back_with_code_state_and_iss(raw, query):
    parameters = query(await raw.authorize())
    assert set(parameters) == {"code", "state", "iss"}
    assert parameters["state"] == "the-state"
    assert parameters["iss"] == "https://op.test"


async def test_answer_to_a_post_is_the_same(raw, query):
    response = await raw.http.post("/authorize", data=raw.request())
    assert query(response)["state"] == "the-state"


async def test_redirect_uri_with_a_query_keeps_it(raw):
    response = await raw.authorize(redirect_uri="https://app.test/other?x=1")
    assert response.headers["location"].startswith("https://app.test/other?x=1&code=")


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"client_id": "nobody"}, id="unknown client"),
        pytest.param({"client_id": None}, id="no client"),
        pytest.param({"redirect_uri": None}, id="no redirect_uri"),
        pytest.param({"redirect_uri": "https://app.test/auth/callback/"}, id="slash at the end"),
        pytest.param({"redirect_uri": "https://app.test/auth/callback?a=b"}, id="a query added"),
        pytest.param({"redirect_uri": "https://APP.test/auth/callback"}, id="another case"),
        pytest.param({"redirect_uri": "https://evil.test/auth/callback"}, id="another host"),
    ],
)
async def test_nobody_is_sent_to_an_address_that_is_not_registered(raw, changes):
    response = await raw.authorize(**changes)
    assert response.status_code == 400
    assert "location" not in response.headers
    assert response.headers["content-type"] == "text/html; charset=utf-8"


@pytest.mark.parametrize("name", ["client_id", "redirect_uri"])
async def test_client_and_redirect_uri_given_twice_are_not_redirected(raw, name):
    parameters = [*raw.request().items(), (name, raw.request()[name])]
    response = await raw.http.get("/authorize", params=httpx.QueryParams(parameters))
    assert response.status_code == 400


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        pytest.param({"response_type": "token"}, "unsupported_response_type", id="implicit"),
        pytest.param({"response_type": None}, "invalid_request", id="no response_type"),
        pytest.param({"response_mode": "fragment"}, "invalid_request", id="fragment"),
        pytest.param({"code_challenge": None}, "invalid_request", id="no PKCE"),
        pytest.param({"code_challenge": "short"}, "invalid_request", id="bad challenge"),
        pytest.param({"code_challenge_method": "plain"}, "invalid_request", id="plain"),
        pytest.param({"code_challenge_method": None}, "invalid_request", id="plain by default"),
        pytest.param({"scope": "openid admin"}, "invalid_scope", id="foreign scope"),
        pytest.param({"scope": None}, "invalid_scope", id="no scope"),
        pytest.param({"scope": "openid  api"}, "invalid_scope", id="two spaces"),
        pytest.param({"scope": 'openid "'}, "invalid_scope", id="quote"),
        pytest.param({"prompt": "none login"}, "invalid_request", id="none with others"),
        pytest.param({"prompt": "dance"}, "invalid_request", id="unknown prompt"),
        pytest.param({"max_age": "soon"}, "invalid_request", id="max_age"),
        pytest.param({"resource": "relative"}, "invalid_target", id="relative resource"),
        pytest.param({"resource": "https://a/#f"}, "invalid_target", id="fragment in resource"),
        pytest.param({"request": "x.y.z"}, "request_not_supported", id="request"),
        pytest.param({"request_uri": "urn:x"}, "request_uri_not_supported", id="request_uri"),
        pytest.param({"prompt": "none"}, "login_required", id="nobody signed in"),
    ],
)
async def test_refusals_come_by_redirect_with_state_and_iss(raw, query, changes, error):
    parameters = query(await raw.authorize(**changes))
    assert parameters["error"] == error
    assert parameters["state"] == "the-state"
    assert parameters["iss"] == "https://op.test"
    assert "code" not in parameters


@pytest.mark.parametrize("name", ["scope", "state", "nonce", "code_challenge"])
async def test_duplicate_parameters_are_refused(raw, query, name):
    parameters = [*raw.request().items(), (name, "again")]
    response = await raw.http.get("/authorize", params=httpx.QueryParams(parameters))
    assert query(response)["error"] == "invalid_request"


async def test_parameters_that_are_not_utf8_are_refused(raw):
    response = await raw.http.get("/authorize?client_id=%ff")
    assert response.status_code == 400


async def test_form_post_answer_is_a_form_that_submits_itself(raw):
    response = await raw.authorize(response_mode="form_post")
    assert response.status_code == 200
    assert 'action="https://app.test/auth/callback"' in response.text
    assert 'name="code"' in response.text
    assert 'name="iss" value="https://op.test"' in response.text
    assert "script-src 'sha256-" in response.headers["content-security-policy"]


async def test_refusal_in_form_post_mode_is_a_form(raw):
    response = await raw.authorize(response_mode="form_post", scope="admin")
    assert 'name="error" value="invalid_scope"' in response.text


async def test_state_cannot_break_out_of_the_form(raw):
    response = await raw.authorize(response_mode="form_post", state='"><script>x</script>')
    assert "<script>x" not in response.text


async def test_client_without_offline_access_cannot_ask_for_it(provider, raw, query):
    app = Client("app", redirect_uris=[raw.callback], allow_offline_access=False)
    provider.register(app)
    assert query(await raw.authorize())["error"] == "invalid_scope"


async def test_client_may_ask_only_for_its_resources(provider, raw, query):
    app = Client("app", redirect_uris=[raw.callback], resources=["https://a.test/"])
    provider.register(app)
    assert "code" in query(await raw.authorize(resource="https://a.test/"))
    assert query(await raw.authorize(resource="https://b.test/"))["error"] == "invalid_target"


# --- sign-on


async def test_signed_in_browser_is_recognised(raw, query):
    response = await raw.authorize()
    cookie = response.headers["set-cookie"]
    assert "; HttpOnly" in cookie
    assert "; SameSite=Lax" in cookie
    assert "; Secure" in cookie
    again = await raw.authorize(prompt="none")
    assert "code" in query(again)
    assert "set-cookie" not in again.headers


async def test_single_sign_on_keeps_auth_time_and_sid(raw, clock, segments):
    _, first, _ = segments((await raw.login())["id_token"])
    clock.advance(100)
    _, second, _ = segments((await raw.login())["id_token"])
    assert second["auth_time"] == first["auth_time"]
    assert second["sid"] == first["sid"]


@pytest.mark.parametrize("changes", [{"prompt": "login"}, {"max_age": "99"}])
async def test_login_that_is_asked_for_again_is_a_new_one(raw, clock, segments, changes):
    _, first, _ = segments((await raw.login())["id_token"])
    clock.advance(100)
    _, second, _ = segments((await raw.login(**changes))["id_token"])
    assert second["auth_time"] == first["auth_time"] + 100
    assert second["sid"] != first["sid"]


async def test_session_older_than_max_age_is_not_enough_for_prompt_none(raw, clock, query):
    await raw.login()
    clock.advance(100)
    response = await raw.authorize(prompt="none", max_age="99")
    assert query(response)["error"] == "login_required"


async def test_user_signed_out_by_the_provider_has_to_sign_in_again(provider, raw, query):
    await raw.login()
    provider.sign_out("alice")
    assert query(await raw.authorize(prompt="none"))["error"] == "login_required"


async def test_login_hint_signs_in_whom_it_names(provider, raw, segments):
    provider.follow_login_hint()
    for sub in ("bob", "alice"):
        _, claims, _ = segments((await raw.login(login_hint=sub))["id_token"])
        assert claims["sub"] == sub


async def test_automatic_user_must_exist(provider):
    with pytest.raises(ValueError, match="mallory"):
        provider.sign_in_automatically("mallory")


# --- the page


async def open_page(provider, raw, **changes):
    provider.sign_in_automatically(None)
    response = await raw.authorize(**changes)
    assert response.status_code == 200
    found = re.search(r'name="interaction" value="([^"]+)"', response.text)
    assert found
    return found[1]


async def sign_in(raw, interaction, **form):
    form = {"username": "alice", "password": "wonderland", "interaction": interaction, **form}
    return await raw.http.post("/login", data=form)


async def test_password_on_the_page_signs_in(provider, raw, query):
    page = await open_page(provider, raw)
    parameters = query(await sign_in(raw, page))
    assert parameters["state"] == "the-state"
    assert (await raw.redeem(parameters["code"])).status_code == 200
    assert "code" in query(await raw.authorize(prompt="none"))


async def test_page_answers_in_the_mode_that_was_asked_for(provider, raw):
    page = await open_page(provider, raw, response_mode="form_post")
    assert 'name="code"' in (await sign_in(raw, page)).text


@pytest.mark.parametrize("form", [{"password": "wrong"}, {"username": "nobody"}, {"password": ""}])
async def test_wrong_password_asks_again(provider, raw, query, form):
    page = await open_page(provider, raw)
    response = await sign_in(raw, page, **form)
    assert response.status_code == 401
    assert "set-cookie" not in response.headers
    assert query(await raw.authorize(prompt="none"))["error"] == "login_required"
    found = re.search(r'name="interaction" value="([^"]+)"', response.text)
    assert found
    assert "code" in query(await sign_in(raw, found[1]))


async def test_cancelled_login_is_access_denied(provider, raw, query):
    page = await open_page(provider, raw)
    parameters = query(await sign_in(raw, page, action="cancel"))
    assert parameters["error"] == "access_denied"
    assert parameters["state"] == "the-state"


async def test_page_is_answered_once(provider, raw):
    page = await open_page(provider, raw)
    await sign_in(raw, page)
    assert (await sign_in(raw, page)).status_code == 400


async def test_prompt_login_shows_the_page_to_somebody_signed_in(provider, raw):
    await raw.login()
    await open_page(provider, raw, prompt="login")


async def test_page_shows_what_it_is_told_as_text(provider, raw):
    provider.sign_in_automatically(None)
    response = await raw.authorize(login_hint='"><script>x</script>')
    assert "<script>x" not in response.text
    assert "script-src" not in response.headers["content-security-policy"]
    assert response.headers["cache-control"] == "no-store"


async def test_user_added_later_can_sign_in(provider, raw, query):
    provider.add_user(User("carol", password="c"))
    page = await open_page(provider, raw)
    assert "code" in query(await sign_in(raw, page, username="carol", password="c"))


async def test_planned_refusal_comes_by_redirect(provider, raw, query):
    provider.misbehave("authorize", OAuthError("temporarily_unavailable", "later"))
    parameters = query(await raw.authorize())
    assert parameters["error"] == "temporarily_unavailable"
    assert parameters["error_description"] == "later"
    assert parameters["state"] == "the-state"
