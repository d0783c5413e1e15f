"""OpenIDProvider: one client as it is registered with one provider.

It knows where the provider's endpoints are, which keys it signs with, and how this
client proves itself there. Requests and answers go through `endpoints`; what an
answer is worth is decided here, and what becomes of it in `tokens`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final, TypeVar
from weakref import WeakSet

from ..clock import system_clock
from ..endpoints import choose_client_auth
from ..errors import (
    ConfigurationError,
    InvalidMetadata,
    InvalidResponse,
    InvalidToken,
    ProviderError,
    ProviderUnavailable,
    SigningKeyNotFound,
)
from ..events import IdTokenNotTaken, IdTokenRejected, ProviderAlarm, deliver, log_event
from ..protocol.authorization import (
    AuthorizationRequest,
    code_challenge,
    pushed_authorization_url,
)
from ..protocol.grants import AuthorizationCode, RefreshToken, resources_of
from ..protocol.id_token import StaleIdToken
from ..protocol.logout import end_session_url
from ..protocol.metadata import DiscoveryPolicy, check_issuer
from ..secret import Secret
from ..setting_kinds import check_callable, read_kind
from .checks import (
    check_client,
    check_durations,
    check_http,
    check_several,
    check_support,
    read_authorize_parameters,
)
from .documents import ProviderDocuments
from .grant import Grant
from .id_token_rules import IdTokenRules
from .own_client import OwnClient
from .registered_client import RegisteredClient, alarm_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ..clock import Clock
    from ..events import Event, EventListener, EventSink
    from ..protocol.authorization import ResponseMode
    from ..protocol.client_auth import ClientAuth
    from ..protocol.grants import TokenRequest
    from ..protocol.json import JSON
    from ..protocol.keys import KeySet
    from ..protocol.metadata import ProviderMetadata
    from ..protocol.token_answer import TokenAnswer
    from ..transport import AsyncClient

_DRAIN: Final = 5.0
"""Seconds that `aclose` waits for a fetch under way."""

T = TypeVar("T")


class OpenIDProvider:
    """Log users in at an OpenID Provider, and keep their tokens fresh there.

        provider = OpenIDProvider(
            "https://op.example",
            client_id="shop",
            client_secret=os.environ["CLIENT_SECRET"],
            scope="openid profile offline_access",
        )

    Making one does no I/O; metadata and keys are read at first use, shared by all
    who wait, and kept. It may be used from several event loops. Settings that are
    unsafe or contradict each other raise `ConfigurationError`, which names them.

    Args:
        issuer: The provider, exactly as its metadata spell it; https.
        client_id: As registered.
        client_secret: Sent by `client_secret_basic`. None with no `client_auth`: a
            public client.
        scope: Names separated by a space; `openid` is among them.
        client_auth: Another way to prove who the client is (`protocol.client_auth`).
        http: Your `AsyncClient`, of httpx or httpx2: you close it, and it serves one
            event loop. None: a client of our own for each loop, closed by `aclose`.
        redirect_path: Where the browser comes back to; None: the middleware's route.
        authorize_parameters: Added to the login's URL, such as `{"prompt": "consent"}`.
        resource: Where the tokens will be used (RFC 8707).
        audience: The same, for providers that have a parameter `audience`.
        id_token_algorithms: What id_tokens may be signed with; never `none` or HMAC.
        leeway: Seconds that the provider's clock may differ, 0 to 300.
        max_age: Seconds since the user last proved who he is. None: no limit.
        acr_values: How strongly the user must have proved it: one of these.
        trusted_audiences: Others that an id_token may be addressed to as well.
        userinfo: Whether a login also asks the UserInfo endpoint.
        pushed_authorization_requests: Whether logins are pushed to the provider, so that
            browsers carry a reference alone (RFC 9126). Always so where it requires it.
        response_mode: How the answer comes to the callback.
        default_expires_in: Seconds a token is used when the provider does not say.
        policy: Which endpoints are believed. None: those on any https host.
        timeout: Seconds for a whole call that can be made again.
        token_timeout: Seconds for a whole token call, which cannot.
        clock: The time.
        on_event: Takes what happens, beside the `TokenManagement` that uses the provider.
            None: events are logged where there is no such.
        dangerously_allow_http: Take an http issuer on loopback, for development.
        dangerously_allow_missing_token_type: For providers that leave it out.
    """

    def __init__(
        self,
        issuer: str,
        *,
        client_id: str,
        client_secret: str | Secret | None = None,
        scope: str = "openid",
        client_auth: ClientAuth | None = None,
        http: AsyncClient | None = None,
        redirect_path: str | None = None,
        authorize_parameters: Mapping[str, str] | None = None,
        resource: str | Sequence[str] = (),
        audience: str | None = None,
        id_token_algorithms: Sequence[str] = ("RS256",),
        leeway: float = 60.0,
        max_age: int | None = None,
        acr_values: Sequence[str] = (),
        trusted_audiences: Sequence[str] = (),
        userinfo: bool = False,
        pushed_authorization_requests: bool = False,
        response_mode: ResponseMode = "query",
        default_expires_in: float = 300.0,
        policy: DiscoveryPolicy | None = None,
        timeout: float = 5.0,
        token_timeout: float = 30.0,
        clock: Clock = system_clock,
        on_event: EventSink | None = None,
        dangerously_allow_http: bool = False,
        dangerously_allow_missing_token_type: bool = False,
    ) -> None:
        secret = Secret(client_secret) if isinstance(client_secret, str) else client_secret
        del client_secret  # no traceback of what follows shows it
        if secret is not None and not isinstance(secret, Secret):
            raise ConfigurationError("client_secret", "must be text, or a Secret")
        policy = read_kind("policy", policy or DiscoveryPolicy(), DiscoveryPolicy)
        if dangerously_allow_http:
            policy = replace(policy, dangerously_allow_http=True)
        check_issuer(read_kind("issuer", issuer, str), policy)
        check_client(client_id, scope=scope, response_mode=response_mode)
        check_durations(
            {
                "default_expires_in": default_expires_in,
                "timeout": timeout,
                "token_timeout": token_timeout,
            }
        )
        self.issuer = issuer
        self.client_id = client_id
        self.scope = scope
        """What is asked for at login: names separated by a space."""
        self.redirect_path = redirect_path
        """Where the browser comes back to; None: the middleware's callback route."""
        self.response_mode: ResponseMode = response_mode
        """How the answer comes to the callback."""
        self.default_expires_in = default_expires_in
        """Seconds a token is used when the provider does not say."""
        self.resource: tuple[str, ...] = resources_of(resource)
        """Where the tokens will be used; empty: the provider's own choice."""
        self.clock = clock
        self.client_auth: ClientAuth = choose_client_auth(secret, client_auth)
        """How this client proves itself."""
        self.policy = policy
        """Which endpoints are believed."""
        self.http = http
        """The caller's client; None: one of our own for each event loop."""
        self._authorize_parameters = read_authorize_parameters(authorize_parameters, audience)
        self._rules = IdTokenRules(
            issuer=issuer,
            client_id=client_id,
            algorithms=check_several("id_token_algorithms", id_token_algorithms),
            leeway=leeway,
            max_age=max_age,
            acr_values=check_several("acr_values", acr_values),
            trusted_audiences=check_several("trusted_audiences", trusted_audiences),
        )
        self._userinfo = userinfo
        self._pushed = pushed_authorization_requests
        self._on_event = on_event
        self._listeners: WeakSet[EventListener] = WeakSet()
        check_http(http)
        check_callable("clock", clock)
        check_callable("on_event", on_event)
        self._own_client = OwnClient()
        self._documents = ProviderDocuments(
            issuer,
            policy=policy,
            http=self._client,
            clock=clock,
            timeout=timeout,
            check=self._check_support,
            emit=self._emit,
        )
        self._registered = RegisteredClient(
            client_id,
            client_auth=self.client_auth,
            documents=self._documents,
            http=self._client,
            clock=clock,
            timeout=timeout,
            token_timeout=token_timeout,
            missing_token_type=dangerously_allow_missing_token_type,
            emit=self._emit,
        )

    def __repr__(self) -> str:
        # A traceback may show one whose settings were refused before they were kept.
        issuer, client_id = getattr(self, "issuer", None), getattr(self, "client_id", None)
        return f"OpenIDProvider({issuer!r}, client_id={client_id!r})"

    def bind_events(self, listener: EventListener) -> None:
        """Send events to `listener` as well, for as long as it lives.

        Several apps may share one provider. What a listener raises is logged, and goes
        no further.
        """
        self._listeners.add(listener)

    async def aclose(self) -> None:
        """Wait for fetches under way, and close the client of the running event loop.

        A client that you passed stays open. The provider can be used again after.
        """
        await self._documents.drain(_DRAIN)
        await self._own_client.aclose()

    async def metadata(self) -> ProviderMetadata:
        """Return what the provider says about itself, read at most once an hour or so.

        Raises `ProviderUnavailable`, `InvalidMetadata` or, when the provider lacks
        what this client is set up to use, `ConfigurationError`.
        """
        return await self._documents.metadata()

    async def keys(self) -> KeySet:
        """Return the keys the provider signs with. Raises what `metadata` raises."""
        return await self._documents.keys()

    async def judge(self, validate: Callable[[KeySet], T]) -> T:
        """Return what `validate` makes of the provider's keys; newer ones are got if need be.

        For a logout_token: `await provider.judge(lambda keys: validate_logout_token(...))`.
        """
        return await self._documents.judge(validate)

    async def authorization_url(
        self,
        *,
        redirect_uri: str,
        state: Secret,
        nonce: Secret,
        code_verifier: Secret,
        prompt: str | None = None,
        login_hint: str | None = None,
        ui_locales: str | None = None,
    ) -> str:
        """Return where the browser goes to log in (OIDC Core 3.1.2.1). Holds secrets.

        `prompt`, `login_hint` and `ui_locales` take the place of the same names in
        `authorize_parameters`. Raises what `metadata` raises; and, where the request is
        pushed, `ProviderUnavailable` or `ProtocolError` if the provider does not take it.
        """
        metadata = await self.metadata()
        own = {"prompt": prompt, "login_hint": login_hint, "ui_locales": ui_locales}
        given = {name for name, value in own.items() if value is not None}
        configured = self._authorize_parameters.items()
        request = AuthorizationRequest(
            redirect_uri=redirect_uri,
            scope=self.scope,
            state=state,
            nonce=nonce,
            code_challenge=code_challenge(code_verifier),
            response_mode=self.response_mode,
            prompt=prompt,
            login_hint=login_hint,
            ui_locales=ui_locales,
            acr_values=" ".join(self._rules.acr_values) or None,
            max_age=self._rules.max_age,
            resource=self.resource,
            extra={name: value for name, value in configured if name not in given},
        )
        endpoint = metadata.authorization_endpoint
        if not (self._pushed or metadata.require_pushed_authorization_requests):
            return request.url(endpoint, client_id=self.client_id)
        # No way back to the front channel: what was to be kept from it stays out of it.
        request_uri = await self._registered.push(request)
        return pushed_authorization_url(endpoint, client_id=self.client_id, request_uri=request_uri)

    async def exchange_code(
        self, *, code: Secret, redirect_uri: str, code_verifier: Secret, nonce: Secret
    ) -> Grant:
        """Return what the provider gives for the code of a login, with a valid id_token.

        Sent once, and not before the keys are at hand, so that no code is spent in
        vain. The tokens of an answer that cannot be used are revoked, best effort.

        Raises `ProtocolError` when the provider refuses, `ProviderUnavailable` when it
        gives no answer, `InvalidResponse` or `InvalidToken` when its answer breaks a
        rule, and what `metadata` raises.
        """
        await self.keys()
        request = AuthorizationCode(
            code, redirect_uri=redirect_uri, code_verifier=code_verifier, resource=self.resource
        )
        try:
            answer, requested_at = await self._registered.request_token(request)
        except ProviderError as error:
            if alarm := alarm_of(error):
                self._emit(ProviderAlarm(alarm, provider=self.issuer))
            raise
        refusal: ProviderError
        try:
            return await self._login(answer, requested_at=requested_at, nonce=nonce)
        except ProviderError as error:
            refusal = error
        if isinstance(refusal, ProviderUnavailable):
            refusal.may_have_been_sent = True  # whatever is missing now: the code is spent
        await self._reject(answer, refusal)
        raise refusal

    async def refresh(
        self,
        refresh_token: Secret,
        *,
        claims: Mapping[str, JSON],
        scope: str | None = None,
        resource: tuple[str, ...] = (),
    ) -> Grant:
        """Return what the provider gives for a refresh token. Sent once.

        `claims` are those of the id_token at login, at least `REFRESH_CLAIMS`. A new
        id_token must speak of the same login (OIDC Core 12.2); one that does not
        makes all of the answer void, which is revoked, best effort, before
        `InvalidToken` is raised. One that is merely out of date, or for whose key the
        provider could not be asked, is left out, with an event.

        `scope=None`: all that was granted. `resource` empty: as at login. Raises what
        `exchange_code` raises, but sends no alarm event: that is the caller's, who
        knows how often. `may_have_been_sent` tells whether the token may be spent.
        """
        # An outage of the keys must show before anything is spent.
        await self.keys()
        request = RefreshToken(refresh_token, scope=scope, resource=resource or self.resource)
        answer, requested_at = await self._registered.request_token(request)
        if answer.id_token is None:
            return Grant(answer, None, requested_at)
        validate = self._rules.of_refresh(
            answer.id_token, previous=claims, access_token=answer.access_token, now=self.clock()
        )
        refusal: InvalidToken
        try:
            return Grant(answer, await self._documents.judge(validate), requested_at)
        except (
            StaleIdToken,
            SigningKeyNotFound,  # it may sign with a key that it is yet to publish
            ProviderUnavailable,
            InvalidMetadata,
            ConfigurationError,
        ) as error:
            self._emit(IdTokenNotTaken(self.issuer, str(error)))
            return Grant(answer, None, requested_at)
        except InvalidToken as error:
            refusal = error
        await self._reject(answer, refusal)
        raise refusal

    async def request_token(self, request: TokenRequest) -> Grant:
        """Return what the provider gives for a grant that logs nobody in. Sent once.

        For token exchange and for grants of your own; an id_token in the answer is not
        taken. Raises what `refresh` raises.
        """
        answer, requested_at = await self._registered.request_token(request)
        return Grant(answer, None, requested_at)

    async def revoke(self, token: Secret, *, token_type_hint: str = "refresh_token") -> None:  # noqa: S107 - a kind of token
        """Give a token back (RFC 7009). Fine if it is unknown there, or cannot be given back.

        `token_type_hint`: `refresh_token` or `access_token`. Where the provider has no
        revocation endpoint nothing happens. Raises `ProtocolError`,
        `ProviderUnavailable` or what `metadata` raises.
        """
        await self._registered.revoke(token, token_type_hint=token_type_hint)

    async def userinfo(self, access_token: Secret, *, sub: str) -> Mapping[str, JSON]:
        """Return what the provider says about the user `sub` (OIDC Core 5.3).

        Raises `InvalidResponse` when it speaks of somebody else, `ProtocolError`,
        `ProviderUnavailable`, and what `metadata` raises.
        """
        return await self._registered.userinfo(access_token, sub=sub)

    async def end_session_url(
        self,
        *,
        id_token_hint: Secret | None,
        post_logout_redirect_uri: str | None,
        state: Secret | None,
    ) -> str | None:
        """Return where the browser goes to log out there too (RP-Initiated Logout, section 2).

        None: there is no such place. Holds secrets. Raises what `metadata` raises.
        """
        endpoint = (await self.metadata()).end_session_endpoint
        if endpoint is None:
            return None
        return end_session_url(
            endpoint,
            client_id=self.client_id,
            id_token_hint=id_token_hint,
            post_logout_redirect_uri=post_logout_redirect_uri,
            state=state,
        )

    async def _login(self, answer: TokenAnswer, *, requested_at: float, nonce: Secret) -> Grant:
        if answer.id_token is None:
            raise InvalidResponse("id_token", "is missing, though `openid` was asked for")
        id_token = await self._documents.judge(
            self._rules.of_login(
                answer.id_token, nonce=nonce, access_token=answer.access_token, now=self.clock()
            )
        )
        if not self._userinfo:
            return Grant(answer, id_token, requested_at)
        userinfo = await self.userinfo(answer.access_token, sub=id_token.sub)
        return Grant(answer, id_token, requested_at, userinfo)

    async def _reject(self, answer: TokenAnswer, refusal: ProviderError) -> None:
        if isinstance(refusal, InvalidToken):
            self._emit(IdTokenRejected(self.issuer, refusal.rule, refusal.problem))
        await self._registered.give_back(answer)

    def _client(self) -> AsyncClient:
        return self._own_client.get() if self.http is None else self.http

    def _check_support(self, metadata: ProviderMetadata) -> None:
        check_support(
            metadata,
            client_auth=self.client_auth,
            userinfo=self._userinfo,
            pushed=self._pushed or metadata.require_pushed_authorization_requests,
        )

    def _emit(self, event: Event) -> None:
        for listener in (listeners := tuple(self._listeners)):
            deliver(event, listener.emit)
        if self._on_event or not listeners:
            deliver(event, self._on_event or log_event)
