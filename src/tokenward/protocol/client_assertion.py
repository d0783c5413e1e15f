"""A client proves itself by a JWT that it signs (RFC 7523, section 2.2; OIDC Core, section 9).

    key = read_private_key(pathlib.Path("client.pem").read_text())
    auth = private_key_jwt(key, issuer="https://op.example", clock=system_clock)

The audience is the issuer, as one string: a statement made for one provider is worth
nothing at another, which it need not be when it names an endpoint (CVE-2025-27370).
Each request, and each try of one, has a statement of its own, good for a minute.
"""

from __future__ import annotations

import base64
import hmac
import json
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeAlias

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from joserfc.jwk import ECKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

from ..errors import ConfigurationError
from ..secret import Secret
from .client_auth import ClientAuth, add_client_id, refuse_second_proof
from .form import as_secret, reveal
from .json import InvalidJSON, loads_object
from .keys import MIN_RSA_BITS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from joserfc.jwk import KeyParameters

    from .client_auth import Headers
    from .form import Form
    from .json import JSON, JSONObject

PrivateKey: TypeAlias = RSAKey | ECKey | OKPKey
"""A key that signs, of the library that does it."""

JWT_BEARER: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
"""`client_assertion_type` of RFC 7523, section 2.2."""

LIFETIME: Final = 60
"""Seconds that a statement is good for."""

_TYPE: Final = "client-authentication+jwt"
_RSA: Final = ("RS256", "PS256", "RS384", "RS512", "PS384", "PS512")
_EC: Final = {"P-256": ("ES256",), "P-384": ("ES384",), "P-521": ("ES512",)}
_OKP: Final = {"Ed25519": ("EdDSA", "Ed25519")}
_HMAC: Final = {"HS256": "sha256", "HS384": "sha384", "HS512": "sha512"}


def read_private_key(text: Secret | str, *, kid: str | None = None) -> PrivateKey:
    """Read a private key, which is PEM without a password or a JWK, as text.

    RSA of 2048 bits or more, P-256, P-384, P-521 or Ed25519. A JWK keeps its `kid`
    and its `alg`. `kid` is the name under which the provider knows the key; None: the
    JWK's own, or the thumbprint. Raises `ConfigurationError`, which does not show the key.
    """
    key = _import_key(as_secret(text))
    del text  # a traceback with locals must not show it
    if isinstance(key, str):
        raise ConfigurationError("client_auth", key)
    _algorithms(key)
    return key if kid is None else _named(key, kid)


def private_key_jwt(
    keys: PrivateKey | Sequence[PrivateKey],
    *,
    issuer: str,
    clock: Callable[[], float],
    algorithm: str | None = None,
    typ: str = _TYPE,
) -> ClientAuth:
    """Prove the client by a JWT signed with its private key.

    Of several keys the first one signs; the others are there to be published while
    keys change (`public_json_web_key_set`). `issuer` is the provider, exactly as its
    metadata spell it. `algorithm=None`: what the key's `alg` says, else RS256, ES256,
    ES384, ES512 or EdDSA, as the key has it. The header names the key by its `kid`,
    or by its thumbprint (RFC 7638). `clock` gives seconds since the epoch.

    Raises `ConfigurationError` when the key cannot sign so.
    """
    signer = jwt_signer(keys, algorithm=algorithm)
    return _Assertion(
        "private_key_jwt",
        sign=lambda claims: signer.sign(claims, typ=typ),
        issuer=issuer,
        clock=clock,
    )


def client_secret_jwt(
    secret: Secret | str,
    *,
    issuer: str,
    clock: Callable[[], float],
    algorithm: str = "HS256",
    typ: str = _TYPE,
) -> ClientAuth:
    """Prove the client by a JWT that its secret authenticates: the secret is not sent.

    `algorithm`: HS256, HS384 or HS512. Raises `ConfigurationError` for another one, and
    for a secret that is shorter than its output (RFC 7518, section 3.2).
    """
    secret = as_secret(secret)  # from here on no traceback shows it
    digest = _HMAC.get(algorithm)
    if digest is None:
        raise ConfigurationError("client_auth", f"{algorithm!r} is not one of {', '.join(_HMAC)}")
    least = int(algorithm[2:]) // 8
    if len(secret.reveal().encode("utf-8", "replace")) < least:
        raise ConfigurationError("client_secret", f"{algorithm} needs one of {least} bytes or more")

    def sign(claims: JSONObject) -> Secret:
        header: JSONObject = {"alg": algorithm, "typ": typ}
        return _serialized(
            header, claims, lambda data: hmac.digest(secret.reveal().encode(), data, digest)
        )

    return _Assertion("client_secret_jwt", sign=sign, issuer=issuer, clock=clock)


def public_json_web_key_set(keys: Sequence[PrivateKey]) -> JSONObject:
    """Return the public parts of the client's keys, for its `jwks_uri` (RFC 7591, section 2)."""
    return {"keys": [_public(key) for key in keys]}


@dataclass(frozen=True, slots=True)
class JWTSigner:
    """Signs JWTs with a private key of the client, and never without one."""

    algorithm: str
    kid: str
    signature: Callable[[bytes], bytes] = field(repr=False)

    def sign(self, claims: Mapping[str, JSON | Secret], *, typ: str) -> Secret:
        """Return the claims as a signed JWT. `typ` says what kind it is (RFC 8725, 3.11).

        Claims that are secrets are revealed in it.
        """
        header: JSONObject = {"alg": self.algorithm, "kid": self.kid, "typ": typ}
        return _serialized(header, claims, self.signature)


def jwt_signer(
    keys: PrivateKey | Sequence[PrivateKey], *, algorithm: str | None = None
) -> JWTSigner:
    """Return what signs with the first of the keys. `algorithm=None`: as for `private_key_jwt`.

    Raises `ConfigurationError` when the key cannot sign so.
    """
    key = keys if isinstance(keys, PrivateKey) else _first(keys)
    fitting = _algorithms(key)
    alg = algorithm or str(key.get("alg") or fitting[0])
    if alg not in fitting:
        raise ConfigurationError("client_auth", f"the key signs {', '.join(fitting)}, not {alg!r}")
    if not key.is_private:
        raise ConfigurationError("client_auth", "the key is a public one, and cannot sign")
    # The older name of the same operation (RFC 9864), about which the library warns.
    signer = JWSRegistry.algorithms["Ed25519" if alg == "EdDSA" else alg]
    return JWTSigner(alg, _kid(key), lambda data: signer.sign(data, key))


@dataclass(frozen=True, slots=True)
class _Assertion:
    auth_method: str
    sign: Callable[[JSONObject], Secret] = field(repr=False)
    issuer: str
    clock: Callable[[], float] = field(repr=False)

    def __call__(self, client_id: str, form: Form, headers: Headers) -> None:
        refuse_second_proof(form, headers)
        add_client_id(client_id, form)
        form.append(("client_assertion_type", JWT_BEARER))
        now = int(self.clock())
        claims: JSONObject = {
            "iss": client_id,
            "sub": client_id,
            "aud": self.issuer,
            "jti": secrets.token_urlsafe(24),
            "iat": now,
            "exp": now + LIFETIME,
        }
        form.append(("client_assertion", self.sign(claims)))


def _import_key(text: Secret) -> PrivateKey | str:
    """Return the key, or what is wrong with the text."""
    if text.reveal().lstrip().startswith("{"):
        return _import_jwk(text)
    try:
        loaded = load_pem_private_key(text.reveal().encode(), password=None)
    except (ValueError, TypeError):
        return "the key is no PEM text without a password"
    if isinstance(loaded, rsa.RSAPrivateKey):
        return RSAKey(loaded, loaded)
    if isinstance(loaded, ec.EllipticCurvePrivateKey):
        return ECKey(loaded, loaded)
    if isinstance(loaded, ed25519.Ed25519PrivateKey):
        return OKPKey(loaded, loaded)
    return "the key is neither RSA nor EC nor Ed25519"


def _import_jwk(text: Secret) -> PrivateKey | str:
    kinds: dict[object, type[PrivateKey]] = {"RSA": RSAKey, "EC": ECKey, "OKP": OKPKey}
    try:
        members = loads_object(text.reveal())
    except InvalidJSON:
        return "the key is not JSON"
    kind = kinds.get(members.get("kty"))
    if kind is None:
        return "the key is neither RSA nor EC nor OKP"
    try:
        return kind.import_key(
            {name: str(value) for name, value in members.items() if isinstance(value, str)}
        )
    except Exception:  # noqa: BLE001 - whatever it is, it may show the key
        return "the key is not a JWK that can be read"


def _named(key: PrivateKey, kid: str) -> PrivateKey:
    alg = key.get("alg")
    parameters: KeyParameters = {"kid": kid}
    if isinstance(alg, str):
        parameters["alg"] = alg
    if isinstance(key, RSAKey):
        return RSAKey(key.raw_value, key.raw_value, parameters)
    if isinstance(key, ECKey):
        return ECKey(key.raw_value, key.raw_value, parameters)
    return OKPKey(key.raw_value, key.raw_value, parameters)


def _algorithms(key: PrivateKey) -> tuple[str, ...]:
    """Return what a key can sign (RFC 7518, section 3.1), the usual one first."""
    if isinstance(key, RSAKey):
        if key.raw_value.key_size < MIN_RSA_BITS:
            raise ConfigurationError("client_auth", f"RSA keys have {MIN_RSA_BITS} bits or more")
        return _RSA
    fitting = (_EC if isinstance(key, ECKey) else _OKP).get(key.curve_name)
    if fitting is None:
        raise ConfigurationError("client_auth", f"keys on {key.curve_name!r} are not used here")
    return fitting


def _first(keys: Sequence[PrivateKey]) -> PrivateKey:
    if not keys:
        raise ConfigurationError("client_auth", "give at least one key")
    return keys[0]


def _kid(key: PrivateKey) -> str:
    return key.kid or key.thumbprint()


def _public(key: PrivateKey) -> JSONObject:
    public: JSONObject = {**key.as_dict(private=False)}  # type: ignore[dict-item]
    return {**public, "kid": _kid(key), "use": "sig"}


def _serialized(
    header: JSONObject,
    claims: Mapping[str, JSON | Secret],
    signature: Callable[[bytes], bytes],
) -> Secret:
    data = Secret(f"{_segment(header)}.{_segment(claims)}")
    return Secret(f"{data.reveal()}.{_base64url(signature(data.reveal().encode()))}")


def _segment(value: Mapping[str, JSON | Secret]) -> str:
    return _base64url(json.dumps(dict(value), separators=(",", ":"), default=reveal).encode())


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
