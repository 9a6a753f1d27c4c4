"""The page tells the whole run, says what is missing, and lets nothing from a file become markup."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from fedlens.errors import ConfigurationError, FedlensError
from fedlens.report import read_run, write_report

MakeRun = Callable[..., Path]


def page_of(run: Path) -> str:
    return write_report(run).read_text(encoding="utf-8")


def test_the_page_refers_to_nothing_outside_itself(make_run: MakeRun) -> None:
    text = page_of(make_run())
    without_namespaces = re.sub(r'xmlns(:\w+)?="[^"]*"', "", text)
    assert "http" not in without_namespaces
    assert not re.findall(r'(?:src|href)="(?!#)', without_namespaces)
    assert "<script" not in text
    assert "url(" not in re.sub(r"url\(#", "", text)


def test_the_page_holds_the_numbers_beside_their_references_and_budgets(make_run: MakeRun) -> None:
    run = make_run()
    final = json.loads((run / "summary.json").read_text())["final"]
    text = page_of(run).replace("\u202f", " ")
    assert f"{100 * final['last']:.1f} %" in text
    assert f"{100 * final['best']:.1f} %" in text
    assert "96.0 % with 21,555 samples in 2,160 steps" in text
    assert f"{100 * (0.965 - final['last']):.1f} points below" in text
    assert f"{100 * (final['last'] - 0.352):.1f} points above" in text
    assert "35.2 % ± 8.0" in text
    assert "fedlens run digits.toml --set local.lr=0.05" in text
    assert "Clients hold 2 of 10 classes." in text
    assert "Round 4, client 3, step 7: loss is NaN." in text
    for figure in ("accuracy", "recall", "updates", "local", "split"):
        assert f'id="figure-{figure}"' in text


def test_what_a_file_says_never_becomes_markup(make_run: MakeRun) -> None:
    run = make_run("<script>alert(1)</script>")
    summary = json.loads((run / "summary.json").read_text())
    summary["notable"] = ["<img onerror=x>"]
    summary["references"][0]["title"] = "<b>bold</b>"
    summary["classes"][0] = "<i>zero</i>"
    (run / "summary.json").write_text(json.dumps(summary))
    text = page_of(run)
    assert "&lt;script&gt;alert(1)" in text
    for raw in ("<script>alert", "<img", "<b>bold", "<i>zero"):
        assert raw not in text


def test_no_two_elements_of_the_page_share_an_id_and_every_reference_finds_its_own(make_run: MakeRun) -> None:
    text = page_of(make_run())
    ids = re.findall(r'\sid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:url\(#|href="#)([^)"]+)', text)) <= set(ids)


def test_a_torn_last_line_is_left_out_without_a_word(make_run: MakeRun) -> None:
    run = make_run()
    with (run / "rounds.jsonl").open("a") as file:
        file.write('{"round": 31, "accur')
    record = read_run(run)
    assert record.trained == 30
    assert record.missing == ()


def test_a_damaged_line_in_the_middle_is_named_by_file_and_line(make_run: MakeRun) -> None:
    run = make_run()
    lines = (run / "rounds.jsonl").read_text().splitlines()
    lines[6] = '{"round": 6, "acc'
    (run / "rounds.jsonl").write_text("\n".join(lines) + "\n")
    with pytest.raises(FedlensError) as caught:
        write_report(run)
    assert f"{run / 'rounds.jsonl'}:7" in str(caught.value)
    assert '{"round": 6, "acc' in str(caught.value)
    assert not (run / "report.html").exists()


def test_an_interrupted_run_says_so_and_shows_its_rounds(make_run: MakeRun) -> None:
    run = make_run()
    (run / "status").write_text("interrupted\n")
    (run / "summary.json").unlink()
    lines = (run / "rounds.jsonl").read_text().splitlines(keepends=True)
    (run / "rounds.jsonl").write_text("".join(lines[:13]))
    accuracy = json.loads(lines[12])["accuracy"]
    text = page_of(run).replace("\u202f", " ")
    assert "did not finish: it was interrupted with 12 of 30 rounds on record" in text
    assert "summary.json: the summary is absent." in text
    assert f"{100 * accuracy:.1f} % accuracy after 12 rounds" in text
    assert 'id="figure-accuracy"' in text


def test_a_run_that_failed_before_its_first_round_still_gets_a_page(make_run: MakeRun) -> None:
    run = make_run()
    for path in [*run.rglob("*.jsonl"), *run.rglob("*.npz"), run / "summary.json", run / "environment.json"]:
        path.unlink()
    (run / "status").write_text("failed")
    text = page_of(run)
    assert "rounds.jsonl: no round was written" in text
    assert "<svg" not in text
    assert "per_client = 2" in text


def test_half_written_arrays_and_summary_are_told_and_the_rest_is_shown(make_run: MakeRun) -> None:
    run = make_run()
    for path in (run / "clients" / "partition.npz", run / "summary.json"):
        path.write_bytes(path.read_bytes()[:200])
    text = page_of(run)
    assert "clients/partition.npz: the split cannot be drawn" in text
    assert "summary.json: the summary cannot be read (line 1" in text
    assert 'id="figure-updates"' in text
    assert 'id="figure-split"' not in text


def test_a_run_that_diverged_gets_a_page(make_run: MakeRun) -> None:
    run = make_run()
    rows = [json.loads(line) for line in (run / "rounds.jsonl").read_text().splitlines()]
    for row in rows[3:]:
        row |= {"loss_first": float("nan"), "loss_last": float("inf"), "loss": float("nan"), "recall": [None] * 10}
    (run / "rounds.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    summary = json.loads((run / "summary.json").read_text())
    summary["final"] |= {"last": float("nan"), "loss": float("nan"), "recall": [float("nan")] * 10}
    (run / "summary.json").write_text(json.dumps(summary))
    text = page_of(run)
    assert ">nan" not in text.lower()
    assert 'id="figure-recall"' not in text


def test_a_folder_that_is_no_run_tells_what_was_looked_for_and_the_runs_nearby(make_run: MakeRun) -> None:
    run = make_run()
    with pytest.raises(ConfigurationError) as caught:
        write_report(run.parent / "digits-shard")
    assert "no such folder" in str(caught.value)
    assert str(run) in str(caught.value)
    with pytest.raises(ConfigurationError) as caught:
        write_report(run.parent)
    assert "rounds.jsonl" in str(caught.value)
    assert str(run) in str(caught.value)


def test_the_page_leaves_no_temporary_file_and_goes_where_it_is_told(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run()
    before = {path.name for path in run.iterdir()}
    out = write_report(run, tmp_path / "else" / "page.html")
    assert out.is_file()
    assert [path.name for path in out.parent.iterdir()] == ["page.html"]
    assert {path.name for path in run.iterdir()} == before
