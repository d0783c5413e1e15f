"""`python -m tokenward provider`: the provider on a socket, for demos and other languages."""

from __future__ import annotations

import argparse
import errno
import json
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, get_args
from urllib.parse import urlsplit

import uvicorn

from .clients import (
    DEVICE_CODE,
    JSON,
    JWT_BEARER,
    TOKEN_EXCHANGE,
    USUAL_GRANTS,
    Client,
    ClientAuthMethod,
    GrantType,
    SigningAlg,
    User,
)
from .jws import import_keys
from .provider import Provider
from .server import configure, listen

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping, Sequence

DEFAULT_PORT = 8400
_LAST_PORT: Final = 65535
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:.")
_DEMO = "http://127.0.0.1:8000"
_MORE_GRANTS: Final[Mapping[str, GrantType]] = {
    "device_code": DEVICE_CODE,
    "jwt-bearer": JWT_BEARER,
    "password": "password",
    "token-exchange": TOKEN_EXCHANGE,
}
"""By their short names. CIBA is not among them: on the command line nobody could approve."""


def provider_cli(argv: Sequence[str] | None = None) -> int:
    """Run a provider until Ctrl-C, and return the exit code.

    `argv` are the arguments without the program's name; None takes those of the
    process. Returns 1 if the port cannot be had.
    """
    parser = _parser()
    options = parser.parse_args(argv)
    automatic = options.sign_in_automatically
    if automatic is not None and automatic not in (known := [user.sub for user in _users(options)]):
        parser.error(f"--sign-in-automatically: {automatic!a} is not one of {', '.join(known)}")
    try:
        listening = listen(options.host, options.port)
    except OSError as error:
        reason = _reason(error)
    else:
        return _run(listening, options)
    sys.stderr.write(f"cannot listen on {options.host}:{options.port}: {reason}\n")
    return 1


def _reason(error: OSError) -> str:
    if error.errno in (errno.EADDRINUSE, errno.EACCES):
        return f"{os.strerror(error.errno)}; try another --port, 0 takes a free one"
    told = error.strerror or type(error).__name__
    return f"{told.partition(' (')[0]}; look at --host"


def _run(listening: socket.socket, options: argparse.Namespace) -> int:
    with listening:
        address = f"http://{options.host}:{listening.getsockname()[1]}"
        provider = make_provider(options, issuer=options.issuer or address)
        sys.stdout.write(_greeting(provider, address))
        sys.stdout.flush()
        try:
            uvicorn.Server(configure(provider)).run([listening])
        except KeyboardInterrupt:
            sys.stdout.write("\n")
    return 0


def make_provider(options: argparse.Namespace, *, issuer: str) -> Provider:
    """Make the provider that the command line describes."""
    client = Client(
        options.client_id,
        secrets=() if options.public else tuple(options.secret or ["secret"]),
        redirect_uris=tuple(options.redirect_uri or [f"{_DEMO}/auth/callback"]),
        post_logout_redirect_uris=tuple(
            options.post_logout_redirect_uri or [f"{_DEMO}/auth/logout/callback"]
        ),
        scopes=tuple(options.scope.split()),
        access_token_type=options.access_token_type,
        access_token_lifetime=options.access_token_lifetime,
        refresh_token_lifetime=options.refresh_token_lifetime,
        refresh_token_overlap=options.refresh_token_overlap,
        id_token_signed_response_alg=options.id_token_alg,
        userinfo_signed_response_alg=options.userinfo_alg,
        grant_types=(*USUAL_GRANTS, *(_MORE_GRANTS[name] for name in options.grant or ())),
        token_endpoint_auth_methods=tuple(
            options.client_auth or ("client_secret_basic", "client_secret_post")
        ),
        jwks=options.jwks,
        require_pushed_authorization_requests=options.require_pushed_authorization_requests,
        polling_interval=options.polling_interval,
        device_code_lifetime=options.device_code_lifetime,
    )
    provider = Provider(issuer, clients=[client], users=_users(options))
    provider.sign_in_automatically(options.sign_in_automatically)
    if options.open_registration:
        provider.open_registration()
    return provider


def _read_jwks(path: str) -> Mapping[str, JSON]:
    try:
        jwks = json.loads(Path(path).read_bytes())
        import_keys(jwks)
    except (OSError, ValueError, AttributeError):
        jwks = None
    if not isinstance(jwks, dict):
        raise argparse.ArgumentTypeError(f"{path} is not a set of keys that can be read")
    return jwks


def _users(options: argparse.Namespace) -> list[User]:
    return options.user or [_user("alice:alice"), _user("bob:bob")]


def _user(text: str) -> User:
    sub, _, password = text.partition(":")
    if not sub:
        raise argparse.ArgumentTypeError("must be NAME:PASSWORD")
    claims: dict[str, JSON] = {"email": f"{sub}@example.org", "email_verified": True}
    return User(sub, name=sub.title(), password=password or sub, claims=claims)


def _host(text: str) -> str:
    try:
        text.encode("idna")
    except UnicodeError:
        text = ""
    if not text:
        raise argparse.ArgumentTypeError("is no host")
    return text


def _port(text: str) -> int:
    port = int(text) if text.isascii() and text.isdecimal() else -1
    if not 0 <= port <= _LAST_PORT:
        raise argparse.ArgumentTypeError(f"must be 0 to {_LAST_PORT}")
    return port


def _seconds(text: str) -> int:
    # Ten digits are more than 30 years.
    if not (text.isascii() and text.isdecimal() and len(text) <= 9):
        raise argparse.ArgumentTypeError("must be whole seconds")
    return int(text)


def _duration(text: str) -> float:
    try:
        given = float(text)
    except ValueError:
        given = -1.0
    if not 0 <= given < float("inf"):
        raise argparse.ArgumentTypeError("must be seconds")
    return given


def _issuer(text: str) -> str:
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or "?" in text or "#" in text:
        raise argparse.ArgumentTypeError(f"{text!a} is no URL without query and fragment")
    return text


def _redirect_uri(text: str) -> str:
    # Absolute, without a fragment (RFC 6749, section 3.1.2); apps have schemes of their own.
    if not _SCHEME.match(text) or "#" in text:
        raise argparse.ArgumentTypeError(f"{text!a} is no absolute URI without a fragment")
    return text


def _not_empty(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("is empty")
    return text


def _greeting(provider: Provider, address: str) -> str:
    lines = [f"OpenID Provider on {address}", f"  issuer    {provider.issuer}"]
    for client in provider.clients.values():
        lines.append(f"  client    {client.client_id}{' (public)' * client.is_public}")
        lines += [f"  redirect  {uri}" for uri in client.redirect_uris]
    lines.append(f"  users     {', '.join(provider.users)}")
    return "\n".join([*lines, "Ctrl-C ends it.", ""])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tokenward provider",
        description="Run a strict OpenID Provider for tests and demos. Not for production.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--host", type=_host, default="127.0.0.1", help="address to listen on (%(default)s)")
    add("--port", type=_port, default=DEFAULT_PORT, help="0 takes a free one (%(default)s)")
    add("--issuer", type=_issuer, help="issuer identifier, if it is not the address")
    add("--client-id", type=_not_empty, default="app", help="(%(default)s)")
    add("--secret", type=_not_empty, action="append", help="may be repeated (secret)")
    add("--public", action="store_true", help="a client without a secret")
    add("--redirect-uri", type=_redirect_uri, action="append", help="may be repeated")
    add("--post-logout-redirect-uri", type=_redirect_uri, action="append", help="may be repeated")
    add("--scope", default="openid profile email api offline_access", help="(%(default)s)")
    add("--access-token-type", choices=("opaque", "jwt"), default="opaque")
    add("--access-token-lifetime", type=_seconds, default=3600, help="seconds (%(default)s)")
    add("--refresh-token-lifetime", type=_seconds, default=30 * 24 * 3600, help="seconds")
    add("--refresh-token-overlap", type=_duration, default=0.0, help="seconds (%(default)s)")
    add("--id-token-alg", choices=get_args(SigningAlg), default="RS256")
    _add_further_options(parser)
    add(
        "--user",
        type=_user,
        action="append",
        help="NAME:PASSWORD, may be repeated (alice:alice, bob:bob)",
    )
    add("--sign-in-automatically", metavar="NAME", help="show no login page")
    return parser


def _add_further_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    grants, methods = sorted(_MORE_GRANTS), get_args(ClientAuthMethod)
    add("--grant", action="append", choices=grants, help="one more grant; may be repeated")
    add("--client-auth", action="append", choices=methods, help="may be repeated")
    add("--jwks", type=_read_jwks, metavar="FILE", help="public keys of the client")
    add("--userinfo-alg", choices=get_args(SigningAlg), help="sign userinfo")
    add("--require-pushed-authorization-requests", action="store_true")
    add("--polling-interval", type=_seconds, default=5, help="seconds (%(default)s)")
    add("--device-code-lifetime", type=_seconds, default=600, help="seconds (%(default)s)")
    add("--open-registration", action="store_true", help="let anybody register clients")
