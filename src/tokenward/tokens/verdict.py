"""What a failed refresh means for the session: an outage is not a logout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from ..errors import ConfigurationError, InvalidToken, ProtocolError, ProviderUnavailable

if TYPE_CHECKING:
    from ..errors import ProviderError

ALARM_PAUSE: Final = 30.0
"""Seconds without further calls after an answer that only an operator can mend."""

_ALARMS: Final = frozenset(
    {"invalid_client", "unauthorized_client", "unsupported_grant_type", "invalid_request"}
)
_ABOUT_CLIENT: Final = _ALARMS - {"invalid_request"}
_TARGETS: Final = frozenset({"invalid_scope", "invalid_target"})
# OIDC Core, section 3.1.2.6; some providers say so at the token endpoint too.
_LOGINS: Final = frozenset({"login_required", "interaction_required", "consent_required"})


@dataclass(frozen=True, slots=True)
class Verdict:
    """How to go on after a refresh request that brought no token.

    dead: the grant is over, and the session with it. later: keep the session, ask
    again. alarm: keep it too; the settings of the app are at fault. refused: the
    provider will not give this scope or resource. login: not before it has seen the
    user.
    """

    kind: Literal["dead", "later", "alarm", "refused", "login"]
    reason: str
    """For events: the provider's error code, or words of ours."""
    retry_after: float | None = None
    """Seconds to leave the provider alone; None: it did not ask for any."""
    shared: bool = True
    """Whether it is about the provider or the client; False: about this grant alone, so that
    the others must not wait for it."""


def judge(error: ProviderError | ConfigurationError) -> Verdict:
    """Sort the failure of a refresh request (RFC 6749, section 5.2).

    Only a grant that is over, and an id_token that speaks of somebody else, end a
    session. A wrong client secret is not the user's fault, and neither is anything
    that looks like an outage.
    """
    if isinstance(error, InvalidToken):
        return Verdict("dead", "invalid_id_token")
    if isinstance(error, ProviderUnavailable):
        asked = error.retry_after if error.told else None
        return Verdict("later", "no_answer" if error.may_have_been_sent else "unavailable", asked)
    if isinstance(error, ConfigurationError):
        return Verdict("alarm", str(error), ALARM_PAUSE)
    if isinstance(error, ProtocolError):
        return _judge_refusal(error.response.error or "refused")
    return Verdict("later", "invalid_answer")


def _judge_refusal(code: str) -> Verdict:
    if code == "invalid_grant":
        return Verdict("dead", code)
    if code in _LOGINS:
        return Verdict("login", code)
    if code in _TARGETS:
        return Verdict("refused", code, ALARM_PAUSE)
    if code in _ALARMS:
        return Verdict("alarm", code, ALARM_PAUSE, shared=code in _ABOUT_CLIENT)
    return Verdict("later", code, ALARM_PAUSE, shared=False)
