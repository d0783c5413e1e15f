from __future__ import annotations

import base64
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote_plus

import pytest

from tokenward.errors import ConfigurationError
from tokenward.protocol.client_auth import (
    auth_method_of,
    client_secret_basic,
    client_secret_basic_raw,
    client_secret_post,
    none,
    reveal_headers,
)
from tokenward.protocol.form import encode_form
from tokenward.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from tokenward.protocol.client_auth import ClientAuth, Headers
    from tokenward.protocol.form import Form

    Factory: TypeAlias = Callable[[Secret | str], ClientAuth]


def apply(
    auth: ClientAuth, client_id: str = "web", *, form: Form | None = None
) -> tuple[list[tuple[str, str]], dict[str, str]]:
    """What `auth` adds, as text."""
    sent: Form = form if form is not None else []
    headers: Headers = {}
    auth(client_id, sent, headers)
    plain = [(n, v.reveal() if isinstance(v, Secret) else v) for n, v in sent]
    return plain, reveal_headers(headers)


def pair_of(headers: dict[str, str]) -> str:
    scheme, _, encoded = headers["authorization"].partition(" ")
    assert scheme == "Basic"
    return base64.b64decode(encoded, validate=True).decode()


def test_basic_matches_the_example_of_the_rfc() -> None:
    # RFC 6749, section 2.3.1
    _, headers = apply(client_secret_basic("7Fjfp0ZBr1KtDRbnfVdmIw"), "s6BhdRkqt3")
    assert headers == {"authorization": "Basic czZCaGRSa3F0Mzo3RmpmcDBaQnIxS3REUmJuZlZkbUl3"}


@pytest.mark.case(214)
@pytest.mark.parametrize(
    ("client_id", "secret", "pair"),
    [
        pytest.param("my:id", "a:b", "my%3Aid:a%3Ab", id="colon"),
        pytest.param("id", "50%", "id:50%25", id="percent"),
        pytest.param("id", "a+b", "id:a%2Bb", id="plus"),
        pytest.param("my id", "a b", "my+id:a+b", id="space"),
        pytest.param("müller", "größe", "m%C3%BCller:gr%C3%B6%C3%9Fe", id="umlaut"),
        pytest.param("id", " %&+£€", "id:+%25%26%2B%C2%A3%E2%82%AC", id="rfc-6749-appendix-b"),
        pytest.param("id", "a/b=&?#*'", "id:a%2Fb%3D%26%3F%23%2A%27", id="reserved"),
        pytest.param("id-._~", "A-z.0_9~", "id-._~:A-z.0_9~", id="unreserved"),
    ],
)
def test_basic_form_encodes_id_and_secret_before_base64(
    client_id: str, secret: str, pair: str
) -> None:
    form, headers = apply(client_secret_basic(secret), client_id)
    assert pair_of(headers) == pair
    assert [unquote_plus(half) for half in pair.split(":")] == [client_id, secret]
    assert form == []


def test_basic_raw_sends_id_and_secret_as_they_are() -> None:
    _, headers = apply(client_secret_basic_raw("a b:ü%"), "my id")
    assert pair_of(headers) == "my id:a b:ü%"


def test_basic_raw_refuses_an_id_with_a_colon_because_the_pair_would_be_ambiguous() -> None:
    with pytest.raises(ConfigurationError) as raised:
        apply(client_secret_basic_raw("secret"), "my:id")
    assert raised.value.setting == "client_id"


def test_post_sends_id_and_secret_in_the_body_only() -> None:
    form, headers = apply(client_secret_post("a b&c"))
    assert form == [("client_id", "web"), ("client_secret", "a b&c")]
    assert headers == {}


def test_none_sends_the_id_alone() -> None:
    form, headers = apply(none())
    assert form == [("client_id", "web")]
    assert headers == {}


def test_the_id_is_not_repeated_when_the_request_already_has_it() -> None:
    # A pushed authorization request carries it in any case.
    form, _ = apply(client_secret_post("secret"), form=[("client_id", "web")])
    assert form == [("client_id", "web"), ("client_secret", "secret")]


@pytest.mark.parametrize("auth", [none(), client_secret_post("secret")])
def test_a_request_that_names_another_client_is_refused(auth: ClientAuth) -> None:
    with pytest.raises(ConfigurationError) as raised:
        apply(auth, form=[("client_id", "other")])
    assert raised.value.setting == "client_id"


EVERY = [
    pytest.param(client_secret_basic("secret"), id="basic"),
    pytest.param(client_secret_basic_raw("secret"), id="basic-raw"),
    pytest.param(client_secret_post("secret"), id="post"),
    pytest.param(none(), id="none"),
]


@pytest.mark.case(215)
@pytest.mark.parametrize("auth", EVERY)
@pytest.mark.parametrize("name", ["client_secret", "client_assertion", "client_assertion_type"])
def test_no_second_proof_is_added_to_a_body_that_has_one(auth: ClientAuth, name: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        apply(auth, form=[(name, "x")])
    assert raised.value.setting == "client_auth"


@pytest.mark.case(215)
@pytest.mark.parametrize("auth", EVERY)
@pytest.mark.parametrize("name", ["authorization", "Authorization"])
def test_no_second_proof_is_added_to_headers_that_have_one(auth: ClientAuth, name: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        auth("web", [], {name: "Basic eA=="})
    assert raised.value.setting == "client_auth"


@pytest.mark.case(215)
@pytest.mark.parametrize("auth", EVERY)
def test_credentials_go_into_the_header_or_the_body_never_both(auth: ClientAuth) -> None:
    form, headers = apply(auth)
    assert not (headers and any(name == "client_secret" for name, _ in form))


@pytest.mark.parametrize(
    "factory", [client_secret_basic, client_secret_basic_raw, client_secret_post]
)
class TestSecrets:
    @pytest.mark.parametrize("empty", ["", Secret("")], ids=["text", "secret"])
    def test_an_empty_one_is_refused_and_the_way_out_is_named(
        self, factory: Factory, empty: str | Secret
    ) -> None:
        with pytest.raises(ConfigurationError, match=r"none\(\)") as raised:
            factory(empty)
        assert raised.value.setting == "client_secret"

    @pytest.mark.parametrize("wrap", [str, Secret], ids=["text", "secret"])
    def test_one_that_is_not_unicode_is_refused_without_being_shown(
        self, factory: Factory, wrap: Callable[[str], str | Secret]
    ) -> None:
        with pytest.raises(ConfigurationError) as raised:
            factory(wrap("hunter2\udcff"))
        assert "hunter2" not in str(raised.value)
        assert raised.value.__context__ is None
        shown = [repr(frame.locals) for frame in raised.traceback[1:]]
        assert not any("hunter2" in text for text in shown)

    def test_repr_hides_it(self, factory: Factory) -> None:
        assert "hunter2" not in repr(factory("hunter2"))

    def test_text_and_secret_make_equal_values(self, factory: Factory) -> None:
        assert factory("hunter2") == factory(Secret("hunter2"))
        assert factory("hunter2") != factory("hunter3")


@pytest.mark.parametrize(
    ("auth", "name"),
    [
        (client_secret_basic("s"), "client_secret_basic"),
        (client_secret_basic_raw("s"), "client_secret_basic"),
        (client_secret_post("s"), "client_secret_post"),
        (none(), "none"),
    ],
)
def test_each_way_tells_its_registered_name(auth: ClientAuth, name: str) -> None:
    assert auth_method_of(auth) == name


def test_a_function_of_the_users_own_has_no_registered_name() -> None:
    def own(client_id: str, form: Form, headers: Headers) -> None:
        form.append(("proof", client_id))

    auth: ClientAuth = own
    assert auth_method_of(auth) is None


def test_an_object_of_the_users_own_tells_its_name_by_an_attribute() -> None:
    class PrivateKeyJWT:
        auth_method = "private_key_jwt"

        def __call__(self, client_id: str, form: Form, headers: Headers) -> None:
            form.append(("client_assertion", Secret("jwt")))

    assert auth_method_of(PrivateKeyJWT()) == "private_key_jwt"


def test_what_is_added_stays_masked_until_it_is_sent() -> None:
    form: Form = []
    headers: Headers = {}
    client_secret_post("hunter2")("web", form, headers)
    client_secret_basic("hunter2")("web", [], headers)
    assert "hunter2" not in repr((form, headers))
    assert base64.b64encode(b"web:hunter2").decode() not in repr(headers)
    assert base64.b64encode(b"web:hunter2").decode() in reveal_headers(headers)["authorization"]


def test_a_form_is_encoded_so_that_every_decoder_gives_it_back() -> None:
    form: Form = [
        ("resource", "https://a/?b=c&d"),
        ("resource", "https://b"),
        ("umlaut", "ü +%"),
        ("token", Secret("a/b+c=")),
        ("empty", ""),
    ]
    encoded = encode_form(form).reveal()
    assert "+" not in encoded
    assert parse_qsl(encoded, keep_blank_values=True, strict_parsing=True) == [
        ("resource", "https://a/?b=c&d"),
        ("resource", "https://b"),
        ("umlaut", "ü +%"),
        ("token", "a/b+c="),
        ("empty", ""),
    ]


def test_text_that_is_not_unicode_is_encoded_without_an_error_that_would_show_it() -> None:
    assert encode_form([("hint", "a\udcffb")]).reveal() == "hint=a%3Fb"
