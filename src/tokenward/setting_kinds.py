"""Whether a setting is of the kind that it must be; the settings of all layers are."""

from __future__ import annotations

from typing import TypeVar

from .errors import ConfigurationError

T = TypeVar("T")


def read_kind(setting: str, value: T, kind: type[T]) -> T:
    """Return what is of one kind; `"no"` is no switch, and 3600 no `Lifetimes`."""
    check_kind(setting, value, kind)
    return value


def check_kind(setting: str, value: object, kind: type | tuple[type, ...]) -> None:
    """Raise `ConfigurationError` for what is of no such kind, which may be an abstract one."""
    if not isinstance(value, kind):
        kinds = kind if isinstance(kind, tuple) else (kind,)
        names = " or ".join(each.__name__ for each in kinds)
        raise ConfigurationError(setting, f"must be of type {names}")


def check_callable(setting: str, function: object) -> None:
    """Raise `ConfigurationError` for what cannot be called; None is the default."""
    if function is not None and not callable(function):
        raise ConfigurationError(setting, "must be a function")


def check_number(setting: str, value: object) -> None:
    """Raise `ConfigurationError` for what is no number; True is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigurationError(setting, "must be a number")
