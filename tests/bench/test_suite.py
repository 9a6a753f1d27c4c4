"""The benchmark does what it says: both contenders the same work, and numbers for it."""

import json
import os
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))  # scripts that stand outside the package

import apart
import material
import suite
import tell
from contenders import Fedlens, Rival
from workloads import WORKLOADS, Workload, chosen

from fedlens.models import build, cost
from fedlens.models.settings import Model

RAGGED = 603  # images among 20 clients: some have 31, so that weights and short batches matter


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Where files lie; in place of MNIST there is a small set of noise, in forked contenders too."""
    draw = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (RAGGED, 1, 28, 28), generator=draw, dtype=torch.uint8)
    labels = torch.randint(0, 10, (RAGGED,), generator=draw)
    examples = {"images": images, "labels": labels, "test_images": images[:50], "test_labels": labels[:50]}
    examples |= {"mean": (0.5,), "std": (0.25,), "classes": tuple("0123456789"), "noise": True}
    monkeypatch.setattr(material, "_found", lambda name: examples)
    monkeypatch.setenv(material.FOLDER, str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("processes", [0, 2])
@pytest.mark.parametrize("model", ["mlp", "mobilenet-mnist"])
def test_rival_and_fedlens_reach_the_same_model_from_the_same_batches(folder, model, processes):
    work, file = Workload("tiny", "mnist", {"name": model}, 20, 4, 0.05), str(folder / "rounds.pt")
    facts = material.Kitchen(work, 0, 2, file).facts()
    ours, theirs = Fedlens(work, 0, {"kind": "sequential", "threads": 1}), Rival(work, file, 1, processes)
    start = theirs.state()
    for _ in range(2):
        ours.round()
        theirs.round()
    reached, other = theirs.state(), ours.state()
    same = {name for name, tensor in reached.items() if tensor.is_floating_point()}
    assert same == {name for name, tensor in other.items() if tensor.is_floating_point()}
    for name in same:
        torch.testing.assert_close(reached[name], other[name], rtol=1e-4, atol=1e-5)
    moved = max((reached[name] - start[name]).abs().max() for name in same)
    assert moved > 0.01 and facts["images"] in (120, 121, 122, 123)
    assert theirs.accuracy() == pytest.approx(ours.accuracy(), abs=0.021)  # one image of 50
    ours.close()
    theirs.close()


def test_a_workload_is_timed_with_all_that_can_be_asked_for(folder, capsys):
    work = Workload("tiny", "mnist", {"name": "logistic"}, 20, 4, 0.05)
    engines = {"kind=sequential": {"kind": "sequential"}, "kind=none": {"kind": "none"}}
    options = suite.Options(engines, 2, folder, 1, neighbour=True, memory=True, accuracy=1, seeds=2)
    (row,) = suite.compared("tiny", work, options)
    assert "kind=none left out: ConfigurationError" in capsys.readouterr().err
    assert row["ratio"] > 0 and row["images_per_second"] > 0
    assert row["gflops"] == pytest.approx(row["images_per_second"] * 2 * 2 * 7840 / 1e9)
    for held in ("seconds", "slowed", "memory", "accuracy"):
        assert set(row[held]) == {"kind=sequential", "1 thread"}
    assert min(row["slowed"].values()) > 0 and min(row["memory"].values()) > 2**20
    assert {len(reached) for reached in row["accuracy"].values()} == {2}


def test_the_suite_prints_a_line_writes_json_and_records_result_first(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(WORKLOADS, "tiny", Workload("tiny", "mnist", {"name": "logistic"}, 200, 20, 0.05))
    command = ["tiny", "--quick", "--repeats", "1", "--engine", "kind=sequential,threads=1"]
    found = suite.main([*command, "--json", "out.json"])
    assert json.loads(Path("out.json").read_text()) == found
    assert "tiny   tiny" in capsys.readouterr().out
    tell.record(found, tmp_path / "RECORDS.md", command)
    rows = [line for line in (tmp_path / "RECORDS.md").read_text().splitlines() if line.startswith("|")]
    assert rows[0] == tell.HEAD and len({row.count("|") for row in rows}) == 1
    assert rows[2].startswith(f"| {found['rows'][0]['ratio']:.2f} |")
    assert rows[2].endswith(f"| `python bench/suite.py {' '.join(command)}` |")


def test_settings_of_an_engine_are_read_as_numbers_where_they_are():
    assert suite.settings("kind=workers,processes=3") == {"kind": "workers", "processes": 3}


def test_workloads_are_chosen_by_how_they_begin_and_others_are_refused():
    assert list(chosen(["W5"])) == ["W5-bn", "W5-gn"]
    with pytest.raises(SystemExit):
        suite.main(["W9"])


@pytest.mark.parametrize(
    ("key", "mflop"), [("W1", 72.4), ("W2", 99.5), ("W3", 0.64), ("W4", 74.1), ("W5-bn", 5.56), ("R50", 7783)]
)
def test_the_work_of_a_step_is_counted_without_the_gradient_of_the_images(key, mflop):
    work, shape = WORKLOADS[key], (1, 28, 28) if WORKLOADS[key].data == "mnist" else (3, 32, 32)
    with torch.device("meta"):
        module = build(Model(**work.model), shape, 10)
    assert material.training_mflop(module, shape) == pytest.approx(mflop, rel=2e-3)
    assert material.training_mflop(module, shape) < 3 * cost(module, shape).mflop


def test_a_contender_that_fails_is_refused_with_its_reason_and_leaves_no_process():
    with pytest.raises(apart.Refused, match=r"ValueError: .*'no'"):
        apart.Apart("builtins:int", "no")
    one = apart.Apart("collections:Counter", "aab")
    assert one.ask("most_common", 1).value == [("a", 2)]
    with pytest.raises(apart.Refused, match="TypeError"):
        one.ask("most_common", 1, 2, 3)
    process = one.process.pid
    one.close()
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)
