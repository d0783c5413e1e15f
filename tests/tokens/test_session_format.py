"""How sessions are written down, and read again."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenward.clock import aware
from tokenward.secret import Secret
from tokenward.tokens import session_format
from tokenward.tokens.models import AccessToken, Target, TokenSet
from tokenward.tokens.session import Session
from tokenward.tokens.session_format import (
    FORMAT,
    TOKEN_FORMAT,
    InvalidSession,
    NewerFormat,
    read_access_token,
    read_session,
    write_access_token,
    write_session,
)

SECRET = "a-token-that-nobody-may-see"
NOW = 1_893_456_000.0


def access_token(value: str = "access-token-0123456789", **members: Any) -> AccessToken:
    return AccessToken(value=value, expires_at=aware(NOW + 3600), lifetime=3600.0, **members)


SESSION = Session(
    id="0123",
    provider="default",
    issuer="https://op.test",
    client_id="app",
    claims={"sub": "alice", "roles": ["a", "b"], "address": {"country": "Österreich"}},
    proof={"sub": "alice", "iss": "https://op.test", "auth_time": 1},
    tokens=TokenSet(
        access_token(scope=frozenset({"openid", "api"})),
        Secret("refresh-token-0123456789"),
        Secret("id-token-0123456789"),
        (
            (
                Target(("https://api.test", "https://b.test"), frozenset({"read", "write"})),
                access_token("other-0123456789", resource=("https://api.test",)),
            ),
        ),
    ),
    created_at=NOW,
    expires_at=NOW + 7 * 86400.5,
    renewed_at=NOW + 1,
    seen_at=NOW + 2.25,
    version=7,
)

texts = st.text(max_size=20)
tokens = st.builds(
    AccessToken,
    value=texts,
    expires_at=st.floats(0, 4e9).map(lambda t: aware(float(int(t)))),
    token_type=texts,
    scope=st.frozensets(texts, max_size=3),
    resource=st.lists(texts, max_size=3).map(tuple),
    expires_assumed=st.booleans(),
    lifetime=st.floats(0, 1e9),
)
secrets = st.none() | texts.map(Secret)
targets = st.builds(
    Target,
    resource=st.lists(texts, max_size=2).map(tuple),
    scope=st.frozensets(texts, max_size=2),
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
claims = st.dictionaries(texts, json_values, max_size=3)
times = st.floats(0, 4e9)
sessions = st.builds(
    Session,
    id=texts,
    provider=texts,
    issuer=texts,
    client_id=texts,
    claims=claims,
    proof=claims,
    tokens=st.builds(
        TokenSet,
        tokens,
        secrets,
        secrets,
        st.lists(st.tuples(targets, tokens), max_size=2).map(tuple),
    ),
    created_at=times,
    expires_at=times,
    renewed_at=times,
    seen_at=times,
    version=st.integers(0, 10**12),
)


def record() -> list[Any]:
    written: list[Any] = json.loads(write_session(SESSION))
    return written


def places(value: object, path: tuple[int, ...] = ()) -> list[tuple[int, ...]]:
    """Return the path to everything in the written form; claims are the provider's."""
    if not isinstance(value, list):
        return [path]
    inner = [places(item, (*path, index)) for index, item in enumerate(value)]
    return [path, *(each for found in inner for each in found)]


PLACES = [path for path in places(record()) if path]


def put(value: object, *, at: tuple[int, ...]) -> bytes:
    spoilt: Any = record()
    inner = spoilt
    for index in at[:-1]:
        inner = inner[index]
    inner[at[-1]] = value
    return json.dumps(spoilt).encode()


def what_is(at: tuple[int, ...]) -> object:
    value: Any = record()
    for index in at:
        value = value[index]
    return value


@settings(max_examples=40)
@given(sessions)
def test_what_is_written_is_read_again(session: Session) -> None:
    assert read_session(write_session(session)) == session


def test_whole_seconds_of_a_clock_are_read_again() -> None:
    session = replace(
        SESSION,
        created_at=1,
        expires_at=2,
        renewed_at=1,
        seen_at=1,
        tokens=TokenSet(AccessToken("a", aware(3), lifetime=60)),
    )
    assert read_session(write_session(session)) == session


def test_no_refresh_token_is_another_thing_than_an_empty_one() -> None:
    for token in (None, Secret("")):
        session = replace(SESSION, tokens=replace(SESSION.tokens, refresh_token=token))
        assert read_session(write_session(session)).tokens.refresh_token == token


def test_the_written_form_is_compact_and_begins_with_its_version() -> None:
    written = write_session(SESSION)
    assert b", " not in written
    assert b": " not in written
    assert json.loads(written)[0] == FORMAT


def test_the_form_of_this_version_stays_as_it_is() -> None:
    token = ["t", 60.0, "DPoP", ["a", "b"], ["https://r.test"], True, 30.0]
    written = [
        1, "id", "default", "https://op.test", "app", {"sub": "alice"}, {"nonce": "n"},
        1.0, 2.0, 3.0, 4.0, 5, token, ["r"], [], [[["https://r.test"], ["a"], token]],
    ]  # fmt: skip
    access_token = AccessToken(
        "t", aware(60), "DPoP", frozenset("ab"), ("https://r.test",), True, 30.0
    )
    session = read_session(json.dumps(written).encode())
    assert session == Session(
        id="id",
        provider="default",
        issuer="https://op.test",
        client_id="app",
        claims={"sub": "alice"},
        proof={"nonce": "n"},
        tokens=TokenSet(
            access_token,
            Secret("r"),
            None,
            ((Target(("https://r.test",), frozenset("a")), access_token),),
        ),
        created_at=1.0,
        expires_at=2.0,
        renewed_at=3.0,
        seen_at=4.0,
        version=5,
    )
    assert json.loads(write_session(session)) == written


@settings(max_examples=40)
@given(st.binary(max_size=60))
def test_any_bytes_are_an_invalid_session(data: bytes) -> None:
    with pytest.raises(InvalidSession):
        read_session(data)


@settings(max_examples=40)
@given(json_values)
def test_any_json_is_an_invalid_session(value: object) -> None:
    with pytest.raises(InvalidSession):
        read_session(json.dumps(value).encode())


VALUES = (
    None,
    False,
    0.5,
    10**400,
    SECRET,
    [SECRET],
    [[SECRET, 1], 2],
    [1],
    {"x": SECRET},
    float("nan"),
    float("inf"),
)


def may_be(value: object, known: object) -> bool:
    """Tell whether what the writer knows nothing of could stand there all the same."""
    if type(value) is not type(known):
        return False
    if isinstance(known, list):
        return value == [SECRET] and all(isinstance(item, str) for item in known)
    return known != FORMAT if isinstance(known, int) else value in VALUES[:-2]


@pytest.mark.parametrize(
    ("at", "value"),
    [
        pytest.param(at, value, id=f"{'-'.join(map(str, at))}={json.dumps(value)[:12]}")
        for at in PLACES
        for value in VALUES
        if not may_be(value, what_is(at))
    ],
)
@pytest.mark.case(264)
def test_what_is_of_another_kind_is_an_invalid_session_that_shows_nothing(
    at: tuple[int, ...], value: object
) -> None:
    with pytest.raises(InvalidSession) as caught:
        read_session(put(value, at=at))
    assert str(caught.value) == ""
    assert caught.value.__context__ is None


@pytest.mark.parametrize("place", range(len(record())))
def test_a_place_that_is_missing_is_an_invalid_session(place: int) -> None:
    written = record()
    del written[place]
    with pytest.raises(InvalidSession):
        read_session(json.dumps(written).encode())


@pytest.mark.parametrize("place", [12, 13, 14])
def test_a_place_too_many_is_an_invalid_session(place: int) -> None:
    with pytest.raises(InvalidSession):
        read_session(put([*record()[place], "x"], at=(place,)))
    with pytest.raises(InvalidSession):
        read_session(json.dumps([*record(), None]).encode())


@pytest.mark.case(264)
@pytest.mark.parametrize("rest", [[], [{"of": "another"}, SECRET], record()[1:]])
def test_what_a_newer_release_wrote_is_left_alone(rest: list[object]) -> None:
    with pytest.raises(NewerFormat) as caught:
        read_session(json.dumps([FORMAT + 1, *rest]).encode())
    assert caught.value.__context__ is None


def test_an_older_form_than_the_first_is_invalid() -> None:
    with pytest.raises(InvalidSession) as caught:
        read_session(put(0, at=(0,)))
    assert not isinstance(caught.value, NewerFormat)


# ------------------------------------------------------------- another version


def test_every_version_that_was_written_has_a_reader() -> None:
    assert [*session_format._SESSION_READERS] == [*range(1, FORMAT + 1)]
    assert [*session_format._TOKEN_READERS] == [*range(1, TOKEN_FORMAT + 1)]


@pytest.fixture
def next_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this release know another version, of which it writes nothing yet."""

    def read(record: list[Any]) -> Session:
        version, *places, _ = record
        assert version == FORMAT + 1
        return session_format._read_session_1([FORMAT, *places])

    readers = {**session_format._SESSION_READERS, FORMAT + 1: read}
    monkeypatch.setattr(session_format, "_SESSION_READERS", readers)


@pytest.mark.case(298)
@pytest.mark.usefixtures("next_version")
def test_a_release_reads_the_next_version_before_any_writes_it() -> None:
    assert read_session(put(FORMAT, at=(0,))) == SESSION
    assert read_session(json.dumps([FORMAT + 1, *record()[1:], "more"]).encode()) == SESSION
    assert json.loads(write_session(SESSION))[0] == FORMAT
    with pytest.raises(NewerFormat):
        read_session(put(FORMAT + 2, at=(0,)))


@pytest.mark.case(298)
@pytest.mark.usefixtures("next_version")
def test_each_version_is_held_against_its_own_form() -> None:
    with pytest.raises(InvalidSession) as caught:
        read_session(json.dumps([FORMAT, *record()[1:], "more"]).encode())
    assert not isinstance(caught.value, NewerFormat)


def test_a_token_by_itself_has_a_version_of_its_own() -> None:
    token = access_token(scope=frozenset({"a", "b"}))
    written: Any = write_access_token(token)
    assert read_access_token(written) == token
    with pytest.raises(NewerFormat):
        read_access_token([TOKEN_FORMAT + 1, *written[1:]])
    for spoilt in ([0, *written[1:]], ["1", *written[1:]], written[1:], [*written, 1], [], {}):
        with pytest.raises((TypeError, ValueError, LookupError)):
            read_access_token(spoilt)
