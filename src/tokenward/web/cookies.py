"""Cookies: read from the raw header by exact name, written within what browsers keep.

Starlette's parser is not used. It strips white space that is none in RFC 6265, so a
cookie that another host of the site planted as `<NBSP>__Host-...` passes for ours, and
where a name comes twice it takes the last. Here two of a name mean that neither is ours.

A value that is too long for one cookie goes into several, `name`, `name.1`, `name.2`:

    name   = <number of cookies> "." <digest of the whole> "." <data>
    name.1 = <data>

The digest tells a set that was torn apart from a whole one. It proves nothing about
who wrote it: values come here sealed. Data are base64 without padding, whose `+` and `/`
are as good in a cookie as letters (RFC 6265, section 4.1.1); base64url would have to be
translated at every request.
"""

from __future__ import annotations

import binascii
import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final, Literal, TypeAlias, get_args
from urllib.parse import urlsplit

from ..errors import ConfigurationError, SessionTooLarge
from ..origins import parse_origin

Headers: TypeAlias = Iterable[tuple[bytes, bytes]]
"""Header fields as in an ASGI scope: raw, the names in lower case."""

CookiePrefix: TypeAlias = Literal["__Host-", "__Secure-", ""]
"""What a browser demands of a cookie whose name begins so (RFC 6265bis, section 4.1.3)."""

SameSite: TypeAlias = Literal["Lax", "Strict", "None"]
"""Which requests that other sites cause carry the cookie."""

Rejection: TypeAlias = Literal[
    "header_too_large",
    "cookie_too_large",
    "duplicate",
    "chunk_missing",
    "chunk_extra",
    "chunk_mixed",
    "malformed",
]
"""Why a cookie that is there is not used. For the log."""

MAX_HEADER_BYTES: Final = 16 * 1024
"""Servers and proxies in front rarely take more; much less is common."""

MAX_COOKIE_BYTES: Final = 4096
"""What every browser keeps of one cookie (RFC 6265, section 6.1), attributes and all."""

MAX_CHUNKS: Final = 8
"""Cookies for one value. Browsers keep no more than fifty for a host, and not ours alone."""

_MAX_AGE: Final = 400 * 86400
"""Seconds. Browsers keep no cookie for longer (RFC 6265bis, section 5.5)."""

_NAME: Final = re.compile(r"(?!__Host-|__Secure-)[A-Za-z0-9_\-]{1,100}", re.IGNORECASE)
_PATH: Final = re.compile(r"/[A-Za-z0-9_\-./~%]{0,100}")
_INDEX: Final = re.compile(rb"\.[1-9][0-9]{0,3}")
_HEAD: Final = re.compile(rb"([2-8])\.([A-Za-z0-9+/]{8})\.")
_HEAD_BYTES: Final = len("2.12345678.")
_INDEX_BYTES: Final = len(".1")
_VARY: Final = frozenset({b"cookie", b"*"})


@dataclass(frozen=True, slots=True)
class CookieReading:
    """What a request holds under the name of a cookie: a value, nothing, or damage."""

    value: bytes | None = field(default=None, repr=False)
    """What was written; None if there is nothing, or if it was rejected."""
    rejected: Rejection | None = None
    """Why what is there is not used: treat as absent, clear it, and log this word."""
    names: tuple[str, ...] = ()
    """The cookies that belong to it, chunks and strays. `write` and `clear` delete them."""
    others: int = 0
    """Bytes of the Cookie header that are not its own. The next request has them too."""


_NOTHING: Final = CookieReading()


@dataclass(frozen=True, slots=True)
class Cookie:
    """A cookie's name and attributes, with which it is read, written and deleted.

        cookie = Cookie.for_origin("https://shop.example")
        reading = cookie.read(scope["headers"])
        for line in cookie.write(sealed, max_age=3600, reading=reading):
            headers.append((b"set-cookie", line))

    Always HttpOnly, never with Domain. Raises `ConfigurationError` for what browsers
    would ignore.
    """

    name: str
    """Without prefix."""
    prefix: CookiePrefix = "__Host-"
    """`__Host-`: no other host of the site can plant it. Needs `secure` and the path `/`."""
    secure: bool = True
    """Whether it travels over https alone."""
    same_site: SameSite = "Lax"
    """`Lax` because the way back from the provider is a navigation from another site."""
    path: str = "/"
    """Where on the host it is sent."""
    max_cookie_bytes: int = MAX_COOKIE_BYTES
    """At most this in one Set-Cookie line; longer values are split."""
    max_header_bytes: int = MAX_HEADER_BYTES
    """At most this in the Cookie header; lower it for a proxy that takes less."""

    def __post_init__(self) -> None:
        for setting, holds, rule in self._rules():
            if not holds:
                raise ConfigurationError(f"cookie.{setting}", rule)

    def _rules(self) -> Iterator[tuple[str, bool, str]]:
        yield "name", bool(_NAME.fullmatch(self.name)), "1 to 100 of A-Z a-z 0-9 _ -, no prefix"
        yield "path", bool(_PATH.fullmatch(self.path)), "must be a plain path that begins with /"
        yield "prefix", self.prefix in get_args(CookiePrefix), "must be __Host-, __Secure- or none"
        yield "same_site", self.same_site in get_args(SameSite), "must be Lax, Strict or None"
        yield "prefix", self.secure or not self.prefix, f"{self.prefix} needs secure=True"
        host_wide = self.prefix != "__Host-" or self.path == "/"
        yield "prefix", host_wide, "__Host- needs path='/'; take __Secure- for another path"
        unscoped = self.same_site == "None"
        yield "same_site", self.secure or not unscoped, "None needs secure=True"
        yield "max_cookie_bytes", 512 <= self.max_cookie_bytes <= 4096, "must be 512 to 4096"
        yield "max_header_bytes", 4096 <= self.max_header_bytes <= 16384, "must be 4096 to 16384"

    @classmethod
    def for_origin(
        cls,
        origin: str,
        *,
        name: str = "tokenward",
        same_site: SameSite = "Lax",
        dangerously_allow_http: bool = False,
    ) -> Cookie:
        """Return the safest cookie that works at `origin`, the `public_url` of an app.

        Over https it has the `__Host-` prefix. Over plain http, which is for loopback
        and the flag, it has neither prefix nor Secure, and its name ends in the port,
        because browsers share cookies between the ports of a host.
        Raises `ConfigurationError` for any other http origin.
        """
        parts = urlsplit(
            parse_origin(
                origin, setting="public_url", dangerously_allow_http=dangerously_allow_http
            )
        )
        if parts.scheme == "https":
            return cls(name, same_site=same_site)
        return cls(f"{name}-{parts.port or 80}", prefix="", secure=False, same_site=same_site)

    @property
    def full_name(self) -> str:
        """The name that the browser knows."""
        return self.prefix + self.name

    def named(self, suffix: str) -> Cookie:
        """Return a cookie with the same attributes whose name goes on with `-suffix`."""
        return replace(self, name=f"{self.name}-{suffix}")

    def read(self, headers: Headers) -> CookieReading:
        """Read the value from the header fields of a request."""
        header = _cookie_header(headers)
        name = self.full_name.encode()
        if len(header) > self.max_header_bytes:
            # Not looked through, so everything that may be there is to be deleted.
            names = tuple(map(self._chunk_name, range(MAX_CHUNKS))) if name in header else ()
            return CookieReading(rejected="header_too_large", names=names, others=len(header))
        if name not in header:
            return CookieReading(others=len(header))
        return self._judge(header, name)

    def _judge(self, header: bytes, name: bytes) -> CookieReading:
        found: dict[int, bytes] = {}
        others, is_duplicate = len(header), False
        for key, value in _pairs(header, name):
            if key == name:
                index = 0
            elif _INDEX.fullmatch(key, len(name)):
                index = int(key[len(name) + 1 :])
            else:
                continue
            is_duplicate = is_duplicate or index in found
            found[index] = value
            others -= len(key) + len(value) + len("=; ")
        joined: bytes | None = None
        rejected: Rejection | None = None
        if is_duplicate:
            rejected = "duplicate"
        elif found:
            joined, rejected = _join(found)
        names = tuple(map(self._chunk_name, found))
        return CookieReading(joined, rejected, names, max(others, 0))

    def write(
        self, value: bytes, *, max_age: float | None, reading: CookieReading = _NOTHING
    ) -> list[bytes]:
        """Return the Set-Cookie lines that make the browser hold `value`, and nothing older.

        `value` is sealed and not empty. `max_age` is in seconds; None keeps it until
        the browser is closed. `reading` is what the request held: what is left of it
        is deleted. Raises `SessionTooLarge` for what the next request could not bring.
        """
        attributes = self._attributes(max_age)
        chunks = self._split(
            binascii.b2a_base64(value, newline=False).rstrip(b"="), len(attributes)
        )
        lines = {
            name: f"{name}={chunk.decode()}{attributes}".encode()
            for name, chunk in ((self._chunk_name(i), chunk) for i, chunk in enumerate(chunks))
        }
        size = sum(map(len, lines.values()))
        if len(lines) > MAX_CHUNKS or size + reading.others > self.max_header_bytes:
            raise SessionTooLarge(self._too_large(size, len(lines), reading.others))
        stale = (name for name in reading.names if name not in lines)
        return [*lines.values(), *map(self._deletion, stale)]

    def clear(self, reading: CookieReading = _NOTHING) -> list[bytes]:
        """Return the Set-Cookie lines that delete the cookie and all that `reading` found."""
        return [self._deletion(name) for name in dict.fromkeys((self.full_name, *reading.names))]

    def _split(self, text: bytes, overhead: int) -> list[bytes]:
        room = self.max_cookie_bytes - len(self.full_name) - len("=") - overhead
        if len(text) <= room:
            return [text]
        first, room = room - _HEAD_BYTES, room - _INDEX_BYTES
        rest = [text[start : start + room] for start in range(first, len(text), room)]
        return [b"%d.%b.%b" % (1 + len(rest), _digest(text), text[:first]), *rest]

    def _chunk_name(self, index: int) -> str:
        return f"{self.full_name}.{index}" if index else self.full_name

    def _attributes(self, max_age: float | None) -> str:
        age = "" if max_age is None else f"; Max-Age={int(min(max(max_age, 0), _MAX_AGE))}"
        secure = "; Secure" if self.secure else ""
        return f"{age}; Path={self.path}; HttpOnly{secure}; SameSite={self.same_site}"

    def _deletion(self, name: str) -> bytes:
        # Browsers match name, path and prefix, and refuse a deletion that they would not keep.
        return f"{name}={self._attributes(0)}".encode()

    def _too_large(self, size: int, count: int, others: int) -> str:
        return (
            f"{self.full_name} takes {size} bytes in {count} cookies, beside {others} bytes of "
            f"other cookies; at most {MAX_CHUNKS} cookies and {self.max_header_bytes} bytes in "
            "all. Keep fewer claims (claims=), or keep sessions on the server (store=)"
        )


def cookie_names(headers: Headers, *, prefix: str) -> tuple[str, ...]:
    """Return the names of cookies that begin with `prefix` and were made by `Cookie.named`.

    `prefix` is a full name and `-login-` or the like. The order is that of the header,
    in which browsers put the oldest first. Nothing is listed of a header over 16 KB.
    """
    header = _cookie_header(headers)
    start = prefix.encode()
    if len(header) > MAX_HEADER_BYTES or start not in header:
        return ()
    names = (name[len(start) :].decode("latin-1") for name, _ in _pairs(header, start))
    return tuple(dict.fromkeys(prefix + name for name in names if _NAME.fullmatch(name)))


def keep_private(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Return the fields of a response with those that keep it out of shared caches.

    For every response that sets a session or depends on one, whatever the app said.
    """
    kept: list[tuple[bytes, bytes]] = []
    varies = False
    for name, value in headers:
        lower = name.lower()
        if lower != b"cache-control":
            kept.append((name, value))
        if lower == b"vary":
            varies = varies or not _VARY.isdisjoint(map(bytes.strip, value.lower().split(b",")))
    if not varies:
        kept.append((b"vary", b"Cookie"))
    kept.append((b"cache-control", b"private, no-store"))
    return kept


def _cookie_header(headers: Headers) -> bytes:
    # RFC 9113, section 8.2.3: over HTTP/2 it may come in several fields.
    return b"; ".join([value for name, value in headers if name == b"cookie"])


def _pairs(header: bytes, start: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Give name and value of each cookie whose name begins with `start`.

    Cookies that do not hold it anywhere are passed over, so thousands of them cost little.
    """
    end, at = 0, header.find(start)
    while at >= 0:
        begin = header.rfind(b";", end, at) + 1
        end = header.find(b";", at)
        if end < 0:
            end = len(header)
        equals = header.find(b"=", begin, end)
        if equals >= 0:
            name = header[begin:equals].strip(b" \t")
            if name.startswith(start):
                yield name, header[equals + 1 : end].strip(b" \t")
        at = header.find(start, end)


def _join(found: dict[int, bytes]) -> tuple[bytes | None, Rejection | None]:
    """Put the cookies of one value together, or say why that cannot be done."""
    if max(map(len, found.values())) > MAX_COOKIE_BYTES:
        return None, "cookie_too_large"
    if 0 not in found:
        return None, "chunk_missing"
    text = found[0]
    head = _HEAD.match(text)
    count = int(head[1]) if head else 1
    if max(found) >= count:
        return None, "chunk_extra"
    if len(found) < count:
        return None, "chunk_missing"
    if head:
        text = text[head.end() :] + b"".join([found[index] for index in range(1, count)])
        if head[2] != _digest(text):
            return None, "chunk_mixed"
    value = _decode(text)
    return (value, None) if value else (None, "malformed")


def _digest(text: bytes) -> bytes:
    return binascii.b2a_base64(hashlib.sha256(text).digest()[:6], newline=False)


def _decode(text: bytes) -> bytes | None:
    """Decode base64 in the one form in which it is written: no other spells the same."""
    if text.endswith(b"="):
        return None
    padded = text + b"=" * (-len(text) % 4)
    try:
        value = binascii.a2b_base64(padded, strict_mode=True)
    except ValueError:
        return None
    # The last group alone can hold bits that mean nothing, and must be zero.
    tail = padded[-4:]
    return value if binascii.b2a_base64(binascii.a2b_base64(tail), newline=False) == tail else None
