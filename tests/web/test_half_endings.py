"""A session ends whole, its refresh token with it: whoever goes away, and whatever is lost."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from tokenward.errors import StoreUnavailable
from tokenward.stores.memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tokenward.tokens.interfaces import Entry


class Forgetful(MemoryStore):
    """A store that deletes, and whose answer does not come."""

    loses = False
    """Whether the next answer does not come."""
    dies = False
    """Whether it is out of reach from then on."""
    after: Callable[[], Awaitable[object]] | None = None
    """What comes between a deletion and its answer."""

    async def delete(self, key: str, *, version: int | None = None, tombstone: float = 0.0) -> bool:
        deleted = await super().delete(key, version=version, tombstone=tombstone)
        if deleted and self.after is not None:
            await self.after()
        if deleted and self.loses:
            self.loses = False
            raise StoreUnavailable("the answer was lost")
        return deleted

    async def get(self, key: str) -> Entry | None:
        if self.dies and not self.loses:
            raise StoreUnavailable("the store is out of reach")
        return await super().get(key)


@pytest.fixture
async def store() -> Forgetful:
    return Forgetful()


@pytest.fixture
async def site(make_site: Any, store: Forgetful) -> Any:
    site = make_site("memory", store=store)
    await site.login()
    return site


async def given_back(site: Any) -> int:
    await site.auth.revoker.drain(timeout=5.0)
    return int(site.provider.count("revocation"))


async def test_an_answer_that_is_lost_is_asked_for_again(site: Any, store: Forgetful) -> None:
    store.loses = True
    assert await site.auth.sessions.end(sub="alice") == 1
    assert await given_back(site) == 1


async def test_what_may_have_ended_gives_its_refresh_token_back(
    site: Any, store: Forgetful
) -> None:
    store.loses = store.dies = True
    with pytest.raises(StoreUnavailable):
        await site.auth.sessions.end(sub="alice")
    store.dies = False
    assert await site.who() == ""
    assert await given_back(site) == 1


async def leave_amid(work: Awaitable[object], store: Forgetful) -> None:
    """Go away between a deletion and its answer."""
    deleted, answer = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        deleted.set()
        await answer.wait()

    store.after = wait
    caller = asyncio.ensure_future(work)
    await deleted.wait()
    store.after = None
    caller.cancel()
    await asyncio.wait([caller])
    assert caller.cancelled()
    answer.set()
    # What goes on does so by itself; some turns are its way from the store to the revoker.
    for _ in range(10):
        await asyncio.sleep(0)


async def test_an_administrator_who_goes_away_leaves_no_session_half_ended(
    site: Any, store: Forgetful
) -> None:
    await leave_amid(site.auth.sessions.end(sub="alice"), store)
    assert await site.who() == ""
    assert await given_back(site) == 1


async def test_a_browser_that_goes_away_leaves_no_logout_half_done(
    site: Any, store: Forgetful
) -> None:
    logout = site.browser.post("/auth/logout", headers={"origin": "https://app.test"})
    await leave_amid(logout, store)
    assert await site.who() == ""
    assert await given_back(site) == 1


async def test_a_browser_that_goes_away_at_its_next_login_leaves_no_old_session_half_ended(
    site: Any, store: Forgetful
) -> None:
    await leave_amid(site.login("bob"), store)
    assert await given_back(site) == 1
