"""The losses against label skew, by hand and as training sees them."""

import math

import pytest
import torch
import torch.nn.functional as F
from battery import federation_of

from fedlens.methods import METHODS, Answers, Client, Lesson
from fedlens.runs.loop import advance

OUTPUTS = torch.tensor([[1.0, 2.0, 0.5], [0.0, -1.0, 3.0]], dtype=torch.float64, requires_grad=True)
LABELS = torch.tensor([0, 2])


def lesson(counts: list[int], received: torch.Tensor | None = None) -> Lesson:
    answers = Answers(OUTPUTS.detach() if received is None else received, torch.zeros(2, 1))
    client = Client(torch.zeros(1), {}, {}, 0.1, 1.0)
    return Lesson(torch.tensor(counts), client, None, lambda weights: answers)


def loss(name: str, counts: list[int], received: torch.Tensor | None = None, **settings: float) -> float:
    return METHODS[name](**settings).loss(OUTPUTS, LABELS, lesson(counts, received)).item()


PLAIN = F.cross_entropy(OUTPUTS, LABELS).item()


@pytest.mark.parametrize(
    ("name", "counts", "settings"),
    [
        ("fedlc", [16, 16, 16], {}),  # one margin for all classes shifts all logits alike
        ("fedlc", [1, 50, 9], {"tau": 0.0}),
        ("fedrs", [3, 0, 5], {"alpha": 1.0}),
        ("fedrs", [3, 1, 5], {"alpha": 0.5}),  # nothing is lacking
        ("fedntd", [3, 0, 5], {"beta": 0.0}),
        ("fedntd", [3, 0, 5], {}),  # the received model agrees with the client's
    ],
)
def test_a_special_case_is_cross_entropy(name, counts, settings):
    assert loss(name, counts, **settings) == pytest.approx(PLAIN, rel=1e-12)


def test_fedlc_lowers_rare_classes_by_their_margin_and_drops_absent_ones():
    # n = (16, 1, 0), tau = 2: margins 2 / 2 = 1 and 2; class 2 has left the sum. Row 0: logits (0, 0), label 0.
    outputs = torch.tensor([[1.0, 2.0, 9.0]])
    found = METHODS["fedlc"](tau=2.0).loss(outputs, torch.tensor([0]), lesson([16, 1, 0]))
    assert found.item() == pytest.approx(math.log(2))


def test_fedlc_gives_no_gradient_to_absent_classes_and_finite_ones_elsewhere():
    outputs = torch.tensor([[1.0, 2.0, 9.0]], requires_grad=True)
    METHODS["fedlc"]().loss(outputs, torch.tensor([0]), lesson([16, 1, 0])).backward()
    assert outputs.grad[0, 2] == 0 and torch.isfinite(outputs.grad).all() and outputs.grad[0, 0] != 0


def test_fedrs_scales_the_logits_of_absent_classes():
    # Row (0, 4, 0) with class 1 absent and alpha = 0.5: logits (0, 2, 0), label 0: log(2 + e^2).
    found = METHODS["fedrs"](alpha=0.5).loss(torch.tensor([[0.0, 4.0, 0.0]]), torch.tensor([0]), lesson([1, 0, 1]))
    assert found.item() == pytest.approx(math.log(2 + math.exp(2)))


def test_fedntd_is_the_divergence_over_the_other_classes_alone():
    outputs, received = torch.tensor([[5.0, 0.0, 0.0]]), torch.tensor([[-7.0, math.log(3), 0.0]])
    # Others: received (3/4, 1/4), client (1/2, 1/2): KL = 3/4 log(3/2) + 1/4 log(1/2).
    expected = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    plain = F.cross_entropy(outputs, torch.tensor([0])).item()
    found = METHODS["fedntd"](beta=2.0).loss(outputs, torch.tensor([0]), lesson([1, 1, 1], received))
    assert found.item() == pytest.approx(plain + 2 * expected, rel=1e-6)
    received[0, 0] = 100.0  # the true class is no part of it
    again = METHODS["fedntd"](beta=2.0).loss(outputs, torch.tensor([0]), lesson([1, 1, 1], received))
    assert again.item() == pytest.approx(found.item())


def test_the_received_model_answers_in_evaluation_mode_and_stays_as_it_was():
    """With beta large the clients hold on to the received model's opinion: they move less than under plain training."""
    skewed = {"clients": {"count": 3, "cohort": 3, "partition": "shards:1"}, "rounds": 1}
    norms = []
    for method in (METHODS["fedavg"](), METHODS["fedntd"](beta=0.0), METHODS["fedntd"](beta=5.0)):
        first, last = advance(federation_of(method, **skewed))
        norms.append(sum(record.update_norm for record in last.records))
        tracked = last.tree.integers["norm.num_batches_tracked"] - first.tree.integers["norm.num_batches_tracked"]
        assert tracked == last.records[0].steps  # the teacher's answers count no batch
    assert norms[1] == norms[0] and norms[2] != norms[0]
