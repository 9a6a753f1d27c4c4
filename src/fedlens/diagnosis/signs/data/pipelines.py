"""D1: clients prepare their inputs differently."""

from __future__ import annotations

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.symptom import misses

MOST_ALIKE = 0.9  # from this share of clients on it is the test set that differs


def pipelines_differ(e: Evidence) -> Finding | None:
    """D1: some clients' inputs stand apart from the test set's, class by class, by more than chance and labels explain.

    Measured by M17 against the evaluation pipeline, not against the median client: with half of the clients inverted
    there is no median to trust. A healthy job has none; natural differences do not fall into separate groups.
    """
    if e.data is None:
        return None
    strange = sorted({*e.data.apart, *e.data.scaled})
    if not strange or e.data.mismatch or len(strange) >= MOST_ALIKE * len(e.data.looked_at):
        return None
    lines = []
    if e.data.scaled:
        factor = max(e.data.scaled.values(), key=lambda x: max(x, 1 / x) if x > 0 else 0.0)
        lines.append(Measured("scale of inputs by that of the test set", "M17", f"{factor:.3g}", "1"))
    if e.data.apart:
        most = max(e.data.apart.values())
        lines.append(
            Measured("class means, from the test set's", "M17", f"{most:.2g} standard deviations", "below 0.5")
        )
    sure = bool(e.data.scaled) or e.data.clusters > 1
    return Finding(
        "D1",
        Certainty.FOUND if sure else Certainty.CONSISTENT,
        f"Inputs of {len(strange)} of {len(e.data.looked_at)} clients are prepared differently from the test set's.",
        tuple(lines),
        "Give all clients one transform with the same constants; compare clients' statistics before training.",
        also=("D3",) if e.data.scaled else (),
        treatment="rescale",
        clients=tuple(strange),
        weight=max(misses(e), len(strange) / len(e.data.looked_at)),
        hides=frozenset({"P1", "A9", "O2", "C1", "D3", "L2"}),
    )
