"""The parameters of a request: each once, in their order, and nobody's but ours where it counts."""

from __future__ import annotations

import pytest

from tokenward.errors import ConfigurationError
from tokenward.protocol.form import OF_CLIENT_AUTH, as_secret, completed, encode_form, told
from tokenward.secret import Secret


def test_what_has_no_value_is_left_out_and_what_is_empty_is_not() -> None:
    form = told({"first": "1", "second": None, "third": "", "fourth": Secret("s")})
    assert form == [("first", "1"), ("third", ""), ("fourth", Secret("s"))]


def test_additions_come_last_and_may_be_secret() -> None:
    form = completed([("grant_type", "x")], extra={"b": "1", "a": Secret("s p")})
    assert form == [("grant_type", "x"), ("b", "1"), ("a", Secret("s p"))]
    assert encode_form(form).reveal() == "grant_type=x&b=1&a=s%20p"


def test_the_form_that_was_given_stays_as_it_was() -> None:
    form = told({"grant_type": "x"})
    assert completed(form, extra=None) == form
    completed(form, extra={"a": "1"}).append(("b", "2"))
    assert form == [("grant_type", "x")]


@pytest.mark.parametrize("name", ["grant_type", *sorted(OF_CLIENT_AUTH)])
def test_an_addition_replaces_nothing(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^parameters: `{name}`"):
        completed([("grant_type", "x")], extra={name: "y"}, argument="parameters")


def test_a_secret_is_taken_as_text_or_as_it_is() -> None:
    secret = Secret("s")
    assert as_secret(secret) is secret
    assert as_secret("s") == secret
