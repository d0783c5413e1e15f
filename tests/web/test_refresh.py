"""An expired session in a browser: one refresh, whatever happens around it."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import TYPE_CHECKING, Any

import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Route

from tokenward import events, get_user_access_token, revoke_user_refresh_token
from tokenward.errors import SessionNotWritable
from tokenward.request_tokens import bound_session
from tokenward.stores.memory import MemoryStore
from tokenward.testing import (
    AlteredAnswer,
    BrokenSignature,
    Client,
    Fault,
    HtmlAnswer,
    LostAnswer,
    LostRequest,
    OAuthError,
    RawAnswer,
    ServerError,
    TooManyRequests,
    UnsignedIdToken,
    WrongClaim,
)
from tokenward.tokens.refresh_settings import RefreshSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request
    from starlette.responses import Response

    from conftest import MakeSite, Raw, Site
    from tokenward.testing import Provider

HOUR = 3600


def header(site: Site) -> bytes:
    """Return the Cookie header that the browser would send now."""
    return "; ".join(f"{name}={value}" for name, value in site.cookies().items()).encode()


async def expired(site: Site, *, seconds: float = HOUR) -> bytes:
    """Log in, let the access token run out, and return the Cookie header."""
    await site.login()
    site.clock.advance(seconds)
    return header(site)


def refreshes(site: Site) -> int:
    return site.provider.count("token", grant_type="refresh_token")


def told(site: Site, kind: type) -> list[Any]:
    return [event for event in site.events if type(event) is kind]


# ------------------------------------------------------------- together


@pytest.mark.case(220)
async def test_fifty_requests_on_one_expired_session_are_one_refresh(
    make_site: MakeSite, kind: str
) -> None:
    site = make_site(kind)
    cookie = await expired(site)
    answers = await asyncio.gather(*(site.ask("/token", cookie=cookie) for _ in range(50)))
    assert {answer.status for answer in answers} == {200}
    assert len({answer.body for answer in answers}) == 1
    assert refreshes(site) == 1
    assert site.provider.is_active(answers[0].body.decode())
    assert [family.ended for family in site.provider.families] == [None]
    await site.browser.get("/token")
    assert refreshes(site) == 1


@pytest.mark.case(245)
async def test_the_first_browser_goes_away_and_the_others_are_served(
    make_site: MakeSite, kind: str
) -> None:
    site = make_site(kind)
    cookie = await expired(site)
    gate = site.provider.hold("token", after_acting=True)
    asked = [asyncio.ensure_future(site.ask("/token", cookie=cookie)) for _ in range(10)]
    await gate.entered.wait()
    asked[0].cancel()
    gate.release()
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert isinstance(answers[0], asyncio.CancelledError)
    assert [answer.status for answer in answers[1:]] == [200] * 9  # type: ignore[union-attr]
    assert refreshes(site) == 1


@pytest.mark.case(245)
@pytest.mark.case(212)
async def test_all_browsers_go_away_and_the_rotated_token_is_not_lost(
    make_site: MakeSite, kind: str
) -> None:
    site = make_site(kind)
    cookie = await expired(site)
    gate = site.provider.hold("token", after_acting=True)
    asked = [asyncio.ensure_future(site.ask("/token", cookie=cookie)) for _ in range(3)]
    await gate.entered.wait()
    for task in asked:
        task.cancel()
    await asyncio.gather(*asked, return_exceptions=True)
    gate.release()
    await site.auth.user_tokens.drain(timeout=10)
    assert (await site.ask("/token", cookie=cookie)).status == 200
    assert refreshes(site) == 1


@pytest.mark.case(224)
async def test_a_provider_that_is_slow_keeps_nobody_waiting_for_ever(
    make_site: MakeSite, kind: str
) -> None:
    site = make_site(kind, refresh=RefreshSettings(wait=0.05))
    cookie = await expired(site)
    gate = site.provider.hold("token")
    answers = await asyncio.gather(*(site.ask("/token", cookie=cookie) for _ in range(10)))
    assert {answer.status for answer in answers} == {503}
    assert {dict(answer.headers)[b"retry-after"] for answer in answers} == {b"1"}
    assert not any(answer.cleared for answer in answers)
    gate.release()
    await site.auth.user_tokens.drain(timeout=10)
    assert (await site.browser.get("/token")).status_code == 200
    assert refreshes(site) == 1


@pytest.mark.case(246)
async def test_shutdown_waits_for_the_refresh(make_site: MakeSite, kind: str) -> None:
    site = make_site(kind)
    cookie = await expired(site)
    gate = site.provider.hold("token", after_acting=True)
    async with site.auth.lifespan():
        asked = asyncio.ensure_future(site.ask("/token", cookie=cookie))
        await gate.entered.wait()
        asyncio.get_running_loop().call_soon(gate.release)
    assert (await asked).status == 200
    assert (await site.ask("/token", cookie=cookie)).status == 200
    assert refreshes(site) == 1


# ------------------------------------------------------------- the provider fails


@pytest.mark.case(183)
async def test_an_outage_is_a_503_with_its_time_and_the_session_stays(
    make_site: MakeSite, kind: str
) -> None:
    site = make_site(kind)
    cookie = await expired(site)
    site.provider.misbehave("token", ServerError(503, retry_after=17))
    script = await site.ask("/token", cookie=cookie, accept="application/json")
    assert script.status == 503
    assert dict(script.headers)[b"retry-after"] == b"17"
    assert script.json()["error"] == "token_unavailable"
    person = await site.ask("/token", cookie=cookie, sec_fetch_mode="navigate", accept="text/html")
    assert person.status == 503
    assert not script.cleared
    assert not person.cleared
    assert await site.who() == "Alice"
    assert refreshes(site) == 1, "the provider asked not to be asked"
    site.clock.advance(21)
    assert (await site.ask("/token", cookie=cookie)).status == 200


async def test_a_token_that_is_still_valid_is_served_while_the_provider_is_down(
    make_site: MakeSite, kind: str
) -> None:
    site = make_site(kind)
    cookie = await expired(site, seconds=HOUR - 30)
    site.provider.misbehave("token", ServerError(503), times=None)
    answer = await site.ask("/token", cookie=cookie)
    assert answer.status == 200
    assert site.provider.is_active(answer.body.decode())
    assert refreshes(site) == 1


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(HtmlAnswer(), id="html", marks=pytest.mark.case(177)),
        pytest.param(RawAnswer(200), id="nothing", marks=pytest.mark.case(177)),
        pytest.param(RawAnswer(200, body=b"[]"), id="a list", marks=pytest.mark.case(177)),
        pytest.param(RawAnswer(200, body=b'"x"'), id="a string", marks=pytest.mark.case(177)),
        pytest.param(
            RawAnswer(200, body=b'{"error":"invalid_client"}'),
            id="an error with status 200",
            marks=pytest.mark.case(178),
        ),
        pytest.param(ServerError(500), id="500", marks=pytest.mark.case(179)),
        pytest.param(ServerError(502), id="502", marks=pytest.mark.case(179)),
        pytest.param(ServerError(504), id="504", marks=pytest.mark.case(179)),
        pytest.param(
            OAuthError("invalid_client", status=401), id="client", marks=pytest.mark.case(181)
        ),
        pytest.param(OAuthError("invalid_scope"), id="scope", marks=pytest.mark.case(181)),
        pytest.param(HtmlAnswer(status=401), id="401 html", marks=pytest.mark.case(182)),
        pytest.param(
            OAuthError("temporarily_unavailable"), id="temporarily", marks=pytest.mark.case(183)
        ),
        pytest.param(TooManyRequests("soon"), id="429", marks=pytest.mark.case(183)),
        pytest.param(TooManyRequests(-5), id="429, negative", marks=pytest.mark.case(183)),
        pytest.param(TooManyRequests(10**9), id="429, long", marks=pytest.mark.case(183)),
        pytest.param(LostRequest(), id="lost request", marks=pytest.mark.case(210)),
    ],
)
async def test_what_brings_no_token_and_spends_none_loses_no_session(
    make_site: MakeSite, kind: str, fault: Fault
) -> None:
    site = make_site(kind)
    cookie = await expired(site)
    site.provider.misbehave("token", fault)
    answer = await site.ask("/token", cookie=cookie)
    assert answer.status == 503
    assert 1 <= int(dict(answer.headers)[b"retry-after"]) <= 60
    assert not answer.cleared
    assert await site.who() == "Alice"
    site.clock.advance(75)
    assert (await site.ask("/token", cookie=cookie)).status == 200
    assert refreshes(site) == 2


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(AlteredAnswer({"token_type": "mac"}), id="mac", marks=pytest.mark.case(187)),
        pytest.param(AlteredAnswer(without=["token_type"]), id="none", marks=pytest.mark.case(185)),
        pytest.param(AlteredAnswer({"access_token": ""}), id="empty", marks=pytest.mark.case(184)),
        pytest.param(
            AlteredAnswer({"access_token": "a\r\nb: c"}), id="CRLF", marks=pytest.mark.case(184)
        ),
        pytest.param(
            AlteredAnswer({"refresh_token": 7}), id="a number", marks=pytest.mark.case(197)
        ),
        pytest.param(
            AlteredAnswer({"scope": ["api"]}), id="scope as a list", marks=pytest.mark.case(205)
        ),
        pytest.param(LostAnswer(), id="lost answer", marks=pytest.mark.case(210)),
    ],
)
async def test_an_answer_that_cannot_be_used_is_an_outage_and_then_a_login(
    make_site: MakeSite, kind: str, fault: Fault
) -> None:
    """The provider is strict, so what was spent is spent: told cleanly, and only once."""
    site = make_site(kind)
    cookie = await expired(site)
    site.provider.misbehave("token", fault)
    assert (await site.ask("/token", cookie=cookie)).status == 503
    assert await site.who() == "Alice"
    assert (await site.ask("/token", cookie=cookie)).status == 503
    assert refreshes(site) == 1, "no blind retry"
    site.clock.advance(1)
    assert (await site.ask("/token", cookie=cookie)).status == 401
    assert (await site.ask("/token", cookie=cookie)).status == 401
    assert refreshes(site) == 2


@pytest.mark.case(180)
async def test_a_grant_that_is_over_is_a_login_for_people_and_a_401_for_scripts(
    make_site: MakeSite, kind: str
) -> None:
    site = make_site(kind)
    cookie = await expired(site)
    site.provider.end_grants("alice")
    script = await site.ask("/token", cookie=cookie)
    assert script.status == 401
    assert script.json()["error"] == "session_ended"
    # A cookie that only names a record is left to lead nowhere.
    assert bool(script.cleared) is (kind == "cookie")
    person = await site.ask("/token", cookie=cookie, sec_fetch_mode="navigate", accept="text/html")
    assert person.status == 303
    assert dict(person.headers)[b"location"] == b"/auth/login?return_to=/token"
    assert (await site.ask("/me", cookie=cookie)).json()["known"] is False
    assert refreshes(site) == 1
    assert [event.reason for event in told(site, events.SessionEnded)] == ["invalid_grant"]


@pytest.mark.case(260)
async def test_without_refresh_token_the_user_stays_known_and_the_token_is_over(
    make_site: MakeSite, kind: str
) -> None:
    site = make_site(kind, scope="openid profile api")
    cookie = await expired(site)
    answer = await site.ask("/token", cookie=cookie)
    assert answer.status == 401
    assert answer.json()["error"] == "token_expired"
    assert not answer.cleared
    assert await site.who() == "Alice"
    assert refreshes(site) == 0


@pytest.mark.case(200)
@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(WrongClaim({"sub": "bob"}), id="sub"),
        pytest.param(WrongClaim({"iss": "https://other.test"}), id="iss"),
        pytest.param(WrongClaim({"aud": "other"}), id="aud"),
        pytest.param(WrongClaim({"auth_time": 1}), id="auth_time"),
        pytest.param(BrokenSignature(), id="signature"),
        pytest.param(UnsignedIdToken(), id="alg none"),
        pytest.param(WrongClaim({"nonce": "x"}), id="nonce", marks=pytest.mark.case(201)),
    ],
)
async def test_an_id_token_of_somebody_else_ends_the_session_and_nothing_of_it_stays(
    make_site: MakeSite, kind: str, fault: Fault
) -> None:
    site = make_site(kind)
    cookie = await expired(site)
    site.provider.misbehave("token", fault)
    answer = await site.ask("/token", cookie=cookie)
    assert answer.status == 401
    assert answer.json()["error"] == "session_ended"
    assert (await site.ask("/me", cookie=cookie)).json()["known"] is False
    assert [family.ended for family in site.provider.families] == ["revoked"]


@pytest.mark.case(202)
async def test_an_id_token_that_is_out_of_date_is_not_taken_and_the_token_is(
    make_site: MakeSite, kind: str
) -> None:
    site = make_site(kind)
    cookie = await expired(site)
    site.provider.misbehave("token", WrongClaim({"exp": int(site.clock()) - 3600}))
    answer = await site.ask("/token", cookie=cookie)
    assert answer.status == 200
    assert site.provider.is_active(answer.body.decode())
    assert told(site, events.IdTokenNotTaken)


# ------------------------------------------------------------- the store fails


@pytest.mark.case(232)
@pytest.mark.parametrize("operation", ["acquire", "all"])
async def test_without_a_lease_there_is_a_503_and_no_refresh(
    make_process: Callable[[], Site], operation: str
) -> None:
    site = make_process()
    cookie = await expired(site)
    assert site.store is not None
    site.store.break_(operation)
    answer = await site.ask("/token", cookie=cookie)
    assert answer.status == 503
    assert answer.set_cookies == []
    assert dict(answer.headers)[b"retry-after"] == b"3"
    assert refreshes(site) == 0
    site.store.break_()
    assert (await site.ask("/token", cookie=cookie)).status == 200


@pytest.mark.case(233)
async def test_a_result_that_cannot_be_saved_is_served_and_saved_later(
    make_process: Callable[[], Site],
) -> None:
    site = make_process()
    cookie = await expired(site)
    assert site.store is not None
    gate = site.provider.hold("token")
    first = asyncio.create_task(site.ask("/token", cookie=cookie))
    await gate.entered.wait()
    site.store.break_("put")
    gate.release()
    answers = [await first, *[await site.ask("/token", cookie=cookie) for _ in range(2)]]
    assert {answer.status for answer in answers} == {200}
    site.store.break_()
    await site.auth.user_tokens.drain(timeout=10)
    answers.append(await site.ask("/token", cookie=cookie))
    assert len({answer.body for answer in answers}) == 1
    assert refreshes(site) == 1


@pytest.mark.case(233)
async def test_a_cookie_carries_the_result_though_the_store_cannot_be_asked(
    make_site: MakeSite, oidc_provider: Provider
) -> None:
    site = make_site("cookie", store=MemoryStore(clock=oidc_provider._core.ledger.clock))
    cookie = await expired(site)
    assert site.store is not None
    gate = site.provider.hold("token")
    asked = asyncio.ensure_future(site.ask("/token", cookie=cookie))
    await gate.entered.wait()
    site.store.break_("all")
    gate.release()
    answer = await asked
    assert answer.status == 200
    assert answer.set_cookies
    site.store.break_()
    await site.auth.user_tokens.drain(timeout=10)
    fresh = "; ".join(line.partition(";")[0] for line in answer.set_cookies).encode()
    for carried in (fresh, cookie):
        again = await site.ask("/token", cookie=carried)
        assert again.body == answer.body
    site.clock.advance(HOUR)
    assert (await site.ask("/token", cookie=fresh)).status == 200
    assert refreshes(site) == 2


# ------------------------------------------------------------- the answer has begun


def streaming() -> Starlette:
    """An app that asks for the token when its answer has begun."""

    async def stream(request: Request) -> Response:
        async def parts() -> Any:
            yield b"token="
            yield (await get_user_access_token(request)).value.encode()

        assert request.user.is_authenticated
        return StreamingResponse(parts())

    async def token(request: Request) -> Response:
        return PlainTextResponse((await get_user_access_token(request)).value)

    async def me(request: Request) -> Response:
        return JSONResponse({"name": request.user.display_name})

    return Starlette(routes=[Route("/", me), Route("/stream", stream), Route("/token", token)])


@pytest.mark.case(255)
async def test_a_cookie_that_cannot_be_sent_any_more_spends_nothing(make_site: MakeSite) -> None:
    site = make_site("cookie", app=streaming)
    cookie = await expired(site)
    with pytest.raises(SessionNotWritable):
        await site.send(cookie, "/stream")
    assert refreshes(site) == 0
    assert (await site.ask("/token", cookie=cookie)).status == 200


@pytest.mark.case(255)
async def test_a_session_in_a_store_is_renewed_while_the_answer_runs(
    make_site: MakeSite, stored: str
) -> None:
    site = make_site(stored, app=streaming)
    cookie = await expired(site)
    answer = await site.send(cookie, "/stream")
    assert answer.text.startswith("token=")
    assert site.provider.is_active(answer.text.removeprefix("token="))
    assert refreshes(site) == 1


# ------------------------------------------------------------- resources, scopes, giving back


def asking() -> Starlette:
    """An app that asks for what the query says."""

    async def token(request: Request) -> Response:
        query = request.query_params
        given = await bound_session(request).management.users.token(
            request,
            resource=query.getlist("resource"),
            scope=query.get("scope"),
            force_renewal="force" in query,
        )
        return JSONResponse(
            {"token": given.value, "scope": sorted(given.scope), "resource": given.resource}
        )

    async def give_back(request: Request) -> Response:
        await revoke_user_refresh_token(request)
        return PlainTextResponse("given back")

    async def me(request: Request) -> Response:
        return JSONResponse({"name": request.user.display_name})

    return Starlette(
        routes=[
            Route("/", me),
            Route("/me", me),
            Route("/token", token),
            Route("/give-back", give_back),
        ]
    )


@pytest.mark.parametrize("operation", ["put", "all"])
async def test_a_refresh_token_that_was_given_back_is_forgotten_when_the_store_is_back(
    make_process: Callable[..., Site], operation: str
) -> None:
    site = make_process(app=asking)
    await site.login()
    assert site.store is not None

    async def fail_after(*args: Any, **kwargs: Any) -> None:
        await untouched(*args, **kwargs)
        site.store.break_(operation)

    (provider,) = site.auth.providers.values()
    untouched = provider.revoke
    provider.revoke = fail_after  # type: ignore[method-assign]
    answer = await site.browser.get("/give-back")
    assert answer.text == "given back"
    assert site.provider.families[0].ended == "revoked"
    site.store.break_()
    await site.auth.user_tokens.drain(timeout=5)
    site.clock.advance(2 * 3600)
    answer = await site.browser.get("/token", headers={"accept": "application/json"})
    assert answer.json()["error"] == "token_expired", "a token that is known to be gone is not sent"
    assert refreshes(site) == 0
    assert not [event for event in site.events if isinstance(event, events.Refreshed)]


def audience(token: str) -> object:
    payload = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["aud"]


def register(provider: Provider, **members: Any) -> None:
    app = provider.clients["app"]
    provider.register(
        Client("app", redirect_uris=app.redirect_uris, access_token_type="jwt", **members)
    )


@pytest.mark.case(251)
async def test_each_resource_has_a_token_of_its_own(
    make_site: MakeSite, kind: str, oidc_provider: Provider
) -> None:
    register(oidc_provider)
    site = make_site(kind, app=asking)
    await site.login()
    orders, prices = "https://orders.test", "https://prices.test"
    for _ in range(2):
        for resource in (orders, prices):
            answer = (await site.browser.get("/token", params={"resource": resource})).json()
            assert answer["resource"] == [resource]
            assert audience(answer["token"]) == resource
    both = await site.browser.get("/token", params={"resource": [orders, prices]})
    assert audience(both.json()["token"]) == [orders, prices]
    plain = (await site.browser.get("/token")).json()
    assert audience(plain["token"]) == site.provider.issuer
    assert refreshes(site) == 3


@pytest.mark.case(204)
async def test_a_narrower_scope_is_granted_and_a_wider_one_refused(
    make_site: MakeSite, kind: str
) -> None:
    site = make_site(kind, app=asking, scope="openid api offline_access")
    await site.login()
    narrow = (await site.browser.get("/token", params={"scope": "api"})).json()
    assert narrow["scope"] == ["api"]
    wide = await site.browser.get("/token", params={"scope": "api profile"})
    assert wide.status_code == 403
    assert wide.json()["error"] == "insufficient_scope"
    assert wide.json()["scope"] == "profile"
    assert refreshes(site) == 1
    assert (await site.browser.get("/token")).json()["scope"] == ["api", "offline_access", "openid"]


async def test_a_resource_that_is_refused_is_a_403_and_the_session_stays(
    make_site: MakeSite, kind: str, oidc_provider: Provider
) -> None:
    register(oidc_provider, resources=["https://orders.test"])
    site = make_site(kind, app=asking)
    await site.login()
    for _ in range(2):
        refused = await site.browser.get("/token", params={"resource": "https://other.test"})
        assert refused.status_code == 403
    assert refreshes(site) == 1
    granted = await site.browser.get("/token", params={"resource": "https://orders.test"})
    assert granted.status_code == 200
    assert await site.who() == "Alice"


@pytest.mark.case(256)
async def test_fifty_who_force_it_renew_once(make_site: MakeSite, kind: str) -> None:
    site = make_site(kind, app=asking)
    await site.login()
    before = (await site.browser.get("/token")).json()["token"]

    async def force() -> str:
        response = await site.browser.get("/token?force")
        token: str = response.json()["token"]
        return token

    tokens = set(await asyncio.gather(*(force() for _ in range(50))))
    assert len(tokens) == 1
    assert before not in tokens
    assert refreshes(site) == 1


async def test_a_refresh_token_goes_back_and_the_token_serves_to_its_end(
    make_site: MakeSite, kind: str
) -> None:
    site = make_site(kind, app=asking)
    await site.login()
    before = (await site.browser.get("/token")).json()["token"]
    assert (await site.browser.get("/give-back")).text == "given back"
    assert [family.ended for family in site.provider.families] == ["revoked"]
    assert (await site.browser.get("/token")).json()["token"] == before
    assert (await site.browser.get("/give-back")).status_code == 200
    site.clock.advance(HOUR)
    answer = await site.browser.get("/token")
    assert answer.status_code == 401
    assert answer.json()["error"] == "token_expired"
    assert await site.who() == "Alice"
    assert site.provider.count("revocation") == 1


# ------------------------------------------------------------- logout and login in between


@pytest.mark.case(240)
async def test_a_logout_during_the_refresh_is_final(make_site: MakeSite, kind: str) -> None:
    site = make_site(kind)
    cookie = await expired(site)
    gate = site.provider.hold("token", when=lambda r: r.grant_type == "refresh_token")
    asked = asyncio.ensure_future(site.ask("/token", cookie=cookie))
    await gate.entered.wait()
    response = await site.browser.post("/auth/logout", headers={"sec-fetch-site": "same-origin"})
    assert response.status_code == 303
    gate.release()
    answer = await asked
    assert answer.status == 401
    assert not [line for line in answer.set_cookies if "Max-Age=0" not in line]
    await site.auth.user_tokens.drain(timeout=10)
    await site.auth.revoker.drain(timeout=10)
    assert (await site.ask("/me", cookie=cookie)).json()["known"] is False
    assert [family.ended for family in site.provider.families] == ["revoked"]


@pytest.mark.case(243)
async def test_what_the_app_writes_during_the_refresh_and_its_result_both_stay(
    make_site: MakeSite, kind: str
) -> None:
    site = make_site(kind)
    cookie = await expired(site)
    gate = site.provider.hold("token", after_acting=True)
    asked = asyncio.ensure_future(site.ask("/token", cookie=cookie))
    await gate.entered.wait()
    await site.keep(cart=["a"])
    gate.release()
    token = (await asked).body
    await site.keep(theme="dark")
    assert await site.kept() == {"cart": ["a"], "theme": "dark"}
    assert (await site.browser.get("/token")).content == token
    assert refreshes(site) == 1


@pytest.mark.case(244)
async def test_a_new_login_during_the_refresh_is_left_alone(make_site: MakeSite, kind: str) -> None:
    site = make_site(kind)
    cookie = await expired(site)
    gate = site.provider.hold(
        "token", when=lambda r: r.grant_type == "refresh_token", after_acting=True
    )
    asked = asyncio.ensure_future(site.ask("/token", cookie=cookie))
    await gate.entered.wait()
    await site.login("bob")
    gate.release()
    answer: Raw = await asked
    assert answer.status == 401
    assert not answer.set_cookies or site.kind == "cookie"
    await site.auth.user_tokens.drain(timeout=10)
    await site.auth.revoker.drain(timeout=10)
    assert await site.who() == "Bob"
    token = (await site.browser.get("/token")).text
    assert site.provider.is_active(token)
    assert [family.ended for family in site.provider.families] == ["revoked", None]
