"""Clients that register themselves (RFC 7591), look at it, and leave (RFC 7592)."""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from .answers import Document, Raw, Refused
from .endpoints import bearer_error, read_bearer
from .registration_metadata import read_client, registered_metadata

if TYPE_CHECKING:
    from .answers import Answer
    from .clients import JSON, Client
    from .core import Call, Core


@dataclass(slots=True)
class Registration:
    """Who may register clients, and who may manage those that are."""

    initial_access_token: str | None = field(default=None, repr=False)
    """None: anybody may register."""
    registered: dict[str, Registered] = field(default_factory=dict, repr=False)
    """By client_id."""


@dataclass(frozen=True, slots=True)
class Registered:
    """A client that came by itself."""

    access_token: str = field(repr=False)
    """With which it manages its registration."""
    issued_at: int


def registration(core: Core, call: Call) -> Answer:
    """Register a client, or show or forget one that was registered here."""
    call.raise_refusal()
    if core.registration is None:
        raise Refused("access_denied", "nobody may register clients here", status=403)
    if call.request.method == "POST":
        return _register(core, core.registration, call)
    call.parameters.refuse_duplicates()
    client = _manage(core, core.registration, call)
    if call.request.method == "DELETE":
        del core.clients[client.client_id], core.registration.registered[client.client_id]
        core.ledger.forget_client(client.client_id)
        return Raw(b"", 204, (("cache-control", "no-store"),))
    return Document(_information(core, core.registration, client))


def _register(core: Core, open_to: Registration, call: Call) -> Document:
    if open_to.initial_access_token is not None:
        _check_token(call, open_to.initial_access_token)
    new_token = core.ledger.new_token
    client = read_client(call.document, client_id=new_token(), new_secret=new_token)
    core.clients[client.client_id] = client
    open_to.registered[client.client_id] = Registered(new_token(), core.now)
    return Document(_information(core, open_to, client), status=201)


def _manage(core: Core, open_to: Registration, call: Call) -> Client:
    """RFC 7592, section 2.1: 401 whether the client is unknown or the token is wrong."""
    client_id = call.parameters.required("client_id")
    registered = open_to.registered.get(client_id)
    _check_token(call, registered.access_token if registered else None)
    return core.clients[client_id]


def _check_token(call: Call, expected: str | None) -> None:
    given = read_bearer(call)
    if expected is None or not hmac.compare_digest(given.encode(), expected.encode()):
        raise bearer_error("invalid_token", 401)


def _information(core: Core, open_to: Registration, client: Client) -> dict[str, JSON]:
    """RFC 7591, section 3.2.1, and RFC 7592, section 3."""
    registered = open_to.registered[client.client_id]
    address = core.url("/register")
    secret: dict[str, JSON] = {}
    if client.secrets:
        secret = {"client_secret": client.secrets[0], "client_secret_expires_at": 0}
    return {
        "client_id": client.client_id,
        **secret,
        "client_id_issued_at": registered.issued_at,
        "registration_access_token": registered.access_token,
        "registration_client_uri": f"{address}?{urlencode({'client_id': client.client_id})}",
        **registered_metadata(client),
    }
