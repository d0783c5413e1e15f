"""What apps import: the names, and the promises that hold for all of them."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

import tokenward

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NAMES = [
    "AccessToken",
    "CallRefused",
    "ClientCredentials",
    "ClientCredentialsTokens",
    "ConfigurationError",
    "InsufficientScope",
    "Lifetimes",
    "LoginFailed",
    "NotAuthenticated",
    "OpenIDProvider",
    "PermissionDenied",
    "ProviderError",
    "RefreshSettings",
    "Secret",
    "SessionEnded",
    "SessionNotWritable",
    "StoreError",
    "TokenExpired",
    "TokenManagement",
    "TokenManagementMiddleware",
    "TokenSet",
    "TokenSource",
    "TokenUnavailable",
    "TokenwardError",
    "User",
    "get_user_access_token",
    "load_session",
    "login_url",
    "logout_url",
    "revoke_user_refresh_token",
]
"""Taking one away, or renaming it, breaks apps: it belongs into CHANGELOG.md."""

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(tokenward.__path__, "tokenward.")
    if module.name != "tokenward.__main__"
)


def functions() -> Iterator[tuple[str, Callable[..., object]]]:
    """All public functions and methods that are written in the package."""
    for name in MODULES:
        module = importlib.import_module(name)
        for owner in (module, *(each for _, each in inspect.getmembers(module, inspect.isclass))):
            for member_name, member in vars(owner).items():
                function = (
                    member.__func__ if isinstance(member, staticmethod | classmethod) else member
                )
                public = not member_name.startswith("_") or member_name == "__init__"
                if public and inspect.isfunction(function) and function.__module__ == name:
                    yield f"{name}:{function.__qualname__}", function


FUNCTIONS = dict(functions())
A_DICT = "tokenward.web.session_data:SessionData."
"""`request.session` has the signatures of dict, as Starlette users know it."""


def test_the_root_has_the_names_that_apps_import() -> None:
    assert sorted(tokenward.__all__) == NAMES
    assert len(NAMES) <= 30
    assert all(getattr(tokenward, name).__doc__ for name in NAMES)


def test_star_import_brings_these_names_alone() -> None:
    namespace: dict[str, object] = {}
    exec("from tokenward import *", namespace)
    assert sorted(namespace.keys() - {"__builtins__"}) == NAMES


def test_no_public_function_takes_arguments_that_it_does_not_name() -> None:
    assert len(FUNCTIONS) > 500
    kinds = {inspect.Parameter.VAR_KEYWORD}
    loose = [
        name
        for name, function in FUNCTIONS.items()
        if not name.startswith(A_DICT)
        and kinds & {each.kind for each in inspect.signature(function).parameters.values()}
    ]
    assert loose == []


def test_no_public_function_takes_or_gives_any() -> None:
    loose = [
        name
        for name, function in FUNCTIONS.items()
        if not name.startswith(A_DICT)
        and any(re.search(r"\bAny\b", str(each)) for each in function.__annotations__.values())
    ]
    assert loose == []


@pytest.mark.parametrize(
    "module", ["tokenward", "tokenward.fastapi", "tokenward.stores.sqlite", "tokenward.endpoints"]
)
def test_what_an_app_imports_brings_neither_tests_nor_the_other_http_library(module: str) -> None:
    """Adapters are imported when they are used, and the testing kit never by an app."""
    code = f"import sys, {module}; print(*sorted(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    loaded = set(run.stdout.split())
    assert module in loaded
    for unwanted in ("tokenward.testing", "httpx", "httpx2", "pytest", "redis"):
        assert unwanted not in loaded
