"""Tokens as values: made from a grant, merged on refresh."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from ..clock import aware
from ..errors import ConfigurationError
from ..protocol.grants import resources_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from ..provider.grant import Grant
    from ..secret import Secret

DEFAULT_EXPIRES_IN: Final = 300.0
"""Seconds a token is taken to be good for when the provider does not say."""

MAX_TARGETS: Final = 8
"""Tokens for other resources or scopes that one session keeps; the oldest goes first."""


@dataclass(frozen=True, slots=True)
class Target:
    """What a token is for: results are shared per target, never across."""

    resource: tuple[str, ...] = ()
    """Resource indicators (RFC 8707), in the order they are sent; empty: the provider's own."""
    scope: frozenset[str] = frozenset()
    """A narrower scope than the login's (RFC 6749, section 6); empty: all that was granted."""

    @classmethod
    def of(cls, *, resource: str | Sequence[str] = (), scope: str | None = None) -> Target:
        """Make one from the words of a caller: one resource or several, scope with spaces.

        Raises:
            ConfigurationError: a resource is no absolute URI or has a fragment, or the
                scope is no text.
        """
        if not isinstance(scope, str | None):
            raise ConfigurationError("scope", "must be text, names separated by a space")
        return cls(resources_of(resource), frozenset((scope or "").split()))


LOGIN: Final = Target()
"""The target of the login itself."""


@dataclass(frozen=True, slots=True)
class AccessToken:
    """An access token that is ready to be sent. Prints as asterisks.

    await http.get(url, headers={"Authorization": token.authorization})
    """

    value: str = field(repr=False)
    """The token itself, as it goes over the wire."""
    expires_at: datetime
    """Aware, in UTC. The provider's word, counted from when it was asked."""
    token_type: str = "Bearer"  # noqa: S105 - a kind of token, not a token
    scope: frozenset[str] = frozenset()
    """What was granted."""
    resource: tuple[str, ...] = ()
    """The resources it was asked for; empty: the provider's own."""
    expires_assumed: bool = False
    """Whether the provider told no lifetime, so that a default was taken."""
    lifetime: float = DEFAULT_EXPIRES_IN
    """Seconds it was good for when it was issued."""

    @property
    def authorization(self) -> str:
        """The value of the Authorization header (RFC 6750, section 2.1)."""
        return f"{self.token_type} {self.value}"

    def is_fresh(self, now: float, *, margin: float) -> bool:
        """Tell whether it is good for `margin` seconds more.

        The margin is never more than a tenth of the lifetime, so that a short token
        is not renewed at every request.
        """
        return now < self.expires_at.timestamp() - min(margin, self.lifetime / 10)

    def is_valid(self, now: float) -> bool:
        """Tell whether it is good at `now` (seconds since the epoch)."""
        return now < self.expires_at.timestamp()

    def __str__(self) -> str:
        return repr(self)


@dataclass(frozen=True, slots=True)
class TokenSet:
    """Everything the provider gave for one login, and what became of it since."""

    access_token: AccessToken
    refresh_token: Secret | None = None
    """None: the provider gave none, or it was revoked."""
    id_token: Secret | None = None
    """The newest one, for `id_token_hint` at logout."""
    others: tuple[tuple[Target, AccessToken], ...] = ()
    """Access tokens for other resources or narrower scopes, oldest first."""

    @property
    def scope(self) -> frozenset[str]:
        """What the provider granted, as it said last."""
        return self.access_token.scope

    @classmethod
    def from_grant(cls, grant: Grant, *, requested_scope: str, expires_in: float) -> TokenSet:
        """Make the tokens of a login.

        A scope that the answer does not tell is the one that was asked for
        (RFC 6749, section 5.1); a lifetime that it does not tell is `expires_in`.
        """
        return cls(
            access_token=_access_token(
                grant, LOGIN, scope=frozenset(requested_scope.split()), expires_in=expires_in
            ),
            refresh_token=grant.answer.refresh_token,
            id_token=grant.id_token.token if grant.id_token else None,
        )

    def token_for(self, target: Target) -> AccessToken | None:
        """Return the access token for a target, fresh or not; None if there never was one."""
        if target == LOGIN:
            return self.access_token
        return next((token for key, token in self.others if key == target), None)

    def renewed(self, grant: Grant, target: Target, *, expires_in: float) -> TokenSet:
        """Merge the answer to a refresh request.

        The old refresh token and the old id_token stay when none came back (RFC
        6749, section 6; OIDC Core 12.2), and so does the scope.
        """
        token = _access_token(
            grant, target, scope=target.scope or self.scope, expires_in=expires_in
        )
        merged = replace(
            self,
            refresh_token=grant.answer.refresh_token or self.refresh_token,
            id_token=grant.id_token.token if grant.id_token else self.id_token,
        )
        if target == LOGIN:
            return replace(merged, access_token=token)
        kept = tuple(item for item in self.others if item[0] != target)
        return replace(merged, others=(*kept, (target, token))[-MAX_TARGETS:])


def _access_token(
    grant: Grant, target: Target, *, scope: frozenset[str], expires_in: float
) -> AccessToken:
    answer = grant.answer
    lifetime = expires_in if answer.expires_in is None else answer.expires_in
    return AccessToken(
        value=answer.access_token.reveal(),
        expires_at=aware(grant.requested_at + lifetime),
        token_type=answer.token_type,
        scope=scope if answer.scope is None else answer.scope,
        resource=target.resource,
        expires_assumed=answer.expires_in is None,
        lifetime=max(lifetime, 0.0),
    )
