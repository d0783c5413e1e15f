"""Discovery, revocation, introspection, userinfo, logout, and the app as such."""

from __future__ import annotations

import re
from dataclasses import replace

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet
from starlette.applications import Starlette
from starlette.routing import Mount

from tokenward.testing import Client, Provider, WrongClaim, WrongHeader
from tokenward.testing.answers import Refused
from tokenward.testing.interactions import MAX_OPEN, Interactions
from tokenward.testing.login import call_in_process

PARAMETERS_OF_A_LOGOUT = {"post_logout_redirect_uri": "https://app.test/bye", "state": "s t"}


async def test_discovery_names_every_endpoint_below_the_issuer(raw):
    response = await raw.http.get("/.well-known/openid-configuration")
    metadata = response.json()
    assert metadata["issuer"] == "https://op.test"
    addresses = {v for k, v in metadata.items() if k.endswith("_endpoint") or k == "jwks_uri"}
    assert addresses == {
        f"https://op.test/{path}"
        for path in (
            *("authorize", "token", "userinfo", "jwks", "revoke", "introspect", "logout"),
            "par",
        )
    }
    assert metadata["code_challenge_methods_supported"] == ["S256"]
    assert metadata["authorization_response_iss_parameter_supported"] is True
    assert metadata["response_modes_supported"] == ["query", "form_post"]
    assert response.headers["cache-control"] == "public, max-age=300"


@pytest.mark.parametrize("issuer", ["https://op.test/tenant", "https://op.test/tenant/"])
async def test_issuer_with_a_path_has_its_endpoints_below_it_and_nowhere_else(issuer):
    provider = Provider(issuer)
    base = "https://op.test"
    async with httpx.AsyncClient(transport=httpx.ASGITransport(provider), base_url=base) as http:
        response = await http.get("/tenant/.well-known/openid-configuration")
        assert response.json()["issuer"] == issuer
        assert response.json()["token_endpoint"] == "https://op.test/tenant/token"
        assert (await http.get("/.well-known/openid-configuration")).status_code == 404


async def test_provider_can_be_mounted():
    app = Starlette(routes=[Mount("/op", Provider("https://host.test/op"))])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app)) as http:
        response = await http.get("https://host.test/op/.well-known/openid-configuration")
    assert response.json()["jwks_uri"] == "https://host.test/op/jwks"


async def test_unknown_path_is_not_found(raw):
    assert (await raw.http.get("/admin")).status_code == 404


async def test_provider_takes_part_in_the_lifespan_of_a_server(provider):
    sent = []

    async def receive():
        return {"type": "lifespan.startup" if not sent else "lifespan.shutdown"}

    async def send(message):
        sent.append(message["type"])

    await provider({"type": "lifespan"}, receive, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


# --- revocation


async def revoke(raw, token, **form):
    form = {"token": token, **form}
    return await raw.http.post("/revoke", data=form, auth=raw.client_auth)


async def test_revoked_refresh_token_takes_its_family_along(provider, raw):
    answer = await raw.login()
    response = await revoke(raw, answer["refresh_token"], token_type_hint="refresh_token")
    assert response.status_code == 200
    assert response.content == b""
    assert provider.is_revoked(answer["refresh_token"])
    assert not provider.is_active(answer["access_token"])
    assert (await raw.refresh(answer["refresh_token"])).json()["error"] == "invalid_grant"
    assert provider.families[0].ended == "revoked"


async def test_revoking_a_rotated_refresh_token_ends_the_family_too(provider, raw):
    first = await raw.login()
    second = (await raw.refresh(first["refresh_token"])).json()
    await revoke(raw, first["refresh_token"])
    assert provider.is_revoked(second["refresh_token"])


async def test_revoked_access_token_leaves_the_refresh_token_alone(provider, raw):
    answer = await raw.login()
    assert (await revoke(raw, answer["access_token"])).status_code == 200
    assert not provider.is_active(answer["access_token"])
    assert provider.is_active(answer["refresh_token"])


async def test_wrong_hint_does_not_matter(provider, raw):
    answer = await raw.login()
    await revoke(raw, answer["refresh_token"], token_type_hint="access_token")
    assert provider.is_revoked(answer["refresh_token"])


async def test_unknown_token_is_revoked_successfully(raw, provider):
    assert (await revoke(raw, "what")).status_code == 200
    assert not provider.is_revoked("what")
    assert not provider.is_active("what")


async def test_token_of_another_client_is_not_revoked(provider, raw):
    answer = await raw.login()
    raw.client_auth = ("other", "o")
    assert (await revoke(raw, answer["refresh_token"])).json()["error"] == "invalid_grant"
    assert provider.is_active(answer["refresh_token"])


async def test_revocation_asks_who_and_what(raw):
    assert (await revoke(raw, "")).json()["error"] == "invalid_request"
    raw.client_auth = ("app", "wrong")
    assert (await revoke(raw, "x")).status_code == 401


# --- introspection


async def introspect(raw, token):
    response = await raw.http.post("/introspect", data={"token": token}, auth=raw.client_auth)
    return response.json()


async def test_introspection_tells_about_live_tokens_alone(raw, clock):
    answer = await raw.login(scope="openid offline_access")
    found = await introspect(raw, answer["access_token"])
    assert found == {
        "active": True,
        "token_type": "Bearer",
        "iss": "https://op.test",
        "sub": "alice",
        "aud": "https://op.test",
        "client_id": "app",
        "scope": "offline_access openid",
        "iat": int(clock()),
        "exp": int(clock()) + 3600,
    }
    assert (await introspect(raw, answer["refresh_token"]))["active"] is True
    await revoke(raw, answer["refresh_token"])
    for token in (answer["access_token"], answer["refresh_token"], "unknown"):
        assert await introspect(raw, token) == {"active": False}


async def test_refresh_token_is_no_business_of_another_client(raw):
    token = (await raw.login())["refresh_token"]
    raw.client_auth = ("other", "o")
    assert await introspect(raw, token) == {"active": False}


async def test_public_client_cannot_introspect(raw):
    response = await raw.http.post("/introspect", data={"token": "x", "client_id": "spa"})
    assert response.status_code == 401


INTROSPECTION_JWT = "application/token-introspection+jwt"


async def introspect_signed(raw, token, accept=INTROSPECTION_JWT):
    return await raw.http.post(
        "/introspect", data={"token": token}, auth=raw.client_auth, headers={"accept": accept}
    )


async def verified(raw, token):
    keys = KeySet.import_key_set((await raw.http.get("/jwks")).json())
    return jwt.decode(token, keys, algorithms=["RS256", "PS256", "ES256"])


@pytest.mark.parametrize(
    "accept", [INTROSPECTION_JWT, f"application/json;q=0.5, {INTROSPECTION_JWT.upper()};q=1"]
)
async def test_introspection_is_signed_for_who_asks_for_a_jwt(raw, clock, accept):
    token = (await raw.login())["access_token"]
    response = await introspect_signed(raw, token, accept)
    assert response.headers["content-type"] == INTROSPECTION_JWT
    assert response.headers["cache-control"] == "no-store"
    signed = await verified(raw, response.text)
    assert signed.header["typ"] == "token-introspection+jwt"
    assert signed.claims == {
        "iss": "https://op.test",
        "aud": "app",
        "iat": int(clock()),
        "token_introspection": await introspect(raw, token),
    }


async def test_signed_introspection_of_a_dead_token_says_so_and_no_more(raw):
    response = await introspect_signed(raw, "unknown")
    claims = (await verified(raw, response.text)).claims
    assert claims["token_introspection"] == {"active": False}


@pytest.mark.parametrize("accept", ["application/json", "*/*", "application/jwt"])
async def test_introspection_is_json_for_everybody_else(raw, accept):
    response = await introspect_signed(raw, "unknown", accept)
    assert response.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("changes", "alg"),
    [
        ({"introspection_signed_response_alg": "PS256"}, "PS256"),
        ({"id_token_signed_response_alg": "ES256"}, "ES256"),
        ({}, "RS256"),
    ],
)
async def test_introspection_is_signed_as_the_client_is_registered(provider, raw, changes, alg):
    provider.register(replace(provider.clients["app"], **changes))
    signed = await verified(raw, (await introspect_signed(raw, "unknown")).text)
    assert signed.header["alg"] == alg
    assert alg in (await raw.metadata())["introspection_signing_alg_values_supported"]


async def test_signed_introspection_can_be_wrong(provider, raw, segments):
    provider.misbehave("introspection", WrongClaim({"aud": "other"}))
    response = await introspect_signed(raw, "unknown")
    assert segments(response.text)[1]["aud"] == "other"


async def test_refusal_of_an_introspection_is_json(raw):
    raw.client_auth = ("app", "wrong")
    response = await introspect_signed(raw, "unknown")
    assert response.status_code == 401
    assert response.json()["error"] == "invalid_client"


# --- userinfo


async def userinfo(raw, token):
    return await raw.http.get("/userinfo", headers={"authorization": f"Bearer {token}"})


async def test_userinfo_tells_what_the_scope_allows(raw):
    answer = await raw.login(scope="openid email")
    response = await userinfo(raw, answer["access_token"])
    assert response.json() == {"sub": "alice", "email": "a@x.org", "r": 1}
    assert response.headers["cache-control"] == "no-store"


async def test_userinfo_without_openid_is_insufficient_scope(raw):
    response = await userinfo(raw, (await raw.login(scope="api"))["access_token"])
    assert response.status_code == 403
    assert 'error="insufficient_scope"' in response.headers["www-authenticate"]


async def test_userinfo_needs_a_live_token(raw, clock):
    token = (await raw.login())["access_token"]
    clock.advance(3600)
    response = await userinfo(raw, token)
    assert response.status_code == 401
    assert 'error="invalid_token"' in response.headers["www-authenticate"]
    response = await raw.http.get("/userinfo")
    assert response.headers["www-authenticate"] == 'Bearer realm="provider"'


@pytest.mark.parametrize("alg", ["RS256", "ES256"])
async def test_userinfo_is_signed_where_the_client_is_registered_so(provider, raw, alg):
    provider.register(replace(provider.clients["app"], userinfo_signed_response_alg=alg))
    response = await userinfo(raw, (await raw.login(scope="openid email"))["access_token"])
    assert response.headers["content-type"] == "application/jwt"
    assert response.headers["cache-control"] == "no-store"
    signed = await verified(raw, response.text)
    assert signed.header["alg"] == alg
    assert signed.claims == {
        "iss": "https://op.test",
        "aud": "app",
        "sub": "alice",
        "email": "a@x.org",
        "r": 1,
    }
    assert (await raw.metadata())["userinfo_signing_alg_values_supported"] == [alg]


async def test_signed_userinfo_can_be_wrong(provider, raw, segments):
    provider.register(replace(provider.clients["app"], userinfo_signed_response_alg="RS256"))
    provider.misbehave("userinfo", WrongClaim({"sub": "bob"}))
    response = await userinfo(raw, (await raw.login())["access_token"])
    assert segments(response.text)[1]["sub"] == "bob"


async def test_discovery_is_silent_about_signed_userinfo_that_nobody_gets(raw):
    assert "userinfo_signing_alg_values_supported" not in await raw.metadata()


# --- logout


async def logout(raw, **parameters):
    return await raw.http.get("/logout", params={**PARAMETERS_OF_A_LOGOUT, **parameters})


async def signed_in(raw):
    return "code=" in (await raw.authorize(prompt="none")).headers["location"]


async def test_logout_ends_the_session_and_goes_back_with_state(provider, raw, query):
    answer = await raw.login()
    response = await logout(raw, id_token_hint=answer["id_token"])
    assert response.headers["location"].startswith("https://app.test/bye?")
    assert query(response) == {"state": "s t"}
    assert "Max-Age=0" in response.headers["set-cookie"]
    assert not await signed_in(raw)
    assert provider.is_active(answer["refresh_token"])


async def test_expired_id_token_is_a_good_hint(raw, clock, query):
    answer = await raw.login()
    clock.advance(10_000)
    assert query(await logout(raw, id_token_hint=answer["id_token"])) == {"state": "s t"}


async def test_logout_can_be_posted(raw, query):
    answer = await raw.login()
    form = {**PARAMETERS_OF_A_LOGOUT, "id_token_hint": answer["id_token"]}
    assert query(await raw.http.post("/logout", data=form)) == {"state": "s t"}


async def test_id_token_signed_with_a_retired_key_is_a_good_hint(provider, raw, query):
    answer = await raw.login()
    provider.rotate_keys(keep_old=False)
    assert query(await logout(raw, id_token_hint=answer["id_token"])) == {"state": "s t"}


@pytest.mark.parametrize(
    "parameters",
    [
        pytest.param({"post_logout_redirect_uri": "https://evil.test/"}, id="other address"),
        pytest.param({"post_logout_redirect_uri": "https://app.test/bye/"}, id="slash"),
        pytest.param({"id_token_hint": "x.y.z"}, id="no token"),
        pytest.param({"client_id": "other"}, id="two clients"),
    ],
)
async def test_logout_goes_nowhere_that_is_not_registered(raw, parameters):
    answer = await raw.login()
    response = await logout(raw, **{"id_token_hint": answer["id_token"], **parameters})
    assert response.status_code == 400
    assert "location" not in response.headers
    assert await signed_in(raw)


async def test_address_without_client_or_hint_is_refused(raw):
    assert (await logout(raw)).status_code == 400


async def test_hint_of_another_provider_is_refused(raw):
    other = Provider("https://other.test", clients=[Client("app")])
    token = other.logout_token("app", sub="alice", faults=[WrongHeader({"typ": "JWT"})])
    assert (await logout(raw, id_token_hint=token)).status_code == 400


async def test_logout_token_is_no_hint(provider, raw):
    token = provider.logout_token("app", sub="alice")
    assert (await logout(raw, id_token_hint=token)).status_code == 400


async def test_logout_without_proof_asks_the_user(provider, raw, query):
    await raw.login()
    provider.sign_in_automatically(None)
    response = await logout(raw, client_id="app")
    assert "Sign out?" in response.text
    assert await signed_in(raw)
    found = re.search(r'name="interaction" value="([^"]+)"', response.text)
    assert found
    response = await raw.http.post("/logout", data={"interaction": found[1]})
    assert query(response) == {"state": "s t"}
    assert not await signed_in(raw)


async def test_logout_without_an_address_ends_on_a_page(raw):
    answer = await raw.login()
    response = await raw.http.get("/logout", params={"id_token_hint": answer["id_token"]})
    assert response.status_code == 200
    assert "Signed out" in response.text
    assert not await signed_in(raw)


async def test_cookie_is_named_after_the_port_and_plain_over_http():
    provider = Provider("http://127.0.0.1:8400", clients=[Client("app", redirect_uris=["x:y"])])
    session = "provider_session_8400=; Path=/; HttpOnly; SameSite=Lax; Max-Age=0"
    answer = await call_in_process(provider, "GET", "http://127.0.0.1:8400/logout")
    assert answer.headers["set-cookie"] == session


async def test_hint_is_of_this_issuer_even_if_another_one_has_the_key(clock):
    key = ECKey.generate_key("P-256", {"kid": "shared"})
    app = Client("app", id_token_signed_response_alg="ES256")
    here, there = (
        Provider(issuer, clients=[app], keys=[key], clock=clock)
        for issuer in ("https://op.test", "https://other.test")
    )
    for provider, status in ((here, 200), (there, 400)):
        hint = provider.logout_token("app", sub="alice", faults=[WrongHeader({"typ": "JWT"})])
        address = f"https://op.test/logout?id_token_hint={hint}"
        assert (await call_in_process(here, "GET", address)).status == status


def test_pages_that_nobody_answers_are_forgotten():
    pages = Interactions()
    for number in range(MAX_OPEN + 1):
        pages.open(number, name=str(number))
    with pytest.raises(Refused):
        pages.close("0")
    assert pages.close("1") == 1
    assert pages.close(str(MAX_OPEN)) == MAX_OPEN
