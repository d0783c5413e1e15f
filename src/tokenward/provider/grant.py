"""What the provider gave, as everybody behind it sees it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..protocol.id_token import IdToken
    from ..protocol.json import JSON
    from ..protocol.token_answer import TokenAnswer


@dataclass(frozen=True, slots=True)
class Grant:
    """What the provider gave for a code or a refresh token, judged and validated."""

    answer: TokenAnswer
    id_token: IdToken | None
    """None on a refresh: none came, or it was not taken; the old one stays (OIDC Core 12.2)."""
    requested_at: float
    """Seconds since the epoch, taken before the request was sent: lifetimes count from here."""
    userinfo: Mapping[str, JSON] | None = field(default=None, repr=False)
    """The claims of the UserInfo endpoint; None if they were not asked for."""
