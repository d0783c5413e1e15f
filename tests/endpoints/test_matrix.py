"""Every operation, under everything that can come back, by each of the four clients.

One body for all: what differs between the operations is in the table, and nothing may
differ between the clients.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import httpx
import httpx2
import pytest

from tokenward import endpoints
from tokenward.errors import ProviderUnavailable
from tokenward.protocol.authorization import AuthorizationRequest
from tokenward.protocol.grants import ClientCredentials
from tokenward.secret import Secret

Form = list[tuple[str, str]]

LOGIN = AuthorizationRequest(
    redirect_uri="https://app.test/cb",
    scope="openid",
    state=Secret("the-state"),
    nonce=Secret("the-nonce"),
    code_challenge="challenge",
    max_age=0,
    resource=("https://a.test",),
)

TOKEN = {
    "access_token": "access-token-canary",
    "token_type": "Bearer",
    "expires_in": 3600,
    "custom": "unknown",
}


@dataclass(frozen=True)
class Operation:
    """What is called, what goes out, and what comes back when all is well."""

    name: str
    arguments: dict[str, Any]
    form: Form | None
    """None: no form is sent."""
    success: dict[str, Any]
    fields: dict[str, Any] = field(default_factory=dict)
    """Properties of the response."""
    method: str = "POST"
    address: str = "https://op.test/endpoint"
    needs_body: bool = True
    without_words: str = "invalid_client"
    """What a 401 without words means here."""

    @property
    def function(self) -> Any:
        return getattr(endpoints, self.name)

    @property
    def to(self) -> str:
        well_known = "/.well-known/openid-configuration"
        return self.address + well_known if self.name == "get_discovery_document" else self.address


def token_operation(name: str, arguments: dict[str, Any], form: Form, **members: Any) -> Operation:
    fields = {
        "access_token": Secret("access-token-canary"),
        "token_type": "Bearer",
        "expires_in": 3600.0,
        "refresh_token": None,
    }
    return Operation(name, arguments, form, TOKEN | members, fields | members)


RESOURCES = ("https://a.test", "https://b.test")
BOTH = [("resource", "https://a.test"), ("resource", "https://b.test")]
DEVICE = "urn:ietf:params:oauth:grant-type:device_code"
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
CIBA = "urn:openid:params:grant-type:ciba"
ACCESS = "urn:ietf:params:oauth:token-type:access_token"
JWT_TYPE = "urn:ietf:params:oauth:token-type:jwt"

OPERATIONS = [
    token_operation(
        "request_token",
        {"grant": "custom", "extra": {"custom_parameter": "custom value", "scope": "api1"}},
        [("grant_type", "custom"), ("custom_parameter", "custom value"), ("scope", "api1")],
    ),
    token_operation(
        "request_client_credentials_token",
        {"scope": "api1 api2", "resource": RESOURCES},
        [("grant_type", "client_credentials"), ("scope", "api1 api2"), *BOTH],
    ),
    token_operation(
        "request_password_token",
        {"username": "bob", "password": "", "scope": "api1"},
        [("grant_type", "password"), ("username", "bob"), ("password", ""), ("scope", "api1")],
    ),
    token_operation(
        "request_authorization_code_token",
        {
            "code": "the-code",
            "redirect_uri": "https://app.test/cb?a=b",
            "code_verifier": "verifier",
            "resource": RESOURCES,
        },
        [
            ("grant_type", "authorization_code"),
            ("code", "the-code"),
            ("redirect_uri", "https://app.test/cb?a=b"),
            ("code_verifier", "verifier"),
            *BOTH,
        ],
    ),
    token_operation(
        "request_refresh_token",
        {"refresh_token": "xyz", "scope": "api1", "resource": RESOURCES},
        [("grant_type", "refresh_token"), ("refresh_token", "xyz"), ("scope", "api1"), *BOTH],
    ),
    token_operation(
        "request_device_token",
        {"device_code": "dc", "resource": RESOURCES},
        [("grant_type", DEVICE), ("device_code", "dc"), *BOTH],
    ),
    token_operation(
        "request_backchannel_authentication_token",
        {"auth_req_id": "ar", "resource": RESOURCES},
        [("grant_type", CIBA), ("auth_req_id", "ar"), *BOTH],
    ),
    token_operation(
        "request_jwt_bearer_token",
        {"assertion": "a.b.c", "scope": "api1"},
        [("grant_type", JWT_BEARER), ("assertion", "a.b.c"), ("scope", "api1")],
    ),
    token_operation(
        "request_token_exchange_token",
        {
            "subject_token": "st",
            "subject_token_type": ACCESS,
            "actor_token": "at",
            "actor_token_type": JWT_TYPE,
            "requested_token_type": ACCESS,
            "scope": "api1",
            "audience": ("orders", "bills"),
            "resource": RESOURCES,
        },
        [
            ("grant_type", EXCHANGE),
            ("subject_token", "st"),
            ("subject_token_type", ACCESS),
            ("actor_token", "at"),
            ("actor_token_type", JWT_TYPE),
            ("requested_token_type", ACCESS),
            ("scope", "api1"),
            ("audience", "orders"),
            ("audience", "bills"),
            *BOTH,
        ],
        issued_token_type=ACCESS,
    ),
    Operation(
        "request_device_authorization",
        {"scope": "openid api1", "resource": RESOURCES},
        [("scope", "openid api1"), *BOTH],
        {
            "device_code": "device-code-canary",
            "user_code": "WDJB-MJHT",
            "verification_uri": "https://op.test/device",
            "verification_uri_complete": "https://op.test/device?user_code=WDJB-MJHT",
            "expires_in": "1800",
        },
        {
            "device_code": Secret("device-code-canary"),
            "user_code": "WDJB-MJHT",
            "verification_uri": "https://op.test/device",
            "verification_uri_complete": "https://op.test/device?user_code=WDJB-MJHT",
            "expires_in": 1800.0,
            "interval": 5.0,
        },
    ),
    Operation(
        "request_backchannel_authentication",
        {
            "scope": "openid",
            "login_hint": "bob",
            "client_notification_token": "cnt",
            "acr_values": "high",
            "binding_message": "W4SCT",
            "user_code": "1234",
            "requested_expiry": 120,
            "resource": RESOURCES,
        },
        [
            ("scope", "openid"),
            ("login_hint", "bob"),
            ("client_notification_token", "cnt"),
            ("acr_values", "high"),
            ("binding_message", "W4SCT"),
            ("user_code", "1234"),
            ("requested_expiry", "120"),
            *BOTH,
        ],
        {"auth_req_id": "auth-req-id-canary", "expires_in": 120, "interval": 2},
        {"auth_req_id": Secret("auth-req-id-canary"), "expires_in": 120.0, "interval": 2.0},
    ),
    Operation(
        "push_authorization_request",
        {"request": LOGIN},
        [
            ("response_type", "code"),
            ("client_id", "app"),
            ("redirect_uri", "https://app.test/cb"),
            ("scope", "openid"),
            ("state", "the-state"),
            ("nonce", "the-nonce"),
            ("code_challenge", "challenge"),
            ("code_challenge_method", "S256"),
            ("max_age", "0"),
            ("resource", "https://a.test"),
        ],
        {"request_uri": "urn:example:bwc4JK-ESC0w8acc191e-Y1LTC2", "expires_in": 90},
        {"request_uri": "urn:example:bwc4JK-ESC0w8acc191e-Y1LTC2", "expires_in": 90.0},
    ),
    Operation(
        "introspect_token",
        {"token": "tok", "token_type_hint": "access_token"},
        [("token", "tok"), ("token_type_hint", "access_token")],
        {"active": True, "scope": "a b", "sub": "bob", "exp": 1_700_000_000, "aud": "api"},
        {
            "active": True,
            "scope": frozenset({"a", "b"}),
            "sub": "bob",
            "exp": 1_700_000_000.0,
            "aud": ("api",),
        },
    ),
    Operation(
        "revoke_token",
        {"token": "tok", "token_type_hint": "refresh_token"},
        [("token", "tok"), ("token_type_hint", "refresh_token")],
        {},
        needs_body=False,
    ),
    Operation(
        "get_userinfo",
        {"access_token": "at-canary"},
        None,
        {"sub": "bob", "email": "b@example.org"},
        {"sub": "bob"},
        method="GET",
        without_words="invalid_token",
    ),
    Operation(
        "get_discovery_document",
        {},
        None,
        {
            "issuer": "https://op.test",
            "authorization_endpoint": "https://op.test/a",
            "token_endpoint": "https://op.test/t",
            "jwks_uri": "https://op.test/j",
        },
        method="GET",
        address="https://op.test",
        without_words="http_401",
    ),
    Operation(
        "get_json_web_key_set", {}, None, {"keys": []}, method="GET", without_words="http_401"
    ),
    Operation(
        "register_client",
        {"metadata": {"redirect_uris": ["https://app.test/cb"]}, "initial_access_token": "iat"},
        None,
        {
            "client_id": "s6BhdRkqt3",
            "client_secret": "client-secret-canary",
            "client_id_issued_at": 1_700_000_000,
            "client_secret_expires_at": 0,
            "registration_access_token": "registration-canary",
            "registration_client_uri": "https://op.test/register/1",
        },
        {
            "client_id": "s6BhdRkqt3",
            "client_secret": Secret("client-secret-canary"),
            "client_id_issued_at": 1_700_000_000.0,
            "client_secret_expires_at": None,
            "registration_access_token": Secret("registration-canary"),
            "registration_client_uri": "https://op.test/register/1",
            "software_statement": None,
        },
        without_words="invalid_token",
    ),
    Operation(
        "end_session",
        {"id_token_hint": "a.b.c", "state": "st", "post_logout_redirect_uri": "https://app.test/"},
        [
            ("id_token_hint", "a.b.c"),
            ("post_logout_redirect_uri", "https://app.test/"),
            ("state", "st"),
        ],
        {},
        needs_body=False,
        without_words="http_401",
    ),
]

NOT_OF_THE_CLIENT = {
    "get_userinfo",
    "get_discovery_document",
    "get_json_web_key_set",
    "register_client",
}


def client_of(operation: Operation) -> dict[str, Any]:
    if operation.name in NOT_OF_THE_CLIENT:
        return {}
    return {"client_id": "app", "client_secret": "p%s:w+d ü"}


@pytest.fixture(params=[pytest.param(op, id=op.name) for op in OPERATIONS])
def operation(request: pytest.FixtureRequest) -> Any:
    return request.param


async def called(wire: Any, operation: Operation, **more: Any) -> Any:
    arguments = client_of(operation) | operation.arguments | more
    return await wire.call(operation.function, operation.address, **arguments)


def test_the_table_has_every_function() -> None:
    polling = {"poll_device_token", "poll_backchannel_authentication_token"}
    functions = {name for name in endpoints.__all__ if callable(getattr(endpoints, name))}
    assert {op.name for op in OPERATIONS} == functions - polling - {"choose_client_auth"}


async def test_the_request_is_as_the_specification_has_it(wire: Any, operation: Operation) -> None:
    await called(wire, operation)
    (sent,) = wire.sent
    assert (sent.method, sent.url) == (operation.method, operation.to)
    assert sent.headers["accept"].startswith("application/json")
    assert "cookie" not in sent.headers
    if operation.form is None:
        return
    assert sent.headers["content-type"] == "application/x-www-form-urlencoded"
    assert sent.form == operation.form
    assert sent.headers["authorization"] == "Basic YXBwOnAlMjVzJTNBdyUyQmQrJUMzJUJD"


@pytest.mark.parametrize(
    "operation", [op for op in OPERATIONS if op.form is not None], ids=lambda op: op.name
)
async def test_a_public_client_sends_its_id_alone(wire: Any, operation: Operation) -> None:
    assert operation.form is not None
    await called(wire, operation, client_secret=None)
    (sent,) = wire.sent
    assert "authorization" not in sent.headers
    without_id = [item for item in operation.form if item[0] != "client_id"]
    assert [item for item in sent.form if item[0] != "client_id"] == without_id
    assert sent.form.count(("client_id", "app")) == 1


async def test_success_is_a_value_with_typed_fields(wire: Any, operation: Operation) -> None:
    wire.says(**operation.success)
    response = await called(wire, operation)
    assert not response.is_error
    assert (response.error_type, response.error, response.exception) == ("none", None, None)
    assert {name: getattr(response, name) for name in operation.fields} == operation.fields
    assert response.http_status == 200
    assert response.json == operation.success
    assert response.raise_for_error() is response
    for name, value in operation.success.items():
        assert response.get(name) == value
    assert "canary" not in f"{response!r}{response}"


@pytest.mark.parametrize("status", [400, 401, 503])
async def test_a_refusal_in_the_words_of_the_protocol_is_a_value_at_every_status(
    wire: Any, operation: Operation, status: int
) -> None:
    wire.says(
        status, error="invalid_thing", error_description="said\nwhy", error_uri="https://op.test/e"
    )
    response = await called(wire, operation)
    assert response.is_error
    assert (response.error_type, response.error) == ("protocol", "invalid_thing")
    assert response.error_description == r"said\nwhy"
    assert response.error_uri == "https://op.test/e"
    assert response.http_status == status


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty", marks=pytest.mark.case(177)),
        pytest.param(b"<html>", id="html", marks=pytest.mark.case(177)),
        pytest.param(b'{"a": ', id="cut"),
        pytest.param(b"[]", id="list", marks=pytest.mark.case(177)),
        pytest.param(b'"text"', id="string", marks=pytest.mark.case(177)),
        pytest.param(b'{"a": 1, "a": 2}', id="repeated-member", marks=pytest.mark.case(207)),
        pytest.param(b'{"a": "\xff"}', id="no-utf-8"),
    ],
)
async def test_a_good_status_with_no_json_object_is_an_exception_value(
    wire: Any, operation: Operation, body: bytes
) -> None:
    wire.answers = [wire.raw(200, body)]
    response = await called(wire, operation)
    assert response.is_error is operation.needs_body
    if operation.needs_body:
        assert response.error_type == "exception"
        assert response.exception is not None
        assert response.json is None
        with pytest.raises(type(response.exception)):
            response.raise_for_error()


@pytest.mark.parametrize("status", [400, 404, 500])
@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="none"),
        pytest.param(b"<html>stack-trace-canary</html>", id="not-json"),
        pytest.param(b'{"message": "stack-trace-canary"}', id="json"),
    ],
)
@pytest.mark.case(179)
async def test_a_bad_status_without_the_words_is_an_http_error(
    wire: Any, operation: Operation, status: int, body: bytes
) -> None:
    wire.answers = [wire.raw(status, body)]
    response = await called(wire, operation)
    assert (response.error_type, response.error) == ("http", f"http_{status}")
    assert response.raw == Secret(body.decode())
    assert response.get("message") == ("stack-trace-canary" if b"message" in body else None)
    assert "canary" not in f"{response!r}{response}"


@pytest.mark.case(182)
async def test_a_401_without_words_means_what_it_means_at_this_endpoint(
    wire: Any, operation: Operation
) -> None:
    wire.answers = [wire.raw(401, b"<html>")]
    response = await called(wire, operation)
    assert (response.error_type, response.error) == ("http", operation.without_words)


@pytest.mark.parametrize("failure", ["ConnectTimeout", "ReadTimeout"])
async def test_a_failure_of_the_network_is_an_exception_value_that_holds_no_secret(
    wire: Any, operation: Operation, failure: str
) -> None:
    wire.answers = [failure]
    response = await called(wire, operation)
    assert (response.error_type, response.http_status) == ("exception", None)
    assert isinstance(response.exception, ProviderUnavailable)
    assert response.exception.__cause__ is response.exception.__context__ is None
    assert failure in response.error
    assert "secret-of" not in f"{response!r}{response.error}"
    with pytest.raises(ProviderUnavailable):
        response.raise_for_error()


@pytest.mark.parametrize("status", [302, 307])
async def test_no_redirect_is_followed(wire: Any, operation: Operation, status: int) -> None:
    wire.answers = [wire.raw(status, b"", location="https://evil.test/")]
    response = await called(wire, operation)
    assert len(wire.sent) == 1
    assert response.is_error is (operation.name != "end_session")


@pytest.mark.parametrize("library", [httpx, httpx2])
async def test_a_cancelled_call_ends_with_the_cancellation(
    library: Any, operation: Operation
) -> None:
    asked = asyncio.Event()

    async def silent(_: Any) -> Any:
        asked.set()
        await asyncio.Event().wait()

    async with library.AsyncClient(transport=library.MockTransport(silent)) as http:
        arguments = client_of(operation) | operation.arguments
        task = asyncio.ensure_future(operation.function(http, operation.address, **arguments))
        await asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_the_same_arguments_can_be_used_again(wire: Any, operation: Operation) -> None:
    first = await called(wire, operation)
    second = await called(wire, operation)
    assert (first.http_status, second.http_status) == (200, 200)
    assert wire.sent[0] == wire.sent[1]


async def test_one_grant_value_serves_several_clients(wire: Any) -> None:
    grant = ClientCredentials(scope="api", extra={"audience": "a"})
    for client_id in ("one", "two"):
        await wire.call(endpoints.request_token, wire.address, grant=grant, client_id=client_id)
    assert [sent.form[-1] for sent in wire.sent] == [("client_id", "one"), ("client_id", "two")]
    assert wire.sent[0].form[:-1] == wire.sent[1].form[:-1]
