"""The rounds of a run, one after another: plan, train, aggregate, evaluate. It writes nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from fedlens.engine import Outcome, Record
from fedlens.methods import Reduced, Server
from fedlens.runs.experiment import Experiment
from fedlens.runs.federation import Federation, initial_model, prepare
from fedlens.runs.measure import measure, test_set
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


def advance(federation: Federation, start: State | None = None) -> Iterator[State]:
    """The states after `start` (None: beginning with the untrained model), to the plan's last round."""
    before = torch.get_num_threads()
    torch.set_num_threads(federation.threads)
    try:
        state = start
        if state is None:
            state = _evaluated(federation, untrained(federation))
            yield state
        while state.round < federation.plan.rounds:
            state = _round(federation, state)
            yield state
    finally:
        torch.set_num_threads(before)


def untrained(federation: Federation) -> State:
    """The state before the first round, not evaluated."""
    tree = federation.start
    first = federation.engine.trainer.method.server_memory
    server = {name: torch.full_like(tree.vector[: tree.layout.trained], value) for name, value in first.items()}
    return State(0, tree, server, row={"round": 0})


def _round(federation: Federation, state: State) -> State:
    number, began = state.round + 1, time.perf_counter()
    visits = federation.plan.visits(number)
    outcome = federation.engine.round(state.tree, state.server, visits, state.memory)
    reduced = outcome.reduced()
    weights, rest = state.tree.vector.tensor_split([state.tree.layout.trained])
    answered = Reduced(reduced, len(outcome.records) / federation.plan.clients)
    server = federation.engine.trainer.method.aggregate(Server(weights, state.server), answered)
    tree = state.tree.with_(torch.cat([server.weights, rest + outcome.rest.mean()]), outcome.integers)
    rate = federation.experiment.local.rate(number, federation.plan.rounds)  # before any scaling by size
    row = {"round": number, "rate": rate, **_facts(federation, state.tree, outcome, reduced)}
    memory = {**state.memory, **outcome.memory}
    seconds = time.perf_counter() - began
    tree = federation.engine.recalibrated(tree, visits)
    average, averaged = _averaged(federation, state, number, tree)
    done = State(
        number, tree, server.memory, memory, row, tuple(outcome.records), seconds, average=average, averaged=averaged
    )
    due = number % federation.experiment.evaluate_every == 0 or number == federation.plan.rounds
    return _evaluated(federation, done) if due else done


def _facts(federation: Federation, tree: Tree, outcome: Outcome, reduced: Mapping[str, Tensor]) -> dict[str, Any]:
    """What a round's record says beside the evaluation. Bytes are those of the float vectors, both ways."""
    records, size = outcome.records, tree.vector.element_size()
    update = reduced["update"].norm().item()
    untouched = tree.layout.size - tree.layout.trained
    extra = len(federation.engine.trainer.method.sends) * tree.layout.trained
    mean_square = outcome.squares / outcome.sums["update"].weight
    sent = len(records) + len(outcome.skipped)
    return {
        "clients": [record.client for record in records],
        "samples": sum(record.samples for record in records),
        "steps": sum(record.steps for record in records),
        "loss_first": sum(record.loss_first for record in records) / len(records),
        "loss_last": sum(record.loss_last for record in records) / len(records),
        "update_norm": update,
        # ||mean||^2 over the mean of ||Delta_i||^2: 1 when all clients agree, 1/m when they are orthogonal.
        "coherence": update**2 / mean_square if mean_square else None,
        "bytes_down": sent * (tree.layout.size + extra) * size,
        "bytes_up": len(records) * (untouched + sum(vector.numel() for vector in reduced.values())) * size,
        "skipped": outcome.skipped,
    }


def _averaged(federation: Federation, state: State, number: int, tree: Tree) -> tuple[Tensor | None, int]:
    """The mean of models after round `number`, and how many models it is of."""
    if not federation.experiment.server.averages(number, federation.plan.rounds):
        return state.average, state.averaged
    count = state.averaged + 1
    if state.average is None:
        return tree.vector, count
    return torch.lerp(state.average, tree.vector, 1 / count), count


def _evaluated(federation: Federation, state: State) -> State:
    began = time.perf_counter()
    last = state.round == federation.plan.rounds
    measured = measure(federation, state.tree, state.memory, last=last)
    if state.average is not None:
        measured["accuracy_averaged"] = test_set(federation, state.tree.with_(state.average)).accuracy
    seconds = time.perf_counter() - began
    return replace(state, row={**state.row, **measured}, evaluate_seconds=seconds)


__all__ = ["State", "advance", "initial_model", "stream"]
