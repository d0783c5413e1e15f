"""A discovery document is used whole, or not at all."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenward.errors import ConfigurationError, InvalidMetadata
from tokenward.protocol.metadata import (
    DiscoveryPolicy,
    ProviderMetadata,
    check_issuer,
    discovery_url,
    is_loopback,
    parse_provider_metadata,
)

ISSUER = "https://op.example"
STRICT = DiscoveryPolicy()
LOOPBACK = DiscoveryPolicy(dangerously_allow_http=True)

DOCUMENT: dict[str, Any] = {
    "issuer": ISSUER,
    "authorization_endpoint": "https://op.example/authorize",
    "token_endpoint": "https://op.example/token",
    "jwks_uri": "https://op.example/jwks",
    "response_types_supported": ["code"],
}


def parse(*without: str, policy: DiscoveryPolicy = STRICT, **members: Any) -> ProviderMetadata:
    """Parse the document above with members left out and others set."""
    document = {name: value for name, value in DOCUMENT.items() if name not in without} | members
    return parse_provider_metadata(json.dumps(document).encode(), issuer=ISSUER, policy=policy)


def test_a_small_document_is_enough() -> None:
    metadata = parse()
    assert metadata.token_endpoint == "https://op.example/token"
    assert metadata.end_session_endpoint is None
    assert metadata.authorization_response_iss_parameter_supported is False
    assert dict(metadata.mtls_endpoint_aliases) == {}


def test_everything_that_was_told_is_there() -> None:
    endpoints = {
        f"{name}_endpoint": f"https://op.example/{name}"
        for name in (
            "userinfo",
            "end_session",
            "revocation",
            "introspection",
            "pushed_authorization_request",
            "device_authorization",
            "registration",
        )
    }
    metadata = parse(**endpoints, authorization_response_iss_parameter_supported=True, extra=[1])
    for name, url in endpoints.items():
        assert getattr(metadata, name) == url
    assert metadata.authorization_response_iss_parameter_supported is True
    assert metadata.raw["extra"] == [1]
    assert "extra" not in repr(metadata)
    with pytest.raises(TypeError):
        metadata.raw["issuer"] = "https://evil.example"  # type: ignore[index]


@pytest.mark.case(169)
@pytest.mark.parametrize(
    "member",
    [
        "scopes_supported",
        "response_types_supported",
        "code_challenge_methods_supported",
        "token_endpoint_auth_methods_supported",
        "id_token_signing_alg_values_supported",
    ],
)
def test_a_list_that_was_not_told_is_not_an_empty_one(member: str) -> None:
    """Whoever checks for S256 must tell "knows no PKCE" from "says nothing"."""
    assert getattr(parse(member), member) is None
    assert getattr(parse(**{member: None}), member) is None
    assert getattr(parse(**{member: []}), member) == ()
    assert getattr(parse(**{member: ["S256", "x"]}), member) == ("S256", "x")


@pytest.mark.case(149)
@pytest.mark.parametrize(
    "told",
    [
        pytest.param("https://op.example/", id="slash"),
        pytest.param("https://OP.example", id="case"),
        pytest.param("https://op.example/tenant", id="path"),
        pytest.param("https://op.example:443", id="port"),
        pytest.param("https://evil.example", id="other"),
        pytest.param("http://op.example", id="scheme"),
        pytest.param([ISSUER], id="list"),
        pytest.param(None, id="null"),
    ],
)
def test_the_issuer_is_the_configured_one_to_the_character(told: object) -> None:
    with pytest.raises(InvalidMetadata, match=r"^issuer: ") as caught:
        parse(issuer=told)
    assert caught.value.member == "issuer"


@pytest.mark.case(149)
def test_a_document_without_issuer_is_refused() -> None:
    with pytest.raises(InvalidMetadata, match=r"^issuer: "):
        parse("issuer")


@pytest.mark.parametrize(
    "issuer",
    [
        ISSUER,
        "https://op.example:8443/a/b/",
        "https://[2001:db8::1]",
        "https://op.example/".ljust(2048, "a"),
    ],
)
def test_an_https_issuer_can_be_configured(issuer: str) -> None:
    check_issuer(issuer, STRICT)


@pytest.mark.case(150)
@pytest.mark.parametrize(
    ("issuer", "problem"),
    [
        pytest.param("http://op.example", "must use https", id="http"),
        pytest.param("http://localhost:8080", "must use https", id="loopback without flag"),
        pytest.param("ftp://op.example", "must use https", id="ftp"),
        pytest.param("op.example", "has no host", id="no scheme"),
        pytest.param("", "is not a URL", id="empty"),
        pytest.param("https://", "has no host", id="no host"),
        pytest.param("https://:443", "has no host", id="port only"),
        pytest.param("https://op%2eexample", "has no host", id="percent in the host"),
        pytest.param("https://op.example?", "has a query", id="query"),
        pytest.param("https://op.example#", "has a fragment", id="fragment"),
        pytest.param("https://me@op.example", "has user information", id="user"),
        pytest.param("https://op.example@", "has user information", id="user only"),
        pytest.param("https://op.exa\tmple", "is not a URL", id="tab"),
        pytest.param("https://op.example\n", "is not a URL", id="line end"),
        pytest.param(" https://op.example", "is not a URL", id="space"),
        pytest.param("https://\u00f6p.example", "is not a URL", id="non-ASCII"),
        pytest.param("https://op.example\\@evil", "is not a URL", id="backslash"),
        pytest.param("https://op.example/{tenantid}", "is not a URL", id="template"),
        pytest.param("https://[x]/", "is not a URL", id="broken address"),
        pytest.param("https://op.example:99999", "is not a URL", id="port out of range"),
        pytest.param("https://op.example/".ljust(2049, "a"), "is not a URL", id="too long"),
    ],
)
def test_an_unsafe_issuer_stops_the_start(issuer: str, problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem) as caught:
        check_issuer(issuer, STRICT)
    assert caught.value.setting == "issuer"


@pytest.mark.case(150)
@pytest.mark.parametrize(
    "issuer",
    ["http://localhost:8080", "http://127.0.0.1", "http://127.9.9.9:1", "http://[::1]:80/op"],
)
def test_http_on_loopback_takes_a_flag(issuer: str) -> None:
    check_issuer(issuer, LOOPBACK)
    with pytest.raises(ConfigurationError, match="must use https"):
        check_issuer(issuer, STRICT)


@pytest.mark.case(150)
@pytest.mark.parametrize(
    "issuer",
    [
        "http://localhost:80@evil.example",
        "http://localhost.evil.example",
        "http://127.0.0.1.evil.example",
        "http://10.0.0.1",
        "http://0.0.0.0",
        "http://[::]",
        "http://localhost%2eevil",
        "http://op.example/localhost",
        "ftp://localhost",
        "javascript://localhost/",
    ],
)
def test_the_flag_is_for_loopback_only(issuer: str) -> None:
    with pytest.raises(ConfigurationError):
        check_issuer(issuer, LOOPBACK)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True),
        ("LOCALHOST", True),
        ("::1", True),
        ("127.0.0.1", True),
        ("127.1", False),
        ("app.localhost", False),
        ("", False),
    ],
)
def test_loopback_is_this_machine(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


@pytest.mark.parametrize(
    ("issuer", "url"),
    [
        (ISSUER, "https://op.example/.well-known/openid-configuration"),
        ("https://op.example/", "https://op.example/.well-known/openid-configuration"),
        ("https://op.example/a/b", "https://op.example/a/b/.well-known/openid-configuration"),
        ("https://op.example/a/", "https://op.example/a/.well-known/openid-configuration"),
    ],
)
def test_the_document_is_below_the_issuer(issuer: str, url: str) -> None:
    assert discovery_url(issuer) == url


ENDPOINTS = [
    "authorization_endpoint",
    "token_endpoint",
    "jwks_uri",
    "userinfo_endpoint",
    "end_session_endpoint",
    "backchannel_authentication_endpoint",
    "check_session_iframe",  # known to nobody here, but in `raw`
]


@pytest.mark.parametrize("member", ENDPOINTS)
@pytest.mark.parametrize(
    "url",
    [
        pytest.param("http://op.example/x", marks=pytest.mark.case(151), id="http"),
        pytest.param("http://localhost/x", marks=pytest.mark.case(151), id="loopback"),
        pytest.param("javascript:alert(1)", marks=pytest.mark.case(152), id="javascript"),
        pytest.param("file:///etc/passwd", marks=pytest.mark.case(152), id="file"),
        pytest.param("data:text/html,x", marks=pytest.mark.case(152), id="data"),
        pytest.param("https://a@op.example/x", marks=pytest.mark.case(152), id="user"),
        pytest.param("https://a:b@op.example/x", marks=pytest.mark.case(152), id="password"),
        pytest.param("https://op.example/x#y", marks=pytest.mark.case(152), id="fragment"),
        pytest.param("https://[x]/", marks=pytest.mark.case(152), id="unparsable"),
        pytest.param("https://op.example/$(x)`id`", marks=pytest.mark.case(152), id="shell"),
        pytest.param("/token", marks=pytest.mark.case(152), id="relative"),
        pytest.param("", marks=pytest.mark.case(152), id="empty"),
    ],
)
def test_an_unsafe_endpoint_spoils_the_document(member: str, url: str) -> None:
    with pytest.raises(InvalidMetadata) as caught:
        parse(**{member: url})
    assert caught.value.member == member


@pytest.mark.case(151)
def test_http_endpoints_on_loopback_take_the_flag() -> None:
    assert parse(policy=LOOPBACK, token_endpoint="http://127.0.0.1/token").token_endpoint
    with pytest.raises(InvalidMetadata, match=r"token_endpoint: .* must use https"):
        parse(policy=LOOPBACK, token_endpoint="http://op.example/token")


def test_an_endpoint_may_have_a_query() -> None:
    url = "https://op.example/token?tenant=1"
    assert parse(token_endpoint=url).token_endpoint == url


@pytest.mark.case(153)
def test_endpoints_may_be_on_other_hosts_unless_they_are_pinned() -> None:
    url = "https://oauth2.elsewhere.example/token"
    assert parse(token_endpoint=url).token_endpoint == url
    pinned = DiscoveryPolicy(endpoint_hosts=frozenset({"OAuth2.Elsewhere.example"}))
    assert parse(policy=pinned, token_endpoint=url).token_endpoint == url
    for hosts in (frozenset[str](), frozenset({"elsewhere.example"})):
        with pytest.raises(InvalidMetadata, match=r"token_endpoint: .* does not list"):
            parse(policy=DiscoveryPolicy(endpoint_hosts=hosts), token_endpoint=url)


@pytest.mark.case(156)
@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"<!doctype html><title>Sign in</title>", id="html"),
        pytest.param(b"", id="empty"),
        pytest.param(json.dumps([DOCUMENT]).encode(), id="list"),
        pytest.param(json.dumps(DOCUMENT).encode()[:-1], id="truncated"),
        pytest.param(b"\xef\xbb\xbf" + json.dumps(DOCUMENT).encode(), id="byte order mark"),
        pytest.param(b'{"issuer": "x",' + json.dumps(DOCUMENT).encode()[1:], id="duplicate"),
        pytest.param(b'{"n": NaN,' + json.dumps(DOCUMENT).encode()[1:], id="NaN"),
    ],
)
def test_what_is_not_a_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidMetadata) as caught:
        parse_provider_metadata(body, issuer=ISSUER, policy=STRICT)
    assert caught.value.member == "document"


@pytest.mark.case(157)
@pytest.mark.parametrize("member", ["authorization_endpoint", "token_endpoint", "jwks_uri"])
def test_a_missing_member_is_named(member: str) -> None:
    for document in (lambda: parse(member), lambda: parse(**{member: None})):
        with pytest.raises(InvalidMetadata, match=f"^{member}: is missing"):
            document()


@pytest.mark.case(157)
@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("token_endpoint", ["https://op.example/token"]),
        ("jwks_uri", 1),
        ("userinfo_endpoint", {}),
        ("revocation_endpoint", False),
        ("code_challenge_methods_supported", "S256"),
        ("scopes_supported", {"openid": True}),
        ("token_endpoint_auth_methods_supported", ["client_secret_basic", 1]),
        ("authorization_response_iss_parameter_supported", "true"),
        ("authorization_response_iss_parameter_supported", 1),
    ],
)
def test_a_member_of_the_wrong_type_is_named(member: str, value: object) -> None:
    with pytest.raises(InvalidMetadata) as caught:
        parse(**{member: value})
    assert caught.value.member == member


@pytest.mark.case(171)
@pytest.mark.parametrize(
    ("aliases", "member"),
    [
        pytest.param(None, "mtls_endpoint_aliases", id="null"),
        pytest.param("x", "mtls_endpoint_aliases", id="string"),
        pytest.param([], "mtls_endpoint_aliases", id="list"),
        pytest.param({"token_endpoint": None}, "mtls_endpoint_aliases", id="null inside"),
        pytest.param(
            {"token_endpoint": "http://op.example/t"},
            "mtls_endpoint_aliases.token_endpoint",
            id="http inside",
        ),
    ],
)
def test_malformed_aliases_never_fall_back_to_the_plain_endpoints(
    aliases: object, member: str
) -> None:
    with pytest.raises(InvalidMetadata) as caught:
        parse(mtls_endpoint_aliases=aliases)
    assert caught.value.member == member


@pytest.mark.case(152)
def test_an_unparsable_endpoint_is_refused_where_hosts_are_pinned() -> None:
    with pytest.raises(InvalidMetadata, match=r"token_endpoint: .* is not a URL"):
        parse(policy=DiscoveryPolicy(endpoint_hosts=frozenset()), token_endpoint="https://[x]/")


def test_aliases_for_clients_with_a_certificate_are_read() -> None:
    aliases = {"token_endpoint": "https://mtls.op.example/token"}
    assert dict(parse(mtls_endpoint_aliases=aliases).mtls_endpoint_aliases) == aliases


@pytest.mark.case(438)
def test_long_urls_take_linear_time() -> None:
    with pytest.raises(ConfigurationError):
        check_issuer("https://" + "a." * 50_000, STRICT)


members = st.sampled_from([*DOCUMENT, *ENDPOINTS, "mtls_endpoint_aliases", "scopes_supported"])
values = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.text("https:/[]@#?.%\x00x", max_size=20)
    | st.lists(st.text("x"), max_size=2)
    | st.dictionaries(st.text("x"), st.text("htps:/x[]"), max_size=2)
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(members, values, max_size=3), st.booleans())
def test_junk_raises_nothing_but_invalid_metadata(junk: dict[str, Any], flag: bool) -> None:
    policy = DiscoveryPolicy(dangerously_allow_http=flag, endpoint_hosts=frozenset({"x"}))
    try:
        metadata = parse(policy=policy, **junk)
    except InvalidMetadata:
        return
    assert metadata.issuer == ISSUER
    assert metadata.token_endpoint.startswith("http")
