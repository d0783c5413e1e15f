"""Everything to test an app with: a strict provider, a clock, the store contract.

    from tokenward.testing import Client, Provider, User, serve

Names are loaded when first used, because pytest imports this package in every run
of everybody who has tokenward installed.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .cli import provider_cli
    from .clients import Client, User
    from .clock import FrozenClock
    from .contracts import StoreContract
    from .gate import Gate
    from .ledger import Family
    from .login import login_as
    from .misbehaviour import (
        AlteredAnswer,
        AnswerLost,
        CutAnswer,
        Fault,
        HtmlAnswer,
        LostAnswer,
        LostRequest,
        OAuthError,
        RawAnswer,
        ServerError,
        Slow,
        TooManyRequests,
    )
    from .provider import Provider
    from .requests import RequestRecord
    from .server import serve
    from .token_misbehaviour import (
        BrokenSignature,
        ClockSkew,
        ForeignKey,
        MissingClaim,
        UnsignedIdToken,
        WrongAlg,
        WrongClaim,
        WrongHeader,
        WrongKid,
    )

_HOME = {
    "AlteredAnswer": "misbehaviour",
    "AnswerLost": "misbehaviour",
    "BrokenSignature": "token_misbehaviour",
    "Client": "clients",
    "ClockSkew": "token_misbehaviour",
    "CutAnswer": "misbehaviour",
    "Family": "ledger",
    "Fault": "misbehaviour",
    "ForeignKey": "token_misbehaviour",
    "FrozenClock": "clock",
    "Gate": "gate",
    "HtmlAnswer": "misbehaviour",
    "LostAnswer": "misbehaviour",
    "LostRequest": "misbehaviour",
    "MissingClaim": "token_misbehaviour",
    "OAuthError": "misbehaviour",
    "Provider": "provider",
    "RawAnswer": "misbehaviour",
    "RequestRecord": "requests",
    "ServerError": "misbehaviour",
    "Slow": "misbehaviour",
    "StoreContract": "contracts",
    "TooManyRequests": "misbehaviour",
    "UnsignedIdToken": "token_misbehaviour",
    "User": "clients",
    "WrongAlg": "token_misbehaviour",
    "WrongClaim": "token_misbehaviour",
    "WrongHeader": "token_misbehaviour",
    "WrongKid": "token_misbehaviour",
    "login_as": "login",
    "provider_cli": "cli",
    "serve": "server",
}

__all__ = [
    "AlteredAnswer",
    "AnswerLost",
    "BrokenSignature",
    "Client",
    "ClockSkew",
    "CutAnswer",
    "Family",
    "Fault",
    "ForeignKey",
    "FrozenClock",
    "Gate",
    "HtmlAnswer",
    "LostAnswer",
    "LostRequest",
    "MissingClaim",
    "OAuthError",
    "Provider",
    "RawAnswer",
    "RequestRecord",
    "ServerError",
    "Slow",
    "StoreContract",
    "TooManyRequests",
    "UnsignedIdToken",
    "User",
    "WrongAlg",
    "WrongClaim",
    "WrongHeader",
    "WrongKid",
    "login_as",
    "provider_cli",
    "serve",
]


def __getattr__(name: str) -> object:
    """Import what is asked for (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
