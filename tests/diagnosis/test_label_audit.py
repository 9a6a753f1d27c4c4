"""What labels mean: maps and noise are found at their clients, and difficult or uneven data is neither."""

import numpy as np
import pytest
from dealt import CLASSES, audits, changed, deal, facts_of, held_out, subject_of

from fedlens.diagnosis.probes.data import examine_data
from fedlens.diagnosis.probes.examples.meaning import judged
from fedlens.diagnosis.probes.labels import examine_labels
from fedlens.errors import ConfigurationError

FAULTY = {1, 4}
EASY = 6.0


def shifted(x, y):
    return x, (y + 1) % CLASSES


def swapped(x, y):
    return x, np.array([0, 2, 1, 3])[y]


def random_labels(share):
    def change(x, y):
        random = np.random.default_rng(5)
        return x, np.where(random.random(len(y)) < share, random.integers(0, CLASSES, len(y)), y)

    return change


@pytest.mark.parametrize("kind", ["iid", "shards", "dirichlet", "quantity"])
@pytest.mark.parametrize("apart", [1.0, EASY])
def test_no_healthy_client_is_accused_on_easy_or_difficult_data(kind, apart):
    for seed in range(1, 3):
        _, seen = audits(deal(kind, seed, apart=apart), held_out(seed, apart=apart))
        assert seen.mapped == () and seen.noisy == ()
        assert seen.learnable > seen.chance + 5 * seen.error


@pytest.mark.parametrize("kind", ["iid", "shards", "quantity"])
@pytest.mark.parametrize("apart", [3.0, EASY])
def test_another_label_map_is_found_with_the_map(kind, apart):
    data, seen = audits(changed(deal(kind, 2, apart=apart), FAULTY, shifted), held_out(2, apart=apart))
    assert set(seen.mapped) == FAULTY and seen.noisy == () and not data.apart
    held = {client: [c for c, n in enumerate(data.counts[client]) if n >= 20] for client in FAULTY}
    assert all(seen.maps[client][c] == (c - 1) % CLASSES for client in FAULTY for c in held[client])
    assert all(seen.gain[client] > seen.gain_null for client in FAULTY)


def test_a_swap_of_two_classes_among_others_is_a_map():
    _, seen = audits(changed(deal("iid", 2, apart=EASY), FAULTY, swapped), held_out(2, apart=EASY))
    assert set(seen.mapped) == FAULTY and seen.maps[1] == (0, 2, 1, 3)


@pytest.mark.parametrize("with_test", [True, False])
def test_a_map_is_found_with_and_without_a_test_set(with_test):
    clients = changed(deal("iid", 2, apart=EASY), FAULTY, shifted)
    _, seen = audits(clients, held_out(2, apart=EASY) if with_test else None)
    assert set(seen.mapped) == FAULTY and (seen.test_identity is None) != with_test


@pytest.mark.parametrize("others", [range(4), range(5)])
def test_the_test_set_decides_between_factions(others):
    _, seen = audits(changed(deal("iid", 2, apart=EASY), others, shifted), held_out(2, apart=EASY))
    assert seen.mapped == tuple(others)


def test_without_a_test_set_the_larger_faction_decides():
    _, seen = audits(changed(deal("iid", 2, apart=EASY), range(3), shifted), None)
    assert seen.mapped == (0, 1, 2)


def test_where_all_clients_agree_the_test_set_is_the_odd_one():
    _, seen = audits(changed(deal("iid", 2, apart=EASY), range(8), shifted), held_out(2, apart=EASY))
    assert seen.mapped == () and seen.test_identity < 0.1 and seen.test_best > 0.9


@pytest.mark.parametrize("share", [0.4, 1.0])
@pytest.mark.parametrize("kind", ["iid", "shards"])
def test_labels_at_random_are_noise_and_no_map(kind, share):
    clients = changed(deal(kind, 2, apart=EASY), FAULTY, random_labels(share))
    _, seen = audits(clients, held_out(2, apart=EASY))
    assert set(seen.noisy) == FAULTY and seen.mapped == ()


def test_labels_that_say_nothing_cannot_be_learned():
    for seed in range(2):
        random = np.random.default_rng(seed)
        clients = changed(deal("iid", seed), range(8), lambda x, y: (x, random.permutation(y)))  # noqa: B023
        _, seen = audits(clients, held_out(seed))
        assert seen.learnable < seen.chance + 5 * seen.error and seen.mapped == () and seen.noisy == ()


def test_copies_do_not_pass_for_signal():
    random = np.random.default_rng(0)
    halves = changed(deal("iid", 0, size=60), range(8), lambda x, y: (x, random.permutation(y)))
    clients = changed(halves, range(8), lambda x, y: (np.concatenate([x, x, x]), np.concatenate([y, y, y])))
    _, seen = audits(clients, None)
    assert seen.n == 480 and seen.learnable < seen.chance + 5 * seen.error


def test_clients_with_inputs_of_another_scale_are_not_accused_of_their_labels():
    clients = changed(deal("iid", 0, apart=EASY), FAULTY, lambda x, y: (x * 20, y))
    data, seen = audits(clients, held_out(0, apart=EASY))
    assert set(data.apart) == FAULTY and seen.mapped == () and seen.noisy == ()


def test_one_hot_rows_are_read_like_class_numbers():
    clients = changed(deal("iid", 2, apart=EASY), FAULTY, shifted)
    rows = {c: (x, np.eye(CLASSES)[y]) for c, (x, y) in clients.items()}
    assert set(audits(rows, held_out(2, apart=EASY))[1].mapped) == FAULTY


def test_targets_that_are_no_classes_are_not_examined():
    subject = subject_of({c: (x, x[:, 0]) for c, (x, _) in deal("iid", 0).items()}, None)
    data = examine_data(subject, facts_of(subject))
    with pytest.raises(ConfigurationError):
        examine_labels(subject, facts_of(subject), data)


def test_empty_and_tiny_clients_are_passed_over():
    clients = deal("iid", 0, apart=EASY)
    clients[0] = (clients[0][0][:0], clients[0][1][:0])
    clients[1] = (clients[1][0][:2], clients[1][1][:2])
    _, seen = audits(clients, held_out(0, apart=EASY))
    assert set(seen.identity) == set(range(2, 8)) and seen.mapped == () and seen.noisy == ()


def test_a_class_under_the_name_of_another_at_several_clients_is_no_chance() -> None:
    usual = np.full((4, 4), 2) + np.diag([92] * 4)
    sound = np.diag([40] * 4)
    merged = np.diag([60] * 4)
    merged[2], merged[3] = (0, 0, 40, 30), 0  # 30 of class 3 are called 2, and none is called 3: a sixth of all
    alone = sound.copy()
    alone[0], alone[1] = (20, 20, 0, 0), 0
    both = sound.copy()
    both[2] = (0, 0, 20, 20)  # but class 3 is known too
    tables = dict(enumerate((merged, merged, alone, both, both, sound, sound, sound)))
    found = judged(tables, usual, dict.fromkeys(tables, np.ones(4, bool)))
    assert [client for client, one in found.items() if one.noisy and not one.mapped] == [0, 1]
