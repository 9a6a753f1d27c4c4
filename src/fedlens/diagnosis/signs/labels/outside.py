"""L3: labels outside the head, or one-hot rows without a one."""

from __future__ import annotations

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.few import some_of
from fedlens.diagnosis.signs.labels.head import lacks_classes
from fedlens.diagnosis.signs.labels.refused import refused
from fedlens.diagnosis.signs.reading import percent, visits

SIGMOIDS = ("binary_cross_entropy", "binary_cross_entropy_with_logits")  # a row of zeros counts: none of the classes


def labels_leave_the_head(e: Evidence) -> Finding | None:
    """L3: a label of C or more is an error in most losses and silently no label at all in a one-hot row.

    Measured on the data and on what the loss was given or refused: range of labels, sums of one-hot rows. Healthy: all
    within. A head of one output has two classes; what the loss is told to ignore, and what training renumbers, is no
    label. Labels of classes that only the head lacks are a matter of the head.
    """
    width = _width(e)
    ignored = _rows_of_zeros(e)
    low, high = _range(e, width, sure=ignored > 0)
    outside = low < 0 or high >= width
    narrow = lacks_classes(e) and low >= 0 and high < (e.facts.classes or 0)
    if (narrow or not outside) and not ignored > 0:
        return None
    told = f"labels run from {low} to {high} for a head of {width}" if outside else ""
    zeros = f"{percent(ignored)} of the one-hot rows hold no single one" if ignored > 0 else ""
    return Finding(
        "L3",
        Certainty.FOUND,
        " and ".join(filter(None, (told, zeros))).capitalize() + ".",
        (
            Measured("labels", "M29", f"{low} to {high}", f"0 to {width - 1}"),
            Measured("one-hot rows that are none", "M29", percent(ignored), "0 %"),
        ),
        "Number the classes from 0 on and give the head one output for each.",
        also=("L4",) if high >= width else (),
        clients=_whose(e),
        where=next((v.watched.loss_where for v in visits(e) if v.watched.loss_where), _refusing(e)),
        weight=max(0.5, ignored),
        hides=frozenset({"L1", "L2", "D5", "P1", "L4", "K1", "O1"}),
    )


def _whose(e: Evidence) -> tuple[int, ...]:
    """Clients that hold labels which are none, or whose loss was given some; nobody where all do."""
    sizes = e.data.sizes if e.data is not None else {}
    odd = tuple(c for c, size in sizes.items() if e.data is not None and sum(e.data.counts.get(c, ())) < size)
    if not odd:
        given = some_of(e, lambda visit: None if visit.watched.ignored is None else visit.watched.ignored > 0)
        return given or tuple(sorted({one.client for one in refused(e) if _made_in_training(e, one.label)}))
    return odd if len(odd) < len(sizes) else ()


def _made_in_training(e: Evidence, label: int) -> bool:
    """Whether nobody's data hold such a label."""
    return e.data is not None and not (e.data.low or 0) <= label <= (label if e.data.high is None else e.data.high)


def _refusing(e: Evidence) -> str:
    return next((one.where for one in refused(e)), "")


def _width(e: Evidence) -> float:
    """Classes that the head can answer; without limit where nobody says."""
    outputs = e.learning.outputs if e.learning is not None else None
    if outputs == 1:
        return max(2, e.facts.classes or 0)
    return outputs or e.facts.classes or float("inf")


def _rows_of_zeros(e: Evidence) -> float:
    seen = [v.watched for v in visits(e) if v.watched.loss is not None]
    rows = [w.ignored or 0.0 for w in seen if w.one_hot is not False and w.loss not in SIGMOIDS]
    if e.data is not None and not (seen and all(w.loss in SIGMOIDS for w in seen)):
        rows.append(e.data.malformed)
    return max(rows, default=0.0)


def _range(e: Evidence, width: float, sure: bool) -> tuple[int, int]:
    """Smallest and largest label: of what the loss was given, and of the data where that does not refute it."""
    seen = [(v.client, v.watched) for v in visits(e) if v.watched.label_low is not None]
    beyond = [one.label for one in refused(e)]
    low = min([*beyond, *(w.label_low or 0 for _, w in seen)], default=0)
    high = max([*beyond, *(w.label_high or 0 for _, w in seen)], default=-1)
    if e.data is None or e.data.low is None or e.data.high is None:
        return low, high
    odd = {c for c, n in e.data.sizes.items() if sum(e.data.counts.get(c, ())) < n}
    refuted = bool(seen) and low >= 0 and high < width and not sure
    if refuted and (odd & {client for client, _ in seen} or e.data.high < width):
        return low, high
    return min(low, e.data.low), max(high, e.data.high)
