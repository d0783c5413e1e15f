"""The cookies of logins under way, as values."""

from __future__ import annotations

from typing import Any, Final

import pytest

from tokenward.sealing import KeyRing
from tokenward.secret import Secret
from tokenward.web.attempts import LIFETIME, MAX_BYTES, LoginAttempt, LoginAttempts
from tokenward.web.cookies import Cookie

KEY: Final = "fuvQBj8B5pts7Km2TfoqPp9ocLVoYlb1z0okhjW-0eHqN5Eh610NzZL7I6tl265Q"
COOKIE: Final = Cookie.for_origin("https://app.test").named("login")


@pytest.fixture
def attempts(frozen_clock: Any) -> LoginAttempts:
    return LoginAttempts(KeyRing(KEY), COOKIE, clock=frozen_clock)


def attempt(number: int, created_at: float, return_to: str = "/") -> LoginAttempt:
    return LoginAttempt(
        state=Secret(f"state-{number}"),
        nonce=Secret("nonce"),
        code_verifier=Secret("verifier"),
        provider="default",
        issuer="https://op.test",
        client_id="app",
        redirect_uri="https://app.test/auth/callback",
        return_to=return_to,
        created_at=created_at,
    )


def sent_back(lines: list[bytes], jar: dict[str, str]) -> list[tuple[bytes, bytes]]:
    """Keep what a browser keeps, and return the header that it sends."""
    for line in lines:
        name, _, rest = line.decode().partition("=")
        value, _, attributes = rest.partition(";")
        if "Max-Age=0" in attributes:
            jar.pop(name, None)
        else:
            jar[name] = value
    return [(b"cookie", "; ".join(f"{n}={v}" for n, v in jar.items()).encode())]


def test_an_attempt_comes_back_as_it_went(attempts: LoginAttempts, frozen_clock: Any) -> None:
    began = attempt(1, frozen_clock())
    headers = sent_back(attempts.begin([], began), {})
    assert attempts.find(headers, Secret("state-1")) == began
    assert attempts.find(headers, Secret("state-2")) is None
    assert attempts.find([], Secret("state-1")) is None


def test_a_cookie_tells_nothing_of_its_attempt(attempts: LoginAttempts, frozen_clock: Any) -> None:
    (line,) = attempts.begin([], attempt(1, frozen_clock(), "/secret-page"))
    for text in (b"state", b"nonce", b"verifier", b"secret-page"):
        assert text not in line.partition(b"=")[2]
    assert f"; Max-Age={LIFETIME:.0f}; Path=/; HttpOnly; Secure; SameSite=Lax".encode() in line


def test_a_clock_of_whole_seconds_will_do(attempts: LoginAttempts) -> None:
    headers = sent_back(attempts.begin([], attempt(1, 1_893_456_000)), {})
    assert attempts.find(headers, Secret("state-1"))


@pytest.mark.parametrize(("length", "kept"), [(1, 5), (400, 4), (700, 3), (1500, 1), (2047, 1)])
@pytest.mark.case(31)
def test_all_of_them_together_are_bounded(
    attempts: LoginAttempts, frozen_clock: Any, length: int, kept: int
) -> None:
    jar: dict[str, str] = {}
    headers: list[tuple[bytes, bytes]] = []
    for number in range(8):
        frozen_clock.advance(1)
        began = attempt(number, frozen_clock(), f"/{'a' * length}")
        headers = sent_back(attempts.begin(headers, began), jar)
        assert len(headers[0][1]) <= MAX_BYTES
        assert attempts.find(headers, began.state) == began
    assert len(jar) == kept
    for number in range(8 - kept, 8):
        assert attempts.find(headers, Secret(f"state-{number}"))


@pytest.mark.parametrize("clock_runs", [True, False])
def test_the_oldest_make_room(attempts: LoginAttempts, frozen_clock: Any, clock_runs: bool) -> None:
    jar: dict[str, str] = {}
    headers: list[tuple[bytes, bytes]] = []
    for number in range(7):
        frozen_clock.advance(clock_runs)
        headers = sent_back(attempts.begin(headers, attempt(number, frozen_clock())), jar)
    left = [n for n in range(7) if attempts.find(headers, Secret(f"state-{n}"))]
    assert left == [2, 3, 4, 5, 6]


@pytest.mark.case(55)
def test_what_only_looks_like_an_attempt_is_deleted(
    attempts: LoginAttempts, frozen_clock: Any
) -> None:
    jar = {f"{COOKIE.full_name}-{'0' * 32}": "AAAA"}
    headers = sent_back([], jar)
    sent_back(attempts.begin(headers, attempt(1, frozen_clock())), jar)
    assert f"{COOKIE.full_name}-{'0' * 32}" not in jar


@pytest.mark.parametrize("name", ["x" * 90, "x", "0" * 31, "0" * 33, "G" * 32, "data"])
def test_a_cookie_of_another_kind_is_left_alone(
    attempts: LoginAttempts, frozen_clock: Any, name: str
) -> None:
    headers = sent_back([], {f"{COOKIE.full_name}-{name}": "AAAA"})
    assert len(attempts.begin(headers, attempt(1, frozen_clock()))) == 1


@pytest.mark.case(55)
def test_an_attempt_under_the_name_of_another_is_none(
    attempts: LoginAttempts, frozen_clock: Any
) -> None:
    jar: dict[str, str] = {}
    headers = sent_back(attempts.begin([], attempt(1, frozen_clock())), jar)
    headers = sent_back(attempts.begin(headers, attempt(2, frozen_clock())), jar)
    first, second = jar
    swapped = sent_back([], {first: jar[second], second: jar[first]})
    assert attempts.find(swapped, Secret("state-1")) is None
    assert attempts.find(swapped, Secret("state-2")) is None
    doubled = [(b"cookie", headers[0][1] + b"; " + headers[0][1])]
    assert attempts.find(doubled, Secret("state-1")) is None


def test_two_apps_with_one_key_do_not_share_attempts(frozen_clock: Any) -> None:
    ring = KeyRing(KEY)
    one = LoginAttempts(ring, COOKIE, clock=frozen_clock)
    other = LoginAttempts(
        ring, Cookie.for_origin("https://app.test", name="other"), clock=frozen_clock
    )
    headers = sent_back(one.begin([], attempt(1, frozen_clock())), {})
    assert other.find(headers, Secret("state-1")) is None
    renamed = [(b"cookie", headers[0][1].replace(b"__Host-tokenward-", b"__Host-other-"))]
    assert other.find(renamed, Secret("state-1")) is None


@pytest.mark.case(53)
@pytest.mark.parametrize(
    ("seconds", "over"), [(0, False), (600, False), (600.5, True), (-60, False)]
)
def test_an_attempt_lasts_ten_minutes(
    attempts: LoginAttempts, frozen_clock: Any, seconds: float, over: bool
) -> None:
    began = attempt(1, frozen_clock())
    frozen_clock.advance(seconds)
    assert attempts.is_over(began) is over


def test_only_what_is_there_is_cleaned(attempts: LoginAttempts, frozen_clock: Any) -> None:
    headers = sent_back(attempts.begin([], attempt(1, frozen_clock())), {})
    assert attempts.clean(headers, Secret("state-2")) == []
    assert len(attempts.clean(headers, Secret("state-1"))) == 1


def test_an_attempt_shows_no_secret(frozen_clock: Any) -> None:
    shown = repr(attempt(1, frozen_clock()))
    for text in ("state-1", "'nonce'", "'verifier'"):
        assert text not in shown
