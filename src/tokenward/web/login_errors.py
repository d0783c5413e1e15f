"""The kinds of `LoginFailed` that a browser is told of otherwise than by "please try again"."""

from __future__ import annotations

from ..errors import LoginFailed


class LoginRefused(LoginFailed):
    """`on_login` raised `LoginFailed`: the app does not let this user in."""


class LoginBroken(LoginFailed):
    """`on_login` raised something else: a fault of the app, which its log tells more of."""


class LoginInterrupted(LoginFailed):
    """The provider was out of reach once it may have had the code: only a new login will do."""

    def __init__(self, reason: str, detail: str, *, retry_after: float) -> None:
        super().__init__(reason, detail)
        self.retry_after = retry_after
        """Seconds to wait before the next login."""
