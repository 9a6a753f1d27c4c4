"""X2: weights are rounded too coarsely."""

from __future__ import annotations

import math

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.reading import (
    HONEST,
    effect,
    gained,
    half,
    is_parameter,
    lines,
    lost,
    middle,
    number,
    percent,
    place,
    points,
    rounds_watched,
    severity,
    underperforms,
    visits,
)

TAKEN = 0.4  # of the mean update, from which rounding costs accuracy: none at 0.2, 4 points at 0.5, 12 at 0.8
FINE = 1e-4  # of a grid: numbers in half precision lie on one of such steps too
HALF = 65504.0  # the largest number of half precision


def weights_are_rounded(e: Evidence) -> Finding | None:
    """X2: weights instead of updates are quantised, and updates smaller than half a step vanish; or half precision
    overflows.

    Measured by the grid on which the aggregate lies, and by an aggregate that is exactly 0 while clients move. Healthy:
    no grid. A declared codec may have one, as long as something arrives.
    """
    a, rounds, codec = e.aggregation, rounds_watched(e), e.facts.declared.codec
    sent = [v.grid for v in visits(e)]
    client = min(sent, default=0.0)  # 0 where any upload lies on none
    step = max([one.grid for one in rounds] + [client, a.grid if a is not None and a.grid != 1.0 else 0.0])
    still = sum(one.moved == 0 and any(v.norm > 0 for v in one.visits) for one in rounds)
    stuck = (step > 0 and still > 0) or (codec is not None and still > 1)
    off = effect(e, "codec-off")
    if (kind := half(e)) and codec is None and not still and step < FINE:
        return _in_half(e, kind)
    if _overflows(e) or stuck or (codec is None and step > client):
        certainty = Certainty.FOUND
    elif codec is None and client > 0:  # clients round what they send: it may be fine enough
        certainty = Certainty.FOUND if underperforms(e) else Certainty.NOTED
    elif codec is not None and off is not None and off.clear and underperforms(e) and step > 0:
        certainty = Certainty.SUPPORTED
    else:
        return None
    arrive = f"; in {still} of {len(rounds)} rounds nothing of the updates arrived" if still else ""
    says = f"The aggregate lies on a grid of {number(step)}{arrive}."
    if _overflows(e):
        says = f"Weights became infinite in the type that they are sent in (half precision ends at {HALF:.0f})."
    elif not step:
        says = f"In {still} of {len(rounds)} rounds the model did not move at all, though clients did."
    elif off is not None and off.clear:
        says = says[:-1] + f"; without the codec the reference gains {points(off.gain)}."
    return Finding(
        "X2",
        certainty,
        says,
        lines(
            Measured("step between values of the aggregate", "M04", number(step), "none"),
            Measured("rounds in which the model did not move", "M02", f"{still} of {len(rounds)}", "none"),
            gained(e, "codec-off", "without compression"),
        ),
        "Quantise updates, not weights, with a scale of their own and stochastic rounding, or in more bits.",
        source="Reisizadeh et al. 2020 (FedPAQ); Alistarh et al. 2017",
        treatment="reference-aggregator" if a is not None and a.grid else "reference-client",
        where=place(e, "aggregate" if a is not None and a.grid else "fit"),
        weight=severity(e, 0.25) if certainty is Certainty.FOUND else lost(e) if certainty else 0.0,
        hides=HONEST | {"A1", "A6", "B2", "E5", "A2"},
    )


def _in_half(e: Evidence, kind: str) -> Finding:
    """The model is rounded to half precision after every round: harmless, unless updates are as small as its steps."""
    taken = middle(one.residual for one in rounds_watched(e)) or 0.0
    return Finding(
        "X2",
        Certainty.FOUND if taken > TAKEN else Certainty.NOTED,
        f"The model is rounded to {kind} after every round, which takes or adds {percent(taken)} of the mean update.",
        (Measured("what rounding takes from the mean update", "M02", percent(taken), "0"),),
        "Keep the model in single precision at the server, and round only what travels.",
        source="Micikevicius et al. 2018",
        also=("A2",),
        treatment="reference-aggregator",
        where=place(e, "aggregate"),
        weight=severity(e, 0.15) if taken > TAKEN else 0.0,
        hides=HONEST | {"A1", "A6", "B2", "E5", "A2", "X1"} if taken > TAKEN else frozenset(),
    )


def _overflows(e: Evidence) -> bool:
    """Whether parameters came back in another type and not finite, while the loss was finite."""
    return any(
        not v.finite
        and any(is_parameter(e, name) for name in v.retyped)
        and v.watched.loss_last is not None
        and math.isfinite(v.watched.loss_last)
        for v in visits(e)
    )
