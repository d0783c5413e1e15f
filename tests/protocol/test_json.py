"""JSON that two readers could read differently is refused."""

from __future__ import annotations

import json
import traceback

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenward.protocol.json import InvalidJSON, excerpt, loads, loads_object


@pytest.mark.parametrize(
    ("text", "value"),
    [
        pytest.param(b"{}", {}, id="empty object"),
        pytest.param(b' {"a": [1, 2.5, null, true]}\n', {"a": [1, 2.5, None, True]}, id="mixed"),
        pytest.param('"ü"'.encode(), "ü", id="UTF-8"),
        pytest.param('"ü"', "ü", id="text"),
        pytest.param(b'"\\ud83d\\ude00"', "😀", id="surrogate pair"),
        pytest.param(b'"\\\\ud800"', "\\ud800", id="escaped backslash"),
        pytest.param(b"[" * 32 + b"]" * 32, None, id="32 levels"),
        pytest.param(b'["' + b"[" * 99 + b'"]', ["[" * 99], id="brackets in a string"),
        pytest.param(b'["\\"[' + b"[" * 99 + b'"]', ['"[' + "[" * 99], id="escaped quote"),
        pytest.param(b"[" + b"[],[{}]," * 99 + b"1]", None, id="wide, not deep"),
        pytest.param(b"9" * 4300, int("9" * 4300), id="4,300 digits"),
        pytest.param(b"1e300", 1e300, id="1e300"),
    ],
)
def test_json_is_read(text: bytes | str, value: object) -> None:
    assert loads(text) == (json.loads(text) if value is None else value)


REFUSED = [
    pytest.param(b"", "not JSON", id="empty"),
    pytest.param(b'{"a": 1', "not JSON", id="truncated"),
    pytest.param(b'{"a": 1} x', "not JSON", id="more after it"),
    pytest.param(b"{'a': 1}", "not JSON", id="single quotes"),
    pytest.param(b'"a\nb"', "not JSON", id="line end in a string"),
    pytest.param(b'{"a": 1, "a": 1}', "a member appears twice", id="duplicate member"),
    pytest.param(
        b'[{"b": {"a": 1, "\\u0061": 2}}]', "a member appears twice", id="nested, escaped"
    ),
    pytest.param(b"NaN", "NaN and Infinity are not JSON", id="NaN"),
    pytest.param(b'{"a": -Infinity}', "NaN and Infinity are not JSON", id="-Infinity"),
    pytest.param(b"1e400", "a number is out of range", id="number that becomes infinite"),
    pytest.param(b"-1e400", "a number is out of range", id="and negative"),
    pytest.param(b"9" * 4301, "an integer has more than 4300 digits", id="4,301 digits"),
    pytest.param(b'"\\ud800"', "a lone surrogate", id="lone surrogate"),
    pytest.param(b'{"\\udfff": 1}', "a lone surrogate", id="lone surrogate in a name"),
    pytest.param('["\ud800"]', "a lone surrogate", id="raw lone surrogate"),
    pytest.param(b'\xef\xbb\xbf{"a": 1}', "not JSON", id="byte order mark"),
    pytest.param('{"a": 1}'.encode("utf-16"), "not UTF-8", id="UTF-16"),
    pytest.param('{"a": 1}'.encode("utf-16-le"), "not JSON", id="UTF-16 without mark"),
    pytest.param('{"a": 1}'.encode("utf-32"), "not UTF-8", id="UTF-32"),
    pytest.param(b'"\xff"', "not UTF-8", id="not UTF-8"),
    pytest.param(b"[" * 33 + b"]" * 33, "nested deeper than 32 levels", id="33 levels"),
    pytest.param(b'{"a":' * 33 + b"1" + b"}" * 33, "nested deeper than 32 levels", id="objects"),
    pytest.param(b"[" * 100_000, "nested deeper than 32 levels", id="100,000 levels"),
    pytest.param(b'["' + b'\\"' * 9 + b'",' + b"[" * 32, "nested deeper", id="after a string"),
]


@pytest.mark.parametrize(("text", "problem"), REFUSED)
def test_json_that_could_be_misread_is_refused(text: bytes | str, problem: str) -> None:
    with pytest.raises(InvalidJSON, match=problem):
        loads(text)
    with pytest.raises(InvalidJSON, match=problem):
        loads_object(text)


@pytest.mark.parametrize("text", [b"[]", b"1", b'"a"', b"null", b"true"])
def test_an_object_is_an_object(text: bytes) -> None:
    with pytest.raises(InvalidJSON, match="not a JSON object"):
        loads_object(text)
    assert loads_object(b'{"a": {}}') == {"a": {}}


def test_depth_is_the_callers_choice() -> None:
    assert loads(b"[[]]", max_depth=2) == [[]]
    with pytest.raises(InvalidJSON, match="deeper than 1 "):
        loads_object(b'{"a":[]}', max_depth=1)


@pytest.mark.parametrize("read", [loads, loads_object])
@pytest.mark.parametrize(
    "text",
    [
        b'{"token": "hunter2",}',
        b'{"token": "hunter2", "token": "hunter2"}',
        b'{"token": "hunter2\\ud800"}',
        b'{"hunter2": "\xff"}',
        b'{"token": "hunter2", "n": NaN}',
        b'["hunter2"]' + b"]",
    ],
)
def test_no_exception_holds_the_text(read: object, text: bytes) -> None:
    assert callable(read)
    with pytest.raises(InvalidJSON) as caught:
        read(text)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    frames = [
        frame.locals
        for frame in traceback.TracebackException.from_exception(
            caught.value, capture_locals=True
        ).stack
        if "/src/tokenward/" in frame.filename
    ]
    assert frames
    assert "hunter2" not in repr(frames) + repr(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param('"' + '\\"' * 50_000, id="a string that never ends"),
        pytest.param('"' * 100_000, id="many strings"),
        pytest.param('["\\' + '"[' * 50_000, id="brackets and quotes"),
        pytest.param('"\\' * 50_000 + "[" * 99, id="escapes outside of strings"),
        pytest.param("[" * 33 + '"' + "a" * 100_000, id="a long string"),
    ],
)
@pytest.mark.case(438)
def test_reading_takes_linear_time(text: str) -> None:
    """One backtracking pattern would turn each of these into minutes."""
    with pytest.raises(InvalidJSON):
        loads(text)


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("ab"), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None)
@given(values)
def test_what_is_written_is_read(value: object) -> None:
    assert loads(json.dumps(value)) == value
    assert loads(json.dumps(value, ensure_ascii=False).encode()) == value


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=40) | st.text('[]{}",:\\u1.9eE- tfn\ud800ü', max_size=40))
def test_junk_raises_nothing_but_invalid_json(junk: bytes | str) -> None:
    try:
        value = loads(junk)
    except InvalidJSON:
        return
    json.dumps(value, ensure_ascii=False, allow_nan=False).encode()


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        pytest.param("a\r\n\x1b[31mü\u202e", "'a\\r\\n\\x1b[31m\\xfc\\u202e'", id="escaped"),
        pytest.param("x" * 78, "'" + "x" * 78 + "'", id="80 characters"),
        pytest.param("x" * 500, "'" + "x" * 76 + "...", id="clipped"),
        pytest.param(["secret"], "list", id="kind of a container"),
        pytest.param(None, "None", id="None"),
        pytest.param(1.5, "1.5", id="number"),
    ],
)
def test_excerpt_is_short_and_printable(value: object, shown: str) -> None:
    assert excerpt(value) == shown  # type: ignore[arg-type]
