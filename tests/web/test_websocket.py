"""WebSockets: the session can be read, by pages of our own, and cannot be written."""

from __future__ import annotations

import asyncio
import json

import pytest
from starlette.applications import Starlette
from starlette.authentication import requires
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute

from tokenward import Lifetimes, get_user_access_token
from tokenward.errors import NotAuthenticated, SessionNotWritable
from tokenward.events import CookieRejected

OWN = b"https://app.test"


class WebSocket:
    """The browser's side of one connection."""

    def __init__(self, site, path, *, origins=(OWN,), cookies=None):
        held = site.cookies() if cookies is None else cookies
        cookie = "; ".join(f"{name}={value}" for name, value in held.items()).encode()
        headers = [(b"host", b"app.test"), (b"cookie", cookie)]
        headers += [(b"origin", origin) for origin in origins]
        self.scope = {
            "type": "websocket",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": headers,
            "scheme": "wss",
            "subprotocols": [],
            "extensions": {},
        }
        self.app = site.app
        self.inbox = asyncio.Queue()
        self.sent = []
        self.outbox = asyncio.Queue()
        self.inbox.put_nowait({"type": "websocket.connect"})

    async def run(self):
        async def send(message):
            assert not any(m["type"] == "websocket.close" for m in self.sent), "closed twice"
            self.sent.append(message)
            self.outbox.put_nowait(message)

        await self.app(self.scope, self.inbox.get, send)
        return self

    def say(self, text):
        self.inbox.put_nowait({"type": "websocket.receive", "text": text})

    def leave(self):
        self.inbox.put_nowait({"type": "websocket.disconnect", "code": 1000})

    async def heard(self):
        while (message := await self.outbox.get())["type"] != "websocket.send":
            pass
        return json.loads(message["text"])

    @property
    def texts(self):
        return [json.loads(m["text"]) for m in self.sent if m["type"] == "websocket.send"]

    @property
    def closed(self):
        return [(m["code"], m.get("reason")) for m in self.sent if m["type"] == "websocket.close"]


async def about(websocket):
    await websocket.accept()
    user = websocket.user
    known = {"name": user.display_name, "data": dict(websocket.session)}
    await websocket.send_json(known)
    await websocket.close()


async def token(websocket):
    value = await get_user_access_token(websocket)
    await websocket.accept()
    await websocket.send_json(value.value)
    await websocket.close()


async def change(websocket):
    await websocket.accept()
    websocket.session["late"] = 1


async def change_deep(websocket):
    await websocket.accept()
    websocket.session["list"].append(2)
    await websocket.close()


async def late(websocket):
    await websocket.accept()
    await websocket.close()
    raise NotAuthenticated


async def gone(websocket):
    await websocket.accept()
    await websocket.receive()
    raise NotAuthenticated


async def long(websocket):
    await websocket.accept()
    while (await websocket.receive())["type"] == "websocket.receive":
        await websocket.send_json(websocket.user.display_name)


@requires("authenticated")
async def required(websocket):
    await websocket.accept()
    await websocket.send_json("in")
    await websocket.close()


ROUTES = {
    "/about": about,
    "/token": token,
    "/change": change,
    "/deep": change_deep,
    "/late": late,
    "/gone": gone,
    "/long": long,
    "/required": required,
}


@pytest.fixture
def make(make_site):
    def make(kind, **settings):
        def app():
            routes = [WebSocketRoute(path, route) for path, route in ROUTES.items()]
            return Starlette(routes=[*routes, Route("/session", keep, methods=["PATCH"])])

        return make_site(kind, app=app, **settings)

    return make


async def keep(request):
    request.session.update(await request.json())
    return PlainTextResponse("kept")


@pytest.mark.case(303)
async def test_the_session_can_be_read(make, kind):
    site = make(kind)
    await site.log_in(site.browser, "alice")
    await site.keep(a=1)
    socket = await WebSocket(site, "/about").run()

    assert socket.texts == [{"name": "Alice", "data": {"a": 1}}]
    assert [m["type"] for m in socket.sent] == [
        "websocket.accept",
        "websocket.send",
        "websocket.close",
    ]


async def test_nobody_is_nobody(make, kind):
    socket = await WebSocket(make(kind), "/about", cookies={}).run()
    assert socket.texts == [{"name": "", "data": {}}]


async def test_a_fresh_token_is_given(make, kind):
    site = make(kind)
    await site.log_in(site.browser, "alice")
    socket = await WebSocket(site, "/token").run()

    assert site.provider.is_active(socket.texts[0])


async def test_a_token_is_renewed_where_that_can_be_saved_and_not_spent_where_not(make, kind):
    site = make(kind)
    await site.log_in(site.browser, "alice")
    site.clock.advance(3700)
    socket = await WebSocket(site, "/token").run()

    if kind == "cookie":
        assert socket.closed == [(1011, "session_not_writable")]
        assert site.provider.count("token", grant_type="refresh_token") == 0
    else:
        assert site.provider.is_active(socket.texts[0])


@pytest.mark.parametrize("path", ["/token", "/required"])
async def test_nobody_is_refused_before_the_handshake_and_never_redirected(make, kind, path):
    socket = await WebSocket(make(kind), path, cookies={}).run()

    assert [m["type"] for m in socket.sent] == ["websocket.close"]
    if path == "/token":
        assert socket.closed == [(4401, "not_authenticated")]


async def test_requires_works(make, kind):
    site = make(kind)
    await site.log_in(site.browser, "alice")
    assert (await WebSocket(site, "/required").run()).texts == ["in"]


@pytest.mark.case(303)
async def test_the_session_cannot_be_written(make, kind):
    site = make(kind)
    await site.log_in(site.browser, "alice")
    await site.keep(list=[1])
    socket = await WebSocket(site, "/change").run()
    assert socket.closed == [(1011, "session_not_writable")]
    # Not by pytest.raises: the scope, with its cookies, is in the frames of every ASGI app.
    (failure,) = await asyncio.gather(WebSocket(site, "/deep").run(), return_exceptions=True)
    assert isinstance(failure, SessionNotWritable)

    socket = await WebSocket(site, "/about").run()
    assert socket.texts[0]["data"] == {"list": [1]}


@pytest.mark.case(391)
@pytest.mark.parametrize(
    "origins",
    [
        pytest.param((), id="none"),
        pytest.param((b"https://evil.test",), id="another site"),
        pytest.param((b"https://evil.app.test",), id="another host of the site"),
        pytest.param((b"http://app.test",), id="another scheme"),
        pytest.param((b"https://app.test:8443",), id="another port"),
        pytest.param((b"https://app.test.evil.test",), id="a longer name"),
        pytest.param((b"null",), id="null"),
        pytest.param((OWN, b"https://evil.test"), id="two"),
        pytest.param((b"https://app.test, https://evil.test",), id="two in one"),
        pytest.param((b"\xff",), id="no text"),
    ],
)
async def test_a_page_of_another_origin_opens_a_socket_without_a_session(make, kind, origins):
    site = make(kind)
    await site.log_in(site.browser, "alice")

    socket = await WebSocket(site, "/about", origins=origins).run()
    assert socket.texts == [{"name": "", "data": {}}]
    socket = await WebSocket(site, "/token", origins=origins).run()
    assert socket.closed == [(4401, "not_authenticated")]
    assert not [event for event in site.events if isinstance(event, CookieRejected)]


async def test_every_public_url_may_open_a_socket(make, kind):
    site = make(kind, public_url=["https://app.test", "https://www.app.test"])
    await site.log_in(site.browser, "alice")

    for origin in (b"https://app.test", b"https://www.app.test"):
        socket = await WebSocket(site, "/required", origins=(origin,)).run()
        assert socket.texts == ["in"]


@pytest.mark.case(303)
async def test_a_long_socket_sees_the_session_end(make, kind):
    site = make(kind, lifetimes=Lifetimes(idle=600, absolute=600))
    await site.log_in(site.browser, "alice")
    socket = WebSocket(site, "/long")
    task = asyncio.create_task(socket.run())
    socket.say("?")
    assert await socket.heard() == "Alice"
    site.clock.advance(599)
    socket.say("?")
    assert await socket.heard() == "Alice"
    site.clock.advance(1)
    socket.say("?")
    assert await socket.heard() == ""
    socket.leave()
    await asyncio.wait([task])


@pytest.mark.parametrize("path", ["/late", "/gone"])
async def test_a_socket_that_is_over_is_not_closed_again(make, kind, path):
    socket = WebSocket(make(kind), path, cookies={})
    socket.leave()
    with pytest.raises(NotAuthenticated):
        await socket.run()


async def test_a_store_that_is_down_asks_to_come_back_later(make, stored):
    site = make(stored)
    await site.log_in(site.browser, "alice")
    site.store.break_("all")
    socket = await WebSocket(site, "/token").run()

    assert socket.closed == [(1013, "token_unavailable")]


@pytest.mark.parametrize("ours", [True, False])
async def test_a_group_of_our_errors_closes_as_one_of_them_does(make_site, ours):
    async def fails(websocket):
        await websocket.accept()
        others = [] if ours else [ValueError("x")]
        raise ExceptionGroup("unhandled errors in a TaskGroup", [NotAuthenticated(), *others])

    site = make_site("cookie", app=lambda: Starlette(routes=[WebSocketRoute("/x", fails)]))
    socket = WebSocket(site, "/x")
    if ours:
        await socket.run()
        assert socket.closed == [(4401, "not_authenticated")]
    else:
        with pytest.raises(ExceptionGroup):
            await socket.run()
        assert socket.closed == []
