"""Rows that are made where they are asked for, and arrays that stay in their files."""

from __future__ import annotations

import sys
import warnings

import numpy as np
import pytest
import torch

from fedlens.data import Data, Dataset, Rows, Runs, check, load, moments
from fedlens.data import dataset as examples
from fedlens.errors import ConfigurationError, DataError, RunError


def squares(count=10, asked=None):
    """Row n is (n, n^2); `asked` collects the numbers that were asked for."""

    def take(at):
        if asked is not None:
            asked.extend(at.tolist())
        return torch.stack([at, at**2], dim=1).float()

    return Rows(take, (count, 2), torch.float32)


def test_rows_are_indexed_as_a_tensor_is_and_only_what_is_asked_for_is_made():
    asked = []
    rows, whole = squares(asked=asked), squares()[:]
    assert len(rows) == 10 and rows.dim() == whole.dim() and rows.shape == tuple(whole.shape) and not asked
    for at in (torch.tensor([7, 0, 7]), slice(2, 5), slice(None, None, 3), 4, -1):
        assert torch.equal(rows[at], whole[at])
    assert asked == [7, 0, 7, 2, 3, 4, 0, 3, 6, 9, 4, 9]
    with pytest.raises(IndexError):
        rows[10]
    assert len(list(rows)) == 10  # Python's own way through a sequence ends too


def test_rows_are_numbers_to_numpy_and_all_of_them_are_made_in_pieces(monkeypatch):
    monkeypatch.setattr("fedlens.data.rows.READ", 3)
    asked = []
    labels = Rows(lambda at: asked.append(len(at)) or at % 4, (10,), torch.int64).numpy()
    assert len(labels) == 10 and labels[np.array([5, 2])].tolist() == [1, 2]
    assert np.bincount(labels).tolist() == [3, 3, 2, 2] and max(asked) == 3


@pytest.mark.parametrize(
    ("take", "what", "seen"),
    [
        (lambda at: torch.zeros(len(at), 3), "not what was declared", "torch.float32 [2, 3]"),
        (lambda at: torch.zeros(len(at), 2, dtype=torch.float64), "not what was declared", "torch.float64"),
        (lambda at: np.zeros((len(at), 2)), "not what was declared", "ndarray"),
        (lambda at: [][0], "cannot be had", "IndexError: list index"),
    ],
)
def test_rows_that_are_not_what_was_declared_are_told(take, what, seen):
    with pytest.raises(RunError) as caught:
        Rows(take, (10, 2), torch.float32)[torch.tensor([1, 2])]
    (problem,) = caught.value.problems
    assert what in problem.what and seen in problem.seen and problem.do


def test_a_data_set_of_rows_selects_into_memory():
    data = Dataset(squares(), Rows(lambda at: at % 2, (10,), torch.int64), ("even", "odd"), columns={"who": Runs(WHO)})
    part = data.select(np.array([9, 4]))
    assert len(data) == 10 and data.shape == (2,)
    assert part.images.tolist() == [[9, 81], [4, 16]] and part.labels.tolist() == [1, 0]
    assert part.columns["who"].tolist() == [2, 0]


WHO = np.array([0, 5, 5, 10])  # client 1 has nothing


def test_runs_say_whose_a_row_is():
    assert len(Runs(WHO)) == 10
    assert Runs(WHO)[np.arange(10)].tolist() == [0] * 5 + [2] * 5


def test_the_check_looks_at_evenly_spaced_rows_and_names_the_one_that_is_wrong():
    asked, count = [], 1_000_000
    rows, labels = squares(count, asked), Rows(lambda at: at * 0, (count,), torch.int64)
    check(Dataset(rows, labels, ("a",)), "here")
    assert len(asked) == examples.LOOKED_AT and {0, count - 1} <= set(asked)
    late = Rows(lambda at: (at > 500_000).long(), (count,), torch.int64)
    with pytest.raises(DataError, match="the label of row 5005") as caught:  # the first that is looked at
        check(Dataset(rows, late, ("a",)), "here")
    assert caught.value.problems[0].where == "here"


@pytest.mark.parametrize(
    ("images", "what"),
    [
        (Rows(lambda at: torch.full((len(at), 2), torch.nan), (9, 2), torch.float32), "row 0 holds NaN"),
        (Rows(lambda at: torch.zeros(len(at), 1), (9, 2), torch.float32), "not what was declared"),
        (Rows(lambda at: torch.zeros(len(at), 3, 3).byte(), (9, 3, 3), torch.uint8), "not [N, C, H, W]"),
        (squares(8), "8 images have 9 labels"),
    ],
)
def test_wrong_rows_are_told_before_anything_is_run(images, what):
    with pytest.raises(DataError) as caught:
        check(Dataset(images, torch.zeros(9, dtype=torch.int64), ("a",)), "here")
    (problem,) = caught.value.problems
    assert what in problem.what and problem.where == "here" and problem.do


def test_moments_of_rows_are_those_of_the_rows_that_are_looked_at():
    pictures = torch.randint(0, 256, (700, 1, 4, 4), dtype=torch.uint8, generator=torch.manual_seed(0))
    rows = Rows(lambda at: pictures[at], (700, 1, 4, 4), torch.uint8)
    assert moments(rows)[0] == pytest.approx(moments(pictures)[0])  # 700 are looked at all


MODULE = """
import numpy as np, torch
from fedlens.data import Dataset, Rows
def mapped():
    np.save("images.npy", np.arange(60 * 16, dtype=np.float32).reshape(60, 1, 4, 4))
    np.save("labels.npy", np.arange(60) % 3)
    images, labels = np.load("images.npy", mmap_mode="r"), np.load("labels.npy", mmap_mode="r")
    mapped.images = images
    return (images, labels), (np.zeros((2, 1, 4, 4), np.float32), [0, 1])
def bytes_():
    pictures = torch.arange(30, dtype=torch.uint8).view(30, 1, 1, 1).expand(30, 1, 4, 4)
    rows = Rows(lambda at: pictures[at], (30, 1, 4, 4), torch.uint8)
    return (rows, torch.arange(30) % 2), (pictures[:4].clone(), [0, 1, 0, 1])
def labels():
    rows = Rows(lambda at: at % 2, (30,), torch.int64)
    return (torch.zeros(30, 2), rows), (torch.zeros(4, 2), [0, 1, 0, 1])
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "fedlens_test_rows.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    yield "fedlens_test_rows"
    sys.modules.pop("fedlens_test_rows", None)


def test_what_numpy_has_mapped_from_a_file_stays_there(module):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        split = load(Data(f"{module}:mapped"))
    mapped = sys.modules[module].mapped.images
    assert isinstance(mapped, np.memmap) and split.train.images.data_ptr() == mapped.ctypes.data
    assert split.train.images[torch.tensor([3])].flatten()[0] == 48


def test_a_function_may_return_rows_and_they_are_normalised_and_resized_as_images_are(module):
    split = load(Data(f"{module}:bytes_", size=8))
    assert isinstance(split.train.images, Rows) and split.train.shape == split.test.shape == (1, 8, 8)
    assert split.train.images[torch.tensor([7])].unique().tolist() == [7]
    assert split.train.mean == split.test.mean == pytest.approx((14.5 / 255,))


def test_labels_that_are_not_in_memory_need_named_classes(module):
    with pytest.raises(DataError, match="labels are not in memory") as caught:
        load(Data(f"{module}:labels"))
    assert "Return Datasets" in caught.value.problems[0].do


def test_settings_of_the_synthetic_source_are_refused_beside_another():
    with pytest.raises(ConfigurationError, match="synthetic has no effect on source = 'digits'"):
        Data(synthetic={"clients": 5})
    with pytest.raises(ConfigurationError, match="Did you mean 'synthetic'"):
        load(Data("sinthetic"))
