"""Threads: how many there may be, and work that they do ahead of its turn."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")
U = TypeVar("U")

# Stands among items where the next one is not there yet, and whoever wrote the last one may wait
# for what comes of it: nobody holds anything back for a fuller batch.
PAUSE: Any = object()


def is_pause(item: object) -> bool:
    """Tell a `PAUSE` from items."""
    return item is PAUSE


def map_ahead(
    function: Callable[[T], U], items: Iterable[T], workers: int, ahead: int
) -> Iterator[U]:
    """Apply a function to items in threads; yield the results in the order of the items.

    At most `ahead` items are taken before their turn: memory stays flat. Threads suffice
    for photographs, as Pillow's decoders release Python's lock. A `PAUSE` is passed on behind
    the results of all items before it.
    """
    pool = ThreadPoolExecutor(workers)
    pending: deque[Future[U]] = deque()
    try:
        for item in items:
            if not is_pause(item):
                pending.append(pool.submit(function, item))
            while pending and (is_pause(item) or len(pending) >= ahead):
                yield pending.popleft().result()
            if is_pause(item):
                yield PAUSE
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def default_workers(processes: int = 1) -> int:
    """Count the processors for this process; several on one machine share them out."""
    if hasattr(os, "sched_getaffinity"):  # Linux; knows about containers and taskset
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    return max(1, count // processes)


def let_waiting_threads_sleep() -> None:
    """Let threads that wait sleep instead of spin, unless the user decided; before torch.

    Spinning threads of two programs on the same processors keep each other from working:
    one photograph then takes seconds.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
