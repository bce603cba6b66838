"""What a script says, and how it ends: one voice, one mapping from errors to exit codes."""

import argparse
import io
import os
import re
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any, NoReturn, Protocol, TypeVar

from running.errors import (
    FlowersError,
    ImageError,
    RunError,
    is_lost_connection,
    is_out_of_memory,
)
from running.launch import Launch
from running.packages import PACKAGES, install_command
from running.signals import Stopped, stoppable

T = TypeVar("T")
B = TypeVar("B", bound=Sized)


class Progress(Protocol):
    """Passes batches on, and shows how many photographs or bytes have passed."""

    def __call__(
        self,
        batches: Iterable[B],
        total: int | None,
        description: str,
        unit: str = " photos",
        done: int = 0,
    ) -> Iterator[B]:
        """`total` and `done` count what the batches' lengths add up to, `done` from before."""


def no_progress(
    batches: Iterable[B], total: int | None, description: str, unit: str = "", done: int = 0
) -> Iterator[B]:
    """Pass batches on and show nothing."""
    return iter(batches)


def printable(text: str) -> str:
    """Escape what could upset a terminal: control characters, line ends, undecodable bytes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def prepare_streams() -> None:
    """See that the standard streams can be used, whichever of them the shell has closed.

    What is closed leads nowhere: else the next file that is opened would get its number, and
    messages. A closed standard error says nothing, and `require_stdout` refuses a closed
    standard output. Names that a terminal or a file's encoding cannot show are escaped.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - to the end
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def require_stdout() -> None:
    """See that there is a standard output.

    Raises:
        RunError: it is closed.
    """
    if sys.stdout is None:
        raise RunError("standard output is closed")


class ExitNotes:
    """What a run that ends early tells its user: what is safe, and how to go on."""

    def __init__(self, command: str, memory_advice: str, flag: str = "--resume"):
        self.command, self.flag = command, flag  # the flag goes on where the command stopped
        self.replaces: str | None = None  # a flag of the command in whose place it comes
        self.memory_advice = memory_advice  # what takes less memory
        self.best: str | None = None  # a sentence about the best network so far
        self.resume_files: list[Path] = []  # the run could go on, once one of them is there

    def lines(self) -> Iterator[str]:
        """Say it."""
        if self.best:
            yield self.best
        if any(path.exists() for path in self.resume_files):
            words = shlex.split(self.command)
            if self.replaces in words:
                words[words.index(self.replaces)] = self.flag
            elif self.flag not in words:
                words.append(self.flag)
            yield f"go on with: {shlex.join(words)}"


class Console:
    """The voice of a script: facts and results on stdout, warnings and errors on stderr.

    Of several processes under torchrun only the primary one speaks.
    """

    def __init__(self, program: str, launch: Launch = Launch()):
        self.program, self.launch = program, launch
        self.speaks = launch.is_rank_zero
        self.bars: list[Any] = []  # of what is going on; the last one is shown

    def print_result(self, *lines: str) -> None:
        """Print facts and results on stdout.

        Raises:
            RunError: nobody reads them, or the disk is full that they go to.
        """
        if not self.speaks:
            return
        self._clear_bar()
        require_stdout()
        try:
            print(*map(printable, lines), sep="\n", flush=True)
        except OSError as error:
            with suppress(OSError, AttributeError):  # or Python would try once more at the end
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise RunError(f"standard output cannot be written: {error.strerror}") from error

    def print_note(self, *lines: str) -> None:
        """Print on stderr what belongs to no result, such as warnings in several lines."""
        if lines and self.speaks:
            self._clear_bar()
            with suppress(OSError):
                print(*map(printable, lines), sep="\n", file=sys.stderr, flush=True)

    def print_message(self, *lines: str, everybody: bool = False) -> None:
        """Print on stderr, behind the script's name, what is wrong or worth a warning.

        `everybody`: what perhaps one of several processes alone has seen.
        """
        if self.speaks or everybody:
            self._clear_bar()
            with suppress(OSError):
                for line in lines:
                    print(f"{self.program}: {printable(line)}", file=sys.stderr, flush=True)

    def progress(
        self,
        batches: Iterable[B],
        total: int | None,
        description: str,
        unit: str = " photos",
        done: int = 0,
    ) -> Iterator[B]:
        """Pass batches on; on a terminal, show progress in photographs or bytes ("B")."""
        if not (self.speaks and sys.stderr.isatty()):
            yield from batches
            return
        from tqdm import tqdm  # where nobody watches, it need not be imported

        self._clear_bar()
        with tqdm(
            total=total,
            desc=description,
            unit=unit,
            unit_scale=unit == "B",
            initial=done,
            leave=False,
            position=0,  # on one line with the others, of which one is shown
        ) as bar:
            self.bars.append(bar)
            try:
                for batch in batches:
                    yield batch
                    if bar is self.bars[-1]:
                        bar.update(len(batch))
                    else:  # what it waits for has a bar of its own
                        bar.n += len(batch)
            except GeneratorExit:
                _leave(bar)
                raise
            finally:
                self.bars.remove(bar)

    def _clear_bar(self) -> None:
        """Empty the line of the bar, which comes back when it moves on."""
        if self.bars:
            self.bars[-1].clear()

    def count(self, items: Iterable[T], total: int | None, description: str) -> Iterator[T]:
        """Pass photographs on one by one; on a terminal, show how many."""
        for (item,) in self.progress(((item,) for item in items), total, description):
            yield item

    def run_guarded(self, work: Callable[[], int], notes: ExitNotes) -> int:
        """Do a script's work and return its exit code.

        What is the user's to mend becomes a sentence; a bug of ours keeps its traceback.
        """
        try:
            # Of several processes only the primary one has to say something.
            with stoppable() if self.speaks else nullcontext():
                return work()
        except ModuleNotFoundError as error:
            if error.name not in PACKAGES:
                raise
            self.print_message(f"{error.name} is not installed: {install_command(error.name)}")
            code = 2
        except FlowersError as error:
            if not error.can_go_on:
                notes.resume_files = []
            self.print_message(str(error), everybody=isinstance(error, ImageError))
            code = error.exit_code
        except Stopped as stop:
            for bar in self.bars:
                _leave(bar)
            self.print_message(str(stop))
            code = stop.exit_code
        except (MemoryError, RuntimeError) as error:
            code = 1
            if self.launch.is_distributed and is_lost_connection(error):
                self.print_message(
                    "another process of this run has ended, or is out of reach: "
                    + str(error).splitlines()[0]
                )
            elif is_out_of_memory(error):
                notes.resume_files = []  # it would need as much again
                self.print_message(f"out of memory; {notes.memory_advice}", everybody=True)
            else:
                raise
        self.print_note(*notes.lines())
        self.wait_for_primary()
        return code

    def wait_for_primary(self) -> None:
        """Wait a little before this process ends: torchrun then stops the others at once."""
        if not self.speaks:
            time.sleep(2)


def _leave(bar: Any) -> None:
    """Let a bar that is stopped stay on its line, behind which the terminal may have put ^C."""
    bar.leave = True
    bar.close()


class Parser(argparse.ArgumentParser):
    """A parser whose messages leave the terminal alone, whatever was typed."""

    def __init__(self, console: Console, **options: Any):
        super().__init__(
            prog=console.program,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            **options,
        )
        # Or -1/3 would be taken for a flag; argparse has no public way to say so.
        self._negative_number_matcher = re.compile(r"-\d")
        self.console = console

    def error(self, message: str) -> NoReturn:
        if not self.console.speaks:
            self.console.wait_for_primary()
            sys.exit(2)
        super().error(printable(message))
