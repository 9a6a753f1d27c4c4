"""The author's aggregate alone, given uploads that were made up in the form of a real one."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from functools import cache
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from fedlens.diagnosis.evidence import Aggregation, Facts
from fedlens.diagnosis.evidence.aggregation import Fate
from fedlens.diagnosis.job import State, Upload
from fedlens.diagnosis.reduction import Bench, Cohort, Done, Form, examine, make_cohort
from fedlens.diagnosis.reduction.experiments import Reduce
from fedlens.diagnosis.subject.forms import read_state, read_upload, weights_or_update, write_upload
from fedlens.diagnosis.subject.guard import Ailing, guarded, seeded
from fedlens.diagnosis.subject.patient import Patient, Sent, Subject

ROUND = 1
SLOW = 0.02  # seconds to make a job, which is made for each of some 20 experiments
MOST = 10  # clients that are visited where uploads name their client
FEWEST, BEYOND = 3, 2  # the least cohort that is made up, and by how many clients one may be larger than planned
NOTHING = 0.02  # of the model's own coefficient


class _Opened(NamedTuple):
    """What a first visit showed: the form of uploads, and real ones to write made-up ones into, place by place."""

    form: Form
    likes: tuple[Any, ...]
    visited: tuple[int, ...]


def examine_aggregation(subject: Subject, facts: Facts, scale: float | None = None) -> Aggregation:
    """The coefficients, entry by entry fates and habits of the author's `aggregate`, exact up to float rounding.

    Each experiment has a fresh job, since servers keep state. Made-up updates are as large as a real one, or `scale`
    times that. Raises Ailing where no made-up cohort is accepted. It takes one visit of a client, and a few dozen
    calls of `aggregate`.
    """
    opened = _opened(subject, facts)
    factor = 1.0 if scale is None else scale
    try:
        bench = _bench(subject, opened, facts, prime=False)
        found = examine(bench, opened.form, facts.cohort, facts.declared, factor)
    except Ailing:
        bench = _bench(subject, opened, facts, prime=True)
        found = examine(bench, opened.form, facts.cohort, facts.declared, factor)
    if opened.form.payload == "update" and not _said(facts) and abs(found.current) < NOTHING and _explodes(opened.form):
        form = opened.form._replace(payload="weights")
        other = examine(bench, form, facts.cohort, facts.declared, factor)
        found = other if abs(other.current - 1) < NOTHING else found
    return _by_clients(subject, facts, found)


def _explodes(form: Form) -> bool:
    """Whether what was sent is larger than the model: then it tells nothing, for weights that a visit has blown up lie
    as far from the model as an update does, and it is the server that shows what it takes them for."""
    shared = [name for name, value in form.upload.state.items() if name in form.current and value.is_floating_point()]
    sent = math.hypot(*(float(form.upload.state[name].double().norm()) for name in shared))
    return sent > math.hypot(*(float(form.current[name].double().norm()) for name in shared))


def _bench(subject: Subject, opened: _Opened, facts: Facts, *, prime: bool) -> Bench:
    """A fresh job for every experiment; one for all of them where making it is slow and it was seen to keep nothing."""

    def fresh(seed: int) -> Reduce:
        return _reduce(subject, opened, seed, prime=prime)

    began = time.perf_counter()
    reduce = fresh(0)
    if time.perf_counter() - began <= SLOW:
        return Bench(fresh)
    m = min(max(facts.cohort, 3), 10)
    cohort, other = make_cohort(opened.form, m), make_cohort(opened.form, m, draw=1)
    try:
        before = reduce(cohort).state
        reduce(other)
        return Bench(cache(fresh)) if _same(before, reduce(cohort).state) else Bench(fresh)
    except Ailing:  # not with so many uploads
        return Bench(fresh)


def _by_clients(subject: Subject, facts: Facts, found: Aggregation) -> Aggregation:
    """`found`, told in the counts that a server keeps of its clients, where it is these that it weighs by."""
    total = found.total
    if "other" not in found.fates.values() or found.rule != "mean" or found.residual or abs(total) < 1e-9:
        return found
    patient = subject.fresh()
    asked = _asked(patient)[: len(found.weights)]
    if len(asked) < len(found.weights):
        return found
    try:
        sizes = [_examples(patient, client) for client in asked]
    except Ailing:
        return found
    wanted = tuple(size / sum(sizes) * facts.declared.server_lr for size in sizes)
    if any(abs(weight / total - size / sum(sizes)) > 1e-3 for weight, size in zip(found.weights, sizes, strict=True)):
        return found
    fates: dict[str, Fate] = {name: "mean" if fate == "other" else fate for name, fate in found.fates.items()}
    examples = tuple(round(size) for size in sizes)
    return replace(found, examples=examples, wanted=wanted, fates=fates, order=0.0, twice=0.0, scale=0.0)


def _examples(patient: Patient, client: int) -> float:
    """How many examples `client` has: in its data, or as it says itself."""
    if patient.offers("train_data"):
        return float(len(patient.train_data(client)[1]))
    return patient.fit(client, patient.init, ROUND).upload.examples


def _opened(subject: Subject, facts: Facts) -> _Opened:
    patient = subject.fresh()
    asked, first = _answering(patient)
    payload = _said(facts) or _payload(facts, patient.init, first.upload.state)
    form = Form(patient.init, first.upload, facts.entries, payload, _counted(first.raw, patient))
    if len(asked) == 1 or not _says_more(first.raw):
        return _Opened(form, (first.raw,), asked[:1])
    alone = _Opened(form, (first.raw,), asked[:1])
    try:
        second = patient.fit(asked[1], patient.init, ROUND)
    except Ailing:  # it answers nothing
        return alone
    if not _names_client(first.raw, second.raw, asked[:2]):
        return alone
    others = [client for client in range(patient.clients) if client not in asked]
    all_of_them = (*asked, *others)[: max(FEWEST, min(facts.cohort, 3 * MOST)) + BEYOND]
    likes = {asked[0]: first.raw, asked[1]: second.raw}
    for client in all_of_them[2:]:
        with suppress(Ailing):
            likes[client] = patient.fit(client, patient.init, ROUND).raw
    return _Opened(form, tuple(likes.values()), tuple(likes))


def _said(facts: Facts) -> Literal["weights", "update"] | None:
    return facts.declared.payload or facts.payload


def _answering(patient: Patient) -> tuple[tuple[int, ...], Sent]:
    """The first cohort, from the first client on that answers, and its answer. Raises Ailing where nobody does."""
    asked = _asked(patient)
    for place, client in enumerate(asked[:-1]):
        with suppress(Ailing):
            return (*asked[place:], *asked[:place]), patient.fit(client, patient.init, ROUND)
    return asked[::-1], patient.fit(asked[-1], patient.init, ROUND)


def _asked(patient: Patient) -> tuple[int, ...]:
    """The first cohort of the job, or clients from 0 on where sampling fails."""
    try:
        drawn = tuple(dict.fromkeys(patient.sample(ROUND)))
    except Ailing:
        drawn = ()
    inside = tuple(client for client in drawn if 0 <= client < patient.clients)
    return inside or tuple(range(max(1, min(patient.clients, patient.cohort))))


def _payload(facts: Facts, current: State, sent: State) -> Literal["weights", "update"]:
    """What was sent; entries that stay at clients are near neither."""
    return weights_or_update(current, {n: v for n, v in sent.items() if not facts.declared.stays(n)})


def _counted(raw: Any, patient: Patient) -> bool:
    """Whether an upload in the form of `raw` says its number of examples."""
    read = read_upload(raw, patient.names).upload
    written = write_upload(replace(read, examples=read.examples + 7.0), raw)
    return read_upload(written, patient.names).upload.examples == read.examples + 7.0


def _further(raw: Any) -> dict[str, Any]:
    """Whatever whole numbers and words an upload holds beside its state and its first number."""
    if isinstance(raw, Upload):
        items: Mapping[str, Any] = dict(raw.metrics)
    elif isinstance(raw, Mapping):
        items = raw
    elif isinstance(raw, tuple | list):
        items = {str(place): value for place, value in enumerate(raw)} if len(raw) <= 5 else {}
    else:
        items = getattr(raw, "__dict__", {})
    inside = {f"{k}.{j}": w for k, v in items.items() if isinstance(v, Mapping) for j, w in v.items()}
    return {key: value for key, value in {**items, **inside}.items() if isinstance(value, int | str | float)}


def _says_more(raw: Any) -> bool:
    return len(_further(raw)) > 0


def _names_client(first: Any, second: Any, clients: tuple[int, ...]) -> bool:
    """Whether uploads of two clients hold, in the same place, numbers or words that tell these clients apart."""
    one, two = _further(first), _further(second)
    return any(str(clients[0]) in str(one[key]) and str(clients[1]) in str(two.get(key)) for key in one)


def _reduce(subject: Subject, opened: _Opened, seed: int, *, prime: bool) -> Reduce:
    """The aggregate of a fresh job that has drawn its cohort and, to `prime` it, visited its clients."""
    patient = subject.fresh(seed)
    asked = _asked(patient)
    if prime:
        for client in dict.fromkeys((*opened.visited, *asked[:MOST])):
            with suppress(Ailing):
                patient.fit(client, patient.init, ROUND)
    return lambda cohort: _aggregated(patient, cohort, opened.likes)


def _aggregated(patient: Patient, cohort: Cohort, likes: tuple[Any, ...]) -> Done:
    sent: list[Sent] = [patient.sent(u, likes[place % len(likes)]) for place, u in enumerate(cohort.uploads)]
    given = patient.written(cohort.form.current)
    seeded(patient.seed, ROUND, 2**20)
    with guarded("aggregate", f"round {ROUND}, made-up uploads", patient.patience):
        state = read_state(patient.job.aggregate(given, [one.raw for one in sent], ROUND), patient.names)
    wrote = [] if _same(read_state(given, patient.names), cohort.form.current) else ["current"]
    for place, one in enumerate(sent):
        after = read_upload(one.raw, patient.names).upload.state
        if not _same(after, one.upload.state):
            wrote.append(f"upload {place}")
    return Done(state, tuple(wrote))


def _same(one: State, other: State) -> bool:
    """Whether two states hold the same numbers, not-a-number among them."""
    if one.keys() != other.keys():
        return False
    return all(torch.equal(value, other[name]) or _equal_or_nan(value, other[name]) for name, value in one.items())


def _equal_or_nan(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.allclose(one, other.to(one.dtype), 0, 0, True)
