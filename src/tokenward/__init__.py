"""OpenID Connect login and access-token management for Starlette and FastAPI.

    auth = TokenManagement(provider=OpenIDProvider(...), public_url=..., secret_key=..., store=...)
    app.add_middleware(TokenManagementMiddleware, auth=auth)

Stores are imported from where they live (`tokenward.stores.sqlite.SQLiteStore`), FastAPI
dependencies from `tokenward.fastapi`, the testing kit from `tokenward.testing`.
"""

from .errors import (
    CallRefused,
    ConfigurationError,
    InsufficientScope,
    LoginFailed,
    NotAuthenticated,
    PermissionDenied,
    ProviderError,
    SessionEnded,
    SessionNotWritable,
    StoreError,
    TokenExpired,
    TokenUnavailable,
    TokenwardError,
)
from .management import TokenManagement
from .provider import OpenIDProvider
from .request_tokens import get_user_access_token, load_session, revoke_user_refresh_token
from .secret import Secret
from .settings import Lifetimes
from .tokens.client_credentials import ClientCredentials, ClientCredentialsTokens
from .tokens.interfaces import TokenSource
from .tokens.models import AccessToken, TokenSet
from .tokens.refresh_settings import RefreshSettings
from .tokens.session import User
from .web.links import login_url, logout_url
from .web.middleware import TokenManagementMiddleware

__all__ = [
    "AccessToken",
    "CallRefused",
    "ClientCredentials",
    "ClientCredentialsTokens",
    "ConfigurationError",
    "InsufficientScope",
    "Lifetimes",
    "LoginFailed",
    "NotAuthenticated",
    "OpenIDProvider",
    "PermissionDenied",
    "ProviderError",
    "RefreshSettings",
    "Secret",
    "SessionEnded",
    "SessionNotWritable",
    "StoreError",
    "TokenExpired",
    "TokenManagement",
    "TokenManagementMiddleware",
    "TokenSet",
    "TokenSource",
    "TokenUnavailable",
    "TokenwardError",
    "User",
    "get_user_access_token",
    "load_session",
    "login_url",
    "logout_url",
    "revoke_user_refresh_token",
]
