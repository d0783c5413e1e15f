"""What happened, as frozen records, and the sink that logs them.

No record holds a token, a code, a session id or the subject of a user. `session`
and `provider` are short references: the first is a keyed hash that is good for
finding the lines that belong together, and for nothing else.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol, TypeAlias

_logger = logging.getLogger("tokenward")

_CLIP = 256
"""Characters of a value that a log line shows; the rest may be an attack on the log."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened. `level` is the one of the log line it makes."""

    level: ClassVar[int] = logging.INFO


EventSink: TypeAlias = Callable[[Event], None]
"""Takes every event. It must be quick; what it raises is logged and goes no further."""


class EventListener(Protocol):
    """Wants to hear of events that happen elsewhere."""

    def emit(self, event: Event) -> None:
        """Take an event, as an `EventSink` does."""
        ...


@dataclass(frozen=True, slots=True)
class LoginStarted(Event):
    """A browser was sent to the provider."""

    level: ClassVar[int] = logging.DEBUG
    provider: str


@dataclass(frozen=True, slots=True)
class LoggedIn(Event):
    """A user logged in, and has a new session."""

    provider: str
    session: str = ""


@dataclass(frozen=True, slots=True)
class LoginFailure(Event):
    """A login was not completed."""

    level: ClassVar[int] = logging.WARNING
    reason: str
    """The stable word of `LoginFailed`."""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class LoggedOut(Event):
    """A user ended a session."""

    session: str = ""


@dataclass(frozen=True, slots=True)
class Refreshed(Event):
    """A session has a new access token."""

    level: ClassVar[int] = logging.DEBUG
    session: str = ""


@dataclass(frozen=True, slots=True)
class RefreshFailed(Event):
    """A refresh brought no token. The session stays, unless `SessionEnded` says otherwise."""

    level: ClassVar[int] = logging.WARNING
    kind: str
    """What it means: the kinds of `tokens.verdict.Verdict`, such as `dead` or `later`."""
    error: str
    """The provider's error code, or words of ours."""
    session: str = ""


@dataclass(frozen=True, slots=True)
class SessionEnded(Event):
    """A session ended without its user's asking."""

    reason: str
    """The stable word of `errors.SessionEnded`, or `idle`, `absolute`, `backchannel_logout` ..."""
    session: str = ""


@dataclass(frozen=True, slots=True)
class ClientTokenRenewed(Event):
    """The app has a new token of its own."""

    level: ClassVar[int] = logging.DEBUG
    client: str
    """The name that the client is registered by."""


@dataclass(frozen=True, slots=True)
class ClientTokenFailed(Event):
    """The app got no token of its own. One that is still valid stays in use."""

    level: ClassVar[int] = logging.WARNING
    client: str
    kind: str
    """What it means: the kinds of `tokens.verdict.Verdict`, such as `later` or `alarm`."""
    error: str
    """The provider's error code, or words of ours."""


@dataclass(frozen=True, slots=True)
class Revoked(Event):
    """The provider took a token back."""

    level: ClassVar[int] = logging.DEBUG
    token_type_hint: str = "refresh_token"  # noqa: S105 - a kind of token, not a token


@dataclass(frozen=True, slots=True)
class RevocationFailed(Event):
    """A token could not be given back. It is valid until it expires."""

    level: ClassVar[int] = logging.WARNING
    error: str
    """The provider's error code, or the name of the exception."""
    token_type_hint: str = "refresh_token"  # noqa: S105 - a kind of token, not a token


@dataclass(frozen=True, slots=True)
class MetadataFetched(Event):
    """The provider's metadata were read."""

    level: ClassVar[int] = logging.DEBUG
    provider: str


@dataclass(frozen=True, slots=True)
class MetadataRefused(Event):
    """The provider's metadata break a rule. The last good ones stay in use."""

    level: ClassVar[int] = logging.ERROR
    provider: str
    member: str
    problem: str


@dataclass(frozen=True, slots=True)
class EndpointsElsewhere(Event):
    """Endpoints of the provider are on other hosts than its issuer, as with Google and Entra."""

    provider: str
    hosts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class KeysFetched(Event):
    """The provider's keys were read, and replaced those known before."""

    level: ClassVar[int] = logging.DEBUG
    provider: str
    keys: int
    """How many of them can be used."""


@dataclass(frozen=True, slots=True)
class KeysThrottled(Event):
    """A token asked for a key that is not known, and it was too early to ask again."""

    level: ClassVar[int] = logging.WARNING
    provider: str


@dataclass(frozen=True, slots=True)
class ProviderDown(Event):
    """The provider gave no usable answer. What is known of it stays in use."""

    level: ClassVar[int] = logging.WARNING
    provider: str
    problem: str


@dataclass(frozen=True, slots=True)
class ProviderAlarm(Event):
    """The provider refuses this client, not a user. Somebody has to mend the settings."""

    level: ClassVar[int] = logging.ERROR
    error: str
    """`invalid_client`, `unauthorized_client`, `invalid_scope` ..."""
    provider: str = ""


@dataclass(frozen=True, slots=True)
class IdTokenRejected(Event):
    """An id_token breaks a rule; it was not used."""

    level: ClassVar[int] = logging.ERROR
    provider: str
    rule: str
    """The rule, as `OIDC Core 3.1.3.7 (2)`."""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class IdTokenNotTaken(Event):
    """A refresh brought an id_token that is out of date or cannot be judged; the old one stays."""

    level: ClassVar[int] = logging.WARNING
    provider: str
    problem: str


@dataclass(frozen=True, slots=True)
class RedirectBlocked(Event):
    """A `return_to` that leaves the application was replaced by the landing page."""

    level: ClassVar[int] = logging.WARNING
    target: str


@dataclass(frozen=True, slots=True)
class CookieRejected(Event):
    """A cookie of ours was there, and was not used."""

    reason: str
    """`duplicate`, `forged`, `unknown_key`, `chunk_missing`, `newer_format` ..."""


@dataclass(frozen=True, slots=True)
class StoreFailed(Event):
    """The store did not do what was asked."""

    level: ClassVar[int] = logging.ERROR
    operation: str
    """`read`, `write`, `touch`, `login`, `refresh`, `logout`, or another."""
    error: str
    """What was wrong, and what to do; nothing of what is in the store."""


def log_event(event: Event) -> None:
    """Write the event to the logger "tokenward", one line, at its own level.

    Values are clipped, and everything but printable ASCII is escaped, so that no
    text of a provider or a browser forges a line or moves a terminal's cursor.
    The record also carries the event itself, as `record.event`.
    """
    if _logger.isEnabledFor(event.level):
        _logger.log(event.level, "%s", _line(event), extra={"event": event})


def deliver(event: Event, sink: EventSink) -> None:
    """Give `event` to `sink`; what that raises is logged by its name, and goes no further."""
    try:
        sink(event)
    except Exception as error:  # noqa: BLE001 - whoever listens must not stop a login
        problem = type(error).__name__
    else:
        return
    _logger.error("the event sink raised %s at %s", problem, type(event).__name__)


def _line(event: Event) -> str:
    pairs = ((field.name, getattr(event, field.name)) for field in dataclasses.fields(event))
    return " ".join([type(event).__name__, *(f"{name}={_shown(value)}" for name, value in pairs)])


def _shown(value: object) -> str:
    text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
    # ascii() escapes control characters, line breaks, ANSI and bidi marks alike.
    return ascii(text[:_CLIP] + ("..." if len(text) > _CLIP else ""))
