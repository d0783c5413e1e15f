"""Which rows of the attack matrix the promises of a store show."""

from __future__ import annotations

from typing import Final

import pytest

ROWS: Final = {
    "test_only_the_owner_renews_and_releases": 230,
    "test_who_lost_a_lease_neither_renews_nor_releases_the_next_one": 230,
    "test_touch_never_creates": 242,
    "test_touch_racing_a_deletion_brings_nothing_back": 242,
}
"""The contract is shipped, where nobody knows the rows; so they are marked here."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        row = ROWS.get(item.name)
        if row is not None:
            item.add_marker(pytest.mark.case(row))
