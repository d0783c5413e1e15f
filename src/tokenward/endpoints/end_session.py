"""The end of the provider's session, where no browser can be sent (RP-Initiated Logout 1.0)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..protocol.form import completed, told
from ..protocol.responses import EndSessionResponse
from .call import DEADLINE, Call, endpoint, form_request, optional_secret

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..protocol.client_auth import ClientAuth
    from ..secret import Secret


@endpoint
def end_session(
    address: str,
    *,
    client_id: str,
    client_secret: Secret | str | None = None,
    client_auth: ClientAuth | None = None,
    id_token_hint: Secret | str | None = None,
    logout_hint: str | None = None,
    post_logout_redirect_uri: str | None = None,
    state: Secret | str | None = None,
    ui_locales: str | None = None,
    extra: Mapping[str, str | Secret] | None = None,
    deadline: float = DEADLINE,
) -> Call[EndSessionResponse]:
    """Ask the provider to end the user's session, by a POST of our own (section 2).

        response = await end_session(http, address, client_id="app", id_token_hint=id_token)

    For tools and tests that have no browser. In a web app send the browser instead, by
    `protocol.logout.end_session_url`: the provider's cookie is there, and most providers
    end nothing without it, or ask the user first. A redirect is a good answer and is
    not followed; `response.location` shows where it leads. Some providers want
    `extra={"refresh_token": ...}` and the client's proof.
    """
    form = told(
        {
            "id_token_hint": optional_secret(id_token_hint, argument="id_token_hint"),
            "logout_hint": logout_hint,
            "post_logout_redirect_uri": post_logout_redirect_uri,
            "state": optional_secret(state, argument="state"),
            "ui_locales": ui_locales,
        }
    )
    request = form_request(
        address,
        completed(form, extra=extra),
        client_id=client_id,
        client_secret=client_secret,
        client_auth=client_auth,
    )
    return Call(request, EndSessionResponse, deadline)
