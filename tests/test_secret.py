"""A secret cannot be printed by accident."""

from __future__ import annotations

import copy
import json
import pickle
import pprint

import pytest

from tokenward import Secret

CONTENT = "correct-horse-battery-staple"


@pytest.mark.case(405)
@pytest.mark.parametrize(
    "show",
    [
        pytest.param(str, id="str"),
        pytest.param(repr, id="repr"),
        pytest.param("{}".format, id="format"),
        pytest.param(lambda secret: f"{secret:>40}", id="f-string with a width"),
        pytest.param(lambda secret: f"{secret!r}", id="f-string with repr"),
        pytest.param(lambda secret: "%s %r" % (secret, secret), id="percent"),  # noqa: UP031
        pytest.param(pprint.pformat, id="pprint"),
        pytest.param(lambda secret: repr({"token": [secret]}), id="inside containers"),
        pytest.param(lambda secret: json.dumps({"t": secret}, default=str), id="json with default"),
    ],
)
def test_a_secret_shows_as_asterisks(show):
    assert CONTENT not in show(Secret(CONTENT))


@pytest.mark.case(405)
def test_a_secret_does_not_go_into_json():
    with pytest.raises(TypeError):
        json.dumps({"token": Secret(CONTENT)})


@pytest.mark.case(417)
@pytest.mark.parametrize("give", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_secret_is_not_pickled_or_copied(give):
    with pytest.raises(TypeError, match="reveal") as caught:
        give(Secret(CONTENT))
    assert CONTENT not in str(caught.value)


def test_a_secret_has_no_other_attributes():
    with pytest.raises(AttributeError):
        Secret(CONTENT).value = "x"


def test_only_reveal_gives_the_text():
    assert Secret(CONTENT).reveal() == CONTENT


@pytest.mark.parametrize(
    ("other", "equal"),
    [
        (Secret(CONTENT), True),
        (Secret(CONTENT.upper()), False),
        (Secret(""), False),
        (Secret("\udcff"), False),
        (CONTENT, False),
        (None, False),
    ],
)
def test_secrets_are_equal_when_their_texts_are(other, equal):
    assert (Secret(CONTENT) == other) is equal


def test_equal_secrets_are_one_in_a_set():
    assert len({Secret(CONTENT), Secret(CONTENT)}) == 1


def test_a_secret_tells_its_length_and_whether_it_is_empty():
    assert len(Secret(CONTENT)) == len(CONTENT)
    assert Secret(CONTENT)
    assert not Secret("")
