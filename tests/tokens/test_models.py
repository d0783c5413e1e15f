"""Tokens as values: what a grant makes, and what a refresh changes of it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from tokenward.protocol.token_answer import TokenAnswer
from tokenward.provider.grant import Grant
from tokenward.secret import Secret
from tokenward.tokens.models import LOGIN, MAX_TARGETS, AccessToken, Target, TokenSet

if TYPE_CHECKING:
    from collections.abc import Mapping

NOW = 1_893_456_000.0


def grant(**members: Any) -> Grant:
    given: Mapping[str, Any] = {
        "access_token": Secret("new-access-token-1"),
        "token_type": "Bearer",
        "expires_in": 3600.0,
        "refresh_token": None,
        "id_token": None,
        "scope": None,
        **members,
    }
    return Grant(TokenAnswer(**given), None, NOW)


@pytest.fixture
def tokens() -> TokenSet:
    """What a login gave."""
    first = grant(refresh_token=Secret("first-refresh-token"))
    return TokenSet.from_grant(first, requested_scope="openid api", expires_in=300)


def test_a_login_has_what_was_asked_for_where_the_answer_is_silent(tokens: TokenSet) -> None:
    assert tokens.scope == {"openid", "api"}
    assert tokens.access_token.expires_at == datetime.fromtimestamp(NOW + 3600, UTC)
    assert not tokens.access_token.expires_assumed
    assert tokens.access_token.authorization == "Bearer new-access-token-1"
    assert tokens.token_for(LOGIN) is tokens.access_token
    assert tokens.token_for(Target(resource=("https://api.test",))) is None


@pytest.mark.case(194)
def test_lifetimes_count_from_when_it_was_asked_for() -> None:
    old = Grant(grant(expires_in=60.0).answer, None, NOW - 50)
    token = TokenSet.from_grant(old, requested_scope="openid", expires_in=300).access_token
    assert token.is_valid(NOW + 9)
    assert not token.is_valid(NOW + 10)


@pytest.mark.parametrize(
    ("told", "lifetime", "assumed"),
    [
        pytest.param(None, 300.0, True, id="not told", marks=pytest.mark.case(193)),
        pytest.param(0.0, 0.0, False, id="over already", marks=pytest.mark.case(190)),
        pytest.param(3.2e8, 3.2e8, False, id="ten years", marks=pytest.mark.case(191)),
    ],
)
def test_the_lifetime_is_the_one_told_or_the_configured_one(
    told: float | None, lifetime: float, assumed: bool
) -> None:
    given = TokenSet.from_grant(grant(expires_in=told), requested_scope="openid", expires_in=300)
    token = given.access_token
    assert (token.lifetime, token.expires_assumed) == (lifetime, assumed)
    assert token.expires_at.timestamp() == NOW + lifetime
    assert token.is_valid(NOW) is bool(lifetime)
    assert token.is_fresh(NOW, margin=60.0) is bool(lifetime)


@pytest.mark.case(195)
@pytest.mark.parametrize(("lifetime", "fresh_for"), [(3600.0, 3540.0), (30.0, 27.0), (5.0, 4.5)])
def test_the_margin_is_never_more_than_a_tenth(lifetime: float, fresh_for: float) -> None:
    given = grant(expires_in=lifetime)
    token = TokenSet.from_grant(given, requested_scope="", expires_in=300).access_token
    assert token.is_fresh(NOW + fresh_for - 0.01, margin=60.0)
    assert not token.is_fresh(NOW + fresh_for, margin=60.0)


@pytest.mark.case(196)
def test_refresh_answer_without_refresh_token_keeps_the_old_one(tokens: TokenSet) -> None:
    assert tokens.renewed(grant(), LOGIN, expires_in=300).refresh_token == tokens.refresh_token
    rotated = tokens.renewed(grant(refresh_token=Secret("second")), LOGIN, expires_in=300)
    assert rotated.refresh_token == Secret("second")


@pytest.mark.case(199)
def test_refresh_answer_without_id_token_keeps_the_old_one(tokens: TokenSet) -> None:
    with_id_token = TokenSet(tokens.access_token, tokens.refresh_token, Secret("id-token"))
    assert with_id_token.renewed(grant(), LOGIN, expires_in=300).id_token == Secret("id-token")


@pytest.mark.parametrize(
    ("scope", "kept"),
    [
        pytest.param(None, {"openid", "api"}, id="not told", marks=pytest.mark.case(203)),
        pytest.param(frozenset({"api"}), {"api"}, id="less", marks=pytest.mark.case(204)),
        pytest.param(frozenset(), set(), id="none", marks=pytest.mark.case(205)),
    ],
)
def test_the_scope_is_the_one_told_or_the_old_one(
    tokens: TokenSet, scope: frozenset[str] | None, kept: set[str]
) -> None:
    assert tokens.renewed(grant(scope=scope), LOGIN, expires_in=300).scope == kept


def test_a_token_for_a_target_leaves_the_login_as_it_was(tokens: TokenSet) -> None:
    target = Target(("https://api.test",), frozenset({"api"}))
    renewed = tokens.renewed(grant(access_token=Secret("other")), target, expires_in=300)
    token = renewed.token_for(target)
    assert token is not None
    assert (token.value, token.scope, token.resource) == ("other", {"api"}, ("https://api.test",))
    assert renewed.access_token == tokens.access_token
    again = renewed.renewed(grant(access_token=Secret("newer")), target, expires_in=300)
    assert [held.value for _, held in again.others] == ["newer"]


def test_of_many_targets_the_oldest_goes_first(tokens: TokenSet) -> None:
    targets = [Target((f"https://{number}.test",)) for number in range(MAX_TARGETS + 2)]
    for target in targets:
        tokens = tokens.renewed(grant(), target, expires_in=300)
    assert [target for target, _ in tokens.others] == targets[2:]


def test_targets_that_differ_are_never_one() -> None:
    targets = {
        Target(),
        Target(("a b",)),
        Target(("a", "b")),
        Target(("a",), frozenset({"b"})),
        Target((), frozenset({"a", "b"})),
    }
    assert len(targets) == 5


def test_tokens_print_as_asterisks(tokens: TokenSet) -> None:
    token = tokens.access_token
    for text in (str(token), repr(token), f"{token}", repr(tokens), str(tokens)):
        assert "new-access-token-1" not in text
        assert "first-refresh-token" not in text


def test_an_end_beyond_the_calendar_is_the_calendars_end() -> None:
    token = AccessToken(value="x", expires_at=datetime.max.replace(tzinfo=UTC))
    assert token.is_fresh(NOW, margin=60.0)
