"""Whether the settings of a client are safe, and the provider supports them."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

from ..errors import ConfigurationError
from ..protocol.authorization import ResponseMode, check_extra_parameters
from ..protocol.client_auth import auth_method_of
from ..setting_kinds import check_number

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..protocol.client_auth import ClientAuth
    from ..protocol.metadata import ProviderMetadata

_HAVE_A_SETTING = frozenset({"acr_values", "max_age", "resource"})
"""Parameters whose effect is checked in the id_token, which needs the setting."""


def check_client(client_id: str, *, scope: str, response_mode: str) -> None:
    """Raise `ConfigurationError` unless the registration makes sense for a login."""
    for setting, text in (("client_id", client_id), ("scope", scope)):
        if not isinstance(text, str):
            raise ConfigurationError(setting, "must be text")
    if not client_id:
        raise ConfigurationError("client_id", "is empty; the provider gives one at registration")
    if "openid" not in scope.split():
        raise ConfigurationError("scope", "must hold `openid`; without it nobody logs in")
    if response_mode not in get_args(ResponseMode):
        raise ConfigurationError("response_mode", "must be `query` or `form_post`")


def read_authorize_parameters(
    parameters: Mapping[str, str] | None, audience: str | None
) -> dict[str, str]:
    """Return what is added to the authorization request, with the audience if there is one.

    Raises `ConfigurationError` for an addition that the library sets itself.
    """
    added = dict(parameters or {})
    check_extra_parameters(added)
    for name in sorted(_HAVE_A_SETTING.intersection(added)):
        raise ConfigurationError("authorize_parameters", f"`{name}` has a setting of its own")
    if audience is None:
        return added
    if added.setdefault("audience", audience) != audience:
        raise ConfigurationError("authorize_parameters", "`audience` is given as a setting too")
    return added


def check_durations(durations: Mapping[str, float]) -> None:
    """Raise `ConfigurationError` for a duration that is not a positive number of seconds."""
    for setting, seconds in durations.items():
        check_number(setting, seconds)
        if not 0 < seconds < float("inf"):
            raise ConfigurationError(setting, "must be seconds, more than 0")


def check_http(http: object) -> None:
    """Raise `ConfigurationError` for a client that would hold up the event loop, or is none."""
    if http is not None and not callable(getattr(http, "aclose", None)):
        raise ConfigurationError("http", "must be an AsyncClient, of httpx or httpx2")


def check_several(setting: str, values: Sequence[str]) -> tuple[str, ...]:
    """Return the values as a tuple; one string where several belong is a mistake."""
    if isinstance(values, str):
        raise ConfigurationError(setting, "must be several strings, such as a tuple")
    return tuple(values)


def check_support(
    metadata: ProviderMetadata, *, client_auth: ClientAuth, userinfo: bool, pushed: bool
) -> None:
    """Raise `ConfigurationError` if the provider says that it lacks what this client uses.

    Never a silent downgrade (RFC 9700, section 4.8.2). What a provider does not tell
    is tried: many know S256 and do not say so. Nor is `none` looked for: it proves
    nothing, and providers that serve public clients commonly leave it out.
    """
    methods = metadata.code_challenge_methods_supported
    if methods is not None and "S256" not in methods:
        problem = "the provider's code_challenge_methods_supported lack S256"
        raise ConfigurationError("issuer", problem)
    method = auth_method_of(client_auth)
    supported = metadata.token_endpoint_auth_methods_supported
    if supported is not None and method not in (None, "none", *supported):
        problem = f"{method} is not among the provider's: {', '.join(supported) or 'none'}"
        raise ConfigurationError("client_auth", problem)
    if userinfo and metadata.userinfo_endpoint is None:
        raise ConfigurationError("userinfo", "the provider has no userinfo_endpoint")
    if pushed and metadata.pushed_authorization_request_endpoint is None:
        problem = "the provider has no pushed_authorization_request_endpoint"
        raise ConfigurationError("pushed_authorization_requests", problem)
