"""The pushed authorization request endpoint (RFC 9126)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from .answers import Document, Refused
from .authorize import read_request, read_target
from .client_authentication import PROOF_PARAMETERS
from .ledger import PushedRequest

if TYPE_CHECKING:
    from .core import Call, Core

PUSHED_LIFETIME: Final = 60
"""Seconds. Section 2.2 has 5 to 600 in mind."""


def push(core: Core, call: Call) -> Document:
    """Keep an authorization request that would be granted, and give its `request_uri`."""
    client = core.authenticate(call)
    # Section 2.1 (2): reject the request if it has a request_uri.
    if call.parameters.one("request_uri"):
        raise Refused("invalid_request", "a pushed request has no request_uri")
    # The proof is no part of the authorization request.
    parameters = call.parameters.without(PROOF_PARAMETERS)
    _, redirect_uri = read_target(core, parameters)
    read_request(client, redirect_uri, parameters)
    expires_at = core.ledger.clock() + PUSHED_LIFETIME
    pushed = PushedRequest(client.client_id, parameters, expires_at)
    request_uri = core.ledger.push(pushed)
    return Document({"request_uri": request_uri, "expires_in": PUSHED_LIFETIME}, status=201)
