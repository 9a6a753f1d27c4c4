"""What one does in the first hour: run, look, change, compare, from the shell and from Python."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from cli.invoke import fedlens, in_a_process, module, sets, small
from small import experiment

import fedlens as fl
from fedlens.data import load
from fedlens.local import evaluate
from fedlens.local.evaluate import in_batches
from fedlens.runs import as_toml

EVERYTHING = sets(
    "references.centralised=true", "references.centralised_depth=true", "references.iid=true", "references.local_only=2"
)


def rows(folder) -> list[dict]:
    return [json.loads(line) for line in Path(folder, "rounds.jsonl").read_text().splitlines()]


def test_a_run_leaves_a_folder_that_can_be_read_without_us():
    answer = fedlens("run", small(), *EVERYTHING, "--seed", 5, "--out", "my runs/ü r", "--json")
    assert answer.code == 0, answer.err
    summary, folder = json.loads(answer.out), Path("my runs/ü r")
    assert Path(summary.pop("path")) == folder
    assert summary == json.loads((folder / "summary.json").read_text())
    assert (summary["seed"], summary["rounds_done"]) == (5, 3)
    names = [one["name"] for one in summary["references"]]
    assert names == ["centralised", "centralised-depth", "iid", "local-only"]
    assert fl.load_experiment(folder / "experiment.toml").seed == 5
    assert json.loads((folder / "environment.json").read_text())["command"].startswith("fedlens run small.toml --set")
    assert [row["round"] for row in rows(folder)] == [0, 1, 2, 3]
    assert len((folder / "timings.jsonl").read_text().splitlines()) == 4
    assert (folder / "status").read_text() == "done\n"
    assert "<svg" in (folder / "report.html").read_text()
    with np.load(folder / "clients" / "partition.npz") as split:
        assert split["counts"].sum() == 60
    with np.load(next((folder / "clients").glob("0*.npz"))) as visits:
        assert len(visits["client"]) == 9
    assert len(list(folder.glob("references/**/rounds.jsonl"))) == 5
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["round-000003"]
    assert Path("my runs/latest").readlink() == Path("ü r")


def test_a_run_tells_its_answer_on_stdout_and_its_progress_on_stderr():
    answer = fedlens("run", small())
    assert answer.code == 0
    assert "report: runs/" in answer.out and "mean of the last 3" in answer.out
    assert "round 3/3" in answer.err and "round" not in answer.out
    assert answer.left == ("runs",)


def test_a_dry_run_writes_nothing_and_counts_the_steps_of_the_run():
    words = ["run", small(), *EVERYTHING, *sets('clients.partition="quantity:1"', "clients.cohort=6")]
    answer = fedlens(*words, "--dry-run", "--json")
    assert answer.code == 0 and answer.left == (), answer.err
    plan = json.loads(answer.out)
    assert fedlens(*words, "--out", "r").code == 0
    places = ["r", "r/references/centralised", "r/references/centralised-depth", "r/references/iid"]
    places += sorted(map(str, Path("r/references/local-only").iterdir()))
    assert [part["steps"] for part in plan["parts"]] == [sum(row.get("steps", 0) for row in rows(p)) for p in places]
    assert plan["megabytes_up"] == pytest.approx(sum(row.get("bytes_up", 0) for row in rows("r")) / 1e6)
    assert "nothing was run" in fedlens(*words, "--dry-run").out


def test_every_run_has_a_folder_of_its_own_and_latest_is_the_newest():
    assert [fedlens("run", small()).code for _ in range(2)] == [0, 0]
    folders = sorted(path for path in Path("runs").iterdir() if not path.is_symlink())
    assert len(folders) == 2
    newest = max(folders, key=lambda path: (path / "environment.json").stat().st_mtime_ns)
    assert Path("runs/latest").resolve() == newest.resolve()
    assert rows(folders[0]) == rows(folders[1])
    report = fedlens("report", "--json")
    assert json.loads(report.out) == {"report": "runs/latest/report.html"}


def test_two_runs_are_compared():
    for out, seed in (("a", 0), ("b", 1)):
        assert fedlens("run", small(), "--out", out, "--seed", seed, *sets(f"local.epochs={seed + 1}")).code == 0
    comparison = json.loads(fedlens("compare", "a", "b", "--json").out)
    assert comparison["differing"] == {"seed": [0, 1], "local.epochs": [1, 2]}
    assert [row["last"] for row in comparison["rows"]] == [rows("a")[-1]["accuracy"], rows("b")[-1]["accuracy"]]
    answer = fedlens("compare", "a", "b", "--figure", "two.svg")
    assert answer.code == 0 and "local.epochs" in answer.out
    assert "<svg" in Path("two.svg").read_text()
    Path("a/report.html").unlink()
    assert fedlens("report", "a").out == "a/report.html\n"
    assert Path("a/report.html").is_file()


def test_a_run_in_python_is_an_object_to_look_at():
    run = fl.run(experiment(), out="r")
    assert run.accuracy.shape == (5,) and run.accuracy[-1] == rows("r")[-1]["accuracy"]
    assert run.metrics["update_norm"].shape == (5,) and np.isnan(run.metrics["update_norm"][0])
    assert run.experiment.rounds == 4
    assert run.summary["final"]["last"] == run.accuracy[-1]
    assert "small" in repr(run) and f"{100 * run.accuracy[1:].mean():.1f}\u202f%" in repr(run)
    assert "<pre" in run._repr_html_() and "\x1b" not in repr(run) + run._repr_html_()
    test = load(run.experiment.data).test
    assert evaluate(run.model().eval(), in_batches(test, torch.float32), 3).accuracy == run.accuracy[-1]
    again = fl.Run("r")
    assert np.array_equal(again.accuracy, run.accuracy)
    with pytest.raises(fl.ConfigurationError, match="no run folder"):
        fl.Run("nosuch")


def test_the_loop_may_belong_to_the_user():
    threads, seen = torch.get_num_threads(), []
    for state in fl.stream(experiment(rounds=1000)):
        seen.append(state.round)
        if state.round == 2:
            break
    assert seen == [0, 1, 2]
    del state
    assert torch.get_num_threads() == threads
    assert not list(Path().iterdir())


def test_an_experiment_survives_being_written_down():
    job = experiment(
        name='a "quoted" ünïcode\nname = 3 # [x]',
        seed=123456789,
        evaluate_every=2,
        data=fl.Data("small:split", augment="crop-flip", size=8, directory="some/where"),
        clients=fl.Clients(6, 3, fl.Dirichlet(0.3, min_size=2), holdout=0.25, on_failure="skip"),
        model=fl.Model("resnet8", norm="group", groups=4, dropout=0.1),
        local=fl.Local(steps=3, batch="all", optimizer="adamw", betas=(0.8, 0.99), weight_decay=0.01, clip_norm=1.0,
                       schedule=fl.Schedule("cosine", warmup=2), scale_lr_by_size=True, keep_optimizer=True),
        server=fl.Server(weights="uniform"),
        references=fl.References(False, True, True, 3),
        engine=fl.Engine(threads=2, precision="float64"),
    )  # fmt: skip
    Path("job.toml").write_text(as_toml(job))
    assert fl.load_experiment("job.toml") == job
    assert as_toml(fl.load_experiment("job.toml")) == as_toml(job)
    for kind in (
        fl.IID(),
        fl.Shards(3),
        fl.UnbalancedShards(1, 5, 20),
        fl.Classes(1),
        fl.Quantity(2.0),
        fl.Natural("w"),
    ):
        other = experiment(clients=fl.Clients(6, 3, kind))
        Path("job.toml").write_text(as_toml(other))
        assert fl.load_experiment("job.toml") == other


@pytest.mark.parametrize(
    "name",
    [
        "../../x/ü/../☃",
        "n" * 300,
        "é" * 200,
        "",
        "a\nb [bold]x[/bold] <b>",
        ".",
    ],
)
def test_a_run_may_have_any_name(name):
    run = fl.run(experiment(name=name, rounds=1))
    assert run.path.parent == Path("runs")
    assert run.summary["name"] == name
    assert {path.name for path in Path().iterdir()} == {"runs"}
    repr(run)
    assert "[/bold] <b>" not in run.report().read_text()


UNUSUAL = {
    "everybody, every round": ["clients.cohort=6"],
    "one client": ["clients.count=1", "clients.cohort=1", "clients.holdout=0.5", "references.local_only=3"],
    "a batch larger than the data": ["local.batch=1000", "references.centralised=true"],
    "one batch of all": ['local.batch="all"', "references.centralised=true", "references.centralised_depth=true"],
    "steps": ["local.steps=3", "references.centralised=true", "references.local_only=2"],
    "never evaluated but at the end": ["evaluate_every=10"],
    "most of it held out": ["clients.holdout=0.99"],
    "clients of two": ["clients.count=30", "clients.holdout=0.5"],
    "clients of one": ["clients.count=60", 'clients.partition="quantity:3"'],
    "more alone than there are": ["references.local_only=100"],
    "float64 and whole rate": ['engine.precision="float64"', "local.lr=1"],
    "a huge seed": ["seed=123456789012345678901234567890"],
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_an_unusual_run_ends_well(name):
    answer = fedlens("run", small(), *sets(*UNUSUAL[name]), "--json")
    assert answer.code == 0, answer.err
    assert "Warning" not in answer.err
    assert 0 <= json.loads(answer.out)["final"]["last"] <= 1


def test_data_and_model_may_be_ones_own():
    module(
        "mine",
        "def get():\n"
        "    def part(count):\n"
        "        labels = np.arange(count) % 2\n"
        "        return np.random.default_rng(count).normal(size=(count, 5)) + 3 * labels[:, None], labels\n"
        "    return part(80), part(20)\n\n"
        "def net(shape, classes): return nn.Linear(shape[0], classes)\n",
    )
    words = [
        "run",
        small(),
        *sets('data.source="mine:get"', 'model.name="mine:net"', "rounds=10", "local.lr=0.3"),
        "--json",
    ]
    assert json.loads(fedlens(*words).out)["final"]["last"] > 0.9


def test_a_terminal_without_unicode_is_shown_what_it_can_show():
    process = in_a_process("run", small(), environment={"PYTHONIOENCODING": "ascii"})
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert out.isascii() and "report: runs/" in out
