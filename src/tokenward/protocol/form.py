"""Form-encoded parameters: what requests are made of, and what callbacks bring.

RFC 6749, appendix B, and the URL Standard's `application/x-www-form-urlencoded`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, TypeAlias
from urllib.parse import quote, unquote_to_bytes, urlencode

from ..errors import ConfigurationError
from ..secret import Secret

if TYPE_CHECKING:
    from collections.abc import Mapping

Form: TypeAlias = list[tuple[str, str | Secret]]
"""The parameters of a request, in order. A name may come twice, as `resource` does.

Secrets stay what they are until `encode_form` makes the body.
"""

OF_CLIENT_AUTH: Final = frozenset(
    {"client_id", "client_secret", "client_assertion", "client_assertion_type"}
)
"""Parameters that a `ClientAuth` adds, and nobody else."""

_NAMES: Final = frozenset({"scope", "acr_values", "ui_locales", "prompt"})

_BAD_PERCENT: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")


def encode_form(form: Form) -> Secret:
    """Write the parameters as `application/x-www-form-urlencoded` (RFC 6749, appendix B).

    A space becomes `%20`, which every decoder of forms and of URLs understands;
    what is no Unicode text becomes `?`.
    """
    return Secret(
        urlencode(
            [(name, reveal(value)) for name, value in form], quote_via=quote, errors="replace"
        )
    )


def decode_form(encoded: bytes) -> list[tuple[str, Secret]] | None:
    """Read `application/x-www-form-urlencoded` text, from a query or a body, strictly.

    Keeps order, repeated names and empty values. None: it is not valid, because
    of a percent sign without two hex digits, or bytes that are not UTF-8. There
    is no replacing: two readers would replace differently.
    """
    if _BAD_PERCENT.search(encoded):
        return None
    fields = []
    try:
        for piece in filter(None, encoded.replace(b"+", b" ").split(b"&")):
            name, _, value = piece.partition(b"=")
            fields.append(
                (unquote_to_bytes(name).decode(), Secret(unquote_to_bytes(value).decode()))
            )
    except UnicodeDecodeError:
        return None
    return fields


def told(parameters: Mapping[str, str | Secret | None]) -> Form:
    """Return the parameters that have a value, in their order; None leaves one out."""
    return [(name, value) for name, value in parameters.items() if value is not None]


def completed(
    form: Form, *, extra: Mapping[str, str | Secret] | None, argument: str = "extra"
) -> Form:
    """Return the form with `extra` after it; None adds nothing.

    Raises `ConfigurationError` for a value that is no text, and, with the name of the
    `argument`, for a parameter that is there already, or that is the client's
    authentication.
    """
    for name, value in form:
        check_text(name, value)
    for name, value in (extra or {}).items():
        if not isinstance(value, str | Secret):
            raise ConfigurationError(argument, f"`{name}` must be text")
    taken = OF_CLIENT_AUTH.union(name for name, _ in form)
    # "Request and response parameters MUST NOT be included more than once."
    # (RFC 6749, section 3.2)
    for repeated in sorted(taken.intersection(extra or ())):
        raise ConfigurationError(argument, f"`{repeated}` is set by the library")
    return [*form, *(extra or {}).items()]


def reveal(value: str | Secret) -> str:
    """Give the text of a parameter, to be sent, and kept in no variable."""
    return value.reveal() if isinstance(value, Secret) else value


def as_secret(value: str | Secret, *, argument: str = "client_secret") -> Secret:
    """Take a secret as callers have it, and keep it where nothing shows it.

    Raises `ConfigurationError`, which names the `argument`, for what is no text.
    """
    if isinstance(value, Secret):
        return value
    check_text(argument, value)
    return Secret(value)


def several(argument: str, values: str | Sequence[str]) -> tuple[str, ...]:
    """Take what may be given once or several times: a text is one value, not its letters.

    Raises `ConfigurationError`, which names the `argument`, unless each is text, and
    none is empty.
    """
    if isinstance(values, str):
        values = (values,)
    if not isinstance(values, Sequence):
        raise ConfigurationError(argument, "must be text, or a list of texts")
    for value in values:
        check_given({argument: value})
    return tuple(values)


def repeated(name: str, values: Sequence[str]) -> Form:
    """Return a parameter once for each of its values, in their order."""
    return [(name, value) for value in values]


def check_text(argument: str, value: object) -> None:
    """Raise `ConfigurationError`, which names the `argument`, unless it is text."""
    if isinstance(value, str | Secret):
        return
    if value is None:
        raise ConfigurationError(argument, "is missing")
    form = "text, with its names separated by a space" if argument in _NAMES else "text"
    raise ConfigurationError(argument, f"must be {form}")


def check_given(required: Mapping[str, object]) -> None:
    """Raise `ConfigurationError` for the first argument that is no text, or empty.

    `required` are their values, by name.
    """
    for name, value in required.items():
        check_text(name, value)
        if not value:
            raise ConfigurationError(name, "is empty")
