"""Requests that are about no client: what they bring along is all the proof there is."""

from __future__ import annotations

from typing import Any

import pytest

from tokenward.endpoints import (
    request_jwt_bearer_token,
    request_token,
    request_token_exchange_token,
)
from tokenward.errors import ConfigurationError
from tokenward.protocol.client_auth import none
from tokenward.protocol.grants import ACCESS_TOKEN

GRANTS = [
    pytest.param(request_token, {"grant": "custom", "extra": {"a": "b"}}, id="any-grant"),
    pytest.param(request_jwt_bearer_token, {"assertion": "a.b.c"}, id="jwt-bearer"),
    pytest.param(
        request_token_exchange_token,
        {"subject_token": "st", "subject_token_type": ACCESS_TOKEN},
        id="token-exchange",
    ),
]


@pytest.mark.parametrize(("function", "arguments"), GRANTS)
async def test_a_request_without_a_client_names_none_and_proves_nothing(
    wire: Any, function: Any, arguments: dict[str, Any]
) -> None:
    await wire.call(function, wire.address, client_id=None, **arguments)
    (sent,) = wire.sent
    assert "authorization" not in sent.headers
    assert "client_id" not in dict(sent.form)
    assert sent.form[0][0] == "grant_type"


@pytest.mark.parametrize(("function", "arguments"), GRANTS)
@pytest.mark.parametrize("proof", [{"client_secret": "secret"}, {"client_auth": none()}])
async def test_a_proof_without_a_client_is_misuse(
    wire: Any, function: Any, arguments: dict[str, Any], proof: dict[str, Any]
) -> None:
    with pytest.raises(ConfigurationError, match="client_id"):
        function(wire.http, wire.address, client_id=None, **proof, **arguments)
    assert wire.sent == []


@pytest.mark.parametrize(("function", "arguments"), GRANTS)
async def test_an_empty_client_is_a_mistake_and_not_none(
    wire: Any, function: Any, arguments: dict[str, Any]
) -> None:
    with pytest.raises(ConfigurationError, match="client_id"):
        function(wire.http, wire.address, client_id="", **arguments)
