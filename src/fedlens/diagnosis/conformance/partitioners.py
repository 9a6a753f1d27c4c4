"""Partitioners alone: every sample at exactly one client, as many clients as asked, one split for one seed."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from fedlens.diagnosis.conformance.calling import Binding, bindings, called, first_that_works, short, words
from fedlens.diagnosis.conformance.load import Component
from fedlens.diagnosis.conformance.result import Check
from fedlens.diagnosis.subject.forms import Unreadable
from fedlens.diagnosis.subject.guard import guarded, seeded

SAMPLES, CLASSES, CLIENTS = 1_003, 10, 7
ROLES = {
    "labels": words("labels targets y ys label y_train train_labels target"),
    "data": words("dataset data trainset train_data train_set ds"),
    "clients": words("clients num_clients n_clients k num_users n_users parties n_parties num_partitions partitions m"
                     " users num_workers n_nets num_nodes"),
    "alpha": words("alpha beta concentration dirichlet_alpha"),
    "shards": words("shards shards_per_client classes_per_client num_shards s n_class"),
    "seed": words("seed random_state random_seed"),
    "rng": words("rng generator random gen"),
    "classes": words("num_classes n_classes classes c"),
}  # fmt: skip
WORDS = frozenset().union(*ROLES.values()) - ROLES["data"]
TEMPLATES = (
    ("labels", "clients"), ("data", "clients"), ("labels", "clients", "seed"), ("labels", "clients", "alpha"),
    ("labels", "clients", "rng"), ("labels", "clients", "alpha", "seed"), ("labels", "clients", "alpha", "rng"),
    ("clients", "labels"),
)  # fmt: skip


def examine(component: Component, declared: str | None) -> tuple[str, tuple[Check, ...]]:
    """How it was called and what its splits are; Ailing where it gives none."""
    ways = [(binding, form) for _, binding in bindings(component.names, ROLES, TEMPLATES) for form in FORMS]
    attempts = [partial(_first_split, component, binding, form) for binding, form in ways]
    (binding, form), (split, labels) = first_that_works(attempts)
    checks = (
        *_counted(split),
        _clients(component, binding, form),
        *_seeds(component, binding, form, split),
        _skew(split, labels, declared),
        _alpha(component, binding, form),
    )
    return f"f({', '.join(binding.values())}), labels as {form}", tuple(one for one in checks if one is not None)


def _first_split(
    component: Component, binding: Binding, form: str
) -> tuple[tuple[Binding, str], tuple[list[np.ndarray], np.ndarray]]:
    return (binding, form), _split(component, binding, form, CLIENTS, 1)


FORMS = ("array", "tensor", "list")


def _labels(seed: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, CLASSES, SAMPLES)


def _split(
    component: Component, binding: Binding, form: str, clients: int, seed: int, alpha: float = 0.5
) -> tuple[list[np.ndarray], np.ndarray]:
    """The clients' samples by number, and the labels as they were after the call."""
    labels = _labels()
    written: Any = {"array": labels.copy(), "tensor": torch.from_numpy(labels.copy()), "list": labels.tolist()}[form]
    given = {
        "labels": written, "data": _Dataset(written), "clients": clients, "alpha": alpha, "shards": 2, "seed": seed,
        "rng": np.random.default_rng(seed), "classes": CLASSES,
    }  # fmt: skip
    function = component.fresh(seed)
    values = {name: given[role] for name, role in binding.items()}
    names: Sequence[inspect.Parameter] = component.names
    seeded(seed)
    raw = called(function, names, values, "partition")
    with guarded("partition", "", 0):
        return _read(raw, clients), np.asarray(written)


class _Dataset(torch.utils.data.Dataset[Any]):
    """Examples of one feature, with `targets`."""

    def __init__(self, targets: Any) -> None:
        self.targets, self.data = targets, torch.arange(SAMPLES).float()[:, None]

    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, place: int) -> tuple[Any, int]:
        return self.data[place], int(self.targets[place])


def _read(raw: Any, clients: int) -> list[np.ndarray]:
    """Index arrays by client of a mapping, a sequence of them or of subsets, or an array of each sample's client."""
    if isinstance(raw, tuple) and raw and isinstance(raw[0], Mapping | list):
        raw = raw[0]
    if isinstance(raw, Mapping):
        raw = list(raw.values())
    if isinstance(raw, torch.Tensor):
        raw = raw.numpy()
    if isinstance(raw, np.ndarray) and raw.shape == (SAMPLES,) and raw.dtype.kind in "iu" and raw.max() < clients:
        return [np.flatnonzero(raw == client) for client in range(clients)]
    if raw is None or not isinstance(raw, list | tuple | np.ndarray):
        raise Unreadable(f"a {type(raw).__name__} where the samples of each client should stand")
    clients_own: list[Any] = [getattr(one, "indices", one) for one in raw]
    found = [np.asarray(list(one)) for one in clients_own]
    if any(one.ndim != 1 or (len(one) and one.dtype.kind not in "iuf") for one in found):
        raise Unreadable("no numbers of samples for each client")
    return found


def _counted(split: Sequence[np.ndarray]) -> list[Check]:
    every = np.concatenate([one for one in split if len(one)]) if any(map(len, split)) else np.zeros(0, int)
    whole = every.dtype.kind in "iu" or bool((every == every.astype(int)).all())
    numbers, times = np.unique(every.astype(int), return_counts=True)
    inside = (numbers >= 0) & (numbers < SAMPLES)
    lost, twice, empty = SAMPLES - int(inside.sum()), int((times > 1).sum()), sum(len(one) == 0 for one in split)
    return [
        Check("number of clients", len(split) == CLIENTS, str(len(split)), str(CLIENTS)),
        Check("no sample is lost", lost == 0, f"{lost} of {SAMPLES} are at no client", "0",
              "" if not lost else "A remainder that divides unevenly, or a client's share, is dropped."),
        Check("no sample is held twice", twice == 0, f"{twice} are at several clients", "0",
              "" if not twice else "Samples are drawn with replacement, or from a pool that does not shrink."),
        Check("samples are numbers of the data", bool(inside.all()) and whole,
              "all" if inside.all() and whole else f"{int((~inside).sum())} are none", "all"),
        Check("no client is empty", empty == 0, f"{empty} without a sample", "0"),
    ]  # fmt: skip


def _clients(component: Component, binding: Binding, form: str) -> Check:
    name, wanted = "other numbers of clients", "3 and 10 clients"
    if "clients" not in binding.values():
        return Check(name, None, "it is told no number", wanted)
    counts = [len(_split(component, binding, form, clients, 1)[0]) for clients in (3, 10)]
    return Check(name, counts == [3, 10], f"{counts[0]} and {counts[1]} clients", wanted)


def _seeds(component: Component, binding: Binding, form: str, split: Sequence[np.ndarray]) -> list[Check]:
    again, labels = _split(component, binding, form, CLIENTS, 1)
    other, _ = _split(component, binding, form, CLIENTS, 2)
    repeats, differs = _equal(split, again), not _equal(split, other)
    told = "seed" in binding.values() or "rng" in binding.values()
    why = "It draws from random state of its own: take a seed." if not repeats else ""
    same = Check("same seed, same split", repeats, "the same" if repeats else "another", "the same", why)
    why = "The seed is not used: every repetition of an experiment has this one split." if told and not differs else ""
    varied = Check("other seed, other split", differs if told else differs or None,
                   "another" if differs else "the same", "another", why)  # fmt: skip
    alone = bool((labels == _labels()).all())
    return [same, varied, Check("labels are left alone", alone, "untouched" if alone else "written to", "untouched")]


def _equal(one: Sequence[np.ndarray], other: Sequence[np.ndarray]) -> bool:
    return len(one) == len(other) and all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def _variation(split: Sequence[np.ndarray], labels: np.ndarray) -> float:
    """Mean total variation between the clients' labels and all, over clients that hold any."""
    every = np.bincount(labels, minlength=CLASSES) / len(labels)
    held = [np.bincount(labels[one.astype(int) % SAMPLES], minlength=CLASSES) / len(one) for one in split if len(one)]
    return float(np.mean([np.abs(one - every).sum() / 2 for one in held])) if held else 0.0


def _null(split: Sequence[np.ndarray], labels: np.ndarray) -> tuple[float, float]:
    """Mean and highest of 200 of `_variation` if labels were dealt at random to the same sizes."""
    draw = np.random.default_rng(0)
    drawn = [_variation(split, draw.permutation(labels)) for _ in range(200)]
    return float(np.mean(drawn)), float(np.max(drawn))


def _skew(split: Sequence[np.ndarray], labels: np.ndarray, declared: str | None) -> Check:
    seen, (mean, high) = _variation(split, labels), _null(split, labels)
    told, wanted = f"total variation {short(seen)}", f"dealt at random: {short(mean)}, at most {short(high)}"
    if declared == "iid":
        return Check("skew of labels", seen <= high, told, wanted, "" if seen <= high else "It is not dealt at random.")
    return Check("skew of labels", None, told + (" (no more than chance)" if seen <= high else ""), wanted)


def _alpha(component: Component, binding: Binding, form: str) -> Check | None:
    if "alpha" not in binding.values():
        return None
    low, high = (_split(component, binding, form, CLIENTS, 1, alpha) for alpha in (0.1, 100.0))
    steep, flat = (_variation(split, _labels()) for split, _ in (low, high))
    why = "" if steep > 2 * flat else "alpha is not used as the concentration of a Dirichlet draw."
    told = f"{short(steep)} at 0.1, {short(flat)} at 100"
    return Check("skew falls as alpha grows", steep > 2 * flat, told, "at least half", why)
