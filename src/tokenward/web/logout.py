"""Logout: the local session first, then the provider, whatever the provider does."""

from __future__ import annotations

import asyncio
import hmac
from functools import partial
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

from ..errors import ConfigurationError, PermissionDenied, ProviderError, StoreUnavailable
from ..events import LoggedOut, StoreFailed
from ..protocol.authorization import new_state
from ..single_flight import SingleFlight
from .challenge import is_same_origin_post
from .pages import page, redirect, with_cookies

if TYPE_CHECKING:
    from starlette.responses import Response

    from ..management import TokenManagement
    from ..secret import Secret
    from ..tokens.session import Session
    from .marks import LoopGuard, Mark
    from .visit import Visit

PATIENCE: Final = 2.0
"""Seconds that a logout waits for the provider, which may be needed twice at once: to take the
refresh token back, and to say where its own logout is."""

_WAY_BACK: Final = 600.0
"""Seconds for which the way back from the provider is remembered."""


class Logout:
    """The routes `/logout` and `/logout/callback`."""

    def __init__(self, management: TokenManagement, *, mark: Mark, guard: LoopGuard) -> None:
        self._management = management
        self._mark = mark
        self._guard = guard
        self._endings: SingleFlight[Response] = SingleFlight()
        management.before_stop(self._endings.drain)

    async def start(self, visit: Visit) -> Response:
        """End the session, clear the cookies, give the refresh token back, tell the provider.

        A POST must come from a page of the app, or carry `sid`, which only pages of this
        session know. A GET must carry it, and is otherwise asked whether it is meant.

        Raises:
            PermissionDenied: another site posted it.
            StoreUnavailable: nobody can tell whether this is meant.
        """
        target = visit.wanted("return_to") or visit.after_logout
        meant = visit.method == "POST" and self._is_ours(visit)
        try:
            session = await visit.connection.load()
            if session is None:
                if meant and visit.connection.left_alone:
                    await visit.connection.log_out()
                return redirect(target)
            meant = meant or self._knows(visit, session)
            if meant:
                # In a task of its own: a browser that goes away leaves no logout half done.
                end = partial(self._end, visit, session, target)
                return await self._endings.run(object(), end)
        except StoreUnavailable as error:
            if not meant:
                raise
            return self._half(visit, error)
        if visit.method == "POST":
            raise PermissionDenied("the logout was posted by a page of another site")
        return self._confirm(visit, session, target)

    async def finish(self, visit: Visit) -> Response:
        """Take the browser back from the provider, to where it wanted to go. Once."""
        known = self._mark.read(visit.headers) or {}
        expected, state = known.get("state"), visit.parameter("state")
        if (
            not isinstance(expected, str)
            or state is None
            or not hmac.compare_digest(expected.encode(), state.encode())
        ):
            link = ("To the start page", visit.landing)
            return page("Back from the provider", "There is nothing more to do here.", link=link)
        target = known.get("return_to")
        wanted = visit.allowed(target) if isinstance(target, str) else None
        back = redirect(wanted or visit.after_logout)
        return with_cookies(back, self._mark.clear(visit.headers))

    def _is_ours(self, visit: Visit) -> bool:
        origins = {url.origin for url in self._management.settings.public_urls}
        return is_same_origin_post(visit.headers, allowed_origins=origins)

    def _knows(self, visit: Visit, session: Session) -> bool:
        sid = (visit.parameter("sid") or "").encode()
        keys = self._management.ring.signing_keys("logout-sid")
        return any(hmac.compare_digest(_sid(key, session).encode(), sid) for key in keys)

    async def _end(self, visit: Visit, session: Session, target: str) -> Response:
        try:
            ended = await visit.connection.log_out() or session
        except StoreUnavailable:
            # It lives on in the store; without a refresh token it does not live for long.
            await self._give_back(session, patience=0.0)
            raise
        self._management.emit(LoggedOut(session=self._management.reference(ended)))
        state = new_state()
        url, _ = await asyncio.gather(
            self._way_out(visit, ended, state), self._give_back(ended, patience=PATIENCE)
        )
        forget = self._guard.forget(visit.headers)
        if url is None:
            return with_cookies(redirect(target), forget)
        way_back = {"state": state.reveal(), "return_to": target}
        return with_cookies(
            redirect(url), [*forget, *self._mark.write(way_back, max_age=_WAY_BACK)]
        )

    async def _give_back(self, session: Session, *, patience: float) -> None:
        if self._management.settings.revoke_at_logout:
            await self._management.revoker.give_back(session, patience=patience)

    def _confirm(self, visit: Visit, session: Session, target: str) -> Response:
        # The proof is in the form as well: not every browser says where a POST comes from.
        proof = {"sid": logout_sid(self._management, session), "return_to": target}
        return page(
            "Sign out?",
            "Nothing has happened yet.",
            button=("Sign out", f"{visit.base_path}{visit.path}?{urlencode(proof)}"),
            link=("Stay signed in", visit.landing),
        )

    def _half(self, visit: Visit, error: StoreUnavailable) -> Response:
        """The store is out of reach: the browser forgets, and its user is told what that means."""
        self._management.emit(StoreFailed(operation="logout", error=str(error)))
        visit.connection.forget()
        response = page(
            "You are signed out here",
            "The session could not be ended on the server just now; it ends by itself. "
            "Sign in and out again in a moment to end it at once.",
            status=503,
            link=("To the start page", visit.landing),
            word="store_unavailable",
        )
        response.headers["retry-after"] = str(max(1, round(error.retry_after)))
        return response

    async def _way_out(self, visit: Visit, session: Session, state: Secret) -> str | None:
        """Return where the provider ends its own session; None if it does not say in time."""
        try:
            async with asyncio.timeout(PATIENCE):
                return await self._management.providers[session.provider].end_session_url(
                    id_token_hint=session.tokens.id_token,
                    post_logout_redirect_uri=visit.address(f"{visit.prefix}/logout/callback"),
                    state=state,
                )
        except (ProviderError, ConfigurationError, TimeoutError):
            return None


def logout_sid(management: TokenManagement, session: Session) -> str:
    """Return what proves that a logout link was made for this session: an HMAC of its id."""
    return _sid(management.ring.signing_keys("logout-sid")[-1], session)


def _sid(key: bytes, session: Session) -> str:
    return hmac.digest(key, session.id.encode(), "sha256").hex()[:32]
