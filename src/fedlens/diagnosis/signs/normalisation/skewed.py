"""N2: batch norm suffers from skewed or tiny batches."""

from __future__ import annotations

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.reading import (
    early_only,
    effect,
    gained,
    lines,
    middle,
    noise,
    percent,
    points,
    statistics,
    statistics_gap,
    underperforms,
    visits,
)

TINY = 4  # examples a batch
OF_ALL = frozenset({"K1", "K5", "O1", "O2"})  # what tiny batches look like, in pooled training too


def batch_norm_suffers(e: Evidence) -> Finding | None:
    """N2: statistics of skewed or tiny batches fit nobody.

    Measured by M20 and M34: group norm in its place, or statistics taken anew, gain in paired trials; and the gap
    between running and batch statistics, or the size of batches, agrees. Healthy: neither gains. Group norm does not
    always win, so that only the trial counts. Where it gains as much as dealing again IID, skew harms by this alone.
    """
    if not statistics(e) or not underperforms(e):
        return None
    swap, anew = effect(e, "norm-group"), effect(e, "recalibrated")
    best = max((x for x in (swap, anew) if x is not None and x.clear), key=lambda x: x.gain, default=None)
    gap = statistics_gap(e)
    sizes = [size for v in visits(e) for size in v.watched.batches]
    error = e.trials.error if e.trials is not None else 0.0
    told = (gap is not None and gap > max(0.02, 3 * error)) or (bool(sizes) and min(sizes) <= TINY)
    if best is None or not (told or (anew is not None and anew.clear)):
        return None
    dealt = effect(e, "iid")
    explains = dealt is None or best.gain > dealt.gain - noise(e)  # even what dealing again would gain
    alone = best is swap and tiny_batches(e)  # wherever the data are
    what = "group norm in its place gains" if best is swap else "statistics taken anew gain"
    spread = None if gap is None else Measured("batch statistics against running ones", "M27", percent(gap), "about 0")
    return Finding(
        "N2",
        Certainty.CONSISTENT if early_only(e) else Certainty.SUPPORTED,
        f"Batch norm suffers from what clients' batches are: {what} {points(best.gain)}.",
        lines(
            gained(e, "norm-group", "group norm instead"),
            gained(e, "recalibrated", "statistics recalibrated"),
            spread,
        ),
        "Take the variant that gained: group norm, or statistics recalibrated after the rounds; or larger batches.",
        source="Hsieh et al. 2020; Wu and He 2018",
        treatment="norm-group" if best is swap else "recalibrated",
        weight=best.gain,
        hides=(frozenset({"P1", "C1", "S4"}) if explains else frozenset()) | (OF_ALL if alone else frozenset()),
    )


def tiny_batches(e: Evidence) -> bool:
    """Whether norm layers take most of their statistics from a handful of examples: then pooled training fails too."""
    return bool(statistics(e)) and (middle(size for v in visits(e) for size in v.watched.batches) or TINY + 1) <= TINY
