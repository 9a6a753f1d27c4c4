"""P1: honest label skew."""

from __future__ import annotations

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.reading import (
    early,
    early_only,
    effect,
    gained,
    lines,
    middle,
    outcome,
    points,
    underperforms,
)

LEAST = 0.05  # accuracy that dealing again must gain: less is no answer to a failure


def labels_are_skewed(e: Evidence) -> Finding | None:
    """P1: clients see different classes, and the average of what they learn is worse than what they learn together.

    Measured by M19, the same samples dealt again IID with all else equal; M11 and M08 describe it. Only the re-deal is
    proof: skewed jobs often train well, and late updates are orthogonal on healthy jobs too.
    """
    whole = None if e.trials is None else e.trials.whole
    found = effect(e, "iid") if whole is None else whole
    if found is None or not found.clear or found.gain < LEAST or (whole is None and not underperforms(e)):
        return None
    evidence = [gained(e, "iid", "dealt again IID, early" if whole is not None else "dealt again IID")]
    if whole is not None:
        told = f"{100 * whole.gain:+.1f} points (standard error {100 * whole.error:.1f}, {whole.n} seed)"
        told += f" after {_of_all(e)} rounds over the job's end"
        evidence.append(Measured("dealt again IID, longer", "M19", told, "within two standard errors of 0"))
    if e.data is not None and e.data.counts:
        null = f"{e.data.skew_null:.2f} by chance"
        evidence.append(Measured("labels from the whole, total variation", "M11", f"{e.data.skew:.2f}", null))
    coherence = middle(one.coherence for one in early(e))
    if coherence is not None:
        evidence.append(Measured("coherence of early updates", "M08", f"{coherence:.2f}", "relative to IID"))
    fewer = effect(e, "fewer-steps")
    drifts = fewer is not None and fewer.clear and fewer.gain > LEAST  # then how far clients go is a cause beside it
    return Finding(
        "P1",
        Certainty.CONSISTENT if whole is None and early_only(e) else Certainty.SUPPORTED,
        f"Clients' data differ: dealt again IID the same samples gain {points(found.gain)}{_when(e)}.",
        lines(*evidence),
        "Momentum on the server, more clients a round, or a method for skewed labels (FedLC, FedYogi, SCAFFOLD); try "
        "several at equal budget, since none helps everywhere.",
        source="Zhao et al. 2018; Hsieh et al. 2020",
        also=("C1",),
        treatment="server-momentum=0.9",
        weight=found.gain,
        hides=frozenset({"N2", "O7", "S4", "O2", "K1"} | (set() if drifts else {"C1"})),
    )


def _when(e: Evidence) -> str:
    """After how many rounds, and against which end."""
    if e.trials is not None and e.trials.whole is not None:
        taken = _of_all(e)
        early = f" after {taken} rounds over what the job reaches after {e.facts.rounds}"
        return f" in {taken} rounds" if taken == e.facts.rounds else early
    dealt = outcome(e, "iid")
    return "" if dealt is None else f" in {dealt.rounds} rounds"


def _of_all(e: Evidence) -> int:
    assert e.trials is not None  # it gave the gain over all rounds
    return e.trials.whole_rounds or e.facts.rounds
