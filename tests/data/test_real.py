"""The real CIFAR-10 and MNIST, where FEDLENS_DATA says they lie."""

from __future__ import annotations

import pytest

from fedlens.data import SOURCES, Data, load, moments

COUNTS = {"cifar10": [5000] * 10, "mnist": [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]}


@pytest.mark.data
@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_the_real_sets_have_their_published_numbers(name, real_data):
    known, split = SOURCES[name], load(Data(name, directory=str(real_data)))
    assert (len(split.train), len(split.test), split.train.shape) == (known.train, known.test, known.shape)
    assert split.test_is == "the official test set (10000 images)"
    mean, std = moments(split.train.images)
    assert mean == pytest.approx(known.mean, abs=1e-4) and std == pytest.approx(known.std, abs=1e-4)
    counts = split.train.labels.bincount().tolist()
    assert counts == COUNTS[name]
