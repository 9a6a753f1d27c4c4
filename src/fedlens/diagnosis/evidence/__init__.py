"""Everything that was measured of a job, in numbers; no verdict.

Knows: which measurements there are, what each number means and in which unit.
Does not know: how they are made, or what they say of a cause.
Offers: Evidence, and its sections Facts, Log, Aggregation, Participation, Handling, Round, DataAudit, LabelAudit,
Learning, Evaluating, Trials, Origins; Unexamined.
"""

from __future__ import annotations

from dataclasses import dataclass

from fedlens.diagnosis.evidence.aggregation import Aggregation
from fedlens.diagnosis.evidence.data import DataAudit, Inputs, LabelAudit
from fedlens.diagnosis.evidence.facts import Entry, Facts, Unexamined
from fedlens.diagnosis.evidence.handling import Handling
from fedlens.diagnosis.evidence.learning import Evaluating, Learning, Log
from fedlens.diagnosis.evidence.origins import Origins
from fedlens.diagnosis.evidence.rounds import Exam, Paired, Participation, Round, Visit, Watched
from fedlens.diagnosis.evidence.trials import Effect, Outcome, Trials


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """All of it; a section is None (or empty) where it could not be examined, and `unexamined` says why. `beside`:
    visits of clients that no watched round asked, after the last of them."""

    facts: Facts
    log: Log | None = None
    participation: Participation | None = None
    aggregation: Aggregation | None = None
    handling: Handling | None = None
    rounds: tuple[Round, ...] = ()
    beside: tuple[Visit, ...] = ()
    data: DataAudit | None = None
    labels: LabelAudit | None = None
    learning: Learning | None = None
    evaluating: Evaluating | None = None
    trials: Trials | None = None
    origins: Origins | None = None
    unexamined: tuple[Unexamined, ...] = ()


__all__ = [
    "Aggregation",
    "DataAudit",
    "Effect",
    "Entry",
    "Evaluating",
    "Evidence",
    "Exam",
    "Facts",
    "Handling",
    "Inputs",
    "LabelAudit",
    "Learning",
    "Log",
    "Origins",
    "Outcome",
    "Paired",
    "Participation",
    "Round",
    "Trials",
    "Unexamined",
    "Visit",
    "Watched",
]
