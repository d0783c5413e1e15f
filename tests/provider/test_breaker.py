"""How often somebody is called who does not answer."""

from __future__ import annotations

from typing import Any

import pytest

from tokenward.breaker import Breaker


@pytest.fixture
def breaker(clock: Any) -> Breaker:
    return Breaker(clock=clock, threshold=3, cool_down=10.0, probe_interval=2.0, jitter=lambda: 0.0)


def test_single_failures_open_nothing(breaker: Breaker) -> None:
    for _ in range(10):
        breaker.failure()
        breaker.failure()
        breaker.success()
    breaker.failure()
    assert breaker.check() == 0.0


def test_failures_in_a_row_make_everybody_wait(breaker: Breaker, clock: Any) -> None:
    for _ in range(3):
        breaker.failure()
    assert [breaker.check(), breaker.check()] == [10.0, 10.0]
    clock.advance(4)
    assert breaker.check() == 6.0


@pytest.mark.case(183)
def test_retry_after_is_obeyed_at_once_and_by_everybody(breaker: Breaker) -> None:
    breaker.failure(retry_after=60.0)
    assert [breaker.check(), breaker.check()] == [60.0, 60.0]


def test_a_shorter_wait_does_not_replace_a_longer_one(breaker: Breaker, clock: Any) -> None:
    breaker.failure(retry_after=60.0)
    breaker.failure(retry_after=1.0)
    assert breaker.check() == 60.0
    clock.advance(30)
    breaker.failure()
    assert breaker.check() == 30.0


def test_when_the_time_is_over_one_caller_tries_for_all(breaker: Breaker, clock: Any) -> None:
    breaker.failure(retry_after=10.0)
    clock.advance(10)
    assert [breaker.check(), breaker.check(), breaker.check()] == [0.0, 2.0, 2.0]
    breaker.success()
    assert [breaker.check(), breaker.check()] == [0.0, 0.0]


def test_a_probe_that_fails_closes_the_door_again(breaker: Breaker, clock: Any) -> None:
    for _ in range(3):
        breaker.failure()
    clock.advance(10)
    assert breaker.check() == 0.0
    breaker.failure()
    assert breaker.check() == 10.0


def test_a_probe_that_never_reports_is_followed_by_another(breaker: Breaker, clock: Any) -> None:
    breaker.failure(retry_after=10.0)
    clock.advance(10)
    assert breaker.check() == 0.0
    clock.advance(2)
    assert breaker.check() == 0.0


def test_many_processes_do_not_come_back_at_the_same_moment(clock: Any) -> None:
    waits = set()
    for jitter in (0.0, 0.5, 1.0):
        breaker = Breaker(clock=clock, jitter=lambda jitter=jitter: jitter)  # type: ignore[misc]
        breaker.failure(retry_after=10.0)
        waits.add(breaker.check())
    assert waits == {10.0, 11.0, 12.0}


def test_the_clock_set_far_back_does_not_close_the_door_for_ever(
    breaker: Breaker, clock: Any
) -> None:
    breaker.failure(retry_after=60.0)
    clock.advance(-3600)
    assert breaker.check() <= 3660.0
    breaker.success()
    assert breaker.check() == 0.0
