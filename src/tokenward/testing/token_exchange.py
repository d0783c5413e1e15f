"""Tokens for other tokens (RFC 8693)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from .answers import Refused
from .ledger import Family, Grant, SignOn
from .scopes import own_scope, read_resources, refuse_foreign_target, split_scope
from .token_answers import access_token

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .clients import JSON, Client
    from .core import Call, Core
    from .requests import Parameters

_URN: Final = "urn:ietf:params:oauth:token-type:"
ACCESS_TOKEN: Final = f"{_URN}access_token"
ID_TOKEN: Final = f"{_URN}id_token"
JWT: Final = f"{_URN}jwt"


@dataclass(frozen=True, slots=True)
class Party:
    """Whom a token is about: the subject, or the one who acts."""

    grant: Grant
    """With the party's `sub`, a user's or a client's."""
    family: Family | None
    """The login that its token ends with."""
    scope_known: bool
    """False: it came with an id_token, which tells no scope."""


def exchange(core: Core, call: Call, client: Client) -> dict[str, JSON]:
    """Give the client a token for somebody else's, or its own (section 2).

    The new token ends with the login that the subject token came from. There is
    never a refresh token.
    """
    if client.is_public:
        raise Refused("unauthorized_client", "a public client cannot exchange tokens")
    parameters = call.parameters
    subject, actor = _read_parties(core, client, parameters)
    audience = (*read_resources(client, parameters), *_read_audience(client, parameters))
    scope = _read_scope(client, subject, parameters)
    grant = replace(
        subject.grant,
        client_id=client.client_id,
        scope=scope,
        resources=audience,
        nonce=None,
        act=_chain(subject.grant, actor.grant if actor else None),
    )
    call.sub = grant.sub
    match parameters.one("requested_token_type"):
        case None | "urn:ietf:params:oauth:token-type:access_token":
            answer = access_token(core, client, grant, subject.family)
            return {**answer, "issued_token_type": ACCESS_TOKEN}
        case "urn:ietf:params:oauth:token-type:jwt":
            as_jwt = replace(client, access_token_type="jwt")  # noqa: S106 - a kind of token
            answer = access_token(core, as_jwt, grant, subject.family)
            return {**answer, "issued_token_type": JWT}
        case "urn:ietf:params:oauth:token-type:id_token":
            return _id_token(core, call, client, grant)
        case _:
            raise Refused("invalid_request", "requested_token_type is not supported")


def _id_token(core: Core, call: Call, client: Client, grant: Grant) -> dict[str, JSON]:
    if grant.sub not in core.users:
        raise Refused("invalid_request", "the subject is no user, so there is no id_token")
    return {
        "access_token": core.issue_id_token(client, grant, None, call.faults),
        "issued_token_type": ID_TOKEN,
        # Section 2.2.1: "if the token is not an access token ... N_A".
        "token_type": "N_A",
        "expires_in": client.id_token_lifetime,
    }


# --- who


def _read_parties(core: Core, client: Client, parameters: Parameters) -> tuple[Party, Party | None]:
    subject = _read_party(core, client, parameters, "subject")
    if subject is None:
        raise Refused("invalid_request", "subject_token is missing")
    return subject, _read_party(core, client, parameters, "actor")


def _read_party(core: Core, client: Client, parameters: Parameters, role: str) -> Party | None:
    token = parameters.one(f"{role}_token")
    token_type = parameters.one(f"{role}_token_type")
    if token is None and token_type is None:
        return None
    if token is None or token_type is None:
        raise Refused("invalid_request", f"{role}_token and its type go together")
    if token_type not in {ACCESS_TOKEN, ID_TOKEN, JWT}:
        raise Refused("invalid_request", f"{role}_token_type is not supported")
    known = _read_id_token if token_type == ID_TOKEN else _read_access_token
    party = known(core, client, token)
    if party is None or (token_type == JWT and token.count(".") != len("..")):
        # Section 2.2.2: "invalid_request" for whatever is wrong with either token.
        raise Refused("invalid_request", f"{role}_token is not good")
    return party


def _read_access_token(core: Core, client: Client, value: str) -> Party | None:
    """Anybody's will do: an API exchanges those that it is called with."""
    del client
    token = core.ledger.live_access_token(value)
    if token is None:
        return None
    family = core.ledger.families[token.family_id] if token.family_id else None
    sub = token.grant.sub or token.grant.client_id
    return Party(replace(token.grant, sub=sub), family, scope_known=True)


def _read_id_token(core: Core, client: Client, value: str) -> Party | None:
    """Only the client's own, and no longer than it says."""
    claims = core.read_id_token(value)
    if claims is None or claims["aud"] != client.client_id:
        return None
    exp, auth_time = claims.get("exp"), claims.get("auth_time")
    if not isinstance(exp, int) or core.ledger.clock() >= exp or not isinstance(auth_time, int):
        return None
    session = SignOn(str(claims["sub"]), str(claims.get("sid")), auth_time)
    grant = Grant(client.client_id, None, frozenset()).given_by(session)
    return Party(grant, None, scope_known=False)


def _chain(subject: Grant, actor: Grant | None) -> Mapping[str, JSON] | None:
    """Section 4.1: who acts now is outermost, who acted before is nested inside."""
    if actor is None:
        return subject.act
    return {"sub": actor.sub, **({"act": subject.act} if subject.act else {})}


# --- what for


def _read_audience(client: Client, parameters: Parameters) -> tuple[str, ...]:
    audience = parameters.all("audience")
    for name in audience:
        refuse_foreign_target(client, name)
    return audience


def _read_scope(client: Client, subject: Party, parameters: Parameters) -> frozenset[str]:
    """What the client may have; without a word, what the subject's token had of it."""
    allowed = frozenset(client.scopes) - {"offline_access"}
    default = subject.grant.scope & allowed if subject.scope_known else own_scope(client)
    scope = split_scope(parameters.one("scope")) or default
    if not scope or scope - allowed:
        raise Refused("invalid_scope", "the client may not have this scope")
    return scope
