"""Which scopes and resources a client asks for, and which it may have."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from .answers import Refused
from .clients import IDENTITY_SCOPES

if TYPE_CHECKING:
    from .clients import Client
    from .requests import Parameters


def read_scope(client: Client, parameters: Parameters) -> frozenset[str]:
    """Return the scope asked for on behalf of a user, or refuse it; there must be one."""
    scope = split_scope(parameters.one("scope"))
    allowed = set(client.scopes) - (set() if client.allow_offline_access else {"offline_access"})
    if not scope or scope - allowed:
        raise Refused("invalid_scope", "the client may not ask for this scope")
    return scope


def read_scope_or_default(client: Client, parameters: Parameters) -> frozenset[str]:
    """Return the scope asked for on behalf of a user; without one, `own_scope`."""
    return read_scope(client, parameters) if parameters.one("scope") else own_scope(client)


def own_scope(client: Client) -> frozenset[str]:
    """Return what the client may have that says nothing about a user."""
    return frozenset(client.scopes) - IDENTITY_SCOPES


def read_own_scope(client: Client, parameters: Parameters) -> frozenset[str]:
    """Return the scope that the client asks for itself, or refuse it."""
    own = own_scope(client)
    scope = split_scope(parameters.one("scope")) or own
    if scope - own:
        raise Refused("invalid_scope", "the client may not have this scope for itself")
    return scope


def read_resources(client: Client, parameters: Parameters) -> tuple[str, ...]:
    """Return the resources asked for, or refuse (RFC 8707, section 2)."""
    resources = parameters.all("resource")
    for resource in resources:
        parts = urlsplit(resource)
        if not parts.scheme or "#" in resource:
            raise Refused("invalid_target", "a resource is an absolute URI without fragment")
        refuse_foreign_target(client, resource)
    return resources


def refuse_foreign_target(client: Client, target: str) -> None:
    """Refuse a resource or audience that the client may not ask for."""
    if client.resources is not None and target not in client.resources:
        raise Refused("invalid_target", "the client may not ask for this resource")


def split_scope(scope: str | None) -> frozenset[str]:
    """Return the scope values, or refuse what RFC 6749, section 3.3, does not allow."""
    found = frozenset(scope.split(" ") if scope else ())
    if any(not _is_scope_token(value) for value in found):
        raise Refused("invalid_scope", "the scope is not well formed")
    return found


def _is_scope_token(value: str) -> bool:
    return bool(value) and all("!" <= c <= "~" and c not in '"\\' for c in value)
