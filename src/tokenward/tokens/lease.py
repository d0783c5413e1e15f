"""A lease that is kept alive for as long as the work takes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ..errors import StoreUnavailable

if TYPE_CHECKING:
    from .interfaces import Lease, Store


def lease_key(session_id: str) -> str:
    """Return the key of the lease under which a session's refresh token is spent."""
    return f"{session_id}:lease"


class HeldLease:
    """Renews a lease until it is released.

    A lease that is shorter than a slow provider loses sessions (attacks.md 228), so
    it is renewed while the work goes on; a process that dies stops renewing, and
    the others go on after `ttl` seconds. `since` is the time of the loop at which it
    was asked for.
    """

    def __init__(
        self, store: Store, lease: Lease, *, ttl: float, renewal: float, since: float
    ) -> None:
        self._store = store
        self._lease = lease
        self._ttl = ttl
        self._renewal = renewal
        self._since = since
        self._lost = False
        self._task = asyncio.create_task(self._keep())

    async def confirm(self) -> bool:
        """Tell whether it is still held, by asking the store if that is in doubt.

        It is when this process stood still for so long that nothing was renewed. To
        be called right before what must not happen twice.

        Raises:
            StoreUnavailable: the store could not be asked.
        """
        if not self._lost and _time() - self._since >= self._ttl / 2:
            await self._renew()
        return not self._lost

    async def release(self) -> None:
        """Stop renewing and give the lease back; a store that is out of reach lets it run out."""
        self._task.cancel()
        await asyncio.wait([self._task])
        try:
            await self._store.release(self._lease)
        except StoreUnavailable:
            return

    async def _keep(self) -> None:
        while not self._lost:
            await asyncio.sleep(self._renewal)
            try:
                await self._renew()
            except Exception:  # noqa: BLE001, S112 - the work goes on, as does the lease if it can
                # Compare-and-set guards the write should somebody take the lease now.
                continue

    async def _renew(self) -> None:
        asked_at = _time()
        self._lost = not await self._store.renew(self._lease, ttl=self._ttl)
        self._since = asked_at


def _time() -> float:
    return asyncio.get_running_loop().time()
