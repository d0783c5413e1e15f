"""`python -m tokenward` itself, and its small commands."""

from __future__ import annotations

import re
import socket
import subprocess
import sys

import pytest

COMMANDS = ("discover", "token", "secret", "provider")


@pytest.mark.parametrize("arguments", [("--help",), ("-h",), ("help",)])
def test_help_lists_the_commands_in_one_line_each(invoke, arguments) -> None:
    done = invoke(*arguments)
    assert (done.status, done.err) == (0, "")
    for command in COMMANDS:
        assert len(re.findall(rf"^  {command} +\S", done.out, re.MULTILINE)) == 1


def test_no_command_is_a_usage_error_that_shows_the_commands(invoke) -> None:
    done = invoke()
    assert (done.status, done.out) == (2, "")
    assert all(f"\n  {command} " in done.err for command in COMMANDS)


def test_an_unknown_command_is_a_usage_error(invoke) -> None:
    done = invoke("discvoer")
    assert (done.status, done.out) == (2, "")
    assert "'discvoer'" in done.last


@pytest.mark.parametrize("command", ["discover", "token"])
def test_every_exit_status_is_documented(invoke, command) -> None:
    done = invoke(command, "--help")
    assert done.status == 0
    for status in (0, 1, 2, 3, 130):
        assert re.search(rf"^  {status} +\S", done.out, re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(invoke, command) -> None:
    done = invoke(command, "--help")
    assert (done.status, done.err) == (0, "")
    assert f"usage: python -m tokenward {command} " in done.out


def test_the_version_is_told(invoke) -> None:
    assert invoke("--version").out.startswith("tokenward 0.")


def test_a_secret_key_is_new_each_time(invoke) -> None:
    first, second = invoke("secret"), invoke("secret")
    assert first.out != second.out
    assert len(first.out) == 65
    assert invoke("secret", "nonsense").status == 2


def test_help_and_secret_load_no_http_library() -> None:
    program = (
        "import sys; from tokenward.__main__ import main; main(['secret']);"
        "sys.exit(bool({'httpx', 'httpx2', 'uvicorn'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)


def test_a_reader_that_goes_away_is_no_traceback(start, op) -> None:
    process = start("discover", op.issuer, "--dangerously-allow-http")
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(timeout=30) == 141


def test_certificates_that_are_not_there_are_told(invoke, monkeypatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/ca.pem")
    done = invoke("discover", "https://op.test")
    assert (done.status, done.out) == (2, "")
    assert "SSL_CERT_FILE" in done.last


# --- provider


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        pytest.param(("--port", "99999"), "--port: must be 0 to 65535", id="port"),
        pytest.param(("--port", "-1"), "--port: must be 0 to 65535", id="negative port"),
        pytest.param(("--host", "a" * 300), "--host: is no host", id="long host"),
        pytest.param(("--host", "\udcff"), "--host: is no host", id="host that is no text"),
        pytest.param(("--host", ""), "--host: is no host", id="empty host"),
        pytest.param(("--port", "http"), "--port: must be 0 to 65535", id="named port"),
        pytest.param(
            ("--sign-in-automatically", "nobody"),
            "--sign-in-automatically: 'nobody' is not one of alice, bob",
            id="unknown user",
        ),
        pytest.param(
            ("--user", "carol:x", "--sign-in-automatically", "alice"),
            "'alice' is not one of carol",
            id="other users",
        ),
        pytest.param(("--user", ":x"), "--user: must be NAME:PASSWORD", id="user"),
        pytest.param(("--issuer", "op.test"), "--issuer: 'op.test' is no URL", id="issuer"),
        pytest.param(("--issuer", "http://a?b"), "--issuer: ", id="issuer with a query"),
        pytest.param(("--redirect-uri", "/callback"), "--redirect-uri: ", id="redirect"),
        pytest.param(("--redirect-uri", "https://a/#b"), "--redirect-uri: ", id="fragment"),
        pytest.param(("--access-token-lifetime", "-1"), "must be whole seconds", id="lifetime"),
        pytest.param(("--refresh-token-overlap", "nan"), "must be seconds", id="overlap"),
        pytest.param(("--polling-interval", "soon"), "must be whole seconds", id="interval"),
        pytest.param(("--client-id", ""), "--client-id: is empty", id="client id"),
        pytest.param(("--secret", ""), "--secret: is empty", id="secret"),
        pytest.param(("--jwks", "/nowhere"), "--jwks: /nowhere is not", id="jwks"),
        pytest.param(("nonsense",), "unrecognized arguments: nonsense", id="nonsense"),
    ],
)
def test_wrong_arguments_of_the_provider_are_a_usage_error(invoke, arguments, told) -> None:
    done = invoke("provider", *arguments)
    assert (done.status, done.out) == (2, "")
    assert told in done.last


def test_a_port_in_use_is_told(invoke) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = invoke("provider", "--port", str(port))
    assert (done.status, done.out) == (1, "")
    assert done.err == (
        f"cannot listen on 127.0.0.1:{port}: Address already in use; "
        "try another --port, 0 takes a free one\n"
    )


@pytest.mark.parametrize("host", ["no such host", "192.0.2.1", "::1"])
def test_a_host_that_is_not_ours_is_told(invoke, host) -> None:
    done = invoke("provider", "--host", host, "--port", "0")
    assert (done.status, done.out) == (1, "")
    assert "look at --host" in done.last
    assert done.err.count("\n") == 1


def test_apps_may_have_a_scheme_of_their_own(start) -> None:
    process = start("provider", "--port", "0", "--redirect-uri", "com.example.app:/callback")
    assert process.stdout is not None
    assert process.stdout.readline().startswith("OpenID Provider on http://127.0.0.1:")
