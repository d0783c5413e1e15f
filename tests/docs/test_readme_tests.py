"""The test that the README shows passes in a project of its own."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

pytest_plugins = ["pytester"]

README = Path(__file__).parents[2] / "README.md"

APP = """
from fastapi import FastAPI
from tokenward import TokenManagementMiddleware
from tokenward.fastapi import UserAccessToken


def make_app(auth):
    app = FastAPI()
    app.add_middleware(TokenManagementMiddleware, auth=auth)

    @app.get("/invoices")
    async def invoices(token: UserAccessToken) -> str:
        return "paid"

    return app
"""


def test_the_test_of_the_readme_passes(pytester: pytest.Pytester) -> None:
    section = README.read_text().partition("## Your tests")[2]
    found = re.search(r"^```python\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    assert found
    pytester.makepyfile(shop=APP, test_shop=f"from shop import make_app\n{found[1]}")
    pytester.makeini("[pytest]\nanyio_mode = auto\n")
    result = pytester.runpytest_subprocess("-q", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=1)
