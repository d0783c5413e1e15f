"""What this client demands of every id_token, as one value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import ConfigurationError
from ..protocol.id_token import IdToken, validate_id_token, validate_refreshed_id_token
from ..protocol.jwt import check_leeway
from ..protocol.keys import check_algorithms

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ..protocol.json import JSON
    from ..protocol.keys import KeySet
    from ..secret import Secret


@dataclass(frozen=True, slots=True)
class IdTokenRules:
    """The settings by which id_tokens are judged. What they mean is in `protocol.id_token`.

    Each method returns a function of the keys, to be tried with older and newer ones.
    """

    issuer: str
    client_id: str
    algorithms: tuple[str, ...]
    leeway: float
    max_age: int | None
    acr_values: tuple[str, ...]
    trusted_audiences: tuple[str, ...]

    def __post_init__(self) -> None:
        """Raise `ConfigurationError` for rules by which anybody could be let in."""
        check_algorithms(self.algorithms)
        check_leeway(self.leeway)
        if self.max_age is not None and self.max_age < 0:
            raise ConfigurationError("max_age", "must be seconds, 0 or more")

    def of_login(
        self, token: Secret, *, nonce: Secret, access_token: Secret, now: float
    ) -> Callable[[KeySet], IdToken]:
        """Judge the id_token of a login (OIDC Core 3.1.3.7)."""

        def validate(key_set: KeySet) -> IdToken:
            return validate_id_token(
                token,
                key_set=key_set,
                issuer=self.issuer,
                client_id=self.client_id,
                nonce=nonce,
                now=now,
                algorithms=self.algorithms,
                leeway=self.leeway,
                max_age=self.max_age,
                acr_values=self.acr_values,
                access_token=access_token,
                trusted_audiences=self.trusted_audiences,
            )

        return validate

    def of_refresh(
        self, token: Secret, *, previous: Mapping[str, JSON], access_token: Secret, now: float
    ) -> Callable[[KeySet], IdToken]:
        """Judge the id_token of a refresh by the claims of the login's (OIDC Core 12.2)."""

        def validate(key_set: KeySet) -> IdToken:
            return validate_refreshed_id_token(
                token,
                previous=previous,
                key_set=key_set,
                issuer=self.issuer,
                client_id=self.client_id,
                now=now,
                algorithms=self.algorithms,
                leeway=self.leeway,
                access_token=access_token,
                trusted_audiences=self.trusted_audiences,
            )

        return validate
