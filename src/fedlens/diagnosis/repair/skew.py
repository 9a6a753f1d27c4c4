"""Remedies for clients whose data differ: knobs of the reference, alone and together, on the same examples in all."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from fedlens.diagnosis.trials.course import Setup
from fedlens.diagnosis.trials.knobs import KNOBS, Turn, rate_times
from fedlens.methods import fedavgm
from fedlens.methods.method import add_update

BETA = 0.9  # of the server's momentum
MOST = 3  # single knobs that are tried on top of the best


def _everybody(setup: Setup) -> Setup | None:
    """All clients in every round, each with so many fewer steps that a round sees no more examples."""
    e = setup.experiment
    now = e.local.step_count(round(float(setup.lent.deal.sizes.mean())))
    steps = now * e.clients.cohort // e.clients.count
    if e.clients.cohort == e.clients.count or steps < 1:
        return None
    clients = dataclasses.replace(e.clients, cohort=e.clients.count)
    return setup.with_(clients=clients, local=dataclasses.replace(e.local, steps=steps))


def _momentum(rate: float) -> Turn:
    """Momentum at the server, whose rate is `rate`."""

    def turn(setup: Setup) -> Setup | None:
        method, step = setup.experiment.method, fedavgm(beta=BETA, server_lr=rate)
        if method.aggregate is not add_update:
            return None
        changed = dataclasses.replace(method, aggregate=step.aggregate, server_memory=step.server_memory)
        return setup.with_(method=changed)

    return turn


TURNS: dict[str, tuple[Turn, str]] = {
    "everybody": (_everybody, "all clients take part in every round, each with so many fewer steps"),
    "momentum": (_momentum(1.0), f"the server takes momentum {BETA:g}"),
    "slow-momentum": (_momentum(0.3), f"the server takes momentum {BETA:g} at a rate of 0.3"),
    "fewer-steps": (KNOBS["fewer-steps"].turn, "half the local steps in twice the rounds"),
    "fedlc": (KNOBS["fedlc"].turn, "clients calibrate their logits by their own labels (FedLC)"),
    "faster": (rate_times(3.0), "three times the local rate"),
    "slower": (rate_times(1 / 3), "a third of the local rate"),
}


def turned(value: str) -> Turn:
    """The knobs that `value` names, "everybody+faster" for instance, one after the other; None where one of them finds
    nothing to turn."""

    def turn(setup: Setup) -> Setup | None:
        for name in value.split("+"):
            changed = TURNS[name][0](setup)
            if changed is None:
                return None
            setup = changed
        return setup

    return turn


def words(value: str) -> str:
    """What the knobs of `value` change, "" where there are none."""
    return "; ".join(TURNS[name][1] for name in value.split("+")) if value else ""


def best(score: Callable[[str], float], least: float, enough: float) -> str:
    """The knobs with the highest `score`: the best of all single ones and, on top of it, of the MOST next best.

    What is not above `least` is left out, and the first that reaches `enough` is taken. "" where nothing helps.
    """
    singles: dict[str, float] = {}
    for name in TURNS:
        singles[name] = score(name)
        if singles[name] >= enough:
            return name
    helpful = sorted((name for name in singles if singles[name] > least), key=lambda name: -singles[name])
    if not helpful:
        return ""
    found = {helpful[0]: singles[helpful[0]]}
    for name in helpful[1 : 1 + MOST]:
        both = f"{helpful[0]}+{name}"
        found[both] = score(both)
        if found[both] >= enough:
            break
    return max(found, key=lambda value: found[value])
