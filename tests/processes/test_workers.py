"""Several workers, one session, one store: what single-process tests cannot show."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import httpx
import pytest

from tokenward.testing import ServerError, Slow

if TYPE_CHECKING:
    from conftest import Workers


async def ask(browser: httpx.AsyncClient) -> httpx.Response | None:
    """Ask for the token; None if the worker died over it."""
    with suppress(httpx.TransportError):
        return await browser.get("/token")
    return None


async def ask_all(workers: Workers, *, each: int) -> list[httpx.Response]:
    """Ask over connections to all workers at once; return what was answered."""
    connected = await workers.connect(each)
    asked = [
        ask(browser) for browsers in zip(*connected.values(), strict=True) for browser in browsers
    ]
    return [answer for answer in await asyncio.gather(*asked) if answer is not None]


async def test_all_requests_to_all_workers_are_one_redemption(workers: Workers) -> None:
    answers = await ask_all(workers, each=25)
    assert [answer.status_code for answer in answers] == [200] * 25 * workers.count
    assert len({answer.json()["pid"] for answer in answers}) == workers.count
    assert len({answer.json()["token"] for answer in answers}) == 1
    assert [r.outcome for r in workers.provider.requests if r.endpoint == "token"] == ["ok"]
    assert workers.provider.is_active(answers[0].json()["token"])


@pytest.mark.case(245)
async def test_the_first_caller_goes_away_and_two_workers_answer_the_others(
    workers: Workers,
) -> None:
    connected = await workers.connect(25)
    first, *others = [browser for each in zip(*connected.values(), strict=True) for browser in each]
    gate = workers.provider.hold("token", after_acting=True)
    leaving = asyncio.ensure_future(ask(first))
    await gate.entered.wait()
    waiting = [asyncio.ensure_future(ask(browser)) for browser in others]
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    gate.release()
    answers = await asyncio.gather(*waiting)
    assert [answer and answer.status_code for answer in answers] == [200] * 49
    assert len({answer.json()["token"] for answer in answers if answer}) == 1
    assert workers.refreshes() == 1


async def test_two_workers_wait_for_a_provider_that_is_three_seconds_late(
    workers: Workers,
) -> None:
    workers.provider.misbehave("token", Slow(3, after_acting=True))
    answers = await ask_all(workers, each=25)
    assert [answer.status_code for answer in answers] == [200] * 50
    assert len({answer.json()["token"] for answer in answers}) == 1
    assert workers.refreshes() == 1


async def test_two_workers_keep_the_session_while_the_provider_is_down(workers: Workers) -> None:
    workers.provider.misbehave("token", ServerError(503, retry_after=1), times=None)
    answers = await ask_all(workers, each=25)
    assert {answer.status_code for answer in answers} == {503}
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in answers)
    workers.provider.behave()
    workers.provider.requests.clear()
    async with asyncio.timeout(60), workers.browser() as browser:
        # The provider tells nobody that it is back.
        while (await browser.get("/token")).status_code != 200:  # noqa: ASYNC110
            await asyncio.sleep(0.2)
    again = await ask_all(workers, each=25)
    assert [answer.status_code for answer in again] == [200] * 50
    assert workers.refreshes() == 1


@pytest.mark.case(225)
async def test_a_worker_that_is_killed_before_the_call_keeps_the_others_waiting_for_its_lease_only(
    workers: Workers,
) -> None:
    workers.die("after-acquire")
    answers = await ask_all(workers, each=5)
    assert workers.somebody_died
    # A browser that had not asked yet when its worker died asks another one.
    assert 5 * (workers.count - 1) <= len(answers) < 5 * workers.count
    assert {answer.status_code for answer in answers} == {200}
    assert workers.refreshes() == 1
    assert (await ask_all(workers, each=2))[0].json()["token"] == answers[0].json()["token"]
    assert workers.refreshes() == 1


@pytest.mark.case(225)
async def test_a_worker_that_is_killed_before_it_says_that_it_asks_costs_nothing(
    workers: Workers,
) -> None:
    workers.die("before-mark")
    answers = await ask_all(workers, each=5)
    assert workers.somebody_died
    assert {answer.status_code for answer in answers} == {200}
    assert workers.refreshes() == 1


@pytest.mark.case(226)
@pytest.mark.parametrize("overlap", [0.0, 30.0], ids=["strict", "with an overlap"])
async def test_a_worker_that_is_killed_before_it_wrote_costs_a_login_at_most(
    workers: Workers, overlap: float
) -> None:
    app = workers.provider.clients["app"]
    workers.provider.register(replace(app, refresh_token_overlap=overlap))
    connected = await workers.connect(5)
    workers.die("before-put")
    asked = [ask(browser) for browsers in connected.values() for browser in browsers]
    answers = [answer for answer in await asyncio.gather(*asked) if answer is not None]
    assert workers.somebody_died
    assert 5 * (workers.count - 1) <= len(answers) < 5 * workers.count
    assert {answer.status_code for answer in answers} == {200 if overlap else 401}
    again = await ask_all(workers, each=2)
    assert {answer.status_code for answer in again} == {200 if overlap else 401}
    assert workers.refreshes() == 2


@pytest.mark.case(227)
async def test_a_worker_that_is_killed_after_it_wrote_costs_nothing(workers: Workers) -> None:
    workers.die("before-release")
    answers = await ask_all(workers, each=5)
    assert len(answers) >= 5 * (workers.count - 1)
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["token"] for answer in answers}) == 1
    again = await ask_all(workers, each=2)
    assert workers.somebody_died
    assert {answer.json()["token"] for answer in again} == {answers[0].json()["token"]}
    assert workers.refreshes() == 1


@pytest.mark.case(246)
async def test_workers_that_are_told_to_end_save_what_a_refresh_brings(workers: Workers) -> None:
    gate = workers.provider.hold("token", after_acting=True)
    async with workers.browser() as browser:
        # No request is under way any more, for which the server would wait.
        assert (await browser.get("/hasty")).text == "later"
        await gate.entered.wait()
    ending = asyncio.ensure_future(asyncio.to_thread(workers.stop))
    asyncio.get_running_loop().call_later(0.5, gate.release)
    await ending
    await asyncio.to_thread(workers.start)
    answers = await ask_all(workers, each=2)
    assert {answer.status_code for answer in answers} == {200}
    assert workers.refreshes() == 1
