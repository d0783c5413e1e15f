"""The token goes where it belongs and nowhere else, with either library, either way."""

from __future__ import annotations

import asyncio
import io
import logging
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx
import httpx2
import pytest

import tokenward.httpx
import tokenward.httpx2
from tokenward import (
    AccessToken,
    ClientCredentials,
    ClientCredentialsTokens,
    NotAuthenticated,
    TokenUnavailable,
)
from tokenward.call_rules import is_about_token
from tokenward.errors import CallRefused, ConfigurationError
from tokenward.tokens.exchange import Exchange

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from types import ModuleType

API = "https://api.test"
BEARER = {"www-authenticate": 'Bearer realm="api", error="invalid_token"'}
NOT_RESENT = tokenward.httpx.NOT_RESENT


def token(value: str) -> AccessToken:
    return AccessToken(value, expires_at=datetime.now(UTC) + timedelta(hours=1), lifetime=3600)


class Source:
    """Gives tokens of either kind, counts, and fails when told so."""

    def __init__(self) -> None:
        self.rejected: list[str | None] = []
        self.failure: Exception | None = None
        self.renews = True

    def token_sync(self, *, rejected: AccessToken | None = None) -> AccessToken:
        self.rejected.append(rejected.value if rejected else None)
        if self.failure:
            raise self.failure
        renewals = len([one for one in self.rejected if one]) if self.renews else 0
        return token(f"token-{renewals}")

    async def token(self, *, rejected: AccessToken | None = None) -> AccessToken:
        await asyncio.sleep(0)
        return self.token_sync(rejected=rejected)


@dataclass
class Site:
    """An API at several origins, and a client of one of the libraries to call it with."""

    library: ModuleType
    adapter: ModuleType
    sync: bool
    source: Source = field(default_factory=Source)
    seen: list[tuple[str, str, str | None]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    script: deque[tuple[int, dict[str, str]]] = field(default_factory=deque)
    open: list[Any] = field(default_factory=list)

    def handler(self, request: Any) -> Any:
        url = request.url
        where = f"{url.scheme}://{url.netloc.decode()}{url.path}"
        self.seen.append((request.method, where, request.headers.get("authorization")))
        self.bodies.append(request.read() if self.sync else request.content)
        status, headers = self.script.popleft() if self.script else (200, {})
        return self.library.Response(status, headers=headers, json={})

    async def ahandler(self, request: Any) -> Any:
        await request.aread()
        return self.handler(request)

    def auth(self, **settings: Any) -> Any:
        return self.adapter.TokenAuth(self.source, **{"origins": API, **settings})

    def client(self, auth: Any = None, **settings: Any) -> Any:
        kind = self.library.Client if self.sync else self.library.AsyncClient
        transport = self.library.MockTransport(self.handler if self.sync else self.ahandler)
        client = kind(auth=auth or self.auth(), transport=transport, **settings)
        self.open.append(client)
        return client

    async def call(self, client: Any, method: str, url: str, **settings: Any) -> Any:
        if self.sync:
            return await asyncio.to_thread(client.request, method, url, **settings)
        return await client.request(method, url, **settings)

    @property
    def tokens(self) -> list[str | None]:
        return [authorization for _, _, authorization in self.seen]


@pytest.fixture(
    params=[(library, way) for library in ("httpx", "httpx2") for way in ("async", "sync")],
    ids=lambda pair: "-".join(pair),
)
async def site(request: pytest.FixtureRequest) -> AsyncIterator[Site]:
    library, way = request.param
    adapter = {"httpx": tokenward.httpx, "httpx2": tokenward.httpx2}[library]
    site = Site({"httpx": httpx, "httpx2": httpx2}[library], adapter, way == "sync")
    yield site
    for client in site.open:
        await client.aclose() if not site.sync else client.close()


async def test_the_token_is_on_the_call(site: Site) -> None:
    await site.call(site.client(), "GET", f"{API}/x")
    assert site.seen == [("GET", f"{API}/x", "Bearer token-0")]


async def test_a_plain_token_is_a_source(site: Site) -> None:
    auth = site.adapter.TokenAuth(token("plain"), origins=API)
    site.script.append((401, BEARER))
    answer = await site.call(site.client(auth), "GET", API)
    assert answer.status_code == 401
    assert site.tokens == ["Bearer plain"]
    assert answer.extensions[NOT_RESENT] == "same_token"


# ------------------------------------------------------------------ where it may go


@pytest.mark.case(353)
@pytest.mark.parametrize(
    "url",
    [
        pytest.param("https://evil.test/", id="host"),
        pytest.param("https://api.test:8443/", id="port"),
        pytest.param("https://sub.api.test/", id="sub-domain"),
        pytest.param("https://api.test.evil.test/", id="suffix"),
        pytest.param("https://xapi.test/", id="prefix"),
        pytest.param("https://api.test./", id="dot"),
        pytest.param("https://аpi.test/", id="look-alike"),  # noqa: RUF001 - that is the point
        pytest.param("http://api.test/", id="http", marks=pytest.mark.case(354)),
        pytest.param("http://api.test:443/", id="http-443", marks=pytest.mark.case(354)),
    ],
)
async def test_a_call_to_another_origin_is_not_sent(site: Site, url: str) -> None:
    with pytest.raises(CallRefused) as refused:
        await site.call(site.client(), "GET", url)
    assert refused.value.reason == "origin"
    assert site.seen == []
    assert site.source.rejected == []


@pytest.mark.case(353)
@pytest.mark.parametrize("url", [f"{API}:443/", "https://API.test/", "/x"])
async def test_the_same_origin_in_other_words_is_the_same(site: Site, url: str) -> None:
    await site.call(site.client(base_url=API), "GET", url)
    assert site.tokens == ["Bearer token-0"]


async def test_several_origins_may_get_the_token(site: Site) -> None:
    client = site.client(site.auth(origins=[API, "https://[2001:db8::1]:8443"]))
    await site.call(client, "GET", "https://[2001:db8::1]:8443/")
    assert site.tokens == ["Bearer token-0"]


@pytest.mark.case(354)
async def test_http_is_for_loopback_and_allowed_by_name(site: Site) -> None:
    for origin in ("http://api.test", "http://localhost:8001"):
        with pytest.raises(ConfigurationError):
            site.auth(origins=origin)
    with pytest.raises(ConfigurationError):
        site.auth(origins="http://api.test", dangerously_allow_http=True)
    auth = site.auth(origins="http://localhost:8001", dangerously_allow_http=True)
    await site.call(site.client(auth), "GET", "http://localhost:8001/")
    assert site.tokens == ["Bearer token-0"]


@pytest.mark.parametrize("origins", ["", [], "api.test", "https://api.test/path", "https://*.test"])
async def test_what_is_no_origin_is_refused_at_once(site: Site, origins: object) -> None:
    with pytest.raises(ConfigurationError):
        site.auth(origins=origins)


@pytest.mark.case(358)
async def test_a_url_that_names_a_user_is_refused(site: Site) -> None:
    with pytest.raises(CallRefused) as refused:
        await site.call(site.client(), "GET", "https://user:pa55word-1234567@api.test/")
    assert refused.value.reason == "userinfo"
    assert "pa55word" not in str(refused.value)
    assert site.seen == []


@pytest.mark.case(357)
async def test_an_authorization_of_the_callers_own_is_refused(site: Site) -> None:
    with pytest.raises(CallRefused) as refused:
        await site.call(site.client(), "GET", API, headers={"Authorization": "Basic eA=="})
    assert refused.value.reason == "authorization"
    assert site.seen == []


@pytest.mark.case(357)
async def test_or_kept_as_it_is_when_that_is_wanted(site: Site) -> None:
    site.script.append((401, BEARER))
    client = site.client(site.auth(keep_authorization=True))
    answer = await site.call(client, "GET", API, headers={"Authorization": "Basic eA=="})
    assert answer.status_code == 401
    assert site.tokens == ["Basic eA=="]
    await site.call(client, "GET", API)
    assert site.tokens == ["Basic eA==", "Bearer token-0"]


async def test_a_request_that_was_built_once_can_be_sent_again(site: Site) -> None:
    client = site.client()
    request = client.build_request("GET", API)
    for _ in range(2):
        await (asyncio.to_thread(client.send, request) if site.sync else client.send(request))
    assert site.tokens == ["Bearer token-0"] * 2


@pytest.mark.case(355)
@pytest.mark.parametrize(
    ("target", "expected"),
    [
        pytest.param("https://evil.test/", None, id="host"),
        pytest.param("https://api.test:8443/", None, id="port"),
        pytest.param("https://sub.api.test/", None, id="sub-domain"),
        pytest.param("http://api.test/", None, id="http"),
        pytest.param("/other", "Bearer token-0", id="same-origin"),
    ],
)
async def test_a_redirect_to_another_origin_loses_the_token(
    site: Site, target: str, expected: str | None
) -> None:
    site.script.append((302, {"location": target}))
    await site.call(site.client(follow_redirects=True), "GET", f"{API}/")
    assert site.tokens == ["Bearer token-0", expected]


@pytest.mark.case(355)
async def test_redirects_are_not_followed_unless_told(site: Site) -> None:
    site.script.append((302, {"location": "https://evil.test/"}))
    answer = await site.call(site.client(), "GET", API)
    assert (answer.status_code, len(site.seen)) == (302, 1)


@pytest.mark.case(356)
@pytest.mark.parametrize("target", ["https://evil.test/", "/other"])
async def test_the_401_of_a_redirects_target_renews_nothing(site: Site, target: str) -> None:
    site.script.extend([(302, {"location": target}), (401, BEARER)])
    answer = await site.call(site.client(follow_redirects=True), "POST", f"{API}/", json={})
    assert answer.status_code == 401
    assert answer.extensions[NOT_RESENT] == "redirected"
    assert len(site.seen) == 2
    assert site.source.rejected == [None]


# ------------------------------------------------------------------------- 401


@pytest.mark.case(359)
async def test_a_401_is_one_renewal_and_one_more_call(site: Site) -> None:
    site.script.append((401, BEARER))
    answer = await site.call(site.client(), "GET", API)
    assert answer.status_code == 200
    assert site.tokens == ["Bearer token-0", "Bearer token-1"]
    assert site.source.rejected == [None, "token-0"]


@pytest.mark.case(359)
async def test_a_second_401_is_the_callers(site: Site) -> None:
    site.script.extend([(401, BEARER)] * 5)
    answer = await site.call(site.client(), "GET", API)
    assert answer.status_code == 401
    assert len(site.seen) == 2
    assert site.source.rejected == [None, "token-0"]


@pytest.mark.case(360)
@pytest.mark.parametrize(
    ("status", "challenge", "sends"),
    [
        pytest.param(403, 'Bearer error="insufficient_scope"', 1, id="403"),
        pytest.param(403, 'Bearer error="invalid_token"', 1, id="403-whatever-it-says"),
        pytest.param(401, 'Bearer error="insufficient_scope"', 1, id="scope"),
        pytest.param(401, 'Bearer error="invalid_request"', 1, id="invalid_request"),
        pytest.param(401, 'Basic realm="proxy"', 1, id="basic"),
        pytest.param(401, 'Basic realm="a, Bearer b", charset="UTF-8"', 1, id="in-quotes"),
        pytest.param(401, "Negotiate", 1, id="negotiate"),
        pytest.param(401, None, 2, id="nothing-said"),
        pytest.param(401, "Bearer", 2, id="bearer"),
        pytest.param(401, 'bearer realm="a"', 2, id="case"),
        pytest.param(401, 'Basic realm="a", Bearer realm="b"', 2, id="second"),
        pytest.param(500, 'Bearer error="invalid_token"', 1, id="500"),
    ],
)
async def test_only_a_401_that_another_token_may_cure_is_answered_with_one(
    site: Site, status: int, challenge: str | None, sends: int
) -> None:
    headers = {"www-authenticate": challenge} if challenge else {}
    site.script.extend([(status, headers)] * 3)
    answer = await site.call(site.client(), "GET", API)
    assert answer.status_code == status
    assert len(site.seen) == sends
    assert len(site.source.rejected) == sends


@pytest.mark.parametrize(
    "text", ['"' * 5000, "a" * 20000, "Bearer " * 5000, "," * 20000, '\\"' * 9999]
)
def test_challenges_are_read_in_no_time(text: str) -> None:
    is_about_token([text])


async def test_the_same_token_is_not_sent_twice(site: Site) -> None:
    site.source.renews = False
    site.script.append((401, BEARER))
    answer = await site.call(site.client(), "GET", API)
    assert (answer.status_code, len(site.seen)) == (401, 1)
    assert answer.extensions[NOT_RESENT] == "same_token"


@pytest.mark.case(363)
async def test_a_body_that_is_a_stream_is_not_sent_again(site: Site) -> None:
    def chunks() -> Iterator[bytes]:
        yield b"one"

    async def achunks() -> AsyncIterator[bytes]:
        yield b"one"

    for content in (chunks() if site.sync else achunks(), None):
        site.script.append((401, BEARER))
        files = {} if content else {"files": {"f": io.BytesIO(b"file")}}
        answer = await site.call(site.client(), "POST", API, content=content, **files)
        assert answer.status_code == 401
        assert answer.extensions[NOT_RESENT] == "body"
    assert len(site.seen) == 2
    assert site.source.rejected == [None, None]


@pytest.mark.case(364)
async def test_a_post_is_made_again_with_the_same_body(site: Site) -> None:
    site.script.append((401, BEARER))
    answer = await site.call(site.client(), "POST", API, json={"a": 1})
    assert answer.status_code == 200
    assert len(site.bodies) == 2
    assert site.bodies[0] == site.bodies[1] != b""


@pytest.mark.case(364)
async def test_unless_that_is_switched_off(site: Site) -> None:
    client = site.client(site.auth(resend_unsafe_methods=False))
    site.script.append((401, BEARER))
    answer = await site.call(client, "POST", API, json={"a": 1})
    assert answer.extensions[NOT_RESENT] == "method"
    site.script.append((401, BEARER))
    assert (await site.call(client, "GET", API)).status_code == 200
    assert [method for method, _, _ in site.seen] == ["POST", "GET", "GET"]


# --------------------------------------------------------------------- no token


@pytest.mark.case(366)
@pytest.mark.parametrize("failure", [TokenUnavailable("down"), NotAuthenticated()])
async def test_without_a_token_nothing_is_sent(site: Site, failure: Exception) -> None:
    site.source.failure = failure
    with pytest.raises(type(failure)):
        await site.call(site.client(), "GET", API)
    assert site.seen == []


async def test_a_renewal_that_fails_is_raised(site: Site) -> None:
    def refuse_and_break(request: Any) -> Any:
        site.source.failure = TokenUnavailable("down")
        return site.library.Response(401, headers=BEARER)

    kind = site.library.Client if site.sync else site.library.AsyncClient
    client = kind(auth=site.auth(), transport=site.library.MockTransport(refuse_and_break))
    with pytest.raises(TokenUnavailable):
        await site.call(client, "GET", API)


@pytest.mark.case(366)
async def test_outside_of_a_request_there_is_no_current_user(site: Site) -> None:
    auth = site.adapter.UserTokenAuth(origins=API)
    with pytest.raises(NotAuthenticated, match="no request"):
        await site.call(site.client(auth), "GET", API)
    assert site.seen == []


@pytest.mark.case(375)
@pytest.mark.parametrize("error", ["ConnectError", "ReadTimeout", "RemoteProtocolError"])
async def test_what_the_network_does_passes_through(site: Site, error: str) -> None:
    sent = []

    def fail(request: Any) -> Any:
        sent.append(request)
        raise getattr(site.library, error)("broken")

    kind = site.library.Client if site.sync else site.library.AsyncClient
    client = kind(auth=site.auth(), transport=site.library.MockTransport(fail))
    with pytest.raises(getattr(site.library, error)):
        await site.call(client, "GET", API)
    assert len(sent) == 1
    assert site.source.rejected == [None]


@pytest.mark.case(377)
async def test_a_token_that_ends_on_its_way_is_replaced_after_the_401(site: Site) -> None:
    site.script.append((401, {"www-authenticate": 'Bearer error="invalid_token"'}))
    answer = await site.call(site.client(), "PUT", API, content=b"x" * 100_000)
    assert answer.status_code == 200
    assert [len(body) for body in site.bodies] == [100_000, 100_000]


# ---------------------------------------------------------------- the other classes


async def test_a_registered_client_calls_as_itself(site: Site) -> None:
    def op(request: httpx.Request) -> httpx.Response:
        body = {"access_token": "of-the-app", "token_type": "Bearer", "expires_in": 60}
        return httpx.Response(200, json=body)

    tokens = ClientCredentialsTokens()
    registration = ClientCredentials(
        "m2m",
        token_endpoint="https://op.test/token",
        http=httpx.AsyncClient(transport=httpx.MockTransport(op)),
        sync_http=httpx.Client(transport=httpx.MockTransport(op)),
    )
    tokens.add("app", registration)
    auth = site.adapter.ClientCredentialsAuth(tokens, "app", origins=API, scope="a")
    await site.call(site.client(auth), "GET", API)
    assert site.tokens == ["Bearer of-the-app"]
    with pytest.raises(ConfigurationError, match="no client"):
        site.adapter.ClientCredentialsAuth(tokens, "unknown", origins=API)


async def test_an_exchange_says_itself_what_it_is_for(site: Site) -> None:
    with pytest.raises(ConfigurationError) as refused:
        site.adapter.UserTokenAuth(origins=API, exchange=Exchange(audience="x"), scope="y")
    assert refused.value.setting == "exchange"


# ------------------------------------------------------------------- the wrong kind


class AsyncOnly:
    async def token(self, *, rejected: AccessToken | None = None) -> AccessToken:
        return token("async")


class SyncOnly:
    def token_sync(self, *, rejected: AccessToken | None = None) -> AccessToken:
        return token("sync")


@pytest.mark.case(373)
async def test_a_client_of_the_wrong_kind_is_told_so(site: Site) -> None:
    wrong = AsyncOnly() if site.sync else SyncOnly()
    right = SyncOnly() if site.sync else AsyncOnly()
    with pytest.raises(TypeError, match=r"AsyncClient"):
        await site.call(site.client(site.adapter.TokenAuth(wrong, origins=API)), "GET", API)
    await site.call(site.client(site.adapter.TokenAuth(right, origins=API)), "GET", API)
    assert len(site.seen) == 1


# --------------------------------------------------------------------- on a socket


@pytest.mark.case(378)
@pytest.mark.parametrize(
    ("library", "adapter"), [(httpx, tokenward.httpx), (httpx2, tokenward.httpx2)]
)
async def test_a_call_that_is_cancelled_while_it_renews_leaves_no_connection(
    library: ModuleType, adapter: ModuleType
) -> None:
    renewing = asyncio.Event()

    class Slow:
        async def token(self, *, rejected: AccessToken | None = None) -> AccessToken:
            if rejected:
                renewing.set()
                await asyncio.Event().wait()
            return token("t")

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 401 No\r\ncontent-length: 5\r\n\r\nab")
        await writer.drain()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    origin = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    auth = adapter.TokenAuth(Slow(), origins=origin, dangerously_allow_http=True)
    async with server, library.AsyncClient(auth=auth) as client:
        call = asyncio.create_task(client.get(origin))
        await renewing.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert client._transport._pool.connections == []


@pytest.mark.case(374)
@pytest.mark.parametrize(
    ("library", "adapter"), [(httpx, tokenward.httpx), (httpx2, tokenward.httpx2)]
)
async def test_the_libraries_log_no_token(
    library: ModuleType, adapter: ModuleType, caplog: pytest.LogCaptureFixture
) -> None:
    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nab")
        await writer.drain()
        writer.close()

    shown: list[str] = []

    async def hook(request: Any) -> None:
        shown.append(f"{request} {request.headers}")

    secret = token("a-token-that-nobody-shall-see-0123456789")
    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    origin = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    auth = adapter.TokenAuth(secret, origins=origin, dangerously_allow_http=True)
    with caplog.at_level(logging.DEBUG):
        async with server, library.AsyncClient(auth=auth, event_hooks={"request": [hook]}) as http:
            await http.get(origin)
    assert caplog.records
    assert secret.value not in "".join(shown) + caplog.text
