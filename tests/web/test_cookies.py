from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenward.errors import ConfigurationError, SessionTooLarge
from tokenward.web.cookies import Cookie, CookieReading, cookie_names, keep_private

if TYPE_CHECKING:
    from collections.abc import Iterable

COOKIE: Final = Cookie("s")
SMALL: Final = Cookie("s", max_cookie_bytes=512)
"""Splits early, so that the number of chunks is the limit and not their sum."""

ABSENT: Final = CookieReading()


class Browser:
    """A cookie jar as RFC 6265 has it, with the limits that browsers have."""

    def __init__(self) -> None:
        self.jar: dict[str, str] = {}

    def receive(self, lines: Iterable[bytes]) -> None:
        for line in lines:
            assert len(line) <= 4096
            pair, *attributes = line.decode("ascii").split("; ")
            name, _, value = pair.partition("=")
            assert {"Path=/", "HttpOnly", "Secure", "SameSite=Lax"} <= set(attributes)
            if "Max-Age=0" in attributes:
                self.jar.pop(name, None)
            else:
                self.jar[name] = value

    def send(self) -> list[tuple[bytes, bytes]]:
        return header("; ".join(f"{name}={value}" for name, value in self.jar.items()))


def header(*lines: str | bytes) -> list[tuple[bytes, bytes]]:
    encoded = (line.encode("latin-1") if isinstance(line, str) else line for line in lines)
    return [(b"host", b"app.example"), *((b"cookie", line) for line in encoded)]


def value_of(size: int, *, salt: int = 0) -> bytes:
    return bytes((i * 7 + i // 256 + salt) % 256 for i in range(size))


def chunked(size: int, *, salt: int = 0, cookie: Cookie = SMALL) -> dict[str, str]:
    browser = Browser()
    browser.receive(cookie.write(value_of(size, salt=salt), max_age=60))
    return browser.jar


def read_jar(jar: dict[str, str], cookie: Cookie = SMALL) -> CookieReading:
    return cookie.read(header("; ".join(f"{name}={value}" for name, value in jar.items())))


ONE: Final = base64.b64encode(value_of(30)).decode()


# ---------------------------------------------------------------------------- reading


def test_a_cookie_that_is_not_there_is_absent() -> None:
    for headers in ([], header(""), header("a=b; c=d"), [(b"x-cookie", b"__Host-s=YQ")]):
        reading = COOKIE.read(headers)
        assert reading.value is None
        assert reading.rejected is None
        assert reading.names == ()


@pytest.mark.parametrize(
    "line",
    [
        f"__Host-s={ONE}",
        f"a=b; __Host-s={ONE}; c=d",
        f"a=b;__Host-s={ONE};c=d",
        f"a=b ;\t __Host-s={ONE}\t ; c=d",
        f"__Host-s2=x; __Host-s={ONE}; x__Host-s=y; __Host-s-login-a=z",
        f"a=__Host-s; __Host-s={ONE}",
        f'a="x; __Host-s={ONE}',
    ],
)
def test_a_cookie_is_found_among_others_by_its_exact_name(line: str) -> None:
    assert COOKIE.read(header(line)).value == value_of(30)


def test_a_cookie_header_that_came_in_parts_is_one_header() -> None:
    # RFC 9113, section 8.2.3
    assert COOKIE.read(header("a=b", f"__Host-s={ONE}", "c=d")).value == value_of(30)
    assert COOKIE.read(header(f"__Host-s={ONE}", f"__Host-s={ONE}")).rejected == "duplicate"


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b"\x85__Host-s=" + ONE.encode(), id="nel", marks=pytest.mark.case(280)),
        pytest.param(b"\xa0__Host-s=" + ONE.encode(), id="nbsp", marks=pytest.mark.case(280)),
        pytest.param(b"\x0b__Host-s=" + ONE.encode(), id="vt", marks=pytest.mark.case(280)),
        pytest.param(b"\x0c__Host-s=" + ONE.encode(), id="ff", marks=pytest.mark.case(280)),
        pytest.param(b"\x1c__Host-s=" + ONE.encode(), id="fs", marks=pytest.mark.case(280)),
        pytest.param(b"__Host-s\xa0=" + ONE.encode(), id="after", marks=pytest.mark.case(280)),
        pytest.param(b"=__Host-s=" + ONE.encode(), id="nameless", marks=pytest.mark.case(281)),
        pytest.param(b"__Host-s", id="no-value", marks=pytest.mark.case(281)),
        pytest.param(b"__Host-s1", id="longer-without-value", marks=pytest.mark.case(281)),
        pytest.param(b"$Version=1; $__Host-s=" + ONE.encode(), id="$", marks=pytest.mark.case(281)),
        pytest.param(b"__HOST-S=" + ONE.encode(), id="upper", marks=pytest.mark.case(281)),
        pytest.param(b"__host-s=" + ONE.encode(), id="lower", marks=pytest.mark.case(281)),
        pytest.param(b"s=" + ONE.encode(), id="no-prefix", marks=pytest.mark.case(278)),
        pytest.param(b"__Secure-s=" + ONE.encode(), id="other", marks=pytest.mark.case(278)),
        pytest.param(b"__Host-s.=" + ONE.encode(), id="dot"),
        pytest.param(b"__Host-s.0=" + ONE.encode(), id="chunk-0"),
        pytest.param(b"__Host-s.01=" + ONE.encode(), id="chunk-01"),
        pytest.param(b"__Host-s.x=" + ONE.encode(), id="chunk-x"),
        pytest.param(b"__Host-s.\xb2=" + ONE.encode(), id="chunk-superscript"),
    ],
)
def test_a_near_name_is_not_the_name(line: bytes) -> None:
    alone = COOKIE.read(header(b"a=b; " + line))
    assert (alone.value, alone.rejected, alone.names) == (None, None, ())
    reading = COOKIE.read(header(line + b"; __Host-s=" + ONE.encode()))
    assert reading.value == value_of(30)
    assert reading.names == ("__Host-s",)


@pytest.mark.case(279)
@pytest.mark.parametrize("other", [ONE, "YQ", "", "!"])
def test_a_name_that_comes_twice_is_refused_whatever_its_values(other: str) -> None:
    for line in (f"__Host-s={ONE}; __Host-s={other}", f"__Host-s={other}; a=b; __Host-s={ONE}"):
        reading = COOKIE.read(header(line))
        assert reading.value is None
        assert reading.rejected == "duplicate"
        assert reading.names == ("__Host-s",)


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("", id="empty"),
        pytest.param(f'"{ONE}"', id="quoted", marks=pytest.mark.case(281)),
        pytest.param("\\141\\142", id="octal", marks=pytest.mark.case(281)),
        pytest.param(f'"\\{ONE}"', id="quoted-pair", marks=pytest.mark.case(281)),
        pytest.param("YQ==", id="padded"),
        pytest.param("YQ=", id="half-padded"),
        pytest.param("YQ===", id="padded-too-much"),
        pytest.param("YQ==YQ==", id="padded-inside"),
        pytest.param("=YQ=", id="padded-before"),
        pytest.param("====", id="padding-only"),
        pytest.param("YR", id="spare-bits"),
        pytest.param("YWJjYWF", id="spare-bits-at-the-end"),
        pytest.param("a", id="one-character"),
        pytest.param("-_-_", id="base64url"),
        pytest.param("YW Jj", id="space-inside"),
        pytest.param("YWJj\n", id="newline"),
        pytest.param("YW=Jj", id="equals"),
        pytest.param("\xe9", id="latin-1"),
        pytest.param("1.AAAAAAAA.YQ", id="count-1"),
        pytest.param("0.AAAAAAAA.YQ", id="count-0"),
        pytest.param("9.AAAAAAAA.YQ", id="count-9"),
        pytest.param("2.AAAA.YQ", id="short-digest"),
        pytest.param("2..YQ", id="no-digest"),
        pytest.param("2.AAAAAAAA", id="no-data"),
        pytest.param("\xb2.AAAAAAAA.YQ", id="superscript-count"),
        pytest.param("..", id="dots"),
    ],
)
def test_a_value_that_was_not_written_here_is_refused(value: str) -> None:
    reading = COOKIE.read(header(b"__Host-s=" + value.encode("latin-1")))
    assert (reading.value, reading.rejected) == (None, "malformed")
    assert reading.names == ("__Host-s",)


@pytest.mark.case(268)
@pytest.mark.parametrize("size", [40, 400])
def test_a_flipped_bit_never_gives_the_same_value(size: int) -> None:
    jar = chunked(size)
    line = "; ".join(f"{name}={value}" for name, value in jar.items()).encode()
    assert SMALL.read(header(line)).value == value_of(size)
    for position in range(len(line)):
        for bit in range(8):
            flipped = bytearray(line)
            flipped[position] ^= 1 << bit
            reading = SMALL.read(header(bytes(flipped)))
            assert reading.value != value_of(size)
            assert len(jar) == 1 or reading.value is None


@pytest.mark.case(282)
@pytest.mark.case(435)
@pytest.mark.parametrize(
    "line",
    [
        pytest.param(f"__Host-s={ONE}; a=" + "b" * 200_000, id="one-long"),
        pytest.param(f"__Host-s={ONE}; " + "; ".join(f"a{i}=b" for i in range(5_000)), id="many"),
        pytest.param(f"__Host-s={ONE}; a=".ljust(16_385, "b"), id="one-byte-over"),
        pytest.param("; ".join(f"__Host-s={ONE}" for _ in range(500)), id="duplicates"),
        pytest.param("__Host-s=" + "A" * 200_000, id="own-long"),
    ],
)
def test_a_header_over_the_limit_is_refused_before_it_is_read(line: str) -> None:
    reading = COOKIE.read(header(line))
    assert (reading.value, reading.rejected) == (None, "header_too_large")
    halves = COOKIE.read(header(line[: len(line) // 2], line[len(line) // 2 :]))
    assert halves.rejected == "header_too_large"


def test_a_header_at_the_limit_is_read() -> None:
    assert COOKIE.read(header(f"__Host-s={ONE}; a=".ljust(16_384, "b"))).value == value_of(30)


def test_a_header_over_the_limit_is_relieved_of_what_may_be_ours() -> None:
    over = COOKIE.read(header(f"__Host-s={ONE}; a=" + "b" * 17_000))
    assert len(COOKIE.clear(over)) == 8
    foreign = COOKIE.read(header("a=" + "b" * 17_000))
    assert foreign.rejected == "header_too_large"
    assert foreign.names == ()


@pytest.mark.case(435)
def test_a_cookie_that_no_browser_would_keep_is_refused_before_it_is_decoded() -> None:
    reading = COOKIE.read(header("__Host-s=" + "!" * 10_000))
    assert reading.rejected == "cookie_too_large"


@pytest.mark.case(438)
@pytest.mark.parametrize("line", [";" * 16_000, "__Host-s." * 1_800, "__Host-s;" * 1_800])
def test_a_header_of_fragments_is_read_to_its_end(line: str) -> None:
    assert COOKIE.read(header(line)).value is None


def test_the_value_is_not_in_the_repr() -> None:
    assert "value" not in repr(COOKIE.read(header(f"__Host-s={ONE}")))


# ---------------------------------------------------------------------------- chunks


@pytest.mark.case(274)
@pytest.mark.case(275)
@given(size=st.integers(1, 2_600), salt=st.integers(0, 255))
def test_every_size_comes_back_from_the_browser(size: int, salt: int) -> None:
    browser = Browser()
    browser.receive(SMALL.write(value_of(size, salt=salt), max_age=60))
    reading = SMALL.read(browser.send())
    assert reading.value == value_of(size, salt=salt)
    assert set(reading.names) == set(browser.jar)


@pytest.mark.case(274)
def test_a_value_that_fills_its_chunks_to_the_last_byte_comes_back() -> None:
    filled: set[int] = set()
    # One name is not enough: no unpadded base64 is one character longer than a multiple of four.
    for cookie in (SMALL, SMALL.named("ab")):
        for size in range(300, 1_500):
            lines = cookie.write(value_of(size), max_age=60)
            browser = Browser()
            browser.receive(lines)
            assert max(map(len, lines)) <= 512
            assert cookie.read(browser.send()).value == value_of(size)
            if len(lines[-1]) == 512:
                filled.add(len(lines))
    assert {1, 2, 3, 4} <= filled


@pytest.mark.case(275)
def test_a_large_value_is_split_into_cookies_that_browsers_keep() -> None:
    for size in (3_100, 4_900, 8_300, 12_000):
        lines = COOKIE.write(value_of(size), max_age=60)
        assert len(lines) > 1
        assert all(len(line) <= 4096 for line in lines)
        assert sum(map(len, lines)) <= 16_384
        browser = Browser()
        browser.receive(lines)
        assert COOKIE.read(browser.send()).value == value_of(size)


@pytest.mark.case(273)
@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        pytest.param(lambda jar, old: jar.pop("__Host-s.1"), "chunk_missing", id="middle-missing"),
        pytest.param(lambda jar, old: jar.pop("__Host-s.2"), "chunk_missing", id="last-missing"),
        pytest.param(lambda jar, old: jar.pop("__Host-s"), "chunk_missing", id="first-missing"),
        pytest.param(
            lambda jar, old: jar.update({"__Host-s.3": "AAAA"}), "chunk_extra", id="extra"
        ),
        pytest.param(
            lambda jar, old: jar.update({f"__Host-s.{i}": "AAAA" for i in range(3, 100)}),
            "chunk_extra",
            id="hundred",
        ),
        pytest.param(
            lambda jar, old: jar.update({"__Host-s.1": old["__Host-s.1"]}),
            "chunk_mixed",
            id="older-middle",
        ),
        pytest.param(
            lambda jar, old: jar.update({"__Host-s": old["__Host-s"]}),
            "chunk_mixed",
            id="older-first",
        ),
        pytest.param(
            lambda jar, old: jar.update(
                {"__Host-s.1": jar["__Host-s.2"], "__Host-s.2": jar["__Host-s.1"]}
            ),
            "chunk_mixed",
            id="swapped",
        ),
        pytest.param(
            lambda jar, old: jar.update({"__Host-s.2": jar["__Host-s.2"][:-4]}),
            "chunk_mixed",
            id="truncated",
        ),
        pytest.param(
            lambda jar, old: jar.update({"__Host-s.2": ""}), "chunk_mixed", id="last-empty"
        ),
    ],
)
def test_a_damaged_set_of_chunks_is_refused_and_cleared(damage: object, reason: str) -> None:
    jar, older = chunked(900), chunked(900, salt=1)
    assert list(jar) == ["__Host-s", "__Host-s.1", "__Host-s.2"]
    assert callable(damage)
    damage(jar, older)
    reading = read_jar(jar)
    assert (reading.value, reading.rejected) == (None, reason)
    browser = Browser()
    browser.jar = dict(jar)
    browser.receive(SMALL.clear(reading))
    assert browser.jar == {}


@pytest.mark.case(273)
def test_a_chunk_that_comes_twice_is_refused() -> None:
    jar = chunked(900)
    line = "; ".join(f"{name}={value}" for name, value in jar.items())
    reading = SMALL.read(header(f"{line}; __Host-s.1={jar['__Host-s.1']}"))
    assert reading.rejected == "duplicate"
    assert set(reading.names) == set(jar)


@pytest.mark.case(273)
def test_a_chunk_beside_a_whole_value_is_refused() -> None:
    assert read_jar({"__Host-s": ONE, "__Host-s.1": "AAAA"}).rejected == "chunk_extra"


@pytest.mark.case(273)
def test_a_login_after_damage_is_read_at_once() -> None:
    browser = Browser()
    browser.jar = {f"__Host-s.{i}": "AAAA" for i in range(1, 100)}
    browser.receive(SMALL.write(value_of(900), max_age=60, reading=SMALL.read(browser.send())))
    assert SMALL.read(browser.send()).value == value_of(900)


@pytest.mark.case(276)
@pytest.mark.parametrize(("before", "after"), [(900, 30), (2_000, 900), (900, 2_000), (30, 30)])
def test_a_session_that_shrinks_or_grows_leaves_nothing_behind(before: int, after: int) -> None:
    browser = Browser()
    browser.receive(SMALL.write(value_of(before), max_age=60))
    browser.jar["other"] = "x"
    browser.receive(SMALL.write(value_of(after), max_age=60, reading=SMALL.read(browser.send())))
    assert SMALL.read(browser.send()).value == value_of(after)
    assert len(browser.jar) == 1 + len(SMALL.write(value_of(after), max_age=60))


@pytest.mark.case(275)
@pytest.mark.parametrize(
    ("cookie", "size"),
    [
        pytest.param(SMALL, 4_000, id="chunks"),
        pytest.param(COOKIE, 12_100, id="bytes"),
        pytest.param(COOKIE, 1_000_000, id="far-over"),
    ],
)
def test_more_than_cookies_can_hold_is_a_loud_error(cookie: Cookie, size: int) -> None:
    with pytest.raises(SessionTooLarge, match=r"(?s)bytes in \d+ cookies.*store="):
        cookie.write(value_of(size), max_age=60)


def test_other_cookies_of_the_site_count_because_the_next_request_brings_them_too() -> None:
    crowded = COOKIE.read(header("a=" + "b" * 10_000))
    assert COOKIE.write(value_of(4_000), max_age=60, reading=crowded)
    with pytest.raises(SessionTooLarge, match="10002 bytes of other cookies"):
        COOKIE.write(value_of(8_000), max_age=60, reading=crowded)


def test_other_cookies_count_beside_the_own_one() -> None:
    crowded = COOKIE.read(header("a=" + "b" * 10_000 + f"; __Host-s={ONE}"))
    assert crowded.others == 10_002
    with pytest.raises(SessionTooLarge, match="10002 bytes of other cookies"):
        COOKIE.write(value_of(8_000), max_age=60, reading=crowded)


def test_cookies_that_are_replaced_do_not_count_twice() -> None:
    browser = Browser()
    browser.receive(COOKIE.write(value_of(11_000), max_age=60))
    reading = COOKIE.read(browser.send())
    browser.receive(COOKIE.write(value_of(11_000, salt=1), max_age=60, reading=reading))
    assert COOKIE.read(browser.send()).value == value_of(11_000, salt=1)


@given(size=st.integers(1, 12_000), others=st.integers(0, 16_000))
def test_what_was_written_can_always_be_read_back(size: int, others: int) -> None:
    browser = Browser()
    browser.jar["a"] = "b" * others
    try:
        lines = COOKIE.write(value_of(size), max_age=60, reading=COOKIE.read(browser.send()))
    except SessionTooLarge:
        return
    browser.receive(lines)
    assert COOKIE.read(browser.send()).value == value_of(size)


# ------------------------------------------------------------------------ attributes


@pytest.mark.case(283)
def test_a_cookie_has_the_attributes_that_keep_it_here() -> None:
    assert COOKIE.write(b"a", max_age=60) == [
        b"__Host-s=YQ; Max-Age=60; Path=/; HttpOnly; Secure; SameSite=Lax"
    ]
    strict = Cookie("s", same_site="Strict")
    assert strict.write(b"a", max_age=60)[0].endswith(b"; Secure; SameSite=Strict")


def test_a_deletion_has_the_attributes_of_what_it_deletes() -> None:
    assert COOKIE.clear() == [b"__Host-s=; Max-Age=0; Path=/; HttpOnly; Secure; SameSite=Lax"]
    below = Cookie("s", prefix="__Secure-", path="/shop", same_site="Strict")
    assert below.clear(read_jar({"__Secure-s": ONE, "__Secure-s.1": "A"}, below)) == [
        b"__Secure-s=; Max-Age=0; Path=/shop; HttpOnly; Secure; SameSite=Strict",
        b"__Secure-s.1=; Max-Age=0; Path=/shop; HttpOnly; Secure; SameSite=Strict",
    ]


@pytest.mark.parametrize(
    ("max_age", "attribute"),
    [
        pytest.param(60, b"; Max-Age=60;", id="seconds"),
        pytest.param(60.9, b"; Max-Age=60;", id="rounded-down"),
        pytest.param(0.4, b"; Max-Age=0;", id="over"),
        pytest.param(-5, b"; Max-Age=0;", id="long-over"),
        pytest.param(3_000_000_000, b"; Max-Age=34560000;", id="beyond-what-browsers-keep"),
        pytest.param(float("inf"), b"; Max-Age=34560000;", id="for-ever"),
    ],
)
def test_max_age_is_whole_seconds(max_age: float, attribute: bytes) -> None:
    assert attribute in COOKIE.write(b"a", max_age=max_age)[0]


def test_without_max_age_the_cookie_goes_with_the_browser() -> None:
    assert b"Max-Age" not in COOKIE.write(b"a", max_age=None)[0]


def test_lines_hold_nothing_that_could_begin_another() -> None:
    for line in SMALL.write(bytes(range(256)) * 8, max_age=60):
        assert re.fullmatch(rb"[A-Za-z0-9_.=+/; -]+", line)


@pytest.mark.case(284)
@pytest.mark.parametrize(
    ("settings", "named"),
    [
        pytest.param({"same_site": "None", "secure": False, "prefix": ""}, "same_site", id="none"),
        pytest.param({"path": "/shop"}, "prefix", id="host-prefix-with-path"),
        pytest.param({"secure": False}, "prefix", id="host-prefix-without-secure"),
        pytest.param({"secure": False, "prefix": "__Secure-"}, "prefix", id="secure-prefix"),
        pytest.param({"name": "__Host-s"}, "name", id="prefix-in-the-name"),
        pytest.param({"name": "__Secure-s"}, "name", id="other-prefix-in-the-name"),
        pytest.param({"name": ""}, "name", id="no-name"),
        pytest.param({"name": "a b"}, "name", id="space"),
        pytest.param({"name": "a.1"}, "name", id="dot"),
        pytest.param({"name": "a=b"}, "name", id="equals"),
        pytest.param({"name": "a;b"}, "name", id="semicolon"),
        pytest.param({"name": "a\n"}, "name", id="newline"),
        pytest.param({"name": "a" * 101}, "name", id="long-name"),
        pytest.param({"path": "shop", "prefix": "__Secure-"}, "path", id="relative-path"),
        pytest.param({"path": "/a;b", "prefix": "__Secure-"}, "path", id="semicolon-in-path"),
        pytest.param({"path": "/a\r\nb", "prefix": "__Secure-"}, "path", id="newline-in-path"),
        pytest.param({"same_site": "lax"}, "same_site", id="lower-case"),
        pytest.param({"prefix": "__host-"}, "prefix", id="unknown-prefix"),
        pytest.param({"max_cookie_bytes": 511}, "max_cookie_bytes", id="tiny"),
        pytest.param({"max_cookie_bytes": 4097}, "max_cookie_bytes", id="huge"),
        pytest.param({"max_header_bytes": 4095}, "max_header_bytes", id="tiny-header"),
        pytest.param({"max_header_bytes": 16385}, "max_header_bytes", id="huge-header"),
    ],
)
def test_settings_that_browsers_would_ignore_stop_the_start(
    settings: dict[str, object], named: str
) -> None:
    arguments: dict[str, object] = {"name": "s", **settings}
    with pytest.raises(ConfigurationError) as refused:
        Cookie(**arguments)  # type: ignore[arg-type]
    assert refused.value.setting == f"cookie.{named}"


@pytest.mark.parametrize(
    ("origin", "names"),
    [
        pytest.param("https://shop.example", b"__Host-tokenward=YQ", id="https"),
        pytest.param("https://localhost:8443", b"__Host-tokenward=YQ", id="https-loopback"),
    ],
)
def test_an_https_origin_gets_the_host_prefix(origin: str, names: bytes) -> None:
    assert Cookie.for_origin(origin).write(b"a", max_age=None) == [
        names + b"; Path=/; HttpOnly; Secure; SameSite=Lax"
    ]


@pytest.mark.parametrize(
    ("origin", "names"),
    [
        pytest.param("http://localhost:8000", b"tokenward-8000=YQ", id="port"),
        pytest.param("http://127.0.0.1:8001", b"tokenward-8001=YQ", id="other-port"),
        pytest.param("http://[::1]", b"tokenward-80=YQ", id="default-port"),
    ],
)
def test_plain_http_on_loopback_has_the_port_in_the_name(origin: str, names: bytes) -> None:
    cookie = Cookie.for_origin(origin, dangerously_allow_http=True)
    assert cookie.write(b"a", max_age=None) == [names + b"; Path=/; HttpOnly; SameSite=Lax"]
    assert cookie.read(header(names)).value == b"a"


@pytest.mark.case(283)
@pytest.mark.parametrize("origin", ["https://shop.example", "http://localhost:8000"])
def test_strict_is_for_apps_that_ask_for_it(origin: str) -> None:
    cookie = Cookie.for_origin(origin, name="shop", same_site="Strict", dangerously_allow_http=True)
    assert cookie.name.startswith("shop")
    assert cookie.write(b"a", max_age=None)[0].endswith(b"; SameSite=Strict")


@pytest.mark.case(284)
@pytest.mark.parametrize(
    ("origin", "allow"), [("http://localhost:8000", False), ("http://shop.example", True)]
)
def test_plain_http_is_refused(origin: str, allow: bool) -> None:
    with pytest.raises(ConfigurationError, match=r"^public_url: "):
        Cookie.for_origin(origin, dangerously_allow_http=allow)


# ------------------------------------------------------------------ related cookies


def test_a_related_cookie_has_all_but_the_name() -> None:
    attempt = COOKIE.named("login-abc")
    assert attempt.write(b"a", max_age=600) == [
        b"__Host-s-login-abc=YQ; Max-Age=600; Path=/; HttpOnly; Secure; SameSite=Lax"
    ]
    with pytest.raises(ConfigurationError):
        COOKIE.named("a;b")


def test_names_with_a_prefix_are_listed_oldest_first_and_once() -> None:
    headers = header(
        "__Host-s-login-b=1; __Host-s=x; __Host-s-login-a=2", "__Host-s-login-b=3; y=z"
    )
    assert cookie_names(headers, prefix="__Host-s-login-") == (
        "__Host-s-login-b",
        "__Host-s-login-a",
    )


@pytest.mark.parametrize(
    "line",
    [
        "",
        "__Host-s-login-=1",
        "__Host-s-login-a.1=1",
        "__Host-s-login-a b=1",
        "__Host-s-login-\xe9=1",
        "__Host-s-login-" + "a" * 200 + "=1",
        "\xa0__Host-s-login-a=1",
        "=__Host-s-login-a=1",
        "__Host-s-login-a",
        "__Host-s-login-a=1; x=" + "y" * 17_000,
    ],
)
def test_names_that_were_not_made_here_are_not_listed(line: str) -> None:
    assert cookie_names(header(line), prefix="__Host-s-login-") == ()


# ------------------------------------------------------------------ shared caches


@pytest.mark.parametrize(
    ("vary", "expected"),
    [
        pytest.param([], [b"Cookie"], id="none"),
        pytest.param([b"Accept"], [b"Accept", b"Cookie"], id="other"),
        pytest.param([b"accept, cookie"], [b"accept, cookie"], id="there"),
        pytest.param([b"X-Cookie"], [b"X-Cookie", b"Cookie"], id="similar"),
        pytest.param([b"*"], [b"*"], id="everything"),
    ],
)
def test_an_answer_that_depends_on_a_session_is_kept_by_no_cache(
    vary: list[bytes], expected: list[bytes]
) -> None:
    answer = [
        (b"content-type", b"text/plain"),
        (b"Cache-Control", b"public, max-age=3600"),
        *((b"vary", line) for line in vary),
    ]
    assert keep_private(answer) == [
        (b"content-type", b"text/plain"),
        *((b"vary", line) for line in expected),
        (b"cache-control", b"private, no-store"),
    ]
