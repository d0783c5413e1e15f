"""What the provider has issued, and what became of it.

Nothing here awaits, so each redemption is atomic: of two requests with the same
code or refresh token, one comes first.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from .answers import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .clients import JSON
    from .requests import Parameters

PUSHED: Final = "urn:ietf:params:oauth:request_uri:"
"""How the `request_uri` of a pushed request begins (RFC 9126, section 2.2)."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What a user, or for itself a client, was granted."""

    client_id: str
    sub: str | None
    """None: the client acts for itself."""
    scope: frozenset[str]
    resources: tuple[str, ...] = ()
    auth_time: int = 0
    sid: str | None = None
    nonce: str | None = field(default=None, repr=False)
    act: Mapping[str, JSON] | None = None
    """Who acts for the user (RFC 8693, section 4.1); None: nobody else."""

    def given_by(self, session: SignOn) -> Grant:
        """Return the grant that a user makes of what is asked for."""
        return replace(self, sub=session.sub, auth_time=session.auth_time, sid=session.sid)


@dataclass(frozen=True, slots=True)
class PushedRequest:
    """An authorization request that came ahead of the browser (RFC 9126)."""

    client_id: str
    parameters: Parameters = field(repr=False)
    expires_at: float


@dataclass(frozen=True, slots=True)
class AuthorizationCode:
    """A code that waits to be redeemed."""

    grant: Grant
    redirect_uri: str
    code_challenge: str
    expires_at: float


@dataclass(frozen=True, slots=True)
class Family:
    """All tokens that came from one login; they live and die together."""

    family_id: int
    grant: Grant
    expires_at: float
    """Seconds since the epoch; no refresh after it."""
    offline: bool
    """Whether it has refresh tokens."""
    generation: int = 0
    """How often it was refreshed."""
    ended: str | None = None
    """Why no token of it is good any more: `refresh_token_reuse`, `code_reuse`, `revoked`."""

    @property
    def sub(self) -> str | None:
        """Whose login it was."""
        return self.grant.sub

    @property
    def client_id(self) -> str:
        """Whose tokens they are."""
        return self.grant.client_id


@dataclass(frozen=True, slots=True)
class RefreshToken:
    """One refresh token of a family."""

    family_id: int
    usable_until: float | None = None
    """None: not rotated yet. Otherwise the end of the overlap."""


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """One access token."""

    grant: Grant
    audience: tuple[str, ...]
    issued_at: float
    expires_at: float
    family_id: int | None
    """None: the client acts for itself."""


@dataclass(frozen=True, slots=True)
class SignOn:
    """A browser in which a user is signed in at the provider."""

    sub: str
    sid: str
    auth_time: int


def random_token() -> str:
    """Return 32 random bytes as text."""
    return secrets.token_urlsafe(32)


class Ledger:
    """What one provider issued, and the browsers in which users are signed in."""

    def __init__(
        self,
        clock: Callable[[], float],
        new_token: Callable[[], str] = random_token,
    ) -> None:
        self.clock = clock
        self.new_token = new_token
        self.families: dict[int, Family] = {}
        self.sign_ons: dict[str, SignOn] = {}
        self._pushed: dict[str, PushedRequest] = {}
        self._codes: dict[str, AuthorizationCode] = {}
        self._spent_codes: dict[str, int | None] = {}
        self._refresh_tokens: dict[str, RefreshToken] = {}
        self._access_tokens: dict[str, IssuedToken] = {}
        self._revoked: set[str] = set()
        self._used_jtis: set[tuple[str, str]] = set()

    # --- pushed authorization requests

    def push(self, request: PushedRequest) -> str:
        """Keep an authorization request, and return its `request_uri`."""
        request_uri = PUSHED + self.new_token()
        self._pushed[request_uri] = request
        return request_uri

    def find_pushed(self, request_uri: str, *, client_id: str) -> PushedRequest:
        """Return a request that this client pushed."""
        request = self._pushed.get(request_uri)
        if request is None or request.client_id != client_id:
            raise Refused("invalid_request_uri", "the request_uri is unknown, or was used before")
        if self.clock() >= request.expires_at:
            raise Refused("invalid_request_uri", "the request_uri has expired")
        return request

    def spend_pushed(self, request_uri: str) -> None:
        """Make the `request_uri` worthless (RFC 9126, section 7.3)."""
        del self._pushed[request_uri]

    # --- codes

    def add_code(self, code: AuthorizationCode) -> str:
        """Issue a code."""
        value = self.new_token()
        self._codes[value] = code
        return value

    def find_code(self, value: str, *, client_id: str) -> AuthorizationCode:
        """Return a code that this client may redeem.

        A code that was redeemed before takes down what was made from it (RFC 6749,
        section 4.1.2).
        """
        if value in self._spent_codes:
            self._end(self._spent_codes[value], "code_reuse")
            raise Refused("invalid_grant", "the code was used before")
        code = self._codes.get(value)
        if code is None or code.grant.client_id != client_id:
            raise Refused("invalid_grant", "the code is unknown")
        return code

    def spend_code(self, value: str) -> None:
        """Make the code worthless, whether or not anything comes of it."""
        if self._codes.pop(value, None):
            self._spent_codes[value] = None

    def open_family(
        self, grant: Grant, *, code: str | None, expires_at: float, offline: bool
    ) -> Family:
        """Begin the family of a login, and remember the code it came from, if any."""
        family = Family(len(self.families) + 1, grant, expires_at, offline)
        self.families[family.family_id] = family
        if code is not None:
            self._spent_codes[code] = family.family_id
        return family

    # --- refresh tokens

    def add_refresh_token(self, family: Family) -> str:
        """Issue a refresh token of the family."""
        value = self.new_token()
        self._refresh_tokens[value] = RefreshToken(family.family_id)
        return value

    def find_refresh_token(self, value: str, *, client_id: str) -> Family:
        """Return the family of a refresh token that this client may use.

        One that was rotated away, and is past its overlap, kills the family (RFC
        9700, section 4.14.2).
        """
        token = self._refresh_tokens.get(value)
        family = self.families[token.family_id] if token else None
        if token is None or family is None or family.client_id != client_id:
            raise Refused("invalid_grant", "the refresh token is unknown")
        if family.ended:
            raise Refused("invalid_grant", f"the grant has ended: {family.ended}")
        if self.clock() >= family.expires_at:
            raise Refused("invalid_grant", "the refresh token has expired")
        if token.usable_until is not None and self.clock() >= token.usable_until:
            self._end(family.family_id, "refresh_token_reuse")
            raise Refused("invalid_grant", "the refresh token was used before")
        return family

    def rotate(self, value: str, *, overlap: float) -> str:
        """Replace a refresh token by a new one; the old one is good for `overlap` seconds."""
        token = self._refresh_tokens[value]
        if token.usable_until is None:
            self._refresh_tokens[value] = replace(token, usable_until=self.clock() + overlap)
        return self.add_refresh_token(self.families[token.family_id])

    def count_refresh(self, family: Family) -> Family:
        """Record that the family was refreshed."""
        family = replace(family, generation=family.generation + 1)
        self.families[family.family_id] = family
        return family

    # --- access tokens

    def add_access_token(self, value: str, token: IssuedToken) -> None:
        """Record an access token."""
        self._access_tokens[value] = token

    def live_access_token(self, value: str) -> IssuedToken | None:
        """Return what an access token stands for, or None if it is not good."""
        token = self._access_tokens.get(value)
        if token is None or self.clock() >= token.expires_at or self.is_revoked(value):
            return None
        return token

    def live_refresh_token(self, value: str) -> Family | None:
        """Return the family of a refresh token that can be used, or None."""
        token = self._refresh_tokens.get(value)
        if token is None:
            return None
        family = self.families[token.family_id]
        now = self.clock()
        rotated = token.usable_until is not None and now >= token.usable_until
        return None if family.ended or rotated or now >= family.expires_at else family

    # --- assertions

    def use_jti(self, issuer: str, jti: str) -> bool:
        """Remember a `jti`; False if its issuer used it before."""
        if (issuer, jti) in self._used_jtis:
            return False
        self._used_jtis.add((issuer, jti))
        return True

    # --- the end

    def revoke(self, value: str, *, client_id: str) -> None:
        """Revoke a token of this client; unknown ones are fine (RFC 7009, section 2.2)."""
        owner = self._owner(value)
        if owner is None:
            return
        if owner != client_id:
            raise Refused("invalid_grant", "the token was issued to another client")
        if refresh_token := self._refresh_tokens.get(value):
            self._end(refresh_token.family_id, "revoked")
        else:
            self._revoked.add(value)

    def end_families(self, *, sub: str, reason: str) -> int:
        """End every login of the user, and return how many there were."""
        ending = [f for f in self.families.values() if f.sub == sub and not f.ended]
        for family in ending:
            self._end(family.family_id, reason)
        return len(ending)

    def forget_client(self, client_id: str) -> None:
        """End every login and every token of a client that is no more."""
        for family in self.families.values():
            if family.client_id == client_id:
                self._end(family.family_id, "client_deleted")
        issued = self._access_tokens.items()
        self._revoked |= {value for value, token in issued if token.grant.client_id == client_id}

    def is_revoked(self, value: str) -> bool:
        """Whether the token, or the family it belongs to, was ended before its time."""
        known = self._refresh_tokens.get(value) or self._access_tokens.get(value)
        if known is None:
            return False
        family_id = known.family_id
        ended = family_id is not None and self.families[family_id].ended is not None
        return ended or value in self._revoked

    def _owner(self, value: str) -> str | None:
        if refresh_token := self._refresh_tokens.get(value):
            return self.families[refresh_token.family_id].client_id
        access_token = self._access_tokens.get(value)
        return access_token.grant.client_id if access_token else None

    def _end(self, family_id: int | None, reason: str) -> None:
        if family_id is not None and not self.families[family_id].ended:
            self.families[family_id] = replace(self.families[family_id], ended=reason)
