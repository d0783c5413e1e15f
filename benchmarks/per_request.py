"""What a request costs: ours beside Starlette's own, in one run.

(a) the bare route
(b) our middleware around it, session untouched
(c) the same with the user's fresh access token, read from the cookie
(d) Starlette's SessionMiddleware, with the same tokens read from its signed cookie
(e) as (d), and the session is changed, so that its cookie is sent again
(f) as (c), with the session in SQLite
(g) a callback: state, code, id_token, new session; without the time of the provider

In (c), (d) and (e) the endpoint looks whether the token is over, and the session has the
same in it: three tokens, their lifetime and scope, the user's claims. In (d) that is the
most that one cookie holds. README.md beside this file tells the figures.

The applications are called as a server would call them, without a socket, and CPU
time is counted, so that other load on the machine does not show. Rounds alternate, so
that a busy moment of the machine falls on all alike; the least of the rounds is shown.

    python benchmarks/per_request.py
"""

from __future__ import annotations

import argparse
import asyncio
import binascii
import json
import os
import random
import tempfile
import time
from base64 import b64encode, urlsafe_b64encode
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import itsdangerous
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from joserfc import jwk, jwt
from starlette.applications import Starlette
from starlette.middleware.sessions import SessionMiddleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from tokenward import (
    OpenIDProvider,
    TokenManagement,
    TokenManagementMiddleware,
    get_user_access_token,
)
from tokenward.stores.sqlite import SQLiteStore
from tokenward.web.cookies import Cookie

ISSUER = "https://op.test"
SECRET_KEY = "Zk3rT9vQx1LmP7sWc5Yb2NfHd8Ug4JaE6RoXiKtV"
KEY = jwk.RSAKey.generate_key(2048, {"kid": "1", "use": "sig", "alg": "RS256"}, private=True)


def made_up_token(size: int) -> str:
    return urlsafe_b64encode(random.Random(size).randbytes(size)).decode()[:size]


# The sizes of a Keycloak of today, less what Starlette's cookie has no room for.
TOKENS = {"access_token": made_up_token(1000), "refresh_token": made_up_token(600)}
CLAIMS = {
    "sub": "f1d2a3b4-5c6d-4e7f-8a9b-0c1d2e3f4a5b",
    "name": "Alice Example",
    "email": "alice@op.test",
    "sid": "0a1b2c3d-4e5f-4061-8273-94a5b6c7d8e9",
}


class CannedProvider:
    """Answers like a provider, and notes the time that it took."""

    def __init__(self) -> None:
        self.nonce = ""
        self.spent = 0.0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        begun = time.process_time()
        answer = httpx.Response(200, json=self._answer(request.url.path))
        self.spent += time.process_time() - begun
        return answer

    def _answer(self, path: str) -> object:
        if path == "/.well-known/openid-configuration":
            return {
                "issuer": ISSUER,
                "authorization_endpoint": f"{ISSUER}/authorize",
                "token_endpoint": f"{ISSUER}/token",
                "jwks_uri": f"{ISSUER}/jwks",
                "response_types_supported": ["code"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["RS256"],
            }
        if path == "/jwks":
            return {"keys": [KEY.as_dict(private=False)]}
        now = int(time.time())
        claims = {
            **CLAIMS, "iss": ISSUER, "aud": "app", "nonce": self.nonce,
            "iat": now, "exp": now + 300, "auth_time": now,
        }  # fmt: skip
        id_token = jwt.encode({"alg": "RS256", "kid": "1"}, claims, KEY)
        return {**TOKENS, "id_token": id_token, "token_type": "Bearer", "expires_in": 3600}


def management(provider: CannedProvider, **settings: object) -> TokenManagement:
    http = httpx.AsyncClient(transport=httpx.MockTransport(provider))
    return TokenManagement(
        provider=OpenIDProvider(
            ISSUER, client_id="app", client_secret="secret", scope="openid", http=http
        ),
        public_url="https://app.test",
        secret_key=SECRET_KEY,
        **settings,
    )


async def nothing(request):
    return PlainTextResponse("ok")


async def our_token(request):
    token = await get_user_access_token(request)
    return PlainTextResponse(str(len(token.value)))


async def their_token(request):
    tokens = request.session["tokens"]
    assert tokens["expires_at"] > time.time() + 60
    return PlainTextResponse(str(len(tokens["access_token"])))


async def their_token_sent_again(request):
    request.session["seen"] = int(time.time())
    return await their_token(request)


def their_cookie(id_token: str) -> str:
    """Return the cookie of Starlette's session with what ours has in it."""
    lifetime = {"token_type": "Bearer", "expires_at": int(time.time()) + 3600, "scope": "openid"}
    session = {"tokens": {**TOKENS, "id_token": id_token, **lifetime}, "user": CLAIMS}
    signer = itsdangerous.TimestampSigner(SECRET_KEY)
    value = signer.sign(b64encode(json.dumps(session).encode())).decode()
    # More than that no browser keeps.
    assert len(value) < 4096, len(value)
    return f"session={value}"


def application(endpoint) -> Starlette:
    return Starlette(routes=[Route("/", endpoint)])


def scope_of(path: str, query: str = "", cookie: str = "") -> dict:
    return {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET",
        "scheme": "https", "path": path, "raw_path": path.encode(),
        "query_string": query.encode(), "root_path": "", "client": ("127.0.0.1", 1),
        "server": ("app.test", 443),
        "headers": [(b"host", b"app.test"), *([(b"cookie", cookie.encode())] if cookie else [])],
    }  # fmt: skip


async def receive():
    return {"type": "http.request", "body": b"", "more_body": False}


class Sink:
    """Takes an answer."""

    def __init__(self) -> None:
        self.messages: list[dict] = []

    async def __call__(self, message) -> None:
        self.messages.append(message)

    @property
    def status(self) -> int:
        return self.messages[0]["status"]

    def header(self, wanted: bytes) -> list[str]:
        fields = self.messages[0]["headers"]
        return [value.decode() for name, value in fields if name == wanted]

    def cookies(self) -> str:
        kept = [line for line in self.header(b"set-cookie") if "Max-Age=0" not in line]
        return "; ".join(line.partition(";")[0] for line in kept)


async def call(app, scope: dict) -> Sink:
    sink = Sink()
    await app(dict(scope), receive, sink)
    return sink


async def start_login(app, provider: CannedProvider) -> tuple[str, str]:
    """Return the cookie and the query with which the provider sends a browser back."""
    sink = await call(app, scope_of("/auth/login"))
    sent = parse_qs(urlsplit(sink.header(b"location")[0]).query)
    provider.nonce = sent["nonce"][0]
    return sink.cookies(), f"code=c&state={sent['state'][0]}"


async def logged_in(app, provider: CannedProvider) -> str:
    cookie, query = await start_login(app, provider)
    sink = await call(app, scope_of("/auth/callback", query, cookie))
    assert sink.status == 303, sink.messages
    # The mark that stops login loops is gone after a minute.
    return "; ".join(pair for pair in sink.cookies().split("; ") if "-loop=" not in pair)


async def time_calls(app, scope: dict, calls: int) -> float:
    """Return microseconds per call."""
    begun = time.process_time()
    for _ in range(calls):
        await app(dict(scope), receive, Sink())
    return (time.process_time() - begun) / calls * 1e6


async def time_callbacks(app, provider: CannedProvider, calls: int) -> float:
    total = 0.0
    for _ in range(calls):
        cookie, query = await start_login(app, provider)
        provider.spent = 0.0
        begun = time.process_time()
        await call(app, scope_of("/auth/callback", query, cookie))
        total += time.process_time() - begun - provider.spent
    return total / calls * 1e6


async def measure(rounds: int, calls: int, folder: str) -> dict[str, float]:
    provider = CannedProvider()
    cookie_auth = management(provider)
    stored_auth = management(provider, store=SQLiteStore(Path(folder) / "sessions.db"))
    untouched, reading = application(nothing), application(our_token)
    stored = application(our_token)
    for app, auth in ((untouched, cookie_auth), (reading, cookie_auth), (stored, stored_auth)):
        app.add_middleware(TokenManagementMiddleware, auth=auth)
    cookie = await logged_in(reading, provider)
    stored_cookie = await logged_in(stored, provider)

    theirs, sent_again = application(their_token), application(their_token_sent_again)
    for app in (theirs, sent_again):
        app.add_middleware(SessionMiddleware, secret_key=SECRET_KEY)
    signed = their_cookie(provider._answer("/token")["id_token"])
    print(f"Bytes of Cookie header: {len(cookie)} in (c), {len(signed)} in (d)\n")

    cases = {
        "a  bare route": (application(nothing), scope_of("/", cookie=cookie)),
        "b  our middleware, untouched": (untouched, scope_of("/", cookie=cookie)),
        "c  our token from the cookie": (reading, scope_of("/", cookie=cookie)),
        "d  Starlette's session, same tokens": (theirs, scope_of("/", cookie=signed)),
        "e  the same, sent again": (sent_again, scope_of("/", cookie=signed)),
        "f  our token from SQLite": (stored, scope_of("/", cookie=stored_cookie)),
    }
    for app, scope in cases.values():
        assert (await call(app, scope)).status == 200
    callback = "g  callback, without provider"
    times: dict[str, list[float]] = {name: [] for name in (*cases, callback)}
    for _ in range(rounds):
        for name, (app, scope) in cases.items():
            times[name].append(await time_calls(app, scope, calls))
        times[callback].append(await time_callbacks(reading, provider, max(calls // 20, 1)))
    return {name: min(values) for name, values in times.items()} | floor(cookie_auth, cookie, calls)


def floor(auth: TokenManagement, cookie: str, calls: int) -> dict[str, float]:
    """Time what no reading of our cookie gets by without, on the same bytes."""
    ours = Cookie.for_origin("https://app.test")
    sealed = ours.read([(b"cookie", cookie.encode())]).value
    record = auth.ring.open(sealed, purpose="session-cookie", record=ours.full_name).plaintext
    aead, nonce = AESGCM(bytes(32)), os.urandom(12)
    encoded, ciphertext = b64encode(sealed), aead.encrypt(nonce, record, None)
    pieces = {
        "base64": lambda: binascii.a2b_base64(encoded),
        "AES-GCM": lambda: aead.decrypt(nonce, ciphertext, None),
        "JSON": lambda: json.loads(record),
    }
    return {f"   floor of (c): {name}": least(piece, calls) for name, piece in pieces.items()}


def least(piece, calls: int) -> float:
    """Return microseconds per call."""
    times = []
    for _ in range(10):
        begun = time.process_time()
        for _ in range(calls):
            piece()
        times.append((time.process_time() - begun) / calls * 1e6)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description="What a request costs.")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--calls", type=int, default=400)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        times = asyncio.run(measure(options.rounds, options.calls, folder))
    for name, microseconds in times.items():
        print(f"{name:38} {microseconds:9.1f} us")
    a, b, c, d, e, f, g, *_ = times.values()
    print()
    print(f"(b) - (a) {b - a:8.1f} us    aim: under 5")
    print(f"(c) - (a) {c - a:8.1f} us    aim: below (d) - (a)")
    print(f"(d) - (a) {d - a:8.1f} us    ratio of (c): {(c - a) / (d - a):.2f}")
    print(f"(e) - (a) {e - a:8.1f} us    ratio of (c): {(c - a) / (e - a):.2f}")
    print(f"(f) - (a) {f - a:8.1f} us")
    print(f"(g)       {g:8.1f} us    aim: under 1000")


if __name__ == "__main__":
    main()
