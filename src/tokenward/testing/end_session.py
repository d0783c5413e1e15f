"""The end-session endpoint (OpenID Connect RP-Initiated Logout 1.0)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .answers import Page, Redirect, Refused
from .pages import message_page, sign_out_page

if TYPE_CHECKING:
    from .answers import Answer
    from .clients import Client
    from .core import Call, Core
    from .interactions import Interactions
    from .requests import Parameters


@dataclass(frozen=True, slots=True)
class Logout:
    """A logout that a client asks for."""

    address: str | None
    """Where the browser goes afterwards; None: nowhere."""
    state: str | None = field(repr=False)
    sub: str | None
    """Whose id_token came with it; None: nothing proves that the user wants it."""


def end_session(core: Core, logouts: Interactions[Logout], call: Call) -> Answer:
    """Sign the browser out at the provider, and send it back to the client.

    Refresh tokens stay good: those with `offline_access` outlive the browser, and a
    client that wants them gone revokes them.
    """
    call.raise_refusal()
    call.parameters.refuse_duplicates()
    if name := call.parameters.one("interaction"):
        return _finish(core, call, logouts.close(name))
    logout = _read(core, call.parameters)
    session = core.sign_on(call.request)
    certain = session is None or logout.sub == session.sub or core.automatic_user is not None
    if certain:
        return _finish(core, call, logout)
    # Section 2: without a hint that fits, "the OP SHOULD ask the End-User".
    html = sign_out_page(
        action=core.url("/logout"), interaction=logouts.open(logout, name=core.ledger.new_token())
    )
    return Page(html, outcome="logout_page")


def _read(core: Core, parameters: Parameters) -> Logout:
    sub, client = _who(core, parameters)
    address = parameters.one("post_logout_redirect_uri")
    known = client.post_logout_redirect_uris if client else ()
    if address is not None and address not in known:
        raise Refused("invalid_request", "post_logout_redirect_uri is not registered")
    return Logout(address, parameters.one("state"), sub)


def _who(core: Core, parameters: Parameters) -> tuple[str | None, Client | None]:
    """Return the user of the hint, and the client. An expired id_token is a good hint."""
    client_id = parameters.one("client_id")
    hint = parameters.one("id_token_hint")
    if hint is None:
        return None, core.clients.get(client_id or "")
    claims = core.read_id_token(hint)
    if claims is None:
        raise Refused("invalid_request", "id_token_hint is not an id_token of this provider")
    if client_id not in {None, claims["aud"]}:
        raise Refused("invalid_request", "client_id and id_token_hint name different clients")
    return str(claims["sub"]), core.clients.get(str(claims["aud"]))


def _finish(core: Core, call: Call, logout: Logout) -> Answer:
    session = core.sign_on(call.request)
    call.sub = session.sub if session else logout.sub
    headers = (core.end_sign_on(call.request),)
    if logout.address is None:
        return Page(message_page("Signed out", "You can close this page."), headers=headers)
    state = {"state": logout.state} if logout.state else {}
    return Redirect(logout.address, state, headers=headers)
