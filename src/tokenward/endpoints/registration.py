"""A client introduces itself to a provider (RFC 7591)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from ..protocol.registration import RegistrationResponse
from ..secret import Secret
from ..transport import Request
from .call import DEADLINE, JSON_TYPE, Call, endpoint, required_secret
from .issued_tokens import bearer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..protocol.client_auth import Headers
    from ..protocol.json import JSON


@endpoint
def register_client(
    address: str,
    *,
    metadata: Mapping[str, JSON],
    initial_access_token: Secret | str | None = None,
    deadline: float = DEADLINE,
) -> Call[RegistrationResponse]:
    """Register a client, and learn its `client_id` (RFC 7591, section 3.1).

        response = await register_client(
            http,
            address,
            metadata={"redirect_uris": ["https://shop.example/auth/callback"]},
        )

    `metadata` are those of section 2, and of the provider's own. `initial_access_token`
    is what the provider lets clients register with; None: it lets everybody. Raises
    `ValueError` or `TypeError` for metadata that are not JSON.
    """
    headers: Headers = {"accept": JSON_TYPE, "content-type": JSON_TYPE}
    if initial_access_token is not None:
        headers["authorization"] = bearer(
            required_secret(initial_access_token, argument="initial_access_token")
        )
    body = Secret(json.dumps(dict(metadata), allow_nan=False))
    request = Request("POST", address, headers=headers, body=body)
    return Call(request, RegistrationResponse, deadline)
