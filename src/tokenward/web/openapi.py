"""What OpenAPI says of routes that need a login, or more than that.

What a route needs is seen in its dependencies. They are looked through without FastAPI,
which an app need not have: an app has `routes`, a route `dependant`, and a router that was
included `effective_route_contexts`. Where a version of FastAPI names one of them
otherwise, the document lacks what only dependencies tell.
"""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any, Final

from starlette.routing import Host, Mount

from ..request_tokens import get_user_access_token

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping


def security_scheme(*, cookie: str, login: str) -> dict[str, str]:
    """Return the security scheme of an app, with its cookie and the path of its login."""
    description = f"The session that signing in at `{login}` begins."
    return {"type": "apiKey", "in": "cookie", "name": cookie, "description": description}


SCHEME_NAME: Final = "session"
"""The name of the security scheme."""

SCHEME: Final = security_scheme(cookie="__Host-tokenward", login="/auth/login")
"""The security scheme where nobody has told how an app is set up."""

_SCHEME: Final = "_tokenward_security_scheme"
_REFUSES: Final = "_tokenward_refuses"


def _answer(description: str, **properties: str) -> dict[str, Any]:
    shown = {name: {"type": kind} for name, kind in properties.items()}
    schema = {"type": "object", "required": [*properties], "properties": shown}
    return {"description": description, "content": {"application/json": {"schema": schema}}}


_UNAUTHORIZED: Final = _answer(
    "Nobody is logged in, or the session is over.", error="string", login_url="string"
)
_FORBIDDEN: Final = _answer("The user may not do this.", error="string")


def document_unauthorized(app: object, *, scheme: Mapping[str, str] | None = None) -> None:
    """Let the OpenAPI document of a FastAPI app show the 401 and 403 that the middleware answers.

    It wraps `app.openapi`, which is how FastAPI wants the document extended, and those of
    the apps that are mounted inside by now. Middleware around an app is looked through; an
    app that has no such document is left as it is. `scheme` is the security scheme; None:
    the default, or the one that was given before.
    """
    inner = _inside(app)
    if callable(getattr(inner, "openapi", None)):
        _extend(inner, scheme)
    for route in getattr(inner, "routes", ()):
        if isinstance(route, Mount | Host):
            document_unauthorized(route.app, scheme=scheme)


def refuses_users(dependency: Callable[..., object]) -> None:
    """Mark a dependency that raises `PermissionDenied`, so that the document shows a 403."""
    setattr(dependency, _REFUSES, True)


def _inside(app: object) -> object:
    """Return the app behind the middleware around it; None if it does not show."""
    while app is not None and not (hasattr(app, "openapi") or hasattr(app, "routes")):
        app = getattr(app, "app", None)
    return app


def _extend(app: Any, scheme: Mapping[str, str] | None) -> None:
    extended = hasattr(app, _SCHEME)
    if scheme is not None or not extended:
        setattr(app, _SCHEME, SCHEME if scheme is None else scheme)
    if extended:
        return
    make: Callable[[], dict[str, Any]] = app.openapi

    def openapi() -> dict[str, Any]:
        document = _completed(make(), getattr(app, "routes", ()))
        schemes = document.get("components", {}).get("securitySchemes", {})
        # Not one that the app describes itself.
        if schemes.get(SCHEME_NAME) == SCHEME:
            schemes[SCHEME_NAME] = dict(getattr(app, _SCHEME))
        return document

    app.openapi = openapi


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
