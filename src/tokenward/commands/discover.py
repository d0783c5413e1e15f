"""`python -m tokenward discover URL`: what a provider supports, and what our policy says of it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from ..endpoints import get_discovery_document, get_json_web_key_set
from ..protocol.responses import printable
from .console import (
    EXIT_STATUSES,
    GOOD,
    REFUSED,
    Parser,
    add_provider_options,
    call,
    check_url,
    good,
    policy_of,
    report,
    say,
    status_of,
    words_of,
    write,
)
from .findings import Problem, judge_document, judge_key_set
from .report import as_json, as_text

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from ..transport import AsyncClient
    from .findings import Findings

_EXAMPLES: Final = """\
examples:
  python -m tokenward discover https://accounts.google.com
  python -m tokenward discover https://op.example/.well-known/openid-configuration --json
  python -m tokenward discover http://localhost:8400 --dangerously-allow-http

"""

_OPENID: Final = "/.well-known/openid-configuration"
# RFC 8414, section 3.1: between the host and the path of the issuer
_INSERTED: Final = re.compile(
    r"(https?://[^/?#]+)/\.well-known/(?:openid-configuration|oauth-authorization-server)(/.*)?"
)


def discover_cli(argv: Sequence[str] | None = None) -> int:
    """Run the command, and return the exit status. `argv`: None takes those of the process."""
    options = _parser().parse_all(argv)
    return report(lambda: call(lambda http: _discover(http, options)))


def read_url(url: str) -> tuple[str, str | None]:
    """Return the issuer that a URL means, and the document's address if the URL is it.

    The URL is an issuer, or the well-known address below one (OpenID Connect Discovery
    1.0, section 4; RFC 8414, section 3).
    """
    path = url.partition("?")[0]
    if found := _INSERTED.fullmatch(path):
        return found[1] + (found[2] or ""), url
    if path.endswith(_OPENID):
        return path.removesuffix(_OPENID), url
    return url, None


async def _discover(http: AsyncClient, options: argparse.Namespace) -> int:
    policy = policy_of(options)
    issuer, address = read_url(options.url)
    check_url(issuer, policy)
    response = await get_discovery_document(
        http, issuer, address=address, policy=policy, deadline=options.timeout
    )
    if response.json is None or response.error_type not in ("none", "policy"):
        good(response, of=address or f"{issuer.removesuffix('/')}{_OPENID}")
    document = response.json or {}
    if address is not None and document.get("issuer") == f"{issuer}/":
        issuer = f"{issuer}/"  # both have their document there
    findings = judge_document(document, issuer=issuer, policy=policy)
    status, findings = await _with_keys(http, findings, options)
    write(as_json(findings) if options.json else as_text(findings))
    if status != GOOD:
        broken = ", ".join(problem.member for problem in findings.problems)
        say(f"error: not accepted, because of {printable(broken)}")
    return status


async def _with_keys(
    http: AsyncClient, findings: Findings, options: argparse.Namespace
) -> tuple[int, Findings]:
    """Add the key set, if its address is one that may be asked."""
    address = findings.document.get("jwks_uri")
    broken = {problem.member for problem in findings.problems}
    if not isinstance(address, str) or "jwks_uri" in broken:
        return REFUSED, findings
    response = await get_json_web_key_set(http, address, deadline=options.timeout)
    if response.is_error:
        unread = Problem("jwks_uri", words_of(response))
        return status_of(response), findings.with_keys(None, unread)
    findings = findings.with_keys(judge_key_set(response.json or {}))
    return REFUSED if findings.problems else GOOD, findings


def _parser() -> Parser:
    parser = Parser(
        prog="python -m tokenward discover",
        description="Print what a provider supports, and what the policy of tokenward says of it.",
        epilog=_EXAMPLES + EXIT_STATUSES,
    )
    add = parser.add_argument
    add("url", metavar="URL", help="the issuer, or the address of its discovery document")
    add("--json", action="store_true", help="print JSON, with the whole document in it")
    add_provider_options(parser)
    return parser
