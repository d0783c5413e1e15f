"""What every endpoint of the provider works with, and the tokens it makes."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from .answers import Page, Refused
from .client_authentication import authenticate_client, claimed_client_id
from .clients import USUAL_GRANTS
from .decisions import Decisions
from .jws import base64url
from .keys import Draft, SigningKeys
from .ledger import IssuedToken, SignOn
from .pages import message_page
from .requests import Endpoint, Parameters, RequestRecord

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from starlette.requests import Request

    from .clients import JSON, Client, User
    from .ledger import Family, Grant, Ledger
    from .misbehaviour import Fault
    from .registration import Registration

PERSON_EXTENSION = "tokenward.testing.person"
"""ASGI extension of `login_as`: somebody is there who fills in the page."""
_HASHES = {"RS256": hashlib.sha256, "PS256": hashlib.sha256, "ES256": hashlib.sha256}


@dataclass(slots=True)
class Call:
    """One request on its way through the provider."""

    endpoint: Endpoint
    request: Request
    parameters: Parameters = field(default_factory=Parameters)
    document: Mapping[str, JSON] = field(default_factory=dict, repr=False)
    """The JSON object of the body, at endpoints that take one."""
    faults: tuple[Fault, ...] = ()
    refusal: Refused | None = None
    """Why it is refused whatever it asks; raised by the endpoint, in its own way."""
    sub: str | None = None
    outcome: str = "cancelled"
    answered: bool = False

    def raise_refusal(self) -> None:
        """Refuse, if that was decided before the endpoint was reached."""
        if self.refusal:
            raise self.refusal

    def record(self) -> RequestRecord:
        """Return what is known of it so far."""
        return RequestRecord(
            endpoint=self.endpoint,
            method=self.request.method,
            client_id=claimed_client_id(self.request, self.parameters),
            grant_type=self.parameters.one("grant_type"),
            parameters=self.parameters.masked(),
            sub=self.sub,
            outcome=self.outcome,
            answered=self.answered,
        )


@dataclass(slots=True)
class Core:
    """Configuration, keys and ledger of one provider."""

    issuer: str
    clients: dict[str, Client]
    users: dict[str, User]
    keys: SigningKeys
    ledger: Ledger
    automatic_user: str | None = None
    """Who signs in without a page; None shows the page."""
    follow_login_hint: bool = False
    """Whether `login_hint` signs in whom it names."""
    registration: Registration | None = None
    """Who may register clients; None: nobody."""
    trusted_issuers: dict[str, Mapping[str, JSON]] = field(default_factory=dict)
    """Key sets of those whose assertions about users are believed (RFC 7523)."""
    device_codes: Decisions = field(init=False)
    backchannel_requests: Decisions = field(init=False)

    def __post_init__(self) -> None:
        self.device_codes = Decisions(self.ledger.clock)
        self.backchannel_requests = Decisions(self.ledger.clock)

    @property
    def now(self) -> int:
        """Whole seconds since the epoch."""
        return int(self.ledger.clock())

    @property
    def path(self) -> str:
        """The path of the issuer, without a slash at its end."""
        return urlsplit(self.issuer).path.rstrip("/")

    def url(self, path: str) -> str:
        """Return the address of an endpoint."""
        return self.issuer.rstrip("/") + path

    @property
    def grant_types(self) -> frozenset[str]:
        """What clients may ask of the token endpoint: the usual, and what one of them lists."""
        listed = {grant for client in self.clients.values() for grant in client.grant_types}
        return frozenset(USUAL_GRANTS) | listed

    def authenticate(self, call: Call) -> Client:
        """Return the client that sent the request, or refuse."""
        call.raise_refusal()
        call.parameters.refuse_duplicates()
        return authenticate_client(self, call.request, call.parameters)

    def check_password(self, parameters: Parameters) -> User | None:
        """Return the user whose name and password these are, or None."""
        user = self.users.get(parameters.one("username") or "")
        given = parameters.one("password") or ""
        fits = user and hmac.compare_digest(given.encode(), user.password.encode())
        return user if fits else None

    # --- the browser's session with the provider

    @property
    def cookie_name(self) -> str:
        """Name of the session cookie; browsers share cookies between ports, so it has one."""
        port = urlsplit(self.issuer).port
        return f"provider_session_{port}" if port else "provider_session"

    def sign_on(self, request: Request) -> SignOn | None:
        """Return who is signed in in this browser, or None."""
        return self.ledger.sign_ons.get(request.cookies.get(self.cookie_name, ""))

    def user_without_page(self, request: Request, *, login_hint: str | None = None) -> User | None:
        """Return who signs in without being asked for a password, or None."""
        if PERSON_EXTENSION in request.scope.get("extensions", {}):
            return None
        hinted = login_hint if self.follow_login_hint else None
        return self.users.get(hinted or self.automatic_user or "")

    def start_sign_on(self, user: User) -> tuple[SignOn, tuple[str, str]]:
        """Sign a user in, and return the session and the header that carries its cookie."""
        session = self.new_session(user)
        value = self.ledger.new_token()
        self.ledger.sign_ons[value] = session
        return session, ("set-cookie", self._cookie(value))

    def new_session(self, user: User) -> SignOn:
        """Return a login that no browser has part in."""
        return SignOn(user.sub, self.ledger.new_token(), self.now)

    def end_sign_on(self, request: Request) -> tuple[str, str]:
        """Sign the browser out, and return the header that takes its cookie away."""
        self.ledger.sign_ons.pop(request.cookies.get(self.cookie_name, ""), None)
        return "set-cookie", self._cookie("") + "; Max-Age=0"

    def _cookie(self, value: str) -> str:
        secure = "; Secure" if self.issuer.startswith("https:") else ""
        path = self.path or "/"
        return f"{self.cookie_name}={value}; Path={path}; HttpOnly; SameSite=Lax{secure}"

    # --- tokens

    def issue_access_token(
        self, client: Client, grant: Grant, audience: Sequence[str], family: Family | None
    ) -> str:
        """Make an access token, opaque or as RFC 9068 has it, and record it."""
        now = self.ledger.clock()
        token = IssuedToken(
            grant,
            tuple(audience) or tuple(client.audience) or (self.issuer,),
            now,
            now + client.access_token_lifetime,
            family.family_id if family else None,
        )
        jwt = client.access_token_type == "jwt"  # noqa: S105 - a kind of token
        value = self._jwt_access_token(client, token) if jwt else self.ledger.new_token()
        self.ledger.add_access_token(value, token)
        return value

    def _jwt_access_token(self, client: Client, token: IssuedToken) -> str:
        alg = client.id_token_signed_response_alg
        key = self.keys.current_for(alg)
        header = {"alg": alg, "typ": "at+jwt", "kid": key.kid}
        claims = self.access_token_claims(token) | {"jti": self.ledger.new_token()}
        return Draft(header, claims, alg, key).sign()

    def access_token_claims(self, token: IssuedToken) -> dict[str, JSON]:
        """Return what an access token says, and introspection tells."""
        grant = token.grant
        actor = {"act": grant.act} if grant.act else {}
        return {
            **actor,
            "iss": self.issuer,
            "sub": grant.sub or grant.client_id,
            "aud": token.audience[0] if len(token.audience) == 1 else list(token.audience),
            "client_id": grant.client_id,
            "scope": " ".join(sorted(grant.scope)),
            "iat": int(token.issued_at),
            "exp": int(token.expires_at),
        }

    def issue_id_token(
        self, client: Client, grant: Grant, access_token: str | None, faults: Sequence[Fault]
    ) -> str:
        """Make an id_token (OIDC Core, section 2). `access_token`: None if it comes alone."""
        alg = client.id_token_signed_response_alg
        claims: dict[str, JSON] = {
            **self.users[grant.sub or ""].claims_for(grant.scope),
            "iss": self.issuer,
            "sub": grant.sub,
            "aud": client.client_id,
            "iat": self.now,
            "exp": self.now + client.id_token_lifetime,
            "auth_time": grant.auth_time,
            "sid": grant.sid,
        }
        if access_token is not None:
            claims["at_hash"] = _left_half(access_token, alg)
        if grant.nonce is not None:
            claims["nonce"] = grant.nonce
        if grant.act:
            claims["act"] = grant.act
        return self.sign_token(client, "JWT", claims, faults)

    def sign_token(
        self,
        client: Client,
        typ: str,
        claims: dict[str, JSON],
        faults: Sequence[Fault],
        *,
        alg: str | None = None,
    ) -> str:
        """Sign a token for a client, as its registration says and its faults spoil it.

        `alg`: None takes that of its id_tokens.
        """
        alg = alg or client.id_token_signed_response_alg
        key = self.keys.current_for(alg)
        secret = next(iter(client.secrets), "")
        draft = Draft({"alg": alg, "typ": typ, "kid": key.kid}, claims, alg, key, secret)
        for fault in faults:
            draft = fault.token(draft, self.keys)
        return draft.sign()

    def read_id_token(self, token: str) -> Mapping[str, JSON] | None:
        """Return the claims of an id_token that this provider made, if long ago; or None."""
        jws = self.keys.verify(token)
        # RFC 8725, section 3.11: no other kind of token passes for one.
        if jws is None or jws.header.get("typ") != "JWT" or jws.claims.get("iss") != self.issuer:
            return None
        told = all(isinstance(jws.claims.get(name), str) for name in ("sub", "aud"))
        return jws.claims if told else None


def refusal_page(refusal: Refused) -> Page:
    """Say no to a person."""
    text = refusal.description or refusal.error
    status = refusal.status
    return Page(message_page("That did not work", text), status, outcome=refusal.error)


def _left_half(access_token: str, alg: str) -> str:
    """Return `at_hash` (OIDC Core, section 3.1.3.6). Ed25519 hashes with SHA-512."""
    digest = _HASHES.get(alg, hashlib.sha512)(access_token.encode()).digest()
    return base64url(digest[: len(digest) // 2])
