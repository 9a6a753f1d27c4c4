"""From findings to a verdict: what outranks what, what is ruled out, and by which number."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding
from fedlens.diagnosis.signs.reading import chance_skew, dealt_by_chance

MOST = 3  # suspects on a page: more are no answer
# What honest data does to a sound job; never the cause while something exact is broken.
HETEROGENEITY = frozenset({"P1", "C1", "C3", "N2", "S3", "S4", "O9"})


class RuledOut(NamedTuple):
    """A cause that was looked for and is not there, with the number that says so."""

    what: str
    number: str


def judged(findings: Sequence[Finding]) -> tuple[tuple[Finding, ...], tuple[Finding, ...]]:
    """The suspects, surest and heaviest first, and what is only noted."""
    exact = [one for one in findings if breaks(one)]
    standing = []
    for one in findings:
        hidden = any(one.cause in other.hides and _above(other, one) for other in findings)
        honest = one.cause in HETEROGENEITY and one.certainty is not Certainty.FOUND
        if not hidden and not (exact and (honest or one.certainty is Certainty.CONSISTENT)):
            standing.append(one)
    suspects = [one for one in standing if one.certainty is not Certainty.NOTED]
    suspects.sort(key=lambda one: (-one.certainty, -one.weight))
    once = [one for at, one in enumerate(suspects) if one.cause not in {other.cause for other in suspects[:at]}]
    noted = [one for one in standing if one.certainty is Certainty.NOTED]
    return tuple(once[:MOST]), (*once[MOST:], *noted)


def breaks(one: Finding) -> bool:
    """Whether something exact is broken that a model may fall short by; a wrong report, or known examples, is not."""
    explains_nothing = one.cause.startswith("E") or one.cause in ("D6", "D9", "P2", "P3")
    return one.certainty is Certainty.FOUND and not explains_nothing


def _above(other: Finding, one: Finding) -> bool:
    """Whether `other` may hide `one`: it is at least as sure, and of two that hide each other it is the first."""
    if other is one or other.certainty < one.certainty:
        return False
    return other.cause not in one.hides or other.certainty > one.certainty or other.weight > one.weight


def ruled_out(e: Evidence, suspects: Sequence[Finding]) -> tuple[RuledOut, ...]:
    """What the evidence excludes, in the order of the examination; never a named suspect."""
    named = {one.cause[0] for one in suspects} | {one.cause for one in suspects}
    return tuple(one for key, one in _excluded(e) if key not in named)


def _excluded(e: Evidence) -> Iterator[tuple[str, RuledOut]]:
    starts = [v.watched.start for r in e.rounds for v in r.visits if v.watched.start is not None]
    if starts and max(starts) < 1e-6:
        yield (
            "B1",
            RuledOut("clients start elsewhere", f"start distance {max(starts):.0e} in {len(starts)} visits (M01)"),
        )
    a = e.aggregation
    if a is not None and a.residual < 1e-3 and a.weights and len(a.weights) == len(a.wanted):
        worst = max(abs(one - other) for one, other in zip(a.weights, a.wanted, strict=True))
        if worst < 1e-3:
            yield "A", RuledOut("aggregation", f"effective weights within {worst:.0e} of the declared ones (M03)")
    if e.labels is not None and not e.labels.mapped and e.labels.gain:
        best = max(e.labels.gain.values())
        yield "L", RuledOut("labels that differ by client", f"best relabelling gains {best:.2f} (M16)")
    if e.labels is not None and e.labels.learnable > e.labels.chance + 5 * e.labels.error:
        learnable = (
            f"a simple probe reaches {100 * e.labels.learnable:.1f} %, chance {100 * e.labels.chance:.1f} % (M15)"
        )
        yield "D5", RuledOut("data without signal", learnable)
    if e.learning is not None and (e.learning.overfit or 0.0) >= 0.95:
        yield (
            "H",
            RuledOut("loss and head", f"one batch is overfitted to {100 * (e.learning.overfit or 0):.0f} % (M13)"),
        )
    yield from _without_effect(e)
    if e.participation is not None and e.participation.distinct >= 0.9 * e.participation.expected:
        asked = f"{e.participation.distinct} of {e.facts.clients} clients are asked (M23)"
        yield "S", RuledOut("participation", asked)


EFFECTS = (
    ("P1", "iid", "heterogeneity", "dealing again IID"),
    ("O1", "lr*3", "a rate too small", "three times the rate"),
    ("O2", "lr/3", "a rate too large", "a third of the rate"),
    ("C1", "fewer-steps", "drift by local steps", "fewer local steps at equal samples"),
    ("V1", "noise-off", "privacy noise", "no noise"),
    ("X", "codec-off", "compression", "no compression"),
    ("N2", "norm-group", "batch norm", "group norm"),
)


def _without_effect(e: Evidence) -> Iterator[tuple[str, RuledOut]]:
    for cause, knob, what, change in EFFECTS:
        effect = None if e.trials is None else e.trials.effects.get(knob)
        whole = None if e.trials is None or cause != "P1" else e.trials.whole
        if effect is not None and effect.clear and whole is not None:
            early = f"dealing again: {100 * effect.gain:+.1f} points early"
            yield cause, RuledOut(what, f"{early}, {100 * whole.gain:+.1f} ± {100 * whole.error:.1f} in the end")
        if effect is None and cause == "P1" and e.data is not None and dealt_by_chance(e):
            most = f"as random deals are, {e.data.skew_null:.3f} to {chance_skew(e.data):.3f}"
            far = f"clients' labels are {e.data.skew:.3f} from the whole, {most} (M11)"
            yield cause, RuledOut(what, far if e.facts.clients > 1 else "one client holds all data")
        if effect is not None and not effect.clear:
            number = f"{change}: {100 * effect.gain:+.1f} ± {100 * effect.error:.1f} points, n = {effect.n}"
            yield cause, RuledOut(what, number)
