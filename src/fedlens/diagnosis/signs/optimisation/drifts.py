"""O3: the rate in use is not the rate that was set."""

from __future__ import annotations

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.reading import number, place, rounds_watched
from fedlens.diagnosis.signs.symptom import misses

APART = 1.3  # rates of one round's clients, largest by smallest


def rate_drifts(e: Evidence) -> Finding | None:
    """O3: a rate that is scaled by a client's size and written back compounds; a schedule steps at every client.

    Measured by M30, the rate inside the optimiser at every step. Healthy: all clients of a round begin with one rate,
    the declared one, and it does not grow from round to round.
    """
    firsts = [[v.watched.rates[0] for v in one.visits if v.watched.rates] for one in rounds_watched(e) or e.rounds]
    firsts = [[rate for rate in rates if rate > 0] for rates in firsts]
    every = [rate for rates in firsts for rate in rates]
    if not every:
        return None
    spread = max((max(rates) / min(rates) for rates in firsts if rates), default=1.0)
    means = [sum(rates) / len(rates) for rates in firsts if rates]
    growth = means[-1] / means[0]
    said, begun = e.facts.declared.lr, every[0]
    wrong = said is not None and said > 0 and not 0.99 < begun / said < 1.01
    if spread < APART and growth < APART and not wrong:
        return None
    what = f"Clients train at rates from {number(min(every))} to {number(max(every))}"
    if wrong and spread < APART and growth < APART:
        what = f"Clients begin with a rate of {number(begun)}, declared is {number(said or 0.0)}"
    return Finding(
        "O3",
        Certainty.FOUND,
        what + ".",
        (
            Measured("rates of one round's clients, largest by smallest", "M30", number(spread), "1"),
            Measured("mean rate of the last round watched by the first's", "M30", number(growth), "at most 1"),
        ),
        "Compute each client's rate from the round alone; never write it back into shared settings.",
        treatment=f"rate={number(said or begun)}",
        where=place(e, "fit"),
        weight=max(misses(e), 0.1),
        hides=frozenset({"O1", "O2", "A9", "P1", "O9", "C1", "K5"}),
    )
