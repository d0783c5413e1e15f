"""What must hold after every step. Each function is named after its promise.

They look at the browsers as they are now (`View.found`), at what was answered in this
step, and at the provider's books.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from state_world import MARGIN, TOKEN_LIFETIME

if TYPE_CHECKING:
    from session_model import Book, Exchange, Login
    from state_world import World

    from tokenward.tokens.session import Session

SLOWEST = 40.0
"""Seconds that the provider takes at most: a token's life begins when it is asked for."""

_MARKED = ("logout", "replaced")


@dataclass
class View:
    """The world after a step."""

    world: World
    book: Book
    found: list[Session | None]
    """Where the cookies of each browser lead."""


async def check(view: View) -> None:
    """Check all of them."""
    p1_a_login_completes_only_in_the_browser_that_started_it(view)
    p2_one_answer_is_one_token_call(view)
    p3_only_the_provider_says_who_the_user_is(view)
    p4_every_login_has_a_new_session_id(view)
    p5_no_redirect_leaves_the_origin(view)
    p6_nobody_gets_the_token_of_another(view)
    p7_one_expiry_is_one_redemption(view)
    p8_no_session_is_lost_without_a_reason(view)
    await p9_what_is_over_never_comes_back(view)
    p9_every_token_is_given_back_or_reported(view)
    p10_a_logout_ends_the_session_in_the_browser(view)
    p18_every_answer_is_a_declared_one(view)
    p19_an_outage_logs_nobody_out(view)


def p1_a_login_completes_only_in_the_browser_that_started_it(view: View) -> None:
    for number, (visitor, session) in enumerate(zip(view.book.visitors, view.found, strict=True)):
        if session is None:
            continue
        assert visitor.login is not None, f"browser {number} has a session that it did not get"
        assert _sid(session) == visitor.login.sid, f"browser {number} has another login's session"


def p2_one_answer_is_one_token_call(view: View) -> None:
    for attempt in view.book.attempts:
        assert attempt.exchanges <= 1, "a code was sent twice"
    assert "code_reuse" not in {family.ended for family in view.world.op.families}


def p3_only_the_provider_says_who_the_user_is(view: View) -> None:
    families = view.book.families
    for session in filter(None, view.found):
        family = families[_sid(session)]
        assert session.claims["sub"] == family.sub == session.proof["sub"]


def p4_every_login_has_a_new_session_id(view: View) -> None:
    keys = [login.key for login in view.book.logins]
    assert len(keys) == len(set(keys)), "an id was used for two logins"
    for number, (visitor, session) in enumerate(zip(view.book.visitors, view.found, strict=True)):
        if session is not None and visitor.login is not None:
            assert session.id == visitor.login.key, f"browser {number}: the id of another login"


def p5_no_redirect_leaves_the_origin(view: View) -> None:
    for exchange in view.book.exchanges:
        target = exchange.answer.location if exchange.answer else ""
        if not target:
            continue
        ours = exchange.target.partition("?")[0]
        if target.startswith("https://op.test/"):
            assert ours in ("/auth/login", "/auth/logout"), f"{ours} sends to {target}"
        else:
            parts = urlsplit(target)
            assert not parts.scheme, target
            assert not parts.netloc, target
            assert target.startswith("/"), target
            assert not target.startswith(("//", "/\\")), target


def p6_nobody_gets_the_token_of_another(view: View) -> None:
    ledger = view.world.op._core.ledger
    for exchange in view.book.exchanges:
        if exchange.answer is None or exchange.answer.status != 200:
            continue
        told = _told(exchange)
        if told is None:
            continue
        if exchange.login is not None:
            assert told["sid"] == exchange.login.sid, f"{exchange.target} knows another user"
        else:
            lost = view.book.visitors[exchange.browser].lost if view.world.in_cookies else set()
            assert told["sid"] in lost, f"{exchange.target} knows a user who is not there"
        if token := told.get("token"):
            assert ledger._access_tokens[token].grant.sid == told["sid"]
            assert ledger._access_tokens[token].expires_at > view.world.clock() - SLOWEST


def p7_one_expiry_is_one_redemption(view: View) -> None:
    """From one redemption to the next a token's life goes by, but for the margin."""
    tokens = view.world.op._core.ledger._access_tokens.values()
    of_family = sorted((token.family_id or 0, token.issued_at) for token in tokens)
    for family, issued in groupby(of_family, key=lambda token: token[0]):
        for (_, one), (_, other) in pairwise(issued):
            gap = other - one
            least = TOKEN_LIFETIME - MARGIN - SLOWEST
            assert gap >= least, f"family {family} was refreshed after {gap} s"


def p8_no_session_is_lost_without_a_reason(view: View) -> None:
    book, busy = view.book, view.world.is_busy
    for number, (visitor, session) in enumerate(zip(book.visitors, view.found, strict=True)):
        login = visitor.login
        if login is None:
            continue
        if session is None:
            lost = book.must_live(login)
            assert not lost, f"browser {number} lost the session of {login.sub} for no reason"
            continue
        token = session.tokens.refresh_token
        assert token is not None
        if not busy and not login.excuses and book.is_granted(login):
            assert view.world.op.is_active(token), f"browser {number} has a token that is spent"
    excused = {login.sid for login in book.logins if login.excuses or login.over}
    for sid, family in book.families.items():
        if family.ended == "refresh_token_reuse":
            assert sid in excused, f"a refresh token of {family.sub} was spent twice"
        if family.ended == "revoked" and sid in book.living:
            assert sid in excused, f"a session of {family.sub} that lives was given back"
    for exchange in book.exchanges:
        _check_loss(exchange)


def _check_loss(exchange: Exchange) -> None:
    """Whose session must live is not told that it is over; who has none is sent to log in."""
    answer, path = exchange.answer, exchange.target.partition("?")[0]
    if answer is None or path not in ("/me", "/token", "/page", "/keep"):
        return
    if exchange.must_live:
        gone = answer.status in (401, 303) or (path == "/me" and _told(exchange) is None)
        assert not (gone and answer.status != 503), f"{path}: a session that must live is gone"
    if path == "/page" and answer.status == 303:
        assert answer.location == "/auth/login?return_to=/page", "one clean login"


async def p9_what_is_over_never_comes_back(view: View) -> None:
    over = [login for login in view.book.logins if login.over and login.is_remembered]
    for visitor, session in zip(view.book.visitors, view.found, strict=True):
        if session is not None and visitor.login is not None:
            assert not visitor.login.over, f"a session came back that is over: {visitor.login.over}"
    if view.world.in_cookies:
        await _check_marks(
            view, [each for each in over if each.over in _MARKED and not each.excuses][-3:]
        )
        return
    for exchange in view.book.exchanges:
        if exchange.login is not None and not exchange.may_live and exchange.answer is not None:
            assert _told(exchange) is None, f"{exchange.target} knows a session that is over"
    names = [f"{login.key}:session" for login in over[-30:]]
    left = await view.world.bare.get_many(*names) if names else ()
    for login, entry in zip(over[-30:], left, strict=True):
        # An empty record is no session: it keeps one from being created.
        assert entry is None or not entry.value, (
            f"a session that is over is in the store: {login.over}"
        )


async def _check_marks(view: View, over: list[Login]) -> None:
    """A cookie that somebody kept is still good for reading, and never for another token."""
    for login in over:
        if view.world.clock() < login.expires_at:
            name = f"{login.key}:ended"
            mark = await view.world.bare.get(name)
            assert mark is not None, f"nobody knows any more that it ended: {login}"


def p9_every_token_is_given_back_or_reported(view: View) -> None:
    if view.world.is_revoking or view.world.is_busy:
        return
    families, book = view.book.families, view.book
    logins = {login.sid: login for login in book.logins}
    alive = [
        family.sub
        for sid, family in families.items()
        if family.ended is None
        and view.world.clock() < family.expires_at
        and sid not in book.abandoned
        and (sid not in logins or logins[str(sid)].owed)
        and not (sid in logins and logins[str(sid)].excuses)
    ]
    assert len(alive) <= book.reported, f"tokens were neither given back nor reported: {alive}"


def p10_a_logout_ends_the_session_in_the_browser(view: View) -> None:
    for exchange in view.book.exchanges:
        if exchange.target != "/auth/logout?meant" or exchange.answer is None:
            continue
        login, session = exchange.login, view.found[exchange.browser]
        # A worker that cannot read the session can end it in the browser alone, as one can
        # that has no store; what was being answered then may give it back.
        half = login is not None and "half a logout" in login.excuses
        assert half or session is None, "the browser has its session after the logout"
        if exchange.must_live and not exchange.is_store_broken:
            assert exchange.login is not None
            assert exchange.login.over == "logout"
            assert exchange.answer.status == 303


def p18_every_answer_is_a_declared_one(view: View) -> None:
    for exchange in view.book.exchanges:
        answer = exchange.answer
        if answer is None:
            continue
        name = f"{exchange.target.partition('?')[0]} answered {answer.status}"
        assert answer.status in (200, 303, 400, 401, 403, 503), name
        if answer.status == 503:
            assert int(answer.header("retry-after")) >= 1, name
            declared = exchange.was_troubled or exchange.is_store_broken
            assert declared or view.world.is_rolling, f"{name} for no reason"
        if answer.status == 400:
            assert exchange.target.startswith("/auth/"), name


def p19_an_outage_logs_nobody_out(view: View) -> None:
    """Public pages are there, and tokens that are good are given, whatever is down."""
    for exchange in view.book.exchanges:
        if exchange.answer is None:
            continue
        if exchange.target == "/":
            assert exchange.answer.status == 200
        if exchange.target == "/token" and exchange.must_live and exchange.is_fresh:
            assert exchange.answer.status == 200, "a token that is good was not given"


def _sid(session: Session) -> str:
    return str(session.proof["sid"])


def _told(exchange: Exchange) -> dict[str, str] | None:
    """Return what an answer tells of a session; None if it tells of none."""
    answer = exchange.answer
    assert answer is not None
    if answer.status != 200:
        return None
    match exchange.target:
        case "/me" | "/token":
            told: dict[str, str] = answer.json()
            return told if told["sid"] else None
        case "/page":
            return {"sid": answer.text}
        case _:
            return None


def tally(view: View) -> Counter[str]:
    """Count what the answers were, to see that a run has seen everything."""
    return Counter(
        f"{exchange.target.partition('?')[0]} {exchange.answer.status}"
        for exchange in view.book.exchanges
        if exchange.answer
    )
