"""H8: the network and its loss cannot learn one batch."""

from __future__ import annotations

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.reading import number
from fedlens.diagnosis.signs.symptom import ails, misses

LEARNED = 0.95


def one_batch_is_not_learned(e: Evidence) -> Finding | None:
    """H8, H5: something between outputs and labels does not fit: shapes that broadcast, detached terms, a ReLU head.

    Measured by M13 at the best of several rates: a batch of 32 is learned by heart by any healthy classifier of enough
    parameters. Says that it is the loss or the head, not which line.
    """
    if e.learning is None or e.learning.overfit_best is None or e.learning.overfit_best >= LEARNED:
        return None
    if e.learning.parameters < 50 * e.learning.overfit_n or not ails(e):
        return None
    head = " Its outputs are never negative: a ReLU stands behind the head." if e.learning.nonnegative else ""
    return Finding(
        "H7" if e.learning.nonnegative else "H8",
        Certainty.CONSISTENT,
        f"Even {e.learning.overfit_n} examples are not learned by heart, at no rate: "
        f"accuracy {number(e.learning.overfit_best)}.{head}",
        (Measured("accuracy on one batch, best rate", "M13", number(e.learning.overfit_best), f"above {LEARNED}"),),
        "Check shapes of outputs and labels in the loss, that every term has a gradient, and what follows the head.",
        also=("H5", "H3"),
        weight=misses(e),
    )
