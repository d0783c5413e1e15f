"""What the commands have in common: exit statuses, options, secrets, and the way to fail."""

from __future__ import annotations

import argparse
import asyncio
import getpass
import os
import sys
import warnings
from typing import TYPE_CHECKING, Final, NoReturn

from ..errors import ConfigurationError, ProviderUnavailable
from ..protocol.metadata import DiscoveryPolicy, check_issuer
from ..protocol.responses import printable
from ..secret import Secret
from ..transport import new_async_client

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from ..protocol.responses import ProtocolResponse
    from ..transport import AsyncClient

GOOD: Final = 0
REFUSED: Final = 1
"""The provider said no, or what it said breaks a rule."""
USAGE: Final = 2
"""An argument, a file or a secret is missing or wrong."""
UNREACHABLE: Final = 3
"""No usable answer: not reachable, too slow, cut, too large, or HTTP 429 or 5xx."""
INTERRUPTED: Final = 130
"""Ctrl-C, as shells number it."""

EXIT_STATUSES: Final = """\
exit status:
  0    done
  1    the provider refused, or what it says breaks a rule
  2    the command line is wrong, or something it needs is missing
  3    no usable answer: out of reach, too slow, too large, or HTTP 429 or 5xx
  130  interrupted (Ctrl-C)
"""

DEADLINE: Final = 30.0
"""Seconds for one call: a person waits, and can press Ctrl-C."""

_LONGEST: Final = 3600.0

_NO_CONNECTION: Final = " (nothing listens there, or its certificate is not trusted)"

_OPTIONS: Final = {
    "client_auth": "--client-auth",
    "client_id": "--client-id",
    "client_secret": "TOKENWARD_CLIENT_SECRET",
    "extra": "--parameter",
}
"""Settings of the library, and what they are called here."""


class Failed(Exception):
    """The command cannot go on. Says why in one line, which holds no secret."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        """The exit status."""
        self.reason = reason


class Parser(argparse.ArgumentParser):
    """A parser that takes no abbreviations, and repeats no value that it does not know.

    What it does not know may be a secret that was meant for an option that is not there.
    """

    def __init__(self, *, prog: str, description: str, epilog: str = EXIT_STATUSES) -> None:
        super().__init__(
            prog=prog,
            description=description,
            epilog=epilog,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    def parse_all(self, argv: Sequence[str] | None) -> argparse.Namespace:
        """Return the options; None takes the arguments of the process."""
        options, unknown = self.parse_known_args(argv)
        if unknown:
            named = " ".join(filter(None, map(_option_in, unknown)))
            self.error(f"unknown: {printable(named)}" if named else "too many arguments")
        return options


def _option_in(word: str) -> str:
    """Return the name of an option, without the value that may be joined to it."""
    if word.startswith("--"):
        return word.partition("=")[0]
    return word[:2] if word.startswith("-") else ""


def report(command: Callable[[], int]) -> int:
    """Run a command, and return the exit status. `Failed` becomes one line on standard error.

    So does `ConfigurationError`, in the words of the command line.
    """
    try:
        return command()
    except Failed as failed:
        status, reason = failed.status, failed.reason
    except ConfigurationError as error:
        status, reason = USAGE, f"{_OPTIONS.get(error.setting, error.setting)}: {error.problem}"
    say(f"error: {reason}")
    return status


def call(command: Callable[[AsyncClient], Awaitable[int]]) -> int:
    """Run what makes calls, with an HTTP client of its own, and return the exit status.

    Nothing in it may wait for the terminal: the first Ctrl-C would only be noted.
    """
    return asyncio.run(_with_client(command))


async def _with_client(command: Callable[[AsyncClient], Awaitable[int]]) -> int:
    http, problem = None, ""
    try:
        http = new_async_client()
    except Exception as error:  # noqa: BLE001 - each library of proxies and TLS has its own
        problem = type(error).__name__
    if http is None:
        wanted = "look at HTTPS_PROXY, ALL_PROXY and SSL_CERT_FILE in the environment"
        raise Failed(USAGE, f"no HTTP client can be made ({problem}); {wanted}")
    async with http:
        return await command(http)


def say(text: str) -> None:
    """Write a line on standard error, so that standard output holds the result alone."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def write(text: str) -> None:
    """Write the result, all of it now: what comes after may be Ctrl-C.

    What the encoding of standard output does not have is written as an escape.
    """
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
    sys.stdout.flush()


def good(response: ProtocolResponse, *, of: str) -> None:
    """Raise `Failed` unless the answer is a good one; `of` says whose it is.

    The message has the provider's words, in one line and without control characters.
    """
    if response.is_error:
        raise Failed(status_of(response), f"{of}: {words_of(response)}")


def status_of(response: ProtocolResponse) -> int:
    """Return the exit status that a bad answer means."""
    status = response.http_status or 0
    nothing_came = isinstance(response.exception, ProviderUnavailable)
    in_trouble = response.error_type == "http" and (status >= 500 or status == 429)
    return UNREACHABLE if nothing_came or in_trouble else REFUSED


def words_of(response: ProtocolResponse) -> str:
    """Say what a bad answer is, as one line."""
    said = printable(response.error or "")
    if response.error_type == "protocol":
        # Both are printable already.
        more = f": {response.error_description}" if response.error_description else ""
        uri = f" ({response.error_uri})" if response.error_uri else ""
        return f"the provider answered {said}{more}{uri}"
    if response.error_type == "http":
        return f"the provider answered HTTP {response.http_status}"
    if response.http_status is None:
        return f"out of reach: {said}{_NO_CONNECTION if said.endswith('ConnectError') else ''}"
    if response.error_type != "policy":
        kind = printable(response.headers.get("content-type", "no content type"))
        return f"the answer (HTTP {response.http_status}, {kind}) cannot be used: {said}"
    return said


def ask_secret(variable: str, *, prompt: str) -> Secret:
    """Take a secret from the environment, or from the terminal without showing it.

    Raises `Failed` if it is in neither: secrets are never read from a pipe, where it
    would not be clear who wrote them, nor from an argument.
    """
    if given := Secret(os.environ.get(variable, "")):
        return given
    reason = f"set {variable}; there is no terminal to ask at"
    with warnings.catch_warnings():
        # Without a terminal getpass would warn, and read what it cannot hide.
        warnings.simplefilter("error", getpass.GetPassWarning)
        try:
            return Secret(getpass.getpass(prompt))
        except EOFError:
            reason = f"nothing was entered; {variable} can be set instead"
        except getpass.GetPassWarning:
            pass
    raise Failed(USAGE, reason)


class RefuseSecret(argparse.Action):
    """An option that is not there, and says what to do instead, without repeating the value."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> NoReturn:
        """See `argparse.Action`."""
        parser.error(
            f"{option_string} is not an option: other users and the shell's history see the "
            f"command line. Set {self.const} in the environment, or type it when asked"
        )


def refuse_secret(parser: argparse.ArgumentParser, *options: str, variable: str) -> None:
    """Answer these options by naming the environment variable that is there for them."""
    parser.add_argument(
        *options,
        action=RefuseSecret,
        nargs="?",
        const=variable,
        dest=argparse.SUPPRESS,
        help=argparse.SUPPRESS,
    )


def add_provider_options(parser: argparse.ArgumentParser) -> None:
    """Add what says which metadata are believed, and how long is waited."""
    add = parser.add_argument
    add(
        "--dangerously-allow-http",
        action="store_true",
        help="take http on this machine (localhost, 127.0.0.1), for development",
    )
    add(
        "--dangerously-allow-issuer",
        metavar="ISSUER",
        help="what the document may say in place of the issuer, as Entra's does for many tenants",
    )
    add(
        "--endpoint-host",
        action="append",
        metavar="HOST",
        help="take endpoints on the issuer's host and on this one only; may be repeated",
    )
    add(
        "--timeout",
        type=seconds,
        default=DEADLINE,
        metavar="SECONDS",
        help="for each call (%(default)g)",
    )


def policy_of(options: argparse.Namespace) -> DiscoveryPolicy:
    """Return the policy that the options of `add_provider_options` describe."""
    hosts = options.endpoint_host
    return DiscoveryPolicy(
        dangerously_allow_http=options.dangerously_allow_http,
        endpoint_hosts=None if hosts is None else frozenset(hosts),
        dangerously_allow_issuer=options.dangerously_allow_issuer,
    )


def check_url(url: str, policy: DiscoveryPolicy) -> None:
    """Raise `Failed` for a URL that nothing may be asked at, with what to do about it."""
    try:
        check_issuer(url, policy)
    except ConfigurationError as error:
        problem = error.problem
    else:
        return
    if "://" not in url:
        problem += "; begin with https://"
    elif url.startswith("http://") and not policy.dangerously_allow_http:
        problem += "; --dangerously-allow-http takes http on this machine"
    raise Failed(USAGE, problem)


def seconds(text: str) -> float:
    """Read a duration, more than 0 and at most an hour."""
    try:
        given = float(text)
    except ValueError:
        given = 0.0
    if not 0 < given <= _LONGEST:
        raise argparse.ArgumentTypeError(f"must be seconds, more than 0 and up to {_LONGEST:g}")
    return given
