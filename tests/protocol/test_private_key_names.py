"""The name under which the provider knows a client's key."""

from __future__ import annotations

import json

import pytest
from joserfc.jwk import ECKey, OKPKey, RSAKey

from tokenward.protocol.client_assertion import (
    PrivateKey,
    jwt_signer,
    public_json_web_key_set,
    read_private_key,
)

KEYS = [
    pytest.param(RSAKey.generate_key(2048), id="rsa"),
    pytest.param(ECKey.generate_key("P-256"), id="ec"),
    pytest.param(OKPKey.generate_key("Ed25519"), id="ed25519"),
]


@pytest.mark.parametrize("key", KEYS)
def test_a_name_that_is_given_is_the_one_that_is_used(key: PrivateKey) -> None:
    pem = key.as_pem(private=True).decode()
    named = read_private_key(pem, kid="mine")
    assert jwt_signer(named).kid == "mine"
    assert public_json_web_key_set([named])["keys"][0]["kid"] == "mine"
    assert named.is_private


@pytest.mark.parametrize("key", KEYS)
def test_without_a_name_it_is_the_thumbprint(key: PrivateKey) -> None:
    pem = key.as_pem(private=True).decode()
    assert jwt_signer(read_private_key(pem)).kid == key.thumbprint()


def test_a_name_takes_the_place_of_that_of_a_jwk_and_its_alg_stays() -> None:
    jwk = {**RSAKey.generate_key(2048).as_dict(private=True), "kid": "old", "alg": "PS384"}
    text = json.dumps(jwk)
    assert jwt_signer(read_private_key(text)).kid == "old"
    signer = jwt_signer(read_private_key(text, kid="new"))
    assert (signer.kid, signer.algorithm) == ("new", "PS384")
