"""Sessions and users as values."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tokenward.clock import aware
from tokenward.secret import Secret
from tokenward.tokens.models import AccessToken, TokenSet
from tokenward.tokens.session import Session, User

NOW = 1_893_456_000.0
SESSION = Session(
    id="0123456789",
    provider="default",
    issuer="https://op.test",
    client_id="app",
    claims={"sub": "alice", "address": {"country": "Österreich"}},
    proof={"sub": "alice", "auth_time": 1},
    tokens=TokenSet(
        AccessToken("access-token-0123456789", aware(NOW + 3600)),
        Secret("refresh-token-0123456789"),
        Secret("id-token-0123456789"),
    ),
    created_at=NOW,
    expires_at=NOW + 7 * 86400,
    renewed_at=NOW,
    version=7,
)


def test_a_session_prints_no_secret_and_no_person() -> None:
    shown = repr(SESSION)
    for hidden in ("0123456789", "alice", "Österreich"):
        assert hidden not in shown


def test_every_change_of_the_tokens_is_another_version() -> None:
    changed = SESSION.with_tokens(replace(SESSION.tokens, refresh_token=None))
    assert changed == replace(
        SESSION, tokens=replace(SESSION.tokens, refresh_token=None), version=8
    )


@pytest.mark.parametrize(
    ("claims", "name", "roles"),
    [
        pytest.param({"sub": "a", "name": "Alice", "roles": ["x", "y"]}, "Alice", {"x", "y"}),
        pytest.param({"sub": "a", "roles": "x"}, "a", {"x"}),
        pytest.param({"sub": "a", "name": "", "roles": ["", 1, None, "x"]}, "a", {"x"}),
        pytest.param({"sub": "a", "name": 1, "roles": {"x": True}}, "a", set()),
        pytest.param({"sub": "a"}, "a", set()),
    ],
    ids=["both", "one role as a string", "what is no role", "other kinds", "nothing"],
)
def test_a_user_is_read_from_whatever_the_claims_are(
    claims: dict[str, Any], name: str, roles: set[str]
) -> None:
    user = User.from_claims(claims, issuer="i", name_claim="name", role_claim="roles")
    assert (user.sub, user.name, user.roles) == ("a", name, roles)
