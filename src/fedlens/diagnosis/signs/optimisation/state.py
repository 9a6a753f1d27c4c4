"""O4: optimiser state that is lost, or kept, between visits."""

from __future__ import annotations

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.reading import visits
from fedlens.diagnosis.signs.symptom import ails, misses

ADAPTIVE = ("Adam", "AdamW", "RMSprop", "Adagrad", "NAdam", "RAdam", "Adamax")


def optimizer_state(e: Evidence) -> Finding | None:
    """O4: moments of another model steer the first steps, or Adam never leaves its start.

    Measured by M30: whether the optimiser held moments before the first step. A choice rather than a fault; named where
    the job ails and moments were carried over without being declared.
    """
    seen = [visit.watched for visit in visits(e) if visit.watched.carried is not None]
    carried = [one for one in seen if one.carried]
    short = [one for one in seen if one.optimizer in ADAPTIVE and not one.carried and (one.steps or 100) < 10]
    if carried and not e.facts.declared.stateful:
        said = f"Optimisers of {len(carried)} of {len(seen)} visits hold moments of an earlier model"
    elif short:
        said = (
            f"{short[0].optimizer} starts anew in every visit and takes {short[0].steps} steps: it stays at its start"
        )
    else:
        return None
    return Finding(
        "O4",
        Certainty.CONSISTENT if carried and ails(e) else Certainty.NOTED,
        said + ".",
        (Measured("visits that begin with moments", "M30", f"{len(carried)} of {len(seen)}", "0, or declared"),),
        "Reset local moments with every received model; if they help, keep them on the server (FedAdam).",
        source="Reddi et al. 2021",
        weight=misses(e),
    )
