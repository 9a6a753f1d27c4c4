"""O8: parameters that nobody trains."""

from __future__ import annotations

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.few import FEW, by_client
from fedlens.diagnosis.signs.reading import HONEST, ahead, listed, moving_zero, noise, place, visits
from fedlens.diagnosis.signs.symptom import ails, misses

WHOLE = ("avg", "sgd", "prox")  # in the names of methods whose clients train the whole model
SPARSE = 0.9  # share of zeros in what moves, from which they are a codec's


def parameters_stand_still(e: Evidence) -> Finding | None:
    """O8: the optimiser holds other tensors than the model, or a part asks for no gradient.

    Measured by M30: parameters that come back from every visit as they went. What is declared frozen or local, or what
    the network itself holds fast, is no fault, nor is what the reference, which trains it, is no better for. Where all
    stand still and steps are taken, it is B4.
    """
    seen = [visit for visit in visits(e) if visit.finite and visit.size > 0]
    if not seen:
        return _all_still(e)
    sparse = sum(
        moving_zero(e, visit.zero, visit.still) > SPARSE for visit in seen
    )  # counted in the first rounds alone
    declared = (*e.facts.declared.frozen, *e.facts.declared.local_entries)
    still = set.intersection(*(set(visit.still) for visit in seen))
    still = {name for name in still if not name.startswith(tuple(declared) or ("\0",))}
    parameters = e.facts.of_kind("parameter")
    if not still:
        return _at_some(e, declared)
    if sparse or len(still) >= len(parameters):
        return None
    asks = set() if e.learning is None else set(e.learning.frozen)
    none = set() if e.learning is None else set(e.learning.zero_gradients)
    unreached = still <= none and not still & asks  # dead weights of the network, in centralised training too
    sure = e.learning is not None and not still & (asks | none)  # all of them could be trained
    named, whole = sorted(still), ahead(e, "reference")  # which trains all of them
    idle = unreached or not ails(e) or (whole is not None and whole <= noise(e))
    sure = sure and not idle
    return Finding(
        "K3" if unreached else "O8",
        Certainty.NOTED if idle else Certainty.FOUND if sure else Certainty.CONSISTENT,
        f"{len(still)} of {len(parameters)} parameters never move at any client ({listed(named)}).",
        (Measured("parameters that no visit moves", "M30", f"{len(still)} of {len(parameters)}", "0, or declared"),),
        "Build the optimiser after the last change of the model, from its own parameters; declare what is frozen.",
        where=place(e, "fit"),
        weight=misses(e),
        hides=frozenset({"O1", "K1", "K5", "O7", "P1", "C1"}) if sure else frozenset(),
    )


def _at_some(e: Evidence, declared: tuple[str, ...]) -> Finding | None:
    """Parameters that a few clients never move, and all others do at every visit."""
    told = by_client(e, lambda v: set(v.still) if v.finite and v.size > 0 else None)
    moves = [found for found in told.values() if not any(found)]
    rest = {client: set.intersection(*found) for client, found in told.items()}
    odd = {client: {n for n in names if not n.startswith(declared or ("\0",))} for client, names in rest.items()}
    odd = {client: names for client, names in odd.items() if names}
    if not odd or len(odd) > FEW * len(told) or len(odd) + len(moves) < len(told):
        return None
    names, clients = sorted(set.union(*odd.values())), tuple(sorted(odd))
    method = (e.facts.declared.method or "sgd").lower()
    return Finding(
        "O8",
        Certainty.FOUND if ails(e) or any(word in method for word in WHOLE) else Certainty.NOTED,
        f"{len(names)} of {len(e.facts.of_kind('parameter'))} parameters never move at clients {listed(clients)} "
        f"({listed(names)}), and at every visit of the others.",
        (Measured("parameters that no visit of these clients moves", "M30", listed(names), "none, or declared"),),
        "Train all parameters at every client, or declare what is frozen; what stands still weighs in the mean too.",
        clients=clients,
        where=place(e, "fit"),
        weight=max(misses(e), 0.05),
        hides=HONEST,
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
