"""The protocol client: what exactly goes over the wire, and that errors are values."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import httpx
import httpx2
import pytest
import respx

from tokenward.endpoints import (
    get_discovery_document,
    get_json_web_key_set,
    get_userinfo,
    introspect_token,
    request_authorization_code_token,
    request_refresh_token,
    request_token,
    revoke_token,
)
from tokenward.endpoints.call import MAX_ANSWER
from tokenward.errors import (
    ConfigurationError,
    InvalidMetadata,
    ProtocolError,
    ProviderUnavailable,
)
from tokenward.protocol.client_auth import client_secret_post
from tokenward.protocol.grants import ExtensionGrant
from tokenward.secret import Secret

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

ADDRESS = "https://op.test/endpoint"
SECRET = Secret("p%s:w+d ü")
BASIC = "Basic YXBwJTNBMTpwJTI1cyUzQXclMkJkKyVDMyVCQw=="


@pytest.fixture
def wire() -> Iterator[respx.MockRouter]:
    with respx.mock(assert_all_called=False) as router:
        router.post(ADDRESS).respond(json={})
        yield router


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient() as client:
        yield client


def sent(wire: respx.MockRouter) -> tuple[httpx.Request, list[tuple[str, str]]]:
    request = wire.calls.last.request
    return request, parse_qsl(request.content.decode(), keep_blank_values=True)


async def test_a_code_is_sent_as_rfc_6749_has_it(wire: Any, http: Any) -> None:
    await request_authorization_code_token(
        http,
        ADDRESS,
        code=Secret("c d"),
        redirect_uri="https://app.test/cb?a=b",
        code_verifier=Secret("verifier"),
        client_id="app:1",
        client_secret=SECRET,
        resource=("https://a.test", "https://b.test"),
        extra={"own": "1"},
    )
    request, form = sent(wire)
    assert form == [
        ("grant_type", "authorization_code"),
        ("code", "c d"),
        ("redirect_uri", "https://app.test/cb?a=b"),
        ("code_verifier", "verifier"),
        ("resource", "https://a.test"),
        ("resource", "https://b.test"),
        ("own", "1"),
    ]
    assert request.headers["authorization"] == BASIC
    assert request.headers["accept"] == "application/json"
    assert request.headers["content-type"] == "application/x-www-form-urlencoded"


async def test_a_refresh_token_is_sent_as_rfc_6749_has_it(wire: Any, http: Any) -> None:
    await request_refresh_token(
        http,
        ADDRESS,
        refresh_token=Secret("r"),
        scope="a b",
        client_id="app",
        client_auth=client_secret_post("post"),
    )
    request, form = sent(wire)
    assert form == [
        ("grant_type", "refresh_token"),
        ("refresh_token", "r"),
        ("scope", "a b"),
        ("client_id", "app"),
        ("client_secret", "post"),
    ]
    assert "authorization" not in request.headers


async def test_any_grant_can_be_requested_and_a_request_is_reusable(wire: Any, http: Any) -> None:
    grant = ExtensionGrant("urn:x:grant", parameters={"p": Secret("1")}, scope="s")
    for _ in range(2):
        await request_token(http, ADDRESS, grant=grant, client_id="app")
        assert sent(wire)[1] == [
            ("grant_type", "urn:x:grant"),
            ("scope", "s"),
            ("p", "1"),
            ("client_id", "app"),
        ]


@pytest.mark.parametrize("function", [revoke_token, introspect_token])
async def test_a_token_is_revoked_and_introspected_by_a_form(
    wire: Any, http: Any, function: Any
) -> None:
    await function(
        http,
        ADDRESS,
        token=Secret("t"),
        token_type_hint="access_token",
        client_id="app:1",
        client_secret=SECRET,
        extra={"own": "1"},
    )
    request, form = sent(wire)
    assert form == [("token", "t"), ("token_type_hint", "access_token"), ("own", "1")]
    assert request.headers["authorization"] == BASIC
    with pytest.raises(ConfigurationError):
        await function(http, ADDRESS, token=Secret("t"), client_id="a", extra={"token": "2"})


@pytest.mark.case(215)
async def test_two_proofs_are_misuse(wire: Any, http: Any) -> None:
    with pytest.raises(ConfigurationError, match="client_auth"):
        await request_refresh_token(
            http,
            ADDRESS,
            refresh_token=Secret("r"),
            client_id="app",
            client_secret=SECRET,
            client_auth=client_secret_post("x"),
        )
    assert not wire.calls


async def test_introspection_tells_whether_a_token_is_active(wire: Any, http: Any) -> None:
    for body, active in (({"active": True}, True), ({"active": "true"}, False), ({}, False)):
        wire.post(ADDRESS).respond(json=body)
        response = await introspect_token(http, ADDRESS, token=Secret("t"), client_id="app")
        assert response.active is active


async def test_userinfo_is_asked_with_the_token_in_the_header(wire: Any, http: Any) -> None:
    wire.get(ADDRESS).respond(json={"sub": "alice"})
    response = await get_userinfo(http, ADDRESS, access_token=Secret("t"))
    assert response.json == {"sub": "alice"}
    assert sent(wire)[0].headers["authorization"] == "Bearer t"
    assert sent(wire)[0].content == b""


@pytest.mark.parametrize("library", [httpx, httpx2], ids=["httpx", "httpx2"])
async def test_errors_are_values_of_the_kind_asked_for(library: Any) -> None:
    answers: list[Any] = [
        library.Response(400, json={"error": "invalid_grant", "error_description": "spent"}),
        library.Response(200, json={"error": "invalid_grant"}),
        library.Response(502, html="<html>"),
        library.Response(200, html="<html>"),
        library.ReadTimeout("late canary"),
    ]

    def handler(_: Any) -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    seen = []
    async with library.AsyncClient(transport=library.MockTransport(handler)) as http:
        while answers:
            response = await request_refresh_token(
                http, ADDRESS, refresh_token=Secret("r"), client_id="app"
            )
            assert response.is_error
            seen.append((response.http_status, response.error_type))
    assert seen == [
        (400, "protocol"),
        (200, "protocol"),
        (502, "http"),
        (200, "exception"),
        (None, "exception"),
    ]
    assert isinstance(response.exception, ProviderUnavailable)
    assert response.exception.may_have_been_sent
    assert "canary" not in repr(response) + str(response.error)
    with pytest.raises(ProviderUnavailable):
        response.raise_for_error()


async def test_a_refusal_can_be_raised(wire: Any, http: Any) -> None:
    wire.post(ADDRESS).respond(400, json={"error": "invalid_grant"})
    response = await request_refresh_token(
        http, ADDRESS, refresh_token=Secret("r"), client_id="app"
    )
    with pytest.raises(ProtocolError):
        response.raise_for_error()


METADATA = {
    "issuer": "https://op.test",
    **{
        name: f"https://op.test/{name}"
        for name in ("authorization_endpoint", "token_endpoint", "jwks_uri")
    },
}


async def test_discovery_gives_metadata_or_says_which_rule_is_broken(wire: Any, http: Any) -> None:
    place = "https://op.test/.well-known/openid-configuration"
    wire.get(place).respond(json=METADATA)
    response = await get_discovery_document(http, "https://op.test")
    assert response.metadata.token_endpoint == "https://op.test/token_endpoint"
    wire.get(place).respond(json=METADATA | {"issuer": "https://evil.test"})
    response = await get_discovery_document(http, "https://op.test")
    assert response.error_type == "policy"
    with pytest.raises(InvalidMetadata, match="issuer"):
        _ = response.metadata
    wire.get(place).respond(404)
    response = await get_discovery_document(http, "https://op.test")
    assert (response.error_type, response.http_status) == ("http", 404)
    with pytest.raises(ProtocolError, match="http_404"):
        _ = response.metadata


async def test_a_key_set_gives_keys_or_an_error(wire: Any, http: Any, key: Any) -> None:
    wire.get(ADDRESS).respond(json={"keys": [key.public(), {"kty": "oct", "k": "AA"}]})
    response = await get_json_web_key_set(http, ADDRESS)
    assert (len(response.key_set.keys), response.key_set.skipped) == (1, 1)
    wire.get(ADDRESS).respond(json={"keys": 5})
    response = await get_json_web_key_set(http, ADDRESS)
    assert response.error_type == "policy"
    with pytest.raises(InvalidMetadata, match="keys"):
        _ = response.key_set
    wire.get(ADDRESS).respond(500)
    assert (await get_json_web_key_set(http, ADDRESS)).error_type == "http"


@pytest.mark.parametrize(("size", "fine"), [(MAX_ANSWER, True), (MAX_ANSWER + 1, False)])
@pytest.mark.case(206)
async def test_token_answers_are_read_up_to_their_bound(
    wire: Any, http: Any, size: int, fine: bool
) -> None:
    body = json.dumps({"access_token": "t"})
    wire.post(ADDRESS).respond(content=body + " " * (size - len(body)))
    response = await request_refresh_token(
        http, ADDRESS, refresh_token=Secret("r"), client_id="app"
    )
    assert response.is_error is not fine
