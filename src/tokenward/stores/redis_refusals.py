"""What can go wrong at a Redis server, and what is raised for it."""

from __future__ import annotations

from typing import Final

from redis import exceptions as failures

from ..errors import ConfigurationError, StoreUnavailable

FAILURES: Final = (
    failures.RedisError,
    failures.RedisClusterException,
    OSError,
    TimeoutError,
    AttributeError,
    RuntimeError,
)
"""What redis-py raises when it has no answer. The last two where it closed a connection under a
call, as it does when a node of a cluster fails: it has no writer, or uvloop says so."""

_TEMPORARY: Final[tuple[tuple[type[Exception], str], ...]] = (
    (failures.AuthenticationError, "the server wants another name or password; check the URL"),
    (failures.NoPermissionError, "the user may not do this; give it the prefix and scripts"),
    (failures.BusyLoadingError, "the server is loading its data"),
    (failures.MaxConnectionsError, "every connection is in use; allow more"),
    (failures.TimeoutError, "the server did not answer in time"),
    (failures.ConnectionError, "the server cannot be reached"),
    (failures.ReadOnlyError, "the server is a replica (READONLY); find the new primary"),
    (failures.OutOfMemoryError, "the server is out of memory (OOM); give it more"),
    (failures.ClusterDownError, "the cluster is down (CLUSTERDOWN)"),
    (failures.TryAgainError, "the cluster is moving the slot (TRYAGAIN)"),
    (failures.RedisClusterException, "the cluster cannot be reached"),
)

_TEMPORARY_CODES: Final = {
    "ACL": "the user may not do this; give it the prefix and scripts",
    "NOAUTH": "the server wants another name or password; check the URL",
    "WRONGPASS": "the server wants another name or password; check the URL",
    "MISCONF": "the server cannot save to its disk (MISCONF); make room there",
    "MASTERDOWN": "the replica has lost its primary (MASTERDOWN)",
    "NOREPLICAS": "too few replicas follow the server (NOREPLICAS)",
    "BUSY": "a script holds the server up (BUSY)",
    "LOADING": "the server is loading its data",
    "OOM": "the server is out of memory (OOM); give it more",
    "READONLY": "the server is a replica (READONLY); find the new primary",
}


def refusal(error: Exception, timeout: float) -> Exception:
    """Return what to raise, once the block that caught `error` is left.

    What the server said is not repeated: it may quote the command, with everything in it.
    """
    if isinstance(error, failures.MovedError | failures.AskError | failures.ClusterCrossSlotError):
        return ConfigurationError("client", "the server is part of a cluster; give a RedisCluster")
    for kind, problem in _TEMPORARY:
        if isinstance(error, kind):
            return StoreUnavailable(f"Redis: {problem}")
    if isinstance(error, TimeoutError):
        return StoreUnavailable(f"Redis: no answer within {timeout} seconds")
    if isinstance(error, OSError):
        return StoreUnavailable("Redis: the server cannot be reached")
    if isinstance(error, AttributeError | RuntimeError):
        return StoreUnavailable("Redis: the connection was closed")
    return _refusal_of_command(str(error))


def _refusal_of_command(said: str) -> Exception:
    code = said.partition(" ")[0]
    if "unknown command" in said.lower():
        return ConfigurationError("client", "the server must be Redis 7.0 or newer, or Valkey")
    if "DB index" in said:
        return ConfigurationError("url", "names a database that the server does not have")
    if code == "WRONGTYPE":
        return ConfigurationError("prefix", "is used by another program on the server; choose one")
    known = code if code.isalpha() and code.isupper() else "ERR"
    return StoreUnavailable(f"Redis: {_TEMPORARY_CODES.get(code, f'a command failed ({known})')}")
