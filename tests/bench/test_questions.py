"""The four questions as jobs: each can be examined, and does what the published code does."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "bench" / "doctor"))  # scripts that stand outside the package

import base

from fedlens.diagnosis.subject.target import subject_of

QUESTIONS = Path(__file__).parents[2] / "bench" / "doctor" / "questions"
MAKERS = {
    "q000": ("make_job", "make_unbiased"),
    "q001": ("make_plain", "make_weighted", "make_job", "make_trained"),
    "q002": ("make_job", "make_clipped", "make_proximal"),
    "q004": ("make_job", "make_mobilenet"),
}


@pytest.fixture(autouse=True)
def _noise(monkeypatch):
    """In place of MNIST: 300 images of noise, all classes equally often."""

    def subset(name, train, test):
        draw = torch.Generator().manual_seed(0)
        images = torch.randint(0, 256, (300, 1, 28, 28), generator=draw, dtype=torch.uint8)
        labels = torch.arange(300) % 10
        return images[:240], labels[:240], images[240:], labels[240:]

    monkeypatch.setattr(base, "subset", subset)
    monkeypatch.setattr(base.lognormal, "__defaults__", (0, 5))
    monkeypatch.setattr(base.dirichlet, "__defaults__", (0, 4))
    monkeypatch.setattr(sys, "path", list(sys.path))


def patient(question, maker="make_job"):
    return subject_of(f"{QUESTIONS / question / 'job.py'}:{maker}").fresh()


@pytest.mark.parametrize(("question", "maker"), [(name, maker) for name, makers in MAKERS.items() for maker in makers])
def test_a_question_can_be_read_by_the_doctor_and_plays_a_visit(question, maker):
    job = patient(question, maker)
    assert not job.declared.unknown
    sent = job.fit(job.sample(1)[-1], job.init, 1)
    after = job.aggregate(job.init, [sent], 1)
    assert after.keys() == job.init.keys() and 0 <= job.evaluate(after, 1)["accuracy"] <= 1
    inputs, labels = job.train_data(0)
    assert len(inputs) == len(labels)


@pytest.mark.parametrize("question", MAKERS)
def test_a_question_stands_in_the_table_and_has_the_log_of_its_run(question):
    assert f"| {question} |" in (QUESTIONS / "README.md").read_text()
    assert (QUESTIONS / question / "run.log").read_text().count("\n") == patient(question).rounds


def test_client_i_has_i_tenths_of_its_labels_outside():
    job = patient("q000")
    outside = [float((job.train_data(client)[1].sum(dim=1) == 0).float().mean()) for client in range(10)]
    assert outside == pytest.approx([client / 10 for client in range(10)], abs=0.05)


def test_what_a_client_sends_depends_on_nothing():
    job = patient("q001")
    one, other = (job.fit(0, {"vector": torch.full((10,), value)}, 1).upload.state["vector"] for value in (0.0, 9.0))
    assert torch.equal(one, other)


def test_rates_multiply_from_client_to_client(monkeypatch):
    job = patient("q002")
    rates, step = [], torch.optim.SGD.step

    def watched(self, *args, **more):
        rates.append(self.param_groups[0]["lr"])
        return step(self, *args, **more)

    monkeypatch.setattr(torch.optim.SGD, "step", watched)
    for client in (0, 1):
        job.fit(client, job.init, 1)
    sizes = [len(job.train_data(client)[1]) for client in (0, 1)]
    assert rates[-1] == pytest.approx(0.1 * sizes[0] / 100 * sizes[1] / 100)


def test_32_groups_on_32_channels_are_one_channel_each():
    first = next(part for part in patient("q004").model().modules() if isinstance(part, torch.nn.GroupNorm))
    assert first.num_groups == first.num_channels
