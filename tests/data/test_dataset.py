"""Examples in memory: normalisation, selection, the one check, the hold-out."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fedlens.data import Dataset, check, moments
from fedlens.data.dataset import hold_out, stratified
from fedlens.errors import DataError


def images(count=6, channels=3, side=4, seed=0):
    return torch.randint(0, 256, (count, channels, side, side), dtype=torch.uint8, generator=torch.manual_seed(seed))


def made(count=6, **changes):
    fields = {"images": images(count), "labels": torch.arange(count) % 3, "classes": ("a", "b", "c")}
    return Dataset(**(fields | changes))


def test_a_normalised_training_set_has_mean_zero_and_std_one_per_channel():
    pictures = images(5000)  # more than one chunk
    mean, std = moments(pictures)
    whole = Dataset(pictures, torch.zeros(5000, dtype=torch.int64), ("a",), mean, std)
    values = whole.normalise(pictures, torch.float64)
    assert values.dtype == torch.float64
    assert torch.allclose(values.mean(dim=(0, 2, 3)), torch.zeros(3, dtype=torch.float64), atol=1e-12)
    assert torch.allclose(values.std(dim=(0, 2, 3), unbiased=False), torch.ones(3, dtype=torch.float64), atol=1e-12)


def test_a_channel_without_variation_is_shifted_and_not_divided():
    pictures = torch.full((3, 1, 2, 2), 51, dtype=torch.uint8)
    assert moments(pictures) == ((pytest.approx(0.2),), (1.0,))


def test_normalising_by_hand():
    data = made(mean=(0.5, 0.0, 0.2), std=(0.5, 1.0, 0.1))
    batch = torch.tensor([255, 51, 51], dtype=torch.uint8).view(1, 3, 1, 1)
    assert data.normalise(batch).flatten().tolist() == pytest.approx([1.0, 0.2, 0.0], abs=1e-6)
    assert data.normalise(batch).dtype == torch.float32


def test_floats_are_not_divided_by_255_and_stay_as_they_are_without_a_mean():
    points = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    plain = Dataset(points, torch.tensor([0, 1]), ("a", "b"))
    assert torch.equal(plain.normalise(points), points)
    scaled = Dataset(points, torch.tensor([0, 1]), ("a", "b"), mean=(1.0, 2.0), std=(2.0, 2.0))
    assert scaled.normalise(points).tolist() == [[0.0, 0.0], [1.0, 1.0]]


def test_selecting_takes_images_labels_and_columns_together():
    data = made(columns={"writer": np.array(list("uvwxyz"))})
    part = data.select(np.array([4, 1]))
    assert len(part) == 2 and part.shape == data.shape == (3, 4, 4)
    assert torch.equal(part.images, data.images[[4, 1]])
    assert part.labels.tolist() == [1, 1] and part.columns["writer"].tolist() == ["y", "v"]


def spoilt(row):
    values = torch.zeros(5000, 2)
    values[row, 1] = float("nan")
    return {"images": values, "labels": torch.zeros(5000, dtype=torch.int64)}


@pytest.mark.parametrize(
    ("changes", "what", "seen"),
    [
        ({"labels": torch.tensor([0, 1, 2, 3, 0, 7])}, "label of row 3 is outside 0..2", "3 (2 such rows)"),
        ({"labels": torch.tensor([0, 1, -1, 0, 0, 0])}, "label of row 2 is outside 0..2", "-1 (1 such rows)"),
        ({"labels": torch.arange(5)}, "6 images have 5 labels", ""),
        ({"labels": torch.zeros(6)}, "labels are not whole numbers", "torch.float32"),
        ({"images": images(0), "labels": torch.arange(0)}, "no examples", ""),
        ({"images": images()[:, 0]}, "u8 images are not [N, C, H, W]", "[6, 4, 4]"),
        ({"images": torch.zeros(6, 32, 32, 3, dtype=torch.uint8)}, "look like [N, H, W, C]", "[6, 32, 32, 3]"),
        ({"images": torch.zeros(6, 2, dtype=torch.int64)}, "neither u8 nor float", "torch.int64"),
        (spoilt(4500), "row 4500 holds NaN", ""),
        ({"mean": (0.5, 0.5), "std": (1.0, 1.0)}, "2 means and 2 stds for 3 channels", ""),
        ({"mean": (0.5,), "std": (0.0,)}, "a std is not above 0", "(0.0,)"),
        ({"columns": {"site": np.arange(4)}}, "column 'site' has 4 values for 6", ""),
    ],
)
def test_the_check_tells_what_is_wrong_and_where(changes, what, seen):
    with pytest.raises(DataError) as caught:
        check(made(**changes), "here")
    (problem,) = caught.value.problems
    assert what in problem.what and seen in problem.seen and problem.where == "here" and problem.do


def test_a_sound_set_passes_the_check_unchanged():
    data = made(mean=(0.5,), std=(0.5,))
    assert check(data, "here") is data


def test_a_hold_out_is_stratified_disjoint_shuffled_and_always_the_same():
    labels = np.repeat([0, 1, 2], [50, 30, 21])
    test, train = stratified(labels, 0.2)
    # Quotas 10, 6 and 4.2 of 20 (101 * 0.2 rounded).
    assert np.bincount(labels[test]).tolist() == [10, 6, 4]
    assert sorted([*test, *train]) == list(range(101))
    assert (np.diff(labels[train]) != 0).sum() > 10
    assert np.array_equal(stratified(labels, 0.2)[0], test)


def test_a_class_of_one_image_stays_in_training():
    test, train = stratified(np.array([0] * 9 + [1]), 0.9)  # quotas 8.1 and 0.9, of which the second would round to 1
    assert 9 in train and len(test) == 8


def test_the_split_says_what_its_test_set_is():
    split = hold_out(made(30), "the folder")
    assert split.test_is == "a stratified 20 % hold-out of the folder (6 examples)"
    assert (len(split.train), len(split.test)) == (24, 6)
