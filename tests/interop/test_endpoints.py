"""Our endpoint functions against a certified provider that is not ours, by all four clients."""

from __future__ import annotations

import functools
import html
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx
import httpx2
import pytest

from tokenward.clock import system_clock
from tokenward.endpoints import (
    get_discovery_document,
    get_json_web_key_set,
    get_userinfo,
    introspect_token,
    poll_device_token,
    push_authorization_request,
    register_client,
    request_authorization_code_token,
    request_client_credentials_token,
    request_device_authorization,
    request_device_token,
    request_refresh_token,
    request_token,
    revoke_token,
)
from tokenward.errors import ConfigurationError, ProtocolError
from tokenward.protocol.authorization import (
    AuthorizationRequest,
    check_callback,
    code_challenge,
    new_code_verifier,
    new_nonce,
    new_state,
    pushed_authorization_url,
    read_callback,
)
from tokenward.protocol.client_assertion import private_key_jwt
from tokenward.protocol.client_auth import client_secret_basic, client_secret_post
from tokenward.protocol.id_token import validate_userinfo
from tokenward.protocol.metadata import DiscoveryPolicy, ProviderMetadata
from tokenward.protocol.request_object import request_object
from tokenward.protocol.signed_answer import AnswerSigner
from tokenward.protocol.token_answer import read_token_answer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from tokenward.protocol.client_auth import ClientAuth
    from tokenward.secret import Secret

pytestmark = pytest.mark.interop

LOCAL = DiscoveryPolicy(dangerously_allow_http=True)
API = "https://api.test/invoices"
OTHER_API = "https://api.test/orders"


class Caller:
    """One of the four HTTP clients, and the provider's metadata."""

    def __init__(self, http: Any, metadata: ProviderMetadata) -> None:
        self.http = http
        self.metadata = metadata

    async def __call__(self, function: Any, *arguments: Any, **keywords: Any) -> Any:
        answer = function(self.http, *arguments, **keywords)
        return await answer if isinstance(self.http, ASYNC) else answer


ASYNC = (httpx.AsyncClient, httpx2.AsyncClient)
CLIENTS = [httpx.AsyncClient, httpx.Client, httpx2.AsyncClient, httpx2.Client]


@pytest.fixture(scope="module")
def metadata(interop_op) -> ProviderMetadata:
    with httpx.Client() as http:
        return get_discovery_document(http, interop_op.issuer, policy=LOCAL).metadata


@pytest.fixture(params=CLIENTS, ids=lambda kind: f"{kind.__module__}.{kind.__name__}")
async def caller(request, metadata: ProviderMetadata) -> AsyncIterator[Caller]:
    http = request.param(timeout=30)
    yield Caller(http, metadata)
    if isinstance(http, ASYNC):
        await http.aclose()
    else:
        http.close()


@pytest.fixture
def browser(interop_op) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=interop_op.issuer, timeout=30) as client:
        yield client


@pytest.fixture
def as_app(interop_op) -> dict[str, object]:
    """Who asks, and its proof."""
    return {"client_id": "app", "client_secret": interop_op.client_secret}


@pytest.fixture
def as_worker(interop_op) -> dict[str, object]:
    return {"client_id": "worker-basic", "client_secret": interop_op.client_secret}


# --- what the browser does


def land(browser: httpx.Client, response: httpx.Response, *, until: str = "") -> httpx.Response:
    """Follow redirects inside the provider; stop before one that leaves it."""
    for _ in range(12):
        if not response.is_redirect:
            return response
        url = response.url.join(response.headers["location"])
        if until and str(url).startswith(until):
            return response
        response = browser.get(url)
    pytest.fail("the provider goes on redirecting")


def open_page(browser: httpx.Client, url: str, *, until: str) -> httpx.Response:
    return land(browser, browser.get(url), until=until)


def enter_code(browser: httpx.Client, uri: str, **form: str) -> str:
    """Be alice, who opens the verification page and fills it in; returns what she sees."""
    page = browser.get(uri)
    xsrf = re.findall(r'name="xsrf" value="([^"]+)"', page.text)[0]
    return land(browser, browser.post(uri, data={"xsrf": html.unescape(xsrf), **form})).text


# --- discovery and keys


async def test_discovery_and_keys_are_read(caller, interop_op) -> None:
    found = await caller(get_discovery_document, interop_op.issuer, policy=LOCAL)
    assert found.raise_for_error().metadata == caller.metadata
    assert caller.metadata.device_authorization_endpoint
    assert caller.metadata.registration_endpoint
    keys = await caller(get_json_web_key_set, caller.metadata.jwks_uri)
    assert len(keys.raise_for_error().key_set.keys) == 1


async def test_http_is_refused_unless_it_is_allowed_by_name(caller, interop_op) -> None:
    with pytest.raises(ConfigurationError, match="https"):
        await caller(get_discovery_document, interop_op.issuer)


# --- client credentials


def proofs(interop_op: Any) -> dict[str, ClientAuth]:
    secret = interop_op.client_secret
    key = functools.partial(private_key_jwt, interop_op.client_key, clock=system_clock)
    return {
        "worker-basic": client_secret_basic(secret),
        "worker-post": client_secret_post(secret),
        "worker-key": key(issuer=interop_op.issuer),
    }


@pytest.mark.case(214)
@pytest.mark.parametrize(
    "client_id",
    [
        "worker-basic",
        "worker-post",
        pytest.param("worker-key", marks=pytest.mark.case(216)),
    ],
)
async def test_a_client_gets_a_token_for_itself_by_each_proof(
    caller, interop_op, as_worker, client_id
) -> None:
    address = caller.metadata.token_endpoint
    asking = {"client_id": client_id, "client_auth": proofs(interop_op)[client_id]}
    # Twice, because a statement is good once.
    for _ in range(2):
        response = await caller(request_client_credentials_token, address, **asking)
        answer = read_token_answer(response)
    assert (answer.token_type, answer.expires_in) == ("Bearer", 60)
    told = await caller(
        introspect_token,
        caller.metadata.introspection_endpoint,
        token=answer.access_token,
        **as_worker,
    )
    assert (told.active, told.client_id) == (True, client_id)


async def test_a_statement_for_another_provider_is_refused(caller, interop_op) -> None:
    elsewhere = private_key_jwt(
        interop_op.client_key, issuer="https://other.test", clock=system_clock
    )
    response = await caller(
        request_client_credentials_token,
        caller.metadata.token_endpoint,
        client_id="worker-key",
        client_auth=elsewhere,
    )
    assert (response.error_type, response.error) == ("protocol", "invalid_client")


async def test_a_wrong_secret_is_a_value_with_the_providers_word(caller) -> None:
    response = await caller(
        request_client_credentials_token,
        caller.metadata.token_endpoint,
        client_id="worker-basic",
        client_secret="wrong",
    )
    assert (response.http_status, response.error_type) == (401, "protocol")
    assert response.error == "invalid_client"
    assert response.error_description


async def test_an_unknown_grant_is_a_value(caller, as_worker) -> None:
    response = await caller(
        request_token, caller.metadata.token_endpoint, grant="custom", **as_worker
    )
    assert (response.http_status, response.error) == (400, "unsupported_grant_type")


# --- resource indicators (RFC 8707)


async def test_a_token_is_for_the_resource_that_was_asked_for(caller, as_worker) -> None:
    response = await caller(
        request_client_credentials_token,
        caller.metadata.token_endpoint,
        scope="read",
        resource=(API,),
        **as_worker,
    )
    answer = read_token_answer(response)
    assert answer.scope == {"read"}
    told = await caller(
        introspect_token,
        caller.metadata.introspection_endpoint,
        token=answer.access_token,
        **as_worker,
    )
    assert (told.active, told.aud, told.scope) == (True, (API,), {"read"})


async def test_a_resource_that_the_provider_does_not_know_is_refused(caller, as_worker) -> None:
    response = await caller(
        request_client_credentials_token,
        caller.metadata.token_endpoint,
        resource=("https://elsewhere.test/",),
        **as_worker,
    )
    assert (response.error_type, response.error) == ("protocol", "invalid_target")


# --- introspection and revocation


async def test_a_revoked_token_is_inactive_and_may_be_revoked_again(caller, as_worker) -> None:
    endpoints = caller.metadata
    issued = await caller(request_client_credentials_token, endpoints.token_endpoint, **as_worker)
    asking = {"token": issued.access_token, **as_worker}
    assert (await caller(introspect_token, endpoints.introspection_endpoint, **asking)).active
    for _ in range(2):
        revoked = await caller(revoke_token, endpoints.revocation_endpoint, **asking)
        assert not revoked.is_error
    told = await caller(introspect_token, endpoints.introspection_endpoint, **asking)
    assert (told.is_error, told.active, told.json) == (False, False, {"active": False})


async def test_introspection_is_signed_for_who_asks(caller, interop_op, as_worker) -> None:
    endpoints = caller.metadata
    issued = await caller(request_client_credentials_token, endpoints.token_endpoint, **as_worker)
    keys = await caller(get_json_web_key_set, endpoints.jwks_uri)
    asking = {"client_id": "reader", "client_secret": interop_op.client_secret}
    signer = AnswerSigner(interop_op.issuer, audience="reader", key_set=keys.key_set)
    told = await caller(
        introspect_token,
        endpoints.introspection_endpoint,
        token=issued.access_token,
        signer=signer,
        **asking,
    )
    assert (told.active, told.client_id) == (True, "worker-basic"), told.error
    for_another = AnswerSigner(interop_op.issuer, audience="somebody", key_set=keys.key_set)
    refused = await caller(
        introspect_token,
        endpoints.introspection_endpoint,
        token=issued.access_token,
        signer=for_another,
        **asking,
    )
    assert (refused.active, refused.error_type) == (False, "policy")


# --- pushed authorization requests (RFC 9126)


@pytest.fixture
def request_of_app(interop_op) -> Callable[..., tuple[AuthorizationRequest, Secret]]:
    def make(**changes: Any) -> tuple[AuthorizationRequest, Secret]:
        verifier = new_code_verifier()
        given = {
            "redirect_uri": interop_op.redirect_uri,
            "scope": "openid profile offline_access",
            "state": new_state(),
            "nonce": new_nonce(),
            "code_challenge": code_challenge(verifier),
            "prompt": "consent",
            **changes,
        }
        return AuthorizationRequest(**given), verifier

    return make


async def log_in(
    caller: Caller,
    browser: httpx.Client,
    interop_op: Any,
    request: AuthorizationRequest,
    proof: dict[str, object],
    signed: Secret | None = None,
) -> Secret:
    """Push the request, be alice, and return the code."""
    endpoints = caller.metadata
    pushed = await caller(
        push_authorization_request,
        endpoints.pushed_authorization_request_endpoint,
        request=signed or request,
        **proof,
    )
    assert pushed.raise_for_error().http_status == 201
    assert 50 < pushed.expires_in <= 60  # it may take the provider a while to answer
    url = pushed_authorization_url(
        endpoints.authorization_endpoint,
        client_id=proof["client_id"],
        request_uri=pushed.request_uri,
    )
    assert set(httpx.URL(url).params) == {"client_id", "request_uri"}
    left = open_page(browser, url, until=interop_op.redirect_uri)
    parameters = read_callback(urlsplit(left.headers["location"]).query.encode())
    return check_callback(
        parameters,
        state=request.state,
        issuer=interop_op.issuer,
        iss_parameter_supported=endpoints.authorization_response_iss_parameter_supported,
    )


@pytest.mark.case(463)
async def test_a_login_is_pushed_and_its_tokens_work(
    caller, browser, interop_op, as_app, request_of_app
) -> None:
    endpoints = caller.metadata
    request, verifier = request_of_app()
    code = await log_in(caller, browser, interop_op, request, as_app)
    issued = await caller(
        request_authorization_code_token,
        endpoints.token_endpoint,
        code=code,
        redirect_uri=interop_op.redirect_uri,
        code_verifier=verifier,
        **as_app,
    )
    first = read_token_answer(issued)
    assert first.id_token
    renewed = await caller(
        request_refresh_token,
        endpoints.token_endpoint,
        refresh_token=first.refresh_token,
        **as_app,
    )
    second = read_token_answer(renewed)
    assert second.refresh_token != first.refresh_token
    again = await caller(
        request_refresh_token,
        endpoints.token_endpoint,
        refresh_token=first.refresh_token,
        **as_app,
    )
    assert (again.error_type, again.error) == ("protocol", "invalid_grant")


async def test_a_code_without_its_verifier_is_refused(
    caller, browser, interop_op, as_app, request_of_app
) -> None:
    request, _ = request_of_app()
    code = await log_in(caller, browser, interop_op, request, as_app)
    issued = await caller(
        request_authorization_code_token,
        caller.metadata.token_endpoint,
        code=code,
        redirect_uri=interop_op.redirect_uri,
        code_verifier=new_code_verifier(),
        **as_app,
    )
    assert (issued.error_type, issued.error) == ("protocol", "invalid_grant")


async def test_a_login_for_two_resources_gives_a_token_for_each(
    caller, browser, interop_op, as_app, request_of_app
) -> None:
    endpoints = caller.metadata
    request, verifier = request_of_app(
        scope="openid offline_access read", resource=(API, OTHER_API)
    )
    code = await log_in(caller, browser, interop_op, request, as_app)
    issued = await caller(
        request_authorization_code_token,
        endpoints.token_endpoint,
        code=code,
        redirect_uri=interop_op.redirect_uri,
        code_verifier=verifier,
        resource=(API,),
        **as_app,
    )
    first = read_token_answer(issued)
    renewed = await caller(
        request_refresh_token,
        endpoints.token_endpoint,
        refresh_token=first.refresh_token,
        resource=(OTHER_API,),
        **as_app,
    )
    second = read_token_answer(renewed)
    audiences = []
    for token in (first.access_token, second.access_token):
        told = await caller(
            introspect_token, endpoints.introspection_endpoint, token=token, **as_app
        )
        audiences.append(told.aud)
    assert audiences == [(API,), (OTHER_API,)]


@pytest.mark.case(465)
async def test_a_signed_request_is_what_the_provider_acts_on(
    caller, browser, interop_op, request_of_app
) -> None:
    key, issuer = interop_op.client_key, interop_op.issuer
    as_app_key = {
        "client_id": "app-key",
        "client_auth": private_key_jwt(key, issuer=issuer, clock=system_clock),
    }
    request, verifier = request_of_app(scope="openid")
    unsigned = await caller(
        push_authorization_request,
        caller.metadata.pushed_authorization_request_endpoint,
        request=request,
        **as_app_key,
    )
    assert unsigned.is_error
    signed = request_object(
        request, client_id="app-key", keys=key, issuer=issuer, clock=system_clock
    )
    code = await log_in(caller, browser, interop_op, request, as_app_key, signed)
    issued = await caller(
        request_authorization_code_token,
        caller.metadata.token_endpoint,
        code=code,
        redirect_uri=interop_op.redirect_uri,
        code_verifier=verifier,
        **as_app_key,
    )
    assert read_token_answer(issued).id_token


@pytest.mark.case(462)
async def test_a_push_that_is_refused_gives_nothing_to_send_the_browser_with(
    caller, as_app, request_of_app
) -> None:
    request, _ = request_of_app(redirect_uri="https://evil.test/")
    pushed = await caller(
        push_authorization_request,
        caller.metadata.pushed_authorization_request_endpoint,
        request=request,
        **as_app,
    )
    assert (pushed.http_status, pushed.error_type) == (400, "protocol")
    assert pushed.error
    assert pushed.get("request_uri") is None
    with pytest.raises(ProtocolError):
        pushed.request_uri  # noqa: B018


# --- device flow and userinfo


async def begin_device(caller: Caller, **keywords: Any) -> Any:
    device = await caller(
        request_device_authorization,
        caller.metadata.device_authorization_endpoint,
        **{"client_id": "tv", "scope": "openid profile", **keywords},
    )
    device.raise_for_error()
    assert 50 < device.expires_in <= 60
    assert device.interval == 5
    return device


async def test_device_flow_waits_for_the_user_and_userinfo_tells_who_it_was(
    caller, browser
) -> None:
    endpoints = caller.metadata
    device = await begin_device(caller)
    seen: list[str] = []

    def decide(pause: float) -> None:
        # In place of waiting: alice comes when nobody has asked, and is done for the second time.
        seen.append(f"{pause:g}")
        if len(seen) == 2:
            enter_code(browser, device.verification_uri, user_code=device.user_code, confirm="yes")

    early = await caller(
        request_device_token,
        endpoints.token_endpoint,
        client_id="tv",
        device_code=device.device_code,
    )
    assert early.error == "authorization_pending"
    response = await caller(
        poll_device_token, endpoints.token_endpoint, client_id="tv", device=device, sleep=decide
    )
    answer = read_token_answer(response)
    assert seen == ["5", "5"]
    userinfo = await caller(
        get_userinfo, endpoints.userinfo_endpoint, access_token=answer.access_token
    )
    claims = validate_userinfo(userinfo.raise_for_error().json, sub="alice")
    assert claims["name"] == "Alice Anders"


async def test_a_user_who_turns_the_device_away_ends_the_polling(caller, browser) -> None:
    device = await begin_device(caller)

    def decide(pause: float) -> None:
        enter_code(browser, device.verification_uri, user_code=device.user_code, abort="yes")

    response = await caller(
        poll_device_token,
        caller.metadata.token_endpoint,
        client_id="tv",
        device=device,
        sleep=decide,
    )
    assert (response.error_type, response.error) == ("protocol", "access_denied")


async def test_userinfo_is_signed_for_who_asks(caller, browser, interop_op) -> None:
    endpoints = caller.metadata
    asking = {"client_id": "tv-signed", "client_secret": interop_op.client_secret}
    device = await begin_device(caller, **asking)
    enter_code(browser, device.verification_uri, user_code=device.user_code, confirm="yes")
    issued = await caller(
        request_device_token,
        endpoints.token_endpoint,
        device_code=device.device_code,
        **asking,
    )
    token = read_token_answer(issued).access_token
    keys = await caller(get_json_web_key_set, endpoints.jwks_uri)
    signer = AnswerSigner(interop_op.issuer, audience="tv-signed", key_set=keys.key_set)
    told = await caller(
        get_userinfo, endpoints.userinfo_endpoint, access_token=token, signer=signer
    )
    assert told.raise_for_error().sub == "alice"
    unsigned = await caller(get_userinfo, endpoints.userinfo_endpoint, access_token=token)
    assert unsigned.is_error


async def test_userinfo_for_a_token_that_is_none_is_a_value(caller) -> None:
    response = await caller(
        get_userinfo, caller.metadata.userinfo_endpoint, access_token="nonsense"
    )
    assert (response.http_status, response.error) == (401, "invalid_token")


# --- registration


async def test_a_client_registers_and_works_at_once(caller, interop_op) -> None:
    registered = await caller(
        register_client,
        caller.metadata.registration_endpoint,
        metadata={
            "client_name": "New & <curious>",
            "grant_types": ["client_credentials"],
            "response_types": [],
            "redirect_uris": [],
        },
        initial_access_token=interop_op.initial_access_token,
    )
    registered.raise_for_error()
    assert registered.http_status == 201
    assert registered.client_secret
    assert registered.client_id_issued_at
    assert registered.client_secret_expires_at is None
    assert registered.json["client_name"] == "New & <curious>"
    issued = await caller(
        request_client_credentials_token,
        caller.metadata.token_endpoint,
        client_id=registered.client_id,
        client_secret=registered.client_secret,
    )
    assert read_token_answer(issued).access_token


@pytest.mark.parametrize("token", [None, "wrong"])
async def test_registration_needs_the_initial_access_token(caller, token) -> None:
    response = await caller(
        register_client,
        caller.metadata.registration_endpoint,
        metadata={"redirect_uris": ["https://app.test/"]},
        initial_access_token=token,
    )
    assert response.is_error
    assert response.http_status in (400, 401)
    assert response.get("client_id") is None


async def test_metadata_that_the_provider_refuses_are_told(caller, interop_op) -> None:
    response = await caller(
        register_client,
        caller.metadata.registration_endpoint,
        metadata={"redirect_uris": ["not a uri"]},
        initial_access_token=interop_op.initial_access_token,
    )
    assert (response.http_status, response.error) == (400, "invalid_redirect_uri")
