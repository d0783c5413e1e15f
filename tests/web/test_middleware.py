"""What the middleware does around an app: errors, the way out, and who sees the session."""

from __future__ import annotations

import asyncio
import gzip
import logging

import httpx
import pytest
from starlette.applications import Starlette
from starlette.authentication import requires
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import (
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Mount, Route

from tokenward import (
    ConfigurationError,
    TokenManagementMiddleware,
    get_user_access_token,
    load_session,
    login_url,
)
from tokenward.errors import (
    Conflict,
    InsufficientScope,
    NotAuthenticated,
    PermissionDenied,
    ProviderUnavailable,
    SessionEnded,
    SessionNotLoaded,
    SessionNotWritable,
    StoreUnavailable,
    TokenExpired,
    TokenUnavailable,
)
from tokenward.testing import AlteredAnswer, User
from tokenward.tokens.session import current_session

NAME = "__Host-tokenward"
SCRIPT = {"accept": "application/json"}
PAGE = {"sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}

ERRORS = {
    NotAuthenticated(): (401, "not_authenticated"),
    TokenExpired("over"): (401, "token_expired"),
    SessionEnded("invalid_grant"): (401, "session_ended"),
    PermissionDenied("no role"): (403, "permission_denied"),
    InsufficientScope(frozenset({"x"})): (403, "insufficient_scope"),
    TokenUnavailable("later", retry_after=7): (503, "token_unavailable"),
    ProviderUnavailable("later"): (503, "provider_unavailable"),
    StoreUnavailable("later"): (503, "store_unavailable"),
    Conflict("again"): (503, "conflict"),
    SessionNotWritable("late"): (500, "session_not_writable"),
    SessionNotLoaded("not loaded"): (500, "session_not_loaded"),
}


def raising(error):
    async def route(request):
        raise error

    return route


class PassThrough(BaseHTTPMiddleware):
    async def dispatch(self, request, call_next):
        return await call_next(request)


def no_context(app):
    """Wrap an app in nothing at all."""
    return app


# ---------------------------------------------------------------- errors


def in_a_route(error):
    return Starlette(routes=[Route("/x", raising(error))])


def in_a_mounted_app(error):
    return Starlette(routes=[Mount("/", Starlette(routes=[Route("/x", raising(error))]))])


def in_a_mounted_app_that_debugs(error):
    inner = Starlette(routes=[Route("/x", raising(error))], debug=True)
    return Starlette(routes=[Mount("/", inner)])


def in_a_mounted_app_two_levels_down(error):
    inner = Starlette(routes=[Mount("/", Starlette(routes=[Route("/x", raising(error))]))])
    return Starlette(routes=[Mount("/", inner)])


def behind_base_http_middleware(error):
    return Starlette(routes=[Route("/x", raising(error))], middleware=[Middleware(PassThrough)])


def in_a_mounted_app_behind_base_http_middleware(error):
    inner = Starlette(routes=[Route("/x", raising(error))])
    return Starlette(routes=[Mount("/", inner)], middleware=[Middleware(PassThrough)])


def in_a_mounted_app_behind_gzip(error):
    inner = Starlette(routes=[Route("/x", raising(error))])
    return Starlette(
        routes=[Mount("/", inner)], middleware=[Middleware(GZipMiddleware, minimum_size=1)]
    )


def in_base_http_middleware(error):
    class Raising(BaseHTTPMiddleware):
        async def dispatch(self, request, call_next):
            raise error

    return Starlette(middleware=[Middleware(Raising)])


def in_a_mounted_app_whose_handler_answers_and_raises_on(error):
    async def handler(request, exc):
        return PlainTextResponse("sub-app is sorry", 500)

    inner = Starlette(routes=[Route("/x", raising(error))], exception_handlers={Exception: handler})
    return Starlette(routes=[Mount("/", inner)])


PLACES = [
    in_a_route,
    in_a_mounted_app,
    in_a_mounted_app_that_debugs,
    in_a_mounted_app_two_levels_down,
    behind_base_http_middleware,
    in_a_mounted_app_behind_base_http_middleware,
    in_a_mounted_app_behind_gzip,
    in_base_http_middleware,
    in_a_mounted_app_whose_handler_answers_and_raises_on,
]


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
@pytest.mark.parametrize(("error", "answer"), ERRORS.items(), ids=lambda x: type(x).__name__)
async def test_our_errors_are_answered_wherever_they_are_raised(make_site, place, error, answer):
    site = make_site("cookie", app=lambda: place(error))
    response = await site.browser.get("/x", headers=SCRIPT)

    assert (response.status_code, response.json()["error"]) == answer
    assert response.headers["cache-control"] == "no-store"
    assert ("retry-after" in response.headers) == (answer[0] == 503)


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
async def test_a_navigation_is_sent_to_the_login_from_everywhere(make_site, place):
    site = make_site("cookie", app=lambda: place(NotAuthenticated()))
    response = await site.browser.get("/x?y=1", headers=PAGE)

    assert response.status_code == 303
    assert response.headers["location"] == "/auth/login?return_to=/x%3Fy%3D1"


@pytest.mark.parametrize("outer", [PassThrough, GZipMiddleware, CORSMiddleware])
async def test_what_stands_around_the_middleware_does_not_matter(make_site, kind, outer):
    def app():
        return Starlette(routes=[Route("/x", raising(NotAuthenticated()))])

    site = make_site(kind, app=app)
    site.app.add_middleware(outer)
    response = await site.browser.get("/x", headers=SCRIPT)

    assert (response.status_code, response.json()["error"]) == (401, "not_authenticated")


async def test_a_handler_of_the_app_wins(make_site):
    async def handler(request, exc):
        return PlainTextResponse("mine", 418)

    def app():
        return Starlette(
            routes=[Route("/x", raising(NotAuthenticated()))],
            exception_handlers={NotAuthenticated: handler},
        )

    response = await make_site("cookie", app=app).browser.get("/x")
    assert (response.status_code, response.text) == (418, "mine")


async def test_a_handler_of_the_app_wins_even_if_it_answers_500(make_site):
    async def handler(request, exc):
        return PlainTextResponse("mine", 500)

    def app():
        return Starlette(
            routes=[Route("/x", raising(NotAuthenticated()))],
            exception_handlers={NotAuthenticated: handler},
        )

    response = await make_site("cookie", app=app).browser.get("/x")
    assert (response.status_code, response.text) == (500, "mine")


async def test_a_500_that_the_app_means_goes_out_before_its_background_task(make_site):
    order = []

    async def report():
        order.append("reported")

    async def route(request):
        return PlainTextResponse("broken", 500, background=BackgroundTask(report))

    site = make_site("cookie", app=lambda: Starlette(routes=[Route("/x", route)]))

    async def send(message):
        order.append(message["type"])

    async def receive():
        return {"type": "http.request"}

    scope = {"type": "http", "method": "GET", "path": "/x", "query_string": b"", "headers": []}
    await site.app(scope, receive, send)
    assert order == ["http.response.start", "http.response.body", "reported"]


@pytest.mark.parametrize("size", [10, 200_000])
async def test_a_500_in_many_pieces_arrives_whole(make_site, size):
    async def route(request):
        async def pieces():
            for _ in range(4):
                yield b"x" * size

        return StreamingResponse(pieces(), 500)

    site = make_site("cookie", app=lambda: Starlette(routes=[Route("/x", route)]))
    response = await site.browser.get("/x")

    assert (response.status_code, len(response.content)) == (500, 4 * size)


async def test_other_errors_are_left_to_the_app(make_site):
    def app():
        return Starlette(routes=[Route("/x", raising(ValueError("bug")))])

    site = make_site("cookie", app=app)
    with pytest.raises(ValueError, match="bug"):
        await site.browser.get("/x")
    response = await site.new_browser(raising=False).get("/x")
    assert (response.status_code, response.text) == (500, "Internal Server Error")


async def test_a_mounted_apps_own_page_for_other_errors_is_kept(make_site):
    async def handler(request, exc):
        return PlainTextResponse("sub-app is sorry", 500)

    def app():
        inner = Starlette(
            routes=[Route("/x", raising(ValueError("bug")))],
            exception_handlers={Exception: handler},
        )
        return Starlette(routes=[Mount("/", inner)])

    response = await make_site("cookie", app=app).new_browser(raising=False).get("/x")
    assert (response.status_code, response.text) == (500, "sub-app is sorry")


async def test_misuse_by_the_app_is_told_to_the_log_and_not_to_the_browser(make_site, caplog):
    def app():
        return Starlette(routes=[Route("/x", raising(SessionNotWritable("the reason")))])

    with caplog.at_level(logging.ERROR):
        response = await make_site("cookie", app=app).browser.get("/x", headers=PAGE)

    assert response.status_code == 500
    assert "the reason" not in response.text
    assert "SessionNotWritable: the reason" in caplog.text


async def test_an_error_after_the_answer_began_is_raised(make_site):
    async def route(request):
        async def pieces():
            yield b"x"
            raise NotAuthenticated

        return StreamingResponse(pieces())

    site = make_site("cookie", app=lambda: Starlette(routes=[Route("/x", route)]))
    with pytest.raises(NotAuthenticated):
        await site.browser.get("/x")


@pytest.mark.parametrize("task_raises", [True, False])
async def test_an_error_in_a_background_task_does_not_answer_twice(make_site, task_raises):
    async def task():
        if task_raises:
            raise NotAuthenticated

    async def route(request):
        return PlainTextResponse("done", background=BackgroundTask(task))

    site = make_site("cookie", app=lambda: Starlette(routes=[Route("/x", route)]))
    response = await site.new_browser(raising=False).get("/x")
    assert (response.status_code, response.text) == (200, "done")


# ---------------------------------------------------------------- saved before it is told


async def write(request):
    request.session["written"] = request.session.get("written", 0) + 1
    return PlainTextResponse("written")


async def show(request):
    return JSONResponse(request.session)


def writing(*more, **given):
    return Starlette(routes=[Route("/write", write), Route("/show", show), *more], **given)


@pytest.mark.parametrize("operation", ["put", "all"])
async def test_what_cannot_be_saved_is_a_503_and_the_apps_answer_is_dropped(
    make_site, stored, operation
):
    site = make_site(stored, app=writing)
    await site.browser.get("/write")
    if operation == "put":
        site.store.break_("put")
    else:
        site.store.break_("get_many", "put", "get")
    response = await site.browser.get("/write", headers=SCRIPT)

    assert (response.status_code, response.json()["error"]) == (503, "store_unavailable")
    assert response.headers["retry-after"] == "3"
    assert "written" not in response.text
    site.store.break_()
    assert (await site.browser.get("/show")).json() == {"written": 1}


async def test_no_cookie_is_given_for_what_was_not_saved(make_site, stored):
    site = make_site(stored, app=writing)
    site.store.break_("put")
    response = await site.browser.get("/write")

    assert response.status_code == 503
    assert "set-cookie" not in response.headers


class SwallowSend:
    """An app that goes on as if nothing were, whatever `send` raises."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        async def careless(message):
            try:
                await send(message)
            except Exception:  # noqa: BLE001 - that is what it is about
                return

        await self.app(scope, receive, careless)


class AnswerSend:
    """An app that answers something else when `send` raises."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        try:
            await self.app(scope, receive, send)
        except Exception:  # noqa: BLE001 - that is what it is about
            await PlainTextResponse("all is well")(scope, receive, send)


class RenameSend:
    """An app that makes another error of what `send` raises."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        try:
            await self.app(scope, receive, send)
        except Exception as error:
            raise RuntimeError("something happened") from error


@pytest.mark.parametrize("careless", [SwallowSend, AnswerSend, RenameSend, PassThrough])
async def test_an_app_that_catches_what_send_raises_does_not_answer_for_it(
    make_site, stored, careless
):
    site = make_site(stored, app=lambda: writing(middleware=[Middleware(careless)]))
    site.store.break_("put")
    response = await site.browser.get("/write", headers=SCRIPT)

    assert (response.status_code, response.json()["error"]) == (503, "store_unavailable")


async def test_the_store_is_not_tried_again_for_the_error_page(make_site, stored):
    site = make_site(stored, app=writing)
    site.store.break_("put")
    await site.browser.get("/write")

    assert site.store.calls.count("put") == 1


async def test_it_is_saved_when_the_first_byte_goes_out_and_not_before(make_site, stored):
    seen = []

    async def route(request):
        request.session["a"] = 1
        seen.append(site.store.calls.count("put"))

        async def pieces():
            seen.append(site.store.calls.count("put"))
            yield b"x"

        return StreamingResponse(pieces())

    site = make_site(stored, app=lambda: Starlette(routes=[Route("/x", route)]))
    response = await site.browser.get("/x")

    assert seen == [0, 1]
    assert NAME in response.headers["set-cookie"]


@pytest.mark.case(302)
@pytest.mark.parametrize(
    ("method", "status"), [("HEAD", 200), ("GET", 304), ("GET", 204), ("POST", 303), ("GET", 200)]
)
async def test_the_cookie_goes_with_every_kind_of_answer(make_site, kind, method, status):
    async def route(request):
        request.session["a"] = 1
        if status == 303:
            return RedirectResponse("/", 303)
        return Response(status_code=status)

    routes = [Route("/x", route, methods=["GET", "HEAD", "POST"]), Route("/show", show)]
    site = make_site(kind, app=lambda: Starlette(routes=routes))
    response = await site.browser.request(method, "/x")

    assert response.status_code == status
    assert len(response.headers.get_list("set-cookie")) == 1
    assert (await site.browser.get("/show")).json() == {"a": 1}


@pytest.mark.case(302)
async def test_a_late_start_carries_what_was_changed_until_then(make_site, kind):
    async def route(scope, receive, send):
        request = Request(scope, receive)
        request.session["early"] = 1
        await asyncio.sleep(0)
        request.session["late"] = 1
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x"})

    site = make_site(kind, app=lambda: writing(Mount("/late", route)))
    await site.browser.get("/late/")

    assert (await site.browser.get("/show")).json() == {"early": 1, "late": 1}


@pytest.mark.case(302)
async def test_a_start_without_headers_gets_them(make_site, kind):
    async def route(scope, receive, send):
        Request(scope).session["a"] = 1
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body"})

    site = make_site(kind, app=lambda: writing(Mount("/x", route)))
    response = await site.browser.get("/x/")

    assert response.headers["cache-control"] == "private, no-store"
    assert (await site.browser.get("/show")).json() == {"a": 1}


@pytest.mark.parametrize("where", ["top", "nested", "background"])
async def test_a_change_after_the_answer_began_is_loud_and_changes_nothing(make_site, kind, where):
    async def change(request):
        if where == "nested":
            request.session["list"].append(2)
        else:
            request.session["late"] = 1

    async def route(request):
        request.session.setdefault("list", [1])

        async def pieces():
            yield b"x"
            if where != "background":
                await change(request)

        return StreamingResponse(
            pieces(), background=BackgroundTask(change, request) if where == "background" else None
        )

    site = make_site(kind, app=lambda: writing(Route("/x", route)))
    with pytest.raises(SessionNotWritable):
        await site.browser.get("/x")
    response = await site.new_browser(raising=False).get("/x")
    assert response.status_code == 200


@pytest.mark.case(301)
@pytest.mark.parametrize("inside", [True, False], ids=["inside", "outside"])
async def test_gzip_and_cors_may_stand_on_either_side(make_site, kind, inside):
    async def large(request):
        request.session["a"] = 1
        return PlainTextResponse("x" * 5000)

    around = [
        Middleware(GZipMiddleware, minimum_size=100),
        Middleware(CORSMiddleware, allow_origins=["https://other.test"], allow_credentials=True),
    ]

    def app():
        given = {"middleware": around} if inside else {}
        return Starlette(routes=[Route("/x", large), Route("/show", show)], **given)

    site = make_site(kind, app=app)
    if not inside:
        site.app.add_middleware(GZipMiddleware, minimum_size=100)
        site.app.add_middleware(
            CORSMiddleware, allow_origins=["https://other.test"], allow_credentials=True
        )
    fields = {"accept-encoding": "gzip", "origin": "https://other.test"}
    async with site.browser.stream("GET", "/x", headers=fields) as response:
        body = b"".join([piece async for piece in response.aiter_raw()])

    assert gzip.decompress(body) == b"x" * 5000
    assert len(response.headers.get_list("set-cookie")) == 1
    assert "Cookie" in response.headers["vary"]
    assert response.headers["cache-control"] == "private, no-store"
    assert (await site.browser.get("/show")).json() == {"a": 1}


@pytest.mark.case(301)
async def test_an_error_in_a_handler_saves_no_half_of_the_data(make_site, kind):
    async def half(request):
        request.session["half"] = 1
        raise ValueError("bug")

    site = make_site(kind, app=lambda: writing(Route("/half", half)))
    await site.browser.get("/write")
    browser = site.new_browser(raising=False)
    browser.cookies = site.browser.cookies
    response = await browser.get("/half")

    assert response.status_code == 500
    assert (await browser.get("/show")).json() == {"written": 1}


@pytest.mark.case(301)
async def test_a_refreshed_session_is_not_lost_to_an_error_in_the_handler(make_site, kind):
    async def failing(request):
        await get_user_access_token(request)
        request.session["half"] = 1
        raise ValueError("bug")

    async def token(request):
        return PlainTextResponse((await get_user_access_token(request)).value)

    site = make_site(kind, app=lambda: writing(Route("/failing", failing), Route("/token", token)))
    await site.log_in(site.browser, "alice")
    site.clock.advance(3700)
    browser = site.new_browser(raising=False)
    browser.cookies = site.browser.cookies
    assert (await browser.get("/failing")).status_code == 500
    site.clock.advance(1800)  # by now nobody keeps the result for stragglers

    assert (await browser.get("/token")).status_code == 200
    site.clock.advance(3700)
    assert (await browser.get("/token")).status_code == 200
    assert (await browser.get("/show")).json() == {}
    assert site.provider.count("token", grant_type="refresh_token") == 2


async def test_other_messages_of_the_app_pass_through(make_site):
    types = []

    async def route(scope, receive, send):
        await send({"type": "http.response.early_hint", "links": []})
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        await send({"type": "http.response.trailers", "headers": []})

    site = make_site("cookie", app=lambda: Starlette(routes=[Mount("/x", route)]))

    async def send(message):
        types.append(message["type"].rpartition(".")[2])

    scope = {"type": "http", "method": "GET", "path": "/x/", "query_string": b"", "headers": []}
    await site.app(scope, None, send)
    assert types == ["early_hint", "start", "body", "trailers"]


# ---------------------------------------------------------------- the store is down


def pages():
    async def public(request):
        return PlainTextResponse("public")

    async def careful(request):
        try:
            name = request.user.display_name
        except StoreUnavailable:
            name = "somebody"
        return PlainTextResponse(f"Hello {name}")

    async def user(request):
        return PlainTextResponse(request.user.display_name)

    async def token(request):
        return PlainTextResponse((await get_user_access_token(request)).value)

    return Starlette(
        routes=[
            Route("/", public),
            Route("/careful", careful),
            Route("/user", user),
            Route("/token", token),
            Route("/show", show),
        ]
    )


async def test_public_pages_survive_a_store_that_is_down_and_nobody_is_logged_out(
    make_site, stored
):
    site = make_site(stored, app=pages)
    await site.log_in(site.browser, "alice")
    held = site.cookies()
    site.store.break_("all")

    assert (await site.browser.get("/")).text == "public"
    assert (await site.browser.get("/careful")).text == "Hello somebody"
    for path in ("/user", "/token", "/show"):
        response = await site.browser.get(path, headers=SCRIPT)
        assert response.status_code == 503
        assert response.headers["retry-after"]
        assert "set-cookie" not in response.headers
    assert site.cookies() == held
    site.store.break_()
    assert (await site.browser.get("/user")).text == "Alice"


async def test_a_store_that_is_down_is_asked_once_per_request(make_site, stored):
    site = make_site(stored, app=pages)
    await site.log_in(site.browser, "alice")
    site.store.break_("all")
    site.store.calls.clear()
    await site.browser.get("/token", headers=SCRIPT)

    assert site.store.calls == ["get_many"]


async def test_visitors_without_a_cookie_do_not_notice_a_store_that_is_down(make_site, stored):
    site = make_site(stored, app=pages)
    site.store.break_("all")

    assert (await site.browser.get("/user")).text == ""
    assert (await site.browser.get("/show")).json() == {}
    assert (await site.browser.get("/token", headers=SCRIPT)).status_code == 401


async def test_a_store_that_takes_no_touch_does_not_stop_the_answer(make_site, stored):
    site = make_site(stored, app=pages)
    await site.log_in(site.browser, "alice")
    site.store.break_("touch")

    assert (await site.browser.get("/user")).text == "Alice"


# ---------------------------------------------------------------- preload


async def test_without_preload_the_session_is_loaded_on_request(make_site, stored):
    async def early(request):
        return PlainTextResponse(request.user.display_name)

    async def loaded(request):
        await load_session(request)
        return PlainTextResponse(f"{request.user.display_name} {dict(request.session)}")

    async def token(request):
        return PlainTextResponse((await get_user_access_token(request)).value)

    routes = [Route("/", no_touch), Route("/early", early), Route("/loaded", loaded)]
    site = make_site(
        stored,
        app=lambda: Starlette(routes=[*routes, Route("/token", token), Route("/show", show)]),
        preload=False,
    )
    assert (await site.browser.get("/early")).text == "", "there is nothing to load"
    await site.log_in(site.browser, "alice")
    site.store.calls.clear()

    assert (await site.browser.get("/")).text == "nothing"
    assert site.store.calls == []
    for path in ("/early", "/show"):
        response = await site.browser.get(path, headers=SCRIPT)
        assert (response.status_code, response.json()["error"]) == (500, "session_not_loaded")
    assert (await site.browser.get("/loaded")).text == "Alice {}"
    assert (await site.browser.get("/token")).status_code == 200


async def no_touch(request):
    return PlainTextResponse("nothing")


async def test_a_predicate_says_which_requests_are_preloaded(make_site, stored):
    async def user(request):
        return PlainTextResponse(request.user.display_name)

    site = make_site(
        stored,
        app=lambda: Starlette(routes=[Route("/static", user), Route("/page", user)]),
        preload=lambda scope: not scope["path"].startswith("/static"),
    )
    await site.log_in(site.browser, "alice")

    assert (await site.browser.get("/page")).text == "Alice"
    assert (await site.browser.get("/static")).status_code == 500


async def test_an_untouched_request_costs_one_read_and_no_write(make_site, stored):
    site = make_site(stored)
    await site.login()
    site.store.calls.clear()
    await site.browser.get("/")

    assert site.store.calls == ["get_many"]


async def test_a_touched_request_costs_one_read(make_site, stored):
    site = make_site(stored)
    await site.login()
    await site.browser.get("/me")
    site.store.calls.clear()
    await site.browser.get("/me")
    await site.browser.get("/token")
    await site.browser.get("/session")

    assert site.store.calls == ["get_many"] * 3


async def test_an_answer_that_depends_on_the_session_stays_out_of_shared_caches(make_site, kind):
    site = make_site(kind)
    for _ in range(2):
        for path in ("/me", "/session", "/token"):
            response = await site.browser.get(path, headers=SCRIPT)
            assert response.headers["cache-control"] == "private, no-store", path
            assert "Cookie" in response.headers["vary"], path
        plain = await site.browser.get("/")
        assert {"cache-control", "vary"}.isdisjoint(plain.headers), "it is the same for everybody"
        await site.login()


async def test_nothing_is_decrypted_for_a_request_that_touches_nothing(
    make_site, kind, monkeypatch
):
    site = make_site(kind)
    await site.login()
    await site.keep(a=1)
    monkeypatch.setattr(type(site.auth.ring), "open", None)

    assert (await site.browser.get("/")).text == "plain"


# ---------------------------------------------------------------- request.user and request.auth


def guarded():
    @requires("authenticated")
    async def page(request):
        return PlainTextResponse("in")

    @requires("authenticated", redirect="entrance")
    async def redirecting(request):
        return PlainTextResponse("in")

    @requires(["authenticated", "api"])
    async def scoped(request):
        return PlainTextResponse("in")

    @requires("admin", status_code=404)
    async def hidden(request):
        return PlainTextResponse("in")

    @requires("role:admin")
    def role(request):
        return PlainTextResponse("in")

    async def entrance(request):
        return PlainTextResponse("entrance")

    async def about(request):
        user = request.user
        return JSONResponse(
            {
                "name": user.name,
                "sub": user.sub,
                "identity": user.identity,
                "issuer": user.issuer,
                "roles": sorted(user.roles),
                "claims": sorted(user.claims),
                "scopes": request.auth.scopes,
            }
        )

    async def nobody(request):
        return JSONResponse(
            [request.user.is_authenticated, request.user.display_name, request.auth.scopes]
        )

    return Starlette(
        routes=[
            Route("/page", page),
            Route("/redirecting", redirecting),
            Route("/scoped", scoped),
            Route("/hidden", hidden),
            Route("/role", role),
            Route("/entrance", entrance, name="entrance"),
            Route("/about", about),
            Route("/nobody", nobody),
        ]
    )


async def test_starlettes_requires_works(make_site, kind, oidc_provider):
    oidc_provider.add_user(User("alice", name="Alice", claims={"roles": ["admin", "staff"]}))
    site = make_site(kind, app=guarded)
    for path, status in [("/page", 403), ("/scoped", 403), ("/hidden", 404), ("/role", 403)]:
        assert (await site.browser.get(path)).status_code == status
    response = await site.browser.get("/redirecting")
    assert response.status_code == 303
    assert response.headers["location"].startswith("https://app.test/entrance?next=")
    await site.log_in(site.browser, "alice")

    for path in ("/page", "/redirecting", "/scoped", "/role"):
        assert (await site.browser.get(path)).text == "in", path
    assert (await site.browser.get("/hidden")).status_code == 404


async def test_a_granted_scope_is_no_role(make_site, kind, oidc_provider):
    granted = "openid profile email api offline_access role:admin"
    oidc_provider.misbehave("token", AlteredAnswer({"scope": granted}))
    site = make_site(kind, app=guarded)
    await site.log_in(site.browser, "alice")

    assert (await site.browser.get("/scoped")).status_code == 200
    assert (await site.browser.get("/role")).status_code == 403
    assert "role:admin" not in (await site.browser.get("/about")).json()["scopes"]


async def test_the_user_has_what_the_provider_said(make_site, kind, oidc_provider):
    oidc_provider.add_user(User("alice", name="Alice", claims={"roles": ["b", "a"], "email": "x"}))
    site = make_site(kind, app=guarded, scope="openid profile email")
    response = await site.browser.get("/about", headers=SCRIPT)
    assert response.status_code == 401, "nobody has no name"
    assert (await site.browser.get("/nobody")).json() == [False, "", []]
    await site.log_in(site.browser, "alice")
    about = (await site.browser.get("/about")).json()

    assert about["sub"] == about["identity"] == "alice"
    assert (about["name"], about["roles"]) == ("Alice", ["a", "b"])
    assert about["issuer"] == "https://op.test"
    assert {"sub", "name", "email", "roles"} <= set(about["claims"])
    assert about["scopes"] == [
        "authenticated",
        "email",
        "openid",
        "profile",
        "role:a",
        "role:b",
    ]


@pytest.mark.parametrize(
    ("claims", "settings", "name", "roles"),
    [
        pytest.param(
            {"preferred_username": "al"}, {"name_claim": "preferred_username"}, "al", [], id="name"
        ),
        pytest.param({"groups": "one"}, {"role_claim": "groups"}, "Alice", ["one"], id="a string"),
        pytest.param(
            {"groups": ["a", 1, "", None, "b"]},
            {"role_claim": "groups"},
            "Alice",
            ["a", "b"],
            id="what is no text is no role",
        ),
        pytest.param({}, {"name_claim": "email", "claims": ()}, "alice", [], id="no name: sub"),
    ],
)
async def test_name_and_roles_come_from_the_claims_that_are_set(
    make_site, kind, oidc_provider, claims, settings, name, roles
):
    oidc_provider.add_user(User("alice", name="Alice", claims=claims))
    site = make_site(kind, app=guarded, **settings)
    await site.log_in(site.browser, "alice")
    about = (await site.browser.get("/about")).json()

    assert (about["name"], about["roles"]) == (name, roles)


@pytest.mark.case(311)
async def test_only_the_claims_that_are_named_are_kept(make_site, kind, oidc_provider):
    groups = [f"group-{number}" for number in range(500)]
    oidc_provider.add_user(User("alice", name="Alice", claims={"groups": groups, "x": 1}))
    site = make_site(kind, app=guarded, claims=("sub", "name"), scope="openid profile")
    await site.log_in(site.browser, "alice")

    assert (await site.browser.get("/about")).json()["claims"] == ["name", "sub"]


async def test_the_current_session_is_that_of_the_request_and_gone_afterwards(make_site, kind):
    async def inside(request):
        handle = current_session.get()
        session = await handle.load()
        return PlainTextResponse(session.claims["sub"] if session else "nobody")

    site = make_site(kind, app=lambda: Starlette(routes=[Route("/", inside)]))
    assert (await site.browser.get("/")).text == "nobody"
    await site.log_in(site.browser, "alice")

    assert (await site.browser.get("/")).text == "alice"
    assert current_session.get() is None


# ---------------------------------------------------------------- how it is installed


async def test_a_getter_without_the_middleware_says_what_is_missing(make_site):
    async def token(request):
        return PlainTextResponse((await get_user_access_token(request)).value)

    async def link(request):
        return PlainTextResponse(login_url(request))

    routes = [Route("/token", token), Route("/link", link)]
    site = make_site("cookie", app=lambda: Starlette(routes=routes), install=False)
    for path in ("/token", "/link"):
        with pytest.raises(ConfigurationError, match="TokenManagementMiddleware: is not installed"):
            await site.browser.get(path)


async def test_the_tokens_of_another_management_are_refused(make_site):
    async def token(request):
        return PlainTextResponse((await other.auth.users.token(request)).value)

    other = make_site("cookie")
    site = make_site("cookie", app=lambda: Starlette(routes=[Route("/token", token)]))
    with pytest.raises(ConfigurationError, match="another TokenManagement"):
        await site.browser.get("/token")


@pytest.mark.case(483)
async def test_installed_twice_is_refused_at_the_first_request_where_there_is_no_start(make_site):
    site = make_site("cookie")
    site.app.add_middleware(TokenManagementMiddleware, auth=site.auth)
    with pytest.raises(ConfigurationError, match="installed twice"):
        await site.browser.get("/")


async def test_an_unknown_kind_of_connection_passes_through(make_site):
    seen = []

    async def app(scope, receive, send):
        seen.append(scope["type"])

    site = make_site("cookie")
    await TokenManagementMiddleware(app, auth=site.auth)({"type": "other"}, None, None)
    assert seen == ["other"]


@pytest.mark.case(390)
@pytest.mark.parametrize("path", ["/auth/login", "/auth/callback", "/auth/logout"])
async def test_the_routes_know_their_methods(make_site, kind, path):
    site = make_site(kind)
    await site.login()
    held = site.cookies()
    for method in ("TRACE", "PUT", "DELETE", "OPTIONS"):
        response = await site.browser.request(method, path)
        assert response.status_code == 405
    assert site.cookies() == held
    await site.browser.head(path)
    assert await site.who() == "Alice"


async def test_a_cancelled_request_leaves_the_context_clean(make_site, kind):
    began = asyncio.Event()

    async def slow(request):
        began.set()
        await asyncio.Event().wait()

    site = make_site(kind, app=lambda: Starlette(routes=[Route("/slow", slow)]))
    transport = httpx.ASGITransport(site.app)
    async with httpx.AsyncClient(transport=transport, base_url="https://app.test") as client:
        task = asyncio.create_task(client.get("/slow"))
        await began.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert current_session.get() is None


# ---------------------------------------------------------------- groups of exceptions


def group(*errors):
    return ExceptionGroup("unhandled errors in a TaskGroup", list(errors))


GROUPS = [
    pytest.param(group(NotAuthenticated()), 401, "not_authenticated", id="one"),
    pytest.param(group(TokenUnavailable("x"), NotAuthenticated()), 503, None, id="the-first"),
    pytest.param(group(group(SessionEnded("x")), Conflict("x")), 401, "session_ended", id="nested"),
]
FOREIGN = [
    pytest.param(group(NotAuthenticated(), ValueError("x")), id="beside"),
    pytest.param(group(ValueError("x"), NotAuthenticated()), id="before"),
    pytest.param(group(NotAuthenticated(), group(ValueError("x"))), id="below"),
    pytest.param(group(ValueError("x")), id="alone"),
]


@pytest.mark.parametrize("mounted", [False, True])
@pytest.mark.parametrize(("error", "status", "word"), GROUPS)
async def test_a_group_of_our_errors_is_answered_as_the_first_of_them(
    make_site, error, status, word, mounted
):
    routes = [Route("/x", raising(error))]
    if mounted:
        routes = [Mount("/in", Starlette(routes=routes))]
    site = make_site("cookie", app=lambda: Starlette(routes=routes))
    answer = await site.browser.get("/in/x" if mounted else "/x", headers=SCRIPT)

    assert answer.status_code == status
    assert answer.json()["error"] == word or word is None


@pytest.mark.parametrize("mounted", [False, True])
@pytest.mark.parametrize("error", FOREIGN)
async def test_a_group_with_any_other_error_is_the_apps_affair(make_site, error, mounted):
    routes = [Route("/x", raising(error))]
    if mounted:
        routes = [Mount("/in", Starlette(routes=routes))]
    site = make_site("cookie", app=lambda: Starlette(routes=routes))
    browser = site.new_browser(raising=False)
    answer = await browser.get("/in/x" if mounted else "/x", headers=SCRIPT)

    assert (answer.status_code, answer.text) == (500, "Internal Server Error")


async def test_two_tokens_that_are_asked_for_at_once_are_refused_as_one_is(make_site):
    async def both(request):
        async with asyncio.TaskGroup() as tasks:
            for _ in range(2):
                tasks.create_task(get_user_access_token(request))
        return Response()

    site = make_site("cookie", app=lambda: Starlette(routes=[Route("/x", both)]))

    assert (await site.browser.get("/x", headers=SCRIPT)).status_code == 401
    page = await site.browser.get("/x", headers=PAGE)
    assert (page.status_code, page.headers["location"]) == (303, "/auth/login?return_to=/x")
