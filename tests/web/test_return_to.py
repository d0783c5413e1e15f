from __future__ import annotations

import json
import random
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs, unquote, urlencode

import pytest
from starlette.responses import RedirectResponse

from tokenward.errors import ConfigurationError
from tokenward.origins import parse_origin
from tokenward.settings import read_origins
from tokenward.web.return_to import MAX_LENGTH, allowed_target, local_target

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

ORACLE: Final = Path(__file__).parent / "oracle"
CORPUS: Final[dict[str, list[str]]] = json.loads((ORACLE / "corpus.json").read_text())
"""Targets that must be refused, under the row of the attack matrix that they belong to."""

TOO_LONG: Final = [
    "/" + "a" * MAX_LENGTH,
    "/" + "a/" * (MAX_LENGTH // 2),
    "/?" + "a" * (MAX_LENGTH - 1),
    "/a?" + "%20" * (MAX_LENGTH // 3),
    "/" + "a" * (MAX_LENGTH - 1) + "//evil.example",
]

LEGITIMATE: Final = [
    "/",
    "/a",
    "/a/",
    "/a/b/c.html",
    "/a?b=/c",
    "/a?b=//c",
    "/a?next=https://elsewhere.example/x",
    "/a?next=https%3A%2F%2Felsewhere.example%2Fx",
    "/a?b=c&d=e&d=f",
    "/a?",
    "/?",
    "/?a",
    "/a?b=../c",
    "/a?b=%2e%2e%2fc",
    "/search?q=%20",
    "/a%20b",
    "/%20",
    "/%C3%A9",
    "/caf%C3%A9",
    "/%E6%97%A5%E6%9C%AC",
    "/%D9%85%D9%82%D8%A7%D9%84%D9%87%E2%80%8C%D9%87%D8%A7",
    "/%F0%9F%98%80",
    "/100%25",
    "/100%25/b",
    "/a%252520b",
    "/a?discount=100%25",
    "/a?q=%2B%26%3D",
    "/a?path=C%3A%5CUsers",
    "/a?filter[name]=x",
    "/a?q={a|b}^c",
    "/a|b",
    "/[slug]",
    "/a%2Fb",
    "/@user",
    "/a:b",
    "/users/a@b.example",
    "/a;v=1/b",
    "/a,b",
    "/~home",
    "/.well-known/x",
    "/..a",
    "/a..",
    "/...",
    "/a.b.",
    "/it's",
    "/a(b)!*$+&=",
    "/a#frag",
    "/#/route/of/an/app",
    "/a?b#c?d/e",
    "/a#//b",
    "/authors",
    "/" + "a" * (MAX_LENGTH - 1),
]


def decodings(text: str) -> Iterator[str]:
    """Give `text` raw, decoded once and decoded twice."""
    for _ in range(3):
        yield text
        text = unquote(text)


def leaving(targets: Collection[str]) -> list[str]:
    """Ask the URL parser of browsers which targets lead to another origin."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("node has the URL parser that this test asks, and is not installed")
    told = subprocess.run(
        [node, str(ORACLE / "oracle.mjs")],
        input=json.dumps(list(targets)),
        capture_output=True,
        check=True,
        text=True,
    )
    answer: list[str] = json.loads(told.stdout)
    return answer


PIECES: Final = (
    *("/", "//", "\\", ".", "..", "%2f", "%2F", "%5c", "%2e", "%2e%2e", "%25", "%252f", "%255c"),
    *("%09", "%0a", "%0d", "%00", "%20", "%ff", "%C3%A9", "%EF%BC%8F", "%E2%80%8B", "%3f", "%23"),
    *("?", "#", "@", ":", ";", "&", "=", "~", "%", " ", "\t", "\n", "\r", "\x00", "\x0b", "\xa0"),
    *("a", "b", "app", "evil.example", "https:", "javascript:", "[::1]", "0x7f000001", "|", "{"),
    *("\uff0f", "\u3002", "\u2028", "\ufeff", "\xe9"),
)


def generated(count: int) -> list[str]:
    """Make up targets from the pieces that attacks consist of."""
    chance = random.Random(20261121)
    return [
        ("/" if chance.random() < 0.9 else "") + "".join(chance.choices(PIECES, k=length))
        for length in (chance.randint(1, 7) for _ in range(count))
    ]


@pytest.mark.parametrize(
    "row", [pytest.param(row, id=f"row-{row}", marks=pytest.mark.case(int(row))) for row in CORPUS]
)
def test_a_target_that_may_lead_elsewhere_is_refused(row: str) -> None:
    assert [t for t in CORPUS[row] if local_target(t) is not None] == []


@pytest.mark.case(1)
def test_no_target_is_no_target() -> None:
    assert local_target(None) is None


@pytest.mark.case(16)
@pytest.mark.parametrize("target", TOO_LONG, ids=range(len(TOO_LONG)))
def test_a_long_target_is_refused_and_not_cut(target: str) -> None:
    assert local_target(target) is None


@pytest.mark.case(12)
@pytest.mark.parametrize("part", ["/a{}b", "/a?{}", "/a#{}"])
def test_what_is_encoded_more_than_three_times_is_refused_even_if_harmless(part: str) -> None:
    assert local_target(part.format("%252520")) is not None
    assert local_target(part.format("%25252520")) is None


def test_the_length_is_what_the_caller_says() -> None:
    assert local_target("/abc", max_length=4) == "/abc"
    assert local_target("/abcd", max_length=4) is None


@pytest.mark.parametrize("target", LEGITIMATE)
def test_a_target_on_this_site_is_given_back_as_it_is(target: str) -> None:
    assert local_target(target) == target


@pytest.mark.case(24)
def test_no_accepted_target_leaves_the_origin() -> None:
    corpus = [t for targets in CORPUS.values() for t in targets]
    candidates = [*generated(100_000), *corpus, *LEGITIMATE]
    accepted = {t for t in candidates if local_target(t) is not None}
    assert len(accepted) > 3_000
    assert leaving({form for target in accepted for form in decodings(target)}) == []


def test_the_oracle_sees_what_a_check_of_the_first_characters_lets_through() -> None:
    naive = [
        t
        for targets in CORPUS.values()
        for t in targets
        if t.startswith("/") and not t.startswith("//")
    ]
    assert len(leaving(naive)) > 20


@pytest.mark.parametrize(
    "target",
    [
        pytest.param("/auth", id="the-prefix", marks=pytest.mark.case(20)),
        pytest.param("/auth/", id="with-a-slash", marks=pytest.mark.case(20)),
        pytest.param("/auth/login", id="login", marks=pytest.mark.case(20)),
        pytest.param("/auth/callback?code=c", id="callback", marks=pytest.mark.case(20)),
        pytest.param("/auth/logout#x", id="logout", marks=pytest.mark.case(20)),
        pytest.param("/auth?x", id="with-a-query", marks=pytest.mark.case(20)),
        pytest.param("/%61uth/login", id="encoded", marks=pytest.mark.case(20)),
        pytest.param("/%2561uth/login", id="encoded-twice", marks=pytest.mark.case(20)),
        pytest.param("/auth%2Flogin", id="encoded-slash", marks=pytest.mark.case(20)),
    ],
)
@pytest.mark.parametrize("prefix", ["/auth", "/auth/"])
def test_a_target_under_a_forbidden_prefix_is_refused(target: str, prefix: str) -> None:
    assert local_target(target) == target
    assert local_target(target, forbidden_prefixes=("/other", prefix)) is None


@pytest.mark.parametrize("target", ["/authors", "/a/auth", "/a?b=/auth", "/", "/Auth"])
def test_a_prefix_ends_where_a_segment_ends(target: str) -> None:
    assert local_target(target, forbidden_prefixes=("/auth",)) == target


@pytest.mark.case(22)
@pytest.mark.parametrize("target", LEGITIMATE)
def test_an_accepted_target_is_accepted_again_in_every_channel(target: str) -> None:
    location = RedirectResponse(target, status_code=303).headers["location"]
    from_json = json.loads(json.dumps({"return_to": target}))["return_to"]
    from_query = parse_qs(urlencode({"r": target}))["r"][0]
    for emitted in (location, from_json, from_query):
        assert local_target(emitted) == emitted
    assert not set(target) & set('<>"\\`\r\n ')


@pytest.mark.case(438)
@pytest.mark.parametrize(
    "target",
    [
        "/" + "%25" * 33_000,
        "/" * 100_000,
        "/" + "a" * 100_000 + "\\",
        "/" + "?" * 100_000,
        "/" + "%2" * 50_000,
        "/" + "a%" * 50_000,
    ],
    ids=range(6),
)
def test_a_hundred_kilobytes_are_judged_at_once(target: str) -> None:
    assert local_target(target) is None
    assert local_target(target, max_length=len(target)) in {None, target}


# ------------------------------------------------------------ the query of the login route


# ------------------------------------------------------------------------ other origins


def read(*entries: str) -> frozenset[str]:
    """Read the setting."""
    return read_origins("allowed_return_origins", entries, dangerously_allow_http=False)


ORIGINS: Final = read("https://app.example", "https://spa.example:8443")


@pytest.mark.parametrize(
    "target",
    [
        "https://app.example",
        "https://app.example/",
        "https://app.example/a?b=c#d",
        "https://spa.example:8443/a",
        "/a",
    ],
)
def test_a_target_on_an_allowed_origin_is_given_back_as_it_is(target: str) -> None:
    assert allowed_target(target, allowed_origins=ORIGINS) == target


@pytest.mark.parametrize(
    "row", [pytest.param(row, id=f"row-{row}", marks=pytest.mark.case(int(row))) for row in CORPUS]
)
def test_the_list_of_origins_lets_no_attack_through(row: str) -> None:
    assert [t for t in CORPUS[row] if allowed_target(t, allowed_origins=ORIGINS) is not None] == []


@pytest.mark.parametrize(
    "target",
    [
        pytest.param("https://app.example.evil.com/", id="suffix", marks=pytest.mark.case(9)),
        pytest.param("https://evil-app.example/", id="prefix", marks=pytest.mark.case(9)),
        pytest.param("https://spa.example/", id="port-left-out", marks=pytest.mark.case(9)),
        pytest.param("https://app.example:444/", id="other-port", marks=pytest.mark.case(9)),
        pytest.param("http://app.example/", id="other-scheme", marks=pytest.mark.case(9)),
        pytest.param("https://app.example//evil.example", id="double-slash"),
        pytest.param("https://app.example/%5cevil.example", id="backslash"),
        pytest.param("https://app.example/../a", id="dots"),
        pytest.param("https://app.example/auth/login", id="loop"),
        pytest.param("https://app.example/" + "a" * MAX_LENGTH, id="long"),
        pytest.param("https://app.example\n", id="newline"),
        pytest.param("https://app.example/a\n", id="newline-2"),
        pytest.param(None, id="none"),
    ],
)
def test_a_target_on_another_origin_is_refused(target: str | None) -> None:
    assert allowed_target(target, allowed_origins=ORIGINS, forbidden_prefixes=("/auth",)) is None


def test_without_a_list_only_this_site_is_allowed() -> None:
    assert allowed_target("https://app.example/", allowed_origins=()) is None


def test_no_generated_absolute_target_leaves_the_allowed_origins() -> None:
    candidates = [f"https://app.example{t}" for t in generated(5_000)]
    accepted = [t for t in candidates if allowed_target(t, allowed_origins=ORIGINS) is not None]
    assert len(accepted) > 100
    assert leaving(accepted) == []


@pytest.mark.parametrize(
    ("entry", "origin"),
    [
        pytest.param("https://app.example", "https://app.example", id="plain"),
        pytest.param("https://app.example/", "https://app.example", id="slash"),
        pytest.param("HTTPS://App.Example", "https://app.example", id="upper-case"),
        pytest.param("https://app.example:443", "https://app.example", id="default-port"),
        pytest.param("https://app.example:8443", "https://app.example:8443", id="port"),
        pytest.param("https://127.0.0.1:8443", "https://127.0.0.1:8443", id="ipv4"),
        pytest.param("https://[::1]:8443", "https://[::1]:8443", id="ipv6"),
        pytest.param("https://xn--caf-dma.example", "https://xn--caf-dma.example", id="punycode"),
        pytest.param("https://intranet", "https://intranet", id="one-label"),
    ],
)
def test_an_origin_is_compared_in_one_form(entry: str, origin: str) -> None:
    assert read(entry) == {origin}


@pytest.mark.parametrize(
    "entry",
    [
        pytest.param("http://app.example", id="http", marks=pytest.mark.case(23)),
        pytest.param("http://localhost:5173", id="http-loopback", marks=pytest.mark.case(23)),
        pytest.param("http://", id="nothing", marks=pytest.mark.case(23)),
        pytest.param("https://app.example:*", id="any-port", marks=pytest.mark.case(23)),
        pytest.param("https://*.app.example", id="any-host", marks=pytest.mark.case(23)),
        pytest.param("https://*", id="all-hosts", marks=pytest.mark.case(23)),
        pytest.param("https://app.example*", id="trailing-star", marks=pytest.mark.case(23)),
        pytest.param("https://app.example/*", id="any-path", marks=pytest.mark.case(23)),
        pytest.param("https://.app.example", id="dot-domain", marks=pytest.mark.case(23)),
        pytest.param("*", id="star", marks=pytest.mark.case(23)),
        pytest.param("app.example", id="no-scheme"),
        pytest.param("https://app.example/path", id="path"),
        pytest.param("https://app.example?x", id="query"),
        pytest.param("https://a@app.example", id="userinfo"),
        pytest.param("https://app.example:", id="empty-port"),
        pytest.param("https://app.example:0", id="port-0"),
        pytest.param("https://app.example:0443", id="port-with-zero"),
        pytest.param("https://app.example:65536", id="port-too-high"),
        pytest.param("https://app..example", id="empty-label"),
        pytest.param("https://-app.example", id="dash"),
        pytest.param("https://app.example.", id="trailing-dot"),
        pytest.param("https://caf\xe9.example", id="not-ascii"),
        pytest.param("https://\u212a.example", id="kelvin-sign"),
        pytest.param("https://0x7f000001", id="hex-ip"),
        pytest.param("https://127.1", id="short-ip"),
        pytest.param("https://1.2.3.256", id="no-ip"),
        pytest.param("https://[::0001]", id="long-ipv6"),
        pytest.param("https://[::1", id="open-bracket"),
        pytest.param("https://app.example\n", id="newline"),
        pytest.param("ftp://app.example", id="ftp"),
        pytest.param("", id="empty"),
    ],
)
def test_an_origin_that_is_not_exact_stops_the_start(entry: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^allowed_return_origins: ") as refused:
        read("https://ok.example", entry)
    assert refused.value.setting == "allowed_return_origins"


@pytest.mark.parametrize(
    "entry", ["http://localhost:5173", "http://127.0.0.1:8000", "http://[::1]:80"]
)
def test_http_is_for_loopback_with_the_flag(entry: str) -> None:
    assert parse_origin(entry, setting="public_url", dangerously_allow_http=True) == (
        entry.removesuffix(":80")
    )
    with pytest.raises(ConfigurationError, match=r"^public_url: .*dangerously_allow_http"):
        parse_origin(entry, setting="public_url")


@pytest.mark.parametrize(
    "entry", ["http://app.example", "http://localhost.evil.example", "http://10.0.0.1"]
)
def test_the_flag_allows_http_on_loopback_only(entry: str) -> None:
    with pytest.raises(ConfigurationError, match="loopback"):
        parse_origin(entry, setting="public_url", dangerously_allow_http=True)
