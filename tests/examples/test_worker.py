"""The worker of the examples, as a process of its own, beside a provider and an API."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import httpx
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).parent.parent.parent
LINE: Final = re.compile(r"200 as app, with the token (\w{4} \w{4})")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def server(url: str, *command: str, **environment: str) -> Iterator[None]:
    process = subprocess.Popen(
        [sys.executable, "-m", *command],
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        transport = httpx.HTTPTransport()
        with httpx.Client(transport=transport) as http:
            while process.poll() is None:
                try:
                    http.get(url, timeout=1)
                except httpx.TransportError:
                    continue
                break
        yield
    finally:
        process.terminate()
        process.wait()


@pytest.fixture
def settings(lifetime: int) -> Iterator[dict[str, str]]:
    """Run a provider whose tokens live so many seconds, and an API that asks it about them."""
    issuer, api = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
    given = {"OIDC_ISSUER": issuer, "OIDC_CLIENT_ID": "app", "OIDC_CLIENT_SECRET": "secret"}
    port = issuer.rpartition(":")[2]
    command = ("tokenward", "provider", "--port", port, "--access-token-lifetime", str(lifetime))
    with ExitStack() as running:
        running.enter_context(server(issuer, *command))
        app = ("protected_api.app:app", "--app-dir", str(ROOT / "examples"))
        where = ("--port", api.rpartition(":")[2])
        running.enter_context(server(api, "uvicorn", *app, *where, **given))
        yield {**given, "API_URL": api}


def run(settings: dict[str, str], *options: str) -> list[str]:
    worker = ROOT / "examples" / "worker" / "worker.py"
    done = subprocess.run(
        [sys.executable, str(worker), *options],
        env={**os.environ, **settings},
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return LINE.findall(done.stdout)


@pytest.mark.parametrize("lifetime", [2])
def test_every_call_succeeds_while_tokens_end(settings: dict[str, str]) -> None:
    fingerprints = run(settings, "--calls", "8", "--every", "0.5")
    assert len(fingerprints) == 8
    assert 2 <= len(set(fingerprints)) < 8


@pytest.mark.parametrize("lifetime", [600])
def test_twenty_threads_share_one_token(settings: dict[str, str]) -> None:
    fingerprints = run(settings, "--calls", "1", "--threads", "20")
    assert len(fingerprints) == 20
    assert len(set(fingerprints)) == 1
