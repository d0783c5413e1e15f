"""Logout in every order with refresh, app writes, logins and outages: it wins, and stays.

One seed is one interleaving; a failure names its seed, and
`SIMULATION_SEED=<seed> SIMULATION_RUNS=1` runs it again.
"""

from __future__ import annotations

import asyncio
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from browsers import Browser, Streets, seed_secrets
from schedules import HOUR, named, seeds_of

from tokenward.errors import StoreUnavailable
from tokenward.events import RevocationFailed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from browsers import Login
    from simulation import Simulation

PATHS = ("/token", "/token", "/token", "/token-write", "/write", "/slow-write", "/data")

topologies = pytest.mark.parametrize("topology", ["store", "cookies", "alone"])


def explore(
    request: pytest.FixtureRequest,
    simulation: Simulation,
    play: Callable[[Streets], Awaitable[None]],
    *,
    topology: str,
    runs: int,
) -> None:
    """Play a scene in the interleaving of each seed."""
    for seed in seeds_of(request.node.originalname, topology, runs):
        with named(seed), pytest.MonkeyPatch.context() as patch:
            seed_secrets(patch, Random(seed))
            scene = Streets(topology, simulation, seed)
            simulation.run(play(scene), shuffle=Random(seed))  # type: ignore[arg-type]


async def race(scene: Streets, *endings: Any, faults: bool) -> None:
    """Let requests with an expired token, and what ends sessions, come all at once."""
    dice = scene.random
    if faults:
        scene.dice.store = dice.choice((0.0, 0.05, 0.2)) if len(scene.servers) > 1 else 0.0
        scene.dice.provider = dice.choice((0.0, 0.3))
    (login, *_) = scene.logins.values()
    visits = [
        scene.begin(server, scene.visit(server, login.browser, dice.choice(PATHS)))
        for server in scene.servers
        for _ in range(12 // len(scene.servers))
    ]
    tasks = [*visits, *endings]
    if faults and len(scene.servers) > 1 and dice.random() < 0.3:
        scene.dice.renewals = 0
        tasks.append(scene.loop.create_task(scene.stand_still(scene.server())))
    scene.lose_patience(dice.choice((0, 0, 2)))
    await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled() and not isinstance(task.exception(), StoreUnavailable):
            task.result()
    await scene.drain()


def an_ending(scene: Streets, login: Login) -> asyncio.Task[Any]:
    """Begin something that ends a login."""
    server, browser = scene.server(), login.browser
    ways: list[Callable[[], Any]] = [
        lambda: scene.later(browser.log_out, server),
        lambda: scene.end_all(server, sub=login.sub),
        lambda: scene.end_all(server, sid=login.sid),
        lambda: scene.end_all(server, id=login.key),
    ]
    # Nobody can list or end sessions in cookies from outside.
    way = ways[0] if scene.cookies else scene.random.choice(ways)
    return scene.begin(server, way())


async def expect_over(scene: Streets, login: Login) -> None:
    """See that nobody who ever held something of the session gets anything for it."""
    for server in scene.servers:
        jar = scene.random.choice((login.jars[0], login.jars[-1]))
        if server.session_in(login.browser.headers(jar)) != login.key:
            continue
        redeemed = login.family.redeemed
        answer = await scene.begin(server, login.browser.send(server, "/token", jar=jar))
        assert login.family.redeemed == redeemed, "it came back"
        # Of a cookie that was copied, other processes learn the end at its next refresh.
        assert answer.status == 401 or (scene.cookies and len(scene.servers) > 1)
        if not scene.cookies:
            answer = await scene.begin(server, login.browser.send(server, "/data", jar=jar))
            assert answer.body in ("", "of-nobody")


def expect_given_back(scene: Streets, login: Login) -> None:
    """See that every refresh token that we had went back, or that it was told that it did not."""
    if login.kept or scene.op.unacknowledged(login.family):
        # The tokens of the next login are of the same grant. Or nobody had the last ones.
        return
    told = [
        event
        for server in scene.servers
        for event in server.events
        if isinstance(event, RevocationFailed)
    ]
    assert told or not scene.op.living(login.family), "a refresh token was left alive"


def expect_no_trace(scene: Streets, login: Login) -> None:
    """See that nothing of the session is in the store but what keeps it from coming back."""
    now, memory = scene.clock(), scene.memory
    values = [key for key in memory._values._things if memory._values.has(key, now)]
    assert not [
        key for key in values if key.startswith((f"{login.key}:session", f"{login.key}:data"))
    ]
    members = [pair for pair in memory._members._things if memory._members.has(pair, now)]
    assert not [index for index, member in members if member == login.key]


async def expect_untouched(scene: Streets, login: Login, *, faults: bool) -> None:
    """See that a login that nobody ended works, and holds nothing of another one's."""
    if login.overtaken and (scene.cookies or faults or scene.ended_elsewhere):
        # What travels in cookies is in the hands of the network. And an answer may be under way
        # that deletes a cookie which led nowhere before it was replaced.
        return
    for server in scene.servers:
        if scene.op.unacknowledged(login.family):
            return
        answer = await scene.begin(server, login.browser.send(server, "/token"))
        assert answer.status == 200, "a login was lost"
        assert f"-of-{login.sub}-" in answer.body
        assert not login.family.dead
        data = await scene.begin(server, login.browser.send(server, "/data"))
        assert set(data.body.split()) <= {f"of-{login.sub}"}


async def expect_order(scene: Streets, *, faults: bool) -> None:
    for login in scene.logins.values():
        if login.over:
            await expect_over(scene, login)
            await scene.drain()
            expect_given_back(scene, login)
            if not faults and not scene.cookies:
                expect_no_trace(scene, login)
    await asyncio.sleep(8.0)
    for login in scene.logins.values():
        if not login.over and not login.doubtful and login.browser.login is login:
            await expect_untouched(scene, login, faults=faults)
    await scene.drain()
    leases = scene.memory._leases
    live = [key for key in leases._things if leases.has(key, scene.clock())]
    assert not [key for key in live if key.endswith(":lease")]


@topologies
@pytest.mark.parametrize("faults", [False, True], ids=["calm", "faults"])
@pytest.mark.case(240)
def test_a_session_that_ended_never_comes_back(
    request: pytest.FixtureRequest, simulation: Simulation, topology: str, faults: bool
) -> None:
    async def play(scene: Streets) -> None:
        login = await scene.log_in("alice", "s1")
        other = await scene.log_in("bob", "s2")
        scene.elapsed += HOUR
        endings = [an_ending(scene, login) for _ in range(scene.random.choice((1, 1, 2)))]
        server = scene.server()
        endings.append(scene.begin(server, scene.visit(server, other.browser, "/token")))
        await race(scene, *endings, faults=faults)
        await expect_order(scene, faults=faults)

    explore(request, simulation, play, topology=topology, runs=200)


@topologies
@pytest.mark.parametrize("faults", [False, True], ids=["calm", "faults"])
def test_a_new_login_is_untouched_by_what_the_old_one_leaves(
    request: pytest.FixtureRequest, simulation: Simulation, topology: str, faults: bool
) -> None:
    async def play(scene: Streets) -> None:
        login = await scene.log_in("alice", "s1")
        scene.elapsed += HOUR
        server, dice = scene.server(), scene.random
        here = login.browser if dice.random() < 0.7 else Browser(scene)
        sub = dice.choice(("alice", "bob"))
        endings = [scene.begin(server, scene.later(here.log_in, server, sub, "s3"))]
        if dice.random() < 0.5:
            scene.ended_elsewhere = True
            endings.append(an_ending(scene, login))
        await race(scene, *endings, faults=faults)
        await expect_order(scene, faults=faults)

    explore(request, simulation, play, topology=topology, runs=200)
