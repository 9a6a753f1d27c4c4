"""P3: a hold-out that is cut from sorted examples."""

from __future__ import annotations

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.evaluation.other import of_clients
from fedlens.diagnosis.signs.reading import middle, number, place

SORTED = 3.0  # times the run of equal labels that a shuffled order has


def hold_out_is_cut_from_sorted_examples(e: Evidence) -> Finding | None:
    """P3: the last tenth of a list that is sorted by class holds one class.

    Measured by M29 on the stored order of clients' examples, where what is reported is of clients' own hold-outs and is
    not the model's accuracy. The hold-outs themselves are not among what a job lends, so this is never exact.
    """
    if e.data is None or e.evaluating is None or e.evaluating.matches != "none" or not of_clients(e):
        return None
    run = middle(e.data.order_run.values())
    if run is None or run < SORTED:
        return None
    return Finding(
        "P3",
        Certainty.CONSISTENT,
        f"Clients' examples lie sorted by class (equal labels {number(run)} times as long in a row as shuffled): a "
        "hold-out that is cut from an end of them holds one class.",
        (Measured("runs of equal labels in stored order", "M29", number(run), "about 1"),),
        "Shuffle each client's examples before they are split, or stratify the split.",
        also=("E1",),
        where=place(e, "evaluate"),
        weight=0.05,
        silent=True,
    )
