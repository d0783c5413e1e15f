"""Refresh tokens go back to the provider, without anybody waiting for long."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from ..background import Background
from ..errors import ConfigurationError, ProtocolError, ProviderError
from ..events import RevocationFailed, Revoked

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ..events import EventSink
    from ..provider import OpenIDProvider
    from ..secret import Secret
    from .session import Session

_TRIES: Final = 3
_HINT: Final = "refresh_token"


class Revoker:
    """Revokes refresh tokens in the background, best effort (RFC 7009).

    Whoever revokes has ended the session before, so nothing depends on the outcome;
    what could not be given back is told by an event.
    """

    def __init__(
        self,
        *,
        providers: Mapping[str, OpenIDProvider],
        on_event: EventSink,
        jitter: Callable[[], float],
    ) -> None:
        self._providers = providers
        self._on_event = on_event
        self._jitter = jitter
        self._background = Background()

    def begin(self, session: Session) -> asyncio.Task[None] | None:
        """Begin to give back the refresh token of `session`; None if it has none."""
        token = session.tokens.refresh_token
        if token is None or session.provider not in self._providers:
            return None
        return self._background.begin(self._revoke(self._providers[session.provider], token))

    async def give_back(self, session: Session, *, patience: float) -> None:
        """Give back the refresh token; wait `patience` seconds at most, go on behind the scenes."""
        if task := self.begin(session):
            await asyncio.wait([task], timeout=patience)

    def give_up(self, session: Session, *, problem: str) -> None:
        """Tell that the refresh token of `session` was not given back, and why."""
        if session.tokens.refresh_token is not None:
            self._on_event(RevocationFailed(token_type_hint=_HINT, error=problem))

    async def drain(self, *, timeout: float) -> None:  # noqa: ASYNC109 - part of what is promised
        """Wait for revocations under way, `timeout` seconds at most, and cancel the rest."""
        await self._background.drain(timeout)

    async def _revoke(self, provider: OpenIDProvider, token: Secret) -> None:
        problem = "shutdown"
        try:
            problem = await self._try_again(provider, token)
        finally:
            if problem:
                self._on_event(RevocationFailed(token_type_hint=_HINT, error=problem))
            else:
                self._on_event(Revoked(token_type_hint=_HINT))

    async def _try_again(self, provider: OpenIDProvider, token: Secret) -> str:
        """Return what went wrong in the end; empty if nothing did."""
        problem, final = await _try(provider, token)
        for attempt in range(1, _TRIES):
            if final:
                break
            await asyncio.sleep(2**attempt * (0.5 + self._jitter()))
            problem, final = await _try(provider, token)
        return problem


async def _try(provider: OpenIDProvider, token: Secret) -> tuple[str, bool]:
    """Return what went wrong, empty if nothing did, and whether it would again."""
    try:
        await provider.revoke(token, token_type_hint=_HINT)
    except ProtocolError as error:
        status = error.response.http_status or 0
        return error.response.error or "refused", 400 <= status < 500 and status != 429
    except (ProviderError, ConfigurationError) as error:
        return type(error).__name__, False
    return "", True
