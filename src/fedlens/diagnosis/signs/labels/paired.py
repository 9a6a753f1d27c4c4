"""L1, L2: inputs are trained with other labels than the data hold them with."""

from __future__ import annotations

from statistics import median

from fedlens.diagnosis.evidence import Evidence, Paired, Visit
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.few import FEW, by_client, first_or_late, withstood
from fedlens.diagnosis.signs.reading import listed, percent, place
from fedlens.diagnosis.signs.symptom import ails, misses

KNOWN, LEAST = 0.5, 20  # of the inputs in training that the data must hold unchanged, and how many
CHANGED = 0.1  # of their labels, from which on it is no chance that two inputs look alike
TORN = 0.5  # of the changed ones, from which on classes are not renamed but mixed


def labels_leave_their_inputs(e: Evidence) -> Finding | None:
    """L1, L2: between the data and the loss labels are renamed, drawn anew, or put to other inputs.

    Measured by M29: inputs of the first batches, found again in the client's data whatever their scale, and the labels
    that the loss was given with them. Healthy: those that the data hold, exactly; inputs that are augmented are not
    found again, and say nothing. Where all clients do it the job must fail by it: a coarser task is none.
    """
    return first_or_late(e, _changed) or _everywhere(e)


def trusted(visit: Visit) -> Paired | None:
    """What is known of the labels of a visit; None: its inputs are others than the data's."""
    p = visit.paired
    return p if p is not None and p.rows >= max(LEAST, KNOWN * p.heard) else None


def _changed(e: Evidence) -> Finding | None:
    told = by_client(e, trusted)
    odd = {c: found for c, found in told.items() if all(one.changed > CHANGED for one in found)}
    sound = [c for c, found in told.items() if all(one.changed == 0 for one in found)]
    if not odd or len(odd) > FEW * len(told) or len(odd) + len(sound) < len(told):
        return None
    clients = tuple(sorted(odd))
    who = f"Clients {listed(clients)} train"
    certainty = Certainty.NOTED if withstood(e) else Certainty.FOUND
    return _finding(e, who, certainty, [one for found in odd.values() for one in found], clients)


def _everywhere(e: Evidence) -> Finding | None:
    told = by_client(e, trusted)
    every = [one for found in told.values() for one in found]
    said = e.evaluating is not None and e.evaluating.matches == "test"
    if len(told) < 2 or not ails(e) or not said or any(one.changed <= CHANGED for one in every):
        return None
    return _finding(e, "All clients train", Certainty.FOUND, every, ())


def _finding(e: Evidence, who: str, certainty: Certainty, every: list[Paired], clients: tuple[int, ...]) -> Finding:
    changed, torn = median(one.changed for one in every), median(one.torn for one in every)
    mixed = torn > TORN * changed
    told = f"{percent(changed)}, {percent(torn)} by no renaming"
    return Finding(
        "L2" if mixed else "L1",
        certainty,
        f"{who} on inputs with other labels than their data hold them with: {percent(changed)} of those looked at.",
        (Measured("labels in training that are not the input's own", "M29", told, "0 %"),),
        "Move inputs and labels together, in one order; rename classes in one place, by one table for all clients.",
        also=("L1", "D5") if mixed else ("L2",),
        treatment="drop-clients" if clients else "",
        clients=clients,
        where=place(e, "fit"),
        weight=max(misses(e), 0.1),
        hides=frozenset({"A9", "P1", "C1", "S4", "K1", "O1", "H8"}),
    )
