"""The provider's public keys, and which of them a token can have been signed with.

RFC 7517 and RFC 7518. Every key is read by itself: a bad one, or one of a kind that
is not known here, never spoils the good ones beside it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeAlias

from cryptography.exceptions import UnsupportedAlgorithm
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey
from joserfc.util import base64_to_int

from ..errors import ConfigurationError, InvalidMetadata
from .json import JSON, InvalidJSON, JSONObject, excerpt, loads_object

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

PublicKey: TypeAlias = RSAKey | ECKey | OKPKey
"""A key that verifies, of the library that does it."""

MAX_KEYS: Final = 100
"""Keys in a set. Providers publish two to ten."""

MIN_RSA_BITS: Final = 2048
"""RFC 7518, section 3.3: "A key of size 2048 bits or larger MUST be used"."""

MAX_RSA_BITS: Final = 8192
"""Above, one verification costs milliseconds of everybody's time."""

_RSA_EXPONENT: Final = 65537

_RSA_ALGORITHMS: Final = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
_FITTING: Final[Mapping[tuple[str, str | None], frozenset[str]]] = {
    ("RSA", None): _RSA_ALGORITHMS,
    ("EC", "P-256"): frozenset({"ES256"}),
    ("EC", "P-384"): frozenset({"ES384"}),
    ("EC", "P-521"): frozenset({"ES512"}),
    ("OKP", "Ed25519"): frozenset({"EdDSA", "Ed25519"}),
}
"""Key type and curve, and what they can sign (RFC 7518, section 3.1; RFC 9864)."""

SIGNATURE_ALGORITHMS: Final[frozenset[str]] = frozenset[str]().union(*_FITTING.values())
"""All that can be configured. Neither `none` nor HMAC will ever be among them."""

_PUBLIC_MEMBERS: Final = {"RSA": ("n", "e"), "EC": ("crv", "x", "y"), "OKP": ("crv", "x")}
_PRIVATE_MEMBERS: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})


@dataclass(frozen=True, slots=True)
class JSONWebKey:
    """One public key, and what it is good for."""

    kid: str | None
    """Its name; None if the provider gave none."""
    algorithms: frozenset[str]
    """The values of `alg` that it can have signed."""
    key: PublicKey = field(repr=False)


@dataclass(frozen=True, slots=True)
class KeySet:
    """The keys of one provider that can verify a signature."""

    keys: tuple[JSONWebKey, ...]
    skipped: int = 0
    """How many members were left out: malformed, weak, symmetric, private, of an unknown
    kind, or not for signatures."""


def parse_json_web_key_set(body: bytes) -> KeySet:
    """Read a JWK Set, and keep the keys that can verify signatures.

    Symmetric keys are left out, because whoever can read the set could sign with
    them; published private keys likewise. RSA keys have 2048 to 8192 bits and the
    exponent 65537. A set without any usable key is a set all the same.

    Raises `InvalidMetadata` when the document is not a JWK Set, or has more than
    100 keys (RFC 7517, section 5).
    """
    members = _read_members(body)
    if len(members) > MAX_KEYS:
        raise InvalidMetadata("keys", f"holds {len(members)} keys; at most {MAX_KEYS} are read")
    keys = tuple(key for key in map(read_key, members) if isinstance(key, JSONWebKey))
    return KeySet(keys, skipped=len(members) - len(keys))


def read_key(member: JSON) -> JSONWebKey | str:
    """Read one member of a key set; if it cannot verify signatures, say why."""
    if not isinstance(member, dict):
        return "is no JSON object"
    if (reason := _other_purpose(member)) is not None:
        return reason
    algorithms = _fitting_algorithms(member)
    kid = member.get("kid")
    if not algorithms:
        return "no signature algorithm that is used here fits its kty, crv and alg"
    if not isinstance(kid, str | None):
        return "its kid is no string"
    key = _import_key(member)
    return key if isinstance(key, str) else JSONWebKey(kid, algorithms, key)


def candidates(
    key_set: KeySet, header: Mapping[str, JSON], *, algorithms: Collection[str]
) -> tuple[JSONWebKey, ...]:
    """Return the keys that can have signed a token with this header.

    They fit its `alg`, which must be one of `algorithms`, and its `kid` if it has
    one. Nothing else in the header is looked at: `jwk`, `jku`, `x5u` and `x5c` are
    the sender's choice of a key (RFC 8725, section 3.10).
    """
    alg, kid = header.get("alg"), header.get("kid")
    if not isinstance(alg, str) or alg not in algorithms:
        return ()
    return tuple(
        key for key in key_set.keys if alg in key.algorithms and (kid is None or kid == key.kid)
    )


def check_algorithms(algorithms: Collection[str]) -> None:
    """Accept a list of algorithms that can be configured, or raise `ConfigurationError`.

    `none` proves nothing, and an HMAC would be made with a secret that the provider
    shares with every client that has it (RFC 8725, section 3.1).
    """
    unknown = [alg for alg in algorithms if alg not in SIGNATURE_ALGORITHMS]
    if unknown:
        problem = f"{excerpt(unknown[0])} is not one of {', '.join(sorted(SIGNATURE_ALGORITHMS))}"
        raise ConfigurationError("id_token_algorithms", problem)
    if not algorithms:
        raise ConfigurationError("id_token_algorithms", "list at least one, such as ('RS256',)")


def _read_members(body: bytes) -> list[JSON]:
    try:
        members = loads_object(body).get("keys")
    except InvalidJSON as error:
        problem = str(error)
    else:
        if isinstance(members, list):
            return members
        raise InvalidMetadata("keys", "must be an array")
    raise InvalidMetadata("document", problem)


def _other_purpose(member: JSONObject) -> str | None:
    """Judge `use` and `key_ops` (RFC 7517, sections 4.2 and 4.3), and what must be secret."""
    if member.get("kty") == "oct":
        return "is symmetric: whoever reads the set could sign with it"
    if not _PRIVATE_MEMBERS.isdisjoint(member):
        return "is a private key, and anybody can read it here"
    if (use := member.get("use", "sig")) != "sig":
        return f"its use is {excerpt(use)}, not 'sig'"
    operations = member.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        return "its key_ops lack 'verify'"
    return None


def _fitting_algorithms(member: JSONObject) -> frozenset[str]:
    kty, crv, alg = member.get("kty"), member.get("crv"), member.get("alg")
    if not isinstance(kty, str) or not isinstance(crv, str | None):
        return frozenset()
    fitting = _FITTING.get((kty, None if kty == "RSA" else crv), frozenset())
    if "alg" not in member:
        return fitting
    if not isinstance(alg, str) or alg not in fitting:
        return frozenset()
    # RFC 9864: EdDSA and Ed25519 name the same operation of the same key.
    return fitting if kty == "OKP" else frozenset({alg})


def _import_key(member: JSONObject) -> PublicKey | str:
    kty = str(member["kty"])
    # Only these: the import judges the other members too, and they do not matter here.
    public = {name: member.get(name) for name in _PUBLIC_MEMBERS[kty]}
    texts = {name: value for name, value in public.items() if isinstance(value, str)}
    if len(texts) < len(public):
        return f"lacks one of {', '.join(public)}"
    try:
        if kty == "RSA":
            return _weakness_of_rsa(texts) or RSAKey.import_key({"kty": kty, **texts})
        return (ECKey if kty == "EC" else OKPKey).import_key({"kty": kty, **texts})
    except (JoseError, ValueError, UnsupportedAlgorithm):
        return "its numbers are no key"


def _weakness_of_rsa(member: Mapping[str, str]) -> str | None:
    bits = base64_to_int(member["n"]).bit_length()
    if not MIN_RSA_BITS <= bits <= MAX_RSA_BITS:
        return f"has {bits} bits, not {MIN_RSA_BITS} to {MAX_RSA_BITS}"
    if base64_to_int(member["e"]) != _RSA_EXPONENT:
        return f"its exponent is not {_RSA_EXPONENT}"
    return None
