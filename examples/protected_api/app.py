"""An API that wants an access token, and asks the provider whether it is good.

It knows nothing of tokenward, of browsers or of sessions.

    uvicorn --app-dir examples protected_api.app:app --port 8002
"""

from __future__ import annotations

import os
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel

from introspection import Introspection, fingerprint

introspection = Introspection(
    issuer=os.environ["OIDC_ISSUER"],
    client_id=os.environ["OIDC_CLIENT_ID"],
    client_secret=os.environ["OIDC_CLIENT_SECRET"],
)

app = FastAPI(title="Invoices")
bearer = HTTPBearer()


class Invoice(BaseModel):
    """One invoice."""

    number: str
    subject: str
    total: float


class Invoices(BaseModel):
    """What the API gives."""

    owner: str
    token_fingerprint: str
    invoices: list[Invoice]


@app.get("/invoices")
async def invoices(
    credentials: Annotated[HTTPAuthorizationCredentials, Depends(bearer)],
) -> Invoices:
    """Return the invoices of whoever the token is about."""
    claims = await introspection.claims(credentials.credentials)
    if claims is None:
        raise HTTPException(401, headers={"WWW-Authenticate": 'Bearer error="invalid_token"'})
    return Invoices(
        owner=str(claims["sub"]),
        token_fingerprint=fingerprint(credentials.credentials),
        invoices=[
            Invoice(number="2026-041", subject="Garden table, oak", total=480.00),
            Invoice(number="2026-057", subject="Two chairs", total=260.00),
        ],
    )
