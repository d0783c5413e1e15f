"""`request.user` and `request.auth`, as Starlette has them, read at first touch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.authentication import AuthCredentials, BaseUser

from ..errors import NotAuthenticated

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..protocol.json import JSON
    from ..tokens.session import User
    from .session import ConnectionSession


class RequestUser(BaseUser):
    """`request.user`: the logged-in user, read at first touch; or nobody.

    Has everything that `tokenward.User` has. For nobody, `is_authenticated` is False
    and `display_name` is empty, as Starlette has it, and the rest raises
    `NotAuthenticated`.
    """

    __slots__ = ("_connection",)

    def __init__(self, connection: ConnectionSession) -> None:
        self._connection = connection

    @property
    def is_authenticated(self) -> bool:
        """Whether somebody is logged in."""
        return self._connection.user is not None

    @property
    def display_name(self) -> str:
        """The user's name; empty for nobody."""
        user = self._connection.user
        return user.name if user else ""

    @property
    def identity(self) -> str:
        """The user's `sub`."""
        return self._known.sub

    @property
    def sub(self) -> str:
        """The provider's name for the user."""
        return self._known.sub

    @property
    def issuer(self) -> str:
        """The provider."""
        return self._known.issuer

    @property
    def name(self) -> str:
        """The user's name, to be shown."""
        return self._known.name

    @property
    def roles(self) -> frozenset[str]:
        """The user's roles."""
        return self._known.roles

    @property
    def claims(self) -> Mapping[str, JSON]:
        """The claims that are kept in the session."""
        return self._known.claims

    @property
    def _known(self) -> User:
        user = self._connection.user
        if user is None:
            raise NotAuthenticated
        return user


class RequestAuth(AuthCredentials):
    """`request.auth`: what Starlette's `@requires` looks at, read at first touch.

    The scopes are `authenticated`, every scope that the provider granted, and
    `role:<name>` for every role. A granted scope of one of these forms is none of them:
    whoever may ask for scopes could otherwise ask for a role.
    """

    def __init__(self, connection: ConnectionSession) -> None:
        self._connection = connection

    @property
    def scopes(self) -> list[str]:  # type: ignore[override]
        """The scopes of the user; none for nobody."""
        session, user = self._connection.session, self._connection.user
        if session is None or user is None:
            return []
        roles = (f"role:{role}" for role in sorted(user.roles))
        granted = (scope for scope in session.tokens.scope if not scope.startswith("role:"))
        return ["authenticated", *sorted(granted), *roles]
