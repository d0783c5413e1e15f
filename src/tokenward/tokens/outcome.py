"""What an attempt to get another token came to, as everybody who waited for it sees it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from ..errors import NotAuthenticated, SessionEnded, TokenUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..errors import AccessError
    from .models import AccessToken
    from .session import Session


@dataclass(frozen=True, slots=True)
class Renewed:
    """There is another token, and it is saved, or kept until it is."""

    session: Session
    """The session as it is now."""
    token: AccessToken = field(repr=False)
    """The token that was wanted."""


@dataclass(frozen=True, slots=True)
class Failed:
    """There is none. Every caller raises an exception of its own, made by `error`."""

    error: Callable[[], AccessError]
    ended: bool = False
    """Whether the session is over; otherwise it is as it was."""
    dropped: bool = False
    """Whether it was ended here, so that the browser's cookie is of no more use."""


Outcome: TypeAlias = Renewed | Failed


def later(message: str, *, retry_after: float) -> Failed:
    """Say that the session is as it was, and that asking again in some seconds may help."""
    return Failed(partial(TokenUnavailable, message, retry_after=retry_after))


def logged_out() -> Failed:
    """Say that somebody else ended the session."""
    return Failed(NotAuthenticated, ended=True)


def ended(reason: str) -> Failed:
    """Say that the session was ended here; `reason` is the word of `SessionEnded`."""
    return Failed(partial(SessionEnded, reason), ended=True, dropped=True)
