"""What is asked of the token endpoint: one frozen dataclass per grant, values to form fields.

A grant of your own needs no class: `ExtensionGrant` takes any name and any
parameters. If it deserves one, whatever has `grant_type` and `form()` will do.

`extra` is for parameters of the provider's own; one that the library sets, or that
proves who the client is, raises `ConfigurationError` when the form is made.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, ClassVar, Final, Protocol
from urllib.parse import urlsplit

from ..errors import ConfigurationError
from .form import check_given, check_text, completed, repeated, several, told

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..secret import Secret
    from .form import Form

# Kinds of tokens, not tokens (RFC 8693, section 3).
ACCESS_TOKEN: Final = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105 - a kind
"""A token that this provider issued, to be used at an API, whatever it looks like."""

REFRESH_TOKEN: Final = "urn:ietf:params:oauth:token-type:refresh_token"  # noqa: S105 - a kind
"""A token that this provider issued, to be exchanged for access tokens."""

ID_TOKEN: Final = "urn:ietf:params:oauth:token-type:id_token"  # noqa: S105 - a kind
"""An id_token of OpenID Connect."""

JWT: Final = "urn:ietf:params:oauth:token-type:jwt"
"""A JWT (RFC 7519) that is none of these, or need not be told apart from them."""

SAML1: Final = "urn:ietf:params:oauth:token-type:saml1"
"""A SAML 1.1 assertion, base64url-encoded."""

SAML2: Final = "urn:ietf:params:oauth:token-type:saml2"
"""A SAML 2.0 assertion, base64url-encoded."""


class TokenRequest(Protocol):
    """A grant, as the token endpoint is asked for it (RFC 6749, section 4).

    A value: it may be sent any number of times, by any client. Who the client
    is, and its proof, are added by a `ClientAuth`.
    """

    @property
    def grant_type(self) -> str:
        """The name of the grant, or its URI (RFC 6749, section 4.5)."""
        ...

    def form(self) -> Form:
        """Return the parameters, `grant_type` first, in a new list."""
        ...


@dataclass(frozen=True, slots=True)
class AuthorizationCode:
    """Exchange the code that came to the callback (RFC 6749, section 4.1.3)."""

    grant_type: ClassVar[str] = "authorization_code"

    code: Secret
    _: KW_ONLY
    redirect_uri: str
    """The same text as in the authorization request."""
    code_verifier: Secret | None = None
    """None: the authorization request had no challenge (RFC 7636, section 4.5)."""
    resource: str | Sequence[str] = ()
    """Where the token will be used, one or several; sent in this order (RFC 8707, section 2)."""
    extra: Mapping[str, str | Secret] = field(default_factory=dict, repr=False)
    """Parameters of the provider's own."""

    def __post_init__(self) -> None:
        check_given({"code": self.code, "redirect_uri": self.redirect_uri})
        if self.code_verifier is not None:
            check_given({"code_verifier": self.code_verifier})
        _keep(self, resource=resources_of(self.resource))

    def form(self) -> Form:
        """Return the parameters; `ConfigurationError` if `extra` repeats one of them."""
        fields = told(
            {
                "grant_type": self.grant_type,
                "code": self.code,
                "redirect_uri": self.redirect_uri,
                "code_verifier": self.code_verifier,
            }
        )
        return completed([*fields, *repeated("resource", self.resource)], extra=self.extra)


@dataclass(frozen=True, slots=True)
class RefreshToken:
    """Exchange a refresh token for a new access token (RFC 6749, section 6)."""

    grant_type: ClassVar[str] = "refresh_token"

    refresh_token: Secret
    _: KW_ONLY
    scope: str | None = None
    """Names separated by a space, none that was not granted. None: all that was granted."""
    resource: str | Sequence[str] = ()
    """Where the token will be used, one or several; sent in this order (RFC 8707, section 2)."""
    extra: Mapping[str, str | Secret] = field(default_factory=dict, repr=False)
    """Parameters of the provider's own."""

    def __post_init__(self) -> None:
        check_given({"refresh_token": self.refresh_token})
        _keep(self, resource=resources_of(self.resource))

    def form(self) -> Form:
        """Return the parameters; `ConfigurationError` if `extra` repeats one of them."""
        fields = told(
            {
                "grant_type": self.grant_type,
                "refresh_token": self.refresh_token,
                "scope": self.scope,
            }
        )
        return completed([*fields, *repeated("resource", self.resource)], extra=self.extra)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientCredentials:
    """Ask for a token of the client's own, without a user (RFC 6749, section 4.4)."""

    grant_type: ClassVar[str] = "client_credentials"

    scope: str | None = None
    """Names separated by a space. None: what the provider gives by default."""
    resource: str | Sequence[str] = ()
    """Where the token will be used, one or several; sent in this order (RFC 8707, section 2)."""
    extra: Mapping[str, str | Secret] = field(default_factory=dict, repr=False)
    """Parameters of the provider's own, such as `audience`."""

    def __post_init__(self) -> None:
        _keep(self, resource=resources_of(self.resource))

    def form(self) -> Form:
        """Return the parameters; `ConfigurationError` if `extra` repeats one of them."""
        fields = told({"grant_type": self.grant_type, "scope": self.scope})
        return completed([*fields, *repeated("resource", self.resource)], extra=self.extra)


@dataclass(frozen=True, slots=True)
class Password:
    """Exchange a user's name and password for a token (RFC 6749, section 4.3).

    "The resource owner password credentials grant MUST NOT be used" (RFC 9700,
    section 2.4): for servers that allow nothing else yet.
    """

    grant_type: ClassVar[str] = "password"

    username: str
    _: KW_ONLY
    password: Secret
    """Always sent, also when it is empty."""
    scope: str | None = None
    """Names separated by a space. None: what the provider gives by default."""
    resource: str | Sequence[str] = ()
    """Where the token will be used, one or several; sent in this order (RFC 8707, section 2)."""
    extra: Mapping[str, str | Secret] = field(default_factory=dict, repr=False)
    """Parameters of the provider's own."""

    def __post_init__(self) -> None:
        check_given({"username": self.username})
        check_text("password", self.password)
        _keep(self, resource=resources_of(self.resource))

    def form(self) -> Form:
        """Return the parameters; `ConfigurationError` if `extra` repeats one of them."""
        fields = told(
            {
                "grant_type": self.grant_type,
                "username": self.username,
                "password": self.password,
                "scope": self.scope,
            }
        )
        return completed([*fields, *repeated("resource", self.resource)], extra=self.extra)


@dataclass(frozen=True, slots=True)
class DeviceCode:
    """Ask whether the user has said yes on another device (RFC 8628, section 3.4)."""

    grant_type: ClassVar[str] = "urn:ietf:params:oauth:grant-type:device_code"

    device_code: Secret
    _: KW_ONLY
    resource: str | Sequence[str] = ()
    """Where the token will be used, one or several; sent in this order (RFC 8707, section 2)."""
    extra: Mapping[str, str | Secret] = field(default_factory=dict, repr=False)
    """Parameters of the provider's own."""

    def __post_init__(self) -> None:
        check_given({"device_code": self.device_code})
        _keep(self, resource=resources_of(self.resource))

    def form(self) -> Form:
        """Return the parameters; `ConfigurationError` if `extra` repeats one of them."""
        fields = told({"grant_type": self.grant_type, "device_code": self.device_code})
        return completed([*fields, *repeated("resource", self.resource)], extra=self.extra)


@dataclass(frozen=True, slots=True)
class BackchannelAuthentication:
    """Ask whether the user has said yes to a request made without a browser (CIBA Core, 10.1)."""

    grant_type: ClassVar[str] = "urn:openid:params:grant-type:ciba"

    auth_req_id: Secret
    _: KW_ONLY
    resource: str | Sequence[str] = ()
    """Where the token will be used, one or several; sent in this order (RFC 8707, section 2)."""
    extra: Mapping[str, str | Secret] = field(default_factory=dict, repr=False)
    """Parameters of the provider's own."""

    def __post_init__(self) -> None:
        check_given({"auth_req_id": self.auth_req_id})
        _keep(self, resource=resources_of(self.resource))

    def form(self) -> Form:
        """Return the parameters; `ConfigurationError` if `extra` repeats one of them."""
        fields = told({"grant_type": self.grant_type, "auth_req_id": self.auth_req_id})
        return completed([*fields, *repeated("resource", self.resource)], extra=self.extra)


@dataclass(frozen=True, slots=True)
class TokenExchange:
    """Exchange a token for another one, to act for its subject (RFC 8693, section 2.1)."""

    grant_type: ClassVar[str] = "urn:ietf:params:oauth:grant-type:token-exchange"

    subject_token: Secret
    _: KW_ONLY
    subject_token_type: str = ACCESS_TOKEN
    """What kind of token it is, such as `ACCESS_TOKEN` (RFC 8693, section 3)."""
    actor_token: Secret | None = None
    """Who acts. None: the client itself."""
    actor_token_type: str | None = None
    """What kind the actor's token is; given with it, and never without."""
    requested_token_type: str | None = None
    """What kind is wanted. None: what the provider gives."""
    scope: str | None = None
    """Names separated by a space. None: what the provider gives by default."""
    audience: str | Sequence[str] = ()
    """Names of the services where the token will be used, one or several; sent in this order."""
    resource: str | Sequence[str] = ()
    """Their URIs, one or several; sent in this order (RFC 8707, section 2)."""
    extra: Mapping[str, str | Secret] = field(default_factory=dict, repr=False)
    """Parameters of the provider's own."""

    def __post_init__(self) -> None:
        check_given(
            {"subject_token": self.subject_token, "subject_token_type": self.subject_token_type}
        )
        # "This is REQUIRED when the actor_token parameter is present in the request but MUST NOT
        # be included otherwise."
        if (self.actor_token is None) is not (self.actor_token_type is None):
            raise ConfigurationError("actor_token_type", "comes with actor_token, and never alone")
        if self.actor_token is not None:
            check_given(
                {"actor_token": self.actor_token, "actor_token_type": self.actor_token_type}
            )
        _keep(
            self,
            audience=several("audience", self.audience),
            resource=resources_of(self.resource),
        )

    def form(self) -> Form:
        """Return the parameters; `ConfigurationError` if `extra` repeats one of them."""
        fields = told(
            {
                "grant_type": self.grant_type,
                "subject_token": self.subject_token,
                "subject_token_type": self.subject_token_type,
                "actor_token": self.actor_token,
                "actor_token_type": self.actor_token_type,
                "requested_token_type": self.requested_token_type,
                "scope": self.scope,
            }
        )
        fields += repeated("audience", self.audience)
        return completed([*fields, *repeated("resource", self.resource)], extra=self.extra)


@dataclass(frozen=True, slots=True)
class JWTBearer:
    """Exchange a signed statement for a token (RFC 7523, section 2.1)."""

    grant_type: ClassVar[str] = "urn:ietf:params:oauth:grant-type:jwt-bearer"

    assertion: Secret
    _: KW_ONLY
    scope: str | None = None
    """Names separated by a space. None: what the provider gives by default."""
    resource: str | Sequence[str] = ()
    """Where the token will be used, one or several; sent in this order (RFC 8707, section 2)."""
    extra: Mapping[str, str | Secret] = field(default_factory=dict, repr=False)
    """Parameters of the provider's own, such as Entra's `requested_token_use`."""

    def __post_init__(self) -> None:
        check_given({"assertion": self.assertion})
        _keep(self, resource=resources_of(self.resource))

    def form(self) -> Form:
        """Return the parameters; `ConfigurationError` if `extra` repeats one of them."""
        fields = told(
            {"grant_type": self.grant_type, "assertion": self.assertion, "scope": self.scope}
        )
        return completed([*fields, *repeated("resource", self.resource)], extra=self.extra)


@dataclass(frozen=True, slots=True)
class ExtensionGrant:
    """Ask for a token by a grant that has no class here (RFC 6749, section 4.5).

    ExtensionGrant("delegation", parameters={"token": token}, scope="api")
    """

    grant_type: str
    _: KW_ONLY
    parameters: Mapping[str, str | Secret] = field(default_factory=dict, repr=False)
    """What the grant wants to be told."""
    scope: str | None = None
    """Names separated by a space. None: what the provider gives by default."""
    resource: str | Sequence[str] = ()
    """Where the token will be used, one or several; sent in this order (RFC 8707, section 2)."""

    def __post_init__(self) -> None:
        check_given({"grant_type": self.grant_type})
        _keep(self, resource=resources_of(self.resource))

    def form(self) -> Form:
        """Return the parameters; `ConfigurationError` if one of them is repeated."""
        fields = told({"grant_type": self.grant_type, "scope": self.scope})
        return completed(
            [*fields, *repeated("resource", self.resource)],
            extra=self.parameters,
            argument="parameters",
        )


def resources_of(resource: str | Sequence[str]) -> tuple[str, ...]:
    """Return one or several resources as a tuple; raises what `check_resources` raises."""
    resources = several("resource", resource)
    check_resources(resources)
    return resources


def check_resources(resources: Sequence[str]) -> None:
    """Raise `ConfigurationError` unless each is an absolute URI (RFC 8707, section 2)."""
    for resource in resources:
        if not _is_absolute(resource):
            raise ConfigurationError("resource", "must be absolute URIs without a fragment")


def _is_absolute(uri: str) -> bool:
    try:
        parts = urlsplit(uri)
    except ValueError:
        return False
    return bool(parts.scheme and (parts.netloc or parts.path)) and "#" not in uri


def _keep(grant: TokenRequest, **several_values: tuple[str, ...]) -> None:
    # Whatever list it came in, a value holds what nobody can change.
    for name, values in several_values.items():
        object.__setattr__(grant, name, values)
