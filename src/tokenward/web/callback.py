"""Callback: the way back from the provider, which ends in a session or changes nothing."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

from ..errors import (
    InvalidToken,
    LoginFailed,
    ProviderError,
    ProviderUnavailable,
    SessionError,
    SessionTooLarge,
    StoreError,
)
from ..events import LoggedIn
from ..protocol.authorization import check_callback, read_callback
from ..protocol.id_token import REFRESH_CLAIMS
from ..secret import Secret
from ..single_flight import SingleFlight
from ..stores.app_data import write_data
from ..tokens.models import TokenSet
from ..tokens.session import Session
from .body import read_form
from .login_errors import LoginBroken, LoginInterrupted, LoginRefused
from .pages import redirect, with_cookies

if TYPE_CHECKING:
    from starlette.responses import Response

    from ..management import TokenManagement
    from ..protocol.authorization import CallbackParameters
    from ..protocol.json import JSON, JSONObject
    from ..provider import OpenIDProvider
    from ..provider.grant import Grant
    from .attempts import LoginAttempt, LoginAttempts, UsedStates
    from .cookies import Headers
    from .marks import LoopGuard
    from .session import NewSession, SessionSource
    from .visit import Visit

_logger = logging.getLogger(__name__)

_MAX_CAUSES: Final = 5
"""Exceptions of a chain that are logged."""

_PROOF: Final = (*REFRESH_CLAIMS, "sid")
"""Claims of the login that a refreshed id_token, or a logout_token, is compared with."""


@dataclass(frozen=True, slots=True)
class _Before:
    """What the browser had before the login."""

    session: Session | None
    data: Mapping[str, JSON] = field(repr=False)
    headers: Headers = field(repr=False)


class Callback:
    """The route `/callback`."""

    def __init__(
        self,
        management: TokenManagement,
        source: SessionSource,
        *,
        attempts: LoginAttempts,
        used: UsedStates,
        guard: LoopGuard,
    ) -> None:
        self._management = management
        self._source = source
        self._attempts = attempts
        self._used = used
        self._guard = guard
        self._flights: SingleFlight[NewSession] = SingleFlight()
        self._entries: SingleFlight[None] = SingleFlight()
        for flights in (self._flights, self._entries):
            management.before_stop(flights.drain)

    async def finish(self, visit: Visit) -> Response:
        """Take the provider's answer, and give the browser a session.

        An answer that belongs to no attempt of this browser touches nothing; any other
        ends its attempt. Only success touches the session that the browser had.

        Raises:
            LoginFailed: the answer belongs to nothing here.
            StoreError, ProviderError: something is out of reach. Where that shows before
                the code is sent, the attempt is as good as before.
        """
        parameters = read_callback(visit.query)
        attempt = self._attempts.find(visit.headers, parameters.state)
        if attempt is None:
            return await self._strayed(visit, parameters.state)
        if attempt.answer is not None:
            parameters = _read(attempt.answer)
        forget = self._attempts.end(visit.headers, attempt.state)
        try:
            new = await self._exchange(visit, parameters, attempt)
        except LoginFailed as error:
            failure = error
        else:
            # In a task of its own: a browser that goes away leaves no old session half ended.
            await self._entries.run(object(), partial(self._enter, visit, new))
            target = visit.allowed(attempt.return_to) or visit.landing
            forget += self._guard.finished(visit.headers)
            return with_cookies(redirect(target), forget)
        if failure.reason == "state_used" and await visit.connection.load():
            return with_cookies(redirect(visit.landing), forget)
        return with_cookies(visit.refuse(failure), forget)

    async def take(self, visit: Visit) -> Response:
        """Take the answer that a provider had the browser post, and let it come by a GET.

        A POST from the provider's site brings no cookie that is SameSite=Lax, so the session
        that the browser had would not be seen, nor be ended. The answer is kept in the cookie
        of its attempt, which does come along; all cookies come with the GET, and the code is
        in no address.

        Raises:
            LoginFailed: it is no such form.
        """
        if visit.query:
            raise LoginFailed("callback_malformed", "parameters in query and body")
        answer = Secret((await read_form(visit.scope, visit.receive)).decode("latin-1"))
        state = _read(answer).state
        attempt = self._attempts.find(visit.headers, state)
        kept = self._attempts.keep_answer(visit.headers, attempt, answer) if attempt else []
        query = urlencode({"state": state.reveal()})
        return with_cookies(redirect(f"{visit.base_path}{visit.path}?{query}"), kept)

    async def _strayed(self, visit: Visit, state: Secret) -> Response:
        """Answer a callback whose attempt this browser does not have (any more).

        Whoever is logged in, and came with a state that was used just now, comes by the
        back button; for anybody else it is not theirs, and changes nothing.
        """
        if await visit.connection.load() and await self._used.was_used(state):
            return redirect(visit.landing)
        unreadable = self._attempts.clean(visit.headers, state)
        return with_cookies(visit.refuse(LoginFailed("state_unknown")), unreadable)

    async def _enter(self, visit: Visit, new: NewSession) -> None:
        """Put the new session in the place of the old one, whose refresh token goes back."""
        try:
            old = await visit.connection.log_in(new)
        except StoreError:
            self._management.revoker.begin(new.session)
            raise
        if (
            old is not None
            and self._management.settings.revoke_at_logout
            and _is_another_login(old, new.session)
        ):
            self._management.revoker.begin(old)

    async def _exchange(
        self, visit: Visit, parameters: CallbackParameters, attempt: LoginAttempt
    ) -> NewSession:
        provider = self._provider_of(visit, attempt)
        session = await visit.connection.load()
        before = _Before(session, dict(visit.connection.data.items()), visit.headers)
        work = partial(self._redeem, provider, parameters, attempt, before)
        return await self._flights.run(attempt.key, work)

    def _provider_of(self, visit: Visit, attempt: LoginAttempt) -> OpenIDProvider:
        """Return where the attempt went, if it is to come back here, in this way and now."""
        provider = self._management.providers.get(attempt.provider)
        if (
            provider is None
            or (provider.issuer, provider.client_id) != (attempt.issuer, attempt.client_id)
            or visit.address(visit.path) != attempt.redirect_uri
        ):
            raise LoginFailed("state_of_another_provider")
        if (provider.response_mode == "form_post") != (attempt.answer is not None):
            raise LoginFailed("response_mode_mismatch")
        if self._attempts.is_over(attempt):
            raise LoginFailed("state_expired")
        return provider

    # ------------------------------------------------------------- once per attempt

    async def _redeem(
        self,
        provider: OpenIDProvider,
        parameters: CallbackParameters,
        attempt: LoginAttempt,
        before: _Before,
    ) -> NewSession:
        """Use the answer, once. In a task of its own: a browser that goes away loses nothing."""
        # What may fail without harm comes first; from then on, the attempt is spent.
        await provider.keys()
        metadata = await provider.metadata()
        lease = await self._used.use(attempt.state)
        code = check_callback(
            parameters,
            state=attempt.state,
            issuer=provider.issuer,
            iss_parameter_supported=metadata.authorization_response_iss_parameter_supported,
        )
        try:
            grant = await _grant(provider, code, attempt)
        except ProviderUnavailable:
            # The code was never sent: the browser may come again.
            await self._used.unuse(lease)
            raise
        return await self._log_in(_draft(self._management, provider, grant, attempt), before)

    async def _log_in(self, draft: Session, before: _Before) -> NewSession:
        try:
            added = await self._admit(draft)
            data = {**self._carried_over(draft, before), **added}
            new = await self._source.create(draft, data, headers=before.headers)
        except SessionTooLarge as error:
            failure = LoginFailed("session_too_large", str(error))
        except (LoginFailed, StoreError):
            self._management.revoker.begin(draft)
            raise
        else:
            reference = self._management.reference(new.session)
            self._management.emit(LoggedIn(provider=draft.provider, session=reference))
            return new
        self._management.revoker.begin(draft)
        raise failure

    async def _admit(self, draft: Session) -> Mapping[str, JSON]:
        """Return what the app adds to `request.session`.

        Raises `LoginRefused` if it refuses, and `LoginBroken` if it fails.
        """
        if draft.expires_at <= draft.created_at:
            raise LoginFailed("session_expiry_past")
        hook = self._management.settings.on_login
        if hook is None:
            return {}
        try:
            return _checked(await hook(self._management.user_of(draft), draft.tokens))
        except LoginBroken:
            raise
        except LoginFailed as error:
            failure: LoginFailed = LoginRefused(error.reason, error.detail)
        except Exception as error:  # noqa: BLE001 - a hook that fails refuses the login
            # Its message, and the variables of its frames, may hold the tokens.
            _logger.error("on_login raised %s", _trace(error))  # noqa: TRY400
            failure = LoginBroken("on_login_failed", _place(error))
        raise failure

    def _carried_over(self, draft: Session, before: _Before) -> JSONObject:
        """Keep what the app named, of an anonymous visitor or of the same user."""
        theirs = before.session
        if theirs and (theirs.issuer, theirs.claims["sub"]) != (draft.issuer, draft.claims["sub"]):
            return {}
        names = self._management.settings.carry_over
        return {name: before.data[name] for name in names if name in before.data}


def _checked(added: object) -> Mapping[str, JSON]:
    """Return what `on_login` returned, if `request.session` can hold it."""
    problem = ""
    if added is None:
        return {}
    if not isinstance(added, Mapping):
        problem = f"returned {type(added).__name__}, which is no mapping"
    else:
        try:
            write_data(dict(added))
        except SessionError as error:
            problem = f"returned what cannot be kept: {error}"
        else:
            return added
    _logger.error("on_login %s", problem)
    raise LoginBroken("on_login_failed", problem)


def _is_another_login(old: Session, new: Session) -> bool:
    """Tell whether the tokens of `old` may be given back without harm to those of `new`.

    Many providers end all of a user's session there with any token of it, and a second
    tab logs in to the same session.
    """
    if (old.issuer, old.proof.get("sub")) != (new.issuer, new.proof.get("sub")):
        return True
    before, now = old.claims.get("sid"), new.claims.get("sid")
    return before is not None and now is not None and before != now


def _read(answer: Secret) -> CallbackParameters:
    return read_callback(answer.reveal().encode("latin-1"))


async def _grant(provider: OpenIDProvider, code: Secret, attempt: LoginAttempt) -> Grant:
    """Exchange the code. `ProviderUnavailable` means that it was not sent."""
    try:
        return await provider.exchange_code(
            code=code,
            redirect_uri=attempt.redirect_uri,
            code_verifier=attempt.code_verifier,
            nonce=attempt.nonce,
        )
    except ProviderUnavailable as error:
        if not error.may_have_been_sent:
            raise
        failure: LoginFailed = LoginInterrupted(
            "no_answer", str(error), retry_after=error.retry_after
        )
    except InvalidToken as error:
        failure = LoginFailed("id_token_invalid", str(error))
    except ProviderError as error:
        failure = LoginFailed("code_refused", str(error))
    raise failure


def _draft(
    management: TokenManagement, provider: OpenIDProvider, grant: Grant, attempt: LoginAttempt
) -> Session:
    if grant.id_token is None:
        raise LoginFailed("id_token_missing")
    now, claims = management.clock(), grant.id_token.claims
    return Session(
        id="",
        provider=attempt.provider,
        issuer=provider.issuer,
        client_id=provider.client_id,
        claims=management.keep_claims({**(grant.userinfo or {}), **claims}),
        proof={name: claims[name] for name in _PROOF if name in claims},
        tokens=TokenSet.from_grant(
            grant, requested_scope=provider.scope, expires_in=provider.default_expires_in
        ),
        created_at=now,
        expires_at=_end(now + management.settings.lifetimes.absolute, claims),
        renewed_at=now,
    )


def _end(absolute: float, claims: Mapping[str, JSON]) -> float:
    """Bound a session by the provider's own limit (`session_expiry`, IPSIE)."""
    told = claims.get("session_expiry")
    if isinstance(told, bool) or not isinstance(told, int | float):
        return absolute
    return min(absolute, float(told))


def _place(error: Exception) -> str:
    """Name an exception and where it was raised. Its message may hold anything."""
    *_, (frame, line) = traceback.walk_tb(error.__traceback__)
    return f"{type(error).__name__} in {frame.f_code.co_qualname}, line {line}"


def _trace(error: BaseException) -> str:
    """Name an exception and those behind it, each with where it was raised; no messages."""
    told: list[str] = []
    cause: BaseException | None = error
    while cause is not None and len(told) < _MAX_CAUSES:
        frames = "".join(traceback.format_tb(cause.__traceback__))
        told.append(f"{type(cause).__qualname__}\n{frames}")
        cause = cause.__cause__ or cause.__context__
    return "after ".join(told).rstrip()
