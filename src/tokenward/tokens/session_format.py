"""How a session is written down, to be sealed, and read again.

The form is a JSON array of fixed places, compact because it travels in cookies, and
read at every request: what is in each place is checked by one comparison of types.
The seal has shown that it was written here, so it is not held against the rules for
what comes from outside.
"""

from __future__ import annotations

import json
from math import isfinite
from typing import TYPE_CHECKING, Final

from ..clock import aware
from ..secret import Secret
from .models import AccessToken, Target, TokenSet
from .session import Session

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from ..protocol.json import JSON

FORMAT: Final = 1
"""Version of the written form, in its first place.

Readers refuse what is newer, and migrate what is older. Whatever changes the places
below, or their meaning, is another version.
"""

_SESSION: Final = (
    int,  # FORMAT
    str,  # id
    str,  # provider
    str,  # issuer
    str,  # client_id
    dict,  # claims
    dict,  # proof
    float,  # created_at
    float,  # expires_at
    float,  # renewed_at
    float,  # seen_at
    int,  # version
    list,  # access token, as in _TOKEN
    list,  # refresh token; empty if there is none
    list,  # id_token; empty if there is none
    list,  # other access tokens, as in _OTHER
)
_TOKEN: Final = (
    str,  # value
    float,  # expires_at
    str,  # token_type
    list,  # scope
    list,  # resource
    bool,  # expires_assumed
    float,  # lifetime
)
_OTHER: Final = (
    list,  # resource
    list,  # scope
    list,  # access token, as in _TOKEN
)
_TEXTS: Final = {str}


class InvalidSession(ValueError):
    """What was read is not a session. Says no more, since it may hold anything."""


class NewerFormat(InvalidSession):
    """It was written by a newer version of this package, and is left alone."""


def write_session(session: Session) -> bytes:
    """Write a session down, to be sealed."""
    tokens = session.tokens
    record: list[JSON] = [
        FORMAT,
        session.id,
        session.provider,
        session.issuer,
        session.client_id,
        dict(session.claims),
        dict(session.proof),
        float(session.created_at),
        float(session.expires_at),
        float(session.renewed_at),
        float(session.seen_at),
        session.version,
        write_access_token(tokens.access_token),
        [] if tokens.refresh_token is None else [tokens.refresh_token.reveal()],
        [] if tokens.id_token is None else [tokens.id_token.reveal()],
        [
            [[*target.resource], [*sorted(target.scope)], write_access_token(token)]
            for target, token in tokens.others
        ],
    ]
    return json.dumps(record, separators=(",", ":"), ensure_ascii=False).encode()


def read_session(data: bytes) -> Session:
    """Read what `write_session` wrote. Raises `InvalidSession`, and nothing else."""
    session, is_newer = _decode(data)
    # Nor does the traceback of what is raised below show it.
    del data
    if session is None:
        raise NewerFormat if is_newer else InvalidSession
    return session


def _decode(data: bytes) -> tuple[Session | None, bool]:
    """Return the session, or None and whether a newer version of this package wrote it."""
    try:
        record = json.loads(data.decode())
        version = record[0]
        if type(version) is int and version > FORMAT:
            return None, True
        return _read(record), False
    except (LookupError, TypeError, ValueError, ArithmeticError, RecursionError):
        return None, False


def _read(record: list[Any]) -> Session:
    _check(record, _SESSION)
    (
        version_of_form, id_, provider, issuer, client_id, claims, proof,
        created_at, expires_at, renewed_at, seen_at, version,
        access_token, refresh_token, id_token, others,
    ) = record  # fmt: skip
    # A sum is finite if all that it adds is.
    if version_of_form != FORMAT or not isfinite(created_at + expires_at + renewed_at + seen_at):
        raise ValueError
    return Session(
        id=id_,
        provider=provider,
        issuer=issuer,
        client_id=client_id,
        claims=claims,
        proof=proof,
        tokens=TokenSet(
            access_token=_read_token(access_token),
            refresh_token=_read_secret(refresh_token),
            id_token=_read_secret(id_token),
            others=tuple(map(_read_other, others)),
        ),
        created_at=created_at,
        expires_at=expires_at,
        renewed_at=renewed_at,
        seen_at=seen_at,
        version=version,
    )


def write_access_token(token: AccessToken) -> JSON:
    """Write a token down, as a part of what is going to be sealed."""
    return [
        token.value,
        token.expires_at.timestamp(),
        token.token_type,
        [*sorted(token.scope)],
        [*token.resource],
        token.expires_assumed,
        float(token.lifetime),
    ]


def read_access_token(record: object) -> AccessToken:
    """Read what `write_access_token` wrote. Raises `TypeError`, `ValueError` or `LookupError`."""
    if not isinstance(record, list):
        raise TypeError
    return _read_token(record)


def _read_token(record: list[Any]) -> AccessToken:
    _check(record, _TOKEN)
    value, expires_at, token_type, scope, resource, expires_assumed, lifetime = record
    if not isfinite(expires_at + lifetime):
        raise ValueError
    return AccessToken(
        value=value,
        expires_at=aware(expires_at),
        token_type=token_type,
        scope=frozenset(_texts(scope)),
        resource=tuple(_texts(resource)),
        expires_assumed=expires_assumed,
        lifetime=lifetime,
    )


def _read_secret(record: list[Any]) -> Secret | None:
    if not record:
        return None
    (text,) = _texts(record)
    return Secret(text)


def _read_other(record: list[Any]) -> tuple[Target, AccessToken]:
    _check(record, _OTHER)
    resource, scope, token = record
    return Target(tuple(_texts(resource)), frozenset(_texts(scope))), _read_token(token)


def _check(record: list[Any], kinds: Sequence[type]) -> None:
    if tuple(map(type, record)) != kinds:
        raise TypeError


def _texts(words: list[Any]) -> list[str]:
    if words and set(map(type, words)) != _TEXTS:
        raise TypeError
    return words
