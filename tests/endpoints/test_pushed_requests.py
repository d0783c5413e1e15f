"""Pushed authorization requests whose provider is in trouble, and requests that are signed."""

from __future__ import annotations

import pytest
from joserfc.jwk import ECKey

from tokenward.endpoints import push_authorization_request
from tokenward.errors import ProtocolError, ProviderUnavailable
from tokenward.protocol.authorization import AuthorizationRequest
from tokenward.protocol.request_object import request_object
from tokenward.secret import Secret


def request_of_app() -> AuthorizationRequest:
    return AuthorizationRequest(
        redirect_uri="https://app.test/callback",
        scope="openid",
        state=Secret("the-state"),
        nonce=Secret("the-nonce"),
        code_challenge="the-challenge",
    )


async def push(wire, request) -> object:
    return await wire.call(
        push_authorization_request,
        wire.address,
        client_id="app",
        client_secret="secret",
        request=request,
    )


@pytest.mark.parametrize("failure", ["ReadTimeout", "ReadError", "RemoteProtocolError"])
async def test_a_push_that_may_have_arrived_is_an_outage_and_not_sent_again(wire, failure) -> None:
    wire.answers = [failure]
    response = await push(wire, request_of_app())
    assert response.error_type == "exception"
    assert len(wire.sent) == 1
    with pytest.raises(ProviderUnavailable) as caught:
        response.raise_for_error()
    assert caught.value.may_have_been_sent


@pytest.mark.parametrize("status", [500, 502, 503, 504])
async def test_a_push_to_a_provider_in_trouble_gives_no_address_to_go_to(wire, status) -> None:
    wire.answers = [wire.raw(status, b"<html>", content_type="text/html")]
    response = await push(wire, request_of_app())
    assert (response.error_type, response.http_status) == ("http", status)
    with pytest.raises(ProtocolError):
        _ = response.request_uri
    assert len(wire.sent) == 1


@pytest.mark.case(465)
async def test_a_signed_request_is_pushed_alone(wire) -> None:
    wire.says(201, request_uri="urn:example:1", expires_in=60)
    signed = request_object(
        request_of_app(),
        client_id="app",
        keys=ECKey.generate_key("P-256"),
        issuer="https://op.test",
        clock=lambda: 0.0,
    )
    response = await push(wire, signed)
    assert response.request_uri == "urn:example:1"
    assert wire.sent[0].form == [("request", signed.reveal()), ("client_id", "app")]
