"""The benchmark of the doctor is what it says: jobs that run, a truth for each, sums that are right."""

import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "bench" / "doctor"))  # scripts that stand outside the package

import base
import play
import rules
import score
import tally
from tally import Said, Told, Truth

from fedlens.diagnosis.subject.patient import Subject

FOLDERS = {folder.name: folder for folder in play.folders()}
SMALL = {"mnist": (1, 28), "cifar10": (3, 32)}


@pytest.fixture(autouse=True)
def _small_data(monkeypatch):
    """In place of the known data sets: 20 examples of noise for each of 20 clients, all classes equally often."""

    def subset(name, train, test):
        draw = torch.Generator().manual_seed(0)
        channels, side = SMALL[name]
        images = torch.randint(0, 256, (500, channels, side, side), generator=draw, dtype=torch.uint8)
        labels = torch.arange(500) % 10
        return images[:400], labels[:400], images[400:], labels[400:]

    torch.set_num_threads(1)
    monkeypatch.setattr(base, "subset", subset)
    monkeypatch.setattr(base.lognormal, "__defaults__", (0, 5))
    monkeypatch.setattr(base.dirichlet, "__defaults__", (0, 1))


def patient(name, seed=0):
    return Subject(play.maker(FOLDERS[name]), name).fresh(seed)


def test_there_are_26_sabotaged_6_healthy_and_7_small_jobs_each_with_a_truth():
    known = score.truths()
    assert known.keys() == FOLDERS.keys()
    first = [name[0] for name in FOLDERS]
    assert (first.count("o"), first.count("h"), first.count("s")) == (26, 6, 7)
    assert all(bool(truth.accepted) == (name[0] != "h") for name, truth in known.items())
    assert all((FOLDERS[name] / file).exists() for name, truth in known.items() for file in truth.files)


@pytest.mark.parametrize("name", FOLDERS)
def test_a_job_can_be_read_by_the_doctor_and_plays_a_round(name):
    job = patient(name)
    assert set(job.declared.unknown) <= {"keep"}
    cohort = job.sample(1)
    assert len(set(cohort)) == job.cohort
    sent = [job.fit(client, job.init, 1) for client in cohort[:2]]
    after = job.aggregate(job.init, sent, 1)
    assert after.keys() == job.init.keys()
    assert job.evaluate(after, 1)
    inputs, labels = job.train_data(cohort[0])
    assert len(inputs) == len(labels)
    assert torch.isfinite(job.loss(job.network(job.init)(inputs), labels))


@pytest.mark.parametrize("name", FOLDERS)
def test_a_job_has_the_log_of_its_plain_run(name):
    job = patient(name)
    assert len(rules.values(job.job.log)) == job.rounds


@pytest.mark.parametrize("name", FOLDERS)
def test_nothing_in_a_folder_tells_what_ails_it(name):
    words = r"\b(faults?|faulty|bugs?|sabotaged?|wrong|mistakes?|healthy|broken|fixme|todo|diagnos\w*)\b"
    for file in FOLDERS[name].glob("*.*"):
        assert not re.search(words, file.read_text().lower()), file


@pytest.mark.parametrize("name", ["h01", "h02", "h03", "h04", "h06"])
def test_healthy_servers_take_the_mean_that_they_declare(name):
    job = patient(name)
    sent = [job.fit(client, job.init, 1) for client in job.sample(1)]
    total = sum(one.upload.examples for one in sent)
    uniform = job.declared.weighting == "uniform"
    shares = [1 / len(sent) if uniform else one.upload.examples / total for one in sent]
    after = job.aggregate(job.init, sent, 1)
    for entry, kind in job.facts().entries.items():
        if kind.kind != "counter":
            mean = sum(one.upload.state[entry] * share for one, share in zip(sent, shares, strict=True))
            assert torch.allclose(after[entry], mean, atol=1e-5)


def test_another_seed_is_another_deal_of_the_same_job():
    first, again, other = (patient("h01", seed).train_data(0)[0] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


TRUTHS = {
    "a": Truth(accepted=("A1", "A2"), group="A", severity="s3", files=("server.py",)),
    "b": Truth(accepted=("A6",), group="A", severity="s2", files=("server.py",)),
    "l": Truth(accepted=("L1",), group="L", severity="s2", clients=(1, 2, 3), files=("data.py",), repairable=False),
    "h": Truth(accepted=(), group="", severity="healthy", repairable=False),
}


def test_scores_are_means_over_groups_of_where_the_truth_stands():
    every = [
        Told(job="a", suspects=(Said(cause="A2", where="x/server.py:7"),), runs=0.5, first=0.1),
        Told(job="b", suspects=(Said(cause="P1"), Said(cause="A6", where="client.py:3")), runs=1.5, first=0.7),
        Told(job="l", suspects=(Said(cause="L2", also=("L1",), clients=(2, 3, 4)),), runs=4.0, first=0.3),
        Told(job="h", suspects=(Said(cause="P1"),)),
    ]
    found = tally.scores(every, TRUTHS)
    assert found.top1 == pytest.approx((1 / 2 + 1) / 2)  # A: one of two, L: one of one
    assert found.top3 == 1
    assert found.strict == pytest.approx((1 / 2 + 0) / 2)
    assert found.severity == {"s2": 0.5, "s3": 1.0}
    assert (found.alarms, found.healthy) == (1, 1)
    assert found.clients == pytest.approx(2 * 2 / (3 + 3))  # two of three named are right, of three
    assert found.files == pytest.approx(1 / 3)
    assert (found.runs, found.most_runs) == (1.5, 4.0)
    assert found.first == pytest.approx((0.1 + 0.3) / 2)  # where the first suspect is right
    assert found.repairs is None


def test_a_repair_counts_when_it_is_proven_and_gives_back_enough():
    proven = Told(job="a", verified=True, recovered=0.81)
    assert tally.scores([proven], TRUTHS, treated=True).repairs == 1
    for other in (Told(job="a"), Told(job="a", verified=True, recovered=0.7), Told(job="a", recovered=0.9)):
        assert tally.scores([other], TRUTHS, treated=True).repairs == 0
    silent = {"a": Truth(accepted=("A7",), group="A", severity="s1", silent=True)}
    assert tally.scores([Told(job="a", verified=True, recovered=0.0)], silent, treated=True).repairs == 1
    assert tally.scores([Told(job="l", verified=True, recovered=1.0)], TRUTHS, treated=True).repairs is None


def test_chance_is_that_of_draws_without_replacement():
    found = tally.by_chance([TRUTHS["b"]])
    assert found.top1 == pytest.approx(1 / 97)
    assert found.top3 == pytest.approx(3 / 97)


def test_rules_read_the_log_alone():
    def log(values):
        return "".join(f"round {number}: test_acc {value:.4f}\n" for number, value in enumerate(values, 1))

    rising = [0.5 + 0.01 * step for step in range(20)]
    assert rules.from_log(log(rising), 10, 2000) == []
    assert "B2" in rules.from_log(log([0.1] * 20), 10, 2000)
    assert "O2" in rules.from_log(log([*rising, *[0.098] * 9]), 10, 2000)
    assert "O1" in rules.from_log(log([0.1 + 0.0005 * step for step in range(20)]), 10, 2000)
    assert "E2" in rules.from_log(log([0.5 + step / 30 for step in range(11)]), 10, 2000)
    assert "P1" in rules.from_log(log([0.5, 0.6] * 10), 10, 2000)


def test_a_diagnosis_survives_its_json():
    finding = SimpleNamespace(cause="A1", also=("A2",), certainty=3, clients=(1,), where="server.py:3")
    cause = SimpleNamespace(cause="A1", treatment="rate=0.1")
    diagnosis = SimpleNamespace(
        suspects=[finding],
        noted=[finding],
        cost={"runs": 0.5, "first": 0.1},
        treatments=(
            SimpleNamespace(recovered=0.1, verified=False, says="no", finding=cause),
            SimpleNamespace(recovered=0.9, verified=True, says="10.0% -> 90.0%", finding=cause),
        ),
    )
    kept = score.told("a", 1, diagnosis, 2.0)
    assert (kept.recovered, kept.verified) == (0.9, True)
    assert kept.tried[1] == "proven A1 rate=0.1: 10.0% -> 90.0%"
    assert score.revived(score.json.loads(score.json.dumps(score.asdict(kept)))) == kept


def test_an_examination_that_fails_is_counted_and_never_ends_the_others(monkeypatch):
    monkeypatch.setattr(score.sys, "executable", "/bin/false")
    told = score.apart("h01", 0, False, 10.0)
    assert told.failed
    monkeypatch.setattr(score.subprocess, "run", _half_written)
    assert score.apart("h01", 0, False, 10.0).failed == "killed"
    found = tally.scores([told], score.truths())
    assert (found.failed, found.alarms) == (1, 0)


def test_of_two_faults_both_repairs_together_count_where_that_is_more():
    def one(before, after, reference, verified=True, rounds=6):
        start, end = (SimpleNamespace(mean=value, rounds=rounds) for value in (before, after))
        share = (after - before) / (reference - before)
        return SimpleNamespace(before=start, after=end, reference=reference, recovered=share, verified=verified)

    first, second = one(0.1, 0.2, 0.9), one(0.2, 0.85, 0.9)
    assert score.treated([first]) == (pytest.approx(0.125), True)
    assert score.treated([first, second]) == (pytest.approx((0.85 - 0.1) / (0.9 - 0.1)), True)
    assert score.treated([first, one(0.2, 0.85, 0.9, verified=False)])[0] == pytest.approx(0.125)
    assert score.treated([first, one(0.2, 0.85, 0.9, rounds=40)])[0] == pytest.approx(0.125)
    assert score.treated([one(0.1, 0.8, 0.8), one(0.8, 0.82, 0.99)])[0] == pytest.approx(1.0)


def _half_written(command, **how):
    Path(command[command.index("--into") + 1]).write_text('{"job": "h01", "seed"')
    return SimpleNamespace(stderr="killed")


def test_what_was_treated_is_told_below_its_row_and_no_healthy_job_is():
    proven = Told(job="a", verified=True, tried=("proven A1: all of it",))
    first, below = tally.row(proven, TRUTHS["a"]).splitlines()
    assert "proven" in first.split() and below.strip() == "proven A1: all of it"
    healthy = [Told(job="h"), Told(job="h", verified=False, recovered=0.1), proven]
    assert tally.scores(healthy, TRUTHS, treated=True).needless == 1
    assert tally.scores(healthy, TRUTHS).needless is None


def test_every_job_has_a_column_for_each_rival():
    known = score.truths()
    every = [Told(job=name) for name in known if name[0] in "oh"]
    others = score.rivals(every, known)
    heterogeneous = [name for name, truth in known.items() if "P1" in truth.accepted]
    assert heterogeneous == ["o26"]
    assert others['"non-IID"'].alarms == 6
    assert others['"non-IID"'].groups["P"] == pytest.approx(1 / 2)  # o26 of o24 and o26
    assert "log rules" in tally.summary(["doctor", *others], [tally.scores(every, known), *others.values()])


def test_a_row_tells_the_truth_the_suspects_and_where_it_stands():
    told = Told(job="a", suspects=(Said(cause="P1"), Said(cause="A2")), runs=0.5, recovered=0.9, verified=False)
    assert tally.row(told, TRUTHS["a"]).split() == ["a", "0", "A1,A2", "P1,", "A2", "2", "0.50", "-", "0.90?", "0.0"]
    assert " false " in tally.row(Told(job="h", suspects=(Said(cause="P1"),)), TRUTHS["h"])
    assert "no end" in tally.row(Told(job="a", failed="no end within 5 s"), TRUTHS["a"])
