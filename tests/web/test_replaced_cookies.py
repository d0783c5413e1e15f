"""A cookie that leads nowhere is deleted, but never the one that took its place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tokenward import Lifetimes

if TYPE_CHECKING:
    from collections.abc import Callable

NAME = "__Host-tokenward"


@pytest.fixture
def workers(make_site: Any, shared_store: Callable[[], Any]) -> tuple[Any, Any]:
    """Two processes of one app, of which the second has not seen anybody yet."""
    lifetimes = Lifetimes(idle=600, absolute=3600)
    first, second = (make_site("x", store=shared_store(), lifetimes=lifetimes) for _ in range(2))
    return first, second


def cookie_of(site: Any, name: str) -> bytes:
    return f"{name}={site.cookies()[name]}".encode()


async def test_a_worker_that_saw_neither_session_does_not_delete_the_cookie_of_a_new_login(
    workers: tuple[Any, Any],
) -> None:
    first, second = workers
    await first.login()
    old = cookie_of(first, NAME)
    await first.auth.sessions.end(sub="alice")
    await first.login()
    late = await second.ask(cookie=old)

    assert late.json()["known"] is False
    assert late.set_cookies == []


async def test_an_answer_that_is_late_for_the_logout_does_not_delete_the_next_login(
    workers: tuple[Any, Any],
) -> None:
    first, second = workers
    await first.login()
    old = cookie_of(first, NAME)
    await first.browser.post("/auth/logout", headers={"origin": "https://app.test"})
    await first.login()

    assert (await second.ask(cookie=old)).set_cookies == []


async def test_a_worker_that_saw_no_visit_does_not_delete_the_cookie_of_a_new_one(
    workers: tuple[Any, Any],
) -> None:
    first, second = workers
    await first.keep(cart=[1])
    old = cookie_of(first, f"{NAME}-data")
    first.clock.advance(700)
    await first.keep(cart=[2])
    late = await second.ask("/session", cookie=old)

    assert late.json() == {}
    assert late.set_cookies == []


@pytest.mark.parametrize("name", [NAME, f"{NAME}-data"])
async def test_a_cookie_that_leads_nowhere_is_deleted_by_one_answer_in_a_minute(
    workers: tuple[Any, Any], name: str
) -> None:
    first, second = workers
    await (first.keep(cart=[1]) if name.endswith("data") else first.login())
    old = cookie_of(first, name)
    first.clock.advance(700)

    assert (await first.ask("/session", cookie=old)).cleared == {name}
    first.clock.advance(59)
    assert (await second.ask("/session", cookie=old)).set_cookies == []
    first.clock.advance(1)
    assert (await second.ask("/session", cookie=old)).cleared == {name}


async def test_a_worker_that_was_late_for_a_login_in_two_steps_does_not_delete_its_cookie(
    workers: tuple[Any, Any],
) -> None:
    first, second = workers
    await first.login()
    old = cookie_of(first, NAME)
    await first.auth.sessions.end(sub="alice")
    await first.browser.get("/auth/login")
    await first.login()

    assert (await second.ask(cookie=old)).set_cookies == []


async def test_a_store_that_cannot_tell_whether_it_was_replaced_leaves_the_cookie(
    make_site: Any,
) -> None:
    site = make_site("memory", lifetimes=Lifetimes(idle=600, absolute=3600))
    await site.login()
    old = cookie_of(site, NAME)
    site.clock.advance(700)
    site.store.break_("put")
    answer = await site.ask("/session", cookie=old)

    assert answer.json() == {}
    assert answer.set_cookies == []
