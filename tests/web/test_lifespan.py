"""The middleware starts and stops with the app, and does without where nobody starts it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from tokenward import (
    ConfigurationError,
    OpenIDProvider,
    TokenManagement,
    TokenManagementMiddleware,
)
from tokenward.stores.memory import MemoryStore


class Server:
    """Sends the lifespan messages, as a server does."""

    def __init__(self, app):
        self.app = app
        self.sent = []
        self.inbox = asyncio.Queue()
        self.outbox = asyncio.Queue()

    async def __aenter__(self):
        async def send(message):
            self.sent.append(message)
            await self.outbox.put(message)

        scope = {"type": "lifespan", "state": {}}
        self.task = asyncio.create_task(self.app(scope, self.inbox.get, send))
        self.task.add_done_callback(lambda _: self.outbox.put_nowait(None))
        await self.tell("lifespan.startup")
        return self

    async def tell(self, kind):
        await self.inbox.put({"type": kind})
        return await self.outbox.get()

    async def __aexit__(self, *exc):
        if not self.task.done():
            await self.tell("lifespan.shutdown")
        await asyncio.wait([self.task])


class ClosingStore(MemoryStore):
    def __init__(self, order):
        super().__init__()
        self.order = order

    async def aclose(self):
        self.order.append("management stopped")


@pytest.fixture
def order():
    return []


def app_with(lifespan=None):
    async def home(request):
        return PlainTextResponse("home")

    return Starlette(routes=[Route("/", home)], lifespan=lifespan)


async def test_it_starts_before_the_apps_own_lifespan_and_stops_after_it(make_site, order):
    @asynccontextmanager
    async def lifespan(app):
        order.append(f"app starts, entered {site.auth._entered.total()}")
        yield
        order.append("app stops")

    site = make_site("memory", app=lambda: app_with(lifespan), store=ClosingStore(order))
    site.store.calls.clear()
    async with Server(site.app) as server:
        assert [m["type"] for m in server.sent] == ["lifespan.startup.complete"]
        assert (await site.browser.get("/")).text == "home"

    assert order == ["app starts, entered 1", "app stops", "management stopped"]
    assert [m["type"] for m in server.sent] == [
        "lifespan.startup.complete",
        "lifespan.shutdown.complete",
    ]


async def test_it_has_stopped_before_the_server_hears_that_the_app_has(make_site, order):
    site = make_site("memory", app=app_with, store=ClosingStore(order))
    server = Server(site.app)
    real = server.outbox.put

    async def put(message):
        order.append(message["type"])
        await real(message)

    server.outbox.put = put
    async with server:
        pass

    assert order == [
        "lifespan.startup.complete",
        "management stopped",
        "lifespan.shutdown.complete",
    ]


async def test_an_app_that_fails_to_start_leaves_nothing_running(make_site, order):
    @asynccontextmanager
    async def lifespan(app):
        raise ValueError("no database")
        yield

    site = make_site("memory", app=lambda: app_with(lifespan), store=ClosingStore(order))
    async with Server(site.app) as server:
        pass

    assert [m["type"] for m in server.sent] == ["lifespan.startup.failed"]
    assert isinstance(server.task.exception(), ValueError)
    assert order == ["management stopped"]


async def test_an_app_that_fails_to_stop_does_not_keep_us_from_stopping(make_site, order):
    @asynccontextmanager
    async def lifespan(app):
        yield
        raise ValueError("cannot")

    site = make_site("memory", app=lambda: app_with(lifespan), store=ClosingStore(order))
    async with Server(site.app) as server:
        pass

    assert server.sent[-1]["type"] == "lifespan.shutdown.failed"
    assert isinstance(server.task.exception(), ValueError)
    assert order == ["management stopped"]


async def test_it_is_counted_so_that_it_may_be_entered_twice(make_site, order):
    site = make_site(
        "memory",
        app=lambda: app_with(lambda app: site.auth.lifespan(app)),
        store=ClosingStore(order),
    )
    async with Server(site.app):
        assert site.auth._entered.total() == 2
        async with site.auth.lifespan():
            assert site.auth._entered.total() == 3
        assert order == []

    assert order == ["management stopped"]


async def test_a_host_without_lifespan_uses_it_by_hand_or_not_at_all(make_site, kind):
    site = make_site(kind)
    await site.login()
    async with site.auth.lifespan():
        assert await site.who() == "Alice"

    assert await site.who() == "Alice", "what was closed opens again"
    assert (await site.browser.get("/token")).status_code == 200


async def test_shutdown_waits_for_a_refresh_under_way(make_site, kind):
    site = make_site(kind)
    await site.login()
    site.clock.advance(3700)
    gate = site.provider.hold("token", after_acting=True)
    waiting = asyncio.create_task(site.browser.get("/token"))
    await gate.entered.wait()
    waiting.cancel()
    await asyncio.wait([waiting])

    async with asyncio.TaskGroup() as group:
        stopping = group.create_task(_enter_and_leave(site.auth))
        for _ in range(10):
            await asyncio.sleep(0)
        assert not stopping.done()
        gate.release()

    assert (await site.browser.get("/token")).status_code == 200
    assert site.provider.count("token", grant_type="refresh_token") == 1


async def _enter_and_leave(auth):
    async with auth.lifespan():
        pass


@pytest.mark.case(483)
async def test_installed_twice_stops_the_start_in_the_way_that_servers_obey(make_site):
    site = make_site("cookie")
    site.app.add_middleware(TokenManagementMiddleware, auth=site.auth)
    async with Server(site.app) as server:
        pass

    assert [m["type"] for m in server.sent] == ["lifespan.startup.failed"]
    assert "TokenManagementMiddleware: is installed twice" in server.sent[0]["message"]
    assert isinstance(server.task.exception(), ConfigurationError)


async def test_two_managements_around_one_app_are_two(make_site):
    site, other = make_site("cookie"), make_site("memory")
    site.app.add_middleware(TokenManagementMiddleware, auth=other.auth)
    async with Server(site.app) as server:
        pass

    assert server.sent[-1]["type"] == "lifespan.shutdown.complete"


async def test_an_app_that_knows_no_lifespan_raises_as_it_would_alone(make_site):
    async def bare(scope, receive, send):
        if scope["type"] != "http":
            raise NotImplementedError
        await PlainTextResponse("bare")(scope, receive, send)

    site = make_site("cookie", app=lambda: None, install=False)
    site.app = TokenManagementMiddleware(bare, auth=site.auth)
    async with Server(site.app) as server:
        pass
    assert isinstance(server.task.exception(), NotImplementedError)
    assert (await site.new_browser().get("/")).text == "bare"


def test_each_event_loop_has_an_end_of_its_own(monkeypatch):
    """A job in a thread ends what it began, also while another one goes on."""
    drained, lent = [], []
    auth = TokenManagement(
        provider=OpenIDProvider("https://op.test", client_id="app", client_secret="secret"),
        public_url="https://app.test",
        secret_key="Zk3rT9vQx1LmP7sWc5Yb2NfHd8Ug4JaE6RoXiKtV",
        store=MemoryStore(),
    )

    async def drain(_seconds):
        drained.append(asyncio.get_running_loop())

    auth.before_stop(drain)
    monkeypatch.setattr(auth.clients, "borrow_loop", lent.append)

    async def job():
        async with auth.lifespan():
            return asyncio.get_running_loop()

    async def go_on():
        async with auth.lifespan():
            jobs = await asyncio.to_thread(asyncio.run, job())
            return asyncio.get_running_loop(), jobs

    apps, jobs = asyncio.run(go_on())
    assert drained == [jobs, apps]
    # Threads without a loop are served by the app's, whatever jobs come and go.
    assert lent == [apps, apps, apps, None]
