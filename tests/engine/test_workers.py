"""Workers give what the sequential engine gives, bit for bit, whatever happens on the way."""

import dataclasses
import multiprocessing
import os
import signal

import pytest
import torch
from small import experiment

from fedlens import Clients, ConfigurationError, Engine, Local, RunError
from fedlens.engine import Workers, check_workers
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
    monkeypatch.setattr("fedlens.engine.workers.HELD", 0)
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


def test_a_worker_that_is_killed_is_told_with_client_and_round_and_the_engine_starts_anew():
    federation = prepare(experiment(engine=Engine(threads=1, kind="workers", processes=1)))
    states = advance(federation)
    next(states)
    next(states)
    engine = federation.engine
    assert isinstance(engine, Workers)
    os.kill(engine._pool.children[0].pid, signal.SIGKILL)
    with pytest.raises(RunError, match=r"client \d+, round 2: a worker process ended unexpectedly"):
        next(states)
    again = list(advance(federation))[-1]
    assert_same(again, final({}))


def test_no_process_outlives_a_run():
    before = set(multiprocessing.active_children())
    final({}, kind="workers", processes=2)
    assert set(multiprocessing.active_children()) == before


def test_inside_a_daemonic_process_workers_are_refused_in_words(monkeypatch):
    monkeypatch.setattr(multiprocessing, "current_process", lambda: dataclasses.make_dataclass("P", ["daemon"])(True))
    with pytest.raises(ConfigurationError, match="cannot start workers"):
        check_workers()
