"""What a good answer of the token endpoint is worth (RFC 6749, section 5.1).

`TokenResponse` reads leniently, so that whatever came can be looked at;
`read_token_answer` judges strictly.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ..errors import InvalidResponse
from .responses import printable

if TYPE_CHECKING:
    from ..secret import Secret
    from .responses import TokenResponse

# 1*VSCHAR (RFC 6749, appendix A.12 and A.17), up to 16 KB: wider than the b64token of RFC 6750,
# to which not all tokens in use keep, and as safe in a header.
_TOKEN: Final = re.compile(r"[\x21-\x7e]{1,16384}")
# scope-token = 1*NQCHAR, separated by SP (RFC 6749, appendix A.4)
_SCOPE: Final = re.compile(r"[\x20\x21\x23-\x5b\x5d-\x7e]*")
_TEXTS: Final = ("access_token", "token_type", "refresh_token", "id_token", "scope")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenAnswer:
    """What a good answer of the token endpoint gives. Nothing else of it is kept."""

    access_token: Secret
    token_type: str
    """As it was asked for, so `Bearer` whatever case of letters came."""
    expires_in: float | None
    """Lifetime in seconds from the request, at most ten years. 0: it is over already.

    None: not told, or told in a way that cannot be used.
    """
    refresh_token: Secret | None
    """None: none came, and the old one stays (RFC 6749, section 6)."""
    id_token: Secret | None
    """None: none came, and the old one stays (OpenID Connect Core 1.0, section 12.2)."""
    scope: frozenset[str] | None
    """What was granted. None: not told, so what was asked for; empty: nothing."""
    unusable: tuple[str, ...] = ()
    """Optional members that were told and could not be used, for the log."""


def read_token_answer(
    response: TokenResponse,
    *,
    token_type: str = "Bearer",  # noqa: S107 - a kind of token, not a token
    dangerously_allow_missing_token_type: bool = False,
) -> TokenAnswer:
    """Judge an answer of the token endpoint, by RFC 6749, section 5.1.

    `token_type` is the kind that was asked for; another one is refused, also a
    weaker one (RFC 9449, section 5). For providers that leave it out there is
    `dangerously_allow_missing_token_type`.

    Raises `ProtocolError` for a refusal, `InvalidResponse` for an answer that
    breaks a rule, and the response's exception if there is no answer.
    """
    response.raise_for_error()
    for member in _TEXTS:
        if not isinstance(response.get(member), str | None):
            raise InvalidResponse(member, "is not a string")
    expires_in = response.expires_in
    unusable = expires_in is None and response.get("expires_in") is not None
    return TokenAnswer(
        access_token=_access_token(response),
        token_type=_token_type(
            response, expected=token_type, missing_is_fine=dangerously_allow_missing_token_type
        ),
        expires_in=expires_in,
        refresh_token=_well_formed(response, "refresh_token"),
        id_token=response.id_token,  # its own reader judges it
        scope=_granted_scope(response),
        unusable=("expires_in",) if unusable else (),
    )


# What follows raises, and so keeps no token in a variable that a traceback would show.


def _access_token(response: TokenResponse) -> Secret:
    token = _well_formed(response, "access_token")
    if token is None:
        raise InvalidResponse("access_token", "is missing")
    return token


def _well_formed(response: TokenResponse, member: str) -> Secret | None:
    token = response.secret(member)
    if token is not None and not _TOKEN.fullmatch(token.reveal()):
        raise InvalidResponse(member, "is not 1 to 16384 visible ASCII characters")
    return token


def _token_type(response: TokenResponse, *, expected: str, missing_is_fine: bool) -> str:
    given = response.token_type
    if not given and missing_is_fine:
        return expected
    if not given:
        raise InvalidResponse("token_type", "is missing")
    # "Value is case insensitive." (RFC 6749, section 5.1)
    if given.lower() != expected.lower():
        raise InvalidResponse("token_type", f"is {printable(given)!r}, not {expected!r}")
    return expected


def _granted_scope(response: TokenResponse) -> frozenset[str] | None:
    given = response.scope
    if given is not None and not _SCOPE.fullmatch(given):
        raise InvalidResponse("scope", "has characters that no scope has")
    return None if given is None else frozenset(given.split())
