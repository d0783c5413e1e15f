"""Answers of the endpoints beside the token endpoint: what makes one of them worth nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tokenward.errors import (
    InvalidMetadata,
    InvalidResponse,
    ProtocolError,
    ProviderUnavailable,
)
from tokenward.protocol.authorization import (
    MAX_URL,
    AuthorizationRequest,
    authorization_url,
    pushed_authorization_url,
)
from tokenward.protocol.authorization_responses import (
    BackchannelAuthenticationResponse,
    DeviceAuthorizationResponse,
    PushedAuthorizationResponse,
)
from tokenward.protocol.introspection import IntrospectionResponse
from tokenward.protocol.registration import RegistrationResponse
from tokenward.protocol.responses import EndSessionResponse, ProtocolResponse
from tokenward.secret import Secret

PUSHED = {"request_uri": "urn:ietf:params:oauth:request_uri:abc", "expires_in": 60}
DEVICE = {
    "device_code": "device-code-canary",
    "user_code": "WDJB-MJHT",
    "verification_uri": "https://op.test/device",
    "expires_in": 1800,
}
BACKCHANNEL = {"auth_req_id": "auth-req-id-canary", "expires_in": 120}
REGISTERED = {"client_id": "s6BhdRkqt3", "client_secret": "client-secret-canary"}

GOOD: dict[Any, dict[str, Any]] = {
    PushedAuthorizationResponse: PUSHED,
    DeviceAuthorizationResponse: DEVICE,
    BackchannelAuthenticationResponse: BACKCHANNEL,
    RegistrationResponse: REGISTERED,
}


def parse(kind: type[ProtocolResponse], status: int = 200, **change: Any) -> Any:
    told = {name: value for name, value in (GOOD[kind] | change).items() if value is not ...}
    return kind.parse(status, {}, json.dumps(told).encode())


@pytest.mark.parametrize("kind", GOOD)
@pytest.mark.parametrize("status", [200, 201])
def test_every_good_status_will_do(kind: type[ProtocolResponse], status: int) -> None:
    response = parse(kind, status)
    assert not response.is_error
    assert "canary" not in f"{response!r}"


PROMISED: list[Any] = [
    (PushedAuthorizationResponse, "request_uri"),
    (DeviceAuthorizationResponse, "device_code"),
    (DeviceAuthorizationResponse, "user_code"),
    (DeviceAuthorizationResponse, "verification_uri"),
    (DeviceAuthorizationResponse, "expires_in"),
    (BackchannelAuthenticationResponse, "auth_req_id"),
    (BackchannelAuthenticationResponse, "expires_in"),
    (RegistrationResponse, "client_id"),
]


@pytest.mark.parametrize(("kind", "name"), PROMISED)
def test_what_the_next_step_needs_is_there_or_says_why_not(
    kind: type[ProtocolResponse], name: str
) -> None:
    assert getattr(parse(kind), name)
    with pytest.raises(ProtocolError, match="access_denied"):
        getattr(parse(kind, 400, error="access_denied"), name)
    with pytest.raises(InvalidResponse, match=name):
        getattr(parse(kind, **{name: ...}), name)
    out_of_reach = ProviderUnavailable("no answer")
    with pytest.raises(ProviderUnavailable):
        getattr(kind.from_exception(out_of_reach), name)
    # Made by hand, and neither good nor bad.
    with pytest.raises(InvalidResponse, match=name):
        getattr(kind(), name)


def test_an_exception_that_is_kept_holds_no_frames() -> None:
    with pytest.raises(InvalidResponse) as raised:
        raise InvalidResponse("body", "is cut")
    response = ProtocolResponse().failed(raised.value)
    assert response.exception is raised.value
    assert raised.value.__traceback__ is None


@pytest.mark.parametrize(("kind", "name"), PROMISED)
def test_what_a_bad_answer_said_can_be_looked_at_all_the_same(
    kind: type[ProtocolResponse], name: str
) -> None:
    response = parse(kind, 400, error="access_denied")
    assert response.get(name) == GOOD[kind][name]


@pytest.mark.case(462)
@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"request_uri": ...}, id="no-request-uri"),
        pytest.param({"request_uri": ""}, id="empty"),
        pytest.param({"request_uri": 5}, id="no-text"),
        pytest.param({"request_uri": "http://op.test/r"}, id="http"),
        pytest.param({"request_uri": "javascript:alert(1)"}, id="script"),
        pytest.param({"request_uri": "urn:"}, id="urn-of-nothing"),
        pytest.param({"request_uri": "urn:x:a b"}, id="with-a-space"),
        pytest.param({"request_uri": "urn:x:a\nb"}, id="with-a-line-end"),
        pytest.param({"request_uri": "urn:x:" + "a" * 2001}, id="endless"),
        pytest.param({"expires_in": 0}, id="over"),
        pytest.param({"expires_in": -1}, id="long-over"),
    ],
)
def test_a_pushed_request_that_cannot_be_used_is_an_error(change: dict[str, Any]) -> None:
    response = parse(PushedAuthorizationResponse, 201, **change)
    assert response.error_type == "exception"
    assert isinstance(response.exception, InvalidResponse)
    assert response.exception.member == next(iter(change))


@pytest.mark.case(462)
@pytest.mark.parametrize("status", [200, 201])
@pytest.mark.parametrize("uri", ["urn:example:x", "https://op.test/r/1"])
def test_a_pushed_request_may_be_named_by_a_urn_or_by_https(status: int, uri: str) -> None:
    assert parse(PushedAuthorizationResponse, status, request_uri=uri).request_uri == uri
    assert not parse(PushedAuthorizationResponse, status, request_uri=uri).is_error


@pytest.mark.case(462)
@pytest.mark.parametrize(("status", "body"), [(307, b""), (200, b"<html>"), (404, b"<html>")])
def test_a_push_that_was_not_answered_in_the_protocol_is_an_error(status: int, body: bytes) -> None:
    assert PushedAuthorizationResponse.parse(status, {}, body).is_error


@pytest.mark.parametrize(
    "change",
    [
        *(pytest.param({name: ...}, id=f"no-{name}") for name in DEVICE),
        pytest.param({"device_code": "a b"}, id="code-with-a-space"),
        pytest.param({"device_code": 5}, id="code-no-text"),
        pytest.param({"user_code": "a\x1b[2J"}, id="user-code-with-an-escape"),
        pytest.param({"verification_uri": "javascript:alert(1)"}, id="script"),
        pytest.param({"verification_uri": "op.test/device"}, id="no-address"),
        pytest.param({"expires_in": 0}, id="over"),
        pytest.param({"expires_in": "soon"}, id="no-number"),
    ],
)
def test_a_device_authorization_that_cannot_be_used_is_an_error(change: dict[str, Any]) -> None:
    response = parse(DeviceAuthorizationResponse, **change)
    assert isinstance(response.exception, InvalidResponse)
    assert response.exception.member == next(iter(change))
    assert "canary" not in str(response.exception)


def test_a_complete_address_that_cannot_be_followed_is_left_out() -> None:
    response = parse(DeviceAuthorizationResponse, verification_uri_complete="javascript:alert(1)")
    assert not response.is_error
    assert response.verification_uri_complete is None


@pytest.mark.parametrize(
    "change",
    [
        {"auth_req_id": ...},
        {"auth_req_id": "a\nb"},
        {"expires_in": ...},
        {"expires_in": 0},
    ],
)
def test_a_backchannel_authentication_that_cannot_be_used_is_an_error(
    change: dict[str, Any],
) -> None:
    response = parse(BackchannelAuthenticationResponse, **change)
    assert isinstance(response.exception, InvalidResponse)
    assert response.exception.member == next(iter(change))


@pytest.mark.parametrize(
    ("told", "used"), [(..., 5.0), (0, 1.0), (-1, 1.0), (2, 2.0), ("3", 3.0), (True, 5.0)]
)
@pytest.mark.parametrize("kind", [DeviceAuthorizationResponse, BackchannelAuthenticationResponse])
def test_the_interval_is_five_seconds_unless_told(kind: Any, told: Any, used: float) -> None:
    assert parse(kind, interval=told).interval == used


def test_a_registration_without_a_client_id_is_an_error() -> None:
    for change in ({"client_id": ...}, {"client_id": ""}, {"client_id": 5}):
        assert parse(RegistrationResponse, 201, **change).is_error


@pytest.mark.parametrize(("told", "used"), [(0, None), (1_700_000_000, 1.7e9), ("x", None)])
def test_a_client_secret_that_ends_says_when(told: object, used: float | None) -> None:
    response = parse(RegistrationResponse, client_secret_expires_at=told)
    assert response.client_secret_expires_at == used


@pytest.mark.parametrize(
    ("scope", "aud", "exp", "read"),
    [
        pytest.param("a b", "x", 5, (frozenset("ab"), ("x",), 5.0), id="plain"),
        pytest.param(["a", "b"], ["x", "y"], 5.5, (frozenset("ab"), ("x", "y"), 5.5), id="lists"),
        pytest.param(["a", 1], [1], True, (frozenset("a"), (), None), id="mixed"),
        pytest.param(None, None, "5", (None, (), None), id="nothing"),
        pytest.param(7, {}, 10**400, (None, (), None), id="nonsense"),
        pytest.param("", "", -1, (frozenset(), ("",), None), id="empty"),
    ],
)
def test_introspection_is_read_as_far_as_it_makes_sense(
    scope: Any, aud: Any, exp: Any, read: tuple[Any, ...]
) -> None:
    told = {"active": True, "scope": scope, "aud": aud, "exp": exp, "iat": exp, "nbf": exp}
    response = IntrospectionResponse.parse(200, {}, json.dumps(told).encode())
    assert (response.scope, response.aud, response.exp) == read
    assert response.iat == response.nbf == read[2]


def test_introspection_names_what_it_is_told() -> None:
    names = ("client_id", "username", "token_type", "sub", "iss", "jti")
    told = {"active": False, **{name: f"the-{name}" for name in names}}
    response = IntrospectionResponse.parse(200, {}, json.dumps(told).encode())
    assert {name: getattr(response, name) for name in names} == {n: f"the-{n}" for n in names}
    assert not response.active
    assert not response.is_error


@pytest.mark.parametrize(
    ("status", "fine"), [(200, True), (204, True), (302, True), (400, False), (500, False)]
)
def test_the_end_of_a_session_may_lead_elsewhere(status: int, fine: bool) -> None:
    response = EndSessionResponse.parse(status, {"Location": "https://app.test/"}, b"<html>")
    assert response.is_error is not fine
    assert response.location == "https://app.test/"


def test_members_of_the_providers_own_are_reachable_in_their_kind() -> None:
    body = b'{"text": "t", "empty": "", "number": 5, "yes": true, "long": 1e12, "list": []}'
    response = ProtocolResponse.parse(200, {}, body)
    assert (response.text("text"), response.text("number")) == ("t", None)
    assert (response.secret("text"), response.secret("empty")) == (Secret("t"), None)
    assert (response.seconds("number"), response.seconds("list")) == (5.0, None)
    assert (response.moment("number"), response.moment("yes")) == (5.0, None)
    assert (response.moment("long"), response.moment("absent")) == (None, None)
    assert response.get("list") == []


def login(**changes: Any) -> AuthorizationRequest:
    usual: dict[str, Any] = {
        "redirect_uri": "https://app.test/cb",
        "scope": "openid",
        "state": Secret("st"),
        "nonce": Secret("no"),
        "code_challenge": "ch",
    }
    return AuthorizationRequest(**(usual | changes))


@pytest.mark.case(463)
def test_of_a_pushed_request_the_browser_carries_the_client_and_the_name_alone() -> None:
    url = pushed_authorization_url(
        "https://op.test/a?tenant=1", client_id="app", request_uri="urn:x:y"
    )
    assert url == "https://op.test/a?tenant=1&client_id=app&request_uri=urn%3Ax%3Ay"
    for present in ("client_id=x", "request_uri=x", "state=x", "request=x"):
        with pytest.raises(InvalidMetadata):
            pushed_authorization_url(
                f"https://op.test/a?{present}", client_id="app", request_uri="urn:x:y"
            )


def test_what_is_pushed_is_what_the_browser_would_carry() -> None:
    request = login(prompt="login", resource=("https://a.test",), extra={"own": "1"})
    url = authorization_url(
        "https://op.test/a",
        client_id="app",
        redirect_uri="https://app.test/cb",
        scope="openid",
        state=Secret("st"),
        nonce=Secret("no"),
        code_challenge="ch",
        prompt="login",
        resource=("https://a.test",),
        extra={"own": "1"},
    )
    names = [pair.partition("=")[0] for pair in url.partition("?")[2].split("&")]
    assert [name for name, _ in request.form("app")] == names
    assert "st" not in f"{request!r}".split("state=")[1][:20].replace("Secret", "")


def test_a_pushed_request_may_be_longer_than_an_address() -> None:
    assert len(login(extra={"claims": "x" * 2 * MAX_URL}).form("app")) == 9
