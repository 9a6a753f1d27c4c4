"""Runs with very many registered clients: only those that are visited cost anything."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import fedlens as fl
from fedlens import Clients, Data, Engine, Experiment, Local, Model, References
from fedlens.data import Synthetic, synthetic
from fedlens.runs.prepare import prepare

CLIENTS = 30_000


def job(**changes) -> Experiment:
    settings = {
        "rounds": 2,
        "data": Data("synthetic", synthetic=Synthetic(clients=CLIENTS, features=8, test=200)),
        "clients": Clients(count=CLIENTS, cohort=20, partition="natural:client"),
        "model": Model("mlp"),
        "local": Local(batch=10, lr=0.1),
        "engine": Engine(kind="sequential", threads=1),
        "references": References(centralised=False),
    }
    return Experiment(**{**settings, **changes})


@pytest.fixture
def made(monkeypatch) -> dict[str, int]:
    """How many images and labels have been made."""
    counted = {"images": 0, "labels": 0}
    for name in counted:
        make = getattr(synthetic._Points, name)

        def counting(self, at, name=name, make=make):
            counted[name] += len(at)
            return make(self, at)

        monkeypatch.setattr(synthetic._Points, name, counting)
    return counted


def test_a_round_makes_the_examples_of_its_cohort_and_no_others(made):
    states = fl.stream(job())
    next(states)
    for _ in range(2):
        begun = dict(made)
        cohort = next(states).row["samples"]
        # A visit may look at one example more, to see how large they are; worst_decile looks at 10,000 clients' labels.
        assert cohort <= made["images"] - begun["images"] <= cohort + 20
        assert cohort <= made["labels"] - begun["labels"] < 10_000 * 27 + 3 * cohort


def test_a_deal_to_many_clients_is_described_by_ten_thousand_of_them():
    run = fl.run(job())
    deal = prepare(run.experiment).deal
    with np.load(run.path / "clients" / "partition.npz") as split:
        counts, clients = split["counts"], split["clients"]
    assert counts.shape == (10_000, 10) and clients.shape == (10_000,)
    assert counts.sum(axis=1).tolist() == deal.sizes[clients].tolist()
    told = run.summary["partition"]
    assert told["clients"] == CLIENTS and told["samples"] == int(deal.sizes.sum()) > 10_000 * 50
    assert told["size_min"] == 1 and told["size_max"] == 50
    assert "NaN" not in json.dumps(run.summary) and (run.path / "report.html").is_file()
    assert 0 < run.summary["final"]["worst_decile"] < run.summary["final"]["last"] + 0.1


def test_skew_shows_in_the_numbers_of_the_deal():
    data = {"clients": CLIENTS, "features": 8, "test": 200}
    seen = []
    for skew in (0.0, 0.5):
        federation = prepare(job(data=Data("synthetic", synthetic=Synthetic(**data, skew=skew))))
        counts = federation.counts()
        seen.append(float((counts.max(axis=1) / counts.sum(axis=1)).mean()))
    assert seen[1] > seen[0] + 0.2


def test_a_million_clients_are_dealt_to_without_a_list_of_their_examples():
    federation = prepare(
        job(
            data=Data("synthetic", synthetic=Synthetic(clients=1_000_000)),
            clients=Clients(count=1_000_000, cohort=20, partition="natural:client"),
        )
    )
    assert isinstance(federation.deal.indices, range) and len(federation.deal.indices) > 25_000_000
    draw = federation.plan.draw(1)
    assert len({visit.client for visit in draw.visits}) == 20
    assert all(np.diff(visit.indices).tolist() == [1] * (visit.examples - 1) for visit in draw.visits)
    assert not any(isinstance(part, torch.Tensor) for part in vars(federation.split.train).values())
