"""`python -m tokenward`: what operators and developers need from the shell."""

from __future__ import annotations

import argparse
import os
import secrets
import sys
from importlib.metadata import version
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_SECRET_BYTES: Final = 48
_INTERRUPTED: Final = 130
_READER_GONE: Final = 141
"""As shells number what a signal ends: 128 and SIGINT, or SIGPIPE."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command, and return the exit status. `argv`: None takes those of the process.

    Ctrl-C ends it with 130, and a reader that goes away (`| head`) with 141, quietly.
    """
    arguments = sys.argv[1:] if argv is None else argv
    try:
        return _run(arguments)
    except KeyboardInterrupt:
        sys.stderr.write("\ninterrupted\n")
    except BrokenPipeError:
        # Or Python would complain once more when it flushes at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _READER_GONE
    return _INTERRUPTED


def _run(arguments: Sequence[str]) -> int:
    parser = _parser()
    if not arguments:
        parser.print_help(sys.stderr)
        return 2
    if arguments[0] == "help":
        parser.print_help()
        return 0
    options = parser.parse_args(arguments)
    command: Callable[[Sequence[str]], int] = _COMMANDS[options.command][1]
    return command(options.arguments)


def _parser() -> argparse.ArgumentParser:
    listed = "\n".join(f"  {name:<10}{text}" for name, (text, _) in _COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="python -m tokenward",
        usage="%(prog)s COMMAND [OPTIONS]",
        description=f"OpenID Connect login and access tokens, from the shell.\n\n{listed}",
        epilog="`python -m tokenward COMMAND --help` says more about one of them.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"tokenward {version('tokenward')}")
    parser.add_argument("command", choices=_COMMANDS, help=argparse.SUPPRESS)
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return parser


def _secret(argv: Sequence[str]) -> int:
    argparse.ArgumentParser(
        prog="python -m tokenward secret",
        description="Print a new secret_key: 48 random bytes, as text.",
    ).parse_args(argv)
    sys.stdout.write(f"{secrets.token_urlsafe(_SECRET_BYTES)}\n")
    return 0


def _discover(argv: Sequence[str]) -> int:
    from .commands.discover import discover_cli

    return discover_cli(argv)


def _token(argv: Sequence[str]) -> int:
    from .commands.token import token_cli

    return token_cli(argv)


def _provider(argv: Sequence[str]) -> int:
    try:
        from .testing.cli import provider_cli
    except ImportError as error:
        missing = error.name or "uvicorn"
    else:
        return provider_cli(argv)
    sys.stderr.write(f"{missing} is not installed: pip install 'tokenward[provider]'\n")
    return 1


_COMMANDS: Final[Mapping[str, tuple[str, Callable[[Sequence[str]], int]]]] = {
    "discover": ("print what a provider supports, and what our policy says of it", _discover),
    "token": ("request an access token", _token),
    "secret": ("print a new secret_key", _secret),
    "provider": ("run an OpenID Provider for development", _provider),
}


if __name__ == "__main__":
    sys.exit(main())
