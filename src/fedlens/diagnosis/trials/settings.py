"""What the doctor's own clients do: the local work as it was watched, else as declared, else a default that is told."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fedlens.diagnosis.evidence import Facts, Round, Visit
from fedlens.local import Local

DEFAULT_RATES = {"sgd": 0.05, "adam": 1e-3, "adamw": 1e-3}
DEFAULT_BATCH = 32
CLOSE = 0.02  # by how much samples over examples may miss a whole number of epochs
LIKE = {"adamw": "adamw", "adam": "adam", "sgd": "sgd"}  # the first name that is in the optimiser's decides


@dataclass(frozen=True)
class Assumed:
    """`local`: the work of one visit; `notes`: what was not measured, and what was taken in its place."""

    local: Local
    notes: tuple[str, ...] = ()


def reference_settings(facts: Facts, rounds: Sequence[Round]) -> Assumed:
    """Rate, batch, steps or epochs and optimiser of the job's clients: of the first visits, before anything drifts."""
    seen = [visit for one in rounds for visit in one.visits if visit.watched.steps]
    notes: list[str] = []
    optimizer = _optimizer(facts, seen, notes)
    work: dict[str, Any] = {"optimizer": optimizer, "lr": _rate(facts, seen, optimizer, notes)}
    work |= _batch_and_length(facts, seen, notes) | _details(seen, optimizer)
    return Assumed(Local(**work), tuple(notes))


def _optimizer(facts: Facts, seen: Sequence[Visit], notes: list[str]) -> str:
    names = [visit.watched.optimizer for visit in seen if visit.watched.optimizer]
    name = (names[0] if names else facts.declared.optimizer) or ""
    for part, ours in LIKE.items():
        if part in name.lower():
            return ours
    notes.append(f"optimiser {name or 'unknown'}: plain SGD was taken")
    return "sgd"


def _rate(facts: Facts, seen: Sequence[Visit], optimizer: str, notes: list[str]) -> float:
    found = [statistics.fmean(visit.watched.rates) for visit in seen if visit.watched.rates]
    found = [rate for rate in found if rate > 0]
    declared = facts.declared.lr if facts.declared.lr and facts.declared.lr > 0 else None
    if found and max(found) <= min(found) * (1 + 1e-6):
        return found[0]
    if found:
        rate = declared or found[0]
        notes.append(f"local rates between {min(found):g} and {max(found):g} were seen: {rate:g} was taken")
        return rate
    rate = declared or DEFAULT_RATES[optimizer]
    notes.append(f"no local rate was seen: {rate:g} was taken, {'as declared' if declared else 'a default'}")
    return rate


def _batch_and_length(facts: Facts, seen: Sequence[Visit], notes: list[str]) -> dict[str, Any]:
    said = facts.declared
    sizes = [max(visit.watched.batches) for visit in seen if visit.watched.batches]
    batch: int | str = max(sizes) if sizes else said.batch or DEFAULT_BATCH
    if not sizes:
        notes.append(f"no batches were seen: {batch} were taken, {'as declared' if said.batch else 'a default'}")
    if sizes and len(set(sizes)) > 1 and all(_whole_client(visit) for visit in seen):
        batch = "all"
    passes = [visit.watched.samples / visit.examples for visit in seen if visit.watched.samples and visit.examples > 0]
    epochs = round(statistics.median(passes)) if passes else 0
    if epochs >= 1 and all(abs(one - epochs) <= CLOSE * epochs for one in passes):
        return {"batch": batch, "epochs": epochs}
    steps = [visit.watched.steps for visit in seen if visit.watched.steps]
    if steps:
        return {"batch": batch, "steps": max(1, round(statistics.median(steps)))}
    if said.steps:
        return {"batch": batch, "steps": said.steps}
    epochs = max(1, round(said.epochs or 1))
    notes.append(f"no steps were seen: {epochs} epochs were taken, {'as declared' if said.epochs else 'a default'}")
    return {"batch": batch, "epochs": epochs}


def _whole_client(visit: Visit) -> bool:
    """Whether each of the visit's batches holds all that the client has."""
    return all(size == visit.examples for size in visit.watched.batches)


def _details(seen: Sequence[Visit], optimizer: str) -> dict[str, Any]:
    """Momentum, weight decay and moments of the optimiser, and whether its state stays with the client."""
    if not seen:
        return {}
    told = seen[0].watched.settings
    found: dict[str, Any] = {}
    if told.get("weight_decay", 0.0) > 0:
        found["weight_decay"] = float(told["weight_decay"])
    momentum = float(told.get("momentum", 0.0))
    if optimizer == "sgd" and 0 < momentum < 1:
        found |= {"momentum": momentum, "nesterov": bool(told.get("nesterov", 0.0))}
    if optimizer != "sgd" and "beta1" in told and "beta2" in told:
        found["betas"] = (float(told["beta1"]), float(told["beta2"]))
    if any(visit.watched.carried for visit in seen) and (optimizer != "sgd" or "momentum" in found):
        found["keep_optimizer"] = True
    return found
