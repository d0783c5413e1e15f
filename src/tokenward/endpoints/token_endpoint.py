"""The token endpoint: one function for each grant (RFC 6749, section 3.2)."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import TYPE_CHECKING

from ..errors import InvalidResponse
from ..protocol.form import as_secret, check_given, completed
from ..protocol.grants import (
    AuthorizationCode,
    ClientCredentials,
    ExtensionGrant,
    JWTBearer,
    Password,
    RefreshToken,
    TokenExchange,
)
from ..protocol.responses import TokenResponse
from .call import TOKEN_DEADLINE, Call, endpoint, form_request, optional_secret

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..protocol.client_auth import ClientAuth
    from ..protocol.grants import TokenRequest
    from ..secret import Secret


def token_call(
    address: str,
    *,
    grant: TokenRequest,
    client_id: str | None,
    client_secret: Secret | str | None,
    client_auth: ClientAuth | None,
    deadline: float,
    extra: Mapping[str, str | Secret] | None = None,
) -> Call[TokenResponse]:
    """Describe what all functions of this module send."""
    request = form_request(
        address,
        completed(grant.form(), extra=extra),
        client_id=client_id,
        client_secret=client_secret,
        client_auth=client_auth,
    )
    return Call(request, TokenResponse, deadline)


@endpoint
def request_token(
    address: str,
    *,
    grant: TokenRequest | str,
    client_id: str | None,
    client_secret: Secret | str | None = None,
    client_auth: ClientAuth | None = None,
    extra: Mapping[str, str | Secret] | None = None,
    deadline: float = TOKEN_DEADLINE,
) -> Call[TokenResponse]:
    """Ask the token endpoint at `address` for what `grant` stands for (RFC 6749, section 3.2).

        response = await request_token(
            http,
            "https://op.example/token",
            grant="custom",
            client_id="client",
            client_secret=secret,
            extra={"custom_parameter": "custom value", "scope": "api1"},
        )

    `grant` is a grant's name, one of the classes of `protocol.grants`, or anything with
    `grant_type` and `form()`. The client proves itself by `client_auth`; `client_secret`
    alone means `client_secret_basic`, and neither means a public client.
    `client_id=None`: the request is about no client (RFC 7521, section 4.1). It is
    never sent again once it may have been received. All functions for a single grant go
    the same way.
    """
    if isinstance(grant, str):
        check_given({"grant": grant})
        grant = ExtensionGrant(grant)
    return token_call(
        address,
        grant=grant,
        client_id=client_id,
        client_secret=client_secret,
        client_auth=client_auth,
        extra=extra,
        deadline=deadline,
    )


@endpoint
def request_client_credentials_token(
    address: str,
    *,
    client_id: str,
    client_secret: Secret | str | None = None,
    client_auth: ClientAuth | None = None,
    scope: str | None = None,
    resource: str | Sequence[str] = (),
    extra: Mapping[str, str | Secret] | None = None,
    deadline: float = TOKEN_DEADLINE,
) -> Call[TokenResponse]:
    """Ask for a token of the client's own, without a user (RFC 6749, section 4.4).

        response = await request_client_credentials_token(
            http, address, client_id="worker", client_secret=secret, scope="api"
        )

    `scope=None`: what the provider gives by default. `resource`: where the token will
    be used (RFC 8707).
    """
    grant = ClientCredentials(scope=scope, resource=resource)
    return token_call(
        address,
        grant=grant,
        client_id=client_id,
        client_secret=client_secret,
        client_auth=client_auth,
        extra=extra,
        deadline=deadline,
    )


@endpoint
def request_password_token(
    address: str,
    *,
    client_id: str,
    client_secret: Secret | str | None = None,
    client_auth: ClientAuth | None = None,
    username: str,
    password: Secret | str,
    scope: str | None = None,
    resource: str | Sequence[str] = (),
    extra: Mapping[str, str | Secret] | None = None,
    deadline: float = TOKEN_DEADLINE,
) -> Call[TokenResponse]:
    """Exchange a user's name and password for a token (RFC 6749, section 4.3).

        response = await request_password_token(
            http, address, client_id="legacy", username="bob", password=password, scope="api"
        )

    For servers that allow nothing else yet: it "MUST NOT be used" (RFC 9700, section
    2.4). An empty password is sent.
    """
    grant = Password(
        username, password=as_secret(password, argument="password"), scope=scope, resource=resource
    )
    return token_call(
        address,
        grant=grant,
        client_id=client_id,
        client_secret=client_secret,
        client_auth=client_auth,
        extra=extra,
        deadline=deadline,
    )


@endpoint
def request_authorization_code_token(
    address: str,
    *,
    client_id: str,
    client_secret: Secret | str | None = None,
    client_auth: ClientAuth | None = None,
    code: Secret | str,
    redirect_uri: str,
    code_verifier: Secret | str | None,
    resource: str | Sequence[str] = (),
    extra: Mapping[str, str | Secret] | None = None,
    deadline: float = TOKEN_DEADLINE,
) -> Call[TokenResponse]:
    """Exchange the code of a login for tokens (RFC 6749, section 4.1.3; RFC 7636, 4.5).

        response = await request_authorization_code_token(
            http,
            address,
            client_id="app",
            client_secret=secret,
            code=check_callback(callback, state=state, issuer=issuer, iss_parameter_supported=True),
            redirect_uri="https://app.example/callback",
            code_verifier=verifier,
        )

    `code_verifier=None`: the authorization request had no challenge. The id_token
    in the answer is not validated here; `protocol.id_token` does that.
    """
    grant = AuthorizationCode(
        as_secret(code, argument="code"),
        redirect_uri=redirect_uri,
        code_verifier=optional_secret(code_verifier, argument="code_verifier"),
        resource=resource,
    )
    return token_call(
        address,
        grant=grant,
        client_id=client_id,
        client_secret=client_secret,
        client_auth=client_auth,
        extra=extra,
        deadline=deadline,
    )


@endpoint
def request_refresh_token(
    address: str,
    *,
    client_id: str,
    client_secret: Secret | str | None = None,
    client_auth: ClientAuth | None = None,
    refresh_token: Secret | str,
    scope: str | None = None,
    resource: str | Sequence[str] = (),
    extra: Mapping[str, str | Secret] | None = None,
    deadline: float = TOKEN_DEADLINE,
) -> Call[TokenResponse]:
    """Exchange a refresh token for a new access token (RFC 6749, section 6).

        response = await request_refresh_token(
            http, address, client_id="app", client_secret=secret, refresh_token=refresh_token
        )
        refresh_token = response.refresh_token or refresh_token

    `scope=None`: everything that was granted. Providers that rotate take a refresh
    token once: when the answer is lost (`exception.may_have_been_sent`), it may be
    spent.
    """
    grant = RefreshToken(
        as_secret(refresh_token, argument="refresh_token"), scope=scope, resource=resource
    )
    return token_call(
        address,
        grant=grant,
        client_id=client_id,
        client_secret=client_secret,
        client_auth=client_auth,
        extra=extra,
        deadline=deadline,
    )


@endpoint
def request_jwt_bearer_token(
    address: str,
    *,
    client_id: str | None,
    client_secret: Secret | str | None = None,
    client_auth: ClientAuth | None = None,
    assertion: Secret | str,
    scope: str | None = None,
    resource: str | Sequence[str] = (),
    extra: Mapping[str, str | Secret] | None = None,
    deadline: float = TOKEN_DEADLINE,
) -> Call[TokenResponse]:
    """Exchange a signed statement for a token (RFC 7523, section 2.1).

        response = await request_jwt_bearer_token(http, address, client_id=None, assertion=jwt)

    `assertion` is a JWT that the provider trusts the signer of. `client_id=None`: it says
    all there is to say, as for service accounts of Google.
    """
    grant = JWTBearer(as_secret(assertion, argument="assertion"), scope=scope, resource=resource)
    return token_call(
        address,
        grant=grant,
        client_id=client_id,
        client_secret=client_secret,
        client_auth=client_auth,
        extra=extra,
        deadline=deadline,
    )


@endpoint
def request_token_exchange_token(
    address: str,
    *,
    client_id: str | None,
    client_secret: Secret | str | None = None,
    client_auth: ClientAuth | None = None,
    subject_token: Secret | str,
    subject_token_type: str,
    actor_token: Secret | str | None = None,
    actor_token_type: str | None = None,
    requested_token_type: str | None = None,
    scope: str | None = None,
    audience: str | Sequence[str] = (),
    resource: str | Sequence[str] = (),
    extra: Mapping[str, str | Secret] | None = None,
    deadline: float = TOKEN_DEADLINE,
) -> Call[TokenResponse]:
    """Exchange a token for another one, to act for its subject (RFC 8693).

        response = await request_token_exchange_token(
            http,
            address,
            client_id="api",
            client_secret=secret,
            subject_token=token,
            subject_token_type=ACCESS_TOKEN,
            audience=("orders",),
        )

    The kinds of tokens are URIs, such as `protocol.grants.ACCESS_TOKEN` (section 3);
    `response.issued_token_type` tells what came. An answer without it, or of another
    kind than `requested_token_type`, is an error. `token_type` is `N_A` when what came
    is no access token. `client_id=None`: the request is about no client.
    """
    grant = TokenExchange(
        as_secret(subject_token, argument="subject_token"),
        subject_token_type=subject_token_type,
        actor_token=optional_secret(actor_token, argument="actor_token"),
        actor_token_type=actor_token_type,
        requested_token_type=requested_token_type,
        scope=scope,
        audience=audience,
        resource=resource,
    )
    call = token_call(
        address,
        grant=grant,
        client_id=client_id,
        client_secret=client_secret,
        client_auth=client_auth,
        extra=extra,
        deadline=deadline,
    )
    return replace(call, judge=functools.partial(_judge_exchange, requested=requested_token_type))


def _judge_exchange(response: TokenResponse, *, requested: str | None) -> TokenResponse:
    issued = response.issued_token_type
    if response.is_error:
        return response
    # RFC 8693, section 2.2.1: REQUIRED
    if not issued:
        return response.failed(InvalidResponse("issued_token_type", "is missing"))
    if requested is not None and issued != requested:
        return response.failed(InvalidResponse("issued_token_type", "is not what was requested"))
    return response
