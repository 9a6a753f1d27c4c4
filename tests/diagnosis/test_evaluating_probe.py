"""What a reported accuracy is of: the test data, or whatever else it may be, named by the doctor's own measurements."""

from collections.abc import Callable
from statistics import mean
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from fedlens.diagnosis.evidence import Evaluating
from fedlens.diagnosis.examiner import Examiner
from fedlens.diagnosis.probes.asked import listened
from fedlens.diagnosis.probes.comparing import Candidate, matching
from fedlens.diagnosis.probes.evaluating import examine_evaluating
from fedlens.diagnosis.subject.guard import Ailing
from fedlens.diagnosis.subject.patient import Subject
from fedlens.errors import ConfigurationError

Pair = tuple[Tensor, Tensor]


def drawn(n: int, seed: int) -> Pair:
    draw = torch.Generator().manual_seed(seed)
    inputs = torch.randn(n, 20, generator=draw)
    rule = torch.randn(20, 10, generator=torch.Generator().manual_seed(0))
    return inputs, (inputs @ rule + 4 * torch.randn(n, 10, generator=draw)).argmax(1)


CLIENTS = [drawn(n, n) for n in (300, 120, 500, 77, 250)]
POOLED = torch.cat([pair[0] for pair in CLIENTS]), torch.cat([pair[1] for pair in CLIENTS])
TEST = drawn(2000, 1)


def accuracy(network: nn.Module, pair: Pair) -> float:
    return (network(pair[0]).argmax(1) == pair[1]).double().mean().item()


def held_out(client: int) -> Pair:
    inputs, labels = CLIENTS[client]
    start = int(0.9 * len(labels))
    return inputs[start:], labels[start:]


def plain() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 10))


def dropping() -> nn.Module:
    return nn.Sequential(*list(plain())[:2], nn.Dropout(0.6), plain()[2])


class Job:
    """A job of which only evaluate matters: `report(network, round)`, in evaluation mode."""

    clients, cohort, rounds, classes = 5, 2, 10, 10
    declared: Any = None

    def __init__(self, report: Callable[[nn.Module, int], Any], network: Callable[[], nn.Module]):
        self.report, self.model, self.global_model = report, network, network()

    def init(self):
        return self.model().state_dict()

    def sample(self, round: int):
        return [round % 5, (round + 2) % 5]

    def evaluate(self, state, round: int):
        self.global_model.load_state_dict(state, strict=False)
        with torch.no_grad():
            return self.report(self.global_model.eval(), round)

    def loss(self, outputs: Tensor, labels: Tensor):
        return functional.cross_entropy(outputs, labels)

    def train_data(self, client: int):
        return CLIENTS[client]

    def test_data(self):
        return TEST

    fit = aggregate = lambda self, *given: None


def models(network: Callable[[], nn.Module]) -> list[tuple[int, dict[str, Tensor]]]:
    """The network early and late in a pooled training, by round."""
    trained, kept = network(), []
    optimizer = torch.optim.SGD(trained.parameters(), 0.1)
    for round in range(1, 121):
        optimizer.zero_grad()
        functional.cross_entropy(trained(POOLED[0]), POOLED[1]).backward()
        optimizer.step()
        if round in (1, 20, 60, 120):
            kept.append((round, {name: value.clone() for name, value in trained.state_dict().items()}))
    return kept


MODELS = {network: models(network) for network in (plain, dropping)}


def examined(report: Callable[[nn.Module, int], Any], network=plain, own: bool = True, **more: Any) -> Evaluating:
    kind = type("Job", (Job,), {"declared": more.pop("declared", None)})
    subject = Subject(lambda: kind(report, network), "job")
    patient = subject.fresh()
    examiner = Examiner(patient) if own else None
    return examine_evaluating(subject, patient.facts(), examiner, MODELS[network], **more)


def in_training_mode(network: nn.Module, round: int) -> dict[str, float]:
    network.train()
    return {"test_acc": accuracy(network, TEST)}


def of_a_random_part(network: nn.Module, round: int) -> dict[str, float]:
    some = torch.randperm(2000)[:200]
    return {"test_acc": accuracy(network, (TEST[0][some], TEST[1][some]))}


def over_batches(network: nn.Module, round: int) -> dict[str, float]:
    parts = zip(TEST[0].split(64), TEST[1].split(64), strict=True)
    return {"test_acc": mean(accuracy(network, part) for part in parts)}


REPORTS: list[tuple[str, Callable[[nn.Module, int], Any]]] = [
    ("test", lambda net, r: {"loss": 1.0, "train_acc": 0.99, "test_acc": accuracy(net, TEST)}),
    ("test", lambda net, r: accuracy(net, TEST)),
    ("test", lambda net, r: {"acc": round(accuracy(net, TEST), 3)}),
    ("test", over_batches),
    ("percent", lambda net, r: {"acc": round(100 * accuracy(net, TEST), 2)}),
    ("count", lambda net, r: {"acc": 2000 * accuracy(net, TEST)}),
    ("count", lambda net, r: {"acc": 2000 * accuracy(net, TEST) / 16}),
    ("train", lambda net, r: {"test_acc": accuracy(net, POOLED)}),
    ("clients' mean", lambda net, r: {"acc": mean(accuracy(net, pair) for pair in CLIENTS)}),
    ("clients' mean", lambda net, r: {"acc": mean(accuracy(net, held_out(client)) for client in range(5))}),
    ("clients' mean", lambda net, r: {"acc": mean(accuracy(net, CLIENTS[c]) for c in (r % 5, (r + 2) % 5))}),
    ("client 2", lambda net, r: {"acc": accuracy(net, CLIENTS[2])}),
    ("client 2", lambda net, r: {"acc": 100 * accuracy(net, CLIENTS[2])}),
    ("client 2", lambda net, r: {"acc": accuracy(net, held_out((r + 2) % 5))}),  # the last of each round
    ("part of the test set", lambda net, r: {"acc": accuracy(net, (TEST[0][:200], TEST[1][:200]))}),
    ("part of the test set", of_a_random_part),
    ("none", lambda net, r: {"acc": accuracy(net, drawn(100, 77))}),
]


@pytest.mark.parametrize(("kind", "report"), REPORTS)
def test_what_is_reported_is_named(kind: str, report: Callable[[nn.Module, int], Any]) -> None:
    assert examined(report).matches == kind


def test_a_healthy_report_is_the_measured_accuracy_and_clients_are_not_looked_at() -> None:
    found = examined(
        lambda net, r: {"acc": accuracy(net, TEST), "loss": functional.cross_entropy(net(TEST[0]), TEST[1])}
    )
    assert found.reported == pytest.approx(found.measured)
    assert (found.metric, found.n, found.quantum, found.steady, found.remembers) == ("acc", 2000, 2000, 0.0, False)
    assert found.error == pytest.approx((found.measured[-1] * (1 - found.measured[-1]) / 2000) ** 0.5)
    assert not found.on_train


def test_numbers_beside_a_report_of_something_else_say_how_far_it_is() -> None:
    found = examined(lambda net, r: {"acc": mean(accuracy(net, pair) for pair in CLIENTS)})
    last = plain()
    last.load_state_dict(MODELS[plain][-1][1])
    assert found.mean_of_clients == pytest.approx(mean(accuracy(last, pair) for pair in CLIENTS))
    assert found.on_train[-1] == pytest.approx(accuracy(last, POOLED))
    every = [held_out(client) for client in range(5)]
    pooled = torch.cat([pair[0] for pair in every]), torch.cat([pair[1] for pair in every])
    assert found.hold_out[-1] == pytest.approx(accuracy(last, pooled))


def test_training_mode_is_seen_where_dropout_matters() -> None:
    assert examined(in_training_mode, dropping).matches == "train mode"
    assert examined(in_training_mode, plain).matches == "test"  # nothing in it behaves otherwise
    assert examined(lambda net, r: {"acc": accuracy(net, TEST)}, dropping).matches == "test"


def test_layers_that_evaluate_leaves_in_training_mode_are_told_by_kind() -> None:
    assert examined(in_training_mode, dropping).training == ("Dropout",)
    assert examined(in_training_mode, plain).training == ()
    assert examined(lambda net, r: {"acc": accuracy(net, TEST)}, dropping).training == ()

    def after_a_step(net: nn.Module, round: int) -> dict[str, float]:
        net.train()(TEST[0][:8])  # as one that fine-tunes first
        return {"acc": accuracy(net.eval(), TEST)}

    assert examined(after_a_step, dropping).training == ()


def test_the_same_value_for_different_models_is_remembered_not_measured() -> None:
    first = plain()
    report = lambda net, r: {"acc": accuracy(first, TEST), "loss": 2.3}  # noqa: E731
    found = examined(report)
    assert found.remembers and found.matches == "another model"
    assert examined(report, own=False).remembers
    assert not examined(lambda net, r: {"acc": accuracy(net, TEST)}).remembers


def test_an_evaluation_that_chance_moves_is_not_steady() -> None:
    assert examined(of_a_random_part).steady > 0
    assert examined(lambda net, r: {"acc": accuracy(net, TEST)}).steady == 0


@pytest.mark.parametrize("ratio", [1.0, 1 / 32, 10.0])
def test_the_reported_loss_is_set_beside_the_measured_one(ratio: float) -> None:
    def report(net: nn.Module, r: int) -> dict[str, float]:
        loss = functional.cross_entropy(net(TEST[0]), TEST[1]).item()
        return {"acc": accuracy(net, TEST), "test_loss": ratio * loss}

    assert examined(report).loss_ratio == pytest.approx(ratio, rel=1e-4)


def test_what_was_recorded_while_the_job_ran_counts_before_what_a_fresh_job_says() -> None:
    healthy = lambda net, r: {"acc": accuracy(net, TEST)}  # noqa: E731
    told = [{"acc": value} for value in (0.26, 0.3, 0.38, 0.5)]
    assert examined(healthy, reported=told).matches == "none"
    assert examined(healthy, reported=told).quantum is None or examined(healthy, reported=told).quantum == 2000
    assert examined(healthy, reported=[{}] * 4).matches == "test"
    skipped = [{}, {"acc": examined(healthy).reported[1]}, {}, {}]
    assert examined(healthy, reported=skipped).matches == "test"


def test_without_test_data_size_and_steadiness_remain() -> None:
    found = examined(lambda net, r: {"acc": accuracy(net, drawn(157, 9))}, own=False)
    assert found.quantum in (157, None) and not found.measured and not found.remembers


def test_models_of_which_a_part_stays_at_clients_are_not_called_wrong() -> None:
    other = lambda net, r: {"acc": accuracy(net, drawn(100, 77))}  # noqa: E731
    assert examined(other, declared={"local_entries": ("2.",)}).matches == "undetermined"


def test_a_report_without_accuracy_and_code_that_fails_are_told() -> None:
    with pytest.raises(ConfigurationError):
        examined(lambda net, r: {"loss": 1.0})
    with pytest.raises(Ailing):
        examined(lambda net, r: {"acc": 1 / 0})


def test_one_value_that_many_small_sets_may_have_names_none_of_them() -> None:
    clients = [Candidate(f"client {client}", (client / 30,), 30) for client in range(30)]
    assert matching([0.5], 0.0, clients) is None
    values = (0.5, 0.61, 0.702, 0.8)
    assert matching(values, 0.0, [Candidate("client 1", values, 500)]) is not None


@pytest.mark.parametrize(
    "compare",
    [
        lambda net, x, y: (net(x).argmax(dim=1) == y).double().mean().item(),
        lambda net, x, y: (y == net(x).max(1)[1]).double().mean().item(),
        lambda net, x, y: (p := net(x).argmax(1, keepdim=True)).eq(y.view_as(p)).double().mean().item(),
        lambda net, x, y: (net(x).topk(1, dim=1).indices.squeeze(1) == y).double().mean().item(),
        lambda net, x, y: 1 / (1 + functional.cross_entropy(net(x), y).item()),
    ],
    ids=["argmax", "max", "view", "topk", "loss"],
)
def test_the_labels_that_an_evaluation_asks_for_are_heard(
    compare: Callable[[nn.Module, Tensor, Tensor], float],
) -> None:
    parts = [(TEST[0][:40], torch.zeros(40, dtype=torch.long)), (TEST[0][:30], torch.arange(30) % 3)]
    job = Job(lambda net, round: {"accuracy": mean(compare(net, x, y) for x, y in parts)}, plain)
    patient = Subject(lambda: job, "asks").fresh()
    assert listened(patient, patient.init, 1).label_sets == ((40, 1), (30, 3))


def test_an_evaluation_that_asks_for_no_labels_is_heard_without() -> None:
    job = Job(lambda net, round: {"accuracy": float(net(TEST[0][:5]).sum() > 0)}, plain)
    patient = Subject(lambda: job, "asks").fresh()
    assert listened(patient, patient.init, 1).label_sets == ()


def shown(change: Callable[[Tensor], Tensor]) -> Callable[[nn.Module, int], dict[str, float]]:
    """An evaluation on the test set, stored in another order, whose inputs are changed in batches."""
    order = torch.randperm(len(TEST[1]), generator=torch.Generator().manual_seed(5))

    def report(network: nn.Module, round: int) -> dict[str, float]:
        some = [accuracy(network, (change(TEST[0][part]), TEST[1][part])) for part in order.split(500)]
        return {"test_acc": mean(some)}

    return report


def half_turned(inputs: Tensor) -> Tensor:
    return torch.where(torch.arange(len(inputs))[:, None] % 2 == 0, inputs, inputs.flip(1))


def test_inputs_that_an_evaluation_changes_are_counted_whatever_their_order() -> None:
    assert examined(shown(half_turned)).altered == pytest.approx(0.5)
    assert examined(shown(lambda inputs: inputs)).altered is None  # it is the accuracy on the test data


def test_another_number_of_the_same_inputs_is_told_from_other_examples() -> None:
    best = [0.0]

    def so_far(network: nn.Module, round: int) -> dict[str, float]:
        best[0] = max(best[0], accuracy(network, TEST), 0.5 + 1e-4 * round)
        return {"test_acc": best[0] - 0.2}

    assert examined(so_far).altered == 0.0
    others = drawn(2000, 77)
    assert examined(lambda net, r: {"test_acc": accuracy(net, others)}).altered is None
