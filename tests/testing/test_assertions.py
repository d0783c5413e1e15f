"""Assertions: clients that prove themselves with a JWT, and users that a JWT speaks for."""

from __future__ import annotations

import base64
import hmac
import json
from dataclasses import replace

import pytest
from joserfc.jwk import ECKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

from tokenward.testing import Client
from tokenward.testing.clients import JWT_BEARER

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
SECRET = "a secret that is shared, and long enough"
KEYS = {
    "rsa": RSAKey.generate_key(2048, {"kid": "rsa"}),
    "p256": ECKey.generate_key("P-256", {"kid": "p256"}),
    "p384": ECKey.generate_key("P-384", {"kid": "p384"}),
    "ed": OKPKey.generate_key("Ed25519", {"kid": "ed"}),
}
JWKS = {"keys": [key.as_dict(private=False) for key in KEYS.values()]}


def b64(data):
    text = data if isinstance(data, bytes) else json.dumps(data).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


def sign(header, claims, key):
    """Sign as JWS says, with whatever key; bytes are an HMAC's."""
    text = f"{b64(header)}.{b64(claims)}"
    if isinstance(key, bytes):
        return f"{text}.{b64(hmac.digest(key, text.encode(), 'sha256'))}"
    return f"{text}.{b64(JWSRegistry.algorithms[header['alg']].sign(text.encode(), key))}"


@pytest.fixture
def claims(clock):
    def make(**changes):
        now = int(clock())
        given = {
            "iss": "app",
            "sub": "app",
            "aud": "https://op.test",
            "iat": now,
            "exp": now + 60,
            "jti": "first",
            **changes,
        }
        return {name: value for name, value in given.items() if value is not None}

    return make


@pytest.fixture
def assertion(claims):
    def make(alg="ES256", key="p256", header=None, **changes):
        return sign({"alg": alg, "kid": key, **(header or {})}, claims(**changes), KEYS[key])

    return make


# --- client authentication


@pytest.fixture
def app():
    return Client(
        "app",
        secrets=(),
        jwks=JWKS,
        token_endpoint_auth_methods=["private_key_jwt"],
        redirect_uris=["https://app.test/auth/callback"],
    )


@pytest.fixture
def provider(provider, app):
    provider.register(app)
    return provider


@pytest.fixture
def raw(raw):
    raw.client_auth = None
    return raw


def proof(value, **form):
    return {"client_assertion_type": ASSERTION_TYPE, "client_assertion": value, **form}


async def token(raw, value, **form):
    return await raw.token(grant_type="client_credentials", **proof(value, **form))


@pytest.mark.parametrize(
    ("alg", "key"),
    [
        ("RS256", "rsa"),
        ("RS512", "rsa"),
        ("PS256", "rsa"),
        ("ES256", "p256"),
        ("ES384", "p384"),
        ("EdDSA", "ed"),
        ("Ed25519", "ed"),
    ],
)
async def test_client_proves_itself_with_a_key(raw, provider, assertion, alg, key):
    response = await token(raw, assertion(alg, key))
    assert response.status_code == 200, response.text
    assert provider.count("token", client_id="app", outcome="ok") == 1


@pytest.mark.parametrize("path", ["/token", "/revoke", "/introspect", "/par"])
async def test_every_endpoint_takes_the_assertion(raw, provider, assertion, path):
    form = {"grant_type": "client_credentials", "token": "x"}
    if path == "/par":
        form = raw.request()
    response = await raw.post(path, **form, **proof(assertion()))
    assert response.status_code in {200, 201}
    assert (await raw.post(path, **form, **proof(assertion()))).status_code == 401


async def test_assertion_may_come_with_the_client_it_is_about(raw, assertion):
    assert (await token(raw, assertion(), client_id="app")).status_code == 200
    response = await token(raw, assertion(jti="second"), client_id="other")
    assert response.json()["error"] == "invalid_request"


async def test_assertion_is_good_once(raw, assertion, clock):
    assert (await token(raw, assertion())).status_code == 200
    clock.advance(1)
    response = await token(raw, assertion())
    assert response.status_code == 401
    assert "jti" in response.json()["error_description"]
    assert (await token(raw, assertion(jti="second"))).status_code == 200


async def test_jti_of_a_refused_assertion_is_not_spent(raw, assertion):
    assert (await token(raw, assertion(exp=1))).status_code == 401
    assert (await token(raw, assertion())).status_code == 200


async def test_two_clients_may_use_the_same_jti(raw, provider, app, assertion):
    provider.register(replace(app, client_id="twin"))
    assert (await token(raw, assertion())).status_code == 200
    assert (await token(raw, assertion(iss="twin", sub="twin"))).status_code == 200


@pytest.mark.parametrize("typ", [None, "JWT", "client-authentication+jwt"])
async def test_type_may_say_what_it_is(raw, assertion, typ):
    header = {"typ": typ} if typ else None
    assert (await token(raw, assertion(header=header))).status_code == 200


@pytest.mark.parametrize(
    ("changes", "about"),
    [
        pytest.param({"aud": None}, "aud", id="no aud"),
        pytest.param({"aud": "https://other.test"}, "aud", id="other aud"),
        pytest.param({"aud": "https://op.test/"}, "aud", id="slash"),
        pytest.param({"aud": "https://op.test/token"}, "aud", id="token endpoint"),
        pytest.param({"aud": ["https://op.test"]}, "aud", id="list"),
        pytest.param({"aud": ["https://op.test", "https://evil.test"]}, "aud", id="two"),
        pytest.param({"exp": None}, "exp is missing", id="no exp"),
        pytest.param({"exp": "4000000000"}, "exp is missing", id="exp as text"),
        pytest.param({"exp": True}, "exp is missing", id="exp as bool"),
        pytest.param({"exp": float("nan")}, "signed JWT", id="exp not a number"),
        pytest.param({"exp": 1}, "expired", id="expired"),
        pytest.param({"exp": 1893456000}, "expired", id="expires now"),
        pytest.param({"exp": 1893456000 + 3601}, "future", id="exp far away"),
        pytest.param({"iat": 1893456001}, "iat", id="iat in the future"),
        pytest.param({"iat": "now"}, "iat", id="iat as text"),
        pytest.param({"iat": True}, "iat", id="iat as bool"),
        pytest.param({"nbf": 1893456001}, "nbf", id="nbf"),
        pytest.param({"jti": None}, "jti", id="no jti"),
        pytest.param({"jti": ""}, "jti", id="empty jti"),
        pytest.param({"jti": 5}, "jti", id="jti a number"),
        pytest.param({"iss": "other"}, "iss", id="iss"),
        pytest.param({"iss": None}, "iss", id="no iss"),
        pytest.param({"sub": "nobody"}, "unknown client", id="unknown sub"),
        pytest.param({"sub": None}, "unknown client", id="no sub"),
        pytest.param({"sub": "other"}, "sign", id="sub of somebody else"),
    ],
)
async def test_assertion_must_say_who_for_whom_and_how_long(raw, assertion, changes, about):
    response = await token(raw, assertion(**changes))
    assert response.status_code == 401
    assert response.json()["error"] == "invalid_client"
    assert about in response.json()["error_description"]


async def test_old_client_may_name_the_token_endpoint_and_nothing_else(
    raw, provider, app, assertion
):
    provider.register(replace(app, assertion_audience="token_endpoint"))
    assert (await token(raw, assertion(aud="https://op.test/token"))).status_code == 200
    assert (await token(raw, assertion(jti="second"))).status_code == 401


@pytest.mark.parametrize(
    "header",
    [
        pytest.param({"typ": "at+jwt"}, id="another type"),
        pytest.param({"typ": ["JWT"]}, id="type a list"),
        pytest.param({"crit": ["b64"], "b64": True}, id="crit"),
        pytest.param({"kid": "rsa"}, id="the name of another key"),
        pytest.param({"kid": "unknown"}, id="the name of no key"),
    ],
)
async def test_header_must_be_understood(raw, assertion, header):
    assert (await token(raw, assertion(header=header))).status_code == 401


async def test_assertion_without_kid_is_tried_with_every_key(raw, claims):
    value = sign({"alg": "ES256"}, claims(), KEYS["p256"])
    assert (await token(raw, value)).status_code == 200


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda c: f"{b64({'alg': 'none'})}.{b64(c)}.", id="none"),
        pytest.param(lambda c: f"{b64({'alg': 'none'})}.{b64(c)}.AA", id="none with a signature"),
        pytest.param(lambda c: f"{b64({})}.{b64(c)}.AA", id="no alg"),
        pytest.param(
            lambda c: sign({"alg": "ES256"}, c, ECKey.generate_key("P-256")), id="foreign key"
        ),
        pytest.param(
            lambda c: sign({"alg": "HS256"}, c, json.dumps(JWKS["keys"][0]).encode()),
            id="public key as a secret",
        ),
        pytest.param(lambda c: sign({"alg": "HS256"}, c, b""), id="empty secret"),
        pytest.param(lambda c: f"{b64({'alg': 'ES256', 'kid': 'rsa'})}.{b64(c)}.AA", id="mixed"),
        pytest.param(lambda c: f"{b64({'alg': 'ES256'})}.{b64([c])}.AA", id="list of claims"),
        pytest.param(lambda c: f"{b64(['ES256'])}.{b64(c)}.AA", id="list for a header"),
        pytest.param(lambda c: f"{b64(b'[' * 30_000)}.{b64(c)}.AA", id="deep"),
        pytest.param(lambda c: f"{b64(c)}.{b64(c)}", id="two parts"),
        pytest.param(lambda c: "x.y.z", id="no json"),
        pytest.param(lambda c: "x", id="no jwt"),
    ],
)
async def test_assertion_that_the_client_did_not_sign_is_refused(raw, claims, make):
    response = await token(raw, make(claims()))
    assert response.status_code == 401
    assert response.json()["error"] == "invalid_client"


@pytest.mark.parametrize("jwk", [{"use": "enc"}, {"alg": "ES384"}, {"key_ops": ["sign"]}])
async def test_key_that_is_for_something_else_signs_nothing(raw, provider, app, assertion, jwk):
    key = KEYS["p256"].as_dict(private=False)
    provider.register(replace(app, jwks={"keys": [{**key, **jwk}]}))
    assert (await token(raw, assertion())).status_code == 401


async def test_spoiled_signature_is_refused(raw, assertion):
    head, _, signature = assertion().rpartition(".")
    spoiled = ("A" if signature[0] != "A" else "B") + signature[1:]
    assert (await token(raw, f"{head}.{spoiled}")).status_code == 401


async def test_key_is_of_no_use_to_a_client_that_may_not_use_it(raw, provider, app, assertion):
    methods = ["client_secret_basic"]
    provider.register(replace(app, secrets=["s"], token_endpoint_auth_methods=methods))
    assert (await token(raw, assertion())).status_code == 401


async def test_client_that_has_registered_no_key_signs_nothing(raw, provider, app, assertion):
    provider.register(replace(app, jwks=None))
    assert (await token(raw, assertion())).status_code == 401


@pytest.mark.parametrize("extra", ["=", "==", "\n", "+"])
async def test_signature_has_one_spelling(raw, assertion, extra):
    assert (await token(raw, assertion() + extra)).status_code == 401


async def test_client_with_a_key_is_not_public(raw):
    response = await raw.token(grant_type="client_credentials", client_id="app")
    assert response.status_code == 401


@pytest.mark.parametrize(
    "form",
    [
        pytest.param({"client_assertion_type": None}, id="no type"),
        pytest.param({"client_assertion_type": "urn:saml2"}, id="another type"),
        pytest.param({"client_assertion": None}, id="type alone"),
        pytest.param({"client_secret": "x"}, id="and a secret"),
    ],
)
async def test_assertion_comes_with_its_type_and_nothing_beside(raw, assertion, form):
    response = await token(raw, assertion(), **form)
    assert response.json()["error"] == "invalid_request"


async def test_assertion_and_header_are_two_ways_at_once(raw, assertion):
    raw.client_auth = ("app", "secret")
    response = await token(raw, assertion())
    assert response.json()["error"] == "invalid_request"


async def test_client_proves_itself_with_a_secret_it_does_not_send(raw, provider, app, claims):
    methods = ["client_secret_jwt"]
    provider.register(replace(app, secrets=[SECRET], token_endpoint_auth_methods=methods))
    value = sign({"alg": "HS256"}, claims(), SECRET.encode())
    assert (await token(raw, value)).status_code == 200
    wrong = sign({"alg": "HS256"}, claims(jti="second"), b"wrong")
    assert (await token(raw, wrong)).status_code == 401
    response = await raw.token(
        grant_type="client_credentials", client_id="app", client_secret=SECRET
    )
    assert response.status_code == 401


@pytest.mark.parametrize("alg", ["none", "ES256", "HS1"])
async def test_secret_signs_with_an_hmac_that_is_named(raw, provider, app, claims, alg):
    methods = ["client_secret_jwt"]
    provider.register(replace(app, secrets=[SECRET], token_endpoint_auth_methods=methods))
    assert (await token(raw, sign({"alg": alg}, claims(), SECRET.encode()))).status_code == 401


async def test_secret_signs_nothing_for_a_client_that_may_not_use_it_so(raw, provider, app, claims):
    provider.register(replace(app, secrets=[SECRET]))
    value = sign({"alg": "HS256"}, claims(), SECRET.encode())
    assert (await token(raw, value)).status_code == 401


async def test_discovery_announces_methods_and_algorithms(raw, provider, app):
    methods = ["private_key_jwt", "client_secret_jwt"]
    for name in ("token", "revocation", "introspection"):
        metadata = await raw.metadata()
        assert "private_key_jwt" in metadata[f"{name}_endpoint_auth_methods_supported"]
        algs = metadata[f"{name}_endpoint_auth_signing_alg_values_supported"]
        assert {"RS256", "PS256", "ES256", "EdDSA"} <= set(algs)
        assert not {"none", "HS256"} & set(algs)
    provider.register(replace(app, token_endpoint_auth_methods=methods))
    algs = (await raw.metadata())["token_endpoint_auth_signing_alg_values_supported"]
    assert {"HS256", "ES256"} <= set(algs)
    provider.register(Client("app"))
    metadata = await raw.metadata()
    assert "token_endpoint_auth_signing_alg_values_supported" not in metadata


async def test_assertions_are_masked(raw, provider, assertion):
    value = assertion()
    await token(raw, value)
    assert provider.requests[-1].client_id == "app"
    assert value not in repr(provider.requests)


# --- the JWT bearer grant


@pytest.fixture
def bearer(provider, app):
    """Let the client use assertions as grants, of its own and of a trusted issuer."""
    grants = (*app.grant_types, JWT_BEARER)
    methods = ["client_secret_basic"]
    provider.register(
        replace(app, secrets=["secret"], token_endpoint_auth_methods=methods, grant_types=grants)
    )
    provider.trust_issuer("https://sts.test", {"keys": [JWKS["keys"][0]]})


async def redeem(raw, value, **form):
    raw.client_auth = ("app", "secret")
    return await raw.token(grant_type=JWT_BEARER, assertion=value, **form)


@pytest.mark.usefixtures("bearer")
async def test_trusted_issuer_speaks_for_a_user(raw, provider, assertion, segments):
    value = assertion("RS256", "rsa", iss="https://sts.test", sub="alice")
    answer = (await redeem(raw, value, scope="openid api")).json()
    assert set(answer) == {"access_token", "expires_in", "id_token", "scope", "token_type"}
    assert segments(answer["id_token"])[1]["sub"] == "alice"
    assert provider.is_active(answer["access_token"])
    assert provider.requests[-1].sub == "alice"
    provider.end_grants("alice")
    assert provider.is_revoked(answer["access_token"])


@pytest.mark.usefixtures("bearer")
async def test_client_speaks_for_a_user_or_for_itself_with_its_own_key(raw, assertion):
    answer = (await redeem(raw, assertion(sub="alice"))).json()
    assert answer["scope"] == "api"
    answer = (await redeem(raw, assertion(jti="second"))).json()
    assert answer["scope"] == "api"
    response = await redeem(raw, assertion(jti="third"), scope="openid")
    assert response.json()["error"] == "invalid_scope"


@pytest.mark.usefixtures("bearer")
@pytest.mark.parametrize(
    ("changes", "form", "error"),
    [
        pytest.param({"sub": "mallory"}, {}, "invalid_grant", id="unknown user"),
        pytest.param({"sub": None}, {}, "invalid_grant", id="no sub"),
        pytest.param({"iss": "https://evil.test"}, {}, "invalid_grant", id="unknown issuer"),
        pytest.param({"iss": "other"}, {}, "invalid_grant", id="another client"),
        pytest.param({"iss": "https://sts.test"}, {}, "invalid_grant", id="not the issuer's key"),
        pytest.param({"aud": "https://other.test"}, {}, "invalid_grant", id="aud"),
        pytest.param({"exp": None}, {}, "invalid_grant", id="no exp"),
        pytest.param({"exp": 1}, {}, "invalid_grant", id="expired"),
        pytest.param({"jti": 5}, {}, "invalid_grant", id="jti a number"),
        pytest.param({}, {"scope": "openid offline_access"}, "invalid_scope", id="offline"),
        pytest.param({}, {"scope": "admin"}, "invalid_scope", id="scope"),
        pytest.param({}, {"resource": "relative"}, "invalid_target", id="resource"),
    ],
)
async def test_assertion_that_is_not_right_gives_nothing(raw, assertion, changes, form, error):
    value = assertion(**{"sub": "alice", **changes})
    response = await redeem(raw, value, **form)
    assert response.status_code == 400
    assert response.json()["error"] == error
    assert (await redeem(raw, assertion(sub="alice"))).status_code == 200


@pytest.mark.usefixtures("bearer")
async def test_granted_assertion_with_a_jti_is_good_once(raw, assertion):
    assert (await redeem(raw, assertion(sub="alice"))).status_code == 200
    assert (await redeem(raw, assertion(sub="alice"))).json()["error"] == "invalid_grant"
    for _ in range(2):
        assert (await redeem(raw, assertion(sub="alice", jti=None))).status_code == 200


@pytest.mark.usefixtures("bearer")
@pytest.mark.parametrize("value", ["", "x.y.z"])
async def test_what_is_no_assertion_gives_nothing(raw, value):
    assert (await redeem(raw, value)).json()["error"] in {"invalid_request", "invalid_grant"}


@pytest.mark.usefixtures("bearer")
async def test_assertion_does_not_stand_in_for_the_client(raw, assertion):
    response = await raw.token(grant_type=JWT_BEARER, assertion=assertion(sub="alice"))
    assert response.status_code == 401


@pytest.mark.usefixtures("bearer")
async def test_grant_is_announced_and_its_assertion_masked(raw, provider, assertion):
    value = assertion(sub="alice")
    await redeem(raw, value)
    assert JWT_BEARER in (await raw.metadata())["grant_types_supported"]
    assert value not in repr(provider.requests)


@pytest.mark.parametrize(
    "jwks",
    [{}, {"keys": []}, {"keys": [{"kty": "oct", "k": "AA"}]}, {"keys": [5]}],
    ids=["empty", "no key", "a secret", "a number"],
)
def test_issuer_needs_keys(provider, jwks):
    with pytest.raises(ValueError, match="jwks"):
        provider.trust_issuer("https://sts.test", jwks)
