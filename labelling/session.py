"""A person labels a heap: rounds of questions, and answers that are kept at once."""

from collections.abc import Sequence
from threading import Lock
from typing import Any

from labelling.answers import SKIPPED, Answers, Heap, spell
from labelling.choose import Chooser, Estimate, Question
from running.errors import InputError


class Session:
    """The questions of a round, and what was said of them; threads may share it.

    `files` are the heap's photographs in the order of the chooser's features.
    """

    def __init__(self, heap: Heap, answers: Answers, files: Sequence[str], chooser: Chooser):
        self.answers, self.files, self.chooser = answers, files, chooser
        self.known = {i: heap.known[file] for i, file in enumerate(files) if file in heap.known}
        self.questions: list[Question] = []
        self.estimate: Estimate | None = None
        self.given: list[list[str]] = []  # what can be taken back: the files of each answer
        self.lock = Lock()

    def state(self) -> dict[str, Any]:
        """Return the open questions and how far it has come; without any begin a round."""
        with self.lock:
            labels, skipped = self._labels()
            done = {*labels, *skipped}
            left = [each for each in self.questions if each.photographs[0] not in done]
            if not left:
                self.chooser.learn(labels)
                self.questions = left = self.chooser.choose(done)
                self.estimate = self.chooser.estimate(labels, done)
            # What was named meanwhile, in the table or with another group, is not asked about.
            open_ones = (
                [i for i in each.photographs if i == each.photographs[0] or i not in done]
                for each in left
            )
            names = sorted({*labels.values()}, key=str.casefold)
            return {
                "questions": [
                    {"photographs": photographs, "guesses": each.guesses}
                    for each, photographs in zip(left, open_ones)
                ],
                "count": len(self.questions),
                "names": names,
                "status": self._describe(labels),
                "estimate": self._describe_estimate(len(self.files) - len(done)),
                "undo": bool(self.given),
            }

    def answer(self, first: int, name: str, away: Sequence[int], is_alone: bool) -> None:
        """Name a question's first photograph and the others of its group, or skip it.

        What is `away` does not belong to the group; if `is_alone` nothing else does. Raises
        InputError if there is no such question, RunError if the table cannot be written.
        """
        with self.lock:
            labels, skipped = self._labels()
            question = next((q for q in self.questions if q.photographs[0] == first), None)
            if question is None or first in labels or first in skipped:
                raise InputError("this question is not open any more")
            others = [i for i in question.photographs[1:] if i not in labels and i not in skipped]
            name = spell(name, {*labels.values()})
            if name == SKIPPED:
                files, cost = [self.files[first]], 1
            else:
                out = others if is_alone else [i for i in others if i in {*away}]
                same = [i for i in others if i not in {*out}]
                self.chooser.take(first, same, [] if is_alone else out)
                files = [self.files[i] for i in (first, *same)]
                cost = 1 + (bool(others) if is_alone else len(out))
            self.answers.give(files, name, cost)
            self.given.append(files)

    def undo(self) -> None:
        """Take the last answer back; its question is open again."""
        with self.lock:
            if self.given:
                self.answers.take_back(self.given[-1])
                self.given.pop()

    def _labels(self) -> tuple[dict[int, str], set[int]]:
        """Return the names of photographs, and those that were skipped, by index."""
        self.answers.read()
        rows = self.answers.rows
        said = {i: rows[file][0] for i, file in enumerate(self.files) if file in rows}
        labels = self.known | {i: name for i, name in said.items() if name != SKIPPED}
        return labels, {i for i, name in said.items() if name == SKIPPED}

    def _describe(self, labels: dict[int, str]) -> str:
        return (
            f"{self.answers.count} answers; {len(labels)} of {len(self.files)} photographs named, "
            f"{len({*labels.values()})} names"
        )

    def _describe_estimate(self, left: int) -> str:
        if self.estimate is None:
            return ""
        share, low, high, gain = self.estimate
        return (
            f"Of the {left} photographs that are left, a network that knows your answers would "
            f"name about {share:.0%} correctly ({low:.0%} to {high:.0%}). The last round added "
            f"about {gain:.1%}."
        )
