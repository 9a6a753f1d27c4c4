"""C1: local training goes too far between two means."""

from __future__ import annotations

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.reading import (
    early,
    early_only,
    effect,
    gained,
    lasting,
    lines,
    middle,
    number,
    points,
    underperforms,
)

LOW = 0.5  # coherence of early updates; IID has 0.38 to 0.65
LEAST = 0.03  # accuracy that fewer steps must gain to be an answer


def clients_drift(e: Evidence) -> Finding | None:
    """C1: many local steps on different data end far apart, and their mean is worse than any.

    Measured by M20, fewer local steps at equal samples, in paired trials; and by M08 and M09, early updates that
    disagree and whose mean gains less than they do. Healthy: fewer steps gain nothing, which is also common with skewed
    data, or nothing that lasts over all of the job's rounds. Late updates are orthogonal everywhere and say nothing.
    """
    fewer = effect(e, "fewer-steps")
    if fewer is None or not fewer.clear or fewer.gain < LEAST or not (underperforms(e) and lasting(e)):
        return None
    coherence, kept = middle(one.coherence for one in early(e)), _transfer(e)
    if (coherence is None or coherence > LOW) and (kept is None or kept > 0.7):
        return None
    momentum, whole = effect(e, "server-momentum"), None if e.trials is None else e.trials.whole
    # The re-deal over all rounds bounds what any remedy for skew can gain; an early gain alone is a head start.
    lasts = fewer.gain if whole is None else min(fewer.gain, whole.gain)
    early_gain = whole is not None and lasts < fewer.gain
    when = f" early, of which at most {points(lasts)} can last" if early_gain else ""
    lesser = [("server-momentum", "momentum on the server"), ("scaffold", "control variates")]
    return Finding(
        "C1",
        Certainty.CONSISTENT if early_only(e) or early_gain else Certainty.SUPPORTED,
        f"Clients drift apart within a round: half the local steps, at equal samples, gain {points(fewer.gain)}{when}.",
        lines(
            gained(e, "fewer-steps", "half the local steps, equal samples"),
            Measured("coherence of early updates", "M08", number(coherence), "relative to IID") if coherence else None,
            *(gained(e, knob, title) for knob, title in lesser),
        ),
        "Average after fewer local steps, or let the server take momentum, or correct the drift (SCAFFOLD).",
        source="Karimireddy et al. 2020",
        also=("P1",),
        treatment="server-momentum=0.9" if momentum is not None and momentum.clear else "fewer-steps",
        weight=lasts,
    )


def _transfer(e: Evidence) -> float | None:
    """What the mean gains of what clients gain on their own data, in early rounds."""
    told = []
    for one in early(e):
        own = [v.gain for v in one.visits if v.gain is not None]
        local = sum(own) / len(own) if own else 0.0
        if one.gain is not None and local > 0.02:
            told.append(one.gain / local)
    return middle(told)
