"""What a JWT must say to be believed as an assertion (RFC 7523, section 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeGuard

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .clients import JSON, Client
    from .core import Core

MAX_ASSERTION_LIFETIME: Final = 3600
"""Seconds. Section 3 (4): the server may reject an `exp` "unreasonably far in the future"."""


def find_problem(core: Core, client: Client, claims: Mapping[str, JSON]) -> str | None:
    """Say what is wrong with the claims of an assertion that `client` sent; None: nothing.

    `iss` and `sub` mean different things in different assertions, and are left to the
    caller, as is `spend_jti`, which comes last.
    """
    endpoint = client.assertion_audience == "token_endpoint"
    # rfc7523bis, section 4: a single string, so that no other server can use it as well.
    if claims.get("aud") != (core.url("/token") if endpoint else core.issuer):
        return "aud must be this server, alone"
    return _find_problem_with_times(claims, core.ledger.clock())


def _find_problem_with_times(claims: Mapping[str, JSON], now: float) -> str | None:
    exp = claims.get("exp")
    if not _is_time(exp):
        return "exp is missing"
    if now >= exp:
        return "it has expired"
    if exp > now + MAX_ASSERTION_LIFETIME:
        return "exp is too far in the future"
    for name in ("nbf", "iat"):
        time = claims.get(name, 0)
        if not _is_time(time) or time > now:
            return f"{name} is in the future"
    return None


def _is_time(value: JSON) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def spend_jti(core: Core, claims: Mapping[str, JSON], *, required: bool) -> bool:
    """Whether this issuer's `jti` comes for the first time; from now on it has come."""
    jti = claims.get("jti")
    if jti is None:
        return not required
    return isinstance(jti, str) and jti != "" and core.ledger.use_jti(str(claims["iss"]), jti)
