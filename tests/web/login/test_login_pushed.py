"""Logins whose request goes to the provider by the back channel (RFC 9126)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import pytest

from tokenward.errors import ConfigurationError
from tokenward.events import LoginFailure, ProviderAlarm
from tokenward.testing import (
    AlteredAnswer,
    Fault,
    HtmlAnswer,
    OAuthError,
    RawAnswer,
    ServerError,
    TooManyRequests,
)

PUSHED: Final = {"pushed_authorization_requests": True}
PAR: Final = "pushed_authorization_request"
JSON: Final = {"content-type": "application/json"}


@pytest.fixture
def pushed_site(make_login_site: Any) -> Any:
    return make_login_site(provider={**PUSHED, "resource": "https://api.test"})


def require_pushed_requests(site: Any) -> None:
    client = site.op.clients["app"]
    site.op.register(replace(client, require_pushed_authorization_requests=True))


@pytest.mark.case(463)
async def test_the_browser_carries_a_reference_alone(pushed_site: Any, parse: Any) -> None:
    answer = await pushed_site.browser().get("/auth/login?login_hint=alice")
    assert answer.status_code == 303
    sent = parse(answer.headers["location"])
    assert set(sent) == {"client_id", "request_uri"}
    assert pushed_site.op.count(PAR) == 1


async def test_a_pushed_login_ends_as_any_other(pushed_site: Any) -> None:
    require_pushed_requests(pushed_site)
    browser = pushed_site.browser()
    assert (await browser.log_in()).status_code == 303
    assert await browser.user() == "alice"


async def test_a_provider_that_requires_it_gets_it(make_login_site: Any, parse: Any) -> None:
    site = make_login_site()
    require_pushed_requests(site)
    browser = site.browser()
    answer = await browser.get("/auth/login")
    assert set(parse(answer.headers["location"])) == {"client_id", "request_uri"}
    await browser.log_in()
    assert await browser.user() == "alice"


async def test_a_provider_that_does_not_require_it_is_not_asked(site: Any) -> None:
    await site.browser().log_in()
    assert site.op.count(PAR) == 0


@pytest.mark.case(462)
@pytest.mark.case(464)
@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(ServerError(503), id="503"),
        pytest.param(TooManyRequests(7), id="429"),
        pytest.param(HtmlAnswer(), id="HTML"),
        pytest.param(RawAnswer(307, b"", {"location": "https://op.test/other"}), id="redirect"),
        pytest.param(RawAnswer(201, b'{"request_uri": "urn:x"}', JSON), id="no lifetime"),
        pytest.param(
            RawAnswer(201, b'{"request_uri": "http://x.test/1", "expires_in": 60}', JSON),
            id="no reference",
        ),
        pytest.param(OAuthError("invalid_request"), id="refused"),
    ],
)
async def test_a_push_that_fails_begins_no_login_and_does_not_fall_back(
    pushed_site: Any, fault: Fault
) -> None:
    pushed_site.op.misbehave(PAR, fault)
    browser = pushed_site.browser()
    answer = await browser.get("/auth/login")
    assert answer.status_code in {400, 502, 503}
    assert "location" not in answer.headers
    assert browser.jar() == {}
    assert pushed_site.told(LoginFailure)


@pytest.mark.case(464)
async def test_an_endpoint_that_is_down_is_a_503_and_the_next_login_works(pushed_site: Any) -> None:
    pushed_site.wire.refused["/par"] = 5
    browser = pushed_site.browser()
    answer = await browser.get("/auth/login")
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) >= 1
    assert browser.jar() == {}
    pushed_site.wire.refused.clear()
    await browser.log_in()
    assert await browser.user() == "alice"


async def test_a_client_that_the_provider_does_not_know_is_the_operators_business(
    make_login_site: Any,
) -> None:
    site = make_login_site(provider={**PUSHED, "client_secret": "wrong"})
    answer = await site.browser().get("/auth/login")
    assert answer.status_code in {500, 502, 503}
    assert "wrong" not in answer.text
    assert site.told(LoginFailure) or site.told(ProviderAlarm)


async def test_a_provider_without_the_endpoint_is_a_setting_that_is_wrong(
    make_login_site: Any,
) -> None:
    site = make_login_site(provider=PUSHED)
    without = AlteredAnswer(without=["pushed_authorization_request_endpoint"])
    site.op.misbehave("discovery", without, times=5)
    answer = await site.browser().get("/auth/login")
    assert answer.status_code >= 500
    assert "location" not in answer.headers
    with pytest.raises(ConfigurationError) as caught:
        await site.auth.providers["default"].metadata()
    assert caught.value.setting == "pushed_authorization_requests"
