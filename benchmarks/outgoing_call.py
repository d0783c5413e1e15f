"""What a token on an outgoing call costs: ours beside its peers, in one run.

(a) bare httpx, with the token in a header of the client
(b) our ClientCredentialsAuth, token in memory
(c) our UserTokenAuth, session loaded, token fresh
(d) httpx-auth's OAuth2ClientCredentials, token in its cache
(e) bare httpx2, with the token in a header of the client
(f) our ClientCredentialsAuth on httpx2
(g) Authlib's AsyncOAuth2Client, which is an httpx2 client where that is installed

All with a mock transport, so that nothing but the client is measured. CPU time is
counted, rounds alternate, and the median of the rounds is shown. What each adds is its
difference to the bare client of the same library.

    pip install httpx-auth==0.23.1
    python benchmarks/outgoing_call.py
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import statistics
import time
import warnings
from dataclasses import dataclass, field

import httpx
import httpx2

import tokenward.httpx
import tokenward.httpx2
from tokenward import AccessToken, ClientCredentials, ClientCredentialsTokens
from tokenward.clock import aware
from tokenward.tokens.session import current_session

API = "https://api.test"
OP = "https://op.test/token"
TOKEN = "a" * 1200
ANSWER = {"access_token": TOKEN, "token_type": "Bearer", "expires_in": 3600}


def answer(library):
    """Answer for the provider and for the API, which wants the token."""

    def handle(request):
        if request.url.path == "/token":
            return library.Response(200, json=ANSWER)
        if request.headers["authorization"] != f"Bearer {TOKEN}":
            raise ValueError("the token is missing")
        return library.Response(200)

    return library.MockTransport(handle)


@dataclass
class SessionOfOne:
    """A session whose user has a fresh token, as the middleware would leave it."""

    token_of_user: AccessToken = field(
        default_factory=lambda: AccessToken(TOKEN, expires_at=aware(time.time() + 3600))
    )

    async def token(self, *, target=None, rejected=None) -> AccessToken:
        return self.token_of_user


def our_auth(adapter, http) -> object:
    tokens = ClientCredentialsTokens()
    tokens.add("api", ClientCredentials("m2m", token_endpoint=OP, client_secret="s", http=http))
    return adapter.ClientCredentialsAuth(tokens, "api", origins=API)


def bare(library):
    headers = {"authorization": f"Bearer {TOKEN}"}
    return library.AsyncClient(transport=answer(library), headers=headers)


def ours(library, adapter):
    auth = our_auth(adapter, library.AsyncClient(transport=answer(library)))
    return library.AsyncClient(transport=answer(library), auth=auth)


def ours_for_users():
    current_session.set(SessionOfOne())
    auth = tokenward.httpx.UserTokenAuth(origins=API)
    return httpx.AsyncClient(transport=answer(httpx), auth=auth)


def httpx_auth():
    peer = importlib.import_module("httpx_auth")
    auth = peer.OAuth2ClientCredentials(
        OP, "m2m", "s", client=httpx.Client(transport=answer(httpx))
    )
    return httpx.AsyncClient(transport=answer(httpx), auth=auth)


async def authlib():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kind = importlib.import_module("authlib.integrations.httpx_client").AsyncOAuth2Client
    library = httpx2 if issubclass(kind, httpx2.AsyncClient) else httpx
    client = kind(
        "m2m", "s", token_endpoint=OP, grant_type="client_credentials", transport=answer(library)
    )
    await client.fetch_token()
    return client


async def time_calls(client, calls: int) -> float:
    """Return microseconds per call."""
    begun = time.process_time()
    for _ in range(calls):
        await client.get(f"{API}/")
    return (time.process_time() - begun) / calls * 1e6


async def measure(rounds: int, calls: int) -> dict[str, float]:
    clients = {
        "a  bare httpx": bare(httpx),
        "b  our ClientCredentialsAuth": ours(httpx, tokenward.httpx),
        "c  our UserTokenAuth": ours_for_users(),
        "d  httpx-auth 0.23.1": httpx_auth(),
        "e  bare httpx2": bare(httpx2),
        "f  ours on httpx2": ours(httpx2, tokenward.httpx2),
        "g  Authlib's AsyncOAuth2Client": await authlib(),
    }
    for client in clients.values():
        assert (await client.get(f"{API}/")).status_code == 200
    times: dict[str, list[float]] = {name: [] for name in clients}
    for _ in range(rounds):
        for name, client in clients.items():
            times[name].append(await time_calls(client, calls))
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description="What a token on an outgoing call costs.")
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--calls", type=int, default=400)
    options = parser.parse_args()
    times = asyncio.run(measure(options.rounds, options.calls))
    for name, microseconds in times.items():
        print(f"{name:34} {microseconds:8.1f} us")
    a, b, c, d, e, f, g = times.values()
    print()
    print(f"(b) - (a) {b - a:8.1f} us    aim: at most 10, and less than (d) and (g)")
    print(f"(c) - (a) {c - a:8.1f} us    aim: at most 10")
    print(f"(d) - (a) {d - a:8.1f} us")
    print(f"(f) - (e) {f - e:8.1f} us    aim: at most 10")
    print(f"(g) - (e) {g - e:8.1f} us")


if __name__ == "__main__":
    main()
