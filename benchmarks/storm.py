"""Four workers, one session that has expired, a thousand requests: what a refresh does then.

    python benchmarks/storm.py
    python benchmarks/storm.py --stores sqlite --sessions 0

A strict provider (single-use refresh tokens, reuse kills the family) runs in a process of its
own, as do four uvicorn workers on one store. Over 250 open connections to each worker the same
moment brings one request each:

fresh        nothing to refresh: what the machine needs to answer so many at once
first        the provider takes 50 ms, and whoever asks it has to read its metadata and keys before
50 ms        the provider takes 50 ms
3 s          it takes 3 s, with a lease of 2 s, which must be renewed
fails once   its first answer is a 503; who is told `Retry-After` comes again
apart        as many different sessions, all of them expired

For each, the time to the last byte from the moment that all were sent, the redemptions that the
provider counted, and the most that it saw at once. All but `first` and `apart` are repeated, and
the median of the rounds is shown, with the worst p99 beside it. Aims: one redemption in every
round, every request answered 200 in the end, p99 within the provider's time + 250 ms. Exits with 1
if a session was lost or a token redeemed twice.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
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
class Case:
    """What the provider does meanwhile."""

    name: str
    delay: float = 0.0
    failures: int = 0
    aim: float = 0.0
    """Milliseconds that p99 should stay within; 0 for none."""
    redeemed: int = 1
    is_repeated: bool = True


@dataclass(frozen=True)
class Outcome:
    """What a storm brought."""

    times: list[float]
    statuses: dict[int, int]
    counts: dict

    def percentile(self, share: float) -> float:
        return sorted(self.times)[min(len(self.times) - 1, int(len(self.times) * share))] * 1000

    def is_good(self, case: Case) -> bool:
        answered = self.statuses.get(200, 0) == len(self.times)
        return answered and self.counts["redeemed"] == case.redeemed


Outcomes = dict[Case, list[Outcome]]

CASES = (
    Case("fresh", redeemed=0),
    Case("first", delay=0.05, is_repeated=False),
    Case("50 ms", delay=0.05, aim=300.0),
    Case("3 s", delay=3.0, aim=3250.0),
    Case("fails once", delay=0.05, failures=1),
)


async def storm(
    connections: list[Connection], browsers: list[Browser], machine: Machine
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
    return Outcome(times, statuses, await machine.counts())


async def log_in_all(machine: Machine, names: list[str]) -> list[Browser]:
    """Log in, with access tokens that are over at once."""
    await machine.tell(lifetime=0)
    rooms = asyncio.Semaphore(16)

    async def one(name: str) -> Browser:
        async with rooms:
            return await machine.log_in(name)

    return await asyncio.gather(*map(one, names))


async def measure(store: str, sessions: int, rounds: int) -> Outcomes:
    users = [f"user{number}" for number in range(max(sessions, 1))]
    refresh = RefreshSettings(lease_ttl=2.0, lease_renewal=0.5)
    with machine(store, users, refresh=refresh) as where:
        async with where.http:
            await where.wait_until_ready()
            return await run_storms(where, sessions, rounds)


async def run_storms(where: Machine, sessions: int, rounds: int) -> Outcomes:
    connections = await connect(where.urls, EACH)
    outcomes: Outcomes = {}
    for case in CASES:
        times = rounds if case.is_repeated else 1
        outcomes[case] = [await run_once(case, where, connections) for _ in range(times)]
    if sessions:
        apart = Case("apart", redeemed=sessions)
        browsers = await log_in_all(where, [f"user{number}" for number in range(sessions)])
        await where.tell(delay=0.05)
        outcomes[apart] = [await storm(connections, browsers, where)]
    for connection in connections:
        connection.close()
    return outcomes


async def run_once(case: Case, where: Machine, connections: list[Connection]) -> Outcome:
    (browser,) = await log_in_all(where, ["user0"])
    await where.tell(delay=case.delay, failures=case.failures)
    if not case.redeemed:
        await connections[0].ask("/token", browser.cookie)
        await where.tell()
    return await storm(connections, [browser] * len(connections), where)


def fastest_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return what the workers take where it is installed: who asks shares their cores."""
    if find_spec("uvloop") is None:
        return None
    import uvloop

    return uvloop.new_event_loop


def report(store: str, outcomes: Outcomes) -> bool:
    """Print the table, and return whether nothing was lost."""
    print(f"\n{store}: {WORKERS} workers, {WORKERS * EACH} requests at once")
    print(
        f"{'':12}{'rounds':>7}{'p50':>9}{'p99':>9}{'worst':>9}{'aim':>9}{'redeemed':>10}{'asked':>7}"
        f"{'at once':>9}  answers of the last"
    )
    for case, rounds in outcomes.items():
        p50, p99 = (
            statistics.median(each.percentile(share) for each in rounds) for share in (0.5, 0.99)
        )
        worst = max(each.percentile(0.99) for each in rounds)
        redeemed, asked, at_once = (
            max(each.counts[name] for each in rounds)
            for name in ("redeemed", "asked", "most_at_once")
        )
        aim = f"{case.aim:.0f} ms" if case.aim else ""
        good = all(each.is_good(case) for each in rounds)
        print(
            f"{case.name:12}{len(rounds):7}{p50:6.0f} ms{p99:6.0f} ms{worst:6.0f} ms{aim:>9}"
            f"{redeemed:10}{asked:7}{at_once:9}"
            f"  {dict(sorted(rounds[-1].statuses.items()))}{'' if good else '  <- WRONG'}"
        )
    return all(each.is_good(case) for case, rounds in outcomes.items() for each in rounds)


def main() -> int:
    parser = argparse.ArgumentParser(description="A thousand requests and one refresh.")
    parser.add_argument(
        "--stores", nargs="+", default=["sqlite", "valkey"], choices=["sqlite", "valkey"]
    )
    parser.add_argument("--sessions", type=int, default=WORKERS * EACH, help="of `apart`; 0: none")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--redis", help="the URL of a server, instead of one of our own")
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error("--rounds: at least 1")
    sound = True
    for store in options.stores:
        with ExitStack() as stack:
            if store == "sqlite":
                where = f"{stack.enter_context(tempfile.TemporaryDirectory())}/sessions.db"
            else:
                where = options.redis or stack.enter_context(valkey())
            with asyncio.Runner(loop_factory=fastest_loop()) as runner:
                outcomes = runner.run(measure(where, options.sessions, options.rounds))
        sound = report(store, outcomes) and sound
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main())
