"""Ctrl-C and SIGTERM: a run ends in order, and imports are not interrupted."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

NUMBERS = (signal.SIGINT, signal.SIGTERM)


class Stopped(KeyboardInterrupt):
    """Ctrl-C, or the SIGTERM of a batch system."""

    def __init__(self, number: int):
        super().__init__("stopped by " + ("Ctrl-C" if number == signal.SIGINT else "SIGTERM"))
        self.number = number
        self.exit_code = 128 + number


def _handle(handler: Any) -> list[Any]:
    """Set both signals' handler; return the handlers before."""
    return [signal.signal(number, handler) for number in NUMBERS]


@contextmanager
def stoppable() -> Iterator[None]:
    """Raise `Stopped` in the block at the first Ctrl-C or SIGTERM; exit at once at the second.

    Python ignores an exception that is raised while it deletes an object; then the signal is sent
    again a moment later, or `Stopped` is raised at the end of the block.
    """
    if threading.current_thread() is not threading.main_thread():  # others get no signals
        yield
        return
    main, again = threading.get_ident(), list[threading.Timer]()

    def stop(number: int, _: FrameType | None) -> None:
        _handle(lambda number, _: os._exit(128 + number))
        raise Stopped(number)

    def send(number: int) -> None:
        if hasattr(signal, "pthread_kill"):  # wakes the main thread, too
            signal.pthread_kill(main, number)
        else:  # Windows
            signal.raise_signal(number)

    def notice(ignored: "sys.UnraisableHookArgs") -> None:
        if not isinstance(ignored.exc_value, Stopped):
            hook(ignored)
            return
        _handle(stop)
        # Raised at once, it would be ignored here, too.
        again.append(threading.Timer(0.05, send, [ignored.exc_value.number]))
        again[-1].daemon = True
        again[-1].start()

    before = _handle(stop)
    hook, sys.unraisablehook = sys.unraisablehook, notice
    try:
        yield
        if again:
            raise Stopped(*again[-1].args)
    finally:
        for timer in again:
            timer.cancel()
        sys.unraisablehook = hook
        for number, handler in zip(NUMBERS, before):
            signal.signal(number, handler)


@contextmanager
def delay_signals() -> Iterator[None]:
    """Delay Ctrl-C and SIGTERM until the end of the block, a second or two of imports.

    An exception in the middle of importing a module in C++ can crash Python.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    waiting: list[int] = []
    before = _handle(lambda number, _: waiting.append(number))
    try:
        yield
    finally:
        for number, handler in zip(NUMBERS, before):
            signal.signal(number, handler)
        for waited in waiting:
            signal.raise_signal(waited)
