"""Four workers, one session that has expired, a thousand requests: what a refresh does then.

    python benchmarks/storm.py
    python benchmarks/storm.py --stores sqlite --sessions 0

A strict provider (single-use refresh tokens, reuse kills the family) runs in a process of its
own, as do four uvicorn workers on one store. Over 250 open connections to each worker the same
moment brings one request each:

fresh        nothing to refresh: what the machine needs to answer so many at once
50 ms        the provider takes 50 ms
3 s          it takes 3 s, with a lease of 2 s, which must be renewed
fails once   its first answer is a 503; who is told `Retry-After` comes again
apart        as many different sessions, all of them expired

For each, the time to the last byte from the moment that all were sent, the redemptions that the
provider counted, and the most that it saw at once. Aims: one redemption, every request answered
200 in the end, p99 within the provider's time + 250 ms; where four workers share fewer cores,
beyond what `fresh` takes. Exits with 1 if a session was lost or a token redeemed twice.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

from browsing import Browser, Connection
from machine import WORKERS, Machine, machine, valkey

from tokenward import RefreshSettings

if TYPE_CHECKING:
    from collections.abc import Callable

EACH = 250


# ----------------------------------------------------------------------------- the storm


async def connect(urls: list[str], each: int) -> list[Connection]:
    """Open connections to every worker, and use each once."""
    found = []
    for url in urls:
        for _ in range(each):
            found.append(await Connection.open(url))
            await found[-1].ask("/")
    return found


@dataclass(frozen=True)
class Outcome:
    """What a storm brought."""

    name: str
    aim: float
    """Milliseconds that p99 should stay within; 0 for none."""
    times: list[float]
    statuses: dict[int, int]
    counts: dict

    def percentile(self, share: float) -> float:
        return sorted(self.times)[min(len(self.times) - 1, int(len(self.times) * share))] * 1000


async def storm(
    name: str,
    connections: list[Connection],
    browsers: list[Browser],
    machine: Machine,
    *,
    aim: float,
) -> Outcome:
    begun = time.perf_counter()
    statuses: dict[int, int] = {}
    times = []

    async def one(connection: Connection, browser: Browser) -> None:
        answer = await connection.ask("/token", browser.cookie)
        statuses[answer.status] = statuses.get(answer.status, 0) + 1
        if answer.status == 503:
            await asyncio.sleep(float(answer.field("retry-after")))
            answer = await connection.ask("/token", browser.cookie)
            statuses[answer.status] = statuses.get(answer.status, 0) + 1
        times.append(time.perf_counter() - begun)

    await asyncio.gather(*map(one, connections, browsers))
    return Outcome(name, aim, times, statuses, await machine.counts())


async def log_in_all(machine: Machine, names: list[str]) -> list[Browser]:
    """Log in, with access tokens that are over at once."""
    await machine.tell(lifetime=0)
    rooms = asyncio.Semaphore(16)

    async def one(name: str) -> Browser:
        async with rooms:
            return await machine.log_in(name)

    return await asyncio.gather(*map(one, names))


async def measure(store: str, sessions: int) -> list[Outcome]:
    users = [f"user{number}" for number in range(max(sessions, 1))]
    refresh = RefreshSettings(lease_ttl=2.0, lease_renewal=0.5)
    with machine(store, users, refresh=refresh) as where:
        async with where.http:
            await where.wait_until_ready()
            return await run_storms(where, sessions)


async def run_storms(where: Machine, sessions: int) -> list[Outcome]:
    connections = await connect(where.urls, EACH)
    outcomes = []
    for name, delay, failures, aim in (
        ("fresh", 0.0, 0, 0.0),
        ("50 ms", 0.05, 0, 300.0),
        ("3 s", 3.0, 0, 3250.0),
        ("fails once", 0.05, 1, 0.0),
    ):
        (browser,) = await log_in_all(where, ["user0"])
        await where.tell(delay=delay, failures=failures)
        if name == "fresh":
            await connections[0].ask("/token", browser.cookie)
            await where.tell()
        browsers = [browser] * len(connections)
        outcomes.append(await storm(name, connections, browsers, where, aim=aim))
    if sessions:
        browsers = await log_in_all(where, [f"user{number}" for number in range(sessions)])
        await where.tell(delay=0.05)
        outcomes.append(await storm("apart", connections, browsers, where, aim=0.0))
    for connection in connections:
        connection.close()
    return outcomes


def fastest_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return what the workers take where it is installed: who asks shares their cores."""
    if find_spec("uvloop") is None:
        return None
    import uvloop

    return uvloop.new_event_loop


def report(store: str, outcomes: list[Outcome], sessions: int) -> bool:
    """Print the table, and return whether nothing was lost."""
    sound = True
    print(f"\n{store}: {WORKERS} workers, {WORKERS * EACH} requests at once")
    print(
        f"{'':12}{'p50':>9}{'p99':>9}{'aim':>9}{'redeemed':>10}{'asked':>7}{'at once':>9}  answers"
    )
    for outcome in outcomes:
        counts = outcome.counts
        wanted = {"fresh": 0, "apart": sessions}.get(outcome.name, 1)
        answered = outcome.statuses.get(200, 0)
        requests = sessions if outcome.name == "apart" else WORKERS * EACH
        good = counts["redeemed"] == wanted and answered == requests
        sound = sound and good
        aim = f"{outcome.aim:.0f} ms" if outcome.aim else ""
        print(
            f"{outcome.name:12}{outcome.percentile(0.5):6.0f} ms{outcome.percentile(0.99):6.0f} ms"
            f"{aim:>9}{counts['redeemed']:>10}{counts['asked']:>7}{counts['most_at_once']:>9}"
            f"  {dict(sorted(outcome.statuses.items()))}{'' if good else '  <- WRONG'}"
        )
    return sound


def main() -> int:
    parser = argparse.ArgumentParser(description="A thousand requests and one refresh.")
    parser.add_argument("--stores", nargs="+", default=["sqlite", "valkey"])
    parser.add_argument("--sessions", type=int, default=WORKERS * EACH, help="of `apart`; 0: none")
    parser.add_argument("--redis", help="the URL of a server, instead of one of our own")
    options = parser.parse_args()
    sound = True
    for store in options.stores:
        with ExitStack() as stack:
            if store == "sqlite":
                where = f"{stack.enter_context(tempfile.TemporaryDirectory())}/sessions.db"
            else:
                where = options.redis or stack.enter_context(valkey())
            with asyncio.Runner(loop_factory=fastest_loop()) as runner:
                outcomes = runner.run(measure(where, options.sessions))
        sound = report(store, outcomes, options.sessions) and sound
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main())
