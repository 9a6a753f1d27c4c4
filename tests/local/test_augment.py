"""Augmentation of batches: each kind against one image at a time, and what is drawn."""

from typing import get_args

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small import experiment

from fedlens import Data
from fedlens.data import Augment
from fedlens.local.augment import AUGMENTATIONS
from fedlens.runs.prepare import prepare

KINDS = pytest.mark.parametrize("kind", AUGMENTATIONS)
PAD = {"flip": 0, "shift": 2, "crop-flip": 4, "crop-flip-cutout": 4}


def pictures(count: int, height: int = 8, width: int = 8) -> torch.Tensor:
    """u8 [count, 3, height, width], no pixel black."""
    values = torch.arange(count * 3 * height * width).remainder(251) + 1
    return values.to(torch.uint8).view(count, 3, height, width)


def one_by_one(kind: str, image: torch.Tensor, draws: list[int]) -> torch.Tensor:
    """What `kind` does to one image [C, H, W], step by step: crop, mirror, cut out."""
    (_, height, width), pad, rest = image.shape, PAD[kind], list(draws)
    if pad:
        row, column, *rest = rest
        image = F.pad(image, (pad,) * 4)[:, row : row + height, column : column + width]
    if "flip" in kind and rest.pop(0):
        image = image.flip(-1)
    if "cutout" in kind:
        (y, x), side = rest, max(1, min(height, width) // 4)
        image = image.clone()
        image[:, max(0, y - side // 2) : y + side - side // 2, max(0, x - side // 2) : x + side - side // 2] = 0
    return image


def test_the_table_has_every_name_that_a_user_may_write():
    assert {"none", *AUGMENTATIONS} == set(get_args(Augment))


@KINDS
@pytest.mark.parametrize("sides", [(8, 8), (12, 7), (3, 2)])
def test_a_batch_is_augmented_as_its_images_one_by_one(kind, sides):
    images, augmentation = pictures(50, *sides), AUGMENTATIONS[kind]
    draws = augmentation.draw(50, images.shape, np.random.default_rng(0))
    before = images.clone()
    out = augmentation.apply(images, draws)
    assert out.shape == images.shape and out.dtype == torch.uint8
    assert torch.equal(images, before)
    for at in range(50):
        assert torch.equal(out[at], one_by_one(kind, images[at], draws[at].tolist())), at


def test_crop_and_flip_move_every_image_as_drawn():
    images = pictures(2)
    moved = AUGMENTATIONS["crop-flip"].apply(images, torch.tensor([[4, 4, 0], [0, 8, 1]]))
    assert torch.equal(moved[0], images[0])  # the middle crop, not flipped, is the image itself
    assert torch.equal(moved[1], F.pad(images[1], (4, 4, 4, 4))[:, 0:8, 8:16].flip(-1))


def test_a_shift_fills_with_black():
    images = torch.full((1, 1, 4, 4), 9, dtype=torch.uint8)
    moved = AUGMENTATIONS["shift"].apply(images, torch.tensor([[0, 3]]))  # 2 down, 1 to the left
    assert moved[0, 0].tolist() == [[0, 0, 0, 0], [0, 0, 0, 0], [9, 9, 9, 0], [9, 9, 9, 0]]


def test_the_square_is_cut_where_it_is_drawn_and_after_the_flip():
    images = torch.full((2, 1, 32, 32), 9, dtype=torch.uint8)
    # Not moved; centres (10, 20) and the corner (31, 0), where three quarters of the square lie outside.
    out = AUGMENTATIONS["crop-flip-cutout"].apply(images, torch.tensor([[4, 4, 1, 10, 20], [4, 4, 0, 31, 0]]))
    black = out[:, 0] == 0
    assert black[0].nonzero().amin(0).tolist() == [6, 16] and black[0].nonzero().amax(0).tolist() == [13, 23]
    assert black[0].sum() == 8 * 8  # 32 / 4 a side
    assert black[1].nonzero().amin(0).tolist() == [27, 0] and black[1].nonzero().amax(0).tolist() == [31, 3]
    assert set(out.unique().tolist()) == {0, 9}


@pytest.mark.parametrize("side", [1, 2, 3, 5])
def test_at_least_one_pixel_is_cut_out(side):
    images = torch.full((1, 1, side, side), 9, dtype=torch.uint8)
    out = AUGMENTATIONS["crop-flip-cutout"].apply(images, torch.tensor([[4, 4, 0, side - 1, 0]]))
    assert (out == 0).nonzero().tolist() == [[0, 0, side - 1, 0]]


@KINDS
def test_draws_cover_all_that_may_be_drawn_and_no_more(kind):
    draws = AUGMENTATIONS[kind].draw(4000, (4000, 3, 6, 5), np.random.default_rng(0))
    ends = {"flip": [2], "shift": [5, 5], "crop-flip": [9, 9, 2], "crop-flip-cutout": [9, 9, 2, 6, 5]}[kind]
    assert draws.dtype == torch.int64
    assert [sorted(set(column.tolist())) for column in draws.T] == [list(range(end)) for end in ends]


def test_the_draws_of_crop_and_flip_are_those_of_the_first_runs():
    ours = AUGMENTATIONS["crop-flip"].draw(40, (40, 3, 32, 32), np.random.default_rng(5))
    assert np.array_equal(ours.numpy(), np.random.default_rng(5).integers(0, [9, 9, 2], size=(40, 3)))


@KINDS
def test_a_visit_trains_on_augmented_images_and_on_the_same_ones_when_repeated(kind):
    plain, federation = prepare(experiment()), prepare(experiment(data=Data("small:split", augment=kind)))
    visit = federation.plan.visits(1)[0]
    runs = [
        list(trainer.feed.batches(visit, torch.float32))
        for trainer in (federation.engine.trainer,) * 2 + (plain.engine.trainer,)
    ]
    once, again, bare = (torch.cat([images for images, _ in batches]) for batches in runs)
    assert torch.equal(once, again) and once.shape == bare.shape
    assert not torch.equal(once, bare)
    other = torch.cat(
        [images for images, _ in federation.engine.trainer.feed.batches(federation.plan.visits(1)[1], torch.float32)]
    )
    assert not torch.equal(once, other)
