"""The provider on a socket, on the command line, and in pytest."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import os
import signal
import socket
import subprocess
import sys

import httpx
import pytest
from joserfc.jwk import ECKey
from starlette.applications import Starlette
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from tokenward.testing import (
    Client,
    CutAnswer,
    LostAnswer,
    Provider,
    User,
    login_as,
    provider_cli,
    serve,
)
from tokenward.testing.cli import _parser
from tokenward.testing.cli import make_provider as make_provider_from

CLIENT_AUTH = ("app", "secret")


def make_provider() -> Provider:
    return Provider("http://127.0.0.1:0", clients=[Client("app")], users=[User("alice")])


def ask(address: str) -> httpx.Response:
    form = {"grant_type": "client_credentials"}
    with httpx.Client(trust_env=False) as http:
        return http.post(f"{address}/token", data=form, auth=CLIENT_AUTH)


def test_provider_on_a_free_port_becomes_that_issuer():
    provider = make_provider()
    with serve(provider) as address:
        assert provider.issuer == address
        assert ask(address).status_code == 200
        assert provider.count("token") == 1
    with pytest.raises(httpx.ConnectError):
        ask(address)


def test_two_providers_on_free_ports_never_share_a_key():
    with (
        serve(make_provider()) as one,
        serve(make_provider()) as two,
        httpx.Client(trust_env=False) as http,
    ):
        keys = [http.get(f"{address}/jwks").json()["keys"][0]["n"] for address in (one, two)]
    assert keys[0] != keys[1]


def test_lost_answer_closes_the_connection_and_has_acted(caplog):
    provider = make_provider()
    with serve(provider) as address:
        provider.misbehave("token", LostAnswer())
        with pytest.raises(httpx.RemoteProtocolError, match="without sending a response"):
            ask(address)
        assert provider.count("token", outcome="ok") == 1
        assert ask(address).status_code == 200
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.parametrize("chunked", [True, False])
@pytest.mark.parametrize("at", [0, 1, 40])
def test_cut_answer_closes_the_connection_in_the_middle(chunked, at):
    provider = make_provider()
    with serve(provider) as address:
        provider.misbehave("token", CutAnswer(at=at, chunked=chunked))
        form = {"grant_type": "client_credentials"}
        with (
            httpx.Client(trust_env=False) as http,
            http.stream("POST", f"{address}/token", data=form, auth=CLIENT_AUTH) as response,
        ):
            assert response.status_code == 200
            parts = response.iter_raw()
            got = b"".join(itertools.islice(parts, 1)) if at else b""
            with pytest.raises(httpx.RemoteProtocolError):
                next(parts)
        assert len(got) == at
        assert provider.count("token", outcome="ok") == 1


async def test_gate_opens_between_threads():
    provider = make_provider()
    with serve(provider) as address:
        gate = provider.hold("jwks")
        async with httpx.AsyncClient(trust_env=False) as http:
            fetching = asyncio.create_task(http.get(f"{address}/jwks"))
            await gate.entered.wait()
            assert not fetching.done()
            gate.release()
            assert (await fetching).status_code == 200


def test_app_that_does_not_start_is_an_error():
    async def app(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no"})

    with pytest.raises(RuntimeError, match="did not start"), serve(app):
        pass


def test_taken_port_is_an_error():
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(OSError, match="in use"),
        serve(make_provider(), port=taken.getsockname()[1]),
    ):
        pass


# --- command line


def test_command_line_names_the_port_that_is_taken(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert provider_cli(["--port", str(port)]) == 1
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in capsys.readouterr().err


def test_command_line_runs_until_it_is_interrupted():
    arguments = ["--port", "0", "--client-id", "demo", "--access-token-lifetime", "7"]
    program = "import sys; from tokenward.testing import provider_cli; sys.exit(provider_cli())"
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", program, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "NO_PROXY": "127.0.0.1"},
    ) as process:
        assert process.stdout
        assert process.stderr
        address = process.stdout.readline().split()[-1]
        form = {"grant_type": "client_credentials"}
        with httpx.Client(trust_env=False) as http:
            answer = http.post(f"{address}/token", data=form, auth=("demo", "secret")).json()
        assert answer["expires_in"] == 7
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 0
        assert process.stderr.read() == ""


def parse(*arguments):
    options = _parser().parse_args(arguments)
    return make_provider_from(options, issuer="https://op.test")


def test_command_line_describes_what_the_client_may_do(tmp_path):
    jwks = tmp_path / "keys.json"
    key = ECKey.generate_key("P-256").as_dict(private=False)
    jwks.write_text(json.dumps({"keys": [key]}))
    provider = parse(
        *("--grant", "device_code", "--grant", "token-exchange", "--grant", "password"),
        *("--client-auth", "private_key_jwt", "--jwks", str(jwks)),
        *("--polling-interval", "1", "--device-code-lifetime", "30"),
        *("--userinfo-alg", "ES256", "--require-pushed-authorization-requests"),
    )
    client = provider.clients["app"]
    assert set(client.grant_types) == {
        "authorization_code",
        "refresh_token",
        "client_credentials",
        "password",
        "urn:ietf:params:oauth:grant-type:device_code",
        "urn:ietf:params:oauth:grant-type:token-exchange",
    }
    assert client.token_endpoint_auth_methods == ("private_key_jwt",)
    assert client.jwks == {"keys": [key]}
    assert (client.polling_interval, client.device_code_lifetime) == (1, 30)
    assert client.userinfo_signed_response_alg == "ES256"
    assert client.require_pushed_authorization_requests


def test_command_line_without_options_has_the_usual_client():
    assert parse().clients["app"] == Client(
        "app",
        redirect_uris=("http://127.0.0.1:8000/auth/callback",),
        post_logout_redirect_uris=("http://127.0.0.1:8000/auth/logout/callback",),
    )


@pytest.mark.parametrize(
    ("arguments", "announced"), [((), False), (("--open-registration",), True)]
)
async def test_command_line_opens_registration_when_told(arguments, announced):
    provider = parse(*arguments)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(provider)) as http:
        response = await http.get("https://op.test/.well-known/openid-configuration")
    assert ("registration_endpoint" in response.json()) is announced


@pytest.mark.parametrize("content", [None, b"", b"{}", b"[]", b'{"keys": []}', b"\xff"])
def test_command_line_refuses_keys_that_are_none(tmp_path, capsys, content):
    path = tmp_path / "keys.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SystemExit):
        parse("--jwks", str(path))
    assert "not a set of keys" in capsys.readouterr().err


# --- pytest


def make_app(provider: Provider, form_post: bool = False) -> Starlette:
    """An app with the plainest login there is; it believes the code."""

    async def start(request):
        challenge = "7w_YNF9DSfIdPf_pRjSq646_kPr-2-o9NAl16JGghdM"
        mode = "form_post" if form_post else "query"
        return RedirectResponse(
            f"{provider.issuer}/authorize?response_type=code&client_id=app&scope=openid"
            f"&redirect_uri=https://app.test/auth/callback&response_mode={mode}"
            f"&code_challenge_method=S256&code_challenge={challenge}",
            status_code=303,
        )

    async def callback(request):
        code = (await request.body()) if form_post else request.query_params["code"]
        response = RedirectResponse("/home", status_code=303)
        response.set_cookie("code", str(bool(code)))
        return response

    async def home(request):
        return Response(f"home {request.cookies['code']}")

    methods = ["POST"] if form_post else ["GET"]
    return Starlette(
        routes=[
            Route("/auth/login", start),
            Route("/auth/callback", callback, methods=methods),
            Route("/home", home),
        ]
    )


@pytest.mark.parametrize("form_post", [False, True])
@pytest.mark.parametrize("automatic", [None, "bob"])
async def test_login_as_walks_through_the_app_and_the_provider(
    oidc_provider, login_as, form_post, automatic
):
    oidc_provider.sign_in_automatically(automatic)
    transport = httpx.ASGITransport(make_app(oidc_provider, form_post=form_post))
    async with httpx.AsyncClient(transport=transport, base_url="https://app.test") as client:
        response = await login_as(client, "alice", app_login_path="/auth/login")
    assert response.text == "home True"
    assert response.status_code == 200
    users = {r.sub for r in oidc_provider.requests if r.outcome == "ok"}
    assert users == {"alice"}


async def test_login_as_needs_a_user_of_the_provider(oidc_provider, login_as):
    async with httpx.AsyncClient() as client:
        with pytest.raises(LookupError, match="mallory"):
            await login_as(client, "mallory")


async def test_login_that_never_ends_is_a_failure(provider):
    app = Starlette(routes=[Route("/auth/login", lambda _: RedirectResponse("/auth/login"))])
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="https://app.test"
    ) as client:
        with pytest.raises(AssertionError, match="does not end"):
            await login_as(client, "alice", provider=provider)


async def test_refused_login_comes_back_to_the_app_or_says_why(oidc_provider, login_as):
    oidc_provider.register(Client("app"))
    transport = httpx.ASGITransport(make_app(oidc_provider))
    async with httpx.AsyncClient(transport=transport, base_url="https://app.test") as client:
        with pytest.raises(AssertionError, match="400"):
            await login_as(client, "alice")


def test_frozen_clock_moves_when_told(frozen_clock):
    start = frozen_clock()
    assert frozen_clock() == start
    assert frozen_clock.advance(5) == start + 5
    assert frozen_clock.set(7) == frozen_clock() == 7


def test_provider_of_the_plugin_runs_on_the_frozen_clock(oidc_provider, frozen_clock):
    token = oidc_provider.logout_token("app", sub="alice")
    assert oidc_provider.clients["app"].secrets == ("secret",)
    assert set(oidc_provider.users) == {"alice", "bob"}
    frozen_clock.advance(1)
    assert oidc_provider.logout_token("app", sub="alice") != token


def test_plugin_loads_nothing_heavy():
    program = (
        "import sys, tokenward.testing, tokenward.testing.plugin;"
        "print([m for m in sys.modules if m.startswith('tokenward.testing')])"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "['tokenward.testing', 'tokenward.testing.plugin']"


def test_every_name_of_the_testing_kit_is_there():
    import tokenward.testing as kit

    assert all(getattr(kit, name) for name in kit.__all__)
    assert dir(kit) == sorted(kit.__all__)
    with pytest.raises(AttributeError, match="nothing"):
        kit.nothing  # noqa: B018
