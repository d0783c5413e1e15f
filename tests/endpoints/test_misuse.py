"""What is wrong with a call shows at once, and shows no secret."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, assert_type

import pytest

from tokenward import endpoints
from tokenward.endpoints import (
    get_userinfo,
    push_authorization_request,
    request_backchannel_authentication,
    request_client_credentials_token,
    request_token,
    request_token_exchange_token,
    revoke_token,
)
from tokenward.errors import ConfigurationError
from tokenward.protocol.client_auth import client_secret_post
from tokenward.protocol.grants import ClientCredentials
from tokenward.protocol.responses import TokenResponse
from tokenward.secret import Secret

if TYPE_CHECKING:
    import httpx

ADDRESS = "https://op.test/endpoint"
CANARY = "canary-of-the-secret"
ACCESS = "urn:ietf:params:oauth:token-type:access_token"
HINTED = {"scope": "openid", "login_hint": "bob"}


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        pytest.param(request_token, {"grant": ""}, id="no-grant-type"),
        pytest.param(
            request_token, {"grant": "x", "extra": {"grant_type": "y"}}, id="grant-type-twice"
        ),
        pytest.param(
            request_token,
            {"grant": ClientCredentials(extra={"a": "1"}), "extra": {"a": "2"}},
            id="extra-twice",
        ),
        *(
            pytest.param(request_token, {"grant": "x", "extra": {name: "y"}}, id=f"extra-{name}")
            for name in ("client_id", "client_secret", "client_assertion")
        ),
        pytest.param(
            endpoints.request_password_token, {"username": "", "password": CANARY}, id="no-user"
        ),
        pytest.param(
            endpoints.request_authorization_code_token,
            {"code": "", "redirect_uri": "https://a.test", "code_verifier": CANARY},
            id="no-code",
        ),
        pytest.param(endpoints.request_refresh_token, {"refresh_token": ""}, id="no-refresh-token"),
        pytest.param(endpoints.request_device_token, {"device_code": ""}, id="no-device-code"),
        pytest.param(endpoints.request_jwt_bearer_token, {"assertion": ""}, id="no-assertion"),
        pytest.param(
            endpoints.request_backchannel_authentication_token,
            {"auth_req_id": ""},
            id="no-auth-req-id",
        ),
        pytest.param(
            request_token_exchange_token,
            {"subject_token": "", "subject_token_type": ACCESS},
            id="no-subject-token",
        ),
        pytest.param(
            request_token_exchange_token,
            {"subject_token": CANARY, "subject_token_type": ACCESS, "actor_token": CANARY},
            id="actor-without-type",
        ),
        pytest.param(
            request_token_exchange_token,
            {"subject_token": CANARY, "subject_token_type": ACCESS, "actor_token_type": ACCESS},
            id="type-without-actor",
        ),
        pytest.param(
            push_authorization_request,
            {"request": Secret("a.b.c"), "extra": {"request_uri": "urn:x:y"}},
            id="pushed-request-uri",
        ),
        pytest.param(request_backchannel_authentication, {"scope": "openid"}, id="ciba-no-hint"),
        pytest.param(
            request_backchannel_authentication,
            {**HINTED, "id_token_hint": CANARY},
            id="ciba-two-hints",
        ),
        pytest.param(request_backchannel_authentication, {"login_hint": "bob"}, id="ciba-no-scope"),
        pytest.param(
            request_backchannel_authentication, {**HINTED, "request": CANARY}, id="ciba-both"
        ),
        pytest.param(revoke_token, {"token": CANARY, "client_id": ""}, id="no-client-id"),
        pytest.param(
            revoke_token,
            {"token": CANARY, "client_auth": client_secret_post(CANARY)},
            id="two-proofs",
            marks=pytest.mark.case(215),
        ),
        pytest.param(revoke_token, {"token": CANARY, "extra": {"token": "x"}}, id="token-in-extra"),
        pytest.param(revoke_token, {"token": CANARY, "client_secret": ""}, id="empty-secret"),
    ],
)
async def test_misuse_raises_before_anything_is_awaited_or_sent(
    wire: Any, function: Any, arguments: dict[str, Any]
) -> None:
    usual = {"client_id": "app", "client_secret": CANARY}
    with pytest.raises((ConfigurationError, ValueError)) as raised:
        function(wire.http, ADDRESS, **(usual | arguments))
    assert wire.sent == []
    assert CANARY not in shown(raised.value)


async def test_a_secret_given_as_text_is_hidden_before_anything_can_fail(wire: Any) -> None:
    with pytest.raises(TypeError) as raised:
        request_token(object(), ADDRESS, grant="x", client_id="app", client_secret=CANARY)  # type: ignore[call-overload]
    assert CANARY not in shown(raised.value)
    with pytest.raises(TypeError) as raised:
        get_userinfo(wire.http, ADDRESS, access_token=CANARY, unknown=1)  # type: ignore[call-overload]
    assert CANARY not in shown(raised.value)


async def test_every_secret_of_every_function_may_be_text(wire: Any) -> None:
    for name in endpoints.__all__:
        function = getattr(endpoints, name)
        if name == "choose_client_auth" or not callable(function):
            continue
        for parameter in inspect.signature(function).parameters.values():
            kind = str(parameter.annotation)
            if "Secret" in kind and "Mapping" not in kind and "Request" not in kind:
                assert kind in ("Secret | str", "Secret | str | None"), (name, parameter)


async def test_a_client_that_is_closed_or_none_at_all_is_misuse(wire: Any) -> None:
    await wire.aclose()
    with pytest.raises(RuntimeError, match="closed"):
        await wire.call(request_token, ADDRESS, grant="x", client_id="app")
    for other in (None, "https://op.test", object()):
        with pytest.raises(TypeError, match="client of httpx or httpx2"):
            request_token(other, ADDRESS, grant="x", client_id="app")  # type: ignore[call-overload]


def test_the_functions_say_what_they_take() -> None:
    shown = inspect.signature(request_client_credentials_token)
    assert [*shown.parameters][:3] == ["http", "address", "client_id"]
    assert shown.return_annotation == "TokenResponse"
    assert "request_client_credentials_token" in repr(request_client_credentials_token)
    assert all(getattr(endpoints, name).__doc__ for name in endpoints.__all__)


async def test_type_checkers_know_what_comes_back() -> None:
    async def typed(http: httpx.AsyncClient, sync: httpx.Client) -> None:
        # mypy judges this function; nothing runs.
        pending = request_token(http, ADDRESS, grant="x", client_id="a")
        _ = assert_type(pending, Coroutine[None, None, TokenResponse])
        assert_type(await pending, TokenResponse)
        assert_type(request_token(sync, ADDRESS, grant="x", client_id="a"), TokenResponse)
        await request_token(http, ADDRESS, grant=5, client_id="a")  # type: ignore[call-overload]

    assert inspect.iscoroutinefunction(typed)


def shown(error: BaseException) -> str:
    """What an error tracker shows of it: with the variables of every frame of the library."""
    whole = traceback.TracebackException.from_exception(error, capture_locals=True)
    frames = [frame for frame in whole.stack if "/src/tokenward/" in frame.filename]
    assert frames or isinstance(error, TypeError)
    return "".join(f"{frame.name} {frame.locals}" for frame in frames) + str(error)
