"""Why an app has no session for a user whom the provider has vouched for."""

from __future__ import annotations

from ..errors import LoginFailed


class LoginRefused(LoginFailed):
    """`on_login` raised `LoginFailed`: the app does not let this user in."""


class LoginBroken(LoginFailed):
    """`on_login` raised something else: a fault of the app, which its log tells more of."""
