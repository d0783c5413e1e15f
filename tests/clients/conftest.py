"""Tokens of the app itself: every test of `both` runs on the event loop and in threads."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

# `token_endpoint` is a module beside this one.
sys.path.insert(0, str(Path(__file__).parent))

from token_endpoint import TokenEndpoint

from tokenward import ClientCredentialsTokens

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tokenward import AccessToken
    from tokenward.events import Event
    from tokenward.testing import FrozenClock


@dataclass
class Way:
    """One of the two ways to ask for tokens, with everything around it."""

    sync: bool
    endpoint: TokenEndpoint
    clock: FrozenClock
    events: list[Event] = field(default_factory=list)
    jitter: float = 0.0
    made: list[ClientCredentialsTokens] = field(default_factory=list)

    def tokens(self, **settings: Any) -> ClientCredentialsTokens:
        """Make what one process has."""
        given = {"clock": self.clock, "on_event": self.events.append, "jitter": lambda: self.jitter}
        tokens = ClientCredentialsTokens(**{**given, **settings})
        tokens.add("reports", self.endpoint.registration())
        self.made.append(tokens)
        return tokens

    async def get(
        self, tokens: ClientCredentialsTokens, name: str = "reports", **wish: Any
    ) -> AccessToken:
        if self.sync:
            return await asyncio.to_thread(tokens.token_sync, name, **wish)
        return await tokens.token(name, **wish)

    async def delete(
        self, tokens: ClientCredentialsTokens, name: str = "reports", **wish: Any
    ) -> None:
        if self.sync:
            await asyncio.to_thread(tokens.delete_sync, name, **wish)
        else:
            await tokens.delete(name, **wish)


@pytest.fixture
def endpoint() -> TokenEndpoint:
    return TokenEndpoint()


@pytest.fixture(params=["async", "sync"])
async def both(
    request: pytest.FixtureRequest, endpoint: TokenEndpoint, frozen_clock: FrozenClock
) -> AsyncIterator[Way]:
    """Run the test once on the event loop and once in threads."""
    way = Way(request.param == "sync", endpoint, frozen_clock)
    yield way
    for tokens in way.made:
        await tokens.aclose()
        tokens.close()
