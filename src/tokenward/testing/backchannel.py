"""The backchannel authentication endpoint (CIBA Core 1.0), where clients poll."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from .answers import Document, Refused
from .clients import CIBA
from .decisions import Question
from .ledger import Grant
from .scopes import read_resources, read_scope

if TYPE_CHECKING:
    from .clients import Client, User
    from .core import Call, Core
    from .requests import Parameters

_HINTS: Final = ("login_hint", "id_token_hint", "login_hint_token")
_MAX_MESSAGE: Final = 64
"""Characters. Section 7.1: a binding message "SHOULD be relatively short"."""


def backchannel_authentication(core: Core, call: Call) -> Document:
    """Ask a user on some other device, and give the client what it polls with (section 7)."""
    client = core.authenticate(call)
    if CIBA not in client.grant_types or client.is_public:
        raise Refused("unauthorized_client", "the client may not use this grant")
    parameters = call.parameters
    if parameters.one("request"):
        raise Refused("invalid_request", "signed requests are not supported")
    scope = read_scope(client, parameters)
    if "openid" not in scope:
        raise Refused("invalid_scope", "scope must contain openid")
    resources = read_resources(client, parameters)
    user = _find_user(core, parameters)
    _check_message(parameters)
    lifetime = _read_lifetime(client, parameters)
    call.sub = user.sub
    auth_req_id = core.ledger.new_token()
    grant = Grant(client.client_id, None, scope, resources)
    expires_at = core.ledger.clock() + lifetime
    question = Question(grant, user.sub, expires_at, client.polling_interval)
    core.backchannel_requests.ask(auth_req_id, question)
    interval = client.polling_interval
    return Document({"auth_req_id": auth_req_id, "expires_in": lifetime, "interval": interval})


def _find_user(core: Core, parameters: Parameters) -> User:
    """Section 7.1: "one (and only one) of the hints"."""
    hints = [name for name in _HINTS if parameters.one(name)]
    if len(hints) != 1 or "login_hint_token" in hints:
        raise Refused("invalid_request", "give either login_hint or id_token_hint")
    sub = parameters.one("login_hint") or _sub_of(core, parameters.required("id_token_hint"))
    if sub not in core.users:
        raise Refused("unknown_user_id", "the hint names nobody who is known here")
    return core.users[sub]


def _sub_of(core: Core, id_token: str) -> str:
    claims = core.read_id_token(id_token)
    if claims is None:
        raise Refused("invalid_request", "id_token_hint is not an id_token of this provider")
    return str(claims["sub"])


def _check_message(parameters: Parameters) -> None:
    message = parameters.one("binding_message") or ""
    if len(message) > _MAX_MESSAGE or not message.isprintable():
        raise Refused("invalid_binding_message", "it is too long, or cannot be shown")


def _read_lifetime(client: Client, parameters: Parameters) -> int:
    asked = parameters.one("requested_expiry")
    if asked is None:
        return client.backchannel_lifetime
    if not (asked.isascii() and asked.isdigit() and 0 < len(asked) < 12 and int(asked)):
        raise Refused("invalid_request", "requested_expiry is a positive number of seconds")
    return min(int(asked), client.backchannel_lifetime)
