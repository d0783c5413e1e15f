"""What it costs to load a session and to read its fresh access token, by where sessions rest.

    python benchmarks/session_reads.py
    python benchmarks/session_reads.py --sessions 1000 --rounds 3

Every line is a request to an app whose endpoint takes the user's access token, less what the
bare route costs. Some lines are the store alone: the same bytes by `GET` of redis-py and by one
SELECT, and the one read that our store is asked for. Beside ours, with the same tokens in the
session, wherever they are installed:

* Starlette's SessionMiddleware, whose signed cookie holds them in the clear
* starsessions with its RedisStore
* fastoidc with its RedisSessionStore (Python 3.12 or newer)

The stores are filled up to each number of sessions in turn; the requests are those of 1,000
sessions spread among them, in random order. Shown are microseconds per request, the least of the
rounds: `alone`, one request after the other, on the clock, and of this process's CPU; `of 50`,
with fifty under way at any time, on the clock. `reads` and `writes` are what the server counted
for each request. Aims: one read of the store per request, at most 1.3 times the raw GET, and
the same with a million sessions as with a thousand.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import random
import secrets
import sqlite3
import tempfile
import time
import warnings
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import redis.asyncio
from machine import valkey
from per_request import (
    CLAIMS,
    SECRET_KEY,
    TOKENS,
    CannedProvider,
    application,
    call,
    logged_in,
    management,
    nothing,
    our_token,
    scope_of,
    their_cookie,
    their_token,
)
from starlette.middleware.sessions import SessionMiddleware
from starlette.responses import PlainTextResponse

from tokenward import TokenManagementMiddleware
from tokenward.stores.redis import RedisStore
from tokenward.stores.sqlite import SQLiteStore

ASKING = 1000
"""Sessions that requests come for."""

BATCH = 5000
AT_ONCE = 50

READING = ("cmdstat_get", "cmdstat_mget", "cmdstat_exists")
WRITING = ("cmdstat_set", "cmdstat_setex", "cmdstat_expireat", "cmdstat_pexpire", "cmdstat_expire")


@dataclass(frozen=True)
class Cost:
    """Microseconds of one request."""

    clock: float
    cpu: float
    of_many: float
    reads: float
    writes: float

    def less(self, bare: Cost) -> Cost:
        return replace(
            self,
            clock=self.clock - bare.clock,
            cpu=self.cpu - bare.cpu,
            of_many=self.of_many - bare.of_many,
        )


class Requests:
    """Requests to one app, each for one of its sessions."""

    def __init__(self, app, cookies: list[str]) -> None:
        self._app = app
        self._scopes = [scope_of("/", cookie=cookie) for cookie in cookies]

    async def check(self) -> None:
        answers = {(await call(self._app, scope)).status for scope in self._scopes[:20]}
        assert answers == {200}, answers

    async def run(self, numbers: list[int]) -> None:
        for number in numbers:
            await call(self._app, self._scopes[number % len(self._scopes)])


class RawReads:
    """The same bytes, read by what every store has at its bottom."""

    def __init__(self, read, keys: list[str]) -> None:
        self._read, self._keys = read, keys

    async def check(self) -> None:
        assert all([await self._read(key) for key in self._keys[:20]])

    async def run(self, numbers: list[int]) -> None:
        for number in numbers:
            await self._read(self._keys[number % len(self._keys)])


# --------------------------------------------------------------------------- the stores


class Ours:
    """An app of ours on a store, with sessions that were logged in by the real routes."""

    def __init__(self, store) -> None:
        self.provider = CannedProvider()
        self.app = application(our_token)
        settings = {} if store is None else {"store": store}
        self.app.add_middleware(
            TokenManagementMiddleware, auth=management(self.provider, **settings)
        )

    async def requests(self, number: int) -> Requests:
        return Requests(self.app, [await logged_in(self.app, self.provider) for _ in range(number)])


class SQLiteFilling:
    """A file with as many sessions as it is told."""

    def __init__(self, path: Path) -> None:
        self.connection = sqlite3.connect(path, isolation_level=None)
        rows = self.connection.execute(
            "SELECT key, ends, version, value FROM entries WHERE key LIKE '%:session'"
        ).fetchall()
        self.keys = [row[0] for row in rows]
        self._row = rows[0][1:]
        self._count = len(rows)

    def fill(self, number: int) -> None:
        self.connection.execute("BEGIN")
        rows = (
            (f"{secrets.token_hex(32)}:session", *self._row) for _ in range(self._count, number)
        )
        self.connection.executemany("INSERT INTO entries VALUES (?, ?, ?, ?)", rows)
        self.connection.execute("COMMIT")
        self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._count = max(self._count, number)

    async def read(self, key: str):
        return self.connection.execute(
            "SELECT value, version FROM entries WHERE key = ? AND ends > ?", (key, time.time())
        ).fetchone()


class ValkeyFilling:
    """A server with as many sessions as it is told."""

    def __init__(self, client, keys: list[bytes], value: bytes) -> None:
        self.client, self.keys, self._value = client, keys, value
        self._count = len(keys)

    @classmethod
    async def of(cls, client) -> ValkeyFilling:
        keys = [key async for key in client.scan_iter("tokenward:value:*:session", count=1000)]
        return cls(client, keys, await client.get(keys[0]))

    async def fill(self, number: int) -> None:
        while self._count < number:
            batch = min(BATCH, number - self._count)
            pipeline = self.client.pipeline(transaction=False)
            for _ in range(batch):
                name = f"tokenward:value:{{{secrets.token_hex(32)}}}:session"
                pipeline.set(name, self._value, px=86_400_000)
            await pipeline.execute()
            self._count += batch

    async def counts(self) -> tuple[int, int]:
        """Return how much was read and written so far."""
        stats = await self.client.info("commandstats")
        return tuple(
            sum(stats[name]["calls"] for name in names if name in stats)
            for names in (READING, WRITING)
        )


async def read_both(store, key: str):
    """Read what every request of a session reads: identity with tokens, and the app's data."""
    session, _ = await store.get_many(f"{key}:session", f"{key}:data")
    return session


# ----------------------------------------------------------------------------- the peers


def session_middleware() -> Requests:
    app = application(their_token)
    app.add_middleware(SessionMiddleware, secret_key=SECRET_KEY)
    return Requests(app, [their_cookie("x" * 700)])


async def starsessions(client) -> Requests | None:
    try:
        from starsessions import SessionAutoloadMiddleware
        from starsessions import SessionMiddleware as TheirMiddleware
        from starsessions.stores.redis import RedisStore as TheirStore
    except ImportError:
        return None
    app = application(their_token)
    app.add_middleware(SessionAutoloadMiddleware)
    app.add_middleware(TheirMiddleware, store=TheirStore(connection=client), lifetime=86_400)
    tokens = {**TOKENS, "id_token": "x" * 700, "expires_at": time.time() + 86_400}
    value = json.dumps({"tokens": tokens, "user": CLAIMS}).encode()
    ids = [secrets.token_hex(16) for _ in range(ASKING)]
    for each in ids:
        await client.set(f"starsessions.{each}", value)
    return Requests(app, [f"session={each}" for each in ids])


async def fastoidc(client) -> Requests | None:
    try:
        from fastapi import Depends, FastAPI
        from fastoidc.core.models import OIDCSession
        from fastoidc.integration import FastOIDC
        from fastoidc.stores import RedisSessionStore
    except ImportError:
        return None
    store = RedisSessionStore(client)
    oidc = FastOIDC.from_config(
        "app", "secret", "https://app.test/callback", "openid", "https://op.test/token",
        "https://op.test/authorize", client, store,
    )  # fmt: skip
    app = FastAPI()

    @app.get("/")
    async def token(session=Depends(oidc.require_session)):  # noqa: B008
        return PlainTextResponse(str(len(session.access_token)))

    ends = datetime.now(UTC) + timedelta(days=1)
    ids = [secrets.token_urlsafe(64) for _ in range(ASKING)]
    for each in ids:
        session = OIDCSession(
            each, TOKENS["access_token"], TOKENS["refresh_token"], ends, ends,
            "Bearer", "openid", CLAIMS, id_token="x" * 700,
        )  # fmt: skip
        await store.create(session)
    return Requests(app, [f"fastoidc_session={each}" for each in ids])


# -------------------------------------------------------------------------- the measuring


async def measure(case, rounds: int, calls: int, counts) -> Cost:
    numbers = [random.randrange(ASKING) for _ in range(calls)]
    # Once a minute a request begins the idle time of its session anew, which is a write.
    await case.run(list(range(ASKING)))
    clocks, cpus, of_many = [], [], []
    before = await counts()
    for _ in range(rounds):
        gc.collect()
        clock, cpu = time.perf_counter(), time.process_time()
        await case.run(numbers)
        clocks.append((time.perf_counter() - clock) / calls * 1e6)
        cpus.append((time.process_time() - cpu) / calls * 1e6)
    reads, writes = (
        (after - first) / (rounds * calls)
        for first, after in zip(before, await counts(), strict=True)
    )
    for _ in range(rounds):
        clock = time.perf_counter()
        await asyncio.gather(*(case.run(numbers[first::AT_ONCE]) for first in range(AT_ONCE)))
        of_many.append((time.perf_counter() - clock) / calls * 1e6)
    return Cost(min(clocks), min(cpus), min(of_many), reads, writes)


async def run(sizes: list[int], rounds: int, calls: int, folder: Path, url: str) -> None:
    async with AsyncExitStack() as stack:
        client = redis.asyncio.Redis.from_url(url, protocol=2)
        stack.push_async_callback(client.aclose)
        path = folder / "sessions.db"
        sqlite, on_valkey = SQLiteStore(path), RedisStore.from_url(url)
        stack.push_async_callback(sqlite.aclose)
        stack.push_async_callback(on_valkey.aclose)
        cases = {
            "bare route": Requests(application(nothing), [""]),
            "cookie, ours": await Ours(None).requests(1),
            "cookie, SessionMiddleware": session_middleware(),
            "SQLite, ours": await Ours(sqlite).requests(ASKING),
            "Valkey, ours": await Ours(on_valkey).requests(ASKING),
        }
        file, server = SQLiteFilling(path), await ValkeyFilling.of(client)
        cases["SQLite, raw SELECT"] = RawReads(file.read, file.keys)
        cases["Valkey, raw GET"] = RawReads(client.get, server.keys)
        records = [key.decode().partition("{")[2].partition("}")[0] for key in server.keys]
        cases["Valkey, our store alone"] = RawReads(partial(read_both, on_valkey), records)
        for name, peer in (("starsessions", starsessions), ("fastoidc", fastoidc)):
            requests = await peer(client)
            if requests is None:
                print(f"{name} is not installed")
            else:
                cases[f"Valkey, {name}"] = requests
        for case in cases.values():
            await case.check()
        found: dict[int, dict[str, Cost]] = {}
        for size in sizes:
            file.fill(size)
            await server.fill(size)
            # A cookie that is older than a minute is sent again by every answer.
            cases["cookie, ours"] = await Ours(None).requests(1)
            found[size] = {
                name: await measure(case, rounds, calls, server.counts)
                for name, case in cases.items()
            }
        report(found)


def report(found: dict[int, dict[str, Cost]]) -> None:
    for size, costs in found.items():
        bare = costs.pop("bare route")
        print(f"\n{size} sessions; the bare route takes {bare.clock:.1f} us")
        print(f"{'':28}{'alone':>9}{'CPU':>9}{'of 50':>9}{'x raw':>8}{'reads':>8}{'writes':>8}")
        for name, cost in sorted(costs.items()):
            store = name.partition(",")[0]
            raw = costs.get(
                {"SQLite": "SQLite, raw SELECT", "Valkey": "Valkey, raw GET"}.get(store)
            )
            added = cost if "raw" in name or "alone" in name else cost.less(bare)
            ratio = f"{added.clock / raw.clock:.2f}" if raw else ""
            counted = f"{cost.reads:8.2f}{cost.writes:8.2f}" if store == "Valkey" else ""
            print(
                f"{name:28}{added.clock:6.0f} us{added.cpu:6.0f} us{added.of_many:6.0f} us"
                f"{ratio:>8}{counted}"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description="What it costs to load a session.")
    parser.add_argument("--sessions", type=int, nargs="+", default=[1000, 100_000, 1_000_000])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--calls", type=int, default=2000)
    options = parser.parse_args()
    # The peers use what Starlette and redis-py advise against.
    warnings.simplefilter("ignore", DeprecationWarning)
    random.seed(1)
    with tempfile.TemporaryDirectory() as folder, valkey() as url:
        asyncio.run(run(options.sessions, options.rounds, options.calls, Path(folder), url))


if __name__ == "__main__":
    main()
