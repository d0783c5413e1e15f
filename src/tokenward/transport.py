"""One request value in, one response value out, over the caller's httpx or httpx2 client.

Whatever the client's own settings are, a call made here has one deadline for all
of it, a bound on the size of the answer, follows no redirect, uses no credentials
from a netrc file, and neither sends nor keeps a cookie. Proxies, certificates and
connections are those of the client.

Neither library is imported before a client of it is used.
"""

from __future__ import annotations

import asyncio
import copy
import random
import sys
import time
from dataclasses import dataclass, field
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING, Final, Literal, Protocol, TypeGuard, TypeVar, cast
from urllib.parse import urlsplit

from .bounded_body import BoundedBody, UnusableError
from .errors import ProviderUnavailable
from .protocol.client_auth import reveal_headers

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    import httpx

    from .secret import Secret

    _ClientT = TypeVar("_ClientT", bound="httpx.AsyncClient | httpx.Client")


class AsyncClient(Protocol):
    """The `AsyncClient` of httpx or of httpx2. Anything else raises `TypeError` when used.

    A protocol and no union, so that either library may be missing.
    """

    @property
    def is_closed(self) -> bool:
        """Whether it has been closed."""
        ...

    async def aclose(self) -> None:
        """Close it. Never called here: the client is the caller's."""
        ...


class SyncClient(Protocol):
    """The `Client` of httpx or of httpx2. Anything else raises `TypeError` when used."""

    @property
    def is_closed(self) -> bool:
        """Whether it has been closed."""
        ...

    def close(self) -> None:
        """Close it. Never called here: the client is the caller's."""
        ...


KEEPALIVE_EXPIRY: Final = 5.0
"""Seconds an idle connection is kept. Shorter than servers keep theirs, so that a
token call seldom meets a connection that is just being closed."""

_PAUSE: Final = (0.05, 0.2)
"""Shortest and longest pause before the second attempt, in seconds."""

_NO_CONNECTION: Final = "ConnectError"
_NEVER_SENT: Final = (
    _NO_CONNECTION,
    "ConnectTimeout",
    "PoolTimeout",
    "ProxyError",
    "UnsupportedProtocol",
)
_BROKEN: Final = ("ReadError", "WriteError", "CloseError", "RemoteProtocolError")


@dataclass(frozen=True, slots=True)
class Request:
    """What to send to the provider. Reusable: sending changes nothing of it."""

    method: Literal["GET", "POST"]
    url: str
    headers: Mapping[str, str | Secret] = field(default_factory=dict, repr=False)
    """Names in lower case. May hold the client's proof."""
    body: Secret | None = None
    """The encoded form, or a JSON object; None sends no body."""
    renew: Callable[[], Request] | None = field(default=None, repr=False)
    """Makes it anew for another try, with proofs that are good once. None: it stays as it is."""

    def again(self) -> Request:
        """Return the request for another try."""
        return self if self.renew is None else self.renew()


@dataclass(frozen=True, slots=True)
class Response:
    """What came back, whatever the status: a redirect is an answer like any other."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    """Names in lower case; repeated ones are joined by a comma. Without cookies."""
    body: bytes = field(repr=False)


async def send(
    http: AsyncClient,
    request: Request,
    *,
    deadline: float,
    max_bytes: int,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    jitter: Callable[[], float] = random.random,
) -> Response:
    """Send `request`, and return the whole answer within `deadline` seconds.

    A connection that is refused is tried once more after 50 to 200 ms, and so is a
    GET whose connection breaks before the answer begins. Nothing else is sent twice.
    Raises `ProviderUnavailable` when no answer came, when it is larger than
    `max_bytes` once decoded, or when it is cut; `may_have_been_sent` tells whether
    the provider may have acted. Raises `TypeError` for anything but an async client,
    `RuntimeError` for a closed one.
    """
    _expect(http, "AsyncClient")
    # The two libraries are one shape; below, httpx stands for both.
    view = _view(cast("httpx.AsyncClient", http))
    attempt = _Attempt(request, max_bytes)
    outcome: Response | _Failure
    try:
        async with asyncio.timeout(deadline):
            outcome = await _attempt_async(view, attempt, deadline)
            if attempt.deserves_another(outcome):
                await sleep(_pause(jitter))
                attempt = _Attempt(request.again(), max_bytes)
                outcome = await _attempt_async(view, attempt, deadline)
    except TimeoutError:
        outcome = _Failure(f"no answer within {deadline:g} seconds")
    return _result(outcome, attempt)


def send_sync(
    http: SyncClient,
    request: Request,
    *,
    deadline: float,
    max_bytes: int,
    sleep: Callable[[float], None] = time.sleep,
    jitter: Callable[[], float] = random.random,
    monotonic: Callable[[], float] = time.monotonic,
) -> Response:
    """Do what `send` does, for a worker without an event loop.

    The deadline is checked between the chunks of the answer, and no single wait
    for the network is allowed more than what is left of it when its phase
    (connect, send, head, body) begins. A server that dribbles can so hold the
    caller for longer than `deadline`, at most for twice as long in the body.
    """
    _expect(http, "Client")
    view = _view(cast("httpx.Client", http))
    attempt = _Attempt(request, max_bytes)
    ends_at = monotonic() + deadline
    outcome = _attempt_sync(view, attempt, lambda: ends_at - monotonic())
    if attempt.deserves_another(outcome) and monotonic() < ends_at:
        sleep(_pause(jitter))
        attempt = _Attempt(request.again(), max_bytes)
        outcome = _attempt_sync(view, attempt, lambda: ends_at - monotonic())
    return _result(outcome, attempt)


def is_async(http: AsyncClient | SyncClient) -> TypeGuard[AsyncClient]:
    """Tell which kind of client it is. Raises `TypeError` if it is none of httpx or httpx2."""
    for kind in ("AsyncClient", "Client"):
        if isinstance(http, _kinds(kind)):
            return kind == "AsyncClient"
    raise TypeError(f"expected a client of httpx or httpx2, not {type(http).__name__}")


def new_async_client() -> httpx.AsyncClient:
    """Return a client for calls to a provider, to be closed with `await client.aclose()`.

    Like every httpx client it obeys the proxy and certificate variables of the
    environment (`HTTPS_PROXY`, `NO_PROXY`, `SSL_CERT_FILE`). Making one takes some
    20 ms, for the certificates: make one, and keep it.
    """
    import httpx

    return httpx.AsyncClient(
        cookies=no_cookies(),
        follow_redirects=False,
        limits=httpx.Limits(keepalive_expiry=KEEPALIVE_EXPIRY),
        headers={"user-agent": "tokenward"},
    )


def new_sync_client() -> httpx.Client:
    """Return what `new_async_client` does, for a worker without an event loop."""
    import httpx

    return httpx.Client(
        cookies=no_cookies(),
        follow_redirects=False,
        limits=httpx.Limits(keepalive_expiry=KEEPALIVE_EXPIRY),
        headers={"user-agent": "tokenward"},
    )


@dataclass(frozen=True, slots=True)
class _Failure:
    """Why an attempt brought no answer."""

    problem: str
    """The name of the library's exception, or words of ours. Nothing of the exchange."""


class _Attempt:
    """One request on its way, and how far it has come."""

    def __init__(self, request: Request, max_bytes: int) -> None:
        self.request = request
        self.max_bytes = max_bytes
        self.begun = False
        self.answered = False
        self._watched = False
        self._sending = False
        self._limits: dict[str, float] = {}
        self._left: Callable[[], float] | None = None

    def failed(self, error: Exception) -> _Failure:
        if isinstance(error, UnusableError):
            return _Failure(str(error))
        return _Failure(type(error).__name__)

    def may_have_been_sent(self, failure: _Failure) -> bool:
        """Doubt counts as yes: a token that is spent twice may cost the session."""
        if not self.begun or failure.problem in _NEVER_SENT:
            return False
        return self._sending or not self._watched

    def deserves_another(self, outcome: Response | _Failure) -> bool:
        if isinstance(outcome, Response) or self.answered:
            return False
        if outcome.problem == _NO_CONNECTION:
            return not self._sending
        return self.request.method == "GET" and outcome.problem in _BROKEN

    def build(
        self,
        client: httpx.AsyncClient | httpx.Client,
        limits: dict[str, float],
        trace: Callable[[str, dict[str, object]], object],
    ) -> httpx.Request:
        """Merge with the client's own headers, and leave out what could identify somebody."""
        self._limits = limits
        built = client.build_request(
            self.request.method,
            self.request.url,
            content=None if self.request.body is None else self.request.body.reveal().encode(),
            headers={"accept": "application/json"} | reveal_headers(dict(self.request.headers)),
            extensions={"timeout": limits, "trace": trace},
        )
        built.headers["accept-encoding"] = "identity"
        built.headers.pop("cookie", None)
        if "authorization" not in self.request.headers:
            # Never two proofs of who we are (RFC 6749, section 2.3).
            built.headers.pop("authorization", None)
        return built

    def note(self, event: str, info: dict[str, object]) -> None:
        """Follow what the connection tells (the `trace` extension of both libraries)."""
        if getattr(info.get("request"), "method", b"") == b"CONNECT":
            return  # meant for a proxy, which learns nothing but the host
        self._watched = True
        if event.endswith("send_request_headers.started"):
            self._sending = True
        if self._left is not None and event.endswith(".started"):
            left = max(self._left(), 0.001)
            self._limits.update(dict.fromkeys(self._limits, left))

    def shrink_with(self, left: Callable[[], float]) -> None:
        """Let every phase begin with what is left of the deadline."""
        self._left = left

    async def note_async(self, event: str, info: dict[str, object]) -> None:
        self.note(event, info)


async def _attempt_async(
    client: httpx.AsyncClient, attempt: _Attempt, deadline: float
) -> Response | _Failure:
    # Shorter than the deadline, so that the library can tell what it waited for, and closes
    # the socket itself: cancelled in a TLS handshake, httpcore leaves it open.
    limits = dict.fromkeys(("connect", "pool"), deadline * 0.8)
    limits |= dict.fromkeys(("read", "write"), deadline)
    try:
        built = attempt.build(client, limits, attempt.note_async)
        attempt.begun = True
        response = await client.send(built, stream=True, auth=None, follow_redirects=False)
        attempt.answered = True
        try:
            body = BoundedBody(response, attempt.max_bytes)
            read = response.aiter_bytes if response.is_stream_consumed else response.aiter_raw
            async for chunk in read():
                body.add(chunk)
        finally:
            await response.aclose()
        return _response(response, body)
    except Exception as error:  # noqa: BLE001 - whatever it is, it may hold the request's secrets
        return attempt.failed(error)


def _attempt_sync(
    client: httpx.Client, attempt: _Attempt, left: Callable[[], float]
) -> Response | _Failure:
    limits = dict.fromkeys(("connect", "pool", "read", "write"), max(left(), 0.001))
    attempt.shrink_with(left)
    try:
        built = attempt.build(client, limits, attempt.note)
        attempt.begun = True
        response = client.send(built, stream=True, auth=None, follow_redirects=False)
        attempt.answered = True
        try:
            body = BoundedBody(response, attempt.max_bytes)
            read = response.iter_bytes if response.is_stream_consumed else response.iter_raw
            for chunk in read():
                body.add(chunk)
                if left() <= 0:
                    raise UnusableError("the answer did not end within the deadline")
        finally:
            response.close()
        return _response(response, body)
    except Exception as error:  # noqa: BLE001 - whatever it is, it may hold the request's secrets
        return attempt.failed(error)


def _response(response: httpx.Response, body: BoundedBody) -> Response:
    headers = {name.lower(): value for name, value in response.headers.items()}
    headers.pop("set-cookie", None)
    return Response(response.status_code, headers, body.whole())


def _result(outcome: Response | _Failure, attempt: _Attempt) -> Response:
    if isinstance(outcome, Response):
        return outcome
    host = urlsplit(attempt.request.url).netloc.rpartition("@")[2]
    raise ProviderUnavailable(
        f"{attempt.request.method} to {host!r} failed: {outcome.problem}",
        may_have_been_sent=attempt.may_have_been_sent(outcome),
    )


def _pause(jitter: Callable[[], float]) -> float:
    shortest, longest = _PAUSE
    return shortest + (longest - shortest) * jitter()


def _expect(http: AsyncClient | SyncClient, kind: Literal["AsyncClient", "Client"]) -> None:
    if not isinstance(http, _kinds(kind)):
        raise TypeError(f"expected the {kind} of httpx or httpx2, not {type(http).__name__}")
    if http.is_closed:
        raise RuntimeError("the HTTP client has been closed")


def _kinds(kind: str) -> tuple[type, ...]:
    """Return the classes of that name, of the libraries that have been imported by now."""
    libraries = [sys.modules[name] for name in ("httpx", "httpx2") if name in sys.modules]
    return tuple(getattr(library, kind) for library in libraries)


def _view(http: _ClientT) -> _ClientT:
    """Return a second face of the same client: its connections, without its memory.

    Cookies are per client in both libraries, and so are the hooks, which would see
    tokens, and could read an answer without bounds or raise at a refusal.
    """
    view = copy.copy(http)
    view.cookies = no_cookies()
    view.event_hooks = {}
    return view


def no_cookies() -> CookieJar:
    """Return a jar that takes nothing: what one answer sets no other request carries."""
    return CookieJar(DefaultCookiePolicy(allowed_domains=[]))
