"""Four workers, one session: what is true of two is true of more than there are cores."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tokenward.testing import login_as

if TYPE_CHECKING:
    import httpx

    from conftest import Workers


@pytest.fixture(scope="module")
def count() -> int:
    """How many workers there are."""
    return 4


async def ask_all(workers: Workers, each: int, path: str = "/token") -> list[httpx.Response]:
    """Ask over connections to all workers at once."""
    connected = await workers.connect(each)
    browsers = [
        browser for together in zip(*connected.values(), strict=True) for browser in together
    ]
    return list(await asyncio.gather(*(browser.get(path) for browser in browsers)))


@pytest.mark.case(221)
@pytest.mark.case(252)
async def test_a_hundred_requests_to_four_workers_are_one_redemption(workers: Workers) -> None:
    answers = await ask_all(workers, 25)
    assert [answer.status_code for answer in answers] == [200] * 100
    assert len({answer.json()["pid"] for answer in answers}) == 4
    assert len({answer.json()["token"] for answer in answers}) == 1
    assert [r.outcome for r in workers.provider.requests if r.endpoint == "token"] == ["ok"]
    assert workers.provider.is_active(answers[0].json()["token"])


@pytest.mark.case(252)
@pytest.mark.case(254)
async def test_whatever_cookie_a_request_still_carries_every_worker_knows_the_newest_session(
    workers: Workers,
) -> None:
    first, *_ = await ask_all(workers, 1)
    again = await ask_all(workers, 5)
    assert {answer.json()["token"] for answer in again} == {first.json()["token"]}
    # A browser that took the new cookie, and tabs that have not.
    newest = workers.browser()
    async with newest:
        newest.cookies.update(first.cookies)
        assert (await newest.get("/token")).json()["token"] == first.json()["token"]
    assert workers.refreshes() == 1
    assert [family.ended for family in workers.provider.families][-1] is None


@pytest.mark.case(240)
@pytest.mark.case(286)
async def test_after_a_logout_at_one_worker_no_other_knows_the_session(workers: Workers) -> None:
    async with workers.browser() as browser:
        assert (await browser.get("/token")).status_code == 200
        answer = await browser.post("/auth/logout", headers={"origin": workers.url})
        assert answer.status_code == 303
    # The cookies from before, as somebody might have kept them.
    for path, status in (("/me", 403), ("/token", 401)):
        answers = await ask_all(workers, 3, path)
        assert {answer.status_code for answer in answers} == {status}, path
    assert workers.refreshes() == 1
    assert workers.provider.families[-1].ended == "revoked"


@pytest.mark.case(244)
async def test_a_new_login_is_known_to_every_worker_at_once(workers: Workers) -> None:
    await ask_all(workers, 1)
    async with workers.browser() as browser:
        await login_as(browser, "alice", provider=workers.provider)
        workers.cookies = browser.cookies
    await workers.disconnect()
    answers = await ask_all(workers, 3)
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["token"] for answer in answers}) == 1
