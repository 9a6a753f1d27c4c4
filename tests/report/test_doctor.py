"""A diagnosis shown: on a terminal of any width, in ASCII, and as a page that needs nothing else."""

import copy
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from rich.console import Console

from fedlens.report.doctor import render_diagnosis, render_findings, write_diagnosis

FINDING = {
    "cause": "O1",
    "certainty": "supported",
    "says": "The local rate 1e-06 is too small: at 0.03 the same rounds gain 80.0 points.",
    "evidence": [{"name": "rate that reaches most", "by": "M20", "yours": "1e-06", "healthy": "0.03"}],
    "remedy": "Search the rate first, by factors of three, on few rounds; then compare methods <b>.",
    "clients": list(range(30)),
    "where": "job.py:3",
}
TREATED = {
    "finding": FINDING,
    "says": "10.0 % -> 90.0 % (+80.0 points).",
    "change": "local.lr: 1e-06 -> 0.03; rounds: 8 -> 9",
    "verified": True,
}
OUTCOME = {"values": [0.1], "rounds": 8}


def told(**changes):
    facts = {"clients": 20, "cohort": 5, "rounds": 40}
    evidence = {
        "facts": facts,
        "log": None,
        "unexamined": [],
        "rounds": [{"number": 1}],
        "trials": None,
        "labels": None,
    }
    bars = [
        {"what": "pooled", "accuracy": 0.9, "error": 0.01, "change": 0.0},
        {"what": "the job's own code", "accuracy": 0.1, "error": 0.01, "change": -0.8},
    ]
    plain = {
        "name": "job",
        "suspects": [FINDING],
        "noted": [],
        "ruled_out": [{"what": "labels", "number": "gain 0.00 (M16)"}],
        "bars": bars,
        "evidence": evidence,
        "seconds": {"rounds": 61.0},
        "cost": {"runs": 1.3, "first": 0.2},
        "treatments": [],
    }
    return {**copy.deepcopy(plain), **changes}


def healthy(**evidence):
    return told(suspects=[], bars=[], evidence={**told()["evidence"], **evidence})


def shown(what, width=100, **options):
    to = io.StringIO()
    Console(file=to, width=width, **options).print(render_diagnosis(what))
    return to.getvalue()


def page(what):
    return write_diagnosis(what, Path("page.html")).read_text()


def words(text):
    return " ".join(text.split())


def test_the_verdict_stands_first_with_its_certainty_and_cause():
    lines = [line for line in shown(told()).splitlines() if line.strip()]
    assert lines[1].startswith("VERDICT       SUPPORTED by a counterfactual  The local rate 1e-06 is too small")
    assert "cause O1, job.py:3" in words(shown(told()))


@pytest.mark.parametrize("width", (40, 60, 200))
def test_no_line_is_wider_than_the_terminal_and_no_word_is_lost(width):
    text = shown(told(treatments=[TREATED]), width)
    assert max(map(len, text.splitlines())) <= width
    for part in ("rate", "M20", "Search", "90.0", "labels:", "clients"):
        assert part in text


def test_a_terminal_that_knows_ascii_alone_gets_the_page_too():
    raw = io.BytesIO()
    narrow = io.TextIOWrapper(raw, encoding="ascii", errors="replace")
    Console(file=narrow, width=80).print(render_diagnosis(told(treatments=[TREATED])))
    narrow.flush()
    assert b"VERDICT" in raw.getvalue()
    assert b"90.0 ? 1.0 %  ############" in raw.getvalue()  # the bar is drawn in what there is


def test_numbers_that_are_none_are_said_to_be_none():
    bars = [{**told()["bars"][0], "change": None}, {"what": "job", "accuracy": None, "error": None, "change": None}]
    assert "no number" in shown(told(bars=bars))
    assert "no number" not in page(told(bars=bars))


def test_a_healthy_job_is_a_few_lines():
    text = shown(healthy())
    assert "NO FAULT FOUND" in text
    assert "EVIDENCE" not in text


@pytest.mark.parametrize("remark, says", (("", "NO FAULT FOUND"), ("NO CAUSE FOUND  80 below.", "NO CAUSE FOUND")))
def test_a_job_far_below_what_its_data_allow_is_not_called_healthy(remark, says):
    what = {**healthy(trials={"job": OUTCOME, "unrun": ["best-rate"]}), "remark": remark}
    assert says in shown(what)
    assert says in page(what)
    assert "counterfactuals best-rate: there was no time for them" in words(shown(what))
    assert "counterfactuals best-rate" in page(what)


def test_a_job_that_does_not_run_is_not_called_healthy():
    what = {**healthy(rounds=[]), "remark": "NO VERDICT  The job does not run: fit raised KeyError"}
    assert "The job does not run: fit raised KeyError" in words(shown(what))


def test_a_change_is_shown_setting_by_setting_with_its_proof_and_what_is_left():
    what = told(treatments=[TREATED], fixed="runs/a/fixed.toml", further=[])
    text = shown(what)
    assert next(line.strip() for line in text.splitlines() if "->" in line).endswith("local.lr: 1e-06 -> 0.03")
    for part in ("PROOF O1", "+80.0 points", "fedlens run runs/a/fixed.toml", "no fault found"):
        assert part in text
        assert part in page(what) or part == "PROOF O1"
    assert "No setting of the experiment mends this" in shown(told(fixed=None))


def test_the_page_shows_what_else_a_remedy_changed_and_what_it_spoiled():
    client = {"name": "worst client", "before": 0.4, "after": 0.1, "error": 0.05, "sound": 0.35, "worse": True}
    sure = {"name": "calibration error", "before": 0.2, "after": 0.1, "error": 0.01, "sound": None, "worse": False}
    text = page(told(treatments=[{**TREATED, "verified": False, "beside": [client, sure]}]))
    rows = re.findall(r'<tr><th scope="row">(worst client|calibration error)</th>(.*?)</tr>', text)
    cells = {name: re.findall("<td>(.*?)</td>", row) for name, row in rows}
    assert cells["worst client"] == ["40.0 %", "10.0 %", "5.0 %", "35.0 %", "spoiled"]
    assert cells["calibration error"] == ["20.0 %", "10.0 %", "1.0 %", "", ""]
    assert "beside accuracy" not in page(told(treatments=[TREATED]))


def test_what_a_log_gives_away_is_shown_also_when_nothing_is_wrong():
    log = {
        "values": [0.5, 0.75],
        "scale": "fraction",
        "n": 4,
        "claimed": 1000,
        "constant": 0.5,
        "noise": 0.1,
        "last": 0.75,
        "best": 0.75,
        "mean_last": 0.6,
        "collapsed": [7],
        "chance": 0.1,
    }
    what = healthy(facts={"clients": 0, "cohort": 0, "rounds": 2}, log=log, rounds=[])
    for text in (shown(what), page(what)):
        for part in ("2, fraction", "4 examples", "1,000 examples", "50 %", "chance 10.0 %", "7"):
            assert part in text
        assert "NO FAULT FOUND" in text
    assert "clients" not in shown(what)


class _Tags(HTMLParser):
    """Which tags are open, and what the page loads."""

    def __init__(self):
        super().__init__()
        self.open, self.loads, self.wrong = [], [], []

    def handle_starttag(self, tag, attributes):
        self.loads += [value for name, value in attributes if name == "src" or (name == "href" and value[:1] != "#")]
        if tag not in ("meta", "link", "br", "img", "hr"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)


def test_the_page_is_whole_loads_nothing_and_escapes_what_it_is_told():
    text = page(told(name="<script>x</script>", treatments=[TREATED], fixed="fixed.toml", further=["H1 & co"]))
    tags = _Tags()
    tags.feed(text)
    assert (tags.open, tags.wrong, tags.loads) == ([], [], [])
    assert "<script" not in text
    assert "methods &lt;b&gt;" in text
    assert "figure-doctor-waterfall" in text


def test_findings_below_a_run_name_the_whole_examination():
    to = io.StringIO()
    Console(file=to, width=100).print(render_findings([FINDING], "runs/a"))
    assert "fedlens diagnose runs/a" in to.getvalue()
    assert "O1" in to.getvalue()


def test_a_run_that_was_not_examined_is_not_called_faultless(tmp_path):
    """Its record shows nothing wrong, and nothing was tried: the page says nothing of a diagnosis."""
    import json

    from fedlens.report import write_report

    (tmp_path / "status").write_text("done")
    free = {"suspects": [], "noted": [], "ruled_out": [], "treatments": [], "evidence": None}
    (tmp_path / "findings.json").write_text(json.dumps(free))
    assert "NO FAULT FOUND" not in write_report(tmp_path).read_text()
    (tmp_path / "findings.json").write_text(json.dumps(healthy()))
    assert "NO FAULT FOUND" in write_report(tmp_path).read_text()
