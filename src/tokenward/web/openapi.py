"""What OpenAPI says of routes that need a login, or more than that.

What a route needs is seen in its dependencies. They are looked through without FastAPI,
which an app need not have: an app has `routes`, a route `dependant`, and a router that was
included `effective_route_contexts`. Where a version of FastAPI names one of them
otherwise, the document lacks what only dependencies tell.
"""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any, Final

from ..request_tokens import get_user_access_token

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

SCHEME_NAME: Final = "session"
"""The name of the security scheme."""

SCHEME: Final = {
    "type": "apiKey",
    "in": "cookie",
    "name": "__Host-tokenward",
    "description": "The session that signing in at `/auth/login` begins.",
}
"""The security scheme."""

_DONE: Final = "_tokenward_documents_401"
_REFUSES: Final = "_tokenward_refuses"


def _answer(description: str, **properties: str) -> dict[str, Any]:
    shown = {name: {"type": kind} for name, kind in properties.items()}
    schema = {"type": "object", "required": [*properties], "properties": shown}
    return {"description": description, "content": {"application/json": {"schema": schema}}}


_UNAUTHORIZED: Final = _answer(
    "Nobody is logged in, or the session is over.", error="string", login_url="string"
)
_FORBIDDEN: Final = _answer("The user may not do this.", error="string")


def document_unauthorized(app: object) -> None:
    """Let the OpenAPI document of a FastAPI app show the 401 and 403 that the middleware answers.

    It wraps `app.openapi`, which is how FastAPI wants the document extended. An app
    that has no such document is left as it is.
    """
    make: Callable[[], dict[str, Any]] | None = getattr(app, "openapi", None)
    if not callable(make) or getattr(app, _DONE, False):
        return

    def openapi() -> dict[str, Any]:
        return _completed(make(), getattr(app, "routes", ()))

    setattr(app, "openapi", openapi)  # noqa: B010 - not every app has the attribute
    setattr(app, _DONE, True)


def refuses_users(dependency: Callable[..., object]) -> None:
    """Mark a dependency that raises `PermissionDenied`, so that the document shows a 403."""
    setattr(dependency, _REFUSES, True)


def _completed(document: dict[str, Any], routes: Iterable[object]) -> dict[str, Any]:
    for operation, needs in _operations(document, routes):
        if get_user_access_token in needs:
            _add_security(document, operation)
        if any(getattr(each, _REFUSES, False) for each in needs):
            operation.setdefault("responses", {}).setdefault("403", deepcopy(_FORBIDDEN))
    for path in document.get("paths", {}).values():
        for operation in path.values():
            if isinstance(operation, dict) and _needs_session(operation):
                operation.setdefault("responses", {}).setdefault("401", deepcopy(_UNAUTHORIZED))
    return document


def _add_security(document: dict[str, Any], operation: dict[str, Any]) -> None:
    schemes = document.setdefault("components", {}).setdefault("securitySchemes", {})
    schemes.setdefault(SCHEME_NAME, dict(SCHEME))
    if not _needs_session(operation):
        operation.setdefault("security", []).append({SCHEME_NAME: []})


def _needs_session(operation: dict[str, Any]) -> bool:
    return any(SCHEME_NAME in needed for needed in operation.get("security", ()))


def _operations(
    document: dict[str, Any], routes: Iterable[object]
) -> Iterator[tuple[dict[str, Any], list[object]]]:
    """Give each operation of the document with the dependencies of its route."""
    for route in _flat(routes):
        needs = list(_calls(getattr(route, "dependant", None)))
        path = document.get("paths", {}).get(getattr(route, "path_format", None), {})
        for method in getattr(route, "methods", None) or ():
            if isinstance(operation := path.get(method.lower()), dict):
                yield operation, needs


def _flat(routes: Iterable[object]) -> Iterator[Any]:
    for route in routes:
        included = getattr(route, "effective_route_contexts", None)
        if callable(included):
            yield from included()
        else:
            yield route


def _calls(dependant: object) -> Iterator[object]:
    for each in getattr(dependant, "dependencies", ()):
        yield getattr(each, "call", None)
        yield from _calls(each)
