"""Workers give what the sequential engine gives, bit for bit, whatever happens on the way."""

import dataclasses
import multiprocessing
import os
import signal
import sys
from pathlib import Path

import pytest
import torch
from small import experiment

from fedlens import Clients, ConfigurationError, Engine, Local, RunError
from fedlens.engine import Trainer, Workers, check_workers
from fedlens.engine.workers import pool
from fedlens.methods import METHODS, Transfer
from fedlens.runs import prepare
from fedlens.runs.loop import State, advance

UPDATES = [name for name, make in METHODS.items() if not isinstance(make(), Transfer)]


def final(changes: dict[str, object], **engine: object) -> State:
    return list(advance(prepare(experiment(**changes, engine=Engine(threads=1, **engine)))))[-1]


def assert_same(one: State, other: State) -> None:
    assert torch.equal(one.tree.vector, other.tree.vector) and one.row == other.row
    assert one.records == other.records and one.memory.keys() == other.memory.keys()
    for mine, theirs in ((one.server, other.server), *((one.memory[c], other.memory[c]) for c in one.memory)):
        assert mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)
    assert all(torch.equal(one.tree.integers[name], other.tree.integers[name]) for name in one.tree.integers)


@pytest.mark.parametrize("name", UPDATES)
def test_every_method_is_the_same_in_float64_and_ragged_clients(name):
    local = Local(batch="all" if name == "fedsgd" else 4, lr=0.05)
    held = 0.2 if METHODS[name]().personal else 0.0
    clients = Clients(count=4, cohort=3, partition={"kind": "quantity", "sigma": 1.0}, holdout=held)
    changes = {"method": METHODS[name](), "local": local, "clients": clients, "rounds": 3}
    assert_same(final(changes, precision="float64"), final(changes, precision="float64", kind="workers", processes=2))


RAGGED = Clients(count=6, cohort=5, partition={"kind": "quantity", "sigma": 1.0})


@pytest.mark.parametrize("processes", [1, 2, 3])
@pytest.mark.parametrize(
    "changes",
    [
        {"clients": RAGGED, "local": Local(batch=4, momentum=0.9, keep_optimizer=True)},
        {"clients": RAGGED, "server": {"reduce": "median"}},
        {"clients": RAGGED, "communication": {"up": "top-k:0.1", "down": "float16"}},
        {
            "clients": Clients(count=6, cohort=5, attackers=2, attack="gaussian:2.0"),
            "server": {"statistics": "recalibrate"},
        },
    ],
    ids=["kept optimiser", "median", "codecs", "attackers"],
)
def test_any_number_of_processes_gives_the_same_run(changes, processes):
    assert_same(final(changes), final(changes, kind="workers", processes=processes))


def test_uploads_that_do_not_fit_into_memory_wait_in_order(monkeypatch):
    # No room for a whole cohort: the slots go round, and visits are handed out in the order in which they are taken.
    monkeypatch.setattr("fedlens.engine.workers.pool.HELD", 0)
    changes = {"clients": Clients(count=12, cohort=12, partition={"kind": "quantity", "sigma": 1.0})}
    assert_same(final(changes), final(changes, kind="workers", processes=2))


def test_a_client_that_diverges_is_told_or_left_out_as_by_the_oracle():
    changes = {"local": Local(batch=4, lr=1e30), "clients": Clients(count=6, cohort=3)}
    told = []
    for engine in ({}, {"kind": "workers", "processes": 2}):
        with pytest.raises(RunError, match="client") as caught:
            final(changes, **engine)
        told.append(str(caught.value))
    assert told[0] == told[1]


def started(**engine: object):
    """A run with workers after its first round."""
    federation = prepare(experiment(engine=Engine(threads=1, kind="workers", processes=2, **engine)))
    states = advance(federation)
    next(states)
    next(states)
    assert isinstance(federation.engine, Workers)
    return federation.engine, states


def test_the_work_of_a_process_that_is_killed_is_done_again_to_the_same_run():
    engine, states = started()
    killed = [hand.process.pid for hand in engine._pool.hands]
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    assert_same(list(states)[-1], final({}))
    assert not any(Path(f"/proc/{pid}").exists() for pid in killed)


def test_a_process_that_is_killed_in_the_middle_of_a_visit_loses_nothing(monkeypatch, tmp_path):
    first = tmp_path / "first"
    visit = Trainer.visit

    def dies_once(self, tree, received, visited, state, clip):
        if visited.round == 2 and not first.exists():
            first.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return visit(self, tree, received, visited, state, clip)

    expected = final({})
    monkeypatch.setattr(Trainer, "visit", dies_once)
    assert_same(final({}, kind="workers", processes=2), expected)
    assert first.exists()


def test_a_process_that_is_killed_with_its_answer_laid_out_leaves_the_clients_states_whole(monkeypatch, tmp_path):
    first, pack = tmp_path / "first", pool.pack

    def dies_once(given, slot):
        laid = pack(given, slot)
        if given[0].record.steps and given[0].memory and round_of["now"] == 3 and not first.exists():
            first.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return laid

    visit, round_of = Trainer.visit, {"now": 0}

    def noted(self, tree, received, visited, state, clip):
        round_of["now"] = visited.round
        return visit(self, tree, received, visited, state, clip)

    changes = {"method": METHODS["scaffold"](), "clients": Clients(count=3, cohort=3)}
    expected = final(changes)
    monkeypatch.setattr(Trainer, "visit", noted)
    monkeypatch.setattr(pool, "pack", dies_once)
    assert_same(final(changes, kind="workers", processes=2), expected)
    assert first.exists()


def test_work_that_ends_two_processes_is_told_with_clients_and_round(monkeypatch):
    visit, fatal = Trainer.visit, prepare(experiment()).plan.visits(2)[0].client

    def dies(self, tree, received, visited, state, clip):
        if (visited.client, visited.round) == (fatal, 2):
            os.kill(os.getpid(), signal.SIGKILL)
        return visit(self, tree, received, visited, state, clip)

    monkeypatch.setattr(Trainer, "visit", dies)
    with pytest.raises(RunError, match=rf"client {fatal}, round 2: a worker process ended unexpectedly") as caught:
        final({}, kind="workers", processes=2)
    assert "killed by SIGKILL" in str(caught.value)
    assert not multiprocessing.active_children()


def test_a_worker_without_memory_is_told_with_its_cause(monkeypatch):
    def too_much(self, tree, received, visited, state, clip):
        torch.empty(2**50)

    monkeypatch.setattr(Trainer, "visit", too_much)
    with pytest.raises(RunError, match=r"client(.|\n)*alloc"):
        final({}, kind="workers", layout="channels-first", processes=2)


def test_an_evaluation_in_parts_is_the_same_evaluation(monkeypatch):
    monkeypatch.setattr("fedlens.engine.workers.workers.BATCH", 4)
    monkeypatch.setattr(sys.modules["fedlens.local.evaluate"], "BATCH", 4)
    engine, _ = started()
    alone = prepare(experiment(engine=Engine(threads=1))).engine
    tree, order = prepare(experiment()).start, torch.randperm(30).numpy()
    for how in ("running", "batch"):
        one, other = alone.evaluate(tree, order, how), engine.evaluate(tree, order, how)
        assert one.loss == other.loss and (one.confusion == other.confusion).all()
    engine.close()


def test_no_process_outlives_a_run():
    before = set(multiprocessing.active_children())
    final({}, kind="workers", processes=2)
    assert set(multiprocessing.active_children()) == before


def test_inside_a_daemonic_process_workers_are_refused_in_words(monkeypatch):
    monkeypatch.setattr(multiprocessing, "current_process", lambda: dataclasses.make_dataclass("P", ["daemon"])(True))
    with pytest.raises(ConfigurationError, match="cannot start workers"):
        check_workers()
