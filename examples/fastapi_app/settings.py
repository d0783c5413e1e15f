"""What differs between one machine and another, from environment variables."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Self


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of the app."""

    public_url: tuple[str, ...]
    """Where browsers find this app: PUBLIC_URL, or several of them with spaces between."""
    issuer: str
    """The OpenID Provider: OIDC_ISSUER."""
    client_id: str
    """Our name there: OIDC_CLIENT_ID."""
    client_secret: str = field(repr=False)
    """Our password there: OIDC_CLIENT_SECRET."""
    secret_key: str = field(repr=False)
    """Seals sessions: SECRET_KEY."""
    session_db: str
    """The file that sessions are kept in: SESSION_DB."""
    api_url: str
    """The API that wants our users' tokens: API_URL."""
    dangerously_allow_http: bool
    """DANGEROUSLY_ALLOW_HTTP=1 lets a demo on this machine do without https."""

    @classmethod
    def from_environment(cls) -> Self:
        """Read them all; a missing one is a KeyError with its name."""
        return cls(
            public_url=tuple(os.environ["PUBLIC_URL"].split()),
            issuer=os.environ["OIDC_ISSUER"],
            client_id=os.environ["OIDC_CLIENT_ID"],
            client_secret=os.environ["OIDC_CLIENT_SECRET"],
            secret_key=os.environ["SECRET_KEY"],
            session_db=os.environ.get("SESSION_DB", "sessions.db"),
            api_url=os.environ["API_URL"],
            dangerously_allow_http=os.environ.get("DANGEROUSLY_ALLOW_HTTP") == "1",
        )
