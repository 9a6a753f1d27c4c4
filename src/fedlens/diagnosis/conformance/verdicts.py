"""What the numbers of an aggregator say of it, check by check."""

from __future__ import annotations

from collections.abc import Sequence

from fedlens.diagnosis.conformance.calling import short
from fedlens.diagnosis.conformance.result import Check
from fedlens.diagnosis.evidence import Aggregation

SAME = 1e-3  # relative to the mean update


def verdicts(seen: Aggregation, declared: str | None, *, counted: bool, lists: bool) -> tuple[Check, ...]:
    """All checks. `counted`: it is told the examples of each upload; `lists`: entries have no names."""
    found = [_weights(seen, declared, counted=counted), _total(seen, declared), _current(seen), _explained(seen)]
    found += [_order(seen), _alone(seen, declared), _counts(seen, declared, counted=counted)]
    found += [_names(seen), _types(seen, lists=lists), _statistics(seen), _counters(seen), _whole(seen)]
    return (*found, _input(seen), _fresh(seen, declared), _broken(seen), _empty(seen))


def _weights(seen: Aggregation, declared: str | None, *, counted: bool) -> Check:
    told, m = _row(seen.weights), len(seen.weights)
    wanted = _row(seen.wanted)
    name = "coefficients of the uploads"
    if declared not in (None, "uniform", "sum", "mean", "iid") or seen.rule not in ("mean", "other"):
        right = declared == seen.rule
        why = "" if right else f"If it is meant so, say --declared {seen.rule}."
        return Check(name, right, f"those of {seen.rule}", declared or "the weighted mean", why)
    if declared == "sum":
        sums = [1.0] * m, list(map(float, seen.examples))
        right = any(_near(seen.weights, one) for one in sums)
        return Check(name, right, told, "1 each, or the examples of each")
    if seen.rule == "other" and seen.residual > SAME:
        return Check(name, None, told + " at best", wanted)
    shares = [weight / seen.total for weight in seen.weights] if abs(seen.total) > 1e-6 else list(seen.weights)
    if _near(seen.weights, seen.wanted) or (_near(shares, seen.wanted) and not _close(seen.total, 1)):
        return Check(name, True, told, wanted)
    return Check(name, False, told, wanted, _why(seen, shares, counted=counted))


def _why(seen: Aggregation, shares: Sequence[float], *, counted: bool) -> str:
    m = len(shares)
    place = max(range(m), key=lambda one: abs(seen.weights[one]))
    if abs(seen.total) < 1e-6:
        left = "what comes back is the old model" if abs(seen.current) > 0.5 else "nothing comes back"
        return f"The uploads leave no trace: {left}."
    if sum(abs(w) for i, w in enumerate(seen.weights) if i != place) < 0.01 * abs(seen.weights[place]):
        which = "the first upload" if place == 0 else "the last upload" if place == m - 1 else f"upload {place}"
        return f"Only {which} counts: the others are lost."
    if _near(shares, [1 / m] * m) and counted:
        return "All uploads count the same though their examples are given; if that is meant, --declared uniform."
    if _near(seen.weights[1:], seen.wanted[1:]):
        return "The first upload counts in full beside the others' shares: start the sum from zero."
    return "Weigh every upload by its examples over the sum of all examples."


def _total(seen: Aggregation, declared: str | None) -> Check:
    grown = "; ".join(f"{short(total)} of {m} uploads" for m, total in seen.by_cohort)
    name, wanted = "coefficients add up", "1 of any number of uploads"
    robust = seen.rule not in ("mean", "other")
    if declared == "sum" or robust or (seen.residual > SAME and not seen.landed):
        return Check(name, None, grown, wanted)
    if all(_close(total, 1) for _, total in seen.by_cohort):
        return Check(name, True, grown, wanted)
    per = {round(total / m, 4) for m, total in seen.by_cohort}
    why = "Normalise by the sum of the weights that are there."
    if len(per) == 1 and len(seen.by_cohort) > 1 and next(iter(per)):
        each = next(iter(per))
        constant = f"It divides by a constant {short(1 / each)}, whatever the number of uploads."
        why = "It is a sum: nothing is divided by." if _close(each, 1) else constant
    return Check(name, False, grown, wanted, why)


def _current(seen: Aggregation) -> Check:
    if seen.rule == "other" and seen.residual > SAME:
        return Check("the model they start from", None, short(seen.current), "1 times")
    right = _close(seen.current, 1) or (seen.rule != "mean" and abs(seen.current - 1) < 0.1)
    why = "Weights that are not shares scale the model itself; updates must be added to it, weights not."
    return Check("the model they start from", right, f"{short(seen.current)} times", "once", "" if right else why)


def _explained(seen: Aggregation) -> Check:
    name, wanted = "nothing else in it", "a remainder of 0"
    robust = seen.rule not in ("mean", "other")
    left = 0.0 if robust or seen.noise or seen.truncated or seen.landed else seen.residual
    if seen.noise:
        return Check(name, None, f"random noise of standard deviation {short(seen.noise)}", wanted)
    why = "No weights of the uploads give this result: values are lost, mixed or changed."
    limit = max(SAME, 4 * seen.rounding)
    return Check(name, left <= limit, f"{short(left)} of the mean update", wanted, why if left > limit else "")


def _order(seen: Aggregation) -> Check:
    right = seen.order <= SAME
    why = "" if right else "The place of an upload in the list decides."
    return Check("order of uploads", right, f"moves it by {short(seen.order)}", "no effect", why)


def _alone(seen: Aggregation, declared: str | None) -> Check:
    if declared == "sum" or seen.rule in ("norm-clip", "adaptive") or seen.noise:
        return Check("copies of one upload", None, f"{short(seen.copies)} from it", "that upload")
    right = seen.copies <= max(SAME, 4 * seen.rounding)
    why = "" if right else "The same upload from everybody must come out as it is."
    return Check("copies of one upload", right, f"{short(seen.copies)} from it", "that upload", why)


def _counts(seen: Aggregation, declared: str | None, *, counted: bool) -> Check:
    name, wanted = "examples as shares", "no effect of doubling all; twice listed as twice the examples"
    if not counted:
        return Check(name, None, "it is told no examples", "")
    told = f"doubled: {short(seen.scale)}, listed twice: {short(seen.twice)}"
    if declared in ("uniform", "sum") or seen.rule != "mean":
        return Check(name, None, told, wanted)
    right = seen.scale <= SAME and seen.twice <= SAME
    return Check(name, right, told, wanted, "" if right else "Only the ratio of examples may count.")


def _names(seen: Aggregation) -> Check:
    gone = [name for name, fate in seen.fates.items() if fate == "missing"]
    told = [f"{name} got {source}" for name, source in seen.landed.items()]
    told += [f"{name} is missing" for name in gone] + [f"{name} is new" for name in seen.extra]
    why = "Pair entries by name, never by order, and return all of them." if told else ""
    return Check("entries keep their names", not told, _some(told) or "all", "all", why)


def _types(seen: Aggregation, *, lists: bool) -> Check:
    floats = {n: pair for n, pair in seen.dtypes.items() if pair[0].startswith("float")}
    worse = [f"{n}: {a} to {b}" for n, (a, b) in floats.items() if _bits(b) < _bits(a) or not b.startswith("float")]
    wider = [f"{n}: {a} to {b}" for n, (a, b) in floats.items() if f"{n}: {a} to {b}" not in worse]
    if worse:
        return Check("types of numbers", False, _some(worse), "kept", "Precision is lost on the way.")
    return Check("types of numbers", None if wider else True, _some(wider) or "kept", "kept")


def _statistics(seen: Aggregation) -> Check:
    odd = [
        f"{name}: {_fate(seen, name)}"
        for name, fate in seen.fates.items()
        if name.endswith(("running_mean", "running_var")) and fate in ("kept", "one", "missing", "other", "sum")
    ]
    whole = {fate for name, fate in seen.fates.items() if name.endswith(("weight", "bias"))}
    if odd and len(whole) == 1 and next(iter(whole)) in {fate for n, fate in seen.fates.items() if "running" in n}:
        return Check("running statistics", None, "as the parameters: " + _some(odd), "averaged like parameters")
    why = "BatchNorm's running_mean and running_var must be averaged like weights, or evaluation fails." if odd else ""
    return Check("running statistics", not odd, _some(odd) or "averaged", "averaged like parameters", why)


def _counters(seen: Aggregation) -> Check:
    name, wanted = "whole numbers stay whole", "copied, or an average in whole numbers"
    cast = [f"{n}: {a} to {b}" for n, (a, b) in seen.dtypes.items() if not a.startswith("float")]
    if cast:
        why = "num_batches_tracked is a count: copy one client's or the largest. Loading it casts it back, so no harm."
        return Check(name, None, _some(cast), wanted, why)
    fates = [f"{n}: {_fate(seen, n)}" for n in seen.fates if n.endswith("num_batches_tracked")]
    sums = [one for one in fates if one.endswith(("sum", "other"))]
    return Check(name, None if sums else True, _some(fates) or "there are none", wanted)


def _whole(seen: Aggregation) -> Check:
    told = f"multiples of {short(seen.grid)}" if seen.truncated else "not cut"
    why = "A cast to whole numbers (long, int) loses every small weight." if seen.truncated and seen.grid == 1 else ""
    return Check("values", not seen.truncated, told, "not cut", why or ("They are rounded." if seen.truncated else ""))


def _input(seen: Aggregation) -> Check:
    uploads = [one for one in seen.wrote if one != "current"]
    name = "uploads are left alone"
    if not uploads:
        told = "the current model is written to" if seen.wrote else "untouched"
        return Check(name, None if seen.wrote else True, told, "untouched")
    why = "Copy before adding in place: whoever holds this upload sees it change."
    return Check(name, False, "written to: " + _some(uploads), "untouched", why)


def _fresh(seen: Aggregation, declared: str | None) -> Check:
    name, wanted = "nothing is left of a round before", "the same call, the same answer"
    told = f"second call {short(seen.again)} off, next round {short(seen.carried)} off"
    right = seen.again <= max(SAME, 4 * seen.rounding) and seen.carried <= max(SAME, 4 * seen.rounding)
    if declared in ("momentum", "adaptive", "stateful"):
        return Check(name, None, told, wanted)
    why = "" if right else "A sum, a global or a default argument is not emptied between calls."
    return Check(name, right, told, wanted, why)


def _broken(seen: Aggregation) -> Check:
    good = seen.non_finite in ("refused", "left out")
    why = "" if good else "One client that diverges spoils the model for everybody; refuse it or leave it out."
    return Check("an upload that is not a number", True if good else None, seen.non_finite, "refused or left out", why)


def _empty(seen: Aggregation) -> Check:
    good = seen.empty in ("refused", "unchanged")
    return Check("no uploads at all", True if good else None, seen.empty, "refused, or the model unchanged")


def _fate(seen: Aggregation, name: str) -> str:
    fate = seen.fates[name]
    words = {"one": f"that of upload {seen.ones.get(name, 0)}", "kept": "kept as it was"}
    return words.get(fate, fate)


def _bits(dtype: str) -> int:
    return {"bfloat16": 8, "float16": 11, "float32": 24, "float64": 53}.get(dtype, 0)


def _row(values: Sequence[float]) -> str:
    return " ".join(f"{value + 0.0:.3f}".replace("-0.000", "0.000") for value in values)


def _near(one: Sequence[float], other: Sequence[float]) -> bool:
    return all(abs(a - b) <= 2e-3 * max(1.0, abs(b)) for a, b in zip(one, other, strict=True))


def _close(value: float, wanted: float) -> bool:
    return abs(value - wanted) <= 2e-3 * abs(wanted)


def _some(words: Sequence[str]) -> str:
    return ", ".join(words[:3]) + (f" and {len(words) - 3} more" if len(words) > 3 else "")
