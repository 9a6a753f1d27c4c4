"""D3: inputs of raw scale."""

from __future__ import annotations

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.symptom import ails, misses

LARGE = 20.0  # standardised inputs rarely leave +-5, images in [0, 1] never leave 1


def inputs_are_raw(e: Evidence) -> Finding | None:
    """D3: values of 0 to 255 or of log-normal tables blow up the first layer.

    Measured by M17, the range of the inputs; a healthy network is fed values of size 1. Only named where the job ails:
    a network with a norm layer in front takes any scale, and indices of words are no values. That only a rate ten times
    smaller can bear them is the proof: the rate is too large for these inputs.
    """
    if e.data is None or not e.data.inputs:
        return None
    ranges = {client: max(abs(one.low), abs(one.high)) for client, one in e.data.inputs.items() if not one.indices}
    wide = [client for client, width in ranges.items() if width > LARGE]
    if not wide or 2 * len(wide) < len(ranges) or e.data.scaled or not ails(e):
        return None
    largest, x = max(ranges.values()), e.trials
    smaller = x is not None and x.rate is not None and x.best_rate is not None and 9 * x.best_rate < x.rate
    return Finding(
        "D3",
        Certainty.SUPPORTED if smaller else Certainty.CONSISTENT,
        f"The network is fed raw values of up to {largest:.3g} at {len(wide)} of {len(ranges)} clients.",
        (Measured("largest input", "M17", f"{largest:.3g}", f"below {LARGE:g}"),),
        "Scale the inputs: divide images by 255, standardise tables with statistics of the training data.",
        also=("O2",) if smaller else (),
        treatment="rescale",
        weight=misses(e) + 0.01,  # a consequence, the rate gains no more
        hides=frozenset({"O2", "K1", "K5", "A9"}) if smaller else frozenset(),
    )
