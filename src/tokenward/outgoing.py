"""The right token on an outgoing call, and nowhere else.

What a call goes through is one generator, `_flow`: it asks for a token, or sends a
request. It is driven on an event loop or in a thread, for httpx and for httpx2, whose
modules here only put their own base class beside it.

Nothing of a user is on the objects that clients share: whose token it is, is looked up
when a request is sent.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, cast

from .call_rules import PREPARED, CallRules, Request, Response, is_replayable
from .errors import ConfigurationError, NotAuthenticated, TokenUnavailable
from .loop_thread import is_on_loop
from .tokens.models import LOGIN, AccessToken, Target
from .tokens.session import current_session

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator, Mapping, Sequence

    from .secret import Secret
    from .tokens.client_credentials import ClientCredentialsTokens
    from .tokens.exchange import Exchange
    from .tokens.interfaces import RequestSession, SyncTokenSource, TokenSource

NOT_RESENT: Final = "tokenward.not_resent"
"""In `response.extensions` of a 401: why the call was not made again with another token.

`body`: it cannot be replayed. `method`: `resend_unsafe_methods=False`. `redirected`: the
answer is another place's. `challenge`: the API asks for something else than a token.
`same_token`: there is no other one now.
"""

_PATIENCE: Final = 60.0
"""Seconds that a thread waits for the event loop of its request, which has bounds of its own."""

RequestT = TypeVar("RequestT", bound=Request)
ResponseT = TypeVar("ResponseT", bound=Response)


# ------------------------------------------------------------------ whose token


@dataclass(frozen=True, slots=True)
class ConstantToken:
    """A token that is there already. A `TokenSource` and a `SyncTokenSource`."""

    access_token: AccessToken

    async def token(self, *, rejected: AccessToken | None = None) -> AccessToken:
        """Return it, whoever rejects it."""
        return self.access_token

    def token_sync(self, *, rejected: AccessToken | None = None) -> AccessToken:
        """Return it, whoever rejects it."""
        return self.access_token


@dataclass(frozen=True, slots=True)
class CurrentUser:
    """The user of the request that is being answered when a call is sent.

    A `TokenSource`; and a `SyncTokenSource` in threads that answer a request, as
    endpoints written with `def` do. It knows no user itself, and where none is known it
    raises `NotAuthenticated`: it never falls back to a token of the app's own.
    """

    target: Target = LOGIN
    exchange: Exchange | None = None
    """What the user's token is exchanged for. None: it is sent itself."""

    async def token(self, *, rejected: AccessToken | None = None) -> AccessToken:
        """Return a valid token of the current user. Raises what `UserTokens.token` raises."""
        return await self._ask(self._session(), rejected)

    def token_sync(self, *, rejected: AccessToken | None = None) -> AccessToken:
        """Do the same from a thread, by way of the event loop that answers the request.

        Raises:
            TypeError: it is called on an event loop, which it would block for ever.
        """
        if is_on_loop():
            raise TypeError("a sync client cannot get a user's token here: use an AsyncClient")
        session = self._session()
        loop = session.loop
        if not loop.is_running():
            raise TokenUnavailable("the request is over, and so is its event loop")
        future = asyncio.run_coroutine_threadsafe(self._ask(session, rejected), loop)
        try:
            return future.result(_PATIENCE)
        except TimeoutError:
            future.cancel()
        raise TokenUnavailable("the event loop of the request does not answer")

    async def _ask(self, session: RequestSession, rejected: AccessToken | None) -> AccessToken:
        if self.exchange is not None:
            return await session.exchanged(self.exchange, rejected=rejected)
        return await session.token(target=self.target, rejected=rejected)

    def _session(self) -> RequestSession:
        session = current_session.get()
        if session is None:
            raise NotAuthenticated(
                "there is no request here whose user this call could be for; "
                "outside of requests use auth.users.handle and TokenAuth"
            )
        return session


# -------------------------------------------------------------------- the flow


@dataclass(frozen=True, slots=True)
class _Need:
    """The flow needs a token: any, or another one than the rejected."""

    rejected: AccessToken | None


_ANY: Final = _Need(None)


class TokenFlow(Generic[RequestT, ResponseT]):
    """Puts a token on every request to the origins that it is for.

    Half of an `Auth` class: the modules `httpx` and `httpx2` add the other half.
    """

    def __init__(
        self,
        source: TokenSource | SyncTokenSource | AccessToken,
        *,
        origins: str | Sequence[str],
        keep_authorization: bool = False,
        resend_unsafe_methods: bool = True,
        dangerously_allow_http: bool = False,
    ) -> None:
        self._source = ConstantToken(source) if isinstance(source, AccessToken) else source
        self._rules = CallRules.read(
            origins,
            keep_authorization=keep_authorization,
            resend_unsafe_methods=resend_unsafe_methods,
            dangerously_allow_http=dangerously_allow_http,
        )

    async def async_auth_flow(self, request: RequestT) -> AsyncGenerator[RequestT, ResponseT]:
        """Drive the flow on the event loop, as an `AsyncClient` wants it."""
        if not hasattr(self._source, "token"):
            raise TypeError("this source has no `token`, which an AsyncClient needs")
        source = cast("TokenSource", self._source)
        flow = self._flow(request)
        step = next(flow)
        answer: AccessToken | ResponseT
        while True:
            if isinstance(step, _Need):
                answer = await source.token(rejected=step.rejected)
            else:
                answer = yield step
            try:
                step = flow.send(answer)
            except StopIteration:
                return

    def sync_auth_flow(self, request: RequestT) -> Generator[RequestT, ResponseT, None]:
        """Drive the flow in a thread, as a `Client` wants it."""
        if not hasattr(self._source, "token_sync"):
            raise TypeError("this source has no `token_sync`: use it with an AsyncClient")
        source = cast("SyncTokenSource", self._source)
        flow = self._flow(request)
        step = next(flow)
        answer: AccessToken | ResponseT
        while True:
            if isinstance(step, _Need):
                answer = source.token_sync(rejected=step.rejected)
            else:
                answer = yield step
            try:
                step = flow.send(answer)
            except StopIteration:
                return

    def _flow(self, request: RequestT) -> Generator[_Need | RequestT, Any, None]:
        rules = self._rules
        if rules.keep_authorization and rules.has_own_proof(request):
            yield request
            return
        rules.check(request)
        # Before it is sent: afterwards a stream may look like a body that was read.
        replayable = is_replayable(request)
        token: AccessToken = yield _ANY
        response: ResponseT = yield _with_token(request, token)
        if response.status_code != 401:
            return
        reason = rules.why_not_again(request, response, replayable=replayable)
        if reason is None:
            another: AccessToken = yield _Need(token)
            if another.value != token.value:
                yield _with_token(request, another)
                return
            reason = "same_token"
        response.extensions[NOT_RESENT] = reason


class UserTokenFlow(TokenFlow[RequestT, ResponseT]):
    """Puts the token of the current user on every request to the origins that it is for."""

    def __init__(
        self,
        *,
        origins: str | Sequence[str],
        resource: str | Sequence[str] = (),
        scope: str | None = None,
        exchange: Exchange | None = None,
        keep_authorization: bool = False,
        resend_unsafe_methods: bool = True,
        dangerously_allow_http: bool = False,
    ) -> None:
        if exchange is not None and (resource or scope):
            raise ConfigurationError("exchange", "says itself what the token is for")
        super().__init__(
            CurrentUser(Target.of(resource=resource, scope=scope), exchange),
            origins=origins,
            keep_authorization=keep_authorization,
            resend_unsafe_methods=resend_unsafe_methods,
            dangerously_allow_http=dangerously_allow_http,
        )


class ClientCredentialsFlow(TokenFlow[RequestT, ResponseT]):
    """Puts a token of the app itself on every request to the origins that it is for."""

    def __init__(
        self,
        tokens: ClientCredentialsTokens,
        name: str,
        *,
        origins: str | Sequence[str],
        scope: str | None = None,
        resource: str | Sequence[str] | None = None,
        extra: Mapping[str, str | Secret] | None = None,
        keep_authorization: bool = False,
        resend_unsafe_methods: bool = True,
        dangerously_allow_http: bool = False,
    ) -> None:
        super().__init__(
            tokens.source(name, scope=scope, resource=resource, extra=extra),
            origins=origins,
            keep_authorization=keep_authorization,
            resend_unsafe_methods=resend_unsafe_methods,
            dangerously_allow_http=dangerously_allow_http,
        )


def _with_token(request: RequestT, token: AccessToken) -> RequestT:
    request.headers["authorization"] = token.authorization
    request.extensions[PREPARED] = True
    return request
