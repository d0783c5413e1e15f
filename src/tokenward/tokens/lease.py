"""Leases of sessions, each kept alive for as long as the work takes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from ..background import Background
from ..errors import StoreUnavailable
from .waiting import Turns

if TYPE_CHECKING:
    from collections.abc import Callable

    from .interfaces import Lease, Store
    from .refresh_settings import RefreshSettings

_PAUSE: Final = 0.5
"""Seconds between two attempts to give a lease back."""


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
        if not self._lost and self._is_in_doubt:
            await self._renew()
        # The answer may have come long after the store gave it.
        return not self._lost and not self._is_in_doubt

    async def release(self) -> None:
        """Stop renewing and give the lease back.

        A store that is out of reach is asked again, until the lease has run out by itself:
        whoever comes when it is back should not find a lease that nobody needs.
        """
        self._task.cancel()
        await asyncio.wait([self._task])
        while True:
            try:
                await self._store.release(self._lease)
            except StoreUnavailable:
                if _time() >= self._since + self._ttl:
                    return
            else:
                return
            await asyncio.sleep(_PAUSE)

    async def _keep(self) -> None:
        while not self._lost:
            await asyncio.sleep(self._renewal)
            try:
                await self._renew()
            except Exception:  # noqa: BLE001, S112 - the work goes on, as does the lease if it can
                # Compare-and-set guards the write should somebody take the lease now.
                continue

    @property
    def _is_in_doubt(self) -> bool:
        return _time() - self._since >= self._ttl / 2

    async def _renew(self) -> None:
        asked_at = _time()
        self._lost = not await self._store.renew(self._lease, ttl=self._ttl)
        self._since = asked_at


class SessionLeases:
    """Takes the leases of sessions and gives them back, one at a time per session.

    In this process as well: who lost a lease because the process stood still may go on all
    the same, and is waited for.
    """

    def __init__(
        self, store: Store, settings: RefreshSettings, *, jitter: Callable[[], float]
    ) -> None:
        self._store = store
        self._settings = settings
        self._jitter = jitter
        self._at_work: set[str] = set()
        self._releases = Background()

    async def take(self, session_id: str) -> HeldLease | None:
        """Take the lease of a session; None while somebody else has it. To be `finish`ed.

        Raises:
            StoreUnavailable: the store could not be asked.
        """
        if session_id in self._at_work:
            return None
        settings, since = self._settings, _time()
        self._at_work.add(session_id)
        lease = None
        try:
            lease = await self._store.acquire(lease_key(session_id), ttl=settings.lease_ttl)
        finally:
            if lease is None:
                self._at_work.discard(session_id)
        if lease is None:
            return None
        return HeldLease(
            self._store,
            lease,
            ttl=settings.lease_ttl,
            renewal=settings.lease_renewal,
            since=since,
        )

    async def wait(self, session_id: str) -> HeldLease | None:
        """Take the lease as soon as nobody else has it; None if that takes too long."""
        turns = Turns(self._settings.wait, jitter=self._jitter)
        while await turns.again():
            if held := await self.take(session_id):
                return held
        return None

    def finish(self, session_id: str, held: HeldLease, *, keep: bool) -> None:
        """Let others have their turn, with the lease given back unless somebody is to `keep` it.

        Nobody waits for that: who waits for the lease finds what was written under it.
        """
        self._at_work.discard(session_id)
        if not keep:
            self._releases.begin(held.release())

    async def drain(self, *, timeout: float) -> None:  # noqa: ASYNC109 - part of what is promised
        """Wait for what is being given back, `timeout` seconds at most; the rest runs out."""
        await self._releases.drain(timeout)


def _time() -> float:
    return asyncio.get_running_loop().time()
