"""The tables of the reference speak of functions and tests that exist, and leave nothing out."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import pkgutil
import re
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

import tokenward.endpoints
import tokenward.protocol

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = ROOT / "docs" / "protocol-client.md"
HEADER: Final = "| Duende.IdentityModel | here | shown by |"

FUNCTIONS: Final = sorted(
    {name for name in tokenward.endpoints.__all__ if name.islower()}
    - {"choose_client_auth"}  # what the others do with their arguments
)

THEIRS: Final = """
    Address ClientId ClientSecret ClientCredentialStyle AuthorizationHeaderStyle ClientAssertion
    ClientAssertionFactory DPoPProofToken Parameters AddOptional AddRequired Accept Clone
    RequestTokenAsync RequestTokenRawAsync RequestClientCredentialsTokenAsync
    RequestPasswordTokenAsync RequestAuthorizationCodeTokenAsync RequestRefreshTokenAsync
    RequestDeviceTokenAsync RequestBackchannelAuthenticationTokenAsync
    RequestTokenExchangeTokenAsync RequestDeviceAuthorizationAsync
    RequestBackchannelAuthenticationAsync PushAuthorizationAsync IntrospectTokenAsync
    ResponseFormat JwtResponseValidator RevokeTokenAsync GetUserInfoAsync
    GetDiscoveryDocumentAsync GetJsonWebKeySetAsync RegisterClientAsync TokenClient
    IntrospectionClient SetBearerToken SetToken SetBasicAuthentication
    SetBasicAuthenticationOAuth SetDPoPToken

    ErrorType IsError Error ErrorDescription Raw Json TryGet HttpResponse HttpStatusCode
    HttpErrorReason Exception DPoPNonce AccessToken IdentityToken Scope IssuedTokenType TokenType
    RefreshToken ExpiresIn IsActive Scopes ClientId UserName Expiration IssuedAt NotBefore Subject
    Audiences Issuer JwtId Claims UserInfoResponse DeviceAuthorizationResponse
    BackchannelAuthenticationResponse PushedAuthorizationResponse
    DynamicClientRegistrationResponse KeySet DiscoveryDocumentResponse Code State SessionState

    Authority DiscoveryDocumentPath RequireHttps AllowHttpOnLoopback LoopbackAddresses
    ValidateIssuerName ValidateEndpoints EndpointValidationExcludeList
    AdditionalEndpointBaseAddresses RequireKeySet AuthorityValidationStrategy DiscoveryCache
    Refresh CreateAuthorizeUrl CreateEndSessionUrl CreateUniqueId TimeConstantComparer
    ToSha256 ToSha512 Base64Url ClaimComparer Identity Principal ToClaims JsonWebKey OidcConstants
    JwtClaimTypes
"""
"""Names of their requests, responses, policy and helpers."""


class Row(NamedTuple):
    """One line of a table."""

    theirs: str
    here: str
    shown_by: str


def rows() -> list[Row]:
    text = PAGE.read_text()
    found = []
    for table in text.split(HEADER)[1:]:
        _, *lines = table.strip().split("\n")  # without the rule below the header
        for line in lines:
            if not line.startswith("|"):
                break
            cells = [cell.strip() for cell in line.strip("|").split(" | ")]
            found.append(Row(*cells))
    return found


ROWS: Final = rows()


def quoted(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


@cache
def names() -> dict[str, list[Any]]:
    """Everything public that the protocol client is made of, by its short name."""
    packages = (tokenward.endpoints, tokenward.protocol)
    modules = [
        *(
            importlib.import_module(found.name)
            for package in packages
            for found in pkgutil.iter_modules(package.__path__, f"{package.__name__}.")
        ),
        tokenward.endpoints,
        *(importlib.import_module(f"tokenward.{n}") for n in ("discovery_cache", "tokens.models")),
        *(importlib.import_module(f"tokenward.{n}") for n in ("tokens.session", "secret")),
    ]
    known: dict[str, list[Any]] = {}
    for module in modules:
        for name, value in vars(module).items():
            if not name.startswith("_"):
                known.setdefault(name, []).append(value)
    return known


def exists(reference: str) -> bool:
    """Whether there is a `name`, `Class.attribute`, `function(argument=)`, or a module's name."""
    name, _, argument = reference.rstrip(")").partition("(")
    first, *rest = name.split(".")
    found = names().get(first, [])
    if not found:
        try:
            found = [importlib.import_module(first)]
        except ImportError:
            return False
    for piece in rest:
        found = [getattr(value, piece, None) for value in found if has(value, piece)]
    if argument:
        return any(argument.rstrip("=") in inspect.signature(value).parameters for value in found)
    return bool(found)


def has(value: Any, attribute: str) -> bool:
    fields = dataclasses.fields(value) if dataclasses.is_dataclass(value) else ()
    return hasattr(value, attribute) or attribute in {field.name for field in fields}


@cache
def promises_in(path: Path) -> frozenset[str]:
    found = set()
    for node in ast.parse(path.read_text()).body:
        inner = node.body if isinstance(node, ast.ClassDef) else [node]
        prefix = f"{node.name}::" if isinstance(node, ast.ClassDef) else ""
        functions = (ast.FunctionDef, ast.AsyncFunctionDef)
        found |= {f"{prefix}{one.name}" for one in inner if isinstance(one, functions)}
    return frozenset(name for name in found if name.split("::")[-1].startswith("test_"))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.theirs.replace("`", ""))
class TestRow:
    def test_what_it_names_here_exists(self, row: Row) -> None:
        code = [name for name in quoted(row.here) if re.fullmatch(r"[\w.]+(\(\w+=\))?", name)]
        assert [name for name in code if name not in WORDS and not exists(name)] == []

    def test_the_tests_that_show_it_exist(self, row: Row) -> None:
        for reference in quoted(row.shown_by):
            file, _, test = reference.partition("::")
            assert test in promises_in(ROOT / file), reference

    def test_what_has_no_test_is_not_ours(self, row: Row) -> None:
        if not quoted(row.shown_by):
            assert re.match(r"none|`(hashlib|base64)\.", row.here)


WORDS: Final = {
    # of the protocol, and of HTTP
    *("protocol", "http", "http_404", "true", "dpop-nonce", "base_url", "jwks_uri", "request_uri"),
    *("session_state", "display", "id_token_hint", "dpop_jkt", "grant_type", "error"),
    "DPoPProofToken",
}


@pytest.mark.parametrize("theirs", sorted(set(THEIRS.split())))
def test_nothing_of_theirs_is_left_out(theirs: str) -> None:
    named = {piece for row in ROWS for name in quoted(row.theirs) for piece in name.split(".")}
    assert theirs in named


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_of_ours_is_in_the_reference(name: str) -> None:
    assert f"`{name}" in PAGE.read_text()


@pytest.mark.parametrize(
    "reference",
    [
        "request_nothing",
        "request_token(nothing=)",
        "TokenResponse.nothing",
        "ProviderMetadata.nothing",
        "secrets.nothing",
    ],
)
def test_a_name_that_is_not_there_is_noticed(reference: str) -> None:
    assert not exists(reference)


@pytest.mark.parametrize(
    "reference",
    [
        "request_token",
        "request_token(grant=)",
        "TokenResponse.access_token",
        "ProtocolResponse.error",
        "ProviderMetadata.raw",
        "DeviceCode.grant_type",
        "secrets.token_urlsafe",
    ],
)
def test_a_name_that_is_there_is_found(reference: str) -> None:
    assert exists(reference)


def test_a_test_that_is_not_there_is_noticed() -> None:
    assert promises_in(Path(__file__)) >= {
        "TestRow::test_the_tests_that_show_it_exist",
        "test_a_test_that_is_not_there_is_noticed",
    }
    assert not promises_in(Path(__file__)) & {"test_nothing", "promises_in", "rows"}
