"""How a session is written down, to be sealed, and read again.

The form is a JSON array of fixed places, compact because it travels in cookies, and
read at every request: what is in each place is checked by one comparison of types.
The seal has shown that it was written here, so it is not held against the rules for
what comes from outside.

While a release is rolled out, processes of two releases share sessions. So a new form
takes two of them: the first reads it, and writes as before; the second writes it. Who
skips the first loses no session either: a process that meets a newer form than it
knows leaves it where it is, and says that nobody is logged in.
"""

from __future__ import annotations

import json
from math import isfinite
from typing import TYPE_CHECKING, Final, TypeVar

from ..clock import aware
from ..errors import StoreUnavailable
from ..secret import Secret
from .models import AccessToken, Target, TokenSet
from .session import Session

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from ..protocol.json import JSON

T = TypeVar("T")

FORMAT: Final = 1
"""Version of the form that is written, in its first place.

Whatever changes the places below, or their meaning, is another version. What is newer
than all that can be read is left alone, what is older is read by the reader that it had
then: see `_SESSION_READERS`.
"""

TOKEN_FORMAT: Final = 1
"""The same for a token that is written down by itself."""

LEFT_ALONE: Final = ("newer_format", "unknown_key")
"""Why something may be unreadable for this process and not for another one of the same app,
while a new release or a new key is being rolled out: it is no session here, and stays."""

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


class LeftAlone(StoreUnavailable):
    """The session lives on, in a form or under a key that only newer processes have.

    For whoever comes now it is as if the store could not be asked: nothing is spent,
    nothing is written, and another process of the app may answer him the next time.
    """

    def __init__(self) -> None:
        super().__init__("the session was written by a process that is newer than this one")


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
        _write_token(tokens.access_token),
        [] if tokens.refresh_token is None else [tokens.refresh_token.reveal()],
        [] if tokens.id_token is None else [tokens.id_token.reveal()],
        [
            [[*target.resource], [*sorted(target.scope)], _write_token(token)]
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
        return _reader(record, _SESSION_READERS)(record), False
    except NewerFormat:
        return None, True
    except (LookupError, TypeError, ValueError, ArithmeticError, RecursionError):
        return None, False


def _reader(
    record: list[Any], readers: Mapping[int, Callable[[list[Any]], T]]
) -> Callable[[list[Any]], T]:
    """Return the reader of the version that is in the first place; raise if there is none."""
    version = record[0]
    if type(version) is not int:
        raise TypeError
    if version > max(readers):
        raise NewerFormat
    return readers[version]


def _read_session_1(record: list[Any]) -> Session:
    _check(record, _SESSION)
    (
        _, id_, provider, issuer, client_id, claims, proof,
        created_at, expires_at, renewed_at, seen_at, version,
        access_token, refresh_token, id_token, others,
    ) = record  # fmt: skip
    # A sum is finite if all that it adds is.
    if not isfinite(created_at + expires_at + renewed_at + seen_at):
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


_SESSION_READERS: Final[Mapping[int, Callable[[list[Any]], Session]]] = {1: _read_session_1}
"""Who reads which version of a session. A reader stays for as long as something that was
written in its form may live, which is the absolute lifetime of a session; each gives
what it reads in the terms of today."""


def write_access_token(token: AccessToken) -> JSON:
    """Write a token down by itself, to be sealed."""
    return [TOKEN_FORMAT, *_write_token(token)]


def read_access_token(record: object) -> AccessToken:
    """Read what `write_access_token` wrote. Raises `TypeError`, `ValueError` or `LookupError`.

    A token by itself can be had again: who finds one that he cannot read gets another.
    """
    if not isinstance(record, list):
        raise TypeError
    return _reader(record, _TOKEN_READERS)(record[1:])


def _write_token(token: AccessToken) -> list[JSON]:
    return [
        token.value,
        token.expires_at.timestamp(),
        token.token_type,
        [*sorted(token.scope)],
        [*token.resource],
        token.expires_assumed,
        float(token.lifetime),
    ]


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


_TOKEN_READERS: Final[Mapping[int, Callable[[list[Any]], AccessToken]]] = {1: _read_token}
"""Who reads which version of a token by itself."""


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
