"""Origins, in the one form that is compared."""

from __future__ import annotations

import ipaddress
import re
from typing import Final

from .errors import ConfigurationError

_ORIGIN: Final = re.compile(
    r"(?P<scheme>https?)://"
    r"(?P<host>\[[0-9a-f:.]+\]|[a-z0-9.\-]+)"
    r"(?P<port>:[1-9][0-9]{0,4})?/?"
)
_LABEL: Final = re.compile(r"[a-z0-9](?:[a-z0-9\-]{0,61}[a-z0-9])?")
_DEFAULT_PORTS: Final = {"http": ":80", "https": ":443"}


def parse_origin(text: str, *, setting: str, dangerously_allow_http: bool = False) -> str:
    """Return an origin in the one form that is compared: `https://host` or `https://host:port`.

    It has no path, no user and no wildcard, and its host is a name in ASCII or an
    address in its usual form. Raises `ConfigurationError`, which names `setting`.
    """
    match = _ORIGIN.fullmatch(text.lower()) if text.isascii() else None
    if match is None or not _is_port(match["port"]) or not _is_host(match["host"]):
        raise ConfigurationError(
            setting, f"{text!r} is not an exact origin such as 'https://app.example:8443'"
        )
    scheme, host, port = match.group("scheme", "host", "port")
    if scheme == "http" and not (dangerously_allow_http and is_loopback(host)):
        raise ConfigurationError(
            setting,
            f"{text!r} is not https; plain http is for loopback, with dangerously_allow_http=True",
        )
    return f"{scheme}://{host}{'' if port in (None, _DEFAULT_PORTS[scheme]) else port}"


def is_loopback(host: str) -> bool:
    """Tell whether `host` is this very machine, whatever a resolver says.

    `localhost` and all below it are (RFC 6761, section 6.3).
    """
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _is_port(port: str | None) -> bool:
    return port is None or int(port[1:]) <= 65535


def _is_host(host: str) -> bool:
    if host.startswith("["):
        return _is_address(host[1:-1])
    labels = host.split(".")
    if not all(_LABEL.fullmatch(label) for label in labels):
        return False
    # The URL parser of browsers takes a host for an IPv4 address if its last label is a number.
    return _is_address(host) if re.fullmatch(r"[0-9]+|0x[0-9a-f]*", labels[-1]) else True


def _is_address(text: str) -> bool:
    try:
        return str(ipaddress.ip_address(text)) == text
    except ValueError:
        return False
