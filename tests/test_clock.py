"""Time comes in from outside, and does not run backwards."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tokenward.clock import SystemClock, aware


class Hands:
    """The wall clock and the monotonic clock of a machine."""

    def __init__(self) -> None:
        self.wall, self.steady = 1_000_000.0, 50.0

    def pass_(self, seconds: float) -> None:
        self.wall += seconds
        self.steady += seconds

    def clock(self) -> SystemClock:
        return SystemClock(lambda: self.wall, lambda: self.steady)


def test_the_clock_is_the_wall_clock():
    hands = Hands()
    clock = hands.clock()
    hands.pass_(10)
    assert clock() == 1_000_010.0


@pytest.mark.case(257)
@pytest.mark.case(194)
def test_a_wall_clock_that_is_set_back_does_not_stop_time():
    hands = Hands()
    clock = hands.clock()
    hands.wall -= 3600
    hands.pass_(10)
    assert clock() == 1_000_010.0


@pytest.mark.case(257)
def test_a_wall_clock_that_is_set_forward_is_believed():
    hands = Hands()
    clock = hands.clock()
    hands.wall += 3600
    assert clock() == 1_003_600.0
    hands.wall -= 3600
    hands.pass_(1)
    assert clock() == 1_003_601.0


@pytest.mark.case(299)
@pytest.mark.parametrize("seconds", [2**31 + 1, 2**33])
def test_times_beyond_2038_are_kept(seconds):
    assert aware(seconds).timestamp() == seconds


def test_times_beyond_the_calendar_stay_inside():
    assert aware(1e300) == datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
    assert aware(-1e300) == datetime(1970, 1, 1, tzinfo=UTC)
