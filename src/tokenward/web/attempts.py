"""Logins under way: each in a sealed cookie of its own, so that tabs do not disturb each other.

An anonymous visitor costs no memory, and a login completes only in the browser that
began it, because only that browser has the cookie.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Final, TypeVar

from ..errors import LoginFailed, SessionTooLarge
from ..protocol.json import InvalidJSON, loads_object
from ..sealing import Unsealable
from ..secret import Secret
from .cookies import cookie_names

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..clock import Clock
    from ..protocol.json import JSON
    from ..sealing import KeyRing
    from ..tokens.interfaces import Lease, Store
    from .cookies import Cookie, Headers

LIFETIME: Final = 600.0
"""Seconds that a user has at the provider."""

MAX_ATTEMPTS: Final = 5
"""Logins under way in one browser; the oldest is dropped for the sixth."""

MAX_BYTES: Final = 4096
"""Of all of them together, as the browser sends them: others need room in the header, too."""

MAX_ANSWER: Final = 6 * 1024
"""Bytes of an answer that is kept with its attempt; a code is a third of that at most."""

_PURPOSE: Final = "login-attempt"
_KEY: Final = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class LoginAttempt:
    """What must be remembered between the way to the provider and the way back."""

    state: Secret
    nonce: Secret
    code_verifier: Secret
    provider: str
    """The name under which the app registered the provider."""
    issuer: str
    client_id: str
    redirect_uri: str
    return_to: str
    created_at: float
    """Seconds since the epoch."""
    answer: Secret | None = None
    """The form that the provider had the browser post; None where the answer is in the query."""

    @property
    def key(self) -> str:
        """Name the attempt without giving its state away."""
        return attempt_key(self.state)


def attempt_key(state: Secret) -> str:
    """Name the attempt that has this state."""
    return sha256(state.reveal().encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class _Pending:
    key: str
    attempt: LoginAttempt | None
    """None: not one of ours, or it cannot be read any more."""
    is_newer: bool
    """Whether a newer release wrote it, which may take it up again."""
    size: int
    """Bytes in the Cookie header."""


def _age(pending: _Pending) -> float:
    return pending.attempt.created_at if pending.attempt else 0.0


class LoginAttempts:
    """Reads and writes the cookies of logins under way."""

    def __init__(self, ring: KeyRing, cookie: Cookie, *, clock: Clock) -> None:
        self._ring = ring
        self._cookie = cookie
        self._clock = clock

    def begin(self, headers: Headers, attempt: LoginAttempt) -> list[bytes]:
        """Return the Set-Cookie values that remember `attempt`, and drop what is too much.

        Dropped are the oldest beyond `MAX_ATTEMPTS` and `MAX_BYTES`, and what is not ours.
        """
        pending = sorted(self._pending(headers), key=_age, reverse=True)
        cookie = self._named(attempt.key)
        sealed = self._ring.seal(_write(attempt), purpose=_PURPOSE, record=cookie.full_name)
        lines, size = cookie.write(sealed, max_age=LIFETIME), _size(cookie, sealed)
        for kept, each in enumerate(pending, start=1):
            size += each.size
            is_good = each.attempt is not None or each.is_newer
            if not is_good or kept >= MAX_ATTEMPTS or size > MAX_BYTES:
                lines += self._named(each.key).clear()
        return lines

    def find(self, headers: Headers, state: Secret) -> LoginAttempt | None:
        """Return the attempt of this browser that has this state; None if there is none.

        It may be over: `is_over` tells.
        """
        attempt = self._open(headers, attempt_key(state)).attempt
        return attempt if attempt and attempt.state == state else None

    def is_over(self, attempt: LoginAttempt) -> bool:
        """Tell whether the user took longer than `LIFETIME`."""
        return self._clock() - attempt.created_at > LIFETIME

    def keep_answer(self, headers: Headers, attempt: LoginAttempt, answer: Secret) -> list[bytes]:
        """Return the Set-Cookie values that keep the provider's answer with its attempt.

        Raises `LoginFailed` for an answer that cookies cannot hold.
        """
        cookie = self._named(attempt.key)
        reading = cookie.read(headers)
        if len(answer) <= MAX_ANSWER:
            written = _write(replace(attempt, answer=answer))
            sealed = self._ring.seal(written, purpose=_PURPOSE, record=cookie.full_name)
            del written
            try:
                return cookie.write(sealed, max_age=LIFETIME, reading=reading)
            except SessionTooLarge:
                pass
        raise LoginFailed("callback_too_large")

    def end(self, headers: Headers, state: Secret) -> list[bytes]:
        """Return the Set-Cookie values that forget an attempt."""
        cookie = self._named(attempt_key(state))
        return cookie.clear(cookie.read(headers))

    def clean(self, headers: Headers, state: Secret) -> list[bytes]:
        """Return the Set-Cookie values that delete what has the name of an attempt and is none."""
        cookie = self._named(attempt_key(state))
        reading = cookie.read(headers)
        return cookie.clear(reading) if reading.names else []

    def _pending(self, headers: Headers) -> list[_Pending]:
        prefix = f"{self._cookie.full_name}-"
        keys = (name.removeprefix(prefix) for name in cookie_names(headers, prefix=prefix))
        found = [self._open(headers, key) for key in keys if _KEY.fullmatch(key)]
        # Browsers send the oldest first, which decides between two of the same moment.
        return found[::-1]

    def _open(self, headers: Headers, key: str) -> _Pending:
        cookie = self._named(key)
        sealed = cookie.read(headers).value or b""
        attempt, is_newer = None, False
        try:
            opened = self._ring.open(sealed, purpose=_PURPOSE, record=cookie.full_name)
            attempt = _read(loads_object(opened.plaintext))
        except Unsealable as error:
            is_newer = error.reason == "newer_format"
        except (InvalidJSON, KeyError, TypeError):
            pass
        return _Pending(key, attempt, is_newer, _size(cookie, sealed))

    def _named(self, key: str) -> Cookie:
        return self._cookie.named(key)


class UsedStates:
    """Remembers which states were used, so that an answer of the provider is taken once.

    By a lease, which one process takes in one step, before the code is sent; nobody gives
    it back unless it was not. A store that is full forgets old values to make room, but no
    lease: it refuses instead (`StoreUnavailable`). So nobody makes a used answer good again
    by filling the store. And where the store lost everything, an answer still needs the
    cookie of its attempt, which goes with the first use, and a code, which the provider
    takes once.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    async def use(self, state: Secret) -> Lease:
        """Use a state, for as long as its attempt could last. Raises `LoginFailed` if it was."""
        lease = await self._store.acquire(_used_key(state), ttl=LIFETIME)
        if lease is None:
            raise LoginFailed("state_used")
        return lease

    async def unuse(self, lease: Lease) -> None:
        """Let the state be used again: the code was not sent."""
        await self._store.release(lease)

    async def was_used(self, state: Secret) -> bool:
        """Tell whether the state was used just now."""
        lease = await self._store.acquire(_used_key(state), ttl=1.0)
        if lease is not None:
            await self._store.release(lease)
        return lease is None


def _used_key(state: Secret) -> str:
    return f"{attempt_key(state)}:used"


def _size(cookie: Cookie, sealed: bytes) -> int:
    """Return the bytes of `name=value; `, the value in base64."""
    return len(cookie.full_name) + len("=; ") + -(-len(sealed) * 4 // 3)


def _write(attempt: LoginAttempt) -> bytes:
    return json.dumps(
        {
            "state": attempt.state.reveal(),
            "nonce": attempt.nonce.reveal(),
            "verifier": attempt.code_verifier.reveal(),
            "provider": attempt.provider,
            "iss": attempt.issuer,
            "client": attempt.client_id,
            "redirect_uri": attempt.redirect_uri,
            "return_to": attempt.return_to,
            "created": float(attempt.created_at),
            "answer": None if attempt.answer is None else attempt.answer.reveal(),
        },
        separators=(",", ":"),
    ).encode()


def _read(record: Mapping[str, JSON]) -> LoginAttempt:
    answer = record["answer"]
    return LoginAttempt(
        state=Secret(_of(str, record["state"])),
        nonce=Secret(_of(str, record["nonce"])),
        code_verifier=Secret(_of(str, record["verifier"])),
        provider=_of(str, record["provider"]),
        issuer=_of(str, record["iss"]),
        client_id=_of(str, record["client"]),
        redirect_uri=_of(str, record["redirect_uri"]),
        return_to=_of(str, record["return_to"]),
        created_at=_of(float, record["created"]),
        answer=None if answer is None else Secret(_of(str, answer)),
    )


T = TypeVar("T")


def _of(kind: type[T], value: object) -> T:
    if not isinstance(value, kind):
        raise TypeError
    return value
