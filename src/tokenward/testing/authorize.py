"""The authorization endpoint, and the page where users sign in."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .answers import Page, Redirect, Refused
from .ledger import PUSHED, AuthorizationCode, Grant
from .pages import login_page
from .scopes import read_resources, read_scope

if TYPE_CHECKING:
    from .answers import Answer
    from .clients import Client
    from .core import Call, Core
    from .interactions import Interactions
    from .ledger import PushedRequest, SignOn
    from .misbehaviour import Fault
    from .requests import Parameters

CODE_LIFETIME = 60
"""Seconds. RFC 6749, section 4.1.2, allows ten minutes at most."""
PROMPTS = frozenset({"none", "login", "consent", "select_account"})
_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True)
class AuthorizationRequest:
    """What a client asks a user for (OIDC Core, section 3.1.2.1)."""

    client: Client
    redirect_uri: str
    state: str | None = field(repr=False)
    form_post: bool
    scope: frozenset[str]
    resources: tuple[str, ...]
    nonce: str | None = field(repr=False)
    code_challenge: str
    prompt: frozenset[str]
    max_age: int | None
    login_hint: str | None

    @property
    def asks_again(self) -> bool:
        """Whether a session that exists is not enough."""
        return bool(self.prompt & {"login", "select_account"})


@dataclass(frozen=True, slots=True)
class Login:
    """An authorization request that waits for a user name and a password."""

    request: AuthorizationRequest
    faults: tuple[Fault, ...] = ()
    """What was planned for the authorization response, which is still to come."""


def authorize(core: Core, logins: Interactions[Login], call: Call) -> Answer:
    """Send the browser back with a code, or ask the user to sign in."""
    pushed = _find_pushed(core, call.parameters)
    parameters = pushed.parameters if pushed else call.parameters
    client, redirect_uri = read_target(core, parameters)
    # From here on the redirect_uri is known to be the client's, so errors go there.
    state, form_post = _reply_mode(parameters)
    try:
        call.raise_refusal()
        _take_pushed(core, client, call.parameters, pushed)
        request = read_request(client, redirect_uri, parameters)
        return _decide(core, logins, call, request)
    except Refused as refusal:
        refused = refusal
    return _refuse(core, redirect_uri, state, refused, form_post=form_post)


def _find_pushed(core: Core, parameters: Parameters) -> PushedRequest | None:
    """Return the request that was pushed before; None if this one brings its own."""
    request_uri = parameters.one("request_uri")
    if request_uri is None or not request_uri.startswith(PUSHED):
        return None
    client_id = parameters.required("client_id")
    return core.ledger.find_pushed(request_uri, client_id=client_id)


def _take_pushed(
    core: Core, client: Client, parameters: Parameters, pushed: PushedRequest | None
) -> None:
    if pushed:
        core.ledger.spend_pushed(parameters.required("request_uri"))
        # RFC 9101, section 6.3, would have what is repeated here ignored. A client that
        # relies on it is wrong, and should learn it.
        if len(parameters.pairs) > len({"client_id", "request_uri"}):
            raise Refused("invalid_request", "only client_id goes with a pushed request_uri")
    elif client.require_pushed_authorization_requests:
        raise Refused("invalid_request", "the client must push its authorization requests")


def read_target(core: Core, parameters: Parameters) -> tuple[Client, str]:
    """Return client and redirect_uri; wrong ones are never redirected to.

    RFC 6749, section 4.1.2.1.
    """
    for name in ("client_id", "redirect_uri"):
        if len(parameters.all(name)) != 1:
            raise Refused("invalid_request", f"{name} must be given once")
    client = core.clients.get(parameters.required("client_id"))
    if client is None:
        raise Refused("unauthorized_client", "the client is not registered here")
    redirect_uri = parameters.required("redirect_uri")
    if redirect_uri not in client.redirect_uris:
        raise Refused("invalid_request", "the redirect_uri is not registered for the client")
    return client, redirect_uri


def _reply_mode(parameters: Parameters) -> tuple[str | None, bool]:
    states = parameters.all("state")
    state = states[0] if len(states) == 1 else None
    return state, parameters.all("response_mode") == ("form_post",)


def read_request(client: Client, redirect_uri: str, parameters: Parameters) -> AuthorizationRequest:
    """Read what the client asks a user for, or refuse it."""
    parameters.refuse_duplicates()
    _refuse_unsupported(client, parameters)
    state, form_post = _reply_mode(parameters)
    return AuthorizationRequest(
        client=client,
        redirect_uri=redirect_uri,
        state=state,
        form_post=form_post,
        scope=read_scope(client, parameters),
        resources=read_resources(client, parameters),
        nonce=parameters.one("nonce"),
        code_challenge=_read_challenge(parameters),
        prompt=_read_prompt(parameters),
        max_age=_read_max_age(parameters),
        login_hint=parameters.one("login_hint"),
    )


def _refuse_unsupported(client: Client, parameters: Parameters) -> None:
    if parameters.required("response_type") != "code":
        raise Refused("unsupported_response_type", "only code")
    if "authorization_code" not in client.grant_types:
        raise Refused("unauthorized_client", "the client may not use authorization_code")
    if parameters.one("response_mode") not in {None, "query", "form_post"}:
        raise Refused("invalid_request", "response_mode must be query or form_post")
    if parameters.one("request"):
        raise Refused("request_not_supported")
    if parameters.one("request_uri"):
        raise Refused("request_uri_not_supported")


def _read_challenge(parameters: Parameters) -> str:
    challenge = parameters.one("code_challenge")
    if challenge is None:
        raise Refused("invalid_request", "code_challenge is missing: PKCE is required")
    # RFC 7636, section 4.3: without a method it would be `plain`.
    if parameters.one("code_challenge_method") != "S256":
        raise Refused("invalid_request", "code_challenge_method must be S256")
    if not _CHALLENGE.fullmatch(challenge):
        raise Refused("invalid_request", "code_challenge is not a SHA-256 in base64url")
    return challenge


def _read_prompt(parameters: Parameters) -> frozenset[str]:
    prompt = frozenset((parameters.one("prompt") or "").split())
    if prompt - PROMPTS or ("none" in prompt and len(prompt) > 1):
        raise Refused("invalid_request", "prompt is not understood")
    return prompt


def _read_max_age(parameters: Parameters) -> int | None:
    max_age = parameters.one("max_age")
    if max_age is None:
        return None
    if not (max_age.isascii() and max_age.isdigit() and len(max_age) < 12):
        raise Refused("invalid_request", "max_age is a number of seconds")
    return int(max_age)


# --- who is it


def _decide(
    core: Core, logins: Interactions[Login], call: Call, request: AuthorizationRequest
) -> Answer:
    session = core.sign_on(call.request)
    if session and _is_enough(core, request, session):
        return _grant(core, call, request, session)
    if "none" in request.prompt:
        raise Refused("login_required", "nobody is signed in")
    user = core.user_without_page(call.request, login_hint=request.login_hint)
    if user is None:
        return _ask(core, logins, Login(request, call.faults))
    session, cookie = core.start_sign_on(user)
    return _grant(core, call, request, session, cookie)


def _is_enough(core: Core, request: AuthorizationRequest, session: SignOn) -> bool:
    too_old = request.max_age is not None and core.now - session.auth_time > request.max_age
    someone_else = (
        core.follow_login_hint and request.login_hint not in {None, session.sub}
    ) or session.sub not in core.users
    return not (request.asks_again or too_old or someone_else)


def _ask(
    core: Core, logins: Interactions[Login], login: Login, *, error: str = "", status: int = 200
) -> Page:
    request = login.request
    html = login_page(
        action=core.url("/login"),
        interaction=logins.open(login, name=core.ledger.new_token()),
        client_id=request.client.client_id,
        hint=request.login_hint or "",
        error=error,
    )
    return Page(html, status, outcome="access_denied" if error else "login_page")


def login(core: Core, logins: Interactions[Login], call: Call) -> Answer:
    """Take user name and password, and answer the authorization request they belong to."""
    call.raise_refusal()
    call.parameters.refuse_duplicates()
    waiting = logins.close(call.parameters.one("interaction"))
    request = waiting.request
    if call.parameters.one("action") == "cancel":
        call.faults += waiting.faults
        refusal = Refused("access_denied", "the user cancelled")
        mode = request.form_post
        return _refuse(core, request.redirect_uri, request.state, refusal, form_post=mode)
    user = core.check_password(call.parameters)
    if user is None:
        return _ask(core, logins, waiting, error="Unknown user or password.", status=401)
    call.faults += waiting.faults
    session, cookie = core.start_sign_on(user)
    return _grant(core, call, request, session, cookie)


# --- the answer


def _grant(
    core: Core,
    call: Call,
    request: AuthorizationRequest,
    session: SignOn,
    *cookies: tuple[str, str],
) -> Redirect:
    call.sub = session.sub
    grant = Grant(
        client_id=request.client.client_id,
        sub=None,
        scope=request.scope,
        resources=request.resources,
        nonce=request.nonce,
    ).given_by(session)
    expires_at = core.ledger.clock() + CODE_LIFETIME
    code = core.ledger.add_code(
        AuthorizationCode(grant, request.redirect_uri, request.code_challenge, expires_at)
    )
    parameters = _response(core, request.state, {"code": code})
    return Redirect(request.redirect_uri, parameters, request.form_post, cookies)


def _refuse(
    core: Core, redirect_uri: str, state: str | None, refusal: Refused, *, form_post: bool
) -> Redirect:
    parameters = _response(core, state, refusal.members)
    return Redirect(redirect_uri, parameters, form_post, outcome=refusal.error)


def _response(core: Core, state: str | None, parameters: dict[str, str]) -> dict[str, str]:
    """Add `state`, and `iss`, which RFC 9207 wants in errors as well."""
    return {**parameters, **({"state": state} if state else {}), "iss": core.issuer}
