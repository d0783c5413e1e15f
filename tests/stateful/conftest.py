"""What the state machine needs once: the places where its stores rest."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

# The modules of the machine are beside this one.
sys.path.insert(0, str(Path(__file__).parent))

from state_world import Places

if TYPE_CHECKING:
    from collections.abc import Iterator

    from canaries import Canaries


@pytest.fixture
def places(request: pytest.FixtureRequest, tmp_path: Path, canaries: Canaries) -> Iterator[Places]:
    """Return where stores rest; a server is started for those who ask for it."""
    with closing(
        Places(tmp_path, lambda: request.getfixturevalue("redis_url"), canaries)
    ) as places:
        yield places
