"""Random ids in signed cookies: each names a record in the store, and tells nothing else.

A value is `key id | random id | "." | signature`, so that a process tells a key that it
does not have, or has no more, from a signature that somebody made up.
"""

from __future__ import annotations

import base64
import hmac
import secrets
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from itsdangerous import BadSignature, Signer

from ..secret import Secret
from ..stores.sessions import session_key

if TYPE_CHECKING:
    from ..sealing import KeyRing
    from .cookies import Cookie, CookieReading, Headers

_ID_BYTES: Final = 32
_KEY_ID_BYTES: Final = 8
_LENGTH: Final = _KEY_ID_BYTES + 43 + 1 + 43
"""Bytes of a value: 256 bits are 43 characters."""


@dataclass(frozen=True, slots=True)
class CarriedId:
    """The id that a request carries, if it is one of ours."""

    reading: CookieReading
    credential: Secret | None = None
    """The id; None if there is none, or none that we signed."""
    rejected: str | None = None
    """Why what is there is no id, as `Unsealable.reason` or `CookieReading.rejected`.

    None: it is one, or nothing is there.
    """
    outdated: bool = False
    """Whether it was signed with a key that is not the newest."""
    key: str | None = field(default=None, repr=False)
    """The name of its record in the store."""


class IdCookie:
    """A cookie with an id that we signed. Junk dies here, before it costs a look into the store."""

    def __init__(self, ring: KeyRing, cookie: Cookie) -> None:
        self._cookie = cookie
        # The name is part of it, so that the id in one cookie is none in another.
        salt = cookie.full_name.encode()
        keys = ring.signing_keys("session-id")
        self._signers = {_key_id(key): _signer(key, salt) for key in keys}
        self._newest = _key_id(keys[-1])

    def read(self, headers: Headers) -> CarriedId:
        """Read the id from the headers of a request."""
        reading = self._cookie.read(headers)
        if reading.value is None:
            return CarriedId(reading, rejected=reading.rejected)
        if len(reading.value) != _LENGTH:
            return CarriedId(reading, rejected="malformed")
        key_id, signed = reading.value[:_KEY_ID_BYTES], reading.value[_KEY_ID_BYTES:]
        signer = self._signers.get(key_id)
        if signer is None:
            return CarriedId(reading, rejected="unknown_key")
        try:
            credential = Secret(signer.unsign(signed).decode("ascii"))
        except (BadSignature, UnicodeDecodeError):
            return CarriedId(reading, rejected="forged")
        outdated = key_id != self._newest
        return CarriedId(reading, credential, outdated=outdated, key=session_key(credential))

    def write(self, credential: Secret, carried: CarriedId, *, max_age: float) -> list[bytes]:
        """Return the Set-Cookie values that put `credential` in the place of what was carried."""
        value = self._newest + self._signers[self._newest].sign(credential.reveal())
        return self._cookie.write(value, max_age=max_age, reading=carried.reading)

    def clear(self, carried: CarriedId) -> list[bytes]:
        """Return the Set-Cookie values that delete what was carried; none if nothing was."""
        return self._cookie.clear(carried.reading) if carried.reading.names else []


def new_id() -> Secret:
    """Make an id that nobody guesses: 256 random bits."""
    return Secret(base64.urlsafe_b64encode(secrets.token_bytes(_ID_BYTES)).decode().rstrip("="))


def _signer(key: bytes, salt: bytes) -> Signer:
    derived = Signer(key, salt=salt, key_derivation="hmac", digest_method=sha256).derive_key()
    # As it is: to derive it for every request would take as long as to verify.
    return Signer(derived, key_derivation="none", digest_method=sha256)


def _key_id(key: bytes) -> bytes:
    return hmac.digest(key, b"key id", sha256)[:_KEY_ID_BYTES]
