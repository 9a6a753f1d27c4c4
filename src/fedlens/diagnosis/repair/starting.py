"""A remedy for first weights that cannot learn: they are drawn anew, as each layer does by itself."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fedlens.diagnosis.job import State
from fedlens.diagnosis.subject.patient import Patient, Sent
from fedlens.diagnosis.trials.case import Case
from fedlens.diagnosis.trials.course import Setup
from fedlens.diagnosis.trials.own import Make
from fedlens.diagnosis.trials.parts import Parts, authors


def starts_anew(case: Case) -> Make | None:
    """The author's rounds from other first weights; None where the job lends no network."""
    if "model" not in case.facts.offers:
        return None

    def make(patient: Patient, seed: int) -> Parts:
        own, start = authors(patient), first_model(patient, seed)

        def fit(client: int, received: State, round: int) -> Sent:
            return own.fit(client, start if round == 1 else received, round)

        def aggregate(current: State, sent: Sequence[Sent], round: int) -> State:
            return own.aggregate(start if round == 1 else current, sent, round)

        return dataclasses.replace(own, fit=fit, aggregate=aggregate)

    return make


def first_model(patient: Patient, seed: int) -> dict[str, Tensor]:
    """The first model with weights drawn anew; what is not of the network stays."""
    drawn = afresh(patient.network(patient.init), seed).state_dict()
    return {name: drawn.get(name, value).detach().clone() for name, value in patient.init.items()}


def refers_anew(setup: Setup) -> Setup:
    """The reference from first weights drawn anew."""
    return setup.on(afresh(setup.lent.module, setup.experiment.seed))


def afresh(module: nn.Module, seed: int) -> nn.Module:
    """A copy of `module` in which every layer that can has drawn its weights anew; global random state is kept."""
    made, state = copy.deepcopy(module), torch.random.get_rng_state()
    torch.manual_seed(seed)
    try:
        for part in made.modules():
            if callable(draw := getattr(part, "reset_parameters", None)):
                draw()
    finally:
        torch.random.set_rng_state(state)
    return made
