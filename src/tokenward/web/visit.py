"""One request to a route of ours, and the addresses that belong to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl

from ..events import LoginFailure, RedirectBlocked
from ..protocol.responses import printable
from ..settings import is_mount_path
from .challenge import answer, is_navigation
from .return_to import allowed_target

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.types import Receive, Scope

    from ..errors import LoginFailed, TokenwardError
    from ..management import TokenManagement
    from ..provider import OpenIDProvider
    from ..settings import PublicUrl
    from .cookies import Headers
    from .session import ConnectionSession

_STATUS: Final = {
    ("POST", "body_type"): 415,
    ("POST", "body_too_large"): 413,
    ("POST", "callback_too_large"): 413,
    ("POST", "body_too_slow"): 408,
}
"""What is not said by 400."""

_INVALID: Final = "\ufffd"
"""Stands in a value for what is no UTF-8."""


@dataclass(frozen=True)
class Visit:
    """One request to a route of ours. Nothing in it but the settings makes an address."""

    management: TokenManagement
    connection: ConnectionSession
    scope: Scope = field(repr=False)
    receive: Receive = field(repr=False)
    path: str
    """Relative to where the app is mounted."""
    public_url: PublicUrl
    """The address under which this browser knows the app."""
    base_path: str
    """Where the app is mounted; empty at the root."""

    @property
    def method(self) -> str:
        """The HTTP method."""
        return str(self.scope["method"])

    @property
    def headers(self) -> Headers:
        """The raw headers."""
        headers: Headers = self.scope["headers"]
        return headers

    @property
    def query(self) -> bytes:
        """The raw query string."""
        return bytes(self.scope["query_string"])

    @property
    def prefix(self) -> str:
        """The path below which our routes live, relative to where the app is mounted."""
        return self.management.settings.prefix

    @property
    def landing(self) -> str:
        """Where a browser goes that named no page."""
        return self.base_path + self.management.settings.landing

    @property
    def after_logout(self) -> str:
        """Where a browser goes after a logout that named no page."""
        return self.base_path + self.management.settings.after_logout

    @property
    def login_url(self) -> str:
        """The login route."""
        return f"{self.base_path}{self.prefix}/login"

    @cached_property
    def is_navigation(self) -> bool:
        """Whether a page is expected, rather than an answer for a script."""
        return is_navigation(self.method, headers=self.headers)

    def address(self, path: str) -> str:
        """Return the absolute address of a path of ours, for the provider."""
        return f"{self.public_url.origin}{self.base_path}{path}"

    def callback_path(self, provider: OpenIDProvider) -> str:
        """Return where `provider` sends browsers back to."""
        return callback_path(self.management, provider)

    def allowed(self, target: str | None) -> str | None:
        """Return a target where browsers may be sent, unchanged.

        It is of this site, or of one of `allowed_return_origins`. None if it is of another,
        or one of our routes.
        """
        return allowed_target(
            target,
            allowed_origins=self.management.settings.allowed_return_origins,
            forbidden_prefixes=self._forbidden,
        )

    def wanted(self, name: str) -> str | None:
        """Return the target that the parameter `name` asks for, if it is an allowed one.

        None if there is none; and if it leads elsewhere, which is told by an event. What
        begins with the public address of the app is of this site, too.
        """
        asked = self._values(name)
        target = self._relative(asked[0]) if len(asked) == 1 else None
        found = self.allowed(target)
        if found is None and any(asked):
            self.management.emit(RedirectBlocked(target=printable(" ".join(asked))))
        return found

    def parameter(self, name: str) -> str | None:
        """Return a query parameter; None if it is missing, empty, or there twice.

        "Request and response parameters MUST NOT be included more than once." (RFC 6749,
        section 3.1)
        """
        values = self._values(name)
        value = values[0] if len(values) == 1 else ""
        return None if not value or _INVALID in value else value

    def tell(self, error: TokenwardError) -> Response:
        """Answer what went wrong, without saying more than that to anybody."""
        return answer(error, navigation=self.is_navigation, login_url=self.login_url)

    def refuse(self, error: LoginFailed) -> Response:
        """Answer a login that failed; only the log is told why."""
        self.management.emit(LoginFailure(reason=error.reason, detail=error.detail))
        response = self.tell(error)
        response.status_code = _STATUS.get((self.method, error.reason), response.status_code)
        return response

    @cached_property
    def _forbidden(self) -> tuple[str, ...]:
        """Our own routes: a login that ended at one of them would begin anew, or be undone."""
        paths = map(self.callback_path, self.management.providers.values())
        return tuple(self.base_path + path for path in (self.prefix, *paths))

    def _relative(self, target: str) -> str:
        origin = self.public_url.origin
        return target.removeprefix(origin) if target.startswith(f"{origin}/") else target

    def _values(self, name: str) -> list[str]:
        return [value for key, value in self._pairs if key == name]

    @cached_property
    def _pairs(self) -> list[tuple[str, str]]:
        query = self.query.decode("ascii", "replace")
        try:
            return parse_qsl(query, keep_blank_values=True, max_num_fields=100)
        except ValueError:
            return []


def callback_path(management: TokenManagement, provider: OpenIDProvider) -> str:
    """Return where `provider` sends browsers back to, relative to where the app is mounted."""
    return provider.redirect_path or f"{management.settings.prefix}/callback"


def base_path(management: TokenManagement, *, root_path: str) -> str:
    """Return where the app is mounted: as `public_url` says, else as the server does."""
    told = management.settings.public_urls[0].path
    root = root_path.rstrip("/")
    return told or (root if is_mount_path(root) else "")
