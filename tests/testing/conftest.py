"""A raw client of the provider: nothing of tokenward's client side."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from tokenward.testing import Client, FrozenClock, Provider, User

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ISSUER = "https://op.test"
CALLBACK = "https://app.test/auth/callback"
VERIFIER = "v" * 43
CHALLENGE = (
    base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
)


@dataclass
class Raw:
    """What a test sends to the provider, piece by piece."""

    http: httpx.AsyncClient
    callback: str = CALLBACK
    client_auth: tuple[str, str] | None = ("app", "secret")

    def request(self, **changes: str | None) -> dict[str, str]:
        given: dict[str, str | None] = {
            "response_type": "code",
            "client_id": "app",
            "redirect_uri": self.callback,
            "scope": "openid profile api offline_access",
            "state": "the-state",
            "nonce": "the-nonce",
            "code_challenge": CHALLENGE,
            "code_challenge_method": "S256",
            **changes,
        }
        return {name: value for name, value in given.items() if value is not None}

    async def authorize(self, **changes: str | None) -> httpx.Response:
        return await self.http.get("/authorize", params=self.request(**changes))

    async def code(self, **changes: str | None) -> str:
        return query(await self.authorize(**changes))["code"]

    async def token(self, **form: object) -> httpx.Response:
        return await self.post("/token", **form)

    async def metadata(self) -> dict[str, object]:
        response = await self.http.get("/.well-known/openid-configuration")
        found: dict[str, object] = response.json()
        return found

    async def post(self, path: str, **form: object) -> httpx.Response:
        given = {name: value for name, value in form.items() if value is not None}
        return await self.http.post(path, data=given, auth=self.client_auth)

    async def redeem(self, code: str, **changes: str | None) -> httpx.Response:
        form = {"redirect_uri": self.callback, "code_verifier": VERIFIER, **changes}
        return await self.token(grant_type="authorization_code", code=code, **form)

    async def login(self, **changes: str | None) -> dict[str, str]:
        response = await self.redeem(await self.code(**changes))
        assert response.status_code == 200, response.text
        answer: dict[str, str] = response.json()
        return answer

    async def refresh(self, refresh_token: str, **form: str | None) -> httpx.Response:
        return await self.token(grant_type="refresh_token", refresh_token=refresh_token, **form)


def query(response: httpx.Response) -> dict[str, str]:
    assert response.status_code == 303, response.text
    found = parse_qs(urlsplit(response.headers["location"]).query, strict_parsing=True)
    assert all(len(values) == 1 for values in found.values())
    return {name: values[0] for name, values in found.items()}


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock()


@pytest.fixture
def provider(clock: FrozenClock) -> Provider:
    provider = Provider(
        ISSUER,
        clients=[
            Client(
                "app",
                secrets=["secret", "next-secret"],
                redirect_uris=[CALLBACK, "https://app.test/other?x=1"],
                post_logout_redirect_uris=["https://app.test/bye"],
            ),
            Client("other", secrets=["o"], redirect_uris=[CALLBACK]),
            Client("spa", secrets=(), redirect_uris=[CALLBACK]),
        ],
        users=[
            User("alice", name="Alice", password="wonderland", claims={"email": "a@x.org", "r": 1}),
            User("bob"),
        ],
        clock=clock,
    )
    provider.sign_in_automatically("alice")
    return provider


@pytest.fixture
async def raw(provider: Provider) -> AsyncIterator[Raw]:
    transport = httpx.ASGITransport(provider)
    async with httpx.AsyncClient(transport=transport, base_url=ISSUER) as http:
        yield Raw(http)


@pytest.fixture
def segments():
    """Return header and claims of a JWT, unverified."""

    def split(token: str) -> tuple[dict[str, object], dict[str, object], bytes]:
        header, claims, signature = (
            base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)) for part in token.split(".")
        )
        return json.loads(header), json.loads(claims), signature

    return split


@pytest.fixture(name="query")
def query_fixture():
    return query
