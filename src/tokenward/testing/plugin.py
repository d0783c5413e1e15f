"""The pytest plugin: `oidc_provider`, `frozen_clock`, `login_as` and the `case` marker.

It is loaded in every pytest run in whose environment tokenward is installed, so
everything heavy is imported by the fixture that needs it.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .clock import FrozenClock
    from .login import LoginAs
    from .provider import Provider


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line("markers", "case(number): the row of the attack matrix it shows")


@pytest.fixture
def frozen_clock() -> FrozenClock:
    """Return a clock that stands still: `frozen_clock.advance(60)`."""
    from .clock import FrozenClock

    return FrozenClock()


@pytest.fixture
def oidc_provider(frozen_clock: FrozenClock) -> Provider:
    """Return a provider at `https://op.test`, on the frozen clock, with alice and bob.

    Its client `app` with the secret `secret` comes back to
    `https://app.test/auth/callback`; `oidc_provider.register(Client("app", ...))`
    replaces it by your own.
    """
    from .clients import Client, User
    from .provider import Provider

    app = Client(
        "app",
        redirect_uris=["https://app.test/auth/callback"],
        post_logout_redirect_uris=["https://app.test/auth/logout/callback"],
    )
    users = [
        User(sub, name=sub.title(), claims={"email": f"{sub}@example.org", "email_verified": True})
        for sub in ("alice", "bob")
    ]
    return Provider("https://op.test", clients=[app], users=users, clock=frozen_clock)


@pytest.fixture
def login_as(oidc_provider: Provider) -> LoginAs:
    """Return `login_as` of `tokenward.testing`, with `oidc_provider` filled in.

    response = await login_as(client, "alice", app_login_path="/auth/login")
    """
    from .login import login_as

    return partial(login_as, provider=oidc_provider)
