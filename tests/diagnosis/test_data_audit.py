"""What the data shows by itself: each fault is seen where it is, and healthy data is left alone."""

import numpy as np
import pytest
import torch
from dealt import CLASSES, HELD_OUT, SIZE, Dealt, audit, changed, deal, facts_of, held_out, subject_of

from fedlens.diagnosis.probes.data import examine_data, label_skew, order_run
from fedlens.diagnosis.subject.guard import Ailing
from fedlens.diagnosis.subject.patient import Subject
from fedlens.errors import ConfigurationError

FAULTY = {1, 4}


@pytest.mark.parametrize("kind", ["iid", "shards", "dirichlet", "quantity"])
def test_healthy_data_is_left_alone_however_it_is_dealt(kind):
    for seed in range(2):
        seen = audit(deal(kind, seed), held_out(seed))
        assert not seen.apart and not seen.scaled and seen.clusters == 1 and not seen.mismatch
        assert not (seen.overlap or seen.shared or seen.copies or seen.same or seen.clash or seen.malformed)
        assert all(run < 2 for run in seen.order_run.values())


@pytest.mark.parametrize("kind", ["iid", "shards"])
@pytest.mark.parametrize(
    "change",
    [
        lambda x, y: (x + 3, y),
        lambda x, y: (1 - x, y),
        lambda x, y: (x * 20, y),
        lambda x, y: (x * 0, y),
        lambda x, y: (x[:, ::-1].copy(), y),
    ],
    ids=["shifted", "inverted", "times 20", "zero", "features reversed"],
)
def test_inputs_prepared_otherwise_at_some_clients_are_found_there_and_nowhere_else(kind, change):
    seen = audit(changed(deal(kind, 3), FAULTY, change), held_out(3))
    assert set(seen.apart) == FAULTY and seen.clusters == 2 and not seen.mismatch


def test_a_scale_is_named_with_its_factor():
    seen = audit(changed(deal("iid", 0), FAULTY, lambda x, y: (x * 20, y)), held_out(0))
    assert set(seen.scaled) == FAULTY
    assert all(factor == pytest.approx(20, rel=0.15) for factor in seen.scaled.values())


def test_how_far_the_others_stand_from_the_test_set_is_told_beside_those_apart():
    clients = deal("iid", 0)
    assert audit(changed(clients, FAULTY, lambda x, y: (x + 3, y)), held_out(0)).nearest < 0.2
    for client in clients:
        clients = changed(clients, {client}, lambda x, y, by=0.11 * client: (x + by * x.std(axis=0), y))
    row = audit(clients, held_out(0))
    assert 7 in row.apart and 0 not in row.apart and 0.5 * min(row.apart.values()) < row.nearest < 0.5


def test_clients_of_rising_contrast_leave_no_gap_and_reversed_features_do():
    clients = deal("iid", 0)
    for client in clients:
        by = 0.66 + 0.1 * client
        clients = changed(clients, {client}, lambda x, y, by=by: (x.mean(axis=0) + by * (x - x.mean(axis=0)), y))
    row = audit(clients, held_out(0))
    assert row.apart and not row.scaled and min(row.apart.values()) < 2 * row.nearest
    turned = audit(changed(deal("iid", 0), FAULTY, lambda x, y: (x[:, ::-1].copy(), y)), held_out(0))
    assert min(turned.apart.values()) > 2 * turned.nearest


def test_half_of_the_clients_inverted_are_told_by_the_test_set():
    seen = audit(changed(deal("iid", 1), range(4), lambda x, y: (2 - 3 * x, y)), held_out(1))
    assert set(seen.apart) == set(range(4)) and seen.clusters == 2


def test_a_mismatch_of_all_clients_with_the_test_set_is_told_from_single_clients():
    seen = audit(changed(deal("iid", 1), range(8), lambda x, y: (x + 3, y)), held_out(1))
    assert seen.mismatch and seen.clusters == 1 and set(seen.apart) == set(range(8))


@pytest.mark.parametrize("kind", ["iid", "shards"])
def test_other_meanings_of_labels_are_no_shift_of_inputs(kind):
    seen = audit(changed(deal(kind, 2), FAULTY, lambda x, y: (x, (y + 1) % CLASSES)), held_out(2))
    assert not seen.apart and not seen.scaled


def test_inputs_that_are_no_numbers_are_told_and_do_not_stop_the_examination():
    seen = audit(changed(deal("iid", 2), FAULTY, lambda x, y: (x * np.nan, y)), held_out(2))
    assert {client for client, inputs in seen.inputs.items() if not inputs.finite} == FAULTY


def test_test_examples_that_clients_hold_are_counted():
    clients, test = deal("iid", 0), held_out(0)
    x, y = clients[2]
    clients[2] = (np.concatenate([x, test[0][:60]]), np.concatenate([y, test[1][:60]]))
    assert audit(clients, test).overlap == pytest.approx(60 / HELD_OUT)


def test_clients_with_the_same_examples_are_named():
    clients = deal("iid", 0)
    x, y = clients[1]
    clients[5] = (x[::-1].copy(), y[::-1].copy())
    seen = audit(clients, held_out(0))
    assert seen.same == (1, 5) and seen.shared == pytest.approx(2 / 8)


def test_copies_within_a_client_and_inputs_with_two_labels_are_counted():
    clients = deal("iid", 0)
    x, y = clients[1]
    clients[1] = (np.concatenate([x, x]), np.concatenate([y, (y + 1) % CLASSES]))
    seen = audit(clients, held_out(0))
    assert seen.copies == pytest.approx(SIZE / (9 * SIZE)) and seen.clash == pytest.approx(2 * SIZE / (9 * SIZE))
    assert seen.overlap == 0 and seen.shared == 0


@pytest.mark.parametrize("columns", [3, 6, 10])
def test_a_table_with_few_distinct_rows_is_no_leak(columns):
    random = np.random.default_rng(columns)

    def rows(size):
        return random.integers(0, 2, (size, columns)).astype(np.float32), random.integers(0, 2, size)

    seen = audit({client: rows(150) for client in range(8)}, rows(400))
    assert seen.expected > 0.3
    assert max(seen.overlap, seen.shared, seen.copies, seen.clash) == 0 and not seen.same


def test_sizes_and_labels_are_told_as_they_are():
    clients = deal("iid", 0)
    clients[0] = (clients[0][0][:0], clients[0][1][:0])
    clients[1] = (clients[1][0][:1], clients[1][1][:1])
    clients[2] = (clients[2][0], clients[2][1] + CLASSES)
    seen = audit(clients, held_out(0))
    assert seen.empty == (0,) and seen.single == (1,) and seen.sizes[3] == SIZE
    assert (seen.low, seen.high) == (0, 2 * CLASSES - 1)
    assert sum(seen.counts[2]) == 0 and sum(seen.counts[3]) == SIZE == len(clients[3][1])
    assert seen.test_size == HELD_OUT == sum(seen.test_counts)


def test_one_hot_rows_of_zeros_are_malformed():
    clients = deal("iid", 0)
    rows = {c: (x, np.eye(CLASSES, dtype=np.float32)[y]) for c, (x, y) in clients.items()}
    assert audit(rows).malformed == 0
    rows[3][1][:30] = 0
    seen = audit(rows)
    assert seen.malformed == pytest.approx(30 / (8 * SIZE)) and sum(seen.counts[3]) == SIZE - 30


def test_skew_is_measured_against_labels_dealt_at_random():
    # Two clients with one class each differ from all by 1/2; dealt at random to 100 each they would not.
    skew, null, high = label_skew([np.array([100, 0]), np.array([0, 100])])
    assert skew == 0.5 and null < high < 0.15
    even, _, high = label_skew([np.array([50, 50]), np.array([50, 50])])
    assert even == 0 <= high


def test_an_order_by_class_is_one_long_run_of_each():
    # 4 runs where 1 + (120^2 - 4 * 30^2) / 120 = 91 are expected.
    assert order_run(np.repeat(np.arange(4), 30)) == pytest.approx(91 / 4)
    assert order_run(np.zeros(9, np.int64)) is None
    sorted_ = changed(deal("iid", 0), FAULTY, lambda x, y: (x[np.argsort(y)], np.sort(y)))
    runs = audit(sorted_).order_run
    assert all((runs[client] > 10) == (client in FAULTY) for client in runs)


def test_of_many_clients_evenly_spaced_ones_are_looked_at():
    assert audit(deal("iid", 0, clients=21, size=20), most=5).looked_at == (0, 5, 10, 15, 20)


def test_images_of_another_shape_are_told_and_left_out():
    clients = deal("iid", 0)
    clients[3] = (np.concatenate([clients[3][0]] * 2, axis=1), clients[3][1])
    assert audit(clients, held_out(0)).shapes == ((8,), (16,))


def test_a_job_without_data_and_one_whose_data_fails_are_not_examined():
    class Failing(Dealt):
        def train_data(self, client):
            raise RuntimeError("no such file")

    class Silent(Dealt):
        train_data = None

    for kind, error in ((Failing, Ailing), (Silent, ConfigurationError)):
        subject = Subject(lambda kind=kind: kind({0: ()}), "failing")
        with pytest.raises(error):
            examine_data(subject, facts_of(subject))


def test_targets_that_are_no_classes_leave_inputs_to_examine():
    clients = {c: (torch.tensor(x), torch.tensor(x[:, 0])) for c, (x, _) in deal("iid", 0).items()}
    seen = audit(clients)
    assert seen.low is None and not seen.apart and len(seen.inputs) == 8


def test_the_examination_leaves_the_job_as_it_was():
    clients = deal("iid", 0)
    before = {client: x.copy() for client, (x, _) in clients.items()}
    subject = subject_of(clients, held_out(0))
    examine_data(subject, facts_of(subject))
    assert all((clients[client][0] == before[client]).all() for client in clients)
