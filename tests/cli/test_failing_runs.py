"""Runs that fail on the way say where and why, keep what was done, and go on later."""

import json
import resource
import shutil
import signal
import time
from pathlib import Path

import filelock
import pytest
from cli.invoke import fedlens, in_a_process, module, refused, sets, small, told

POISON = """
from fedlens import Dataset

def images(count, seed):
    labels = torch.arange(count) % 3
    values = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    values[torch.arange(count), labels] += 1.0
    return values, labels

def get():
    (train, labels), (test, wanted) = images(60, 1), images(30, 2)
    owners = np.arange(60) // 10
    train[owners == 2] *= 1e30
    labels[owners == 2] += 1  # what a trained model answers is wrong for them, so that they always learn
    labels %= 3
    return Dataset(train, labels, tuple("abc"), columns={"owner": owners}), Dataset(test, wanted, tuple("abc"))

def net(): return nn.Sequential(nn.Flatten(), nn.Linear(192, 3))
"""


def rows(folder: str = "r") -> list[dict]:
    return [json.loads(line) for line in Path(folder, "rounds.jsonl").read_text().splitlines()]


def status(folder: str = "r") -> str:
    return Path(folder, "status").read_text().splitlines()[0]


def test_a_loss_that_is_not_finite_names_client_round_step_and_rate():
    answer = fedlens("run", small(lr="lr = 1e6"), "--out", "r")
    told(answer, 1, "local training diverged", "learning rate 1e+06", "Lower local.lr")
    assert any(f"client {c}, round {r}, step {s}:" in answer.err for c in range(6) for r in (1, 2, 3) for s in range(9))
    assert status() == "failed"
    assert "diverged" in Path("r/status").read_text()
    assert not Path("r/summary.json").exists()


def test_where_every_client_fails_the_run_stops_even_if_failures_are_skipped():
    answer = fedlens("run", small(lr="lr = 1e6"), *sets('clients.on_failure="skip"'), "--out", "r")
    told(answer, 1, "every client of the cohort failed", "3 clients", "Lower local.lr")
    assert status() == "failed"


def test_a_client_that_diverges_alone_is_left_out_and_told():
    module("poison", POISON)
    changes = ['data.source="poison:get"', 'model.name="poison:net"', 'clients.partition="natural:owner"']
    words = ["run", small(cohort="cohort = 6"), *sets(*changes)]
    told(fedlens(*words, "--out", "stopped"), 1, "client 2, round 1, step", "local training diverged")
    answer = fedlens(*words, *sets('clients.on_failure="skip"'), "--out", "r", "--json")
    assert answer.code == 0, answer.err
    assert [[entry["client"] for entry in row["skipped"]] for row in rows()[1:]] == [[2], [2], [2]]
    assert [row["clients"] for row in rows()[1:]] == [[0, 1, 3, 4, 5]] * 3
    summary = json.loads(answer.out)
    assert [(entry["round"], entry["client"]) for entry in summary["skipped"]] == [(1, 2), (2, 2), (3, 2)]
    assert any("3 visits were left out because training diverged, first client 2" in it for it in summary["notable"])
    assert summary["final"]["last"] > 0.9


def test_a_folder_that_holds_something_is_left_alone():
    Path("full").mkdir()
    Path("full/thesis.txt").write_text("mine")
    refused(fedlens("run", small(), "--out", "full"), "full: the output folder exists", "another --out")
    assert [path.name for path in Path("full").iterdir()] == ["thesis.txt"]
    refused(fedlens("run", "small.toml", "--out", "small.toml"), "small.toml:")
    refused(fedlens("run", "small.toml", "--out", "small.toml/r"), "small.toml/r: the output folder cannot be written")


@pytest.mark.parametrize("place", ["/proc/fedlens-test", "/sys/fedlens-test/r"])
def test_a_folder_that_cannot_be_written_is_told(place):
    refused(fedlens("run", small(), "--out", place), f"{place}: the output folder cannot be written", "another --out")


def test_a_disk_without_room_is_told_before_anything_is_done(monkeypatch):
    full = shutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: full)
    refused(fedlens("run", small(), "--out", "r"), "r: the disk is too full", "0 MB free")


def test_a_disk_that_fills_up_stops_the_run_and_with_room_it_goes_on():
    def little_room():
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))  # Python ignores SIGXFSZ: writing fails instead

    words = ["run", small(rounds="rounds = 60"), "--out", "r"]
    process = in_a_process(*words, preexec_fn=little_room)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1, err
    assert "r: the run folder cannot be written" in err and "File too large" in err and "--resume" in err
    assert "Traceback" not in err and out == ""
    assert status() == "failed"
    assert fedlens("run", "--resume", "--out", "r").code == 0
    assert fedlens("run", "small.toml", "--out", "whole").code == 0
    assert Path("r/rounds.jsonl").read_bytes() == Path("whole/rounds.jsonl").read_bytes()


def test_a_run_that_is_interrupted_goes_on_to_the_same_rounds():
    words = ["run", small(rounds="rounds = 150"), "--out", "r"]
    process = in_a_process(*words)
    deadline = time.monotonic() + 60
    while (not Path("r/rounds.jsonl").exists() or len(rows_so_far()) < 5) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "stopped on request" in err and "fedlens run --resume --out r" in err and "Traceback" not in err
    assert out == ""
    assert status() == "interrupted"
    done = rows()[-1]["round"]
    assert 4 <= done < 150
    assert fedlens("run", "--resume", "--out", "r").code == 0
    assert status() == "done"
    assert fedlens("run", "small.toml", "--out", "whole").code == 0
    assert Path("r/rounds.jsonl").read_bytes() == Path("whole/rounds.jsonl").read_bytes()


def rows_so_far() -> list[str]:
    return Path("r/rounds.jsonl").read_text().splitlines()


def test_there_may_be_nothing_to_resume():
    refused(fedlens("run", "--resume"), "runs/latest: there is no run to resume", "--out")
    refused(fedlens("run", "--resume", "--out", "nosuch"), "nosuch: there is no run to resume")
    refused(fedlens("run", small(), "--resume", "--out", "nosuch"), "nosuch: there is no run to resume")


def test_another_experiment_is_not_resumed_and_its_differences_are_named():
    assert fedlens("run", small(), "--out", "r").code == 0
    before = {path: path.read_bytes() for path in Path("r").rglob("*") if path.is_file()}
    said = ["seed: differs from the run to resume", "seen: 4, there 0", "local.lr: differs", "seen: 0.1, there 0.05"]
    refused(fedlens("run", "small.toml", "--resume", "--out", "r", "--seed", 4, *sets("local.lr=0.1")), *said)
    answer = fedlens("run", "--resume", "--out", "r", "--seed", 4)
    refused(answer, *said[:2])
    assert answer.err.count("differs") == 1  # what was not named is not compared with the recipe
    assert {path: path.read_bytes() for path in before} == before
    assert fedlens("run", "small.toml", "--resume", "--out", "r", "--seed", 0).code == 0
    refused(fedlens("run", "--resume", "--dry-run", "--out", "r"), "a dry run plans a whole run")


def test_a_run_that_another_process_holds_is_left_to_it():
    assert fedlens("run", small(), "--out", "r").code == 0
    with filelock.FileLock("r/.lock"):
        refused(fedlens("run", "--resume", "--out", "r"), "another process is running this run", "seen: done")
    assert fedlens("run", "--resume", "--out", "r").code == 0


BROKEN = {
    "raises": ("if self.training: raise KeyError('boo')", "KeyError"),
    "shape": ("if self.training: return self.linear(x.flatten(1))[:, :2]", "out of bounds"),
    "tuple": ("if self.training: return (x, x)", "tuple"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_model_that_fails_only_in_training_is_told_with_the_client(name):
    line, said = BROKEN[name]
    module(f"broken_{name}", f"""
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(192, 3)

    def forward(self, x):
        {line}
        return self.linear(x.flatten(1))

def net(): return Net()
""")  # fmt: skip
    answer = fedlens("run", small(), *sets(f'model.name="broken_{name}:net"'), "--out", "r")
    told(answer, answer.code, said, "client", "round 1")
    assert answer.code in (1, 2)


def test_batch_norm_over_a_single_value_is_told_with_a_way_out():
    changes = ['model.name="flat:net"', "local.batch=1"]
    module("flat", "def net(): return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(192), nn.Linear(192, 3))")
    answer = fedlens("run", small(), *sets(*changes), "--out", "r")
    told(answer, answer.code, "more than 1 value per channel", "client", "batch")
    assert answer.code in (1, 2)


def test_hold_outs_that_no_client_can_spare_are_refused():
    refused(fedlens("run", small(count="count = 60"), *sets("clients.holdout=0.5")), "clients.holdout")


def test_one_class_alone_is_refused_or_trained_on():
    module("alone", "def get(): return [(np.zeros((30, 8, 8), 'u1'), np.zeros(30, int))] * 2")
    answer = fedlens("run", small(), *sets('data.source="alone:get"'), "--out", "r")
    assert answer.code in (0, 2), answer.err
    assert "please report" not in answer.err and "Warning" not in answer.err


def test_a_damaged_checkpoint_is_told_as_one():
    assert fedlens("run", small(), "--out", "r").code == 0
    next(Path("r").rglob("state.json")).write_text("{")
    answer = fedlens("run", "--resume", "--out", "r")
    told(answer, 1, "state.json")
    assert "cannot be written" not in answer.err
    next(Path("r").rglob("state.safetensors")).write_bytes(b"torn")
    next(Path("r").rglob("state.json")).write_text('{"round": 3, "row": {}, "visits": [], "averaged": 0, "states": {}}')
    answer = fedlens("run", "--resume", "--out", "r")
    told(answer, 1, "state.safetensors")
    assert "cannot be written" not in answer.err


def test_lost_rounds_are_told():
    assert fedlens("run", small(), "--out", "r").code == 0
    Path("r/rounds.jsonl").unlink()
    told(fedlens("run", "--resume", "--out", "r"), 1, "rounds.jsonl")
