"""H8: outputs and labels of different shapes are spread over one another."""

from __future__ import annotations

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.reading import HONEST, place, severity, visits


def outputs_are_spread(e: Evidence) -> Finding | None:
    """H8: outputs [n, 1] beside labels [n] make a loss of all n * n pairs, least where every answer is the mean label.

    Measured by M14 at every call of the loss: both of its arguments are repeated, each along another axis. Healthy: one
    shape, or numbers that are spread over one argument alone.
    """
    heard = [visit.watched for visit in visits(e) if visit.watched.spread is not None]
    if not heard or not all(one.spread for one in heard):
        return None
    return Finding(
        "H8",
        Certainty.FOUND,
        "The loss compares every output with every label of the batch: shapes such as [n, 1] and [n] are spread to "
        "[n, n].",
        (Measured("visits whose loss spreads both outputs and labels", "M14", f"{len(heard)} of {len(heard)}", "0"),),
        "Give outputs and labels one shape: outputs.squeeze(1), or labels.unsqueeze(1).",
        where=heard[0].loss_where or place(e, "fit"),
        weight=severity(e, 0.2),
        hides=HONEST | {"D5", "H7"},
    )
