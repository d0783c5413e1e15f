"""Two releases at the same time, on the same store and in the same browsers.

The next release is a pretended one: it writes sessions in a form, or everything in an
envelope, that this one has never seen, and reads those of this one.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tokenward import sealing
from tokenward.events import CookieRejected
from tokenward.sealing import FORMAT_VERSION, KeyRing, Opened
from tokenward.tokens.session_format import FORMAT
from tokenward.tokens.stragglers import Stragglers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from conftest import Site
    from tokenward.secret import Secret
    from tokenward.tokens.interfaces import Store
    from tokenward.tokens.session import Session

HOUR = 3600
NAME = "__Host-tokenward"
SAME_ORIGIN = {"origin": "https://app.test"}


def newer_form(plaintext: bytes, purpose: str) -> bytes:
    """Write what the next release writes in the place of `plaintext`."""
    if purpose not in ("session", "session-cookie", "straggler"):
        return plaintext
    version, *places = json.loads(plaintext)
    return json.dumps([version + 1, {"places": places}]).encode()


def known_form(plaintext: bytes, purpose: str) -> bytes:
    if purpose in ("session", "session-cookie", "straggler"):
        record = json.loads(plaintext)
        if record[0] == FORMAT + 1:
            return json.dumps([FORMAT, *record[1]["places"]]).encode()
    return plaintext


class NewFormRing(KeyRing):
    """Seals sessions in a form that this release does not know."""

    def seal(self, plaintext: bytes, *, purpose: str, record: str) -> bytes:
        return super().seal(newer_form(plaintext, purpose), purpose=purpose, record=record)

    def open(self, sealed: bytes, *, purpose: str, record: str) -> Opened:
        opened = super().open(sealed, purpose=purpose, record=record)
        return replace(opened, plaintext=known_form(opened.plaintext, purpose))


class NewEnvelopeRing(KeyRing):
    """Seals everything in an envelope that this release does not know."""

    def seal(self, plaintext: bytes, *, purpose: str, record: str) -> bytes:
        sealed = super().seal(plaintext, purpose=purpose, record=record)
        return bytes([FORMAT_VERSION + 1]) + sealed[1:]

    def open(self, sealed: bytes, *, purpose: str, record: str) -> Opened:
        if sealed[:1] == bytes([FORMAT_VERSION + 1]):
            sealed = bytes([FORMAT_VERSION]) + sealed[1:]
        return super().open(sealed, purpose=purpose, record=record)


class NextStragglers(Stragglers):
    """Writes results as the next release does, whose session form, or envelope, is new."""

    def __init__(self, store: Store, *, ring: type[KeyRing]) -> None:
        super().__init__(store)
        self._ring = ring

    async def publish(self, session: Session, new: Session) -> bool:
        with self._written_anew():
            return await super().publish(session, new)

    async def _follow(self, session: Session) -> Any:
        with self._written_anew():
            return await super()._follow(session)

    @contextmanager
    def _written_anew(self) -> Iterator[None]:
        token = _ring.set(self._ring)
        try:
            yield
        finally:
            _ring.reset(token)


_ring: ContextVar[type[KeyRing] | None] = ContextVar("_ring", default=None)


def seal_with(secret: Secret, plaintext: bytes, *, purpose: str, record: str) -> bytes:
    ring = _ring.get()
    if ring is NewFormRing:
        plaintext = newer_form(plaintext, purpose)
    sealed = sealing.seal_with(secret, plaintext, purpose=purpose, record=record)
    return bytes([FORMAT_VERSION + 1]) + sealed[1:] if ring is NewEnvelopeRing else sealed


def open_with(secret: Secret, sealed: bytes, *, purpose: str, record: str) -> bytes:
    ring = _ring.get()
    if ring is NewEnvelopeRing and sealed[:1] == bytes([FORMAT_VERSION + 1]):
        sealed = bytes([FORMAT_VERSION]) + sealed[1:]
    plaintext = sealing.open_with(secret, sealed, purpose=purpose, record=record)
    return known_form(plaintext, purpose) if ring is NewFormRing else plaintext


@pytest.fixture(params=[NewFormRing, NewEnvelopeRing], ids=["form", "envelope"])
def make_next(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    make_process: Callable[..., Site],
) -> Callable[[], Site]:
    """Return a function that makes a worker of the next release, which writes anew."""
    monkeypatch.setattr("tokenward.tokens.stragglers.seal_with", seal_with)
    monkeypatch.setattr("tokenward.tokens.stragglers.open_with", open_with)

    def make() -> Site:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("tokenward.management.KeyRing", request.param)
            patch.setattr(
                "tokenward.management.Stragglers", partial(NextStragglers, ring=request.param)
            )
            return make_process()

    return make


@pytest.fixture
def this(make_process: Callable[..., Site]) -> Site:
    """A worker of this release."""
    return make_process()


@pytest.fixture
def following(make_next: Callable[[], Site], this: Site) -> Site:
    """A worker of the next release, visited by the same browser."""
    site = make_next()
    site.browser._cookies = this.browser._cookies
    return site


def header(site: Site) -> bytes:
    return "; ".join(f"{name}={value}" for name, value in site.cookies().items()).encode()


def refreshes(site: Site) -> int:
    return site.provider.count("token", grant_type="refresh_token")


def rejected(site: Site) -> set[str]:
    return {event.reason for event in site.events if isinstance(event, CookieRejected)}


async def assert_nothing_known(site: Site) -> None:
    """Assert that a worker sees nobody, and leaves what it sees as it is."""
    before = site.cookies()
    for path in ("/me", "/session", "/token"):
        answer = await site.browser.get(path)
        assert "set-cookie" not in answer.headers, path
    assert await site.who() == ""
    assert site.cookies() == before
    assert rejected(site) == {"newer_format"}


# ------------------------------------------------------------- forward


@pytest.mark.case(298)
async def test_the_next_release_goes_on_with_what_this_one_wrote(
    this: Site, following: Site
) -> None:
    await this.login()
    await this.keep(cart=[1])
    assert await following.who() == "Alice"
    assert await following.kept() == {"cart": [1]}
    following.clock.advance(HOUR)
    assert (await following.browser.get("/token")).status_code == 200
    await following.keep(cart=[2])
    assert await following.who() == "Alice"
    assert await following.kept() == {"cart": [2]}
    assert refreshes(following) == 1


@pytest.mark.case(298)
async def test_a_visitor_keeps_what_he_has_in_the_next_release(this: Site, following: Site) -> None:
    await this.keep(cart=[1])
    assert await following.kept() == {"cart": [1]}
    await following.keep(more=2)
    assert await following.kept() == {"cart": [1], "more": 2}


async def signed_in(site: Site) -> str:
    """Begin a login, sign in at the provider, and return where it sends the browser back to."""
    begun = await site.browser.get("/auth/login")
    site.provider.sign_in_automatically("alice")
    transport = httpx.ASGITransport(site.provider)
    async with httpx.AsyncClient(transport=transport) as browser:
        answer = await browser.get(begun.headers["location"])
    return answer.headers["location"]


async def test_a_login_that_this_release_began_ends_in_the_next_one(
    this: Site, following: Site
) -> None:
    back = await signed_in(this)
    assert (await following.browser.get(back)).status_code == 303
    assert await following.who() == "Alice"


# ------------------------------------------------------------- side by side


@pytest.mark.case(297)
async def test_this_release_leaves_alone_what_the_next_one_wrote(
    this: Site, following: Site
) -> None:
    await following.login()
    await following.keep(cart=[1])
    await assert_nothing_known(this)
    this.clock.advance(61)
    await assert_nothing_known(this)
    assert await following.who() == "Alice"
    assert await following.kept() == {"cart": [1]}
    following.clock.advance(HOUR)
    await assert_nothing_known(this)
    assert refreshes(this) == 0
    assert (await following.browser.get("/token")).status_code == 200


@pytest.mark.case(297)
async def test_what_the_next_release_keeps_of_a_login_is_not_written_over(
    this: Site, following: Site
) -> None:
    await following.login()
    await following.keep(cart=[1])
    await this.keep(cart=[2], theme="dark")
    kept = await following.kept()
    assert await following.who() == "Alice"
    if rejected(this) == {"newer_format"} and await this.kept() == {}:
        assert kept == {"cart": [1]}
    else:
        # Only the session is in the new form: this release knows the data, and adds to them.
        assert kept == {"cart": [2], "theme": "dark"}
    await following.keep(more=3)
    assert (await following.kept())["more"] == 3


@pytest.mark.case(297)
async def test_what_the_next_release_keeps_of_a_visitor_stays_until_the_app_writes_anew(
    this: Site, following: Site
) -> None:
    await following.keep(cart=[1])
    assert await this.kept() in ({}, {"cart": [1]})
    this.clock.advance(61)
    await this.kept()
    assert await following.kept() == {"cart": [1]}
    await this.keep(cart=[2])
    assert await this.kept() == {"cart": [2]}
    assert await following.kept() == {"cart": [2]}


@pytest.mark.case(297)
async def test_a_login_that_the_next_release_began_is_kept_for_it(
    this: Site, following: Site
) -> None:
    back = await signed_in(following)
    await this.browser.get("/auth/login")
    assert (await following.browser.get(back)).status_code == 303
    assert await following.who() == "Alice"


async def test_a_login_that_comes_back_to_the_wrong_release_is_begun_anew(
    this: Site, following: Site
) -> None:
    back = await signed_in(following)
    answer = await this.browser.get(back, headers={"accept": "text/html"})
    # Where only the form of sessions is another one, it is not even that.
    assert answer.status_code in {303, 400}
    await this.login()
    assert await this.who() == "Alice"


async def refreshed_by_the_next(this: Site, following: Site, *, ask: str) -> tuple[bytes, Any]:
    """Let the next release refresh a session of this one, which is asked meanwhile.

    Return the cookies from before, and what this one answered.
    """
    await this.login()
    await this.keep(cart=[1])
    old = header(this)
    this.clock.advance(HOUR)
    gate = this.provider.hold("token", after_acting=True)
    newer = asyncio.ensure_future(following.ask("/token", cookie=old))
    await gate.entered.wait()
    waiting = asyncio.ensure_future(this.ask(ask, cookie=old))
    await asyncio.sleep(0)
    gate.release()
    assert (await newer).status == 200
    for line in (await newer).set_cookies:
        name, _, value = line.partition(";")[0].partition("=")
        following.browser.cookies.set(name, value, domain="app.test")
    return old, await waiting


@pytest.mark.case(297)
async def test_a_refresh_by_the_next_release_is_no_logout_for_who_waited_in_this_one(
    this: Site, following: Site
) -> None:
    _, answer = await refreshed_by_the_next(this, following, ask="/token")
    assert answer.status == 503
    assert dict(answer.headers)[b"retry-after"]
    assert answer.set_cookies == []
    assert (await following.browser.get("/token")).status_code == 200
    assert await following.kept() == {"cart": [1]}
    assert refreshes(this) == 1
    assert [family.ended for family in this.provider.families] == [None]


@pytest.mark.case(297)
async def test_the_old_cookie_that_comes_late_is_no_logout_in_either_release(
    this: Site, following: Site
) -> None:
    old, _ = await refreshed_by_the_next(this, following, ask="/me")
    for seconds in (0, 29, 61):
        this.clock.advance(seconds)
        for path in ("/me", "/session", "/token"):
            answer = await this.ask(path, cookie=old)
            assert answer.set_cookies == [], path
    assert await following.who() == "Alice"
    assert await following.kept() == {"cart": [1]}
    following.clock.advance(HOUR)
    assert (await following.browser.get("/token")).status_code == 200
    assert refreshes(this) == 2
    assert [family.ended for family in this.provider.families] == [None]


@pytest.mark.case(297)
@pytest.mark.parametrize("resting", ["stored"])
async def test_a_refresh_of_this_release_that_was_overtaken_takes_nothing_from_the_next_one(
    this: Site, following: Site
) -> None:
    """Its lease was lost: what it brings belongs to the grant of the newer record."""
    await this.login()
    this.clock.advance(HOUR)
    (session,) = await this.auth.sessions.list(sub="alice")
    gate = this.provider.hold("token", after_acting=True)
    asked = asyncio.ensure_future(this.ask("/token", cookie=header(this)))
    await gate.entered.wait()
    records = following.auth.stored
    known = await records.look_up(session.id)
    assert known is not None
    assert await records.replace(known, known) is not None
    gate.release()
    answer = await asked
    assert answer.status == 503
    assert answer.set_cookies == []
    await this.auth.user_tokens.drain(timeout=10)
    await this.auth.revoker.drain(timeout=10)
    assert this.provider.count("revocation") == 0
    assert await following.who() == "Alice"


@pytest.mark.case(297)
async def test_a_logout_in_this_release_ends_what_the_next_one_wrote(
    this: Site, following: Site
) -> None:
    await following.login()
    before = header(following)
    answer = await this.browser.post("/auth/logout", headers=SAME_ORIGIN)
    assert answer.status_code == 303
    assert NAME not in this.cookies()
    if this.kind == "stored":
        assert (await following.ask("/me", cookie=before)).json()["known"] is False


# ------------------------------------------------------------- back


@pytest.mark.case(298)
async def test_after_the_way_back_a_login_is_the_worst(this: Site, following: Site) -> None:
    untouched = this.new_browser()
    await this.login("bob", untouched)
    await this.login()
    await this.keep(cart=[1])
    assert await following.who() == "Alice"
    following.clock.advance(HOUR)
    assert (await following.browser.get("/token")).status_code == 200
    await following.keep(cart=[2])

    await assert_nothing_known(this)
    answer = await this.browser.get("/token", headers={"accept": "text/html"})
    assert (answer.status_code, answer.headers["location"][:11]) == (303, "/auth/login")
    await this.login()
    assert await this.who() == "Alice"
    await this.keep(cart=[3])
    assert await this.kept() == {"cart": [3]}
    assert (await this.browser.get("/token")).status_code == 200
    assert await this.who(untouched) == "Bob", "who was not there meanwhile notices nothing"
