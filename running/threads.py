"""Threads: how many there may be, and work that they do ahead of its turn."""

import math
import os
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
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
    return max(1, min(_allowed(), math.ceil(_quota())) // processes)


def prepare_threads() -> None:
    """Choose how PyTorch's threads run, unless the user decided; call it before torch is imported.

    Idle ones sleep: spinning threads of two programs on the same processors make one photograph
    take seconds. In a container there are as many as its quota has processors: PyTorch itself
    counts those of the machine.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if default_workers() < _allowed():
        os.environ.setdefault("OMP_NUM_THREADS", str(default_workers()))


def _allowed() -> int:
    """Count the processors on which this process may run."""
    if hasattr(os, "sched_getaffinity"):  # Linux; knows about taskset and Slurm
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quota(root: Path = Path("/")) -> float:
    """Return how many processors the control groups of this process may keep busy on Linux.

    It is 1000 without a limit. Version 2 has one file, cpu.max, version 1 two; see
    https://docs.kernel.org/admin-guide/cgroup-v2.html and
    https://docs.kernel.org/scheduler/sched-bwc.html.
    """
    groups = []
    with suppress(OSError, ValueError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            base = root / "sys/fs/cgroup" / ("cpu" if "cpu" in controllers.split(",") else "")
            own = base / path.strip("/")  # a container may see its own group as the base
            groups += [
                own,
                *(parent for parent in own.parents if base in (parent, *parent.parents)),
            ]
    quotas = [1000.0]
    for group in groups:
        for files in (["cpu.max"], ["cpu.cfs_quota_us", "cpu.cfs_period_us"]):
            with suppress(OSError, ValueError):  # "max" is no limit, and so is -1
                quota, period = " ".join((group / file).read_text() for file in files).split()
                quotas += [int(quota) / int(period)] if int(quota) > 0 else []
    return min(quotas)
