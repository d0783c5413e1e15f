"""What version 1 wrote: every later version reads it, for as long as it may live.

The file is of the release that wrote version 1, and is never written again. Who makes another
version adds a file of its own, and a line to `VERSIONS`.
"""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tokenward.clock import aware
from tokenward.loop_thread import LoopThread
from tokenward.sealing import KeyRing
from tokenward.secret import Secret
from tokenward.stores.handles import open_handle
from tokenward.stores.memory import MemoryStore
from tokenward.stores.sessions import StoredSessions
from tokenward.tokens.client_cache import SharedTokens
from tokenward.tokens.client_registration import TokenTarget
from tokenward.tokens.effects import drive
from tokenward.tokens.models import AccessToken, Target, TokenSet
from tokenward.tokens.session import Session
from tokenward.tokens.stragglers import Stragglers
from tokenward.web.attempts import LoginAttempt, LoginAttempts
from tokenward.web.cookies import Cookie

if TYPE_CHECKING:
    from conftest import MakeSite
    from tokenward.testing import FrozenClock

VERSIONS = [1]
KEY = "golden-fuvQBj8B5pts7Km2TfoqPp9ocLVoYlb1z0okhjW-0eHqN5Eh610NzZL7I6tl265Q"
NOW = 1_893_456_000.0
DATA = {"cart": [1, {"é": None}], "theme": "dark"}


@pytest.fixture(params=VERSIONS, ids="version {}".format)
def golden(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Everything that was written."""
    path = Path(__file__).parent / "golden" / f"version_{request.param}.json"
    found: dict[str, Any] = json.loads(path.read_text())
    return found


@pytest.fixture
def clock(frozen_clock: FrozenClock) -> FrozenClock:
    """The time shortly after it was written."""
    frozen_clock.set(NOW + 10)
    return frozen_clock


@pytest.fixture
def ring() -> KeyRing:
    """The key that sealed it, which is not the newest any more."""
    return KeyRing(["the newest key, z0okhjW-0eHqN5Eh610NzZL7I6tl265Q", KEY])


def access_token(value: str, *scope: str, resource: tuple[str, ...] = ()) -> AccessToken:
    return AccessToken(
        value=value,
        expires_at=aware(NOW + 3600),
        scope=frozenset(scope),
        resource=resource,
        lifetime=3600.0,
    )


def written(golden: dict[str, Any]) -> Session:
    """Return the session that all of it is about."""
    api = Target(("https://api.test",), frozenset({"read"}))
    return Session(
        id=golden["session_record"]["key"].partition(":")[0],
        provider="default",
        issuer="https://op.test",
        client_id="app",
        claims={
            "sub": "alice",
            "name": "Alice Österreich",
            "roles": ["a", "b"],
            "address": {"country": "AT"},
        },
        proof={"sub": "alice", "iss": "https://op.test", "auth_time": 1893455990, "sid": "s-1"},
        tokens=TokenSet(
            access_token("access-1", "openid", "api"),
            Secret("refresh-1"),
            Secret("id-1"),
            ((api, access_token("other-1", "read", resource=api.resource)),),
        ),
        created_at=NOW,
        expires_at=NOW + 604_800.0,
        renewed_at=NOW + 1,
        seen_at=NOW + 2.5,
        version=7,
    )


async def put(store: MemoryStore, record: dict[str, str]) -> None:
    sealed = base64.b64decode(record["sealed"])
    await store.put(record["key"], sealed, ttl=3600, version=None)


def cookies(*values: str) -> list[tuple[bytes, bytes]]:
    return [(b"cookie", "; ".join(values).encode())]


async def test_records_are_read_and_found(
    golden: dict[str, Any], ring: KeyRing, clock: FrozenClock
) -> None:
    store, session = MemoryStore(clock=clock), written(golden)
    records = StoredSessions(store, ring, clock=clock, idle=3600)
    await put(store, golden["session_record"])
    await put(store, golden["data_record"])
    entry, data = await records.fetch(session.id)
    assert entry is not None
    assert data is not None
    read = records.open_session(session.id, entry)
    assert read == replace(session, version=entry.version)
    assert records.open_data(session.id, data, anonymous=False) == DATA
    for name in golden["index"]:
        await store.add(name, session.id, ttl=60)
    assert await records.index.of_user("https://op.test", "alice") == {session.id}
    assert await records.index.of_provider_session("https://op.test", "s-1") == {session.id}
    assert open_handle(golden["user_handle"], ring) == session.id


async def test_a_visitors_record_is_read(
    golden: dict[str, Any], ring: KeyRing, clock: FrozenClock
) -> None:
    store, key = MemoryStore(clock=clock), written(golden).id
    records = StoredSessions(store, ring, clock=clock, idle=3600)
    await put(store, golden["visitor_record"])
    _, data = await records.fetch(key)
    assert data is not None
    assert records.open_data(key, data, anonymous=True) == DATA


async def test_the_result_of_a_refresh_is_found_by_the_old_cookie(
    golden: dict[str, Any], clock: FrozenClock
) -> None:
    store, new = MemoryStore(clock=clock), written(golden)
    await put(store, golden["straggler_result"])
    tokens = replace(new.tokens, refresh_token=Secret("refresh-0"))
    assert await Stragglers(store).newest(replace(new, version=6, tokens=tokens)) == new


def test_a_login_under_way_is_found(
    golden: dict[str, Any], ring: KeyRing, clock: FrozenClock
) -> None:
    attempts = LoginAttempts(ring, Cookie("tokenward", secure=True).named("login"), clock=clock)
    assert attempts.find(cookies(golden["login_attempt"]), Secret("state-1")) == LoginAttempt(
        state=Secret("state-1"),
        nonce=Secret("nonce-1"),
        code_verifier=Secret("verifier-1"),
        provider="default",
        issuer="https://op.test",
        client_id="app",
        redirect_uri="https://app.test/auth/callback",
        return_to="/orders?page=2",
        created_at=NOW,
        answer=Secret("code=c&state=state-1"),
    )


async def test_the_token_of_a_client_is_found(
    golden: dict[str, Any], ring: KeyRing, clock: FrozenClock
) -> None:
    store = MemoryStore(clock=clock)
    await put(store, golden["client_token"])
    target = TokenTarget(
        "reports",
        "https://op.test/token",
        "reports-client",
        frozenset({"api", "b"}),
        ("https://api.test",),
        (("audience", "x"),),
    )
    shared = SharedTokens(store, ring, clock, margin=60.0, emit=print, thread=LoopThread())
    found = await drive(shared.read(target))
    assert found.token == access_token("client-1", "api")


@pytest.mark.case(298)
@pytest.mark.parametrize("resting", ["stored", "cookie"])
async def test_a_browser_from_then_is_logged_in_now(
    golden: dict[str, Any], make_site: MakeSite, clock: FrozenClock, resting: str
) -> None:
    store = MemoryStore(clock=clock)
    site = make_site(resting, store=store, secret_key=[KEY[::-1], KEY])
    carried = golden["id_cookie"]
    if resting == "cookie":
        carried = f"{golden['session_cookie']}; {golden['data_cookie']}"
    else:
        await put(store, golden["session_record"])
        await put(store, golden["data_record"])
    answer = await site.ask("/me", cookie=carried.encode())
    assert answer.json() == {"name": "Alice Österreich", "known": True}
    assert (await site.ask("/session", cookie=carried.encode())).json() == DATA
    assert (await site.ask("/token", cookie=carried.encode())).body == b"access-1"
