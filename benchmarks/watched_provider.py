"""A strict provider that is watched: what `machine.py` serves in a process of its own."""

from __future__ import annotations

import asyncio
import base64
import json
import random
import time
from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

import httpx
from starlette.responses import JSONResponse, PlainTextResponse

from tokenward.testing import Client, Provider, User
from tokenward.testing.login import _through_provider

if TYPE_CHECKING:
    from machine import Plan


def digest(token: str) -> str:
    """Name a token without giving it away."""
    return sha256(token.encode()).hexdigest()[:16]


def subject_of(token: str) -> str:
    """Return whose a JWT is, unverified."""
    payload = token.split(".")[1]
    return str(json.loads(base64.urlsafe_b64decode(payload + "=="))["sub"])


class WatchedProvider:
    """A strict provider that takes its time, fails on command, and writes down who asked.

    Beside its endpoints it has doors: `/control` (settings and counts), `/person` (be the user
    who fills in the form), `/redemptions` (all of them, by who asked) and `/asking` (wait for
    the next one to come in, and say which process it is from).
    """

    def __init__(self, provider: Provider) -> None:
        self.provider = provider
        self.delay = 0.0
        self.failures = 0
        self.lifetimes = (3600, 3600)
        self.at_once = 0
        self.most_at_once = 0
        self.redemptions: list[dict] = []
        self._curious: list[asyncio.Future[int]] = []
        self._doors = {
            "/control": self._control,
            "/person": self._person,
            "/redemptions": self._tell_redemptions,
            "/asking": self._tell_who_asks,
        }

    async def __call__(self, scope, receive, send) -> None:
        path = scope.get("path")
        if door := self._doors.get(path):
            told = dict(httpx.QueryParams(scope["query_string"].decode()))
            await JSONResponse(await door(told))(scope, receive, send)
        elif path == "/token":
            await self._token(scope, receive, send)
        else:
            await self.provider(scope, receive, send)

    async def _control(self, told: dict[str, str]) -> object:
        counts = {
            "redeemed": self.provider.count("token", grant_type="refresh_token", outcome="ok"),
            "asked": self.provider.count("token", grant_type="refresh_token"),
            "most_at_once": self.most_at_once,
        }
        if told:
            self.delay, self.failures = float(told["delay"]), int(told["failures"])
            self.lifetimes = (int(told["lifetime"]), int(told["longest"]))
            self.most_at_once = 0
            self.provider.requests.clear()
        return counts

    async def _person(self, told: dict[str, str]) -> object:
        form = await _through_provider(self.provider, told["user"], told["address"])
        return form.action

    async def _tell_redemptions(self, told: dict[str, str]) -> object:
        del told
        ended = [family.ended for family in self.provider.families]
        return {"redemptions": self.redemptions, "reused": ended.count("refresh_token_reuse")}

    async def _tell_who_asks(self, told: dict[str, str]) -> object:
        del told
        self._curious.append(asyncio.get_running_loop().create_future())
        return await self._curious[-1]

    async def _token(self, scope, receive, send) -> None:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            body = await _read_body(receive)
            if body is None:
                # Who asked died before he had said what.
                return
            form = {name: values[0] for name, values in parse_qs(body.decode()).items()}

            async def again() -> dict:
                return {"type": "http.request", "body": body, "more_body": False}

            if form["grant_type"] == "refresh_token":
                await self._redeem(form, scope, again, send)
            else:
                await self._answer(scope, again, send)
        finally:
            self.at_once -= 1

    async def _redeem(self, form: dict[str, str], scope, receive, send) -> None:
        worker, begun = int(dict(scope["headers"])[b"x-worker"]), time.monotonic()
        while self._curious:
            self._curious.pop().set_result(worker)
        await asyncio.sleep(self.delay)
        if self.failures:
            self.failures -= 1
            await PlainTextResponse("out of order", status_code=503)(scope, receive, send)
            return
        said = bytearray()

        async def listen(message) -> None:
            said.extend(message.get("body", b""))
            await send(message)

        record = {
            "at": begun,
            "over": begun,
            "worker": worker,
            "spent": digest(form["refresh_token"]),
        }
        self.redemptions.append(record)
        await self._answer(scope, receive, listen)
        record["over"] = time.monotonic()
        answer = json.loads(said)
        if "refresh_token" in answer:
            record["given"] = digest(answer["refresh_token"])
            record["user"] = subject_of(answer["access_token"])

    async def _answer(self, scope, receive, send) -> None:
        lifetime = random.randint(*self.lifetimes)
        app = self.provider.clients["app"]
        self.provider.register(replace(app, access_token_lifetime=lifetime))
        await self.provider(scope, receive, send)


async def _read_body(receive) -> bytes | None:
    """Read the body of a request; None if the connection broke over it."""
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body, more = body + message.get("body", b""), message.get("more_body", False)
    return body


def make_provider(plan: Plan) -> WatchedProvider:
    app = Client(
        "app",
        redirect_uris=[f"{plan.url}/auth/callback"],
        access_token_type="jwt",
        id_token_signed_response_alg="ES256",
        refresh_token_overlap=plan.overlap,
    )
    users = [User(name, name=name) for name in plan.users]
    return WatchedProvider(Provider(plan.issuer, clients=[app], users=users))
