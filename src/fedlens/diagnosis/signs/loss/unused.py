"""H5: a declared term of the objective that trains nothing."""

from __future__ import annotations

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.loss.proximal import named
from fedlens.diagnosis.signs.reading import number, place, visits

# Methods whose clients have a term of their own in the objective, by a part of the name.
WITH_TERM = ("prox", "moon", "ntd", "feddyn", "contrast")
SEEN = 1e-6  # what an objective must add to the loss, relative to it, to be more than rounding


def declared_term_is_unused(e: Evidence) -> Finding | None:
    """H5: the term is never added, or is made of tensors without gradients: training equals that without it.

    Measured in the graph of every objective: no way leads to a parameter but through the supervised loss, gradients at
    the step are those of the backward call, and nobody else moves weights. Healthy: one way at least. A gradient that
    is changed by hand counts as a term, and optimisers of the author's own are not judged.
    """
    said = e.facts.declared
    if not (said.mu or 0.0) > 0 and not any(part in named(said.method) for part in WITH_TERM):
        return None
    seen = [visit.watched for visit in visits(e) if visit.watched.loss is not None]
    if not seen or any(one.beside is not False for one in seen):
        return None
    most = max((abs(extra) for one in seen for _, extra in one.extra), default=0.0)
    there = most > SEEN * max(1.0, *(abs(one.loss_first or 0.0) for one in seen))
    term = f"The declared term{f' (mu = {number(said.mu)})' if said.mu else ''}"
    return Finding(
        "H5",
        Certainty.FOUND,
        f"{term} has a value (up to {number(most)}) and no gradient: it trains nothing."
        if there
        else f"{term} is not in the objective: clients train the supervised loss alone.",
        (
            Measured("ways to a parameter beside the supervised loss", "M14", f"0 in {len(seen)} visits", "1 or more"),
            Measured("largest value added to the supervised loss", "M14", number(most), "above 0"),
        ),
        "Build the term from the parameters themselves (model.parameters(), not state_dict(), .data or detached "
        "copies), and add it to the loss before backward.",
        where=place(e, "fit"),
        weight=0.2,
        silent=True,
    )
