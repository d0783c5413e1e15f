"""What the state machine found, as plain tests."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from state_world import IDLE, INTERVAL, SCRIPT, World

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    from state_world import Answer, Places

    from tokenward.tokens.session import Session

Scene = tuple[World, "Callable[[Coroutine[Any, Any, Any]], Any]"]


@pytest.fixture(params=["memory", "sqlite", "redis", "cookie", "cookie+sqlite"])
def world(request: pytest.FixtureRequest, places: Places) -> Iterator[World]:
    """The world of the machine, with each kind of session."""
    world = World(request.param, places)
    yield world
    world.close()


async def send(world: World, target: str, **fields: Any) -> Answer:
    """Send a request of the first browser to the last worker, which is often the second."""
    last = len(world.workers) - 1
    cookies = fields.pop("cookies", None) or world.browsers[0].cookies()
    return await world.send(last, target, cookies=cookies, headers=SCRIPT, **fields)


async def begin(world: World, sub: str = "alice") -> str:
    """Begin a login at the first worker, and return where the provider sends the browser."""
    browser = world.browsers[0]
    answer = await world.send(0, "/auth/login", cookies=browser.cookies())
    browser.take(answer)
    return await world.authorize(answer.location, sub)


async def log_in(world: World, sub: str = "alice") -> None:
    """Log in at the first worker."""
    browser, callback = world.browsers[0], await begin(world, sub)
    answer = await world.send(0, callback, cookies=browser.cookies())
    assert answer.status == 303
    browser.take(answer)


async def look(world: World) -> Session | None:
    """Return the session of the first browser."""
    return await world.look(world.browsers[0].cookies())


def test_the_second_of_two_callbacks_does_not_delete_the_session_of_the_first(
    world: World,
) -> None:
    """It carried the cookie of a session that was over by then, and cleared it away."""

    async def play() -> None:
        browser = world.browsers[0]
        await log_in(world)
        await asyncio.sleep(IDLE + 1)
        callback = await begin(world)
        sent = browser.cookies()
        for number in (0, len(world.workers) - 1):
            browser.take(await world.send(number, callback, cookies=sent))
        assert await look(world) is not None

    world.loop.run(play())


def test_a_late_answer_to_an_idle_session_does_not_delete_the_next_login(world: World) -> None:
    async def play() -> None:
        browser = world.browsers[0]
        await log_in(world)
        await asyncio.sleep(IDLE + 1)
        sent = browser.cookies()
        await log_in(world)
        browser.take(await send(world, "/token", cookies=sent))
        assert await look(world) is not None

    world.loop.run(play())


def test_a_late_answer_to_a_session_that_was_refused_does_not_delete_the_next_login(
    world: World,
) -> None:
    """The provider refuses the grant while its user logs in again in another tab."""

    async def play() -> None:
        browser = world.browsers[0]
        await log_in(world)
        world.op.end_grants("alice")
        await asyncio.sleep(601)
        callback = await begin(world)
        gate = world.op.hold("token", when=lambda record: record.grant_type == "refresh_token")
        refused = asyncio.ensure_future(send(world, "/token"))
        await gate.entered.wait()
        browser.take(await world.send(0, callback, cookies=browser.cookies()))
        gate.release()
        answer = await refused
        assert answer.status == 401
        browser.take(answer)
        session = await look(world)
        assert session is not None
        assert session.created_at == world.clock()

    world.loop.run(play())


@pytest.mark.parametrize("world", ["cookie", "cookie+sqlite"], indirect=True)
def test_a_session_that_is_over_loses_its_cookie_all_the_same(world: World) -> None:
    async def play() -> None:
        browser = world.browsers[0]
        await log_in(world)
        await asyncio.sleep(IDLE + 1)
        browser.take(await send(world, "/token"))
        assert "__Host-tokenward" not in browser.cookies()

    world.loop.run(play())


@pytest.mark.parametrize("world", ["memory", "sqlite", "redis"], indirect=True)
def test_the_idle_time_that_a_store_did_not_take_is_begun_anew_by_the_next_request(
    world: World,
) -> None:
    """A process remembered that it had seen the session, and asked the store no more."""

    async def play() -> None:
        store = world.workers[-1].store
        await log_in(world)
        await asyncio.sleep(1800)
        store.broken = frozenset({"touch"})
        assert (await send(world, "/me")).status == 200
        store.broken = frozenset()
        await asyncio.sleep(1)
        assert (await send(world, "/me")).status == 200
        await asyncio.sleep(IDLE - INTERVAL - 1)
        assert await look(world) is not None

    world.loop.run(play())


@pytest.mark.parametrize("world", ["cookie", "cookie+sqlite"], indirect=True)
def test_a_refreshed_session_that_its_browser_has_outlives_a_store_that_takes_nothing(
    world: World,
) -> None:
    """What could not be published for stragglers was given back to the provider."""

    async def play() -> None:
        browser = world.browsers[0]
        await log_in(world)
        await asyncio.sleep(601)
        gate = world.op.hold("token")
        asked = asyncio.ensure_future(send(world, "/token"))
        await gate.entered.wait()
        for worker in world.workers:
            worker.store.broken = frozenset({"put"})
        gate.release()
        answer = await asked
        assert answer.status == 200
        browser.take(answer)
        await asyncio.sleep(120)
        for worker in world.workers:
            worker.store.broken = frozenset()
        await asyncio.sleep(601)
        answer = await send(world, "/token")
        assert answer.status == 200

    world.loop.run(play())


def test_a_login_that_fails_for_want_of_a_store_leaves_the_session_before_it(
    world: World,
) -> None:
    """In cookies, the process took it for ended, and a logout left its cookie with the browser."""

    async def play() -> None:
        browser = world.browsers[0]
        await log_in(world)
        callback = await begin(world, "bob")
        for worker in world.workers:
            worker.store.broken = frozenset({"put", "delete"})
        answer = await world.send(0, callback, cookies=browser.cookies())
        assert answer.status == 503
        browser.take(answer)
        for worker in world.workers:
            worker.store.broken = frozenset()
        answer = await world.send(0, "/me", cookies=browser.cookies())
        assert answer.json()["sid"]

    world.loop.run(play())


@pytest.mark.parametrize("world", ["memory", "sqlite", "redis", "cookie+sqlite"], indirect=True)
def test_a_cookie_that_is_signed_with_a_new_key_does_not_replace_the_one_of_a_new_login(
    world: World,
) -> None:
    """The second of two callbacks found the session that the first one was about to end."""

    async def play() -> None:
        browser = world.browsers[0]
        await log_in(world, "bob")
        await world.deploy(1, (1, 0))
        callback = await begin(world)
        sent = browser.cookies()

        async def arrive(worker: int) -> None:
            browser.take(await world.send(worker, callback, cookies=sent))

        await asyncio.gather(arrive(0), arrive(1))
        session = await look(world)
        assert session is not None
        assert session.claims["sub"] == "alice"

    world.loop.run(play())
