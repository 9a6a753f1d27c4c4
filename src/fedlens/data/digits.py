"""Real handwritten digits that come with scikit-learn: no download."""

from __future__ import annotations

import numpy as np
import torch

from fedlens.data.dataset import Dataset, Split, stratified

TEST = 360  # of 1797: a fifth


def digits(mean: tuple[float, ...], std: tuple[float, ...], classes: tuple[str, ...]) -> Split:
    """Images u8 [1437, 1, 8, 8] to train on and 360 to test, stratified and always the same ones.

    Source: Alpaydin and Kaynak 1998, "Optical recognition of handwritten digits", the 1797 examples of its test part.
    The values 0..16 (pixels set in a 4 x 4 block) are scaled by 255/16.
    """
    from sklearn.datasets import load_digits

    raw = load_digits()
    images = torch.from_numpy(np.rint(raw.images * (255 / 16)).astype(np.uint8)).unsqueeze(1)
    labels = torch.from_numpy(raw.target.astype(np.int64))
    whole = Dataset(images, labels, classes, mean, std)
    test, train = stratified(raw.target, TEST / len(labels))
    told = f"a fixed stratified hold-out of scikit-learn's {len(labels)} digits ({len(test)} images)"
    return Split(whole.select(train), whole.select(test), told)
