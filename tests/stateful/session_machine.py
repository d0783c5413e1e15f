"""What users, providers, stores and operators do, in any order.

A rule does something and writes down what it knew and what was answered; after each the
promises are checked. A rule that fails by itself is as much a finding.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar, Final
from urllib.parse import parse_qsl, quote, urlencode

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from session_model import Attempt, Book, Exchange, Login, Snapshot
from session_promises import View, check, tally
from state_world import CARRIED, NAVIGATION, SCRIPT, USERS, World

from tokenward.errors import StoreUnavailable
from tokenward.secret import Secret
from tokenward.testing import (
    BrokenSignature,
    CutAnswer,
    ForeignKey,
    HtmlAnswer,
    LostAnswer,
    LostRequest,
    ServerError,
    Slow,
    TooManyRequests,
    UnsignedIdToken,
    WrongClaim,
)
from tokenward.web.attempts import attempt_key

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping, Sequence

    from state_world import Answer, Places

    from tokenward.testing import Fault
    from tokenward.tokens.session import Session

SAME_ORIGIN: Final = {**NAVIGATION, "sec-fetch-site": "same-origin"}
CROSS_SITE: Final = {**NAVIGATION, "sec-fetch-site": "cross-site", "origin": "https://evil.test"}

browsers = st.integers(0, 2)
workers = st.integers(0, 1)
picks = st.integers(0, 7)
"""Which of those that there are."""

TARGETS: Final = {
    None: "/",
    "/me": "/me",
    "/page?a=b%20c#d": "/page?a=b%20c#d",
    "https://app.test/page": "/page",
    "https://evil.test/": "/",
    "//evil.test": "/",
    "/\\evil.test": "/",
    "/auth/logout": "/",
}
"""What is asked for as `return_to`, and where the login is to end."""

FAULTS: Final[Mapping[str, tuple[str, Fault]]] = {
    "token 503": ("token", ServerError(503, retry_after=5)),
    "token 500": ("token", ServerError(500)),
    "token 429": ("token", TooManyRequests(5)),
    "token is a page": ("token", HtmlAnswer()),
    "token request lost": ("token", LostRequest()),
    "token answer lost": ("token", LostAnswer()),
    "token answer cut": ("token", CutAnswer(40)),
    "token slow": ("token", Slow(3)),
    "token slow after acting": ("token", Slow(12, after_acting=True)),
    "token times out": ("token", Slow(35, after_acting=True)),
    "revocation 503": ("revocation", ServerError(503)),
    "revocation slow": ("revocation", Slow(3)),
    "keys 503": ("jwks", ServerError(503)),
    "metadata 503": ("discovery", ServerError(503)),
}

FORGERIES: Final[Mapping[str, Fault]] = {
    "another nonce": WrongClaim({"nonce": "x"}),
    "another audience": WrongClaim({"aud": "other"}),
    "another issuer": WrongClaim({"iss": "https://evil.test"}),
    "over": WrongClaim({"exp": 1}),
    "unsigned": UnsignedIdToken(),
    "a foreign key": ForeignKey(),
    "a broken signature": BrokenSignature(),
}

OUTAGES: Final[Mapping[str, tuple[frozenset[str], frozenset[str]]]] = {
    "all": (frozenset({"all"}), frozenset()),
    "reading": (frozenset({"get", "get_many"}), frozenset()),
    "writing": (frozenset({"put"}), frozenset()),
    "written, and not told": (frozenset(), frozenset({"put"})),
    "deleting": (frozenset({"delete"}), frozenset()),
    "deleted, and not told": (frozenset(), frozenset({"delete"})),
    "leases": (frozenset({"acquire", "renew", "release"}), frozenset()),
    "touching": (frozenset({"touch"}), frozenset()),
}
"""What a store does not do; and what it does without telling."""

SPOILT: Final = ("state", "iss", "no iss", "code", "code of another", "error", "two")
"""What is wrong with an authorization response."""

MEANWHILE: Final = ("logout", "administrator", "login", "nothing", "leave", "store")
"""What happens while a refresh is under way."""

EXPIRED: Final = 605
"""Seconds after which every access token is over."""

LAST_STAGE: Final = 13
"""Of the deployments; the auditor has the keys of so many."""

PAUSES: Final = (1, 6, 31, 65, 545, 605, 700, 1800, 3530, 3605, 7000)
"""Seconds: around the limits of tokens, stragglers, idle time and session."""


class SessionMachine(RuleBasedStateMachine):
    """One example: a world, the model of it, and what is done.

    A rule that finds nothing to do does nothing. It is no precondition, so that what is
    drawn depends on nothing but what was drawn.
    """

    kind: ClassVar[str]
    places: ClassVar[Places]
    seen: ClassVar[Counter[str]] = Counter()
    """What was answered, over all examples."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(self.kind, self.places)
        self.book = Book(self.world)
        self.stages = [0 for _ in self.world.workers]

    def teardown(self) -> None:
        self.world.close()

    # ------------------------------------------------------------------------- the tools

    def run(self, step: Coroutine[Any, Any, None]) -> None:
        self.world.loop.run(step)

    def worker(self, number: int) -> int:
        return number % len(self.world.workers)

    async def send(
        self,
        browser: int,
        worker: int,
        target: str,
        *,
        old: Snapshot | None = None,
        apply: bool = True,
        certain: bool = True,
        headers: Mapping[str, str] = NAVIGATION,
        method: str = "GET",
        path: str | None = None,
    ) -> Answer:
        """Send a request and write it down. `old` are cookies of before; `apply` the answer."""
        exchange = await self._expect(
            browser, worker, target, old=old, certain=certain, applies=apply
        )
        self.book.exchanges.append(exchange)
        try:
            answer = await self.world.send(
                worker, path or target, cookies=exchange.cookies, headers=headers, method=method
            )
        except asyncio.CancelledError:
            # What it began goes on, and what is sealed anew then tells nobody.
            if exchange.login and self.book.is_readable(exchange.login, worker):
                exchange.login.sealed.add(self.world.workers[worker].keys[0])
            raise
        exchange.answer = answer
        exchange.was_troubled = exchange.was_troubled or self.world.is_troubled
        if apply:
            self._take(browser, answer)
        self._note_use(exchange)
        return answer

    async def _expect(
        self,
        browser: int,
        worker: int,
        target: str,
        *,
        old: Snapshot | None,
        certain: bool,
        applies: bool,
    ) -> Exchange:
        book, world = self.book, self.world
        login = old.login if old else book.visitors[browser].login
        sealed = None
        if old and login:
            # In a store, the record may have been sealed anew since.
            sealed = old.sealed if world.in_cookies else old.sealed | login.sealed
        cookies = old.cookies if old else world.browsers[browser].cookies()
        must = login is not None and book.must_live(login)
        must = must and certain and book.is_readable(login, worker, sealed)
        store = world.workers[worker].store
        fresh = False
        if login and must and not store.is_broken:
            session = await world.look(cookies)
            ends = session.tokens.access_token.expires_at.timestamp() if session else 0.0
            fresh = world.clock() + 15 < ends
        return Exchange(
            browser=browser,
            worker=worker,
            target=target,
            login=login,
            must_live=must,
            may_live=login is not None and book.may_live(login),
            is_fresh=fresh,
            is_store_broken=store.is_broken,
            cookies=cookies,
            applies=applies,
            was_troubled=world.is_troubled,
        )

    def _take(self, browser: int, answer: Answer) -> None:
        """Let the browser keep what came, and remember what it had before."""
        visitor, holder = self.book.visitors[browser], self.world.browsers[browser]
        before = holder.cookies()
        holder.take(answer)
        if before != holder.cookies():
            sealed = frozenset(visitor.login.sealed) if visitor.login else frozenset()
            old = Snapshot(before, visitor.login, sealed, self.world.clock())
            visitor.past = [*visitor.past, old][-5:]

    def _note_use(self, exchange: Exchange) -> None:
        login, answer, now = exchange.login, exchange.answer, self.world.clock()
        if login is None:
            return
        login.seen_last = max(login.seen_last, now)
        worker = self.world.workers[exchange.worker]
        if not self.book.is_readable(login, exchange.worker):
            return
        used = exchange.target in ("/me", "/token", "/page", "/keep")
        if not (used and exchange.applies and answer and answer.status == 200):
            # What looks at a session may seal it anew.
            login.sealed.add(worker.keys[0])
            return
        if not exchange.is_store_broken:
            login.seen = now
        # What workers write at once is sealed with the key of one of them.
        clean = not (exchange.is_store_broken or self.world.is_busy or self.world.is_rolling)
        if worker.number not in login.sighted and clean and not exchange.was_troubled:
            login.sealed = {worker.keys[0]}
        else:
            login.sealed.add(worker.keys[0])
        login.sighted.add(worker.number)

    async def start(
        self, browser: int, worker: int, sub: str, return_to: str | None
    ) -> Attempt | None:
        """Begin a login and sign in at the provider; None if it could not be begun."""
        query = f"?return_to={quote(return_to, safe='')}" if return_to else ""
        now = self.world.clock()
        troubled = self.world.is_troubled or self.world.op_is_down
        planned = bool(self.world.op._script._planned)
        answer = await self.send(browser, worker, f"/auth/login{query}", path=None)
        if answer.status != 303:
            recent = [at for at in self.book.visitors[browser].finished if now - at < 60]
            assert troubled or planned or len(recent) >= 3, "a login could not be begun"
            return None
        state = dict(parse_qsl(answer.location.partition("?")[2]))["state"]
        callback = await self.world.authorize(answer.location, sub)
        code = dict(parse_qsl(callback.partition("?")[2]))["code"]
        attempt = Attempt(
            browser=browser,
            sub=sub,
            sid=self.world.op._core.ledger._codes[code].grant.sid or "",
            state=state,
            callback=callback,
            target=TARGETS[return_to],
            began_at=now,
            authorized_at=self.world.clock(),
            key=self.world.workers[worker].keys[0],
        )
        self.book.attempts = [*self.book.attempts, attempt][-12:]
        return attempt

    async def finish(self, attempt: Attempt, *numbers: int, target: str | None = None) -> None:
        """Come back from the provider, to all of these workers at once."""
        has_cookie = self._has_cookie(attempt)
        expected = has_cookie and all(self.book.must_succeed(attempt, n) for n in numbers)
        before = self.world.op.count("token", grant_type="authorization_code")
        old = self.book.visitors[attempt.browser].login
        calls = [
            self.send(attempt.browser, worker, target or attempt.callback, certain=False)
            for worker in numbers
        ]
        answers = await asyncio.gather(*calls)
        attempt.exchanges += self.world.op.count("token", grant_type="authorization_code") - before
        await self._recognize(attempt, numbers, old)
        attempt.used = attempt.used or has_cookie
        if target is not None:
            assert attempt.login is None, "a spoilt answer was taken"
            assert all(answer.status in (400, 503) for answer in answers)
        elif expected:
            assert attempt.login is not None, "a login that must succeed did not"
            assert attempt.target in [answer.location for answer in answers]

    async def _recognize(self, attempt: Attempt, workers: Sequence[int], old: Login | None) -> None:
        """See whether the browser has the session of this attempt now, in place of the `old`."""
        if attempt.login is not None:
            return
        session = await self.world.look(self.world.browsers[attempt.browser].cookies())
        if session is not None and session.proof["sid"] == attempt.sid:
            assert session.id not in self.book.keys, "the id was used before"
            self.book.keys.add(session.id)
            login = self.book.begin(attempt, session, workers, old)
            await self._arrive(attempt.browser, workers[0], login)
        elif old is not None and any(w.store.is_broken for w in self.world.workers):
            # It may have been ended for a login that could not be completed.
            old.excuses.add("half a login")
            old.owed = True

    async def _arrive(self, browser: int, worker: int, login: Login) -> None:
        """Follow the redirect of the callback, and see what is left of what was kept before."""
        answer = await self.send(browser, worker, "/me", headers=SCRIPT)
        if answer.status == 200 and self.book.exchanges[-1].must_live:
            login.data = answer.json()["data"]
            assert set(login.data) <= {CARRIED}, "what a visitor had is there after the login"

    def _has_cookie(self, attempt: Attempt) -> bool:
        name = attempt_key(Secret(attempt.state))
        cookies = self.world.browsers[attempt.browser].cookies()
        return any(cookie.endswith(name) for cookie in cookies)

    def _logged_in(self, pick: int) -> int | None:
        """Return a browser that has a session."""
        there = [n for n, visitor in enumerate(self.book.visitors) if visitor.login]
        return there[pick % len(there)] if there else None

    def _attempts(self, *, used: bool) -> list[Attempt]:
        return [attempt for attempt in self.book.attempts if attempt.used is used]

    # ------------------------------------------------------------------------ logging in

    @initialize()
    def somebody_is_there(self) -> None:
        for browser, sub in enumerate(USERS):
            self.log_in(browser, 0, 1, sub)

    @rule(browser=browsers, worker=workers, other=workers, sub=st.sampled_from(USERS))
    def log_in(self, browser: int, worker: int, other: int, sub: str) -> None:
        async def step() -> None:
            attempt = await self.start(browser, self.worker(worker), sub, None)
            if attempt:
                await self.finish(attempt, self.worker(other))

        self.run(step())

    @rule(
        browser=browsers,
        worker=workers,
        sub=st.sampled_from(USERS),
        return_to=st.sampled_from(list(TARGETS)),
    )
    def begin_a_login(self, browser: int, worker: int, sub: str, return_to: str | None) -> None:
        async def step() -> None:
            await self.start(browser, self.worker(worker), sub, return_to)

        self.run(step())

    @rule(pick=picks, worker=workers, twice=st.booleans())
    def finish_a_login(self, pick: int, worker: int, twice: bool) -> None:
        if not (attempts := self._attempts(used=False)):
            return
        attempt = attempts[pick % len(attempts)]
        numbers = range(len(self.world.workers)) if twice else [self.worker(worker)]
        self.run(self.finish(attempt, *numbers))

    @rule(pick=picks, worker=workers, late=st.booleans())
    def repeat_an_answer(self, pick: int, worker: int, late: bool) -> None:
        """The back button, or a callback that was held up on its way with all its cookies."""
        if not (attempts := self._attempts(used=True)):
            return
        attempt = attempts[pick % len(attempts)]
        name = attempt_key(Secret(attempt.state))
        past = [
            old
            for old in self.book.visitors[attempt.browser].past
            if any(cookie.endswith(name) for cookie in old.cookies)
            and self.world.clock() - old.superseded_at < 30
        ]

        async def step() -> None:
            before = self.world.op.count("token", grant_type="authorization_code")
            answer = await self.send(
                attempt.browser,
                self.worker(worker),
                attempt.callback,
                old=past[-1] if late and past else None,
                certain=False,
            )
            calls = self.world.op.count("token", grant_type="authorization_code") - before
            attempt.exchanges += calls
            if calls:
                carried = self.book.exchanges[-1].login
                await self._recognize(attempt, [self.worker(worker)], carried)
            elif answer.status == 303:
                assert answer.location == "/"

        self.run(step())

    @rule(pick=picks, step=st.integers(1, 2), worker=workers)
    def an_answer_in_another_browser(self, pick: int, step: int, worker: int) -> None:
        if not (attempts := self._attempts(used=False)):
            return
        attempt = attempts[pick % len(attempts)]
        other = (attempt.browser + step) % len(self.world.browsers)

        async def act() -> None:
            before = self.world.op.count("token")
            answer = await self.send(other, self.worker(worker), attempt.callback, certain=False)
            assert answer.status in (400, 503)
            assert self.world.op.count("token") == before, "a code was sent for another browser"

        self.run(act())

    @rule(
        pick=picks,
        other=picks,
        worker=workers,
        spoil=st.sampled_from(
            ["state", "iss", "no iss", "code", "code of another", "error", "two"]
        ),
    )
    def a_spoilt_answer(self, pick: int, other: int, worker: int, spoil: str) -> None:
        if not (attempts := self._attempts(used=False)):
            return
        attempt, another = attempts[pick % len(attempts)], attempts[other % len(attempts)]
        pairs = dict(parse_qsl(attempt.callback.partition("?")[2]))
        theirs = dict(parse_qsl(another.callback.partition("?")[2]))
        extra = ""
        match spoil:
            case "state":
                pairs["state"] = pairs["state"][::-1]
            case "iss":
                pairs["iss"] = "https://evil.test"
            case "no iss":
                del pairs["iss"]
            case "code":
                pairs["code"] = "made-up"
            case "code of another" if another is not attempt:
                pairs["code"] = theirs["code"]
                another.used = True
            case "error":
                pairs = {key: pairs[key] for key in ("state", "iss")} | {"error": "access_denied"}
            case _:
                extra = f"&code={theirs['code']}"
        target = f"/auth/callback?{urlencode(pairs)}{extra}"
        kept = attempt.used
        self.run(self.finish(attempt, self.worker(worker), target=target))
        if spoil == "state":
            # It is nobody's answer, and the attempt is as good as before.
            attempt.used = kept

    @rule(
        browser=browsers,
        worker=workers,
        sub=st.sampled_from(USERS),
        forgery=st.sampled_from(list(FORGERIES)),
    )
    def a_forged_id_token(self, browser: int, worker: int, sub: str, forgery: str) -> None:
        if self.world.op._script._planned:
            return

        async def step() -> None:
            attempt = await self.start(browser, self.worker(worker), sub, None)
            if attempt is None:
                return
            self.world.op.misbehave("token", FORGERIES[forgery])
            await self.finish(attempt, self.worker(worker), target=attempt.callback)
            self.world.op.behave("token")

        self.run(step())

    # ------------------------------------------------------------------------- using it

    @rule(
        pick=picks,
        worker=workers,
        page=st.sampled_from(["/token", "/token", "/me", "/page", "/"]),
    )
    def ask(self, pick: int, worker: int, page: str) -> None:
        there = self._logged_in(pick)
        browser = pick % len(self.world.browsers) if there is None else there

        async def step() -> None:
            headers = NAVIGATION if page == "/page" else SCRIPT
            answer = await self.send(browser, self.worker(worker), page, headers=headers)
            exchange = self.book.exchanges[-1]
            if page != "/me" or answer.status != 200 or not exchange.must_live:
                return
            login = self.book.visitors[browser].login
            assert login is not None
            data = answer.json()["data"]
            if login.data is None:
                login.data = data
            assert data == login.data

        self.run(step())

    @rule(pick=picks, number=st.integers(2, 4), aged=st.booleans())
    def ask_often_at_once(self, pick: int, number: int, aged: bool) -> None:
        if (browser := self._logged_in(pick)) is None:
            return

        async def step() -> None:
            await asyncio.sleep(EXPIRED if aged else 0)
            calls = [
                self.send(
                    browser,
                    self.worker(n),
                    "/token",
                    headers=SCRIPT,
                    certain=not self.world.is_rolling,
                )
                for n in range(number)
            ]
            answers = await asyncio.gather(*calls)
            told = {answer.json()["token"] for answer in answers if answer.status == 200}
            if not self.world.is_troubled:
                assert len(told) <= 1, "those who asked at once got different tokens"

        self.run(step())

    @rule(browser=browsers, worker=workers, name=st.sampled_from([CARRIED, "note", "planted"]))
    def keep(self, browser: int, worker: int, name: str) -> None:
        """Write to `request.session`."""
        login = self.book.visitors[browser].login
        if login is not None and name == "planted":
            return

        async def step() -> None:
            value = str(len(self.book.logins))
            number = self.worker(worker)
            answer = await self.send(
                browser, number, "/keep", path=f"/keep?{name}={value}", headers=SCRIPT
            )
            if login is None or login.data is None:
                return
            if answer.status == 200 and self.book.exchanges[-1].must_live:
                login.data = {**login.data, name: value}
            else:
                login.data = None

        self.run(step())

    @rule(pick=picks)
    def keep_two_things_at_once(self, pick: int) -> None:
        """Neither of two writes to `request.session` undoes the other."""
        if self.world.in_cookies:
            return
        if (browser := self._logged_in(pick)) is None:
            return
        login = self.book.visitors[browser].login
        assert login is not None

        async def step() -> None:
            value = str(self.world.clock())
            kept = {CARRIED: value, "note": value}
            answers = await asyncio.gather(
                *(
                    self.send(
                        browser,
                        number,
                        "/keep",
                        path=f"/keep?{name}={kept[name]}",
                        headers=SCRIPT,
                        certain=not self.world.is_rolling,
                    )
                    for number, name in enumerate(kept)
                )
            )
            certain = all(exchange.must_live for exchange in self.book.exchanges[-2:])
            if certain and all(answer.status == 200 for answer in answers):
                login.data = kept
            else:
                login.data = None

        self.run(step())

    def _past(self, *, recent: bool) -> list[tuple[int, Snapshot]]:
        now = self.world.clock()
        return [
            (number, old)
            for number, visitor in enumerate(self.book.visitors)
            for old in visitor.past
            if (now - old.superseded_at < 30) is recent
        ]

    @rule(pick=picks, worker=workers, page=st.sampled_from(["/token", "/me", "/page"]))
    def a_straggler(self, pick: int, worker: int, page: str) -> None:
        """A request that left the browser a moment ago, and is answered late."""
        if not (past := self._past(recent=True)):
            return
        browser, old = past[pick % len(past)]

        async def step() -> None:
            await self.send(browser, self.worker(worker), page, old=old, headers=SCRIPT)

        self.run(step())

    @rule(pick=picks, worker=workers, page=st.sampled_from(["/token", "/me"]))
    def an_old_cookie(self, pick: int, worker: int, page: str) -> None:
        """Somebody else has kept a copy of cookies, or a backup of the browser is restored."""
        if not (past := self._past(recent=False)):
            return
        browser, old = past[pick % len(past)]
        age = self.world.clock() - old.superseded_at
        if self.world.in_cookies and old.login and age > 590:
            # Nobody knows any more that its refresh token is spent.
            old.login.excuses.add("replayed")

        async def step() -> None:
            number = self.worker(worker)
            await self.send(
                browser, number, page, old=old, apply=False, certain=False, headers=SCRIPT
            )

        self.run(step())

    @rule(seconds=st.sampled_from(PAUSES))
    def wait(self, seconds: int) -> None:
        self.run(asyncio.sleep(seconds))

    # -------------------------------------------------------------------------- the end

    async def log_out_of(self, browser: int, worker: int) -> None:
        visitor = self.book.visitors[browser]
        login = visitor.login
        readable = login is not None and self.book.is_readable(login, worker)
        answer = await self.send(
            browser,
            worker,
            "/auth/logout?meant",
            path="/auth/logout",
            headers=SAME_ORIGIN,
            method="POST",
        )
        visitor.finished.clear()
        if login is None:
            return
        if answer.status == 303 and readable:
            self.book.end(login, "logout", owed=True)
        elif not login.over:
            # The browser forgets. What is in the store lives on, without a refresh token.
            login.excuses.add("half a logout")
            login.owed = True
        visitor.login = None

    @rule(browser=browsers, worker=workers)
    def log_out(self, browser: int, worker: int) -> None:
        self.run(self.log_out_of(browser, self.worker(worker)))

    @rule(pick=picks, worker=workers, method=st.sampled_from(["GET", "POST"]))
    def another_site_logs_out(self, pick: int, worker: int, method: str) -> None:
        if (browser := self._logged_in(pick)) is None:
            return

        async def step() -> None:
            answer = await self.send(
                browser,
                self.worker(worker),
                "/auth/logout",
                path="/auth/logout" if method == "POST" else "/auth/logout?sid=made-up",
                headers=CROSS_SITE,
                method=method,
            )
            assert answer.status in (200, 303, 403, 503)

        self.run(step())

    @rule(pick=picks, worker=workers, by=st.sampled_from(["sub", "sid"]))
    def an_administrator_ends_sessions(self, pick: int, worker: int, by: str) -> None:
        if self.world.in_cookies or not self.book.logins:
            return
        login = self.book.logins[-1 - pick % len(self.book.logins)]
        self.run(self._end_all(login, self.worker(worker), by))

    async def _end_all(self, login: Login, number: int, by: str) -> None:
        worker = self.world.workers[number]
        meant = [
            each
            for each in self.book.logins
            if (each.sub == login.sub if by == "sub" else each is login)
        ]
        expected = [
            each
            for each in meant
            if self.book.must_live(each) and self.book.is_readable(each, number)
        ]
        ended = None
        with suppress(StoreUnavailable):
            if by == "sub":
                ended = await worker.auth.sessions.end(sub=login.sub)
            else:
                ended = await worker.auth.sessions.end(sid=login.sid)
        if ended is None:
            assert worker.store.is_broken
        elif not worker.store.is_broken:
            assert ended >= len(expected), "not all sessions were found"
        for each in meant:
            if ended is not None and self.book.is_readable(each, number):
                self.book.end(each, "administrator", owed=True)
            elif not each.over:
                each.excuses.add("half ended")
                each.owed = True

    # -------------------------------------------------------------------------- races

    @rule(
        pick=picks,
        worker=workers,
        after_acting=st.booleans(),
        meanwhile=st.sampled_from(
            ["logout", "administrator", "login", "nothing", "leave", "store"]
        ),
        sub=st.sampled_from(USERS),
    )
    def while_the_provider_thinks(
        self, pick: int, worker: int, after_acting: bool, meanwhile: str, sub: str
    ) -> None:
        """Something happens while requests of the session wait for a refresh."""
        if (browser := self._logged_in(pick)) is None:
            return
        self.run(self._race(browser, self.worker(worker), after_acting, meanwhile, sub))

    async def _race(
        self, browser: int, worker: int, after_acting: bool, meanwhile: str, sub: str
    ) -> None:
        login = self.book.visitors[browser].login
        assert login is not None
        await asyncio.sleep(EXPIRED)
        gate = self.world.op.hold(
            "token",
            after_acting=after_acting,
            when=lambda record: record.grant_type == "refresh_token",
        )
        try:
            certain = meanwhile in ("nothing", "leave") and not self.world.is_rolling
            tasks = [
                asyncio.ensure_future(
                    self.send(
                        browser,
                        self.worker(n),
                        "/token",
                        headers=SCRIPT,
                        certain=certain,
                        apply=meanwhile != "leave",
                    )
                )
                for n in range(3)
            ]
            entered = asyncio.ensure_future(gate.entered.wait())
            everybody = asyncio.ensure_future(asyncio.wait(tasks))
            await asyncio.wait([entered, everybody], return_when=asyncio.FIRST_COMPLETED)
            entered.cancel()
            if not everybody.done():
                await self._meanwhile(browser, worker, meanwhile, sub, tasks, login)
        finally:
            gate.release()
        await asyncio.gather(*tasks, return_exceptions=meanwhile == "leave")
        if not gate.arrived:
            self.world.op.behave("token")

    async def _meanwhile(
        self,
        browser: int,
        worker: int,
        meanwhile: str,
        sub: str,
        tasks: list[asyncio.Task[Answer]],
        login: Login,
    ) -> None:
        match meanwhile:
            case "logout":
                await self.log_out_of(browser, worker)
            case "administrator" if not self.world.in_cookies:
                await self._end_all(login, worker, "sid")
            case "login":
                is_known = self.book.is_readable(login, worker)
                attempt = await self.start(browser, worker, sub, None)
                if attempt:
                    await self.finish(attempt, worker)
                if attempt and attempt.login and not is_known:
                    # Nobody could tell those who answer for the old session that it is over.
                    attempt.login.excuses.add("a late answer")
            case "leave":
                for task in tasks:
                    task.cancel()
                if self.world.in_cookies:
                    login.excuses.add("unreceived")
            case "store":
                self.world.workers[worker].store.broken = frozenset({"put"})
                login.excuses.add("unsaved")

    # ------------------------------------------------------------- provider and store

    @rule(name=st.sampled_from(list(FAULTS)), times=st.integers(1, 2))
    def the_provider_misbehaves(self, name: str, times: int) -> None:
        endpoint, fault = FAULTS[name]

        def strike(record: object) -> bool:
            del record
            self.world.trouble(seconds=110)
            return True

        self.world.op.misbehave(endpoint, fault, times=times, when=strike)  # type: ignore[arg-type]

    @rule(down=st.booleans())
    def the_provider_goes_down_and_comes_back(self, down: bool) -> None:
        self.world.op_is_down = down

    @rule(sub=st.sampled_from(USERS))
    def the_provider_ends_the_grants_of_a_user(self, sub: str) -> None:
        self.world.op.end_grants(sub)

    @rule(keep_old=st.booleans())
    def the_provider_has_new_keys(self, keep_old: bool) -> None:
        self.world.op.rotate_keys(keep_old=keep_old)
        # Who has just asked for keys does not ask again for a minute.
        self.world.trouble()

    @rule(worker=workers, name=st.sampled_from(list(OUTAGES)))
    def the_store_fails_for_a_worker(self, worker: int, name: str) -> None:
        store = self.world.workers[self.worker(worker)].store
        store.broken, store.broken_after = OUTAGES[name]

    @rule()
    def everything_works_again(self) -> None:
        self.world.op_is_down = False
        self.world.op.behave()
        for worker in self.world.workers:
            worker.store.broken = worker.store.broken_after = frozenset()

    @rule()
    def the_store_loses_everything(self) -> None:
        if self.world.is_busy:
            return

        async def step() -> None:
            self.world.shelf.flush()
            self.book.forget_past()
            if not self.world.in_cookies:
                for login in self.book.logins:
                    self.book.end(login, "flushed", owed=False)

        self.run(step())

    @rule(worker=workers, hasty=st.booleans())
    def a_worker_is_deployed_with_other_keys(self, worker: int, hasty: bool) -> None:
        """One after the other: [old, new] everywhere, then [new, old], then [new].

        Who is hasty leaves the first step out: processes meet what they cannot read yet.
        """
        number = self.worker(worker)
        if self.stages[number] > min(self.stages):
            number = 1 - number
        stage = self.stages[number]
        stage += 2 if hasty and stage % 3 == 0 else 1
        if stage > LAST_STAGE:
            return
        self.stages[number] = stage
        old = stage // 3
        keys = ((old,), (old, old + 1), (old + 1, old))[stage % 3]

        async def step() -> None:
            await self.world.deploy(number, keys)
            if self.kind == "cookie":
                self.book.forget_past()

        self.run(step())

    # ------------------------------------------------------------------------ promises

    @invariant()
    def the_promises_hold(self) -> None:
        async def step() -> None:
            found: list[Session | None] = [
                await self.world.look(browser.cookies()) for browser in self.world.browsers
            ]
            self.book.excuse()
            self.book.reconsider(found)
            view = View(self.world, self.book, found)
            await check(view)
            SessionMachine.seen += tally(view)
            self.book.settle(found)

        self.run(step())


STEPS: Final = int(os.environ.get("STATEFUL_STEPS", "50"))
