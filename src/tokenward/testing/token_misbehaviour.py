"""Ways in which what the provider signs can be wrong.

Queue them at `token` for id_tokens, at `userinfo` and `introspection` for their signed
answers, and give them to `Provider.logout_token`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from .keys import KEY_TYPES, Draft, Key, SigningKeys, generate_key
from .misbehaviour import Fault

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .clients import JSON


class WrongClaim(Fault):
    """Put these values into the id_token: `WrongClaim({"nonce": "x"})`."""

    __slots__ = ("claims",)

    def __init__(self, claims: Mapping[str, JSON]) -> None:
        self.claims: Mapping[str, JSON] = dict(claims)

    def __repr__(self) -> str:
        return f"WrongClaim({', '.join(self.claims)})"

    def token(self, draft: Draft, keys: SigningKeys) -> Draft:
        """See `Fault`."""
        del keys
        return replace(draft, claims={**draft.claims, **self.claims})


class MissingClaim(Fault):
    """Leave these claims out of the id_token: `MissingClaim("sub")`."""

    __slots__ = ("names",)

    def __init__(self, *names: str) -> None:
        self.names: tuple[str, ...] = names

    def __repr__(self) -> str:
        return f"MissingClaim({', '.join(self.names)})"

    def token(self, draft: Draft, keys: SigningKeys) -> Draft:
        """See `Fault`."""
        del keys
        kept = {name: value for name, value in draft.claims.items() if name not in self.names}
        return replace(draft, claims=kept)


@dataclass(frozen=True, slots=True)
class ClockSkew(Fault):
    """Date the id_token as a provider would whose clock is ahead, or behind if negative."""

    seconds: int

    def token(self, draft: Draft, keys: SigningKeys) -> Draft:
        """See `Fault`."""
        del keys
        times = {
            name: value + self.seconds
            for name, value in draft.claims.items()
            if name in {"iat", "exp", "nbf", "auth_time"} and isinstance(value, int)
        }
        return replace(draft, claims={**draft.claims, **times})


@dataclass(frozen=True, slots=True)
class WrongHeader(Fault):
    """Put these members into the id_token's header; None leaves one out."""

    members: Mapping[str, JSON]

    def token(self, draft: Draft, keys: SigningKeys) -> Draft:
        """See `Fault`."""
        del keys
        header = {**draft.header, **self.members}
        return replace(draft, header={k: v for k, v in header.items() if v is not None})


@dataclass(frozen=True, slots=True)
class WrongKid(Fault):
    """Name a key that the key set does not have; None names none."""

    kid: str | None = "unknown"

    def token(self, draft: Draft, keys: SigningKeys) -> Draft:
        """See `Fault`."""
        return WrongHeader({"kid": self.kid}).token(draft, keys)


@dataclass(frozen=True, slots=True)
class UnsignedIdToken(Fault):
    """Leave the signature empty, and say so in the header."""

    alg: str = "none"
    """As the header spells it: `none`, `None`, `nOnE`."""

    def token(self, draft: Draft, keys: SigningKeys) -> Draft:
        """See `Fault`."""
        del keys
        return replace(draft, header={**draft.header, "alg": self.alg}, alg="none")


@dataclass(frozen=True, slots=True)
class BrokenSignature(Fault):
    """Spoil the signature."""

    def token(self, draft: Draft, keys: SigningKeys) -> Draft:
        """See `Fault`."""
        del keys
        return replace(draft, broken=True)


@dataclass(frozen=True, slots=True)
class ForeignKey(Fault):
    """Sign with a key that is not the provider's, under the name of one that is."""

    def token(self, draft: Draft, keys: SigningKeys) -> Draft:
        """See `Fault`."""
        del keys
        return replace(draft, key=generate_key(KEY_TYPES[draft.alg], "foreign"))


@dataclass(frozen=True, slots=True)
class WrongAlg(Fault):
    """Sign correctly, with an algorithm that the client did not ask for.

    The provider publishes its key of that type. HS256, HS384 and HS512 sign with
    `secret`.
    """

    alg: str
    secret: bytes | None = field(default=None, repr=False)
    """The key of an HMAC. None: the client's secret."""

    def token(self, draft: Draft, keys: SigningKeys) -> Draft:
        """See `Fault`."""
        key: Key | bytes
        header: dict[str, JSON] = {**draft.header, "alg": self.alg}
        if self.alg in KEY_TYPES:
            key = keys.current(KEY_TYPES[self.alg])
            header["kid"] = key.kid
        else:
            key = self.secret or draft.client_secret.encode()
        return replace(draft, header=header, alg=self.alg, key=key)
