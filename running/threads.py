"""Threads: how many there may be, and work that they do ahead of its turn."""

import os
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import Empty, Queue
from threading import Event, Semaphore, Thread
from typing import TypeVar

T = TypeVar("T")
U = TypeVar("U")


def map_ahead(
    function: Callable[[T], U], items: Iterable[T], workers: int, ahead: int
) -> Iterator[U]:
    """Apply a function to items in threads; yield the results in the order of the items.

    A thread of its own takes the items, at most `ahead` of them before their turn: memory stays
    flat, and a result does not wait for the next item. Pillow's decoders release Python's lock.
    Items from standard input are read without a buffer: a thread that waits in `sys.stdin` would
    keep Python from exiting.
    """
    pool = ThreadPoolExecutor(workers)
    futures: Queue[Future[U] | None] = Queue()  # in the order of the items; None is the end
    room, stopped = Semaphore(ahead), Event()

    def feed() -> None:
        try:
            room.acquire()
            for item in items:
                futures.put(pool.submit(function, item))
                room.acquire()
                if stopped.is_set():
                    break
            futures.put(None)
        except BaseException as error:  # of the items, raised in its turn
            failed: Future[U] = Future()
            failed.set_exception(error)
            futures.put(failed)
        finally:
            if isinstance(items, Generator):
                items.close()

    # Threads that wake one another for each item would cost more than a small photograph.
    some, taken = max(1, ahead // 2), 0
    feeder = Thread(target=feed, daemon=True)
    feeder.start()
    try:
        while True:
            try:
                future = futures.get(timeout=1)  # Windows hears Ctrl-C only between two waits
            except Empty:
                continue
            if future is None:
                return
            yield future.result()
            taken += 1
            if taken == some:
                room.release(some)
                taken = 0
    finally:
        stopped.set()
        room.release()
        pool.shutdown(cancel_futures=True)
        feeder.join(0.5)  # what it still reads may be removed next; a pipe is not waited for


def default_workers(processes: int = 1) -> int:
    """Count the processors for this process; several on one machine share them out."""
    if hasattr(os, "sched_getaffinity"):  # Linux; knows about containers and taskset
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    return max(1, count // processes)


def let_waiting_threads_sleep() -> None:
    """Make idle threads sleep instead of spin, unless the user decided; call it before torch.

    Spinning threads of two programs on the same processors make one photograph take seconds.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
