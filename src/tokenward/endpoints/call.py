"""How every endpoint is called: described once, sent by whichever client the caller has."""

from __future__ import annotations

import functools
import inspect
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Generic, ParamSpec, Protocol, TypeVar, cast, overload
from urllib.parse import urlsplit

from ..errors import ConfigurationError, ProviderUnavailable
from ..protocol.client_auth import ClientAuth, client_secret_basic, none
from ..protocol.form import as_secret, check_given, encode_form
from ..protocol.responses import ProtocolResponse
from ..secret import Secret
from ..transport import Request, is_async, send, send_sync

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from urllib.parse import SplitResult

    from ..protocol.client_auth import Headers
    from ..protocol.form import Form
    from ..transport import AsyncClient, Response, SyncClient

TOKEN_DEADLINE: Final = 30.0
"""Seconds. Giving up early on a token call may lose what the provider has just rotated."""

DEADLINE: Final = 5.0
"""Seconds, for calls that can be made again."""

MAX_ANSWER: Final = 256 * 1024
"""Bytes of an answer that is about one token or one user."""

MAX_DOCUMENT: Final = 512 * 1024
"""Bytes of a discovery document or a key set."""

JSON_TYPE: Final = "application/json"

FORM_TYPE: Final = "application/x-www-form-urlencoded"

P = ParamSpec("P")
R = TypeVar("R", bound=ProtocolResponse)
R_co = TypeVar("R_co", bound=ProtocolResponse, covariant=True)


class Sendable(Protocol[R_co]):
    """What an endpoint's function describes, ready to be sent by a client of either kind."""

    def check(self, base_url: str) -> None:
        """Raise `ConfigurationError` for an address or a deadline that nothing can be sent by.

        `base_url` is the client's, empty if it has none: without it no address is relative.
        """
        ...

    async def send(self, http: AsyncClient) -> R_co:
        """Send it, and return the answer."""
        ...

    def send_sync(self, http: SyncClient) -> R_co:
        """Do the same without an event loop."""
        ...


class Endpoint(Protocol[P, R_co]):
    """A function of this package: awaited with an `AsyncClient`, called with a `Client`."""

    @overload
    def __call__(
        self, http: AsyncClient, /, *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[None, None, R_co]: ...

    @overload
    def __call__(self, http: SyncClient, /, *args: P.args, **kwargs: P.kwargs) -> R_co: ...


def endpoint(describe: Callable[P, Sendable[R]]) -> Endpoint[P, R]:
    """Make the function that sends what `describe` describes.

    It takes the HTTP client first, then the same arguments. Misuse is found when it
    is called, before anything is awaited. Text for an argument that is annotated as
    a `Secret` becomes one before anything can fail, so that no traceback shows it.
    None is refused for an argument that is not annotated with it.
    """
    signature = inspect.signature(describe)
    kinds = {name: str(known.annotation) for name, known in signature.parameters.items()}
    hidden = {name for name, kind in kinds.items() if "Secret" in kind}
    never_none = {name for name, kind in kinds.items() if "None" not in kind}

    @functools.wraps(describe)
    def call(http: AsyncClient | SyncClient, /, *args: P.args, **kwargs: P.kwargs) -> object:
        for name in hidden.intersection(kwargs):
            if isinstance(kwargs[name], str):
                kwargs[name] = Secret(str(kwargs[name]))
        given = dict(zip(kinds, args, strict=False)) | kwargs
        for name in sorted(never_none.intersection(given)):
            if given[name] is None:
                raise ConfigurationError(name, "is missing")
        described = describe(*args, **kwargs)
        asynchronous = is_async(http)
        described.check(str(getattr(http, "base_url", "")))
        if asynchronous:
            return described.send(cast("AsyncClient", http))
        return described.send_sync(cast("SyncClient", http))

    client = inspect.Parameter(
        "http", inspect.Parameter.POSITIONAL_ONLY, annotation="AsyncClient | SyncClient"
    )
    # Described is a Call[X] or a Sendable[X]; who calls gets an X.
    answer = str(signature.return_annotation).partition("[")[2].removesuffix("]")
    shown = signature.replace(
        parameters=[client, *signature.parameters.values()], return_annotation=answer
    )
    call.__signature__ = shown  # type: ignore[attr-defined]
    return cast("Endpoint[P, R]", call)


@dataclass(frozen=True, slots=True)
class Call(Generic[R]):
    """One request, and how its answer is read."""

    request: Request
    kind: type[R]
    deadline: float
    """Seconds for all of it."""
    max_bytes: int = MAX_ANSWER
    judge: Callable[[R], R] | None = None
    """What else makes an answer a bad one. None: nothing beyond what its kind says."""

    def again(self) -> Call[R]:
        """Return the call to be made once more, with proofs that are good once."""
        return replace(self, request=self.request.again())

    def check(self, base_url: str) -> None:
        """See `Sendable`."""
        address = self.request.url
        if not (_is_http(address) or (_is_relative(address) and _is_http(base_url))):
            raise ConfigurationError(
                "address", "must be an http or https URL, or relative to the client's base_url"
            )
        if not _is_duration(self.deadline):
            raise ConfigurationError("deadline", "must be a positive number of seconds")

    async def send(self, http: AsyncClient) -> R:
        """See `Sendable`."""
        try:
            answer = await send(
                http, self.request, deadline=self.deadline, max_bytes=self.max_bytes
            )
        except ProviderUnavailable as error:
            return self.kind.from_exception(error)
        return self._read(answer)

    def send_sync(self, http: SyncClient) -> R:
        """See `Sendable`."""
        try:
            answer = send_sync(http, self.request, deadline=self.deadline, max_bytes=self.max_bytes)
        except ProviderUnavailable as error:
            return self.kind.from_exception(error)
        return self._read(answer)

    def _read(self, answer: Response) -> R:
        response = self.kind.parse(answer.status, answer.headers, answer.body)
        return response if self.judge is None else self.judge(response)


def form_request(
    address: str,
    form: Form,
    *,
    client_id: str | None,
    client_secret: Secret | str | None,
    client_auth: ClientAuth | None,
    accept: str = JSON_TYPE,
) -> Request:
    """Return a POST of the form, with the client's proof; each try of it has its own.

    `client_id=None`: the request is about no client.
    """
    prove = _proof_of(client_id, client_secret, client_auth)

    def make() -> Request:
        fields: Form = [*form]
        headers: Headers = {"accept": accept, "content-type": FORM_TYPE}
        prove(fields, headers)
        return Request("POST", address, headers=headers, body=encode_form(fields), renew=make)

    return make()


def choose_client_auth(
    client_secret: Secret | str | None, client_auth: ClientAuth | None
) -> ClientAuth:
    """Return how the client proves itself: `client_auth`, or what a secret alone means.

        prove = choose_client_auth(os.environ.get("CLIENT_SECRET"), None)

    A secret means `client_secret_basic`, which every provider must support (RFC
    6749, section 2.3.1); neither means a public client. Both at once raise
    `ConfigurationError`.
    """
    if client_secret is None:
        return client_auth or none()
    if client_auth is not None:
        raise ConfigurationError("client_auth", "give this or client_secret, not both")
    return client_secret_basic(client_secret)


def _proof_of(
    client_id: str | None, client_secret: Secret | str | None, client_auth: ClientAuth | None
) -> Callable[[Form, Headers], None]:
    prove = choose_client_auth(client_secret, client_auth)
    if client_id is None:
        if client_secret is not None or client_auth is not None:
            raise ConfigurationError("client_id", "is None, and there is a proof of who it is")
        return lambda form, headers: None
    if not client_id:
        raise ConfigurationError("client_id", "is empty; the provider gives one at registration")
    return functools.partial(prove, client_id)


def optional_secret(value: Secret | str | None, *, argument: str) -> Secret | None:
    """Take a secret as callers have it; None stays None."""
    return None if value is None else as_secret(value, argument=argument)


def required_secret(value: Secret | str, *, argument: str) -> Secret:
    """Take a secret as callers have it; `ConfigurationError` if it is empty."""
    check_given({argument: value})
    return as_secret(value, argument=argument)


def _is_http(url: object) -> bool:
    parts = _parts(url)
    if parts is None or parts.scheme not in ("http", "https"):
        return False
    return bool(parts.hostname) and " " not in parts.netloc


def _is_relative(url: object) -> bool:
    # With a host and no scheme it would be taken for a path.
    parts = _parts(url)
    return bool(url) and parts is not None and not parts.scheme and not parts.netloc


def _parts(url: object) -> SplitResult | None:
    # `urlsplit` would drop line ends without a word.
    if not isinstance(url, str) or not url.isprintable():
        return None
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises if it is none
    except ValueError:
        return None
    return parts


def _is_duration(seconds: object) -> bool:
    # A NaN is neither greater nor less.
    return isinstance(seconds, int | float) and 0 < seconds < math.inf
