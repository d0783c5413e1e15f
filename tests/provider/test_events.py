"""What the log shows of an event, and what it never shows."""

from __future__ import annotations

import dataclasses
import logging
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tokenward import events
from tokenward.events import Event, LoginFailure, LoginStarted, ProviderAlarm, log_event

if TYPE_CHECKING:
    from collections.abc import Callable

KINDS = [
    value
    for value in vars(events).values()
    if isinstance(value, type) and issubclass(value, Event) and value is not Event
]


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Callable[[Event], str]:
    caplog.set_level(logging.DEBUG, "tokenward")

    def write(event: Event) -> str:
        caplog.clear()
        log_event(event)
        (record,) = caplog.records
        assert record.name == "tokenward"
        assert record.levelno == event.level
        return record.getMessage()

    return write


def test_an_event_is_one_line_with_its_name_and_its_fields(log: Callable[[Event], str]) -> None:
    assert log(LoginStarted(provider="idp")) == "LoginStarted provider='idp'"
    assert log(ProviderAlarm(error="invalid_client")) == (
        "ProviderAlarm error='invalid_client' provider=''"
    )


def test_text_from_outside_is_clipped_and_escaped(log: Callable[[Event], str]) -> None:
    line = log(LoginFailure("access_denied", "a\r\nb\x1b[31m\u202e" + "x" * 1000))
    assert line.isascii()
    assert line.isprintable()
    assert r"a\r\nb\x1b[31m\u202e" in line
    assert len(line) < 350
    assert line.endswith("...'")


def test_a_program_that_set_up_no_logging_hears_of_what_went_wrong() -> None:
    told = subprocess.run(
        [
            sys.executable,
            "-c",
            "from tokenward.events import *\n"
            "log_event(LoginStarted(provider='idp'))\n"
            "log_event(StoreFailed(operation='login', error='check the URL'))",
        ],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert told.stderr == "StoreFailed operation='login' error='check the URL'\n"


def test_the_record_carries_the_event(caplog: pytest.LogCaptureFixture) -> None:
    event = ProviderAlarm(error="invalid_client")
    log_event(event)
    assert caplog.records[0].__dict__["event"] is event


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_event_is_a_frozen_documented_value_without_secrets(kind: type[Event]) -> None:
    assert kind.__doc__
    assert kind.__slots__ is not None
    assert dataclasses.is_dataclass(kind)
    assert kind.__dataclass_params__.frozen  # type: ignore[attr-defined]
    names = {field.name for field in dataclasses.fields(kind)}
    assert names.isdisjoint({"token", "code", "state", "nonce", "sub", "sid", "session_id"})
    assert all("Secret" not in str(field.type) for field in dataclasses.fields(kind))
