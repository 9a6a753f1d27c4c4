"""Errors in four parts: what failed, where, what was seen, what to do.

Knows: how a problem is told to a person, and which exit code it ends with.
Does not know: anything that can fail.
Offers: FedlensError and its three kinds, Problem, nearest.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong. `where` is a file and line, a key, or client, round and parameter."""

    what: str
    where: str = ""
    seen: str = ""
    do: str = ""

    def __str__(self) -> str:
        head = f"{self.where}: {self.what}" if self.where else self.what
        lines = [head.rstrip(".") + "."]
        if self.seen:
            lines.append(f"  seen: {self.seen}")
        if self.do:
            lines.append(f"  do:   {self.do}")
        return "\n".join(lines)


class FedlensError(Exception):
    """A failure told in four parts. Several problems may be told at once; `exit_code` is the command line's."""

    exit_code = 1

    def __init__(self, what: str, *, where: str = "", seen: object = "", do: str = "") -> None:
        self.problems: tuple[Problem, ...] = (Problem(what, where, str(seen), do),)
        super().__init__(str(self))

    @classmethod
    def of(cls, problems: Sequence[Problem]) -> FedlensError:
        """One error that tells all `problems` (at least one)."""
        error = cls(problems[0].what)
        error.problems = tuple(problems)
        error.args = (str(error),)
        return error

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)

    def __reduce__(self) -> tuple[object, ...]:  # so that it survives a pipe between processes
        return (type(self).of, (self.problems,))


class ConfigurationError(FedlensError):
    """The experiment as written cannot be run; nothing was run."""

    exit_code = 2


class DataError(FedlensError):
    """Examples are missing, damaged or not what was declared; nothing was run."""

    exit_code = 2


class RunError(FedlensError):
    """Something failed while running; what was done before is kept."""


def nearest(word: str, known: Iterable[str]) -> str:
    """The known word most like `word`, or an empty string."""
    matches = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return matches[0] if matches else ""
