"""Labels that inputs have in training beside those of the data, and visits as in late rounds."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from softmax_job import WIDTH, Softmax
from torch import Tensor, nn

from fedlens.diagnosis.evidence import Paired
from fedlens.diagnosis.examiner import Examiner
from fedlens.diagnosis.probes.rounds import Playing
from fedlens.diagnosis.probes.rounds.pairs import keys, paired
from fedlens.diagnosis.subject.patient import Subject
from fedlens.diagnosis.watch import watching

ROWS = torch.randn(40, 70, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(40) % 4


def told(inputs: Tensor, labels: Tensor, rows: Tensor = ROWS) -> Paired:
    found = paired(rows, LABELS, [(inputs[:20], labels[:20]), (inputs[20:], labels[20:])])
    assert found is not None
    return found


def test_pairs_of_the_data_are_unchanged_whatever_their_order_scale_and_form() -> None:
    mixed = torch.randperm(40, generator=torch.Generator().manual_seed(1))
    assert told(ROWS[mixed], LABELS[mixed])[:4] == (40, 40, 0.0, 0.0)
    assert told(3 * ROWS[mixed].double() - 1, LABELS[mixed])[:4] == (40, 40, 0.0, 0.0)
    assert told(ROWS[mixed].reshape(40, 7, 10), LABELS[mixed])[:4] == (40, 40, 0.0, 0.0)


def test_renamed_classes_are_changed_and_mixed_ones_are_torn() -> None:
    renamed = told(ROWS, (LABELS + 1) % 4)
    assert (renamed.changed, renamed.torn) == (1.0, 0.0)
    moved = told(ROWS, LABELS[torch.arange(40) // 2])  # two neighbours get one label, whatever theirs is
    assert 0.5 < moved.changed < 1 and moved.torn >= 0.5


def test_inputs_that_are_not_the_data_s_say_nothing() -> None:
    assert told(ROWS + torch.randn(ROWS.shape, generator=torch.Generator().manual_seed(2)), LABELS).rows == 0
    assert paired(ROWS, LABELS, []) is None


def test_an_input_that_the_data_hold_twice_has_both_labels() -> None:
    twice = ROWS.clone()
    twice[1] = twice[0]
    assert told(twice, LABELS[[1, 0, *range(2, 40)]], twice).changed == 0


def test_the_stored_order_rises_and_a_shuffled_one_does_so_half_of_the_time() -> None:
    assert told(ROWS, LABELS).rising == 1.0
    shares = [told(ROWS[one], LABELS[one]).rising for one in (torch.randperm(40) for _ in range(50))]
    assert sum(shares) / 50 == pytest.approx(0.5, abs=0.06)  # (1 / 12 / 39 / 50) ** 0.5 is 0.007


def test_rows_of_few_numbers_are_told_by_those_numbers() -> None:
    assert keys(torch.tensor([[1.0, 2.0]])) != keys(torch.tensor([[1.0, 3.0]]))


# What is heard


def heard(step: Callable[[nn.Module, Tensor, Tensor], Tensor]) -> list[tuple[Tensor, Tensor]]:
    """The pairs of two steps of training, in which `step` makes the loss of a network, inputs and labels."""
    net = nn.Linear(70, 4)
    with watching(dict(net.state_dict())) as watch:
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        for part in (slice(0, 20), slice(20, 40)):
            optimizer.zero_grad()
            step(net, ROWS[part], LABELS[part]).backward()
            optimizer.step()
    return watch.pairs


def test_each_batch_is_kept_beside_the_labels_of_its_loss() -> None:
    pairs = heard(lambda net, x, y: nn.functional.cross_entropy(net(x), y))
    assert [torch.equal(x, ROWS[20 * k : 20 * k + 20]) for k, (x, _) in enumerate(pairs)] == [True, True]
    assert torch.equal(torch.cat([y for _, y in pairs]), LABELS)


def test_mixed_inputs_with_two_losses_and_two_passes_are_no_pairs() -> None:
    loss = nn.functional.cross_entropy
    assert heard(lambda net, x, y: sum(loss(net(x), one) for one in (y, y.flip(0)))) == []
    assert heard(lambda net, x, y: loss(net(x), y) + net(x.flip(0)).square().mean()) == []


# Whole visits


class Renaming(Softmax):
    """Clients 1 and 2 number classes from 1; some clients do so only from round 20 on."""

    def fit(self, client: int, received: Any, round: int) -> Any:
        self.asked = [*getattr(self, "asked", ()), (client, round)]
        inputs, labels = self.data[client]
        if client in (1, 2) or (client == 3 and round >= 20):
            self.data[client] = inputs, (labels + 1) % 4
        back = super().fit(client, received, round)
        self.data[client] = inputs, labels
        return back


def playing() -> Playing:
    subject = Subject(Renaming, "renaming")
    patient = subject.fresh()
    return Playing(patient, patient.facts(), Examiner(subject.fresh()), patient.init, None)


def test_visits_are_compared_with_the_client_s_own_data() -> None:
    job = playing()
    job.play(4, watched=4)
    changed = {v.client: v.paired.changed for one in job.rounds for v in one.visits if v.paired is not None}
    assert len(changed) > 4 and all(changed[client] == (client in (1, 2)) for client in changed)
    assert WIDTH < 64  # so that inputs are told by their numbers


def test_visits_beside_the_rounds_are_as_in_the_last_ones_and_not_the_very_last() -> None:
    job = playing()
    job.play(2, watched=1)
    beside = job.beside(range(8), job.state, 60.0)
    asked = [(client, round) for client, round in job.patient.job.asked if round > 2]
    assert [client for client, _ in asked] == list(range(8)) and all(20 < round < 40 for _, round in asked)
    plan = [set(job.patient.sample(number)) for number in range(1, 40)]
    assert all(plan[round - 1] >= {client} for client, round in asked)
    assert {v.client for v in beside if v.paired is not None and v.paired.changed} == {1, 2, 3}
