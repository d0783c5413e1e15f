"""The token endpoint."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from dataclasses import replace

import pytest

from tokenward.testing import Client


async def test_code_gives_tokens_that_nobody_may_cache(raw):
    response = await raw.redeem(await raw.code())
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["pragma"] == "no-cache"
    assert response.headers["content-type"] == "application/json"
    answer = response.json()
    assert set(answer) == {
        "access_token",
        "expires_in",
        "id_token",
        "refresh_token",
        "scope",
        "token_type",
    }
    assert answer["token_type"] == "Bearer"
    assert answer["expires_in"] == 3600
    assert answer["scope"] == "api offline_access openid profile"


async def test_id_token_only_with_openid_and_refresh_token_only_with_offline_access(raw):
    answer = await raw.login(scope="api")
    assert "id_token" not in answer
    assert "refresh_token" not in answer


async def test_code_used_twice_kills_what_was_made_from_it(provider, raw):
    code = await raw.code()
    answer = (await raw.redeem(code)).json()
    assert provider.is_active(answer["access_token"])
    response = await raw.redeem(code)
    assert response.json()["error"] == "invalid_grant"
    assert not provider.is_active(answer["access_token"])
    assert provider.is_revoked(answer["access_token"])
    assert provider.is_revoked(answer["refresh_token"])
    assert provider.families[0].ended == "code_reuse"


async def test_of_two_redemptions_at_once_one_gets_nothing(raw):
    code = await raw.code()
    answers = await asyncio.gather(raw.redeem(code), raw.redeem(code))
    assert sorted(answer.status_code for answer in answers) == [200, 400]


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"redirect_uri": "https://app.test/other?x=1"}, id="redirect_uri"),
        pytest.param({"code_verifier": "w" * 43}, id="verifier"),
        pytest.param({"code_verifier": "v" * 42}, id="short verifier"),
    ],
)
async def test_code_is_bound_and_a_wrong_guess_spends_it(raw, changes):
    code = await raw.code()
    assert (await raw.redeem(code, **changes)).json()["error"] == "invalid_grant"
    assert (await raw.redeem(code)).json()["error"] == "invalid_grant"


async def test_verifier_that_is_too_short_is_refused_though_it_fits(raw):
    digest = hashlib.sha256(b"v" * 42).digest()
    challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    code = await raw.code(code_challenge=challenge)
    assert (await raw.redeem(code, code_verifier="v" * 42)).json()["error"] == "invalid_grant"


@pytest.mark.parametrize("missing", ["redirect_uri", "code_verifier"])
async def test_missing_proof_is_an_invalid_request(raw, missing):
    response = await raw.redeem(await raw.code(), **{missing: None})
    assert response.json()["error"] == "invalid_request"


async def test_code_of_another_client_is_unknown(raw):
    code = await raw.code()
    raw.client_auth = ("other", "o")
    assert (await raw.redeem(code)).json()["error"] == "invalid_grant"
    raw.client_auth = ("app", "secret")
    assert (await raw.redeem(code)).status_code == 200


@pytest.mark.parametrize(("seconds", "status"), [(59.9, 200), (60, 400)])
async def test_code_lives_a_minute(raw, clock, seconds, status):
    code = await raw.code()
    clock.advance(seconds)
    assert (await raw.redeem(code)).status_code == status


# --- refresh


async def test_refresh_rotates(provider, raw):
    first = await raw.login()
    second = (await raw.refresh(first["refresh_token"])).json()
    assert second["refresh_token"] != first["refresh_token"]
    assert second["access_token"] != first["access_token"]
    assert "id_token" in second
    assert provider.refreshes_of("alice") == 1
    assert provider.refreshes_of("bob") == 0
    assert provider.families[0].generation == 1
    assert not provider.is_active(first["refresh_token"])
    assert not provider.is_revoked(first["refresh_token"])


async def test_refresh_token_used_twice_kills_the_family(provider, raw):
    first = await raw.login()
    second = (await raw.refresh(first["refresh_token"])).json()
    assert (await raw.refresh(first["refresh_token"])).json()["error"] == "invalid_grant"
    assert (await raw.refresh(second["refresh_token"])).json()["error"] == "invalid_grant"
    assert provider.families[0].ended == "refresh_token_reuse"
    assert not provider.is_active(second["access_token"])


async def test_reuse_leaves_other_logins_alone(raw):
    first, other = await raw.login(), await raw.login()
    await raw.refresh(first["refresh_token"])
    await raw.refresh(first["refresh_token"])
    assert (await raw.refresh(other["refresh_token"])).status_code == 200


async def test_of_two_refreshes_at_once_one_is_reuse(provider, raw):
    token = (await raw.login())["refresh_token"]
    answers = await asyncio.gather(raw.refresh(token), raw.refresh(token))
    assert sorted(answer.status_code for answer in answers) == [200, 400]
    assert provider.families[0].ended == "refresh_token_reuse"


async def test_overlap_lets_a_rotated_token_be_used_again_for_a_while(provider, raw, clock):
    provider.register(Client("app", redirect_uris=[raw.callback], refresh_token_overlap=30))
    token = (await raw.login())["refresh_token"]
    assert (await raw.refresh(token)).status_code == 200
    clock.advance(29)
    assert (await raw.refresh(token)).status_code == 200
    clock.advance(1)
    assert (await raw.refresh(token)).json()["error"] == "invalid_grant"


async def test_client_without_rotation_keeps_its_refresh_token(provider, raw):
    provider.register(Client("app", redirect_uris=[raw.callback], refresh_token_rotation=False))
    token = (await raw.login())["refresh_token"]
    for _ in range(2):
        assert (await raw.refresh(token)).json()["refresh_token"] == token
    assert provider.refreshes_of("alice") == 2


async def test_refresh_token_is_bound_to_its_client(raw):
    token = (await raw.login())["refresh_token"]
    raw.client_auth = ("other", "o")
    assert (await raw.refresh(token)).json()["error"] == "invalid_grant"
    raw.client_auth = ("app", "secret")
    assert (await raw.refresh(token)).status_code == 200


async def test_rotation_does_not_extend_the_life_of_the_grant(provider, raw, clock):
    provider.register(Client("app", redirect_uris=[raw.callback], refresh_token_lifetime=100))
    token = (await raw.login())["refresh_token"]
    clock.advance(99)
    token = (await raw.refresh(token)).json()["refresh_token"]
    clock.advance(1)
    assert (await raw.refresh(token)).json()["error"] == "invalid_grant"


async def test_scope_can_be_narrowed_for_one_refresh(raw):
    token = (await raw.login())["refresh_token"]
    narrow = (await raw.refresh(token, scope="openid api")).json()
    assert narrow["scope"] == "api openid"
    full = (await raw.refresh(narrow["refresh_token"])).json()
    assert full["scope"] == "api offline_access openid profile"


@pytest.mark.parametrize(
    ("form", "error"),
    [
        pytest.param({"scope": "openid email"}, "invalid_scope", id="wider scope"),
        pytest.param({"resource": "https://c.test/"}, "invalid_target", id="other resource"),
    ],
)
async def test_refresh_cannot_widen_the_grant_and_costs_no_token(raw, form, error):
    token = (await raw.login(resource="https://a.test/"))["refresh_token"]
    assert (await raw.refresh(token, **form)).json()["error"] == error
    assert (await raw.refresh(token)).status_code == 200


async def test_refreshed_id_token_has_the_old_auth_time_and_no_nonce(raw, clock, segments):
    first = await raw.login()
    clock.advance(10)
    second = (await raw.refresh(first["refresh_token"])).json()
    _, before, _ = segments(first["id_token"])
    _, after, _ = segments(second["id_token"])
    assert before["nonce"] == "the-nonce"
    assert "nonce" not in after
    assert after["auth_time"] == before["auth_time"]
    assert after["iat"] == before["iat"] + 10
    assert after["sid"] == before["sid"]


async def test_refresh_brings_no_id_token_where_the_client_wants_none(provider, raw):
    provider.register(Client("app", redirect_uris=[raw.callback], id_token_on_refresh=False))
    assert "id_token" not in (await raw.refresh((await raw.login())["refresh_token"])).json()


async def test_provider_can_end_the_grants_of_a_user(provider, raw):
    answer = await raw.login()
    assert provider.end_grants("alice") == 1
    assert provider.end_grants("alice") == 0
    assert (await raw.refresh(answer["refresh_token"])).json()["error"] == "invalid_grant"
    assert not provider.is_active(answer["access_token"])


# --- client credentials


async def test_client_can_act_for_itself(provider, raw):
    answer = (await raw.token(grant_type="client_credentials", scope="api")).json()
    assert set(answer) == {"access_token", "expires_in", "scope", "token_type"}
    assert provider.is_active(answer["access_token"])
    assert provider.families == ()


async def test_client_without_a_scope_gets_its_own(raw):
    answer = (await raw.token(grant_type="client_credentials")).json()
    assert answer["scope"] == "api"


@pytest.mark.parametrize("scope", ["openid", "offline_access", "admin"])
async def test_client_gets_no_identity_for_itself(raw, scope):
    response = await raw.token(grant_type="client_credentials", scope=scope)
    assert response.json()["error"] == "invalid_scope"


async def test_public_client_cannot_act_for_itself(raw):
    raw.client_auth = None
    response = await raw.token(grant_type="client_credentials", client_id="spa")
    assert response.json()["error"] == "unauthorized_client"


async def test_several_resources_are_the_audience(provider, raw, segments):
    provider.register(Client("app", access_token_type="jwt"))
    form = {"grant_type": "client_credentials", "resource": ["https://a.test/", "https://b.test/"]}
    answer = (await raw.http.post("/token", data=form, auth=("app", "secret"))).json()
    header, claims, _ = segments(answer["access_token"])
    assert header["typ"] == "at+jwt"
    assert claims["aud"] == ["https://a.test/", "https://b.test/"]
    assert claims["sub"] == claims["client_id"] == "app"
    assert claims["exp"] == claims["iat"] + 3600
    assert provider.is_active(answer["access_token"])


async def test_one_of_the_granted_resources_can_be_picked(provider, raw, segments):
    app = Client("app", redirect_uris=[raw.callback], access_token_type="jwt")
    provider.register(app)
    parameters = [*raw.request().items(), ("resource", "https://a"), ("resource", "https://b")]
    response = await raw.http.post(
        "/authorize",
        content="&".join(f"{k}={v}" for k, v in parameters),
        headers={"content-type": "application/x-www-form-urlencoded"},
    )
    code = response.headers["location"].split("code=")[1].split("&")[0]
    answer = (await raw.redeem(code, resource="https://b")).json()
    assert segments(answer["access_token"])[1]["aud"] == "https://b"
    answer = (await raw.refresh(answer["refresh_token"])).json()
    assert segments(answer["access_token"])[1]["aud"] == ["https://a", "https://b"]


async def test_access_token_ends_when_it_said(provider, raw, clock):
    provider.register(Client("app", access_token_lifetime=10))
    answer = (await raw.token(grant_type="client_credentials")).json()
    assert answer["expires_in"] == 10
    clock.advance(9)
    assert provider.is_active(answer["access_token"])
    clock.advance(1)
    assert not provider.is_active(answer["access_token"])


# --- password


@pytest.fixture
def password_client(provider):
    app = provider.clients["app"]
    provider.register(replace(app, grant_types=(*app.grant_types, "password")))


async def by_password(raw, **form):
    form = {"username": "alice", "password": "wonderland", "scope": "openid", **form}
    return await raw.token(grant_type="password", **form)


@pytest.mark.usefixtures("password_client")
async def test_password_gives_tokens_like_a_login(raw, provider, clock, segments):
    answer = (await by_password(raw, scope="openid offline_access")).json()
    _, claims, _ = segments(answer["id_token"])
    assert (claims["sub"], claims["auth_time"]) == ("alice", int(clock()))
    assert (await raw.refresh(answer["refresh_token"])).status_code == 200
    assert provider.refreshes_of("alice") == 1
    assert "wonderland" not in repr(provider.requests)
    assert "password" in (await raw.metadata())["grant_types_supported"]


@pytest.mark.usefixtures("password_client")
async def test_password_without_a_scope_gives_nothing_about_the_user(raw):
    answer = (await by_password(raw, scope=None)).json()
    assert answer["scope"] == "api"
    assert "id_token" not in answer


@pytest.mark.usefixtures("password_client")
@pytest.mark.parametrize(
    ("form", "error"),
    [
        pytest.param({"password": "wrong"}, "invalid_grant", id="wrong password"),
        pytest.param({"username": "nobody"}, "invalid_grant", id="unknown user"),
        pytest.param({"password": None}, "invalid_request", id="no password"),
        pytest.param({"username": None}, "invalid_request", id="no user"),
        pytest.param({"scope": "admin"}, "invalid_scope", id="scope"),
        pytest.param({"resource": "relative"}, "invalid_target", id="resource"),
    ],
)
async def test_password_grant_is_refused(raw, form, error):
    response = await by_password(raw, **form)
    assert response.status_code == 400
    assert response.json()["error"] == error


@pytest.mark.usefixtures("password_client")
async def test_password_grant_is_for_the_clients_that_list_it_alone(raw):
    raw.client_auth = ("other", "o")
    assert (await by_password(raw)).json()["error"] == "unauthorized_client"


async def test_password_grant_that_no_client_lists_is_not_supported(raw):
    assert (await by_password(raw)).json()["error"] == "unsupported_grant_type"
    assert "password" not in (await raw.metadata())["grant_types_supported"]


async def test_grant_that_nobody_knows_stays_unsupported(provider, raw):
    provider.register(replace(provider.clients["app"], grant_types=["urn:mine"]))
    assert (await raw.token(grant_type="urn:mine")).json()["error"] == "unsupported_grant_type"


# --- how it is asked


async def test_parameter_given_twice_is_refused(raw):
    form = {"grant_type": "client_credentials", "scope": ["api", "api"]}
    response = await raw.http.post("/token", data=form, auth=raw.client_auth)
    assert response.json()["error"] == "invalid_request"


@pytest.mark.parametrize(
    ("content", "content_type", "status"),
    [
        pytest.param(b'{"grant_type": "x"}', "application/json", 400, id="json"),
        pytest.param(b"grant_type=client_credentials", "text/plain", 400, id="text"),
        pytest.param(b"grant_type=client_credentials", None, 400, id="no type"),
        pytest.param(b"grant_type=%ff", "application/x-www-form-urlencoded", 400, id="not UTF-8"),
        pytest.param(
            b"a=" + b"x" * 70_000, "application/x-www-form-urlencoded", 413, id="too large"
        ),
    ],
)
async def test_body_that_is_not_a_form_is_refused(raw, content, content_type, status):
    headers = {"content-type": content_type} if content_type else {}
    response = await raw.http.post("/token", content=content, headers=headers, auth=raw.client_auth)
    assert response.status_code == status
    assert response.json()["error"] == "invalid_request"


async def test_parameters_in_the_query_are_refused(raw):
    response = await raw.http.post(
        "/token?scope=api", data={"grant_type": "client_credentials"}, auth=raw.client_auth
    )
    assert response.json()["error"] == "invalid_request"


async def test_get_is_not_allowed(raw):
    response = await raw.http.get("/token")
    assert response.status_code == 405
    assert response.headers["allow"] == "POST"


@pytest.mark.parametrize(
    ("grant_type", "error"),
    [
        ("password", "unsupported_grant_type"),
        (None, "invalid_request"),
        ("client_credentials", "unauthorized_client"),
    ],
)
async def test_grants_that_the_client_does_not_have_are_refused(provider, raw, grant_type, error):
    provider.register(Client("app", grant_types=["authorization_code"]))
    assert (await raw.token(grant_type=grant_type)).json()["error"] == error


async def test_client_without_the_refresh_grant_gets_no_refresh_token(provider, raw):
    app = Client("app", redirect_uris=[raw.callback], grant_types=["authorization_code"])
    provider.register(app)
    assert "refresh_token" not in await raw.login()


# --- who asks


def basic(text: str) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(text.encode()).decode()}


@pytest.mark.parametrize("secret", ["secret", "next-secret"])
async def test_each_secret_of_a_client_is_good_in_header_and_body(raw, secret):
    raw.client_auth = ("app", secret)
    assert (await raw.token(grant_type="client_credentials")).status_code == 200
    raw.client_auth = None
    form = {"client_id": "app", "client_secret": secret}
    assert (await raw.token(grant_type="client_credentials", **form)).status_code == 200


@pytest.mark.parametrize(
    ("header", "status"),
    [("my%3Aid:p%2Bq+%25%C3%BC", 200), ("my:id:p+q %ü", 401), ("my%3Aid:p+q+%25%C3%BC", 401)],
    ids=["form-encoded", "raw", "plus is a space"],
)
async def test_basic_credentials_are_form_decoded(provider, raw, header, status):
    provider.register(Client("my:id", secrets=["p+q %ü"]))
    form = {"grant_type": "client_credentials"}
    response = await raw.http.post("/token", data=form, headers=basic(header))
    assert response.status_code == status


@pytest.mark.parametrize(
    ("headers", "form", "status", "error"),
    [
        pytest.param({}, {}, 401, "invalid_client", id="nobody"),
        pytest.param({}, {"client_id": "app"}, 401, "invalid_client", id="no secret"),
        pytest.param(basic("app:wrong"), {}, 401, "invalid_client", id="wrong secret"),
        pytest.param(basic("nobody:secret"), {}, 401, "invalid_client", id="unknown"),
        pytest.param(
            {}, {"client_id": "spa", "client_secret": "x"}, 401, "invalid_client", id="public"
        ),
        pytest.param({"authorization": "Basic !"}, {}, 401, "invalid_client", id="no base64"),
        pytest.param(basic("app"), {}, 401, "invalid_client", id="no colon"),
        pytest.param({"authorization": "Bearer x"}, {}, 401, "invalid_client", id="another scheme"),
        pytest.param(
            basic("app:secret"), {"client_id": "other"}, 400, "invalid_request", id="two clients"
        ),
        pytest.param(
            basic("app:secret"),
            {"client_id": "app", "client_secret": "secret"},
            400,
            "invalid_request",
            id="two ways at once",
        ),
    ],
)
async def test_client_must_prove_itself_in_one_way(raw, headers, form, status, error):
    form = {"grant_type": "client_credentials", **form}
    response = await raw.http.post("/token", data=form, headers=headers)
    assert response.status_code == status
    assert response.json()["error"] == error
    if status == 401:
        assert response.headers["www-authenticate"].startswith("Basic")


async def test_client_proves_itself_as_it_is_registered(provider, raw):
    app = Client("app", token_endpoint_auth_methods=["client_secret_post"])
    provider.register(app)
    assert (await raw.token(grant_type="client_credentials")).status_code == 401


async def test_secret_in_the_body_is_refused_where_only_the_header_is_registered(provider, raw):
    provider.register(Client("app", token_endpoint_auth_methods=["client_secret_basic"]))
    form = {"grant_type": "client_credentials"}
    assert (await raw.token(**form)).status_code == 200
    raw.client_auth = None
    response = await raw.token(**form, client_id="app", client_secret="secret")
    assert response.status_code == 401


async def test_credentials_count_under_their_own_scheme_alone(raw):
    pair = basic("app:secret")["authorization"].removeprefix("Basic ")
    form = {"grant_type": "client_credentials"}
    for scheme, status in (("Digest", 401), ("bASIC", 200)):
        headers = {"authorization": f"{scheme} {pair}"}
        response = await raw.http.post("/token", data=form, headers=headers)
        assert response.status_code == status


async def test_two_authorization_headers_are_none(raw):
    headers = [("authorization", basic("app:secret")["authorization"])] * 2
    form = {"grant_type": "client_credentials"}
    response = await raw.http.post("/token", data=form, headers=headers)
    assert response.status_code == 401


async def test_public_client_logs_users_in_with_its_id_alone(raw):
    code = await raw.code(client_id="spa")
    raw.client_auth = None
    assert (await raw.redeem(code, client_id="spa")).status_code == 200


async def test_refusal_may_not_be_cached_either(raw):
    response = await raw.token(grant_type="password")
    assert response.headers["cache-control"] == "no-store"
