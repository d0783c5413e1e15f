"""What a caller may add to a request, and how often."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from tokenward.endpoints import get_userinfo, request_token
from tokenward.errors import ConfigurationError
from tokenward.secret import Secret

if TYPE_CHECKING:
    from tokenward.protocol.form import Form


@dataclass(frozen=True)
class Delegation:
    """A grant of the user's own, with a parameter that comes twice."""

    grant_type = "delegation"
    chain: tuple[str, ...]

    def form(self) -> Form:
        return [("grant_type", self.grant_type), *(("via", name) for name in self.chain)]


async def test_a_grant_of_your_own_may_repeat_a_parameter(wire: Any) -> None:
    await wire.call(request_token, wire.address, grant=Delegation(("a", "b")), client_id="app")
    assert wire.sent[0].form == [
        ("grant_type", "delegation"),
        ("via", "a"),
        ("via", "b"),
        ("client_id", "app"),
    ]


async def test_an_empty_addition_is_sent_and_none_is_left_out(wire: Any) -> None:
    await wire.call(request_token, wire.address, grant="g", client_id="app", extra={"empty": ""})
    assert ("empty", "") in wire.sent[0].form


class TestUserInfo:
    async def test_additions_are_posted_and_the_token_stays_in_the_header(self, wire: Any) -> None:
        wire.says(sub="bob")
        extra = {"locale": "de CH", "hint": Secret("h")}
        response = await wire.call(get_userinfo, wire.address, access_token="at", extra=extra)
        (sent,) = wire.sent
        assert (sent.method, sent.url) == ("POST", wire.address)
        assert sent.headers["authorization"] == "Bearer at"
        assert sent.headers["content-type"] == "application/x-www-form-urlencoded"
        assert sent.form == [("locale", "de CH"), ("hint", "h")]
        assert response.sub == "bob"

    async def test_a_second_token_is_misuse(self, wire: Any) -> None:
        # RFC 6750, section 2: "MUST NOT use more than one method to transmit the token"
        with pytest.raises(ConfigurationError, match="access_token"):
            get_userinfo(wire.http, wire.address, access_token="a", extra={"access_token": "b"})
        assert wire.sent == []
