"""L3: labels outside the head, or one-hot rows without a one."""

from __future__ import annotations

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.reading import percent, visits


def labels_leave_the_head(e: Evidence) -> Finding | None:
    """L3: a label of C or more is an error in most losses and silently no label at all in a one-hot row.

    Measured on the data and on what the loss was given: range of labels, sums of one-hot rows. Healthy: all within.
    """
    width = e.learning.outputs if e.learning is not None and e.learning.outputs else e.facts.classes
    seen = [visit.watched for visit in visits(e)]
    high = max(
        [x for x in (e.data.high if e.data else None, *(w.label_high for w in seen)) if x is not None], default=-1
    )
    low = min([x for x in (e.data.low if e.data else None, *(w.label_low for w in seen)) if x is not None], default=0)
    ignored = max([e.data.malformed if e.data else 0.0, *(w.ignored or 0.0 for w in seen)])
    if not (low < 0 or (width and high >= width) or ignored > 0):
        return None
    told = f"labels run from {low} to {high} for a head of {width}" if low < 0 or (width and high >= width) else ""
    zeros = f"{percent(ignored)} of the one-hot rows hold no single one" if ignored > 0 else ""
    return Finding(
        "L3",
        Certainty.FOUND,
        " and ".join(filter(None, (told, zeros))).capitalize() + ".",
        (
            Measured("labels", "M29", f"{low} to {high}", f"0 to {(width or 1) - 1}"),
            Measured("one-hot rows that are none", "M29", percent(ignored), "0 %"),
        ),
        "Number the classes from 0 on and give the head one output for each.",
        where=next((w.loss_where for w in seen if w.loss_where), ""),
        weight=max(0.5, ignored),
        hides=frozenset({"L1", "L2", "D5", "P1", "L4", "K1", "O1"}),
    )
