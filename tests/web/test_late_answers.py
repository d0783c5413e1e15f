"""Answers that come late: after a login, a logout or the end of the session they were made for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from tokenward import Lifetimes
from tokenward.stores.memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request
    from starlette.responses import Response

NAME = "__Host-tokenward"


def changed(response: Any) -> set[str]:
    """Return the names of the cookies that an answer sets or deletes."""
    return {line.partition("=")[0] for line in response.headers.get_list("set-cookie")}


def header(cookies: dict[str, str]) -> str:
    return "; ".join(f"{name}={value}" for name, value in cookies.items())


async def test_a_late_answer_to_a_visitor_does_not_replace_his_login(
    make_site: Any, kind: str
) -> None:
    site = make_site(kind)
    late = site.new_browser()
    await site.login()
    answer = await site.keep(late, cart=[1])
    site.browser.cookies.update(late.cookies)

    assert NAME not in changed(answer)
    assert await site.who() == "Alice"


async def test_what_a_late_answer_left_is_not_in_the_session(make_site: Any, stored: str) -> None:
    site = make_site(stored)
    late = site.new_browser()
    await site.login()
    await site.keep(mine=1)
    await site.keep(late, cart=[1])
    site.browser.cookies.update(late.cookies)

    assert await site.kept() == {"mine": 1}
    await site.keep(more=2)
    assert await site.kept() == {"mine": 1, "more": 2}


async def test_a_login_and_a_logout_forget_what_a_visitor_had(make_site: Any, stored: str) -> None:
    site = make_site(stored)
    await site.keep(cart=[1])
    visitor = site.cookies()
    await site.login()
    assert f"{NAME}-data" not in site.cookies()
    assert await site.kept() == {}
    assert (
        await site.send("; ".join(f"{n}={v}" for n, v in visitor.items()), "/session")
    ).json() == {}

    site.browser.cookies.set(f"{NAME}-data", visitor[f"{NAME}-data"], domain="app.test")
    await site.browser.post("/auth/logout", headers={"origin": "https://app.test"})
    assert set(site.cookies()) == {f"{NAME}-logout"}


async def test_the_id_of_a_visitor_is_none_of_a_login(make_site: Any, stored: str) -> None:
    site = make_site(stored)
    await site.keep(cart=[1])
    await site.login(browser=(other := site.new_browser()))
    visitor, login = site.cookies()[f"{NAME}-data"], site.cookies(other)[NAME]
    assert len(visitor) == len(login), "nothing but the signature tells them apart"

    for cookie in (f"{NAME}={visitor}", f"{NAME}-data={login}"):
        site.events.clear()
        answer = await site.send(cookie, "/session")
        assert answer.json() == {}
        assert [event.reason for event in site.events] == ["forged"]
        assert changed(answer) == {cookie.partition("=")[0]}


@pytest.fixture
def slow_app(frozen_clock: Any) -> Callable[[], Starlette]:
    """Return an app whose answer takes an hour."""

    async def slow(request: Request) -> Response:
        known = request.user.display_name
        request.session["late"] = request.session.get("early", 0) + 1
        frozen_clock.advance(3600)
        return JSONResponse(known)

    async def session(request: Request) -> Response:
        request.session["early"] = 1
        return JSONResponse(request.session)

    return lambda: Starlette(routes=[Route("/slow", slow), Route("/session", session)])


async def test_a_session_that_ends_while_it_is_answered_is_not_kept_longer(
    make_site: Any, slow_app: Any, frozen_clock: Any
) -> None:
    start = frozen_clock()
    # The clock of a store is another one than ours, and may be behind.
    store = MemoryStore(clock=lambda: start)
    lifetimes = Lifetimes(idle=1800, absolute=1800)
    site = make_site("memory", app=slow_app, lifetimes=lifetimes, store=store)
    await site.log_in(site.browser, "alice")
    await site.browser.get("/session")
    held = dict(store._values._things)
    answer = await site.browser.get("/slow")

    assert answer.json() == "Alice"
    assert changed(answer) == set()
    assert dict(store._values._things) == held, "nothing was written, and nothing lasts longer"


async def test_what_a_session_that_ended_held_is_not_handed_to_the_visitor(
    make_site: Any, slow_app: Any, stored: str
) -> None:
    site = make_site(stored, app=slow_app, lifetimes=Lifetimes(idle=1800, absolute=1800))
    await site.log_in(site.browser, "alice")
    await site.browser.get("/session")
    await site.browser.get("/slow")

    assert (await site.browser.get("/session")).json() == {"early": 1}


async def test_a_logout_is_whole_though_the_data_cannot_be_deleted(make_site: Any) -> None:
    site = make_site("memory")
    await site.login()
    await site.keep(a=1)
    before = site.cookies()
    delete = site.store.inner.delete

    async def failing(key: str, **options: Any) -> bool:
        if key.endswith(":data"):
            site.store.break_("delete")
            return await site.store.delete(key, **options)
        return await delete(key, **options)

    site.store.inner.delete = failing
    answer = await site.browser.post("/auth/logout", headers={"origin": "https://app.test"})
    site.store.break_()

    assert answer.status_code == 303
    assert (await site.send(header(before))).json()["name"] == ""
