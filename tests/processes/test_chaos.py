"""The chaos of `scripts/soak chaos`, for some seconds: that it runs, and that its promises hold."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "chaos.py"


@pytest.mark.parametrize(
    ("runs", "store"),
    [
        pytest.param("kill", "valkey", marks=[pytest.mark.case(n) for n in (225, 226, 227, 266)]),
        pytest.param("long stop", "sqlite", marks=[pytest.mark.case(229), pytest.mark.case(266)]),
        pytest.param("rolling", "sqlite", marks=pytest.mark.case(246)),
        pytest.param("READONLY", "valkey", marks=pytest.mark.case(234)),
        pytest.param("restart without", "valkey", marks=pytest.mark.case(237)),
    ],
)
def test_what_dies_or_stands_still_costs_nobody_more_than_it_must(runs: str, store: str) -> None:
    small = ["--seconds", "5", "--users", "12", "--lease", "2", "--untimed"]
    running = subprocess.Popen(
        [sys.executable, SCRIPT, *small, "--runs", runs, "--stores", store],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with running:
        try:
            out, err = running.communicate(timeout=100)
        except subprocess.TimeoutExpired:
            # It ends what it started, which nobody else could.
            running.terminate()
            out, err = running.communicate()
    assert running.returncode == 0, out + err
    assert f"| {runs} | {store} | strict |" in out
    assert err == ""
