"""What can be done with a token once it is there: ask about it, use it, give it back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..clock import system_clock
from ..errors import ConfigurationError
from ..protocol.form import completed, encode_form, told
from ..protocol.introspection import IntrospectionResponse
from ..protocol.responses import RevocationResponse, UserInfoResponse
from ..protocol.signed_answer import (
    INTROSPECTION_JWT,
    USERINFO_JWT,
    judge_introspection,
    judge_userinfo,
)
from ..secret import Secret
from ..transport import Request
from .call import DEADLINE, FORM_TYPE, JSON_TYPE, Call, endpoint, form_request, required_secret

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..clock import Clock
    from ..protocol.client_auth import ClientAuth, Headers
    from ..protocol.signed_answer import AnswerSigner


@endpoint
def introspect_token(
    address: str,
    *,
    token: Secret | str,
    client_id: str,
    client_secret: Secret | str | None = None,
    client_auth: ClientAuth | None = None,
    token_type_hint: str | None = None,
    signer: AnswerSigner | None = None,
    extra: Mapping[str, str | Secret] | None = None,
    clock: Clock = system_clock,
    deadline: float = DEADLINE,
) -> Call[IntrospectionResponse]:
    """Ask what a token is worth (RFC 7662). Look at `response.active`.

        response = await introspect_token(
            http, address, token=token, client_id="api", client_secret=secret
        )

    `token_type_hint`: `refresh_token` or `access_token`; None lets the provider search.
    With a `signer` the answer is asked for as a JWT (RFC 9701), and it must be one that
    he signed; None: as JSON. `clock` gives the time to judge it by.
    """
    request = form_request(
        address,
        completed(
            told(
                {
                    "token": required_secret(token, argument="token"),
                    "token_type_hint": token_type_hint,
                }
            ),
            extra=extra,
        ),
        client_id=client_id,
        client_secret=client_secret,
        client_auth=client_auth,
        accept=JSON_TYPE if signer is None else INTROSPECTION_JWT,
    )
    if signer is None:
        return Call(request, IntrospectionResponse, deadline)
    return Call(
        request,
        IntrospectionResponse,
        deadline,
        judge=lambda response: judge_introspection(response, signer=signer, now=clock()),
    )


@endpoint
def revoke_token(
    address: str,
    *,
    token: Secret | str,
    client_id: str,
    client_secret: Secret | str | None = None,
    client_auth: ClientAuth | None = None,
    token_type_hint: str | None = None,
    extra: Mapping[str, str | Secret] | None = None,
    deadline: float = DEADLINE,
) -> Call[RevocationResponse]:
    """Give a token back (RFC 7009). That it is unknown already is a success.

        await revoke_token(
            http,
            address,
            token=refresh_token,
            token_type_hint="refresh_token",
            client_id="app",
            client_secret=secret,
        )

    `token_type_hint`: `refresh_token` or `access_token`; None lets the provider search.
    """
    request = form_request(
        address,
        completed(
            told(
                {
                    "token": required_secret(token, argument="token"),
                    "token_type_hint": token_type_hint,
                }
            ),
            extra=extra,
        ),
        client_id=client_id,
        client_secret=client_secret,
        client_auth=client_auth,
    )
    return Call(request, RevocationResponse, deadline)


@endpoint
def get_userinfo(
    address: str,
    *,
    access_token: Secret | str,
    signer: AnswerSigner | None = None,
    extra: Mapping[str, str | Secret] | None = None,
    clock: Clock = system_clock,
    deadline: float = DEADLINE,
) -> Call[UserInfoResponse]:
    """Ask who the user of an access token is (OpenID Connect Core 1.0, section 5.3).

        response = await get_userinfo(http, address, access_token=token)
        claims = validate_userinfo(response.json or {}, sub=id_token.sub)

    Whether the answer speaks of the user who logged in is for
    `protocol.id_token.validate_userinfo` to say. With a `signer` the answer must be a
    JWT that he signed, which is so for clients that are registered with
    `userinfo_signed_response_alg`; None: it must be JSON. `clock` gives the time to
    judge it by. With `extra`, for parameters of the provider's own, it is a POST.
    """
    headers: Headers = {
        "accept": JSON_TYPE if signer is None else USERINFO_JWT,
        "authorization": bearer(required_secret(access_token, argument="access_token")),
    }
    request = (
        Request("GET", address, headers=headers)
        if extra is None
        else _post(address, extra, headers)
    )
    if signer is None:
        return Call(request, UserInfoResponse, deadline)
    return Call(
        request,
        UserInfoResponse,
        deadline,
        judge=lambda response: judge_userinfo(response, signer=signer, now=clock()),
    )


def _post(address: str, extra: Mapping[str, str | Secret], headers: Headers) -> Request:
    # "Clients MUST NOT use more than one method to transmit the token in each request."
    # (RFC 6750, section 2)
    if "access_token" in extra:
        raise ConfigurationError("extra", "`access_token` is in the header already")
    body = encode_form(completed([], extra=extra))
    return Request("POST", address, headers={**headers, "content-type": FORM_TYPE}, body=body)


def bearer(token: Secret) -> Secret:
    """Return the value of an Authorization header (RFC 6750, section 2.1)."""
    return Secret(f"Bearer {token.reveal()}")
