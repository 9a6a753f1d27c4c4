"""Made-up examples: what is promised of them, from whatever end they are looked at."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from fedlens.data import Data, Rows, Synthetic, load
from fedlens.errors import ConfigurationError


def made(**changes):
    return load(Data("synthetic", synthetic=Synthetic(**changes)))


def test_an_example_is_the_same_however_it_is_asked_for():
    train = made(clients=50, seed=3).train
    assert isinstance(train.images, Rows) and isinstance(train.labels, Rows)
    images, labels = train.images[:], train.labels[:]
    order = torch.randperm(len(train), generator=torch.manual_seed(0))
    assert torch.equal(train.images[order], images[order]) and torch.equal(train.labels[order], labels[order])
    assert torch.equal(train.images[17], images[17]) and np.array_equal(np.asarray(train.labels.numpy()), labels)


def test_an_example_is_the_same_in_another_process_and_on_every_machine():
    code = (
        "from fedlens.data import *; s = load(Data('synthetic', synthetic=Synthetic(clients=20, features=3, seed=1)));"
        "print(s.train.labels[:6].tolist(), [round(x, 4) for x in s.train.images[5].flatten().tolist()])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == KNOWN


KNOWN = "[5, 4, 2, 8, 4, 3] [0.0914, 0.4085, 0.8473]"


def test_numbers_have_mean_zero_and_variance_one_and_labels_are_equally_likely():
    train = made(clients=400, features=40, classes=4, noise=2.0).train  # some 10,000 examples
    images, labels = train.images[:], train.labels[:]
    assert train.shape == (1, 1, 40) and images.dtype == torch.float32
    # Centres are 4 x 40 draws of variance 1/5: the mean of all has a standard deviation of sqrt(1/5 / 160) = 0.035.
    assert abs(float(images.mean())) < 0.14 and float(images.var()) == pytest.approx(1.0, abs=0.12)
    assert (np.bincount(labels) / len(labels)).tolist() == pytest.approx([0.25] * 4, abs=0.02)  # 0.004 each
    around = torch.cat([images[labels == c] - images[labels == c].mean(0) for c in range(4)]).flatten(1)
    assert float(around.var()) == pytest.approx(4 / 5, abs=0.01)  # noise^2 / (1 + noise^2)
    kurtosis = float((around**4).mean() / around.var() ** 2)
    assert kurtosis == pytest.approx(3 - 6 / 5 / 4, abs=0.03)  # of a sum of four uniform numbers; 3 would be normal
    together = torch.corrcoef(around.T) - torch.eye(40)
    assert float(together.abs().max()) < 0.05  # 780 pairs of 10,000 independent draws: 0.01 each


def test_clients_have_from_smallest_to_largest_examples_that_lie_together():
    train = made(clients=300, smallest=2, largest=4).train
    offsets = train.columns["client"].offsets
    assert sorted(np.unique(np.diff(offsets))) == [2, 3, 4] and offsets[-1] == len(train)
    assert (made(clients=5, smallest=7, largest=7).train.columns["client"].offsets == 7 * np.arange(6)).all()


def test_skew_gives_a_client_a_class_of_its_own_and_the_test_set_none():
    split = made(clients=300, smallest=100, largest=100, classes=5, skew=0.6)
    labels = split.train.labels[:].view(300, 100)
    most = torch.stack([torch.bincount(row, minlength=5).max() for row in labels]) / 100
    assert float(most.mean()) == pytest.approx(0.6 + 0.4 / 5, abs=0.01)  # 0.047 / sqrt(300) each
    pooled = torch.bincount(split.train.labels[:], minlength=5) / 30_000
    assert float(pooled.min()) > 0.1  # own classes are spread over clients
    tested = torch.bincount(split.test.labels, minlength=5) / 2000
    assert tested.tolist() == pytest.approx([0.2] * 5, abs=0.04)


def test_the_nearest_centre_is_right_as_often_as_the_documentation_says():
    found = []
    for seed in range(10):
        split = made(clients=400, seed=seed)
        images, labels = split.train.images[:].flatten(1), split.train.labels[:]
        centres = torch.stack([images[labels == c].mean(0) for c in range(10)])
        right = torch.cdist(split.test.images.flatten(1), centres).argmin(1) == split.test.labels
        found.append(float(right.float().mean()))
    assert np.mean(found) == pytest.approx(0.81, abs=0.02)  # 0.02 each from seed to seed


def test_seeds_and_splits_are_independent():
    one, other = made(clients=20), made(clients=20, seed=1)
    assert not torch.equal(one.test.images, other.test.images)
    flat = one.test.images.flatten(1)
    assert not (torch.cdist(flat, one.train.images[:].flatten(1)) < 1e-3).any()


def test_a_million_clients_are_there_at_once_and_take_their_offsets():
    train = made(clients=1_000_000).train
    assert len(train) > 25_000_000 and len(train.columns["client"].offsets) == 1_000_001
    assert train.images[torch.tensor([len(train) - 1, 0])].shape == (2, 1, 1, 60)


def test_what_cannot_be_made_is_refused():
    with pytest.raises(ConfigurationError, match="smallest = 60 is above largest = 50"):
        Synthetic(smallest=60)
    with pytest.raises(ConfigurationError):
        Synthetic(classes=1)
    with pytest.raises(ConfigurationError, match="only images can be resized"):
        load(Data("synthetic", size=8))
