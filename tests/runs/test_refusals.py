"""What cannot be used is refused with client and round named; where failures are skipped the run goes on and says so.

The clients of `ragged` hold 4, 12, 7, 10, 13 and 14 examples, in batches of 4: client 2 alone takes two steps, by which
a method's finish can tell it from the others.
"""

import dataclasses
import itertools
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from cli.invoke import SMALL, fedlens, sets, small, told
from small import experiment

import fedlens as fl
from fedlens import Clients, Experiment, Local, Network, RunError
from fedlens.engine import Draw, Federated
from fedlens.local.attack import Scaled
from fedlens.methods import METHODS, Method
from fedlens.runs import execute, prepare
from fedlens.runs.loop import State, advance

ODD = 2


def fields_of(plan: object) -> dict[str, object]:
    return {field.name: getattr(plan, field.name) for field in dataclasses.fields(plan)}


def ragged(on_failure: str = "skip", **changes: object) -> Experiment:
    clients = Clients(count=6, cohort=6, partition={"kind": "quantity", "sigma": 1.0}, on_failure=on_failure)
    return experiment(clients=clients, **changes)


def misbehaving(change: Callable[[dict], object], name: str = "fedavg") -> Method:
    """The method `name`, whose client of two steps sends what `change` makes of its upload."""
    plain = METHODS[name]()

    def finish(weights, client):
        upload, memory = plain.finish(weights, client)
        return (change(dict(upload)) if client.reach == 2.0 else upload), memory

    return dataclasses.replace(plain, finish=finish)


def first_entry(name: str, value: float) -> Callable[[dict], dict]:
    return lambda upload: {**upload, name: torch.cat([torch.tensor([value]), upload[name][1:]])}


def shorter(name: str) -> Callable[[dict], dict]:
    return lambda upload: {**upload, name: upload[name][:-1]}


# conv_bn trains 3 * 4 * 9 + 4 weights, 16 * 3 + 3 in its head, 4 + 4 in its norm: 171.
CASES = {
    "nan": (first_entry("update", torch.nan), "fedavg", "an upload is not finite", "1 of 171 entries of 'update'"),
    "inf": (first_entry("update", torch.inf), "fedavg", "an upload is not finite", "1 of 171 entries of 'update'"),
    "shape": (shorter("update"), "fedavg", "an upload has the wrong shape", "update [170]; wanted update [171]"),
    "another-name": (lambda upload: {"delta": upload["update"]}, "fedavg", "an upload lacks 'update'", "delta [171]"),
    "nothing": (lambda upload: {}, "fedavg", "an upload lacks 'update'", "nothing; wanted update [171]"),
    "one-name-too-many": (lambda upload: {**upload, "c": upload["update"]}, "fedavg", "wrong shape", "c [171]"),
    "nan-beside": (first_entry("c", torch.nan), "scaffold", "an upload is not finite", "1 of 171 entries of 'c'"),
    "shape-beside": (shorter("c"), "scaffold", "an upload has the wrong shape", "c [170]; wanted update [171], c"),
    "lacks-one": (lambda upload: {"update": upload["update"]}, "scaffold", "an upload lacks 'c'", "update [171]; want"),
}  # fmt: skip
cases = pytest.mark.parametrize(("change", "name", "what", "seen"), CASES.values(), ids=CASES)


@cases
def test_an_upload_that_cannot_be_used_stops_the_run_with_client_and_round_named(change, name, what, seen):
    with pytest.raises(RunError) as error:
        list(fl.stream(ragged("stop", method=misbehaving(change, name))))
    assert f"client {ODD}, round 1: " in str(error.value) and what in str(error.value) and seen in str(error.value)
    assert error.value.problems[0].do


class Without(Federated):
    """As Federated, but the odd client is never drawn."""

    def draw(self, round, losses=None):
        found = super().draw(round, losses)
        return dataclasses.replace(found, visits=[visit for visit in found.visits if visit.client != ODD])


@cases
def test_skipped_it_counts_as_if_the_client_had_not_been_drawn(change, name, what, seen):
    states = list(fl.stream(ragged(method=misbehaving(change, name))))
    plain = prepare(ragged(method=name))
    expected = list(advance(dataclasses.replace(plain, plan=Without(**fields_of(plain.plan)))))
    for state, other in zip(states[1:], expected[1:], strict=True):
        assert state.row["clients"] == [0, 1, 3, 4, 5]
        (entry,) = state.row["skipped"]
        assert entry["client"] == ODD and entry["step"] is None and what in entry["why"] and seen in entry["why"]
        assert_same(state, other)
    assert ODD not in states[-1].memory and not torch.equal(states[-1].tree.vector, states[0].tree.vector)


def assert_same(one: State, other: State) -> None:
    assert torch.equal(one.tree.vector, other.tree.vector)
    assert {k: v.item() for k, v in one.tree.integers.items()} == {k: v.item() for k, v in other.tree.integers.items()}
    assert one.server.keys() == other.server.keys() and one.memory.keys() == other.memory.keys()
    assert all(torch.equal(value, other.server[name]) for name, value in one.server.items())
    for client, kept in one.memory.items():
        assert kept.keys() == other.memory[client].keys()
        assert all(torch.equal(value, other.memory[client][name]) for name, value in kept.items())


def test_where_nobody_is_left_the_run_stops_whatever_is_configured():
    everybody = dataclasses.replace(METHODS["fedavg"](), finish=lambda w, c: ({"update": (w - c.start) / 0.0}, {}))
    with pytest.raises(RunError, match="round 1: every client of the cohort failed") as error:
        list(fl.stream(ragged(method=everybody)))
    assert "6 clients, the first: an upload is not finite" in str(error.value)


def odd(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Words of a command line that runs a method whose client of two steps sends a number that is none."""
    make = lambda: dataclasses.replace(misbehaving(first_entry("update", torch.nan)), name="odd")  # noqa: E731
    monkeypatch.setitem(METHODS, "odd", make)
    return ["run", small(SMALL + '[method]\nname = "odd"\n', cohort='cohort = 6\npartition = "quantity:1.0"')]


def test_the_command_line_tells_a_refused_upload_and_ends_with_one(monkeypatch):
    told(fedlens(*odd(monkeypatch)), 1, "client 2, round 1: an upload is not finite", "seen:", "on_failure")


def test_the_command_line_goes_on_without_it_and_the_report_says_so(monkeypatch):
    answer = fedlens(*odd(monkeypatch), *sets('clients.on_failure="skip"'), "--out", "r")
    assert answer.code == 0, answer.err
    summary, page = json.loads(Path("r/summary.json").read_text()), Path("r/report.html").read_text()
    assert [(entry["round"], entry["client"]) for entry in summary["skipped"]] == [(1, 2), (2, 2), (3, 2)]
    # Nothing diverged: training was fine, and what it gave was not.
    assert "3 visits were left out, first client 2 in round 1 (an upload is not finite" in " ".join(summary["notable"])
    assert "Round 3, client 2: an upload is not finite" in page and "step None" not in page


# Rounds that come to nothing. Seed 0, each of 6 clients in reach one time in five: round 5 finds nobody.
def lonely(on_failure: str = "skip") -> Experiment:
    return experiment(
        rounds=7,
        method="scaffold",
        clients=Clients(count=6, cohort=3, on_failure=on_failure),
        local=Local(batch=4, lr=0.05, momentum=0.9, keep_optimizer=True),
        network=Network(available=0.2),
    )


# Krum needs five uploads against one attacker; of six invited, one in five drops out.
def few(on_failure: str = "skip") -> Experiment:
    return experiment(
        rounds=6,
        clients=Clients(count=6, cohort=6, on_failure=on_failure),
        server={"reduce": "krum:1"},
        network=Network(dropout=0.2),
    )


def test_a_round_without_clients_stops_the_run_and_names_the_round():
    with pytest.raises(RunError, match="round 5: no client took part") as error:
        list(fl.stream(lonely("stop")))
    assert 'clients.on_failure = "skip"' in str(error.value)


def test_too_few_for_the_rule_stop_the_run_and_name_the_round():
    with pytest.raises(RunError, match=r"round 1, server\.reduce: krum needs at least 5 uploads") as error:
        list(fl.stream(few("stop")))
    assert "4 in the cohort" in str(error.value)


@pytest.mark.parametrize("job", [lonely(), few()], ids=["nobody", "krum"])
def test_a_void_round_changes_nothing_and_the_next_one_goes_on(job):
    states = list(fl.stream(job))
    void = [state.round for state in states if "void" in state.row]
    plan = prepare(job).plan
    arrived = {number: len(plan.draw(number).clients("arrived")) for number in range(1, job.rounds + 1)}
    needed = 5 if job.server.reduce.kind == "krum" else 1
    assert void == [number for number, count in arrived.items() if count < needed] and 0 < len(void) < job.rounds
    for before, after in itertools.pairwise(states):
        if after.round in void:
            assert_same(after, before)
            assert after.row["clients"] == [] and after.records == () and after.accuracy == before.accuracy
            assert {"simulated_seconds", "unavailable", "dropped"} <= after.row.keys()
        else:
            assert not torch.equal(after.tree.vector, before.tree.vector) and after.row["clients"]


def test_a_void_round_names_the_uploads_that_were_refused():
    # Two of six send infinite numbers (1e39 times a float32), and Krum is left with four.
    clients = Clients(count=6, cohort=6, attackers=2, attack=Scaled(factor=1e39), on_failure="skip")
    job = experiment(rounds=1, clients=clients, server={"reduce": "krum:1"})
    row, attackers = list(fl.stream(job))[1].row, prepare(job).engine.trainer.sender.attackers
    assert "krum needs at least 5 uploads" in row["void"]
    assert [entry["client"] for entry in row["skipped"]] == sorted(attackers) and len(attackers) == 2


class Weightless(Federated):
    """As Federated, but nobody counts in round 2."""

    def draw(self, round: int, losses: object = None) -> Draw:
        found = super().draw(round, losses)
        weightless = [dataclasses.replace(visit, weight=0.0) for visit in found.visits]
        return dataclasses.replace(found, visits=weightless) if round == 2 else found


@pytest.mark.parametrize("reduce", ["mean", "norm-clip"])
def test_a_total_weight_of_zero_is_refused(reduce):
    def weightless(on_failure):
        federation = prepare(ragged(on_failure, server={"reduce": reduce}))
        return advance(dataclasses.replace(federation, plan=Weightless(**fields_of(federation.plan))))

    with pytest.raises(RunError, match="round 2: there is nothing to average") as error:
        list(weightless("stop"))
    assert "total weight 0" in str(error.value)
    states = list(weightless("skip"))
    assert [state.round for state in states if "void" in state.row] == [2]
    assert_same(states[2], states[1])
    assert not torch.equal(states[3].tree.vector, states[2].tree.vector)


@pytest.mark.parametrize(("job", "stop_at"), [(lonely(), 5), (few(), 3)], ids=["nobody", "krum"])
def test_a_run_that_is_stopped_behind_a_void_round_resumes_to_the_same_bytes(job, stop_at):
    def stop(title, state, rounds):
        if state.round == stop_at:
            assert "void" in state.row
            raise KeyboardInterrupt

    whole = execute(job, out="whole")
    with pytest.raises(KeyboardInterrupt):
        execute(job, out="stopped", progress=stop)
    done = execute(out="stopped", resume=True)
    for file in ("rounds.jsonl", "model.safetensors"):
        assert (done / file).read_bytes() == (whole / file).read_bytes()


@pytest.mark.parametrize(("available", "some"), [(0.2, True), (0.001, False)])
def test_the_command_line_ends_well_on_a_run_with_void_rounds(available, some):
    words = sets('clients.on_failure="skip"', f"network.available={available}", "rounds=6")
    answer = fedlens("run", small(), *words, "--out", "r")
    assert answer.code == 0, answer.err
    rows = [json.loads(line) for line in Path("r/rounds.jsonl").read_text().splitlines()]
    void = [row["round"] for row in rows if "void" in row]
    assert void == ([5] if some else [1, 2, 3, 4, 5, 6])
    assert Path("r/status").read_text() == "done\n" and Path("r/report.html").is_file()
    assert f"first round {void[0]} (no client took part)" in " ".join(answer.out.split())
