"""What a provider publishes, measured by our policy. Values in, values out."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from ..errors import ConfigurationError, InvalidMetadata
from ..protocol.client_auth import none
from ..protocol.keys import SIGNATURE_ALGORITHMS, JSONWebKey, read_key
from ..protocol.known_providers import ENTRA, ENTRA_MANY_TENANTS, GOOGLE, cognito
from ..protocol.metadata import parse_provider_metadata
from ..provider.checks import check_support

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ..protocol.json import JSON, JSONObject
    from ..protocol.metadata import DiscoveryPolicy, ProviderMetadata

MAX_PROBLEMS: Final = 20
"""Problems that are told. A document with more is no document of a provider."""

_REQUIRED: Final = frozenset({"authorization_endpoint", "token_endpoint", "jwks_uri"})
_ALIASES: Final = "mtls_endpoint_aliases"
_ADDRESSES: Final = frozenset({"jwks_uri", "check_session_iframe"})


@dataclass(frozen=True, slots=True)
class Problem:
    """A rule that is broken."""

    member: str
    """The member of the document."""
    problem: str
    accepted_by: tuple[str, ...] = ()
    """What would accept it all the same, in Python. Empty: nothing should."""


@dataclass(frozen=True, slots=True)
class IgnoredKey:
    """A key of the set that is not used."""

    kid: str | None
    """Its name; None if it has none that is text."""
    reason: str


@dataclass(frozen=True, slots=True)
class Keys:
    """What is in the key set."""

    usable: tuple[JSONWebKey, ...] = ()
    ignored: tuple[IgnoredKey, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What is found at a provider."""

    issuer: str
    """As it has to be configured."""
    document: JSONObject = field(repr=False)
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()
    """What is accepted, and could be better, or has to be configured."""
    keys: Keys | None = None
    """None: the key set could not be read."""

    def with_keys(self, keys: Keys | None, *problems: Problem) -> Findings:
        """Add what the key set is like."""
        if keys is not None and not keys.usable:
            problems = (*problems, Problem("keys", "none can be used, so no id_token is believed"))
        return replace(self, keys=keys, problems=(*self.problems, *problems))


def judge_document(document: JSONObject, *, issuer: str, policy: DiscoveryPolicy) -> Findings:
    """Say which rules the discovery document breaks, and what is to be known of it."""
    broken = broken_rules(document, issuer=issuer, policy=policy)
    accepting = _accepting(broken, document, issuer=issuer, policy=policy)
    problems = [
        Problem(error.member, error.problem, tuple(accepting[error.member])) for error in broken
    ]
    notes: list[str] = []
    if not problems:
        metadata = parse_provider_metadata(_bytes(document), issuer=issuer, policy=policy)
        problems += _unusable(metadata)
        notes += _notes(metadata, issuer=issuer, policy=policy)
    return Findings(issuer=issuer, document=document, problems=tuple(problems), notes=tuple(notes))


def judge_key_set(document: JSONObject) -> Keys:
    """Sort the keys of a key set that `parse_json_web_key_set` has accepted."""
    members = document.get("keys")
    usable: list[JSONWebKey] = []
    ignored: list[IgnoredKey] = []
    for member in members if isinstance(members, list) else ():
        key = read_key(member)
        if isinstance(key, JSONWebKey):
            usable.append(key)
        else:
            kid = member.get("kid") if isinstance(member, dict) else None
            ignored.append(IgnoredKey(kid if isinstance(kid, str) else None, key))
    return Keys(tuple(usable), tuple(ignored))


def addresses(document: JSONObject) -> Iterator[tuple[str, JSON]]:
    """Give the members that are addresses, in the order of the document."""
    for member, value in document.items():
        if member.endswith("_endpoint") or member in _ADDRESSES:
            yield member, value


def broken_rules(
    document: JSONObject, *, issuer: str, policy: DiscoveryPolicy
) -> list[InvalidMetadata]:
    """Return all that the policy has against a document, `MAX_PROBLEMS` at most.

    The reader stops at the first. So it is asked again without what it refused, and
    nothing is judged here that is not judged where it matters.
    """
    rest = document
    broken: list[InvalidMetadata] = []
    while len(broken) < MAX_PROBLEMS:
        try:
            parse_provider_metadata(_bytes(rest), issuer=issuer, policy=policy)
        except InvalidMetadata as error:
            broken.append(error)
            rest = _without(rest, error.member, issuer=issuer)
        else:
            break
    return broken


def _without(document: JSONObject, member: str, *, issuer: str) -> JSONObject:
    if member == "issuer" or member in _REQUIRED:
        # What is required is replaced by what every policy accepts.
        return {**document, member: issuer}
    aliases = document.get(_ALIASES)
    if member in document or not isinstance(aliases, dict):
        return {name: value for name, value in document.items() if name != member}
    refused = member.removeprefix(f"{_ALIASES}.")
    return {**document, _ALIASES: {n: url for n, url in aliases.items() if n != refused}}


def _accepting(
    broken: list[InvalidMetadata], document: JSONObject, *, issuer: str, policy: DiscoveryPolicy
) -> dict[str, list[str]]:
    """Name what would accept each of the members that are refused."""
    accepting: dict[str, list[str]] = {error.member: [] for error in broken}
    relaxations = _relaxations(document, issuer=issuer, policy=policy) if broken else {}
    for name, candidate in relaxations.items():
        left = {e.member for e in broken_rules(document, issuer=issuer, policy=candidate)}
        for member in accepting.keys() - left:
            accepting[member].append(name)
    told = document.get("issuer")
    if "issuer" in accepting and isinstance(told, str) and told.rstrip("/") == issuer.rstrip("/"):
        accepting["issuer"] = [f"the issuer as the document spells it: {told!r}"]
    return accepting


def _relaxations(
    document: JSONObject, *, issuer: str, policy: DiscoveryPolicy
) -> dict[str, DiscoveryPolicy]:
    candidates = {
        "DiscoveryPolicy(dangerously_allow_http=True)": replace(policy, dangerously_allow_http=True)
    }
    hosts = sorted(_other_hosts(document, issuer=issuer))
    if policy.endpoint_hosts is not None:
        candidates[f"DiscoveryPolicy(endpoint_hosts={_set(hosts)})"] = replace(
            policy, endpoint_hosts=frozenset(hosts)
        )
    known = _known(hosts, issuer=issuer, policy=policy)
    told = document.get("issuer")
    if isinstance(told, str):
        known[f"DiscoveryPolicy(dangerously_allow_issuer={told!r})"] = replace(
            policy, dangerously_allow_issuer=told
        )
    return {**candidates, **known}


def _known(hosts: list[str], *, issuer: str, policy: DiscoveryPolicy) -> dict[str, DiscoveryPolicy]:
    known = {
        "known_providers.GOOGLE": GOOGLE,
        "known_providers.ENTRA": ENTRA,
        "known_providers.ENTRA_MANY_TENANTS": ENTRA_MANY_TENANTS,
    }
    if (urlsplit(issuer).hostname or "").startswith("cognito-idp.") and len(hosts) == 1:
        known[f"known_providers.cognito({hosts[0]!r})"] = cognito(hosts[0])
    return {
        name: replace(candidate, dangerously_allow_http=policy.dangerously_allow_http)
        for name, candidate in known.items()
    }


def _unusable(metadata: ProviderMetadata) -> Iterator[Problem]:
    """Say what a login needs that the provider lacks."""
    try:
        check_support(
            metadata,
            client_auth=none(),
            userinfo=False,
            pushed=metadata.require_pushed_authorization_requests,
        )
    except ConfigurationError as error:
        yield Problem("code_challenge_methods_supported", error.problem)
    told = metadata.id_token_signing_alg_values_supported
    if told is not None and SIGNATURE_ALGORITHMS.isdisjoint(told):
        yield Problem(
            "id_token_signing_alg_values_supported",
            "has none with a public key; HMAC and `none` prove nothing",
        )


def _notes(metadata: ProviderMetadata, *, issuer: str, policy: DiscoveryPolicy) -> Iterator[str]:
    told = metadata.id_token_signing_alg_values_supported or ("RS256",)
    fitting = [alg for alg in told if alg in SIGNATURE_ALGORITHMS]
    if fitting and "RS256" not in fitting:
        yield f"id_tokens are not signed by RS256: set id_token_algorithms=({fitting[0]!r},)"
    document = dict(metadata.raw)
    hosts = sorted(_other_hosts(document, issuer=issuer))
    if hosts and policy.endpoint_hosts is None:
        candidates = _known(hosts, issuer=issuer, policy=policy).items()
        fits = [n for n, c in candidates if not broken_rules(document, issuer=issuer, policy=c)]
        better = fits[0] if fits else f"DiscoveryPolicy(endpoint_hosts={_set(hosts)})"
        yield f"endpoints are on other hosts too; policy={better} accepts these, and no others"


def _other_hosts(document: JSONObject, *, issuer: str) -> set[str]:
    urls: list[JSON] = [url for _, url in addresses(document)]
    aliases = document.get(_ALIASES)
    urls += aliases.values() if isinstance(aliases, dict) else ()
    return {host for url in urls if (host := _host(url))} - {_host(issuer)}


def _host(url: JSON) -> str | None:
    try:
        return urlsplit(url).hostname if isinstance(url, str) else None
    except ValueError:
        return None


def _set(hosts: list[str]) -> str:
    return f"frozenset({{{', '.join(map(repr, hosts))}}})" if hosts else "frozenset()"


def _bytes(document: Mapping[str, JSON]) -> bytes:
    return json.dumps(dict(document)).encode()
