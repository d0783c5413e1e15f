"""What the registration endpoint answers to a client that introduces itself (RFC 7591)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ..errors import InvalidResponse
from .responses import ProtocolResponse

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..secret import Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistrationResponse(ProtocolResponse):
    """Answer of the registration endpoint (RFC 7591, section 3.2.1; RFC 7592, section 3).

    `json` holds the metadata as they were registered, which may not be what was asked.
    """

    error_by_status: ClassVar[Mapping[int, str]] = {401: "invalid_token"}

    @property
    def client_id(self) -> str:
        """The name of the client at this provider. Raises if `is_error`."""
        return self.promised(self.text("client_id"), "client_id")

    @property
    def client_secret(self) -> Secret | None:
        """Its secret; None for a client without one."""
        return self.secret("client_secret")

    @property
    def client_id_issued_at(self) -> float | None:
        """When the name was given, in seconds since the epoch; None if that was not told."""
        return self.moment("client_id_issued_at")

    @property
    def client_secret_expires_at(self) -> float | None:
        """When the secret ends, in seconds since the epoch; None: it does not."""
        # "0 if it will not expire" (RFC 7591, section 3.2.1)
        return self.moment("client_secret_expires_at") or None

    @property
    def registration_access_token(self) -> Secret | None:
        """What the registration can be read and changed with (RFC 7592)."""
        return self.secret("registration_access_token")

    @property
    def registration_client_uri(self) -> str | None:
        """Where it can be read and changed (RFC 7592)."""
        return self.text("registration_client_uri")

    @property
    def software_statement(self) -> str | None:
        """The signed statement that was sent, as it was sent."""
        return self.text("software_statement")

    def broken_rule(self) -> InvalidResponse | None:
        """Demand a `client_id`: without one nothing was registered."""
        return None if self.text("client_id") else InvalidResponse("client_id", "is missing")
