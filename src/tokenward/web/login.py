"""Login: the way to the provider. `callback.py` is the way back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..errors import LoginFailed, StoreUnavailable
from ..events import LoginFailure, LoginStarted
from ..protocol.authorization import new_code_verifier, new_nonce, new_state
from .attempts import LoginAttempt
from .challenge import is_subresource
from .pages import page, redirect, with_cookies

if TYPE_CHECKING:
    from starlette.responses import Response

    from ..management import TokenManagement
    from ..provider import OpenIDProvider
    from .attempts import LoginAttempts
    from .marks import LoopGuard
    from .visit import Visit

_MAX_PASSED_ON: Final = 256
"""Bytes of a parameter that is passed on. Three of them, quoted, still fit an address of 8 KB."""


class Login:
    """The route `/login`."""

    def __init__(
        self, management: TokenManagement, *, attempts: LoginAttempts, guard: LoopGuard
    ) -> None:
        self._management = management
        self._attempts = attempts
        self._guard = guard

    async def start(self, visit: Visit) -> Response:
        """Send the browser to the provider, with one sealed cookie for this attempt.

        Of the query, only `prompt`, `login_hint` and `ui_locales` reach the provider.

        Raises:
            LoginFailed: there is no such provider, or nobody would see its page.
            ProviderError, ConfigurationError: as `OpenIDProvider.authorization_url`.
        """
        if is_subresource(visit.headers):
            raise LoginFailed("not_a_navigation")
        forget: list[bytes] = []
        if self._guard.is_counting(visit.headers) and await self._is_of_use(visit):
            forget = self._guard.forget(visit.headers)
        elif self._guard.is_looping(visit.headers):
            return self._stopped(visit)
        name, provider = self._choose(visit)
        attempt = self._attempt(visit, name, provider)
        url = await provider.authorization_url(
            redirect_uri=attempt.redirect_uri,
            state=attempt.state,
            nonce=attempt.nonce,
            code_verifier=attempt.code_verifier,
            prompt=_passed_on(visit, "prompt"),
            login_hint=_passed_on(visit, "login_hint"),
            ui_locales=_passed_on(visit, "ui_locales"),
        )
        self._management.emit(LoginStarted(provider=name))
        begun = self._attempts.begin(visit.headers, attempt)
        return with_cookies(redirect(url), [*begun, *forget])

    async def _is_of_use(self, visit: Visit) -> bool:
        """Tell whether the browser has a session, with a token that is good or can be renewed."""
        try:
            session = await visit.connection.load()
        except StoreUnavailable:
            return False
        if session is None:
            return False
        tokens = session.tokens
        return tokens.refresh_token is not None or tokens.access_token.is_valid(
            self._management.clock()
        )

    def _choose(self, visit: Visit) -> tuple[str, OpenIDProvider]:
        """Return the provider that is asked for, with its name; the first if none is.

        `provider` names it, or `iss` where another site starts the login (OIDC Core 4).
        """
        name, issuer = visit.parameter("provider"), visit.parameter("iss")
        for known, provider in self._management.providers.items():
            if name in (None, known) and issuer in (None, provider.issuer):
                return known, provider
        raise LoginFailed("provider_unknown")

    def _attempt(self, visit: Visit, name: str, provider: OpenIDProvider) -> LoginAttempt:
        return LoginAttempt(
            state=new_state(),
            nonce=new_nonce(),
            code_verifier=new_code_verifier(),
            provider=name,
            issuer=provider.issuer,
            client_id=provider.client_id,
            redirect_uri=visit.address(visit.callback_path(provider)),
            return_to=visit.wanted("return_to") or visit.wanted("target_link_uri") or visit.landing,
            created_at=self._management.clock(),
        )

    def _stopped(self, visit: Visit) -> Response:
        if not visit.is_navigation:
            raise LoginFailed("login_loop")
        self._management.emit(LoginFailure(reason="login_loop"))
        return page(
            "Signing in does not stick",
            "You have signed in several times, and were sent here once more. "
            "Allow cookies for this site and try again in a minute.",
            status=400,
            link=("To the start page", visit.landing),
            word="login_loop",
        )


def _passed_on(visit: Visit, name: str) -> str | None:
    value = visit.parameter(name)
    return value if value and len(value.encode()) <= _MAX_PASSED_ON else None
