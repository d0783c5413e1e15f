"""Every exception this package raises.

* TokenwardError
  x ConfigurationError         a setting is unsafe or incomplete; the start is refused
  * ProviderError              the OpenID Provider, or the way to it
    x ProviderUnavailable        no usable answer; try again later
    x InvalidMetadata            the discovery document or the key set breaks a rule
    x ProtocolError              the provider answered, and said no
    x InvalidResponse            the provider answered, and the answer breaks a rule
    x InvalidToken               an id_token or logout_token breaks a rule
      x SigningKeyNotFound         no key of the provider fits its header
      x InvalidSignature           the key that fits did not sign it
  x LoginFailed                a login cannot be completed; carries the reason
  * AccessError                an app asked for a user or a token that cannot be had
    x NotAuthenticated           nobody is logged in
    x TokenExpired               the access token is over, and there is no refresh token
    x SessionEnded               the provider refused the refresh token
    x TokenUnavailable           provider or store out of reach; carries retry_after
    x InsufficientScope          the token was granted without a scope that is asked for
    x PermissionDenied           the user lacks a role
  * CallRefused                an outgoing call would take a token where it must not go
  * SessionError               a session used in a way that cannot work
    x SessionNotWritable         what would have to be saved cannot be saved any more
    x SessionNotLoaded           read before it was loaded; await load_session(request)
    x SessionTooLarge            more than cookies can hold
  * StoreError
    x StoreUnavailable           the store is out of reach; carries retry_after
    x Conflict                   somebody else wrote first, or the record is gone

None of them carries a secret: not in its message, not in its arguments, not in
what it was raised from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .protocol.responses import ProtocolResponse

DEFAULT_RETRY_AFTER = 5.0
"""Seconds that a client is told to wait when nobody said how long."""


class TokenwardError(Exception):
    """Base class, for `except` clauses that want everything."""


class ConfigurationError(TokenwardError):
    """A setting is unsafe or incomplete. Raised at start, and names the setting."""

    def __init__(self, setting: str, problem: str) -> None:
        super().__init__(f"{setting}: {problem}")
        self.setting = setting
        """The name of the argument to change."""
        self.problem = problem
        """What is wrong with it, and what to do."""


class ProviderError(TokenwardError):
    """The OpenID Provider did not give what was asked for."""


class ProviderUnavailable(ProviderError):
    """No usable answer came from the provider. Try again later."""

    def __init__(
        self,
        message: str,
        *,
        retry_after: float | None = None,
        may_have_been_sent: bool = False,
    ) -> None:
        super().__init__(message)
        self.retry_after: float = DEFAULT_RETRY_AFTER if retry_after is None else retry_after
        """Seconds to wait before the next attempt."""
        self.told: bool = retry_after is not None
        """Whether somebody said how long to wait; if not, `retry_after` is a guess."""
        self.may_have_been_sent = may_have_been_sent
        """Whether the request may have reached the provider, and been acted on."""


class InvalidMetadata(ProviderError):
    """The provider's discovery document or key set breaks a rule, and was not used."""

    def __init__(self, member: str, problem: str) -> None:
        super().__init__(f"{member}: {problem}")
        self.member = member
        """The member of the document, such as `issuer` or `token_endpoint`."""
        self.problem = problem
        """What is wrong with it."""


class ProtocolError(ProviderError):
    """The provider refused a request (RFC 6749, section 5.2)."""

    def __init__(self, response: ProtocolResponse) -> None:
        super().__init__(f"the provider answered {response.error!r}")
        self.response = response
        """The answer, with `error`, `error_description` and `http_status`."""


class InvalidResponse(ProviderError):
    """The provider's answer breaks a rule, and nothing of it was used."""

    def __init__(self, member: str, problem: str) -> None:
        super().__init__(f"{member}: {problem}")
        self.member = member
        """The member of the answer, such as `access_token`."""
        self.problem = problem
        """What is wrong with it."""


class InvalidToken(ProviderError):
    """An id_token or logout_token breaks a rule."""

    def __init__(self, rule: str, problem: str) -> None:
        super().__init__(f"{problem} ({rule})")
        self.rule = rule
        """The rule, as `OIDC Core 3.1.3.7 (2)` or `RFC 7515 4.1.11`."""
        self.problem = problem
        """What is wrong, for the log; browsers are never told."""


class SigningKeyNotFound(InvalidToken):
    """No key of the provider fits the token's header. A new key set may help."""


class InvalidSignature(InvalidToken):
    """The key that fits the token's header did not sign it."""


class LoginFailed(TokenwardError):
    """A login cannot be completed. The browser is told to start again."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        """A stable word: `state_unknown`, `access_denied`, `id_token_invalid` ..."""
        self.detail = detail
        """For the log. May quote the provider, clipped and escaped; never a secret."""


class AccessError(TokenwardError):
    """An app asked for a user or a token that cannot be had."""


class NotAuthenticated(AccessError):
    """Nobody is logged in."""


class TokenExpired(AccessError):
    """The access token is over and there is no refresh token. The user stays known."""


class SessionEnded(AccessError):
    """The session is over: the provider refused its refresh token."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the session has ended: {reason}")
        self.reason = reason
        """A stable word: `invalid_grant`, `invalid_id_token` ..."""


class TokenUnavailable(AccessError):
    """Provider or store are out of reach, and no valid token is left. The session stays."""

    def __init__(self, message: str, *, retry_after: float = DEFAULT_RETRY_AFTER) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        """Seconds to wait before the next attempt."""


class InsufficientScope(AccessError):
    """The provider granted less than is asked for now."""

    def __init__(self, missing: frozenset[str]) -> None:
        super().__init__(f"not granted: {' '.join(sorted(missing))}")
        self.missing = missing
        """The scopes that are missing."""


class PermissionDenied(AccessError):
    """The user is known and lacks a role."""


class CallRefused(TokenwardError):
    """An outgoing call was not sent: it would have taken a token where it must not go."""

    def __init__(self, reason: str, problem: str) -> None:
        super().__init__(problem)
        self.reason = reason
        """A stable word: `origin`, `userinfo` or `authorization`."""


class SessionError(TokenwardError):
    """A session was used in a way that cannot work."""


class SessionNotWritable(SessionError):
    """What would have to be saved cannot be saved any more. Nothing was spent."""


class SessionNotLoaded(SessionError):
    """The session was read before it was loaded: `await load_session(request)` first."""


class SessionTooLarge(SessionError):
    """The session is more than cookies can hold."""


class StoreError(TokenwardError):
    """The store did not do what was asked."""


class StoreUnavailable(StoreError):
    """The store is out of reach. What it holds is untouched."""

    def __init__(self, message: str, *, retry_after: float = 2.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        """Seconds to wait before the next attempt."""


class Conflict(StoreError):
    """Somebody else wrote first, or the record is gone. Read again."""
