"""Ways for the client to prove itself at the provider's endpoints (RFC 6749, section 2.3).

A way is a function that adds its proof to the form or to the headers. Yours has
the same shape:

    def vault_assertion(client_id: str, form: Form, headers: Headers) -> None:
        form.append(("client_id", client_id))
        form.append(("client_assertion_type", JWT_BEARER))
        form.append(("client_assertion", Secret(vault.sign(client_id))))
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Final, TypeAlias
from urllib.parse import quote_plus

from ..errors import ConfigurationError
from ..secret import Secret
from .form import Form, as_secret, reveal

Headers: TypeAlias = dict[str, str | Secret]
"""The header fields of a request, with lower-case names."""

ClientAuth: TypeAlias = Callable[[str, Form, Headers], None]
"""Takes the client id, and adds its proof to the form or to the headers.

It is called for every request, so a proof may differ each time.
"""

CERTIFICATE_METHODS: Final = frozenset({"tls_client_auth", "self_signed_tls_client_auth"})
"""Ways that need the provider's endpoints for clients with a certificate (RFC 8705)."""

_PROOFS: Final = frozenset({"client_secret", "client_assertion", "client_assertion_type"})


def client_secret_basic(secret: Secret | str) -> ClientAuth:
    """Send id and secret in the Authorization header.

    Both are form-encoded first, which plain HTTP Basic does not do (RFC 6749,
    section 2.3.1). Raises `ConfigurationError` if the secret is empty.
    """
    secret = as_secret(secret)  # from here on no traceback shows it
    return _Basic(_checked(secret), form_encoded=True)


def client_secret_basic_raw(secret: Secret | str) -> ClientAuth:
    """Send id and secret in the Authorization header as they are (RFC 7617).

    For providers that do not decode what RFC 6749 wants encoded. It only differs
    from `client_secret_basic` where id or secret have other characters than
    letters, digits and `-._~`.
    """
    secret = as_secret(secret)  # from here on no traceback shows it
    return _Basic(_checked(secret), form_encoded=False)


def client_secret_post(secret: Secret | str) -> ClientAuth:
    """Send id and secret in the request's body (RFC 6749, section 2.3.1).

    Raises `ConfigurationError` if the secret is empty.
    """
    secret = as_secret(secret)  # from here on no traceback shows it
    return _Post(_checked(secret))


def none() -> ClientAuth:
    """Send the id alone: a public client has nothing to prove itself with.

    The name is the one of OpenID Connect Core 1.0, section 9.
    """
    return _NoProof("none")


def tls_client_auth() -> ClientAuth:
    """Send the id alone: the certificate of the HTTP client is the proof (RFC 8705, section 2.1).

    Requests go to the provider's `mtls_endpoint_aliases`: see `metadata.mtls_metadata`.
    """
    return _NoProof("tls_client_auth")


def self_signed_tls_client_auth() -> ClientAuth:
    """Do the same with a certificate that the client has made itself (RFC 8705, section 2.2)."""
    return _NoProof("self_signed_tls_client_auth")


def auth_method_of(auth: ClientAuth) -> str | None:
    """Return the method's registered name, such as `client_secret_basic` (RFC 7591, section 2).

    It is what `token_endpoint_auth_methods_supported` lists. A callable of yours
    tells it by an attribute `auth_method`; None if it has none,
    and then nobody can say whether the provider supports it.
    """
    name = getattr(auth, "auth_method", None)
    return name if isinstance(name, str) else None


def reveal_headers(headers: Headers) -> dict[str, str]:
    """Give the header fields as text, to be sent, and kept in no variable."""
    return {name: reveal(value) for name, value in headers.items()}


@dataclass(frozen=True, slots=True)
class _Basic:
    auth_method: ClassVar[str] = "client_secret_basic"
    secret: Secret
    form_encoded: bool

    def __call__(self, client_id: str, form: Form, headers: Headers) -> None:
        refuse_second_proof(form, headers)
        if not self.form_encoded and ":" in client_id:
            # "a user-id containing a colon character is invalid" (RFC 7617, section 2)
            raise ConfigurationError("client_id", "has a colon; use client_secret_basic")
        encode = quote_plus if self.form_encoded else str
        headers["authorization"] = _basic(encode, client_id, self.secret)


@dataclass(frozen=True, slots=True)
class _Post:
    auth_method: ClassVar[str] = "client_secret_post"
    secret: Secret

    def __call__(self, client_id: str, form: Form, headers: Headers) -> None:
        refuse_second_proof(form, headers)
        add_client_id(client_id, form)
        form.append(("client_secret", self.secret))


@dataclass(frozen=True, slots=True)
class _NoProof:
    auth_method: str

    def __call__(self, client_id: str, form: Form, headers: Headers) -> None:
        refuse_second_proof(form, headers)
        add_client_id(client_id, form)


def _checked(secret: Secret) -> Secret:
    if not secret:
        raise ConfigurationError("client_secret", "is empty; a public client uses none()")
    # An environment variable that is not UTF-8 comes as lone surrogates. Encoding
    # them would raise an error that holds the secret.
    if any("\ud800" <= character <= "\udfff" for character in secret.reveal()):
        raise ConfigurationError("client_secret", "is not valid Unicode text")
    return secret


def _basic(encode: Callable[[str], str], client_id: str, secret: Secret) -> Secret:
    pair = f"{encode(client_id)}:{encode(secret.reveal())}".encode()
    return Secret(f"Basic {base64.b64encode(pair).decode()}")


def add_client_id(client_id: str, form: Form) -> None:
    """Say who the client is, unless the form does.

    Raises `ConfigurationError` if it names another client.
    """
    given = [value for name, value in form if name == "client_id"]
    if not given:
        form.append(("client_id", client_id))
    elif given != [client_id]:
        raise ConfigurationError("client_id", "the request already names another client")


def refuse_second_proof(form: Form, headers: Headers) -> None:
    """Raise `ConfigurationError` if the request already proves who the client is."""
    # "The client MUST NOT use more than one authentication method in each request."
    # (RFC 6749, section 2.3)
    if "authorization" in map(str.lower, headers) or any(name in _PROOFS for name, _ in form):
        raise ConfigurationError("client_auth", "the request already proves who the client is")
