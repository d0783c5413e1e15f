"""Make every test fail that lets a secret out, whatever else it is about.

Every value that goes into a `Secret`, and every value that the test provider makes
up, becomes a canary. After each test three places are searched for them:

* what was logged, by whomever, at DEBUG level,
* the warnings,
* the exceptions that came out of the package, whether the test caught them with
  `pytest.raises` or not: message, notes, what they were raised from, and the local
  variables of every frame, as error trackers show them.
"""

from __future__ import annotations

import base64
import functools
import logging
import re
import secrets
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, quote_plus

import pytest

from tokenward.secret import Secret
from tokenward.testing.provider import Provider

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType, TracebackType

MIN_LENGTH: Final = 16
"""Shorter values are words such as `secret` that a test may well print."""

_PUBLIC: Final = re.compile(r"[a-z_]+|https?://[^?#]*|.*\s.*", re.DOTALL)
"""What callbacks carry beside secrets, and hide with them until they are told apart: error
codes, the issuer, descriptions."""

_NAME: Final = "canary-watch"
_PACKAGE: Final = str(Path(sys.modules["tokenward"].__file__ or "").parent) + "/"
_TESTING: Final = _PACKAGE + "testing/"
_TESTS: Final = str(Path(__file__).parent.parent) + "/"

_BROWSER_LOGGERS: Final = ("httpx", "httpcore", "httpx2", "httpcore2")
"""They log addresses. In a test most of them belong to the browser's side."""

_SERVER_LOGGERS: Final = ("uvicorn",)
"""The access log of a web server shows the address of the callback; that is the server's."""


class Canaries:
    """The secrets that must not be seen, and everything that was seen."""

    def __init__(self) -> None:
        self._forms: dict[str, str] = {}
        self._seen: list[tuple[str, str]] = []

    def add(self, value: str | Secret, name: str = "a secret") -> None:
        """Watch for `value`, as it is and as it looks in addresses and in base64."""
        text = value.reveal() if isinstance(value, Secret) else value
        if len(text) < MIN_LENGTH or text in self._forms or _PUBLIC.fullmatch(text):
            return
        for form in (text, quote(text, safe=""), quote_plus(text), *_base64_forms(text)):
            self._forms.setdefault(form, name)
        if text.count(".") == 2:  # a JWT: who has the signature can put the rest together
            self.add(text.rpartition(".")[2], f"the signature of {name}")

    def see(self, where: str, text: str) -> None:
        """Remember that `text` came out at `where`, to be searched when the test is over."""
        self._seen.append((where, text))

    def leaks(self) -> list[str]:
        """Tell where which kind of secret came out. Does not tell the secret."""
        return [
            f"{where} shows {name}"
            for where, text in self._seen
            for name in sorted({name for form, name in self._forms.items() if form in text})
        ]


def _base64_forms(text: str) -> Iterator[str]:
    """Yield what every base64 of a longer text contains where `text` is inside."""
    for shift in range(3):
        whole = base64.b64encode(b"\0" * shift + text.encode()).rstrip(b"=").decode()
        inner = whole[(0, 2, 3)[shift] : -1]
        yield inner
        yield inner.translate(str.maketrans("+/", "-_"))


class _LogWatch(logging.Handler):
    def __init__(self, canaries: Canaries) -> None:
        super().__init__(logging.DEBUG)
        self._canaries = canaries

    def emit(self, record: logging.LogRecord) -> None:
        family = record.name.partition(".")[0]
        if family in _SERVER_LOGGERS:
            return
        if family in _BROWSER_LOGGERS and not _sent_by_package(sys._getframe()):
            return
        text = f"{record.getMessage()} {record.args!r} {_extra(record)}"
        if record.exc_info and record.exc_info[1]:
            text += render(record.exc_info[1])
        self._canaries.see(f"the log ({record.name}, {record.levelname})", text)


_PLAIN_RECORD: Final = frozenset(vars(logging.makeLogRecord({})))


def _extra(record: logging.LogRecord) -> dict[str, object]:
    return {key: value for key, value in vars(record).items() if key not in _PLAIN_RECORD}


def _sent_by_package(frame: FrameType | None) -> bool:
    """Whether the nearest sender on the stack is the package's transport, not a test's client.

    In process the stack of a request to the provider may go on below the browser's.
    """
    while frame is not None:
        filename = frame.f_code.co_filename
        if filename.startswith(_TESTS):
            return False
        if filename.startswith(_PACKAGE) and not filename.startswith(_TESTING):
            return True
        frame = frame.f_back
    return False


def render(error: BaseException) -> str:
    """Write an exception as an error tracker would: with locals, and all it was raised from.

    Frames of tests and of the testing kit are left out: they hold secrets by trade.
    """
    parts: list[str] = []
    pending, done = [error], set[int]()
    while pending:
        one = pending.pop()
        if id(one) in done:
            continue
        done.add(id(one))
        parts += [repr(one), str(one), repr(one.args), repr(vars(one))]
        parts += getattr(one, "__notes__", [])
        parts += _locals(one.__traceback__)
        pending += [other for other in (one.__cause__, one.__context__) if other is not None]
        if isinstance(one, BaseExceptionGroup):
            pending += one.exceptions
    return "\n".join(parts)


def _locals(tb: TracebackType | None) -> Iterator[str]:
    inside = False
    for frame, _ in traceback.walk_tb(tb):
        filename = frame.f_code.co_filename
        if filename.startswith((_TESTS, _TESTING)):
            inside = False
            continue
        inside = inside or filename.startswith(_PACKAGE)
        if inside:
            for name, value in frame.f_locals.items():
                yield f"{frame.f_code.co_qualname}: {name} = {_safe_repr(value)}"


def _safe_repr(value: object) -> str:
    try:
        return repr(value)
    except Exception:  # noqa: BLE001  a repr that fails shows nothing
        return "?"


class CanaryPlugin:
    """Watches one test after the other."""

    def __init__(self) -> None:
        self.current = Canaries()
        self.late: list[str] = []

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self) -> Iterator[None]:
        """Begin with nothing planted and nothing seen."""
        self.current = Canaries()
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self) -> Iterator[None]:
        """Watch the test, and fail it when a canary came out."""
        handler = _LogWatch(self.current)
        root = logging.getLogger()
        level = root.level
        root.addHandler(handler)
        root.setLevel(logging.DEBUG)
        try:
            result = yield
        except BaseException as error:
            self.saw(error)
            if leaks := self.current.leaks():
                error.add_note("And it let a secret out:\n" + "\n".join(leaks))
            raise
        finally:
            root.removeHandler(handler)
            root.setLevel(level)
        if leaks := self.current.leaks():
            pytest.fail("A secret came out:\n" + "\n".join(leaks), pytrace=False)
        return result

    def pytest_warning_recorded(self, warning_message: pytest.WarningMessage) -> None:
        """Search the warnings that are no errors; they are told when the test is over."""
        self.current.see("a warning", str(warning_message.message))
        self.late += self.current.leaks()

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Tell what came out too late to fail a test."""
        for leak in self.late:
            terminalreporter.line(f"A secret came out: {leak}", red=True)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Fail the run for it."""
        if self.late and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def saw(self, error: BaseException) -> None:
        """Search an exception that reached the test."""
        self.current.see(f"the exception {type(error).__name__}", render(error))


def pytest_configure(config: pytest.Config) -> None:
    """Plant a canary wherever a `Secret` is made, and look into every `pytest.raises`."""
    plugin = CanaryPlugin()
    config.pluginmanager.register(plugin, _NAME)
    patch = pytest.MonkeyPatch()
    config.add_cleanup(patch.undo)
    make, leave, start = Secret.__init__, pytest.RaisesExc.__exit__, Provider.__init__

    def make_and_watch(self: Secret, value: str) -> None:
        make(self, value)
        if isinstance(value, str):
            plugin.current.add(value, "the content of a Secret")

    def leave_and_look(
        self: pytest.RaisesExc[BaseException],
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> bool:
        if exc_val is not None:
            plugin.saw(exc_val.with_traceback(exc_tb))
        return leave(self, exc_type, exc_val, exc_tb)

    @functools.wraps(start)
    def start_and_watch(self: Provider, *args: Any, **kwargs: Any) -> None:
        new_token = kwargs.pop("new_token", functools.partial(secrets.token_urlsafe, 32))

        def new_canary() -> str:
            value: str = new_token()
            plugin.current.add(value, "what the provider issued")
            return value

        start(self, *args, new_token=new_canary, **kwargs)

    patch.setattr(Secret, "__init__", make_and_watch)
    patch.setattr(Provider, "__init__", start_and_watch)
    patch.setattr(pytest.RaisesExc, "__exit__", leave_and_look)


@pytest.fixture
def canaries(request: pytest.FixtureRequest) -> Canaries:
    """Give the canaries of this test, to add secrets that are in no `Secret`."""
    plugin = request.config.pluginmanager.get_plugin(_NAME)
    assert isinstance(plugin, CanaryPlugin)
    return plugin.current
