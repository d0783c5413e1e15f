"""What no provider could make sense of is never sent: it raises, and names the argument.

The tables are made from the signatures, so that a new function is in them from its first day.
"""

from __future__ import annotations

import inspect
import itertools
from typing import Any

import httpx
import pytest

from tokenward import endpoints
from tokenward.errors import ConfigurationError
from tokenward.protocol.authorization import AuthorizationRequest
from tokenward.protocol.authorization_responses import (
    BackchannelAuthenticationResponse,
    DeviceAuthorizationResponse,
)
from tokenward.secret import Secret

ADDRESS = "https://op.test/endpoint"
ACCESS = "urn:ietf:params:oauth:token-type:access_token"
DEVICE = DeviceAuthorizationResponse.parse(
    200,
    {},
    b'{"device_code": "d", "user_code": "u", "verification_uri": "https://v.test",'
    b' "expires_in": 600, "interval": 1}',
)
AUTHENTICATION = BackchannelAuthenticationResponse.parse(
    200, {}, b'{"auth_req_id": "a", "expires_in": 600, "interval": 1}'
)
LOGIN = AuthorizationRequest(
    redirect_uri="https://app.test/cb",
    scope="openid",
    state=Secret("state"),
    nonce=Secret("nonce"),
    code_challenge="challenge",
)

# What each function cannot do without, beside the address and the client.
GOOD: dict[str, dict[str, Any]] = {
    "end_session": {},
    "get_discovery_document": {},
    "get_json_web_key_set": {},
    "get_userinfo": {"access_token": "at"},
    "introspect_token": {"token": "t"},
    "poll_backchannel_authentication_token": {
        "authentication": AUTHENTICATION,
        "sleep": lambda seconds: None,
    },
    "poll_device_token": {"device": DEVICE, "sleep": lambda seconds: None},
    "push_authorization_request": {"request": LOGIN},
    "register_client": {"metadata": {"redirect_uris": ["https://app.test/cb"]}},
    "request_authorization_code_token": {
        "code": "c",
        "redirect_uri": "https://app.test/cb",
        "code_verifier": "v",
    },
    "request_backchannel_authentication": {"scope": "openid", "login_hint": "bob"},
    "request_backchannel_authentication_token": {"auth_req_id": "a"},
    "request_client_credentials_token": {},
    "request_device_authorization": {},
    "request_device_token": {"device_code": "d"},
    "request_jwt_bearer_token": {"assertion": "a.b.c"},
    "request_password_token": {"username": "bob", "password": "p"},
    "request_refresh_token": {"refresh_token": "r"},
    "request_token": {"grant": "custom"},
    "request_token_exchange_token": {"subject_token": "s", "subject_token_type": ACCESS},
    "revoke_token": {"token": "t"},
}


def parameters(name: str) -> dict[str, inspect.Parameter]:
    """What the function takes after the HTTP client."""
    shown = inspect.signature(getattr(endpoints, name)).parameters
    return {key: value for key, value in shown.items() if key != "http"}


def having(argument: str) -> list[str]:
    return [name for name in GOOD if argument in parameters(name)]


# An empty password is one; metadata and earlier answers are no text.
MAY_BE_EMPTY = {"password", "metadata", "device", "authentication", "issuer"}
REQUIRED = [
    pytest.param(name, argument, value, id=f"{name}-{argument}-{value!r}")
    for name in GOOD
    for argument, parameter in parameters(name).items()
    if parameter.default is inspect.Parameter.empty
    for value in (None, "")
    if not (value is None and "None" in str(parameter.annotation))
    if not (value == "" and argument in MAY_BE_EMPTY)
]


class Provider:
    """Counts what comes, and answers as little as it can."""

    def __init__(self) -> None:
        self.sent: list[httpx.Request] = []
        self.http = httpx.Client(transport=httpx.MockTransport(self._handle))

    def _handle(self, request: httpx.Request) -> httpx.Response:
        self.sent.append(request)
        return httpx.Response(200, json={"access_token": "a", "token_type": "Bearer"})

    def call(self, name: str, **arguments: Any) -> Any:
        known = parameters(name)
        usual: dict[str, Any] = {"client_id": "app", "issuer": "https://op.test"}
        if name != "get_discovery_document":
            usual["address"] = ADDRESS
        if name.startswith("poll_"):
            usual["clock"] = itertools.count(0.0, 50.0).__next__
        keywords = {key: value for key, value in usual.items() if key in known}
        keywords |= GOOD[name] | arguments
        first = next(iter(known))
        return getattr(endpoints, name)(self.http, keywords.pop(first), **keywords)

    def resources(self, name: str = "resource") -> list[str]:
        return httpx.QueryParams(self.sent[-1].content.decode()).get_list(name)


@pytest.fixture
def provider() -> Any:
    made = Provider()
    yield made
    made.http.close()


def refused(provider: Provider, name: str, argument: str, value: object) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as raised:
        provider.call(name, **{argument: value})
    assert raised.value.setting == argument
    assert provider.sent == []
    return raised.value


def test_every_function_is_in_the_tables() -> None:
    constants = {"DEADLINE", "TOKEN_DEADLINE", "choose_client_auth"}
    assert set(GOOD) == set(endpoints.__all__) - constants


@pytest.mark.parametrize("name", GOOD)
def test_what_is_needed_and_no_more_is_sent(provider: Provider, name: str) -> None:
    provider.call(name)
    assert len(provider.sent) == 1


@pytest.mark.parametrize(("name", "argument", "value"), REQUIRED)
def test_what_is_required_is_neither_none_nor_empty(
    provider: Provider, name: str, argument: str, value: object
) -> None:
    refused(provider, name, argument, value)


@pytest.mark.parametrize(
    ("name", "argument"),
    [
        ("request_authorization_code_token", "code_verifier"),
        ("register_client", "initial_access_token"),
        ("get_discovery_document", "address"),
    ],
)
def test_none_leaves_it_out_and_empty_is_misuse(
    provider: Provider, name: str, argument: str
) -> None:
    refused(provider, name, argument, "")
    provider.call(name, **{argument: None})
    assert len(provider.sent) == 1


def test_an_empty_actor_token_is_misuse(provider: Provider) -> None:
    with pytest.raises(ConfigurationError, match=r"^actor_token:"):
        provider.call("request_token_exchange_token", actor_token="", actor_token_type=ACCESS)
    assert provider.sent == []


@pytest.mark.parametrize("name", having("resource"))
@pytest.mark.parametrize(
    ("resource", "sent"),
    [
        pytest.param("https://r.test", ["https://r.test"], id="text-is-one"),
        pytest.param(["https://b", "https://a"], ["https://b", "https://a"], id="list"),
        pytest.param(("https://b", "https://a"), ["https://b", "https://a"], id="tuple"),
        pytest.param("urn:api", ["urn:api"], id="urn"),
        pytest.param([], [], id="none"),
    ],
)
def test_a_resource_is_text_or_several(
    provider: Provider, name: str, resource: Any, sent: list[str]
) -> None:
    provider.call(name, resource=resource)
    assert provider.resources() == sent


@pytest.mark.parametrize("name", having("resource"))
@pytest.mark.parametrize(
    "resource",
    [
        pytest.param("", id="empty"),
        pytest.param("api", id="relative"),
        pytest.param("https://r.test#f", id="fragment"),
        pytest.param("https://[r", id="no-url"),
        pytest.param(["https://r.test", ""], id="one-empty"),
        pytest.param(["https://r.test", None], id="one-none"),
        pytest.param(None, id="none"),
        pytest.param(b"https://r.test", id="bytes"),
        pytest.param({"https://r.test"}, id="set-without-order"),
        pytest.param(5, id="number"),
    ],
)
def test_a_resource_is_an_absolute_uri_without_fragment(
    provider: Provider, name: str, resource: object
) -> None:
    refused(provider, name, "resource", resource)


def test_an_audience_is_text_or_several(provider: Provider) -> None:
    for audience, sent in [("orders", ["orders"]), (["b", "a"], ["b", "a"])]:
        provider.call("request_token_exchange_token", audience=audience)
        assert provider.resources("audience") == sent


@pytest.mark.parametrize("audience", ["", [""], None, 5, [None]])
def test_an_audience_is_not_empty(provider: Provider, audience: object) -> None:
    refused(provider, "request_token_exchange_token", "audience", audience)


@pytest.mark.parametrize("name", having("scope"))
@pytest.mark.parametrize("scope", [["a", "b"], ("a",), {"a"}, 5], ids=repr)
def test_a_scope_is_one_text(provider: Provider, name: str, scope: object) -> None:
    assert "separated by a space" in str(refused(provider, name, "scope", scope))


@pytest.mark.parametrize("name", having("extra"))
@pytest.mark.parametrize("value", [None, 5, ["a"]], ids=repr)
def test_an_addition_is_text(provider: Provider, name: str, value: object) -> None:
    assert "`x`" in str(refused(provider, name, "extra", {"x": value}))


@pytest.mark.parametrize("name", having("address"))
@pytest.mark.parametrize(
    "address",
    [
        "not a url",
        "/token",
        "//op.test/token",
        "op.test/token",
        "ftp://op.test/token",
        "https://",
        "https:///token",
        "https:token",
        "https://op.test:99999/token",
        "https://[op.test/token",
        "https://op test/token",
        "https://op.test/\ntoken",
        5,
    ],
    ids=repr,
)
def test_an_address_is_one_that_can_be_sent_to(
    provider: Provider, name: str, address: object
) -> None:
    refused(provider, name, "address", address)


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("deadline", [0, -1.0, float("nan"), float("inf"), None, "5"], ids=repr)
def test_a_deadline_is_a_positive_number_of_seconds(
    provider: Provider, name: str, deadline: object
) -> None:
    refused(provider, name, "deadline", deadline)


async def test_an_address_is_judged_for_every_kind_of_client(wire: Any) -> None:
    for address in ("", "/token", "ftp://op.test"):
        with pytest.raises(ConfigurationError, match=r"^address:"):
            endpoints.revoke_token(wire.http, address, token="t", client_id="app")
    assert wire.sent == []


async def test_with_a_base_url_only_a_path_is_relative(wire: Any) -> None:
    wire.http.base_url = "https://op.test/t/"
    await wire.call(endpoints.revoke_token, "revoke", token="t", client_id="app")
    assert wire.sent[0].url == "https://op.test/t/revoke"
    for address in ("", "//evil.test/revoke", "ftp://op.test/revoke"):
        with pytest.raises(ConfigurationError, match=r"^address:"):
            endpoints.revoke_token(wire.http, address, token="t", client_id="app")


async def test_plain_http_is_sent_as_the_caller_wants_it(wire: Any) -> None:
    await wire.call(endpoints.revoke_token, "http://op.test/r", token="t", client_id="app")
    assert wire.sent[0].url == "http://op.test/r"


async def test_header_fields_are_found_in_any_case(wire: Any) -> None:
    wire.says(503, headers={"Retry-After": "9"})
    response = await wire.call(endpoints.revoke_token, ADDRESS, token="t", client_id="app")
    assert response.headers.get("Retry-After") == "9"
    assert response.headers["RETRY-AFTER"] == "9"
    assert "Retry-after" in response.headers
    assert "retry-after" in list(response.headers)
