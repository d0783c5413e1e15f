"""What the whole suite shares. Fixtures of one layer live in its own conftest.py."""

from __future__ import annotations

import pytest

pytest_plugins = ("pytester", "canaries", "case_rows", "redis_server")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run async tests on asyncio, which is what Starlette apps are served with."""
    return "asyncio"
