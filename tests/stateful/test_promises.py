"""Users, providers, stores and operators do what they like; what was promised holds.

`STATEFUL_EXAMPLES=2000` is the nightly size, with other examples every time. A story that
fails is told as it was found; `STATEFUL_SHRINK=1` makes it shorter, which takes minutes.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from session_machine import STEPS, SessionMachine

if TYPE_CHECKING:
    from state_world import Places

SHARES = {"memory": 0.3, "sqlite": 0.15, "redis": 0.15, "cookie": 0.2, "cookie+sqlite": 0.2}
"""How the examples are spread over the kinds of session."""

EXAMPLES = int(os.environ.get("STATEFUL_EXAMPLES", "200"))
IS_NIGHTLY = "STATEFUL_EXAMPLES" in os.environ
PHASES = (Phase.generate, *([Phase.shrink] if "STATEFUL_SHRINK" in os.environ else []))


@pytest.mark.case(50)
@pytest.mark.case(52)
@pytest.mark.case(76)
@pytest.mark.case(240)
@pytest.mark.timeout(0 if IS_NIGHTLY else 120)
@pytest.mark.parametrize("kind", list(SHARES))
def test_the_promises_hold_whatever_happens(kind: str, places: Places) -> None:
    class Machine(SessionMachine):
        pass

    Machine.kind, Machine.places = kind, places
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=max(1, round(EXAMPLES * SHARES[kind])),
            stateful_step_count=STEPS,
            derandomize=not IS_NIGHTLY,
            database=None,
            deadline=None,
            phases=PHASES,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )
