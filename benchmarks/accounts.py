"""What a run of `chaos.py` cost, and whether that was more than it may."""

from __future__ import annotations

import sqlite3
import time
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final, Literal

from crowd import GOOD_WITHIN

from tokenward.tokens.refresh import SECOND_LOOK

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from chaos import Site
    from crowd import Sample, Tally
    from machine import ValkeyServer

A_YEAR: Final = 366 * 86_400


@dataclass(frozen=True)
class Run:
    """What is done, and what it may cost."""

    name: str
    group: str
    """By what `--runs` calls it."""
    do: Callable[[Site], Awaitable[None]]
    may_lose: Literal["unacknowledged", "nothing", "everything"]
    """What a strict provider and such a fault may cost a user. With an overlap it is nothing."""
    well_within: float
    """Seconds after the fault until all must be well."""
    leaves_leases: bool = False
    """Whether a lease must run out first, and who takes it must look out for its holder."""
    overlaps: tuple[float, ...] = (0.0,)
    only_valkey: bool = False
    persistent: bool = False
    is_noticed: bool = True
    """Whether the fault was none if no answer shows it."""


class Book:
    """What the provider wrote down, read with what became of the tokens that it gave.

    `kept` are the digests of the tokens that are in the store at the end, `disturbed` says
    which worker was killed or stood still, and from when to when. `slack` is how many seconds
    a request may take to the provider, and its answer from there into the store, where more
    is asked of two cores than they can do.
    """

    def __init__(
        self,
        written: dict,
        *,
        kept: set[str],
        disturbed: list[tuple[int, float, float]],
        slack: float = 1.0,
    ) -> None:
        self.redemptions: list[dict] = written["redemptions"]
        self.reused: int = written["reused"]
        """Families of refresh tokens that were ended for a reuse."""
        self._kept = kept
        self._slack = slack
        self._disturbed = disturbed

    @cached_property
    def rotations(self) -> list[dict]:
        return [one for one in self.redemptions if "given" in one]

    @cached_property
    def _unacknowledged(self) -> list[dict]:
        # A token that came back and was refused belongs to a worker that was too late with it.
        good = self._kept.union(one["spent"] for one in self.rotations)
        return [one for one in self.rotations if one["given"] not in good]

    @property
    def unacknowledged(self) -> Counter[str]:
        """By user."""
        return Counter(one["user"] for one in self._unacknowledged)

    @cached_property
    def dropped(self) -> Counter[str]:
        """Unacknowledged ones though nobody who asked with the same token was disturbed over it.

        Who stood still before he asked is as bad as who did after it: he spends a token once
        more that another worker has spent meanwhile.
        """
        return Counter(
            one["user"]
            for one in self._unacknowledged
            if not any(map(self._was_disturbed, self._asked_with(one["spent"])))
        )

    def _asked_with(self, spent: str) -> list[dict]:
        return [one for one in self.redemptions if one["spent"] == spent]

    def _was_disturbed(self, redemption: dict) -> bool:
        return any(
            redemption["worker"] == worker
            and redemption["at"] <= over + self._slack
            and begun <= redemption["over"] + self._slack
            for worker, begun, over in self._disturbed
        )

    def past_overlap(self, overlap: float) -> Counter[str]:
        """Return who came back too late, since nobody who asked in time lived to see the answer."""
        late: Counter[str] = Counter()
        for one in self.redemptions:
            asked = self._asked_with(one["spent"])
            earlier = [r for r in asked if "given" in r and r["at"] < one["at"]]
            if "given" in one or not earlier or one["at"] - earlier[0]["at"] < overlap:
                continue
            late[earlier[0]["user"]] += all(map(self._was_disturbed, earlier))
        return late

    def trail_of(self, user: str) -> list[str]:
        """Return what was redeemed for a user, for those who look for a cause."""
        own = [one for one in self.rotations if one["user"] == user]
        tokens = {one["spent"] for one in own} | {one["given"] for one in own}
        return [
            f"{one['at']:.2f} {user}: {one['spent']} -> {one.get('given', 'refused')} by"
            f" {one['worker']}{', who was disturbed' * self._was_disturbed(one)}"
            for one in self.redemptions
            if one["spent"] in tokens
        ]


@dataclass(frozen=True)
class Outcome:
    """What a run brought."""

    run: Run
    store: str
    overlap: float
    """Seconds for which the provider takes a token again that it has rotated."""
    lease: float
    faults: int
    tally: Tally
    book: Book
    endless: int
    """What is in the store without an end, or a lease with one that is too far away."""
    well_after: float
    timed: bool
    """Whether it counts how long it took until all was well."""

    def broken_promises(self) -> list[str]:
        """Return what did not hold."""
        run, tally = self.run, self.tally
        answers = tally.answers()
        checks = (
            *((n, f"{n} x {what}") for what, n in tally.undeclared.items()),
            *((n, f"{user} lost {n} sessions") for user, n in self.lost_too_much().items()),
            *((n, f"{user}: {n} rotations dropped") for user, n in self.dropped().items()),
            (tally.wrong_user, f"{tally.wrong_user} tokens of another user"),
            (self.endless, f"{self.endless} keys without an end"),
            (
                self.timed and self.well_after > self._well_within,
                f"well after {self.well_after:.1f} s",
            ),
            (run.is_noticed and answers.keys() <= {"200"}, "nobody noticed"),
        )
        return [problem for is_broken, problem in checks if is_broken]

    @property
    def _well_within(self) -> float:
        waits = self.lease + SECOND_LOOK if self.run.leaves_leases else 0.0
        return self.run.well_within + waits

    @property
    def _counts_rotations(self) -> bool:
        """Whether the store had at the end what was written to it."""
        return self.run.may_lose != "everything"

    def dropped(self) -> Counter[str]:
        """Return the users for whom a refresh token was dropped, and nobody knows why."""
        return self.book.dropped if self._counts_rotations else Counter()

    def lost_too_much(self) -> Counter[str]:
        """Return the users who lost a session and should not have."""
        lost = self.tally.lost
        if self.run.may_lose == "everything":
            return lost - Counter(dict.fromkeys(lost, self.faults))
        if self.overlap:
            return lost - self.book.past_overlap(self.overlap)
        return lost - self.book.unacknowledged if self.run.may_lose == "unacknowledged" else lost

    def row(self) -> str:
        """Return the row of the table."""
        tally, book = self.tally, self.book
        answers = tally.answers() + tally.logins
        cells = (
            self.run.name, self.store, "overlap" if self.overlap else "strict", self.faults,
            answers.total(), ", ".join(f"{n} x {what}" for what, n in sorted(answers.items())),
            len(book.rotations), book.unacknowledged.total() if self._counts_rotations else "",
            tally.lost.total(), book.reused, tally.wrong_user, self.endless,
            f"{self.well_after:.1f} s", "; ".join(self.broken_promises()) or "kept",
        )  # fmt: skip
        return f"| {' | '.join(map(str, cells))} |"


HEAD: Final = """
| run | store | provider | faults | requests | answers | rotations | unacknowledged | lost | reuse | wrong user | endless | well after | promises |
|---|---|---|---|---|---|---|---|---|---|---|---|---|---|
""".strip()  # noqa: E501 - a table of Markdown


def well_after(samples: list[Sample], calms: list[tuple[float, float]], users: int) -> float:
    """Return the seconds after which all was well, in the worst of the calms.

    All is well from the moment that every user had a good answer, and all who asked
    later had one too. Who asks in the last second is left out: what comes next may be
    the next fault.
    """
    worst = 0.0
    for begun, over in calms:
        asked = [s for s in samples if begun <= s.sent < over - GOOD_WITHIN]
        # A 401 is followed by a login, and it is the answer after that which is good.
        bad = [s.sent for s in asked if not s.is_good and s.outcome != "401"]
        first: dict[str, float] = {}
        for sample in sorted(asked, key=lambda s: s.sent):
            if sample.is_good:
                first.setdefault(sample.user, sample.sent + sample.took)
        late = float("inf") if len(first) < users else max(first.values()) - begun
        worst = max(worst, late, *(sent - begun for sent in bad))
    return worst


def count_endless(where: str, server: ValkeyServer | None, *, lease: float) -> int:
    """Count what would stay in the store for ever, and leases that are too long."""
    if server:
        names = server.client.scan_iter(count=1000)
        found = [(name.decode(), server.client.pttl(name)) for name in names]
        # -1: it has no end; -2: it has just ended.
        left = [(name, ends / 1000) for name, ends in found if ends != -2]
    else:
        with sqlite3.connect(where) as connection:
            rows = connection.execute(
                "SELECT key, ends FROM entries UNION ALL SELECT key, ends FROM leases"
                " UNION ALL SELECT name, ends FROM members"
            )
            # A row that has ended lies there until it is tidied away; a key of Valkey is gone.
            left = [(name, max(0.0, ends - time.time())) for name, ends in rows]
    return sum(
        not 0 <= ends <= (lease if name.endswith(":lease") else A_YEAR) for name, ends in left
    )
