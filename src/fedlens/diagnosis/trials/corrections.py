"""Remedies to who takes part and on which data: clients drawn anew or left out, labels and inputs put right."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import torch
from torch import Tensor

from fedlens.diagnosis.job import State
from fedlens.diagnosis.subject.patient import Patient, Sent
from fedlens.diagnosis.trials.case import Case, Correction, doctors_client
from fedlens.diagnosis.trials.own import Make
from fedlens.diagnosis.trials.parts import Parts, Sample, authors
from fedlens.seeds import generator


def sample_all(case: Case) -> Make:
    """Every round's clients drawn uniformly."""
    return lambda patient, seed: dataclasses.replace(
        authors(patient), sample=_uniform(range(patient.clients), patient.cohort, seed)
    )


def without(case: Case) -> Make | None:
    """The faulty clients' places go to others."""
    bad = set(case.finding.clients)

    def make(patient: Patient, seed: int) -> Parts:
        good = [client for client in range(patient.clients) if client not in bad]

        def sample(round: int) -> list[int]:
            asked = patient.sample(round)
            kept = [client for client in asked if client not in bad]
            others = [client for client in good if client not in kept]
            return [*kept, *_uniform(others, len(asked) - len(kept), seed)(round)]

        return dataclasses.replace(authors(patient), sample=sample)

    return make if bad and len(bad) < case.facts.clients else None


def nothing_of(case: Case) -> Correction | None:
    """The faulty clients' examples taken away, for the reference."""
    bad = set(case.finding.clients)
    return Correction(change=lambda client, inputs, said: (inputs[:0], said[:0]) if client in bad else (inputs, said))


def _uniform(clients: Iterable[int], cohort: int, seed: int) -> Sample:
    among = list(clients)

    def sample(round: int) -> list[int]:
        drawn = generator(seed, "treated", round).choice(len(among), min(cohort, len(among)), replace=False)
        return [among[int(place)] for place in drawn]

    return sample


def relabel(case: Case) -> Correction | None:
    """The faulty clients' labels by the map that was found: `maps[client][label]` is the class that is meant."""
    labels = case.evidence.labels
    maps = {} if labels is None else {c: labels.maps[c] for c in case.finding.clients if c in labels.maps}

    def change(client: int, inputs: Tensor, said: Tensor) -> tuple[Tensor, Tensor]:
        if client not in maps:
            return inputs, said
        new = torch.as_tensor(maps[client])
        if said.dim() > 1 and said.shape[-1] > 1:
            return inputs, torch.zeros_like(said).index_copy(1, new, said)
        known = (said >= 0) & (said < len(new))
        return inputs, torch.where(known, new[said.long().clamp(0, len(new) - 1)].to(said.dtype), said)

    return Correction(change=change) if maps else None


def rescale(case: Case) -> Correction | None:
    """The named clients' inputs get the test set's scale: by the factor that was measured, else by mean and spread."""
    data = case.evidence.data
    if data is None or data.test is None or not case.finding.clients:
        return None
    test, scaled, inputs = data.test, data.scaled, data.inputs

    def change(client: int, given: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        if client not in case.finding.clients:
            return given, labels
        if client in scaled and scaled[client] > 0:
            return given.float() / scaled[client], labels
        mine = inputs.get(client)
        if mine is None:
            return given, labels
        channels = [1, -1] + [1] * (given.dim() - 2) if len(mine.mean) > 1 and given.dim() > 1 else [1] * given.dim()
        mean, std = (torch.tensor(part).view(channels) for part in (mine.mean, mine.std))
        wanted, spread = (torch.tensor(part).view(channels) for part in (test.mean, test.std))
        return (given.float() - mean) / std.clamp_min(1e-12) * spread + wanted, labels

    return Correction(change=change)


def of_some(case: Case, put_right: Correction) -> Make:
    """The author's own clients, save the faulty ones, whose data are corrected: those are the doctor's."""

    def make(patient: Patient, seed: int) -> Parts:
        treated, own = doctors_client(case, put_right)(patient, seed), authors(patient)

        def fit(client: int, received: State, round: int) -> Sent:
            return (treated if client in case.finding.clients else own).fit(client, received, round)

        return dataclasses.replace(own, fit=fit)

    return make
