"""Answers that the provider signs: introspection (RFC 9701) and UserInfo (OIDC Core 5.3.2)."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field, replace
from typing import TYPE_CHECKING, Final, TypeVar

from ..errors import InvalidResponse, InvalidToken
from .jwt import Claims, check_audience, check_issuer, check_leeway, numeric_date, verify
from .keys import KeySet, check_algorithms
from .responses import ProtocolResponse, UserInfoResponse

if TYPE_CHECKING:
    from collections.abc import Callable

    from .introspection import IntrospectionResponse

R = TypeVar("R", bound=ProtocolResponse)

INTROSPECTION_JWT: Final = "application/token-introspection+jwt"
"""Media type of a signed introspection answer (RFC 9701, section 5)."""

USERINFO_JWT: Final = "application/jwt"
"""Media type of a signed UserInfo answer (OpenID Connect Core 1.0, section 5.3.2)."""


@dataclass(frozen=True, slots=True)
class AnswerSigner:
    """Who signs the answers, for whom, and with which keys.

    Raises `ConfigurationError` for algorithms or a leeway that cannot be.
    """

    issuer: str
    """The provider, exactly as its metadata spell it."""
    _: KW_ONLY
    audience: str
    """Whom the answers are for: the `client_id` that asks."""
    key_set: KeySet = field(repr=False)
    algorithms: tuple[str, ...] = ("RS256",)
    """What may have been signed with; the client's own list, never the provider's."""
    leeway: float = 60.0
    """Seconds that the provider's clock may differ, 0 to 300."""

    def __post_init__(self) -> None:
        check_algorithms(self.algorithms)
        check_leeway(self.leeway)


def judge_introspection(
    response: IntrospectionResponse, *, signer: AnswerSigner, now: float
) -> IntrospectionResponse:
    """Return the answer with what its JWT says of the token, or as an error.

    An answer that is not signed is an error too: it was asked to be. `now` is in
    seconds since the epoch.
    """

    def read(response: IntrospectionResponse) -> Claims:
        types = ("token-introspection+jwt",)
        claims = verify(response.raw, signer.key_set, algorithms=signer.algorithms, types=types)
        rule = "RFC 9701 5"
        check_issuer(claims, signer.issuer, rule=rule)
        check_audience(claims, signer.audience, rule=rule)
        _check_issued(claims, now + signer.leeway, rule=rule)
        told = claims.get("token_introspection")
        if not isinstance(told, dict):
            raise InvalidToken(rule, "token_introspection is no object")
        return Claims(told)

    return _judged(response, INTROSPECTION_JWT, read)


def judge_userinfo(
    response: UserInfoResponse, *, signer: AnswerSigner, now: float
) -> UserInfoResponse:
    """Return the answer with the claims of its JWT, or as an error.

    `iss` and `aud` are checked if they are there: the provider SHOULD tell them. An
    answer that is not signed is an error too. `now` is in seconds since the epoch.
    """

    def read(response: UserInfoResponse) -> Claims:
        claims = verify(
            response.raw, signer.key_set, algorithms=signer.algorithms, types=(None, "JWT")
        )
        rule = "OIDC Core 5.3.2"
        if "iss" in claims:
            check_issuer(claims, signer.issuer, rule=rule)
        if "aud" in claims:
            check_audience(claims, signer.audience, rule=rule)
        if "exp" in claims and now >= numeric_date(claims, "exp", rule=rule) + signer.leeway:
            raise InvalidToken(rule, "expired")
        return claims

    return _judged(response, USERINFO_JWT, read)


def _judged(response: R, media_type: str, read: Callable[[R], Claims]) -> R:
    if response.error_type in ("protocol", "http"):
        return response
    told = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if told != media_type:
        return response.failed(InvalidResponse("content-type", f"is not {media_type}"))
    try:
        claims = read(response)
    except InvalidToken as error:
        return response.failed(error)
    return replace(response, json=claims, error_type="none", error=None, exception=None)


def _check_issued(claims: Claims, latest: float, *, rule: str) -> None:
    if numeric_date(claims, "iat", rule=rule) > latest:
        raise InvalidToken(rule, "issued in the future")
