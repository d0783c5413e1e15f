"""What the provider signs."""

from __future__ import annotations

import base64
import hashlib
import hmac

import httpx
import pytest
from joserfc import jwt
from joserfc.errors import BadSignatureError
from joserfc.jwk import ECKey, KeySet

from tokenward.testing import (
    BrokenSignature,
    Client,
    ClockSkew,
    ForeignKey,
    MissingClaim,
    Provider,
    UnsignedIdToken,
    User,
    WrongAlg,
    WrongClaim,
    WrongHeader,
    WrongKid,
)

ALGORITHMS = ["RS256", "PS256", "ES256", "Ed25519", "EdDSA", "HS256"]


async def verified(raw, token):
    keys = KeySet.import_key_set((await raw.http.get("/jwks")).json())
    return jwt.decode(token, keys, algorithms=ALGORITHMS)


@pytest.mark.parametrize("alg", ["RS256", "PS256", "ES256"])
async def test_id_token_is_signed_as_the_client_is_registered(provider, raw, alg):
    app = Client("app", redirect_uris=[raw.callback], id_token_signed_response_alg=alg)
    provider.register(app)
    token = await verified(raw, (await raw.login())["id_token"])
    assert token.header["alg"] == alg


@pytest.mark.filterwarnings("ignore:EdDSA is deprecated")
async def test_id_token_can_be_signed_with_ed25519(provider, raw):
    app = Client("app", redirect_uris=[raw.callback], id_token_signed_response_alg="EdDSA")
    provider.register(app)
    token = await verified(raw, (await raw.login())["id_token"])
    assert token.header["alg"] == "EdDSA"
    metadata = (await raw.http.get("/.well-known/openid-configuration")).json()
    assert metadata["id_token_signing_alg_values_supported"] == ["EdDSA", "RS256"]


async def test_id_token_says_who_logged_in_where_and_when(raw, clock):
    answer = await raw.login(scope="openid profile")
    claims = (await verified(raw, answer["id_token"])).claims
    sid = claims.pop("sid")
    assert sid
    digest = hashlib.sha256(answer["access_token"].encode()).digest()[:16]
    assert claims == {
        "iss": "https://op.test",
        "sub": "alice",
        "aud": "app",
        "iat": int(clock()),
        "exp": int(clock()) + 300,
        "auth_time": int(clock()),
        "nonce": "the-nonce",
        "at_hash": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
        "name": "Alice",
        "r": 1,
    }


async def test_standard_claims_need_their_scope_and_own_claims_do_not(raw):
    claims = (await verified(raw, (await raw.login(scope="openid email"))["id_token"])).claims
    assert claims["email"] == "a@x.org"
    assert "name" not in claims
    assert claims["r"] == 1


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        pytest.param(WrongClaim({"nonce": "x"}), {"nonce": "x"}, id="nonce"),
        pytest.param(WrongClaim({"aud": ["a", "b"]}), {"aud": ["a", "b"]}, id="aud"),
        pytest.param(MissingClaim("sub", "exp"), {"sub": None, "exp": None}, id="missing"),
    ],
)
async def test_claims_can_be_wrong_under_a_good_signature(provider, raw, fault, expected):
    provider.misbehave("token", fault)
    claims = (await verified(raw, (await raw.login())["id_token"])).claims
    assert {name: claims.get(name) for name in expected} == expected


async def test_clock_of_the_provider_can_be_off(provider, raw, clock):
    provider.misbehave("token", ClockSkew(-400))
    claims = (await verified(raw, (await raw.login())["id_token"])).claims
    now = int(clock())
    assert (claims["iat"], claims["exp"], claims["auth_time"]) == (now - 400, now - 100, now - 400)


@pytest.mark.parametrize("alg", ["none", "nOnE"])
async def test_id_token_can_be_unsigned(provider, raw, segments, alg):
    provider.misbehave("token", UnsignedIdToken(alg))
    header, claims, signature = segments((await raw.login())["id_token"])
    assert header["alg"] == alg
    assert claims["sub"] == "alice"
    assert signature == b""


@pytest.mark.parametrize("fault", [ForeignKey(), BrokenSignature()])
async def test_signature_can_be_bad_under_a_known_kid(provider, raw, segments, fault):
    provider.misbehave("token", fault)
    token = (await raw.login())["id_token"]
    keys = (await raw.http.get("/jwks")).json()["keys"]
    assert segments(token)[0]["kid"] == keys[0]["kid"]
    with pytest.raises(BadSignatureError):
        await verified(raw, token)


async def test_kid_can_be_unknown_or_absent(provider, raw, segments):
    provider.misbehave("token", WrongKid("who"))
    provider.misbehave("token", WrongKid(None))
    assert segments((await raw.login())["id_token"])[0]["kid"] == "who"
    assert "kid" not in segments((await raw.login())["id_token"])[0]


async def test_typ_can_be_that_of_an_access_token(provider, raw):
    provider.misbehave("token", WrongHeader({"typ": "at+jwt"}))
    assert (await verified(raw, (await raw.login())["id_token"])).header["typ"] == "at+jwt"


async def test_id_token_can_be_signed_with_another_published_key(provider, raw):
    provider.misbehave("token", WrongAlg("ES256"))
    token = await verified(raw, (await raw.login())["id_token"])
    assert token.header["alg"] == "ES256"


@pytest.mark.parametrize("secret", [None, b"a public key as text"])
async def test_id_token_can_be_signed_with_a_shared_secret(provider, raw, segments, secret):
    provider.misbehave("token", WrongAlg("HS256", secret=secret))
    token = (await raw.login())["id_token"]
    text, _, _ = token.rpartition(".")
    key = secret or b"secret"
    assert segments(token)[2] == hmac.digest(key, text.encode(), "sha256")


async def test_several_faults_hit_one_token(provider, raw, segments):
    provider.misbehave("token", WrongClaim({"iss": "https://evil.test"}), UnsignedIdToken())
    header, claims, _ = segments((await raw.login())["id_token"])
    assert (header["alg"], claims["iss"]) == ("none", "https://evil.test")


async def test_refreshed_id_token_can_be_wrong_too(provider, raw, segments):
    token = (await raw.login())["refresh_token"]
    provider.misbehave("token", WrongClaim({"sub": "bob"}))
    assert segments((await raw.refresh(token)).json()["id_token"])[1]["sub"] == "bob"


# --- keys


async def kids(raw):
    return [key["kid"] for key in (await raw.http.get("/jwks")).json()["keys"]]


async def test_key_set_holds_one_public_key_to_begin_with(raw):
    response = await raw.http.get("/jwks")
    assert response.headers["cache-control"] == "public, max-age=300"
    [key] = response.json()["keys"]
    assert set(key) == {"kty", "n", "e", "use", "kid"}


async def test_rotation_publishes_the_new_key_beside_the_old(provider, raw):
    old = (await raw.login())["id_token"]
    before = await kids(raw)
    provider.rotate_keys()
    after = await kids(raw)
    assert after[:-1] == before
    assert (await verified(raw, (await raw.login())["id_token"])).header["kid"] == after[-1]
    assert (await verified(raw, old)).header["kid"] == before[0]


async def test_rotation_can_drop_the_old_key(provider, raw):
    before = await kids(raw)
    provider.rotate_keys(keep_old=False)
    after = await kids(raw)
    assert len(after) == 1
    assert after != before


async def test_rotation_can_put_a_new_key_under_the_old_name(provider, raw):
    old = (await raw.login())["id_token"]
    before = await kids(raw)
    provider.rotate_keys(keep_old=False, same_kid=True)
    assert await kids(raw) == before
    with pytest.raises(BadSignatureError):
        await verified(raw, old)


async def test_two_issuers_never_share_a_key(raw):
    other = Provider("https://other.test", clients=[Client("app")])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(other)) as http:
        theirs = (await http.get("https://other.test/jwks")).json()["keys"]
    ours = (await raw.http.get("/jwks")).json()["keys"]
    assert ours[0]["n"] != theirs[0]["n"]


async def test_keys_can_be_given(raw, clock):
    key = ECKey.generate_key("P-256", {"kid": "mine"})
    app = Client("app", redirect_uris=[raw.callback], id_token_signed_response_alg="ES256")
    op = Provider("https://op.test", clients=[app], users=[User("alice")], keys=[key], clock=clock)
    op.sign_in_automatically("alice")
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(op), base_url="https://op.test"
    ) as raw.http:
        token = await verified(raw, (await raw.login())["id_token"])
    assert token.header["kid"] == "mine"


# --- logout_token


async def test_logout_token_is_what_back_channel_logout_sends(provider, raw, clock):
    token = await verified(raw, provider.logout_token("app", sub="alice", sid="s"))
    assert token.header["typ"] == "logout+jwt"
    assert token.claims.pop("jti")
    assert token.claims == {
        "iss": "https://op.test",
        "aud": "app",
        "iat": int(clock()),
        "exp": int(clock()) + 120,
        "events": {"http://schemas.openid.net/event/backchannel-logout": {}},
        "sub": "alice",
        "sid": "s",
    }


async def test_logout_token_can_be_wrong(provider, segments):
    token = provider.logout_token("app", sid="s", faults=[WrongClaim({"nonce": "n"})])
    _, claims, _ = segments(token)
    assert claims["nonce"] == "n"
    assert "sub" not in claims
