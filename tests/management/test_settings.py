"""Unsafe or incomplete settings stop the start, and name what to change."""

from __future__ import annotations

from functools import partial

import httpx
import httpx2
import pytest

from tokenward import (
    ConfigurationError,
    Lifetimes,
    OpenIDProvider,
    RefreshSettings,
    TokenManagement,
)
from tokenward.clock import system_clock
from tokenward.origins import is_loopback
from tokenward.settings import PublicUrl, is_mount_path, read_public_urls
from tokenward.stores.memory import MemoryStore
from tokenward.stores.sqlite import SQLiteStore
from tokenward.tokens.models import Target

SECRET_KEY = "Zk3rT9vQx1LmP7sWc5Yb2NfHd8Ug4JaE6RoXiKtV"


def a_provider(**settings):
    given = {
        "client_id": "app",
        "client_secret": "the-secret-of-the-client",
        "scope": "openid",
        **settings,
    }
    return OpenIDProvider("https://op.test", **given)


def management(**settings):
    given = {
        "provider": a_provider(),
        "public_url": "https://app.test",
        "secret_key": SECRET_KEY,
        **settings,
    }
    return TokenManagement(**given)


async def an_async_predicate(_scope):
    return True


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        pytest.param({"provider": None}, "provider", id="no provider"),
        pytest.param({"providers": {"a": a_provider()}}, "provider", id="both kinds of providers"),
        pytest.param({"provider": None, "providers": {}}, "providers", id="no providers"),
        pytest.param({"sessions": "server"}, "sessions", id="unknown kind of sessions"),
        pytest.param({"public_url": ()}, "public_url", id="no public_url"),
        pytest.param({"public_url": "app.test"}, "public_url", id="no scheme"),
        pytest.param({"public_url": "ftp://app.test"}, "public_url", id="another scheme"),
        pytest.param({"public_url": "https://"}, "public_url", id="no host"),
        pytest.param({"public_url": "https://app.test?x=1"}, "public_url", id="query"),
        pytest.param({"public_url": "https://app.test#x"}, "public_url", id="fragment"),
        pytest.param({"public_url": "https://u@app.test"}, "public_url", id="user"),
        pytest.param({"public_url": "https://*.app.test"}, "public_url", id="wildcard"),
        pytest.param({"public_url": "https://app.test/a/../b"}, "public_url", id="dots"),
        pytest.param({"public_url": "https://app.test//b"}, "public_url", id="empty segment"),
        pytest.param({"public_url": "https://app.test\\b"}, "public_url", id="backslash"),
        pytest.param({"public_url": "https://\u00e4pp.test"}, "public_url", id="not ASCII"),
        pytest.param({"prefix": "auth"}, "prefix", id="prefix without slash"),
        pytest.param({"prefix": "/auth/"}, "prefix", id="prefix with a slash at its end"),
        pytest.param({"landing": "//evil.example"}, "landing", id="landing off the site"),
        pytest.param({"landing": "https://evil.example/"}, "landing", id="landing absolute"),
        pytest.param({"after_logout": "/\\evil"}, "after_logout", id="after_logout off the site"),
        pytest.param({"secret_key": ""}, "secret_key", id="empty secret_key"),
        pytest.param({"secret_key": "secret"}, "secret_key", id="short secret_key"),
        pytest.param({"secret_key": []}, "secret_key", id="no secret_key in the list"),
        pytest.param({"secret_key": None}, "secret_key", id="secret_key from an empty environment"),
        pytest.param({"secret_key": [SECRET_KEY, None]}, "secret_key", id="a key that is None"),
        pytest.param({"secret_key": b"k" * 40}, "secret_key", id="secret_key of bytes"),
        pytest.param({"secret_key": 7}, "secret_key", id="secret_key that is a number"),
        pytest.param({"public_url": None}, "public_url", id="public_url from no environment"),
        pytest.param({"public_url": 7}, "public_url", id="public_url that is a number"),
        pytest.param({"public_url": [None]}, "public_url", id="one public_url is None"),
        pytest.param({"carry_over": "cart"}, "carry_over", id="carry_over as one string"),
        pytest.param({"carry_over": [1]}, "carry_over", id="carry_over of numbers"),
        pytest.param({"claims": "sub name"}, "claims", id="claims as one string"),
        pytest.param({"on_login": print}, "on_login", id="on_login that is not async"),
        pytest.param({"on_login": "hook"}, "on_login", id="on_login that is no function"),
        pytest.param({"store": MemoryStore}, "store", id="the class of a store"),
        pytest.param({"store": "sessions.db"}, "store", id="a file name as store"),
        pytest.param({"provider": "https://op.test"}, "provider", id="an address as provider"),
        pytest.param(
            {"provider": None, "providers": {"a": "https://op.test"}},
            "provider",
            id="among several",
        ),
        pytest.param({"landing": "/auth/login"}, "landing", id="landing in a circle"),
        pytest.param({"landing": "/auth"}, "landing", id="landing at the prefix"),
        pytest.param({"after_logout": "/auth/logout"}, "after_logout", id="after_logout circle"),
        pytest.param({"after_logout": ""}, "after_logout", id="after_logout empty"),
        pytest.param({"prefix": None}, "prefix", id="prefix that is None"),
        pytest.param({"landing": None}, "landing", id="landing that is None"),
        pytest.param({"lifetimes": 3600}, "lifetimes", id="lifetimes as a number"),
        pytest.param({"refresh": None}, "refresh", id="refresh that is None"),
        pytest.param({"revoke_at_logout": "no"}, "revoke_at_logout", id="a switch as text"),
        pytest.param({"name_claim": None}, "name_claim", id="name_claim that is None"),
        pytest.param({"role_claim": ["roles"]}, "role_claim", id="role_claim as a list"),
        pytest.param({"clock": 5}, "clock", id="clock that is a number"),
        pytest.param({"on_event": 5}, "on_event", id="on_event that is a number"),
        pytest.param({"claims": None}, "claims", id="claims that are None"),
        pytest.param({"carry_over": None}, "carry_over", id="carry_over that is None"),
        pytest.param(
            {"provider": None, "providers": [a_provider()]}, "providers", id="a list of providers"
        ),
        pytest.param(
            {"provider": None, "providers": a_provider()}, "providers", id="one among providers"
        ),
        pytest.param(
            {"provider": None, "providers": {1: a_provider()}}, "providers", id="a number as name"
        ),
        pytest.param(
            {"dangerously_allow_http": "no"}, "dangerously_allow_http", id="another switch as text"
        ),
        pytest.param({"preload": "yes"}, "preload", id="preload that is text"),
        pytest.param({"preload": an_async_predicate}, "preload", id="preload that is async"),
    ],
)
@pytest.mark.case(480)
@pytest.mark.case(272)
def test_a_setting_that_is_wrong_stops_the_start_and_is_named(settings, named):
    with pytest.raises(ConfigurationError) as caught:
        management(**settings)
    assert caught.value.setting == named


@pytest.mark.case(423)
@pytest.mark.parametrize("url", ["http://app.test", "http://localhost:8000", "http://127.0.0.1"])
def test_plain_http_is_refused(url):
    with pytest.raises(ConfigurationError) as caught:
        management(public_url=url)
    assert caught.value.setting == "public_url"


@pytest.mark.case(305)
@pytest.mark.parametrize(
    "url", ["http://app.test", "http://localhost.evil.example", "http://10.0.0.1", "http://0.0.0.0"]
)
def test_the_flag_for_plain_http_is_for_loopback_alone(url):
    with pytest.raises(ConfigurationError) as caught:
        management(public_url=url, dangerously_allow_http=True)
    assert caught.value.setting == "public_url"
    assert "loopback" in caught.value.problem


@pytest.mark.parametrize("url", ["http://localhost:8000", "http://127.0.0.1:8000", "http://[::1]"])
def test_the_flag_for_plain_http_allows_loopback(url):
    assert management(public_url=url, dangerously_allow_http=True)


@pytest.mark.case(253)
def test_offline_access_wants_a_store_or_an_explicit_choice():
    offline = a_provider(scope="openid offline_access")
    with pytest.raises(ConfigurationError) as caught:
        management(provider=offline)
    assert caught.value.setting == "store"
    assert not management(provider=offline, sessions="cookie").settings.server_side
    assert management(provider=offline, store=MemoryStore()).settings.server_side


def test_offline_access_of_any_provider_wants_a_store():
    providers = {"a": a_provider(), "b": a_provider(scope="openid offline_access")}
    with pytest.raises(ConfigurationError) as caught:
        management(provider=None, providers=providers)
    assert caught.value.setting == "store"


def test_without_offline_access_sessions_live_in_cookies():
    assert not management().settings.server_side


def test_cookie_sessions_beside_a_store_stay_cookie_sessions():
    assert not management(sessions="cookie", store=MemoryStore()).settings.server_side


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        pytest.param({"client_id": None}, "client_id", id="client_id"),
        pytest.param({"client_secret": b"secret"}, "client_secret", id="client_secret"),
        pytest.param({"scope": None}, "scope", id="no scope"),
        pytest.param({"scope": ["openid"]}, "scope", id="scope as a list"),
        pytest.param({"timeout": "5"}, "timeout", id="timeout as text"),
        pytest.param({"token_timeout": True}, "token_timeout", id="timeout as a switch"),
        pytest.param({"policy": "strict"}, "policy", id="policy"),
        pytest.param({"clock": 5}, "clock", id="clock"),
        pytest.param({"on_event": 5}, "on_event", id="on_event"),
    ],
)
def test_a_setting_of_a_provider_that_is_of_another_kind_is_named(settings, named):
    with pytest.raises(ConfigurationError) as caught:
        a_provider(**settings)
    assert caught.value.setting == named


@pytest.mark.parametrize("issuer", [None, 7, "", "http://op.test"])
def test_a_provider_that_was_refused_can_be_shown(issuer):
    with pytest.raises(ConfigurationError) as caught:
        OpenIDProvider(issuer, client_id="app")
    assert caught.value.setting == "issuer"
    provider = OpenIDProvider.__new__(OpenIDProvider)
    assert "OpenIDProvider" in repr(provider)


def test_a_store_keeps_the_time_of_the_app_unless_it_has_its_own(tmp_path):
    def clock():
        return 1_900_000_000.0

    for make in (MemoryStore, partial(SQLiteStore, tmp_path / "s.db")):
        store = make()
        management(store=store, clock=clock)
        assert store._clock is clock
        own = make(clock=system_clock)
        management(store=own, clock=clock)
        assert own._clock is system_clock


@pytest.mark.parametrize(
    "lifetimes",
    [
        pytest.param(("8h", 10), id="text"),
        pytest.param((0, 10), id="no idle time"),
        pytest.param((20, 10), id="idle longer than absolute"),
        pytest.param((-1, -1), id="negative"),
        pytest.param((10, float("inf")), id="no end"),
        pytest.param((10, 1e13), id="an end that is no date"),
    ],
)
def test_lifetimes_must_fit_each_other(lifetimes):
    idle, absolute = lifetimes
    with pytest.raises(ConfigurationError, match="lifetimes"):
        Lifetimes(idle=idle, absolute=absolute)


@pytest.mark.case(482)
def test_settings_cannot_be_changed_after_the_start():
    with pytest.raises(AttributeError):
        management().settings.prefix = "/other"


@pytest.mark.case(427)
@pytest.mark.parametrize(
    ("url", "expected"),
    [
        pytest.param(
            "https://Shop.Example", ("https://shop.example", "shop.example", ""), id="upper case"
        ),
        pytest.param(
            "https://shop.example:443/", ("https://shop.example", "shop.example", ""), id="port 443"
        ),
        pytest.param(
            "https://shop.example:8443/app/",
            ("https://shop.example:8443", "shop.example:8443", "/app"),
            id="port and path",
        ),
        pytest.param(
            "https://[2001:db8::1]", ("https://[2001:db8::1]", "[2001:db8::1]", ""), id="v6"
        ),
    ],
)
def test_a_public_url_is_read_in_one_form(url, expected):
    (public_url,) = read_public_urls(url, dangerously_allow_http=False)
    assert (public_url.origin, public_url.host, public_url.path) == expected


@pytest.mark.parametrize(
    ("host", "known"),
    [
        ("shop.example", True),
        ("shop.example:443", True),
        ("shop.example.", True),
        ("shop.example:8443", False),
        ("evil.example", False),
        ("shop.example.evil.example", False),
        ("", False),
    ],
)
def test_a_host_is_compared_exactly(host, known):
    url = PublicUrl("https://shop.example", "shop.example", "", secure=True)
    assert url.is_host(host) is known


def test_several_public_urls_share_scheme_and_path():
    urls = read_public_urls(["https://a.test", "https://b.test"], dangerously_allow_http=False)
    assert [url.origin for url in urls] == ["https://a.test", "https://b.test"]
    with pytest.raises(ConfigurationError, match="same path"):
        read_public_urls(["https://a.test", "https://b.test/x"], dangerously_allow_http=False)


@pytest.mark.case(424)
@pytest.mark.parametrize("path", ["//evil", "/a/../b", "/a/.", "a", "/a\\b", "/a?b", "/a%2f"])
def test_a_root_path_that_no_server_gives_is_not_used(path):
    assert not is_mount_path(path)


@pytest.mark.case(150)
@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True),
        ("app.localhost", True),
        ("127.0.0.1", True),
        ("[::1]", True),
        ("localhost.evil.example", False),
        ("128.0.0.1", False),
        ("", False),
    ],
)
def test_loopback_is_told_by_name_and_address(host, expected):
    assert is_loopback(host) is expected


class AsyncHook:
    async def __call__(self, user, tokens):
        return None


async def a_hook(user, tokens):
    return None


@pytest.mark.parametrize(
    "hook",
    [a_hook, AsyncHook(), AsyncHook().__call__, partial(a_hook), None],
    ids=["function", "object", "method", "partial", "none"],
)
def test_on_login_may_be_anything_that_is_awaited(hook):
    assert management(on_login=hook).settings.on_login is hook


@pytest.mark.parametrize("preload", [True, False, lambda scope: True])
def test_preload_is_a_switch_or_a_function_of_the_scope(preload):
    assert management(preload=preload).settings.preload is preload


def test_a_store_without_entries_is_still_the_store():
    class Empty(MemoryStore):
        def __len__(self):
            return 0

    store = Empty()
    assert management(store=store).store is store


@pytest.mark.parametrize(
    ("refresh", "named"),
    [
        pytest.param({"lease_ttl": 0}, "refresh.lease_ttl", id="no lease"),
        pytest.param({"lease_ttl": float("inf")}, "refresh.lease_ttl", id="a lease without an end"),
        pytest.param({"lease_renewal": -1}, "refresh.lease_renewal", id="negative renewal"),
        pytest.param({"lease_renewal": 5.0}, "refresh.lease_renewal", id="renewed too late"),
        pytest.param({"wait": float("nan")}, "refresh.wait", id="no number"),
        pytest.param({"save_retry": 0}, "refresh.save_retry", id="nothing kept"),
        pytest.param({"margin": -1}, "refresh.margin", id="negative margin"),
        pytest.param({"margin": float("nan")}, "refresh.margin", id="margin that is no number"),
        pytest.param({"concurrency": 0}, "refresh.concurrency", id="nobody may refresh"),
        pytest.param({"concurrency": 2.5}, "refresh.concurrency", id="no bound at all"),
        pytest.param({"concurrency": float("nan")}, "refresh.concurrency", id="nor here"),
    ],
)
def test_a_refresh_setting_that_loses_sessions_is_refused(refresh, named):
    with pytest.raises(ConfigurationError) as caught:
        RefreshSettings(**refresh)
    assert caught.value.setting == named


def test_a_margin_of_nothing_and_half_the_lease_are_allowed():
    assert RefreshSettings(margin=0, lease_ttl=2.0, lease_renewal=1.0).margin == 0


@pytest.mark.parametrize(
    "http", [httpx.Client, httpx2.Client, str], ids=["httpx", "httpx2", "text"]
)
def test_a_client_that_would_hold_up_the_event_loop_is_refused(http):
    client = http()
    with pytest.raises(ConfigurationError) as caught:
        a_provider(http=client)
    assert caught.value.setting == "http"
    if not isinstance(client, str):
        client.close()


@pytest.mark.parametrize(
    "resource",
    [
        pytest.param("api", id="no URI"),
        pytest.param("/api", id="relative"),
        pytest.param("https://api.example#part", id="fragment"),
        pytest.param("https://api.example#", id="empty fragment"),
        pytest.param("https:", id="scheme alone"),
        pytest.param(["https://api.example", ""], id="one is empty"),
    ],
)
def test_a_resource_is_an_absolute_uri_without_a_fragment(resource):
    for use in (lambda: a_provider(resource=resource), lambda: Target.of(resource=resource)):
        with pytest.raises(ConfigurationError) as caught:
            use()
        assert caught.value.setting == "resource"


def test_resources_may_be_urls_and_urns():
    target = Target.of(resource=["https://api.example/v1?x=1", "urn:api"], scope="read  write")
    assert target == Target(("https://api.example/v1?x=1", "urn:api"), frozenset({"read", "write"}))
    assert Target.of() == Target()


def test_a_scope_is_text():
    with pytest.raises(ConfigurationError) as caught:
        Target.of(scope=["read", "write"])
    assert caught.value.setting == "scope"
