"""What a provider publishes about itself."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ..errors import InvalidMetadata
from ..protocol.keys import parse_json_web_key_set
from ..protocol.metadata import (
    DiscoveryPolicy,
    check_issuer,
    discovery_url,
    parse_provider_metadata,
)
from ..protocol.responses import DiscoveryResponse, JSONWebKeySetResponse
from ..transport import Request
from .call import DEADLINE, JSON_TYPE, MAX_DOCUMENT, Call, endpoint

if TYPE_CHECKING:
    from typing import Final

_KEY_SET_TYPES: Final = "application/json, application/jwk-set+json"


@endpoint
def get_discovery_document(
    issuer: str,
    *,
    address: str | None = None,
    policy: DiscoveryPolicy | None = None,
    deadline: float = DEADLINE,
) -> Call[DiscoveryResponse]:
    """Read what a provider says about itself (OpenID Connect Discovery 1.0, section 4).

        response = await get_discovery_document(http, "https://op.example")
        print(response.metadata.token_endpoint)

    `response.metadata` raises if it is an error. A document that breaks the policy is one
    of the type `policy`, and nothing of it is used. `policy=None`: the strict one;
    `protocol.known_providers` has those that Google, Entra and Cognito need.
    `address=None`: below the issuer, where the specification has it. Raises
    `ConfigurationError` for an issuer that can be none.
    """
    policy = policy or DiscoveryPolicy()
    check_issuer(issuer, policy)

    def judge(response: DiscoveryResponse) -> DiscoveryResponse:
        if response.is_error:
            return response
        body = response.raw.reveal().encode()
        try:
            metadata = parse_provider_metadata(body, issuer=issuer, policy=policy)
        except InvalidMetadata as error:
            return response.failed(error)
        return replace(response, parsed=metadata)

    if address is None:
        address = discovery_url(issuer)
    request = Request("GET", address, headers={"accept": JSON_TYPE})
    return Call(request, DiscoveryResponse, deadline, MAX_DOCUMENT, judge)


@endpoint
def get_json_web_key_set(
    address: str, *, deadline: float = DEADLINE
) -> Call[JSONWebKeySetResponse]:
    """Read the provider's public keys (RFC 7517, section 5).

        response = await get_json_web_key_set(http, metadata.jwks_uri)

    Keys that cannot be used are left out; a document that is no key set is an error
    of the type `policy`.
    """
    request = Request("GET", address, headers={"accept": _KEY_SET_TYPES})
    return Call(request, JSONWebKeySetResponse, deadline, MAX_DOCUMENT, _judge_key_set)


def _judge_key_set(response: JSONWebKeySetResponse) -> JSONWebKeySetResponse:
    if response.is_error:
        return response
    try:
        key_set = parse_json_web_key_set(response.raw.reveal().encode())
    except InvalidMetadata as error:
        return response.failed(error)
    return replace(response, parsed=key_set)
