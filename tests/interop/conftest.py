"""Start a certified OpenID Provider that is not ours, npm oidc-provider."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from joserfc.jwk import ECKey

from tokenward.protocol.client_assertion import PrivateKey, public_json_web_key_set

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE: Final = Path(__file__).parent

APP: Final = "https://app.test"


@dataclass(frozen=True, slots=True)
class InteropProvider:
    """Where the provider is, and what the app is registered with."""

    issuer: str
    client_id: str
    client_secret: str = field(repr=False)
    redirect_uri: str
    post_logout_redirect_uri: str
    client_key: PrivateKey = field(repr=False)
    """What the clients `worker-key` and `app-key` sign with."""
    initial_access_token: str = field(repr=False)
    """What lets clients register."""


@pytest.fixture(scope="session")
def interop_node_modules() -> Path:
    """Install the provider, once; skip where there is no node."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("node and npm are needed to run npm oidc-provider")
    installed = HERE / "node_modules"
    if not (installed / "oidc-provider" / "package.json").exists():
        command = ["npm", "install", "--no-package-lock", "--no-audit", "--no-fund"]
        subprocess.run(command, cwd=HERE, check=True, capture_output=True, timeout=300)
    return installed


@pytest.fixture(scope="session")
def interop_op(interop_node_modules: Path) -> Iterator[InteropProvider]:
    """Run the provider as long as the tests run."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    provider = InteropProvider(
        issuer=f"http://127.0.0.1:{port}",
        client_id="app",
        client_secret=secrets.token_urlsafe(32),
        redirect_uri=f"{APP}/auth/callback",
        post_logout_redirect_uri=f"{APP}/auth/logout/callback",
        client_key=ECKey.generate_key("P-256", {"kid": "worker-key-1"}),
        initial_access_token=secrets.token_urlsafe(32),
    )
    command = ["node", "server.js", str(port)]
    command += [provider.redirect_uri, provider.post_logout_redirect_uri]
    environment = {
        **os.environ,
        "CLIENT_SECRET": provider.client_secret,
        "CLIENT_JWKS": json.dumps(public_json_web_key_set([provider.client_key])),
        "INITIAL_ACCESS_TOKEN": provider.initial_access_token,
    }
    process = subprocess.Popen(
        command, cwd=HERE, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        _wait_until_ready(process)
        yield provider
    finally:
        process.terminate()
        process.communicate(timeout=10)


def _wait_until_ready(process: subprocess.Popen[bytes]) -> None:
    assert process.stdout is not None
    said = b""
    for line in process.stdout:
        if line.startswith(b"ready "):
            return
        said += line
    pytest.fail(f"npm oidc-provider did not start:\n{said.decode(errors='replace')}")
