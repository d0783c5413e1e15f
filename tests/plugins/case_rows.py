"""Print which rows of the attack matrix have a test: `pytest --cases`.

A test that shows the expected behaviour of row 196 carries `@pytest.mark.case(196)`.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import groupby
from typing import Final

import pytest

GROUPS: Final = {
    "A  login request and return_to": range(1, 48),
    "B  callback": range(48, 90),
    "C  id_token": range(90, 149),
    "D  discovery, keys, transport": range(149, 177),
    "E  answers of the token endpoint": range(177, 220),
    "F  refresh: races and faults": range(220, 267),
    "G  sessions and cookies": range(267, 312),
    "H  logout": range(312, 353),
    "I  outgoing calls": range(353, 379),
    "J  BFF endpoints": range(379, 404),
    "K  logs, errors, telemetry": range(404, 419),
    "L  proxy headers and host": range(419, 431),
    "M  memory and CPU": range(431, 447),
    "N  client-credentials cache": range(447, 462),
    "O  later features": range(462, 478),
    "P  packaging, settings, misuse": range(478, 490),
}
"""The rows of the matrix, by its chapters."""

OTHERWISE: Final = {
    231: "the second of two results is dropped and not revoked while the session lives: most"
    " providers end all of a grant with any of its refresh tokens (RFC 7009, section 2.1)",
    261: "a refused refresh token ends the session at once, as the design says (5, step 8): a"
    " user who was locked out at the provider is not served for the rest of the margin",
}
"""Rows whose expected behaviour is not ours, and why."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--cases`."""
    parser.addoption(
        "--cases",
        choices=("rows", "tests"),
        nargs="?",
        const="rows",
        help="run nothing; print which rows of the attack matrix have a test, or the tests of each",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Only collect when the rows are asked for."""
    if config.getoption("cases"):
        config.option.collectonly = True
        config.option.verbose = -2  # the list of tests is not what was asked for


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse markers that name no row."""
    for item in items:
        for marker in item.iter_markers("case"):
            if marker.kwargs or not marker.args or not all(_is_row(n) for n in marker.args):
                raise pytest.UsageError(f"{item.nodeid}: case takes rows from 1 to 489")


def _is_row(row: object) -> bool:
    return isinstance(row, int) and 1 <= row <= 489


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print the table."""
    wanted = config.getoption("cases")
    if not wanted:
        return
    tests = _tests_by_row(config.stash.get(_ITEMS, []))
    terminalreporter.section("rows of the attack matrix with a test")
    for group, rows in GROUPS.items():
        covered = [row for row in rows if row in tests]
        missing = [row for row in rows if row not in tests]
        terminalreporter.line(f"{group:34} {len(covered):3} of {len(rows):3}")
        if covered and wanted == "rows":
            terminalreporter.line(f"    with    {_ranges(covered)}")
        if missing:
            terminalreporter.line(f"    without {_ranges(missing)}")
        for row in sorted(OTHERWISE.keys() & missing):
            terminalreporter.line(f"    {row:3} {OTHERWISE[row]}")
        if wanted == "tests":
            for row in covered:
                for nodeid in tests[row]:
                    terminalreporter.line(f"    {row:3} {nodeid}")
    terminalreporter.line(f"{'all':34} {len(tests):3} of 489")


_ITEMS: Final = pytest.StashKey[list[pytest.Item]]()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Keep the tests for the summary."""
    session.config.stash[_ITEMS] = session.items


def _tests_by_row(items: list[pytest.Item]) -> dict[int, list[str]]:
    tests: dict[int, list[str]] = defaultdict(list)
    for item in items:
        for marker in item.iter_markers("case"):
            for row in marker.args:
                tests[row].append(item.nodeid)
    return dict(tests)


def _ranges(rows: list[int]) -> str:
    runs = (
        [row for _, row in run]
        for _, run in groupby(enumerate(rows), key=lambda pair: pair[1] - pair[0])
    )
    return ", ".join(f"{run[0]}" if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
