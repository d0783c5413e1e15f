"""The session of a logged-in user as a value. `session_format` writes it down."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..protocol.json import JSON
    from ..provider.grant import Grant
    from .interfaces import RequestSession
    from .models import Target, TokenSet

current_session: ContextVar[RequestSession | None] = ContextVar("current_session", default=None)
"""The session of the request that is being answered; outgoing calls read it when they send."""


@dataclass(frozen=True, slots=True)
class User:
    """Who is logged in, as the provider said it."""

    sub: str
    """The provider's name for the user, unique and never reused there (OIDC Core 2)."""
    issuer: str
    """The provider. Only (`issuer`, `sub`) identifies a user; an e-mail address does not."""
    name: str
    """To be shown; `sub` when the provider told no name."""
    roles: frozenset[str] = frozenset()
    """The values of the role claim."""
    claims: Mapping[str, JSON] = field(default_factory=dict, repr=False)
    """The claims that are kept in the session."""

    @classmethod
    def from_claims(
        cls, claims: Mapping[str, JSON], *, issuer: str, name_claim: str, role_claim: str
    ) -> User:
        """Read name and roles from the claims that are configured to hold them."""
        sub = str(claims["sub"])
        name, roles = claims.get(name_claim), claims.get(role_claim)
        listed = roles if isinstance(roles, list) else [roles]
        return cls(
            sub=sub,
            issuer=issuer,
            name=name if isinstance(name, str) and name else sub,
            roles=frozenset(role for role in listed if isinstance(role, str) and role),
            claims=claims,
        )


@dataclass(frozen=True, slots=True)
class Session:
    """One login of one user in one browser."""

    id: str = field(repr=False)
    """Names the session in stores, flights and leases; of no use to log in with."""
    provider: str
    """The name under which the app registered the provider."""
    issuer: str
    client_id: str
    claims: Mapping[str, JSON] = field(repr=False)
    """What is kept of the id_token (and of userinfo), for `User`."""
    proof: Mapping[str, JSON] = field(repr=False)
    """The claims of the login's id_token that later ones are compared with (OIDC Core 12.2)."""
    tokens: TokenSet
    created_at: float
    """When the user logged in; seconds since the epoch."""
    expires_at: float
    """When the session ends whatever happens; never extended."""
    renewed_at: float
    """When the tokens were last renewed; `created_at` before the first time."""
    seen_at: float = 0.0
    """When the browser was last seen, for the idle limit of cookie sessions."""
    version: int = 0
    """Grows with every write. Kept beside the record, or inside where there is no store."""

    def renewed(
        self,
        grant: Grant,
        target: Target,
        *,
        claims: Mapping[str, JSON],
        expires_in: float,
        now: float,
    ) -> Session:
        """Return the next version of the session, with the answer to a refresh request."""
        return replace(
            self.with_tokens(self.tokens.renewed(grant, target, expires_in=expires_in)),
            claims={**self.claims, **claims},
            renewed_at=now,
        )

    def with_tokens(self, tokens: TokenSet) -> Session:
        """Return the next version of the session, with these tokens."""
        return replace(self, tokens=tokens, version=self.version + 1)
