"""H7: weights that start equal never become different."""

from __future__ import annotations

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.reading import listed
from fedlens.diagnosis.signs.symptom import ails, misses, reached


def weights_start_alike(e: Evidence) -> Finding | None:
    """H7: zero or constant initial weights: hidden units stay copies of each other, gradients vanish.

    Measured by M14: tensors of equal numbers and gradients that are exactly 0, or outputs that no input changes. Norm
    layers and biases start constant in healthy networks and are not counted. A last layer of zeros alone learns, and
    so do models that are linear; where the job is well it is only noted.
    """
    if e.learning is None:
        return None
    dead = set(e.learning.zero_gradients)
    alike = [name for name in e.learning.constant_init if name in dead or len(e.learning.constant_init) > 1]
    if not alike and not (e.learning.identical and dead):
        return None
    return Finding(
        "H7",
        Certainty.FOUND if ails(e) or reached(e) is None else Certainty.NOTED,
        f"Weights start all equal ({listed(alike)})." if alike else "The network answers the same to every input.",
        (
            Measured("tensors of equal numbers", "M14", str(len(alike)), "0"),
            Measured("parameters with gradient exactly 0", "M14", str(len(dead)), "0"),
        ),
        "Draw weights at random (He or Glorot); do not put a ReLU behind the head.",
        weight=max(misses(e), 0.4),
        hides=frozenset({"O1", "K1", "K3", "O8", "P1"}),
    )
