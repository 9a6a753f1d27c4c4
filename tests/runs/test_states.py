"""What clients remember on disk: the same as in memory, in bounded room, and told where it cannot be had."""

from __future__ import annotations

import gc
import json
import multiprocessing
import random
import resource
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from small import experiment

import fedlens as fl
from fedlens import Clients, Engine, Local, Model
from fedlens.engine import Record
from fedlens.errors import RunError
from fedlens.runs import execute, states, store
from fedlens.runs.loop import State
from fedlens.runs.states import Place, Stored, beginning, packs_in, updated
from fedlens.runs.store import Journal
from fedlens.tree import Tree


def remembered(client: int, time: int) -> dict[str, torch.Tensor]:
    """A state: a vector, a number, and for some clients a matrix with rows of their own."""
    rng = torch.Generator().manual_seed(1000 * client + time)
    state = {"method.c": torch.randn(50, generator=rng), "steps": torch.tensor(time)}
    if client % 3 == 0:
        state["logits"] = torch.randn(client % 4, 5, generator=rng, dtype=torch.float64)
    return state


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(
        torch.equal(one[name], other[name]) and one[name].dtype == other[name].dtype for name in one
    )


def size(state: dict[str, torch.Tensor]) -> int:
    return sum(vector.nbytes for vector in state.values())


def equal(stored: Stored, wanted: dict[int, dict[str, torch.Tensor]]) -> bool:
    return list(stored) == sorted(wanted) and all(same(stored[client], wanted[client]) for client in wanted)


@pytest.mark.parametrize("pack", [2_000, 10_000, states.PACK])
def test_states_on_disk_are_those_in_memory_and_older_mappings_stay_as_they_were(pack, monkeypatch):
    monkeypatch.setattr(states, "PACK", pack)
    monkeypatch.setattr(states, "BLOCK", 1000)
    draw, on_disk, in_memory, older = random.Random(0), beginning("disk"), {}, []
    for time in range(120):
        changed = {client: remembered(client, time) for client in draw.sample(range(90), draw.choice([1, 4, 15]))}
        on_disk, in_memory = updated(on_disk, changed), updated(in_memory, changed)
        assert len(on_disk) == len(in_memory)
        if time % 30 == 0:
            older.append((on_disk, in_memory))
    older.append((on_disk, in_memory))
    assert all(equal(stored, wanted) for stored, wanted in older)
    assert 89 in on_disk and 90 not in on_disk and on_disk.get(90) is None
    assert on_disk.loaded().keys() == in_memory.keys()
    assert all(same(state, in_memory[client]) for client, state in on_disk.loaded().items())


def test_packs_take_about_twice_the_room_of_the_states_and_are_few(monkeypatch):
    monkeypatch.setattr(states, "PACK", 20_000)
    draw, stored = random.Random(0), beginning("disk")
    room, packs, live = [], [], 0
    for time in range(400):
        stored = stored.with_({client: {"c": torch.full((64,), time)} for client in draw.sample(range(300), 10)})
        live = 64 * 8 * len(stored)
        room.append(sum(path.stat().st_size for path in packs_in(stored.place.folder)) / live)
        packs.append(len(stored.packs))
    assert len(stored) == 300
    assert max(room[100:]) < 2.5  # half of a pack may be out of date, and headers are a tenth of so small a state
    assert max(packs) < 2 * live / 20_000 + 8  # pairs of neighbours fill a pack, but for the newest, which double


def test_a_temporary_folder_of_states_disappears_with_them():
    stored = beginning("disk").with_({3: remembered(3, 0)})
    folder = stored.place.folder
    assert packs_in(folder)
    stored = stored.with_({3: remembered(3, 1)})
    assert len(packs_in(folder)) == 1  # what nobody can ask for any more is gone at once
    del stored
    gc.collect()
    assert not folder.exists()


def test_a_forked_child_takes_no_states_away():
    stored = beginning("disk").with_({3: remembered(3, 0)})
    child = multiprocessing.get_context("fork").Process(target=_forget, args=(stored,))
    child.start()
    child.join()
    assert child.exitcode == 0 and same(stored[3], remembered(3, 0))


def _forget(stored: Stored) -> None:
    for pack, _ in stored.packs:
        pack._end()  # what the interpreter calls when the last reference is gone


def on_disk(job: fl.Experiment, **engine: object) -> fl.Experiment:
    return fl.Experiment(**{**vars(job), "engine": Engine(threads=1, states="disk", **engine)})


JOBS = {
    "scaffold": {"method": "scaffold"},
    "momentum": {"local": Local(batch=4, lr=0.05, momentum=0.9, keep_optimizer=True)},
    "personal": {"method": "fedbn", "clients": Clients(count=6, cohort=3, holdout=0.2)},
    "feedback": {"communication": fl.Communication(up="top-k:0.1")},
    "halves": {"method": "fedgkt", "model": Model("resnet4/resnet7"), "rounds": 3},
}


@pytest.mark.parametrize(
    ("name", "kind"),
    [*((name, "sequential") for name in JOBS), *((name, "workers") for name in JOBS if name != "halves")],
)
def test_a_run_with_states_on_disk_is_the_run_with_states_in_memory_to_the_last_bit(name, kind):
    processes = {"processes": 2} if kind == "workers" else {}
    job = experiment(**JOBS[name], engine=Engine(kind=kind, threads=1, **processes))
    pairs = list(zip(fl.stream(job), fl.stream(on_disk(job, kind=kind, **processes)), strict=True))
    assert len(pairs) == job.rounds + 1
    for one, other in pairs:  # also the earlier ones, after all rounds have been run
        assert one.row == other.row and torch.equal(one.tree.vector, other.tree.vector)
        assert isinstance(other.memory, Stored) and equal(other.memory, one.memory)
    assert pairs[-1][0].memory


def test_what_lies_in_memory_does_not_grow_with_the_clients_that_were_visited(monkeypatch):
    monkeypatch.setattr(states, "PACK", 2**22)
    megabyte, stored = torch.zeros(2**17, dtype=torch.float64), beginning("disk").with_({0: {"c": torch.zeros(1)}})
    before = anonymous()
    for client in range(0, 160, 4):
        stored = stored.with_({client + more: {"c": megabyte + client + more} for more in range(4)})
        assert stored[client]["c"][0] == client
    assert len(stored) == 160 and anonymous() - before < 40


def anonymous() -> float:
    """Megabytes of this process that no file backs."""
    lines = Path("/proc/self/status").read_text().splitlines() if Path("/proc/self/status").exists() else []
    found = [int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon:")]
    return found[0] if found else pytest.skip("this system does not say how much memory a process has")


# -- checkpoints --


def tree() -> Tree:
    return Tree.of(torch.nn.Linear(2, 2))


def state(round: int, clients: dict[int, int]) -> State:
    """After `round`, with clients that were last visited in the rounds `clients` say."""
    visited = [record(client) for client, last in clients.items() if last == round]
    memory = {client: remembered(client, last) for client, last in clients.items()}
    return State(round, tree(), {}, memory, {"round": round}, tuple(visited))


def record(client: int) -> Record:
    return Record(client, 1, 1, 1, 0.0, 0.0, 0.0)


def test_a_checkpoint_writes_the_states_that_have_changed_and_no_others(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(store, "CHECKPOINT_SHARE", float("inf"))
    written = []
    monkeypatch.setattr(states, "save_file", lambda tensors, path: written.append(tensors) or save(tensors, path))
    save = store.save_file
    journal = Journal(tmp_path)
    journal.append(state(0, {}), last=False)
    many = dict.fromkeys(range(50), 1)
    journal.append(state(1, many), last=False)
    assert sorted(clients(written)) == list(range(50))
    written.clear()
    journal.append(state(2, many | {7: 2}), last=False)
    assert clients(written) == [7]
    again = Journal(tmp_path).resume(tree())
    assert again.round == 2 and {client: int(s["steps"]) for client, s in again.memory.items()} == many | {7: 2}


def clients(written: list[dict[str, torch.Tensor]]) -> list[int]:
    return [client for tensors in written for name in tensors if name.endswith("clients") for client in tensors[name]]


def test_states_of_an_old_checkpoint_go_when_the_new_one_is_complete_and_not_before(tmp_path, monkeypatch):
    journal = Journal(tmp_path)
    journal.append(state(1, {1: 1}), last=True)
    before = packs_in(journal.checkpoints)
    there, rename = [], Path.rename
    monkeypatch.setattr(Path, "rename", lambda self, to: there.append(before[0].exists()) or rename(self, to))
    journal.append(state(2, {1: 2}), last=True)
    assert there == [True] and not before[0].exists() and len(packs_in(journal.checkpoints)) == 1
    assert int(Journal(tmp_path).latest(tree()).memory[1]["steps"]) == 2


def test_a_run_keeps_its_states_where_its_checkpoints_are_and_goes_on_with_them(tmp_path):
    job = experiment(method="scaffold", engine=Engine(kind="sequential", threads=1, states="disk"))
    folders = set()

    def stop(title, state, rounds):
        folders.add(state.memory.place.folder)
        if state.round == 2 and not (tmp_path / "resumed").exists():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        execute(job, out="run", progress=stop)
    (tmp_path / "resumed").touch()
    execute(out="run", resume=True, progress=stop)
    assert {folder.absolute() for folder in folders} == {Path("run/checkpoints").absolute()}
    last = list(fl.stream(job))[-1]
    (about,) = Path("run/checkpoints").glob("round-*/state.json")
    assert sorted(json.loads(about.read_text())["states"]) == [path.name for path in packs_in(about.parent.parent)]
    kept = Journal(Path("run")).latest(last.tree).memory
    assert equal(kept, {client: last.memory[client] for client in last.memory})


@pytest.mark.parametrize("damage", ["torn", "absent", "empty", "odd"])
def test_a_damaged_file_of_states_is_told_with_its_name(damage, tmp_path):
    Journal(tmp_path).append(state(1, {1: 1, 2: 1}), last=True)
    (pack,) = packs_in(tmp_path / "checkpoints")
    whole = pack.read_bytes()
    pack.unlink()
    if damage != "absent":
        pack.write_bytes({"torn": whole[:-8], "empty": b"", "odd": b"\xff" * 100}[damage])
    with pytest.raises(RunError) as caught:
        Journal(tmp_path).resume(tree())
    (problem,) = caught.value.problems
    assert problem.what == "the checkpoint is damaged" and problem.where == str(pack)
    assert problem.seen and f"Delete {tmp_path / 'checkpoints'}" in problem.do
    assert damage == "absent" or pack.exists()


def test_a_state_that_can_no_longer_be_read_is_told_with_its_client(tmp_path):
    stored = Stored(Place(tmp_path)).with_({5: remembered(5, 0)})
    packs_in(tmp_path)[0].write_bytes(b"short")
    with pytest.raises(RunError, match="the state of client 5 cannot be read") as caught:
        stored[5]
    assert caught.value.problems[0].where == str(packs_in(tmp_path)[0])


def test_a_full_disk_is_told_and_leaves_what_was_there(tmp_path):
    stored = Stored(Place(tmp_path)).with_({5: remembered(5, 0)})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))  # no file may be longer: writing fails half-way
    try:
        with pytest.raises(RunError) as caught:
            stored.with_({6: {"c": torch.zeros(10_000)}})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    (problem,) = caught.value.problems
    assert problem.what == "client states cannot be written" and problem.where == str(tmp_path)
    assert problem.seen and "Make room" in problem.do
    assert len(packs_in(tmp_path)) == 1 and same(stored[5], remembered(5, 0)) and 6 not in stored


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="client states cannot be written"):
        Stored(Place(tmp_path / "file" / "states")).with_({6: {"c": torch.zeros(1)}})


def test_a_state_on_disk_costs_eight_bytes_of_memory(tmp_path):
    stored = Stored(Place(tmp_path)).with_({client: {"c": torch.zeros(1)} for client in range(0, 10_000, 2)})
    ((pack, live),) = stored.packs
    assert live == 5000 and sum(group.ids.nbytes for group in pack.groups) == 8 * 5000
    assert pack.has(np.array([0, 1, 9998, 9999, 20_000])).tolist() == [True, False, True, False, False]
    assert load_file(pack.path)["0/clients"].tolist() == list(range(0, 10_000, 2))
