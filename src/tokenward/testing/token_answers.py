"""What the token endpoint answers when it says yes (RFC 6749, section 5.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .clients import JSON, Client
    from .core import Call, Core
    from .ledger import Family, Grant


def access_token(
    core: Core, client: Client, grant: Grant, family: Family | None, *, audience: Sequence[str] = ()
) -> dict[str, JSON]:
    """Answer with an access token alone, for `audience`, or for the resources of the grant."""
    value = core.issue_access_token(client, grant, audience or grant.resources, family)
    return {
        "access_token": value,
        "token_type": "Bearer",
        "expires_in": client.access_token_lifetime,
        "scope": " ".join(sorted(grant.scope)),
    }


def first_tokens(
    core: Core,
    call: Call,
    client: Client,
    grant: Grant,
    *,
    code: str | None = None,
    resources: Sequence[str] = (),
) -> dict[str, JSON]:
    """Answer with all that a user's grant brings, and begin its family.

    `code` is what it was redeemed with; None: nothing that could be used again.
    `resources` are those of this access token, if they are fewer than granted.
    """
    call.sub = grant.sub
    offline = "offline_access" in grant.scope and "refresh_token" in client.grant_types
    expires_at = core.ledger.clock() + client.refresh_token_lifetime
    family = core.ledger.open_family(grant, code=code, expires_at=expires_at, offline=offline)
    answer = access_token(core, client, grant, family, audience=resources)
    if offline:
        answer["refresh_token"] = core.ledger.add_refresh_token(family)
    return with_id_token(core, call, client, grant, answer)


def with_id_token(
    core: Core, call: Call, client: Client, grant: Grant, answer: dict[str, JSON]
) -> dict[str, JSON]:
    """Add an id_token, if the grant has `openid`."""
    if "openid" not in grant.scope:
        return answer
    access_token = str(answer["access_token"])
    id_token = core.issue_id_token(client, grant, access_token, call.faults)
    return {**answer, "id_token": id_token}
