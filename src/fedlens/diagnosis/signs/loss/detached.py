"""H5: backward on something that leads to no parameter."""

from __future__ import annotations

from fedlens.diagnosis.evidence import Evidence, Visit
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.few import FEW, by_client
from fedlens.diagnosis.signs.reading import HONEST, listed, place, severity
from fedlens.diagnosis.signs.symptom import ails

LEAST = 2  # visits
HIDDEN = HONEST | {"H7", "H8", "H4", "K3", "O8", "B4", "B2", "D5", "D7", "E5", "E10", "X1"}
ALSO = ("H8", "H7", "O8", "B4")
REMEDY = (
    "Call backward on the value that the loss function returns; make no tensor of it anew (torch.tensor, .item(), "
    ".detach(), argmax), and train outside torch.no_grad()."
)


def loss_has_no_gradient(e: Evidence) -> Finding | None:
    """H5: a loss that was wrapped anew, taken as a number, or made of decisions trains nothing.

    Measured by M30: backward was called and steps were taken at a rate above 0, no parameter had a gradient or all had
    one of exactly 0, and what was sent came back; and by M14, the same of the author's network and loss apart from any
    client. Healthy: some parameter has a gradient at every step.
    """
    told = by_client(e, _in_vain)
    idle = tuple(sorted(client for client, said in told.items() if all(said)))
    count = sum(len(told[client]) for client in idle)
    everyone = bool(idle) and len(idle) == len(told)
    if count < LEAST or (not everyone and len(idle) > FEW * len(told)):
        return _apart(e) if not idle else None
    who = "" if everyone else f" of clients {listed(idle)}"
    return Finding(
        "H5",
        Certainty.FOUND,
        f"The loss{who} leads to no parameter: backward gave none of them a gradient in {count} visits with steps.",
        (Measured("visits with steps in which a parameter has a gradient", "M30", f"0 of {count}", "all"),),
        REMEDY,
        also=ALSO,
        treatment="reference-client",
        clients=() if everyone else idle,
        where=place(e, "fit"),
        weight=severity(e, 0.4 if everyone else 0.1),
        hides=HIDDEN,
    )


def _in_vain(visit: Visit) -> bool | None:
    """Whether a visit's steps had no gradient to go by; None: it is not known."""
    w = visit.watched
    if w.loss_first is None or not w.steps or not any(rate > 0 for rate in w.rates) or not visit.finite:
        return None
    return not w.gradient_norm and (visit.norm == 0 or (w.gradient_norm == 0 and bool(w.unused)))


def _apart(e: Evidence) -> Finding | None:
    """The same of the network and the loss alone, where nothing is heard of clients' steps."""
    if e.learning is None or not ails(e) or by_client(e, _in_vain):
        return None
    asks = [name for name in e.facts.of_kind("parameter") if name not in e.learning.frozen]
    if not asks or not set(asks) <= set(e.learning.zero_gradients):
        return None
    return Finding(
        "H5",
        Certainty.FOUND,
        f"The loss has no gradient: that of all {len(asks)} parameters is exactly 0.",
        (Measured("parameters with gradient exactly 0", "M14", f"{len(asks)} of {len(asks)}", "0"),),
        REMEDY,
        also=ALSO,
        weight=severity(e, 0.4),
        hides=HIDDEN,
    )
