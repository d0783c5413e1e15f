"""The watch over secrets catches what it is there to catch."""

from __future__ import annotations

import logging
import warnings
from textwrap import dedent, indent

import httpx
import pytest

from canaries import Canaries, render
from tokenward.secret import Secret
from tokenward.testing import Client, Provider

TOKEN = "zZ9-planted-and-never-to-be-seen"

LEAKS = {
    "log": "log.debug('token %s', TOKEN)",
    "log argument that is not printed": "log.info('%.3s', TOKEN)",
    "log extra": "log.info('m', extra={'token': TOKEN})",
    "log traceback": """
        try:
            raise ValueError(TOKEN)
        except ValueError:
            log.exception('m')
        """,
    "percent-encoded": "log.info(quote('/' + TOKEN, safe='').replace('%', '%%'))",
    "base64 of a pair": "log.info(b64encode(f'a:{TOKEN}'.encode()).decode())",
    "caught exception": """
        with pytest.raises(ValueError):
            raise ValueError(TOKEN)
        """,
    "what a caught exception was raised from": """
        with pytest.raises(KeyError):
            try:
                raise ValueError(TOKEN)
            except ValueError:
                raise KeyError('x') from None
        """,
    "note": """
        with pytest.raises(ValueError):
            error = ValueError()
            error.add_note(TOKEN)
            raise error
        """,
    "group": """
        with pytest.raises(ExceptionGroup):
            raise ExceptionGroup('m', [ValueError(TOKEN)])
        """,
    "attribute": """
        with pytest.raises(ValueError):
            error = ValueError()
            error.body = TOKEN
            raise error
        """,
    "local variable of the package": """
        scope = {}
        source = "def refresh(token): raise ValueError('nothing to see')"
        exec(compile(source, tokenward.__file__, "exec"), scope)
        with pytest.raises(ValueError):
            scope["refresh"](TOKEN)
        """,
    "signature of a token": """
        Secret(f'a.b.{TOKEN[::-1]}')
        log.info(TOKEN[::-1])
        """,
    "test that fails anyway": "raise ValueError(TOKEN)",
}

MODULE = f"""
import logging, warnings, pytest, tokenward
from base64 import b64encode
from urllib.parse import quote
from tokenward.secret import Secret
TOKEN = {TOKEN!r}
log = logging.getLogger("somewhere")
"""


@pytest.fixture
def suite(
    pytester: pytest.Pytester, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> pytest.Pytester:
    """A suite of its own with nothing but the watch over secrets."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    plugins = request.config.rootpath / "tests" / "plugins"
    pytester.makeini(f"[pytest]\npythonpath = {plugins}\n")
    pytester.makeconftest('pytest_plugins = ("canaries",)')
    return pytester


def run(suite: pytest.Pytester, *bodies: str) -> pytest.RunResult:
    tests = [
        f"def test_{number}():\n    Secret(TOKEN)\n{indent(dedent(body), '    ')}\n"
        for number, body in enumerate(bodies)
    ]
    suite.makepyfile("\n".join([MODULE, *tests]))
    # Without the short summary, which repeats the messages, in full where CI is set.
    return suite.runpytest_subprocess("-q", "-rN", "-p", "no:cacheprovider")


@pytest.mark.case(404)
def test_every_planted_leak_fails_its_test(suite: pytest.Pytester) -> None:
    result = run(suite, *LEAKS.values())
    result.assert_outcomes(failed=len(LEAKS))
    assert result.stdout.str().count("shows the content of a Secret") == len(LEAKS) - 1
    assert result.stdout.str().count("shows the signature of") == 1


def test_secrets_that_stay_secret_fail_nothing(suite: pytest.Pytester) -> None:
    result = run(
        suite,
        """
        log.info("%s %r", Secret(TOKEN), Secret(TOKEN))
        with pytest.raises(ValueError):
            raise ValueError("nothing to see")
        """,
    )
    result.assert_outcomes(passed=1)


def test_what_a_test_itself_sends_is_not_a_leak(suite: pytest.Pytester) -> None:
    """httpx logs every address; the callback's is the browser's business."""
    result = run(suite, "logging.getLogger('httpx').info('GET /callback?code=%s', TOKEN)")
    result.assert_outcomes(passed=1)


def test_a_secret_in_a_warning_is_seen(suite: pytest.Pytester) -> None:
    result = run(suite, "warnings.warn(TOKEN)")
    result.stdout.fnmatch_lines(["*a warning shows the content of a Secret*"])
    assert result.ret == pytest.ExitCode.TESTS_FAILED


async def test_what_the_provider_issues_is_a_canary_before_it_is_in_any_secret(
    canaries: Canaries, oidc_provider: Provider
) -> None:
    oidc_provider.register(Client("worker", grant_types=["client_credentials"]))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(oidc_provider)) as http:
        document = await http.get("https://op.test/.well-known/openid-configuration")
        answer = await http.post(
            document.json()["token_endpoint"],
            data={"grant_type": "client_credentials"},
            auth=("worker", "secret"),
        )
    assert "what the provider issued" in canaries._forms.values()
    assert answer.json()["access_token"] in canaries._forms


@pytest.mark.parametrize(
    "text",
    [
        "secret",
        "temporarily_unavailable",
        "https://op.example/tenant",
        "The user pressed the cancel button",
    ],
)
def test_what_is_no_secret_is_no_canary(text: str) -> None:
    canaries = Canaries()
    canaries.add(text)
    canaries.see("the log", f"the provider said {text}")
    assert canaries.leaks() == []


def test_the_report_does_not_repeat_the_secret() -> None:
    canaries = Canaries()
    canaries.add(Secret(TOKEN), "the refresh token")
    canaries.see("the log", f"token={TOKEN}")
    assert canaries.leaks() == ["the log shows the refresh token"]


def test_frames_of_tests_are_left_out_of_a_rendered_traceback() -> None:
    mine = TOKEN[::-1]
    with pytest.raises(ValueError, match="nothing to see") as caught:
        raise ValueError("nothing to see")
    assert mine not in render(caught.value)


def test_the_whole_run_logs_at_debug_level(canaries: Canaries) -> None:
    logging.getLogger("tokenward.somewhere").debug("seen")
    assert any(text.startswith("seen") for _, text in canaries._seen)


def test_warnings_are_errors() -> None:
    with pytest.raises(DeprecationWarning):
        warnings.warn("old", DeprecationWarning, stacklevel=1)
