"""D5: labels say nothing of the inputs."""

from __future__ import annotations

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.reading import outcome, percent


def labels_are_independent(e: Evidence) -> Finding | None:
    """D5: nothing can be learned, centrally or federated.

    Measured by M15, a cross-validated probe on the pooled data, and by M18, pooled training of the job's own network:
    both at chance. A probe alone is not enough, since a network may see what a simple probe does not.
    """
    if e.labels is None or e.labels.learnable > e.labels.chance + 2 * e.labels.error:
        return None
    pooled = outcome(e, "pooled-samples")
    chance = None if e.trials is None else e.trials.chance
    if pooled is not None and chance is not None and pooled.mean > chance + 0.05:
        return None
    evidence = [
        Measured("simple probe, pooled", "M15", percent(e.labels.learnable), f"above {percent(e.labels.chance)}")
    ]
    if pooled is not None:
        evidence.append(Measured("pooled training", "M18", percent(pooled.mean), "above chance"))
    return Finding(
        "D5",
        Certainty.CONSISTENT if pooled is None else Certainty.SUPPORTED,
        f"The labels cannot be told from the inputs: a probe on all data reaches {percent(e.labels.learnable)}, "
        f"always the largest class {percent(e.labels.chance)}.",
        tuple(evidence),
        "No training mends this. Look at how examples and labels were joined; is a column shifted, a key mismatched?",
        weight=1.0,
        hides=frozenset({"O1", "K1", "O7", "P1", "L2", "L1", "H4", "K3", "C1", "O2"}),
    )
