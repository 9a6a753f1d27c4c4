"""What a remedy must leave sound beside accuracy: the client that is served worst, and how far confidence is true."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from fedlens.diagnosis.examiner import Examiner, examined, two_columns
from fedlens.diagnosis.job import State
from fedlens.diagnosis.trials.course import binomial
from fedlens.diagnosis.trials.lend import Change, are_probabilities, class_numbers

BINS = 15  # of confidence, equally wide
CLIENTS, EACH = 100, 100  # that are looked at, and examples of each


class Health(NamedTuple):
    """Of one model. `worst`: the lowest accuracy on a client's own training examples, of which there are `each`, nan
    where the job lends none; `calibration`: its expected calibration error on `tested` examples."""

    worst: float
    each: int
    calibration: float
    tested: int


Counted = tuple[float, int]  # a share, and of how many examples
MEASURES: tuple[tuple[str, Callable[[Health], Counted], bool], ...] = (  # and whether more of it is better
    ("worst client", lambda one: (one.worst, one.each), True),
    ("calibration error", lambda one: (one.calibration, one.tested), False),
)


class Side(NamedTuple):
    """One measure before a remedy and after it, as means over the seeds. `error`: one standard error of the change;
    `sound`: of the reference, nan where that was not needed; `worse`: whether the remedy spoils it."""

    name: str
    before: float
    after: float
    error: float
    sound: float = math.nan
    worse: bool = False

    def __str__(self) -> str:
        known = f" (a sound job's {100 * self.sound:.1f}%)" if math.isfinite(self.sound) else ""
        return f"{self.name} {100 * self.before:.1f}% -> {100 * self.after:.1f}%{known}"


def health(examiner: Examiner, state: State, change: Change | None = None) -> Health:
    """How the model `state` does; `change` corrects clients' data first, where those are at fault.

    A model that is not finite, or is lost ({}), serves nobody, and nothing that it says is true.
    """
    tested = len(examiner.labels)
    offers = examiner.patient.offers("train_data")
    if not state or not all(bool(torch.isfinite(value).all()) for value in state.values()):
        return Health(0.0 if offers else math.nan, 1, 1.0, tested)
    worst, each = _worst(examiner, state, change) if offers else (math.nan, 1)
    return Health(worst, each, calibration_error(examiner.outputs(state, examiner.inputs), examiner.labels), tested)


def calibration_error(outputs: Tensor, labels: Tensor) -> float:
    """The expected calibration error of logits, or probabilities, [N, C]: how far confidence and accuracy are apart,
    over BINS of confidence, weighted by their examples (Guo et al. 2017, equation 3).

    1 where an output is no number.
    """
    if not bool(torch.isfinite(outputs).all()):
        return 1.0
    outputs = two_columns(outputs.flatten(1).double())
    sure, said = (outputs if are_probabilities(outputs) else outputs.softmax(dim=1)).max(dim=1)
    right = (said == class_numbers(labels)).double()
    places = (sure * BINS).long().clamp(0, BINS - 1)
    apart = torch.zeros(BINS, dtype=torch.float64).index_add_(0, places, right - sure)
    return float(apart.abs().sum()) / len(sure)


def _worst(examiner: Examiner, state: State, change: Change | None) -> tuple[float, int]:
    """The lowest accuracy on a client's own examples, and how many of them that was measured on."""
    patient = examiner.patient
    some = sorted(set(torch.linspace(0, patient.clients - 1, min(CLIENTS, patient.clients)).long().tolist()))
    found = []
    for client in some:
        inputs, labels = patient.train_data(client)
        if change is not None:
            inputs, labels = change(client, inputs, labels)
        if len(labels):
            kept = torch.linspace(0, len(labels) - 1, min(EACH, len(labels))).long()
            found.append((examined(examiner.outputs(state, inputs[kept]), labels[kept]).accuracy, len(kept)))
    return min(found) if found else (math.nan, 1)


def sides(before: Sequence[Health], after: Sequence[Health], sound: Callable[[], Sequence[Health]]) -> tuple[Side, ...]:
    """Both measures, paired by seed; none where one of the two was not measured.

    One is spoiled where it is worse by more than one standard error, of the pairs or of counting, whichever is larger:
    worse than before and, as what answers by chance is calibrated without merit, worse than what is `sound`. That is
    asked for only where it decides; where nothing is, confidence is told and not judged.
    """
    if len(before) != len(after) or not before:
        return ()
    told = []
    for name, of, higher in MEASURES:
        rows = [(of(one), of(other)) for one, other in zip(before, after, strict=True)]
        if all(math.isfinite(value) for row in rows for value, _ in row):
            told.append(_side(name, rows, higher, lambda: [of(one)[0] for one in sound()]))  # noqa: B023, asked at once
    return tuple(told)


def _side(
    name: str, rows: Sequence[tuple[Counted, Counted]], higher: bool, sound: Callable[[], Sequence[float]]
) -> Side:
    sign, n = 1.0 if higher else -1.0, len(rows)
    losses = [sign * (one - other) for (one, _), (other, _) in rows]
    paired = statistics.stdev(losses) / math.sqrt(n) if n > 1 else 0.0
    counted = math.sqrt(sum(binomial(value, many) ** 2 for row in rows for value, many in row)) / n
    error, (was, now) = max(paired, counted), (statistics.fmean(row[at][0] for row in rows) for at in (0, 1))
    if sign * (was - now) <= error:
        return Side(name, was, now, error)
    known = [value for value in sound() if math.isfinite(value)]
    had = statistics.fmean(known) if known else math.nan
    return Side(name, was, now, error, had, sign * (had - now) > error if known else higher)
