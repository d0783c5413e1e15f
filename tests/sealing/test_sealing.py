"""Sealed values open in their own place, and nowhere else."""

from __future__ import annotations

import logging
import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from tokenward import sealing
from tokenward.errors import ConfigurationError
from tokenward.sealing import KeyRing, Unsealable, open_with, seal_with
from tokenward.secret import Secret

if TYPE_CHECKING:
    from canaries import Canaries

NEW = "zYw0V3i9qk7Jt5sRf1xLb8nGm2cPd4Ha"
OLD = "1b8d0ea7c93f56427be1d0c4a8f39265"
OTHER_APP = "Qm7Xc2Vn9Lr4Ts6Zb1Kd8Wf3Hg5Jp0Ya"


@pytest.fixture
def ring() -> KeyRing:
    return KeyRing(NEW)


def reason_of(ring: KeyRing, sealed: bytes, *, purpose: str = "p", record: str = "r") -> str:
    with pytest.raises(Unsealable) as refused:
        ring.open(sealed, purpose=purpose, record=record)
    assert refused.value.__context__ is None
    return refused.value.reason


# ------------------------------------------------------------------------ round trips


@pytest.mark.parametrize(
    "plaintext",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"{}", id="small"),
        pytest.param(bytes(range(256)) * 12, id="3 KB of every byte"),
        pytest.param(b"\0" * 1_000_000, id="1 MB"),
    ],
)
def test_what_was_sealed_can_be_opened(ring: KeyRing, plaintext: bytes) -> None:
    sealed = ring.seal(plaintext, purpose="session", record="a")
    opened = ring.open(sealed, purpose="session", record="a")
    assert opened.plaintext == plaintext
    assert opened.newest


@given(st.binary(max_size=64), st.text(), st.text(st.characters()))
def test_any_purpose_and_any_record_will_do(plaintext: bytes, purpose: str, record: str) -> None:
    ring = KeyRing(NEW)
    sealed = ring.seal(plaintext, purpose=purpose, record=record)
    assert ring.open(sealed, purpose=purpose, record=record).plaintext == plaintext


def test_a_record_that_is_not_text_is_refused_as_any_other(ring: KeyRing) -> None:
    sealed = ring.seal(b"x", purpose="p", record="\udcff")
    assert ring.open(sealed, purpose="p", record="\udcff").plaintext == b"x"
    assert reason_of(ring, sealed, record="\udcfe") == "forged"


def test_the_envelope_is_version_key_id_nonce_and_ciphertext(ring: KeyRing) -> None:
    first, second = (ring.seal(b"12345", purpose="p", record="r") for _ in range(2))
    assert first[0] == 1
    assert first[:9] == second[:9]
    assert len(first) == 1 + 8 + 12 + 5 + 16
    assert b"12345" not in first


def test_an_opened_value_does_not_show_its_content(ring: KeyRing) -> None:
    opened = ring.open(ring.seal(b"hidden", purpose="p", record="r"), purpose="p", record="r")
    assert "hidden" not in repr(opened)


def test_a_ring_is_neither_shown_nor_pickled(ring: KeyRing) -> None:
    ring.seal(b"", purpose="p", record="r")
    assert NEW not in repr(vars(ring)["_cipher"])
    assert NEW not in repr(ring)
    with pytest.raises((TypeError, pickle.PicklingError)):
        pickle.dumps(ring)


def test_threads_may_share_a_ring(ring: KeyRing) -> None:
    def turn(number: int) -> bool:
        plaintext, record = bytes([number]) * 500, str(number)
        return all(
            ring.open(
                ring.seal(plaintext, purpose="p", record=record), purpose="p", record=record
            ).plaintext
            == plaintext
            for _ in range(200)
        )

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(turn, range(8)))


# ----------------------------------------------------------------- what must not open


def test_one_flipped_bit_anywhere_is_noticed(ring: KeyRing) -> None:
    sealed = ring.seal(b"some tokens", purpose="p", record="r")
    for position in range(len(sealed) * 8):
        changed = bytearray(sealed)
        changed[position // 8] ^= 1 << position % 8
        reason = reason_of(ring, bytes(changed))
        match position // 8:
            case 0:
                assert reason in {"malformed", "newer_format"}
            case 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8:
                assert reason == "unknown_key"
            case _:
                assert reason == "forged"


def test_every_cut_is_noticed(ring: KeyRing) -> None:
    sealed = ring.seal(b"some tokens", purpose="p", record="r")
    reasons = [reason_of(ring, sealed[:length]) for length in range(len(sealed))]
    assert reasons == ["malformed"] * 37 + ["forged"] * 11


def test_appended_bytes_are_noticed(ring: KeyRing) -> None:
    assert reason_of(ring, ring.seal(b"x", purpose="p", record="r") + b"\0") == "forged"


@given(st.binary(max_size=80))
def test_no_bytes_do_anything_else_than_be_refused(data: bytes) -> None:
    ring = KeyRing(NEW)
    assert reason_of(ring, data) in {"malformed", "newer_format", "unknown_key"}
    known = ring.seal(b"", purpose="p", record="r")[:9]
    assert reason_of(ring, known + data) in {"malformed", "forged"}


@pytest.mark.case(269)
@pytest.mark.parametrize(
    ("purpose", "record"),
    [
        pytest.param("session", "b", id="another record"),
        pytest.param("login", "a", id="another purpose"),
        pytest.param("sessiona", "", id="the border moved right"),
        pytest.param("sessio", "na", id="the border moved left"),
        pytest.param("session", "a\0", id="a longer record"),
        pytest.param("", "sessiona", id="no purpose"),
    ],
)
def test_a_value_that_was_moved_is_refused(ring: KeyRing, purpose: str, record: str) -> None:
    sealed = ring.seal(b"x", purpose="session", record="a")
    assert reason_of(ring, sealed, purpose=purpose, record=record) == "forged"


def test_the_purpose_is_authenticated_even_under_one_key(
    ring: KeyRing, monkeypatch: pytest.MonkeyPatch
) -> None:
    expand = sealing._expand
    monkeypatch.setattr(
        sealing,
        "_expand",
        lambda material, use, _, length=32: expand(material, use, "", length=length),
    )
    sealed = ring.seal(b"x", purpose="session", record="a")
    assert reason_of(ring, sealed, purpose="login", record="a") == "forged"
    assert reason_of(ring, sealed, purpose="sessiona", record="") == "forged"


def test_version_and_key_id_are_authenticated(
    ring: KeyRing, monkeypatch: pytest.MonkeyPatch
) -> None:
    sealed = ring.seal(b"x", purpose="p", record="r")
    monkeypatch.setattr(sealing, "FORMAT_VERSION", 2)
    assert reason_of(KeyRing(NEW), b"\2" + sealed[1:]) == "forged"


def test_every_purpose_has_a_key_of_its_own(ring: KeyRing, monkeypatch: pytest.MonkeyPatch) -> None:
    keys: list[bytes] = []

    def make(key: bytes) -> AESGCM:
        keys.append(key)
        return AESGCM(key)

    monkeypatch.setattr(sealing, "AESGCM", make)
    for purpose in ("session", "login", "session", "login", "session"):
        ring.open(ring.seal(b"", purpose=purpose, record="r"), purpose=purpose, record="r")
    assert [len(key) for key in keys] == [32, 32]  # one object per purpose, not per call
    assert len({*keys, *ring.signing_keys("session"), *ring.signing_keys("login")}) == 4


@pytest.mark.case(269)
def test_the_value_of_another_app_is_refused(ring: KeyRing) -> None:
    sealed = KeyRing(OTHER_APP).seal(b"x", purpose="p", record="r")
    assert reason_of(ring, sealed) == "unknown_key"
    ours = ring.seal(b"", purpose="p", record="r")
    assert reason_of(ring, ours[:9] + sealed[9:]) == "forged"


def test_foreign_key_ids_fill_no_cache(ring: KeyRing) -> None:
    sealed = ring.seal(b"x", purpose="p", record="r")
    before = ring._cipher.cache_info().currsize  # type: ignore[attr-defined]
    for number in range(100):
        assert reason_of(ring, sealed[:1] + number.to_bytes(8, "big") + sealed[9:]) == "unknown_key"
    assert ring._cipher.cache_info().currsize == before  # type: ignore[attr-defined]


@pytest.mark.parametrize("rest", [0, 1, 60])
def test_a_newer_format_is_told_from_a_broken_value(ring: KeyRing, rest: int) -> None:
    assert reason_of(ring, b"\2" + b"x" * rest) == "newer_format"
    assert reason_of(ring, b"\0" + b"x" * rest) == "malformed"


def test_nonces_are_random_and_never_repeat(ring: KeyRing, monkeypatch: pytest.MonkeyPatch) -> None:
    nonces = {ring.seal(b"", purpose="p", record="r")[9:21] for _ in range(20_000)}
    assert len(nonces) == 20_000
    asked: list[int] = []

    def urandom(size: int) -> bytes:
        asked.append(size)
        return b"n" * size

    monkeypatch.setattr("os.urandom", urandom)
    assert ring.seal(b"", purpose="p", record="r")[9:21] == b"n" * 12
    assert asked == [12]


# ---------------------------------------------------------------------------- rotation


def test_an_old_key_opens_and_the_newest_seals() -> None:
    rotated = KeyRing([NEW, OLD])
    opened = rotated.open(KeyRing(OLD).seal(b"x", purpose="p", record="r"), purpose="p", record="r")
    assert opened.plaintext == b"x"
    assert not opened.newest
    again = rotated.seal(b"x", purpose="p", record="r")
    assert KeyRing(NEW).open(again, purpose="p", record="r").newest


def test_a_key_that_was_taken_away_is_unknown() -> None:
    sealed = KeyRing(OLD).seal(b"x", purpose="p", record="r")
    assert reason_of(KeyRing(NEW), sealed) == "unknown_key"


def test_only_the_key_that_is_named_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    ring = KeyRing([NEW, OLD, OTHER_APP])
    sealed = KeyRing(OTHER_APP).seal(b"x", purpose="p", record="r")
    made: list[bytes] = []

    def make(key: bytes) -> AESGCM:
        made.append(key)
        return AESGCM(key)

    monkeypatch.setattr(sealing, "AESGCM", make)
    assert ring.open(sealed, purpose="p", record="r").plaintext == b"x"
    assert len(made) == 1


def test_the_same_key_twice_is_one_key() -> None:
    ring = KeyRing([NEW, NEW, OLD])
    assert len(ring.signing_keys("p")) == 2
    assert ring.open(ring.seal(b"", purpose="p", record="r"), purpose="p", record="r").newest


def test_signing_keys_come_oldest_first_as_itsdangerous_wants_them() -> None:
    both = KeyRing([NEW, OLD]).signing_keys("cookie")
    assert both == [*KeyRing(OLD).signing_keys("cookie"), *KeyRing(NEW).signing_keys("cookie")]
    assert {len(key) for key in both} == {32}
    assert KeyRing(NEW).signing_keys("cookie") != KeyRing(NEW).signing_keys("other")


# ----------------------------------------------------------------- sealed with a secret


def test_whoever_has_the_secret_opens_what_it_sealed() -> None:
    secret = Secret("refresh-token-1")
    sealed = seal_with(secret, b"x", purpose="p", record="r")
    assert open_with(secret, sealed, purpose="p", record="r") == b"x"


@pytest.mark.parametrize(
    ("secret", "purpose", "record", "reason"),
    [
        pytest.param("refresh-token-2", "p", "r", "unknown_key", id="another secret"),
        pytest.param("refresh-token-1", "q", "r", "forged", id="another purpose"),
        pytest.param("refresh-token-1", "p", "s", "forged", id="another record"),
    ],
)
def test_nobody_else_opens_it(secret: str, purpose: str, record: str, reason: str) -> None:
    sealed = seal_with(Secret("refresh-token-1"), b"x", purpose="p", record="r")
    with pytest.raises(Unsealable, match=reason):
        open_with(Secret(secret), sealed, purpose=purpose, record=record)


@pytest.mark.parametrize("sealed", [b"", b"\1", b"\1" * 36])
def test_a_secret_opens_no_junk(sealed: bytes) -> None:
    with pytest.raises(Unsealable, match="malformed"):
        open_with(Secret("refresh-token-1"), sealed, purpose="p", record="r")


def test_a_ring_does_not_open_what_its_key_sealed_as_a_secret(ring: KeyRing) -> None:
    sealed = seal_with(Secret(NEW), b"x", purpose="p", record="r")
    assert reason_of(ring, sealed) == "forged"


# ------------------------------------------------------------------ what a key must be


@pytest.mark.parametrize(
    ("secret_key", "problem"),
    [
        pytest.param("", "empty", id="empty"),
        pytest.param(" \n", "empty", id="white space"),
        pytest.param([], "empty list", id="no key"),
        pytest.param([NEW, ""], "empty", id="an old key is empty"),
        pytest.param(NEW[:-1], "32 bytes", id="31 bytes"),
        pytest.param(NEW[:-1] + "\n", "32 bytes", id="31 bytes and a line feed"),
        pytest.param([NEW, OLD[:16]], "32 bytes", id="an old key is short"),
        pytest.param(
            "09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7",
            "tutorial",
            id="FastAPI's tutorial",
        ),
        pytest.param(NEW.encode(), "no text", id="bytes"),
        pytest.param([NEW.encode()], "no text", id="a list of bytes"),
        pytest.param(NEW + "\udcff", "no text", id="an environment variable that is not UTF-8"),
    ],
)
def test_a_weak_key_stops_the_start(secret_key: str, problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem) as refused:
        KeyRing(secret_key)
    assert refused.value.setting == "secret_key"


@pytest.mark.parametrize(
    "secret_key",
    [
        pytest.param("a" * 64, id="one character"),
        pytest.param("abcabcd" * 8, id="few characters"),
        pytest.param("0123456789abcdef" * 4, id="one piece repeated"),
        pytest.param("abcdefghijklmnopqrstuvwxyz012345", id="the alphabet"),
        pytest.param("zyxwvutsrqponmlkjihgfedcba987654", id="and backwards"),
        pytest.param("change-me-" + OLD, id="change-me"),
        pytest.param("CHANGE_THIS_" + OLD, id="CHANGE_THIS"),
        pytest.param("your-256-bit-secret-key-goes-here!", id="secret key"),
        pytest.param("django-insecure-" + OLD, id="Django's"),
    ],
)
def test_a_key_that_looks_easy_to_guess_is_warned_of(
    secret_key: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        KeyRing(secret_key)
    assert ["easy to guess" in record.getMessage() for record in caplog.records] == [True]


@pytest.mark.parametrize(
    "secret_key",
    [
        pytest.param("f1e9c27a0b8d4365f7a2e1c09b8d5a34", id="openssl rand -hex 16"),
        pytest.param("3J8z-_kQ0yT4bVtq1xWnPZrL9sEhCdUfGmA2oXiR5vY", id="token_urlsafe"),
        pytest.param("pferde fressen keinen gurkensalat", id="a sentence"),
    ],
)
def test_a_key_with_enough_in_it_is_taken(secret_key: str) -> None:
    KeyRing(secret_key)


@pytest.mark.case(304)
def test_white_space_around_a_key_is_taken_away_with_one_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        ring = KeyRing([f" {NEW}\n", f"{OLD}\r\n"])
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert NEW not in caplog.text
    sealed = KeyRing(NEW).seal(b"x", purpose="p", record="r")
    assert ring.open(sealed, purpose="p", record="r").newest


def test_a_refused_ring_shows_no_key(canaries: Canaries) -> None:
    canaries.add(NEW)
    with pytest.raises(ConfigurationError):
        KeyRing([NEW, "short"])
    assert not canaries.leaks()


def test_a_clean_key_warns_of_nothing(caplog: pytest.LogCaptureFixture) -> None:
    KeyRing(NEW)
    assert not caplog.records


@pytest.mark.case(304)
def test_a_key_beyond_ascii_is_taken_as_utf_8() -> None:
    derived = sealing._expand(f"grüße{NEW}".encode(), "sign", "p")
    assert KeyRing("grüße" + NEW).signing_keys("p") == [derived]


def test_the_length_of_a_key_is_counted_in_bytes() -> None:
    KeyRing("äöüßéèêñçåøæœ€¥£")  # 16 characters, 33 bytes


def test_the_format_stays_as_it_is() -> None:
    sealed = bytes.fromhex(VECTOR)
    assert KeyRing(NEW).open(sealed, purpose="session", record="abc").plaintext == b"tokens"


VECTOR = "012bf93d264f7a3663f3cfa81bc01af6122a498245e11c2f74e46528707ab903da0b6bd7ced0e276ffa279"
