"""O8: parameters that nobody trains."""

from __future__ import annotations

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.reading import listed, place, visits
from fedlens.diagnosis.signs.symptom import ails, misses

SPARSE = 0.9  # share of an update that is exactly 0 from which its zeros are a codec's


def parameters_stand_still(e: Evidence) -> Finding | None:
    """O8: the optimiser holds other tensors than the model, or a part asks for no gradient.

    Measured by M30: parameters that come back from every visit as they went. What is declared frozen or local, or what
    the network itself holds fast, is no fault. Where all stand still and steps are taken, it is B4.
    """
    seen = [visit for visit in visits(e) if visit.finite and visit.size > 0]
    if not seen:
        return _all_still(e)
    if any(visit.zero > SPARSE for visit in seen):  # counted in the first rounds alone
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
    sure = e.learning is not None and not still & (asks | none)  # all of them could be trained
    named = sorted(still)
    return Finding(
        "K3" if unreached else "O8",
        Certainty.NOTED if unreached or not ails(e) else Certainty.FOUND if sure else Certainty.CONSISTENT,
        f"{len(still)} of {len(parameters)} parameters never move at any client ({listed(named)}).",
        (Measured("parameters that no visit moves", "M30", f"{len(still)} of {len(parameters)}", "0, or declared"),),
        "Build the optimiser after the last change of the model, from its own parameters; declare what is frozen.",
        where=place(e, "fit"),
        weight=misses(e),
        hides=frozenset({"O1", "K1", "K5", "O7", "P1", "C1"}) if sure else frozenset(),
    )


def _all_still(e: Evidence) -> Finding | None:
    """Nothing ever comes back changed: the optimiser holds a copy, or another object is returned (O8, B4); or, where no
    step is seen in a network that PyTorch trains, there is none (D7)."""
    every = visits(e)
    if len(every) < 2 or any(visit.norm or not visit.finite or not visit.examples for visit in every):
        return None
    watched = [visit.watched for visit in every]
    stepped = all(one.steps and any(rate > 0 for rate in one.rates) for one in watched)
    if any(one.steps for one in watched) and not (stepped and any(one.gradient_norm for one in watched)):
        return None  # steps at a rate or with a gradient of 0 are another fault
    idle = not stepped and "model" in e.facts.offers
    after = f", after {sum(one.steps or 0 for one in watched)} steps" if stepped else ""
    return Finding(
        "D7" if idle else "O8",
        Certainty.FOUND,
        f"In {len(every)} visits every client returns exactly what it received{after}.",
        (Measured("size of the updates", "M07", "exactly 0", "above 0"),),
        "Take at least one step in every visit: make batches no larger than a client."
        if idle
        else "Build the optimiser from the parameters of the model that is returned, after its last change.",
        also=("O8", "B4") if idle else ("B4",),
        where=place(e, "fit"),
        weight=max(misses(e), 0.3),
        hides=frozenset({"O1", "K1", "K5", "O7", "P1", "C1", "E5", "E10", "D5", "X1"}),
    )
