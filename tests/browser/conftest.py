"""Run the demo as `scripts/demo` does, and drive Chromium."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from playwright.sync_api import expect, sync_playwright

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

ROOT: Final = Path(__file__).parent.parent.parent

TOKEN_LIFETIME: Final = 5
"""Seconds. The demo's own 20 would be waited for in every run."""

ARGUMENTS: Final = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
"""Chromium talks to nobody but the demo."""


@dataclass(frozen=True, slots=True)
class Demo:
    """The running demo."""

    process: subprocess.Popen[str]
    port: int

    @property
    def url(self) -> str:
        """The address that it prints."""
        return f"http://127.0.0.1:{self.port}"

    def interrupt(self) -> int:
        """Press Ctrl-C, and return the exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(30)


def free_ports() -> int:
    """Find three free ports in a row."""
    # Far from those of another process of the tests, which looks at the same time.
    for port in range(20_000 + os.getpid() % 1_000 * 12, 60_000, 3):
        with ExitStack() as stack:
            try:
                for candidate in range(port, port + 3):
                    probe = stack.enter_context(socket.socket())
                    probe.bind(("127.0.0.1", candidate))
            except OSError:
                continue
            return port
    pytest.fail("no free ports")


@pytest.fixture
def three_ports() -> int:
    """Return the first of three free ports in a row."""
    return free_ports()


@pytest.fixture(scope="session")
def demo_command() -> list[str]:
    """Say how the demo is started in this environment; scripts/demo only makes one first."""
    return [sys.executable, str(ROOT / "examples" / "demo.py")]


@pytest.fixture(scope="session")
def demo(demo_command: list[str]) -> Iterator[Demo]:
    """Run the demo for all tests that leave it running."""
    yield from running_demo(demo_command)


@pytest.fixture
def demo_of_its_own(demo_command: list[str]) -> Iterator[Demo]:
    """Run a demo that the test may end."""
    yield from running_demo(demo_command)


def running_demo(command: list[str]) -> Iterator[Demo]:
    lifetime = os.environ.get("TOKENWARD_DEMO_TOKEN_LIFETIME", str(TOKEN_LIFETIME))
    port = free_ports()
    process = subprocess.Popen(
        [*command, "--port", str(port), "--token-lifetime", lifetime],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    one = Demo(process=process, port=port)
    try:
        wait_until_open(one.process)
        yield one
    finally:
        if one.process.poll() is None:
            one.interrupt()
        one.process.communicate()


def wait_until_open(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line)
        if "Ctrl-C stops" in line:
            return
    pytest.fail("the demo did not start:\n" + "".join(said))


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Run Debian's Chromium; Playwright's own download is not needed.

    Playwright's event loop counts as running until it is left, so it must be before the
    next async test.
    """
    names = ("chromium", "chromium-browser", "google-chrome")
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        pytest.skip("no Chromium on the PATH")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    """Open a browser that nobody used before."""
    context = chromium.new_context(viewport={"width": 1000, "height": 640})
    context.set_default_timeout(30_000)
    expect.set_options(timeout=30_000)
    yield context.new_page()
    context.close()
