"""One fetch for all who wait, and no outage of the provider before it hurts."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from tokenward.discovery_cache import DiscoveryCache
from tokenward.errors import ConfigurationError, InvalidMetadata, ProviderUnavailable
from tokenward.protocol.metadata import DiscoveryPolicy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

ISSUER = "https://op.test"
PLACE = "openid-configuration"


@pytest.fixture
async def make(op: Any, clock: Any) -> AsyncIterator[Callable[..., DiscoveryCache]]:
    async with op.client() as http:

        def make(issuer: str = ISSUER, **settings: Any) -> DiscoveryCache:
            return DiscoveryCache(http, issuer, clock=clock, **settings)

        yield make


async def test_many_who_ask_are_one_fetch(op: Any, make: Any) -> None:
    cache = make()
    assert op.requests == []
    metadata = await asyncio.gather(*(cache.metadata() for _ in range(20)))
    assert {known.token_endpoint for known in metadata} == {f"{ISSUER}/token"}
    keys = await asyncio.gather(*(cache.keys() for _ in range(20)))
    assert len(keys[0].keys) == 1
    assert (op.count(PLACE), op.count("jwks")) == (1, 1)


async def test_the_last_good_document_serves_while_the_provider_is_down(
    op: Any, make: Any, clock: Any
) -> None:
    cache = make()
    await cache.metadata()
    op.down.add(PLACE)
    clock.advance(3601)
    assert (await cache.metadata()).token_endpoint == f"{ISSUER}/token"
    clock.advance(24 * 3600)
    with pytest.raises(ProviderUnavailable):
        await cache.metadata()


async def test_an_error_is_not_kept(op: Any, make: Any, clock: Any) -> None:
    cache = make()
    op.down.add(PLACE)
    with pytest.raises(ProviderUnavailable):
        await cache.metadata()
    op.down.clear()
    clock.advance(10)
    assert (await cache.metadata()).issuer == ISSUER


async def test_a_refresh_reads_anew_once_a_minute(op: Any, make: Any, clock: Any) -> None:
    cache = make()
    await cache.metadata()
    op.metadata["token_endpoint"] = f"{ISSUER}/token2"
    assert (await cache.refresh()).token_endpoint == f"{ISSUER}/token2"
    for _ in range(5):
        await cache.refresh()
    assert op.count(PLACE) == 2
    clock.advance(61)
    await cache.refresh()
    assert op.count(PLACE) == 3


async def test_the_policy_is_obeyed(op: Any, make: Any) -> None:
    op.metadata["token_endpoint"] = "https://other.test/token"
    with pytest.raises(InvalidMetadata, match="token_endpoint"):
        await make(policy=DiscoveryPolicy(endpoint_hosts=frozenset())).metadata()
    with pytest.raises(ConfigurationError):
        make("http://op.test")


async def test_a_client_with_a_certificate_gets_its_endpoints(op: Any, make: Any) -> None:
    op.metadata["mtls_endpoint_aliases"] = {"token_endpoint": "https://mtls.op.test/token"}
    assert (await make(mtls=True).metadata()).token_endpoint == "https://mtls.op.test/token"
    assert (await make().metadata()).token_endpoint == f"{ISSUER}/token"


async def test_closing_leaves_the_callers_client_open(make: Any) -> None:
    cache = make()
    await cache.aclose()
    assert (await cache.metadata()).issuer == ISSUER
