"""Aggregators alone: how they may be called, and what their examination says."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fedlens.diagnosis.conformance.calling import Binding, bindings, called, words
from fedlens.diagnosis.conformance.flower import results
from fedlens.diagnosis.conformance.load import Component
from fedlens.diagnosis.conformance.result import Check
from fedlens.diagnosis.conformance.verdicts import verdicts
from fedlens.diagnosis.evidence import Entry
from fedlens.diagnosis.job import Declared, State, Upload
from fedlens.diagnosis.reduction import Bench, Cohort, Done, Form, make_cohort
from fedlens.diagnosis.reduction import examine as examine_reduction
from fedlens.diagnosis.reduction.coefficients import parts_of, solve
from fedlens.diagnosis.subject.forms import Unreadable, read_state
from fedlens.diagnosis.subject.guard import Ailing, guarded, seeded

COHORT = 6
MOST = 1  # names that may speak against a way to call it, where others speak for one
ROLES = {
    "current": words(
        "current global_model global_state global_weights server_state server_model w_global global_params w_glob"
        " global_parameters old previous base net_glob"
    ),
    "counts": words(
        "examples counts n ns sizes num_examples n_examples num_samples n_samples nums samples lengths data_sizes"
        " client_sizes dataset_sizes n_k n_i"
    ),
    "shares": words("p shares fractions fracs alphas coefficients coefs ratios p_k client_weights agg_weights"),
    "states": words(
        "states state_dicts local_states local_weights w_locals weights_list client_states locals models w ws"
        " client_models local_models updates deltas params parameters weights local_params client_params"
    ),
    "pairs": words("uploads results client_results"),
    "failures": words("failures"),
    "round": words("round rnd t server_round round_num r round_idx epoch"),
}
WORDS = frozenset().union(*ROLES.values())
TEMPLATES = (
    ("states", "counts"), ("states", "shares"), ("states",), ("pairs",), ("uploads",), ("reversed",),
    ("current", "pairs"), ("current", "uploads"), ("current", "states"), ("states", "current"), ("counts", "states"),
    ("pairs", "round"), ("states", "round"), ("current", "pairs", "round"), ("current", "uploads", "round"),
    ("current", "states", "counts"), ("current", "states", "shares"), ("states", "counts", "current"),
    ("current", "states", "round"), ("states", "counts", "round"), ("current", "states", "counts", "round"),
    ("round", "fits", "failures"),
)  # fmt: skip
FORMS = ("tensors", "arrays by name", "arrays", "list of tensors", "modules", "vectors")
COUNTED = {"counts", "shares", "pairs", "uploads", "reversed", "fits"}
TAKEN = {
    "current": "current", "states": "states", "counts": "examples", "shares": "shares", "round": "round",
    "fits": "[(client, FitRes)]", "failures": "failures",
    "pairs": "[(state, examples)]", "reversed": "[(examples, state)]", "uploads": "uploads",
}  # fmt: skip


@dataclass(frozen=True)
class _Way:
    """One way to call it: roles of its parameters, the `form` of states, what the uploads are."""

    binding: Binding
    form: str
    payload: str = "weights"

    @property
    def counted(self) -> bool:
        return bool(COUNTED & set(self.binding.values()))

    @property
    def words(self) -> str:
        given = ", ".join(TAKEN[role] for role in self.binding.values())
        payload = ", uploads being updates" if self.payload == "update" else ""
        return f"f({given}), states as {self.form}{payload}"


class _Tried(NamedTuple):
    score: float
    way: _Way


@dataclass
class Model:
    """A small made-up network and its entries; without `counters`, of floats alone."""

    counters: bool = True
    half: bool = False
    module: nn.Module = field(init=False)

    def __post_init__(self) -> None:
        seeded(11)
        self.module = nn.Sequential(
            nn.Linear(12, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8), nn.Linear(8, 4)
        )

    @property
    def state(self) -> dict[str, Tensor]:
        """A copy of its entries."""
        found = {name: value.clone() for name, value in self.module.state_dict().items()}
        found = {n: v.half() if self.half and v.is_floating_point() else v for n, v in found.items()}
        return found if self.counters else {n: v for n, v in found.items() if v.is_floating_point()}

    def form(self, way: _Way) -> Form:
        """Uploads as `way` says, whose updates are of the size of the weights' tenth."""
        state = self.state
        buffers = {name for name, _ in self.module.named_buffers()}
        kinds = {n: "counter" if not v.is_floating_point() else "statistic" if n in buffers else "parameter"
                 for n, v in state.items()}  # fmt: skip
        entries = {n: Entry(tuple(v.shape), str(v.dtype), kinds[n]) for n, v in state.items()}  # type: ignore[arg-type]
        moved = {n: v + 0.05 if v.is_floating_point() else v + 9 for n, v in state.items()}
        if way.payload == "update":
            moved = {n: (moved[n] - v).to(v.dtype) for n, v in state.items()}
        return Form(state, Upload(moved, 100.0), entries, way.payload, way.counted)  # type: ignore[arg-type]


def examine(component: Component, declared: str | None) -> tuple[str, tuple[Check, ...]]:
    """How it was called, and what its made-up uploads became; Ailing where it takes none of them."""
    extra: list[Check] = []
    try:
        way, model = _way(component, Model()), Model()
    except Ailing as whole:
        model = Model(counters=False)
        try:
            way = _way(component, model)
        except Ailing:
            raise whole from None
        why = "A state_dict holds whole numbers too (BatchNorm's num_batches_tracked); copy them."
        extra = [Check("takes counters", False, whole.problems[0].seen, "an answer", why)]
    rule = declared if declared in ROBUST else "mean"
    weighting = "uniform" if declared in ("uniform", *ROBUST, "sum") or not way.counted else "examples"
    said = Declared(weighting=weighting, reduce=rule, payload=way.payload)  # type: ignore[arg-type]
    bench = Bench(lambda seed: _reduce(component, way, model, seed))
    found = examine_reduction(bench, model.form(way), COHORT, said)
    lists = way.form in ("arrays", "list of tensors", "vectors")
    checks = verdicts(found, declared, counted=way.counted, lists=lists)
    return way.words, (*extra, *checks, _half(component, way, model))


ROBUST = ("median", "trimmed-mean", "krum", "multi-krum", "geometric-median", "norm-clip", "adaptive")


def _way(component: Component, model: Model) -> _Way:
    """The way to call it that its names allow and that makes the most sense of what it returns."""
    tried: list[_Tried] = []
    failure: Ailing | None = None
    level = 0
    for conflicts, binding in bindings(component.names, ROLES, TEMPLATES):
        if conflicts > level and (tried or conflicts > MOST):
            break  # what its names say is believed where that works
        level = conflicts
        payloads = ("weights", "update") if "current" in binding.values() else ("weights",)
        for form in FORMS:
            for payload in payloads:
                way = _Way(binding, form, payload)
                try:
                    score = _score(component, way, model)
                except Ailing as error:
                    failure = failure or error
                    continue
                if score >= 3:
                    return way
                tried.append(_Tried(score, way))
    if not tried:
        raise failure or Ailing("it cannot be called", seen="no parameters that states could be given by")
    return max(tried, key=lambda one: one.score).way


def _score(component: Component, way: _Way, model: Model) -> float:
    """How much like a mean it is, called this way; Ailing where nothing of a model comes back."""
    cohort = make_cohort(model.form(way), COHORT)
    done = _reduce(component, way, model, 0)(cohort)
    names = [name for name, entry in cohort.form.entries.items() if entry.kind == "parameter"]
    parts = parts_of(cohort, done.state, names)
    if not parts:
        raise Ailing("what it gave cannot be read", seen="no entry of the model is in what it returned")
    solved = solve(parts, cohort.p)
    likely = len(parts) / len(names)
    if not solved.clean or abs(solved.current - 1) > 1e-2:
        return likely
    wanted = (cohort.p, torch.full_like(cohort.p, 1 / len(cohort.p)))
    near = [bool(torch.allclose(solved.weights, one, atol=1e-3)) for one in wanted]
    return likely * (3.0 if near[0] else 2.0 if near[1] else 1.5)


def _reduce(component: Component, way: _Way, model: Model, seed: int) -> Callable[[Cohort], Done]:
    function = component.fresh(seed)
    return lambda cohort: _reduced(function, component, way, model, cohort)


def _reduced(
    function: Callable[..., Any], component: Component, way: _Way, model: Model, cohort: Cohort
) -> Done:  # fmt: skip
    current = _written(cohort.form.current, way.form, model)
    sent = [_written(upload.state, way.form, model) for upload in cohort.uploads]
    counts = [int(u.examples) if float(u.examples).is_integer() else u.examples for u in cohort.uploads]
    given = {
        "current": current, "states": list(sent), "counts": list(counts), "round": 1, "shares": cohort.p.tolist(),
        "pairs": list(zip(sent, counts, strict=True)), "reversed": list(zip(counts, sent, strict=True)),
        "fits": results(sent, counts), "failures": [],
        "uploads": [Upload(state, count) for state, count in zip(sent, counts, strict=True)],
    }  # fmt: skip
    seeded(0, 7)
    values = {name: given[role] for name, role in way.binding.items()}
    raw = called(function, component.names, values, "aggregate")
    names, form = tuple(cohort.form.current), cohort.form
    with guarded("aggregate", "", 0):
        wrote = [] if _same(current, form.current, way) else ["current"]
        if raw is None and wrote:
            raw, wrote = current, []
        if isinstance(raw, tuple) and len(raw) in (2, 3) and not isinstance(raw[0], int | float) and _stateful(raw[0]):
            raw = raw[0]
        state = _read(raw, names, form.current, way)
    wrote += [f"upload {i}" for i, one in enumerate(sent) if not _same(one, cohort.uploads[i].state, way)]
    return Done(state, tuple(wrote))


def _stateful(raw: Any) -> bool:
    return isinstance(raw, Mapping | list | nn.Module) or hasattr(raw, "tensors")


def _written(state: State, form: str, model: Model) -> Any:
    own = {name: value.clone() for name, value in state.items()}
    if form == "tensors":
        return own
    if form == "modules":
        module = Model().module
        module.load_state_dict(own, strict=False)
        return module
    if form == "list of tensors":
        return list(own.values())
    if form == "vectors":
        return torch.cat([value.flatten().float() for value in own.values()])
    arrays = {name: value.numpy() for name, value in own.items()}
    return arrays if form == "arrays by name" else list(arrays.values())


def _read(raw: Any, names: Sequence[str], like: State, way: _Way) -> dict[str, Tensor]:
    if way.form != "vectors":
        if isinstance(raw, Tensor) or (not _stateful(raw) and not isinstance(raw, tuple | Upload)):
            raise Unreadable(f"a {type(raw).__name__} where a state should stand")
        return read_state(raw, names)
    vector = read_state(raw, ("vector",))["vector"].flatten()
    if len(vector) != sum(value.numel() for value in like.values()):
        raise Unreadable(f"{len(vector)} numbers of {sum(value.numel() for value in like.values())}")
    pieces = torch.split(vector, [value.numel() for value in like.values()])
    return {
        n: piece.view(v.shape) if v.is_floating_point() else piece.round().view(v.shape).to(v.dtype)
        for (n, v), piece in zip(like.items(), pieces, strict=True)
    }


def _same(raw: Any, state: State, way: _Way) -> bool:
    """Whether what was given still holds what was written into it."""
    try:
        now = _read(raw, tuple(state), state, way)
    except (Unreadable, RuntimeError):
        return False
    return now.keys() >= state.keys() and all(
        torch.equal(torch.nan_to_num(now[n]), torch.nan_to_num(v.to(now[n].dtype))) for n, v in state.items()
    )


def _half(component: Component, way: _Way, model: Model) -> Check:
    """A remark on states in float16."""
    halves = Model(model.counters, half=True)
    name, wanted = "float16 states", "their mean, in float16"
    if way.form in ("modules", "vectors"):
        return Check(name, None, "untried in this form", wanted)
    cohort = make_cohort(halves.form(way), COHORT)
    try:
        done = _reduce(component, way, halves, 0)(cohort)
    except Ailing as error:
        return Check(name, None, error.problems[0].seen, wanted)
    values = [value for value in done.state.values() if value.is_floating_point()]
    if not all(bool(torch.isfinite(value).all()) for value in values):
        why = "Products with counts leave the range of float16 (65504); accumulate in float32."
        return Check(name, None, "values that are not finite", wanted, why)
    kinds = sorted({str(value.dtype).removeprefix("torch.") for value in values})
    return Check(name, True if kinds == ["float16"] else None, "a mean in " + " and ".join(kinds), wanted)
