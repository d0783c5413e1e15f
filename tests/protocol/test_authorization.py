from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, get_args
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenward.errors import ConfigurationError, InvalidMetadata, LoginFailed
from tokenward.protocol import authorization
from tokenward.protocol.authorization import (
    MAX_URL,
    RESERVED_PARAMETERS,
    AuthorizationRequest,
    CallbackParameters,
    CallbackReason,
    ProviderReason,
    authorization_url,
    check_callback,
    check_extra_parameters,
    code_challenge,
    new_code_verifier,
    new_nonce,
    new_state,
    read_callback,
)
from tokenward.protocol.form import decode_form
from tokenward.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Callable

STATE = Secret("st4te-of-this-attempt")
ISSUER = "https://op.example"


def url(**changes: object) -> str:
    arguments: dict[str, object] = {
        "endpoint": "https://op.example/authorize",
        "client_id": "web",
        "redirect_uri": "https://app.example/auth/callback",
        "scope": "openid profile",
        "state": STATE,
        "nonce": Secret("n0nce"),
        "code_challenge": "ch4llenge",
    }
    arguments |= changes
    endpoint = arguments.pop("endpoint")
    return authorization_url(endpoint, **arguments)  # type: ignore[arg-type]


def parameters_of(address: str) -> list[tuple[str, str]]:
    return parse_qsl(urlsplit(address).query, keep_blank_values=True, strict_parsing=True)


class TestRandomValues:
    @pytest.mark.case(34)
    @pytest.mark.parametrize("make", [new_state, new_nonce, new_code_verifier])
    def test_each_has_256_bits_and_comes_from_secrets(
        self, make: Callable[[], Secret], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[int] = []

        def token_urlsafe(size: int) -> str:
            asked.append(size)
            return "x" * 43

        monkeypatch.setattr("secrets.token_urlsafe", token_urlsafe)
        make()
        assert asked == [32]

    @pytest.mark.case(34)
    def test_they_are_independent_of_each_other(self) -> None:
        made = {make() for make in (new_state, new_nonce, new_code_verifier) for _ in range(20)}
        assert len(made) == 60

    @pytest.mark.case(34)
    def test_the_verifier_fits_the_grammar_of_the_rfc(self) -> None:
        for _ in range(20):
            assert re.fullmatch(r"[A-Za-z0-9._~-]{43,128}", new_code_verifier().reveal())


class TestCodeChallenge:
    def test_matches_the_example_of_the_rfc(self) -> None:
        # RFC 7636, appendix B
        verifier = Secret("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk")
        assert code_challenge(verifier) == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"

    @pytest.mark.parametrize(
        "verifier",
        [
            pytest.param("", id="empty"),
            pytest.param("a" * 42, id="short"),
            pytest.param("a" * 129, id="long"),
            pytest.param("a" * 43 + "\n", id="line-end"),
            pytest.param("a" * 43 + "ü", id="umlaut"),
            pytest.param("a" * 43 + "+", id="reserved"),
        ],
    )
    def test_refuses_what_is_no_verifier_without_showing_it(self, verifier: str) -> None:
        with pytest.raises(ValueError, match="43 to 128 unreserved") as raised:
            code_challenge(Secret(verifier))
        assert raised.value.__context__ is None
        assert "aaaa" not in str(raised.value)

    @pytest.mark.parametrize("verifier", ["a" * 43, "a" * 128, "-._~" + "0" * 40])
    def test_takes_the_whole_range(self, verifier: str) -> None:
        assert len(code_challenge(Secret(verifier))) == 43


class TestAuthorizationURL:
    @pytest.mark.case(37)
    def test_asks_for_a_code_with_state_nonce_and_pkce_and_for_nothing_else(self) -> None:
        address = url()
        assert address.startswith("https://op.example/authorize?response_type=code&")
        assert parameters_of(address) == [
            ("response_type", "code"),
            ("client_id", "web"),
            ("redirect_uri", "https://app.example/auth/callback"),
            ("scope", "openid profile"),
            ("state", "st4te-of-this-attempt"),
            ("nonce", "n0nce"),
            ("code_challenge", "ch4llenge"),
            ("code_challenge_method", "S256"),
        ]

    def test_optional_parameters_are_sent_when_they_are_given(self) -> None:
        address = url(
            response_mode="form_post",
            prompt="login",
            login_hint="alice+x@example & co",
            ui_locales="de en",
            acr_values="gold",
            max_age=0,
            resource=("https://b", "https://a"),
            extra={"audience": "api"},
        )
        assert parameters_of(address)[8:] == [
            ("response_mode", "form_post"),
            ("prompt", "login"),
            ("login_hint", "alice+x@example & co"),
            ("ui_locales", "de en"),
            ("acr_values", "gold"),
            ("max_age", "0"),
            ("resource", "https://b"),
            ("resource", "https://a"),
            ("audience", "api"),
        ]

    def test_a_space_is_written_so_that_every_decoder_understands_it(self) -> None:
        assert "scope=openid%20profile" in url()

    def test_a_hint_that_is_no_unicode_text_does_not_stop_the_login(self) -> None:
        assert "login_hint=a%3F" in url(login_hint="a\ud800")

    @pytest.mark.case(37)
    @pytest.mark.parametrize("mode", ["fragment", "query.jwt", "web_message", ""])
    def test_another_response_mode_is_refused(self, mode: str) -> None:
        with pytest.raises(ConfigurationError) as raised:
            url(response_mode=mode)
        assert raised.value.setting == "response_mode"

    @pytest.mark.case(26)
    @pytest.mark.case(37)
    @pytest.mark.parametrize("name", sorted(RESERVED_PARAMETERS))
    def test_an_extra_parameter_never_replaces_one_of_the_library(self, name: str) -> None:
        with pytest.raises(ConfigurationError, match=f"`{name}`") as raised:
            url(extra={name: "x"})
        assert raised.value.setting == "authorize_parameters"
        with pytest.raises(ConfigurationError, match=f"`{name}`"):
            check_extra_parameters({name: "x"})

    @pytest.mark.case(26)
    def test_what_the_library_sets_and_what_would_replace_it_is_reserved(self) -> None:
        sent = {name for name, _ in parameters_of(url(response_mode="form_post"))}
        assert sent | {"request", "request_uri"} == RESERVED_PARAMETERS

    @pytest.mark.case(26)
    @pytest.mark.parametrize(
        ("name", "value"),
        [("prompt", "login"), ("max_age", 0), ("resource", ("https://a",)), ("acr_values", "a")],
    )
    def test_an_extra_parameter_is_not_sent_beside_the_same_one(
        self, name: str, value: object
    ) -> None:
        with pytest.raises(ConfigurationError, match=f"`{name}` is set by the library"):
            url(**{name: value, "extra": {name: "x"}})

    def test_an_extra_parameter_may_take_an_optional_name_that_is_free(self) -> None:
        check_extra_parameters({"prompt": "consent", "claims": "{}"})
        assert ("prompt", "consent") in parameters_of(url(extra={"prompt": "consent"}))

    @pytest.mark.parametrize(
        ("endpoint", "start"),
        [
            ("https://op/a?p=flow", "https://op/a?p=flow&response_type=code&"),
            ("https://op/a?p=flow&", "https://op/a?p=flow&response_type=code&"),
            ("https://op/a?", "https://op/a?response_type=code&"),
        ],
    )
    def test_the_query_of_the_endpoint_is_kept(self, endpoint: str, start: str) -> None:
        assert url(endpoint=endpoint).startswith(start)

    @pytest.mark.parametrize(
        "endpoint",
        ["https://op/a?client_id=x", "https://op/a?p=1&%73tate=x", "https://op/a?request_uri=",
         "https://op/a#x", "https://op/a?p=1#x"],
    )  # fmt: skip
    def test_an_endpoint_that_would_change_the_request_is_refused(self, endpoint: str) -> None:
        with pytest.raises(InvalidMetadata) as raised:
            url(endpoint=endpoint)
        assert raised.value.member == "authorization_endpoint"

    @pytest.mark.case(41)
    def test_a_url_that_servers_would_refuse_is_refused_and_par_is_named(self) -> None:
        longest = MAX_URL - len(url(extra={"claims": ""}))
        assert len(url(extra={"claims": "x" * longest})) == MAX_URL
        with pytest.raises(ConfigurationError, match=r"PAR, RFC 9126") as raised:
            url(extra={"claims": "x" * (longest + 1)})
        assert str(MAX_URL + 1) in str(raised.value)
        shown = "".join(repr(entry.locals) for entry in raised.traceback[2:])
        assert shown
        assert "st4te" not in shown
        assert "n0nce" not in shown


def reason_of(encoded: bytes, **options: int) -> str:
    with pytest.raises(LoginFailed) as raised:
        read_callback(encoded, **options)
    assert raised.value.__context__ is None
    return raised.value.reason


class TestReadCallback:
    def test_reads_code_state_and_issuer(self) -> None:
        read = read_callback(b"code=c0de&state=st4te&iss=https%3A%2F%2Fop.example")
        assert read == CallbackParameters(
            state=Secret("st4te"), code=Secret("c0de"), iss="https://op.example"
        )

    def test_reads_a_refusal(self) -> None:
        read = read_callback(b"error=access_denied&error_description=No+way%21&state=st4te")
        assert read == CallbackParameters(
            state=Secret("st4te"), error="access_denied", error_description="No way!"
        )

    def test_repr_hides_state_code_and_description(self) -> None:
        shown = repr(read_callback(b"code=c0de&state=st4te&error_description=secret"))
        assert not any(value in shown for value in ("c0de", "st4te", "secret"))

    @pytest.mark.case(48)
    @pytest.mark.parametrize("encoded", [b"", b"code=c", b"code=c&state=", b"code=c&state"])
    def test_without_a_state_no_login_attempt_is_meant(self, encoded: bytes) -> None:
        assert reason_of(encoded) == "state_missing"

    @pytest.mark.case(61)
    @pytest.mark.parametrize("encoded", [b"error=access_denied", b"error=access_denied&state="])
    def test_a_refusal_without_a_state_is_not_believed(self, encoded: bytes) -> None:
        assert reason_of(encoded) == "state_missing"

    @pytest.mark.case(65)
    @pytest.mark.parametrize("name", ["code", "state", "iss", "error", "error_description"])
    @pytest.mark.parametrize("again", ["{}=b", "{}=a", "{}=", "{}", "%{:02x}{}=b"])
    def test_a_parameter_that_comes_twice_is_refused(self, name: str, again: str) -> None:
        repeated = again.format(ord(name[0]), name[1:]) if "%" in again else again.format(name)
        encoded = f"state=s&code=c&{name}=a&{repeated}".removeprefix(
            "state=s&" if name == "state" else ""
        )
        with pytest.raises(LoginFailed) as raised:
            read_callback(encoded.encode())
        assert raised.value.reason == "parameter_repeated"

    @pytest.mark.case(65)
    def test_the_log_learns_which_parameter_came_twice(self) -> None:
        with pytest.raises(LoginFailed) as raised:
            read_callback(b"code=c&state=s&iss=a&iss=a")
        assert raised.value.detail == "iss"

    @pytest.mark.case(66)
    @pytest.mark.parametrize(
        ("encoded", "ok"),
        [
            pytest.param(b"state=s&code=" + b"c" * 4096, True, id="code-at-the-limit"),
            pytest.param(b"state=s&code=" + b"c" * 4097, False, id="code"),
            pytest.param(b"code=c&state=" + b"s" * 512, True, id="state-at-the-limit"),
            pytest.param(b"code=c&state=" + b"s" * 513, False, id="state"),
            pytest.param(b"state=s&code=c&x=" + b"x" * (16384 - 17), True, id="all-at-the-limit"),
            pytest.param(b"state=s&code=c&x=" + b"x" * (16384 - 16), False, id="all"),
            pytest.param(b"state=s&code=c" + b"&x=" * 48, True, id="fields-at-the-limit"),
            pytest.param(b"state=s&code=c" + b"&x=" * 49, False, id="fields"),
        ],
    )
    def test_more_than_a_provider_sends_is_refused(self, encoded: bytes, ok: bool) -> None:
        if ok:
            assert read_callback(encoded).code is not None
        else:
            assert reason_of(encoded) == "callback_too_large"

    @pytest.mark.case(66)
    def test_sizes_are_looked_at_before_anything_is_decoded(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(authorization, "decode_form", None)
        assert reason_of(b"%zz" * 16384) == "callback_too_large"
        assert reason_of(b"state=s&code=c", max_bytes=13) == "callback_too_large"

    @pytest.mark.case(71)
    @pytest.mark.parametrize("name", [b"access_token", b"id_token", b"refresh_token"])
    @pytest.mark.parametrize("value", [b"=eyJ", b"=", b""])
    def test_a_token_in_the_callback_is_refused(self, name: bytes, value: bytes) -> None:
        assert reason_of(b"code=c&state=s&" + name + value) == "token_in_callback"

    @pytest.mark.case(72)
    def test_a_jwt_secured_answer_is_refused_where_none_was_asked_for(self) -> None:
        assert reason_of(b"response=eyJ.eyJ.x") == "jarm_not_expected"
        assert reason_of(b"code=c&state=s&response=eyJ") == "jarm_not_expected"

    @pytest.mark.case(86)
    @pytest.mark.parametrize("name", ["code", "state", "iss", "error", "error_description", "x"])
    @pytest.mark.parametrize(
        "value",
        [
            pytest.param(b"%", id="lone-percent"),
            pytest.param(b"a%4", id="cut-percent"),
            pytest.param(b"%zz", id="no-hex"),
            pytest.param(b"%u0041", id="percent-u"),
            pytest.param(b"%ff", id="no-utf-8"),
            pytest.param(b"%c0%af", id="overlong"),
            pytest.param(b"%ed%a0%80", id="surrogate"),
            pytest.param(b"%e2%82", id="cut-utf-8"),
            pytest.param(b"\xff", id="raw-no-utf-8"),
        ],
    )
    def test_what_cannot_be_decoded_in_one_way_is_refused(self, name: str, value: bytes) -> None:
        encoded = b"&".join(
            n.encode() + b"=" + (value if n == name else b"v") for n in ("state", "code", name)
        )
        assert reason_of(encoded) == "callback_malformed"
        assert reason_of(value + b"=x&state=s&code=c") == "callback_malformed"

    @pytest.mark.case(54)
    @pytest.mark.parametrize("name", ["code", "state", "iss"])
    @pytest.mark.parametrize("value", ["a%20", "a+", "+a", "a%00", "a%0d%0ab", "%C3%BC", "a%7f"])
    def test_characters_that_no_value_has_are_refused(self, name: str, value: str) -> None:
        encoded = "&".join(f"{n}={value if n == name else 'v'}" for n in ("state", "code", "iss"))
        assert reason_of(encoded.encode()) == "callback_malformed"

    @pytest.mark.case(87)
    def test_unknown_parameters_are_ignored(self) -> None:
        read = read_callback(
            b"&scope=openid+email&state=s&&session_state=a.b&session_state=c&authuser=0&prompt=none"
            b"&hd=example.com&code=c&code%5B%5D=x&Code=y&Response=z&error_uri=javascript:1&"
        )
        assert read == CallbackParameters(state=Secret("s"), code=Secret("c"))

    @pytest.mark.case(62)
    def test_error_text_is_clipped_and_escaped(self) -> None:
        text = "\x1b[31m<script>\r\n\u202e" + "x" * 7_000
        read = read_callback(
            urlencode({"error": text, "error_description": text, "state": "s"}).encode()
        )
        for shown in (read.error, read.error_description):
            assert shown is not None
            assert shown.startswith(r"\x1b[31m<script>\r\n\u202exx")
            assert len(shown) == 256
            assert shown.isprintable()

    @pytest.mark.parametrize(
        "encoded", [b"c0de-c0de=%zz", b"state=s&code=c0de-c0de&code=x", b"code=c0de-c0de"]
    )
    def test_a_traceback_with_locals_does_not_show_the_code(self, encoded: bytes) -> None:
        with pytest.raises(LoginFailed) as raised:
            read_callback(encoded)
        frames = [entry.locals for entry in raised.traceback[1:]]
        assert frames
        assert "c0de-c0de" not in repr(frames)

    @pytest.mark.case(86)
    @settings(max_examples=200, deadline=None)
    @given(
        st.one_of(
            st.binary(max_size=200),
            st.lists(
                st.sampled_from(
                    [
                        b"state=",
                        b"code=",
                        b"iss=",
                        b"error=",
                        b"&",
                        b"%41",
                        b"%",
                        b"a",
                        b"\xff",
                        b"+",
                    ]
                ),
                max_size=20,
            ).map(b"".join),
        )
    )
    def test_junk_is_read_or_refused_and_nothing_else_happens(self, encoded: bytes) -> None:
        reasons = set()
        try:
            read_callback(encoded)
        except LoginFailed as failed:
            reasons.add(failed.reason)
        assert reasons <= REASONS


def words(alias: object) -> frozenset[str]:
    """The literals of an alias, also of a union of them."""
    return frozenset().union(
        *(words(part) if get_args(part) else {part} for part in get_args(alias))
    )


REASONS = words(CallbackReason)


class TestDecodeForm:
    def test_keeps_order_repeats_and_empty_values(self) -> None:
        decoded = decode_form(b"b=2&a=1&b=&c&=x&&d=%3D%26+%2B")
        assert decoded is not None
        assert [(name, value.reveal()) for name, value in decoded] == [
            ("b", "2"), ("a", "1"), ("b", ""), ("c", ""), ("", "x"), ("d", "=& +"),
        ]  # fmt: skip

    def test_a_semicolon_separates_nothing(self) -> None:
        decoded = decode_form(b"a=1;b=2")
        assert decoded is not None
        assert [(name, value.reveal()) for name, value in decoded] == [("a", "1;b=2")]

    @settings(max_examples=100, deadline=None)
    @given(
        st.lists(
            st.tuples(
                st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
                st.text(st.characters(exclude_categories=["Cs"])),
            )
        )
    )
    def test_gives_back_what_was_encoded(self, fields: list[tuple[str, str]]) -> None:
        decoded = decode_form(urlencode(fields).encode())
        assert decoded is not None
        assert [(name, value.reveal()) for name, value in decoded] == fields


def judge(
    parameters: CallbackParameters, *, state: Secret = STATE, supported: bool = False
) -> Secret:
    return check_callback(parameters, state=state, issuer=ISSUER, iss_parameter_supported=supported)


def refusal(parameters: CallbackParameters, *, supported: bool = False) -> LoginFailed:
    with pytest.raises(LoginFailed) as raised:
        judge(parameters, supported=supported)
    assert raised.value.reason in REASONS
    return raised.value


CODE = Secret("c0de")


class TestCheckCallback:
    def test_returns_the_code(self) -> None:
        assert judge(CallbackParameters(state=STATE, code=CODE)) == CODE

    @pytest.mark.case(54)
    @pytest.mark.parametrize(
        "state",
        [
            pytest.param("st4te-of-this-attemp", id="truncated"),
            pytest.param("ST4TE-of-this-attempt", id="other-case"),
            pytest.param("st4te-of-this-attempt ", id="space"),
            pytest.param("st4te-of-this-attempt\0", id="nul"),
            pytest.param("", id="empty"),
        ],
    )
    def test_another_state_is_refused(self, state: str) -> None:
        assert (
            refusal(CallbackParameters(state=Secret(state), code=CODE)).reason == "state_mismatch"
        )

    @pytest.mark.case(54)
    def test_the_state_is_compared_in_constant_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        compared = []

        def compare_digest(a: bytes, b: bytes) -> bool:
            compared.append((a, b))
            return False

        monkeypatch.setattr("tokenward.secret.hmac.compare_digest", compare_digest)
        assert refusal(CallbackParameters(state=STATE, code=CODE)).reason == "state_mismatch"
        assert len(compared) == 1

    def test_an_attempt_without_a_state_matches_nothing(self) -> None:
        with pytest.raises(LoginFailed, match="state_mismatch"):
            judge(CallbackParameters(state=Secret(""), code=CODE), state=Secret(""))

    @pytest.mark.case(61)
    def test_a_refusal_with_another_state_is_not_believed(self) -> None:
        parameters = CallbackParameters(state=Secret("x"), error="access_denied", iss="https://e")
        assert refusal(parameters, supported=True).reason == "state_mismatch"

    @pytest.mark.case(57)
    @pytest.mark.parametrize("supported", [True, False])
    @pytest.mark.parametrize(
        "iss",
        [
            pytest.param("https://evil.example", id="other"),
            pytest.param("https://op.example/", id="trailing-slash"),
            pytest.param("https://OP.example", id="case"),
            pytest.param("https://op.example:443", id="port"),
            pytest.param("", id="empty"),
        ],
    )
    def test_another_issuer_is_refused(self, iss: str, supported: bool) -> None:
        parameters = CallbackParameters(state=STATE, code=CODE, iss=iss)
        assert refusal(parameters, supported=supported).reason == "issuer_mismatch"

    @pytest.mark.case(57)
    def test_an_empty_issuer_is_read_as_the_wrong_one_not_as_none(self) -> None:
        parameters = read_callback(b"code=c&iss=&state=" + STATE.reveal().encode())
        assert refusal(parameters).reason == "issuer_mismatch"

    @pytest.mark.case(58)
    def test_an_issuer_that_is_missing_although_the_provider_tells_it_is_refused(self) -> None:
        parameters = CallbackParameters(state=STATE, code=CODE)
        assert refusal(parameters, supported=True).reason == "issuer_missing"

    @pytest.mark.case(59)
    @pytest.mark.parametrize("supported", [True, False])
    def test_the_right_issuer_is_accepted_advertised_or_not(self, supported: bool) -> None:
        parameters = CallbackParameters(state=STATE, code=CODE, iss=ISSUER)
        assert judge(parameters, supported=supported) == CODE

    def test_a_refusal_needs_the_right_issuer_too(self) -> None:
        parameters = CallbackParameters(state=STATE, error="access_denied", iss="https://evil")
        assert refusal(parameters).reason == "issuer_mismatch"
        parameters = CallbackParameters(state=STATE, error="access_denied")
        assert refusal(parameters, supported=True).reason == "issuer_missing"

    @pytest.mark.case(60)
    @pytest.mark.parametrize("error", get_args(ProviderReason))
    def test_a_registered_refusal_is_the_reason_itself(self, error: str) -> None:
        parameters = CallbackParameters(state=STATE, error=error, error_description="Not today")
        failed = refusal(parameters)
        assert (failed.reason, failed.detail) == (error, "Not today")

    @pytest.mark.case(60)
    @pytest.mark.parametrize("error", ["custom", "state_mismatch", "ACCESS_DENIED", "x" * 256])
    def test_any_other_refusal_is_quoted_in_the_detail_only(self, error: str) -> None:
        failed = refusal(CallbackParameters(state=STATE, error=error, error_description="d" * 256))
        assert failed.reason == "provider_error"
        assert failed.detail.startswith(error[:200])
        assert len(failed.detail) <= 256
        assert refusal(CallbackParameters(state=STATE, error=error)).detail == error

    @pytest.mark.case(63)
    def test_a_refusal_together_with_a_code_is_refused(self) -> None:
        parameters = CallbackParameters(state=STATE, code=CODE, error="access_denied")
        assert refusal(parameters).reason == "error_and_code"

    @pytest.mark.case(64)
    @pytest.mark.parametrize("query", ["", "&code", "&code=", "&error=&code="])
    def test_no_code_and_an_empty_code_are_refused(self, query: str) -> None:
        parameters = read_callback(f"state={STATE.reveal()}{query}".encode())
        assert refusal(parameters).reason == "code_missing"


def test_every_reason_is_explained_in_the_docstring_of_the_module() -> None:
    explained = set(re.findall(r"^    ([a-z_]+)", authorization.__doc__ or "", re.MULTILINE))
    assert explained - {"access_denied"} == REASONS - words(ProviderReason)


class TestMisuseOfTheRequest:
    @pytest.mark.parametrize(
        "argument", ["redirect_uri", "scope", "state", "nonce", "code_challenge"]
    )
    @pytest.mark.parametrize("value", [None, "", ["a"]], ids=repr)
    def test_what_is_required_is_text(self, argument: str, value: Any) -> None:
        with pytest.raises(ConfigurationError) as raised:
            AuthorizationRequest(**(WHOLE | {argument: value}))
        assert raised.value.setting == argument

    @pytest.mark.parametrize("value", [None, 5, ["a"]], ids=repr)
    def test_an_addition_is_text(self, value: Any) -> None:
        request = AuthorizationRequest(**WHOLE, extra={"x": value})
        with pytest.raises(ConfigurationError, match="`x` must be text"):
            request.form("app")

    def test_a_resource_is_text_or_several(self) -> None:
        one = AuthorizationRequest(**WHOLE, resource="https://r.test")
        assert one.resource == ("https://r.test",)
        assert ("resource", "https://r.test") in one.form("app")
        assert AuthorizationRequest(**WHOLE, resource=["urn:b", "urn:a"]).resource == (
            "urn:b",
            "urn:a",
        )
        for bad in ("api", "https://r.test#f", "", None, 5):
            with pytest.raises(ConfigurationError, match=r"^resource:"):
                AuthorizationRequest(**WHOLE, resource=bad)


WHOLE: dict[str, Any] = {
    "redirect_uri": "https://app.test/cb",
    "scope": "openid",
    "state": Secret("state"),
    "nonce": Secret("nonce"),
    "code_challenge": "challenge",
}
