"""Who may use the provider: the clients registered with it, and the users it knows."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

JSON: TypeAlias = "bool | int | float | str | Sequence[JSON] | Mapping[str, JSON] | None"
"""What a JSON text can hold."""

GrantType: TypeAlias = Literal[
    "authorization_code",
    "refresh_token",
    "client_credentials",
    "password",
    "urn:ietf:params:oauth:grant-type:device_code",
    "urn:ietf:params:oauth:grant-type:jwt-bearer",
    "urn:ietf:params:oauth:grant-type:token-exchange",
    "urn:openid:params:grant-type:ciba",
]
ClientAuthMethod: TypeAlias = Literal[
    "client_secret_basic",
    "client_secret_post",
    "client_secret_jwt",
    "private_key_jwt",
]
SigningAlg: TypeAlias = Literal["RS256", "PS256", "ES256", "EdDSA"]

DEVICE_CODE: Final = "urn:ietf:params:oauth:grant-type:device_code"
"""RFC 8628, section 3.4."""
JWT_BEARER: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
"""RFC 7523, section 2.1."""
TOKEN_EXCHANGE: Final = "urn:ietf:params:oauth:grant-type:token-exchange"  # noqa: S105 - a grant
"""RFC 8693, section 2.1."""
CIBA: Final = "urn:openid:params:grant-type:ciba"
"""OpenID Connect CIBA Core 1.0, section 10.1."""
USUAL_GRANTS: Final[tuple[GrantType, ...]] = (
    "authorization_code",
    "refresh_token",
    "client_credentials",
)
"""What a client has unless it is told otherwise, and what every provider supports."""

IDENTITY_SCOPES = frozenset({"openid", "profile", "email", "address", "phone", "offline_access"})
"""Scopes about a user; no client gets them for itself."""

SCOPE_CLAIMS: Mapping[str, frozenset[str]] = {
    "profile": frozenset(
        {
            "name",
            "family_name",
            "given_name",
            "middle_name",
            "nickname",
            "preferred_username",
            "profile",
            "picture",
            "website",
            "gender",
            "birthdate",
            "zoneinfo",
            "locale",
            "updated_at",
        }
    ),
    "email": frozenset({"email", "email_verified"}),
    "address": frozenset({"address"}),
    "phone": frozenset({"phone_number", "phone_number_verified"}),
}
"""Which claims a scope asks for (OIDC Core, section 5.4)."""


@dataclass(frozen=True, slots=True)
class Client:
    """A registered client, with what it may do.

    Client("app", redirect_uris=["https://app.test/auth/callback"])
    """

    client_id: str
    _: KW_ONLY
    secrets: Sequence[str] = field(default=("secret",), repr=False)
    """Any of them is accepted. Empty: a public client, which sends its id alone, unless it
    may prove itself with `private_key_jwt`."""
    grant_types: Sequence[GrantType] = USUAL_GRANTS
    """What it may ask of the token endpoint."""
    token_endpoint_auth_methods: Sequence[ClientAuthMethod] = (
        "client_secret_basic",
        "client_secret_post",
    )
    """How it may prove itself."""
    jwks: Mapping[str, JSON] | None = None
    """Its public keys (RFC 7517), for `private_key_jwt` and for assertions of its own."""
    assertion_audience: Literal["issuer", "token_endpoint"] = "issuer"
    """What `aud` of its assertions must be, as one string. Old clients name the endpoint."""
    require_pushed_authorization_requests: bool = False
    """Whether it must push its authorization requests (RFC 9126, section 6)."""
    redirect_uris: Sequence[str] = ()
    """Compared as strings, exactly (RFC 9700, section 2.1)."""
    post_logout_redirect_uris: Sequence[str] = ()
    """Compared as strings, exactly."""
    allow_offline_access: bool = True
    """Whether it may ask for `offline_access`, which is what gives refresh tokens."""
    scopes: Sequence[str] = ("openid", "profile", "email", "api", "offline_access")
    """What it may ask for; anything else is `invalid_scope`."""
    resources: Sequence[str] | None = None
    """Resource indicators it may ask for (RFC 8707), and audiences at a token exchange.
    None: any that is well formed."""
    audience: Sequence[str] = ()
    """`aud` of its access tokens when no resource was asked for. Empty: the issuer."""
    access_token_type: Literal["opaque", "jwt"] = "opaque"  # noqa: S105 - a kind of token
    """`jwt`: RFC 9068, with `typ` `at+jwt`."""
    access_token_lifetime: int = 3600
    """Seconds."""
    id_token_lifetime: int = 300
    """Seconds."""
    refresh_token_lifetime: int = 30 * 24 * 3600
    """Seconds since the login; a rotation does not extend it."""
    refresh_token_rotation: bool = True
    """False: the same refresh token is good for the whole lifetime."""
    refresh_token_overlap: float = 0.0
    """Seconds during which a rotated refresh token may be used again."""
    id_token_on_refresh: bool = True
    """Whether a refresh brings a new id_token (OIDC Core, section 12.2, leaves it open)."""
    id_token_signed_response_alg: SigningAlg = "RS256"  # noqa: S105 - an algorithm
    """What its id_tokens are signed with."""
    userinfo_signed_response_alg: SigningAlg | None = None
    """What userinfo is signed with. None: plain JSON."""
    introspection_signed_response_alg: SigningAlg | None = None
    """What introspection is signed with, if a JWT is asked for (RFC 9701). None: as id_tokens."""
    polling_interval: int = 5
    """Seconds between two polls for a device code or an `auth_req_id`."""
    device_code_lifetime: int = 600
    """Seconds that a user has to enter the user code."""
    backchannel_lifetime: int = 120
    """Seconds that a user has to answer, unless the client asks for fewer (CIBA)."""

    @property
    def is_public(self) -> bool:
        """Whether it has nothing to prove itself with."""
        return not (self.secrets or "private_key_jwt" in self.token_endpoint_auth_methods)

    @property
    def introspection_alg(self) -> SigningAlg:
        """What introspection is signed with."""
        return self.introspection_signed_response_alg or self.id_token_signed_response_alg

    @property
    def signing_algs(self) -> frozenset[SigningAlg]:
        """Everything that the provider signs with for it."""
        userinfo = {self.userinfo_signed_response_alg} if self.userinfo_signed_response_alg else ()
        return frozenset({self.id_token_signed_response_alg, self.introspection_alg, *userinfo})


@dataclass(frozen=True, slots=True)
class User:
    """Somebody who can sign in.

    User("alice", name="Alice Liddell", claims={"email": "alice@example.org"})
    """

    sub: str
    """The subject identifier; also what is typed as the user name."""
    name: str = ""
    password: str = field(default="password", repr=False)
    claims: Mapping[str, JSON] = field(default_factory=dict)
    """Further claims. Standard ones need their scope, all others are always given."""

    def claims_for(self, scope: frozenset[str]) -> dict[str, JSON]:
        """Return what a client with this scope is told (OIDC Core, section 5.4)."""
        known = {"name": self.name or self.sub, **self.claims}
        withheld = {
            claim for name, claims in SCOPE_CLAIMS.items() if name not in scope for claim in claims
        }
        return {claim: value for claim, value in known.items() if claim not in withheld}
