"""Browsers before several processes of one app: whole requests, through the middleware.

Logins, logouts and what administrators do are the real ones; only the network, the
store and the provider are simulated. A browser takes cookies in the order in which
answers reach it, which need not be that in which they were sent.
"""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass, field
from functools import partial
from random import Random
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from faults import Dice, FaultyProvider, FaultyStore, Life, abandon
from schedules import (
    ARRIVAL,
    LEASE,
    LONG_STOP,
    PROCESSES,
    SETTINGS,
    SHORT_STOP,
    START,
    freeze,
    thaw,
)
from scripted import HOUR

from tokenward import OpenIDProvider, TokenManagement, TokenManagementMiddleware
from tokenward.protocol.id_token import IdToken
from tokenward.protocol.token_answer import TokenAnswer
from tokenward.provider.grant import Grant
from tokenward.secret import Secret
from tokenward.stores.memory import MemoryStore
from tokenward.tokens.refresh_settings import RefreshSettings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import pytest
    from scripted import Family
    from simulation import Simulation

    from tokenward.events import Event

KEY = "Yz8LmQ2v-browsers-K4tRw7NfJb0PqXc9Ud1Es6Ga3Hi5"
HOST = "shop.test"
LATENCY = 0.1
"""Seconds that an answer takes to reach the browser, at most."""

DECLARED = {200, 303, 401, 503}
"""How the app may answer, whatever goes wrong."""


def seed_secrets(monkeypatch: pytest.MonkeyPatch, random: Random) -> None:
    """Let ids come from the seed too: their order decides about the order of steps."""
    monkeypatch.setattr(secrets, "token_bytes", lambda count=32: random.randbytes(count))
    monkeypatch.setattr(secrets, "token_hex", lambda count=32: random.randbytes(count).hex())
    monkeypatch.setattr(secrets, "randbits", random.getrandbits)


class OP(FaultyProvider):
    """The provider, with a way to log in."""

    def __init__(self, *args: Any, revokes_grants: bool, **options: Any) -> None:
        super().__init__(*args, **options)
        self.revokes_grants = revokes_grants
        """Whether any refresh token of a grant, also a spent one, ends all of the grant."""
        self.codes: dict[str, tuple[str, str]] = {}
        self.families_of: dict[tuple[str, str], Family] = {}

    def authorize(self, sub: str, sid: str) -> str:
        code = f"code-{len(self.codes)}-for-{sub}-0123456789"
        self.codes[code] = (sub, sid)
        return code

    async def redeem(self, code: Secret) -> Grant:
        sub, sid = self.codes[code.reveal()]
        now = self.clock()
        tokens = self.log_in(sub)
        assert tokens.refresh_token is not None
        family = self.families[tokens.refresh_token.reveal()]
        self.families_of[sub, sid] = family
        await self._dice.pause(LATENCY)
        claims = {"iss": self.issuer, "sub": sub, "sid": sid, "aud": self.client_id}
        id_token = Secret(f"idt-of-{sub}-{sid}-0123456789")
        answer = TokenAnswer(
            access_token=Secret(tokens.access_token.value),
            token_type="Bearer",
            expires_in=HOUR,
            refresh_token=tokens.refresh_token,
            id_token=id_token,
            scope=family.scope,
        )
        return Grant(answer, IdToken(id_token, self.issuer, sub, claims), now)

    def end_grant(self, value: str) -> None:
        family = self.families[value]
        family.revoked.add(value)
        if self.revokes_grants:
            family.dead = family.dead or "revoked"

    def living(self, family: Family) -> list[str]:
        """Return the refresh tokens that are good for another one still."""
        if family.dead:
            return []
        return [
            value
            for value, whose in self.families.items()
            if whose is family and value not in family.revoked and self.takes(family, value)
        ]


class Registered(OpenIDProvider):
    """The provider as one process knows it."""

    def __init__(self, op: OP) -> None:
        super().__init__(
            op.issuer,
            client_id=op.client_id,
            client_secret="0123456789-secret-of-the-client",
            scope="openid offline_access",
            clock=op.clock,
        )
        self._op = op

    async def metadata(self) -> Any:
        return SimpleNamespace(authorization_response_iss_parameter_supported=False)

    async def keys(self) -> Any:
        await self._op.keys()

    async def authorization_url(self, *, state: Secret, **options: Any) -> str:
        del options
        return f"{self.issuer}/authorize?state={state.reveal()}"

    async def exchange_code(self, *, code: Secret, **options: Any) -> Grant:
        del options
        return await self._op.redeem(code)

    async def end_session_url(self, **options: Any) -> str | None:
        del options
        return f"{self.issuer}/logout"

    async def refresh(self, *args: Any, **options: Any) -> Grant:
        return await self._op.refresh(*args, **options)

    async def revoke(self, *args: Any, **options: Any) -> None:
        await self._op.revoke(*args, **options)


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Say who it is, show a token, and write into `request.session`, as the path says."""
    del receive
    connection = scope["tokenward"]
    user = connection.user
    answer = user.sub if user else "nobody"
    if "token" in scope["path"]:
        answer = (await connection.token()).value
    if "slow" in scope["path"]:
        await asyncio.sleep(LATENCY)
    if "write" in scope["path"]:
        scope["session"][f"of-{user.sub if user else 'nobody'}"] = scope["path"]
    if "data" in scope["path"]:
        answer = " ".join(sorted(scope["session"]))
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": answer.encode()})


class Server:
    """One process of the app, with all that the app has in it."""

    def __init__(self, scene: Streets, store: Any, *, cookies: bool) -> None:
        self.life = Life()
        self.events: list[Event] = []
        self.auth = TokenManagement(
            provider=Registered(scene.op),
            public_url=f"https://{HOST}",
            secret_key=KEY,
            store=FaultyStore(store, scene.dice, self.life),  # type: ignore[arg-type]
            sessions="cookie" if cookies else None,
            refresh=RefreshSettings(**SETTINGS),
            clock=scene.clock,
            on_event=self.events.append,
        )
        self.asgi = TokenManagementMiddleware(app, auth=self.auth)

    async def drain(self) -> None:
        await self.auth.user_tokens.drain(timeout=120.0)
        for drain in self.auth._drains:
            await drain(120.0)
        await self.auth.revoker.drain(timeout=120.0)

    def session_in(self, headers: list[tuple[bytes, bytes]]) -> str:
        """Return the name of the session that a browser carries; empty if none."""
        source = self.asgi._source
        if not source.travels:
            return source.login.read(headers).key or ""  # type: ignore[attr-defined]
        session = source.open(headers).read_session()
        return session.id if session else ""


@dataclass
class Answer:
    """What came back, and the cookies with it."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: str

    @property
    def location(self) -> str:
        return dict(self.headers)[b"location"].decode()


@dataclass
class Login:
    """One login, and what the browser held of it."""

    sub: str
    sid: str
    key: str
    family: Family
    browser: Browser
    jars: list[dict[str, str]] = field(default_factory=list)
    over: bool = False
    """It ended: somebody was told so."""
    doubtful: bool = False
    """It may have ended: whoever tried was told that nobody knows."""
    kept: bool = False
    """Its refresh token may stay: the same user logged in once more."""
    overtaken: bool = False
    """An answer from before the login came after it, and brought its cookies with it."""


class Browser:
    """A jar of cookies, and whoever clicks."""

    def __init__(self, scene: Streets) -> None:
        self.scene = scene
        self.jar: dict[str, str] = {}
        self.login: Login | None = None

    def headers(self, jar: dict[str, str] | None = None) -> list[tuple[bytes, bytes]]:
        jar = self.jar if jar is None else jar
        cookies = "; ".join(f"{name}={value}" for name, value in jar.items())
        return [
            (b"host", HOST.encode()),
            (b"origin", f"https://{HOST}".encode()),
            (b"sec-fetch-site", b"same-origin"),
            *([(b"cookie", cookies.encode())] if cookies else []),
        ]

    async def send(
        self,
        server: Server,
        target: str,
        *,
        method: str = "GET",
        jar: dict[str, str] | None = None,
    ) -> Answer:
        """Send a request with the cookies of now, and take what the answer brings."""
        path, _, query = target.partition("?")
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": query.encode(),
            "headers": self.headers(jar),
            "root_path": "",
        }
        sent: list[Any] = []
        login = self.login

        async def receive() -> Any:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def keep(message: Any) -> None:
            sent.append(message)

        await server.asgi(scope, receive, keep)
        start, *rest = sent
        body = b"".join(part.get("body", b"") for part in rest).decode()
        answer = Answer(start["status"], start["headers"], body)
        assert answer.status in DECLARED, f"{method} {target}: {answer.status}"
        await self.scene.dice.pause(LATENCY)
        if jar is None:
            self._take(answer)
            if self.login is not None and self.login is not login:
                self.login.overtaken = True
        return answer

    def _take(self, answer: Answer) -> None:
        for name, value in answer.headers:
            if name == b"set-cookie":
                pair, _, attributes = value.decode().partition(";")
                cookie, _, content = pair.partition("=")
                if "Max-Age=0" in attributes:
                    self.jar.pop(cookie, None)
                else:
                    self.jar[cookie] = content
        if self.login is not None and self.jar not in self.login.jars:
            self.login.jars.append(dict(self.jar))

    async def log_in(self, server: Server, sub: str, sid: str) -> Login | None:
        """Log in, in the place of whoever is logged in; None if it failed."""
        to_provider = await self.send(server, f"/auth/login?login_hint={sub}")
        if to_provider.status != 303:
            return None
        (state,) = parse_qs(urlsplit(to_provider.location).query)["state"]
        before = self.carried(server)
        code = self.scene.op.authorize(sub, sid)
        try:
            back = await self.send(server, f"/auth/callback?code={code}&state={state}")
        except BaseException:
            self.scene.doubt(before)
            raise
        key = self.carried(server)
        if back.status != 303 or key == before:
            self.scene.doubt(before)
            if before in self.scene.logins:
                # Only a login that succeeds gives anything back of the one before.
                self.scene.logins[before].kept = True
            return None
        if before in self.scene.logins:
            old = self.scene.logins[before]
            old.over, old.kept = True, old.sub == sub and old.sid == sid
        family = self.scene.op.families_of[sub, sid]
        login = Login(sub, sid, key, family, self, [dict(self.jar)])
        # The session was there before the browser heard of it, and may have been ended.
        login.doubtful = not self.scene.ended.isdisjoint((sub, sid))
        self.scene.logins[key] = self.login = login
        return login

    async def log_out(self, server: Server) -> None:
        key = self.carried(server)
        try:
            answer = await self.send(server, "/auth/logout", method="POST")
        except BaseException:
            self.scene.doubt(key)
            raise
        if key in self.scene.logins:
            self.scene.logins[key].over |= answer.status == 303
            self.scene.doubt(key)
        if self.login is not None:
            # Whoever logs in and out at once is logged out here, be it that both came about.
            self.login.doubtful = True

    def carried(self, server: Server) -> str:
        return server.session_in(self.headers())


class Streets:
    """One interleaving of browsers, processes and whatever goes wrong."""

    def __init__(
        self,
        topology: str,
        simulation: Simulation,
        seed: int,
    ) -> None:
        self.random = Random(seed)
        self.loop = simulation.loop
        self.elapsed = -simulation.loop.time()
        self.dice = Dice(self.random)
        self.cookies = topology != "store"
        self.op = OP(self.clock, self.loop, self.dice, revokes_grants=self.random.random() < 0.5)
        self.memory = MemoryStore(self.clock)
        number = 1 if topology == "alone" else PROCESSES
        self.servers = [Server(self, self.memory, cookies=self.cookies) for _ in range(number)]
        self.logins: dict[str, Login] = {}
        self.ended: set[str] = set()
        """Whose sessions an administrator ended, or began to: users, provider's sessions, ids."""
        self.ended_elsewhere = False
        """Whether something else than the browser of a session may end it."""

    def clock(self) -> float:
        return START + self.elapsed + self.loop.time()

    def server(self) -> Server:
        return self.random.choice(self.servers)

    def begin(self, server: Server, work: Any) -> asyncio.Task[Any]:
        task = self.loop.begin_for(server.life, work)
        server.life.requests.append(task)
        return task

    def doubt(self, key: str) -> None:
        if key in self.logins:
            self.logins[key].doubtful = True

    # -------------------------------------------------------------- what happens

    async def log_in(self, sub: str, sid: str) -> Login:
        """Log in, long before anything happens."""
        server = self.server()
        login = await self.begin(server, Browser(self).log_in(server, sub, sid))
        assert login is not None
        return login

    async def visit(self, server: Server, browser: Browser, path: str) -> None:
        await self.dice.pause(ARRIVAL)
        carried = self.logins.get(browser.carried(server))
        answer = await browser.send(server, path)
        if answer.status == 200 and "token" in path:
            assert carried is not None
            assert f"-of-{carried.sub}-" in answer.body, "somebody else's token"

    async def end_all(self, server: Server, **which: str) -> None:
        """End sessions as an administrator, or a logout_token, does."""
        await self.dice.pause(ARRIVAL)
        (name, value), *_ = which.items()
        self.ended.add(value)
        meant = [
            login
            for login in self.logins.values()
            if value == {"sub": login.sub, "sid": login.sid, "id": login.key}[name]
        ]
        try:
            await server.auth.sessions.end(**which)  # type: ignore[arg-type]
        except BaseException:
            for login in meant:
                login.doubtful = True
            raise
        for login in meant:
            login.over = True

    async def later(self, act: Callable[..., Awaitable[Any]], *given: Any) -> Any:
        await self.dice.pause(2 * ARRIVAL)
        return await act(*given)

    async def stand_still(self, server: Server) -> None:
        """Stop one process between two of its steps, and let it go on later."""
        seconds = self.random.random() * self.random.choice((SHORT_STOP, LONG_STOP))
        stop = partial(freeze, server.life, self.loop, self.clock)
        await server.life.come_to(self.random.randrange(80) + 1, stop, within=2 * ARRIVAL)
        await thaw(server.life, self.loop, self.clock, seconds)

    def lose_patience(self, number: int) -> None:
        for _ in range(number):
            life = self.server().life
            self.loop.call_later(self.random.random() * 2 * ARRIVAL, abandon, self.random, life)

    async def drain(self) -> None:
        self.dice.calm()
        for _ in range(2):
            for server in self.servers:
                await self.loop.begin_for(server.life, server.drain())
        await asyncio.sleep(LEASE)
