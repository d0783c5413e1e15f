"""docs/stores.md is right: its Python runs, its rights are enough, its names are in the code."""

from __future__ import annotations

import re
import shutil
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import redis
import yaml

from redis_server import RedisServer
from tokenward.stores.redis import RedisStore

if TYPE_CHECKING:
    from collections.abc import Iterator

TEXT = (Path(__file__).parents[2] / "docs" / "stores.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


def test_its_python_runs_from_the_first_line_to_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CLIENT_SECRET", "of-a-client")
    monkeypatch.setenv("SECRET_KEY", "bLrw3gY6tKp0ZqXh8NfVaJ2sEuDm5Cc7RiTyO1kGx4Q")
    names: dict[str, object] = {"__name__": "stores"}
    for block in blocks("python"):
        exec(compile(block, "docs/stores.md", "exec"), names)
    assert isinstance(names["store"], RedisStore)
    assert (tmp_path / "sessions.db").exists()


@pytest.fixture(params=["as in the other tests", "redis-server"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RedisServer]:
    """A server of each kind: Debian 12 has the oldest Redis that will do."""
    binary = shutil.which("redis-server")
    if binary is None and request.param == "redis-server":
        pytest.skip("there is no redis-server")
    server = RedisServer(tmp_path, binary=binary if request.param == "redis-server" else None)
    yield server
    server.kill()


async def test_the_rights_that_it_names_are_enough_and_none_is_idle(server: RedisServer) -> None:
    (rights,) = blocks("text")
    words = rights.split()
    with closing(server.client()) as client:
        client.execute_command(*words)
        store = RedisStore.from_url(server.url.replace("//", "//shop:password@"), timeout=20.0)
        version = await store.put("k:session", b"", ttl=60, version=None)
        await store.put("k:session", b"", ttl=60, version=version)
        assert await store.get("k:session")
        assert await store.get_many("k:session", "k:data")
        await store.touch("k:session", ttl=60)
        await store.delete("k:session", tombstone=60)
        lease = await store.acquire("k:lease", ttl=60)
        assert lease is not None
        await store.renew(lease, ttl=60)
        await store.release(lease)
        await store.add("i", "m", ttl=60)
        assert await store.members("i") == {"m"}
        await store.discard("i", "m")
        await store.aclose()
        used = {name.removeprefix("cmdstat_") for name in client.info("commandstats")}
        given = {word[1:] for word in words if word.startswith("+")}
        assert given - {"select", "ping"} <= used
    with closing(redis.Redis(port=server.port, username="shop", password="password")) as theirs:
        for refused in (("FLUSHALL",), ("KEYS", "*"), ("GET", "other:k")):
            with pytest.raises(redis.exceptions.NoPermissionError):
                theirs.execute_command(*refused)


def test_its_compose_file_says_what_the_text_says() -> None:
    (compose,) = blocks("yaml")
    command = yaml.safe_load(compose)["services"]["sessions"]["command"]
    assert "--maxmemory-policy noeviction" in command
    assert "--appendonly yes" in command


def test_its_names_of_keys_are_those_of_the_store() -> None:
    kinds = set(re.findall(r"`tokenward:(\w+):\{", TEXT))
    source = Path(RedisStore.__module__.replace(".", "/"))
    code = (Path(__file__).parents[2] / "src" / source).with_suffix(".py").read_text()
    assert kinds == set(re.findall(r"_name\(\"(\w+)\"", code))
