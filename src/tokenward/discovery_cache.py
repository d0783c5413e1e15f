"""Metadata and keys of one provider, kept for workers that use the protocol client alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from .clock import system_clock
from .endpoints import DEADLINE
from .events import deliver, log_event
from .protocol.metadata import DiscoveryPolicy, check_issuer, mtls_metadata
from .provider.documents import ProviderDocuments

if TYPE_CHECKING:
    from .clock import Clock
    from .events import EventSink
    from .protocol.keys import KeySet
    from .protocol.metadata import ProviderMetadata
    from .transport import AsyncClient

_DRAIN: Final = 5.0
"""Seconds that `aclose` waits for a fetch under way."""


class DiscoveryCache:
    """Read a provider's metadata and keys when they are needed, and keep them for a while.

        cache = DiscoveryCache(http, "https://op.example")
        response = await request_client_credentials_token(
            http, (await cache.metadata()).token_endpoint, client_id="app", client_secret=secret
        )

    However many tasks ask, one fetch is under way. The provider's `Cache-Control` is
    obeyed between 5 minutes and a day, for keys an hour; what is soon over is renewed
    in the background, and while the provider is down the last good document serves for
    a day more. Making one does no I/O. `http` is yours, and of one event loop.

    Args:
        http: Your `AsyncClient`, of httpx or httpx2.
        issuer: The provider, exactly as its metadata spell it.
        policy: What is believed of the metadata. None: the strict one.
        mtls: Whether endpoints are those for clients with a certificate (RFC 8705, section 5).
        deadline: Seconds for each fetch.
        clock: The time.
        on_event: Takes what happens.

    Raises `ConfigurationError` for an issuer that can be none.
    """

    def __init__(
        self,
        http: AsyncClient,
        issuer: str,
        *,
        policy: DiscoveryPolicy | None = None,
        mtls: bool = False,
        deadline: float = DEADLINE,
        clock: Clock = system_clock,
        on_event: EventSink = log_event,
    ) -> None:
        policy = policy or DiscoveryPolicy()
        check_issuer(issuer, policy)
        self.issuer = issuer
        self._mtls = mtls
        self._documents = ProviderDocuments(
            issuer,
            policy=policy,
            http=lambda: http,
            clock=clock,
            timeout=deadline,
            check=lambda _: None,
            emit=lambda event: deliver(event, on_event),
        )

    async def metadata(self) -> ProviderMetadata:
        """Return what the provider says about itself.

        Raises `ProviderUnavailable` or `InvalidMetadata` when there are no good
        metadata of the last day.
        """
        metadata = await self._documents.metadata()
        return mtls_metadata(metadata) if self._mtls else metadata

    async def keys(self) -> KeySet:
        """Return the keys that the provider signs with. Raises what `metadata` raises."""
        return await self._documents.keys()

    async def refresh(self) -> ProviderMetadata:
        """Read the metadata anew, at most once a minute, and return the newest.

        Raises what `metadata` raises, also when there are old ones.
        """
        await self._documents.refresh()
        return await self.metadata()

    async def aclose(self) -> None:
        """Wait for fetches under way. The client stays open, and the cache can be used again."""
        await self._documents.drain(_DRAIN)
