"""Which treatment is tried for a cause: where its finding names none, where its own fails, where it names several."""

from __future__ import annotations

from dataclasses import replace

from fedlens.diagnosis.finding import Finding
from fedlens.diagnosis.repair.sending import sends_more
from fedlens.diagnosis.repair.starting import starts_anew
from fedlens.diagnosis.trials.cures import CURES, Cure

USUAL = {  # causes whose finding names no treatment, and the part that is replaced
    **dict.fromkeys(("H5", "H6", "B5", "B6", "O4", "O5", "O8", "D7", "S5"), "reference-client"),
    "H4": "loss=cross-entropy",
    "L3": "relabel",
    "L2": "drop-clients",
    "C3": "mu=0",
    "D2": "rescale",
    "H7": "fresh-start",
    "H8": "loss=cross-entropy",
    "C2": "reference",
    "A10": "reference-aggregator",
    **dict.fromkeys(("D9", "E1", "E2", "E3", "E5", "E9", "E10", "N4", "P3"), "reference-evaluation"),
}
WHOLE = {  # beginnings of causes, and whose part is replaced as a whole where the finding's own treatment fails
    **dict.fromkeys(("B", "H", "O", "D", "N6"), "reference-client"),
    **dict.fromkeys(("A", "B2", "N"), "reference-aggregator"),
}
NONE = ("D4", "D5", "D6", "O7")  # no part of the job is at fault that the doctor could replace
CHOICES = {  # treatments of which none helps everywhere: the one ahead, or the first that does, is proven
    "feedback": ("feedback", "bytes=10", "bytes=30", "bytes=100"),  # the fewest bytes first
}
REMEDIES: dict[str, Cure] = {
    **CURES,
    "fresh-start": Cure(starts_anew, "first weights are drawn anew, as each layer does by itself"),
    "bytes": Cure(sends_more, "{} times as many entries are sent, and what is left out is added to the next upload"),
}


def with_usual(finding: Finding) -> Finding:
    """`finding` with the treatment that is usual for its cause, where it names none: at last the part that the cause
    is about, as a whole."""
    return finding if finding.treatment else replace(finding, treatment=USUAL.get(finding.cause) or _whole(finding))


def wholesale(finding: Finding) -> Finding | None:
    """`finding` with all of its author's part replaced; None where that is its treatment, or nobody's part is it."""
    treatment = _whole(finding)
    return replace(finding, treatment=treatment) if treatment not in ("", finding.treatment) else None


def _whole(finding: Finding) -> str:
    known = sorted((cause for cause in WHOLE if finding.cause.startswith(cause)), key=len)
    return WHOLE[known[-1]] if known and finding.cause not in NONE else ""
