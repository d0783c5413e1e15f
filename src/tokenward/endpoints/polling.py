"""Asking the token endpoint whether the user has decided: once, or until he has.

The device flow (RFC 8628, sections 3.4 and 3.5) and CIBA (CIBA Core 1.0, sections 10 and 11).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, TypeAlias

from ..clock import Clock, system_clock
from ..errors import ProviderUnavailable
from ..protocol.form import as_secret
from ..protocol.grants import BackchannelAuthentication, DeviceCode
from ..protocol.responses import TokenResponse, retry_after
from .call import TOKEN_DEADLINE, Call, endpoint
from .token_endpoint import token_call

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..protocol.authorization_responses import (
        BackchannelAuthenticationResponse,
        DeviceAuthorizationResponse,
    )
    from ..protocol.client_auth import ClientAuth
    from ..secret import Secret
    from ..transport import AsyncClient, SyncClient
    from .call import Sendable

Sleep: TypeAlias = Callable[[float], Awaitable[None] | None]
"""Waits for some seconds: `asyncio.sleep` or `time.sleep`, as the client is."""

SLOW_DOWN: Final = 5.0
"""Seconds that `slow_down` adds to the interval (RFC 8628, section 3.5)."""

LONGEST_INTERVAL: Final = 60.0
"""Seconds to which outages stretch the interval at most."""

_PASSING: Final = frozenset({"server_error", "temporarily_unavailable"})


@endpoint
def request_device_token(
    address: str,
    *,
    client_id: str,
    client_secret: Secret | str | None = None,
    client_auth: ClientAuth | None = None,
    device_code: Secret | str,
    resource: str | Sequence[str] = (),
    extra: Mapping[str, str | Secret] | None = None,
    deadline: float = TOKEN_DEADLINE,
) -> Call[TokenResponse]:
    """Ask once whether the user has said yes on another device (RFC 8628, section 3.4).

        response = await request_device_token(
            http, address, client_id="tv", device_code=device.device_code
        )

    `authorization_pending` and `slow_down` are errors like others; `poll_device_token`
    asks until there is an answer.
    """
    grant = DeviceCode(as_secret(device_code, argument="device_code"), resource=resource)
    return token_call(
        address,
        grant=grant,
        client_id=client_id,
        client_secret=client_secret,
        client_auth=client_auth,
        extra=extra,
        deadline=deadline,
    )


@endpoint
def request_backchannel_authentication_token(
    address: str,
    *,
    client_id: str,
    client_secret: Secret | str | None = None,
    client_auth: ClientAuth | None = None,
    auth_req_id: Secret | str,
    resource: str | Sequence[str] = (),
    extra: Mapping[str, str | Secret] | None = None,
    deadline: float = TOKEN_DEADLINE,
) -> Call[TokenResponse]:
    """Ask once whether the user has said yes to a CIBA request (CIBA Core 1.0, section 10.1).

        response = await request_backchannel_authentication_token(
            http,
            address,
            client_id="bank",
            client_secret=secret,
            auth_req_id=authentication.auth_req_id,
        )

    `poll_backchannel_authentication_token` asks until there is an answer.
    """
    grant = BackchannelAuthentication(
        as_secret(auth_req_id, argument="auth_req_id"), resource=resource
    )
    return token_call(
        address,
        grant=grant,
        client_id=client_id,
        client_secret=client_secret,
        client_auth=client_auth,
        extra=extra,
        deadline=deadline,
    )


@endpoint
def poll_device_token(
    address: str,
    *,
    client_id: str,
    client_secret: Secret | str | None = None,
    client_auth: ClientAuth | None = None,
    device: DeviceAuthorizationResponse,
    resource: str | Sequence[str] = (),
    extra: Mapping[str, str | Secret] | None = None,
    clock: Clock = system_clock,
    sleep: Sleep | None = None,
    deadline: float = TOKEN_DEADLINE,
) -> Sendable[TokenResponse]:
    """Wait until the user has decided on another device, and return the answer (RFC 8628).

        device = await request_device_authorization(http, address, client_id="tv")
        print(device.verification_uri, device.user_code)
        response = await poll_device_token(http, token_address, client_id="tv", device=device)

    It keeps to the provider's `interval`, waits 5 seconds more after each `slow_down`,
    asks less often while the provider is out of reach, and stops when the time is over:
    then the error is `expired_token`. Any other refusal ends it at once. To cancel,
    cancel the task; where there is none, let `sleep` raise. `deadline` is for each
    question. Raises what `device.raise_for_error()` raises.
    """
    grant = DeviceCode(device.device_code, resource=resource)
    call = token_call(
        address,
        grant=grant,
        client_id=client_id,
        client_secret=client_secret,
        client_auth=client_auth,
        extra=extra,
        deadline=deadline,
    )
    return Polling(call, device.interval, device.expires_in, clock, sleep)


@endpoint
def poll_backchannel_authentication_token(
    address: str,
    *,
    client_id: str,
    client_secret: Secret | str | None = None,
    client_auth: ClientAuth | None = None,
    authentication: BackchannelAuthenticationResponse,
    resource: str | Sequence[str] = (),
    extra: Mapping[str, str | Secret] | None = None,
    clock: Clock = system_clock,
    sleep: Sleep | None = None,
    deadline: float = TOKEN_DEADLINE,
) -> Sendable[TokenResponse]:
    """Wait until the user has decided on a CIBA request, and return the answer.

        authentication = await request_backchannel_authentication(
            http,
            endpoint,
            client_id="bank",
            client_secret=secret,
            scope="openid",
            login_hint="bob",
        )
        response = await poll_backchannel_authentication_token(
            http,
            token_address,
            client_id="bank",
            client_secret=secret,
            authentication=authentication,
        )

    It behaves as `poll_device_token` does (CIBA Core 1.0, sections 7.3 and 11).
    """
    grant = BackchannelAuthentication(authentication.auth_req_id, resource=resource)
    call = token_call(
        address,
        grant=grant,
        client_id=client_id,
        client_secret=client_secret,
        client_auth=client_auth,
        extra=extra,
        deadline=deadline,
    )
    return Polling(call, authentication.interval, authentication.expires_in, clock, sleep)


@dataclass(frozen=True, slots=True)
class Polling:
    """One question, asked until it is answered or its time is over."""

    call: Call[TokenResponse]
    interval: float
    """Seconds between two questions."""
    expires_in: float
    """Seconds until asking is useless."""
    clock: Clock
    sleep: Sleep | None
    """None: that of the event loop, or of the thread."""

    def check(self, base_url: str) -> None:
        """See `Sendable`."""
        self.call.check(base_url)

    async def send(self, http: AsyncClient) -> TokenResponse:
        """See `Sendable`."""
        sleep = self.sleep or asyncio.sleep
        rhythm = self._rhythm()
        answer: TokenResponse | None = None
        while True:
            pause = _next_pause(rhythm, answer)
            if isinstance(pause, TokenResponse):
                return pause
            waiting = sleep(pause)
            if waiting is not None:
                await waiting
            # Made now: a proof may be good for a minute only.
            answer = await self.call.again().send(http)

    def send_sync(self, http: SyncClient) -> TokenResponse:
        """See `Sendable`."""
        sleep = self.sleep or time.sleep
        rhythm = self._rhythm()
        answer: TokenResponse | None = None
        while True:
            pause = _next_pause(rhythm, answer)
            if isinstance(pause, TokenResponse):
                return pause
            sleep(pause)
            answer = self.call.again().send_sync(http)

    def _rhythm(self) -> Generator[float, TokenResponse, TokenResponse]:
        """Say how long to wait before each question, be told the answer, return the last one."""
        interval, pause = self.interval, self.interval
        ends_at = self.clock() + self.expires_in
        answer = TokenResponse()
        while self.clock() + pause < ends_at:
            answer = yield pause
            if answer.error == "slow_down":
                interval += SLOW_DOWN
            elif _out_of_reach(answer):
                # "clients MUST unilaterally reduce their polling frequency before retrying"
                interval = max(interval, min(interval * 2, LONGEST_INTERVAL))
            elif answer.error != "authorization_pending":
                return answer
            pause = max(interval, retry_after(answer.headers, now=self.clock()) or 0.0)
        return _expired(answer)


def _next_pause(
    rhythm: Generator[float, TokenResponse, TokenResponse], answer: TokenResponse | None
) -> float | TokenResponse:
    try:
        return next(rhythm) if answer is None else rhythm.send(answer)
    except StopIteration as end:
        last: TokenResponse = end.value
        return last


def _out_of_reach(answer: TokenResponse) -> bool:
    status = answer.http_status or 0
    return (
        isinstance(answer.exception, ProviderUnavailable)
        or status >= 500
        or status == 429
        or answer.error in _PASSING
    )


def _expired(answer: TokenResponse) -> TokenResponse:
    return replace(
        answer,
        error_type="policy",
        error="expired_token",
        error_description="the time that the user had is over",
        exception=None,
    )
