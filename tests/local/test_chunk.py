"""Several clients' batches in arrays."""

import numpy as np
import pytest
import torch

from fedlens.local.chain.chunk import Chunk


def clients() -> list[list[np.ndarray]]:
    """Three steps over examples 7, 5, 9; one step over 5 (which is its own, not the other's) and 2."""
    return [[np.array([7, 5]), np.array([9]), np.array([5, 9])], [np.array([5, 2])]]


def test_every_batch_is_found_again_through_the_chosen_examples():
    chunk = Chunk.of(clients())
    for client, batches in enumerate(clients()):
        for step, batch in enumerate(batches):
            rows = chunk.rows[step, client, : chunk.counts[step, client]]
            assert np.array_equal(chunk.chosen[rows], batch), (client, step)


def test_each_clients_examples_stand_once_and_together():
    chunk = Chunk.of(clients())
    assert chunk.chosen.tolist() == [5, 7, 9, 2, 5] and chunk.sizes.tolist() == [3, 2]
    assert chunk.steps.tolist() == [3, 1] and chunk.counts.tolist() == [[2, 2], [1, 0], [2, 0]]


def test_a_step_has_the_clients_that_still_train_and_shares_that_add_up_to_one():
    three = [[np.arange(3), np.arange(3)], [np.array([4]), np.array([4, 5])], [np.array([6])]]
    steps = list(Chunk.of(three).each(torch.arange(10, 16), torch.float64))
    assert [(step.number, tuple(step.rows.shape)) for step in steps] == [(0, (3, 3)), (1, (2, 3))]
    assert steps[0].share.tolist() == [[1 / 3] * 3, [1, 0, 0], [1, 0, 0]]
    assert steps[1].share.tolist() == [[1 / 3] * 3, [1 / 2, 1 / 2, 0]]
    assert steps[1].rows[1].tolist() == [3, 4, 3]  # filled up with the batch's own first example
    assert torch.equal(steps[1].labels, steps[1].rows + 10)


def test_a_part_trains_on_its_own_examples_only():
    whole = Chunk.of(clients())
    part, rows = whole.part(1, 2)
    alone = Chunk.of(clients()[1:])
    assert whole.chosen[rows].tolist() == part.chosen.tolist() == alone.chosen.tolist()
    assert np.array_equal(part.rows, alone.rows) and np.array_equal(part.counts, alone.counts)
    assert part.steps.tolist() == [1] and part.sizes.tolist() == [2]


@pytest.mark.parametrize("wrong", [clients()[::-1], [[]], [[np.array([1]), np.array([], dtype=np.int64)]]])
def test_clients_with_most_steps_must_come_first_and_no_batch_may_be_empty(wrong):
    with pytest.raises(ValueError, match="most first"):
        Chunk.of(wrong)
