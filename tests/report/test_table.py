"""A comparison says in what the runs differ, and which numbers must not be read against each other."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rich.console import Console, RenderableType

from fedlens.report import compare, render, render_split, render_summary
from fedlens.report.table import compare_figure

MakeRun = Callable[..., Path]


def printed(what: RenderableType, width: int = 160) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(what)
    return console.file.getvalue().replace("\u202f", " ")  # type: ignore[attr-defined]


def test_a_comparison_lists_exactly_the_settings_that_differ(make_run: MakeRun) -> None:
    found = compare([make_run("a"), make_run("b", lr=0.2)])
    assert found.differing == {"local.lr": [0.05, 0.2]}
    assert found.flags == ()
    text = printed(render(found))
    assert "local.lr" in text and "0.2" in text and "local.batch" not in text


def test_a_setting_that_one_run_lacks_differs(make_run: MakeRun) -> None:
    first, second = make_run("a"), make_run("b")
    with (second / "experiment.toml").open("a") as file:
        file.write('[method]\nname = "fedprox"\n')
    assert compare([first, second]).differing == {"method.name": [None, "fedprox"]}


def test_accuracies_on_different_test_sets_are_flagged(make_run: MakeRun) -> None:
    first, second = make_run("a"), make_run("b")
    summary = json.loads((second / "summary.json").read_text())
    summary["metric"] = "accuracy on a tenth of the training set"
    (second / "summary.json").write_text(json.dumps(summary))
    (flag,) = compare([first, second]).flags
    assert "must not be compared" in flag and "a tenth of the training set: b" in flag
    assert flag in " ".join(printed(render(compare([first, second])), 400).split("\n"))


def test_a_run_that_did_not_finish_has_its_row_and_is_flagged(make_run: MakeRun) -> None:
    run = make_run("a")
    (run / "summary.json").unlink()
    (run / "status").write_text("interrupted")
    found = compare([run])
    last = json.loads((run / "rounds.jsonl").read_text().splitlines()[-1])["accuracy"]
    assert (found.rows[0].last, found.rows[0].best, found.rows[0].rounds) == (last, None, 30)
    assert "a (interrupted, 30 rounds)" in found.flags[-1]


def test_a_comparison_is_ready_for_json_and_keeps_fractions(make_run: MakeRun) -> None:
    run = make_run("a")
    plain = json.loads(json.dumps(compare([run]).as_dict()))
    final = json.loads((run / "summary.json").read_text())["final"]
    assert plain["rows"][0]["last"] == final["last"] <= 1
    assert plain["rows"][0]["gaps"]["centralised"] == 0.965 - final["last"]
    assert f"−{100 * (0.965 - final['last']):.1f}" in printed(render(compare([run])))
    assert plain["rows"][0]["megabytes"] == 6.0  # 3 MB down and 3 MB up


def test_runs_of_one_name_are_told_apart_by_their_folders(make_run: MakeRun) -> None:
    found = compare([make_run("same", folder="one"), make_run("same", folder="two")])
    assert [row.name for row in found.rows] == ["one", "two"]


def test_the_overlay_has_a_curve_for_every_run(make_run: MakeRun) -> None:
    figure = compare_figure([make_run("a"), make_run("b")])
    texts = " ".join(text.get_text() for text in figure.axes[0].texts)
    assert "  a" in texts and "  b" in texts


def test_the_terminal_shows_accuracy_beside_its_references_and_what_stands_out(make_run: MakeRun) -> None:
    summary = json.loads((make_run("[red]") / "summary.json").read_text())
    text = printed(render_summary(summary))
    assert "[red]" in text  # a name in brackets is no markup
    bars = {line.split("  ")[0]: line.count("█") for line in text.splitlines() if "█" in line}
    assert bars["centralised, same samples"] > bars["[red]"] > bars["local only"] > 0
    assert "54.2 points less" in text
    assert "Clients hold 2 of 10 classes. Batch statistics" in text


def test_a_summary_with_holes_can_be_printed() -> None:
    assert "–" in printed(render_summary({"references": [{"name": "iid"}]}))


def test_a_split_is_drawn_to_scale_one_line_a_client() -> None:
    counts = np.array([[10, 0, 0], [0, 5, 5], [0, 0, 5]])
    lines = [
        line for line in printed(render_split({"kind": "shards"}, counts)).splitlines() if line.startswith("client ")
    ]
    drawn = [line[17:].strip() for line in lines]
    assert drawn == ["0" * 48, "1" * 24 + "2" * 24, "2" * 24]  # 48 characters are the largest client's 10 samples


def test_of_more_than_twenty_clients_twenty_are_drawn() -> None:
    text = printed(render_split({"clients": 300}, np.ones((300, 3), int)))
    assert "20 of the 300 clients" in text and "--figure" in text
    drawn = [line for line in text.splitlines() if line.startswith("client ")]
    assert len(drawn) == 20 and drawn[0].startswith("client   0") and drawn[-1].startswith("client 299")


def test_a_narrow_terminal_cuts_no_number_and_no_bar(make_run: MakeRun) -> None:
    run = make_run("a")
    summary = json.loads((run / "summary.json").read_text())
    table, lines = printed(render(compare([run])), 80), printed(render_summary(summary), 80)
    assert "…" not in table + lines
    assert f"{100 * summary['final']['mean_last_ten']:.1f} %" in table
    assert "35.2 %" in lines
    assert "21,555" in lines and "10,800" in lines
