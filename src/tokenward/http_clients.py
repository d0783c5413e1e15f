"""HTTP clients by name: one for everybody, with the token of whoever it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar
from urllib.parse import urlsplit

from .call_rules import CallRules
from .errors import ConfigurationError
from .origins import parse_origin
from .outgoing import CurrentUser
from .provider.own_client import OwnClient, OwnSyncClient
from .tokens.exchange import Exchange
from .tokens.models import LOGIN, Target
from .transport import no_cookies

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import ModuleType

    import httpx

    from .tokens.client_credentials import ClientCredentialsTokens
    from .tokens.interfaces import SyncTokenSource, TokenSource

Whose: TypeAlias = "str | Exchange | TokenSource | SyncTokenSource | None"
"""Whose token a client sends: `"user"`, `"client:<name>"`, what the user's is exchanged for,
any source, or none."""

_CLIENT: Final = "client:"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class NamedClient:
    """How the client of a name is made."""

    base_url: str
    token: Whose
    target: Target
    origins: tuple[str, ...]
    make: Callable[[], httpx.AsyncClient] | None
    make_sync: Callable[[], httpx.Client] | None
    resend_unsafe_methods: bool
    dangerously_allow_http: bool
    clients: ClientCredentialsTokens = field(repr=False)

    def open(self) -> httpx.AsyncClient:
        """Make the client for an event loop."""
        from .httpx import new_async_client

        client = self.make() if self.make else new_async_client()
        client.base_url, client.cookies = self.base_url, no_cookies()
        if auth := self._auth(client):
            client.auth = auth
        return client

    def open_sync(self) -> httpx.Client:
        """Make the client for threads."""
        from .httpx import new_client

        client = self.make_sync() if self.make_sync else new_client()
        client.base_url, client.cookies = self.base_url, no_cookies()
        if auth := self._auth(client):
            client.auth = auth
        return client

    def _auth(self, client: httpx.AsyncClient | httpx.Client) -> httpx.Auth | None:
        source = self._source()
        if source is None:
            return None
        auth: httpx.Auth = _adapter(client).TokenAuth(
            source,
            origins=self.origins,
            resend_unsafe_methods=self.resend_unsafe_methods,
            dangerously_allow_http=self.dangerously_allow_http,
        )
        return auth

    def _source(self) -> TokenSource | SyncTokenSource | None:
        token, target = self.token, self.target
        if isinstance(token, Exchange):
            return CurrentUser(exchange=token)
        if token == "user":  # noqa: S105 - whose it is
            return CurrentUser(target)
        if isinstance(token, str):
            return self.clients.source(
                token.removeprefix(_CLIENT),
                scope=" ".join(target.scope) or None,
                resource=target.resource or None,
            )
        return token


class HTTPClients:
    """The HTTP clients of an app, by name: `auth.http`.

        auth.http.add("invoices", base_url="https://invoices.example", token="user")
        answer = await auth.http.client("invoices").get("/invoices/7")

    Each is made at its first use, for every event loop, keeps its connections, and is
    closed when the app stops. None of them holds anything of a user, nor keeps cookies.
    """

    def __init__(self, clients: ClientCredentialsTokens) -> None:
        self._clients = clients
        self._open: dict[str, OwnClient] = {}
        self._open_sync: dict[str, OwnSyncClient] = {}

    def add(
        self,
        name: str,
        *,
        base_url: str,
        token: Whose,
        resource: str | Sequence[str] = (),
        scope: str | None = None,
        origins: Sequence[str] = (),
        make: Callable[[], httpx.AsyncClient] | None = None,
        make_sync: Callable[[], httpx.Client] | None = None,
        resend_unsafe_methods: bool = True,
        dangerously_allow_http: bool = False,
    ) -> None:
        """Register a client by a name.

        Args:
            name: What it is asked for by.
            base_url: What paths are relative to; https. Its origin gets the token.
            token: `"user"`: the token of the user whose request is being answered.
                `"client:<name>"`: one of the app's own, as registered with `auth.clients`.
                An `Exchange`: what the user's token is exchanged for. Any other source of
                tokens. None: calls carry no token.
            resource: Where the token will be used (RFC 8707), for a user's token or a client's.
            scope: What it may do, names separated by a space. None: all that was granted to
                the user, or what the client is registered with.
            origins: Others that get the token as well, such as where an API's links lead.
            make: Makes an `AsyncClient` of httpx or httpx2, for timeouts, proxies or
                certificates of your own. Its `base_url`, `auth` and cookies are set here.
            make_sync: The same for the `Client` that threads use.
            resend_unsafe_methods: Whether a POST is made again after a 401, which says that
                it was not carried out (RFC 9110, section 15.5.2).
            dangerously_allow_http: Allow plain http on loopback, for development.

        Raises:
            ConfigurationError: the name is taken, or a setting cannot work.
        """
        if name in self._open:
            raise ConfigurationError("http", f"there is a client {name!r} already")
        if isinstance(token, str) and token != "user" and not token.startswith(_CLIENT):  # noqa: S105 - a kind
            raise ConfigurationError("token", 'is "user", "client:<name>", a source, or None')
        target = Target.of(resource=resource, scope=scope)
        if target != LOGIN and not isinstance(token, str):
            raise ConfigurationError("token", "says itself what it is for")
        origin = _origin_of(base_url, dangerously_allow_http=dangerously_allow_http)
        given = (origins,) if isinstance(origins, str) else tuple(origins)
        CallRules.read(
            (origin, *given),
            keep_authorization=False,
            resend_unsafe_methods=resend_unsafe_methods,
            dangerously_allow_http=dangerously_allow_http,
        )
        named = NamedClient(
            base_url,
            token,
            target,
            (origin, *given),
            make,
            make_sync,
            resend_unsafe_methods,
            dangerously_allow_http,
            self._clients,
        )
        self._open[name] = OwnClient(named.open)
        self._open_sync[name] = OwnSyncClient(named.open_sync)

    def client(self, name: str) -> httpx.AsyncClient:
        """Return the client of a name, for the running event loop.

        Raises:
            ConfigurationError: there is none.
        """
        return _known(self._open, name).get()

    def sync_client(self, name: str) -> httpx.Client:
        """Return the client of a name for threads, such as endpoints written with `def`.

        Raises:
            ConfigurationError: there is none.
        """
        return _known(self._open_sync, name).get()

    async def aclose(self) -> None:
        """Close the clients of the running event loop, and those of threads.

        They open again at their next use.
        """
        for own in self._open.values():
            await own.aclose()
        for own_sync in self._open_sync.values():
            own_sync.close()


def _known(clients: Mapping[str, T], name: str) -> T:
    client = clients.get(name)
    if client is None:
        raise ConfigurationError("http", f"there is no client {name!r}: auth.http.add({name!r})")
    return client


def _origin_of(base_url: str, *, dangerously_allow_http: bool) -> str:
    parts = urlsplit(base_url)
    if "@" in parts.netloc:
        raise ConfigurationError("base_url", "must not name a user")
    return parse_origin(
        f"{parts.scheme}://{parts.netloc}",
        setting="base_url",
        dangerously_allow_http=dangerously_allow_http,
    )


def _adapter(client: object) -> ModuleType:
    """Return our module for the library that a client is of."""
    if any(kind.__module__.partition(".")[0] == "httpx2" for kind in type(client).__mro__):
        from . import httpx2

        return httpx2
    from . import httpx

    return httpx
