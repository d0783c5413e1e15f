"""The users of `chaos.py`: they ask for their tokens all the time, and check what they get."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from browsing import Browser
from watched_provider import subject_of

if TYPE_CHECKING:
    from random import Random

    from browsing import Answer
    from machine import Machine, Served

PATIENCE: Final = (40.0, 1.0)
"""Seconds that the tabs of a user wait for an answer: one for any that may come, while the
other soon goes to another worker, as a load balancer would let it."""

GOOD_WITHIN: Final = 1.0
"""Seconds; what takes longer is a sign that not all is well."""

DECLARED: Final = frozenset({"token_unavailable", "store_unavailable", "provider_unavailable"})
"""What a 503 of ours says."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One request for a token."""

    user: str
    sent: float
    took: float
    outcome: str
    """The status; `broken` (the connection), or `left` (the user did not wait)."""

    @property
    def is_good(self) -> bool:
        return self.outcome == "200" and self.took <= GOOD_WITHIN


@dataclass
class Tally:
    """What the users saw."""

    samples: list[Sample] = field(default_factory=list)
    logins: Counter[str] = field(default_factory=Counter)
    """Statuses of the login routes."""
    lost: Counter[str] = field(default_factory=Counter)
    """How often each user was logged out."""
    wrong_user: int = 0
    undeclared: Counter[str] = field(default_factory=Counter)
    """Answers that nobody was told to expect, and connections that broke for no reason."""

    def answers(self) -> Counter[str]:
        return Counter(sample.outcome for sample in self.samples)


class Crowd:
    """Users with two tabs each, whose requests are spread over all workers."""

    def __init__(self, machine: Machine, *, random: Random) -> None:
        self.machine = machine
        self.random = random
        self.tally = Tally()
        self.is_over = False
        self.users = [Visitor(self, name) for name in machine.plan.users]
        self._tabs: list[asyncio.Task[None]] = []

    async def begin(self) -> None:
        """Log everybody in, and let them go."""
        await asyncio.gather(*(user.log_in() for user in self.users))
        for user in self.users:
            self._tabs += [asyncio.create_task(user.browse(patience)) for patience in PATIENCE]

    async def end(self) -> None:
        """Let everybody have his last answer. Raises what a tab failed with."""
        self.is_over = True
        await asyncio.gather(*self._tabs)
        await asyncio.gather(*(user.settle() for user in self.users))

    async def kept(self) -> set[str]:
        """Return the digests of the refresh tokens that are in the store."""
        return set(await asyncio.gather(*(user.kept() for user in self.users)))

    async def until_noticed(self, *, since: float, seconds: float) -> None:
        """Wait until somebody who asked after `since` got another answer than 200."""
        deadline = since + seconds
        while time.monotonic() < deadline:
            if any(s.sent >= since and s.outcome != "200" for s in self.tally.samples):
                return
            await asyncio.sleep(0.1)

    async def until_well(self, *, since: float, seconds: float) -> None:
        """Wait until every user got a good answer to what he asked after `since`."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            asked = [sample for sample in self.tally.samples if sample.sent >= since]
            if len({sample.user for sample in asked if sample.is_good}) == len(self.users):
                return
            await asyncio.sleep(0.1)


class Visitor:
    """One user, who should never notice anything but a 503, and a login if it must be."""

    def __init__(self, crowd: Crowd, name: str) -> None:
        self._crowd = crowd
        self._name = name
        self._browser = Browser(crowd.machine.plan.url)
        self._logging_in = asyncio.Lock()

    async def browse(self, patience: float) -> None:
        """Be one tab, until it is over."""
        while not self._crowd.is_over:
            await asyncio.sleep(self._crowd.random.uniform(0.1, 0.6))
            await self._visit(patience)

    async def settle(self) -> None:
        """Wait for a refresh that may be under way still, for a tab that left."""
        deadline = time.monotonic() + max(PATIENCE)
        while time.monotonic() < deadline:
            if await self._visit(max(PATIENCE)):
                return
            await asyncio.sleep(0.1)

    async def log_in(self) -> None:
        """Log in, as often as it takes."""
        while True:
            with suppress(OSError, EOFError, _Refused):
                await self._crowd.machine.log_in_by(self._follow, self._name)
                return
            await asyncio.sleep(self._crowd.random.uniform(0.1, 0.3))

    async def kept(self) -> str:
        """Return the digest of the refresh token of the session."""
        answer = await self._browser.get(self._crowd.machine.urls[0], "/kept")
        return json.loads(answer.body).get("refresh_token") or ""

    async def _visit(self, patience: float) -> bool:
        """Ask for the token; True if it was given."""
        cookie = self._browser.cookie
        answer = await self._ask("/mine", patience)
        if answer and answer.status == 200:
            self._check(json.loads(answer.body))
            return True
        if answer and answer.status == 401:
            await self._come_back(cookie)
        return False

    async def _ask(self, path: str, patience: float) -> Answer | None:
        worker = self._crowd.random.choice(self._crowd.machine.workers)
        before, sent = worker.ended, time.monotonic()
        answer = None
        try:
            async with asyncio.timeout(patience):
                answer = await self._browser.get(worker.url, path)
            outcome = self._judge(answer)
        except TimeoutError:
            outcome = "left"
            if patience == max(PATIENCE):
                self._crowd.tally.undeclared["no answer"] += 1
        except (OSError, EOFError):
            outcome = "broken"
            self._excuse(worker, before)
        took = time.monotonic() - sent
        self._crowd.tally.samples.append(Sample(self._name, sent, took, outcome))
        return answer

    async def _follow(self, path: str) -> Answer:
        """Ask for a page of the login. Raises `_Refused` if it does not lead on."""
        worker = self._crowd.random.choice(self._crowd.machine.workers)
        before = worker.ended
        try:
            async with asyncio.timeout(max(PATIENCE)):
                answer = await self._browser.get(worker.url, path)
        except (OSError, EOFError):
            self._excuse(worker, before)
            raise
        status = self._judge(answer)
        self._crowd.tally.logins[status] += 1
        if answer.status != 303:
            raise _Refused
        return answer

    def _judge(self, answer: Answer) -> str:
        """Note what nobody was told to expect, and return the status."""
        if answer.status == 503:
            told = json.loads(answer.body).get("error") if answer.body[:1] == b"{" else None
            if told not in DECLARED or not answer.field("retry-after"):
                self._crowd.tally.undeclared["503 that is not ours"] += 1
        elif answer.status not in (200, 303, 401):
            self._crowd.tally.undeclared[f"{answer.status} {answer.body[:60]!r}"] += 1
        return str(answer.status)

    def _excuse(self, worker: Served, before: int) -> None:
        """Only a worker that was told to end may break a connection.

        `before` is how many had ended when it was opened.
        """
        if worker.ends == before:
            self._crowd.tally.undeclared["broken by a worker that lives"] += 1

    def _check(self, given: dict[str, str]) -> None:
        if not given["user"] == subject_of(given["token"]) == self._name:
            self._crowd.tally.wrong_user += 1

    async def _come_back(self, cookie: str) -> None:
        """Log in again, unless another tab has: the session is lost."""
        async with self._logging_in:
            if cookie == self._browser.cookie:
                self._crowd.tally.lost[self._name] += 1
                await self.log_in()


class _Refused(Exception):
    """A page of the login did not lead on."""
