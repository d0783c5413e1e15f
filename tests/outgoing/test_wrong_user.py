"""Many users on one pooled client: no call ever carries somebody else's token.

The size is a setting: WRONG_USER_USERS and WRONG_USER_CALLS. Each night 200 and 100000.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from tokenward import Lifetimes
from tokenward.single_flight import SingleFlight
from tokenward.testing import User

if TYPE_CHECKING:
    import httpx

    from conftest import MakeSite, Site

USERS = int(os.environ.get("WRONG_USER_USERS", "25"))
CALLS = int(os.environ.get("WRONG_USER_CALLS", "1500"))
LIFETIME = 3600
AT_ONCE = 50


async def storm(site: Site, *, users: int, calls: int) -> Counter[str]:
    """Call the API as everybody, cancel some, end tokens, refuse some; count what came of it."""
    # How many calls reach the API before they are cancelled depends on the machine, so the API
    # has dice of its own: what is done here is the same every time.
    dice, dice_of_api = random.Random(20261121), random.Random(20261121)
    seen: Counter[str] = Counter()

    def check(request: httpx.Request) -> bool:
        token = request.headers["authorization"].removeprefix("Bearer ")
        live = site.provider._core.ledger.live_access_token(token)
        if live is not None:
            mine = live.grant.sub == request.headers["x-user"]
            seen["own" if mine else "foreign"] += 1
        return dice_of_api.random() < 0.03

    site.api.refuse = check
    names = [f"user-{number}" for number in range(users)]
    for name in names:
        site.provider.add_user(User(name))
    browsers = [await site.browser(name) for name in names]
    for _ in range(calls // AT_ONCE):
        if dice.random() < 0.2:
            site.clock.advance(LIFETIME)
        tasks = [asyncio.create_task(dice.choice(browsers).get("/checked")) for _ in range(AT_ONCE)]
        for task in tasks:
            if dice.random() < 0.1:
                asyncio.get_running_loop().call_later(dice.random() / 100, task.cancel)
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, asyncio.CancelledError):
                seen["cancelled"] += 1
            elif isinstance(result, BaseException):
                raise result
            else:
                seen[f"HTTP {result.status_code}"] += 1
    return seen


@pytest.mark.case(365)
@pytest.mark.case(367)
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", ["memory", "cookie"])
async def test_no_call_carries_the_token_of_another_user(make_site: MakeSite, kind: str) -> None:
    site = make_site(kind, lifetimes=Lifetimes(idle=1e8, absolute=1e8))
    seen = await storm(site, users=USERS, calls=CALLS // 2)
    assert seen["foreign"] == 0
    assert seen["own"] > CALLS / 4
    assert seen["cancelled"]
    assert site.refreshes() > USERS
    # A browser that goes away loses the cookie that is on its way to it, and the session in it.
    lost = {"HTTP 401"} if kind == "cookie" else set()
    assert set(seen) <= {"own", "cancelled", "HTTP 200"} | lost


@pytest.mark.case(365)
async def test_the_storm_notices_a_sharing_key_that_is_wrong(
    make_site: MakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = SingleFlight.start

    def mixed_up(self: SingleFlight[Any], key: object, attempt: Any) -> Any:
        return start(self, "everybody", attempt)

    site = make_site("memory")
    site.provider.sign_in_automatically(None)
    monkeypatch.setattr(SingleFlight, "start", mixed_up)
    seen: Counter[str] = Counter()
    with pytest.raises(AssertionError):  # noqa: PT012 - either of the two shows it
        seen = await storm(site, users=10, calls=300)
        assert seen["foreign"] == 0
