"""How the client proves itself, at every endpoint that wants it."""

from __future__ import annotations

import json
from base64 import b64decode, urlsafe_b64decode
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tokenward.endpoints import (
    get_discovery_document,
    push_authorization_request,
    request_client_credentials_token,
    request_refresh_token,
    request_token_exchange_token,
)
from tokenward.errors import InvalidResponse, ProviderUnavailable
from tokenward.protocol.client_assertion import client_secret_jwt
from tokenward.protocol.client_auth import (
    client_secret_basic_raw,
    client_secret_post,
    none,
    self_signed_tls_client_auth,
    tls_client_auth,
)
from tokenward.protocol.token_answer import read_token_answer
from tokenward.secret import Secret

if TYPE_CHECKING:
    from tokenward.protocol.form import Form

Headers = dict[str, str | Secret]

ACCESS = "urn:ietf:params:oauth:token-type:access_token"


def vault(client_id: str, form: Form, headers: Headers) -> None:
    form.append(("client_id", client_id))
    headers["authorization"] = Secret("Vault proof")


@pytest.mark.parametrize(
    ("proof", "added", "header"),
    [
        pytest.param(
            {"client_secret": "a b:c"}, [], "Basic YXBwOmErYiUzQWM=", marks=pytest.mark.case(214)
        ),
        pytest.param({"client_auth": client_secret_basic_raw("a b:c")}, [], "Basic YXBwOmEgYjpj"),
        pytest.param(
            {"client_auth": client_secret_post("a b:c")},
            [("client_id", "app"), ("client_secret", "a b:c")],
            None,
            marks=pytest.mark.case(215),
        ),
        pytest.param({"client_auth": none()}, [("client_id", "app")], None),
        pytest.param({"client_auth": tls_client_auth()}, [("client_id", "app")], None),
        pytest.param({"client_auth": self_signed_tls_client_auth()}, [("client_id", "app")], None),
        pytest.param({"client_auth": vault}, [("client_id", "app")], "Vault proof"),
    ],
)
async def test_every_way_adds_its_proof_and_no_other(
    wire: Any, proof: dict[str, Any], added: Form, header: str | None
) -> None:
    await wire.call(
        request_client_credentials_token, wire.address, client_id="app", scope="x", **proof
    )
    assert wire.sent[0].form == [("grant_type", "client_credentials"), ("scope", "x"), *added]
    assert wire.sent[0].headers.get("authorization") == header


def test_what_is_encoded_reads_back() -> None:
    assert b64decode("YXBwOmErYiUzQWM=") == b"app:a+b%3Ac"


@pytest.mark.case(217)
async def test_a_second_try_after_a_refused_connection_has_a_fresh_statement(wire: Any) -> None:
    now = iter([100.0, 200.0])
    proof = client_secret_jwt("k" * 32, issuer="https://op.test", clock=lambda: next(now))
    wire.answers = ["ConnectError", wire.answer(access_token="t", token_type="Bearer")]
    response = await wire.call(
        request_refresh_token,
        wire.address,
        refresh_token="r",
        client_id="app",
        client_auth=proof,
    )
    assert not response.is_error
    first, second = (claims(dict(sent.form)["client_assertion"]) for sent in wire.sent)
    assert (first["iat"], second["iat"]) == (100, 200)
    assert first["jti"] != second["jti"]
    assert [sent.form[:2] for sent in wire.sent] == [
        [("grant_type", "refresh_token"), ("refresh_token", "r")]
    ] * 2


@pytest.mark.case(209)
async def test_a_connection_that_stays_refused_is_a_value_after_two_tries(wire: Any) -> None:
    wire.answers = ["ConnectError"]
    response = await wire.call(
        request_refresh_token, wire.address, refresh_token="r", client_id="app"
    )
    assert isinstance(response.exception, ProviderUnavailable)
    assert not response.exception.may_have_been_sent
    assert len(wire.sent) == 2


@pytest.mark.parametrize("failure", ["ReadError", "RemoteProtocolError", "ReadTimeout"])
async def test_a_token_request_that_may_have_arrived_is_not_sent_again(
    wire: Any, failure: str
) -> None:
    wire.answers = [failure]
    response = await wire.call(
        request_refresh_token, wire.address, refresh_token="r", client_id="app"
    )
    assert response.exception.may_have_been_sent
    assert len(wire.sent) == 1


@pytest.mark.case(467)
@pytest.mark.parametrize(
    ("change", "requested", "member"),
    [
        pytest.param({}, None, None, id="as-told"),
        pytest.param({}, ACCESS, None, id="as-requested"),
        pytest.param({"issued_token_type": ...}, None, "issued_token_type", id="not-told"),
        pytest.param({"issued_token_type": 5}, None, "issued_token_type", id="no-text"),
        pytest.param({"issued_token_type": "urn:x"}, ACCESS, "issued_token_type", id="other"),
    ],
)
async def test_an_exchange_tells_what_kind_of_token_came(
    wire: Any, change: dict[str, Any], requested: str | None, member: str | None
) -> None:
    told = {
        "access_token": "t",
        "issued_token_type": ACCESS,
        "token_type": "N_A",
        "scope": "narrow",
        **change,
    }
    wire.says(**{name: value for name, value in told.items() if value is not ...})
    response = await wire.call(
        request_token_exchange_token,
        wire.address,
        client_id="app",
        subject_token="s",
        subject_token_type=ACCESS,
        requested_token_type=requested,
    )
    if member is not None:
        assert isinstance(response.exception, InvalidResponse)
        assert response.exception.member == member
        return
    assert (response.issued_token_type, response.token_type) == (ACCESS, "N_A")
    # What came is narrower, has no refresh token, and is no Bearer token: all typed.
    answer = read_token_answer(response, token_type="N_A")
    assert (answer.scope, answer.refresh_token) == (frozenset({"narrow"}), None)
    with pytest.raises(InvalidResponse):
        read_token_answer(response)


@pytest.mark.case(470)
async def test_every_resource_is_sent_in_the_order_given(wire: Any) -> None:
    several = ("https://z.test", "https://a.test", "https://m.test")
    await wire.call(
        request_client_credentials_token, wire.address, client_id="app", resource=several
    )
    sent = [value for name, value in wire.sent[0].form if name == "resource"]
    assert tuple(sent) == several


async def test_a_signed_request_is_pushed_alone(wire: Any) -> None:
    wire.says(201, request_uri="urn:x:y", expires_in=5)
    response = await wire.call(
        push_authorization_request, wire.address, client_id="app", request=Secret("a.b.c")
    )
    assert wire.sent[0].form == [("request", "a.b.c"), ("client_id", "app")]
    assert (response.http_status, response.request_uri) == (201, "urn:x:y")


async def test_an_address_may_be_relative_to_the_clients_own() -> None:
    asked: list[str] = []

    def handle(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        return httpx.Response(200, json={})

    with httpx.Client(base_url="https://op.test/t/", transport=httpx.MockTransport(handle)) as http:
        request_client_credentials_token(http, "token", client_id="app")
    assert asked == ["https://op.test/t/token"]


async def test_a_document_may_lie_elsewhere(wire: Any) -> None:
    place = "https://op.test/other/.well-known/openid-configuration?p=policy"
    await wire.call(get_discovery_document, "https://op.test", address=place)
    assert wire.sent[0].url == place


def claims(assertion: str) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(urlsafe_b64decode(assertion.split(".")[1] + "=="))
    return read
