"""Examines a job, names what is wrong with it, rules the rest out, and proves the fix."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from fedlens.diagnosis.evidence import Evidence, Facts, Unexamined
from fedlens.diagnosis.examination import Examination, Told, begun
from fedlens.diagnosis.finding import Finding
from fedlens.diagnosis.forensics import examine_log, read_log
from fedlens.diagnosis.job import Declared
from fedlens.diagnosis.repair.chain import repaired
from fedlens.diagnosis.repair.treated import Treated
from fedlens.diagnosis.signs import read
from fedlens.diagnosis.stages import examine
from fedlens.diagnosis.subject.patient import Subject
from fedlens.diagnosis.verdict.gap import Bar, waterfall
from fedlens.diagnosis.verdict.judgement import RuledOut, judged, ruled_out
from fedlens.diagnosis.verdict.plain import plain
from fedlens.diagnosis.verdict.standing import standing
from fedlens.errors import ConfigurationError

WORDS = "NO FAULT FOUND"
LARGE = 5_000_000  # parameters from which all threads are used
BRIEF = 0.1  # seconds of a whole run below which a cost in runs says nothing


@dataclass(frozen=True)
class Diagnosis:
    """What the doctor says of a job.

    `suspects`: at most three, best first; `noted`: what is seen beside. `ruled_out`: what is not the cause, with
    numbers. `bars`: from centralised accuracy down to the job's. `seconds` of each part of the examination; `cost`:
    "runs", the whole examination, and "first", the time until the first suspect was sure, both in training runs of the
    job (nan where no round could be run), and "seconds" of the examination without treatments. `treatments`: remedies
    that were tried, in order. `remark`: why a verdict without suspects is no clean bill: the job broke down, or stays
    far below what its data allow. Accuracies are fractions.
    """

    name: str
    suspects: tuple[Finding, ...]
    noted: tuple[Finding, ...]
    ruled_out: tuple[RuledOut, ...]
    bars: tuple[Bar, ...]
    evidence: Evidence
    seconds: Mapping[str, float]
    cost: Mapping[str, float]
    treatments: tuple[Treated, ...] = field(default=())
    remark: str = ""

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Suspects, then what is only noted."""
        return (*self.suspects, *self.noted)

    @property
    def verdict(self) -> str:
        """The first line: a certainty word and the first suspect's sentence."""
        if not self.suspects:
            return self.remark or WORDS
        return f"{self.suspects[0].certainty.words} {self.suspects[0].says}"

    @property
    def treatment(self) -> Treated | None:
        """The remedy of the first suspect, where it was tried."""
        return self.treatments[0] if self.treatments else None

    def as_dict(self) -> dict[str, Any]:
        """Everything, in plain values that JSON takes; the first model and other tensors are not in it."""
        found: dict[str, Any] = plain({one.name: getattr(self, one.name) for one in dataclasses.fields(self)})
        return {"verdict": self.verdict, **found}


def diagnose(subject: Subject, *, fix: bool = False, tell: Told | None = None) -> Diagnosis:
    """Examine `subject`; with `fix` try the remedies of its suspects too, each after the one before.

    `tell` is told which part begins. Raises ConfigurationError or Ailing where there is nothing to examine; all else
    that fails is named in the diagnosis.
    """
    x = begun(subject, tell or _silent)
    with _threads(x.evidence.facts):
        examine(x)
        spent = time.perf_counter() - x.began
        return _told(x, spent, repaired(x, lambda changed: _examined(changed, x)) if fix else ())


def _examined(changed: Subject, x: Examination) -> Examination:
    """An examination of the same job with something changed."""
    then = begun(changed, x.tell)
    examine(then)
    return then


@contextmanager
def _threads(facts: Facts) -> Iterator[None]:
    """One thread where the model is small: two of them, beside another process, take twenty times as long as one."""
    before, size = torch.get_num_threads(), sum(math.prod(entry.shape) for entry in facts.entries.values())
    torch.set_num_threads(before if size > LARGE else 1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def of_log(path: Path, classes: int | None = None, claimed: int | None = None) -> Diagnosis:
    """What a file of printed accuracies gives away alone; `claimed`: the size of the test set it is said to be of.

    Raises ConfigurationError where it holds no accuracies.
    """
    rows = read_log(path.read_text(errors="replace"))
    if not rows:
        do = "Give lines such as 'round 3 test accuracy 0.81', a CSV with such a column, or a number a line."
        raise ConfigurationError("no accuracies were found", where=str(path), do=do)
    values, printed = [row.value for row in rows], [row.printed for row in rows]
    log = examine_log(values, printed=printed, claimed=claimed, classes=classes)
    facts = Facts(
        clients=0,
        cohort=0,
        rounds=len(values),
        classes=classes,
        declared=Declared(test_size=claimed),
        entries={},
        offers=frozenset(),
        where={},
    )
    e = Evidence(facts=facts, log=log, unexamined=(Unexamined("everything but the log", "there is nothing else"),))
    suspects, noted = judged(read(e)[0])
    cost = {"runs": 0.0, "first": 0.0}
    return Diagnosis(path.name, suspects, noted, (), (), e, {}, cost)


def _told(x: Examination, spent: float, treatments: tuple[Treated, ...]) -> Diagnosis:
    suspects, noted = judged(x.findings())
    run = x.run_seconds or 0.0
    first = x.known.get(suspects[0].cause, spent) if suspects else spent
    known = run > BRIEF
    cost = {"runs": spent / run if known else math.nan, "first": first / run if known else math.nan, "seconds": spent}
    excluded = ruled_out(x.evidence, suspects)
    bars = waterfall(x.evidence)
    remark = "" if suspects else standing(x.evidence)
    return Diagnosis(x.subject.name, suspects, noted, excluded, bars, x.evidence, x.seconds, cost, treatments, remark)


def _silent(stage: str) -> None:
    """Tell nobody."""
