"""What a failed refresh means: an outage is not a logout."""

from __future__ import annotations

import json

import pytest

from tokenward.errors import (
    ConfigurationError,
    InvalidMetadata,
    InvalidResponse,
    InvalidSignature,
    InvalidToken,
    ProtocolError,
    ProviderError,
    ProviderUnavailable,
)
from tokenward.protocol.responses import TokenResponse
from tokenward.tokens.verdict import ALARM_PAUSE, Verdict, judge


def answer(status: int, body: bytes) -> ProtocolError:
    return ProtocolError(TokenResponse.parse(status, {}, body))


def error(code: str, status: int = 400) -> ProtocolError:
    return answer(status, json.dumps({"error": code}).encode())


@pytest.mark.parametrize(
    ("failure", "verdict"),
    [
        pytest.param(
            error("invalid_grant"), Verdict("dead", "invalid_grant"), marks=pytest.mark.case(180)
        ),
        pytest.param(
            error("invalid_grant", 200),
            Verdict("dead", "invalid_grant"),
            marks=pytest.mark.case(178),
        ),
        pytest.param(error("invalid_grant", 401), Verdict("dead", "invalid_grant")),
        pytest.param(InvalidToken("r", "p"), Verdict("dead", "invalid_id_token")),
        pytest.param(InvalidSignature("r", "p"), Verdict("dead", "invalid_id_token")),
        pytest.param(
            ProviderUnavailable("x", may_have_been_sent=True), Verdict("later", "no_answer")
        ),
        pytest.param(ProviderUnavailable("x"), Verdict("later", "unavailable")),
        pytest.param(
            ProviderUnavailable("x", retry_after=7.0),
            Verdict("later", "unavailable", 7.0),
            marks=pytest.mark.case(183),
        ),
        pytest.param(InvalidResponse("m", "p"), Verdict("later", "invalid_answer")),
        pytest.param(InvalidMetadata("m", "p"), Verdict("later", "invalid_answer")),
        pytest.param(
            error("invalid_client"),
            Verdict("alarm", "invalid_client", ALARM_PAUSE),
            marks=pytest.mark.case(181),
        ),
        pytest.param(
            answer(401, b"<html>"),
            Verdict("alarm", "invalid_client", ALARM_PAUSE),
            marks=pytest.mark.case(182),
        ),
        pytest.param(error("invalid_scope"), Verdict("refused", "invalid_scope", ALARM_PAUSE)),
        pytest.param(error("invalid_target"), Verdict("refused", "invalid_target", ALARM_PAUSE)),
        pytest.param(error("login_required"), Verdict("login", "login_required")),
        pytest.param(
            error("invalid_request"),
            Verdict("alarm", "invalid_request", ALARM_PAUSE, shared=False),
        ),
        pytest.param(
            error("access_denied"), Verdict("later", "access_denied", ALARM_PAUSE, shared=False)
        ),
        pytest.param(
            answer(403, b"<html>"), Verdict("later", "http_403", ALARM_PAUSE, shared=False)
        ),
        pytest.param(answer(404, b""), Verdict("later", "http_404", ALARM_PAUSE, shared=False)),
        pytest.param(
            ConfigurationError("client_auth", "no"),
            Verdict("alarm", "client_auth: no", ALARM_PAUSE),
        ),
        pytest.param(ProviderError("?"), Verdict("later", "invalid_answer")),
    ],
)
def test_only_a_grant_that_is_over_ends_a_session(failure: ProviderError, verdict: Verdict) -> None:
    assert judge(failure) == verdict
