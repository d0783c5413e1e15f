"""What goes over the wire, and what never does."""

from __future__ import annotations

import asyncio
import gzip
import socket
import ssl
import subprocess
import sys
import traceback
import tracemalloc
import zlib
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx
import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tokenward.errors import ProviderUnavailable
from tokenward.secret import Secret
from tokenward.transport import Request, Response, new_async_client, send, send_sync

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

CANARY = "canary-refresh-token-0815"


@pytest.fixture(params=[httpx, httpx2], ids=["httpx", "httpx2"])
def library(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
async def http(library: Any) -> AsyncIterator[Any]:
    async with library.AsyncClient(trust_env=False) as client:
        yield client


def get(url: str) -> Request:
    return Request("GET", url)


def post(url: str) -> Request:
    return Request(
        "POST",
        url,
        headers={
            "content-type": "application/x-www-form-urlencoded",
            "authorization": Secret(f"Basic {CANARY}"),
        },
        body=Secret(f"refresh_token={CANARY}"),
    )


async def ask(http: Any, request: Request, **options: Any) -> Response:
    settings = {"deadline": 5.0, "max_bytes": 1000, "sleep": no_pause, "jitter": lambda: 0.5}
    return await send(http, request, **(settings | options))


async def no_pause(seconds: float) -> None:
    assert 0.05 <= seconds <= 0.2


async def fails(http: Any, request: Request, **options: Any) -> ProviderUnavailable:
    with pytest.raises(ProviderUnavailable) as caught:
        await ask(http, request, **options)
    assert_nothing_leaks(caught.value)
    return caught.value


def assert_nothing_leaks(error: BaseException) -> None:
    assert error.__context__ is None
    assert error.__cause__ is None
    told = traceback.TracebackException.from_exception(error, capture_locals=True)
    ours = [frame for frame in told.stack if "/src/tokenward/" in frame.filename]
    assert CANARY not in repr([(frame.line, frame.locals) for frame in ours if frame.locals])
    assert CANARY not in f"{error} {error.args!r} {vars(error)!r}"


@pytest.fixture
def refused_url() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/"


# --- what is sent


async def test_the_request_is_sent_as_it_is_and_the_answer_comes_back_whole(
    wire: Any, http: Any
) -> None:
    wire.answers = [lambda it: it.answer(b'{"a":1}', status="400 Bad", headers=("X-One: 1",))]
    response = await ask(http, post(wire.url + "/token"))
    assert (response.status, response.body, response.headers["x-one"]) == (400, b'{"a":1}', "1")
    (sent,) = wire.exchanges
    assert sent.head.startswith(b"POST /token HTTP/1.1")
    assert sent.body == f"refresh_token={CANARY}".encode()
    assert sent.headers["authorization"] == f"Basic {CANARY}"
    assert sent.headers["accept"] == "application/json"
    assert sent.headers["accept-encoding"] == "identity"


@pytest.mark.case(173)
async def test_cookies_of_the_provider_are_neither_kept_nor_sent(wire: Any, library: Any) -> None:
    wire.answers = [lambda it: it.answer(headers=("Set-Cookie: op=1; Path=/", "Set-Cookie: b=2"))]
    async with library.AsyncClient(cookies={"mine": "1"}, headers={"cookie": "raw=1"}) as http:
        for _ in range(2):
            response = await ask(http, get(wire.url))
            assert "set-cookie" not in response.headers
        assert dict(http.cookies) == {"mine": "1"}
    assert all("cookie" not in exchange.headers for exchange in wire.exchanges)


@pytest.mark.case(174)
async def test_credentials_of_the_client_and_of_netrc_are_never_sent(
    wire: Any, library: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login alice password from-netrc\n")
    monkeypatch.setenv("NETRC", str(netrc))
    wire.answers = [lambda it: it.answer()]
    async with library.AsyncClient(auth=("a", "b"), headers={"authorization": "x"}) as http:
        await ask(http, get(wire.url))
    async with library.AsyncClient(auth=library.NetRCAuth(str(netrc))) as http:
        await ask(http, get(wire.url))
    assert all("authorization" not in exchange.headers for exchange in wire.exchanges)


async def test_the_clients_own_headers_go_along_and_its_hooks_do_not_see_the_call(
    wire: Any, library: Any
) -> None:
    async def hook(_: object) -> None:
        raise AssertionError

    wire.answers = [lambda it: it.answer(status="400 Bad")]
    hooks = {"request": [hook], "response": [hook]}
    async with library.AsyncClient(event_hooks=hooks, headers={"x-gateway": "1"}) as http:
        assert (await ask(http, get(wire.url))).status == 400
        assert http.event_hooks == hooks
    assert wire.exchanges[0].headers["x-gateway"] == "1"


@pytest.mark.case(154)
@pytest.mark.case(155)
@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary", "308 Permanent"])
async def test_a_redirect_is_an_answer_and_is_not_followed(
    wire: Any, library: Any, status: str
) -> None:
    wire.answers = [lambda it: it.answer(status=status, headers=("Location: /elsewhere",))]
    async with library.AsyncClient(follow_redirects=True) as http:
        response = await ask(http, post(wire.url + "/token"))
    assert response.status == int(status[:3])
    assert [exchange.path for exchange in wire.exchanges] == ["/token"]


# --- how much, and how long


async def flood(it: Any) -> None:
    await it.say(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    while True:
        await it.say(b"400\r\n" + b" " * 1024 + b"\r\n")


def bomb(encoding: str, body: bytes) -> Callable[[Any], Any]:
    return lambda it: it.answer(body, headers=(f"content-encoding: {encoding}",))


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(flood, id="endless", marks=pytest.mark.case(158)),
        pytest.param(
            bomb("gzip", gzip.compress(b" " * 50_000_000)), id="gzip", marks=pytest.mark.case(159)
        ),
        pytest.param(
            bomb("deflate", zlib.compress(b" " * 9_000_000)),
            id="deflate",
            marks=pytest.mark.case(159),
        ),
        pytest.param(lambda it: it.answer(b" " * 1001), id="one-byte-too-many"),
        pytest.param(bomb("gzip", gzip.compress(b" " * 1001)), id="one-decoded-byte-too-many"),
    ],
)
async def test_an_answer_that_is_too_large_is_given_up(wire: Any, http: Any, answer: Any) -> None:
    wire.answers = [answer]
    error = await fails(http, post(wire.url))
    assert "larger than 1000 bytes" in str(error)
    assert error.may_have_been_sent


@pytest.mark.parametrize(
    ("encoding", "encode"),
    [("gzip", gzip.compress), ("deflate", zlib.compress), ("identity", bytes), ("", bytes)],
)
async def test_an_encoded_answer_is_read_though_identity_was_asked_for(
    wire: Any, http: Any, encoding: str, encode: Any
) -> None:
    body = b" " * 1000
    wire.answers = [bomb(encoding, encode(body))]
    assert (await ask(http, get(wire.url))).body == body


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(bomb("br", b"xx"), id="brotli"),
        pytest.param(bomb("gzip, gzip", b"xx"), id="twice"),
        pytest.param(bomb("gzip", b"junk"), id="not-gzip"),
        pytest.param(bomb("gzip", gzip.compress(b"{}" * 50)[:-9]), id="gzip-cut"),
    ],
)
async def test_an_answer_that_cannot_be_decoded_is_no_answer(
    wire: Any, http: Any, answer: Any
) -> None:
    wire.answers = [answer]
    assert (await fails(http, post(wire.url))).may_have_been_sent


async def dribble_body(it: Any) -> None:
    await it.say(b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n")
    await dribble(it)


async def dribble(it: Any) -> None:
    while True:
        await it.say(b"x")
        await asyncio.sleep(0.01)


async def silence(_: Any) -> None:
    await asyncio.Event().wait()


@pytest.mark.case(160)
@pytest.mark.parametrize("answer", [dribble_body, dribble, silence])
async def test_the_deadline_is_for_the_whole_call_not_for_each_byte(
    wire: Any, http: Any, answer: Any
) -> None:
    wire.answers = [answer]
    error = await fails(http, post(wire.url), deadline=0.5)
    assert "no answer within 0.5 seconds" in str(error)
    assert error.may_have_been_sent
    assert len(wire.exchanges) == 1


@pytest.mark.parametrize(
    ("seen", "maybe_sent"),
    [
        pytest.param([], True, id="nothing-is-known"),
        pytest.param([("connection.connect_tcp.started", b"POST")], False, id="connecting"),
        pytest.param(
            [
                ("connection.connect_tcp.started", b"POST"),
                ("http11.send_request_headers.started", b"CONNECT"),
            ],
            False,
            id="asking-the-proxy",
        ),
        pytest.param(
            [
                ("connection.connect_tcp.started", b"POST"),
                ("http11.send_request_headers.started", b"POST"),
            ],
            True,
            id="sending",
        ),
    ],
)
async def test_a_deadline_tells_whether_sending_had_begun(
    library: Any, seen: list[tuple[str, bytes]], maybe_sent: bool
) -> None:
    class Told:
        def __init__(self, method: bytes) -> None:
            self.method = method

    async def handler(request: Any) -> Any:
        for event, method in seen:
            await request.extensions["trace"](event, {"request": Told(method)})
        await asyncio.Event().wait()

    async with library.AsyncClient(transport=library.MockTransport(handler)) as http:
        error = await fails(http, post("https://op.test/"), deadline=0.5)
    assert error.may_have_been_sent is maybe_sent


@pytest.mark.case(159)
async def test_a_bomb_is_never_unpacked_beyond_the_bound(wire: Any, http: Any) -> None:
    body = gzip.compress(bytes(50_000_000))
    wire.answers = [bomb("gzip", body)]
    tracemalloc.start()
    try:
        await fails(http, get(wire.url))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 5_000_000


async def test_a_get_whose_answer_had_begun_is_not_sent_again(wire: Any, http: Any) -> None:
    async def cut(it: Any) -> None:
        await it.say(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n123")
        it.writer.close()

    wire.answers = [cut]
    await fails(http, get(wire.url))
    assert len(wire.exchanges) == 1


async def test_cancelling_the_caller_is_not_turned_into_an_error(wire: Any, http: Any) -> None:
    arrived = asyncio.Event()

    async def answer(it: Any) -> None:
        arrived.set()
        await silence(it)

    wire.answers = [answer]
    call = asyncio.create_task(ask(http, get(wire.url)))
    await arrived.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


# --- what fails, and what is tried again


@pytest.mark.case(79)
@pytest.mark.case(209)
async def test_a_refused_connection_is_tried_twice_and_nothing_was_sent(
    http: Any, refused_url: str
) -> None:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    error = await fails(http, post(refused_url), sleep=sleep, jitter=lambda: 1.0)
    assert pauses == [0.2]
    assert not error.may_have_been_sent
    assert error.retry_after > 0


@pytest.mark.case(209)
async def test_a_post_is_sent_when_the_second_connection_is_made(library: Any) -> None:
    seen: list[bytes] = []

    def handler(request: Any) -> Any:
        seen.append(request.content)
        if len(seen) == 1:
            raise library.ConnectError("refused", request=request)
        return library.Response(200, json={})

    async with library.AsyncClient(transport=library.MockTransport(handler)) as http:
        assert (await ask(http, post("https://op.test/token"))).status == 200
    assert seen == [f"refresh_token={CANARY}".encode()] * 2


def raising(library: Any, name: str, calls: list[str]) -> Any:
    def handler(request: Any) -> Any:
        calls.append(request.method)
        raise getattr(library, name)(f"{CANARY}", request=request)

    return library.AsyncClient(transport=library.MockTransport(handler))


@pytest.mark.parametrize(
    ("name", "method", "attempts", "maybe_sent"),
    [
        ("ConnectError", "POST", 2, False),
        ("ConnectTimeout", "POST", 1, False),
        ("PoolTimeout", "POST", 1, False),
        ("ProxyError", "POST", 1, False),
        ("UnsupportedProtocol", "POST", 1, False),
        ("ReadTimeout", "POST", 1, True),
        ("WriteTimeout", "POST", 1, True),
        ("ReadError", "POST", 1, True),
        ("WriteError", "POST", 1, True),
        ("RemoteProtocolError", "POST", 1, True),
        ("LocalProtocolError", "POST", 1, True),
        ("DecodingError", "POST", 1, True),
        ("ReadError", "GET", 2, True),
        ("RemoteProtocolError", "GET", 2, True),
        ("WriteError", "GET", 2, True),
        ("ReadTimeout", "GET", 1, True),
    ],
)
@pytest.mark.case(406)
async def test_only_what_was_never_sent_or_can_be_repeated_is_sent_again(
    library: Any, name: str, method: str, attempts: int, maybe_sent: bool
) -> None:
    calls: list[str] = []
    async with raising(library, name, calls) as http:
        request = (get if method == "GET" else post)("https://op.test/")
        error = await fails(http, request)
    assert len(calls) == attempts
    assert error.may_have_been_sent is maybe_sent
    assert name in str(error)
    assert "op.test" in str(error)


async def test_any_exception_of_a_transport_is_an_outage(library: Any) -> None:
    def handler(request: Any) -> Any:
        raise ConnectionResetError(request.content)

    async with library.AsyncClient(transport=library.MockTransport(handler)) as http:
        assert (await fails(http, post("https://op.test/"))).may_have_been_sent


@pytest.mark.case(80)
@pytest.mark.case(210)
async def test_a_reset_after_sending_is_ambiguous_and_never_repeated(wire: Any, http: Any) -> None:
    async def answer(it: Any) -> None:
        it.reset()

    wire.answers = [answer]
    assert (await fails(http, post(wire.url))).may_have_been_sent
    assert len(wire.exchanges) == 1


async def test_a_handshake_that_never_ends_is_known_not_to_have_sent_anything(
    http: Any,
) -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        url = f"https://127.0.0.1:{deaf.getsockname()[1]}/"
        error = await fails(http, post(url), deadline=1.0, sleep=no_pause)
    assert not error.may_have_been_sent


@pytest.fixture(scope="module")
def self_signed(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    """A server's context with a certificate that nobody vouches for."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime(2026, 1, 1, tzinfo=UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=36500))
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    path.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        + certificate.public_bytes(Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


@pytest.mark.case(161)
async def test_a_certificate_that_nobody_vouches_for_ends_the_call_before_it_is_sent(
    http: Any, self_signed: ssl.SSLContext
) -> None:
    received: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.append(await reader.read(1))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=self_signed)
    async with server:
        port = server.sockets[0].getsockname()[1]
        error = await fails(http, post(f"https://127.0.0.1:{port}/"))
    assert not error.may_have_been_sent
    assert received == []


@pytest.mark.case(161)
async def test_a_name_that_cannot_be_resolved_is_an_outage(http: Any) -> None:
    error = await fails(http, post("https://op.invalid/"))
    assert not error.may_have_been_sent


@pytest.mark.case(176)
async def test_a_get_survives_a_keep_alive_connection_that_breaks(wire: Any, http: Any) -> None:
    async def reset(it: Any) -> None:
        it.reset()

    wire.answers = [lambda it: it.answer(), reset, lambda it: it.answer(b"[2]")]
    await ask(http, get(wire.url))
    assert (await ask(http, get(wire.url))).body == b"[2]"
    assert wire.connections == 2


@pytest.mark.case(213)
async def test_a_post_on_a_keep_alive_connection_that_breaks_is_ambiguous(
    wire: Any, http: Any
) -> None:
    async def reset(it: Any) -> None:
        it.reset()

    wire.answers = [lambda it: it.answer(), reset, lambda it: it.answer(b"[2]")]
    await ask(http, get(wire.url))
    assert (await fails(http, post(wire.url))).may_have_been_sent
    assert len(wire.exchanges) == 2


TOKEN_ANSWER = b'{"access_token":"a","token_type":"Bearer","refresh_token":"r","expires_in":60}'


def framed(chunked: bool) -> bytes:
    if chunked:
        middle = len(TOKEN_ANSWER) // 2
        parts = (TOKEN_ANSWER[:middle], TOKEN_ANSWER[middle:], b"")
        chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
        return b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + chunks
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(TOKEN_ANSWER), TOKEN_ANSWER)


@pytest.mark.case(211)
@pytest.mark.parametrize("chunked", [False, True], ids=["content-length", "chunked"])
async def test_an_answer_cut_at_any_byte_is_no_answer(wire: Any, http: Any, chunked: bool) -> None:
    whole = framed(chunked)

    def cut(at: int) -> Callable[[Any], Any]:
        async def answer(it: Any) -> None:
            await it.say(whole[:at])
            it.writer.close()

        return answer

    wire.answers = [cut(at) for at in range(len(whole))] + [cut(len(whole))]
    for _ in range(len(whole)):
        with pytest.raises(ProviderUnavailable) as caught:
            await ask(http, post(wire.url))
        assert caught.value.may_have_been_sent
    assert (await ask(http, post(wire.url))).body == TOKEN_ANSWER


@pytest.mark.case(442)
@pytest.mark.case(443)
async def test_faults_leave_neither_tasks_nor_connections(wire: Any, http: Any) -> None:
    async def reset(it: Any) -> None:
        it.reset()

    ours = asyncio.all_tasks()
    for fault in [flood, reset, dribble_body] * 5:
        wire.answers = [fault]
        await fails(http, post(wire.url), deadline=0.5)
    limits = http._transport._pool
    assert limits.connections == []
    wire.answers = [lambda it: it.answer()]
    await ask(http, get(wire.url))
    left = {task for task in asyncio.all_tasks() - ours if "serve" not in repr(task)}
    assert left == set()


# --- clients


async def test_a_client_of_the_wrong_kind_is_refused(library: Any) -> None:
    with library.Client() as sync, pytest.raises(TypeError, match="AsyncClient"):
        await ask(sync, get("https://op.test/"))
    with pytest.raises(TypeError, match="not str"):
        await ask("client", get("https://op.test/"))
    async with library.AsyncClient() as http:
        with pytest.raises(TypeError, match="the Client of"):
            send_sync(http, get("https://op.test/"), deadline=1, max_bytes=1)


async def test_a_closed_client_is_misuse_and_not_an_outage(library: Any) -> None:
    http = library.AsyncClient()
    await http.aclose()
    with pytest.raises(RuntimeError, match="closed"):
        await ask(http, get("https://op.test/"))


@pytest.mark.case(213)
async def test_our_own_client_drops_connections_before_servers_do() -> None:
    async with new_async_client() as http:
        assert http._transport._pool._keepalive_expiry == 5.0  # type: ignore[attr-defined]


async def test_our_own_client_keeps_no_cookies_and_follows_nothing(wire: Any) -> None:
    wire.answers = [
        lambda it: it.answer(status="302 Found", headers=("Location: /x", "Set-Cookie: a=b"))
    ]
    async with new_async_client() as http:
        assert (await http.get(wire.url)).status_code == 302
        await http.get(wire.url)
    assert "cookie" not in wire.exchanges[1].headers
    assert wire.exchanges[0].headers["user-agent"] == "tokenward"


def test_requests_and_responses_show_no_secrets() -> None:
    shown = repr(post("https://op.test/")) + repr(Response(200, {"x": CANARY}, CANARY.encode()))
    assert CANARY not in shown


# --- without an event loop


async def ask_sync(library: Any, request: Request, **options: Any) -> Response:
    settings: dict[str, Any] = {
        "deadline": 5.0,
        "max_bytes": 1000,
        "sleep": lambda _: None,
        "jitter": lambda: 0.5,
    }
    settings |= options

    def work() -> Response:
        with library.Client(trust_env=False) as http:
            return send_sync(http, request, **settings)

    return await asyncio.to_thread(work)


async def test_a_worker_gets_the_same_answers(wire: Any, library: Any) -> None:
    wire.answers = [bomb("gzip", gzip.compress(b"[]")), lambda it: it.answer(b" " * 1001)]
    assert (await ask_sync(library, post(wire.url))).body == b"[]"
    with pytest.raises(ProviderUnavailable, match="larger than 1000") as caught:
        await ask_sync(library, post(wire.url))
    assert_nothing_leaks(caught.value)


async def test_a_worker_tries_a_refused_connection_twice(library: Any, refused_url: str) -> None:
    pauses: list[float] = []
    with pytest.raises(ProviderUnavailable) as caught:
        await ask_sync(library, post(refused_url), sleep=pauses.append, jitter=lambda: 0.0)
    assert pauses == [0.05]
    assert not caught.value.may_have_been_sent
    assert_nothing_leaks(caught.value)


@pytest.mark.parametrize("answer", [dribble_body, silence])
async def test_a_worker_waits_no_longer_than_the_deadline(
    wire: Any, library: Any, answer: Any
) -> None:
    wire.answers = [answer]
    with pytest.raises(ProviderUnavailable) as caught:
        await ask_sync(library, post(wire.url), deadline=0.5)
    assert caught.value.may_have_been_sent


async def test_every_phase_of_a_workers_call_gets_what_is_left_of_the_deadline(
    library: Any,
) -> None:
    seen: list[float] = []
    now = 0.0

    def handler(request: Any) -> Any:
        nonlocal now
        trace, limits = request.extensions["trace"], request.extensions["timeout"]
        seen.append(limits["read"])
        now = 3.0
        trace("http11.receive_response_headers.started", {"request": request})
        seen.append(limits["read"])
        return library.Response(200, json={})

    with library.Client(transport=library.MockTransport(handler)) as http:
        send_sync(http, get("https://op.test/"), deadline=5, max_bytes=9, monotonic=lambda: now)
    assert seen == [5.0, 2.0]


def test_no_library_is_imported_by_the_transport() -> None:
    code = "import sys, tokenward.transport; print({'httpx', 'httpx2'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
