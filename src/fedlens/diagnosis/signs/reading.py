"""How signs read evidence: whether the job falls short, what an entry is, and how numbers are worded.

Accuracies and gains are fractions of 1 (0.05 is five points). Every function takes evidence with any part missing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from statistics import median

from fedlens.diagnosis.evidence import DataAudit, Effect, Evidence, Outcome, Round, Visit
from fedlens.diagnosis.evidence.facts import Kind
from fedlens.diagnosis.finding import Measured

EARLY = 5  # rounds whose updates still say something of drift: later they are orthogonal on healthy jobs too (M08)


def rounds_watched(e: Evidence) -> tuple[Round, ...]:
    """The rounds that were watched and ended with finite numbers."""
    return tuple(one for one in e.rounds if one.finite)


def visits(e: Evidence) -> tuple[Visit, ...]:
    """Every client's part of every round watched, in order, then of those that were visited beside."""
    return (*(visit for one in e.rounds for visit in one.visits), *e.beside)


def early(e: Evidence) -> tuple[Round, ...]:
    """The watched rounds among the first EARLY."""
    return tuple(one for one in rounds_watched(e) if one.number <= EARLY)


def middle(values: Iterable[float | None]) -> float | None:
    """The median of what is there and finite; None: nothing is."""
    kept = [value for value in values if value is not None and math.isfinite(value)]
    return median(kept) if kept else None


def is_parameter(e: Evidence, name: str) -> bool:
    """Whether `name` is trained."""
    entry = e.facts.entries.get(name)
    return entry is not None and entry.kind == "parameter"


def shared_names(e: Evidence, *kinds: Kind) -> tuple[str, ...]:
    """Entries of `kinds` (none: of all) that are not declared to stay at clients."""
    entries = e.facts.entries.items()
    return tuple(name for name, x in entries if (not kinds or x.kind in kinds) and not e.facts.declared.stays(name))


def moving_zero(e: Evidence, zero: float, still: Iterable[str]) -> float:
    """The share of zeros in the entries that moved at all, of an update with `zero` of them, whose entries `still` did
    not move: a codec's zeros are everywhere, those of a head that is trained alone are whole entries."""
    said = e.facts.declared
    sizes = {
        name: math.prod(entry.shape)
        for name, entry in e.facts.entries.items()
        if entry.kind == "parameter" and not said.stays(name) and not any(name.startswith(x) for x in said.frozen)
    }
    share = sum(sizes.get(name, 0) for name in still) / max(1, sum(sizes.values()))
    return max(0.0, zero - share) / (1 - share) if share < 1 else 0.0


def place(e: Evidence, stage: str) -> str:
    """file:line of the author's function `stage` ("fit", "aggregate", "evaluate", "sample"), or ""."""
    return e.facts.where.get(stage, "")


def noisy(e: Evidence) -> bool:
    """Whether privacy noise is declared."""
    return e.facts.declared.dp.get("noise", 0.0) > 0


def lossy(e: Evidence) -> bool:
    """Whether the aggregate is declared to differ from the plain mean of what clients computed: noise, clip, codec."""
    return bool(e.facts.declared.dp) or e.facts.declared.codec is not None


def outcome(e: Evidence, name: str) -> Outcome | None:
    """The trial `name`: "job", "reference", "own_clients", "own_server", or a knob; None: not made."""
    if e.trials is None:
        return None
    if name in ("job", "reference", "own_clients", "own_server"):
        found: Outcome | None = getattr(e.trials, name)
    else:
        found = e.trials.knobs.get(name)
    return found if found is not None and found.values else None


def effect(e: Evidence, name: str) -> Effect | None:
    """The paired gain of the knob `name` over the reference."""
    return None if e.trials is None else e.trials.effects.get(name)


def personal(e: Evidence) -> bool:
    """Whether clients are declared to keep weights of their own, a head for instance: what is sent is no whole model
    then, and its accuracy says nothing of the job. Scales and biases of norm layers are no such weights."""
    entries, said = e.facts.entries.items(), e.facts.declared
    return any(entry.kind == "parameter" and len(entry.shape) > 1 and said.stays(name) for name, entry in entries)


def ahead(e: Evidence, name: str) -> float | None:
    """By how much the trial `name` is above the job; one that ended in NaN has accuracy 0. None: not tried, or nothing
    that accuracies of the model that is sent could tell."""
    job, other = outcome(e, "job"), outcome(e, name)
    if job is None or other is None or personal(e):
        return None
    return other.mean - (job.mean if math.isfinite(job.mean) else 0.0)


def short(e: Evidence) -> float | None:
    """How far the job is below the best of the reference, the IID re-deal and pooled training; None: untried."""
    names = ("reference", "iid", *(x for x in (e.trials.knobs if e.trials else ()) if x.startswith("pooled")))
    gaps = [gap for name in names if (gap := ahead(e, name)) is not None and math.isfinite(gap)]
    return max(gaps) if gaps else None


def noise(e: Evidence) -> float:
    """What a difference of two trials may be by chance: a point, or two standard errors of evaluation and seeds."""
    errors = [e.trials.error] if e.trials else [0.0]
    for one in (outcome(e, "job"), outcome(e, "reference")):
        if one is not None and len(one.values) > 1:
            variance = sum((value - one.mean) ** 2 for value in one.values) / (len(one.values) - 1)
            errors.append(math.sqrt(variance / len(one.values)))
    return max(0.01, 2 * math.sqrt(2) * max(errors))


def underperforms(e: Evidence) -> bool:
    """Whether the job is short by more than chance; False where nothing could be tried, and where it ends, by its own
    log or by its reference over all rounds, as high as trials of fewer rounds: then it was only early."""
    gap, last = short(e), ending(e)
    if gap is None or gap <= noise(e):
        return False
    others = [] if e.trials is None else [*e.trials.knobs.items(), ("reference", e.trials.reference)]
    same = [one.mean for name, one in others if one is not None and one.values and not name.startswith("pooled")]
    room = 0.0 if printed(e) is not None else noise(e)  # the end of a reference is less than the job's own
    return last is None or last < max(same, default=1.0) - room


def ending(e: Evidence) -> float | None:
    """The accuracy that the job ends with: by its log, else as far behind the reference over all of the job's rounds as
    it is behind the reference so far; None: neither is known."""
    job, so_far = outcome(e, "job"), outcome(e, "reference")
    late = None if e.trials is None else e.trials.late
    if (end := printed(e)) is not None or late is None or job is None or so_far is None:
        return end
    if not (late.finite and math.isfinite(late.mean) and math.isfinite(job.mean)):
        return None
    return late.mean - max(0.0, so_far.mean - job.mean)


def dealt_by_chance(e: Evidence) -> bool:
    """Whether the deal is one that chance gives, by labels and by inputs: then to deal again changes nothing."""
    data, labels = e.data, e.labels
    if data is None or labels is None or labels.mapped or labels.noisy or data.apart or data.scaled or data.empty:
        return False
    return data.clusters == 1 and data.skew <= chance_skew(data)


def chance_skew(data: DataAudit) -> float:
    """The skew of labels that one random deal in a thousand exceeds."""
    return data.skew_null + 2 * (data.skew_high - data.skew_null)


def lasting(e: Evidence) -> bool:
    """Whether skew still costs anything after all of the job's rounds, as far as that was tried."""
    whole = None if e.trials is None else e.trials.whole
    return whole is None or whole.clear


def early_only(e: Evidence) -> bool:
    """Whether trials stopped before the job does and nothing tells how it ends: what they gain may be a head start."""
    job = outcome(e, "job")
    return job is not None and job.rounds < e.facts.rounds and ending(e) is None


def printed(e: Evidence) -> float | None:
    """The mean of the last logged accuracies, if what is reported is the accuracy on the test data."""
    if e.log is None or e.log.mean_last is None or e.evaluating is None or e.evaluating.matches != "test":
        return None
    return {"fraction": e.log.mean_last, "percent": e.log.mean_last / 100}.get(e.log.scale)


def at_chance(e: Evidence) -> bool:
    """Whether the job's trial is no better than always saying the most frequent class."""
    job = outcome(e, "job")
    if job is None or e.trials is None or e.trials.chance is None:
        return False
    return job.mean < e.trials.chance + max(0.01, 3 * e.trials.error)


def lost(e: Evidence, name: str = "reference") -> float:
    """The weight of a finding that explains the distance to the trial `name`: that distance, not below 0."""
    gap = ahead(e, name)
    return max(0.0, gap) if gap is not None and math.isfinite(gap) else 0.0


def client_side(e: Evidence) -> bool:
    """Whether the reference mends the job and the doctor's aggregator under the author's clients does not (M35). Where
    that is clearly below the job itself, the two belong together (controls that the aggregator keeps), and it says
    nothing."""
    whole, half = ahead(e, "reference"), ahead(e, "own_clients")
    return whole is not None and half is not None and whole > noise(e) and -noise(e) < half < 0.5 * whole


def percent(x: float) -> str:
    """A share: 0.1234 is "12.3 %"."""
    return f"{100 * x:.1f} %"


def points(x: float) -> str:
    """A difference of accuracies: 0.05 is "5.0 points"."""
    return f"{100 * x:.1f} points"


def number(x: float) -> str:
    """Three significant digits, without a needless exponent."""
    if not math.isfinite(x):
        return str(x)
    return f"{x:.0f}" if 1000 <= abs(x) < 1e6 else f"{x:.3g}"


def listed(items: Sequence[object], most: int = 3) -> str:
    """ "a, b, c and 4 more"."""
    shown = ", ".join(str(item) for item in items[:most])
    return shown if len(items) <= most else f"{shown} and {len(items) - most} more"


def row(values: Sequence[float], most: int = 5) -> str:
    """Coefficients: "[1, 0, 0, 0, ... 10]" with their count where there are many."""
    shown = ", ".join(number(0.0 if abs(value) < 1e-9 else value) for value in values[:most])
    return f"[{shown}]" if len(values) <= most else f"[{shown}, ...], {len(values)} in all"


def gained(e: Evidence, name: str, title: str) -> Measured | None:
    """The line of evidence of the knob `name`: its gain over the reference, with its error; None: untried."""
    found = effect(e, name)
    if found is None:
        return None
    told = f"{100 * found.gain:+.1f} points (standard error {100 * found.error:.1f}, {found.n} paired seeds)"
    return Measured(title, "M19" if name == "iid" else "M20", told, "within two standard errors of 0")


def lines(*some: Measured | None) -> tuple[Measured, ...]:
    """The lines of evidence that are there."""
    return tuple(line for line in some if line is not None)


# What honest data or honest settings would show: no cause to be named beside a broken invariant that explains it.
HONEST = frozenset({"P1", "C1", "C2", "C3", "K1", "K2", "K5", "N2", "O1", "O2", "O7", "O9", "S4"})


def severity(e: Evidence, floor: float = 0.1) -> float:
    """The weight of a fault that breaks training: what the job loses to the reference, and not below `floor`."""
    return max(floor, lost(e))


def statistics(e: Evidence) -> tuple[str, ...]:
    """The running statistics that clients share: other buffers of floats (masks, tables) are not learnt."""
    return tuple(name for name in shared_names(e, "statistic") if name.endswith(("running_mean", "running_var")))


def half(e: Evidence) -> str:
    """The half precision type that the model's parameters fit into after every watched round; "": they do not."""
    kinds = {one.narrow for one in rounds_watched(e)}
    return kinds.pop() if len(kinds) == 1 and len(e.rounds) > 1 else ""


def statistics_gap(e: Evidence) -> float | None:
    """How much better the last model examined is with each batch's own statistics than with its running ones."""
    pairs = [(one.exam, one.exam_batch) for one in e.rounds]
    gaps = [batch.accuracy - exam.accuracy for exam, batch in pairs if exam is not None and batch is not None]
    return gaps[-1] if gaps else None
