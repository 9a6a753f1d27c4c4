"""P3: a hold-out that is cut from sorted examples."""

from __future__ import annotations

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.evaluation.other import of_clients
from fedlens.diagnosis.signs.reading import lines, middle, number, percent, place

SORTED = 3.0  # times the run of equal labels that a shuffled order has
BEYOND = 0.4  # share of hold-outs of one class by which more are seen than a split at random gives


def hold_out_is_cut_from_sorted_examples(e: Evidence) -> Finding | None:
    """P3: the last tenth of a list that is sorted by class holds one class.

    Measured by M29: the labels that `evaluate` compares answers with are of one class again and again, where clients
    have examples of several (exact, by how often a split at random would give that); else by the stored order of
    clients' examples, where what is reported is of clients' own hold-outs and is not the model's accuracy.
    """
    if e.data is None or e.evaluating is None or e.evaluating.matches in ("test", "percent", "count"):
        return None
    run = middle(e.data.order_run.values())
    alone, by_chance = _of_one_class(e), _by_chance(e)
    exact = alone is not None and alone > by_chance + BEYOND
    if not exact and (e.evaluating.matches != "none" or not of_clients(e) or run is None or run < SORTED):
        return None
    sets = len(e.evaluating.label_sets)
    told = "Clients' examples lie sorted by class: a hold-out that is cut from an end of them holds one class."
    if exact:
        told = f"{percent(alone or 0.0)} of the {sets} sets of labels that are evaluated on hold one class, where "
        told += "clients have several: hold-outs are cut from examples that are sorted by class."
    measured = Measured("sets of labels of one class", "M29", percent(alone or 0.0), f"{percent(by_chance)} by chance")
    runs = None if run is None else Measured("runs of equal labels in stored order", "M29", number(run), "about 1")
    return Finding(
        "P3",
        Certainty.FOUND if exact else Certainty.CONSISTENT,
        told,
        lines(measured if exact else None, runs),
        "Shuffle each client's examples before they are split, or stratify the split.",
        also=("E1",),
        where=place(e, "evaluate"),
        weight=0.1 if exact else 0.05,
        silent=True,
    )


def _of_one_class(e: Evidence) -> float | None:
    """The share of label sets that hold one class; None where none was seen, or all together are of one class."""
    sets = () if e.evaluating is None else e.evaluating.label_sets
    return sum(classes == 1 for _, classes in sets) / len(sets) if len(sets) > 1 else None


def _by_chance(e: Evidence) -> float:
    """The share of them that would, if they were drawn from clients' examples at random."""
    assert e.data is not None and e.evaluating is not None
    rows = [row for row in e.data.counts.values() if sum(row)]
    alone = [sum((n / sum(row)) ** size for n in row) for row in rows for size, _ in e.evaluating.label_sets]
    return sum(alone) / len(alone) if alone else 1.0
