"""How keys are found, replaced, and not asked for too often."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from tokenward.errors import InvalidMetadata, InvalidSignature, ProviderError, SigningKeyNotFound
from tokenward.protocol.jwt import verify
from tokenward.secret import Secret

HOUR = 3600.0


def kinds(events: list[Any]) -> list[str]:
    return [type(event).__name__ for event in events]


async def judge(provider: Any, token: str) -> Any:
    """Verify a token with the provider's keys, as a back-channel logout does."""
    secret = Secret(token)
    return await provider.judge(
        lambda keys: verify(secret, keys, algorithms=("RS256",), types=(None, "JWT"))
    )


async def refused(provider: Any, token: str) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        await judge(provider, token)
    assert caught.value.__context__ is None
    return caught.value


def signed_by(op: Any, key: Any) -> str:
    before, op.signer = op.signer, key
    token: str = op.id_token()
    op.signer = before
    return token


async def test_keys_are_fetched_once_and_kept(provider: Any, op: Any) -> None:
    for _ in range(5):
        assert (await judge(provider, op.id_token()))["sub"] == "alice"
    assert op.count("jwks") == 1


@pytest.mark.case(99)
@pytest.mark.case(433)
async def test_tokens_of_unknown_keys_cause_one_fetch_a_minute(
    provider: Any, op: Any, events: list[Any], other_key: Any, clock: Any
) -> None:
    await provider.keys()
    for minute in range(1, 11):
        tokens = [signed_by(op, other_key.called(f"{minute}-{n}")) for n in range(20)]
        results = await asyncio.gather(
            *(judge(provider, token) for token in tokens), return_exceptions=True
        )
        assert {type(result) for result in results} == {SigningKeyNotFound}
        assert isinstance(await refused(provider, tokens[0]), SigningKeyNotFound)
        assert op.count("jwks") == 1 + minute
        clock.advance(60)
    assert "KeysThrottled" in kinds(events)


@pytest.mark.case(99)
@pytest.mark.case(101)
async def test_a_new_key_is_found_by_one_fetch_however_many_tokens_need_it(
    provider: Any, op: Any, other_key: Any
) -> None:
    await provider.keys()
    op.keys = [other_key]
    token = signed_by(op, other_key)
    results = await asyncio.gather(*(judge(provider, token) for _ in range(50)))
    assert [result["sub"] for result in results] == ["alice"] * 50
    assert op.count("jwks") == 2


@pytest.mark.case(101)
@pytest.mark.case(102)
async def test_new_keys_replace_the_old_ones_and_are_never_merged(
    provider: Any, op: Any, other_key: Any
) -> None:
    old = op.id_token()
    await judge(provider, old)
    op.keys = [other_key]
    await judge(provider, signed_by(op, other_key))
    assert isinstance(await refused(provider, old), SigningKeyNotFound)


@pytest.mark.case(102)
async def test_a_withdrawn_key_is_trusted_for_an_hour_at_most(
    provider: Any, op: Any, other_key: Any, clock: Any
) -> None:
    op.headers["cache-control"] = "max-age=86400"
    old = op.id_token()
    await judge(provider, old)
    op.keys = [other_key]
    clock.advance(HOUR + 1)
    assert isinstance(await refused(provider, old), SigningKeyNotFound)


@pytest.mark.case(100)
async def test_a_key_replaced_under_its_name_is_found(
    provider: Any, op: Any, key: Any, other_key: Any, clock: Any
) -> None:
    await provider.keys()
    replaced = other_key.called(key.kid)
    op.keys = [replaced]
    clock.advance(60)
    assert (await judge(provider, signed_by(op, replaced)))["sub"] == "alice"
    assert op.count("jwks") == 2


@pytest.mark.case(100)
async def test_a_bad_signature_asks_for_no_keys_while_ours_are_young(
    provider: Any, op: Any, key: Any, other_key: Any, clock: Any
) -> None:
    await provider.keys()
    forged = signed_by(op, other_key.called(key.kid))
    clock.advance(59)
    for _ in range(5):
        assert isinstance(await refused(provider, forged), InvalidSignature)
    assert op.count("jwks") == 1
    clock.advance(1)
    for _ in range(5):
        assert isinstance(await refused(provider, forged), InvalidSignature)
    assert op.count("jwks") == 2


async def test_an_unusable_set_later_leaves_the_last_good_keys_in_use(
    provider: Any, op: Any, events: list[Any], clock: Any
) -> None:
    await provider.keys()
    op.planned["jwks"] = [httpx.Response(200, json={"keys": "none"})]
    clock.advance(HOUR + 1)
    assert await judge(provider, op.id_token())
    assert "MetadataRefused" in kinds(events)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(httpx.Response(200, json=[]), id="list"),
        pytest.param(httpx.Response(200, html="<html>"), id="html"),
        pytest.param(httpx.Response(200, json={"keys": [{}] * 101}), id="too-many"),
    ],
)
async def test_a_document_that_is_no_key_set_is_refused(
    provider: Any, op: Any, answer: httpx.Response
) -> None:
    op.planned["jwks"] = [answer]
    assert isinstance(await refused(provider, op.id_token()), InvalidMetadata)


@pytest.mark.case(154)
async def test_a_redirect_of_the_keys_is_not_followed(provider: Any, op: Any) -> None:
    op.planned["jwks"] = [httpx.Response(302, headers={"location": "https://op.test/jwks2"})]
    await refused(provider, op.id_token())
    assert op.count("jwks2") == 0


@pytest.mark.case(147)
async def test_keys_of_one_provider_are_never_used_for_another(
    make: Any, op: Any, other_key: Any, clock: Any
) -> None:
    other = type(op)(other_key, clock)
    other.metadata = {
        name: value.replace("op.test", "other.test") for name, value in op.metadata.items()
    }
    first = make()
    second = make("https://other.test", http=other.client())
    assert await judge(first, op.id_token())
    assert isinstance(await refused(second, op.id_token()), SigningKeyNotFound)


async def test_an_outage_of_the_keys_is_told_as_one(provider: Any, op: Any, other_key: Any) -> None:
    await provider.keys()
    op.down.add("jwks")
    error = await refused(provider, signed_by(op, other_key))
    assert type(error).__name__ == "ProviderUnavailable"


async def test_a_caller_with_old_keys_gets_the_new_ones_without_a_fetch(
    provider: Any, op: Any, other_key: Any
) -> None:
    documents = provider._documents._keys
    old = await provider.keys()
    new = await documents.newer_than(old)
    assert new is not old
    assert await documents.newer_than(old) is new
    assert op.count("jwks") == 2
    assert await documents.newer_than(new) is None
