"""O8: parameters that nobody trains."""

from __future__ import annotations

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.reading import listed, place, visits
from fedlens.diagnosis.signs.symptom import ails, misses

SPARSE = 0.9  # share of an update that is exactly 0 from which its zeros are a codec's


def parameters_stand_still(e: Evidence) -> Finding | None:
    """O8: the optimiser holds other tensors than the model, or a part asks for no gradient.

    Measured by M30: parameters that come back from every visit as they went. What is declared frozen or local is not
    counted. Where all stand still it is another fault (B4, D7).
    """
    seen = [visit for visit in visits(e) if visit.finite and visit.size > 0 and visit.zero < SPARSE]
    if not seen:
        return None
    declared = (*e.facts.declared.frozen, *e.facts.declared.local_entries)
    still = set.intersection(*(set(visit.still) for visit in seen))
    still = {name for name in still if not name.startswith(tuple(declared) or ("\0",))}
    parameters = e.facts.of_kind("parameter")
    if not still or len(still) >= len(parameters):
        return None
    asks = set() if e.learning is None else set(e.learning.frozen)
    none = set() if e.learning is None else set(e.learning.zero_gradients)
    unreached = still <= none and not still & asks  # dead weights of the network, in centralised training too
    named = sorted(still)
    return Finding(
        "K3" if unreached else "O8",
        Certainty.CONSISTENT if ails(e) else Certainty.NOTED,
        f"{len(still)} of {len(parameters)} parameters never move at any client ({listed(named)}).",
        (Measured("parameters that no visit moves", "M30", f"{len(still)} of {len(parameters)}", "0, or declared"),),
        "Build the optimiser after the last change of the model, from its own parameters; declare what is frozen.",
        where=place(e, "fit"),
        weight=misses(e),
    )
