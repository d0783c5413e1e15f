"""Dynamic client registration (RFC 7591), and its management (RFC 7592)."""

from __future__ import annotations

from dataclasses import replace

import httpx
import pytest
from joserfc.jwk import ECKey

from tokenward.secret import Secret
from tokenward.testing import OAuthError

KEY = ECKey.generate_key("P-256", {"kid": "k"})
JWKS = {"keys": [KEY.as_dict(private=False)]}


@pytest.fixture
def provider(provider):
    provider.open_registration()
    return provider


async def register(raw, token=None, **document):
    document = {"redirect_uris": [raw.callback], **document}
    headers = {"authorization": f"Bearer {token}"} if token else {}
    return await raw.http.post("/register", json=document, headers=headers)


async def registered(raw, **document):
    response = await register(raw, **document)
    assert response.status_code == 201, response.text
    return response.json()


async def manage(raw, client, method="GET", token=None):
    token = client["registration_access_token"] if token is None else token
    headers = {"authorization": f"Bearer {token}"}
    return await raw.http.request(method, client["registration_client_uri"], headers=headers)


async def test_client_is_told_all_that_it_is_registered_with(raw, clock):
    response = await register(raw, client_name="ignored", unheard_of={"x": 1})
    assert response.status_code == 201
    assert response.headers["cache-control"] == "no-store"
    answer = response.json()
    client_id = answer["client_id"]
    for secret in ("client_secret", "registration_access_token"):
        assert len(answer.pop(secret)) > 40
    assert answer == {
        "client_id": client_id,
        "client_id_issued_at": int(clock()),
        "client_secret_expires_at": 0,
        "registration_client_uri": f"https://op.test/register?client_id={client_id}",
        "redirect_uris": [raw.callback],
        "post_logout_redirect_uris": [],
        "grant_types": ["authorization_code"],
        "response_types": ["code"],
        "token_endpoint_auth_method": "client_secret_basic",
        "scope": "openid profile email api offline_access",
        "require_pushed_authorization_requests": False,
        "id_token_signed_response_alg": "RS256",
        "introspection_signed_response_alg": "RS256",
    }


async def test_registered_client_logs_users_in(raw, provider):
    client = await registered(raw, grant_types=["authorization_code", "refresh_token"])
    raw.client_auth = (client["client_id"], client["client_secret"])
    answer = await raw.login(client_id=client["client_id"])
    assert (await raw.refresh(answer["refresh_token"])).status_code == 200
    response = await raw.token(grant_type="client_credentials")
    assert response.json()["error"] == "unauthorized_client"


async def test_two_clients_never_share_anything(raw):
    one, two = await registered(raw), await registered(raw)
    for name in ("client_id", "client_secret", "registration_access_token"):
        assert one[name] != two[name]


async def test_public_client_gets_no_secret(raw, provider):
    client = await registered(raw, token_endpoint_auth_method="none")
    assert not {"client_secret", "client_secret_expires_at"} & client.keys()
    assert client["token_endpoint_auth_method"] == "none"
    assert provider.clients[client["client_id"]].is_public


async def test_client_with_a_key_gets_no_secret_and_keeps_its_key(raw, provider):
    client = await registered(raw, token_endpoint_auth_method="private_key_jwt", jwks=JWKS)
    assert "client_secret" not in client
    assert client["jwks"] == JWKS
    assert not provider.clients[client["client_id"]].is_public


@pytest.mark.parametrize(
    "document",
    [
        pytest.param({"scope": "openid api"}, id="scope"),
        pytest.param({"token_endpoint_auth_method": "client_secret_post"}, id="post"),
        pytest.param({"token_endpoint_auth_method": "client_secret_jwt"}, id="secret jwt"),
        pytest.param({"id_token_signed_response_alg": "ES256"}, id="id_token alg"),
        pytest.param({"userinfo_signed_response_alg": "PS256"}, id="userinfo alg"),
        pytest.param({"introspection_signed_response_alg": "PS256"}, id="introspection alg"),
        pytest.param({"require_pushed_authorization_requests": True}, id="PAR"),
        pytest.param({"post_logout_redirect_uris": ["https://app.test/bye"]}, id="logout"),
        pytest.param({"redirect_uris": ["http://127.0.0.1:8000/cb"]}, id="loopback"),
        pytest.param({"redirect_uris": ["com.example.app:/cb"]}, id="private-use scheme"),
        pytest.param(
            {"grant_types": ["authorization_code", "urn:openid:params:grant-type:ciba"]}, id="CIBA"
        ),
    ],
)
async def test_what_is_asked_for_is_registered(raw, provider, document):
    client = await registered(raw, **document)
    assert {name: client[name] for name in document} == document


async def test_registration_takes_effect(raw, provider, query):
    client = await registered(raw, require_pushed_authorization_requests=True)
    response = await raw.authorize(client_id=client["client_id"])
    assert query(response)["error"] == "invalid_request"


async def test_client_that_sends_no_browser_anywhere_needs_no_redirect_uri(raw):
    client = await registered(raw, grant_types=["client_credentials"], redirect_uris=None)
    assert client["redirect_uris"] == []
    assert client["response_types"] == []


@pytest.mark.parametrize(
    "uris",
    [
        pytest.param(None, id="none"),
        pytest.param([], id="empty"),
        pytest.param(["/callback"], id="relative"),
        pytest.param(["http://app.test/cb"], id="http"),
        pytest.param(["https://app.test/cb#f"], id="fragment"),
        pytest.param(["https://a@app.test/cb"], id="userinfo"),
        pytest.param(["https:///cb"], id="no host"),
        pytest.param(["javascript:alert(1)"], id="javascript"),
        pytest.param(["https://[x]/"], id="unparsable"),
        pytest.param(["https://app.test/cb", "data:x"], id="one of two"),
    ],
)
async def test_address_that_is_no_callback_is_refused(raw, uris):
    response = await register(raw, redirect_uris=uris)
    assert response.status_code == 400
    assert response.json()["error"] == "invalid_redirect_uri"


@pytest.mark.parametrize(
    "document",
    [
        pytest.param({"redirect_uris": "https://app.test/cb"}, id="text for a list"),
        pytest.param({"redirect_uris": [5]}, id="list of numbers"),
        pytest.param({"grant_types": ["implicit"]}, id="implicit"),
        pytest.param({"response_types": ["token"]}, id="token"),
        pytest.param({"token_endpoint_auth_method": "tls_client_auth"}, id="mTLS"),
        pytest.param({"token_endpoint_auth_method": ["none"]}, id="list of methods"),
        pytest.param({"token_endpoint_auth_method": "private_key_jwt"}, id="no key"),
        pytest.param({"jwks": {"keys": []}}, id="empty key set"),
        pytest.param({"jwks": "x"}, id="no key set"),
        pytest.param({"jwks": {"keys": [KEY.as_dict(private=True)]}}, id="private key"),
        pytest.param({"jwks_uri": "https://app.test/jwks"}, id="jwks_uri"),
        pytest.param({"id_token_signed_response_alg": "none"}, id="alg none"),
        pytest.param({"userinfo_signed_response_alg": "HS256"}, id="alg HS256"),
        pytest.param({"require_pushed_authorization_requests": "yes"}, id="text for a flag"),
        pytest.param({"scope": ["openid"]}, id="list for a scope"),
    ],
)
async def test_metadata_that_cannot_be_had_are_refused(raw, provider, document):
    before = dict(provider.clients)
    response = await register(raw, **document)
    assert response.status_code == 400
    assert response.json()["error"] == "invalid_client_metadata"
    assert provider.clients == before


@pytest.mark.parametrize(
    ("content", "content_type", "status"),
    [
        pytest.param(b"{}", "application/x-www-form-urlencoded", 400, id="form"),
        pytest.param(b"{}", None, 400, id="no type"),
        pytest.param(b"[]", "application/json", 400, id="list"),
        pytest.param(b"{", "application/json", 400, id="no json"),
        pytest.param(b"\xff", "application/json", 400, id="not UTF-8"),
        pytest.param(b'{"a": NaN}', "application/json", 400, id="NaN"),
        pytest.param(b"[" * 60_000, "application/json", 400, id="deep"),
        pytest.param(b" " * 70_000, "application/json", 413, id="too large"),
    ],
)
async def test_body_that_is_no_json_object_is_refused(raw, content, content_type, status):
    headers = {"content-type": content_type} if content_type else {}
    response = await raw.http.post("/register", content=content, headers=headers)
    assert response.status_code == status
    assert response.json()["error"] == "invalid_request"


# --- who may


async def test_registration_is_closed_until_it_is_opened(raw, oidc_provider):
    transport = httpx.ASGITransport(oidc_provider)
    async with httpx.AsyncClient(transport=transport, base_url="https://op.test") as http:
        raw = replace(raw, http=http)
        assert (await register(raw)).status_code == 403
        assert "registration_endpoint" not in await raw.metadata()
        oidc_provider.open_registration()
        assert (await register(raw)).status_code == 201
        metadata = await raw.metadata()
    assert metadata["registration_endpoint"] == "https://op.test/register"


@pytest.mark.parametrize("wrap", [str, Secret])
async def test_registration_can_need_a_token(raw, provider, wrap):
    provider.open_registration(initial_access_token=wrap("let me in"))
    for token in (None, "wrong"):
        response = await register(raw, token)
        assert response.status_code == 401
        assert response.headers["www-authenticate"].startswith("Bearer")
    assert (await register(raw, "let me in")).status_code == 201


# --- afterwards


async def test_client_reads_its_registration(raw):
    client = await registered(raw)
    response = await manage(raw, client)
    assert response.status_code == 200
    assert response.json() == client


async def test_client_leaves_and_takes_its_tokens_along(raw, provider):
    form = {"grant_types": ["authorization_code", "refresh_token", "client_credentials"]}
    client = await registered(raw, **form)
    raw.client_auth = (client["client_id"], client["client_secret"])
    login = await raw.login(client_id=client["client_id"])
    own = (await raw.token(grant_type="client_credentials")).json()["access_token"]
    response = await manage(raw, client, "DELETE")
    assert response.status_code == 204
    assert response.content == b""
    for token in (login["access_token"], login["refresh_token"], own):
        assert not provider.is_active(token)
        assert provider.is_revoked(token)
    assert (await raw.token(grant_type="client_credentials")).status_code == 401
    assert (await manage(raw, client)).status_code == 401
    raw.client_auth = ("app", "secret")
    assert provider.is_active((await raw.login())["access_token"])


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_registration_is_nobody_elses_business(raw, method):
    client, other = await registered(raw), await registered(raw)
    for token in (other["registration_access_token"], "wrong", ""):
        response = await manage(raw, client, method, token)
        assert response.status_code == 401
    response = await raw.http.request(method, client["registration_client_uri"])
    assert response.status_code == 401
    assert (await manage(raw, client)).status_code == 200


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_client_that_did_not_register_itself_cannot_be_managed(raw, provider, method):
    headers = {"authorization": "Bearer None"}
    response = await raw.http.request(method, "/register?client_id=app", headers=headers)
    assert response.status_code == 401
    assert (await raw.http.request(method, "/register")).status_code == 400
    assert "app" in provider.clients


async def test_registrations_are_counted_and_tell_no_secret(raw, provider):
    client = await registered(raw)
    await manage(raw, client)
    assert provider.count("registration", outcome="ok") == 2
    assert dict(provider.requests[-1].parameters) == {"client_id": client["client_id"]}
    for secret in (client["client_secret"], client["registration_access_token"]):
        assert secret not in repr(provider.requests) + repr(provider.clients)


async def test_record_says_what_was_registered(raw, provider):
    await registered(raw, scope="openid", client_name="x")
    parameters = dict(provider.requests[-1].parameters)
    assert parameters["scope"] == "openid"
    assert parameters["redirect_uris"] == f'["{raw.callback}"]'


async def test_registration_can_misbehave(raw, provider):
    provider.misbehave("registration", OAuthError("server_error", status=500))
    assert (await register(raw)).status_code == 500
    assert (await register(raw)).status_code == 201
