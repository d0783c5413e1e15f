"""`request.session` is a dict as Starlette users know it."""

from __future__ import annotations

import copy
import json
import math
import pickle
from datetime import UTC, datetime

import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route

from tokenward.errors import SessionError, SessionNotWritable, StoreUnavailable
from tokenward.stores.app_data import REMOVED
from tokenward.web.session_data import SessionData

KEPT = {"name": "x", "cart": [1, 2], "deep": {"a": {"b": 1}}}


class Reader:
    """Gives the data, and counts how often."""

    def __init__(self, data):
        self.data = data
        self.reads = 0

    def __call__(self):
        self.reads += 1
        return json.loads(json.dumps(self.data))


def unread(data=KEPT):
    return SessionData(Reader(data))


TOUCHES = {
    "get item": (lambda s: s["name"], "x"),
    "get": (lambda s: s.get("name"), "x"),
    "get default": (lambda s: s.get("nothing", 5), 5),
    "in": (lambda s: "name" in s, True),
    "not in": (lambda s: "nothing" in s, False),
    "len": (len, 3),
    "bool": (bool, True),
    "iteration": (list, ["name", "cart", "deep"]),
    "reversed": (lambda s: list(reversed(s)), ["deep", "cart", "name"]),
    "keys": (lambda s: list(s.keys()), ["name", "cart", "deep"]),
    "values": (lambda s: list(s.values()), list(KEPT.values())),
    "items": (lambda s: dict(s.items()), KEPT),
    "equal": (lambda s: s == KEPT, True),
    "equal the other way round": (lambda s: s == KEPT, True),
    "unequal": (lambda s: s != KEPT, False),
    "unequal the other way round": (lambda s: s != KEPT, False),
    "dict": (dict, KEPT),
    "unpacking": (lambda s: {**s}, KEPT),
    "copy": (lambda s: s.copy(), KEPT),
    "copy.copy": (copy.copy, KEPT),
    "copy.deepcopy": (copy.deepcopy, KEPT),
    "or": (lambda s: s | {"more": 1}, {**KEPT, "more": 1}),
    "ror": (lambda s: {"more": 1} | s, {"more": 1, **KEPT}),
    "json.dumps": (lambda s: json.loads(json.dumps(s)), KEPT),
    "json.dumps, indented": (lambda s: json.loads(json.dumps(s, indent=1)), KEPT),
    "pickle": (lambda s: pickle.loads(pickle.dumps(s)), KEPT),
    "pop": (lambda s: s.pop("name"), "x"),
    "pop default": (lambda s: s.pop("nothing", 1), 1),
    "popitem": (lambda s: s.popitem(), ("deep", KEPT["deep"])),
    "setdefault": (lambda s: s.setdefault("name", "y"), "x"),
    "matching": (lambda s: _match(s), "x"),
}


def _match(session):
    match session:
        case {"name": name}:
            return name
    return None


@pytest.mark.parametrize(("touch", "result"), TOUCHES.values(), ids=TOUCHES)
def test_the_first_touch_reads_whatever_it_is(touch, result):
    session = unread()
    assert not session.accessed

    assert touch(session) == result
    assert session.accessed


CHANGES = {
    "set item": (lambda s: s.__setitem__("new", 1), {"new": 1}),
    "del item": (lambda s: s.__delitem__("name"), {"name": REMOVED}),
    "update": (lambda s: s.update(new=1), {"new": 1}),
    "update with a dict": (lambda s: s.update({"name": "y"}), {"name": "y"}),
    "update with pairs": (lambda s: s.update([("name", "y")]), {"name": "y"}),
    "or, in place": (lambda s: s.__ior__({"new": 1}), {"new": 1}),
    "pop": (lambda s: s.pop("name"), {"name": REMOVED}),
    "popitem": (lambda s: s.popitem(), {"deep": REMOVED}),
    "setdefault": (lambda s: s.setdefault("new", []), {"new": []}),
    "clear": (lambda s: s.clear(), dict.fromkeys(KEPT, REMOVED)),
    "append to a list": (lambda s: s["cart"].append(3), {"cart": [1, 2, 3]}),
    "deep inside": (lambda s: s["deep"]["a"].update(b=2), {"deep": {"a": {"b": 2}}}),
    "true instead of one": (lambda s: s["deep"]["a"].update(b=True), {"deep": {"a": {"b": True}}}),
    "a tuple is a list": (lambda s: s.update(new=(1, 2)), {"new": [1, 2]}),
    "a key that is a number": (lambda s: s.update({1: "one"}), {"1": "one"}),
}


@pytest.mark.parametrize(("change", "changed"), CHANGES.values(), ids=CHANGES)
def test_a_change_is_noticed_however_deep(change, changed):
    session = unread()
    change(session)

    assert session.modified
    assert session.changes() == changed
    assert str(session.changes()) == str(changed)  # True is not 1


READS = [name for name in TOUCHES if not name.startswith("pop")]


@pytest.mark.parametrize("name", READS)
def test_reading_changes_nothing(name):
    session = unread()
    TOUCHES[name][0](session)

    assert not session.modified
    assert session.changes() == {}


def test_what_is_put_back_as_it_was_is_no_change():
    session = unread()
    session["name"] = "y"
    session["name"] = "x"

    assert not session.modified


def test_nothing_is_read_until_it_is_asked_for_and_then_once():
    reader = Reader(KEPT)
    session = SessionData(reader)
    assert (session.accessed, session.modified, reader.reads) == (False, False, 0)

    assert session["name"] == "x"
    assert len(session) == 3
    assert reader.reads == 1


def test_looking_at_it_in_a_debugger_does_not_read_it():
    session = unread()

    assert "unread" in repr(session)
    assert not session.accessed
    session.mark_accessed()
    assert repr(session) == repr(KEPT)


def test_a_visitor_without_data_has_an_empty_dict():
    session = SessionData(None)

    assert (dict(session), len(session), "x" in session) == ({}, 0, False)
    assert json.dumps(session) == "{}"
    assert not session.modified


def test_no_data_that_were_read_are_an_empty_dict_too():
    assert json.dumps(unread({})) == "{}"
    assert list(unread({})) == []


def test_data_that_cannot_be_read_stay_unread():
    failing = [True]

    def read():
        if failing:
            raise StoreUnavailable("down")
        return {"name": "x"}

    session = SessionData(read)
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            session.get("name")
    with pytest.raises(StoreUnavailable):
        session["other"] = 1
    failing.clear()
    assert session == {"name": "x"}


REFUSED = {
    "nan": math.nan,
    "infinity": -math.inf,
    "a date": datetime(2030, 1, 1, tzinfo=UTC),
    "a set": {1},
    "bytes": b"x",
    "an object": object(),
    "half a surrogate pair": "\ud800",
    "a key that is a tuple": {(1, 2): 3},
    "two keys that are one": {1: "a", "1": "b"},
    "a very long number": 10**5000,
}


@pytest.mark.case(296)
@pytest.mark.parametrize("value", REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_read_again_is_refused_with_a_clear_error(value):
    session = unread()
    session["new"] = value

    with pytest.raises(SessionError, match=r"request\.session") as caught:
        session.written()
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


@pytest.mark.case(296)
@pytest.mark.parametrize("depth", [40, 5000])
def test_what_is_nested_too_deep_is_refused(depth):
    nested: list[object] = []
    for _ in range(depth):
        nested = [nested]
    session = SessionData(None)
    session["nested"] = nested

    with pytest.raises(SessionError, match=r"request\.session"):
        session.written()
    while nested:  # taken apart by hand: a destructor would recurse
        nested = nested.pop()


def test_what_holds_itself_is_refused():
    session = SessionData(None)
    session["self"] = session

    with pytest.raises(SessionError, match=r"request\.session"):
        session.written()


def test_starlettes_own_marks_are_there():
    session = unread()
    session.mark_accessed()
    assert (session.accessed, session.modified) == (True, False)
    session.mark_modified()
    assert session.modified
    session.mark_saved()
    assert not session.modified
    session.modified = True
    assert session.modified


CHANGING = [name for name in CHANGES if name not in {"append to a list", "deep inside"}]
CHANGING.remove("true instead of one")


@pytest.mark.case(303)
@pytest.mark.parametrize("name", CHANGING)
def test_no_change_is_taken_that_nobody_would_save(name):
    session = unread()
    session.close()

    with pytest.raises(SessionNotWritable):
        CHANGES[name][0](session)
    assert session == KEPT


def test_what_is_closed_can_be_read_with_every_method():
    session = unread()
    session.close()

    assert session.setdefault("name", "y") == "x"
    assert session.pop("nothing", None) is None
    assert session.get("name") == "x"


def test_a_change_deep_inside_is_noticed_when_it_is_too_late():
    session = unread()
    session.close()
    session["cart"].append(3)

    with pytest.raises(SessionNotWritable):
        session.check_saved()


def test_a_copy_does_not_reach_back():
    session = unread()
    shallow, deep = copy.copy(session), copy.deepcopy(session)
    shallow["name"], deep["cart"] = "y", []

    assert type(shallow) is type(deep) is dict
    assert not session.modified


# ---------------------------------------------------------------- through an app


async def test_nested_changes_are_kept(make_site, kind):
    async def add(request):
        request.session.setdefault("cart", {"items": []})["items"].append(len(request.session))
        return PlainTextResponse("added")

    async def show(request):
        return JSONResponse(request.session)

    site = make_site(kind, app=lambda: Starlette(routes=[Route("/add", add), Route("/", show)]))
    for _ in range(3):
        await site.browser.get("/add")

    assert (await site.browser.get("/")).json() == {"cart": {"items": [1, 1, 1]}}


async def test_all_keys_can_be_deleted(make_site, kind):
    site = make_site(kind)
    await site.keep(a=1, b=2)
    assert await site.kept() == {"a": 1, "b": 2}
    await site.keep(a=None, b=None)

    assert await site.kept() == {}
    assert site.cookies() == {}, "nothing is left that a cookie is needed for"


async def test_all_keys_of_a_logged_in_user_can_be_deleted(make_site, kind):
    site = make_site(kind)
    await site.login()
    await site.keep(a=1)
    await site.keep(a=None)

    assert await site.kept() == {}
    assert await site.who() == "Alice"


@pytest.mark.case(296)
@pytest.mark.parametrize("value", [math.nan, {1, 2}], ids=["nan", "a set"])
async def test_data_that_cannot_be_kept_are_a_500_and_change_nothing(make_site, kind, value):
    async def spoil(request):
        request.session["bad"] = value
        return PlainTextResponse("spoilt")

    async def show(request):
        request.session.setdefault("good", 1)
        return JSONResponse(request.session)

    site = make_site(kind, app=lambda: Starlette(routes=[Route("/bad", spoil), Route("/", show)]))
    await site.browser.get("/")
    response = await site.browser.get("/bad")

    assert response.status_code == 500
    assert "set-cookie" not in response.headers
    assert (await site.browser.get("/")).json() == {"good": 1}


async def test_a_library_that_keeps_its_state_in_the_session_works(make_site, kind):
    """As authlib's client for Starlette does: old states are dropped, the new one is kept."""

    async def start(request):
        for key in list(request.session.keys()):
            if key.startswith("_state_op_"):
                request.session.pop(key)
        state = request.query_params["state"]
        request.session[f"_state_op_{state}"] = {"data": {"nonce": "n"}, "exp": 1.5}
        return PlainTextResponse("started")

    async def finish(request):
        found = request.session.get("_state_op_b")
        request.session.pop("_state_op_b", None)
        return JSONResponse({"found": found, "left": list(request.session)})

    routes = [Route("/start", start), Route("/finish", finish)]
    site = make_site(kind, app=lambda: Starlette(routes=routes))
    await site.browser.get("/start?state=a")
    await site.browser.get("/start?state=b")

    answer = (await site.browser.get("/finish")).json()
    assert answer == {"found": {"data": {"nonce": "n"}, "exp": 1.5}, "left": []}
    assert (await site.browser.get("/finish")).json() == {"found": None, "left": []}


async def test_templates_see_the_session(make_site, kind):
    async def show(request):
        return PlainTextResponse("{name}, {cart[0]}".format_map(request.session))

    async def put(request):
        request.session.update(await request.json())
        return PlainTextResponse("kept")

    site = make_site(
        kind,
        app=lambda: Starlette(routes=[Route("/", show), Route("/session", put, methods=["PATCH"])]),
    )
    await site.keep(name="Bo", cart=[1])

    assert (await site.browser.get("/")).text == "Bo, 1"


async def test_the_session_is_changed_from_a_def_endpoint_too(make_site, kind):
    def put(request):
        request.session["thread"] = True
        return PlainTextResponse(request.user.display_name)

    async def show(request):
        return JSONResponse(request.session)

    site = make_site(kind, app=lambda: Starlette(routes=[Route("/put", put), Route("/", show)]))
    await site.browser.get("/put")

    assert (await site.browser.get("/")).json() == {"thread": True}
