"""What clients poll for while users decide elsewhere (RFC 8628; CIBA Core 1.0)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

from .answers import Refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from .ledger import Grant, SignOn

SLOWER: Final = 5
"""Seconds by which `slow_down` lengthens the interval (RFC 8628, section 3.5)."""


@dataclass(frozen=True, slots=True)
class Question:
    """Something that a client waits for, and a user has not decided yet, or has."""

    grant: Grant
    """What is asked for; once approved, with the user in it."""
    asked: str
    """Under which name the user finds it: the user code, or the user's own `sub`."""
    expires_at: float
    interval: int
    """Seconds between polls."""
    polled_at: float | None = None
    """None: not yet."""
    decision: Literal["pending", "approved", "denied"] = "pending"


class Decisions:
    """Every question of one kind, under the secret that its client polls with."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._questions: dict[str, Question] = {}

    def ask(self, secret: str, question: Question) -> None:
        """Wait for a decision, and be polled for it with `secret`."""
        self._questions[secret] = question

    def waiting(self, asked: str) -> tuple[Question, ...]:
        """Return what waits under this name for a decision that can still be made."""
        return tuple(self._questions[secret] for secret in self._secrets(asked))

    def approve(self, asked: str, session: SignOn) -> int:
        """Grant whatever waits under this name to this user; returns how much it is."""
        secrets = self._secrets(asked)
        for secret in secrets:
            question = self._questions[secret]
            grant = question.grant.given_by(session)
            self._questions[secret] = replace(question, decision="approved", grant=grant)
        return len(secrets)

    def deny(self, asked: str) -> int:
        """Refuse whatever waits under this name; returns how much it is."""
        secrets = self._secrets(asked)
        for secret in secrets:
            self._questions[secret] = replace(self._questions[secret], decision="denied")
        return len(secrets)

    def _secrets(self, asked: str) -> list[str]:
        return [
            secret
            for secret, question in self._questions.items()
            if question.asked == asked
            and question.decision == "pending"
            and self._clock() < question.expires_at
        ]

    def poll(self, secret: str, *, client_id: str) -> Grant:
        """Return what was approved, once; refuse everything else (RFC 8628, section 3.5)."""
        question = self._questions.get(secret)
        if question is None or question.grant.client_id != client_id:
            raise Refused("invalid_grant", "it is unknown, or was used before")
        if self._clock() >= question.expires_at:
            raise Refused("expired_token", "nobody decided in time")
        self._refuse_haste(secret, question)
        if question.decision == "pending":
            raise Refused("authorization_pending")
        del self._questions[secret]
        if question.decision == "denied":
            raise Refused("access_denied", "the user said no")
        return question.grant

    def _refuse_haste(self, secret: str, question: Question) -> None:
        """Every poll counts, those that came too soon as well."""
        now, before = self._clock(), question.polled_at
        hasty = before is not None and now < before + question.interval
        interval = question.interval + (SLOWER if hasty else 0)
        self._questions[secret] = replace(question, polled_at=now, interval=interval)
        if hasty:
            raise Refused("slow_down", f"poll every {interval} seconds")
