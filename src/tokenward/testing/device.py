"""The device authorization endpoint, and the page where users enter the code (RFC 8628)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

from .answers import Document, Page, Refused
from .clients import DEVICE_CODE
from .decisions import Question
from .ledger import Grant
from .pages import device_page, message_page
from .scopes import read_resources, read_scope_or_default

if TYPE_CHECKING:
    from .answers import Answer, Headers
    from .core import Call, Core
    from .interactions import Interactions

_LETTERS: Final = "BCDFGHJKLMNPQRSTVWXZ"
"""Section 6.1: no vowels, so that no words come out."""
_CODE_LENGTH: Final = 8


@dataclass(frozen=True, slots=True)
class _Problem:
    """Why the page is shown again."""

    text: str
    status: int
    outcome: str


_UNKNOWN_CODE: Final = _Problem("Unknown code, or too late.", 400, "unknown_user_code")
_WRONG_PASSWORD: Final = _Problem("Unknown user or password.", 401, "access_denied")


def device_authorization(core: Core, call: Call) -> Document:
    """Give a device a code to show, and one to poll with (section 3.2)."""
    client = core.authenticate(call)
    if DEVICE_CODE not in client.grant_types:
        raise Refused("unauthorized_client", "the client may not use this grant")
    scope = read_scope_or_default(client, call.parameters)
    resources = read_resources(client, call.parameters)
    grant = Grant(client.client_id, None, scope, resources)
    user_code, device_code = _new_user_code(core), core.ledger.new_token()
    lifetime = client.device_code_lifetime
    expires_at = core.ledger.clock() + lifetime
    question = Question(grant, user_code, expires_at, client.polling_interval)
    core.device_codes.ask(device_code, question)
    address = core.url("/device")
    shown = f"{user_code[:4]}-{user_code[4:]}"
    return Document(
        {
            "device_code": device_code,
            "user_code": shown,
            "verification_uri": address,
            "verification_uri_complete": f"{address}?{urlencode({'user_code': shown})}",
            "expires_in": lifetime,
            "interval": client.polling_interval,
        }
    )


def _new_user_code(core: Core) -> str:
    """Make a code that is free; randomness comes from where all of it comes from."""
    while True:
        digest = hashlib.sha256(core.ledger.new_token().encode()).digest()
        number = int.from_bytes(digest)
        letters = (_LETTERS[number // 20**place % 20] for place in range(_CODE_LENGTH))
        code = "".join(letters)
        if not core.device_codes.waiting(code):
            return code


def normalize(user_code: str) -> str:
    """Return the code as it is kept: case and punctuation do not count (section 6.1)."""
    return "".join(letter for letter in user_code.upper() if letter in _LETTERS)


# --- the page


def device(core: Core, pages: Interactions[None], call: Call) -> Answer:
    """Ask the user for the code and a decision, and take the answer (section 3.3)."""
    call.raise_refusal()
    call.parameters.refuse_duplicates()
    if call.request.method != "POST":
        return _ask(core, pages, call)
    pages.close(call.parameters.one("interaction"))
    user_code = normalize(call.parameters.one("user_code") or "")
    if not core.device_codes.waiting(user_code):
        return _ask(core, pages, call, problem=_UNKNOWN_CODE)
    if call.parameters.one("action") == "deny":
        core.device_codes.deny(user_code)
        message = message_page("Denied", "The device gets no access.")
        return Page(message, outcome="access_denied")
    return _allow(core, pages, call, user_code)


def _ask(
    core: Core,
    pages: Interactions[None],
    call: Call,
    *,
    problem: _Problem | None = None,
) -> Page:
    signed_in = core.sign_on(call.request) or core.user_without_page(call.request)
    html = device_page(
        action=core.url("/device"),
        interaction=pages.open(None, name=core.ledger.new_token()),
        user_code=call.parameters.one("user_code") or "",
        password_needed=not signed_in,
        error=problem.text if problem else "",
    )
    if problem is None:
        return Page(html, outcome="device_page")
    return Page(html, problem.status, outcome=problem.outcome)


def _allow(core: Core, pages: Interactions[None], call: Call, user_code: str) -> Page:
    headers: Headers = ()
    session = core.sign_on(call.request)
    if session is None:
        user = core.user_without_page(call.request) or core.check_password(call.parameters)
        if user is None:
            return _ask(core, pages, call, problem=_WRONG_PASSWORD)
        session, cookie = core.start_sign_on(user)
        headers = (cookie,)
    core.device_codes.approve(user_code, session)
    call.sub = session.sub
    message = message_page("Allowed", "You can close this page and go back to the device.")
    return Page(message, headers=headers)
