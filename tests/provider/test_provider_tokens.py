"""What goes to the token endpoint, and what is made of its answers."""

from __future__ import annotations

import asyncio
import base64
import traceback
from typing import Any

import httpx
import pytest

from tokenward.errors import (
    InvalidResponse,
    InvalidToken,
    ProtocolError,
    ProviderError,
    ProviderUnavailable,
)
from tokenward.protocol.client_auth import client_secret_post
from tokenward.secret import Secret

CODE, VERIFIER, NONCE = Secret("code-canary"), Secret("verifier-canary" * 3), Secret("the-nonce")
CALLBACK = "https://app.test/auth/callback"
CLAIMS = {"iss": "https://op.test", "sub": "alice", "aud": "app", "nonce": "the-nonce"}


def kinds(events: list[Any]) -> list[str]:
    return [type(event).__name__ for event in events]


async def exchange(provider: Any) -> Any:
    return await provider.exchange_code(
        code=CODE, redirect_uri=CALLBACK, code_verifier=VERIFIER, nonce=NONCE
    )


async def refresh(provider: Any, **options: Any) -> Any:
    return await provider.refresh(Secret("old-refresh-canary"), claims=CLAIMS, **options)


async def fails(call: Any, kind: type[ProviderError]) -> Any:
    with pytest.raises(kind) as caught:
        await call
    error = caught.value
    assert error.__context__ is None
    assert error.__cause__ is None
    told = traceback.TracebackException.from_exception(error, capture_locals=True)
    ours = [frame for frame in told.stack if "/src/tokenward/" in frame.filename]
    assert ours
    assert "canary" not in repr([frame.locals for frame in ours])
    assert "canary" not in f"{error}{error!r}"
    return error


# --- the code


async def test_a_code_becomes_a_grant(provider: Any, op: Any, clock: Any) -> None:
    op.gives(scope="openid api")
    grant = await exchange(provider)
    assert grant.answer.access_token == Secret("access-canary")
    assert grant.answer.refresh_token == Secret("refresh-canary")
    assert grant.answer.scope == {"openid", "api"}
    assert grant.id_token.sub == "alice"
    assert grant.requested_at == clock()
    assert grant.userinfo is None
    assert "canary" not in repr(grant)
    (form,) = op.forms("token")
    assert form == {
        "grant_type": "authorization_code",
        "code": "code-canary",
        "redirect_uri": CALLBACK,
        "code_verifier": VERIFIER.reveal(),
    }
    request = op.requests[-1]
    pair = base64.b64decode(request.headers["authorization"].removeprefix("Basic "))
    assert pair == b"app:client-secret-canary"
    assert request.headers["content-type"] == "application/x-www-form-urlencoded"


async def test_resource_and_another_proof_are_sent_too(make: Any, op: Any) -> None:
    op.gives()
    provider = make(
        client_secret=None, client_auth=client_secret_post("post-canary"), resource="https://r.test"
    )
    await exchange(provider)
    (form,) = op.forms("token")
    assert form["client_secret"] == "post-canary"
    assert form["resource"] == "https://r.test"
    assert "authorization" not in op.requests[-1].headers


@pytest.mark.case(194)
async def test_lifetimes_count_from_when_the_request_was_sent(
    provider: Any, op: Any, clock: Any
) -> None:
    op.gives()
    await provider.keys()
    op.held["token"] = asyncio.Event()
    before = clock()
    call = asyncio.create_task(exchange(provider))
    await op.entered.wait()
    clock.advance(20)
    op.held["token"].set()
    assert (await call).requested_at == before


async def test_no_code_is_spent_while_the_keys_cannot_be_had(provider: Any, op: Any) -> None:
    op.down.add("jwks")
    error = await fails(exchange(provider), ProviderUnavailable)
    assert not error.may_have_been_sent
    assert op.count("token") == 0


@pytest.mark.case(80)
async def test_a_code_is_never_sent_twice(provider: Any, op: Any) -> None:
    op.planned["token"] = [httpx.ReadError("reset")]
    error = await fails(exchange(provider), ProviderUnavailable)
    assert error.may_have_been_sent
    assert op.count("token") == 1


@pytest.mark.case(79)
async def test_a_code_that_was_never_sent_is_sent_once_more(provider: Any, op: Any) -> None:
    op.gives()
    op.planned["token"] = [httpx.ConnectError("refused")]
    assert (await exchange(provider)).id_token
    assert op.count("token") == 2


@pytest.mark.case(81)
async def test_a_login_without_id_token_fails_and_gives_the_tokens_back(
    provider: Any, op: Any, events: list[Any]
) -> None:
    op.gives(id_token=None)
    error = await fails(exchange(provider), InvalidResponse)
    assert error.member == "id_token"
    assert [(form["token"], form["token_type_hint"]) for form in op.forms("revocation")] == [
        ("refresh-canary", "refresh_token"),
        ("access-canary", "access_token"),
    ]
    assert kinds(events)[-2:] == ["Revoked", "Revoked"]


@pytest.mark.parametrize(
    "claims",
    [
        pytest.param({"nonce": "another"}, id="nonce"),
        pytest.param({"aud": "another"}, id="aud"),
        pytest.param({"iss": "https://other.test"}, id="iss"),
        pytest.param({"exp": 1}, id="exp"),
        pytest.param({"sub": None}, id="no-sub"),
    ],
)
async def test_a_login_with_an_invalid_id_token_fails_and_gives_the_tokens_back(
    provider: Any, op: Any, events: list[Any], claims: dict[str, Any]
) -> None:
    op.gives(id_token=op.id_token(**claims))
    await fails(exchange(provider), InvalidToken)
    assert op.count("revocation") == 2
    assert "IdTokenRejected" in kinds(events)


async def test_what_cannot_be_given_back_is_told_and_the_reason_stays_the_same(
    provider: Any, op: Any, events: list[Any]
) -> None:
    op.gives(id_token=None)
    op.planned["revocation"] = [httpx.Response(500), httpx.ReadTimeout("late")]
    error = await fails(exchange(provider), InvalidResponse)
    assert error.member == "id_token"
    assert kinds(events)[-2:] == ["RevocationFailed", "RevocationFailed"]
    assert "canary" not in repr(events)


async def test_settings_of_the_login_are_demanded_of_the_id_token(make: Any, op: Any) -> None:
    op.gives()
    await fails(exchange(make(max_age=60)), InvalidToken)
    await fails(exchange(make(acr_values=("gold",))), InvalidToken)
    await fails(exchange(make(id_token_algorithms=("ES256",))), InvalidToken)
    op.gives(id_token=op.id_token(aud=["app", "other"]))
    await fails(exchange(make()), InvalidToken)
    assert await exchange(make(trusted_audiences=("other",)))


@pytest.mark.case(185)
async def test_a_missing_token_type_needs_the_switch(make: Any, op: Any) -> None:
    op.gives(token_type=None)
    await fails(exchange(make()), InvalidResponse)
    assert await exchange(make(dangerously_allow_missing_token_type=True))


async def test_userinfo_is_asked_for_at_login_and_must_be_the_users(make: Any, op: Any) -> None:
    provider = make(userinfo=True)
    op.gives()
    grant = await exchange(provider)
    assert grant.userinfo["email"] == "a@example.org"
    assert op.requests[-1].headers["authorization"] == "Bearer access-canary"
    op.userinfo["sub"] = "mallory"
    await fails(exchange(provider), InvalidResponse)
    assert op.count("revocation") == 2


# --- refusals and outages


@pytest.mark.parametrize("error", ["invalid_client", "unauthorized_client", "invalid_scope"])
@pytest.mark.case(181)
async def test_a_refusal_of_the_client_alarms_the_operator(
    provider: Any, op: Any, events: list[Any], error: str
) -> None:
    op.planned["token"] = [httpx.Response(400, json={"error": error})]
    caught = await fails(exchange(provider), ProtocolError)
    assert caught.response.error == error
    assert [event.error for event in events if type(event).__name__ == "ProviderAlarm"] == [error]


@pytest.mark.case(182)
async def test_a_bare_401_is_invalid_client(provider: Any, op: Any, events: list[Any]) -> None:
    op.planned["token"] = [httpx.Response(401, html="<html>")]
    caught = await fails(exchange(provider), ProtocolError)
    assert caught.response.error == "invalid_client"
    assert "ProviderAlarm" in kinds(events)


async def test_a_refusal_of_the_code_alarms_nobody(
    provider: Any, op: Any, events: list[Any]
) -> None:
    op.planned["token"] = [httpx.Response(400, json={"error": "invalid_grant"})]
    caught = await fails(exchange(provider), ProtocolError)
    assert caught.response.error == "invalid_grant"
    assert "ProviderAlarm" not in kinds(events)


@pytest.mark.case(178)
async def test_an_error_with_status_200_is_an_error(provider: Any, op: Any) -> None:
    op.planned["token"] = [httpx.Response(200, json={"error": "invalid_grant"})]
    await fails(refresh(provider), ProtocolError)


@pytest.mark.parametrize(
    ("status", "content", "headers", "wait"),
    [
        pytest.param(500, "<html>canary", {}, 5.0, marks=pytest.mark.case(179)),
        pytest.param(502, "<html>canary", {}, 5.0, marks=pytest.mark.case(179)),
        pytest.param(504, "", {}, 5.0, marks=pytest.mark.case(179)),
        pytest.param(503, "", {"retry-after": "7"}, 7.0, marks=pytest.mark.case(183)),
        pytest.param(429, "", {"retry-after": "1000000000"}, 60.0, marks=pytest.mark.case(183)),
        pytest.param(429, "", {"retry-after": "-3"}, 1.0, marks=pytest.mark.case(183)),
        pytest.param(429, "", {"retry-after": "soon"}, 5.0, marks=pytest.mark.case(183)),
        pytest.param(
            400, '{"error":"temporarily_unavailable"}', {}, 5.0, marks=pytest.mark.case(183)
        ),
        pytest.param(503, '{"error":"invalid_grant"}', {}, 5.0),
    ],
)
async def test_an_outage_is_not_a_refusal(
    provider: Any, op: Any, status: int, content: str, headers: dict[str, str], wait: float
) -> None:
    for call in (exchange, refresh):
        op.planned["token"] = [httpx.Response(status, content=content, headers=headers)]
        error = await fails(call(provider), ProviderUnavailable)
        assert error.retry_after == wait


@pytest.mark.case(155)
async def test_a_redirect_of_the_token_endpoint_is_not_followed(provider: Any, op: Any) -> None:
    op.planned["token"] = [httpx.Response(307, headers={"location": "https://evil.test/token"})]
    await fails(exchange(provider), ProtocolError)
    assert op.count("token") == 1


@pytest.mark.case(206)
async def test_a_token_answer_of_a_megabyte_is_not_read(provider: Any, op: Any) -> None:
    op.gives(padding="x" * 1_000_000)
    error = await fails(exchange(provider), ProviderUnavailable)
    assert "262144 bytes" in str(error)


# --- refresh


@pytest.mark.case(199)
async def test_a_refresh_without_id_token_keeps_the_old_one(
    provider: Any, op: Any, events: list[Any]
) -> None:
    op.gives(id_token=None, refresh_token="new-refresh-canary")
    grant = await refresh(provider, scope="openid", resource=("https://r.test",))
    assert grant.id_token is None
    assert "IdTokenNotTaken" not in kinds(events)
    assert op.forms("token") == [
        {
            "grant_type": "refresh_token",
            "refresh_token": "old-refresh-canary",
            "scope": "openid",
            "resource": "https://r.test",
        }
    ]


@pytest.mark.case(201)
@pytest.mark.parametrize("nonce", [None, "the-nonce"])
async def test_a_refresh_takes_a_new_id_token_of_the_same_login(
    provider: Any, op: Any, events: list[Any], nonce: str | None
) -> None:
    op.gives(id_token=op.id_token(nonce=nonce))
    grant = await refresh(provider)
    assert grant.id_token.sub == "alice"
    assert "IdTokenNotTaken" not in kinds(events)


@pytest.mark.case(200)
@pytest.mark.case(218)
@pytest.mark.parametrize(
    "claims",
    [
        {"sub": "mallory"},
        {"iss": "https://other.test"},
        {"aud": "other"},
        pytest.param({"nonce": "other"}, marks=pytest.mark.case(201)),
    ],
)
async def test_a_refresh_for_somebody_else_is_void_and_given_back(
    provider: Any, op: Any, events: list[Any], claims: dict[str, Any]
) -> None:
    op.gives(id_token=op.id_token(**claims))
    await fails(refresh(provider), InvalidToken)
    assert [form["token"] for form in op.forms("revocation")] == ["refresh-canary", "access-canary"]
    assert "IdTokenRejected" in kinds(events)


@pytest.mark.case(200)
async def test_a_refresh_with_a_forged_id_token_is_void(
    provider: Any, op: Any, key: Any, other_key: Any
) -> None:
    op.signer = other_key.called(key.kid)
    op.gives()
    await fails(refresh(provider), InvalidToken)
    assert op.count("revocation") == 2


async def test_an_id_token_for_another_access_token_is_refused_at_login_and_refresh(
    provider: Any, op: Any
) -> None:
    op.gives(id_token=op.id_token(at_hash="AAAAAAAAAAAAAAAAAAAAAA"))
    await fails(exchange(provider), InvalidToken)
    await fails(refresh(provider), InvalidToken)


@pytest.mark.case(202)
async def test_a_refresh_with_an_expired_id_token_gives_the_access_token(
    provider: Any, op: Any, events: list[Any], clock: Any
) -> None:
    op.gives(id_token=op.id_token(exp=int(clock()) - 3600, iat=int(clock()) - 7200))
    grant = await refresh(provider)
    assert grant.answer.access_token == Secret("access-canary")
    assert grant.id_token is None
    assert op.count("revocation") == 0
    assert "IdTokenNotTaken" in kinds(events)


async def test_a_refresh_is_not_lost_because_the_keys_are_out_of_reach(
    provider: Any, op: Any, other_key: Any
) -> None:
    await provider.keys()
    op.down.add("jwks")
    op.signer = other_key
    op.gives()
    grant = await refresh(provider)
    assert grant.id_token is None
    assert grant.answer.refresh_token == Secret("refresh-canary")


async def test_no_refresh_token_is_spent_while_the_keys_cannot_be_had(
    provider: Any, op: Any
) -> None:
    op.down.add("jwks")
    error = await fails(refresh(provider), ProviderUnavailable)
    assert not error.may_have_been_sent
    assert op.count("token") == 0


@pytest.mark.case(210)
async def test_a_refresh_is_never_sent_twice_once_it_may_have_arrived(
    provider: Any, op: Any
) -> None:
    op.planned["token"] = [httpx.RemoteProtocolError("closed")]
    error = await fails(refresh(provider), ProviderUnavailable)
    assert error.may_have_been_sent
    assert op.count("token") == 1


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(httpx.Response(200, html="<html>canary"), id="html"),
        pytest.param(httpx.Response(200, content=b""), id="empty"),
        pytest.param(httpx.Response(200, json=["canary"]), id="list"),
        pytest.param(httpx.Response(200, json="canary"), id="string"),
    ],
)
@pytest.mark.case(177)
async def test_an_answer_that_cannot_be_read_is_a_typed_error(
    provider: Any, op: Any, answer: httpx.Response
) -> None:
    op.planned["token"] = [answer]
    await fails(refresh(provider), InvalidResponse)


# --- revocation


async def test_revocation_sends_the_token_and_its_kind(provider: Any, op: Any) -> None:
    await provider.revoke(Secret("refresh-canary"))
    assert op.forms("revocation") == [
        {"token": "refresh-canary", "token_type_hint": "refresh_token"}
    ]
    assert op.requests[-1].headers["authorization"].startswith("Basic ")


async def test_without_a_revocation_endpoint_nothing_happens(provider: Any, op: Any) -> None:
    del op.metadata["revocation_endpoint"]
    await provider.revoke(Secret("refresh-canary"))
    assert op.count("revocation") == 0


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (httpx.Response(400, json={"error": "unsupported_token_type"}), ProtocolError),
        (httpx.Response(503), ProviderUnavailable),
        (httpx.ReadTimeout("late"), ProviderUnavailable),
    ],
)
async def test_a_revocation_that_fails_raises(
    provider: Any, op: Any, answer: Any, kind: type[ProviderError]
) -> None:
    op.planned["revocation"] = [answer]
    await fails(provider.revoke(Secret("refresh-canary")), kind)


@pytest.mark.case(219)
async def test_the_providers_date_header_is_ignored(provider: Any, op: Any, clock: Any) -> None:
    op.gives()
    op.headers["date"] = "Thu, 01 Jan 1970 00:00:00 GMT"
    assert (await exchange(provider)).requested_at == clock()
