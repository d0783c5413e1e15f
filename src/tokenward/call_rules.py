"""Where a token may go, and when a call that was refused is made again."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from .errors import CallRefused, ConfigurationError
from .origins import parse_origin

if TYPE_CHECKING:
    from collections.abc import MutableMapping, Sequence

PREPARED: Final = "tokenward.prepared"
"""In `request.extensions`: the token is ours, and may be replaced when it is sent again."""

_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
"""Methods that change nothing (RFC 9110, section 9.2.1)."""

_QUOTED: Final = re.compile(r'"(?:[^"\\]|\\.)*"')
_SCHEME: Final = re.compile(r"(?:^|,)\s*([\w!#$%&'*+.^`|~-]+)(?=\s*$|\s*,|\s+[^\s=,])", re.ASCII)
_ERROR: Final = re.compile(r'\berror\s*=\s*"?([a-z_]{1,64})', re.IGNORECASE)
_RENEWABLE: Final = frozenset({None, "invalid_token"})


class Address(Protocol):
    """What is needed of a URL of httpx or httpx2."""

    @property
    def scheme(self) -> str:
        """Lower case."""
        ...

    @property
    def netloc(self) -> bytes:
        """Host and port in the one form that is compared, without user."""
        ...

    @property
    def userinfo(self) -> bytes:
        """User and password; empty if there are none."""
        ...


class HeaderFields(Protocol):
    """What is needed of the header fields of an answer."""

    def get_list(self, key: str, /) -> list[str]:
        """Return the values of all fields of that name."""
        ...


class Request(Protocol):
    """What is needed of a request of httpx or httpx2."""

    @property
    def method(self) -> str:
        """Upper case."""
        ...

    @property
    def extensions(self) -> MutableMapping[str, Any]:
        """Notes of the library and of ours; nothing of them is sent."""
        ...

    @property
    def url(self) -> Address:
        """Where it goes."""
        ...

    @property
    def headers(self) -> MutableMapping[str, str]:
        """Its header fields."""
        ...

    @property
    def content(self) -> bytes:
        """Its body; raises `RuntimeError` for a stream."""
        ...


class Response(Protocol):
    """What is needed of an answer of httpx or httpx2."""

    @property
    def status_code(self) -> int:
        """The HTTP status."""
        ...

    @property
    def extensions(self) -> MutableMapping[str, Any]:
        """Notes of the library and of ours."""
        ...

    @property
    def headers(self) -> HeaderFields:
        """Its header fields."""
        ...

    @property
    def request(self) -> object:
        """The request that it answers: the last one, after redirects."""
        ...


@dataclass(frozen=True, slots=True)
class CallRules:
    """Where a token may go, and when a call is made again."""

    origins: frozenset[tuple[str, bytes]]
    """Scheme, and host with port, as URLs of both libraries have them."""
    keep_authorization: bool = False
    resend_unsafe_methods: bool = True

    @classmethod
    def read(
        cls,
        origins: str | Sequence[str],
        *,
        keep_authorization: bool,
        resend_unsafe_methods: bool,
        dangerously_allow_http: bool,
    ) -> CallRules:
        """Read the settings. Raises `ConfigurationError` for what is no origin."""
        given = (origins,) if isinstance(origins, str) else tuple(origins)
        if not given:
            raise ConfigurationError("origins", "name the origin of the API that gets the token")
        read = (
            parse_origin(one, setting="origins", dangerously_allow_http=dangerously_allow_http)
            for one in given
        )
        parts = (origin.partition("://") for origin in read)
        pairs = frozenset((scheme, netloc.encode("ascii")) for scheme, _, netloc in parts)
        return cls(pairs, keep_authorization, resend_unsafe_methods)

    def check(self, request: Request) -> None:
        """Refuse a call that would take the token where it must not go.

        Raises:
            CallRefused: it is for another origin, names a user, or has another proof.
        """
        url = request.url
        if (url.scheme, url.netloc) not in self.origins:
            raise CallRefused("origin", f"{_shown(url)} is not among the origins of this token")
        if url.userinfo:
            raise CallRefused("userinfo", f"the URL of a call to {_shown(url)} names a user")
        if self.has_own_proof(request):
            raise CallRefused("authorization", f"a call to {_shown(url)} has an Authorization")

    def has_own_proof(self, request: Request) -> bool:
        """Tell whether there is an Authorization header of the caller's own."""
        return "authorization" in request.headers and PREPARED not in request.extensions

    def why_not_again(
        self, request: Request, response: Response, *, replayable: bool
    ) -> str | None:
        """Say why a refused call is not made again; None: with another token it is."""
        if response.request is not request:
            # The 401 is of the place that redirects led to.
            return "redirected"
        if not is_about_token(response.headers.get_list("www-authenticate")):
            return "challenge"
        if not self.resend_unsafe_methods and request.method not in _SAFE:
            return "method"
        return None if replayable else "body"


def _shown(url: Address) -> str:
    """Show where a call goes, and nothing else of its URL."""
    return f"{url.scheme}://{url.netloc.decode('ascii', 'replace')}"


def is_about_token(challenges: Sequence[str]) -> bool:
    """Tell whether another token may help against a 401 (RFC 6750, section 3).

    It may where the API does not say what it wants, where it wants a bearer token, and
    where the one that it got is an `invalid_token`; not if it lacks scope.
    """
    if not challenges:
        return True
    for challenge in challenges:
        plain = _QUOTED.sub('""', challenge)
        if any(found.lower() == "bearer" for found in _SCHEME.findall(plain)):
            told = _ERROR.search(challenge)
            return (told[1].lower() if told else None) in _RENEWABLE
    return False


def is_replayable(request: Request) -> bool:
    """Tell whether the body of a request can be sent once more."""
    # A stream is spent, or is a file that stands at its end.
    try:
        _ = request.content
    except RuntimeError:
        return False
    return True
