"""D5: labels say nothing of the inputs."""

from __future__ import annotations

import math

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.reading import outcome, percent
from fedlens.diagnosis.signs.symptom import ceiling, reached

ABOVE = 0.05  # accuracy above chance that refutes it, wherever it was reached
RARE = 0.8  # share of the largest class from which on accuracy says little of the others


def labels_are_independent(e: Evidence) -> Finding | None:
    """D5: nothing can be learned, centrally or federated.

    Measured by M15, a cross-validated probe on the pooled data, and by M18, pooled training of the job's own network:
    both at chance. A probe alone is not enough, since a network may see what a simple probe does not: anything that
    ever was above chance refutes it. Where nearly all examples are of one class accuracy cannot show it, and it is
    only noted.
    """
    pooled = outcome(e, "pooled-samples")
    near = 2 if pooled is None else 4  # standard errors: the probe is the better of two, and trials speak beside it
    if e.labels is None or e.labels.learnable > e.labels.chance + near * e.labels.error or _was_learned(e):
        return None
    evidence = [
        Measured("simple probe, pooled", "M15", percent(e.labels.learnable), f"above {percent(e.labels.chance)}")
    ]
    if pooled is not None:
        evidence.append(Measured("pooled training", "M18", percent(pooled.mean), "above chance"))
    return Finding(
        "D5",
        Certainty.NOTED if e.labels.chance > RARE else Certainty.CONSISTENT if pooled is None else Certainty.SUPPORTED,
        f"The labels cannot be told from the inputs: a probe on all data reaches {percent(e.labels.learnable)}, "
        f"always the largest class {percent(e.labels.chance)}.",
        tuple(evidence),
        "No training mends this. Look at how examples and labels were joined; is a column shifted, a key mismatched?",
        weight=1.0,
        hides=frozenset({"O1", "K1", "O7", "P1", "L2", "L1", "H4", "K3", "C1", "O2"}),
    )


def _was_learned(e: Evidence) -> bool:
    """Whether the job or any trial got above chance, or told classes apart however rare they are."""
    assert e.labels is not None
    chance = max(e.labels.chance, (e.trials.chance or 0.0) if e.trials is not None else 0.0)
    error = max(e.labels.error, e.trials.error if e.trials is not None else 0.0)
    most = max((x for x in (reached(e), ceiling(e)) if x is not None and math.isfinite(x)), default=0.0)
    recalls = [[x for x in one.exam.recall if x is not None] for one in e.rounds if one.exam is not None]
    balanced = max((sum(some) / len(some) - 1 / len(some) for some in recalls if len(some) > 1), default=0.0)
    return most > chance + max(ABOVE, 4 * error) or balanced > 0.1
