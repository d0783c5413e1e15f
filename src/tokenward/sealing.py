"""Encrypt what rests in cookies and stores, so that it opens in its own place only.

A sealed value is `version | key id | nonce | ciphertext`: 1, 8, 12 and 16 + n bytes,
AES-256-GCM. Version, key id, purpose and record are authenticated with it: a value
that was moved to another record, or to another purpose, is refused like a forged one.

Every purpose has a key of its own (HKDF-SHA256, RFC 5869), so a flaw in the handling
of one says nothing about the others. Nonces are random; NIST SP 800-38D, section 8.3,
allows 2**32 of them per key, which is a hundred a second for more than a year. Whoever
seals more rotates `secret_key` more often.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from .errors import ConfigurationError, TokenwardError
from .secret import Secret

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_logger = logging.getLogger(__name__)

FORMAT_VERSION: Final = 1
"""First byte of everything that is sealed here."""

MIN_KEY_BYTES: Final = 32
"""As long as the AES key that is made of it."""

_KEY_ID_END: Final = 1 + 8
_NONCE_BYTES: Final = 12
_NONCE_END: Final = _KEY_ID_END + _NONCE_BYTES
_TAG_BYTES: Final = 16
_SHORTEST: Final = _NONCE_END + _TAG_BYTES

_MAX_CIPHERS: Final = 64
"""Purposes are constants of the program, times a few keys; this is only a bound."""

_MIN_DISTINCT: Final = 8
"""Different characters of a key. 32 random hexadecimal digits have about 14."""

_PLACEHOLDERS: Final = (
    "changeme",
    "changethis",
    "donotuse",
    "example",
    "insecure",
    "mysecret",
    "password",
    "placeholder",
    "replaceme",
    "replacethis",
    "secretkey",
    "supersecret",
    "topsecret",
    "yoursecret",
)
"""What templates put where a key belongs, without its separators."""

_PUBLISHED: Final = frozenset(
    # The security tutorial of FastAPI, and a great many repositories since.
    {Secret("09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7")}
)

_REMEDY: Final = "make one with `python -m tokenward secret`"

Reason: TypeAlias = Literal["malformed", "newer_format", "unknown_key", "forged"]


class Unsealable(TokenwardError):
    """A sealed value cannot be opened. It is treated as if it were not there."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason: Reason = reason
        """`malformed`: not an envelope. `newer_format`: written by a newer release; leave
        it where it is. `unknown_key`: its key is not in the ring, or not any more.
        `forged`: changed, or sealed for another purpose or record."""


@dataclass(frozen=True, slots=True)
class Opened:
    """What was in a sealed value."""

    plaintext: bytes = field(repr=False)
    newest: bool
    """Whether the newest key sealed it; if not, seal it again at the next chance."""


@dataclass(frozen=True, slots=True)
class _Cipher:
    """One key for one purpose, with the parts of an envelope that are always the same."""

    aead: AESGCM = field(repr=False)
    header: bytes
    associated: bytes

    def seal(self, plaintext: bytes, record: str) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        associated = self.associated + _encode(record)
        return self.header + nonce + self.aead.encrypt(nonce, plaintext, associated)

    def open(self, sealed: bytes, record: str) -> bytes:
        associated = self.associated + _encode(record)
        nonce = sealed[_KEY_ID_END:_NONCE_END]
        try:
            return self.aead.decrypt(nonce, sealed[_NONCE_END:], associated)
        except InvalidTag:
            pass
        raise Unsealable("forged")


class KeyRing:
    """Seal with the newest key, open with any.

        ring = KeyRing([os.environ["SECRET_KEY"], os.environ["OLD_SECRET_KEY"]])
        sealed = ring.seal(b"...", purpose="session", record=store_key)
        ring.open(sealed, purpose="session", record=store_key).plaintext

    `secret_key` is one key, or several, newest first. Where several processes run, put a new
    one behind the old one first, then in front of it, and take the old one away when nothing
    that it sealed has to be read any more: an idle lifetime after the last process that
    sealed with it has stopped. At least 32 bytes each; raises `ConfigurationError` for a
    key that is short or published, and warns of one that looks easy to guess.
    A ring may be used by several threads.
    """

    def __init__(self, secret_key: str | Sequence[str]) -> None:
        given = [
            _read(key) for key in ([secret_key] if isinstance(secret_key, str) else secret_key)
        ]
        # From here on the keys are masked: error trackers show the frames of what is
        # raised below.
        del secret_key
        keys = [_check(key) for key in given]
        if not keys:
            raise ConfigurationError("secret_key", f"is an empty list; {_REMEDY}")
        if any(key.had_white_space for key in given):
            _logger.warning("secret_key: white space around it was taken away")
        if any(_is_guessable(key) for key in keys):
            _logger.warning("secret_key: looks easy to guess; %s", _REMEDY)
        self._materials = {_key_id(material): material for material in map(_material, keys)}
        self._newest = next(iter(self._materials))
        self._cipher: Callable[[bytes, str], _Cipher] = lru_cache(_MAX_CIPHERS)(self._derive)

    def seal(self, plaintext: bytes, *, purpose: str, record: str) -> bytes:
        """Encrypt for one purpose and one record, with the newest key."""
        return self._cipher(self._newest, purpose).seal(plaintext, record)

    def open(self, sealed: bytes, *, purpose: str, record: str) -> Opened:
        """Decrypt what was sealed for this purpose and this record.

        Raises `Unsealable`, whatever the bytes are.
        """
        key_id = _read_key_id(sealed)
        if key_id not in self._materials:
            raise Unsealable("unknown_key")
        plaintext = self._cipher(key_id, purpose).open(sealed, record)
        return Opened(plaintext, newest=key_id == self._newest)

    def signing_keys(self, purpose: str) -> list[bytes]:
        """Return a key for signatures per key of the ring, oldest to newest.

        That is the order that itsdangerous wants. They are none of the keys that seal.
        """
        oldest_first = reversed(self._materials.values())
        return [_expand(material, "sign", purpose) for material in oldest_first]

    def _derive(self, key_id: bytes, purpose: str) -> _Cipher:
        return _make_cipher(self._materials[key_id], key_id, "seal", purpose)


def seal_with(secret: Secret, plaintext: bytes, *, purpose: str, record: str) -> bytes:
    """Encrypt so that only whoever has `secret` can open it; no key ring can.

    `secret` must be hard to guess, as tokens are: the key is derived, not stretched.
    """
    return _cipher_of(secret, purpose).seal(plaintext, record)


def open_with(secret: Secret, sealed: bytes, *, purpose: str, record: str) -> bytes:
    """Decrypt what `seal_with` made with the same secret. Raises `Unsealable`."""
    key_id = _read_key_id(sealed)
    cipher = _cipher_of(secret, purpose)
    if cipher.header[1:] != key_id:
        raise Unsealable("unknown_key")
    return cipher.open(sealed, record)


def _cipher_of(secret: Secret, purpose: str) -> _Cipher:
    material = _material(secret)
    return _make_cipher(material, _key_id(material), "seal-with", purpose)


def _make_cipher(material: bytes, key_id: bytes, use: str, purpose: str) -> _Cipher:
    header = bytes([FORMAT_VERSION]) + key_id
    encoded = _encode(purpose)
    # The length keeps ("a", "bc") apart from ("ab", "c"); the rest is of fixed length.
    associated = header + len(encoded).to_bytes(4, "big") + encoded
    return _Cipher(AESGCM(_expand(material, use, purpose)), header, associated)


def _read_key_id(sealed: bytes) -> bytes:
    # The version first: a newer format may well be shorter.
    if sealed and sealed[0] > FORMAT_VERSION:
        raise Unsealable("newer_format")
    if len(sealed) < _SHORTEST or sealed[0] != FORMAT_VERSION:
        raise Unsealable("malformed")
    return sealed[1:_KEY_ID_END]


def _encode(text: str) -> bytes:
    # Never fails: what is authenticated may come from outside.
    return text.encode("utf-8", "surrogatepass")


def _material(secret: Secret) -> bytes:
    return _encode(secret.reveal())


def _key_id(material: bytes) -> bytes:
    return _expand(material, "key id", "", length=_KEY_ID_END - 1)


def _expand(material: bytes, use: str, purpose: str, *, length: int = 32) -> bytes:
    """Derive a key for one use and one purpose (RFC 5869)."""
    info = b"tokenward/1 " + use.encode() + b"\0" + _encode(purpose)
    return HKDF(SHA256(), length, salt=None, info=info).derive(material)


# --------------------------------------------------------------- what a key must be


@dataclass(frozen=True, slots=True)
class _Given:
    """A key as it was given, out of sight."""

    text: Secret | None
    """None: it is no text."""
    had_white_space: bool


def _read(key: object) -> _Given:
    # An environment variable that is not UTF-8 reaches Python with lone surrogates.
    if not isinstance(key, str) or any("\ud800" <= character <= "\udfff" for character in key):
        return _Given(None, had_white_space=False)
    return _Given(Secret(key.strip()), had_white_space=key != key.strip())


def _check(given: _Given) -> Secret:
    """Refuse a key that is short, or that everybody knows."""
    key = given.text
    if key is None:
        raise ConfigurationError("secret_key", f"is no text in UTF-8, or a list of it; {_REMEDY}")
    if not key:
        raise ConfigurationError("secret_key", f"is empty; {_REMEDY}")
    if len(_material(key)) < MIN_KEY_BYTES:
        raise ConfigurationError("secret_key", f"has less than {MIN_KEY_BYTES} bytes; {_REMEDY}")
    if key in _PUBLISHED:
        raise ConfigurationError("secret_key", f"is in a tutorial for all to read; {_REMEDY}")
    return key


def _is_guessable(key: Secret) -> bool:
    """Tell what looks like a placeholder, or has little in it. Nothing can tell that surely."""
    letters = Secret("".join(filter(str.isalnum, key.reveal().casefold())))
    return any(phrase in letters.reveal() for phrase in _PLACEHOLDERS) or _is_monotonous(key)


def _is_monotonous(key: Secret) -> bool:
    """Tell few different characters, one piece repeated, and runs like `abcdef`."""
    if len(set(key.reveal())) < _MIN_DISTINCT:
        return True
    if key.reveal() in (key.reveal() * 2)[1:-1]:
        return True
    # Neighbours that are equal, or next to each other in the alphabet.
    steps = sum(abs(a - b) <= 1 for a, b in pairwise(map(ord, key.reveal())))
    return 4 * steps > 3 * len(key)
