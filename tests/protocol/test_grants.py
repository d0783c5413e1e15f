from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tokenward.errors import ConfigurationError
from tokenward.protocol.grants import (
    ACCESS_TOKEN,
    ID_TOKEN,
    JWT,
    REFRESH_TOKEN,
    SAML1,
    SAML2,
    AuthorizationCode,
    ExtensionGrant,
    RefreshToken,
)
from tokenward.secret import Secret

if TYPE_CHECKING:
    from tokenward.protocol.grants import TokenRequest


def fields(request: TokenRequest) -> list[tuple[str, str]]:
    return [(n, v.reveal() if isinstance(v, Secret) else v) for n, v in request.form()]


CODE = AuthorizationCode(Secret("SplxlOBeZQQYbYS6WxSbIA"), redirect_uri="https://app/cb")
REFRESH = RefreshToken(Secret("tGzv3JOkF0XG5Qx2TlKWIA"))
EXTENSION = ExtensionGrant("delegation", parameters={"token": Secret("t0k3n")})


def test_authorization_code_asks_as_the_rfc_says() -> None:
    # RFC 6749, section 4.1.3
    assert fields(CODE) == [
        ("grant_type", "authorization_code"),
        ("code", "SplxlOBeZQQYbYS6WxSbIA"),
        ("redirect_uri", "https://app/cb"),
    ]


def test_authorization_code_with_everything() -> None:
    request = AuthorizationCode(
        Secret("c"),
        redirect_uri="https://app/cb",
        code_verifier=Secret("v"),
        resource=("https://b", "https://a"),
        extra={"audience": "x"},
    )
    assert fields(request) == [
        ("grant_type", "authorization_code"),
        ("code", "c"),
        ("redirect_uri", "https://app/cb"),
        ("code_verifier", "v"),
        ("resource", "https://b"),
        ("resource", "https://a"),
        ("audience", "x"),
    ]


def test_refresh_token_asks_as_the_rfc_says() -> None:
    # RFC 6749, section 6
    assert fields(REFRESH) == [
        ("grant_type", "refresh_token"),
        ("refresh_token", "tGzv3JOkF0XG5Qx2TlKWIA"),
    ]


def test_refresh_token_with_everything() -> None:
    request = RefreshToken(
        refresh_token=Secret("r"), scope="openid api", resource=("https://a",), extra={"x": "y"}
    )
    assert fields(request) == [
        ("grant_type", "refresh_token"),
        ("refresh_token", "r"),
        ("scope", "openid api"),
        ("resource", "https://a"),
        ("x", "y"),
    ]


def test_any_other_grant_can_be_asked_for() -> None:
    request = ExtensionGrant(
        "urn:ietf:params:oauth:grant-type:device_code",
        parameters={"device_code": Secret("d")},
        scope="api",
        resource=("https://a",),
    )
    assert fields(request) == [
        ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
        ("scope", "api"),
        ("resource", "https://a"),
        ("device_code", "d"),
    ]


@pytest.mark.parametrize("request_", [CODE, REFRESH, EXTENSION], ids=lambda r: r.grant_type)
def test_a_request_can_be_sent_twice_because_each_form_is_new(request_: TokenRequest) -> None:
    first = request_.form()
    first.append(("client_id", "web"))
    assert ("client_id", "web") not in request_.form()


@pytest.mark.parametrize("request_", [CODE, REFRESH, EXTENSION], ids=lambda r: r.grant_type)
def test_repr_and_form_hide_what_is_secret(request_: TokenRequest) -> None:
    shown = repr(request_) + repr(request_.form())
    assert not any(
        s in shown for s in ("SplxlOBeZQQYbYS6WxSbIA", "tGzv3JOkF0XG5Qx2TlKWIA", "t0k3n")
    )


@pytest.mark.parametrize(
    "name",
    ["grant_type", "code", "redirect_uri", "code_verifier", "resource", "client_id",
     "client_secret", "client_assertion", "client_assertion_type"],
)  # fmt: skip
def test_an_extra_parameter_never_repeats_one_that_is_set(name: str) -> None:
    request = AuthorizationCode(
        Secret("c"),
        redirect_uri="https://app/cb",
        code_verifier=Secret("v"),
        resource=("https://a",),
        extra={name: "x"},
    )
    with pytest.raises(ConfigurationError, match=f"`{name}`") as raised:
        request.form()
    assert raised.value.setting == "extra"


@pytest.mark.parametrize("name", ["refresh_token", "scope"])
def test_an_extra_parameter_never_repeats_one_of_a_refresh(name: str) -> None:
    request = RefreshToken(Secret("r"), scope="a", extra={name: "x"})
    with pytest.raises(ConfigurationError, match=f"`{name}`"):
        request.form()


def test_a_parameter_never_repeats_one_of_an_extension_grant() -> None:
    request = ExtensionGrant("x", parameters={"grant_type": "password"})
    with pytest.raises(ConfigurationError, match="`grant_type`") as raised:
        request.form()
    assert raised.value.setting == "parameters"


def test_an_extra_parameter_may_take_a_name_that_is_free() -> None:
    request = RefreshToken(Secret("r"), extra={"scope": "a"})
    assert ("scope", "a") in fields(request)


def test_what_is_required_is_not_empty() -> None:
    with pytest.raises(ConfigurationError, match=r"^code: is empty"):
        AuthorizationCode(Secret(""), redirect_uri="https://app/cb")
    with pytest.raises(ConfigurationError, match=r"^refresh_token: is empty"):
        RefreshToken(Secret(""))
    with pytest.raises(ConfigurationError, match=r"^grant_type: is empty"):
        ExtensionGrant("")


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (ACCESS_TOKEN, "access_token"),
        (REFRESH_TOKEN, "refresh_token"),
        (ID_TOKEN, "id_token"),
        (SAML1, "saml1"),
        (SAML2, "saml2"),
        (JWT, "jwt"),
    ],
)
def test_kinds_of_tokens_are_the_registered_ones(kind: str, name: str) -> None:
    assert kind == f"urn:ietf:params:oauth:token-type:{name}"


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda **one: AuthorizationCode(Secret("c"), redirect_uri="r", **one), id="c"),
        pytest.param(lambda **one: RefreshToken(Secret("r"), **one), id="refresh_token"),
        pytest.param(lambda **one: ExtensionGrant("x", **one), id="extension"),
    ],
)
def test_a_value_keeps_its_resources_where_nobody_can_change_them(make: Any) -> None:
    given = ["https://a", "https://b"]
    grant = make(resource=given)
    given.append("https://c")
    assert grant.resource == ("https://a", "https://b")
    assert make(resource="https://a").resource == ("https://a",)
    with pytest.raises(ConfigurationError, match=r"^resource:"):
        make(resource="https://a#fragment")
