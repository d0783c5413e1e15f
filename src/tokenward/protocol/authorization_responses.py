"""What the provider answers to requests that begin an authorization without a browser of ours.

Pushed authorization requests (RFC 9126), the device flow (RFC 8628) and backchannel
authentication (OpenID Connect CIBA Core 1.0). An answer without what the next step
needs is an error, whatever its status; the properties that give it raise what
`raise_for_error` raises if the answer is one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

from ..errors import InvalidResponse
from .responses import ProtocolResponse

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..secret import Secret

DEFAULT_INTERVAL: Final = 5.0
"""Seconds between two questions, "if no value is provided" (RFC 8628, section 3.2)."""

_SHORTEST_INTERVAL: Final = 1.0

# Authorization servers write URNs or https URLs (RFC 9126, section 2.2; RFC 9101, section 5.2).
_REQUEST_URI: Final = re.compile(
    r"(?:urn:[A-Za-z0-9][A-Za-z0-9-]{0,31}:|https://)[\x21-\x7e]{1,2000}"
)
# Shown to people, and followed by them: nothing that runs in a browser.
_WEB_PAGE: Final = re.compile(r"https?://[\x21-\x7e]{1,2000}")
_VISIBLE: Final = re.compile(r"[\x21-\x7e]{1,4096}")
_INVALID_CLIENT: Final[Mapping[int, str]] = {401: "invalid_client"}


@dataclass(frozen=True, slots=True, kw_only=True)
class PushedAuthorizationResponse(ProtocolResponse):
    """Answer of the pushed authorization request endpoint (RFC 9126, section 2.2)."""

    error_by_status: ClassVar[Mapping[int, str]] = _INVALID_CLIENT

    @property
    def request_uri(self) -> str:
        """What the browser takes to the authorization endpoint instead of the parameters.

        Good for one login; `authorization.pushed_authorization_url` makes the address.
        """
        return self.promised(self.text("request_uri"), "request_uri")

    @property
    def expires_in(self) -> float | None:
        """Seconds for which it is good."""
        return self.seconds("expires_in")

    def broken_rule(self) -> InvalidResponse | None:
        """Demand a `request_uri`, and that "`expires_in` [is] a positive integer" if told."""
        if _REQUEST_URI.fullmatch(self.text("request_uri") or "") is None:
            return InvalidResponse("request_uri", "is neither a URN nor an https URL")
        if self.expires_in == 0:
            return InvalidResponse("expires_in", "is over already")
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceAuthorizationResponse(ProtocolResponse):
    """Answer of the device authorization endpoint (RFC 8628, section 3.2)."""

    error_by_status: ClassVar[Mapping[int, str]] = _INVALID_CLIENT

    @property
    def device_code(self) -> Secret:
        """What the device asks for the token with."""
        return self.promised(self.secret("device_code"), "device_code")

    @property
    def user_code(self) -> str:
        """What the user types in. To be shown."""
        return self.promised(self.text("user_code"), "user_code")

    @property
    def verification_uri(self) -> str:
        """Where the user types it in. To be shown."""
        return self.promised(self.text("verification_uri"), "verification_uri")

    @property
    def verification_uri_complete(self) -> str | None:
        """The same with the code in it, for a QR code; None if there is none."""
        told = self.text("verification_uri_complete") or ""
        return told if _WEB_PAGE.fullmatch(told) else None

    @property
    def expires_in(self) -> float:
        """Seconds that the user has."""
        return self.promised(self.seconds("expires_in"), "expires_in")

    @property
    def interval(self) -> float:
        """Seconds to wait between two questions for the token, at least 1."""
        return _interval(self)

    def broken_rule(self) -> InvalidResponse | None:
        """Demand what the user and the device need to go on."""
        if not _is_visible(self.secret("device_code")):
            return InvalidResponse("device_code", "is missing, or is no code")
        user_code = self.text("user_code")
        if not user_code or not user_code.isprintable():
            return InvalidResponse("user_code", "is missing, or cannot be shown")
        if _WEB_PAGE.fullmatch(self.text("verification_uri") or "") is None:
            return InvalidResponse("verification_uri", "is no address of a page")
        return _no_time(self.seconds("expires_in"))


@dataclass(frozen=True, slots=True, kw_only=True)
class BackchannelAuthenticationResponse(ProtocolResponse):
    """Answer of the backchannel authentication endpoint (CIBA Core 1.0, section 7.3)."""

    error_by_status: ClassVar[Mapping[int, str]] = _INVALID_CLIENT

    @property
    def auth_req_id(self) -> Secret:
        """What the client asks for the token with."""
        return self.promised(self.secret("auth_req_id"), "auth_req_id")

    @property
    def expires_in(self) -> float:
        """Seconds that the user has."""
        return self.promised(self.seconds("expires_in"), "expires_in")

    @property
    def interval(self) -> float:
        """Seconds to wait between two questions for the token, at least 1."""
        return _interval(self)

    def broken_rule(self) -> InvalidResponse | None:
        """Demand what the client needs to go on."""
        if not _is_visible(self.secret("auth_req_id")):
            return InvalidResponse("auth_req_id", "is missing, or is no identifier")
        return _no_time(self.seconds("expires_in"))


def _is_visible(secret: Secret | None) -> bool:
    return secret is not None and _VISIBLE.fullmatch(secret.reveal()) is not None


def _interval(response: ProtocolResponse) -> float:
    told = response.seconds("interval")
    return DEFAULT_INTERVAL if told is None else max(told, _SHORTEST_INTERVAL)


def _no_time(expires_in: float | None) -> InvalidResponse | None:
    """Judge a lifetime that both specifications require."""
    if expires_in:
        return None
    return InvalidResponse("expires_in", "is not a positive number of seconds")
