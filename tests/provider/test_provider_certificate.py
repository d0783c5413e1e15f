"""A client with a certificate calls the endpoints that ask for it (RFC 8705, section 5)."""

from __future__ import annotations

from typing import Any

import pytest

from tokenward.protocol.client_auth import (
    client_secret_post,
    self_signed_tls_client_auth,
    tls_client_auth,
)
from tokenward.secret import Secret

ALIASES = {f"{name}_endpoint": f"https://mtls.op.test/{name}" for name in ("token", "revocation")}


@pytest.mark.parametrize(
    ("auth", "host"),
    [
        pytest.param(tls_client_auth(), "mtls.op.test", id="tls_client_auth"),
        pytest.param(self_signed_tls_client_auth(), "mtls.op.test", id="self_signed"),
        pytest.param(client_secret_post("s"), "op.test", id="client_secret_post"),
    ],
)
async def test_the_aliases_are_for_certificates_alone(
    op: Any, make: Any, auth: Any, host: str
) -> None:
    op.metadata["mtls_endpoint_aliases"] = ALIASES
    provider = make(client_secret=None, client_auth=auth)
    op.gives(id_token=None)
    await provider.refresh(Secret("refresh-canary-of-test"), claims={})
    await provider.revoke(Secret("refresh-canary-of-test"))
    called = {op.place(request): request.url.host for request in op.requests}
    assert called["token"] == called["revocation"] == host
    assert called["jwks"] == "op.test"
