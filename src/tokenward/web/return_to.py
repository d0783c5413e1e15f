r"""Where a browser may be sent after login and logout. A grammar, not a guess.

A parser that finds no host in a target proves little: browsers read `///host`,
`/\host` and `https:host` their own way, and what is harmless in a Location field may
not be in JSON. So nothing is repaired here: a target has the narrow form below and is
given back unchanged, or it is refused and the caller goes to the landing page.

The same function judges where a target comes in and where it goes out.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_to_bytes

if TYPE_CHECKING:
    from collections.abc import Collection

MAX_LENGTH: Final = 2048
"""Characters. Quoted into a query, a target of this size still fits an 8 KB request line."""

_DECODINGS: Final = 3
"""How often something behind us may decode a target once more without harm."""

# RFC 3986, section 3.3 and 3.4, and what browsers leave as it is besides: `[]|` in a
# path, `[]|{}^` in a query. No space, no quotes, no backslash, nothing beyond ASCII.
_TARGET: Final = re.compile(
    r"(?P<path>/(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/|\[\]]|%[0-9A-Fa-f]{2})*)"
    r"(?P<rest>(?:\?(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/?|\[\]{}^]|%[0-9A-Fa-f]{2})*)?"
    r"(?:\#(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/?|\[\]{}^]|%[0-9A-Fa-f]{2})*)?)"
)
_ABSOLUTE: Final = re.compile(r"(?P<origin>https?://[a-z0-9.\-:\[\]]+)(?P<target>/.*)?")


def local_target(
    value: str | None,
    *,
    forbidden_prefixes: Collection[str] = (),
    max_length: int = MAX_LENGTH,
) -> str | None:
    """Return `value` unchanged if it leads to a page of this site, else None.

    It is a path that begins with one slash, perhaps with query and fragment (pages
    that route by fragment need theirs back), in printable ASCII. However often the
    path is decoded, it holds no empty segment, no dot segment, no backslash and no
    control character. In query and fragment only control characters and broken
    encodings are refused, for neither can become a host.

    `forbidden_prefixes` are paths whose whole subtree is refused, such as the prefix
    of the login routes, which would make a loop. `max_length` is in characters; a
    longer value is refused, not cut. Quote the result for HTML: it may hold `&` and `'`.
    """
    if value is None or len(value) > max_length:
        return None
    match = _TARGET.fullmatch(value)
    if match is None or _layers(match["rest"]) is None:
        return None
    paths = _layers(match["path"])
    if paths is None or not all(_is_plain(_folded(path)) for path in paths):
        return None
    if any(_is_below(path, prefix) for path in paths for prefix in forbidden_prefixes):
        return None
    return value


def allowed_target(
    value: str | None,
    *,
    allowed_origins: Collection[str],
    forbidden_prefixes: Collection[str] = (),
    max_length: int = MAX_LENGTH,
) -> str | None:
    """Return `value` unchanged if it is local, or leads to one of `allowed_origins`.

    `allowed_origins` have the form of `parse_origin`. Scheme, host and port must be the
    same to the letter; what follows has the form of a local target. `forbidden_prefixes`
    are paths of this site, and are refused on the others too.
    """
    if value is None or len(value) > max_length:
        return None
    match = _ABSOLUTE.fullmatch(value)
    target = value
    if match is not None:
        if match["origin"] not in allowed_origins:
            return None
        target = match["target"] or "/"
    if local_target(target, forbidden_prefixes=forbidden_prefixes, max_length=max_length) is None:
        return None
    return value


def _layers(text: str) -> list[str] | None:
    """Return `text` and each of its decodings; None if one is not plain text.

    None also if it could be decoded further than anybody would in good faith.
    """
    layers = [text]
    while (decoded := _decoded(layers[-1])) != layers[-1]:
        if decoded is None or len(layers) > _DECODINGS or not _is_printable(decoded):
            return None
        layers.append(decoded)
    return layers


def _decoded(text: str) -> str | None:
    try:
        return unquote_to_bytes(text).decode()
    except UnicodeDecodeError:
        return None


def _is_printable(text: str) -> bool:
    """No control characters, no separators of lines (Cc, Zl, Zp)."""
    return text.isprintable() or not any(
        unicodedata.category(character) in {"Cc", "Zl", "Zp"} for character in text
    )


def _is_plain(path: str) -> bool:
    """No segment is empty or made of dots, but the last may be empty.

    Some servers cut `;...` off a segment before they look at its dots.
    """
    *inner, last = (segment.partition(";")[0] for segment in path[1:].split("/"))
    return "\\" not in path and not {"", ".", ".."} & set(inner) and last not in {".", ".."}


def _folded(path: str) -> str:
    """Return what is left where compatibility forms are folded and the invisible is dropped.

    U+FF0F becomes a slash and U+FF0E a dot, and no space stands between two slashes.
    What is not plain as it is does not become so by this.
    """
    folded = unicodedata.normalize("NFKC", path)
    return "".join(c for c in folded if unicodedata.category(c) not in {"Cf", "Zs"})


def _is_below(path: str, prefix: str) -> bool:
    return path == prefix or path.startswith(prefix.rstrip("/") + "/") or path + "/" == prefix
