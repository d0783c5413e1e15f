"""How the findings about a provider are written: for people, and for programs."""

from __future__ import annotations

import json
import textwrap
from typing import TYPE_CHECKING, Final

from ..protocol.json import excerpt
from ..protocol.responses import printable
from .findings import addresses

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..protocol.json import JSON, JSONObject
    from .findings import Findings, Keys, Problem

_WIDTH: Final = 100
_LABEL: Final = 30
_MOST_ITEMS: Final = 60

_NOT_TOLD: Final = "not told"
_SUPPORT: Final = (
    # Label, member, and what it means that it is not there (Discovery, section 3; RFC 8414)
    ("grants", "grant_types_supported", "not told: authorization_code, implicit"),
    ("response types", "response_types_supported", _NOT_TOLD),
    ("response modes", "response_modes_supported", "not told: query, fragment"),
    (
        "client authentication",
        "token_endpoint_auth_methods_supported",
        "not told: client_secret_basic",
    ),
    ("  signed by", "token_endpoint_auth_signing_alg_values_supported", _NOT_TOLD),
    ("id_token signed by", "id_token_signing_alg_values_supported", _NOT_TOLD),
    ("DPoP signed by", "dpop_signing_alg_values_supported", "no"),
    ("PKCE", "code_challenge_methods_supported", _NOT_TOLD),
    ("PAR required", "require_pushed_authorization_requests", "no"),
    ("iss in the callback", "authorization_response_iss_parameter_supported", "no"),
    ("back-channel logout", "backchannel_logout_supported", "no"),
    ("front-channel logout", "frontchannel_logout_supported", "no"),
    ("scopes", "scopes_supported", _NOT_TOLD),
)


def as_text(findings: Findings) -> str:
    """Write the findings for people. What the provider says is shown in visible characters."""
    lines = [f"issuer  {printable(findings.issuer)}", "", "endpoints"]
    for member, url in addresses(findings.document):
        lines += _line(printable(member.removesuffix("_endpoint")), _shown(url))
    lines += ["", "support"]
    for label, member, absent in _SUPPORT:
        value = findings.document.get(member)
        lines += _line(label, absent if value is None else _shown(value))
    lines += ["", "keys", *_key_lines(findings.keys), "", "policy"]
    for problem in findings.problems:
        lines += _problem_lines(problem)
    if not findings.problems:
        lines += _line("accepted", "no rule is broken")
    for note in findings.notes:
        lines += _line("note", printable(note))
    return "\n".join([*lines, ""])


def as_json(findings: Findings) -> str:
    """Write the findings for programs, as one JSON object."""
    keys = findings.keys
    written: JSONObject = {
        "issuer": findings.issuer,
        "accepted": not findings.problems,
        "problems": [
            {
                "member": problem.member,
                "problem": problem.problem,
                "accepted_by": list(problem.accepted_by),
            }
            for problem in findings.problems
        ],
        "notes": list(findings.notes),
        "keys": None if keys is None else _keys(keys),
        "document": findings.document,
    }
    return f"{json.dumps(written, indent=2)}\n"


def _keys(keys: Keys) -> JSONObject:
    return {
        "usable": [
            {"kid": key.kid, "algorithms": [*sorted(key.algorithms)]} for key in keys.usable
        ],
        "ignored": [{"kid": key.kid, "reason": key.reason} for key in keys.ignored],
    }


def _key_lines(keys: Keys | None) -> Iterator[str]:
    if keys is None:
        yield from _line("not read", "see below")
        return
    for key in keys.usable:
        yield from _line(_name(key.kid), ", ".join(sorted(key.algorithms)))
    for ignored in keys.ignored:
        yield from _line(_name(ignored.kid), f"ignored: {printable(ignored.reason)}")
    if not keys.usable and not keys.ignored:
        yield from _line("none", "the set is empty")


def _name(kid: str | None) -> str:
    return "(no kid)" if kid is None else printable(kid)


def _problem_lines(problem: Problem) -> Iterator[str]:
    yield from _line("refused", printable(f"{problem.member}: {problem.problem}"))
    for accepting in problem.accepted_by:
        yield from _line("", printable(f"accepted by {accepting}"))


def _line(label: str, text: str) -> list[str]:
    start = f"  {label:<{_LABEL}}"
    if len(label) >= _LABEL:
        start = f"{start} "
    # An address stays in one piece, so that it can be copied.
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=start,
        subsequent_indent=" " * (_LABEL + 2),
        break_long_words=False,
        break_on_hyphens=False,
    ) or [start.rstrip()]


def _shown(value: JSON) -> str:
    if value is True:
        return "yes"
    if value is False:
        return "no"
    if isinstance(value, str):
        return printable(value)
    if not isinstance(value, list):
        return excerpt(value)
    items = [printable(item) if isinstance(item, str) else excerpt(item) for item in value]
    more = f" and {len(items) - _MOST_ITEMS} more" if len(items) > _MOST_ITEMS else ""
    return (", ".join(items[:_MOST_ITEMS]) or "none") + more
