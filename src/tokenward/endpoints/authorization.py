"""Requests that begin an authorization without a browser of ours."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import ConfigurationError
from ..protocol.authorization_responses import (
    BackchannelAuthenticationResponse,
    DeviceAuthorizationResponse,
    PushedAuthorizationResponse,
)
from ..protocol.form import check_given, completed, repeated, told
from ..protocol.grants import resources_of
from ..secret import Secret
from .call import DEADLINE, Call, endpoint, form_request, optional_secret

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..protocol.authorization import AuthorizationRequest
    from ..protocol.client_auth import ClientAuth


@endpoint
def request_device_authorization(
    address: str,
    *,
    client_id: str,
    client_secret: Secret | str | None = None,
    client_auth: ClientAuth | None = None,
    scope: str | None = None,
    resource: str | Sequence[str] = (),
    extra: Mapping[str, str | Secret] | None = None,
    deadline: float = DEADLINE,
) -> Call[DeviceAuthorizationResponse]:
    """Begin a login on a device without a browser (RFC 8628, section 3.1).

        device = await request_device_authorization(http, address, client_id="tv", scope="openid")

    The user types `response.user_code` in at `response.verification_uri`, meanwhile
    `poll_device_token` waits for the token. `scope=None`: what the provider gives by
    default.
    """
    form = [*told({"scope": scope}), *repeated("resource", resources_of(resource))]
    request = form_request(
        address,
        completed(form, extra=extra),
        client_id=client_id,
        client_secret=client_secret,
        client_auth=client_auth,
    )
    return Call(request, DeviceAuthorizationResponse, deadline)


@endpoint
def request_backchannel_authentication(
    address: str,
    *,
    client_id: str,
    client_secret: Secret | str | None = None,
    client_auth: ClientAuth | None = None,
    request: Secret | str | None = None,
    scope: str | None = None,
    login_hint: str | None = None,
    login_hint_token: Secret | str | None = None,
    id_token_hint: Secret | str | None = None,
    client_notification_token: Secret | str | None = None,
    acr_values: str | None = None,
    binding_message: str | None = None,
    user_code: Secret | str | None = None,
    requested_expiry: int | None = None,
    resource: str | Sequence[str] = (),
    extra: Mapping[str, str | Secret] | None = None,
    deadline: float = DEADLINE,
) -> Call[BackchannelAuthenticationResponse]:
    """Ask for a user's consent on a device that the provider knows (CIBA Core 1.0, 7.1).

        authentication = await request_backchannel_authentication(
            http,
            address,
            client_id="bank",
            client_secret=secret,
            scope="openid",
            login_hint="bob",
            binding_message="W4SCT",
        )

    Either a signed `request` alone, or `scope` and exactly one of the three hints that
    say who the user is. `requested_expiry` is in seconds. None leaves a parameter out.
    `poll_backchannel_authentication_token` waits for the token. Raises
    `ConfigurationError` for any other combination.
    """
    form = told(
        {
            "request": optional_secret(request, argument="request"),
            "scope": scope,
            "login_hint": login_hint,
            "login_hint_token": optional_secret(login_hint_token, argument="login_hint_token"),
            "id_token_hint": optional_secret(id_token_hint, argument="id_token_hint"),
            "client_notification_token": optional_secret(
                client_notification_token, argument="client_notification_token"
            ),
            "acr_values": acr_values,
            "binding_message": binding_message,
            "user_code": optional_secret(user_code, argument="user_code"),
            "requested_expiry": None if requested_expiry is None else str(requested_expiry),
        }
    )
    form += repeated("resource", resources_of(resource))
    _check_backchannel({name for name, _ in form})
    post = form_request(
        address,
        completed(form, extra=extra),
        client_id=client_id,
        client_secret=client_secret,
        client_auth=client_auth,
    )
    return Call(post, BackchannelAuthenticationResponse, deadline)


@endpoint
def push_authorization_request(
    address: str,
    *,
    client_id: str,
    client_secret: Secret | str | None = None,
    client_auth: ClientAuth | None = None,
    request: AuthorizationRequest | Secret,
    extra: Mapping[str, str | Secret] | None = None,
    deadline: float = DEADLINE,
) -> Call[PushedAuthorizationResponse]:
    """Tell the provider by the back channel what the browser would carry (RFC 9126).

        request = AuthorizationRequest(
            redirect_uri="https://app.example/callback",
            scope="openid",
            state=state,
            nonce=nonce,
            code_challenge=code_challenge(verifier),
        )
        response = await push_authorization_request(
            http, address, client_id="app", client_secret=secret, request=request
        )

    `request` is what would go into the URL, or a request object that is signed already
    (RFC 9101). `authorization.pushed_authorization_url` makes the URL from
    `response.request_uri`. There is no way back to the front channel from here: when
    the push fails, so does the login.
    """
    if isinstance(request, Secret):
        check_given({"request": request})
        form = told({"request": request, "client_id": client_id})
    else:
        form = request.form(client_id)
    # "The request_uri authorization request parameter is one exception, and it MUST NOT be
    # provided." (RFC 9126, section 2.1)
    if "request_uri" in (extra or ()):
        raise ConfigurationError("extra", "`request_uri` cannot be pushed")
    post = form_request(
        address,
        completed(form, extra=extra),
        client_id=client_id,
        client_secret=client_secret,
        client_auth=client_auth,
    )
    return Call(post, PushedAuthorizationResponse, deadline)


def _check_backchannel(given: set[str]) -> None:
    # A signed request has all parameters in it, and none beside it (CIBA Core 1.0, section 7.1.1).
    if "request" in given:
        if len(given) > 1:
            raise ConfigurationError("request", "has all parameters in it; give no others")
        return
    hints = given & {"login_hint", "login_hint_token", "id_token_hint"}
    if len(hints) != 1:
        raise ConfigurationError("login_hint", "give exactly one of the three hints")
    if "scope" not in given:
        raise ConfigurationError("scope", "is missing")
