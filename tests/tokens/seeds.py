"""Schedules that failed once. They are always run, before all others.

A seed stands for a schedule as long as the simulation throws its dice in the same
order; so whoever changes that writes a test for what a seed has shown, or finds another.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Regression:
    """A seed that failed, and what it was."""

    test: str
    topology: str
    seed: int
    what: str


_ONE = "test_one_expiry_is_one_redemption_for_each_target"
_LOST = "test_a_session_is_lost_only_with_an_answer_that_nobody_received"
_KEPT = "test_no_session_is_lost_where_the_provider_takes_a_spent_token_for_a_while"
_ENDED = "test_a_session_that_ended_never_comes_back"

REGRESSIONS: tuple[Regression, ...] = (
    Regression(_ONE, "store", 31, "a lease that nobody renews ends before a slow provider answers"),
    Regression(_LOST, "store", 28, "a result that the store would not take is nowhere else"),
    Regression(_LOST, "store", 211, "a refusal was believed while another one had the answer"),
    Regression(_LOST, "store", 1001, "a lease ended while its holder stood still"),
    Regression(_LOST, "cookies", 777000093, "a session that ended by half was left alone"),
    Regression(_LOST, "cookies", 777009597, "a process spent again what it was still spending"),
    Regression(
        _LOST, "store", 202611221038, "what came from a dead process was held against another"
    ),
    Regression(_KEPT, "cookies", 202611212803, "an outage had a living session's token revoked"),
    Regression(_ENDED, "cookies", 11, "a result was published after the logout had looked for it"),
    Regression(_ENDED, "store", 134, "the store ended a session, and the answer was lost"),
    Regression(_ENDED, "store", 192, "an administrator went away amid the end of a session"),
)
