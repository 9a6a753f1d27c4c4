"""Metric functions alone: what a perfect, a wrong and a constant model get, and whether examples count the same."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from fedlens.diagnosis.conformance.calling import Binding, bindings, called, first_that_works, short, words
from fedlens.diagnosis.conformance.load import Component
from fedlens.diagnosis.conformance.result import Check
from fedlens.diagnosis.subject.forms import Unreadable
from fedlens.diagnosis.subject.guard import guarded, seeded

SAMPLES, CLASSES, BATCH = 133, 4, 64  # batches of 64, 64 and 5
ROLES = {
    "outputs": words("outputs output logits scores preds predictions pred y_pred yhat y_hat probs prediction out"),
    "labels": words("labels label targets target y_true y ys truth gt"),
    "model": words("model net network global_model module"),
    "loader": words("loader dataloader test_loader testloader data_loader val_loader test_dataloader valloader"),
    "data": words("dataset test_data test_set testset data"),
    "device": words("device dev"),
    "loss": words("criterion loss_fn loss_func loss loss_function"),
    "classes": words("num_classes n_classes classes"),
}
WORDS = frozenset().union(*(ROLES[one] for one in ("outputs", "labels", "loader")))
TEMPLATES = (("outputs", "labels"), ("labels", "outputs"), ("model", "loader"), ("model", "data"))
FORMS = ("outputs", "predictions", "arrays of outputs", "arrays of predictions", "lists of predictions")


class _Way(NamedTuple):
    binding: Binding
    form: str


def examine(component: Component, declared: str | None) -> tuple[str, tuple[Check, ...]]:
    """How it was called and what it says of made-up answers; Ailing where it says no number."""
    outputs, labels = _answers()
    attempts: list[Callable[[], tuple[_Way, float]]] = []
    for _, binding in bindings(component.names, ROLES, TEMPLATES):
        for form in FORMS[:1] if "model" in binding.values() else FORMS:
            way = _Way(binding, form)
            attempts.append(partial(_first_value, component, way, labels))
    way, perfect = first_that_works(attempts)
    for other in _others(way, component, labels):
        wrong = _value(component, way, -_right(labels), labels)
        if perfect == wrong:
            way, perfect = other, _value(component, other, _right(labels), labels)
    told = f"f({', '.join(way.binding.values())}), {way.form}"
    wrong = _value(component, way, _shifted(labels), labels)
    if perfect < wrong:
        return told, (*_loss(perfect, wrong), *_steady(component, way, outputs, labels, 1.0))
    scale, checks = _scale(component, way, perfect, wrong, labels)
    return told, (*checks, _accuracy(component, way, outputs, labels, scale),
                  _constant(component, way, labels, scale), *_steady(component, way, outputs, labels, scale),
                  *_mode(component, way, labels), _broken(component, way, outputs, labels))  # fmt: skip


def _first_value(component: Component, way: _Way, labels: Tensor) -> tuple[_Way, float]:
    return way, _value(component, way, _right(labels), labels)


def _others(way: _Way, component: Component, labels: Tensor) -> list[_Way]:
    """Other forms of answers that it takes."""
    found = []
    for form in FORMS if "model" not in way.binding.values() else ():
        try:
            _value(component, way._replace(form=form), _right(labels), labels)
        except Exception:  # every failure says the same: not in this form
            continue
        if form != way.form:
            found.append(way._replace(form=form))
    return found


def _answers() -> tuple[Tensor, Tensor]:
    """Outputs [n, C] that are right in some 60 of 100, fewer at the end, and labels [n] of unequal classes."""
    draw = torch.Generator().manual_seed(3)
    labels = (torch.rand(SAMPLES, generator=draw) ** 1.5 * CLASSES).long()
    outputs = torch.randn(SAMPLES, CLASSES, generator=draw) + 1.6 * nn.functional.one_hot(labels, CLASSES)
    outputs[-5:] = 5 * nn.functional.one_hot((labels[-5:] + 1) % CLASSES, CLASSES).float()
    return outputs, labels


def _right(labels: Tensor) -> Tensor:
    return 9.0 * nn.functional.one_hot(labels, CLASSES).float()


def _shifted(labels: Tensor) -> Tensor:
    return _right((labels + 1) % CLASSES)


def _value(component: Component, way: _Way, outputs: Tensor, labels: Tensor, model: nn.Module | None = None) -> float:
    """What it says of `outputs` [n, C] and `labels` [n]; Ailing where that is no number."""
    given: dict[str, Any] = {
        "model": model or nn.Identity(), "device": "cpu", "loss": nn.CrossEntropyLoss(), "classes": CLASSES,
        "data": TensorDataset(outputs.clone(), labels.clone()),
    }  # fmt: skip
    given["loader"] = DataLoader(given["data"], batch_size=BATCH)
    answers: Any = outputs.clone() if way.form.endswith("outputs") else outputs.argmax(dim=1)
    truth: Any = labels.clone()
    if way.form.startswith("arrays"):
        answers, truth = answers.numpy(), truth.numpy()
    if way.form.startswith("lists"):
        answers, truth = answers.tolist(), truth.tolist()
    values = {name: {**given, "outputs": answers, "labels": truth}[role] for name, role in way.binding.items()}
    function = component.fresh(0)
    seeded(0)
    raw = called(function, component.names, values, "metric")
    with guarded("metric", "", 0):
        return _number(raw)


class _Watched(nn.Identity):
    """Gives back what it gets, and remembers whether that was in training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.trained: set[bool] = set()

    def forward(self, input: Tensor) -> Tensor:
        """`input`."""
        self.trained.add(self.training)
        return input


def _mode(component: Component, way: _Way, labels: Tensor) -> list[Check]:
    """A remark where a model is evaluated in the mode in which it comes."""
    if "model" not in way.binding.values():
        return []
    model = _Watched()
    _value(component, way, _right(labels), labels, model)
    told = "training mode" if True in model.trained else "evaluation mode"
    why = "BatchNorm and dropout then answer as in training: call model.eval() first." if True in model.trained else ""
    return [Check("mode of a model that comes in training mode", None if why else True, told, "evaluation mode", why)]


def _number(raw: Any) -> float:
    """A number, the accuracy of a mapping, or the one number of several that may be an accuracy."""
    if isinstance(raw, dict):
        numbers = {str(key).lower(): value for key, value in raw.items()}
        raw = next((value for key, value in numbers.items() if "acc" in key), next(iter(numbers.values()), None))
    if isinstance(raw, tuple) and raw:
        raw = raw[0]
    if isinstance(raw, Tensor | np.ndarray) and np.asarray(raw.detach() if isinstance(raw, Tensor) else raw).size == 1:
        raw = raw.item()
    if isinstance(raw, bool) or not isinstance(raw, int | float | np.number):
        raise Unreadable(f"a {type(raw).__name__} where a number should stand")
    return float(raw)


def _scale(
    component: Component, way: _Way, perfect: float, wrong: float, labels: Tensor
) -> tuple[float, list[Check]]:  # fmt: skip
    """What a perfect model gets, and the checks of it."""
    half = _value(component, way, _right(labels)[: SAMPLES // 2], labels[: SAMPLES // 2])
    known = {1.0: "a fraction", 100.0: "a percentage", float(SAMPLES): "a count"}
    kind = next(
        (words for value, words in known.items() if math.isclose(perfect, value, rel_tol=1e-5)), "no known scale"
    )
    steady = math.isclose(half, perfect, rel_tol=1e-5)
    why = "" if steady else "It depends on how many examples there are: divide by all of them."
    if kind == "no known scale" and steady:
        why = "A perfect model should get 1."
    right = steady and kind in ("a fraction", "a percentage")
    checks = [
        Check("a perfect model", right, f"{short(perfect)} ({kind}); {short(half)} for half the examples", "1", why),
        Check("a model that is always wrong", abs(wrong) < 1e-6, short(wrong), "0"),
    ]
    if kind == "a percentage":
        checks.append(Check("scale", None, "0 to 100", "0 to 1"))
    return perfect if perfect else 1.0, checks


def _accuracy(component: Component, way: _Way, outputs: Tensor, labels: Tensor, scale: float) -> Check:
    value = _value(component, way, outputs, labels) / scale
    right = outputs.argmax(dim=1) == labels
    pooled = float(right.double().mean())
    batches = float(torch.stack([part.double().mean() for part in torch.split(right, BATCH)]).mean())
    last = float(right[-(SAMPLES % BATCH) :].double().mean())
    told, wanted = f"{value:.4f}", f"{pooled:.4f}, {int(right.sum())} of {SAMPLES}"
    if math.isclose(value, pooled, abs_tol=1e-5):
        return Check("every example counts the same", True, told, wanted)
    why = "A multiple of 1/n is expected of an accuracy; for another metric this is no fault."
    if math.isclose(value, batches, abs_tol=1e-5):
        why = f"It is the mean over batches: {SAMPLES % BATCH} examples of the last count as much as {BATCH}."
        return Check("every example counts the same", False, told, wanted, why)
    if math.isclose(value, last, abs_tol=1e-5):
        return Check("every example counts the same", False, told, wanted, "It is that of the last batch alone.")
    whole = math.isclose(value * SAMPLES, round(value * SAMPLES), abs_tol=1e-3)
    if whole and "model" in way.binding.values():
        return Check("every example counts the same", False, told, wanted, "Some examples are left out or count twice.")
    return Check("every example counts the same", None, told, wanted, why)


def _constant(component: Component, way: _Way, labels: Tensor, scale: float) -> Check:
    constant = _right(torch.zeros_like(labels))
    value, share = _value(component, way, constant, labels) / scale, float((labels == 0).double().mean())
    near = math.isclose(value, share, abs_tol=1e-5)
    return Check("a constant answer", True if near else None, f"{value:.4f}", f"{share:.4f}, the share of its class")


def _steady(component: Component, way: _Way, outputs: Tensor, labels: Tensor, scale: float) -> list[Check]:
    value = _value(component, way, outputs, labels)
    order = torch.randperm(SAMPLES, generator=torch.Generator().manual_seed(1))
    mixed = abs(_value(component, way, outputs[order], labels[order]) - value) / scale
    double = abs(_value(component, way, outputs.repeat(2, 1), labels.repeat(2)) - value) / scale
    again = abs(_value(component, way, outputs, labels) - value) / scale
    near = 1e-5 * max(1.0, abs(value) / scale)
    told = "Sum over examples and divide by their number; do not average averages."
    why = {True: "", False: told}
    return [
        Check("order of examples", mixed <= near, f"moves it by {short(mixed)}", "no effect", why[mixed <= near]),
        Check("all examples twice", double <= near, f"moves it by {short(double)}", "no effect",
              why[double <= near]),
        Check("the same twice", again <= near, f"differs by {short(again)}", "no difference"),
    ]  # fmt: skip


def _loss(perfect: float, wrong: float) -> list[Check]:
    seen = f"perfect {short(perfect)}, always wrong {short(wrong)}"
    return [
        Check("kind of metric", None, seen, "lower is better: a loss"),
        Check("it tells right from wrong", perfect < wrong and math.isfinite(wrong), seen, "less for a perfect model"),
    ]


def _broken(component: Component, way: _Way, outputs: Tensor, labels: Tensor) -> Check:
    name, wanted = "answers that are not numbers", "counted as wrong, or refused"
    if not way.form.endswith("outputs"):
        return Check(name, None, "untried in this form", wanted)
    try:
        value = _value(component, way, torch.full_like(outputs, torch.nan), labels)
    except Exception as error:  # whatever it raises, it refuses
        return Check(name, True, f"refused: {type(error).__name__}", wanted)
    return Check(name, True if value == 0 or math.isnan(value) else None, short(value), wanted)
