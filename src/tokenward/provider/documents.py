"""What a provider publishes about itself: its metadata and its keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from ..endpoints import get_discovery_document, get_json_web_key_set
from ..errors import (
    ConfigurationError,
    InvalidMetadata,
    InvalidSignature,
    InvalidToken,
    ProviderUnavailable,
    SigningKeyNotFound,
    TokenwardError,
)
from ..events import (
    EndpointsElsewhere,
    KeysFetched,
    KeysThrottled,
    MetadataFetched,
    MetadataRefused,
    ProviderDown,
)
from .cached_document import COOL_DOWN, DEFAULT, CachedDocument, Fetched, max_age_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..clock import Clock
    from ..events import EventSink
    from ..protocol.keys import KeySet
    from ..protocol.metadata import DiscoveryPolicy, ProviderMetadata
    from ..protocol.responses import ProtocolResponse
    from ..transport import AsyncClient

T = TypeVar("T")


class ProviderDocuments:
    """Keep the metadata and the keys of one provider, and of no other.

    `http` gives the client of the running event loop, `timeout` is in seconds for
    each fetch, and `check` raises `ConfigurationError` for metadata that this client
    cannot work with.
    """

    def __init__(
        self,
        issuer: str,
        *,
        policy: DiscoveryPolicy,
        http: Callable[[], AsyncClient],
        clock: Clock,
        timeout: float,
        check: Callable[[ProviderMetadata], None],
        emit: EventSink,
    ) -> None:
        self._issuer = issuer
        self._policy = policy
        self._http = http
        self._timeout = timeout
        self._check = check
        self._emit = emit
        self._elsewhere: tuple[str, ...] = ()
        self._metadata = CachedDocument(self._fetch_metadata, clock=clock, on_failure=self._report)
        # Keys never for longer than an hour: one that was withdrawn may be in wrong hands.
        self._keys = CachedDocument(
            self._fetch_keys, clock=clock, on_failure=self._report, longest=DEFAULT
        )

    async def metadata(self) -> ProviderMetadata:
        """Return what the provider says about itself.

        Raises `ProviderUnavailable`, `InvalidMetadata` or `ConfigurationError` when
        there are no good metadata of the last day.
        """
        return await self._metadata.get()

    async def refresh(self) -> None:
        """Read the metadata anew, at most once per `COOL_DOWN`. Raises what `metadata` raises."""
        await self._metadata.newer_than(await self._metadata.get())

    async def keys(self) -> KeySet:
        """Return the provider's keys. Raises what `metadata` raises."""
        return await self._keys.get()

    async def judge(self, validate: Callable[[KeySet], T]) -> T:
        """Return what `validate` makes of the keys, with newer ones if those may help.

        A key that is unknown is looked for once (OIDC Core 10.1.1), and so is another
        key under the same name if ours are older than `COOL_DOWN`. Raises what
        `validate` raises, and `ProviderError` when no keys can be had.
        """
        keys = await self._keys.get()
        refusal: InvalidToken
        try:
            return validate(keys)
        except SigningKeyNotFound as error:
            refusal, min_age = error, 0.0
        except InvalidSignature as error:
            refusal, min_age = error, COOL_DOWN
        newer = await self._keys.newer_than(keys, min_age=min_age)
        if newer is None:
            if min_age == 0.0:
                self._emit(KeysThrottled(self._issuer))
            raise refusal
        return validate(newer)

    async def drain(self, timeout: float) -> None:  # noqa: ASYNC109 - part of what is promised
        """Wait `timeout` seconds at most for fetches under way."""
        await self._keys.drain(timeout)
        await self._metadata.drain(timeout)

    async def _fetch_metadata(self) -> Fetched[ProviderMetadata]:
        response = await get_discovery_document(
            self._http(), self._issuer, policy=self._policy, deadline=self._timeout
        )
        if response.is_error:
            raise _failure("discovery document", response)
        metadata = response.metadata
        self._check(metadata)
        self._emit(MetadataFetched(self._issuer))
        self._tell_other_hosts(metadata)
        return Fetched(metadata, max_age_of(response.headers))

    async def _fetch_keys(self) -> Fetched[KeySet]:
        address = (await self.metadata()).jwks_uri
        response = await get_json_web_key_set(self._http(), address, deadline=self._timeout)
        if response.is_error:
            raise _failure("key set", response)
        key_set = response.key_set
        self._emit(KeysFetched(self._issuer, len(key_set.keys)))
        return Fetched(key_set, max_age_of(response.headers))

    def _report(self, failure: TokenwardError) -> None:
        if isinstance(failure, InvalidMetadata):
            self._emit(MetadataRefused(self._issuer, failure.member, failure.problem))
        elif isinstance(failure, ConfigurationError):
            self._emit(MetadataRefused(self._issuer, failure.setting, failure.problem))
        else:
            self._emit(ProviderDown(self._issuer, str(failure)))

    def _tell_other_hosts(self, metadata: ProviderMetadata) -> None:
        urls = [
            value
            for member, value in metadata.raw.items()
            if isinstance(value, str) and (member.endswith("_endpoint") or member == "jwks_uri")
        ]
        hosts = {urlsplit(url).netloc for url in urls} - {urlsplit(self._issuer).netloc}
        elsewhere = tuple(sorted(hosts))
        if elsewhere != self._elsewhere:
            self._elsewhere = elsewhere
            self._emit(EndpointsElsewhere(self._issuer, elsewhere))


def _failure(document: str, response: ProtocolResponse) -> TokenwardError:
    """Turn an answer without a usable document into what says so."""
    if isinstance(response.exception, ProviderUnavailable | InvalidMetadata):
        return response.exception
    if response.exception is not None:
        return InvalidMetadata("document", f"{document}: {response.error}")
    return ProviderUnavailable(f"the {document} was answered with HTTP {response.http_status}")
