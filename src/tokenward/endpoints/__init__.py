"""The provider's endpoints, one function each, on an HTTP client that the caller owns.

    async with httpx.AsyncClient() as http:
        response = await request_client_credentials_token(
            http, metadata.token_endpoint, client_id="app", client_secret=secret, scope="api"
        )
    if response.is_error:
        print(response.error, response.error_description)

`http` is a client of httpx or of httpx2. With an `AsyncClient` the functions are
awaited; with a `Client` they return the same response at once, for workers without an
event loop: there is one function for both, and type checkers know which is which.

What the provider refuses, and what never reached it, are values: look at `is_error`
and `error_type`, or call `raise_for_error()`. Misuse raises when the function is
called, before anything is sent. Secrets may be given as text, and are `Secret`s from
there on. `resource` and `audience` are one text or several. `extra` adds parameters of
the provider's own. Every function takes a `deadline` in seconds, for all of the call.
To the caller's `base_url` an address may be relative.
"""

from .authorization import (
    push_authorization_request,
    request_backchannel_authentication,
    request_device_authorization,
)
from .call import DEADLINE, TOKEN_DEADLINE, choose_client_auth
from .documents import get_discovery_document, get_json_web_key_set
from .end_session import end_session
from .issued_tokens import get_userinfo, introspect_token, revoke_token
from .polling import (
    poll_backchannel_authentication_token,
    poll_device_token,
    request_backchannel_authentication_token,
    request_device_token,
)
from .registration import register_client
from .token_endpoint import (
    request_authorization_code_token,
    request_client_credentials_token,
    request_jwt_bearer_token,
    request_password_token,
    request_refresh_token,
    request_token,
    request_token_exchange_token,
)

__all__ = [
    "DEADLINE",
    "TOKEN_DEADLINE",
    "choose_client_auth",
    "end_session",
    "get_discovery_document",
    "get_json_web_key_set",
    "get_userinfo",
    "introspect_token",
    "poll_backchannel_authentication_token",
    "poll_device_token",
    "push_authorization_request",
    "register_client",
    "request_authorization_code_token",
    "request_backchannel_authentication",
    "request_backchannel_authentication_token",
    "request_client_credentials_token",
    "request_device_authorization",
    "request_device_token",
    "request_jwt_bearer_token",
    "request_password_token",
    "request_refresh_token",
    "request_token",
    "request_token_exchange_token",
    "revoke_token",
]
