"""One registered client: where it asks for tokens, and when it may not."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias

from ..breaker import Breaker
from ..endpoints import get_discovery_document
from ..endpoints.token_endpoint import token_call
from ..errors import (
    DEFAULT_RETRY_AFTER,
    ConfigurationError,
    InvalidMetadata,
    ProtocolError,
    ProviderError,
    ProviderUnavailable,
    TokenUnavailable,
)
from ..events import ClientTokenFailed, ClientTokenRenewed, ProviderAlarm
from ..process_lock import ProcessLock
from ..protocol.client_auth import CERTIFICATE_METHODS, auth_method_of
from ..protocol.metadata import mtls_metadata
from ..protocol.token_answer import read_token_answer
from ..provider.grant import Grant
from ..provider.own_client import OwnClient, OwnSyncClient
from ..provider.registered_client import usable
from .effects import Effect
from .models import AccessToken, TokenSet
from .verdict import ALARM_PAUSE, judge

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from ..clock import Clock
    from ..endpoints.call import Call
    from ..errors import TokenwardError
    from ..events import EventSink
    from ..protocol.responses import DiscoveryResponse, TokenResponse
    from ..transport import AsyncClient, SyncClient
    from .client_registration import ClientCredentials, TokenTarget
    from .effects import Steps

_METADATA_AGE: Final = 60 * 60.0
"""Seconds that the endpoint of the metadata is used before they are read again."""

_STALE_IF_ERROR: Final = 24 * 60 * 60.0
"""Seconds it is used beyond that while the provider gives none."""

_DISCOVERY_DEADLINE: Final = 5.0
_MAX_PAUSES: Final = 1024
"""Refusals that are remembered; the oldest is forgotten."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """There is no token. Every caller raises an exception of its own, made by `error`."""

    error: Callable[[], TokenwardError]


Outcome: TypeAlias = AccessToken | Refusal


@dataclass(frozen=True, slots=True)
class _Endpoint:
    url: str
    read_at: float


class TokenClient:
    """Asks the provider for the tokens of one client, and leaves it alone when it must.

    Failures are not cached, but bounded: a provider that is out of reach by a breaker,
    a refusal that only an operator can mend by a pause.
    """

    def __init__(
        self,
        name: str,
        registration: ClientCredentials,
        *,
        clock: Clock,
        jitter: Callable[[], float],
        emit: EventSink,
    ) -> None:
        self.name = name
        self.registration = registration
        self._clock = clock
        self._emit = emit
        self._breaker = Breaker(clock=clock, jitter=jitter)
        self._pauses = Pauses(clock)
        self._endpoint: _Endpoint | None = None
        self._own_client = OwnClient()
        self._own_sync_client = OwnSyncClient()

    def may_not_ask(self, target: TokenTarget) -> Refusal | None:
        """Say why the provider is not to be asked now; None lets this caller through."""
        if refusal := self._pauses.of(self.name) or self._pauses.of(target):
            return refusal
        if wait := self._breaker.check():
            return later("the provider is out of reach", wait)
        return None

    def ask(self, target: TokenTarget) -> Steps[Outcome]:
        """Ask the provider once."""
        endpoint = yield from self._find_endpoint()
        if isinstance(endpoint, Refusal):
            return endpoint
        requested_at = self._clock()
        call = self._describe(endpoint, target)
        if isinstance(call, Refusal):
            return call
        response = yield from Effect(
            lambda: call.send(self._http()), lambda: call.send_sync(self._sync_http())
        )
        return self._judge(target, response, requested_at)

    async def aclose(self) -> None:
        """Close the client of the running event loop."""
        await self._own_client.aclose()

    def close(self) -> None:
        """Close the client that threads use."""
        self._own_sync_client.close()

    def _describe(self, endpoint: str, target: TokenTarget) -> Call[TokenResponse] | Refusal:
        registration = self.registration
        try:
            secret, client_auth = registration.proof()
            return token_call(
                endpoint,
                grant=target.grant(),
                client_id=registration.client_id,
                client_secret=secret,
                client_auth=client_auth,
                deadline=registration.deadline,
            )
        except ConfigurationError:
            raise
        except Exception as error:  # noqa: BLE001 - the caller's function, such as a vault's client
            failure = type(error).__name__
        self._tell("later", failure)
        return later(f"the proof of the client could not be had: {failure}")

    def _judge(
        self, target: TokenTarget, response: TokenResponse, requested_at: float
    ) -> AccessToken | Refusal:
        registration = self.registration
        try:
            answer = read_token_answer(
                usable(response, now=self._clock()),
                dangerously_allow_missing_token_type=(
                    registration.dangerously_allow_missing_token_type
                ),
            )
        except ProviderError as error:
            return self._refused(target, error)
        self._breaker.success()
        self._emit(ClientTokenRenewed(self.name))
        return TokenSet.from_grant(
            Grant(answer, None, requested_at),
            requested_scope=target.scope_text or "",
            expires_in=registration.default_expires_in,
        ).access_token

    def _refused(self, target: TokenTarget, error: ProviderError) -> Refusal:
        verdict = judge(error)
        self._tell(verdict.kind, verdict.reason)
        if not isinstance(error, ProtocolError):
            self._breaker.failure(verdict.retry_after)
            return later(str(error), verdict.retry_after)
        # It answered, so it is not out of reach; but asking again the same way is no use.
        self._breaker.success()
        self._emit(ProviderAlarm(verdict.reason, provider=target.endpoint))
        refusal = Refusal(partial(ProtocolError, error.response))
        of_client = verdict.kind == "alarm" and verdict.shared
        self._pauses.begin(self.name if of_client else target, refusal)
        return refusal

    def _find_endpoint(self) -> Steps[str | Refusal]:
        registration = self.registration
        if registration.token_endpoint is not None:
            return registration.token_endpoint
        known, now = self._endpoint, self._clock()
        if known is not None and now < known.read_at + _METADATA_AGE:
            return known.url
        response = yield from self._discover(registration.issuer or "")
        found = self._read_endpoint(response)
        if isinstance(found, str):
            self._endpoint = _Endpoint(found, now)
        elif known is not None and now < known.read_at + _METADATA_AGE + _STALE_IF_ERROR:
            return known.url
        return found

    def _discover(self, issuer: str) -> Steps[DiscoveryResponse]:
        policy = self.registration.discovery_policy
        response: DiscoveryResponse = yield from Effect(
            lambda: get_discovery_document(
                self._http(), issuer, policy=policy, deadline=_DISCOVERY_DEADLINE
            ),
            lambda: get_discovery_document(
                self._sync_http(), issuer, policy=policy, deadline=_DISCOVERY_DEADLINE
            ),
        )
        return response

    def _read_endpoint(self, response: DiscoveryResponse) -> str | Refusal:
        metadata = response.parsed
        if metadata is not None:
            method = auth_method_of(self.registration.client_auth or _no_method)
            if method in CERTIFICATE_METHODS:
                metadata = mtls_metadata(metadata)
            return metadata.token_endpoint
        problem = response.exception
        if isinstance(problem, InvalidMetadata):
            self._tell("alarm", "invalid_metadata")
            self._breaker.failure()
            return Refusal(partial(InvalidMetadata, problem.member, problem.problem))
        wait = problem.retry_after if isinstance(problem, ProviderUnavailable) else None
        self._tell("later", "no_metadata")
        self._breaker.failure()
        return later("the provider's metadata could not be had", wait)

    def _tell(self, kind: str, error: str) -> None:
        self._emit(ClientTokenFailed(self.name, kind=kind, error=error))

    def _http(self) -> AsyncClient:
        http = self.registration.http
        return self._own_client.get() if http is None else http

    def _sync_http(self) -> SyncClient:
        http = self.registration.sync_http
        return self._own_sync_client.get() if http is None else http


def _no_method(*_: object) -> None:
    """Stands for a client authentication without a name."""


def later(problem: str, retry_after: float | None = None) -> Refusal:
    """Say that asking again in some seconds may help; None: nobody said in how many."""
    wait = DEFAULT_RETRY_AFTER if retry_after is None else retry_after
    return Refusal(partial(TokenUnavailable, problem, retry_after=wait))


class Pauses:
    """Refusals that stand for a while: for a whole client, or for what it asked."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until: OrderedDict[Hashable, tuple[float, Refusal]] = OrderedDict()
        self._lock = ProcessLock()

    def begin(self, key: Hashable, refusal: Refusal) -> None:
        """Let `refusal` stand for `ALARM_PAUSE` seconds."""
        with self._lock:
            self._until[key] = (self._clock() + ALARM_PAUSE, refusal)
            self._until.move_to_end(key)
            if len(self._until) > _MAX_PAUSES:
                self._until.popitem(last=False)

    def of(self, key: Hashable) -> Refusal | None:
        """Return the refusal that stands; None if there is none."""
        until, refusal = self._until.get(key, (0.0, None))
        return refusal if self._clock() < until else None
