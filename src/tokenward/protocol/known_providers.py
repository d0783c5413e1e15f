"""Discovery policies for providers that the strict one does not fit, or fits too loosely.

    response = await get_discovery_document(http, "https://accounts.google.com", policy=GOOGLE)

Each lists the hosts that the provider is known to use, so that an endpoint on any
other one is refused.
"""

from __future__ import annotations

from typing import Final

from .metadata import DiscoveryPolicy

GOOGLE: Final = DiscoveryPolicy(
    endpoint_hosts=frozenset(
        {"oauth2.googleapis.com", "openidconnect.googleapis.com", "www.googleapis.com"}
    )
)
"""`https://accounts.google.com`, whose endpoints are on three other hosts."""

ENTRA: Final = DiscoveryPolicy(endpoint_hosts=frozenset({"graph.microsoft.com"}))
"""One tenant, `https://login.microsoftonline.com/<tenant id>/v2.0`."""

ENTRA_MANY_TENANTS: Final = DiscoveryPolicy(
    endpoint_hosts=frozenset({"graph.microsoft.com"}),
    dangerously_allow_issuer="https://login.microsoftonline.com/{tenantid}/v2.0",
)
"""`https://login.microsoftonline.com/common/v2.0` or `/organizations/v2.0`.

The document's issuer is a pattern. Who takes id_tokens of many tenants must look up
the `tid` of each among the tenants that are customers, and compare `iss` with it.
"""


def cognito(domain: str) -> DiscoveryPolicy:
    """Return the policy for a user pool, `https://cognito-idp.<region>.amazonaws.com/<pool>`.

    Its keys are there; its endpoints are on `domain`, such as
    `shop.auth.eu-central-1.amazoncognito.com`.
    """
    return DiscoveryPolicy(endpoint_hosts=frozenset({domain}))
