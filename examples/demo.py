"""Run the example app with everything it needs, on this machine: `scripts/demo`.

Three servers, on three ports in a row: the app (the one you open), the test provider
and the API. Ctrl-C stops them.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE: Final = Path(__file__).parent
HOST: Final = "127.0.0.1"

START_LIMIT: Final = 30.0
"""Seconds that a server may take to start, on a slow machine."""

STOP_LIMIT: Final = 5.0
"""Seconds that a server may take to stop before it is killed."""


class DemoError(Exception):
    """The demo cannot run; the message says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Server:
    """One server: how it is started, and how to see that it is there."""

    name: str
    command: tuple[str, ...]
    url: str
    """Answers with any status as soon as the server is up."""
    environment: dict[str, str] = field(repr=False)


def servers(port: int, *, directory: Path, token_lifetime: int) -> list[Server]:
    """Describe the provider, the API and the app on `port` and the two ports after it."""
    app, issuer, api = (f"http://{HOST}:{port + offset}" for offset in range(3))
    also = f"http://localhost:{port}"
    client = {
        "OIDC_ISSUER": issuer,
        "OIDC_CLIENT_ID": "app",
        "OIDC_CLIENT_SECRET": secrets.token_hex(32),
    }
    app_settings = {
        **client,
        # Browsers know this machine by two names; each has cookies of its own.
        "PUBLIC_URL": f"{app} {also}",
        "SECRET_KEY": secrets.token_urlsafe(32),
        "SESSION_DB": str(directory / "sessions.db"),
        "API_URL": api,
        "DANGEROUSLY_ALLOW_HTTP": "1",
    }
    return [
        Server(
            "provider",
            (
                *(sys.executable, "-m", "tokenward", "provider", "--port", str(port + 1)),
                *("--access-token-lifetime", str(token_lifetime)),
                *("--client-id", "app", "--secret", client["OIDC_CLIENT_SECRET"]),
                *("--redirect-uri", f"{app}/auth/callback"),
                *("--redirect-uri", f"{also}/auth/callback"),
                *("--post-logout-redirect-uri", f"{app}/auth/logout/callback"),
                *("--post-logout-redirect-uri", f"{also}/auth/logout/callback"),
            ),
            f"{issuer}/.well-known/openid-configuration",
            client,
        ),
        Server("API", _uvicorn("protected_api.app:app", port + 2), api, client),
        Server("app", _uvicorn("fastapi_app.app:app", port), app, app_settings),
    ]


def _uvicorn(target: str, port: int) -> tuple[str, ...]:
    where = ("--app-dir", str(HERE), "--host", HOST, "--port", str(port))
    return (sys.executable, "-m", "uvicorn", target, *where, "--log-level", "warning")


def check_ports(port: int) -> None:
    """Make sure that the three ports are free.

    Raises:
        DemoError: one of them is in use.
    """
    for candidate in range(port, port + 3):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, candidate))
            except OSError:
                in_use = candidate
            else:
                continue
        raise DemoError(
            f"port {in_use} is in use (the demo takes {port} to {port + 2}); "
            f"choose others: scripts/demo --port {port + 1000}"
        )


@contextlib.contextmanager
def running(server: Server) -> Iterator[subprocess.Popen[bytes]]:
    """Start a server, wait until it answers, and stop it in the end.

    It gets a process group of its own, so that Ctrl-C reaches this program alone,
    which then stops the servers in order.
    """
    process = subprocess.Popen(  # noqa: S603  the commands are the ones above
        server.command,
        env={**os.environ, **server.environment},
        stdout=subprocess.DEVNULL,  # greetings; what goes wrong is on standard error
        start_new_session=True,
    )
    try:
        _wait_until_up(server, process)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_LIMIT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_up(server: Server, process: subprocess.Popen[bytes]) -> None:
    give_up_at = time.monotonic() + START_LIMIT
    while not _answers(server.url):
        if process.poll() is not None:
            raise DemoError(f"the {server.name} did not start (exit code {process.returncode})")
        if time.monotonic() > give_up_at:
            raise DemoError(f"the {server.name} did not answer within {START_LIMIT:.0f} seconds")
        time.sleep(0.1)


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=1).close()  # noqa: S310  our own http address
    except urllib.error.HTTPError as error:
        error.close()
        return True
    except OSError:
        return False
    return True


def run(port: int, *, token_lifetime: int) -> None:
    """Run everything until somebody stops it, or until a server ends by itself.

    Raises:
        DemoError: a port is in use, or a server did not start or did not last.
    """
    check_ports(port)
    with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as stack:
        processes = {
            server.name: stack.enter_context(running(server))
            for server in servers(port, directory=Path(directory), token_lifetime=token_lifetime)
        }
        print(f"\n  Open http://{HOST}:{port} and log in as alice, password alice.")
        print(
            f"  Access tokens live {token_lifetime} seconds. Ctrl-C stops the demo.\n", flush=True
        )
        while True:
            time.sleep(0.5)
            for name, process in processes.items():
                if process.poll() is not None:
                    raise DemoError(f"the {name} ended (exit code {process.returncode})")


def _port(text: str) -> int:
    port = int(text)
    if not 1 <= port <= 65533:
        raise argparse.ArgumentTypeError("must be 1 to 65533")
    return port


def main() -> int:
    """Read the command line, run, and say in one line what went wrong, if anything did."""
    parser = argparse.ArgumentParser(prog="scripts/demo", description=__doc__)
    parser.add_argument("--port", type=_port, default=8000, help="first of three (default: 8000)")
    parser.add_argument(
        "--token-lifetime", type=int, default=20, help="of access tokens, in seconds (default: 20)"
    )
    options = parser.parse_args()
    # A service manager, a closed terminal and a script that started this in the background,
    # where shells switch Ctrl-C off, stop it all the same.
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if number := getattr(signal, name, None):
            signal.signal(number, signal.default_int_handler)
    try:
        run(options.port, token_lifetime=options.token_lifetime)
    except KeyboardInterrupt:
        print("\nstopped")
        return 0
    except DemoError as error:
        print(f"scripts/demo: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
