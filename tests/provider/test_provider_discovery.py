"""How metadata are fetched, kept and refused."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import socket
from typing import Any

import httpx
import httpx2
import pytest

from tokenward import events as happened
from tokenward.errors import (
    ConfigurationError,
    InvalidMetadata,
    ProviderUnavailable,
    TokenwardError,
)
from tokenward.protocol.client_auth import client_secret_basic, client_secret_post
from tokenward.protocol.metadata import DiscoveryPolicy
from tokenward.provider import OpenIDProvider
from tokenward.provider.cached_document import max_age_of
from tokenward.provider.own_client import OwnClient
from tokenward.secret import Secret

DOCUMENT = "openid-configuration"
HOUR = 3600.0


def kinds(events: list[Any]) -> list[str]:
    return [type(event).__name__ for event in events]


async def settle(provider: OpenIDProvider) -> None:
    """Wait for what is done in the background."""
    await provider._documents.drain(5)


# --- settings


@pytest.mark.parametrize(
    ("setting", "arguments"),
    [
        pytest.param("issuer", {"issuer": "http://op.test"}, marks=pytest.mark.case(150)),
        pytest.param(
            "issuer",
            {"issuer": "http://localhost:80@evil.test", "dangerously_allow_http": True},
            id="not-loopback",
            marks=pytest.mark.case(150),
        ),
        ("issuer", {"issuer": "http://op.test", "dangerously_allow_http": True}),
        ("issuer", {"issuer": "https://op.test/?a=b"}),
        ("client_id", {"client_id": ""}),
        ("client_secret", {"client_secret": ""}),
        ("client_auth", {"client_auth": client_secret_basic("other-canary")}),
        ("scope", {"scope": "profile email"}),
        ("scope", {"scope": "openidx"}),
        ("id_token_algorithms", {"id_token_algorithms": ("none",)}),
        ("id_token_algorithms", {"id_token_algorithms": ("RS256", "none")}),
        ("id_token_algorithms", {"id_token_algorithms": ("HS256",)}),
        ("id_token_algorithms", {"id_token_algorithms": ()}),
        ("id_token_algorithms", {"id_token_algorithms": "RS256"}),
        ("leeway", {"leeway": 301}),
        ("leeway", {"leeway": -1}),
        ("leeway", {"leeway": float("nan")}),
        ("max_age", {"max_age": -1}),
        ("acr_values", {"acr_values": "gold"}),
        ("trusted_audiences", {"trusted_audiences": "other"}),
        ("response_mode", {"response_mode": "fragment"}),
        ("authorize_parameters", {"authorize_parameters": {"state": "x"}}),
        ("authorize_parameters", {"authorize_parameters": {"max_age": "1"}}),
        ("authorize_parameters", {"authorize_parameters": {"audience": "a"}, "audience": "b"}),
        ("timeout", {"timeout": 0}),
        ("token_timeout", {"token_timeout": float("inf")}),
        ("default_expires_in", {"default_expires_in": -1}),
    ],
)
def test_unsafe_settings_are_refused_at_once_and_by_name(
    make: Any, setting: str, arguments: dict[str, Any]
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        make(**arguments)
    assert caught.value.setting == setting


@pytest.mark.parametrize("issuer", ["http://127.0.0.1:8000", "http://localhost", "http://[::1]:9"])
def test_a_loopback_issuer_over_http_needs_the_flag(make: Any, issuer: str) -> None:
    with pytest.raises(ConfigurationError):
        make(issuer)
    assert make(issuer, dangerously_allow_http=True).issuer == issuer
    policy = DiscoveryPolicy(dangerously_allow_http=True)
    assert make(issuer, policy=policy).issuer == issuer


@pytest.mark.case(162)
async def test_making_a_provider_asks_nobody_and_works_while_it_is_down(
    make: Any, op: Any, clock: Any
) -> None:
    op.down.add(DOCUMENT)
    provider = make()
    assert op.requests == []
    with pytest.raises(ProviderUnavailable):
        await provider.metadata()
    op.down.clear()
    clock.advance(10)
    assert (await provider.metadata()).issuer == "https://op.test"


@pytest.mark.case(405)
def test_a_provider_shows_no_secret(make: Any) -> None:
    assert "canary" not in repr(make())
    assert "canary" not in str(vars(make()))


@pytest.mark.case(406)
def test_a_refused_setting_shows_no_secret_in_the_traceback(make: Any) -> None:
    import traceback

    with pytest.raises(ConfigurationError) as caught:
        make(leeway=1000)
    told = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    ours = [frame for frame in told.stack if "/src/tokenward/" in frame.filename]
    assert ours
    assert "canary" not in repr([frame.locals for frame in ours])


# --- what is refused


def with_member(member: str, value: Any) -> Any:
    def change(op: Any) -> None:
        op.metadata[member] = value

    return change


def planned(status: int = 200, **content: Any) -> Any:
    def change(op: Any) -> None:
        op.planned[DOCUMENT] = [httpx.Response(status, **content)]

    return change


REFUSED = [
    pytest.param(
        with_member("issuer", "https://op.test/"), id="issuer-slash", marks=pytest.mark.case(149)
    ),
    pytest.param(
        with_member("issuer", "https://OP.test"), id="issuer-case", marks=pytest.mark.case(149)
    ),
    pytest.param(
        with_member("token_endpoint", "http://op.test/token"),
        id="http-endpoint",
        marks=pytest.mark.case(151),
    ),
    pytest.param(
        with_member("end_session_endpoint", "javascript:alert(1)"),
        id="javascript",
        marks=pytest.mark.case(152),
    ),
    pytest.param(
        with_member("jwks_uri", ["https://op.test/jwks"]), id="list", marks=pytest.mark.case(157)
    ),
    pytest.param(planned(html="<html>"), id="html", marks=pytest.mark.case(156)),
    pytest.param(planned(content=b""), id="empty", marks=pytest.mark.case(156)),
    pytest.param(planned(json=[]), id="json-list", marks=pytest.mark.case(156)),
    pytest.param(planned(content=b'{"issuer":'), id="cut", marks=pytest.mark.case(156)),
    pytest.param(planned(content=b"\xef\xbb\xbf{}"), id="bom", marks=pytest.mark.case(156)),
    pytest.param(planned(content=b'{"a":1,"a":2}'), id="twice", marks=pytest.mark.case(156)),
    pytest.param(planned(content=b'{"a":NaN}'), id="nan", marks=pytest.mark.case(156)),
]


@pytest.mark.parametrize("change", REFUSED)
async def test_a_document_that_breaks_a_rule_is_refused_as_a_whole(
    provider: Any, op: Any, events: list[Any], change: Any
) -> None:
    change(op)
    with pytest.raises(InvalidMetadata) as caught:
        await provider.metadata()
    assert caught.value.__context__ is None
    assert kinds(events) == ["MetadataRefused"]


@pytest.mark.parametrize("change", REFUSED)
@pytest.mark.case(165)
async def test_a_document_that_breaks_a_rule_later_leaves_the_last_good_one_in_use(
    provider: Any, op: Any, events: list[Any], clock: Any, change: Any
) -> None:
    good = await provider.metadata()
    events.clear()
    change(op)
    clock.advance(HOUR + 1)
    assert await provider.metadata() is good
    assert kinds(events) == ["MetadataRefused"]
    assert events[0].level == logging.ERROR


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(planned(404), id="404", marks=pytest.mark.case(167)),
        pytest.param(planned(500), id="500", marks=pytest.mark.case(167)),
        pytest.param(
            planned(302, headers={"location": "https://op.test/else"}),
            id="redirect",
            marks=pytest.mark.case(154),
        ),
        pytest.param(planned(content=b" " * 600_000), id="large", marks=pytest.mark.case(158)),
    ],
)
async def test_no_document_is_an_outage_and_the_provider_is_left_alone_for_a_while(
    provider: Any, op: Any, events: list[Any], clock: Any, change: Any
) -> None:
    change(op)
    for _ in range(100):
        with pytest.raises(ProviderUnavailable) as caught:
            await provider.metadata()
        assert 1.0 <= caught.value.retry_after <= 7.5
        assert caught.value.__context__ is None
    assert op.count(DOCUMENT) == 1
    assert kinds(events) == ["ProviderDown"]
    clock.advance(7.5)
    await provider.metadata()
    assert op.count(DOCUMENT) == 2


async def test_every_caller_gets_an_exception_of_its_own(provider: Any, op: Any) -> None:
    op.down.add(DOCUMENT)
    results = await asyncio.gather(
        *(provider.metadata() for _ in range(10)), return_exceptions=True
    )
    assert len({id(result) for result in results}) == 10
    assert op.count(DOCUMENT) == 1


@pytest.mark.case(169)
@pytest.mark.parametrize(
    ("setting", "member", "value", "arguments"),
    [
        ("issuer", "code_challenge_methods_supported", ["plain"], {}),
        ("issuer", "code_challenge_methods_supported", [], {}),
        ("client_auth", "token_endpoint_auth_methods_supported", ["client_secret_post"], {}),
        (
            "client_auth",
            "token_endpoint_auth_methods_supported",
            ["private_key_jwt"],
            {"client_secret": None, "client_auth": client_secret_post("x-canary")},
        ),
        ("userinfo", "userinfo_endpoint", None, {"userinfo": True}),
    ],
)
async def test_a_provider_that_lacks_what_we_use_is_a_configuration_error(
    make: Any, op: Any, setting: str, member: str, value: Any, arguments: dict[str, Any]
) -> None:
    op.metadata[member] = value
    with pytest.raises(ConfigurationError) as caught:
        await make(**arguments).metadata()
    assert caught.value.setting == setting


@pytest.mark.parametrize(
    ("member", "value", "arguments"),
    [
        ("code_challenge_methods_supported", ["plain", "S256"], {}),
        ("token_endpoint_auth_methods_supported", ["client_secret_basic"], {}),
        ("token_endpoint_auth_methods_supported", ["client_secret_post"], {"client_secret": None}),
        (
            "token_endpoint_auth_methods_supported",
            ["client_secret_post"],
            {"client_secret": None, "client_auth": lambda _id, _form, _headers: None},
        ),
        pytest.param(
            "id_token_signing_alg_values_supported",
            ["none", "HS256"],
            {},
            marks=pytest.mark.case(170),
        ),
    ],
)
async def test_what_a_provider_tells_or_not_about_other_things_does_not_matter(
    make: Any, op: Any, member: str, value: Any, arguments: dict[str, Any]
) -> None:
    op.metadata[member] = value
    assert await make(**arguments).metadata()


@pytest.mark.case(153)
async def test_endpoints_on_another_host_are_told_once(
    provider: Any, op: Any, events: list[Any], clock: Any
) -> None:
    op.metadata["token_endpoint"] = "https://tokens.test/token"
    for _ in range(3):
        await provider.metadata()
        clock.advance(HOUR + 1)
    assert op.count(DOCUMENT) == 3
    assert kinds(events).count("EndpointsElsewhere") == 1
    assert happened.EndpointsElsewhere("https://op.test", ("tokens.test",)) in events


@pytest.mark.case(153)
async def test_a_policy_pins_the_hosts_of_endpoints(make: Any, op: Any) -> None:
    op.metadata["token_endpoint"] = "https://tokens.test/token"
    with pytest.raises(InvalidMetadata, match="token_endpoint"):
        await make(policy=DiscoveryPolicy(endpoint_hosts=frozenset())).metadata()
    pinned = DiscoveryPolicy(endpoint_hosts=frozenset({"tokens.test"}))
    assert await make(policy=pinned).metadata()


# --- how long it is kept


@pytest.mark.case(166)
async def test_a_thousand_tasks_are_one_fetch(provider: Any, op: Any) -> None:
    op.held[DOCUMENT] = asyncio.Event()
    tasks = [asyncio.create_task(provider.metadata()) for _ in range(1000)]
    await op.entered.wait()
    op.held[DOCUMENT].set()
    assert len({id(document) for document in await asyncio.gather(*tasks)}) == 1
    assert op.count(DOCUMENT) == 1


@pytest.mark.case(168)
@pytest.mark.parametrize(
    ("cache_control", "lifetime"),
    [
        (None, HOUR),
        ("public", HOUR),
        ("max-age=0", 300.0),
        ("no-store", 300.0),
        ("no-cache, max-age=7200", 300.0),
        ("public, max-age=7200", 7200.0),
        ('MAX-AGE="7200"', 7200.0),
        ("max-age=315360000", 24 * HOUR),
        ("max-age=" + "9" * 5000, 24 * HOUR),
        ("max-age=-5", HOUR),
        ("max-age=soon", HOUR),
        ("max-age=²", HOUR),
    ],
)
async def test_the_providers_lifetime_is_kept_within_bounds(
    provider: Any, op: Any, clock: Any, cache_control: str | None, lifetime: float
) -> None:
    if cache_control is not None and cache_control.isascii():
        op.headers["cache-control"] = cache_control
    elif cache_control is not None:
        assert max_age_of({"cache-control": cache_control}) is None
    await provider.metadata()
    clock.advance(lifetime * 0.79)
    await provider.metadata()
    await settle(provider)
    assert op.count(DOCUMENT) == 1
    clock.advance(lifetime * 0.22)
    await provider.metadata()
    assert op.count(DOCUMENT) == 2


async def test_shortly_before_its_time_is_over_it_is_renewed_in_the_background(
    provider: Any, op: Any, clock: Any
) -> None:
    old = await provider.metadata()
    clock.advance(HOUR * 0.9)
    op.held[DOCUMENT] = asyncio.Event()
    for _ in range(10):
        assert await provider.metadata() is old
    await op.entered.wait()
    op.held[DOCUMENT].set()
    await settle(provider)
    assert await provider.metadata() is not old
    assert op.count(DOCUMENT) == 2


async def test_a_background_renewal_that_fails_is_not_repeated_at_every_request(
    provider: Any, op: Any, clock: Any
) -> None:
    await provider.metadata()
    clock.advance(HOUR * 0.9)
    op.down.add(DOCUMENT)
    for _ in range(10):
        await provider.metadata()
        await settle(provider)
    assert op.count(DOCUMENT) == 2


@pytest.mark.case(164)
async def test_a_changed_document_is_picked_up_within_the_hour(
    provider: Any, op: Any, clock: Any
) -> None:
    await provider.metadata()
    op.metadata["token_endpoint"] = "https://op.test/token2"
    clock.advance(HOUR + 1)
    assert (await provider.metadata()).token_endpoint == "https://op.test/token2"


@pytest.mark.case(163)
async def test_the_last_good_document_is_served_for_a_day_while_the_provider_is_down(
    provider: Any, op: Any, clock: Any
) -> None:
    good = await provider.metadata()
    keys = await provider.keys()
    op.down |= {DOCUMENT, "jwks"}
    clock.advance(24 * HOUR)
    assert await provider.metadata() is good
    assert await provider.keys() is keys
    clock.advance(HOUR + 10)
    for document in (provider.metadata, provider.keys):
        with pytest.raises(ProviderUnavailable):
            await document()


# --- event loops, clients, events


@pytest.mark.case(175)
async def test_one_provider_serves_several_event_loops(
    wire: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("urllib.request.getproxies", dict)

    async def document(it: Any) -> None:
        base = wire.url
        names = ("authorization_endpoint", "token_endpoint", "jwks_uri")
        members = "".join(f',"{name}":"{base}/{name}"' for name in names)
        await it.answer(f'{{"issuer":"{base}"{members}}}'.encode())

    wire.answers = [document]
    now = 0.0
    provider = OpenIDProvider(
        wire.url, client_id="app", dangerously_allow_http=True, clock=lambda: now
    )

    async def elsewhere() -> str:
        found = (await provider.metadata()).issuer
        await provider.aclose()
        return found

    assert (await provider.metadata()).issuer == wire.url
    for _ in range(2):
        now += 100 * HOUR
        assert await asyncio.to_thread(lambda: asyncio.run(elsewhere())) == wire.url
    now += 100 * HOUR
    assert (await provider.metadata()).issuer == wire.url
    assert len(wire.exchanges) == 4
    await provider.aclose()


@pytest.mark.case(174)
async def test_our_own_client_is_one_per_loop_and_is_closed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("urllib.request.getproxies", lambda: {"https": "http://u:canary@proxy"})
    own = OwnClient()
    with caplog.at_level(logging.INFO, "tokenward"):
        client = own.get()
    assert own.get() is client
    assert "https" in caplog.text
    assert "canary" not in caplog.text
    await own.aclose()
    assert client.is_closed
    assert own.get() is not client
    await own.aclose()


@pytest.mark.case(175)
async def test_a_child_process_leaves_the_clients_of_its_parent_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = OwnClient()
    parents = own.get()
    pid = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: pid + 1)
    childs = own.get()
    assert childs is not parents
    await own.aclose()
    assert not parents.is_closed
    await parents.aclose()


async def test_a_client_of_the_caller_is_left_open(make: Any, op: Any) -> None:
    http = op.client()
    provider = make(http=http)
    await provider.metadata()
    await provider.aclose()
    assert not http.is_closed


async def test_a_client_of_httpx2_serves_as_well(make: Any, op: Any) -> None:
    op.library = httpx2
    assert (await make(http=op.client()).metadata()).issuer == "https://op.test"


async def test_a_sink_that_raises_does_not_stop_anything(
    provider: Any, caplog: pytest.LogCaptureFixture
) -> None:
    class Listener:
        def emit(self, _: object) -> None:
            raise ValueError("sink-canary")

    listener = Listener()
    provider.bind_events(listener)
    assert await provider.metadata()
    assert "ValueError" in caplog.text
    assert "canary" not in caplog.text


async def test_every_app_that_shares_a_provider_hears_of_it(make: Any, op: Any) -> None:
    class Listener:
        def __init__(self) -> None:
            self.heard: list[object] = []

        def emit(self, event: object) -> None:
            self.heard.append(event)

    first, second, forgotten = Listener(), Listener(), Listener()
    provider = make()
    for listener in (first, second, forgotten):
        provider.bind_events(listener)
    heard = forgotten.heard
    del forgotten, listener
    gc.collect()
    await provider.metadata()
    assert first.heard == second.heard != []
    assert heard == []


@pytest.mark.case(444)
async def test_cancelled_waiters_leave_no_warning(provider: Any, op: Any) -> None:
    reports: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, report: reports.append(report))
    op.held[DOCUMENT] = asyncio.Event()
    op.down.add(DOCUMENT)
    waiter = asyncio.create_task(provider.metadata())
    await op.entered.wait()
    waiter.cancel()
    await asyncio.gather(waiter, return_exceptions=True)
    op.held[DOCUMENT].set()
    await settle(provider)
    gc.collect()
    assert reports == []


async def test_the_real_network_refusing_is_an_outage() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        issuer = f"http://127.0.0.1:{probe.getsockname()[1]}"
    provider = OpenIDProvider(issuer, client_id="app", dangerously_allow_http=True)
    with pytest.raises(TokenwardError) as caught:
        await provider.metadata()
    assert isinstance(caught.value, ProviderUnavailable)
    await provider.aclose()


async def test_urls_of_login_and_logout_come_from_the_metadata(make: Any, op: Any) -> None:
    provider = make(
        scope="openid api",
        audience="https://api.test",
        resource="https://r.test",
        authorize_parameters={"prompt": "consent", "ui_locales": "de"},
        acr_values=("gold", "silver"),
        max_age=60,
    )
    secrets = {
        "state": Secret("s" * 43),
        "nonce": Secret("n" * 43),
        "code_verifier": Secret("v" * 43),
    }
    url = httpx.URL(
        await provider.authorization_url(
            redirect_uri="https://app.test/cb", prompt="login", **secrets
        )
    )
    assert str(url).startswith("https://op.test/authorization?")
    assert url.params["scope"] == "openid api"
    assert url.params["prompt"] == "login"
    assert url.params["ui_locales"] == "de"
    assert url.params["audience"] == "https://api.test"
    assert url.params["resource"] == "https://r.test"
    assert url.params["acr_values"] == "gold silver"
    assert url.params["max_age"] == "60"
    assert url.params["code_challenge_method"] == "S256"
    assert "v" * 43 not in str(url)
    goodbye = await provider.end_session_url(
        id_token_hint=Secret("hint"), post_logout_redirect_uri=None, state=None
    )
    assert goodbye is not None
    assert goodbye.startswith("https://op.test/end_session?")
    del op.metadata["end_session_endpoint"]
    assert (
        await make().end_session_url(id_token_hint=None, post_logout_redirect_uri=None, state=None)
        is None
    )
