"""Clients of a small model trained together give what one by one gives, to the rounding of float64."""

import dataclasses

import numpy as np
import pytest
import torch
from small import experiment
from torch import nn

from fedlens import Clients, Engine, Local, Model, RunError
from fedlens.engine.together import Together
from fedlens.methods import METHODS, Transfer
from fedlens.runs import prepare
from fedlens.runs.loop import State, advance

RAGGED = Clients(count=8, cohort=7, partition={"kind": "quantity", "sigma": 1.0})
TOGETHER = [
    name
    for name, make in METHODS.items()
    if not isinstance(make(), Transfer)
    and (make().loss, make().perturb, make().keeps, make().own) == (None, None, None, None)
]


def tiny(shape: tuple[int, ...], classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 7), nn.ReLU(), nn.Linear(7, classes))


def job(**changes: object) -> dict[str, object]:
    base = {"model": Model(f"{__name__}:tiny"), "clients": RAGGED, "local": Local(batch=4, epochs=2, lr=0.05)}
    return {**base, **changes}


def final(changes: dict[str, object], **engine: object) -> State:
    settings = Engine(**{"kind": "sequential", "precision": "float64", "together": 1, **engine})
    return list(advance(prepare(experiment(**job(**changes), engine=settings))))[-1]


def assert_equal(one: State, other: State, close: float = 1e-12) -> None:
    torch.testing.assert_close(one.tree.vector, other.tree.vector, rtol=1e-12, atol=close)
    assert one.memory.keys() == other.memory.keys()
    for client, kept in one.memory.items():
        for name, vector in kept.items():
            torch.testing.assert_close(vector, other.memory[client][name], rtol=1e-12, atol=1e-12)
    for name in ("clients", "samples", "steps", "bytes_up", "bytes_down"):
        assert one.row[name] == other.row[name]
    for name in ("loss_first", "loss_last", "update_norm", "coherence"):
        assert one.row[name] == pytest.approx(other.row[name], rel=1e-10)
    assert [dataclasses.replace(r, loss_first=0, loss_last=0, update_norm=0) for r in one.records] == [
        dataclasses.replace(r, loss_first=0, loss_last=0, update_norm=0) for r in other.records
    ]


@pytest.mark.parametrize("name", TOGETHER)
def test_every_method_that_trains_together_gives_what_one_by_one_gives(name):
    changes = {"method": METHODS[name](), "rounds": 3}
    changes |= {"local": Local(batch="all", lr=0.05)} if name == "fedsgd" else {}
    assert_equal(final(changes, together=3), final(changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"local": Local(batch=4, lr=0.02, momentum=0.9, weight_decay=0.01)},
        {"local": Local(batch=5, lr=0.01, optimizer="adam")},
        {"local": Local(batch=4, lr=0.05, clip_norm=0.5)},
        {"server": {"reduce": "median"}},
        {"server": {"weights": "uniform"}},
        {"communication": {"up": "qsgd:256"}},
        {"clients": dataclasses.replace(RAGGED, attackers=2, attack="label-flip")},
        {"server": {"weights": "uniform"}, "privacy": {"mechanism": {"kind": "central", "clip": 0.1, "noise": 1.0}}},
        {"model": Model("logistic")},
    ],
    ids=["momentum", "adam", "clipped", "median", "uniform", "quantised", "label flip", "private", "logistic"],
)
def test_whatever_stands_around_training_is_the_same(changes):
    # Adam divides by the root of squares as small as the rounding of a gradient that is nearly zero, and enlarges it.
    close = 1e-10 if changes.get("local", Local()).optimizer == "adam" else 1e-12
    assert_equal(final(changes, together=3), final(changes), close)


def test_the_number_of_processes_changes_no_bit_of_a_run_in_groups():
    runs = [final({}, together=2), *(final({}, together=2, kind="workers", processes=n) for n in (1, 2, 3))]
    for run in runs[1:]:
        assert torch.equal(run.tree.vector, runs[0].tree.vector) and run.row == runs[0].row
        assert run.records == runs[0].records


def test_a_client_that_diverges_is_told_as_one_by_one():
    told = []
    for together in (1, 3):
        with pytest.raises(RunError, match="client") as caught:
            final({"local": Local(batch=4, lr=1e60)}, together=together)
        told.append(str(caught.value))
    assert told[0].split(" step")[0].split(":")[-1] == told[1].split(" step")[0].split(":")[-1]


def test_a_client_that_diverges_is_left_out_where_the_others_go_on(monkeypatch):
    real = Together._sum  # trains a group at one rate, and would not see that one visit has none

    def seen(self, tree, group, *others):
        return None if any(np.isnan(visit.rate) for visit in group) else real(self, tree, group, *others)

    monkeypatch.setattr(Together, "_sum", seen)
    runs = []
    for settings in ({"together": 1}, {"together": 3}, {"together": 3, "kind": "workers", "processes": 2}):
        federation = prepare(
            experiment(
                **job(clients=dataclasses.replace(RAGGED, on_failure="skip"), local=Local(batch=4, lr=0.05)),
                engine=Engine(**{"kind": "sequential", "precision": "float64", **settings}),
            )
        )
        visits = federation.plan.visits(1)
        bad = dataclasses.replace(visits[2], rate=float("nan"))
        outcome = federation.engine.round(federation.start, {}, [*visits[:2], bad, *visits[3:]], {})
        federation.engine.close()
        runs.append(outcome)
        assert [entry["client"] for entry in outcome.skipped] == [bad.client]
    for other in runs[1:]:
        torch.testing.assert_close(runs[0].reduced()["update"], other.reduced()["update"], rtol=1e-12, atol=1e-12)
        assert [r.client for r in other.records] == [r.client for r in runs[0].records]


@pytest.mark.parametrize(("method", "momentum"), [("fedavg", 0.9), ("fedprox", 0.9), ("fedavg", 0.0)])
def test_references_are_trained_as_they_are_one_by_one(method, momentum):
    # Pooled training is plain and keeps its momentum, whatever the federation's own local work does.
    local = Local(batch=4, lr=0.05, momentum=momentum)
    ends = []
    for many in (1, 3):
        settings = Engine(kind="sequential", precision="float64", together=many)
        federation = prepare(experiment(**job(local=local, method=METHODS[method]()), engine=settings))
        for twin in (federation.pooled(3, 5), federation.redealt()):
            ends.append(list(advance(twin))[-1].tree.vector)
    for one, other in zip(ends[:2], ends[2:], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_more_clients_together_than_there_is_room_for_uploads_end_all_the_same(monkeypatch):
    monkeypatch.setattr("fedlens.engine.workers.pool.HELD", 0)
    for method in ("fedavg", "scaffold"):
        changes = {"method": method}
        one, other = final(changes, together=3), final(changes, together=3, kind="workers", processes=2)
        assert torch.equal(one.tree.vector, other.tree.vector)


@pytest.mark.parametrize(
    "changes",
    [{"model": Model("small:conv_bn")}, {"method": "moon"}, {"local": Local(keep_optimizer=True, momentum=0.9)}],
    ids=["convolutions", "a loss of its own", "kept optimisers"],
)
def test_what_has_no_such_form_is_done_one_by_one(changes):
    engine = prepare(experiment(**job(**changes), engine=Engine(kind="sequential", together=3))).engine
    assert not isinstance(engine.hand, Together)


def test_a_chain_is_done_together_where_it_is_asked_for():
    engine = prepare(experiment(**job(), engine=Engine(kind="sequential", together=3))).engine
    assert isinstance(engine.hand, Together) and engine.hand.many == 3
