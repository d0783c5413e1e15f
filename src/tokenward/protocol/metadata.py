"""Provider metadata: where the provider's endpoints are, and whether to believe it.

OpenID Connect Discovery 1.0 and RFC 8414.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from ..errors import ConfigurationError, InvalidMetadata
from .json import JSON, InvalidJSON, JSONObject, excerpt, loads_object

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MAX_URL: Final = 2048
"""Characters of an issuer or an endpoint; what every browser and proxy takes."""

_URL_CHARACTERS: Final = re.compile(r"[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]++")
_HOST: Final = re.compile(r"[a-z0-9._-]++|[0-9a-f.:]++")
_MTLS_ALIASES: Final = "mtls_endpoint_aliases"
_OTHER_ADDRESSES: Final = frozenset({"jwks_uri", "check_session_iframe"})


@dataclass(frozen=True, slots=True)
class DiscoveryPolicy:
    """What is believed of a provider's metadata. The default is the strictest that works."""

    dangerously_allow_http: bool = False
    """Take http for issuer and endpoints on loopback, for development on one machine."""
    endpoint_hosts: frozenset[str] | None = None
    """Hosts that endpoints may be on beside the issuer's own, without port. None: any host,
    because Google and Entra spread theirs; empty: the issuer's own only."""
    dangerously_allow_issuer: str | None = None
    """What the document may say in place of the configured issuer, as Entra does where it
    serves many tenants. Whoever validates tokens must know which issuer they are of."""


@dataclass(frozen=True, slots=True)
class ProviderMetadata:
    """What a provider says about itself (Discovery, section 3). Endpoints are checked.

    None for an endpoint: the provider has none. None for a list: it did not tell.
    """

    issuer: str
    """Exactly the configured one, or the other one that the policy allows."""
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    userinfo_endpoint: str | None = None
    end_session_endpoint: str | None = None
    """RP-Initiated Logout 1.0, section 2.1."""
    revocation_endpoint: str | None = None
    """RFC 7009."""
    introspection_endpoint: str | None = None
    """RFC 7662."""
    pushed_authorization_request_endpoint: str | None = None
    """RFC 9126."""
    device_authorization_endpoint: str | None = None
    """RFC 8628."""
    backchannel_authentication_endpoint: str | None = None
    """OpenID Connect CIBA Core 1.0."""
    registration_endpoint: str | None = None
    """RFC 7591."""
    scopes_supported: tuple[str, ...] | None = None
    response_types_supported: tuple[str, ...] | None = None
    code_challenge_methods_supported: tuple[str, ...] | None = None
    """RFC 8414: when left out, the provider need not know PKCE."""
    token_endpoint_auth_methods_supported: tuple[str, ...] | None = None
    """Discovery, section 3: when left out, `client_secret_basic`."""
    id_token_signing_alg_values_supported: tuple[str, ...] | None = None
    """For information. Which are accepted is the client's own setting (RFC 8725, 3.1)."""
    require_pushed_authorization_requests: bool = False
    """Whether no authorization request is taken that was not pushed (RFC 9126, section 5)."""
    authorization_response_iss_parameter_supported: bool = False
    """Whether every authorization response must carry `iss` (RFC 9207, section 3)."""
    mtls_endpoint_aliases: Mapping[str, str] = field(default_factory=dict)
    """Endpoints for clients with a certificate (RFC 8705, section 5). Empty: none."""
    raw: Mapping[str, JSON] = field(default_factory=dict, repr=False)
    """The whole document, read-only."""


def check_issuer(issuer: str, policy: DiscoveryPolicy) -> None:
    """Accept an issuer that can be configured, or raise `ConfigurationError`.

    "URL using the https scheme with no query or fragment components" (Discovery,
    section 3), and no user information. http on loopback only where the policy
    allows it.
    """
    problem = _url_problem(issuer, policy)
    if problem is None and "?" in issuer:
        problem = "has a query"
    if problem is not None:
        raise ConfigurationError("issuer", f"{excerpt(issuer)} {problem}")


def discovery_url(issuer: str) -> str:
    """Return where the metadata is (Discovery, section 4.1).

    "If the Issuer value contains a path component, any terminating / MUST be
    removed before appending /.well-known/openid-configuration."
    """
    return f"{issuer.removesuffix('/')}/.well-known/openid-configuration"


def parse_provider_metadata(
    body: bytes, *, issuer: str, policy: DiscoveryPolicy
) -> ProviderMetadata:
    """Read a discovery document; use all of it, or nothing.

    `issuer` is the configured one, and the document must repeat it character by
    character (Discovery, section 4.3). Every endpoint must pass the policy, also
    one that is never used. Raises `InvalidMetadata`, which names the member.
    """
    document = _read_document(body)
    told = document.get("issuer")
    if told != issuer and (told is None or told != policy.dangerously_allow_issuer):
        raise InvalidMetadata("issuer", f"{excerpt(told)} is not the configured {excerpt(issuer)}")
    for member, url in _endpoints(document):
        _check_endpoint(member, url, issuer=issuer, policy=policy)
    return ProviderMetadata(
        issuer=str(told),
        authorization_endpoint=_required(document, "authorization_endpoint"),
        token_endpoint=_required(document, "token_endpoint"),
        jwks_uri=_required(document, "jwks_uri"),
        userinfo_endpoint=_text(document, "userinfo_endpoint"),
        end_session_endpoint=_text(document, "end_session_endpoint"),
        revocation_endpoint=_text(document, "revocation_endpoint"),
        introspection_endpoint=_text(document, "introspection_endpoint"),
        pushed_authorization_request_endpoint=_text(
            document, "pushed_authorization_request_endpoint"
        ),
        device_authorization_endpoint=_text(document, "device_authorization_endpoint"),
        backchannel_authentication_endpoint=_text(document, "backchannel_authentication_endpoint"),
        registration_endpoint=_text(document, "registration_endpoint"),
        scopes_supported=_texts(document, "scopes_supported"),
        response_types_supported=_texts(document, "response_types_supported"),
        code_challenge_methods_supported=_texts(document, "code_challenge_methods_supported"),
        token_endpoint_auth_methods_supported=_texts(
            document, "token_endpoint_auth_methods_supported"
        ),
        id_token_signing_alg_values_supported=_texts(
            document, "id_token_signing_alg_values_supported"
        ),
        require_pushed_authorization_requests=_flag(
            document, "require_pushed_authorization_requests"
        ),
        authorization_response_iss_parameter_supported=_flag(
            document, "authorization_response_iss_parameter_supported"
        ),
        mtls_endpoint_aliases=MappingProxyType(_aliases(document)),
        raw=MappingProxyType(document),
    )


def mtls_metadata(metadata: ProviderMetadata) -> ProviderMetadata:
    """Return the metadata for a client with a certificate (RFC 8705, section 5).

    An endpoint that has an alias becomes the alias; the others stay as they are.
    """
    aliases = metadata.mtls_endpoint_aliases
    return replace(
        metadata,
        token_endpoint=aliases.get("token_endpoint", metadata.token_endpoint),
        userinfo_endpoint=aliases.get("userinfo_endpoint", metadata.userinfo_endpoint),
        revocation_endpoint=aliases.get("revocation_endpoint", metadata.revocation_endpoint),
        introspection_endpoint=aliases.get(
            "introspection_endpoint", metadata.introspection_endpoint
        ),
        pushed_authorization_request_endpoint=aliases.get(
            "pushed_authorization_request_endpoint", metadata.pushed_authorization_request_endpoint
        ),
        device_authorization_endpoint=aliases.get(
            "device_authorization_endpoint", metadata.device_authorization_endpoint
        ),
        backchannel_authentication_endpoint=aliases.get(
            "backchannel_authentication_endpoint", metadata.backchannel_authentication_endpoint
        ),
        registration_endpoint=aliases.get("registration_endpoint", metadata.registration_endpoint),
    )


def is_loopback(host: str) -> bool:
    """Whether `host`, without port and brackets, can only be this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        # Names below .localhost are left out: not every resolver keeps them at home.
        return host.lower() == "localhost"


def _read_document(body: bytes) -> JSONObject:
    try:
        return loads_object(body)
    except InvalidJSON as error:
        problem = str(error)
    raise InvalidMetadata("document", problem)


def _endpoints(document: JSONObject) -> Iterator[tuple[str, str]]:
    """Give every endpoint of the document: also those that only `raw` shows are safe to use."""
    for member in document:
        if member.endswith("_endpoint") or member in _OTHER_ADDRESSES:
            url = _text(document, member)
            if url is not None:
                yield member, url
    for member, url in _aliases(document).items():
        yield f"{_MTLS_ALIASES}.{member}", url


def _check_endpoint(member: str, url: str, *, issuer: str, policy: DiscoveryPolicy) -> None:
    problem = _url_problem(url, policy)
    if problem is None and not _host_allowed(url, issuer=issuer, policy=policy):
        problem = "is on a host that the policy does not list"
    if problem is not None:
        raise InvalidMetadata(member, f"{excerpt(url)} {problem}")


def _host_allowed(url: str, *, issuer: str, policy: DiscoveryPolicy) -> bool:
    if policy.endpoint_hosts is None:
        return True
    allowed = {urlsplit(issuer).hostname, *(host.lower() for host in policy.endpoint_hosts)}
    return urlsplit(url).hostname in allowed


def _url_problem(url: str, policy: DiscoveryPolicy) -> str | None:
    """Say why neither a browser nor a client may be sent to `url`; None if they may."""
    # Before the parser, which drops tabs and line ends without a word.
    if len(url) > MAX_URL or _URL_CHARACTERS.fullmatch(url) is None:
        return "is not a URL"
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "is not a URL"
    if "@" in parts.netloc:
        return "has user information"
    if "#" in url:
        return "has a fragment"
    if host is None or _HOST.fullmatch(host) is None:
        return "has no host"
    if parts.scheme == "https":
        return None
    if parts.scheme == "http" and policy.dangerously_allow_http and is_loopback(host):
        return None
    return "must use https"


def _required(document: JSONObject, member: str) -> str:
    value = _text(document, member)
    if value is None:
        raise InvalidMetadata(member, "is missing")
    return value


def _text(document: JSONObject, member: str) -> str | None:
    value = document.get(member)
    if value is None or isinstance(value, str):
        return value
    raise InvalidMetadata(member, "must be a string")


def _texts(document: JSONObject, member: str) -> tuple[str, ...] | None:
    value = document.get(member)
    if value is None:
        return None
    if not isinstance(value, list):
        raise InvalidMetadata(member, "must be an array of strings")
    texts = tuple(item for item in value if isinstance(item, str))
    if len(texts) < len(value):
        raise InvalidMetadata(member, "must be an array of strings")
    return texts


def _flag(document: JSONObject, member: str) -> bool:
    value = document.get(member)
    if value is None or isinstance(value, bool):
        return value is True
    raise InvalidMetadata(member, "must be true or false")


def _aliases(document: JSONObject) -> dict[str, str]:
    # Never the plain endpoints instead: their tokens would not be bound to the certificate.
    value = document.get(_MTLS_ALIASES, {})
    if not isinstance(value, dict):
        raise InvalidMetadata(_MTLS_ALIASES, "must be an object")
    aliases = {member: url for member, url in value.items() if isinstance(url, str)}
    if len(aliases) < len(value):
        raise InvalidMetadata(_MTLS_ALIASES, "must hold strings only")
    return aliases
