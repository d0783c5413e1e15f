"""Both ways out: sending the browser to the provider, and the provider's word that it is over.

OpenID Connect RP-Initiated Logout 1.0 and Back-Channel Logout 1.0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlencode

from ..errors import ConfigurationError, InvalidToken
from ..secret import Secret
from .jwt import (
    check_audience,
    check_issuer,
    check_leeway,
    check_times,
    identifier,
    numeric_date,
    verify,
)
from .keys import KeySet, check_algorithms

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from .json import JSON

BACKCHANNEL_LOGOUT_EVENT: Final = "http://schemas.openid.net/event/backchannel-logout"
"""The member of `events` that makes a token a logout_token."""

MAX_HINT: Final = 6 * 1024
"""Characters of an id_token that is sent as a hint in an address."""

MAX_URL: Final = 8000
"""Characters of an address that every server takes (RFC 9110, section 4.1)."""

MAX_ISSUED_AGE: Final = 120.0
"""Seconds since `iat`: a logout_token is sent when it is made (Back-Channel Logout, 2.4)."""

_PARAMETERS: Final = frozenset(
    {
        "client_id",
        "id_token_hint",
        "logout_hint",
        "post_logout_redirect_uri",
        "state",
        "ui_locales",
    }
)
_TYPES: Final = (None, "JWT", "logout+jwt")
_IDENTITY_RULE: Final = "Back-Channel Logout 2.6 (4)"
_TIME_RULES: Final[Mapping[str, str]] = {
    "exp": _IDENTITY_RULE,
    "iat": _IDENTITY_RULE,
    "nbf": "RFC 7519 4.1.5",
}


@dataclass(frozen=True, slots=True)
class LogoutToken:
    """The provider's word that sessions are over. `sub`, `sid` or both say which."""

    iss: str
    sub: str | None
    """Without `sid`: every session of this user ends. None: `sid` alone tells."""
    sid: str | None
    """This session of the provider ends. None: all sessions of `sub`."""
    jti: str
    """Names the token; the caller refuses one that it has seen (Back-Channel Logout, 2.6)."""
    iat: float
    """When it was issued, in seconds since the epoch."""


def end_session_url(
    endpoint: str,
    *,
    client_id: str,
    id_token_hint: Secret | None,
    post_logout_redirect_uri: str | None,
    state: Secret | None,
    logout_hint: str | None = None,
    ui_locales: str | None = None,
    extra: Mapping[str, str] | None = None,
    max_url: int = MAX_URL,
) -> str:
    """Return where the browser goes to log out at the provider (RP-Initiated Logout, 2).

    `id_token_hint` may have expired: it only names the user. Where there is none, or
    it is too long for an address of `max_url` characters, `client_id` is sent instead,
    and the provider may ask the user first. `post_logout_redirect_uri=None`: the
    browser stays at the provider. `extra` adds parameters of the provider's own. The
    result holds the hint and the state: it goes into a Location header, never into a log.

    Raises `ConfigurationError` for an `extra` that repeats a parameter.
    """
    for repeated in sorted(_PARAMETERS.intersection(extra or ())):
        raise ConfigurationError("extra", f"`{repeated}` is set by the library")
    rest = {
        "post_logout_redirect_uri": post_logout_redirect_uri,
        "state": state,
        "logout_hint": logout_hint,
        "ui_locales": ui_locales,
        **(extra or {}),
    }
    if id_token_hint is not None and len(id_token_hint) <= MAX_HINT:
        hinted = Secret(_with_query(endpoint, {"id_token_hint": id_token_hint, **rest}))
        if len(hinted) <= max_url:
            return hinted.reveal()
    return _with_query(endpoint, {"client_id": client_id, **rest})


def validate_logout_token(
    token: Secret,
    *,
    key_set: KeySet,
    issuer: str,
    client_id: str,
    now: float,
    algorithms: Collection[str] = ("RS256",),
    leeway: float = 60.0,
) -> LogoutToken:
    """Return what a logout_token says if the rules of Back-Channel Logout 2.6 hold.

    `now` and `leeway` are seconds, as for `validate_id_token`. Whether the token was
    seen before (rule 8) and whose sessions it means (rules 9 to 11) is for the
    caller to find out, who keeps the sessions.

    Raises `InvalidToken`, also as `SigningKeyNotFound` or `InvalidSignature`.
    """
    check_algorithms(algorithms)
    check_leeway(leeway)
    # 1. An encrypted token has five segments and is refused: none was registered for.
    # 2. and 3. Signature and alg "in the same way it is validated for ID Tokens"
    claims = verify(token, key_set, algorithms=algorithms, types=_TYPES)
    # 4. "Validate the iss, aud, iat, and exp Claims in the same way they are validated for ID
    #    Tokens."
    check_issuer(claims, issuer, rule=_IDENTITY_RULE)
    check_audience(claims, client_id, rule=_IDENTITY_RULE)
    max_age = MAX_ISSUED_AGE + leeway
    check_times(claims, now=now, leeway=leeway, max_age=max_age, rules=_TIME_RULES)
    # 5. "Verify that the Logout Token contains a sub Claim, a sid Claim, or both."
    rule = "Back-Channel Logout 2.6 (5)"
    sub, sid = (identifier(claims, name, rule=rule) for name in ("sub", "sid"))
    if sub is None and sid is None:
        raise InvalidToken(rule, "neither sub nor sid")
    _check_events(claims)  # Rule 6
    # 7. "Verify that the Logout Token does not contain a nonce Claim."
    if "nonce" in claims:
        raise InvalidToken("Back-Channel Logout 2.6 (7)", "a nonce: this is an id_token")
    jti = _required_jti(claims)
    return LogoutToken(issuer, sub, sid, jti, numeric_date(claims, "iat", rule=_IDENTITY_RULE))


def _with_query(endpoint: str, parameters: Mapping[str, Secret | str | None]) -> str:
    """Add parameters, after those that the endpoint may bring along."""
    query = urlencode(
        [
            (name, value.reveal() if isinstance(value, Secret) else value)
            for name, value in parameters.items()
            if value is not None
        ],
        quote_via=quote,
    )
    return f"{endpoint}{'&' if '?' in endpoint else '?'}{query}"


def _check_events(claims: Mapping[str, JSON]) -> None:
    """Rule 6: "a JSON object containing the member name" of this event, itself an object."""
    events = claims.get("events")
    if not isinstance(events, dict) or not isinstance(events.get(BACKCHANNEL_LOGOUT_EVENT), dict):
        raise InvalidToken("Back-Channel Logout 2.6 (6)", "events has no back-channel logout")


def _required_jti(claims: Mapping[str, JSON]) -> str:
    rule = "Back-Channel Logout 2.4"
    jti = identifier(claims, "jti", rule=rule)
    if jti is None:
        raise InvalidToken(rule, "jti is missing")
    return jti
