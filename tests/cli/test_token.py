"""`python -m tokenward token`."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tokenward.protocol.client_auth import auth_method_of
from tokenward.testing import AlteredAnswer, HtmlAnswer, LostRequest, OAuthError, RawAnswer

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "s3cret of the client"
PASSWORD = "pass of alice"
SECRET_IN = {"TOKENWARD_CLIENT_SECRET": SECRET}


@pytest.fixture
def secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKENWARD_CLIENT_SECRET", SECRET)


# --- client credentials


def test_standard_output_is_the_token_alone(shell, op) -> None:
    done = shell(*op.token("worker", "--scope", "api"), **SECRET_IN)
    assert done.status == 0
    assert done.out.endswith("\n")
    assert op.provider.is_active(done.out.removesuffix("\n"))
    assert done.err == "Bearer token, good for 3600 seconds, scope: api\n"


@pytest.mark.usefixtures("secret")
@pytest.mark.parametrize(
    ("members", "told"),
    [
        ({"expires_in": 31536000}, "Bearer token, good for 31536000 seconds, scope: api"),
        ({"expires_in": "soon"}, "Bearer token, no lifetime told, scope: api"),
        ({"expires_in": None, "scope": None}, "Bearer token, no lifetime told"),
        ({"scope": "b a"}, "Bearer token, good for 3600 seconds, scope: a b"),
    ],
)
def test_lifetime_and_scope_are_told(invoke, op, members, told) -> None:
    op.provider.misbehave("token", AlteredAnswer(members))
    assert invoke(*op.token("worker")).last == told


@pytest.mark.usefixtures("secret")
def test_quiet_says_nothing_besides(invoke, op) -> None:
    done = invoke(*op.token("worker", "--quiet"))
    assert (done.status, done.err) == (0, "")


@pytest.mark.usefixtures("secret")
def test_json_is_the_entire_answer(invoke, op) -> None:
    op.provider.misbehave("token", AlteredAnswer({"ext_expires_in": 7, "name": "Jürgen"}))
    done = invoke(*op.token("worker", "--json"))
    assert done.json.keys() == {
        "access_token",
        "token_type",
        "expires_in",
        "scope",
        "ext_expires_in",
        "name",
    }
    assert done.out.isascii()


@pytest.mark.usefixtures("secret")
@pytest.mark.parametrize(
    ("client_id", "options", "sent"),
    [
        ("worker", (), "client_secret_basic"),
        ("worker", ("--client-auth", "client_secret_post"), "client_secret_post"),
        ("worker", ("--client-auth", "client_secret_basic"), "client_secret_basic"),
    ],
)
def test_the_secret_is_sent_as_it_is_told(invoke, op, client_id, options, sent) -> None:
    assert invoke(*op.token(client_id, *options)).status == 0
    form = dict(op.provider.requests[-1].parameters)
    assert ("client_secret" in form) is (sent == "client_secret_post")


@pytest.mark.usefixtures("secret")
def test_the_secret_is_sent_as_the_provider_supports_it(invoke, op) -> None:
    only_post = {"token_endpoint_auth_methods_supported": ["client_secret_post"]}
    op.provider.misbehave("discovery", AlteredAnswer(only_post))
    assert invoke(*op.token("poster")).status == 0


def test_a_private_key_proves_the_client(shell, op) -> None:
    done = shell(*op.token("signer", "--key", str(op.key)))
    assert done.status == 0
    assert op.provider.is_active(done.out.strip())


def test_a_key_needs_no_discovery_if_the_audience_is_told(invoke, op) -> None:
    at = ("--token-endpoint", f"{op.issuer}/token")
    assert invoke(*op.token("signer", "--key", str(op.key), *at)).status == 0
    assert op.provider.count("discovery") == 0
    without = ("token", *at, "--client-id", "signer", "--key", str(op.key), *op.provider_options)
    done = invoke(*without)
    assert (done.status, "--issuer is needed" in done.last) == (2, True)


@pytest.mark.usefixtures("secret")
def test_a_token_endpoint_needs_no_discovery(invoke, op) -> None:
    at = ("--token-endpoint", f"{op.issuer}/token", *op.provider_options)
    assert invoke("token", *at, "--client-id", "worker").status == 0
    assert op.provider.count("discovery") == 0


@pytest.mark.usefixtures("secret")
def test_scope_resource_audience_and_parameters_are_sent(invoke, op) -> None:
    options = (
        *("--scope", "api", "--scope", "email profile"),
        *("--resource", "https://a.test/", "--resource", "https://b.test/"),
        *("--audience", "c", "--parameter", "x=1=2", "--parameter", "empty="),
    )
    op.provider.misbehave("token", OAuthError("invalid_target"))
    assert invoke(*op.token("worker", *options)).status == 1
    assert op.provider.requests[-1].parameters == (
        ("grant_type", "client_credentials"),
        ("scope", "api email profile"),
        ("resource", "https://a.test/"),
        ("resource", "https://b.test/"),
        ("x", "1=2"),
        ("empty", ""),
        ("audience", "c"),
    )


# --- password


def test_password_grant_takes_both_secrets_from_the_environment(shell, op) -> None:
    options = op.token("worker", "--grant", "password", "--username", "alice")
    done = shell(*options, **SECRET_IN, TOKENWARD_PASSWORD=PASSWORD)
    assert (done.status, op.provider.is_active(done.out.strip())) == (0, True)


def test_a_public_client_is_not_asked_for_a_secret(invoke, op, monkeypatch) -> None:
    monkeypatch.setenv("TOKENWARD_PASSWORD", PASSWORD)
    assert invoke(*op.token("tv", "--grant", "password", "--username", "alice")).status == 0


def test_a_wrong_password_is_the_providers_word(invoke, op, monkeypatch) -> None:
    monkeypatch.setenv("TOKENWARD_PASSWORD", "wrong-password")
    done = invoke(*op.token("tv", "--grant", "password", "--username", "alice"))
    assert (done.status, done.out) == (1, "")
    assert "the provider answered invalid_grant" in done.last
    assert "wrong-password" not in done.err


# --- device flow


def read_user_code(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    told = process.stderr.readline()
    assert told.startswith("Open http://127.0.0.1:")
    return told.split()[-1]


def test_device_flow_shows_the_code_and_waits_for_the_user(start, op) -> None:
    process = start(*op.token("tv", "--grant", "device_code", "--scope", "api"))
    code = read_user_code(process)
    assert process.stderr is not None
    assert process.stderr.readline() == f"or open {op.issuer}/device?user_code={code}\n"
    op.provider.misbehave("token", OAuthError("authorization_pending"))
    op.provider.approve_device(code, "alice")
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert op.provider.is_active(out.strip())
    assert [r.outcome for r in op.provider.requests if r.endpoint == "token"] == [
        "authorization_pending",
        "ok",
    ]


def test_a_user_who_says_no_ends_the_device_flow(start, op) -> None:
    process = start(*op.token("tv", "--grant", "device_code", "--quiet"))
    op.provider.deny_device(read_user_code(process))
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (1, "")
    assert "access_denied" in err.splitlines()[-1]


def test_ctrl_c_ends_the_waiting_without_a_traceback(start, op) -> None:
    process = start(*op.token("tv", "--grant", "device_code"))
    read_user_code(process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, "")
    assert err.endswith("interrupted\n")
    assert "Traceback" not in err


@pytest.mark.usefixtures("secret")
def test_a_provider_without_device_flow_is_told(invoke, op) -> None:
    without = AlteredAnswer(without=("device_authorization_endpoint",))
    op.provider.misbehave("discovery", without)
    done = invoke(*op.token("tv", "--grant", "device_code"))
    assert (done.status, done.last) == (
        1,
        "error: the provider has no device_authorization_endpoint",
    )


def test_endpoints_of_the_device_flow_can_be_told(invoke, op) -> None:
    at = (
        *("--token-endpoint", f"{op.issuer}/token"),
        *("--device-authorization-endpoint", f"{op.issuer}/device_authorization"),
    )
    op.provider.misbehave("device_authorization", OAuthError("invalid_scope", "not\x1b[1mthis"))
    done = invoke(*op.token("tv", "--grant", "device_code", *at))
    assert done.status == 1
    assert done.last == (
        "error: device authorization endpoint: the provider answered invalid_scope: "
        r"not\x1b[1mthis"
    )
    assert op.provider.count("discovery") == 0


# --- secrets


@pytest.mark.parametrize(
    ("option", "variable"),
    [
        ("--client-secret", "TOKENWARD_CLIENT_SECRET"),
        ("--secret", "TOKENWARD_CLIENT_SECRET"),
        ("--password", "TOKENWARD_PASSWORD"),
    ],
)
@pytest.mark.parametrize("joined", [True, False])
def test_a_secret_as_an_argument_is_refused_and_not_repeated(
    invoke, op, option, variable, joined
) -> None:
    given = (f"{option}=hunter2",) if joined else (option, "hunter2")
    done = invoke(*op.token("worker", *given))
    assert (done.status, done.out) == (2, "")
    assert variable in done.last
    assert "hunter2" not in done.err
    assert op.provider.requests == []


@pytest.mark.parametrize(
    "given",
    [
        ("--client-secre=hunter2",),
        ("--client_secret=hunter2",),
        ("--client_secret", "hunter2"),
        ("hunter2",),
        ("-phunter2",),
        ("--parameter", "client_secret=hunter2"),
        ("--parameter", "password=hunter2"),
        ("--parameter", "client_assertion=hunter2"),
    ],
)
def test_a_secret_in_a_mistyped_argument_is_not_repeated(invoke, op, given) -> None:
    done = invoke(*op.token("worker", *given))
    assert done.status == 2
    assert "hunter2" not in done.err


def test_no_option_takes_a_secret(invoke) -> None:
    done = invoke("token", "--help")
    options = [line.split()[0] for line in done.out.splitlines() if line.startswith("  -")]
    assert "--client-id" in options
    assert not [option for option in options if "secret" in option or "password" in option]
    assert "TOKENWARD_CLIENT_SECRET" in done.out


def test_without_a_terminal_the_variable_is_named(shell, op) -> None:
    # Warnings are no errors for users, as they are in these tests.
    done = shell(*op.token("worker"), PYTHONWARNINGS="default")
    assert (done.status, done.out) == (2, "")
    assert done.err == "error: set TOKENWARD_CLIENT_SECRET; there is no terminal to ask at\n"
    assert op.provider.requests == []


# Makes standard input the terminal from which Ctrl-C comes, and becomes the command.
TAKE_TERMINAL = """
import fcntl, runpy, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
runpy.run_module("tokenward", run_name="__main__", alter_sys=True)
"""


def on_a_terminal(command: tuple[str, ...], typed: bytes) -> tuple[int, bytes, bytes]:
    """Run a command at a terminal, and type when it asks.

    Returns the exit status, what it wrote to a pipe, and what the terminal showed.
    """
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", TAKE_TERMINAL, *command],
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    shown = b""
    try:
        while not shown.rstrip().endswith(b":"):
            shown += os.read(ours, 1024)
        os.write(ours, typed)
        out, _ = process.communicate(timeout=60)
        with contextlib.suppress(OSError):  # the terminal is gone
            while more := os.read(ours, 1024):
                shown += more
    finally:
        process.kill()
        process.communicate()
        os.close(ours)
    return process.returncode, out, shown


def test_at_a_terminal_the_secret_is_asked_for_and_not_shown(op) -> None:
    status, out, shown = on_a_terminal(op.token("worker"), f"{SECRET}\n".encode())
    assert status == 0, shown
    assert op.provider.is_active(out.decode().strip())
    assert b"Secret of client worker: " in shown
    assert SECRET.encode() not in shown


@pytest.mark.parametrize(
    ("typed", "status", "told"),
    [
        pytest.param(b"\x03", 130, b"interrupted", id="ctrl-c"),
        pytest.param(b"\x04", 2, b"nothing was entered", id="ctrl-d"),
        pytest.param(b"\n", 2, b"TOKENWARD_CLIENT_SECRET: is empty", id="empty"),
    ],
)
def test_at_a_terminal_nothing_typed_ends_it(op, typed, status, told) -> None:
    ended, out, shown = on_a_terminal(op.token("worker"), typed)
    assert (ended, out) == (status, b"")
    assert told in shown
    assert b"Traceback" not in shown


# --- what goes wrong


@pytest.mark.usefixtures("secret")
@pytest.mark.parametrize(
    ("fault", "status", "told"),
    [
        pytest.param(
            OAuthError("invalid_scope", "no such scope"),
            1,
            "the provider answered invalid_scope: no such scope",
            id="refusal",
        ),
        pytest.param(
            OAuthError("temporarily_unavailable", status=503),
            1,
            "the provider answered temporarily_unavailable",
            id="refusal with a bad status",
        ),
        pytest.param(
            RawAnswer(400, body=b'{"error":"a\\u001b[31m\\nb","error_description":"\\u202ex"}'),
            1,
            r"the provider answered a\x1b[31m\nb: \u202ex",
            id="terminal sequence",
        ),
        pytest.param(RawAnswer(401, body=b"<html>"), 1, "HTTP 401", id="401"),
        pytest.param(RawAnswer(502, body=b"<html>"), 3, "HTTP 502", id="502"),
        pytest.param(HtmlAnswer(), 1, "not JSON", id="html"),
        pytest.param(RawAnswer(200, body=b"x" * 300_000), 3, "larger than", id="huge"),
        pytest.param(RawAnswer(307, {"location": "https://evil.test"}), 1, "HTTP 307", id="307"),
        pytest.param(LostRequest(), 3, "out of reach", id="lost"),
        pytest.param(
            AlteredAnswer(without=("access_token",)), 1, "access_token: is missing", id="no token"
        ),
        pytest.param(
            AlteredAnswer({"access_token": "a\nb"}), 1, "access_token: is not", id="line end"
        ),
        pytest.param(AlteredAnswer({"token_type": "mac"}), 1, "token_type: is 'mac'", id="mac"),
    ],
)
def test_what_goes_wrong_at_the_token_endpoint_is_one_line(invoke, op, fault, status, told) -> None:
    op.provider.misbehave("token", fault)
    done = invoke(*op.token("worker"))
    assert (done.status, done.out) == (status, "")
    assert done.err.startswith("error: token endpoint: ")
    assert told in done.err
    assert done.err.count("\n") == 1
    assert done.err[:-1].isprintable()
    assert op.provider.count("token") == 1


@pytest.mark.usefixtures("secret")
def test_json_shows_a_refusal_too(invoke, op) -> None:
    op.provider.misbehave("token", OAuthError("invalid_scope", "no such scope"))
    done = invoke(*op.token("worker", "--json"))
    assert done.status == 1
    assert done.json == {"error": "invalid_scope", "error_description": "no such scope"}


def test_a_wrong_secret_is_not_repeated(shell, op) -> None:
    done = shell(*op.token("worker"), TOKENWARD_CLIENT_SECRET="wrong-secret")
    assert (done.status, done.out) == (1, "")
    assert "invalid_client" in done.last
    assert "wrong-secret" not in done.err


def test_a_secret_that_is_no_text_is_not_repeated(invoke, op, monkeypatch) -> None:
    monkeypatch.setitem(os.environ, "TOKENWARD_CLIENT_SECRET", "wrong-\udcff-secret")
    done = invoke(*op.token("worker"))
    assert done.status == 2
    assert done.last == "error: TOKENWARD_CLIENT_SECRET: is not valid Unicode text"


@pytest.mark.usefixtures("secret")
def test_a_document_that_breaks_the_policy_names_the_command_that_says_more(invoke, op) -> None:
    op.provider.misbehave("discovery", AlteredAnswer({"issuer": "https://evil.test"}))
    done = invoke(*op.token("worker"))
    assert done.status == 1
    assert f"`python -m tokenward discover {op.issuer}` says more" in done.last
    assert op.provider.count("token") == 0


@pytest.mark.usefixtures("secret")
@pytest.mark.parametrize(
    ("options", "told"),
    [
        pytest.param((), "give --issuer", id="no address"),
        pytest.param(("--issuer", "op.test"), "begin with https://", id="no scheme"),
        pytest.param(("--issuer", "http://127.0.0.1:1"), "--dangerously-allow-http", id="http"),
        pytest.param(("--token-endpoint", "http://op.test/t?x=1"), "https", id="http endpoint"),
        pytest.param(
            ("--token-endpoint", "https://op.test", "--grant", "device_code"),
            "--device-authorization-endpoint",
            id="device without discovery",
        ),
        pytest.param(
            ("--issuer", "https://op.test", "--grant", "password"), "--username", id="no user"
        ),
        pytest.param(
            ("--issuer", "https://op.test", "--username", "alice"), "--username", id="user"
        ),
        pytest.param(
            (
                *("--issuer", "https://op.test"),
                *("--device-authorization-endpoint", "https://op.test/device"),
            ),
            "belongs to --grant device_code",
            id="device endpoint",
        ),
        pytest.param(
            ("--issuer", "https://op.test", "--key-id", "x"), "belongs to --key", id="key id"
        ),
        pytest.param(("--parameter", "x"), "NAME=VALUE", id="parameter without value"),
        pytest.param(("--parameter", "=x"), "NAME=VALUE", id="parameter without name"),
        pytest.param(
            ("--issuer", "https://op.test", "--parameter", "x=1", "--parameter", "x=2"),
            "twice",
            id="parameter twice",
        ),
        pytest.param(
            ("--issuer", "https://op.test", "--parameter", "audience=a", "--audience", "b"),
            "are the same",
            id="audience twice",
        ),
        pytest.param(("--grant", "implicit"), "invalid choice", id="grant"),
        pytest.param(
            ("--issuer", "https://op.test", "--client-auth", "private_key_jwt"),
            "needs --key",
            id="no key",
        ),
        pytest.param(
            ("--issuer", "https://op.test", "--key", "/nowhere/key.pem"),
            "No such file",
            id="no file",
        ),
        pytest.param(("--issuer", "https://op.test", "--key", "/"), "directory", id="directory"),
        pytest.param(("--issuer", "https://op.test", "--key", "\0"), "cannot be read", id="null"),
    ],
)
def test_wrong_arguments_are_a_usage_error(invoke, options, told) -> None:
    done = invoke("token", "--client-id", "worker", *options)
    assert (done.status, done.out) == (2, "")
    assert told in done.last


@pytest.mark.usefixtures("secret")
def test_a_parameter_that_the_grant_sets_is_refused(invoke, op) -> None:
    done = invoke(*op.token("worker", "--parameter", "grant_type=implicit"))
    assert done.status == 2
    assert done.last == "error: --parameter: `grant_type` is set by the library"


def test_a_client_without_id_is_a_usage_error(invoke) -> None:
    done = invoke("token", "--issuer", "https://op.test")
    assert (done.status, "--client-id" in done.last) == (2, True)


def encrypted_key() -> bytes:
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"password"),
    )


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"private-nonsense", id="nonsense"),
        pytest.param(b"\xff\xfe", id="binary"),
        pytest.param(b'{"kty": "oct", "k": "private-nonsense"}', id="symmetric"),
        pytest.param(json.dumps({"kty": "EC", "d": "private-nonsense"}).encode(), id="broken"),
        pytest.param(encrypted_key(), id="with a password"),
    ],
)
def test_a_key_file_without_a_key_is_a_usage_error(
    invoke, op, tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)
    done = invoke(*op.token("signer", "--key", str(path)))
    assert (done.status, done.out) == (2, "")
    assert done.err.count("\n") == 1
    assert "private-nonsense" not in done.err
    assert op.provider.requests == []


@pytest.mark.usefixtures("secret")
def test_an_algorithm_that_the_key_has_not_is_a_usage_error(invoke, op) -> None:
    done = invoke(*op.token("signer", "--key", str(op.key), "--algorithm", "RS256"))
    assert done.status == 2
    assert "--client-auth: the key signs ES256" in done.last


@pytest.mark.parametrize(
    ("method", "secret"),
    [
        ("client_secret_basic", "s"),
        ("client_secret_basic_raw", "s"),
        ("client_secret_post", "s"),
        ("client_secret_jwt", "s" * 32),
        ("none", ""),
    ],
)
def test_every_method_can_be_chosen(monkeypatch, method, secret) -> None:
    from tokenward.commands.client_proof import read_proof
    from tokenward.commands.token import _parser

    monkeypatch.setenv("TOKENWARD_CLIENT_SECRET", secret)
    given = ["--client-id", "a", "--client-auth", method, "--issuer", "https://op.test"]
    proof = read_proof(_parser().parse_all(given)).at(None)
    assert auth_method_of(proof) == method.removesuffix("_raw")
