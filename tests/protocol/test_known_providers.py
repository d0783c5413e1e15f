"""Providers that the strict policy does not fit, and clients that bring a certificate."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tokenward.errors import InvalidMetadata
from tokenward.protocol.known_providers import ENTRA, ENTRA_MANY_TENANTS, GOOGLE, cognito
from tokenward.protocol.metadata import DiscoveryPolicy, mtls_metadata, parse_provider_metadata


def known(issuer: str, **members: str) -> bytes:
    base = issuer.partition("/{")[0] if issuer != "x" else "https://op.test"
    usual = {
        "issuer": issuer,
        "authorization_endpoint": f"{base}/authorize",
        "token_endpoint": f"{base}/token",
        "jwks_uri": f"{base}/keys",
    }
    return json.dumps(usual | members).encode()


class TestPoliciesOfKnownProviders:
    def test_google_is_taken_on_its_own_hosts_only(self) -> None:
        hosts = ("oauth2.googleapis.com", "openidconnect.googleapis.com", "www.googleapis.com")
        document = known(
            "https://accounts.google.com",
            token_endpoint=f"https://{hosts[0]}/token",
            userinfo_endpoint=f"https://{hosts[1]}/v1/userinfo",
            jwks_uri=f"https://{hosts[2]}/oauth2/v3/certs",
        )
        read = parse_provider_metadata(
            document, issuer="https://accounts.google.com", policy=GOOGLE
        )
        assert read.token_endpoint == "https://oauth2.googleapis.com/token"
        evil = known("https://accounts.google.com", token_endpoint="https://evil.test/token")
        with pytest.raises(InvalidMetadata, match="token_endpoint"):
            parse_provider_metadata(evil, issuer="https://accounts.google.com", policy=GOOGLE)

    def test_entra_may_tell_its_pattern_where_it_serves_many_tenants(self) -> None:
        asked = "https://login.microsoftonline.com/common/v2.0"
        pattern = "https://login.microsoftonline.com/{tenantid}/v2.0"
        document = known(pattern, userinfo_endpoint="https://graph.microsoft.com/oidc/userinfo")
        read = parse_provider_metadata(document, issuer=asked, policy=ENTRA_MANY_TENANTS)
        assert read.issuer == pattern
        with pytest.raises(InvalidMetadata, match="issuer"):
            parse_provider_metadata(document, issuer=asked, policy=ENTRA)
        other = known("https://login.microsoftonline.com/other/v2.0")
        with pytest.raises(InvalidMetadata, match="issuer"):
            parse_provider_metadata(other, issuer=asked, policy=ENTRA_MANY_TENANTS)

    def test_a_document_without_an_issuer_is_refused_by_every_policy(self) -> None:
        document = json.dumps(
            {name: value for name, value in json.loads(known("x")).items() if name != "issuer"}
        ).encode()
        for policy in (DiscoveryPolicy(), GOOGLE, ENTRA_MANY_TENANTS):
            with pytest.raises(InvalidMetadata, match="issuer"):
                parse_provider_metadata(document, issuer="https://op.test", policy=policy)

    def test_a_cognito_pool_has_its_endpoints_on_its_domain(self) -> None:
        issuer = "https://cognito-idp.eu-central-1.amazonaws.com/pool"
        domain = "shop.auth.eu-central-1.amazoncognito.com"
        document = known(
            issuer,
            authorization_endpoint=f"https://{domain}/oauth2/authorize",
            token_endpoint=f"https://{domain}/oauth2/token",
        )
        read = parse_provider_metadata(document, issuer=issuer, policy=cognito(domain))
        assert read.token_endpoint == f"https://{domain}/oauth2/token"
        with pytest.raises(InvalidMetadata):
            parse_provider_metadata(document, issuer=issuer, policy=cognito("other.example"))


class TestClientsWithACertificate:
    def test_they_use_the_alias_of_every_endpoint_that_has_one(self) -> None:
        endpoints = (
            "token_endpoint",
            "userinfo_endpoint",
            "revocation_endpoint",
            "introspection_endpoint",
            "pushed_authorization_request_endpoint",
            "device_authorization_endpoint",
            "backchannel_authentication_endpoint",
            "registration_endpoint",
        )
        plain = {name: f"https://op.test/{name}" for name in endpoints}
        document = json.loads(known("https://op.test", **plain))
        document["mtls_endpoint_aliases"] = {
            name: f"https://mtls.op.test/{name}" for name in endpoints
        }
        read = parse_provider_metadata(
            json.dumps(document).encode(), issuer="https://op.test", policy=DiscoveryPolicy()
        )
        aliased = mtls_metadata(read)
        for name in endpoints:
            assert getattr(read, name) == f"https://op.test/{name}"
            assert getattr(aliased, name) == f"https://mtls.op.test/{name}"
        assert aliased.authorization_endpoint == "https://op.test/authorize"
        assert mtls_metadata(replace(read, mtls_endpoint_aliases={})).raw == read.raw
        some = replace(read, mtls_endpoint_aliases={"token_endpoint": "https://m.op.test/t"})
        assert mtls_metadata(some).token_endpoint == "https://m.op.test/t"
        assert mtls_metadata(some).userinfo_endpoint == read.userinfo_endpoint
