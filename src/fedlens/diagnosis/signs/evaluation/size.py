"""E1, E2: the log's steps give away a smaller evaluation set."""

from __future__ import annotations

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.evaluation.other import of_clients


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
