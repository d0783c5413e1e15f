"""The user's token on calls of an app: whichever way they are made, and nobody else's."""

from __future__ import annotations

import asyncio
import string
from typing import TYPE_CHECKING

import httpx
import httpx2
import pytest
from starlette.testclient import TestClient

from tokenward import ConfigurationError, NotAuthenticated, TokenManagement
from tokenward.httpx import TokenAuth
from tokenward.httpx2 import TokenAuth as TokenAuth2
from tokenward.testing import OAuthError, ServerError
from tokenward.tokens.exchange import Exchange

if TYPE_CHECKING:
    from conftest import MakeSite

LIFETIME = 3600
WAYS = ["/named", "/plain", "/typed", "/def", "/to-thread"]


@pytest.mark.parametrize("path", WAYS)
@pytest.mark.parametrize("kind", ["memory", "sqlite", "cookie"])
async def test_every_way_carries_the_users_token(make_site: MakeSite, path: str, kind: str) -> None:
    site = make_site(kind)
    for sub in ("alice", "bob"):
        browser = await site.browser(sub)
        assert (await browser.get(path)).json() == sub
    assert site.refreshes() == 0


@pytest.mark.parametrize("path", WAYS)
@pytest.mark.parametrize("kind", ["memory", "cookie"])
async def test_every_way_renews_a_token_that_is_over(
    make_site: MakeSite, path: str, kind: str
) -> None:
    site = make_site(kind)
    browser = await site.browser("alice")
    for round_ in (1, 2):
        site.clock.advance(LIFETIME)
        assert (await browser.get(path)).json() == "alice"
        assert site.refreshes() == round_


@pytest.mark.case(366)
@pytest.mark.parametrize("path", [*WAYS, "/exchanged"])
async def test_nobody_gets_no_call_and_no_token_of_the_apps_own(
    make_site: MakeSite, path: str
) -> None:
    site = make_site()
    await (await site.browser()).get("/self")
    site.api.seen.clear()
    assert (await (await site.browser()).get(path)).status_code == 401
    assert site.api.seen == []


async def test_the_app_calls_as_itself(make_site: MakeSite) -> None:
    site = make_site()
    for browser in (await site.browser(), await site.browser("alice")):
        assert (await browser.get("/self")).json() == "app"
    assert site.provider.count("token", grant_type="client_credentials") == 1


async def test_a_client_without_a_token_sends_none(make_site: MakeSite) -> None:
    site = make_site()
    await (await site.browser("alice")).get("/nobody")
    assert "authorization" not in site.api.seen[0]


@pytest.mark.case(359)
@pytest.mark.parametrize("path", WAYS)
async def test_a_token_that_the_api_refuses_is_renewed_once(make_site: MakeSite, path: str) -> None:
    site = make_site()
    browser = await site.browser("alice")
    refused = iter([True])
    site.api.refuse = lambda _: next(refused, False)
    assert (await browser.get(path)).json() == "alice"
    assert site.refreshes() == 1
    assert len(site.api.seen) == 2


@pytest.mark.case(361)
async def test_a_hundred_401s_at_once_are_one_refresh(make_site: MakeSite) -> None:
    site = make_site()
    browser = await site.browser("alice")
    await browser.get("/named")
    old = site.api.seen[0]["authorization"]
    site.api.refuse = lambda request: request.headers["authorization"] == old
    answers = await asyncio.gather(*(browser.get("/named") for _ in range(100)))
    assert {answer.json() for answer in answers} == {"alice"}
    assert site.refreshes() == 1


@pytest.mark.case(362)
async def test_an_api_that_refuses_everything_burns_no_refresh_tokens(make_site: MakeSite) -> None:
    site = make_site()
    browser = await site.browser("alice")
    site.api.refuse = lambda _: True
    for _ in range(30):
        assert (await browser.get("/named")).json() == "401"
    assert site.refreshes() == 1
    site.clock.advance(10)
    await browser.get("/named")
    assert site.refreshes() == 2
    site.api.refuse = lambda _: False
    assert (await browser.get("/named")).json() == "alice"


@pytest.mark.case(367)
@pytest.mark.parametrize("kind", ["memory", "cookie"])
async def test_gathered_calls_streams_and_background_tasks_are_the_users(
    make_site: MakeSite, kind: str
) -> None:
    site = make_site(kind)
    browsers = {sub: await site.browser(sub) for sub in ("alice", "bob")}

    async def visit(sub: str) -> None:
        assert (await browsers[sub].get("/gather")).json() == [sub] * 10
        assert (await browsers[sub].get("/stream")).text == f"{sub};" * 3
        await browsers[sub].get("/background")

    await asyncio.gather(*(visit(sub) for sub in browsers))
    assert sorted(site.app.state.jobs) == ["alice", "bob"]


@pytest.mark.case(367)
async def test_after_the_answer_a_stored_session_still_renews(make_site: MakeSite) -> None:
    site = make_site("memory")
    browser = await site.browser("alice")
    site.clock.advance(LIFETIME)
    await browser.get("/background")
    assert site.app.state.jobs == ["alice"]
    assert site.refreshes() == 1


@pytest.mark.case(367)
async def test_after_the_answer_a_cookie_session_spends_nothing(make_site: MakeSite) -> None:
    site = make_site("cookie")
    browser = await site.browser("alice")
    site.clock.advance(LIFETIME)
    with pytest.raises(Exception, match="keep sessions in a store"):
        await browser.get("/background")
    assert site.refreshes() == 0


@pytest.mark.case(373)
async def test_a_sync_client_on_the_event_loop_is_refused_before_it_blocks(
    make_site: MakeSite,
) -> None:
    site = make_site()
    answer = await (await site.browser("alice")).get("/def-on-loop")
    assert "use an AsyncClient" in answer.text
    assert site.api.seen == []


@pytest.mark.case(376)
@pytest.mark.parametrize("path", ["/named", "/typed", "/def"])
async def test_named_clients_keep_no_cookies_of_an_api(make_site: MakeSite, path: str) -> None:
    site = make_site()
    site.api.cookie = "basket=of-alice; Path=/"
    for sub in ("alice", "bob"):
        await (await site.browser(sub)).get(path)
    assert ["cookie" in headers for headers in site.api.seen] == [False, False]


async def test_a_websocket_has_its_users_token(make_site: MakeSite) -> None:
    site = make_site()
    browser = await site.browser("alice")
    cookies = "; ".join(f"{cookie.name}={cookie.value}" for cookie in browser.cookies.jar)
    headers = {"cookie": cookies, "origin": "https://app.test"}
    client = TestClient(site.app, base_url="https://app.test")
    with client.websocket_connect("wss://app.test/ws", headers=headers) as socket:
        assert socket.receive_text() == "alice"


# ------------------------------------------------------------------ named clients


async def test_a_named_client_is_one_for_everybody_and_closed_at_the_end(
    make_site: MakeSite,
) -> None:
    site = make_site()
    async with site.auth.lifespan():
        client, sync = site.auth.http.client("api"), site.auth.http.sync_client("api")
        assert site.auth.http.client("api") is client
        assert site.auth.http.sync_client("api") is sync
    assert client.is_closed
    assert sync.is_closed
    assert not site.auth.http.client("api").is_closed


async def test_a_named_client_of_httpx2(make_site: MakeSite) -> None:
    site = make_site()
    made = httpx2.AsyncClient(transport=httpx2.MockTransport(lambda _: httpx2.Response(200)))
    site.auth.http.add("two", base_url="https://two.test", token="client:self", make=lambda: made)
    client = site.auth.http.client("two")
    assert isinstance(client.auth, TokenAuth2)
    answer = await client.get("/")
    assert answer.request.headers["authorization"].startswith("Bearer ")


@pytest.mark.parametrize("token", ["user", "client:self"])
async def test_a_named_client_may_be_for_another_resource_and_for_less(
    make_site: MakeSite, token: str
) -> None:
    site = make_site()
    site.auth.http.add(
        "api2",
        base_url="https://api.test",
        token=token,
        resource="https://ledger.test",
        scope="api",
        make=lambda: httpx.AsyncClient(transport=httpx.MockTransport(site.api)),
    )

    @site.app.get("/other")
    async def other() -> object:
        return (await site.auth.http.client("api2").get("/")).json()

    answer = await (await site.browser("alice")).get("/other")
    assert answer.json()["aud"] == ["https://ledger.test"]


async def test_the_usual_client_needs_nothing_but_an_address(make_site: MakeSite) -> None:
    auth = make_site().auth
    auth.http.add("usual", base_url="https://usual.test/v1/", token="user")
    client = auth.http.client("usual")
    assert isinstance(client, httpx.AsyncClient)
    assert isinstance(client.auth, TokenAuth)
    assert str(client.base_url) == "https://usual.test/v1/"
    assert not client.follow_redirects
    assert isinstance(auth.http.sync_client("usual"), httpx.Client)


@pytest.mark.parametrize(
    ("settings", "setting"),
    [
        pytest.param({"base_url": "http://api.test"}, "base_url", id="http"),
        pytest.param({"base_url": "https://u:pa55word-0123456@a.test"}, "base_url", id="user"),
        pytest.param({"base_url": "/relative"}, "base_url", id="relative"),
        pytest.param({"token": "users"}, "token", id="token"),
        pytest.param({"origins": ["*"]}, "origins", id="origins"),
        pytest.param({"name": "api"}, "http", id="taken"),
        pytest.param({"token": None, "scope": "api"}, "token", id="scope-of-nobody"),
        pytest.param({"resource": "api"}, "resource", id="resource"),
        pytest.param(
            {"token": Exchange(), "resource": "urn:x"}, "token", id="resource-and-exchange"
        ),
    ],
)
async def test_a_client_that_cannot_work_is_refused_at_once(
    make_site: MakeSite, settings: dict[str, object], setting: str
) -> None:
    given = {"name": "new", "base_url": "https://a.test", "token": "user", **settings}
    with pytest.raises(ConfigurationError) as refused:
        make_site().auth.http.add(given.pop("name"), **given)
    assert refused.value.setting == setting
    assert "pa55word" not in str(refused.value)


async def test_a_name_that_nobody_added_is_told(make_site: MakeSite) -> None:
    auth: TokenManagement = make_site().auth
    with pytest.raises(ConfigurationError, match="no client 'x'"):
        auth.http.client("x")
    auth.http.add("lost", base_url="https://a.test", token="client:unknown")
    with pytest.raises(ConfigurationError, match="no client 'unknown'"):
        auth.http.client("lost")


async def test_named_clients_add_no_parameters_to_a_route(make_site: MakeSite) -> None:
    for path, operations in make_site().app.openapi()["paths"].items():
        assert "parameters" not in operations["get"], path


# ------------------------------------------------------------------ token exchange


async def test_the_users_token_is_exchanged_once_and_kept_with_the_session(
    make_site: MakeSite,
) -> None:
    site = make_site("sqlite")
    for sub in ("alice", "bob"):
        browser = await site.browser(sub)
        for _ in range(3):
            assert (await browser.get("/exchanged")).json() == {"sub": sub, "aud": ["ledger-api"]}
    assert exchanges(site) == 2


def exchanges(site) -> int:
    return site.provider.count(
        "token", grant_type="urn:ietf:params:oauth:grant-type:token-exchange"
    )


async def test_another_process_finds_the_exchanged_token_in_the_store(make_site: MakeSite) -> None:
    site = make_site("memory")
    browser = await site.browser("alice")
    first = (await browser.get("/exchanged-token")).text
    site.auth.exchanged_tokens._memory._held.clear()
    assert (await browser.get("/exchanged-token")).text == first
    assert exchanges(site) == 1
    held = site.auth.store._values._things
    assert not any(first.encode() in entry.value for entry, _ in held.values())


async def test_an_exchanged_token_goes_with_the_session(make_site: MakeSite) -> None:
    site = make_site("memory")
    browser = await site.browser("alice")
    await browser.get("/exchanged")
    assert any(key.endswith(":exchanged") for key in site.auth.store._values._things)
    headers = {"origin": "https://app.test", "sec-fetch-site": "same-origin"}
    await browser.post("/auth/logout", headers=headers)
    left = [key for key, (entry, _) in site.auth.store._values._things.items() if entry]
    assert [key for key in left if key.endswith(":exchanged")] == []
    assert (await browser.get("/exchanged")).status_code == 401


async def test_an_exchanged_token_that_is_over_or_refused_is_got_anew(make_site: MakeSite) -> None:
    site = make_site("memory")
    browser = await site.browser("alice")
    await browser.get("/exchanged")
    refused = iter([True])
    site.api.refuse = lambda _: next(refused, False)
    assert (await browser.get("/exchanged")).json()["sub"] == "alice"
    assert (exchanges(site), site.refreshes()) == (2, 0)
    site.clock.advance(LIFETIME)
    assert (await browser.get("/exchanged")).json()["sub"] == "alice"
    assert (exchanges(site), site.refreshes()) == (3, 1)


async def test_a_hundred_first_exchanges_are_one(make_site: MakeSite) -> None:
    site = make_site("memory")
    browser = await site.browser("alice")
    gate = site.provider.hold("token")
    calls = [asyncio.create_task(browser.get("/exchanged")) for _ in range(100)]
    await gate.entered.wait()
    for _ in range(50):
        await asyncio.sleep(0)
    gate.release()
    answers = await asyncio.gather(*calls)
    assert {answer.json()["sub"] for answer in answers} == {"alice"}
    assert exchanges(site) == 1


@pytest.mark.case(362)
async def test_an_api_that_refuses_exchanged_tokens_costs_one_exchange_in_ten_seconds(
    make_site: MakeSite,
) -> None:
    site = make_site("memory")
    browser = await site.browser("alice")
    await browser.get("/exchanged-token")
    site.api.refuse = lambda _: True
    for _ in range(10):
        assert (await browser.get("/exchanged-status")).json() == 401
    assert exchanges(site) == 2
    site.clock.advance(10)
    await browser.get("/exchanged-status")
    assert exchanges(site) == 3


async def test_an_exchange_that_cannot_be_had_is_an_outage_or_a_refusal(
    make_site: MakeSite,
) -> None:
    site = make_site("memory")
    browser = await site.browser("alice")
    site.provider.misbehave("token", ServerError(503))
    assert (await browser.get("/exchanged")).status_code == 503
    site.provider.misbehave("token", OAuthError("invalid_target"))
    for _ in range(3):
        assert "invalid_target" in (await browser.get("/exchanged")).json()
    assert exchanges(site) == 2


def test_an_exchange_is_the_same_in_any_order() -> None:
    one = Exchange(audience=["b", "a"], scope="y x")
    assert one == Exchange(audience=["a", "b", "a"], scope="x y")
    assert one.digest() != Exchange(audience="a b", scope="x y").digest()


# ------------------------------------------------------------ outside of the request


async def test_a_handle_gives_a_job_the_users_token_for_as_long_as_he_is_there(
    make_site: MakeSite,
) -> None:
    site = make_site("sqlite")
    browser = await site.browser("alice")
    handle = (await browser.get("/handle")).json()
    source = site.auth.users.source(handle)
    transport = httpx.MockTransport(site.api)
    auth = TokenAuth(source, origins="https://api.test")
    async with httpx.AsyncClient(auth=auth, transport=transport) as http:
        assert (await http.get("https://api.test/")).json()["sub"] == "alice"
        site.clock.advance(LIFETIME)
        assert (await http.get("https://api.test/")).json()["sub"] == "alice"
        assert site.refreshes() == 1
        # The browser goes on with what the job got.
        assert (await browser.get("/named")).json() == "alice"
        assert site.refreshes() == 1
        headers = {"origin": "https://app.test", "sec-fetch-site": "same-origin"}
        await browser.post("/auth/logout", headers=headers)
        with pytest.raises(NotAuthenticated):
            await http.get("https://api.test/")


async def test_a_handle_is_sealed_and_of_this_app(make_site: MakeSite) -> None:
    site = make_site("memory")
    handle = (await (await site.browser("alice")).get("/handle")).json()
    key = next(iter(site.auth.store._values._things)).partition(":")[0]
    assert key not in handle
    letters = string.ascii_letters + string.digits + "-_="
    others = [handle[:-1] + letter for letter in letters if letter != handle[-1]]
    for bad in ("", "x", handle[:-3], handle + "=", *others, "é", "A" * 9999):
        with pytest.raises(NotAuthenticated):
            site.auth.users.source(bad)


async def test_a_handle_ends_with_its_session_whatever_the_store_still_holds(
    make_site: MakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make_site("memory")
    handle = (await (await site.browser("alice")).get("/handle")).json()
    source = site.auth.users.source(handle)
    await source.token()
    later = site.clock() + 8 * 24 * 3600
    monkeypatch.setattr(site.auth, "clock", lambda: later)
    with pytest.raises(NotAuthenticated):
        await source.token()


async def test_a_handle_of_a_cookie_session_is_refused_with_a_remedy(make_site: MakeSite) -> None:
    site = make_site("cookie")
    with pytest.raises(ConfigurationError, match="give a store"):
        await (await site.browser("alice")).get("/handle")


async def test_nobody_has_no_handle(make_site: MakeSite) -> None:
    assert (await (await make_site().browser()).get("/handle")).status_code == 401
