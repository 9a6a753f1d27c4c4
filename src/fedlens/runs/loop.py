"""The rounds of a run, one after another: plan, train, aggregate, evaluate. It writes nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fedlens.engine import Draw, Exchange, Federated, Network, Outcome, Record, Void
from fedlens.engine.sequential import CLIP
from fedlens.methods import Reduced, Server
from fedlens.runs.experiment import Experiment
from fedlens.runs.federation import Federation
from fedlens.runs.measure import halves, losses, measure, test_set
from fedlens.runs.prepare import initial_model, prepare
from fedlens.runs.states import beginning, updated
from fedlens.tree import Tree


@dataclass(frozen=True)
class State:
    """Where a run stands after `round` (0: untrained).

    `server` and `memory` are what the method remembers on the server and of each client. `row` is what rounds.jsonl
    says of the round: no clock in it, so that a repeated run gives the same row. `average` [P] is the mean of the
    `averaged` models that server.average_from asks for.
    """

    round: int
    tree: Tree
    server: Mapping[str, Tensor] = field(default_factory=dict)
    memory: Mapping[int, Mapping[str, Tensor]] = field(default_factory=dict)
    row: Mapping[str, Any] = field(default_factory=dict)
    records: tuple[Record, ...] = ()
    train_seconds: float = 0.0
    evaluate_seconds: float = 0.0
    average: Tensor | None = None
    averaged: int = 0

    @property
    def accuracy(self) -> float | None:
        """What the run is judged by, where this round was evaluated: the server's model on the test set, or, where it
        has no whole one, the clients' own models on their own hold-outs."""
        found: float | None = self.row.get("accuracy", self.row.get("personal_accuracy"))
        return found

    def load_into(self, module: nn.Module) -> nn.Module:
        """Give `module` this state's parameters and buffers."""
        module.load_state_dict(self.tree.state_dict(), strict=False)
        return module


def stream(experiment: Experiment) -> Iterator[State]:
    """The states of a run, from the untrained model on; the loop belongs to the caller, and nothing is written.

    Stop whenever you like. `state.load_into(fedlens.initial_model(experiment))` gives a module to use.
    """
    yield from advance(prepare(experiment))


def advance(federation: Federation, start: State | None = None, folder: Path | None = None) -> Iterator[State]:
    """The states after `start` (None: beginning with the untrained model), to the plan's last round.

    `folder`: where clients' states lie if they are to lie on disk; None: in a temporary one.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(federation.threads)
    try:
        state = start
        if state is None:
            memory = beginning(federation.experiment.engine.states, folder)
            state = _evaluated(federation, replace(untrained(federation), memory=memory))
            yield state
        while state.round < federation.plan.rounds:
            state = _round(federation, state)
            yield state
    finally:
        federation.engine.close()
        torch.set_num_threads(before)


def untrained(federation: Federation) -> State:
    """The state before the first round, not evaluated."""
    tree = federation.start
    first = federation.engine.trainer.method.server_memory
    server = {name: torch.full_like(tree.vector[: tree.layout.trained], value) for name, value in first.items()}
    mechanism = federation.engine.trainer.sender.mechanism
    if mechanism is not None:
        server[CLIP] = torch.tensor(mechanism.clip, dtype=torch.float64)
    return State(0, tree, server, row={"round": 0})


def _round(federation: Federation, state: State) -> State:
    if federation.exchange is not None:
        return _transferred(federation, federation.exchange, state)
    number, began, engine = state.round + 1, time.perf_counter(), federation.engine
    asked, outcome = _Asked(federation, state.tree), None
    draw = federation.plan.draw(number, asked)
    rate = federation.experiment.local.rate(number, federation.plan.rounds)  # before any scaling by size
    row = {"round": number, "rate": rate, **_travel(federation, draw)}
    try:
        outcome = engine.round(state.tree, state.server, draw.visits, state.memory)
        reduced = engine.reduced(outcome, state.server, number)
    except Void as reason:
        if not engine.skip_failures:
            raise _at(reason, number) from None
        row |= _in_vain(federation, draw, outcome, asked.clients) | {"void": reason.problems[0].what}
        done = replace(state, round=number, row=row, records=(), evaluate_seconds=0.0)
    else:
        row |= _facts(federation, draw, outcome, reduced, asked.clients)
        done = replace(_next(federation, state, draw, outcome, reduced), row=row)
    return _if_due(federation, replace(done, train_seconds=time.perf_counter() - began))


def _next(federation: Federation, state: State, draw: Draw, outcome: Outcome, reduced: Mapping[str, Tensor]) -> State:
    """The state that the uploads of a round make of `state`."""
    number, engine = state.round + 1, federation.engine
    weights, rest = state.tree.vector.tensor_split([state.tree.layout.trained])
    private = engine.trainer.sender.mechanism is not None  # then the number of answers must not show
    answers = engine.expected if private else len(outcome.records)
    answered = Reduced(reduced, answers / federation.plan.clients)
    server = engine.trainer.method.aggregate(Server(weights, state.server), answered)
    tree = state.tree.with_(torch.cat([server.weights, rest + outcome.rest.mean()]), outcome.integers)
    came = {record.client for record in outcome.records}
    tree = engine.recalibrated(tree, [visit for visit in draw.visits if visit.client in came])
    average, averaged = _averaged(federation, state, number, tree)
    return State(
        number,
        tree,
        {**server.memory, **engine.after(outcome, state.server, number)},
        updated(state.memory, outcome.memory),
        records=tuple(outcome.records),
        average=average,
        averaged=averaged,
    )


def _transferred(federation: Federation, exchange: Exchange, state: State) -> State:
    """The state after a round in which knowledge is exchanged, not updates."""
    number, began = state.round + 1, time.perf_counter()
    done = exchange.round(state.tree, state.server, federation.plan.visits(number), state.memory)
    rate = federation.experiment.local.rate(number, federation.plan.rounds)
    row = {"round": number, "rate": rate, "coherence": None, **done.facts()}
    memory, seconds = updated(state.memory, done.memory), time.perf_counter() - began
    return _if_due(federation, State(number, done.tree, done.server, memory, row, tuple(done.records), seconds))


class _Asked:
    """The current model's mean loss on each of some clients' examples, for selections that look; counts `clients`."""

    def __init__(self, federation: Federation, tree: Tree) -> None:
        self.federation, self.tree, self.clients = federation, tree, 0

    def __call__(self, clients: np.ndarray) -> np.ndarray:
        self.clients += len(clients)
        return losses(self.federation, self.tree, clients)


def _at(reason: Void, round: int) -> Void:
    problem = reason.problems[0]
    where = ", ".join(filter(None, (f"round {round}", problem.where)))
    return Void(problem.what, where=where, seen=problem.seen, do=problem.do)


def _facts(
    federation: Federation, draw: Draw, outcome: Outcome, reduced: Mapping[str, Tensor], asked: int
) -> dict[str, Any]:
    """What a round's record says beside the evaluation. Bytes are those of the encoded float vectors, both ways."""
    records = outcome.records
    update = reduced["update"].norm().item()
    mean_square = outcome.squares / outcome.sums["update"].weight
    downloads = max(len(draw.journeys), len(draw.visits)) + asked
    moments = 0
    if federation.engine.recalibrate:  # the new model goes out once more, and two moments for each statistic come back
        downloads += len(draw.visits)
        moments = len(draw.visits) * federation.engine.trainer.statistics * outcome.rest.mean().element_size()
    return {
        "clients": [record.client for record in records],
        "samples": sum(record.samples for record in records),
        "steps": sum(record.steps for record in records),
        "loss_first": sum(record.loss_first for record in records) / len(records),
        "loss_last": sum(record.loss_last for record in records) / len(records),
        "update_norm": update,
        # ||mean||^2 over the mean of ||Delta_i||^2: 1 when all clients agree, 1/m when they are orthogonal.
        "coherence": update**2 / mean_square if mean_square else None,
        "bytes_down": downloads * outcome.bytes_down,
        "bytes_up": outcome.bytes_up + moments,
        "skipped": outcome.skipped,
    }


def _in_vain(federation: Federation, draw: Draw, outcome: Outcome | None, asked: int) -> dict[str, Any]:
    """What a void round's record says: work and traffic that changed nothing."""
    records = [] if outcome is None else outcome.records
    downloads = max(len(draw.journeys), len(draw.visits)) + asked
    return {
        "clients": [],
        "samples": sum(record.samples for record in records),
        "steps": sum(record.steps for record in records),
        "bytes_down": downloads * federation.engine.trainer.traffic(federation.start)[0],
        "bytes_up": 0 if outcome is None else outcome.bytes_up,
        "skipped": [] if outcome is None else outcome.skipped,
    }


def _travel(federation: Federation, draw: Draw) -> dict[str, Any]:
    """What the network did to the round, in simulated seconds; nothing where there is none."""
    if federation.experiment.network == Network() or not isinstance(federation.plan, Federated):
        return {}
    fates = {"late": draw.clients("late"), "dropped": draw.clients("dropped"), "surplus": draw.clients("surplus")}
    cut = {str(visit.client): visit.cut for visit in draw.visits if visit.cut}
    return {"simulated_seconds": draw.seconds, "unavailable": len(draw.unavailable), **fates, "steps_cut": cut}


def _averaged(federation: Federation, state: State, number: int, tree: Tree) -> tuple[Tensor | None, int]:
    """The mean of models after round `number`, and how many models it is of."""
    if not federation.experiment.server.averages(number, federation.plan.rounds):
        return state.average, state.averaged
    count = state.averaged + 1
    if state.average is None:
        return tree.vector, count
    return torch.lerp(state.average, tree.vector, 1 / count), count


def _if_due(federation: Federation, state: State) -> State:
    due = state.round % federation.experiment.evaluate_every == 0 or state.round == federation.plan.rounds
    return _evaluated(federation, state) if due else state


def _evaluated(federation: Federation, state: State) -> State:
    began = time.perf_counter()
    last = state.round == federation.plan.rounds
    if federation.exchange is None:
        measured = measure(federation, state.tree, state.memory, last=last)
    else:
        measured = halves(federation, federation.exchange, state.tree, state.memory, state.row.get("clients", [0]))
    if state.average is not None:
        measured["accuracy_averaged"] = test_set(federation, state.tree.with_(state.average)).accuracy
    seconds = time.perf_counter() - began
    return replace(state, row={**state.row, **measured}, evaluate_seconds=seconds)


__all__ = ["State", "advance", "initial_model", "stream"]
