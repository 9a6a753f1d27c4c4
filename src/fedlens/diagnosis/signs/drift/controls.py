"""C2: the correction of drift does harm."""

from __future__ import annotations

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.reading import ahead, client_side, effect, lost, noise, percent, place, points

PLAINLY = 0.2  # accuracy by which the reference of the same method, on the same data, leaves no other cause
CORRECTED = ("scaffold", "feddyn", "mime", "fedlin", "fedpd")


def correction_is_wrong(e: Evidence) -> Finding | None:
    """C2: control variates of a wrong sign, start, or scale make the declared correction worse than none.

    Measured by M35: the same method, in the doctor's implementation, on the same data, beats the job, and the doctor's
    aggregator under the author's clients does not help; or it beats the job by far, and by more than dealing again IID
    gains. The controls themselves travel inside the clients and cannot be seen, so that this is never more than
    supported. Healthy: both reach the same.
    """
    name = (e.facts.declared.method or "").lower()
    gap = ahead(e, "reference")
    if not any(one in name for one in CORRECTED) or gap is None or gap <= 2 * noise(e):
        return None
    dealt = effect(e, "iid")
    plainly = gap > max(PLAINLY, dealt.gain if dealt is not None else 0.0)
    side = client_side(e)
    if not side and not plainly:  # implementations differ by some points, and so do runs on skewed data
        return None
    job = e.trials.job.mean if e.trials is not None and e.trials.job is not None else 0.0
    return Finding(
        "C2",
        Certainty.SUPPORTED,
        f"The declared {e.facts.declared.method} is {points(gap)} below the same method in a reference.",
        (Measured("accuracy, against the reference of the same method", "M35", percent(job), percent(job + gap)),),
        "Start controls at 0, send their change and not their sum, divide by the steps taken, and check that they add "
        "up to the server's.",
        source="Karimireddy et al. 2020, algorithm 1; Acar et al. 2021",
        treatment="reference-client" if side else "",
        where=place(e, "fit"),
        weight=lost(e),
        hides=frozenset({"P1", "C1", "O1", "O2"}),
    )
