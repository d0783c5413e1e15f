"""Text that cannot be printed by accident."""

from __future__ import annotations

import hmac
from typing import Final, NoReturn, final

_MASK: Final = "**********"


@final
class Secret:
    """Hold a token, a code or a password so that no log, repr or traceback shows it.

    `str()`, `repr()` and formatting give asterisks, `json.dumps` and `pickle`
    refuse; only `reveal()` gives the text. Comparison takes the same time
    whatever the content.

        secret = Secret("hunter2")
        headers["authorization"] = f"Bearer {secret.reveal()}"
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Give the text, to be sent or sealed, and kept in no variable."""
        return self._value

    def __repr__(self) -> str:
        return f"Secret('{_MASK}')"

    def __str__(self) -> str:
        return _MASK

    def __format__(self, format_spec: str) -> str:
        return _MASK

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(_bytes(self._value), _bytes(other._value))

    def __hash__(self) -> int:
        return hash(self._value)

    def __len__(self) -> int:
        return len(self._value)

    def __bool__(self) -> bool:
        return bool(self._value)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is not pickled or copied; call reveal() and seal the text")


def _bytes(text: str) -> bytes:
    # Text from outside may hold lone surrogates, which are no reason to fail.
    return text.encode("utf-8", "surrogatepass")
