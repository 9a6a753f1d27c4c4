"""What the author's evaluate reports of models, beside what the doctor measures of the same models (M27)."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fedlens.diagnosis.evidence import Evaluating, Facts
from fedlens.diagnosis.examiner import Examiner, two_columns
from fedlens.diagnosis.forensics import is_accuracy, precision, quantum, standing
from fedlens.diagnosis.job import State
from fedlens.diagnosis.probes.asked import listened
from fedlens.diagnosis.probes.comparing import (
    Candidate,
    batch_means,
    clients_candidates,
    judged,
    matching,
    mixed,
    parts_of,
    share,
)
from fedlens.diagnosis.probes.inputs_asked import altered
from fedlens.diagnosis.subject.guard import Ailing
from fedlens.diagnosis.subject.patient import Patient, Subject
from fedlens.errors import ConfigurationError

BETWEEN = (0.25, 0.5, 0.75, 0.9)  # models made between the first and the last, to tell what is reported apart
SECONDS = 20.0  # that clients' data may cost
DRAWS = 8  # evaluations of one model whose values chance moves
NEAR = 2  # examples that another order of additions may decide otherwise


@dataclass
class Compared:
    """The models whose reports are compared. `values`: as fractions; `raw`: as reported; `test`: [n] for each."""

    rounds: list[int]
    states: list[State]
    raw: list[float]
    values: list[float]
    test: list[Tensor]
    error: float
    seconds: float

    def last(self, some: int) -> Compared:
        """The last `some` of them."""
        kept = {name: getattr(self, name)[-some:] for name in ("rounds", "states", "raw", "values", "test")}
        return replace(self, **kept)


def examine_evaluating(
    subject: Subject,
    facts: Facts,
    examiner: Examiner | None,
    states: Sequence[tuple[int, State]],
    reported: Sequence[Mapping[str, float]] | None = None,
) -> Evaluating:
    """The author's evaluate on `states` (round, model); `reported`: what it said of them while the job really ran.

    Without an `examiner` only whether evaluate is steady, remembers, and of how many examples its values are. Costs a
    few evaluations; clients' data are examined only where the values are not those of the test data. Raises
    ConfigurationError where evaluate reports no accuracy.
    """
    if not states:
        raise ConfigurationError("there is no model to evaluate", where=subject.name, do="Let the job run a round.")
    patient = subject.fresh()
    fresh = [patient.evaluate(state, round) for round, state in states]
    told = list(reported) if reported and any(reported) else fresh
    metric = _metric(told)
    kept = [at for at, one in enumerate(told) if math.isfinite(one.get(metric, math.nan))]
    raw = [float(told[at][metric]) for at in kept]
    patient.seed += 1
    again, label_sets, training = listened(patient, states[-1][1], states[-1][0])
    unit = 100.0 if max(raw) > 1.0 + 1e-6 else 1.0
    steady = _apart(fresh[-1], again, metric) / unit
    values = [value / unit for value in raw]
    error = precision(raw) / unit
    where = facts.where.get("evaluate", "")
    found = Evaluating(metric=metric, reported=tuple(raw), measured=(), steady=steady, where=where)
    found = replace(found, training=training, label_sets=label_sets)
    if examiner is None:
        return replace(found, quantum=quantum(values, error), remembers=_same_throughout(fresh, states))
    compared = _measured(examiner, [states[at] for at in kept], raw, unit)
    found = _beside(examiner, compared, found, told[kept[-1]])
    said = _of_the_test(compared, unit)
    if said or found.remembers:
        return replace(found, matches=said or "another model")
    repeats = all(_apart(fresh[at], told[at], metric) <= error * unit + 1e-6 for at in kept)
    found = _elsewhere(patient, examiner, compared, found, unit, repeats)
    if found.matches == "none":
        seen = altered(patient, states[-1][1], states[-1][0], (examiner.inputs, examiner.labels))
        found = replace(found, altered=seen)
    whole = examiner.module.state_dict().keys() <= states[-1][1].keys() and not facts.declared.local_entries
    return found if whole or found.matches != "none" else replace(found, matches="undetermined")


def _measured(examiner: Examiner, states: Sequence[tuple[int, State]], raw: list[float], unit: float) -> Compared:
    """The models with the doctor's own answers on all test data."""
    began = time.perf_counter()
    test = [judged(examiner, state, (examiner.inputs, examiner.labels)) for _, state in states]
    seconds = (time.perf_counter() - began) / max(1, sum(map(len, test)))
    rounds, models = [round for round, _ in states], [state for _, state in states]
    return Compared(rounds, models, raw, [value / unit for value in raw], test, precision(raw) / unit, seconds)


def _beside(examiner: Examiner, compared: Compared, found: Evaluating, told: Mapping[str, float]) -> Evaluating:
    """`found` with what the doctor measures of the same models."""
    measured = [share(one) for one in compared.test]
    n, accuracy = len(compared.test[-1]), measured[-1]
    deviation = math.sqrt(max(accuracy * (1 - accuracy), 1 / n) / n)
    return replace(
        found,
        measured=tuple(measured),
        n=n,
        error=deviation,
        quantum=_up_to(n, quantum(compared.values, compared.error, n)),
        remembers=_remembers(compared.values, measured, deviation),
        loss_ratio=_loss_ratio(examiner, told, compared.states[-1]),
    )


def _metric(told: Sequence[Mapping[str, float]]) -> str:
    """The accuracy of the global model on test data among what is reported, by name."""
    names = list(dict.fromkeys(name for one in told for name, value in one.items() if math.isfinite(value)))
    named = [name for name in names if is_accuracy(name)]
    if not named:
        named = [name for name in names if not re.search(r"loss|time|err|sec|round|epoch|size|num|std", name, re.I)]
        named = named if len(named) == 1 else []
    if not named:
        do = "Return the accuracy under a name such as accuracy or test_acc."
        raise ConfigurationError("evaluate reports no accuracy", where="evaluate", seen=", ".join(names), do=do)
    return min(named, key=lambda name: (standing(name), "acc" not in name.lower()))


def _up_to(n: int, size: int | None) -> int | None:
    return size if size is not None and size <= n else None


def _apart(one: Mapping[str, float], other: Mapping[str, float], metric: str) -> float:
    gap = abs(one.get(metric, math.nan) - other.get(metric, math.nan))
    return gap if math.isfinite(gap) else 0.0


def _same_throughout(told: Sequence[Mapping[str, float]], states: Sequence[tuple[int, State]]) -> bool:
    """Whether all of two metrics or more are the same to all digits for models that differ."""
    first, last = states[0][1], states[-1][1]
    differ = any(name in first and not torch.equal(first[name], value) for name, value in last.items())
    return differ and len(told) > 1 and len(told[0]) > 1 and all(dict(one) == dict(told[0]) for one in told)


def _remembers(values: Sequence[float], measured: Sequence[float], deviation: float) -> bool:
    """Whether one value is reported of models that are worth very different ones."""
    return len(set(values)) == 1 and max(measured) - min(measured) > max(0.02, 5 * deviation)


def _of_the_test(compared: Compared, unit: float) -> str:
    """ "test", "percent" or "count" where the values are those of the test data in that unit, else ""."""
    measured = [share(one) for one in compared.test]
    within = max(compared.error, NEAR / len(compared.test[0])) + 1e-6
    if all(abs(a - b) <= within for a, b in zip(compared.values, measured, strict=True)):
        return "test" if unit == 1.0 else "percent"
    ratios = [value / one for value, one in zip(compared.raw, measured, strict=True) if one > 0]
    if len(ratios) == len(measured) and max(ratios) <= min(ratios) * (1 + 1e-3):
        whole = abs(ratios[0] - len(compared.test[0])) <= 1e-3 * ratios[0]
        varied = max(measured) - min(measured) > 0.05 and abs(ratios[0] - 1) > 0.02
        return "count" if whole or varied else ""
    return ""


def _elsewhere(
    patient: Patient, examiner: Examiner, compared: Compared, found: Evaluating, unit: float, repeats: bool
) -> Evaluating:
    """What values that are not the test data's are: clients' data, a part, another mode, or none of these."""
    found = replace(found, reported=tuple(compared.values))
    steady, states = found.steady, compared.states
    if repeats and steady < 1e-9:
        compared = _more(patient, examiner, compared, found.metric, unit)
        sized = quantum(compared.values, precision([v * unit for v in compared.values]) / unit, found.n)
        found = replace(found, quantum=_up_to(found.n, sized))
    own = len(found.reported)
    for family in (batch_means(compared.test), parts_of(compared.test)):
        if (match := matching(compared.values, compared.error, family)) is not None:
            return replace(found, matches=match.name, quantum=match.n)
    held = _held(examiner, compared)
    if held:
        whole, compared = len(held) == len(compared.states), compared.last(len(held))
        match = _on_clients(patient, compared, held)
        train = tuple(share(torch.cat(one)) for one in held)
        last = tuple(share(torch.cat([part[int(0.9 * len(part)) :] for part in one])) for one in held)
        if whole:
            found = replace(found, on_train=train[:own], hold_out=last[:own])
    if match is not None:
        fits = match.n if match.name.startswith("client ") else found.quantum
        mean = match.values[own - 1] if match.name == "clients' mean" and whole else None
        return replace(found, matches=match.name, quantum=fits, mean_of_clients=mean)
    pair = (examiner.inputs, examiner.labels)
    found = replace(found, measured_train=tuple(share(judged(examiner, s, pair, training=True)) for s in states))
    liked = _most_like(found)
    if liked == "none" and steady > 1e-9:
        liked = _at_random(patient, compared, found, unit)
    return replace(found, matches=liked)


def _more(patient: Patient, examiner: Examiner, compared: Compared, metric: str, unit: float) -> Compared:
    """The models with some between the first and the last, reported by the fresh job: more to tell apart by."""
    first = compared.states[0] if len(compared.states) > 1 else patient.init
    ends = time.perf_counter() + SECONDS / 4
    more = compared.last(len(compared.states))
    for part in BETWEEN:
        state = mixed(first, compared.states[-1], part)
        value = patient.evaluate(state, compared.rounds[-1]).get(metric, math.nan)
        if math.isfinite(value):
            more.rounds.append(compared.rounds[-1])
            more.states.append(state)
            more.raw.append(value)
            more.values.append(value / unit)
            more.test.append(judged(examiner, state, (examiner.inputs, examiner.labels)))
        if time.perf_counter() > ends:
            break
    more.error = precision(more.raw) / unit
    return more


def _held(examiner: Examiner, compared: Compared) -> list[list[Tensor]]:
    """Of the last models, as many as time allows: which examples of each client they answer rightly."""
    patient = examiner.patient
    if not patient.offers("train_data"):
        return []
    try:
        pairs = [patient.train_data(client) for client in range(patient.clients)]
        cost = compared.seconds * sum(len(labels) for _, labels in pairs)
        some = len(compared.states) if cost * len(compared.states) < SECONDS else int(SECONDS / cost)
        states = compared.states[-some:] if some else []
        return [[judged(examiner, state, pair) for pair in pairs] for state in states]
    except Ailing:
        return []


def _on_clients(patient: Patient, compared: Compared, held: list[list[Tensor]]) -> Candidate | None:
    try:
        cohorts = [[c for c in patient.sample(round) if 0 <= c < len(held[0])] for round in compared.rounds]
    except Ailing:
        cohorts = [[] for _ in held]
    for family in clients_candidates(held, cohorts):
        if (match := matching(compared.values, compared.error, family)) is not None:
            return match
    return None


def _most_like(found: Evaluating) -> str:
    """By distance: training mode, or training data that change with each reading; "none" where neither is near."""
    own = list(zip(found.reported, found.measured, strict=True))
    off = max(abs(a - b) for a, b in own)
    if off <= 4 * found.error:
        return "none"
    for name, others in (("train mode", found.measured_train), ("train", found.on_train)):
        pairs = list(zip(found.reported, others, strict=False))
        if len(pairs) == len(own) and max(abs(a - b) for a, b in pairs) <= min(off / 3, max(0.02, 3 * found.error)):
            return name
    return "none"


def _at_random(patient: Patient, compared: Compared, found: Evaluating, unit: float) -> str:
    """Of values that chance moves: the test data's, or a part's that is drawn anew, where their mean is as measured."""
    values = []
    for _ in range(DRAWS):
        patient.seed += 1
        told = patient.evaluate(compared.states[-1], compared.rounds[-1])
        values.append(told.get(found.metric, math.nan) / unit)
    some, accuracy = torch.tensor(values, dtype=torch.float64), found.measured[-1]
    spread = some.std().item()
    if not abs(some.mean().item() - accuracy) <= max(0.005, 4 * spread / math.sqrt(DRAWS)):
        return "none"
    return "part of the test set" if spread**2 * found.n > 2 * accuracy * (1 - accuracy) else "test"


def _loss_ratio(examiner: Examiner, told: Mapping[str, float], state: State) -> float | None:
    """The reported loss by the mean cross-entropy, or by the author's own loss of all test data, the nearer."""
    names = sorted((name for name in told if "loss" in name.lower()), key=standing)
    if not names or not math.isfinite(told[names[0]]):
        return None
    try:
        outputs = examiner.outputs(state, examiner.inputs)
        means = [torch.nn.functional.cross_entropy(two_columns(outputs), examiner.labels.flatten().long()).item()]
    except Exception:  # outputs or labels of another form: nothing to divide by
        return None
    for given in (outputs, outputs[:, 0]) if outputs.shape[1] == 1 else (outputs,):
        with suppress(Exception):
            means.append(float(examiner.patient.loss(given, examiner.labels).detach().double().mean()))
    ratios = [told[names[0]] / mean for mean in means if math.isfinite(mean) and abs(mean) > 1e-9]
    return min(ratios, key=lambda ratio: abs(math.log(abs(ratio) or 1e-300)), default=None)
