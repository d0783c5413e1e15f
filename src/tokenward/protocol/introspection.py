"""What the introspection endpoint says of a token (RFC 7662, section 2.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from .responses import ProtocolResponse

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class IntrospectionResponse(ProtocolResponse):
    """Answer of the introspection endpoint. The properties give None for what was not told.

    `json` holds all members, also when the answer was a JWT (RFC 9701).
    """

    error_by_status: ClassVar[Mapping[int, str]] = {401: "invalid_client"}

    @property
    def active(self) -> bool:
        """Whether the token is valid now. Anything but a plain `true` means no."""
        return not self.is_error and self.get("active") is True

    @property
    def scope(self) -> frozenset[str] | None:
        """What the token is good for. A list of names is read like a text of them."""
        told = self.get("scope")
        if isinstance(told, str):
            return frozenset(told.split())
        return frozenset(self._texts("scope")) if isinstance(told, list) else None

    @property
    def client_id(self) -> str | None:
        """The client that the token was issued to."""
        return self.text("client_id")

    @property
    def username(self) -> str | None:
        """A name of the user for people to read."""
        return self.text("username")

    @property
    def token_type(self) -> str | None:
        """How the token is used, such as `Bearer`."""
        return self.text("token_type")

    @property
    def exp(self) -> float | None:
        """When the token ends, in seconds since the epoch."""
        return self.moment("exp")

    @property
    def iat(self) -> float | None:
        """When it was issued, in seconds since the epoch."""
        return self.moment("iat")

    @property
    def nbf(self) -> float | None:
        """When it begins to be valid, in seconds since the epoch."""
        return self.moment("nbf")

    @property
    def sub(self) -> str | None:
        """Whom the token speaks of."""
        return self.text("sub")

    @property
    def aud(self) -> tuple[str, ...]:
        """Whom it is meant for; empty if that was not told."""
        return self._texts("aud")

    @property
    def iss(self) -> str | None:
        """Who issued it."""
        return self.text("iss")

    @property
    def jti(self) -> str | None:
        """The name of the token."""
        return self.text("jti")

    def _texts(self, member: str) -> tuple[str, ...]:
        told = self.get(member)
        values = told if isinstance(told, list) else [told]
        return tuple(value for value in values if isinstance(value, str))
