"""The way to the provider's login page, and what comes back from it.

`authorization_url` makes the request (OpenID Connect Core 1.0, section 3.1.2.1).
`read_callback` reads the answer, and `check_callback` judges it. They are two
steps because the state that was read finds the login attempt to judge by: what
`read_callback` or `state_mismatch` refuses belongs to no attempt and ends none;
after any other refusal of `check_callback` the attempt is over.

`LoginFailed.reason` is one of `CallbackReason`:

    callback_too_large     more than we read: of all, of `code` or of `state`
    callback_malformed     invalid percent-encoding, no UTF-8, or characters no value has
    parameter_repeated     a parameter came twice; the detail names it
    state_missing          nothing says which login attempt is meant
    token_in_callback      a token came through the browser, where none was asked for
    jarm_not_expected      a JWT-secured answer came, where none was asked for
    state_mismatch         the answer to another login attempt
    issuer_missing         the provider tells `iss`, but not this time
    issuer_mismatch        the answer of another provider
    error_and_code         both a refusal and a code
    code_missing           neither a refusal nor a code
    access_denied, login_required ...   what the provider said, if it is a registered word
    provider_error         the provider said another word; the detail quotes it
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args
from urllib.parse import parse_qsl

from authlib.oauth2.rfc7636 import create_s256_code_challenge

from ..errors import ConfigurationError, InvalidMetadata, LoginFailed
from ..secret import Secret
from .form import check_given, completed, decode_form, encode_form, repeated, told
from .grants import resources_of
from .responses import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from .form import Form

ResponseMode: TypeAlias = Literal["query", "form_post"]
"""How the answer comes: in the callback's URL, or in the body of a POST."""

ProviderReason: TypeAlias = Literal[
    # RFC 6749, section 4.1.2.1
    "invalid_request",
    "unauthorized_client",
    "access_denied",
    "unsupported_response_type",
    "invalid_scope",
    "server_error",
    "temporarily_unavailable",
    # OpenID Connect Core 1.0, section 3.1.2.6
    "interaction_required",
    "login_required",
    "account_selection_required",
    "consent_required",
    # RFC 8707, section 2; OpenID Connect Core Error Code unmet_authentication_requirements 1.0
    "invalid_target",
    "unmet_authentication_requirements",
]
"""The registered words that a provider may refuse a login with."""

CallbackReason: TypeAlias = (
    Literal[
        "callback_too_large",
        "callback_malformed",
        "parameter_repeated",
        "state_missing",
        "token_in_callback",
        "jarm_not_expected",
        "state_mismatch",
        "issuer_missing",
        "issuer_mismatch",
        "error_and_code",
        "code_missing",
        "provider_error",
    ]
    | ProviderReason
)
"""Every `reason` of the `LoginFailed` raised here. The module's docstring explains them."""

RESERVED_PARAMETERS: Final = frozenset(
    {
        "client_id",
        "code_challenge",
        "code_challenge_method",
        "nonce",
        "redirect_uri",
        "request",
        "request_uri",
        "response_mode",
        "response_type",
        "scope",
        "state",
    }
)
"""What nobody may add to an authorization request: the library sets it, or it would replace it."""

MAX_URL: Final = 8 * 1024
"""Characters of an authorization URL: what servers commonly accept as a request line."""

MAX_CALLBACK: Final = 16 * 1024
"""Bytes of a callback's query or body, before decoding."""

_MAX_CODE: Final = 4 * 1024
_MAX_STATE: Final = 512
_MAX_FIELDS: Final = 50

_ONCE: Final = ("state", "code", "iss", "error", "error_description")
_TOKENS: Final = ("access_token", "id_token", "refresh_token")

_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})
_s256: Final[Callable[[str], str]] = create_s256_code_challenge
_VERIFIER: Final = re.compile(r"[A-Za-z0-9._~-]{43,128}")
# 1*VSCHAR for code and state (RFC 6749, appendix A.5 and A.11); a URL for iss
_VISIBLE: Final = re.compile(r"[\x21-\x7e]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class CallbackParameters:
    """What came to the callback. Nothing of it is true before `check_callback` says so."""

    state: Secret
    """Never empty. It finds the login attempt."""
    code: Secret | None = None
    """None: none came, or an empty one."""
    iss: str | None = None
    """Who says that it answers (RFC 9207). None: nobody; empty: sent without a value."""
    error: str | None = None
    """The provider's word for the refusal, `printable`. None: no refusal."""
    error_description: str | None = field(default=None, repr=False)
    """Its text for developers, `printable`. For the log; never shown to a browser."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorizationRequest:
    """What the provider is asked at login (OIDC Core 3.1.2.1); good for one attempt.

    It always asks for a code, with state, nonce and PKCE by S256. None leaves a
    parameter out. Raises `ConfigurationError` for another response mode, for what is
    required and empty, and for a resource that is no absolute URI.
    """

    redirect_uri: str
    scope: str
    """Names separated by a space."""
    state: Secret
    nonce: Secret
    code_challenge: str
    response_mode: ResponseMode = "query"
    prompt: str | None = None
    login_hint: str | None = None
    ui_locales: str | None = None
    acr_values: str | None = None
    max_age: int | None = None
    """Seconds since the user last proved who he is; 0 asks for a new login."""
    resource: str | Sequence[str] = ()
    """Where the tokens will be used, one or several; sent in this order (RFC 8707, section 2)."""
    extra: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Parameters of the provider's own."""

    def __post_init__(self) -> None:
        if self.response_mode not in get_args(ResponseMode):
            raise ConfigurationError("response_mode", "must be `query` or `form_post`")
        check_given(
            {
                "redirect_uri": self.redirect_uri,
                "scope": self.scope,
                "state": self.state,
                "nonce": self.nonce,
                "code_challenge": self.code_challenge,
            }
        )
        object.__setattr__(self, "resource", resources_of(self.resource))

    def form(self, client_id: str) -> Form:
        """Return the parameters; `ConfigurationError` if `extra` repeats one of them."""
        check_extra_parameters(self.extra)
        fields = told(
            {
                "response_type": "code",
                "client_id": client_id,
                "redirect_uri": self.redirect_uri,
                "scope": self.scope,
                "state": self.state,
                "nonce": self.nonce,
                "code_challenge": self.code_challenge,
                "code_challenge_method": "S256",
                "response_mode": None if self.response_mode == "query" else self.response_mode,
                "prompt": self.prompt,
                "login_hint": self.login_hint,
                "ui_locales": self.ui_locales,
                "acr_values": self.acr_values,
                "max_age": None if self.max_age is None else str(self.max_age),
            }
        )
        fields += repeated("resource", self.resource)
        return completed(fields, extra=self.extra, argument="authorize_parameters")

    def url(self, endpoint: str, *, client_id: str) -> str:
        """Return the URL that sends the browser to the provider. Holds secrets.

        Raises `ConfigurationError` for a URL longer than `MAX_URL`, and
        `InvalidMetadata` for an endpoint that already has one of the parameters.
        """
        return _extended(endpoint, self.form(client_id))


def new_state() -> Secret:
    """Make the value that ties the callback to one login attempt: 256 random bits."""
    return Secret(secrets.token_urlsafe(32))


def new_nonce() -> Secret:
    """Make the value that ties the id_token to one login attempt: 256 random bits."""
    return Secret(secrets.token_urlsafe(32))


def new_code_verifier() -> Secret:
    """Make the value that proves who asked for the code: 256 random bits (RFC 7636, 4.1)."""
    return Secret(secrets.token_urlsafe(32))


def code_challenge(verifier: Secret) -> str:
    """Return what the provider is told of the verifier, by S256 (RFC 7636, section 4.2).

    Raises `ValueError` if it is not 43 to 128 unreserved characters (section 4.1).
    """
    if not _VERIFIER.fullmatch(verifier.reveal()):
        raise ValueError("code_verifier is not 43 to 128 unreserved characters")
    return _s256(verifier.reveal())


def check_extra_parameters(extra: Mapping[str, str]) -> None:
    """Refuse additions to the authorization request that would undo its protection.

    Raises `ConfigurationError` for a name in `RESERVED_PARAMETERS`.
    """
    for name in sorted(RESERVED_PARAMETERS.intersection(extra)):
        raise ConfigurationError("authorize_parameters", f"`{name}` is set by the library")


def authorization_url(
    endpoint: str,
    *,
    client_id: str,
    redirect_uri: str,
    scope: str,
    state: Secret,
    nonce: Secret,
    code_challenge: str,
    response_mode: ResponseMode = "query",
    prompt: str | None = None,
    login_hint: str | None = None,
    ui_locales: str | None = None,
    acr_values: str | None = None,
    max_age: int | None = None,
    resource: str | Sequence[str] = (),
    extra: Mapping[str, str] = _NOTHING,
) -> str:
    """Return the URL that sends the browser to the provider (OIDC Core 3.1.2.1).

    The parameters are those of `AuthorizationRequest`. Holds secrets.

    Raises `ConfigurationError` for another response mode, for an `extra` that
    repeats a parameter, and for a URL longer than `MAX_URL`; `InvalidMetadata`
    for an endpoint that already has one of the parameters.
    """
    request = AuthorizationRequest(
        redirect_uri=redirect_uri,
        scope=scope,
        state=state,
        nonce=nonce,
        code_challenge=code_challenge,
        response_mode=response_mode,
        prompt=prompt,
        login_hint=login_hint,
        ui_locales=ui_locales,
        acr_values=acr_values,
        max_age=max_age,
        resource=resource,
        extra=extra,
    )
    return request.url(endpoint, client_id=client_id)


def pushed_authorization_url(endpoint: str, *, client_id: str, request_uri: str) -> str:
    """Return the URL for a request that was pushed: nothing but who asks, and for which.

    "The client MUST only send the `client_id` and `request_uri` request parameters"
    (FAPI 2.0 Security Profile, section 5.3.3.2; RFC 9126, section 4). Raises
    `InvalidMetadata` for an endpoint that already has one of the parameters.
    """
    return _extended(endpoint, [("client_id", client_id), ("request_uri", request_uri)])


def read_callback(encoded: bytes, *, max_bytes: int = MAX_CALLBACK) -> CallbackParameters:
    """Read the callback's raw query string, or its raw body for `form_post`.

    Parameters without a meaning here are ignored (RFC 6749, section 4.1.2).
    Raises `LoginFailed`, and then nobody knows which login attempt was meant.
    """
    outcome = _read(encoded, max_bytes)
    del encoded  # a traceback with locals must not show the code
    if isinstance(outcome, LoginFailed):
        raise outcome
    return outcome


def check_callback(
    parameters: CallbackParameters, *, state: Secret, issuer: str, iss_parameter_supported: bool
) -> Secret:
    """Judge the answer to the login attempt that has this `state`, and return the code.

    `issuer` is the provider that the attempt was sent to, and
    `iss_parameter_supported` its `authorization_response_iss_parameter_supported`.
    State comes first: a refusal that anybody may have made up ends no attempt.

    Raises `LoginFailed`.
    """
    if not state or parameters.state != state:
        raise _failed("state_mismatch")
    # RFC 9207, section 2.4: compared as text, and for refusals too.
    if parameters.iss is None and iss_parameter_supported:
        raise _failed("issuer_missing")
    if parameters.iss is not None and parameters.iss != issuer:
        raise _failed("issuer_mismatch")
    if parameters.error is not None and parameters.code is not None:
        raise _failed("error_and_code")
    if parameters.error is not None:
        raise _refused(parameters.error, parameters.error_description)
    if parameters.code is None:
        raise _failed("code_missing")
    return parameters.code


def _extended(endpoint: str, fields: Form) -> str:
    set_here = {name for name, _ in fields}
    # "The endpoint URI MAY include an "application/x-www-form-urlencoded" formatted query
    # component, which MUST be retained when adding additional query parameters. The endpoint URI
    # MUST NOT include a fragment component." (RFC 6749, section 3.1)
    base, _, present = endpoint.partition("?")
    if "#" in endpoint:
        raise InvalidMetadata("authorization_endpoint", "has a fragment")
    for name, _ in parse_qsl(present, keep_blank_values=True):
        if name in set_here or name in RESERVED_PARAMETERS:
            raise InvalidMetadata("authorization_endpoint", f"already has `{name}`")
    query = encode_form(fields)
    separator = "&" if present and not present.endswith("&") else ""
    length = len(base) + 1 + len(present) + len(separator) + len(query)
    if length > MAX_URL:
        raise ConfigurationError(
            "authorize_parameters",
            f"the authorization URL has {length} characters, and {MAX_URL} is what servers take;"
            " send less, or by pushed authorization requests (PAR, RFC 9126)",
        )
    return f"{base}?{present}{separator}{query.reveal()}"


def _read(encoded: bytes, max_bytes: int) -> CallbackParameters | LoginFailed:
    # Sizes come first: nothing large is decoded, hashed or looked up.
    if len(encoded) > max_bytes or encoded.count(b"&") >= _MAX_FIELDS:
        return _failed("callback_too_large")
    fields = decode_form(encoded)
    if fields is None:
        return _failed("callback_malformed")
    names = [name for name, _ in fields]
    # "Request and response parameters MUST NOT be included more than once."
    # (RFC 6749, section 3.1)
    for name in _ONCE:
        if names.count(name) > 1:
            return _failed("parameter_repeated", name)
    if any(name in names for name in _TOKENS):
        return _failed("token_in_callback")
    if "response" in names:
        return _failed("jarm_not_expected")
    return _parameters(dict(fields))


def _parameters(values: dict[str, Secret]) -> CallbackParameters | LoginFailed:
    # "Parameters sent without a value MUST be treated as if they were omitted" (RFC 6749,
    # section 3.1); an empty iss is kept, to be refused as the wrong one.
    absent = Secret("")
    state, code, iss = (values.get(name, absent) for name in ("state", "code", "iss"))
    error, description = (values.get(name, absent) for name in ("error", "error_description"))
    if len(code) > _MAX_CODE or len(state) > _MAX_STATE:
        return _failed("callback_too_large")
    if not all(_VISIBLE.fullmatch(value.reveal()) for value in (state, code, iss)):
        return _failed("callback_malformed")
    if not state:
        return _failed("state_missing")
    return CallbackParameters(
        state=state,
        code=code or None,
        iss=iss.reveal() if "iss" in values else None,
        error=printable(error.reveal()) or None,
        error_description=printable(description.reveal()) or None,
    )


def _refused(error: str, description: str | None) -> LoginFailed:
    for reason in get_args(ProviderReason):
        if reason == error:
            return _failed(reason, description or "")
    return _failed("provider_error", printable(f"{error}: {description}" if description else error))


def _failed(reason: CallbackReason, detail: str = "") -> LoginFailed:
    return LoginFailed(reason, detail)
