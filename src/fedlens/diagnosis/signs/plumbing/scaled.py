"""A6: all clients send a multiple of what they trained, and nothing makes up for it."""

from __future__ import annotations

from statistics import median

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.arriving import NEAR, arriving, multiples
from fedlens.diagnosis.signs.mean import averages, clipped_to, fault
from fedlens.diagnosis.signs.privacy.amount import bounded
from fedlens.diagnosis.signs.reading import HONEST, number, place, rounds_watched, severity, underperforms

LEAST, MOST = 0.2, 2.0  # of what was trained: between them means over steps may lie, which are no fault by themselves


def updates_are_scaled(e: Evidence) -> Finding | None:
    """A6: updates are divided by the number of examples, of clients, or twice, before they are sent.

    Measured by M30, the trained change in what is sent, times M03, the coefficient of each upload: together they are
    what of all training arrives. Healthy: the server's rate, also where clients weigh their updates and the server
    divides by the sum of these weights. Bounds have a sign of their own; what is beside the trained change is another.
    """
    said = e.facts.declared
    if not averages(e) or said.dp or said.codec is not None or said.server_momentum:
        return None
    arrived = [sum(shares) for one in rounds_watched(e) if (shares := arriving(e, one))]
    if len(arrived) < 2 or bounded(e) is not None or clipped_to(e) is not None or fault(e) is not None:
        return None
    total, rate = median(arrived), said.server_lr
    sent = [along for one in rounds_watched(e) for along in multiples(e, one)]
    few = 2 * sum(abs(one - 1) < NEAR for one in sent) >= len(sent)  # then it is a matter of some clients: A9
    if few or any(abs(total - one) < NEAR * abs(one) for one in (rate, 1.0)):
        return None
    plain = LEAST * abs(rate) < total < MOST * abs(rate)
    if plain and not underperforms(e):
        return None
    low, high = number(min(sent)), number(max(sent))
    told = low if low == high else f"{low} to {high}"
    return Finding(
        "A6",
        Certainty.CONSISTENT if plain else Certainty.FOUND,
        f"Clients send {told} times what they trained, and the server does not make up for it: {number(total)} times "
        f"the mean trained change arrives, declared is {number(rate)}.",
        (
            Measured("the trained change in what is sent", "M30", told, "1"),
            Measured("the trained change in the model's", "M03", number(total), number(rate)),
        ),
        "Divide once: send weights as they are after the last step, or their difference, and weight them at the "
        "server.",
        source="McMahan et al. 2017, algorithm 1",
        also=("A1", "A12"),
        treatment="reference-client",
        where=place(e, "fit"),
        weight=severity(e, 0.3),
        hides=HONEST | {"V2", "A9"},
    )
