"""`python -m tokenward discover`."""

from __future__ import annotations

import re
import socket
from typing import Any

import pytest
from joserfc.jwk import ECKey, OctKey

from tokenward.commands.discover import read_url
from tokenward.commands.findings import MAX_PROBLEMS, broken_rules, judge_document
from tokenward.commands.report import as_text
from tokenward.protocol.metadata import DiscoveryPolicy

HTTP = "--dangerously-allow-http"
OPENID = "/.well-known/openid-configuration"
KEY = ECKey.generate_key("P-256", {"kid": "one"}).as_dict(private=False)


def document(issuer: str, /, **changes: object) -> dict[str, Any]:
    members: dict[str, object] = {
        "issuer": issuer,
        "authorization_endpoint": f"{issuer}/authorize",
        "token_endpoint": f"{issuer}/token",
        "jwks_uri": f"{issuer}/jwks",
        "code_challenge_methods_supported": ["S256"],
        **changes,
    }
    return {name: value for name, value in members.items() if value is not ...}


def findings_of(issuer: str, /, **changes: object) -> Any:
    given = document(issuer, **changes)
    return judge_document(given, issuer=issuer, policy=DiscoveryPolicy())


# --- what is printed


def test_a_provider_that_keeps_the_rules_is_accepted(shell, op) -> None:
    done = shell("discover", op.issuer, HTTP)
    assert (done.status, done.err) == (0, "")
    for shown in (
        f"{op.issuer}/token\n",
        f"{op.issuer}/par\n",
        "PKCE                          S256",
        "client_credentials",
        "client_secret_basic",
        "query, form_post",
        "offline_access",
        "accepted                      no rule is broken",
        "rsa-1                         PS256",
    ):
        assert shown in done.out


def test_json_has_the_whole_document_and_the_verdict(invoke, op) -> None:
    done = invoke("discover", op.issuer, "--json", HTTP)
    told = done.json
    assert (done.status, told["accepted"], told["problems"]) == (0, True, [])
    assert told["issuer"] == told["document"]["issuer"] == op.issuer
    assert "RS256" in told["keys"]["usable"][0]["algorithms"]
    assert told["keys"]["ignored"] == []


def test_every_broken_rule_is_told_with_what_would_accept_it(invoke, site) -> None:
    site.publishes(
        document(
            site.address,
            issuer="https://elsewhere.test",
            token_endpoint="http://op.test/token",
            userinfo_endpoint="javascript:alert(1)",
            revocation_endpoint="https://[::1",
            jwks_uri=...,
            scopes_supported="openid",
            mtls_endpoint_aliases={"token_endpoint": "ftp://op.test", "x.y_endpoint": "nonsense"},
        )
    )
    done = invoke("discover", site.address, HTTP, "--json")
    assert done.status == 1
    problems = {each["member"]: each["accepted_by"] for each in done.json["problems"]}
    assert problems == {
        "issuer": ["DiscoveryPolicy(dangerously_allow_issuer='https://elsewhere.test')"],
        "token_endpoint": [],
        "userinfo_endpoint": [],
        "revocation_endpoint": [],
        "jwks_uri": [],
        "scopes_supported": [],
        "mtls_endpoint_aliases.token_endpoint": [],
        "mtls_endpoint_aliases.x.y_endpoint": [],
    }
    assert done.last.startswith("error: not accepted, because of issuer, ")
    text = invoke("discover", site.address, HTTP)
    assert "refused" in text.out
    assert "token_endpoint: 'http://op.test/token' must use https" in text.out


def test_the_relaxation_that_is_named_accepts_the_document(invoke, site) -> None:
    site.publishes(document(site.address, issuer="https://elsewhere.test"), KEY)
    given = ("--dangerously-allow-issuer", "https://elsewhere.test")
    assert invoke("discover", site.address, HTTP).status == 1
    assert invoke("discover", site.address, HTTP, *given).status == 0


def test_hosts_that_are_not_listed_are_told_with_the_list_that_accepts_them(invoke, site) -> None:
    site.publishes(document(site.address, token_endpoint="https://api.op.test/token"), KEY)
    narrow = invoke("discover", site.address, HTTP, "--endpoint-host", "b.test", "--json")
    assert [each["accepted_by"] for each in narrow.json["problems"]] == [
        ["DiscoveryPolicy(endpoint_hosts=frozenset({'api.op.test'}))"]
    ]
    assert invoke("discover", site.address, HTTP, "--endpoint-host", "api.op.test").status == 0
    note = invoke("discover", site.address, HTTP, "--json").json["notes"]
    assert note == [
        "endpoints are on other hosts too; "
        "policy=DiscoveryPolicy(endpoint_hosts=frozenset({'api.op.test'})) "
        "accepts these, and no others"
    ]


@pytest.mark.parametrize(
    "path",
    ["", "/", OPENID, f"{OPENID}?tenant=1", "/.well-known/oauth-authorization-server"],
)
def test_the_url_is_the_issuer_or_the_address_of_the_document(invoke, site, path) -> None:
    slash = path == "/"
    given = document(site.address)
    if slash:
        given["issuer"] = f"{site.address}/"
    site.publishes(given, KEY)
    site.answers["/.well-known/oauth-authorization-server"] = site.answers[OPENID]
    assert invoke("discover", f"{site.address}{path}", HTTP).status == 0


def test_an_issuer_that_ends_with_a_slash_is_found_from_the_address(invoke, site) -> None:
    site.publishes(document(site.address, issuer=f"{site.address}/"), KEY)
    done = invoke("discover", f"{site.address}{OPENID}", HTTP)
    assert done.status == 0
    assert f"issuer  {site.address}/\n" in done.out
    refused = invoke("discover", site.address, HTTP, "--json")
    spelled = f"the issuer as the document spells it: '{site.address}/'"
    assert (refused.status, refused.json["problems"][0]["accepted_by"]) == (1, [spelled])


@pytest.mark.parametrize(
    ("url", "issuer"),
    [
        ("https://op.test/a", "https://op.test/a"),
        (f"https://op.test/a{OPENID}", "https://op.test/a"),
        ("https://op.test/.well-known/openid-configuration/a", "https://op.test/a"),
        ("https://op.test/.well-known/oauth-authorization-server/a", "https://op.test/a"),
    ],
)
def test_an_issuer_with_a_path_is_read_from_both_kinds_of_address(url, issuer) -> None:
    found, address = read_url(url)
    assert found == issuer
    assert address == (None if url == issuer else url)


def test_ignored_keys_are_listed_with_the_reason(invoke, site) -> None:
    keys = (
        KEY,
        {**KEY, "kid": "enc", "use": "enc"},
        OctKey.generate_key(256, {"kid": "hmac"}).as_dict(),
        {"kid": "weak", "kty": "RSA", "n": "_" * 170 + "8", "e": "AQAB"},
        ECKey.generate_key("P-256", {"kid": "own"}).as_dict(private=True),
        "nonsense",
        {**KEY, "kid": 7},
    )
    site.publishes(document(site.address), *keys)
    told = invoke("discover", site.address, HTTP, "--json").json["keys"]
    assert [key["kid"] for key in told["usable"]] == ["one"]
    assert [(key["kid"], key["reason"]) for key in told["ignored"]] == [
        ("enc", "its use is 'enc', not 'sig'"),
        ("hmac", "is symmetric: whoever reads the set could sign with it"),
        ("weak", "has 1024 bits, not 2048 to 8192"),
        ("own", "is a private key, and anybody can read it here"),
        (None, "is no JSON object"),
        (None, "its kid is no string"),
    ]
    assert "ignored: has 1024 bits" in invoke("discover", site.address, HTTP).out


@pytest.mark.parametrize("keys", [(), (OctKey.generate_key(256).as_dict(),)])
def test_a_provider_without_a_usable_key_is_refused(invoke, site, keys) -> None:
    site.publishes(document(site.address), *keys)
    done = invoke("discover", site.address, HTTP)
    assert done.status == 1
    assert "keys: none can be used" in done.out


@pytest.mark.parametrize(
    ("changes", "member"),
    [
        ({"code_challenge_methods_supported": ["plain"]}, "code_challenge_methods_supported"),
        (
            {"id_token_signing_alg_values_supported": ["HS256", "none"]},
            "id_token_signing_alg_values_supported",
        ),
    ],
)
def test_what_a_login_cannot_do_without_is_a_problem(changes, member) -> None:
    found = findings_of("https://op.test", **changes)
    assert [problem.member for problem in found.problems] == [member]


def test_another_algorithm_than_the_default_is_a_note() -> None:
    found = findings_of("https://op.test", id_token_signing_alg_values_supported=["HS256", "ES256"])
    assert found.problems == ()
    assert "id_token_algorithms=('ES256',)" in found.notes[0]


# --- known providers


def test_google_is_accepted_and_the_tighter_setting_is_named() -> None:
    found = findings_of(
        "https://accounts.google.com",
        token_endpoint="https://oauth2.googleapis.com/token",
        userinfo_endpoint="https://openidconnect.googleapis.com/v1/userinfo",
        jwks_uri="https://www.googleapis.com/oauth2/v3/certs",
    )
    assert found.problems == ()
    assert "policy=known_providers.GOOGLE accepts" in found.notes[0]


def test_entra_for_many_tenants_is_refused_and_its_setting_is_named() -> None:
    found = findings_of(
        "https://login.microsoftonline.com/common/v2.0",
        issuer="https://login.microsoftonline.com/{tenantid}/v2.0",
        userinfo_endpoint="https://graph.microsoft.com/oidc/userinfo",
    )
    (problem,) = found.problems
    assert problem.member == "issuer"
    assert "known_providers.ENTRA_MANY_TENANTS" in problem.accepted_by
    assert "known_providers.GOOGLE" not in problem.accepted_by


def test_entra_for_many_tenants_that_is_allowed_by_hand_is_told_its_setting() -> None:
    issuer = "https://login.microsoftonline.com/common/v2.0"
    pattern = "https://login.microsoftonline.com/{tenantid}/v2.0"
    given = document(issuer, issuer=pattern, userinfo_endpoint="https://graph.microsoft.com/me")
    policy = DiscoveryPolicy(dangerously_allow_issuer=pattern)
    found = judge_document(given, issuer=issuer, policy=policy)
    assert found.problems == ()
    assert "policy=known_providers.ENTRA_MANY_TENANTS accepts" in found.notes[0]


def test_one_tenant_of_entra_is_told_its_setting() -> None:
    found = findings_of(
        "https://login.microsoftonline.com/1234/v2.0",
        userinfo_endpoint="https://graph.microsoft.com/oidc/userinfo",
    )
    assert "policy=known_providers.ENTRA accepts" in found.notes[0]


def test_cognito_is_named_with_its_domain() -> None:
    domain = "shop.auth.eu-central-1.amazoncognito.com"
    found = findings_of(
        "https://cognito-idp.eu-central-1.amazonaws.com/pool",
        authorization_endpoint=f"https://{domain}/authorize",
        token_endpoint=f"https://{domain}/token",
    )
    assert f"policy=known_providers.cognito('{domain}') accepts" in found.notes[0]


# --- what is no good answer


@pytest.mark.parametrize(
    ("body", "status", "exit_status", "told"),
    [
        pytest.param(b"<html>hi</html>", 200, 1, "not JSON", id="html"),
        pytest.param(b"", 200, 1, "not JSON", id="empty"),
        pytest.param(b"[]", 200, 1, "not a JSON object", id="list"),
        pytest.param(b'{"issuer": 1, "issuer": 2}', 200, 1, "twice", id="repeated member"),
        pytest.param(b"not here", 404, 1, "HTTP 404", id="not found"),
        pytest.param(b"", 302, 1, "HTTP 302", id="redirect"),
        pytest.param(b"{}", 500, 3, "HTTP 500", id="in trouble"),
        pytest.param(b"later", 429, 3, "HTTP 429", id="too often"),
        pytest.param(b" " * 600_000, 200, 3, "larger than", id="huge"),
        pytest.param(b'{"a":' * 60_000, 200, 1, "nested deeper", id="deep"),
    ],
)
def test_an_answer_that_is_no_document_is_one_line(
    invoke, site, body, status, exit_status, told
) -> None:
    site.says(OPENID, body, status, content_type="text/\x7fhtml", location="https://other.test/")
    done = invoke("discover", site.address, HTTP)
    assert (done.status, done.out) == (exit_status, "")
    assert told in done.err
    assert done.err.startswith(f"error: {site.address}{OPENID}: ")
    assert done.err.count("\n") == 1
    assert done.err[:-1].isprintable()
    assert site.asked == [OPENID]


def test_a_provider_that_says_nothing_is_not_waited_for(invoke, site) -> None:
    site.silent = True
    done = invoke("discover", site.address, HTTP, "--timeout", "0.2")
    assert (done.status, done.out) == (3, "")
    assert "out of reach" in done.last


def test_a_connection_that_is_refused_is_told(invoke) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        done = invoke("discover", f"http://127.0.0.1:{taken.getsockname()[1]}", HTTP)
    assert (done.status, done.out) == (3, "")
    assert "out of reach" in done.last
    assert "nothing listens there" in done.last


@pytest.mark.parametrize(
    ("body", "status", "exit_status"),
    [(b"<html>", 200, 1), (b"{}", 200, 1), (b"", 404, 1), (b"", 503, 3)],
)
def test_a_key_set_that_cannot_be_read_is_a_problem(
    invoke, site, body, status, exit_status
) -> None:
    site.publishes(document(site.address))
    site.says("/jwks", body, status)
    done = invoke("discover", site.address, HTTP, "--json")
    assert (done.status, done.json["keys"], done.json["accepted"]) == (exit_status, None, False)
    assert done.json["problems"][0]["member"] == "jwks_uri"
    assert "not read" in invoke("discover", site.address, HTTP).out


def test_keys_are_not_fetched_from_an_address_that_is_refused(invoke, site) -> None:
    site.publishes(document(site.address, jwks_uri="http://192.0.2.1/jwks"))
    assert invoke("discover", site.address, HTTP).status == 1
    assert site.asked == [OPENID]


@pytest.mark.parametrize(
    ("url", "told"),
    [
        pytest.param("", "begin with https://", id="empty"),
        pytest.param("accounts.google.com", "begin with https://", id="no scheme"),
        pytest.param("https://", "no host", id="no host"),
        pytest.param("https://[::1", "not a URL", id="bracket"),
        pytest.param("https://op.test:99999", "not a URL", id="port"),
        pytest.param("https://op.test/\x1b[31m", "not a URL", id="terminal sequence"),
        pytest.param("https://op.test/a b", "not a URL", id="space"),
        pytest.param("https://me:pw@op.test", "user information", id="user"),
        pytest.param("https://op.test?x=1", "query", id="query"),
        pytest.param("https://op.test#x", "fragment", id="fragment"),
        pytest.param("ftp://op.test", "https", id="ftp"),
        pytest.param("file:///etc/passwd", "no host", id="file"),
        pytest.param("http://127.0.0.1:1", "--dangerously-allow-http", id="http"),
        pytest.param("http://op.test", "must use https", id="http elsewhere"),
        pytest.param(f"https://{'a' * 3000}", "not a URL", id="long"),
    ],
)
def test_a_url_that_can_be_no_issuer_is_a_usage_error(invoke, url, told) -> None:
    done = invoke("discover", url)
    assert (done.status, done.out) == (2, "")
    assert told in done.err
    assert done.err.count("\n") == 1
    assert done.err[:-1].isprintable()


def test_http_is_for_this_machine_only(invoke) -> None:
    done = invoke("discover", "http://192.0.2.1", HTTP)
    assert (done.status, done.last) == (2, "error: 'http://192.0.2.1' must use https")


@pytest.mark.parametrize(
    "arguments",
    [(), ("a", "b"), ("a", "--nonsense"), ("a", "--timeout", "0"), ("a", "--timeout", "nan")],
)
def test_wrong_arguments_are_a_usage_error(invoke, arguments) -> None:
    done = invoke("discover", *arguments)
    assert (done.status, done.out) == (2, "")
    assert done.last.startswith("python -m tokenward discover: error: ")


# --- what the provider says is shown in visible characters


def test_nothing_that_the_provider_says_reaches_the_terminal_as_a_command(invoke, site) -> None:
    evil = "\x1b]0;owned\x07\n\u202e\x9b31m"
    site.publishes(
        document(
            site.address,
            evil_endpoint=evil,
            scopes_supported=[evil, "a" * 5000],
            grant_types_supported=evil,
            response_modes_supported=[1, None, [evil], {evil: 1}],
            require_pushed_authorization_requests={evil: evil},
            **{f"{evil}_endpoint": evil},
        ),
        {**KEY, "kid": evil},
        {**KEY, "kid": evil, "use": evil},
    )
    done = invoke("discover", site.address, HTTP)
    assert done.status == 1
    shown = (done.out + done.err).replace("\n", "")
    assert {character for character in shown if not character.isprintable()} == set()
    assert r"\x1b]0;owned" in shown
    machine = invoke("discover", site.address, HTTP, "--json")
    assert machine.out.isascii()
    assert evil in machine.json["document"]["scopes_supported"]


def test_what_standard_output_cannot_write_is_an_escape(shell, site) -> None:
    site.publishes(document(site.address, scopes_supported=["öffentlich"]), KEY)
    done = shell("discover", site.address, HTTP, PYTHONIOENCODING="ascii")
    assert done.status == 0
    assert r"\xf6ffentlich" in done.out


@pytest.mark.parametrize(
    ("told", "shown"),
    [(True, "yes"), (False, "no"), (None, "no"), ("perhaps", "perhaps"), (7, "7"), ([], "none")],
)
def test_what_is_told_in_the_wrong_way_is_shown_as_it_is(told, shown) -> None:
    text = as_text(findings_of("https://op.test", require_pushed_authorization_requests=told))
    assert re.search(rf"^  PAR required +{shown}$", text, re.MULTILINE)


def test_a_long_list_is_cut() -> None:
    scopes = [f"scope-{number}" for number in range(5000)]
    text = as_text(findings_of("https://op.test", scopes_supported=scopes))
    assert "scope-59 and 4940 more" in text
    assert "scope-60" not in text


def test_the_number_of_problems_has_a_bound() -> None:
    many = {f"n{number}_endpoint": "http://x" for number in range(1000)}
    found = findings_of("https://op.test", **many)
    assert len(found.problems) == MAX_PROBLEMS


@pytest.mark.parametrize(
    "changes",
    [
        {"a.b_endpoint": 1},
        {"mtls_endpoint_aliases.x_endpoint": "http://x"},
        {"mtls_endpoint_aliases": 7, "mtls_endpoint_aliases.x_endpoint": "http://x"},
        {"mtls_endpoint_aliases": {"": 7}},
        {"issuer": None, "token_endpoint": [], "authorization_endpoint": ..., "jwks_uri": ""},
    ],
)
def test_every_problem_is_told_once(changes) -> None:
    issuer = "https://op.test"
    given = document(issuer, **changes)
    broken = broken_rules(given, issuer=issuer, policy=DiscoveryPolicy())
    members = [error.member for error in broken]
    assert members
    assert len(set(members)) == len(members)
    assert len(members) < MAX_PROBLEMS
