"""The command line against a certified provider that is not ours."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import httpx
import pytest

from tokenward.__main__ import main

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.interop

HTTP = "--dangerously-allow-http"


def is_active(interop_op, token: str) -> bool:
    with httpx.Client(auth=(interop_op.client_id, interop_op.client_secret)) as http:
        answer = http.post(f"{interop_op.issuer}/token/introspection", data={"token": token})
    return answer.json()["active"]


def test_discover_accepts_it(interop_op, capsys) -> None:
    assert main(["discover", interop_op.issuer, HTTP, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["accepted"]
    assert len(told["keys"]["usable"]) == 1


@pytest.mark.parametrize(
    ("client_id", "options"),
    [
        ("worker-basic", ()),
        ("worker-post", ("--client-auth", "client_secret_post")),
        ("worker-basic", ("--resource", "https://api.test/invoices", "--scope", "read")),
    ],
)
def test_token_gives_a_token_that_works(
    interop_op, capsys, monkeypatch, client_id, options
) -> None:
    monkeypatch.setenv("TOKENWARD_CLIENT_SECRET", interop_op.client_secret)
    at = ("--issuer", interop_op.issuer, HTTP, "--client-id", client_id)
    assert main(["token", *at, *options]) == 0
    assert is_active(interop_op, capsys.readouterr().out.removesuffix("\n"))


@pytest.mark.parametrize("as_pem", [True, False])
def test_token_takes_a_key_as_pem_with_its_name_and_as_jwk(
    interop_op, capsys, tmp_path: Path, as_pem: bool
) -> None:
    key, kid = interop_op.client_key, "worker-key-1"
    path = tmp_path / "key"
    jwk = {**key.as_dict(private=True), "kid": kid}
    path.write_bytes(key.as_pem(private=True) if as_pem else json.dumps(jwk).encode())
    at = ("--issuer", interop_op.issuer, HTTP, "--client-id", "worker-key")
    named = ("--key-id", kid) if as_pem else ()
    assert main(["token", *at, "--key", str(path), *named]) == 0
    assert is_active(interop_op, capsys.readouterr().out.removesuffix("\n"))
