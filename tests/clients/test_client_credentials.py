"""Tokens of the app itself: cached, shared, renewed in time, and bounded when they fail."""

from __future__ import annotations

import asyncio
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import httpx
import pytest
from token_endpoint import TokenEndpoint, fail, refuse

from tokenward import ClientCredentials, ClientCredentialsTokens, OpenIDProvider
from tokenward.clock import SystemClock
from tokenward.errors import (
    ConfigurationError,
    InvalidMetadata,
    ProtocolError,
    StoreUnavailable,
    TokenUnavailable,
)
from tokenward.events import ClientTokenFailed, ProviderAlarm, StoreFailed
from tokenward.protocol.client_auth import client_secret_post
from tokenward.sealing import KeyRing
from tokenward.secret import Secret
from tokenward.stores.memory import MemoryStore
from tokenward.stores.sqlite import SQLiteStore
from tokenward.testing import Client

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Way
    from tokenward.testing import FrozenClock, Provider
    from tokenward.tokens.interfaces import Entry

RING = KeyRing("m2m-Yz8LmQ2v-K4tRw7NfJb0PqXc9Ud1Es6Ga3Hi5")
HOUR = 3600.0


# ------------------------------------------------------------------ what is asked


async def test_the_request_is_that_of_the_specification(both: Way) -> None:
    token = await both.get(both.tokens())
    assert token.value == "token-1-for-api"
    assert token.scope == {"api"}
    assert both.endpoint.forms == [{"grant_type": "client_credentials", "scope": "api"}]
    assert both.endpoint.headers[0]["authorization"].startswith("Basic ")


async def test_scope_resource_audience_and_parameters_are_sent(both: Way) -> None:
    tokens = both.tokens()
    tokens.add(
        "all",
        both.endpoint.registration(
            scope="b a",
            resource="https://r.example",
            audience="reports-api",
            extra={"tenant": "t-1"},
            client_secret=None,
            client_auth=client_secret_post("another-secret-0123456789"),
        ),
    )
    await both.get(tokens, "all", extra={"trace": "on"})
    form = both.endpoint.forms[0]
    assert form.pop("client_secret") == "another-secret-0123456789"
    assert form == {
        "grant_type": "client_credentials",
        "client_id": "m2m",
        "scope": "a b",
        "resource": "https://r.example",
        "audience": "reports-api",
        "tenant": "t-1",
        "trace": "on",
    }


async def test_the_endpoint_is_found_by_discovery_once(both: Way, oidc_provider: Provider) -> None:
    metadata: list[str] = []
    oidc_provider.register(Client("m2m", scopes=["api"]))

    def op(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/.well-known/openid-configuration":
            metadata.append(str(request.url))
            return httpx.Response(
                200,
                json={
                    "issuer": "https://op.test",
                    "authorization_endpoint": "https://op.test/authorize",
                    "token_endpoint": "https://op.test/token",
                    "jwks_uri": "https://op.test/jwks",
                    "response_types_supported": ["code"],
                    "subject_types_supported": ["public"],
                    "id_token_signing_alg_values_supported": ["RS256"],
                },
            )
        return both.endpoint(request)

    tokens = both.tokens()
    tokens.add(
        "found",
        both.endpoint.registration(
            token_endpoint=None,
            issuer="https://op.test",
            http=httpx.AsyncClient(transport=httpx.MockTransport(op)),
            sync_http=httpx.Client(transport=httpx.MockTransport(op)),
        ),
    )
    await both.get(tokens, "found")
    await both.get(tokens, "found", force_renewal=True)
    assert len(metadata) == 1
    both.clock.advance(HOUR)
    await both.get(tokens, "found")
    assert len(metadata) == 2
    assert both.endpoint.count == 3


async def test_metadata_that_cannot_be_had_are_an_outage_and_wrong_ones_are_told(both: Way) -> None:
    answers = [fail(503), lambda _: httpx.Response(200, json={"issuer": "https://evil.test"})]
    transport = httpx.MockTransport(lambda request: answers.pop(0)(request))
    tokens = both.tokens()
    tokens.add(
        "found",
        both.endpoint.registration(
            token_endpoint=None,
            issuer="https://op.test",
            http=httpx.AsyncClient(transport=transport),
            sync_http=httpx.Client(transport=transport),
        ),
    )
    with pytest.raises(TokenUnavailable):
        await both.get(tokens, "found")
    with pytest.raises(InvalidMetadata):
        await both.get(tokens, "found")


async def test_the_client_that_users_log_in_with_gets_tokens_of_its_own(
    oidc_provider: Provider, frozen_clock: FrozenClock
) -> None:
    mounts = {"https://op.test": httpx.ASGITransport(oidc_provider)}
    async with httpx.AsyncClient(mounts=mounts) as http:
        provider = OpenIDProvider(
            "https://op.test", client_id="app", client_secret="secret", http=http
        )
        tokens = ClientCredentialsTokens(clock=frozen_clock)
        tokens.add("app", ClientCredentials.of_provider(provider, scope="api"))
        assert (await tokens.token("app")).scope == {"api"}
    assert oidc_provider.count("token", grant_type="client_credentials", client_id="app") == 1


@pytest.mark.parametrize(
    ("settings", "setting"),
    [
        pytest.param({"token_endpoint": None}, "token_endpoint", id="neither"),
        pytest.param({"issuer": "https://op.test"}, "token_endpoint", id="both"),
        pytest.param({"token_endpoint": "http://op.test/t"}, "token_endpoint", id="http"),
        pytest.param({"token_endpoint": "http://localhost/t"}, "token_endpoint", id="loopback"),
        pytest.param({"token_endpoint": "https://a:b@op.test"}, "token_endpoint", id="user"),
        pytest.param({"client_auth": client_secret_post("x" * 20)}, "client_auth", id="proofs"),
        pytest.param({"extra": {"scope": "x"}}, "extra", id="repeated"),
        pytest.param({"extra": {"client_secret": "x"}}, "extra", id="proof-in-extra"),
    ],
)
def test_a_registration_that_cannot_work_is_refused(
    endpoint: TokenEndpoint, settings: dict[str, object], setting: str
) -> None:
    with pytest.raises(ConfigurationError) as refused:
        ClientCredentialsTokens().add("x", endpoint.registration(**settings))
    assert refused.value.setting == setting


def test_a_name_is_taken_once_and_must_exist(endpoint: TokenEndpoint) -> None:
    tokens = ClientCredentialsTokens()
    tokens.add("a", endpoint.registration())
    with pytest.raises(ConfigurationError, match="already"):
        tokens.add("a", endpoint.registration())
    with pytest.raises(ConfigurationError, match="no client 'b'"):
        tokens.source("b")


def test_http_on_loopback_is_allowed_by_name(endpoint: TokenEndpoint) -> None:
    tokens = ClientCredentialsTokens()
    tokens.add(
        "a",
        endpoint.registration(
            token_endpoint="http://localhost:8001/t", dangerously_allow_http=True
        ),
    )


# ------------------------------------------------------------------ what is kept


async def test_a_token_is_asked_for_once(both: Way) -> None:
    tokens = both.tokens()
    assert await both.get(tokens) == await both.get(tokens)
    assert both.endpoint.count == 1


@pytest.mark.case(447)
@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"scope": "api admin"}, id="scope"),
        pytest.param({"scope": ""}, id="no-scope"),
        pytest.param({"resource": "https://r.example"}, id="resource"),
        pytest.param({"extra": {"audience": "x"}}, id="audience"),
        pytest.param({"extra": {"tenant": "x"}}, id="parameter"),
        pytest.param({"extra": {"tenant": "y"}}, id="its-value"),
        pytest.param({"name": "twin"}, id="client"),
    ],
)
async def test_whatever_changes_the_token_makes_it_another_one(
    both: Way, other: dict[str, object]
) -> None:
    tokens = both.tokens(store=MemoryStore(clock=both.clock), ring=RING)
    tokens.add("twin", both.endpoint.registration())
    plain = await both.get(tokens)
    await both.get(tokens, extra={"tenant": "x"}, resource="https://other.example")
    assert both.endpoint.count == 2
    assert (await both.get(tokens, **other)).value != plain.value
    assert both.endpoint.count == 3
    assert await both.get(tokens) == plain


@pytest.mark.case(447)
async def test_no_two_targets_look_alike_when_they_are_written_in_a_row(both: Way) -> None:
    tokens = both.tokens(store=MemoryStore(clock=both.clock), ring=RING)
    tokens.add("a", both.endpoint.registration(scope="b", resource="https://c.example"))
    tokens.add("a b", both.endpoint.registration(scope=None, resource=()))
    lookalikes = [
        ("a", {"extra": {"k": "v,w"}}),
        ("a", {"extra": {"k": "v", "w": ""}}),
        ("a", {"extra": {"kv": ",w"}}),
        ("a", {"resource": ["https://c.example", "https://d.example"]}),
        ("a", {"resource": ["https://c.example,https://d.example"]}),
        ("a b", {}),
        ("a b", {"scope": "None"}),
    ]
    values = {(await both.get(tokens, name, **wish)).value for name, wish in lookalikes}
    assert len(values) == both.endpoint.count == len(lookalikes)


@pytest.mark.case(448)
async def test_the_order_of_scopes_has_no_meaning_and_their_case_has(both: Way) -> None:
    tokens = both.tokens()
    one = await both.get(tokens, scope="a b")
    assert await both.get(tokens, scope="b a") == one
    assert await both.get(tokens, scope=" b  a b") == one
    assert both.endpoint.count == 1
    assert await both.get(tokens, scope="A b") != one
    assert [form["scope"] for form in both.endpoint.forms] == ["a b", "A b"]


@pytest.mark.case(450)
async def test_scopes_from_outside_do_not_fill_the_memory(both: Way) -> None:
    tokens = both.tokens(size=10)
    kept = await both.get(tokens)
    for number in range(40):
        await both.get(tokens, scope=f"s{number}")
        assert await both.get(tokens) == kept  # what is in use stays
    assert len(tokens) == 10


async def test_a_token_is_renewed_within_the_margin_and_not_before(both: Way) -> None:
    tokens = both.tokens(margin=60.0)
    first = await both.get(tokens)
    both.clock.advance(HOUR - 61)
    assert await both.get(tokens) == first
    both.clock.advance(2)
    assert await both.get(tokens) != first


async def test_the_margin_is_never_more_than_a_tenth_of_the_lifetime(both: Way) -> None:
    both.endpoint.lifetime = 20
    tokens = both.tokens(margin=60.0)
    first = await both.get(tokens)
    both.clock.advance(17.9)
    assert await both.get(tokens) == first
    both.clock.advance(0.2)
    assert await both.get(tokens) != first


@pytest.mark.case(456)
async def test_processes_differ_in_when_they_renew(both: Way) -> None:
    both.jitter = 0.0
    early = both.tokens(margin=100.0)
    both.jitter = 1.0
    late = both.tokens(margin=100.0)
    both.jitter = 0.0
    await both.get(early)
    both.jitter = 1.0
    kept = await both.get(late)
    both.clock.advance(HOUR - 90)
    assert await both.get(late) == kept
    assert both.endpoint.count == 2
    await both.get(early)
    assert both.endpoint.count == 3


@pytest.mark.case(453)
@pytest.mark.parametrize("told", [0, -1])
async def test_a_lifetime_of_zero_is_not_kept(both: Way, told: int) -> None:
    both.endpoint.lifetime = told
    tokens = both.tokens()
    assert await both.get(tokens) != await both.get(tokens)
    assert both.endpoint.count == 2
    assert len(tokens) == 0


@pytest.mark.case(453)
@pytest.mark.parametrize("told", [None, "soon", True])
async def test_a_lifetime_that_is_not_told_is_a_short_one(both: Way, told: object) -> None:
    both.endpoint.lifetime = told
    tokens = both.tokens()
    token = await both.get(tokens)
    assert token.expires_assumed
    assert token.lifetime == 300
    assert await both.get(tokens) == token
    both.clock.advance(280)
    assert await both.get(tokens) != token


@pytest.mark.case(461)
@pytest.mark.parametrize(
    "answer",
    [
        pytest.param({"access_token": "t" * 20, "token_type": "mac"}, id="type"),
        pytest.param({"token_type": "Bearer"}, id="missing"),
        pytest.param({"access_token": "has space", "token_type": "Bearer"}, id="space"),
        pytest.param({"access_token": 7, "token_type": "Bearer"}, id="number"),
        pytest.param([], id="list"),
    ],
)
async def test_an_answer_is_judged_like_any_other(both: Way, answer: object) -> None:
    both.endpoint.script.append(lambda _: httpx.Response(200, json=answer))
    tokens = both.tokens()
    with pytest.raises(TokenUnavailable):
        await both.get(tokens)
    assert len(tokens) == 0


async def test_a_deleted_token_is_got_anew(both: Way) -> None:
    store = MemoryStore(clock=both.clock)
    tokens, other = both.tokens(store=store, ring=RING), both.tokens(store=store, ring=RING)
    first = await both.get(tokens)
    await both.delete(tokens)
    assert await both.get(other) != first


async def test_force_renewal_replaces_the_token_for_everybody(both: Way) -> None:
    store = MemoryStore(clock=both.clock)
    tokens, other = both.tokens(store=store, ring=RING), both.tokens(store=store, ring=RING)
    first = await both.get(tokens)
    second = await both.get(tokens, force_renewal=True)
    assert second != first
    assert await both.get(tokens) == second
    assert await both.get(other) == second


@pytest.mark.case(460)
def test_a_clock_that_is_set_back_does_not_prolong_a_token(endpoint: TokenEndpoint) -> None:
    wall, steady = [1_900_000_000.0], [0.0]
    clock = SystemClock(lambda: wall[0], lambda: steady[0])
    tokens = ClientCredentialsTokens(clock=clock)
    tokens.add("a", endpoint.registration())
    first = tokens.token_sync("a")
    wall[0] -= 10 * HOUR
    steady[0] += HOUR - 30
    assert tokens.token_sync("a") != first


# ------------------------------------------------------------------ 401 from an API


@pytest.mark.case(454)
async def test_fifty_late_refusals_are_one_renewal(both: Way) -> None:
    tokens = both.tokens()
    old = await both.get(tokens)
    renewed = await asyncio.gather(*(both.get(tokens, rejected=old) for _ in range(50)))
    assert {token.value for token in renewed} == {"token-2-for-api"}
    assert await both.get(tokens, rejected=old) == renewed[0]
    assert both.endpoint.count == 2


@pytest.mark.case(454)
async def test_only_the_token_that_was_refused_is_dropped(both: Way) -> None:
    store = MemoryStore(clock=both.clock)
    tokens, other = both.tokens(store=store, ring=RING), both.tokens(store=store, ring=RING)
    old = await both.get(tokens)
    new = await both.get(other, rejected=old)
    assert new != old
    assert await both.get(tokens, rejected=old) == new
    assert both.endpoint.count == 2


@pytest.mark.case(362)
async def test_an_api_that_refuses_everything_costs_one_renewal_in_ten_seconds(both: Way) -> None:
    tokens = both.tokens()
    token = await both.get(tokens)
    for _ in range(20):
        token = await both.get(tokens, rejected=token)
    assert both.endpoint.count == 2
    both.clock.advance(10)
    assert await both.get(tokens, rejected=token) != token
    assert both.endpoint.count == 3


# ----------------------------------------------------------------- all at once


@pytest.mark.case(449)
async def test_a_hundred_first_calls_with_three_scopes_are_three_requests(both: Way) -> None:
    tokens = both.tokens()
    scopes = [("a", "b", "a b")[number % 3] for number in range(100)]
    got = await asyncio.gather(*(both.get(tokens, scope=scope) for scope in scopes))
    assert both.endpoint.count == 3
    for scope, token in zip(scopes, got, strict=True):
        assert token.value.endswith(f"-for-{scope.replace(' ', '+')}")
        assert token.scope == frozenset(scope.split())


@pytest.mark.case(449)
def test_threads_that_want_different_tokens_do_not_wait_for_each_other(
    endpoint: TokenEndpoint,
) -> None:
    both_there = threading.Barrier(2, timeout=10)

    def wait_for_the_other(request: httpx.Request) -> httpx.Response:
        both_there.wait()
        return endpoint(request)

    tokens = ClientCredentialsTokens()
    transport = httpx.MockTransport(wait_for_the_other)
    tokens.add("a", endpoint.registration(sync_http=httpx.Client(transport=transport)))
    with ThreadPoolExecutor(2) as pool:
        got = list(pool.map(lambda scope: tokens.token_sync("a", scope=scope), ("x", "y")))
    assert [token.scope for token in got] == [{"x"}, {"y"}]


@pytest.mark.case(454)
async def test_a_refusal_that_comes_while_the_store_is_being_read_is_not_answered_with_itself(
    endpoint: TokenEndpoint,
) -> None:
    reading, let = asyncio.Event(), asyncio.Event()

    class Slow(MemoryStore):
        async def get(self, key: str) -> Entry | None:
            reading.set()
            await let.wait()
            return await super().get(key)

    store = Slow()
    let.set()
    first, second = (ClientCredentialsTokens(store=store, ring=RING) for _ in range(2))
    for tokens in (first, second):
        tokens.add("a", endpoint.registration())
    old = await first.token("a")
    reading.clear()
    let.clear()
    plain = asyncio.create_task(second.token("a"))
    await reading.wait()
    refused = asyncio.create_task(second.token("a", rejected=old))
    await asyncio.sleep(0)
    let.set()
    assert await plain == old
    assert await refused != old


def test_twenty_threads_make_one_token_request(endpoint: TokenEndpoint) -> None:
    tokens, barrier = ClientCredentialsTokens(), threading.Barrier(20)
    tokens.add("a", endpoint.registration())

    def job(_: int) -> str:
        barrier.wait()
        return tokens.token_sync("a").value

    with ThreadPoolExecutor(20) as pool:
        values = set(pool.map(job, range(20)))
    assert values == {"token-1-for-api"}
    assert endpoint.count == 1


async def test_a_caller_that_goes_away_stops_nobody(endpoint: TokenEndpoint) -> None:
    begun, let = asyncio.Event(), asyncio.Event()

    async def slow(request: httpx.Request) -> httpx.Response:
        begun.set()
        await let.wait()
        return endpoint(request)

    tokens = ClientCredentialsTokens()
    tokens.add(
        "a", endpoint.registration(http=httpx.AsyncClient(transport=httpx.MockTransport(slow)))
    )
    first = asyncio.create_task(tokens.token("a"))
    await begun.wait()
    second = asyncio.create_task(tokens.token("a"))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait([first])
    let.set()
    assert (await second).value == "token-1-for-api"
    assert first.cancelled()


@pytest.mark.case(459)
def test_several_event_loops_and_threads_use_one_object(endpoint: TokenEndpoint) -> None:
    tokens = ClientCredentialsTokens()
    tokens.add("a", endpoint.registration())

    async def once() -> str:
        return (await tokens.token("a")).value

    assert asyncio.run(once()) == asyncio.run(once()) == tokens.token_sync("a").value
    assert endpoint.count == 1


@pytest.mark.case(459)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_worker_goes_on_by_itself(endpoint: TokenEndpoint, tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "tokens.db")
    tokens = ClientCredentialsTokens(store=store, ring=RING)
    tokens.add("a", endpoint.registration())
    first = tokens.token_sync("a")
    child = os.fork()
    if child == 0:
        fine = tokens.token_sync("a") == first and tokens.token_sync("a", scope="b") != first
        os._exit(0 if fine else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert tokens.token_sync("a") == first
    # What the child got is in the store that they share.
    assert tokens.token_sync("a", scope="b").value == "token-2-for-b"
    assert endpoint.count == 1
    tokens.close()


# --------------------------------------------------------------------- failures


@pytest.mark.case(451)
async def test_a_token_that_is_valid_is_served_while_the_provider_is_down(both: Way) -> None:
    tokens = both.tokens()
    token = await both.get(tokens)
    both.endpoint.down = True
    both.clock.advance(HOUR - 10)
    assert await both.get(tokens) == token
    assert both.endpoint.count == 2 + 1  # refused at connect, tried once more by the transport
    assert any(isinstance(event, ClientTokenFailed) for event in both.events)


@pytest.mark.case(452)
async def test_a_token_that_is_over_is_not_served_though_the_provider_is_down(both: Way) -> None:
    tokens = both.tokens()
    await both.get(tokens)
    both.endpoint.down = True
    both.clock.advance(HOUR)
    with pytest.raises(TokenUnavailable):
        await both.get(tokens)


@pytest.mark.case(452)
async def test_with_the_provider_down_nobody_stampedes(both: Way) -> None:
    tokens = both.tokens()
    both.endpoint.script.extend([fail(503)] * 1000)
    for _ in range(50):
        with pytest.raises(TokenUnavailable):
            await both.get(tokens)
    assert both.endpoint.count == 5
    with pytest.raises(TokenUnavailable) as refused:
        await both.get(tokens)
    assert 0 < refused.value.retry_after <= 6
    results = await asyncio.gather(
        *(both.get(tokens, scope=str(n)) for n in range(20)), return_exceptions=True
    )
    assert all(isinstance(result, TokenUnavailable) for result in results)
    assert both.endpoint.count == 5


@pytest.mark.case(452)
async def test_failures_are_not_kept(both: Way) -> None:
    tokens = both.tokens()
    both.endpoint.script.append(fail(500))
    with pytest.raises(TokenUnavailable):
        await both.get(tokens)
    assert (await both.get(tokens)).value == "token-2-for-api"


async def test_retry_after_is_obeyed_at_the_first_failure(both: Way) -> None:
    tokens = both.tokens()
    both.endpoint.script.append(fail(429, **{"retry-after": "30"}))
    for _ in range(2):
        with pytest.raises(TokenUnavailable) as refused:
            await both.get(tokens)
        assert refused.value.retry_after == pytest.approx(30, abs=7)
    assert both.endpoint.count == 1
    both.clock.advance(37)
    await both.get(tokens)


@pytest.mark.case(457)
async def test_a_wrong_secret_is_an_alarm_and_no_hammering(both: Way) -> None:
    tokens = both.tokens()
    both.endpoint.script.extend([refuse("invalid_client", status=401)] * 10)
    for scope in ("api", "api", "other"):
        with pytest.raises(ProtocolError) as refused:
            await both.get(tokens, scope=scope)
        assert refused.value.response.error == "invalid_client"
    assert both.endpoint.count == 1
    assert [event.error for event in both.events if isinstance(event, ProviderAlarm)] == [
        "invalid_client"
    ]
    both.clock.advance(30)
    with pytest.raises(ProtocolError):
        await both.get(tokens)
    assert both.endpoint.count == 2


@pytest.mark.case(457)
async def test_a_scope_that_is_refused_keeps_nobody_else_waiting(both: Way) -> None:
    tokens = both.tokens()
    both.endpoint.script.append(refuse("invalid_scope"))
    for _ in range(3):
        with pytest.raises(ProtocolError):
            await both.get(tokens, scope="secret")
    assert (await both.get(tokens)).value == "token-2-for-api"


@pytest.mark.case(458)
async def test_a_secret_that_changes_is_taken_at_the_next_request(both: Way) -> None:
    secrets = ["the-first-secret-0123456789"]
    tokens = both.tokens()
    tokens.add("vault", both.endpoint.registration(client_secret=lambda: Secret(secrets[0])))
    first = await both.get(tokens, "vault")
    secrets[0] = "the-second-secret-0123456789"
    assert await both.get(tokens, "vault") == first
    await both.get(tokens, "vault", force_renewal=True)
    one, two = (headers["authorization"] for headers in both.endpoint.headers)
    assert one != two


@pytest.mark.case(458)
async def test_a_vault_that_is_down_is_an_outage(both: Way) -> None:
    def vault() -> str:
        raise LookupError("sealed")

    tokens = both.tokens()
    tokens.add("vault", both.endpoint.registration(client_secret=vault))
    with pytest.raises(TokenUnavailable, match="LookupError"):
        await both.get(tokens, "vault")
    assert both.endpoint.count == 0


# ---------------------------------------------------------------------- the store


@pytest.mark.case(455)
async def test_what_the_store_holds_is_sealed_named_by_a_hash_and_not_kept_too_long(
    both: Way,
) -> None:
    puts: list[tuple[str, bytes, float]] = []

    class Noted(MemoryStore):
        async def put(self, key: str, value: bytes, *, ttl: float, version: int | None) -> int:
            puts.append((key, value, ttl))
            return await super().put(key, value, ttl=ttl, version=version)

    tokens = both.tokens(store=Noted(clock=both.clock), ring=RING)
    token = await both.get(tokens, scope="payroll")
    ((key, value, ttl),) = puts
    assert b"payroll" not in value
    assert token.value.encode() not in value
    assert "payroll" not in key
    assert "m2m" not in key
    assert ttl == HOUR - 60


@pytest.mark.case(455)
async def test_a_token_that_was_moved_to_another_key_is_not_used(both: Way) -> None:
    store = MemoryStore(clock=both.clock)
    source = both.tokens(store=store, ring=RING)
    await both.get(source, scope="small")
    small, large = (
        f"{source.source('reports', scope=scope).target.digest()}:client-token"
        for scope in ("small", "large")
    )
    entry = await store.get(small)
    assert entry
    await store.put(large, entry.value, ttl=HOUR, version=None)
    fresh = both.tokens(store=store, ring=RING)
    assert (await both.get(fresh, scope="large")).value == "token-2-for-large"
    assert (await both.get(fresh, scope="small")).value == "token-1-for-small"


@pytest.mark.case(459)
async def test_processes_share_tokens_by_the_store(both: Way, tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "tokens.db")
    tokens, other = both.tokens(store=store, ring=RING), both.tokens(store=store, ring=RING)
    assert await both.get(tokens) == await both.get(other)
    assert both.endpoint.count == 1
    both.clock.advance(HOUR - 30)
    assert await both.get(other) == await both.get(tokens)
    assert both.endpoint.count == 2
    await store.aclose()


async def test_a_store_that_is_down_costs_requests_and_nothing_else(both: Way) -> None:
    class Down(MemoryStore):
        async def get(self, key: str) -> None:
            raise StoreUnavailable(key)

        async def put(self, key: str, value: bytes, *, ttl: float, version: int | None) -> int:
            raise StoreUnavailable(key)

    tokens = both.tokens(store=Down(clock=both.clock), ring=RING)
    token = await both.get(tokens)
    assert await both.get(tokens) == token
    failed = [event.operation for event in both.events if isinstance(event, StoreFailed)]
    assert failed == ["read", "write"]


def test_a_store_wants_a_ring() -> None:
    with pytest.raises(ConfigurationError, match="ring"):
        ClientCredentialsTokens(store=MemoryStore())


def test_nothing_that_is_printed_shows_a_secret(endpoint: TokenEndpoint) -> None:
    registration = endpoint.registration(extra={"key": Secret("extra-secret-0123456789")})
    tokens = ClientCredentialsTokens()
    tokens.add("a", registration)
    source = tokens.source("a")
    shown = f"{registration} {tokens} {source} {source.target} {tokens.token_sync('a')}"
    assert "secret-of" not in shown
    assert "extra-secret" not in shown
    assert "token-1" not in shown
