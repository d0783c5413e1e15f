"""Ask the provider whether a token is good, and whose it is (RFC 7662)."""

from __future__ import annotations

import hashlib
from dataclasses import KW_ONLY, dataclass, field

import httpx


@dataclass(slots=True)
class Introspection:
    """One client's way to the introspection endpoint of one provider."""

    issuer: str
    _: KW_ONLY
    client_id: str
    client_secret: str = field(repr=False)
    _endpoint: str | None = field(default=None, init=False)

    async def claims(self, token: str) -> dict[str, object] | None:
        """Return what the provider says about `token`; None if it is expired or revoked."""
        async with httpx.AsyncClient(auth=(self.client_id, self.client_secret)) as http:
            answer = await http.post(await self._find_endpoint(http), data={"token": token})
        answer.raise_for_status()
        claims: dict[str, object] = answer.json()
        return claims if claims.get("active") is True else None

    async def _find_endpoint(self, http: httpx.AsyncClient) -> str:
        if self._endpoint is None:
            address = f"{self.issuer.rstrip('/')}/.well-known/openid-configuration"
            document = (await http.get(address)).raise_for_status().json()
            self._endpoint = str(document["introspection_endpoint"])
        return self._endpoint


def fingerprint(token: str) -> str:
    """Give a token a name that can be shown, so that two of them can be told apart."""
    digest = hashlib.sha256(token.encode()).hexdigest()
    return f"{digest[:4]} {digest[4:8]}"
