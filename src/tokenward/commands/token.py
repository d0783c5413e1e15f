"""`python -m tokenward token`: request an access token from the shell."""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ..endpoints import (
    get_discovery_document,
    poll_device_token,
    request_client_credentials_token,
    request_device_authorization,
    request_password_token,
)
from ..errors import InvalidResponse
from ..protocol.responses import printable
from ..protocol.token_answer import read_token_answer
from .client_proof import add_client_options, read_proof
from .console import (
    EXIT_STATUSES,
    GOOD,
    REFUSED,
    Failed,
    Parser,
    add_provider_options,
    ask_secret,
    call,
    check_url,
    good,
    policy_of,
    refuse_secret,
    report,
    say,
    words_of,
    write,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..protocol.authorization_responses import DeviceAuthorizationResponse
    from ..protocol.client_auth import ClientAuth
    from ..protocol.metadata import DiscoveryPolicy, ProviderMetadata
    from ..protocol.responses import TokenResponse
    from ..protocol.token_answer import TokenAnswer
    from ..secret import Secret
    from ..transport import AsyncClient
    from .client_proof import ClientProof

PASSWORD: Final = "TOKENWARD_PASSWORD"  # noqa: S105 - where it is, and not what it is
"""The environment variable with the user's password."""

_GRANTS: Final = ("client_credentials", "device_code", "password")

_EPILOG: Final = """\
The token goes to standard output, and all else to standard error:
  curl -H "Authorization: Bearer $(python -m tokenward token ...)" https://api.example/

Secrets are never arguments. They come from the environment, or are asked for:
  TOKENWARD_CLIENT_SECRET   the client's secret
  TOKENWARD_PASSWORD        the user's password, for --grant password

examples:
  python -m tokenward token --issuer https://op.example --client-id worker --scope api
  python -m tokenward token --issuer https://op.example --client-id tool --grant device_code
  python -m tokenward token --issuer https://op.example --client-id worker --key client.pem
  python -m tokenward token --token-endpoint https://op.example/token --client-id worker --json

"""


def token_cli(argv: Sequence[str] | None = None) -> int:
    """Run the command, and return the exit status. `argv`: None takes those of the process."""
    parser = _parser()
    options = parser.parse_all(argv)
    if problem := _contradiction(options):
        parser.error(problem)
    return report(lambda: _token(options))


def _token(options: argparse.Namespace) -> int:
    proof, password = read_proof(options), None
    if options.grant == "password":
        prompt = f"Password of {printable(options.username)}: "
        password = ask_secret(PASSWORD, prompt=prompt)
    return call(lambda http: _Command(http, options, proof, password).run())


@dataclass(frozen=True, slots=True)
class _Endpoints:
    """Where to ask."""

    token: str
    device_authorization: str | None
    metadata: ProviderMetadata | None
    """None: nothing was discovered."""


class _Command:
    """One request for a token, from the options to what is printed."""

    def __init__(
        self,
        http: AsyncClient,
        options: argparse.Namespace,
        proof: ClientProof,
        password: Secret | None,
    ) -> None:
        self._http = http
        self._options = options
        self._proof = proof
        self._password = password
        self._policy: DiscoveryPolicy = policy_of(options)

    async def run(self) -> int:
        """Return the exit status; raises `Failed` for any other end than a token."""
        endpoints = await self._find_endpoints()
        proof = self._proof.at(endpoints.metadata)
        if self._options.grant == "device_code":
            response = await self._ask_user(endpoints, proof)
        elif self._password is not None:
            response = await self._exchange(self._password, endpoints.token, proof)
        else:
            response = await self._ask_for_client(endpoints.token, proof)
        return self._print(response)

    async def _find_endpoints(self) -> _Endpoints:
        options = self._options
        for url in (options.issuer, options.token_endpoint, options.device_authorization_endpoint):
            if url is not None:
                # An endpoint may have a query (RFC 6749, section 3.2), an issuer may not.
                check_url(url if url is options.issuer else url.partition("?")[0], self._policy)
        token, device = options.token_endpoint, options.device_authorization_endpoint
        if token is not None and (device is not None or options.grant != "device_code"):
            return _Endpoints(token, device, None)
        metadata = await self._discover()
        return _Endpoints(
            token or metadata.token_endpoint,
            device or metadata.device_authorization_endpoint,
            metadata,
        )

    async def _discover(self) -> ProviderMetadata:
        options = self._options
        response = await get_discovery_document(
            self._http, options.issuer, policy=self._policy, deadline=options.timeout
        )
        if response.error_type == "policy":
            hint = f"`python -m tokenward discover {printable(options.issuer)}` says more"
            raise Failed(REFUSED, f"discovery document: {words_of(response)}; {hint}")
        good(response, of="discovery document")
        return response.metadata

    async def _ask_for_client(self, endpoint: str, proof: ClientAuth) -> TokenResponse:
        options = self._options
        return await request_client_credentials_token(
            self._http,
            endpoint,
            client_id=options.client_id,
            client_auth=proof,
            scope=_scope(options),
            resource=tuple(options.resource),
            extra=_extra(options),
            deadline=options.timeout,
        )

    async def _exchange(self, password: Secret, endpoint: str, proof: ClientAuth) -> TokenResponse:
        options = self._options
        return await request_password_token(
            self._http,
            endpoint,
            client_id=options.client_id,
            client_auth=proof,
            username=options.username,
            password=password,
            scope=_scope(options),
            resource=tuple(options.resource),
            extra=_extra(options),
            deadline=options.timeout,
        )

    async def _ask_user(self, endpoints: _Endpoints, proof: ClientAuth) -> TokenResponse:
        options = self._options
        if endpoints.device_authorization is None:
            raise Failed(REFUSED, "the provider has no device_authorization_endpoint")
        device = await request_device_authorization(
            self._http,
            endpoints.device_authorization,
            client_id=options.client_id,
            client_auth=proof,
            scope=_scope(options),
            resource=tuple(options.resource),
            extra=_extra(options),
            deadline=options.timeout,
        )
        good(device, of="device authorization endpoint")
        self._tell_user(device)
        return await poll_device_token(
            self._http,
            endpoints.token,
            client_id=options.client_id,
            client_auth=proof,
            device=device,
            resource=tuple(options.resource),
            deadline=options.timeout,
        )

    def _tell_user(self, device: DeviceAuthorizationResponse) -> None:
        # Also with --quiet: without it nobody could go on.
        say(f"Open {device.verification_uri} and enter the code {printable(device.user_code)}")
        if device.verification_uri_complete:
            say(f"or open {device.verification_uri_complete}")
        self._inform(f"Waiting, {device.expires_in:.0f} seconds at most. Ctrl-C ends it.")

    def _print(self, response: TokenResponse) -> int:
        if self._options.json and response.json is not None:
            # Also a refusal: it is the entire answer.
            write(f"{json.dumps(response.json, indent=2)}\n")
        good(response, of="token endpoint")
        try:
            answer = read_token_answer(response)
        except InvalidResponse as error:
            problem = str(error)
        else:
            return self._done(answer)
        raise Failed(REFUSED, f"token endpoint: the answer cannot be used: {problem}")

    def _done(self, answer: TokenAnswer) -> int:
        if not self._options.json:
            write(f"{answer.access_token.reveal()}\n")
        lifetime = answer.expires_in
        told = "no lifetime told" if lifetime is None else f"good for {lifetime:.0f} seconds"
        scope = "" if answer.scope is None else f", scope: {' '.join(sorted(answer.scope))}"
        self._inform(f"{answer.token_type} token, {told}{scope}")
        return GOOD

    def _inform(self, text: str) -> None:
        if not self._options.quiet:
            say(text)


def _scope(options: argparse.Namespace) -> str | None:
    return " ".join(options.scope) if options.scope else None


def _extra(options: argparse.Namespace) -> Mapping[str, str | Secret]:
    extra = dict(options.parameter)
    return extra if options.audience is None else {**extra, "audience": options.audience}


def _contradiction(options: argparse.Namespace) -> str | None:
    """Say which options do not go together; None: all do."""
    names = [name for name, _ in options.parameter]
    if options.issuer is None and options.token_endpoint is None:
        return "give --issuer, or --token-endpoint"
    if options.grant == "password" and not options.username:
        return "--grant password needs --username"
    if options.grant != "password" and options.username is not None:
        return "--username belongs to --grant password"
    if options.grant != "device_code" and options.device_authorization_endpoint is not None:
        return "--device-authorization-endpoint belongs to --grant device_code"
    needs_discovery = options.grant == "device_code" and not options.device_authorization_endpoint
    if options.issuer is None and needs_discovery:
        return "--grant device_code needs --issuer, or --device-authorization-endpoint"
    if options.key is None and options.key_id is not None:
        return "--key-id belongs to --key"
    if len(set(names)) < len(names):
        return "--parameter: a name is given twice"
    if options.audience is not None and "audience" in names:
        return "--audience and --parameter audience=... are the same"
    return None


def _parameter(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not (name and separator):
        raise argparse.ArgumentTypeError("must be NAME=VALUE")
    if name in ("password", "client_secret", "client_assertion"):
        raise argparse.ArgumentTypeError(f"{name} is a secret; see --help")
    return name, value


def _parser() -> Parser:
    parser = Parser(
        prog="python -m tokenward token",
        description="Request an access token, and print it.",
        epilog=_EPILOG + EXIT_STATUSES,
    )
    add = parser.add_argument
    add("--issuer", metavar="URL", help="the provider; its endpoints are discovered")
    add("--token-endpoint", metavar="URL", help="nothing is discovered then")
    add("--device-authorization-endpoint", metavar="URL", help="for --grant device_code")
    add("--grant", choices=_GRANTS, default=_GRANTS[0], help="(%(default)s)")
    add_client_options(parser)
    add("--username", metavar="NAME", help="for --grant password")
    refuse_secret(parser, "--password", variable=PASSWORD)
    add("--scope", action="append", metavar="SCOPE", help="may be repeated, or hold several")
    add("--resource", action="append", default=[], metavar="URI", help="may be repeated")
    add("--audience", metavar="NAME", help="for providers that have this parameter")
    add(
        "--parameter",
        action="append",
        default=[],
        type=_parameter,
        metavar="NAME=VALUE",
        help="a parameter of the provider's own; may be repeated",
    )
    add("--json", action="store_true", help="print the entire answer, also a refusal")
    add("-q", "--quiet", action="store_true", help="say nothing but errors, and what you must do")
    add_provider_options(parser)
    return parser
