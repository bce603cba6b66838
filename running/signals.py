"""running/signals.py"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from train import FIRST


@contextmanager
def signals_wait() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM wait until the block is done, a second or two of imports.

    An exception in the middle of importing a module in C++ can end Python itself.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # which never hears signals
        return
    waiting: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _: waiting.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for number in waiting:
            signal.raise_signal(number)


class Stopped(KeyboardInterrupt):
    """Ctrl-C, or the SIGTERM of a batch system."""

    def __init__(self, number: int):
        super().__init__("stopped by " + ("Ctrl-C" if number == signal.SIGINT else "SIGTERM"))
        self.exit_code = 128 + number


@contextmanager
def stoppable() -> Iterator[None]:
    """Let the first Ctrl-C or SIGTERM end the block in order, the second one at once."""
    numbers = (signal.SIGINT, signal.SIGTERM)

    def leave(number: int, _) -> None:
        os._exit(128 + number)

    def stop(number: int, _) -> None:
        for each in numbers:
            signal.signal(each, leave)
        raise Stopped(number)

    # Only the main thread hears signals; of several processes only the first has to say something.
    if threading.current_thread() is not threading.main_thread() or not FIRST:
        yield
        return
    before = [signal.signal(number, stop) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before):
            signal.signal(number, handler)
