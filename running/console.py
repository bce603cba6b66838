"""What a script prints, and how it ends: the one mapping from errors to exit codes."""

import argparse
import io
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, TypeAlias, TypeVar

from running.environment import PACKAGES, Launch, install_command, join_words
from running.errors import FlowersError, ImageError, RunError, is_lost_connection, is_out_of_memory
from running.signals import Stopped, stoppable

T = TypeVar("T")
B = TypeVar("B", bound=Sized)


def no_progress(
    batches: Iterable[B], total: int | None, description: str, unit: str = " photos", done: int = 0
) -> Iterator[B]:
    """Pass batches on and show nothing, in the place of `Console.progress`."""
    return iter(batches)


Progress: TypeAlias = Callable[..., Iterator[Any]]  # is called as `no_progress` is


def printable(text: str) -> str:
    """Escape what could upset a terminal: control characters, line ends, undecodable bytes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def prepare_streams() -> None:
    """Make the standard streams usable, whichever of them the shell has closed.

    The next file that is opened would get the number of a closed one, and with it the messages.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - until Python exits
    if isinstance(sys.stdout, io.TextIOWrapper):  # names may have letters that its encoding lacks
        sys.stdout.reconfigure(errors="backslashreplace")


def require_stdout() -> None:
    """Raise a RunError if standard output is closed."""
    if sys.stdout is None:
        raise RunError("standard output is closed")


def give_up_stdout() -> None:
    """Send what standard output still has nowhere, or Python would try once more at its exit."""
    with suppress(OSError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@dataclass
class ExitNotes:
    """What a run that ends early tells its user."""

    words: list[str]  # of the command
    memory_advice: str  # what takes less memory
    flag: str = "--resume"  # added to the command, it resumes the run
    replaces: str | None = None  # a flag that `flag` takes the place of
    network: str | None = None  # a sentence about the network so far
    resume_files: list[Path] = field(default_factory=list)  # one of them is needed to resume

    @property
    def command(self) -> str:
        """The command, as it is typed."""
        return join_words(self.words)

    def lines(self) -> Iterator[str]:
        """Yield the sentence about the network, and the command that resumes the run."""
        if self.network:
            yield self.network
        if any(os.path.exists(path) for path in self.resume_files):
            words = [*self.words]
            if self.replaces in words:
                words[words.index(self.replaces)] = self.flag
            elif self.flag not in words:
                words.append(self.flag)
            yield f"go on with: {join_words(words)}"


class Console:
    """Prints results on stdout, and warnings and errors on stderr.

    Of several processes under torchrun only rank 0 prints.
    """

    def __init__(self, program: str, launch: Launch = Launch()):
        self.program, self.launch = program, launch
        self.speaks = launch.is_rank_zero
        self.bars: list[Any] = []  # from the outermost to the innermost, which is shown

    def print_result(self, *lines: str) -> None:
        """Print facts and results on stdout; raise RunError if the reader of the pipe has gone."""
        if not self.speaks:
            return
        self._clear_bar()
        require_stdout()
        try:
            print(*map(printable, lines), sep="\n", flush=True)
        except OSError as error:
            give_up_stdout()
            raise RunError(f"standard output cannot be written: {error.strerror}") from error

    def print_note(self, *lines: str, everybody: bool = False) -> None:
        """Print on stderr, without the script's name."""
        if not (lines and (self.speaks or everybody)):
            return
        self._clear_bar()
        with suppress(OSError):
            for line in lines:
                print(printable(line), file=sys.stderr, flush=True)

    def print_message(self, *lines: str, everybody: bool = False) -> None:
        """Print errors and warnings on stderr, each after the script's name.

        `everybody`: also where this is not rank 0, as it may be the only one that knows.
        """
        self.print_note(*(f"{self.program}: {line}" for line in lines), everybody=everybody)

    def progress(
        self,
        batches: Iterable[B],
        total: int | None,
        description: str,
        unit: str = " photos",
        done: int = 0,
    ) -> Iterator[B]:
        """Pass batches on; on a terminal, show progress in photographs or bytes ("B").

        `total` and `done`, where the bar begins, are sums of the batches' lengths.
        """
        if not (self.speaks and sys.stderr.isatty()):
            yield from batches
            return
        from tqdm import tqdm  # elsewhere it need not be installed

        self._clear_bar()
        options: dict[str, Any] = {"unit": unit, "unit_scale": unit == "B", "leave": False}
        # All bars share a line, position 0, on which the innermost is shown.
        with tqdm(total=total, desc=description, initial=done, position=0, **options) as bar:
            self.bars.append(bar)
            try:
                for batch in batches:
                    yield batch
                    if bar is self.bars[-1]:
                        bar.update(len(batch))
                    else:
                        bar.n += len(batch)
            except GeneratorExit:
                bar.leave = True  # the terminal may have written ^C on its line
                raise
            finally:
                # Bars of tqdm are equal if they are in the same line of the terminal.
                self.bars[:] = [each for each in self.bars if each is not bar]

    def _clear_bar(self) -> None:
        for bar in self.bars[-1:]:  # another thread may remove it meanwhile
            bar.clear()

    def count(self, items: Iterable[T], total: int | None, description: str) -> Iterator[T]:
        """Pass photographs on one by one; on a terminal, show how many."""
        for (item,) in self.progress(((item,) for item in items), total, description):
            yield item

    def run_guarded(self, work: Callable[[], int], notes: ExitNotes) -> int:
        """Do a script's work and return its exit code.

        An error that the user can correct becomes a sentence; a bug keeps its traceback.
        """
        try:
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
        except FileNotFoundError:
            with suppress(FileNotFoundError):
                os.getcwd()
                raise
            self.print_message("the current folder does not exist any more")
            code = 2
        except Stopped as stop:
            for bar in self.bars:
                bar.leave = True
                bar.close()
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
                notes.resume_files = []  # a resumed run would need as much again
                self.print_message(f"out of memory; {notes.memory_advice}", everybody=True)
            else:
                raise
        self.print_note(*notes.lines())
        self.wait_for_primary()
        return code

    def wait_for_primary(self) -> None:
        """Wait for rank 0 to end first: torchrun stops the others as soon as one has ended."""
        if not self.speaks:
            time.sleep(2)


class Parser(argparse.ArgumentParser):
    """A parser whose messages are printable, whatever was typed."""

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
        if message.startswith("unrecognized") and any(map(os.path.exists, message.split())):
            message += "; a file whose name begins with - is written ./-"
        super().error(printable(message))
