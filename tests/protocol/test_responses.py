from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenward.errors import (
    ConfigurationError,
    InvalidMetadata,
    InvalidResponse,
    ProtocolError,
    ProviderUnavailable,
)
from tokenward.protocol.introspection import IntrospectionResponse
from tokenward.protocol.responses import (
    MAX_EXPIRES_IN,
    DiscoveryResponse,
    JSONWebKeySetResponse,
    ProtocolResponse,
    RevocationResponse,
    TokenResponse,
    UserInfoResponse,
    printable,
    retry_after,
)
from tokenward.protocol.token_answer import read_token_answer
from tokenward.secret import Secret

if TYPE_CHECKING:
    from tokenward.protocol.token_answer import TokenAnswer

KINDS = [
    ProtocolResponse,
    TokenResponse,
    RevocationResponse,
    IntrospectionResponse,
    UserInfoResponse,
    DiscoveryResponse,
    JSONWebKeySetResponse,
]


def answer(body: object, status: int = 200, **headers: str) -> TokenResponse:
    """An answer of the token endpoint; anything but bytes is written as JSON."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return TokenResponse.parse(status, headers, raw)


def good(**members: object) -> TokenResponse:
    """A good answer with some members changed; `...` leaves one out."""
    body = {"access_token": "a.t", "token_type": "Bearer", "expires_in": 3600} | members
    return answer({name: value for name, value in body.items() if value is not ...})


def judged(**members: object) -> TokenAnswer:
    return read_token_answer(good(**members))


def refused(response: TokenResponse, **options: object) -> InvalidResponse:
    with pytest.raises(InvalidResponse) as raised:
        read_token_answer(response, **options)  # type: ignore[arg-type]
    assert raised.value.__context__ is None
    return raised.value


class TestProtocolResponse:
    @pytest.mark.parametrize("kind", KINDS)
    def test_a_json_object_with_a_good_status_is_no_error(
        self, kind: type[ProtocolResponse]
    ) -> None:
        response = kind.parse(200, {"Content-Type": "x"}, b'{"a": {"b": 1}}')
        assert not response.is_error
        assert (response.error_type, response.error, response.exception) == ("none", None, None)
        assert response.http_status == 200
        assert response.headers == {"content-type": "x"}
        assert response.json == {"a": {"b": 1}}
        assert response.get("a") == {"b": 1}
        assert response.get("c") is None
        assert response.raw.reveal() == '{"a": {"b": 1}}'
        assert response.raise_for_error() is response

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500, 503, 302])
    def test_the_word_of_the_provider_is_shown_at_every_status(
        self, kind: type[ProtocolResponse], status: int
    ) -> None:
        body = b'{"error": "x_y", "error_description": "d", "error_uri": "u", "more": 1}'
        response = kind.parse(status, {}, body)
        assert (response.is_error, response.error_type, response.error) == (True, "protocol", "x_y")
        assert (response.error_description, response.error_uri) == ("d", "u")
        assert response.get("more") == 1

    @pytest.mark.case(178)
    @pytest.mark.parametrize("kind", KINDS)
    def test_an_error_with_a_good_status_is_that_error(self, kind: type[ProtocolResponse]) -> None:
        response = kind.parse(200, {}, b'{"error": "bad_verification_code"}')
        assert (response.error_type, response.error) == ("protocol", "bad_verification_code")

    @pytest.mark.case(178)
    def test_an_error_beside_a_token_is_an_error(self) -> None:
        with pytest.raises(ProtocolError) as raised:
            read_token_answer(good(error="access_denied"))
        assert raised.value.response.error == "access_denied"

    @pytest.mark.parametrize("error", [{"code": 500}, ["x"], 7, True])
    def test_an_error_that_is_no_word_is_an_error_all_the_same(self, error: object) -> None:
        response = answer({"error": error, "access_token": "a", "token_type": "Bearer"})
        assert (response.error_type, response.error) == ("protocol", "malformed_error")

    @pytest.mark.parametrize("error", [None, "", False])
    def test_an_empty_error_is_none(self, error: object) -> None:
        assert not answer({"error": error}).is_error

    def test_descriptions_that_are_no_text_are_left_out(self) -> None:
        response = answer({"error": "x", "error_description": ["d"], "error_uri": 1}, 400)
        assert (response.error_description, response.error_uri) == (None, None)

    @pytest.mark.case(179)
    @pytest.mark.parametrize("status", [500, 502, 504])
    def test_a_page_of_a_gateway_is_an_http_error_and_shown_nowhere(self, status: int) -> None:
        response = answer(b"<html>internal-hostname</html>", status)
        assert (response.error_type, response.error) == ("http", f"http_{status}")
        assert (response.json, response.error_description) == (None, None)
        with pytest.raises(ProtocolError) as raised:
            read_token_answer(response)
        assert "internal-hostname" not in f"{response!r} {response} {raised.value} {raised.value!r}"

    @pytest.mark.parametrize("status", [302, 307, 404])
    def test_json_without_an_error_is_no_success_when_the_status_is_none(self, status: int) -> None:
        response = answer({"access_token": "a", "token_type": "Bearer"}, status)
        assert (response.error_type, response.error) == ("http", f"http_{status}")

    @pytest.mark.case(182)
    @pytest.mark.parametrize("kind", [TokenResponse, RevocationResponse, IntrospectionResponse])
    @pytest.mark.parametrize("body", [b"<html>401</html>", b"", b"{}"])
    def test_a_401_without_words_is_invalid_client(
        self, kind: type[ProtocolResponse], body: bytes
    ) -> None:
        response = kind.parse(401, {}, body)
        assert (response.error_type, response.error) == ("http", "invalid_client")

    def test_a_401_of_userinfo_without_words_is_invalid_token(self) -> None:
        assert UserInfoResponse.parse(401, {}, b"").error == "invalid_token"

    @pytest.mark.parametrize(
        ("header", "error"),
        [
            ('Bearer error="insufficient_scope", scope="a"', "insufficient_scope"),
            ('DPoP realm="x", error="use_dpop_nonce"', "use_dpop_nonce"),
        ],
    )
    @pytest.mark.parametrize("status", [400, 401, 403])
    def test_the_word_may_come_in_the_challenge(self, header: str, error: str, status: int) -> None:
        # RFC 6750, section 3; RFC 9449, section 9
        response = UserInfoResponse.parse(status, {"WWW-Authenticate": header}, b"")
        assert (response.error_type, response.error) == ("protocol", error)

    def test_a_challenge_beside_a_good_answer_means_nothing(self) -> None:
        header = {"www-authenticate": 'Bearer error="x"'}
        assert not UserInfoResponse.parse(200, header, b"{}").is_error

    def test_a_challenge_without_a_word_is_an_http_error(self) -> None:
        header = {"www-authenticate": 'Basic realm="x", error_description="y"'}
        assert ProtocolResponse.parse(403, header, b"").error == "http_403"

    @pytest.mark.case(177)
    @pytest.mark.case(207)
    @pytest.mark.parametrize(
        "body",
        [
            pytest.param(b"<html></html>", id="html"),
            pytest.param(b"", id="empty"),
            pytest.param(b"[]", id="list"),
            pytest.param(b'"text"', id="string"),
            pytest.param(b"null", id="null"),
            pytest.param(b'{"access_token": "s3cret-token"', id="cut"),
            pytest.param(b'{"access_token": "s3cret-token", "access_token": "b"}', id="twice"),
            pytest.param(b'{"access_token": "s3cret-token", "x": NaN}', id="nan"),
            pytest.param(b'{"access_token": "s3cret-token", "x": "\xff"}', id="no-utf-8"),
            pytest.param(b"[" * 10_000, id="deep"),
        ],
    )
    def test_a_good_status_without_a_json_object_is_a_typed_error(self, body: bytes) -> None:
        response = answer(body)
        assert (response.error_type, response.json) == ("exception", None)
        assert isinstance(response.exception, InvalidResponse)
        with pytest.raises(InvalidResponse) as raised:
            read_token_answer(response)
        assert raised.value.member == "body"
        assert raised.value.__context__ is None
        shown = f"{response!r} {response.error} {raised.value!r}" + "".join(
            repr(entry.locals) for entry in raised.traceback[1:]
        )
        assert "s3cret" not in shown

    @pytest.mark.parametrize("body", [b"", b"<html>", b"{}", b"null"])
    def test_a_revocation_needs_no_body(self, body: bytes) -> None:
        # RFC 7009, section 2.2
        assert not RevocationResponse.parse(200, {}, body).is_error

    def test_a_revocation_may_fail(self) -> None:
        response = RevocationResponse.parse(400, {}, b'{"error": "unsupported_token_type"}')
        assert response.error == "unsupported_token_type"

    def test_a_failure_to_get_an_answer_is_a_value(self) -> None:
        exception = ProviderUnavailable("no connection")
        response = TokenResponse.from_exception(exception)
        assert (response.is_error, response.error_type) == (True, "exception")
        assert (response.error, response.http_status) == ("no connection", None)
        assert (response.json, response.raw.reveal(), response.headers) == (None, "", {})
        with pytest.raises(ProviderUnavailable) as raised:
            read_token_answer(response)
        assert raised.value is exception

    def test_the_text_of_a_foreign_exception_is_not_believed_to_be_harmless(self) -> None:
        response = TokenResponse.from_exception(OSError("https://op/?code=s3cret"))
        assert response.error == "OSError"
        assert "s3cret" not in repr(response)

    def test_an_answer_that_breaks_our_rules_keeps_what_it_said(self) -> None:
        parsed = DiscoveryResponse.parse(200, {}, b'{"issuer": "x"}')
        response = parsed.failed(InvalidMetadata("issuer", "is another one"))
        assert (response.error_type, response.error) == ("policy", "issuer: is another one")
        assert (response.http_status, response.get("issuer")) == (200, "x")
        with pytest.raises(InvalidMetadata):
            response.raise_for_error()

    def test_another_exception_of_ours_is_no_policy(self) -> None:
        response = ProtocolResponse.from_exception(ConfigurationError("x", "y\n"))
        assert (response.error_type, response.error) == ("exception", r"x: y\n")

    @pytest.mark.parametrize("kind", KINDS)
    def test_repr_shows_status_and_error_and_nothing_else(
        self, kind: type[ProtocolResponse]
    ) -> None:
        body = {"error": "invalid_grant", "error_description": "s3cret", "access_token": "s3cret"}
        response = kind.parse(400, {"x": "s3cret"}, json.dumps(body).encode())
        assert repr(response) == (
            f"{kind.__name__}(http_status=400, error_type='protocol', error='invalid_grant')"
        )
        with pytest.raises(ProtocolError) as raised:
            response.raise_for_error()
        assert "s3cret" not in f"{raised.value} {raised.value!r} {raised.value.args!r}"
        assert raised.value.response is response

    @pytest.mark.case(410)
    def test_error_texts_are_clipped_and_escaped(self) -> None:
        text = "\x1b[2J\r\nINFO fake\u202e" + "x" * 10_000
        response = answer({"error": text, "error_description": text, "error_uri": text}, 400)
        for shown in (response.error, response.error_description, response.error_uri):
            assert shown == printable(text)

    @pytest.mark.case(410)
    def test_the_word_of_a_challenge_is_clipped_and_escaped(self) -> None:
        header = {"www-authenticate": f'Bearer error="\x1b{"x" * 10_000}"'}
        error = ProtocolResponse.parse(401, header, b"").error
        assert error is not None
        assert error.startswith(r"\x1bxxx")
        assert len(error) == 256

    def test_introspection_says_active_only_for_a_plain_true(self) -> None:
        def active(body: bytes, status: int = 200) -> bool:
            return IntrospectionResponse.parse(status, {}, body).active

        assert active(b'{"active": true}')
        assert not active(b'{"active": "true"}')
        assert not active(b'{"active": 1}')
        assert not active(b"{}")
        assert not active(b'{"active": true}', 400)
        assert not active(b'{"active": true, "error": "x"}')

    @settings(max_examples=100, deadline=None)
    @given(st.integers(100, 599), st.binary(max_size=60))
    def test_reading_never_raises(self, status: int, body: bytes) -> None:
        for kind in KINDS:
            kind.parse(status, {}, body)


class TestTokenResponse:
    def test_shows_what_came(self) -> None:
        response = good(refresh_token="r", id_token="i", scope="a b")
        assert response.access_token == Secret("a.t")
        assert response.refresh_token == Secret("r")
        assert response.id_token == Secret("i")
        assert (response.token_type, response.expires_in, response.scope) == ("Bearer", 3600, "a b")

    def test_shows_none_for_what_did_not_come(self) -> None:
        response = answer({"access_token": 1, "refresh_token": "", "scope": ["a"]})
        assert response.access_token is None
        assert response.refresh_token is None
        assert response.id_token is None
        assert (response.token_type, response.expires_in, response.scope) == (None, None, None)


class TestReadTokenAnswer:
    def test_gives_everything_that_a_good_answer_says(self) -> None:
        answer = judged(refresh_token="r~t", id_token="i.d.t", scope="openid api")
        assert answer.access_token == Secret("a.t")
        assert answer.refresh_token == Secret("r~t")
        assert answer.id_token == Secret("i.d.t")
        assert (answer.token_type, answer.expires_in) == ("Bearer", 3600.0)
        assert answer.scope == frozenset({"openid", "api"})
        assert answer.unusable == ()

    def test_repr_hides_the_tokens(self) -> None:
        shown = repr(judged(access_token="s3cret", refresh_token="s3cret", id_token="s3cret"))
        assert "s3cret" not in shown

    @pytest.mark.parametrize(
        "error", ["invalid_grant", "invalid_client", "temporarily_unavailable"]
    )
    def test_a_refusal_is_raised_with_the_evidence(self, error: str) -> None:
        with pytest.raises(ProtocolError) as raised:
            read_token_answer(answer({"error": error}, 400))
        assert raised.value.response.error == error
        assert raised.value.response.http_status == 400

    @pytest.mark.case(184)
    @pytest.mark.parametrize(
        "token",
        [
            pytest.param(..., id="missing"),
            pytest.param(None, id="null"),
            pytest.param("", id="empty"),
            pytest.param(12345678, id="number"),
            pytest.param(True, id="true"),
            pytest.param(["s3cret"], id="list"),
            pytest.param({"s3cret": 1}, id="object"),
            pytest.param("s3cret\r\nx-admin: 1", id="crlf"),
            pytest.param("s3cret\n", id="line-end"),
            pytest.param("s3 cret", id="space"),
            pytest.param("s3cret\t", id="tab"),
            pytest.param("s3cret\0", id="nul"),
            pytest.param("s3cret\x7f", id="delete"),
            pytest.param("s3cretü", id="umlaut"),
            pytest.param("s3cret" * 3000, id="long"),
        ],
    )
    def test_an_access_token_that_could_not_be_sent_is_refused(self, token: object) -> None:
        with pytest.raises(InvalidResponse) as raised:
            read_token_answer(good(access_token=token))
        assert raised.value.member == "access_token"
        assert raised.value.__context__ is None
        shown = str(raised.value) + "".join(repr(e.locals) for e in raised.traceback[1:])
        assert "s3cret" not in shown

    @pytest.mark.case(184)
    @pytest.mark.parametrize(
        "token",
        [
            pytest.param("mF_9.B5f-4.1JqM", id="rfc-6750"),
            pytest.param("a~+/==", id="b64token"),
            pytest.param("00Dx!AQ", id="exclamation-mark"),
            pytest.param("1234|abc", id="bar"),
            pytest.param("x" * 16384, id="at-the-limit"),
        ],
    )
    def test_tokens_that_providers_use_are_accepted(self, token: str) -> None:
        assert judged(access_token=token).access_token == Secret(token)

    @pytest.mark.case(185)
    @pytest.mark.parametrize("missing", [..., None, ""])
    def test_a_missing_token_type_is_refused_unless_it_is_allowed_by_name(
        self, missing: object
    ) -> None:
        response = good(token_type=missing)
        assert refused(response).member == "token_type"
        allowed = read_token_answer(response, dangerously_allow_missing_token_type=True)
        assert allowed.token_type == "Bearer"

    @pytest.mark.case(186)
    @pytest.mark.parametrize("told", ["bearer", "BEARER", "Bearer"])
    def test_the_case_of_the_token_type_does_not_matter(self, told: str) -> None:
        assert judged(token_type=told).token_type == "Bearer"

    @pytest.mark.case(187)
    @pytest.mark.parametrize("told", ["mac", "N_A", "DPoP", "Bearer ", "Bearer,DPoP"])
    @pytest.mark.parametrize("allowed", [True, False])
    def test_a_token_type_that_was_not_asked_for_is_refused(self, told: str, allowed: bool) -> None:
        error = refused(good(token_type=told), dangerously_allow_missing_token_type=allowed)
        assert error.member == "token_type"

    @pytest.mark.case(187)
    @pytest.mark.parametrize("told", [1, ["Bearer"], True, {}])
    @pytest.mark.parametrize("allowed", [True, False])
    def test_a_token_type_that_is_no_text_is_refused(self, told: object, allowed: bool) -> None:
        error = refused(good(token_type=told), dangerously_allow_missing_token_type=allowed)
        assert str(error) == "token_type: is not a string"

    @pytest.mark.case(188)
    def test_bearer_is_refused_where_dpop_was_asked_for(self) -> None:
        assert refused(good(token_type="Bearer"), token_type="DPoP").member == "token_type"
        assert read_token_answer(good(token_type="dpop"), token_type="DPoP").token_type == "DPoP"

    def test_a_token_type_is_quoted_clipped_and_escaped(self) -> None:
        problem = refused(good(token_type="\x1b" + "x" * 1000)).problem
        assert "\x1b" not in problem
        assert len(problem) < 300

    @pytest.mark.parametrize(
        ("told", "seconds"),
        [
            pytest.param(3600, 3600.0, id="number"),
            pytest.param("3600", 3600.0, id="text", marks=pytest.mark.case(189)),
            pytest.param(3600.9, 3600.0, id="fraction", marks=pytest.mark.case(189)),
            pytest.param("3600.5", 3600.0, id="text-fraction", marks=pytest.mark.case(189)),
            pytest.param(0, 0.0, id="zero"),
            pytest.param("0", 0.0, id="text-zero"),
            pytest.param(-1, 0.0, id="negative"),
            pytest.param("-1", 0.0, id="text-negative"),
            pytest.param(10**30, MAX_EXPIRES_IN, id="10**30", marks=pytest.mark.case(191)),
            pytest.param(10**1000, MAX_EXPIRES_IN, id="10**1000", marks=pytest.mark.case(191)),
            pytest.param(-(10**1000), 0.0, id="-10**1000"),
            pytest.param(1e300, MAX_EXPIRES_IN, id="1e300", marks=pytest.mark.case(191)),
            pytest.param("9" * 5000, MAX_EXPIRES_IN, id="text-9s", marks=pytest.mark.case(191)),
            pytest.param("-" + "9" * 5000, 0.0, id="text-negative-9s"),
        ],
    )
    def test_a_lifetime_is_read_and_cut_to_ten_years(self, told: object, seconds: float) -> None:
        answer = judged(expires_in=told)
        assert answer.expires_in == seconds
        assert isinstance(answer.expires_in, float)
        assert answer.unusable == ()

    def test_ten_years_are_ten_years(self) -> None:
        assert MAX_EXPIRES_IN == 315_360_000

    @pytest.mark.case(192)
    @pytest.mark.parametrize(
        "told", [True, False, [], [3600], {}, "abc", "NaN", "inf", "", " ", "1e3", "٣", "3600\n"]
    )
    def test_a_lifetime_that_is_no_number_is_as_if_missing_and_reported(self, told: object) -> None:
        answer = judged(expires_in=told)
        assert answer.expires_in is None
        assert answer.unusable == ("expires_in",)

    @pytest.mark.case(192)
    @pytest.mark.parametrize("missing", [..., None])
    def test_a_missing_lifetime_is_none_and_not_zero(self, missing: object) -> None:
        answer = judged(expires_in=missing)
        assert answer.expires_in is None
        assert answer.unusable == ()

    @pytest.mark.parametrize("member", ["refresh_token", "id_token"])
    @pytest.mark.parametrize("missing", [..., None, ""])
    def test_a_missing_token_is_none_so_that_the_old_one_stays(
        self, member: str, missing: object
    ) -> None:
        assert getattr(judged(**{member: missing}), member) is None

    @pytest.mark.case(197)
    @pytest.mark.parametrize("member", ["refresh_token", "id_token"])
    @pytest.mark.parametrize("told", [1, 0, False, ["s3cret"], {"s3cret": 1}, []])
    def test_a_token_that_is_no_text_makes_the_answer_unusable(
        self, member: str, told: object
    ) -> None:
        assert refused(good(**{member: told})).member == member

    @pytest.mark.parametrize("token", ["a b", "a\r\nb", "ü", "x" * 16385])
    def test_a_refresh_token_outside_the_grammar_is_refused(self, token: str) -> None:
        assert refused(good(refresh_token=token)).member == "refresh_token"

    @pytest.mark.parametrize("missing", [..., None])
    def test_a_scope_that_is_not_told_is_none(self, missing: object) -> None:
        assert judged(scope=missing).scope is None

    @pytest.mark.case(205)
    def test_an_empty_scope_is_nothing_and_not_everything(self) -> None:
        assert judged(scope="").scope == frozenset()

    @pytest.mark.case(205)
    @pytest.mark.parametrize("told", [["openid"], [], {}, 0, False])
    def test_a_scope_that_is_no_text_is_refused(self, told: object) -> None:
        assert refused(good(scope=told)).member == "scope"

    @pytest.mark.parametrize("told", ["a\tb", 'a"b', "a\\b", "a\nb", "ü"])
    def test_a_scope_outside_the_grammar_is_refused(self, told: str) -> None:
        assert refused(good(scope=told)).member == "scope"

    def test_a_scope_is_a_set_of_names(self) -> None:
        assert judged(scope=" b  https://x/.default a b ").scope == frozenset(
            {"a", "b", "https://x/.default"}
        )

    @pytest.mark.case(208)
    def test_lifetimes_of_the_providers_own_are_hints_at_most(self) -> None:
        plain = judged(refresh_token="r")
        assert judged(refresh_token="r", refresh_expires_in=1, ext_expires_in=1) == plain

    def test_unknown_members_are_not_kept(self) -> None:
        assert judged(secret_note="x" * 1000, nested={"a": [1]}) == judged()

    @settings(max_examples=150, deadline=None)
    @given(
        st.dictionaries(
            st.sampled_from(
                ["access_token", "token_type", "expires_in", "refresh_token", "id_token", "scope",
                 "error"]
            ),
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False)
            | st.text(max_size=5) | st.sampled_from(["Bearer", "a"]) | st.lists(st.integers()),
        )
    )  # fmt: skip
    def test_junk_is_refused_by_one_of_two_errors(self, members: dict[str, object]) -> None:
        response = TokenResponse.parse(200, {}, json.dumps(members).encode())
        try:
            read_token_answer(response)
        except (InvalidResponse, ProtocolError):
            return
        assert isinstance(members["access_token"], str)


NOW = datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC).timestamp()


class TestRetryAfter:
    @pytest.mark.case(183)
    @pytest.mark.parametrize(
        ("told", "seconds"),
        [
            pytest.param("7", 7.0, id="seconds"),
            pytest.param(" 7 ", 7.0, id="space"),
            pytest.param("1.5", 1.5, id="fraction"),
            pytest.param("0", 1.0, id="zero"),
            pytest.param("-5", 1.0, id="negative"),
            pytest.param("60", 60.0, id="at-the-limit"),
            pytest.param("61", 60.0, id="over-the-limit"),
            pytest.param("1000000000", 60.0, id="10**9"),
            pytest.param("9" * 5000, 60.0, id="9s"),
            pytest.param("Sun, 06 Nov 1994 08:49:50 GMT", 13.0, id="date"),
            pytest.param("Sunday, 06-Nov-94 08:49:50 GMT", 13.0, id="rfc-850-date"),
            pytest.param("Sun Nov  6 08:49:50 1994", 13.0, id="asctime-date"),
            pytest.param("Sun, 06 Nov 1994 08:00:00 GMT", 1.0, id="past-date"),
            pytest.param("Sun, 06 Nov 2094 08:49:50 GMT", 60.0, id="far-date"),
        ],
    )
    def test_a_wait_is_read_and_kept_between_one_second_and_sixty(
        self, told: str, seconds: float
    ) -> None:
        assert retry_after({"retry-after": told}, now=NOW) == seconds

    @pytest.mark.case(183)
    @pytest.mark.parametrize(
        "told",
        ["", "soon", "1e3", "nan", "inf", "5, 10", "0x10", "٣", "\x00", "--1",
         "Sun, 99 Nov 1994 08:49:50 GMT", "Sun, 06 Nov 99999999999 08:49:50 GMT",
         "06 Nov 1994 08:49:50 +99999999999999"],
    )  # fmt: skip
    def test_garbage_is_nothing(self, told: str) -> None:
        assert retry_after({"retry-after": told}, now=NOW) is None

    def test_a_date_without_a_zone_is_in_utc_wherever_the_server_stands(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # RFC 9110, section 5.6.7
        with monkeypatch.context() as patched:
            patched.setenv("TZ", "EST+5")
            time.tzset()
            wait = retry_after({"retry-after": "Sun Nov  6 08:49:50 1994"}, now=NOW)
        time.tzset()
        assert wait == 13.0

    def test_nothing_told_is_nothing(self) -> None:
        assert retry_after({}, now=NOW) is None

    @settings(max_examples=200, deadline=None)
    @given(
        st.text(max_size=40)
        | st.lists(
            st.sampled_from(
                [
                    "Sun",
                    ", ",
                    "06",
                    " ",
                    "Nov",
                    "1994",
                    "08:49:50",
                    "GMT",
                    "-",
                    "+9999",
                    "0",
                    ":",
                    "99",
                ]
            )
        ).map("".join)
    )
    def test_whatever_comes_is_a_bounded_wait_or_nothing(self, told: str) -> None:
        wait = retry_after({"retry-after": told}, now=NOW)
        assert wait is None or 1.0 <= wait <= 60.0


class TestPrintable:
    @pytest.mark.case(410)
    @pytest.mark.parametrize(
        ("text", "shown"),
        [
            pytest.param("Grüße, 世界! <b>", "Grüße, 世界! <b>", id="visible"),
            pytest.param("a\r\nb\tc", r"a\r\nb\tc", id="line-ends"),
            pytest.param("\x1b[31mred\x9b0m", r"\x1b[31mred\x9b0m", id="ansi"),
            pytest.param("\u202eevil\u2066\u200f", r"\u202eevil\u2066\u200f", id="bidi"),
            pytest.param("a\u2028b\u2029c\x85d", r"a\u2028b\u2029c\x85d", id="unicode-line-ends"),
            pytest.param("a\u200b\ufeff\xa0b", r"a\u200b\ufeff\xa0b", id="invisible"),
            pytest.param("\0\x7f", r"\x00\x7f", id="control"),
            pytest.param("\ud800", r"\ud800", id="surrogate"),
            pytest.param("\U000e0041", r"\U000e0041", id="tag"),
            pytest.param("", "", id="empty"),
        ],
    )
    def test_only_what_can_be_seen_is_shown_as_it_is(self, text: str, shown: str) -> None:
        assert printable(text) == shown

    @pytest.mark.case(410)
    def test_at_most_256_characters_are_shown(self) -> None:
        assert printable("x" * 256) == "x" * 256
        assert printable("x" * 257) == "x" * 255 + "…"
        assert len(printable("\x1b" * 200)) == 256
        assert len(printable("x" * 10**6)) == 256

    @settings(max_examples=100, deadline=None)
    @given(st.text(max_size=300))
    def test_twice_is_as_once(self, text: str) -> None:
        shown = printable(text)
        assert len(shown) <= 256
        assert shown.isprintable()
        assert printable(shown) == shown
