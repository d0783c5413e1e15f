"""Which sessions a user has, and which belong to a session of the provider.

Two sets for each session, one by (issuer, sub) and one by (issuer, sid), hold its key.
Their names are keyed hashes, so whoever reads the store learns nobody's name from them.
Each entry ends with its session at the latest, and goes when the session is ended; it
goes alone, so that ending one session makes none of the others forgotten.
"""

from __future__ import annotations

import asyncio
import hmac
import json
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ..sealing import KeyRing
    from ..tokens.interfaces import Store
    from ..tokens.session import Session

_PURPOSE: Final = "session-index"


class SessionIndex:
    """Finds the keys of sessions by what the provider calls their user, or them."""

    def __init__(self, store: Store, ring: KeyRing) -> None:
        self._store = store
        # The newest names what is added. All of them are looked under, so that a new key
        # makes nobody forgotten.
        *self._older, self._newest = ring.signing_keys(_PURPOSE)

    async def add(self, session: Session, *, ttl: float) -> None:
        """Let `session` be found, for `ttl` seconds at most."""
        await asyncio.gather(
            *(self._store.add(name, session.id, ttl=ttl) for name in _names(self._newest, session))
        )

    async def discard(self, session: Session) -> None:
        """Let `session` be found no more."""
        names = [name for key in self._keys for name in _names(key, session)]
        await asyncio.gather(*(self._store.discard(name, session.id) for name in names))

    async def of_user(self, issuer: str, sub: str) -> frozenset[str]:
        """Return the keys of the sessions of a user; some may have ended by themselves."""
        return await self._members("sub", issuer, sub)

    async def of_provider_session(self, issuer: str, sid: str) -> frozenset[str]:
        """Return the keys of what belongs to one session of the provider's."""
        return await self._members("sid", issuer, sid)

    async def _members(self, claim: str, issuer: str, value: str) -> frozenset[str]:
        names = [_name(key, claim, issuer, value) for key in self._keys]
        return frozenset().union(*await asyncio.gather(*map(self._store.members, names)))

    @property
    def _keys(self) -> list[bytes]:
        return [*self._older, self._newest]


def _names(key: bytes, session: Session) -> list[str]:
    claims = ((claim, session.proof.get(claim)) for claim in ("sub", "sid"))
    return [
        _name(key, claim, session.issuer, value)
        for claim, value in claims
        if isinstance(value, str)
    ]


def _name(key: bytes, claim: str, issuer: str, value: str) -> str:
    # As JSON, because joined text can be cut in two ways.
    digest = hmac.digest(key, json.dumps([claim, issuer, value]).encode(), "sha256")
    return f"{digest.hex()}:{claim}"
