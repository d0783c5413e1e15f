"""A strict OpenID Provider for tests and demos, as a small ASGI app."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from starlette.requests import Request
from starlette.responses import Response

from ..clock import system_clock
from ..secret import Secret
from .answers import Answer, Refused, render
from .core import Call, Core, refusal_page
from .device import normalize
from .gate import Gate
from .jws import import_keys
from .keys import Key, SigningKeys
from .ledger import Ledger, random_token
from .misbehaviour import AnswerLost, Fault, Held, Script, When
from .registration import Registration
from .requests import Endpoint, RequestRecord, as_parameters, read_document, read_parameters
from .routes import ENDPOINTS, FOR_PEOPLE, ROUTES, make_endpoints

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from starlette.types import Receive, Scope, Send

    from ..clock import Clock
    from .clients import JSON, Client, User
    from .ledger import Family, SignOn

DROP_EXTENSION: Final = "tokenward.testing.drop"
"""ASGI extension of `serve`: an async callable that closes the connection."""

LOGOUT_EVENT: Final = "http://schemas.openid.net/event/backchannel-logout"


class Provider:
    """An OpenID Provider that is strict, counts everything and misbehaves on command.

        provider = Provider(
            "https://op.test",
            clients=[Client("app", redirect_uris=["https://app.test/auth/callback"])],
            users=[User("alice")],
        )
        provider.sign_in_automatically("alice")
        http = httpx.AsyncClient(
            mounts={"https://op.test": httpx.ASGITransport(provider)}
        )

    It is an ASGI app: run it in process, mount it, or give it to `serve`. It keeps
    all it ever issued until it is thrown away. `keys` are private keys with a `kid`
    to sign with; without them it makes its own. `connection_error` makes the
    exception that an in-process caller sees when the connection is to break, such
    as `httpx.ReadError`; by default it is `AnswerLost`.
    """

    def __init__(
        self,
        issuer: str = "https://op.test",
        *,
        clients: Iterable[Client] = (),
        users: Iterable[User] = (),
        clock: Clock = system_clock,
        keys: Sequence[Key] = (),
        connection_error: Callable[[str], Exception] = AnswerLost,
        new_token: Callable[[], str] = random_token,
    ) -> None:
        self._core = Core(
            issuer=issuer,
            clients={client.client_id: client for client in clients},
            users={user.sub: user for user in users},
            keys=SigningKeys(issuer, tuple(keys)),
            ledger=Ledger(clock, new_token),
        )
        self._given_keys = tuple(keys)
        self._connection_error = connection_error
        self._script = Script()
        self.requests: list[RequestRecord] = []
        """What came in, in the order in which it was dealt with."""
        self._endpoints = make_endpoints(self._core)

    # --- configuration

    @property
    def issuer(self) -> str:
        """The issuer identifier."""
        return self._core.issuer

    def move_to(self, issuer: str) -> None:
        """Be another issuer from now on, with other keys. `serve` does it for port 0."""
        self._core.issuer = issuer
        self._core.keys = SigningKeys(issuer, self._given_keys)

    @property
    def clients(self) -> Mapping[str, Client]:
        """The registered clients by their id."""
        return self._core.clients

    def register(self, client: Client) -> None:
        """Add a client, or replace the one of the same id."""
        self._core.clients[client.client_id] = client

    @property
    def users(self) -> Mapping[str, User]:
        """The users by their `sub`."""
        return self._core.users

    def add_user(self, user: User) -> None:
        """Add a user, or replace the one of the same `sub`."""
        self._core.users[user.sub] = user

    def sign_in_automatically(self, sub: str | None) -> None:
        """Sign this user in wherever the login page would be shown; None shows it again.

        `prompt=none` still needs a session that exists.
        """
        if sub is not None and sub not in self._core.users:
            raise ValueError(f"there is no user {sub!r}")
        self._core.automatic_user = sub

    def follow_login_hint(self, *, follow: bool = True) -> None:
        """Sign in without a page whoever `login_hint` names."""
        self._core.follow_login_hint = follow

    def open_registration(self, *, initial_access_token: str | Secret | None = None) -> None:
        """Let clients register themselves; None: all, otherwise those that have the token."""
        token = None if initial_access_token is None else _text(initial_access_token)
        self._core.registration = Registration(token)

    def trust_issuer(self, issuer: str, jwks: Mapping[str, JSON]) -> None:
        """Believe what assertions of this issuer say about users (RFC 7523, section 2.1).

        `jwks` is its public key set. Raises `ValueError` if one of its keys is no key.
        """
        import_keys(jwks)
        self._core.trusted_issuers[issuer] = jwks

    def rotate_keys(self, *, keep_old: bool = True, same_kid: bool = False) -> None:
        """Sign with new keys from now on.

        `keep_old=False` takes the old ones out of the key set; `same_kid` gives the
        new ones the old names, as a careless provider does.
        """
        self._core.keys.rotate(keep_old=keep_old, same_kid=same_kid)

    # --- misbehaviour

    def misbehave(
        self,
        endpoint: Endpoint,
        *faults: Fault,
        times: int | None = 1,
        when: When | None = None,
    ) -> None:
        """Let `faults`, all of them together, hit the next `times` requests; None: all.

        `when` picks the requests, by their `RequestRecord`. What was planned first
        comes first.

            provider.misbehave("token", ServerError(503, retry_after=2), times=3)
            provider.misbehave("token", WrongClaim({"nonce": "x"}))
        """
        if endpoint not in ENDPOINTS:
            raise ValueError(f"there is no endpoint {endpoint!r}")
        self._script.plan(endpoint, faults, times=times, when=when)

    def hold(
        self,
        endpoint: Endpoint,
        *,
        times: int | None = 1,
        when: When | None = None,
        after_acting: bool = False,
    ) -> Gate:
        """Keep the next requests waiting until the gate that is returned is released.

        With `after_acting` the code or refresh token is spent while they wait.
        """
        gate = Gate()
        held = Held(gate, after_acting=after_acting)
        self.misbehave(endpoint, held, times=times, when=when)
        return gate

    def behave(self, endpoint: Endpoint | None = None) -> None:
        """Forget what was planned, at one endpoint, or at all of them."""
        self._script.clear(endpoint)

    # --- what happened

    def count(
        self,
        endpoint: Endpoint,
        *,
        grant_type: str | None = None,
        client_id: str | None = None,
        outcome: str | None = None,
    ) -> int:
        """Count the requests to an endpoint; None counts whatever it is."""
        wanted = {"grant_type": grant_type, "client_id": client_id, "outcome": outcome}
        return sum(
            record.endpoint == endpoint
            and all(v is None or getattr(record, name) == v for name, v in wanted.items())
            for record in self.requests
        )

    @property
    def families(self) -> tuple[Family, ...]:
        """The logins that were completed, each with its refresh tokens, oldest first."""
        return tuple(self._core.ledger.families.values())

    def refreshes_of(self, sub: str) -> int:
        """Count how often a refresh token of this user was redeemed."""
        return sum(family.generation for family in self.families if family.sub == sub)

    def is_active(self, token: str | Secret) -> bool:
        """Tell whether an access or refresh token is good now."""
        value = _text(token)
        ledger = self._core.ledger
        return bool(ledger.live_access_token(value) or ledger.live_refresh_token(value))

    def is_revoked(self, token: str | Secret) -> bool:
        """Tell whether a token was ended before its time, alone or with its family.

        A refresh token that was merely rotated is neither active nor revoked.
        """
        return self._core.ledger.is_revoked(_text(token))

    # --- what users do on other devices

    def approve_device(self, user_code: str, sub: str) -> None:
        """Let the device in that shows this code, as this user does on the page for it.

        Raises `LookupError` if no device waits with this code, or there is no such user.
        """
        self._decided(self._core.device_codes.approve(normalize(user_code), self._session(sub)))

    def deny_device(self, user_code: str) -> None:
        """Turn away the device that shows this code. Raises `LookupError` if none does."""
        self._decided(self._core.device_codes.deny(normalize(user_code)))

    def approve_backchannel(self, sub: str) -> int:
        """Say yes to all that this user is asked over the backchannel; returns how often.

        Raises `LookupError` if nothing is asked, or there is no such user.
        """
        return self._decided(self._core.backchannel_requests.approve(sub, self._session(sub)))

    def deny_backchannel(self, sub: str) -> int:
        """Say no to it. Raises `LookupError` if nothing is asked."""
        return self._decided(self._core.backchannel_requests.deny(sub))

    def _session(self, sub: str) -> SignOn:
        if sub not in self.users:
            raise LookupError(f"there is no user {sub!r}")
        return self._core.new_session(self.users[sub])

    @staticmethod
    def _decided(number: int) -> int:
        if not number:
            raise LookupError("nothing waits for this decision")
        return number

    # --- what a provider does of its own accord

    def end_grants(self, sub: str, *, reason: str = "ended") -> int:
        """End every login of the user, as an administrator does; returns how many."""
        return self._core.ledger.end_families(sub=sub, reason=reason)

    def sign_out(self, sub: str) -> None:
        """Forget the user in every browser; tokens stay good."""
        ledger = self._core.ledger
        ledger.sign_ons = {k: s for k, s in ledger.sign_ons.items() if s.sub != sub}

    def logout_token(
        self,
        client_id: str,
        *,
        sub: str | None = None,
        sid: str | None = None,
        faults: Sequence[Fault] = (),
    ) -> str:
        """Make a logout_token, for a test to send (OIDC Back-Channel Logout 1.0, section 2.4)."""
        now = self._core.now
        claims: dict[str, JSON] = {
            "iss": self.issuer,
            "aud": client_id,
            "iat": now,
            "exp": now + 120,
            "jti": self._core.ledger.new_token(),
            "events": {LOGOUT_EVENT: {}},
        }
        named = {"sub": sub, "sid": sid}
        claims |= {name: value for name, value in named.items() if value is not None}
        client = self.clients[client_id]
        return self._core.sign_token(client, "logout+jwt", claims, faults)

    # --- ASGI

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one connection; see the ASGI specification."""
        if scope["type"] == "lifespan":
            await _run_lifespan(receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close"})
            return
        try:
            await self._respond(scope, receive, send)
        except AnswerLost as error:
            lost = str(error)
        else:
            return
        drop = scope.get("extensions", {}).get(DROP_EXTENSION)
        if drop is None:
            raise self._connection_error(lost)
        await drop()

    async def _respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        endpoint, methods = ROUTES.get(self._route(scope), (None, frozenset()))
        if endpoint is None:
            await Response("not found", 404)(scope, receive, send)
            return
        if scope["method"] not in methods:
            allow = {"allow": ", ".join(sorted(methods))}
            await Response("method not allowed", 405, allow)(scope, receive, send)
            return
        call = await self._read(endpoint, Request(scope, receive))
        answer = await self._handle(call)
        for fault in call.faults:
            send = fault.sending(send)
        await render(answer)(scope, receive, send)

    def _route(self, scope: Scope) -> str:
        """Return the path below the issuer, whether mounted there or serving the origin."""
        path: str = scope["path"]
        base = scope.get("root_path", "") or self._core.path
        return path.removeprefix(base) if path.startswith(f"{base}/") else ""

    async def _read(self, endpoint: Endpoint, request: Request) -> Call:
        call = Call(endpoint, request)
        try:
            if endpoint == "registration" and request.method == "POST":
                call.document = await read_document(request)
                call.parameters = as_parameters(call.document)
            else:
                call.parameters = await read_parameters(request)
        except Refused as refusal:
            call.refusal = refusal
        call.faults = self._script.take(replace(call.record(), outcome=""))
        return call

    async def _handle(self, call: Call) -> Answer:
        try:
            for fault in call.faults:
                await fault.before()
            answer = self._act(call)
            call.outcome = answer.outcome
            for fault in call.faults:
                answer = fault.answer(answer)
                await fault.after()
            call.answered = not any(fault.loses_answer for fault in call.faults)
        except AnswerLost:
            call.outcome = "lost_request"
            raise
        finally:
            self.requests.append(call.record())
        return answer

    def _act(self, call: Call) -> Answer:
        instead = next((i for f in call.faults if (i := f.instead()) is not None), None)
        if isinstance(instead, Refused):
            call.refusal = instead
        elif instead is not None:
            return instead
        try:
            return self._endpoints[call.endpoint](call)
        except Refused as refusal:
            for_people = call.endpoint in FOR_PEOPLE
            return refusal_page(refusal) if for_people else refusal.document()


async def _run_lifespan(receive: Receive, send: Send) -> None:
    for stage in ("startup", "shutdown"):
        await receive()
        await send({"type": f"lifespan.{stage}.complete"})


def _text(token: str | Secret) -> str:
    return token.reveal() if isinstance(token, Secret) else token
