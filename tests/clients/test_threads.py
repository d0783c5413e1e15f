"""What programs without an event loop have in its place."""

from __future__ import annotations

import asyncio
import os
import threading

import pytest

from tokenward.loop_thread import LoopThread
from tokenward.process_lock import ProcessLock
from tokenward.thread_flight import AbandonedError, ThreadFlight


async def loop_of() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


def test_all_work_is_done_on_one_loop_until_it_is_closed() -> None:
    thread = LoopThread()
    one = thread.run(loop_of, timeout=5)
    assert thread.run(loop_of, timeout=5) is one
    thread.close()
    assert one.is_closed()
    assert not thread.is_running
    assert thread.run(loop_of, timeout=5) is not one
    thread.close()
    thread.close()


def test_what_the_work_raises_is_raised() -> None:
    async def fail() -> None:
        raise LookupError("x")

    thread = LoopThread()
    with pytest.raises(LookupError):
        thread.run(fail, timeout=5)
    thread.close()


def test_work_that_does_not_end_is_given_up() -> None:
    ended: list[str] = []

    async def forever() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cancelled")

    thread = LoopThread()
    with pytest.raises(TimeoutError):
        thread.run(forever, timeout=0.01)
    thread.run(loop_of, timeout=5)
    assert ended == ["cancelled"]
    thread.close()


async def test_threads_of_a_program_with_a_loop_borrow_that_one() -> None:
    thread = LoopThread()
    here = asyncio.get_running_loop()
    thread.borrow(here)
    assert await asyncio.to_thread(thread.run, loop_of, timeout=5) is here
    assert not thread.is_running
    # On the loop itself it would wait for itself.
    assert thread.run(loop_of, timeout=5) is not here
    thread.borrow(None)
    assert await asyncio.to_thread(thread.run, loop_of, timeout=5) is not here
    thread.close()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_fork_leaves_neither_the_lock_nor_the_loop_behind() -> None:
    lock, thread = ProcessLock(), LoopThread()
    thread.run(loop_of, timeout=5)
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            done.wait()

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()
    child = os.fork()
    if child == 0:
        with lock:
            thread.run(loop_of, timeout=5)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    done.set()
    holder.join()
    thread.close()


def test_a_thread_that_fails_lets_the_others_know() -> None:
    flights: ThreadFlight[int] = ThreadFlight()
    begun, joined = threading.Event(), threading.Event()
    caught: list[type[BaseException]] = []

    def fail() -> int:
        begun.set()
        joined.wait()
        raise LookupError("mine")

    def lead() -> None:
        try:
            flights.run("key", fail, timeout=5)
        except LookupError as error:
            caught.append(type(error))

    leader = threading.Thread(target=lead)
    leader.start()
    begun.wait()
    with pytest.raises(TimeoutError):
        flights.run("key", lambda: 1, timeout=0.01)
    assert flights.run("other", lambda: 1, timeout=5) == 1
    # The flight ends as soon as somebody waits for it again, and no earlier.
    (flight,) = flights._flights.values()
    wait = flight.result

    def end_and_wait(timeout: float | None = None) -> int:
        joined.set()
        return wait(timeout)

    flight.result = end_and_wait  # type: ignore[method-assign]
    with pytest.raises(AbandonedError):
        flights.run("key", lambda: 1, timeout=5)
    leader.join()
    assert caught == [LookupError]
    assert flights.run("key", lambda: 2, timeout=5) == 2
