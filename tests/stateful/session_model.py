"""What must be so: a small model of logins and browsers beside the real thing.

It knows nothing of how sessions are kept. A `Login` is what a user got by signing in
once; a browser holds one of them at most. The rules of the machine write down what they
did and what was answered; `session_promises.py` judges.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from state_world import ABSOLUTE, IDLE, INTERVAL

from tokenward.events import RevocationFailed
from tokenward.web.attempts import LIFETIME

if TYPE_CHECKING:
    from collections.abc import Sequence

    from state_world import Answer, World

    from tokenward.testing import Family
    from tokenward.tokens.session import Session

_HALF = {"half a login", "half a logout"}


@dataclass
class Attempt:
    """A login under way."""

    browser: int
    sub: str
    sid: str
    """The provider's name for the sign-on: every one is another."""
    state: str
    callback: str
    """Where the provider sent the browser."""
    target: str
    """Where the login is to end."""
    began_at: float
    authorized_at: float
    key: int
    """The number of the key that sealed its cookie."""
    used: bool = False
    """Whether an answer was taken for it, or may have been."""
    exchanges: int = 0
    """How often its code was sent to the provider."""
    login: Login | None = None
    """What came of it."""


@dataclass
class Login:
    """What a user got by signing in once."""

    sid: str
    sub: str
    key: str
    """`Session.id`."""
    born: float
    seen: float
    """When its idle time began anew for certain."""
    seen_last: float
    """When it may have begun anew."""
    sealed: set[int]
    """The numbers of the keys that what is kept of it is sealed with."""
    generation: int = 0
    """How often its refresh token was redeemed, as far as was looked at."""
    data: dict[str, str] | None = None
    """`request.session`; None where it is not certain."""
    over: str = ""
    """Why it must not be there any more."""
    owed: bool = False
    """Whether its refresh token is to be given back."""
    excuses: set[str] = field(default_factory=set)
    """Why it may be lost at its next refresh, or be so already."""
    sighted: set[int] = field(default_factory=set)
    """The processes that have seen it."""
    is_remembered: bool = True
    """False where nobody can know any more that it ended: documented for cookies."""

    @property
    def expires_at(self) -> float:
        return self.born + ABSOLUTE

    def is_within_limits(self, now: float) -> bool:
        """Whether it is certainly not over by itself."""
        return now < self.expires_at and now < self.seen + IDLE - INTERVAL

    def is_past_limits(self, now: float) -> bool:
        """Whether it is certainly over by itself."""
        return now >= self.expires_at or now >= self.seen_last + IDLE


@dataclass
class Snapshot:
    """The cookies that a browser had, and sent with requests that are yet to arrive."""

    cookies: dict[str, str]
    login: Login | None
    sealed: frozenset[int]
    superseded_at: float = float("inf")


@dataclass
class Visitor:
    """What the model knows of a browser."""

    login: Login | None = None
    finished: list[float] = field(default_factory=list)
    """When it finished logins, for the guard against loops."""
    past: list[Snapshot] = field(default_factory=list)
    lost: set[str] = field(default_factory=set)
    """Sign-ons that it lost. A cookie may go on naming one: a process that cannot ask its store
    does not know."""


@dataclass
class Exchange:
    """One request with its answer, and what was known when it was sent."""

    browser: int
    worker: int
    target: str
    login: Login | None
    """Whose cookies went with it."""
    must_live: bool
    may_live: bool
    is_fresh: bool
    """Whether the session had a token that was good for some time, and a store that worked."""
    is_store_broken: bool
    cookies: dict[str, str] = field(repr=False)
    applies: bool
    """Whether the answer reaches the browser."""
    answer: Answer | None = None
    was_troubled: bool = False

    @property
    def gave_cookie(self) -> bool:
        """Whether the browser got a session with it."""
        lines = [v for k, v in self.answer.headers if k == "set-cookie"] if self.answer else []
        return self.applies and any(line.startswith("__Host-tokenward=") for line in lines)


class Book:
    """All of the model, for one example."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.logins: list[Login] = []
        self.attempts: list[Attempt] = []
        self.visitors = [Visitor() for _ in world.browsers]
        self.exchanges: list[Exchange] = []
        """Of this step."""
        self.keys: set[str] = set()
        """Every `Session.id` that there ever was."""
        self.abandoned: set[str] = set()
        """Sign-ons whose tokens nobody here can know: their answer was lost."""
        self._read = 0

    # ---------------------------------------------------------------------- the provider

    @property
    def families(self) -> dict[str | None, Family]:
        return {family.grant.sid: family for family in self.world.op.families}

    def is_granted(self, login: Login) -> bool:
        """Whether the provider would still renew its tokens."""
        family = self.families[login.sid]
        return family.ended is None and self.world.clock() < family.expires_at

    @property
    def living(self) -> set[str]:
        """The sign-ons of which browsers have the sessions."""
        return {visitor.login.sid for visitor in self.visitors if visitor.login}

    @property
    def reported(self) -> int:
        """How many refresh tokens could not be given back, by what was told."""
        events = list(self.world.events)
        for worker in self.world.workers:
            events += worker.events
        return sum(isinstance(event, RevocationFailed) for event in events)

    # ------------------------------------------------------------------------- questions

    def is_readable(self, login: Login, worker: int, sealed: frozenset[int] | None = None) -> bool:
        """Whether a worker has the keys for it: while new ones are rolled out, it may not."""
        return set(sealed if sealed is not None else login.sealed) <= set(
            self.world.workers[worker].keys
        )

    def may_live(self, login: Login) -> bool:
        return not login.over and not login.is_past_limits(self.world.clock())

    def must_live(self, login: Login) -> bool:
        """Whether it may not be lost: none of the four reasons is there."""
        return (
            not login.over
            and not login.excuses
            and login.is_within_limits(self.world.clock())
            and self.is_granted(login)
        )

    def must_succeed(self, attempt: Attempt, worker: int) -> bool:
        """Whether the callback of an attempt must end in a session."""
        now = self.world.clock()
        return (
            not attempt.used
            and now < attempt.authorized_at + 60
            and now <= attempt.began_at + LIFETIME
            and attempt.key in self.world.workers[worker].keys
            and not self.world.is_troubled
            and not any(worker.store.is_broken for worker in self.world.workers)
            and not self.world.op_is_down
            and not self.world.op._script._planned
        )

    # --------------------------------------------------------------------- what happened

    def begin(
        self, attempt: Attempt, session: Session, workers: Sequence[int], old: Login | None
    ) -> Login:
        """Write down a new login in the browser of `attempt`.

        It ends the `old` one, whose cookie came with the answer. One that came later only
        loses its browser: nobody told the worker of it.
        """
        now = self.world.clock()
        visitor = self.visitors[attempt.browser]
        if old is not None and not all(self.is_readable(old, worker) for worker in workers):
            # It depends on which of them took the answer.
            old.excuses.add("half a login")
        elif old is not None:
            self.end(old, "replaced", owed=not old.over)
        login = Login(
            attempt.sid,
            attempt.sub,
            session.id,
            session.created_at,
            now,
            now,
            {self.world.workers[worker].keys[0] for worker in workers},
        )
        attempt.login = visitor.login = login
        visitor.finished.append(now)
        self.logins.append(login)
        return login

    def end(self, login: Login, reason: str, *, owed: bool) -> None:
        if not login.over:
            login.over, login.owed = reason, owed

    def forget_past(self) -> None:
        """What coordinates sessions is lost: old cookies and used answers are as good as new."""
        self.attempts = [attempt for attempt in self.attempts if not attempt.used]
        for login in self.logins:
            login.is_remembered = login.is_remembered and not login.over
        for visitor in self.visitors:
            visitor.past.clear()

    def reconsider(self, found: list[Session | None]) -> None:
        """Take back what a logout, or another login, could not finish.

        It found a session that could not be ended, for want of a store or of a key; so what
        was being answered then may give its cookie to the browser again.
        """
        halves = {each.sid: each for each in self.logins if _HALF & each.excuses and not each.over}
        for visitor, session in zip(self.visitors, found, strict=True):
            if session is not None:
                visitor.login = halves.get(str(session.proof["sid"]), visitor.login)

    def settle(self, found: list[Session | None]) -> None:
        """Take over into the model what was allowed to happen, and did."""
        now = self.world.clock()
        for visitor, session in zip(self.visitors, found, strict=True):
            login = visitor.login
            if login is None:
                continue
            if session is None:
                self.end(login, "lost", owed=False)
                visitor.lost.add(login.sid)
                visitor.login = None
            elif self._is_current(session) and not self.world.is_busy:
                login.excuses -= {"unanswered", "unreceived", "unsaved"}
        self._read = len(self.world.op.requests)
        for login in self.logins:
            login.excuses.discard("a late answer")
            generation = self.families[login.sid].generation
            if generation != login.generation:
                login.seen_last = now
            login.generation = generation
        for login in self.logins:
            if not login.over and login.is_past_limits(now):
                login.over = "limits"
        self.exchanges.clear()

    def _is_current(self, session: Session) -> bool:
        token = session.tokens.refresh_token
        return token is not None and self.world.op.is_active(token)

    def excuse(self) -> None:
        """Note why sessions may be lost, by what the provider was asked since the last look."""
        self._note_lost_answers()
        broken = any(worker.store.is_broken for worker in self.world.workers)
        records = self._new_records()
        unanswered = {record.sub for record in records if not record.answered}
        answered = {record.sub for record in records}
        for login in self.logins:
            # What was asked for in this step or before, and is lost now.
            if login.sub in unanswered and not login.over:
                login.excuses.add("unanswered")
            if self.families[login.sid].generation == login.generation:
                continue
            if login.sub not in answered:
                # The provider has acted, and is still about to answer.
                login.excuses.add("unanswered")
            if broken:
                login.excuses.add("unsaved")
            received = any(each.gave_cookie for each in self.exchanges if each.login is login)
            if self.world.in_cookies and not received:
                login.excuses.add("unreceived")

    def _new_records(self) -> list[object]:
        return [
            record
            for record in self.world.op.requests[self._read :]
            if record.grant_type == "refresh_token" and record.outcome == "ok"
        ]

    def _note_lost_answers(self) -> None:
        known = {login.sid for login in self.logins}
        for record in self.world.op.requests[self._read :]:
            if record.grant_type == "authorization_code" and not record.answered:
                self.abandoned |= {str(sid) for sid in self.families if sid not in known}
