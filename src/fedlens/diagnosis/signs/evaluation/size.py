"""E1, E2: the steps between values give away another evaluation set."""

from __future__ import annotations

from collections.abc import Sequence

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.forensics import precision
from fedlens.diagnosis.signs.evaluation.other import of_clients
from fedlens.diagnosis.signs.reading import place, visits

CHANCE = 1e-4  # that values at random are all shares of a size


def logged_of_fewer_examples(e: Evidence) -> Finding | None:
    """E1, E2: printed accuracies are all multiples of 1/n, with n far below the test set's size.

    Measured by M24 on the log alone. What the declared metric says it is, is no fault.
    """
    if e.log is None or e.log.n is None or of_clients(e):
        return None
    claimed = e.log.claimed or e.facts.declared.test_size or (e.data.test_size if e.data is not None else None)
    if not claimed or 2 * e.log.n > claimed:
        return None
    return Finding(
        "E2",
        Certainty.FOUND,
        f"The logged accuracies are of {e.log.n} examples, not of the test set's {claimed}.",
        (Measured("examples behind the log", "M24", str(e.log.n), str(claimed)),),
        "Print the accuracy of the global model on the whole test set; a client's hold-out says little.",
        also=("E1", "P3", "E11"),
        treatment="reference-evaluation",
        weight=0.05,
        silent=True,
        hides=frozenset({"E10"}),
    )


def reported_of_training_data(e: Evidence) -> Finding | None:
    """E1: without a network to measure by, values that are no shares of the test set's size, but of all that clients
    train on.

    Measured by M24 on what the author's evaluate returns, to all its digits: shares of the test set's size are
    multiples of its inverse. Means over batches or clients are multiples of neither, and nothing is said of them.
    """
    v = e.evaluating
    if v is None or v.measured or of_clients(e):
        return None
    values = [one.reported[v.metric] for one in e.rounds if v.metric in one.reported]
    claimed = e.facts.declared.test_size or (e.data.test_size if e.data is not None else None)
    sizes = {one.client: round(one.examples) for one in visits(e)} if e.data is None else e.data.sizes
    whole = len(sizes) == e.facts.clients and not (e.data is not None and e.data.shared)
    train = sum(sizes.values())
    if not claimed or not whole or _shares(values, claimed) is not False or not _shares(values, train):
        return None
    return Finding(
        "E1",
        Certainty.FOUND,
        f"'{v.metric}' is no share of the {claimed} test examples, but one of the {train} that clients train on.",
        (Measured("examples behind the values", "M24", str(train), str(claimed)),),
        "Evaluate the global model on the whole test set, and print that value under that name.",
        also=("P3", "E2"),
        where=v.where or place(e, "evaluate"),
        weight=0.05,
        silent=True,
        hides=frozenset({"E7", "E10"}),
    )


def _shares(values: Sequence[float], size: int) -> bool | None:
    """Whether all `values` are whole numbers of size-ths; None: values at random might be, too."""
    unit = 100.0 if max(values, default=0.0) > 1 + 1e-6 else 1.0
    error = precision(values) / unit if values else 1.0
    distinct = {value / unit for value in values if 0 < value < unit}
    if any(abs(x * size - round(x * size)) > size * error + 1e-9 for x in distinct):
        return False
    return True if min(1.0, 2 * size * error) ** len(distinct) < CHANCE else None
