"""V1 and V4: noise too large for the cohort, and for a bound that is too large."""

from __future__ import annotations

from fedlens.diagnosis.evidence import Evidence, Visit
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.privacy.amount import HEAVY, accumulated, in_uploads, ratio
from fedlens.diagnosis.signs.reading import (
    HONEST,
    effect,
    gained,
    lines,
    middle,
    noisy,
    number,
    place,
    points,
    severity,
    underperforms,
    visits,
)

DROWNED = HONEST | {"E10"}
FULL = 2  # rounds in which uploads are looked at closely
LOOSE = 3.0  # clip by the median update from which the bound, and so the noise, is too large


def noise_drowns_updates(e: Evidence) -> Finding | None:
    """V1: the noise on the mean is larger than what the rounds add up to; V4: because the bound is far too loose.

    Measured by M21, noise by signal over sqrt(rounds), and by the same job without noise (M20). Healthy: below 2; a
    ratio above 1 in one round is no fault. Noise that nobody declared is found where it is that large.
    """
    if (found := _in_every_upload(e)) is not None:
        return found
    over, once, off = accumulated(e), ratio(e), effect(e, "noise-off")
    if over is None or once is None:
        return None
    proven = off is not None and off.clear
    a = e.aggregation
    if not noisy(e):
        hidden = over > HEAVY and a is not None and a.noise > 0
        certainty = Certainty.FOUND if hidden else Certainty.NOTED
    elif underperforms(e) and (proven or over > HEAVY):
        certainty = Certainty.SUPPORTED if proven else Certainty.CONSISTENT
    elif once > 1:
        certainty = Certainty.NOTED
    else:
        return None
    loose = _loose(e) if certainty else None
    said, z = "declared" if noisy(e) else "declared nowhere", e.facts.declared.dp.get("noise", 0.0)
    size = middle(visit.norm for visit in visits(e))
    calm = z * min(1.0, HEAVY / 4 / over)
    return Finding(
        "V4" if loose else "V1",
        certainty,
        f"Noise ({said}) is {number(once)} times the mean update in a round, {number(over)} times over all rounds"
        + (f": the bound is {number(loose)} times the median update." if loose else ".")
        + (f" Without it the reference gains {points(off.gain)}." if proven and off is not None else ""),
        lines(
            Measured("noise by signal, accumulated", "M21", number(over), f"below {HEAVY:g}"),
            Measured("bound by median update", "M22", number(loose), "about 1") if loose else None,
            gained(e, "noise-off", "without noise"),
        ),
        (
            f"Lower the bound to the median update, {number(size or 0.0)}: the noise falls with it."
            if loose
            else f"Ask more clients a round, or lower the noise (to about {number(calm)}), and state the new "
            "epsilon; train fewer parameters or rounds."
        ),
        source="McMahan et al. 2018; Andrew et al. 2021",
        also=("V1",) if loose else ("V4",) if _loose(e) else (),
        treatment="clip=median" if loose else f"noise={calm:.3g}" if noisy(e) else "reference-aggregator",
        where=place(e, "fit" if in_uploads(e) else "aggregate"),
        weight=severity(e) if certainty else 0.0,
        hides=(DROWNED if noisy(e) else DROWNED | {"V3"}) if certainty else frozenset(),
    )


def _loose(e: Evidence) -> float | None:
    """The declared clip by the median update, where it is far too large and the noise scales with it."""
    clip, usual = e.facts.declared.dp.get("clip"), middle(visit.norm for visit in visits(e))
    if not clip or not usual or not noisy(e) or in_uploads(e):
        return None
    return clip / usual if clip > LOOSE * usual else None


def _reach(visit: Visit) -> float:
    """How far steps that are scaled entry by entry (Adam and its kin) move each entry at most: all by about as much."""
    seen = visit.watched
    return sum(seen.rates) if seen.optimizer not in (None, "SGD") else 0.0


def _in_every_upload(e: Evidence) -> Finding | None:
    """Uploads that are noise by their looks, which nobody declared: one spread in all entries, and tails like a bell's.

    Healthy updates differ from entry to entry by factors.
    """
    seen = [visit for one in e.rounds[:FULL] for visit in one.visits if visit.finite and visit.norm > 0]
    noise = [visit.noise for visit in seen if visit.noise > _reach(visit)]
    if noisy(e) or e.facts.declared.dp or len(noise) < 2 or 2 * len(noise) < len(seen):
        return None
    spread = middle(noise) or 0.0
    return Finding(
        "V1",
        Certainty.FOUND,
        f"{len(noise)} of {len(seen)} uploads are noise that is declared nowhere: every entry of them has the standard "
        f"deviation {number(spread)}.",
        (Measured("uploads whose numbers are alike in all entries, as noise is", "M21", f"{len(noise)}", "none"),),
        "Declare the noise, bound updates before it, and make it small beside the mean update; or take it out.",
        source="McMahan et al. 2018",
        also=("V3",),
        treatment="reference-client",
        where=place(e, "fit"),
        weight=severity(e),
        hides=DROWNED | {"A9", "C2", "X1", "V3"},
    )
