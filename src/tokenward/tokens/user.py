"""Tokens of logged-in users: fresh when asked for, given back when told so."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from ..errors import (
    InsufficientScope,
    NotAuthenticated,
    SessionNotWritable,
    StoreUnavailable,
    TokenExpired,
    TokenUnavailable,
    TokenwardError,
)
from ..single_flight import SingleFlight
from .budget import RenewalBudget
from .models import LOGIN
from .outcome import Outcome, Renewed, later
from .refresh import PAUSE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..clock import Clock
    from ..provider import OpenIDProvider
    from .interfaces import SessionHandle
    from .models import AccessToken, Target, TokenSet
    from .refresh import Refresher
    from .refresh_settings import RefreshSettings
    from .session import Session


class UserTokens:
    """Gives the user of a session a valid access token, and renews it when it must.

    One object serves all users: it holds nothing of any of them but the refreshes
    under way, each under the session that it belongs to.
    """

    def __init__(
        self,
        *,
        providers: Mapping[str, OpenIDProvider],
        refresher: Refresher,
        settings: RefreshSettings,
        clock: Clock,
    ) -> None:
        self._providers = providers
        self._refresher = refresher
        self._settings = settings
        self._clock = clock
        self._flights: SingleFlight[Outcome] = SingleFlight()
        self._budget = RenewalBudget(clock=clock)
        self._revocations: SingleFlight[Session | None] = SingleFlight()

    async def token(
        self,
        handle: SessionHandle,
        *,
        target: Target = LOGIN,
        rejected: AccessToken | None = None,
        force_renewal: bool = False,
    ) -> AccessToken:
        """Return a valid token of the session's user.

        A token that is good for longer than the margin costs no I/O, no lock and no
        task. `rejected` is a token that an API refused: another one is returned, or the
        same if that was renewed a moment ago already.
        `force_renewal` asks for another one than the session has now.

        Raises:
            NotAuthenticated: nobody is logged in, or the session ended meanwhile.
            TokenExpired: the token is over and there is no refresh token.
            SessionEnded: the provider refused the refresh token.
            TokenUnavailable: provider or store are out of reach and no valid token is left.
            InsufficientScope: `target` asks for more than was granted.
            SessionNotWritable: a renewed token could not be saved any more.
        """
        session = await self._load(handle)
        token = session.tokens.token_for(target)
        is_rejected = rejected is not None and token is not None and token.value == rejected.value
        if rejected and is_rejected and not self._budget.allows((session.id, target), rejected):
            return rejected
        if token and (force_renewal or is_rejected):
            return await self._renewed(handle, session, target, spare=None)
        if token and token.is_fresh(self._clock(), margin=self._settings.margin):
            return _granted(token, target)
        newer = await self._renewed(handle, session, target, spare=token)
        if rejected and newer.value == rejected.value:
            # The session was read before it got the token that is rejected now.
            session = await self._load(handle)
            return await self._renewed(handle, session, target, spare=None)
        return newer

    async def tokens(self, handle: SessionHandle) -> TokenSet:
        """Return everything the session has, as it is, without renewing anything."""
        return (await self._load(handle)).tokens

    async def revoke_refresh_token(self, handle: SessionHandle) -> None:
        """Give the refresh token back to the provider, and forget it (RFC 7009).

        The user stays logged in, and the access token serves until it is over. Does
        nothing if there is no refresh token.

        Raises:
            ProviderError: the provider did not say that it took it back. The session is as it
                was: to ask again does no harm, and if the token is worth nothing any more, the
                next refresh ends the session.
            StoreUnavailable, TokenUnavailable: the session could not be had; nothing was done.
                A store that fails after the provider took it back is told again, for as long
                as `RefreshSettings.save_retry` says.
            SessionNotWritable: the answer has begun, and the session is in a cookie.
        """
        session = await self._load(handle)
        if session.tokens.refresh_token is None:
            return
        if not handle.writable:
            raise SessionNotWritable("the answer has begun, so the session cannot be saved")
        work = partial(self._refresher.give_back, handle.records, session)
        latest = await self._revocations.run(session.id, work)
        if latest is None:
            raise NotAuthenticated
        handle.adopt(latest)

    async def drain(self, *, timeout: float) -> None:  # noqa: ASYNC109 - part of what is promised
        """Wait for refreshes under way, `timeout` seconds at most; none begins any more."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        with self._refresher.stopping():
            await self._flights.drain(timeout)
        await self._revocations.drain(max(deadline - loop.time(), 0.0))
        await self._refresher.drain(timeout=max(deadline - loop.time(), 0.0))

    async def _load(self, handle: SessionHandle) -> Session:
        try:
            session = await handle.load()
        except StoreUnavailable as error:
            retry_after = error.retry_after
        else:
            if session is None:
                raise NotAuthenticated
            return session
        raise TokenUnavailable("the session store is out of reach", retry_after=retry_after)

    async def _renewed(
        self,
        handle: SessionHandle,
        session: Session,
        target: Target,
        *,
        spare: AccessToken | None,
    ) -> AccessToken:
        """Return another token; `spare` instead if none can be had and it is still valid."""
        refusal = _why_not(handle, session, target)
        if refusal is None:
            outcome = await self._share(handle, session, target)
            if isinstance(outcome, Renewed):
                handle.adopt(outcome.session)
                return _granted(outcome.token, target)
            if outcome.dropped:
                handle.adopt(None)
            if outcome.ended:
                raise outcome.error()
            refusal = outcome.error()
        if spare and spare.is_valid(self._clock()):
            return _granted(spare, target)
        raise refusal

    async def _share(self, handle: SessionHandle, session: Session, target: Target) -> Outcome:
        """Join the refresh under way for this version of the session, or begin it."""
        key = (session.id, session.version, target)
        attempt = partial(self._refresher.attempt, handle.records, session, target)
        try:
            async with asyncio.timeout(self._settings.wait):
                return await self._flights.run(key, attempt)
        except TimeoutError:
            return later("the provider is slow", retry_after=PAUSE)


def _why_not(handle: SessionHandle, session: Session, target: Target) -> TokenwardError | None:
    """Say why nothing may be spent; None if it may."""
    if session.tokens.refresh_token is None:
        return TokenExpired("there is no refresh token to get another access token with")
    if not target.resource and (missing := target.scope - session.tokens.scope):
        return InsufficientScope(missing)
    if not handle.writable:
        return SessionNotWritable(
            "the answer has begun, so a renewed token could not be saved: ask for the token "
            "earlier, or keep sessions in a store"
        )
    return None


def _granted(token: AccessToken, target: Target) -> AccessToken:
    if missing := target.scope - token.scope:
        raise InsufficientScope(missing)
    return token
