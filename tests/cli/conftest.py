"""The command line in this process and in others, and what it can be pointed at."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from joserfc.jwk import ECKey

from tokenward.__main__ import main
from tokenward.protocol.client_assertion import public_json_web_key_set
from tokenward.testing import Client, Provider, User, serve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from starlette.types import Receive, Scope, Send

DEVICE_CODE = "urn:ietf:params:oauth:grant-type:device_code"
SECRET = "s3cret of the client"
PASSWORD = "pass of alice"


@dataclass(frozen=True)
class Result:
    """How a command ended, and what it wrote."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def last(self) -> str:
        """The last line on standard error."""
        return self.err.splitlines()[-1] if self.err else ""


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """No proxy, and none of our variables unless a test sets them."""
    for name in ("TOKENWARD_CLIENT_SECRET", "TOKENWARD_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setenv("PYTHONWARNINGS", "error")
    monkeypatch.setenv("COLUMNS", "100")
    return dict(os.environ)


@pytest.fixture(autouse=True)
def ctrl_c() -> Iterator[None]:
    """Commands heed Ctrl-C, also where a shell runs the tests in the background, deaf to it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def invoke(capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """Run a command in this process: for tables."""

    def run(*arguments: str) -> Result:
        try:
            status = main(arguments)
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1
        written = capsys.readouterr()
        assert "Traceback" not in written.err
        return Result(status, written.out, written.err)

    return run


@pytest.fixture
def start(environment: dict[str, str]) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a command in a process of its own, without a terminal."""
    started: list[subprocess.Popen[str]] = []

    def run(*arguments: str, **variables: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "tokenward", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**environment, **variables},
            start_new_session=True,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def shell(start: Callable[..., subprocess.Popen[str]]) -> Callable[..., Result]:
    """Run a command in a process of its own to its end."""

    def run(*arguments: str, **variables: str) -> Result:
        process = start(*arguments, **variables)
        out, err = process.communicate(timeout=60)
        assert "Traceback" not in err
        return Result(process.returncode, out, err)

    return run


@dataclass(frozen=True)
class OP:
    """A provider on a socket, and how the command line is pointed at it."""

    provider: Provider
    issuer: str
    key: Path
    """The private key of the client `signer`, as PEM."""
    provider_options: tuple[str, ...] = field(default=("--dangerously-allow-http",))

    def token(self, client_id: str, *more: str) -> tuple[str, ...]:
        at = ("--issuer", self.issuer, *self.provider_options)
        return ("token", *at, "--client-id", client_id, *more)


@pytest.fixture(scope="module")
def running_op(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OP]:
    """One provider for a module; `op` gives it as new."""
    key = ECKey.generate_key("P-256")
    path = tmp_path_factory.mktemp("keys") / "client.pem"
    path.write_bytes(key.as_pem(private=True))
    clients = [
        Client(
            "worker",
            secrets=[SECRET],
            grant_types=("client_credentials", "password", DEVICE_CODE),
            resources=("https://api.test/",),
        ),
        Client("poster", secrets=[SECRET], token_endpoint_auth_methods=("client_secret_post",)),
        Client(
            "signer",
            secrets=(),
            token_endpoint_auth_methods=("private_key_jwt",),
            jwks=public_json_web_key_set([key]),
        ),
        Client("tv", secrets=(), grant_types=(DEVICE_CODE, "password"), polling_interval=1),
    ]
    users = [User("alice", password=PASSWORD)]
    provider = Provider("http://127.0.0.1:0", clients=clients, users=users)
    with serve(provider) as issuer:
        yield OP(provider, issuer, path)


@pytest.fixture
def op(running_op: OP) -> OP:
    """A provider on a socket that behaves, until it is told not to."""
    running_op.provider.behave()
    running_op.provider.requests.clear()
    return running_op


class Site:
    """A server that says what a test wants, at any path."""

    address = ""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, dict[str, str], bytes]] = {}
        self.asked: list[str] = []
        self.silent = False

    def says(self, path: str, body: bytes, status: int = 200, **headers: str) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.answers[path] = (status, named, body)

    def publishes(self, document: dict[str, Any], *keys: object) -> None:
        """Be a provider with this document and these keys."""
        self.says("/.well-known/openid-configuration", json.dumps(document).encode())
        self.says("/jwks", json.dumps({"keys": keys}).encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        self.asked.append(scope["path"])
        while self.silent:
            if (await receive())["type"] == "http.disconnect":
                return
        status, headers, body = self.answers.get(scope["path"], (404, {}, b"not here"))
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": status, "headers": raw})
        await send({"type": "http.response.body", "body": body})


@pytest.fixture(scope="module")
def running_site() -> Iterator[Site]:
    """One server for a module; `site` gives it as new."""
    site = Site()
    with serve(site) as address:
        site.address = address
        yield site


@pytest.fixture
def site(running_site: Site) -> Site:
    """A server that says what the test wants."""
    running_site.answers.clear()
    running_site.asked.clear()
    running_site.silent = False
    return running_site
