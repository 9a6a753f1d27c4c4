"""Remedies to who takes part and on which data: clients drawn anew or left out, labels and inputs put right."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import torch
from torch import Tensor

from fedlens.diagnosis.evidence import Inputs
from fedlens.diagnosis.job import State
from fedlens.diagnosis.subject.patient import Patient, Sent
from fedlens.diagnosis.trials.case import Case, Correction, doctors_client
from fedlens.diagnosis.trials.own import Make
from fedlens.diagnosis.trials.parts import Parts, Sample, authors
from fedlens.seeds import generator

NEAR = 0.1  # standard deviations that the means of two clients' inputs differ by without being shifted


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
    """The faulty clients' labels by the map that was found: `maps[client][label]` is the class that is meant.

    Where the finding names no clients, all that were found to have a map of their own. What has no label is left out.
    """
    labels, outside = case.evidence.labels, case.finding.cause == "L3"
    faulty = case.finding.clients or (() if labels is None else labels.mapped)
    maps = {} if labels is None else {c: labels.maps[c] for c in faulty if c in labels.maps}

    def change(client: int, inputs: Tensor, said: Tensor) -> tuple[Tensor, Tensor]:
        if outside:
            told = _within(said, case.facts.classes)
            inputs, said = inputs[told], said[told]
        if client not in maps:
            return inputs, said
        new = torch.as_tensor(maps[client])
        if said.dim() > 1 and said.shape[-1] > 1:
            return inputs, torch.zeros_like(said).index_copy(1, new, said)
        known = (said >= 0) & (said < len(new))
        return inputs, torch.where(known, new[said.long().clamp(0, len(new) - 1)].to(said.dtype), said)

    return Correction(change=change) if maps or outside else None


def _within(labels: Tensor, classes: int | None) -> Tensor:
    """Which of `labels` name a class."""
    if labels.dim() > 1 and labels.shape[-1] > 1:
        return labels.flatten(1).sum(dim=1) > 0
    flat = labels.flatten()
    return (flat >= 0) & (flat < (classes or float("inf")))


def rescale(case: Case) -> Correction | None:
    """The named clients' inputs get the test set's scale: by its ends, by the factor that was measured, or by
    mean and spread."""
    data = case.evidence.data
    if data is None or data.test is None or not case.finding.clients:
        return None
    test, scaled, inputs = data.test, data.scaled, data.inputs

    def change(client: int, given: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        if client not in case.finding.clients:
            return given, labels
        mine = inputs.get(client)
        if mine is not None and (ends := _by_ends(mine, test)) is not None:
            return given.float() * ends[0] + ends[1], labels
        if scaled.get(client, 0.0) > 0 and (mine is None or _only_scaled(mine, test, scaled[client])):
            return given.float() / scaled[client], labels
        if mine is None:
            return given, labels
        channels = [1, -1] + [1] * (given.dim() - 2) if len(mine.mean) > 1 and given.dim() > 1 else [1] * given.dim()
        mean, std = (torch.tensor(part).view(channels) for part in (mine.mean, mine.std))
        wanted, spread = (torch.tensor(part).view(channels) for part in (test.mean, test.std))
        return (given.float() - mean) / std.clamp_min(1e-12) * spread + wanted, labels

    return Correction(change=change)


def _by_ends(mine: Inputs, test: Inputs) -> tuple[float, float] | None:
    """Factor and shift that bring the least and the largest input to those of the test set, where that also brings
    the moments there: of inputs with bounds, such as pixels, it is the exact transform."""
    factor = (test.high - test.low) / max(mine.high - mine.low, 1e-12)
    shift = test.low - factor * mine.low
    each = zip(mine.mean, mine.std, test.mean, test.std, strict=False)
    near = (
        abs(factor * mean + shift - to) <= NEAR * wide and abs(factor * std - wide) <= NEAR * wide
        for mean, std, to, wide in each
    )
    return (factor, shift) if factor > 0 and all(near) else None


def _only_scaled(mine: Inputs, test: Inputs, factor: float) -> bool:
    """Whether the factor alone brings a client's inputs to where those of the test set are."""
    each = zip(mine.mean, test.mean, test.std, strict=False)
    return all(abs(mean / factor - wanted) <= NEAR * spread for mean, wanted, spread in each)


def of_some(case: Case, put_right: Correction) -> Make:
    """The author's own clients, save the faulty ones, whose data are corrected: those are the doctor's."""

    def make(patient: Patient, seed: int) -> Parts:
        treated, own = doctors_client(case, put_right)(patient, seed), authors(patient)

        def fit(client: int, received: State, round: int) -> Sent:
            return (treated if client in case.finding.clients else own).fit(client, received, round)

        return dataclasses.replace(own, fit=fit)

    return make
