"""Everything that dies, stands still or forgets, under load, and what it costs the users.

    python benchmarks/chaos.py
    python benchmarks/chaos.py --runs kill --stores sqlite --seconds 20 --seed 7

A strict provider (single-use refresh tokens, reuse kills the family) and four uvicorn workers
are processes of their own, as in storm.py. 60 users with two tabs each ask for their access
tokens, which live for 2 to 5 seconds, by way of all workers. Who is told 401 logs in again by
the real routes, and goes on. The settings of the library are those that it ships with.

kill             SIGKILL of a random worker every 250 ms, which is replaced at once
short stop       SIGSTOP of a worker that is inside a refresh, for 5 s; its lease is of 8 s
long stop        the same for 12 s
rolling          SIGTERM of one worker after the other, each replaced when it has ended
restart with AOF SIGKILL of Valkey, which is back after a second with all data
restart without  the same without persistence: the data are gone
pause            SIGSTOP of Valkey for 3 s
READONLY         REPLICAOF for 3 s
out of memory    maxmemory 1mb, noeviction, for 3 s
flush            FLUSHALL

What is broken for seconds stays broken until somebody noticed.

The provider writes down each rotation: which worker asked (a header tells), which token was
spent, which was given. A rotation was acknowledged if the token that it gave is good for
something: it is spent later, or is in the store at the end, where the workers are asked for the
digest of what they keep. All others are unacknowledged; for each of them a worker must have been
killed or stopped while it asked, or it was dropped by us, and that is a broken promise.

It exits with 1 if a promise is broken:

* a user loses no more sessions than he has unacknowledged rotations; none where the provider
  has an overlap of 30 s, unless all who asked in that time were killed; none where workers are
  told to end or the store keeps its data; one for each time that the store lost its data
* nobody gets the token of another user
* no status but 200, 303, 401 and 503, every 503 with its word and Retry-After; only workers
  that were told to end break connections
* nothing is left in the store without an end
* all is well again (an answer within a second, for everybody) as soon as `well_within` says
"""

from __future__ import annotations

import argparse
import asyncio
import random
import secrets
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from accounts import HEAD, Book, Outcome, Run, count_endless, well_after
from crowd import GOOD_WITHIN, Crowd
from machine import Machine, ValkeyServer, machine, valkey_server

from tokenward import RefreshSettings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


OVERLAP: Final = 30.0
BACKLOG: Final = 5.0
"""Seconds that a worker needs for all who came while it stood still, and a little more."""
ALL_EXPIRE: Final = 10.0
"""Seconds in which every token expires, and a little more: a server that takes no writes is
noticed by who must write, and for a second that may be nobody."""
LOGINS: Final = 5.0
"""Seconds that two cores need to log everybody in again, and a little more."""
NO_LOOP: Final = 30.0
"""Seconds between two logins: a browser that finishes three within a minute is in a loop, as
`LoopGuard` has it, and is refused the fourth."""


@dataclass
class Site:
    """One run: what is broken, and when it was whole again."""

    machine: Machine
    crowd: Crowd
    server: ValkeyServer | None
    seconds: float
    lease: float
    random: random.Random
    faults: int = 0
    disturbed: list[tuple[int, float, float]] = field(default_factory=list)
    """Which worker, by its process id, was killed or stood still, and from when to when."""
    calms: list[tuple[float, float]] = field(default_factory=list)
    """When nothing was broken: from and to."""

    @property
    def is_short(self) -> bool:
        return self.seconds < 20

    @property
    def times(self) -> int:
        """How often to do what takes its time."""
        return max(1, round(self.seconds / 20))

    async def calm(self, seconds: float = 6.0) -> None:
        """Break nothing for some seconds, in which every token expires once."""
        begun, seconds = time.monotonic(), 3.0 if self.is_short else seconds
        await self.crowd.until_well(since=begun, seconds=20.0)
        await asyncio.sleep(max(2 * GOOD_WITHIN, begun + seconds - time.monotonic()))
        self.calms.append((begun, time.monotonic()))


# --------------------------------------------------------------------------- the faults


async def kill(site: Site) -> None:
    begun = time.monotonic()
    while time.monotonic() < begun + site.seconds:
        site.faults += 1
        worker = site.random.choice(site.machine.workers)
        site.disturbed.append((worker.pid, time.monotonic(), time.monotonic()))
        worker.kill()
        worker.start()
        await asyncio.sleep(max(0.0, begun + 0.25 * site.faults - time.monotonic()))
    await site.calm()


def stop(leases: float) -> Callable[[Site], Awaitable[None]]:
    async def stop_who_asks(site: Site) -> None:
        seconds = leases * site.lease
        for _ in range(1 if site.is_short else round(site.seconds / (seconds + 5))):
            worker = await site.machine.asking()
            site.faults += 1
            stopped = time.monotonic()
            worker.pause()
            await asyncio.sleep(seconds)
            worker.go_on()
            site.disturbed.append((worker.pid, stopped, time.monotonic()))
            await site.calm()

    return stop_who_asks


async def roll(site: Site) -> None:
    for _ in range(site.times):
        for worker in site.machine.workers:
            site.faults += 1
            await worker.end()
            worker.start()
            await asyncio.sleep(0.3)
        await site.calm()


def fault(
    break_it: Callable[[ValkeyServer], object],
    mend: Callable[[ValkeyServer], object] = lambda _: None,
    *,
    seconds: float = 0.0,
    calm: float = 6.0,
) -> Callable[[Site], Awaitable[None]]:
    async def break_and_mend(site: Site) -> None:
        for _ in range(site.times):
            site.faults += 1
            begun = time.monotonic()
            break_it(site.server)
            await asyncio.sleep(min(seconds, site.seconds / 5))
            await site.crowd.until_noticed(since=begun, seconds=ALL_EXPIRE)
            mend(site.server)
            await site.calm(calm)

    return break_and_mend


def _command(*words: str) -> Callable[[ValkeyServer], object]:
    return lambda server: server.client.execute_command(*words)


RUNS: Final = (
    Run("kill", "kill", kill, "unacknowledged", 2.0, overlaps=(0.0, OVERLAP), leaves_leases=True),
    Run("short stop", "stop", stop(5 / 8), "nothing", BACKLOG),
    Run("long stop", "stop", stop(12 / 8), "unacknowledged", BACKLOG, overlaps=(0.0, OVERLAP)),
    Run("rolling", "rolling", roll, "nothing", 2.0, is_noticed=False),
    Run(
        "restart with AOF", "valkey", fault(ValkeyServer.kill, ValkeyServer.start, seconds=1.0),
        "nothing", 2.0, only_valkey=True, persistent=True,
    ),
    Run(
        "restart without", "valkey",
        fault(ValkeyServer.kill, ValkeyServer.start, seconds=1.0, calm=NO_LOOP),
        "everything", LOGINS, only_valkey=True,
    ),
    Run(
        "pause", "valkey", fault(ValkeyServer.pause, ValkeyServer.go_on, seconds=3.0),
        "nothing", 2.0, only_valkey=True,
    ),
    Run(
        "READONLY", "valkey",
        fault(_command("REPLICAOF", "127.0.0.1", "1"), _command("REPLICAOF", "NO", "ONE"),
              seconds=3.0),
        "nothing", 2.0, only_valkey=True,
    ),
    Run(
        "out of memory", "valkey",
        fault(_command("CONFIG", "SET", "maxmemory", "1mb"),
              _command("CONFIG", "SET", "maxmemory", "0"), seconds=3.0),
        "nothing", 2.0, only_valkey=True,
    ),
    Run(
        "flush", "valkey", fault(_command("FLUSHALL"), calm=NO_LOOP),
        "everything", LOGINS, only_valkey=True,
    ),
)  # fmt: skip


# ---------------------------------------------------------------------- all of them


async def settle(site: Site, run: Run, store: str, overlap: float, *, timed: bool) -> Outcome:
    """Let everybody finish, and count."""
    await site.crowd.end()
    kept = await site.crowd.kept()
    written = await site.machine.redemptions()
    slack = 1.0 if timed else 10.0
    return Outcome(
        run=run,
        store=store,
        overlap=overlap,
        lease=site.lease,
        faults=site.faults,
        tally=site.crowd.tally,
        book=Book(written, kept=kept, disturbed=site.disturbed, slack=slack),
        endless=count_endless(site.machine.plan.store, site.server, lease=site.lease),
        well_after=well_after(site.crowd.tally.samples, site.calms, len(site.crowd.users)),
        timed=timed,
    )


async def do(run: Run, store: str, overlap: float, options: argparse.Namespace) -> Outcome:
    """Start everything, break it, and end it."""
    chance = random.Random(f"{options.seed} {run.name} {store} {overlap}")
    users = [f"user{number}" for number in range(options.users)]
    with ExitStack() as stack:
        server = None
        if store == "valkey":
            server = stack.enter_context(valkey_server(persistent=run.persistent))
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        where = server.url if server else f"{folder}/sessions.db"
        refresh = RefreshSettings(lease_ttl=options.lease, lease_renewal=options.lease / 4)
        here = stack.enter_context(machine(where, users, refresh=refresh, overlap=overlap))
        async with here.http:
            await here.wait_until_ready()
            await here.tell(delay=0.1, lifetime=2, longest=5)
            crowd = Crowd(here, random=chance)
            site = Site(here, crowd, server, options.seconds, options.lease, chance)
            await crowd.begin()
            await asyncio.sleep(1.0)
            await run.do(site)
            return await settle(site, run, store, overlap, timed=not options.untimed)


def main() -> int:
    parser = argparse.ArgumentParser(description="What dies, stands still or forgets, under load.")
    names = {name: None for run in RUNS for name in (run.group, run.name)}
    parser.add_argument(
        "--runs", default=",".join(run.group for run in RUNS), help=", ".join(names)
    )
    parser.add_argument("--stores", default="sqlite,valkey")
    parser.add_argument("--seconds", type=float, default=60.0, help="of each run, about")
    parser.add_argument("--lease", type=float, default=RefreshSettings().lease_ttl)
    parser.add_argument("--users", type=int, default=60)
    parser.add_argument("--untimed", action="store_true", help="let all take as long as it takes")
    parser.add_argument("--seed", default=secrets.token_hex(4))
    options = parser.parse_args()
    stores = options.stores.split(",")
    if unknown := set(stores) - {"sqlite", "valkey"}:
        parser.error(f"no such store: {', '.join(unknown)}")
    wanted = set(options.runs.split(","))
    if unknown := wanted - names.keys():
        parser.error(f"no such run: {', '.join(unknown)}")
    # What was started is ended on the way out, also by who is told to end.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    print(f"seed {options.seed}\n\n{HEAD}", flush=True)
    kept = True
    for run in RUNS:
        if not {run.group, run.name} & wanted:
            continue
        for store in ("valkey",) if run.only_valkey else stores:
            for overlap in run.overlaps:
                outcome = asyncio.run(do(run, store, overlap, options))
                kept = kept and not outcome.broken_promises()
                print(outcome.row(), flush=True)
                for user in outcome.lost_too_much() + outcome.dropped():
                    print(*outcome.book.trail_of(user), sep="\n", file=sys.stderr)
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
