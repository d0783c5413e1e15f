"""How the client proves itself, as the options of a command say it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ..clock import system_clock
from ..protocol.client_assertion import client_secret_jwt, private_key_jwt, read_private_key
from ..protocol.client_auth import (
    client_secret_basic,
    client_secret_basic_raw,
    client_secret_post,
    none,
)
from ..protocol.responses import printable
from ..secret import Secret
from .console import USAGE, Failed, ask_secret, refuse_secret

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from ..protocol.client_assertion import PrivateKey
    from ..protocol.client_auth import ClientAuth
    from ..protocol.metadata import ProviderMetadata

CLIENT_SECRET: Final = "TOKENWARD_CLIENT_SECRET"  # noqa: S105 - where it is, and not what it is
"""The environment variable with the client's secret."""

_BY_SECRET: Final[dict[str, Callable[[Secret], ClientAuth]]] = {
    "client_secret_basic": client_secret_basic,
    "client_secret_basic_raw": client_secret_basic_raw,
    "client_secret_post": client_secret_post,
}
_METHODS: Final = (*_BY_SECRET, "client_secret_jwt", "private_key_jwt", "none")


def add_client_options(parser: argparse.ArgumentParser) -> None:
    """Add who the client is, and how it proves it."""
    add = parser.add_argument
    add("--client-id", required=True, metavar="ID", help="as registered")
    add(
        "--client-auth",
        choices=_METHODS,
        metavar="METHOD",
        help=f"{', '.join(_METHODS)}. By default: private_key_jwt with --key; with a secret "
        "client_secret_basic, or client_secret_post where the provider has no other; "
        "and none for a grant of a user without a secret",
    )
    add("--key", metavar="FILE", help="private key of the client: PEM without password, or a JWK")
    add("--key-id", metavar="KID", help="as registered; by default the JWK's, or the thumbprint")
    add("--algorithm", metavar="ALG", help="what the key or the secret signs with, such as PS256")
    refuse_secret(parser, "--client-secret", "--secret", variable=CLIENT_SECRET)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientProof:
    """What the client has to prove itself with; the provider decides what is made of it."""

    method: str | None
    """None: by the secret, in the way that the provider supports."""
    issuer: str | None
    """The provider, as far as it is known. None: nobody said."""
    algorithm: str | None
    secret: Secret | None = None
    key: PrivateKey | None = field(default=None, repr=False)

    def at(self, metadata: ProviderMetadata | None) -> ClientAuth:
        """Return the way to prove it. None: nothing is known of the provider.

        Raises `ConfigurationError` for a secret or a key that cannot be used so.
        """
        if self.key is not None:
            issuer = self._audience(metadata)
            return private_key_jwt(
                self.key, issuer=issuer, clock=system_clock, algorithm=self.algorithm
            )
        if self.secret is None:
            return none()
        if self.method == "client_secret_jwt":
            issuer = self._audience(metadata)
            algorithm = self.algorithm or "HS256"
            return client_secret_jwt(
                self.secret, issuer=issuer, clock=system_clock, algorithm=algorithm
            )
        return _BY_SECRET[self.method or _supported(metadata)](self.secret)

    def _audience(self, metadata: ProviderMetadata | None) -> str:
        issuer = self.issuer if metadata is None else metadata.issuer
        if issuer is None:
            raise Failed(USAGE, "--issuer is needed as well: it is the audience of what is signed")
        return issuer


def read_proof(options: argparse.Namespace) -> ClientProof:
    """Return what the client has; asks for its secret where one is needed.

    Raises `Failed` where something is missing, `ConfigurationError` for a key that is none.
    """
    method = options.client_auth or _usual_method(options)
    proof = ClientProof(method=method, issuer=options.issuer, algorithm=options.algorithm)
    if method == "none":
        return proof
    if method == "private_key_jwt":
        return replace(proof, key=_read_key(options.key, kid=options.key_id))
    prompt = f"Secret of client {printable(options.client_id)}: "
    return replace(proof, secret=ask_secret(CLIENT_SECRET, prompt=prompt))


def _usual_method(options: argparse.Namespace) -> str | None:
    if options.key is not None:
        return "private_key_jwt"
    if options.grant != "client_credentials" and not os.environ.get(CLIENT_SECRET):
        # Tools on the machines of users are public clients (RFC 8252, section 8.5).
        return "none"
    return None


def _supported(metadata: ProviderMetadata | None) -> str:
    told = metadata and metadata.token_endpoint_auth_methods_supported
    # What every provider should know (RFC 6749, section 2.3.1), unless it says that it does not.
    if told and "client_secret_basic" not in told and "client_secret_post" in told:
        return "client_secret_post"
    return "client_secret_basic"


def _read_key(path: str | None, *, kid: str | None) -> PrivateKey:
    if path is None:
        raise Failed(USAGE, "private_key_jwt needs --key")
    reason = ""
    text = Secret("")
    try:
        text = Secret(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        reason = error.strerror or type(error).__name__
    except ValueError:  # also of a path with a null character
        reason = "not text"
    if reason:
        raise Failed(USAGE, f"--key {path!a} cannot be read: {reason}")
    return read_private_key(text, kid=kid)
