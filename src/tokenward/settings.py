"""The settings of an app, checked: what is unsafe or incomplete stops the start."""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Collection, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from .errors import ConfigurationError
from .origins import parse_origin
from .provider import OpenIDProvider
from .setting_kinds import check_kind, check_number, read_kind

if TYPE_CHECKING:
    from .protocol.json import JSON
    from .tokens.interfaces import Store
    from .tokens.models import TokenSet
    from .tokens.session import User

Scope: TypeAlias = MutableMapping[str, Any]
"""An ASGI scope, as Starlette types it."""

OnLogin: TypeAlias = Callable[["User", "TokenSet"], Awaitable["Mapping[str, JSON] | None"]]
"""Called at every login, before there is a session.

Raise `LoginFailed(reason)` to refuse: the browser is told 403. Any other exception is a
fault of the app: a 500, and in the log where it was raised. Return what `request.session`
shall begin with.
"""

DEFAULT_PROVIDER: Final = "default"
"""The name of the provider where there is only one."""

DEFAULT_CLAIMS: Final = frozenset(
    {
        *("sub", "name", "given_name", "family_name", "middle_name", "nickname"),
        *("preferred_username", "profile", "picture", "website", "gender", "birthdate"),
        *("zoneinfo", "locale", "updated_at", "email", "email_verified", "phone_number"),
        *("phone_number_verified", "address", "role", "roles", "groups"),
        *("sid", "auth_time", "acr", "amr"),
    }
)
"""The claims that a session keeps unless told otherwise: those of OIDC Core 5.1, and roles."""

_LONGEST: Final = 100 * 365 * 24 * 60 * 60.0

_PATH: Final = re.compile(r"(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._~-]+)*")


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """How long a session lives. Seconds."""

    idle: float = 8 * 60 * 60.0
    """8 hours without a request that reads the session, a working day."""
    absolute: float = 7 * 24 * 60 * 60.0
    """7 days after the login, whatever happens."""

    def __post_init__(self) -> None:
        for setting in ("idle", "absolute"):
            check_number(f"lifetimes.{setting}", getattr(self, setting))
        if not 0 < self.idle <= self.absolute:
            raise ConfigurationError("lifetimes", "needs 0 < idle <= absolute, in seconds")
        if self.absolute > _LONGEST:
            # The end of every session is a date.
            raise ConfigurationError("lifetimes.absolute", "must be at most a hundred years")


@dataclass(frozen=True, slots=True)
class PublicUrl:
    """An address under which browsers know the app."""

    origin: str
    """Scheme, host and port, as `https://shop.example`."""
    host: str
    """Host and port as browsers send them in the Host header."""
    path: str
    """Where the app is mounted; empty at the root. Never ends with a slash."""
    secure: bool
    """Whether it is https."""

    def is_host(self, host: str) -> bool:
        """Tell whether a browser that sends this Host header, in lower case, used this address."""
        return host.removesuffix(":443" if self.secure else ":80").rstrip(".") == self.host


@dataclass(frozen=True, slots=True)
class AppSettings:
    """What the web layer needs to know, checked and frozen."""

    public_urls: tuple[PublicUrl, ...]
    prefix: str
    landing: str
    after_logout: str
    allowed_return_origins: frozenset[str]
    carry_over: tuple[str, ...]
    on_login: OnLogin | None
    preload: bool | Callable[[Scope], bool]
    revoke_at_logout: bool
    lifetimes: Lifetimes
    server_side: bool


def read_public_urls(
    public_url: str | Sequence[str], *, dangerously_allow_http: bool
) -> tuple[PublicUrl, ...]:
    """Read `public_url`, one or several; the first is the default.

    Raises:
        ConfigurationError: none is given, one is not an origin with an optional path,
            or is plain http where that is not allowed.
    """
    given = tuple(public_url) if isinstance(public_url, list | tuple) else (public_url,)
    if not all(isinstance(url, str) for url in given):
        raise ConfigurationError("public_url", "is not set: name the app's address")
    if not given:
        raise ConfigurationError("public_url", "name the address under which browsers find the app")
    urls = tuple(
        _read_public_url(url, dangerously_allow_http=dangerously_allow_http) for url in given
    )
    if len({(url.secure, url.path) for url in urls}) > 1:
        raise ConfigurationError("public_url", "all must have the same scheme and the same path")
    return urls


def _read_public_url(url: str, *, dangerously_allow_http: bool) -> PublicUrl:
    scheme, _, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    origin = parse_origin(
        f"{scheme}://{host}",
        setting="public_url",
        dangerously_allow_http=dangerously_allow_http,
    )
    path = (slash + path).rstrip("/")
    if not _PATH.fullmatch(path):
        raise ConfigurationError(
            "public_url", "must be an origin such as https://shop.example, perhaps with a path"
        )
    host = origin.partition("://")[2]
    return PublicUrl(origin, host, path, secure=scheme.lower() == "https")


def read_path(setting: str, path: str) -> str:
    """Read a path such as `/auth`; raises `ConfigurationError` naming `setting`."""
    if not read_kind(setting, path, str).startswith("/") or not _PATH.fullmatch(path):
        raise ConfigurationError(
            setting, "must be a path such as /auth, without a slash at its end"
        )
    return path


def read_page(setting: str, page: str, *, prefix: str) -> str:
    """Read where browsers are sent, such as `/` or `/welcome`.

    Raises `ConfigurationError` naming `setting` for anything but a plain path, and for
    one of the login routes below `prefix`, which would lead in a circle.
    """
    if read_kind(setting, page, str) == prefix or page.startswith(f"{prefix}/"):
        raise ConfigurationError(setting, f"must not be one of the routes below {prefix}")
    if page != "/" and not (page and _PATH.fullmatch(page)):
        raise ConfigurationError(setting, "must be a path of this site such as / or /welcome")
    return page


def read_keys(secret_key: object) -> Sequence[str]:
    """Read one key or several; a forgotten environment variable is None, and refused."""
    if isinstance(secret_key, str):
        return (secret_key,)
    if not isinstance(secret_key, list | tuple):
        raise ConfigurationError(
            "secret_key",
            "must be text, or a list of it, newest first: is the environment variable set?",
        )
    return secret_key


def read_names(setting: str, names: Collection[str]) -> Collection[str]:
    """Read several names; one string, which is a collection of letters, is a mistake."""
    check_kind(setting, names, Collection)
    if isinstance(names, str | bytes) or not all(isinstance(name, str) for name in names):
        raise ConfigurationError(setting, "must be a list of names")
    return names


def read_origins(
    setting: str, origins: Collection[str], *, dangerously_allow_http: bool
) -> frozenset[str]:
    """Read origins such as `https://spa.example`, each in the one form that is compared.

    Raises `ConfigurationError` naming `setting` for anything but one scheme, host and
    port: there are no wildcards.
    """
    return frozenset(
        parse_origin(origin, setting=setting, dangerously_allow_http=dangerously_allow_http)
        for origin in read_names(setting, origins)
    )


def read_hook(setting: str, hook: OnLogin | None) -> OnLogin | None:
    """Read an async function, or an object whose `__call__` is one."""
    if hook is not None and not (
        inspect.iscoroutinefunction(hook)
        or inspect.iscoroutinefunction(getattr(hook, "func", None))
        or inspect.iscoroutinefunction(getattr(type(hook), "__call__", None))  # noqa: B004
    ):
        raise ConfigurationError(setting, "must be an async function")
    return hook


def read_preload(preload: bool | Callable[[Scope], bool]) -> bool | Callable[[Scope], bool]:
    """Read a switch, or a function that is asked before every request and cannot wait."""
    if inspect.iscoroutinefunction(preload) or not (isinstance(preload, bool) or callable(preload)):
        raise ConfigurationError("preload", "must be True, False or a function of the ASGI scope")
    return preload


def read_providers(
    provider: OpenIDProvider | None, providers: Mapping[str, OpenIDProvider] | None
) -> Mapping[str, OpenIDProvider]:
    """Return the providers by name, from one of the two ways to give them."""
    if (provider is None) == (providers is None):
        raise ConfigurationError("provider", "give either provider= or providers=")
    if providers is not None:
        check_kind("providers", providers, Mapping)
    named = {DEFAULT_PROVIDER: provider} if provider is not None else dict(providers or {})
    if not named:
        raise ConfigurationError("providers", "name at least one")
    if "" in read_names("providers", named):
        raise ConfigurationError("providers", "one has an empty name")
    if not all(isinstance(each, OpenIDProvider) for each in named.values()):
        raise ConfigurationError("provider", "must be an OpenIDProvider")
    return named


def read_sessions(
    sessions: str | None, store: Store | None, providers: Mapping[str, OpenIDProvider]
) -> bool:
    """Tell whether sessions rest in the store; refuse what loses them (design 4)."""
    if sessions not in (None, "cookie"):
        raise ConfigurationError("sessions", 'is "cookie", or left out')
    if sessions is None and store is None:
        if any("offline_access" in provider.scope.split() for provider in providers.values()):
            raise ConfigurationError(
                "store",
                "offline_access brings refresh tokens that are spent once, and sessions in "
                "cookies lose them as soon as there are two processes: give a store, such as "
                'SQLiteStore("sessions.db"), or say sessions="cookie" for one process',
            )
        return False
    return sessions is None


def read_store(store: Store | None) -> Store | None:
    """Read what is meant to be a store; the class in the place of one is an easy mistake."""
    if isinstance(store, type):
        raise ConfigurationError("store", f"is the class {store.__name__}; give an instance")
    if store is not None and not callable(getattr(store, "get_many", None)):
        raise ConfigurationError("store", 'is no store; give one, such as SQLiteStore("s.db")')
    return store


def is_mount_path(path: str) -> bool:
    """Tell whether a root_path is one that a server would give (no dots, no empty segments)."""
    return _PATH.fullmatch(path) is not None
