"""A lock that a fork cannot leave locked."""

from __future__ import annotations

import os
import threading


class ProcessLock:
    """Let one thread in at a time, in each process.

    A plain lock that another thread holds while the process forks stays locked in the
    child for ever, because that thread is not there to release it.
    """

    __slots__ = ("_lock", "_pid")

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        if self._pid != os.getpid():
            self._pid, self._lock = os.getpid(), threading.Lock()
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()
