"""A3: uploads are weighted in another way than declared."""

from __future__ import annotations

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.mean import fault, leaks
from fedlens.diagnosis.signs.reading import listed, lost, place, row


def weighting_is_another(e: Evidence) -> Finding | None:
    """A3: a uniform mean where weights by examples are declared, or the other way round.

    Measured by M03: the coefficients are equal although the counts are not (or follow them). Healthy: as declared; a
    job that declares no weighting may have either, and clients of one size make both the same, which is noted.
    """
    found = fault(e)
    if found is None or found.cause != "A3":
        return _counts_say_nothing(e)
    by = e.facts.declared.weighting or "examples"
    is_now = "equally" if by == "examples" else "by their examples"
    counts = row(found.seen.examples)
    harmless = found.seen.round is None and not leaks(e) and _even(e)  # uploads that were made up differ, real ones not
    return Finding(
        "A3",
        Certainty.NOTED if harmless else Certainty.FOUND,
        f"Uploads are weighted {is_now} ({row(found.seen.weights)}), declared is by {by}.",
        (Measured(f"effective weights of uploads of {counts} examples", "M03", row(found.seen.weights), f"by {by}"),),
        "Weight as declared, n_i / sum n by examples and 1 / m uniformly, or declare the weighting that is meant.",
        source="McMahan et al. 2017, algorithm 1",
        treatment="reference-aggregator",
        where=place(e, "aggregate"),
        weight=max(0.03, lost(e, "own_clients")),
        hides=frozenset({"O9", "N3"}),
    )


def _counts_say_nothing(e: Evidence) -> Finding | None:
    """Clients report one number of examples for all although they hold different ones."""
    wrong = e.handling.examples_wrong if e.handling is not None else {}
    said, held = [told for told, _ in wrong.values()], [true for _, true in wrong.values()]
    said_of = e.facts.declared
    told_by_steps = said_of.steps is not None or said_of.weighting != "examples"
    if len(wrong) < 3 or told_by_steps or max(said) != min(said) or max(held) < 1.5 * max(1, min(held)):
        return None
    sizes = f"{min(held)} to {max(held)}"
    return Finding(
        "A3",
        Certainty.FOUND,
        f"Clients of {sizes} examples all report {said[0]:g}: weights by examples become uniform ones.",
        (Measured(f"reported examples of clients {listed(list(wrong))}", "M30", f"{said[0]:g}", sizes),),
        "Report the number of training examples with every upload.",
        source="catalogue",
        where=place(e, "fit"),
        weight=0.03,
        hides=frozenset({"O9"}),
    )


def _even(e: Evidence) -> bool:
    """Whether all clients of the rounds watched have as many examples: then weights by examples are equal weights."""
    shares = [(one.wanted, len(one.wanted)) for one in e.rounds if one.wanted]
    told = {visit.examples for one in e.rounds for visit in one.visits}
    even = all(abs(share - 1 / m) < 0.01 / m for wanted, m in shares for share in wanted)
    return bool(shares) and even and bool(told) and max(told) <= 1.05 * min(told)
