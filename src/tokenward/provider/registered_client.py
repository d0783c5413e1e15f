"""What a registered client asks of its provider's endpoints, and what an answer means."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from ..endpoints import (
    get_userinfo,
    push_authorization_request,
    request_token,
    revoke_token,
)
from ..errors import (
    InvalidMetadata,
    ProtocolError,
    ProviderError,
    ProviderUnavailable,
    TokenwardError,
)
from ..events import RevocationFailed, Revoked
from ..protocol.client_auth import CERTIFICATE_METHODS, auth_method_of
from ..protocol.id_token import validate_userinfo
from ..protocol.metadata import mtls_metadata
from ..protocol.responses import ProtocolResponse, retry_after
from ..protocol.token_answer import read_token_answer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ..clock import Clock
    from ..events import EventSink
    from ..protocol.authorization import AuthorizationRequest
    from ..protocol.client_auth import ClientAuth
    from ..protocol.grants import TokenRequest
    from ..protocol.json import JSON
    from ..protocol.metadata import ProviderMetadata
    from ..protocol.token_answer import TokenAnswer
    from ..secret import Secret
    from ..transport import AsyncClient
    from .documents import ProviderDocuments

ALARMS: Final = frozenset(
    {
        "invalid_client",
        "unauthorized_client",
        "unsupported_grant_type",
        "invalid_scope",
        "invalid_target",
    }
)
"""Refusals of this client rather than of a user (RFC 6749, section 5.2; RFC 8707)."""

_PASSING: Final = frozenset({"temporarily_unavailable", "server_error"})

R = TypeVar("R", bound=ProtocolResponse)


class RegisteredClient:
    """Call the endpoints as one client, and turn refusals into the errors they mean.

    `http` gives the HTTP client of the running event loop; `timeout` and
    `token_timeout` are seconds for a whole call.
    """

    def __init__(
        self,
        client_id: str,
        *,
        client_auth: ClientAuth,
        documents: ProviderDocuments,
        http: Callable[[], AsyncClient],
        clock: Clock,
        timeout: float,
        token_timeout: float,
        missing_token_type: bool,
        emit: EventSink,
    ) -> None:
        self._client_id = client_id
        self._client_auth = client_auth
        self._documents = documents
        self._http = http
        self._clock = clock
        self._timeout = timeout
        self._token_timeout = token_timeout
        self._missing_token_type = missing_token_type
        self._emit = emit

    async def request_token(self, grant: TokenRequest) -> tuple[TokenAnswer, float]:
        """Return a good answer, and when it was asked for (seconds since the epoch)."""
        metadata = await self._metadata()
        requested_at = self._clock()
        response = await request_token(
            self._http(),
            metadata.token_endpoint,
            grant=grant,
            client_id=self._client_id,
            client_auth=self._client_auth,
            deadline=self._token_timeout,
        )
        answer = read_token_answer(
            self._usable(response),
            dangerously_allow_missing_token_type=self._missing_token_type,
        )
        return answer, requested_at

    async def push(self, request: AuthorizationRequest) -> str:
        """Return the `request_uri` under which the provider keeps an authorization request."""
        metadata = await self._metadata()
        if metadata.pushed_authorization_request_endpoint is None:
            raise InvalidMetadata("pushed_authorization_request_endpoint", "is missing")
        response = await push_authorization_request(
            self._http(),
            metadata.pushed_authorization_request_endpoint,
            client_id=self._client_id,
            client_auth=self._client_auth,
            request=request,
            deadline=self._timeout,
        )
        return self._usable(response).request_uri

    async def revoke(self, token: Secret, *, token_type_hint: str) -> None:
        """Give a token back; nothing happens where the provider has no endpoint for it."""
        metadata = await self._metadata()
        if metadata.revocation_endpoint is None:
            return
        response = await revoke_token(
            self._http(),
            metadata.revocation_endpoint,
            token=token,
            client_id=self._client_id,
            client_auth=self._client_auth,
            token_type_hint=token_type_hint,
            deadline=self._timeout,
        )
        self._usable(response)

    async def give_back(self, answer: TokenAnswer) -> None:
        """Revoke the tokens of an answer that will not be used, best effort.

        The refresh token first: most providers end the whole grant with it (RFC
        7009, section 2.1).
        """
        tokens = {"refresh_token": answer.refresh_token, "access_token": answer.access_token}
        for hint, token in tokens.items():
            if token is None:
                continue
            try:
                await self.revoke(token, token_type_hint=hint)
            except TokenwardError as error:
                self._emit(RevocationFailed(type(error).__name__, token_type_hint=hint))
            else:
                self._emit(Revoked(hint))

    async def userinfo(self, access_token: Secret, *, sub: str) -> Mapping[str, JSON]:
        """Return what the provider says about the user `sub`."""
        metadata = await self._metadata()
        if metadata.userinfo_endpoint is None:
            raise InvalidMetadata("userinfo_endpoint", "is missing")
        response = await get_userinfo(
            self._http(),
            metadata.userinfo_endpoint,
            access_token=access_token,
            deadline=self._timeout,
        )
        return validate_userinfo(self._usable(response).json or {}, sub=sub)

    async def _metadata(self) -> ProviderMetadata:
        metadata = await self._documents.metadata()
        has_certificate = auth_method_of(self._client_auth) in CERTIFICATE_METHODS
        return mtls_metadata(metadata) if has_certificate else metadata

    def _usable(self, response: R) -> R:
        return usable(response, now=self._clock())


def usable(response: R, *, now: float) -> R:
    """Return a good answer, or raise what a bad one means.

    An outage is told apart from a refusal here, once for everybody: 5xx, 429 and
    `temporarily_unavailable` say "later", and when.
    """
    if not response.is_error or response.exception is not None:
        return response.raise_for_error()
    status = response.http_status or 0
    if status >= 500 or status == 429 or response.error in _PASSING:
        wait = retry_after(response.headers, now=now)
        raise ProviderUnavailable(
            f"the provider answered HTTP {status}",
            retry_after=wait,
            may_have_been_sent=True,
        )
    raise ProtocolError(response)


def alarm_of(error: ProviderError) -> str | None:
    """Return the refusal of the client itself that `error` is; None if it is another."""
    told = error.response.error if isinstance(error, ProtocolError) else None
    return told if told in ALARMS else None
