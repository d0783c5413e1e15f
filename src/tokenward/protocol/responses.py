"""What the provider's endpoints answer. No I/O: bytes in, values out.

A refusal is a value, not an exception: look at `is_error`, or call
`raise_for_error()` where an exception reads better. Reading is lenient, so that
whatever came can be looked at; whether an answer of the token endpoint is worth
anything is judged by `token_answer.read_token_answer`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, ClassVar, Final, Literal, Self, TypeAlias, TypeVar

from ..errors import (
    InvalidMetadata,
    InvalidResponse,
    InvalidToken,
    ProtocolError,
    TokenwardError,
)
from ..secret import Secret
from .header_fields import HeaderFields
from .json import InvalidJSON, loads_object

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .json import JSON, JSONObject
    from .keys import KeySet
    from .metadata import ProviderMetadata

T = TypeVar("T")

ErrorType: TypeAlias = Literal["none", "protocol", "http", "exception", "policy"]
"""What kind of error an answer is.

* `none`: it is none.
* `protocol`: the provider said no in the protocol's words, at whatever status.
* `http`: it said no by the HTTP status alone.
* `exception`: no answer came, or one that cannot be read.
* `policy`: the answer can be read, and breaks a rule that we set.
"""

MAX_EXPIRES_IN: Final = 10 * 365 * 24 * 60 * 60
"""Seconds: ten years. What is told beyond is cut to it, and fits every calendar."""

_SECONDS: Final = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?")
_CHALLENGE_ERROR: Final = re.compile(r'\berror="([^"\\]+)"')
_MAX_PRINTABLE: Final = 256
_LATEST: Final = 253402300799.0  # the end of the year 9999
_POLICY: Final = (InvalidMetadata, InvalidToken)


def printable(text: str) -> str:
    r"""Make text from outside safe to show and to log: one line, at most 256 characters.

    What is no visible character or plain space (line ends, terminal sequences,
    marks that change the writing direction) becomes an escape such as `\x1b`;
    what is too long ends with `…`. Doing it twice changes nothing.
    """
    shown = "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text[: _MAX_PRINTABLE + 1]
    )
    return shown if len(shown) <= _MAX_PRINTABLE else f"{shown[: _MAX_PRINTABLE - 1]}…"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProtocolResponse:
    """An answer of the provider, good or bad, or the failure to get one.

    Its repr shows the status and the error, and nothing that was said besides.
    """

    error_by_status: ClassVar[Mapping[int, str]] = {}
    """What a status means by itself at this endpoint, when no `error` is told."""
    needs_body: ClassVar[bool] = True
    """Whether a good answer has a JSON object as its body."""
    takes_redirect: ClassVar[bool] = False
    """Whether sending the browser elsewhere is a good answer."""

    http_status: int | None = None
    """None: no answer came."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The header fields, found whatever the case of their name; iterating gives lower case."""
    raw: Secret = field(default=Secret(""), repr=False)
    """The body as text, empty if there was none. It may hold tokens."""
    json: JSONObject | None = field(default=None, repr=False)
    """The body as a JSON object, with all members; None if it is none. It may hold tokens."""
    error_type: ErrorType = "none"
    error: str | None = None
    """A word for programs: the provider's `error` (RFC 6749, section 5.2), whatever the status.

    Where it told none, `http_<status>` for `http` and a sentence for `exception`
    and `policy`. None: no error.
    """
    error_description: str | None = field(default=None, repr=False)
    """The provider's text for developers, `printable`. Never decide anything by it."""
    error_uri: str | None = field(default=None, repr=False)
    """Where the provider explains the error, `printable`. Never a link to show."""
    exception: Exception | None = field(default=None, repr=False)
    """What `raise_for_error` raises for `exception` and `policy`; otherwise None."""

    def __post_init__(self) -> None:
        if not isinstance(self.headers, HeaderFields):
            object.__setattr__(self, "headers", HeaderFields(self.headers))

    @classmethod
    def parse(cls, status: int, headers: Mapping[str, str], body: bytes) -> Self:
        """Read an answer. Never raises: an unreadable one is an error value."""
        json, unreadable = _read_object(body)
        response = cls(
            http_status=status,
            headers=headers,
            raw=Secret(body.decode("utf-8", "replace")),
            json=json,
        )
        if (told := _told_error(response)) is not None:
            return replace(
                response,
                error_type="protocol",
                error=told,
                error_description=printable(response.text("error_description") or "") or None,
                error_uri=printable(response.text("error_uri") or "") or None,
            )
        if not (200 <= status < 300 or (cls.takes_redirect and 300 <= status < 400)):
            meaning = cls.error_by_status.get(status, f"http_{status}")
            return replace(response, error_type="http", error=meaning)
        if unreadable is not None and cls.needs_body:
            return response.failed(InvalidResponse("body", unreadable))
        broken = response.broken_rule()
        return response if broken is None else response.failed(broken)

    @classmethod
    def from_exception(cls, exception: Exception) -> Self:
        """Say that no answer came, because of `exception`."""
        return cls().failed(exception)

    def failed(self, exception: Exception) -> Self:
        """Return this answer as an error: it could not be used, because of `exception`."""
        # Only the library's own exceptions are known to hold nothing secret.
        ours = isinstance(exception, TokenwardError)
        return replace(
            self,
            error_type="policy" if isinstance(exception, _POLICY) else "exception",
            error=printable(str(exception) if ours else type(exception).__name__),
            # What is kept keeps no frames, nor the answer that was in them.
            exception=exception.with_traceback(None),
        )

    def broken_rule(self) -> InvalidResponse | None:
        """Say which rule a good answer of this kind breaks; None: none that is judged here."""
        return None

    def get(self, member: str) -> JSON:
        """Return a member of `json`; None if it is null, absent, or there is no JSON."""
        return self.json.get(member) if self.json is not None else None

    def text(self, member: str) -> str | None:
        """Return a member that is a string; None if it is anything else."""
        found = self.get(member)
        return found if isinstance(found, str) else None

    def secret(self, member: str) -> Secret | None:
        """Return a member that is a string, and not empty, as a secret; None otherwise."""
        found = self.text(member)
        return Secret(found) if found else None

    def seconds(self, member: str) -> float | None:
        """Return a duration in seconds, 0 to `MAX_EXPIRES_IN`; None if told in no usable way."""
        return _seconds(self.get(member))

    def moment(self, member: str) -> float | None:
        """Return a time in seconds since the epoch; None if told in no usable way."""
        found = self.get(member)
        # True is an integer to Python, and one of a thousand digits is no float.
        if isinstance(found, bool) or not isinstance(found, int | float):
            return None
        return float(found) if 0 <= found <= _LATEST else None

    def promised(self, value: T | None, member: str) -> T:
        """Return `value`, which a good answer of this kind always has.

        Raises what `raise_for_error` raises for any other, and `InvalidResponse` for
        one that was made without it.
        """
        self.raise_for_error()
        if value is None:
            raise InvalidResponse(member, "is missing")
        return value

    @property
    def is_error(self) -> bool:
        """Whether nothing good came."""
        return self.error_type != "none"

    def raise_for_error(self) -> Self:
        """Return self, or raise if `is_error`.

        Raises `ProtocolError`, or the exception for which there is no usable answer.
        """
        if self.exception is not None:
            raise self.exception
        if self.is_error:
            raise ProtocolError(self)
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenResponse(ProtocolResponse):
    """Answer of the token endpoint (RFC 6749, section 5), as it came.

    The properties give what can be read, and None for the rest.
    """

    # "MUST respond with an HTTP 401" to an unknown client (RFC 6749, section 5.2)
    error_by_status: ClassVar[Mapping[int, str]] = {401: "invalid_client"}

    @property
    def access_token(self) -> Secret | None:
        """The token."""
        return self.secret("access_token")

    @property
    def refresh_token(self) -> Secret | None:
        """The refresh token; None on a refresh: the old one stays."""
        return self.secret("refresh_token")

    @property
    def id_token(self) -> Secret | None:
        """The id_token, which nobody has validated yet."""
        return self.secret("id_token")

    @property
    def token_type(self) -> str | None:
        """How the token is used, such as `Bearer`, in any case of letters."""
        return self.text("token_type")

    @property
    def expires_in(self) -> float | None:
        """Lifetime in seconds, at most `MAX_EXPIRES_IN`; None if told in no usable way."""
        return self.seconds("expires_in")

    @property
    def scope(self) -> str | None:
        """The names that were granted, separated by spaces."""
        return self.text("scope")

    @property
    def issued_token_type(self) -> str | None:
        """What kind of token came of a token exchange (RFC 8693, section 2.2.1)."""
        return self.text("issued_token_type")


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationResponse(ProtocolResponse):
    """Answer of the revocation endpoint: the body means nothing (RFC 7009, section 2.2)."""

    error_by_status: ClassVar[Mapping[int, str]] = {401: "invalid_client"}
    needs_body: ClassVar[bool] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class UserInfoResponse(ProtocolResponse):
    """Answer of the UserInfo endpoint (OpenID Connect Core 1.0, section 5.3.2).

    Whether `json` speaks of the user who logged in is for `validate_userinfo` to say.
    """

    error_by_status: ClassVar[Mapping[int, str]] = {401: "invalid_token"}

    @property
    def sub(self) -> str | None:
        """Who the user is, at this issuer."""
        return self.text("sub")


@dataclass(frozen=True, slots=True, kw_only=True)
class EndSessionResponse(ProtocolResponse):
    """Answer of the end-session endpoint (RP-Initiated Logout 1.0, section 4)."""

    needs_body: ClassVar[bool] = False
    takes_redirect: ClassVar[bool] = True

    @property
    def location(self) -> str | None:
        """Where a browser would be sent next; None if nowhere."""
        return self.headers.get("location")


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscoveryResponse(ProtocolResponse):
    """Answer of the discovery endpoint (OpenID Connect Discovery 1.0, section 4.2)."""

    parsed: ProviderMetadata | None = field(default=None, repr=False)
    """What the document says; None if `is_error`."""

    @property
    def metadata(self) -> ProviderMetadata:
        """What the document says. Raises what `raise_for_error` raises if `is_error`."""
        return self.promised(self.parsed, "document")


@dataclass(frozen=True, slots=True, kw_only=True)
class JSONWebKeySetResponse(ProtocolResponse):
    """Answer of the `jwks_uri` (RFC 7517, section 5)."""

    parsed: KeySet | None = field(default=None, repr=False)
    """The keys; None if `is_error`."""

    @property
    def key_set(self) -> KeySet:
        """The keys. Raises what `raise_for_error` raises if `is_error`."""
        return self.promised(self.parsed, "keys")


def retry_after(headers: Mapping[str, str], *, now: float) -> float | None:
    """Return the seconds that the provider wants us to wait, 1 to 60.

    `now` is in seconds since the epoch, for a `Retry-After` that names a date
    (RFC 9110, section 10.2.3). None: it told nothing that can be understood.
    """
    told = headers.get("retry-after", "").strip()
    if _SECONDS.fullmatch(told):
        seconds = float(told)
    elif (moment := _http_date(told)) is not None:
        seconds = moment - now
    else:
        return None
    return min(max(seconds, 1.0), 60.0)


def _http_date(text: str) -> float | None:
    try:
        moment = parsedate_to_datetime(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def _read_object(body: bytes) -> tuple[JSONObject | None, str | None]:
    try:
        return loads_object(body), None
    except InvalidJSON as error:
        return None, str(error)


def _told_error(response: ProtocolResponse) -> str | None:
    if told := response.get("error"):
        # {"error": {"code": 500}} is certainly no success, but no word either.
        return printable(told) if isinstance(told, str) else "malformed_error"
    # At protected resources the word is in the challenge (RFC 6750, section 3).
    found = _CHALLENGE_ERROR.search(response.headers.get("www-authenticate", ""))
    return printable(found[1]) if found and response.http_status in {400, 401, 403} else None


def _seconds(told: JSON) -> float | None:
    if isinstance(told, str):
        # Some providers send "3600". RFC 6749 wants a number.
        told = float(told) if _SECONDS.fullmatch(told) else None
    if isinstance(told, bool) or not isinstance(told, int | float):
        return None
    # Cut before converting: an integer of a thousand digits is no float.
    return float(int(min(max(told, 0), MAX_EXPIRES_IN)))
