"""What a client is registered with, and what one token of it is for."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from hashlib import sha256
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, TypeAlias
from urllib.parse import urlsplit

from ..errors import ConfigurationError
from ..origins import is_loopback
from ..protocol.client_auth import none
from ..protocol.form import as_secret, completed, reveal
from ..protocol.grants import ClientCredentials as Grant
from ..protocol.metadata import DiscoveryPolicy, check_issuer
from ..secret import Secret

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..protocol.client_auth import ClientAuth
    from ..provider import OpenIDProvider
    from ..transport import AsyncClient, SyncClient

GetSecret: TypeAlias = Callable[[], "str | Secret"]
"""Gives the client secret of this moment."""

_NOTHING: Final[Mapping[str, str | Secret]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class ClientCredentials:
    """A client as it is registered at a provider, to get tokens of its own (RFC 6749, 4.4).

        ClientCredentials(
            token_endpoint="https://op.example/connect/token",
            client_id="m2m",
            client_secret=os.environ["CLIENT_SECRET"],
            scope="api",
        )

    The provider is named by its `issuer`, whose metadata tell the endpoint, or by the
    endpoint itself. Neither library nor network is used before a token is needed.
    """

    client_id: str
    _: KW_ONLY
    token_endpoint: str | None = None
    """Where tokens are asked for; https. None: what the metadata of `issuer` say."""
    issuer: str | None = None
    """The provider, exactly as its metadata spell it. None: `token_endpoint` is given."""
    client_secret: str | Secret | GetSecret | None = field(default=None, repr=False)
    """Sent by `client_secret_basic`. A function is asked at every request, so that a secret
    can be changed without a restart. None with no `client_auth`: a public client."""
    client_auth: ClientAuth | None = field(default=None, repr=False)
    """Another way to prove who the client is (`protocol.client_auth`)."""
    scope: str | None = None
    """Names separated by a space. None: what the provider gives by default."""
    resource: str | Sequence[str] = ()
    """Where the tokens will be used (RFC 8707)."""
    audience: str | None = None
    """The same, for providers that have a parameter `audience`."""
    extra: Mapping[str, str | Secret] = field(default_factory=dict, repr=False)
    """Parameters of the provider's own."""
    default_expires_in: float = 300.0
    """Seconds a token is used when the provider does not say."""
    deadline: float = 30.0
    """Seconds for a whole token call."""
    policy: DiscoveryPolicy = field(default_factory=DiscoveryPolicy)
    """What is believed of the metadata of `issuer`."""
    http: AsyncClient | None = field(default=None, repr=False)
    """Your client for the calls to the provider; it serves one event loop. None: our own."""
    sync_http: SyncClient | None = field(default=None, repr=False)
    """The same for threads without an event loop."""
    dangerously_allow_http: bool = False
    """Take plain http on loopback, for development."""
    dangerously_allow_missing_token_type: bool = False
    """For providers that leave it out."""

    def __post_init__(self) -> None:
        if isinstance(self.client_secret, str):
            object.__setattr__(self, "client_secret", Secret(self.client_secret))
        if isinstance(self.resource, str):
            object.__setattr__(self, "resource", (self.resource,))

    @classmethod
    def of_provider(
        cls,
        provider: OpenIDProvider,
        *,
        scope: str | None = None,
        resource: str | Sequence[str] = (),
        audience: str | None = None,
        extra: Mapping[str, str | Secret] = _NOTHING,
    ) -> ClientCredentials:
        """Describe the client that users log in with, to get tokens of its own.

            auth.clients.add("shop", ClientCredentials.of_provider(provider, scope="api"))

        Identity, proof, policy and HTTP client are the provider's; the scope is not, since
        `openid` asks for a user.
        """
        return cls(
            provider.client_id,
            issuer=provider.issuer,
            client_auth=provider.client_auth,
            scope=scope,
            resource=resource,
            audience=audience,
            extra=extra,
            default_expires_in=provider.default_expires_in,
            policy=provider.policy,
            http=provider.http,
        )

    def check(self) -> None:
        """Refuse what cannot work. Raises `ConfigurationError`, which names the setting."""
        if not self.client_id:
            raise ConfigurationError("client_id", "is empty; the provider gives one")
        if (self.token_endpoint is None) == (self.issuer is None):
            raise ConfigurationError("token_endpoint", "give either this or issuer")
        if self.issuer is not None:
            check_issuer(self.issuer, self.discovery_policy)
        if self.token_endpoint is not None:
            self._check_endpoint(self.token_endpoint)
        if self.client_secret is not None and self.client_auth is not None:
            raise ConfigurationError("client_auth", "give this or client_secret, not both")
        # Sorts out what the library sets itself.
        self.request().grant().form()

    @property
    def discovery_policy(self) -> DiscoveryPolicy:
        """What is believed of the metadata, http on loopback included if that is allowed."""
        if not self.dangerously_allow_http:
            return self.policy
        return DiscoveryPolicy(
            dangerously_allow_http=True,
            endpoint_hosts=self.policy.endpoint_hosts,
            dangerously_allow_issuer=self.policy.dangerously_allow_issuer,
        )

    def proof(self) -> tuple[Secret | None, ClientAuth | None]:
        """Return the secret of this moment, or the other way to prove who the client is.

        Raises what the caller's own function raises.
        """
        if self.client_secret is None:
            return None, self.client_auth or none()
        if isinstance(self.client_secret, str | Secret):
            return as_secret(self.client_secret), None
        return as_secret(self.client_secret()), None

    def request(
        self,
        *,
        name: str = "",
        scope: str | None = None,
        resource: str | Sequence[str] | None = None,
        extra: Mapping[str, str | Secret] = _NOTHING,
    ) -> TokenTarget:
        """Return what a token is asked for; what is not given is as registered."""
        asked = self.scope if scope is None else scope
        targets = self.resource if resource is None else resource
        audience = {} if self.audience is None else {"audience": self.audience}
        parameters = {**audience, **self.extra, **extra}
        return TokenTarget(
            client=name,
            endpoint=self.token_endpoint or self.issuer or "",
            client_id=self.client_id,
            scope=None if asked is None else frozenset(asked.split()),
            resource=(targets,) if isinstance(targets, str) else tuple(sorted({*targets})),
            extra=tuple(sorted(parameters.items(), key=lambda item: item[0])),
        )

    def _check_endpoint(self, endpoint: str) -> None:
        parts = urlsplit(endpoint)
        http = self.dangerously_allow_http and is_loopback(parts.hostname or "")
        if not parts.hostname or parts.scheme not in (("https", "http") if http else ("https",)):
            raise ConfigurationError(
                "token_endpoint", "is not https; plain http is for loopback, if allowed by name"
            )
        if parts.username is not None or parts.fragment:
            raise ConfigurationError("token_endpoint", "must have neither user nor fragment")


@dataclass(frozen=True, slots=True)
class TokenTarget:
    """Everything that a token depends on: what it is cached by, and shared by.

    A value and no joined text, so that no two of them can look alike.
    """

    client: str
    """The name that the client is registered by."""
    endpoint: str
    client_id: str
    scope: frozenset[str] | None
    """The order of scopes has no meaning, their case has (RFC 6749, section 3.3)."""
    resource: tuple[str, ...]
    extra: tuple[tuple[str, str | Secret], ...] = field(repr=False)
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        values = (self.client, self.endpoint, self.client_id, self.scope, self.resource, self.extra)
        object.__setattr__(self, "_hash", hash(values))

    def __hash__(self) -> int:
        # Once: it is looked up at every call.
        return self._hash

    @property
    def scope_text(self) -> str | None:
        """The scope as it is sent, the same for the same set."""
        return None if self.scope is None else " ".join(sorted(self.scope))

    def grant(self) -> Grant:
        """Return the request for it."""
        grant = Grant(scope=self.scope_text or None, resource=self.resource)
        completed(grant.form(), extra=dict(self.extra))
        return Grant(scope=grant.scope, resource=self.resource, extra=dict(self.extra))

    def digest(self) -> str:
        """Name it in a store, which learns neither scope nor parameters."""
        canonical = [
            *(self.client, self.endpoint, self.client_id),
            None if self.scope is None else sorted(self.scope),
            self.resource,
            [[name, reveal(value)] for name, value in self.extra],
        ]
        return sha256(json.dumps(canonical).encode()).hexdigest()
