"""V2: updates are clipped too far."""

from __future__ import annotations

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.mean import clipped_to, leaks, made_up
from fedlens.diagnosis.signs.privacy.amount import bounded
from fedlens.diagnosis.signs.reading import (
    HONEST,
    effect,
    gained,
    lines,
    lost,
    middle,
    noisy,
    number,
    percent,
    place,
    points,
    severity,
    underperforms,
    visits,
)

TIGHT = 0.1  # bound by the median update (M22)


def updates_are_clipped(e: Evidence) -> Finding | None:
    """V2: a bound far below the updates' size lets the model move by crumbs.

    Measured by M22 and M03: an upload's coefficient falls as its norm rises (a server's rate is one number for all), or
    clients' updates all have exactly one norm. A bound that nobody declared breaks M02 and is found; a declared one
    takes a trial without it. Healthy: the bound is about the median norm.
    """
    said, a = e.facts.declared, made_up(e)
    declared, server, client = said.dp.get("clip"), clipped_to(e), bounded(e)
    hidden = not said.dp and (server is not None or (a is not None and a.rule == "norm-clip"))
    bound = declared or server or client
    norms = [visit.norm for visit in visits(e) if visit.norm > 0]
    usual, off = middle(norms), effect(e, "clip-off")
    share = sum(norm > 0.999 * bound for norm in norms) / len(norms) if bound and norms else 0.0
    if hidden and (leaks(e) or not e.rounds):
        certainty = Certainty.FOUND
    elif declared is None:
        if client is None and not hidden:
            return None
        certainty = Certainty.FOUND if underperforms(e) and client is not None else Certainty.NOTED
    elif not underperforms(e) or share <= 0.9:
        return None
    elif off is not None and off.clear:
        certainty = Certainty.SUPPORTED
    elif usual and (declared < TIGHT * usual or client is not None) and off is None:
        certainty = Certainty.CONSISTENT
    else:
        return None
    exact = certainty is Certainty.FOUND
    told = number(bound) if bound else "a bound"
    gain = f" Without it the reference gains {points(off.gain)}." if off is not None and off.clear else ""
    return Finding(
        "V2",
        certainty,
        f"Updates are clipped to {told}{'' if said.dp else ', which nobody declared'}: {percent(share)} of them are "
        f"cut.{gain}",
        lines(
            Measured("bound, and the median update", "M22", f"{told}, {number(usual or 0.0)}", "about equal"),
            Measured("updates that are cut", "M22", percent(share), "about half"),
            gained(e, "clip-off", "without the bound"),
        ),
        "Set the bound to the median norm of the updates, and declare it.",
        source="Andrew et al. 2021",
        treatment="clip=median" if noisy(e) else "no-clip",
        where=place(e, "aggregate" if client is None else "fit"),
        weight=severity(e, 0.2) if exact else lost(e) if certainty else 0.0,
        hides=HONEST | {"A6", "A1", "A3", "A12"} if exact else HONEST if certainty else frozenset(),
    )
