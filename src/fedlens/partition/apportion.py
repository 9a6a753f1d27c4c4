"""Whole numbers in given proportions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fedlens.partition.partition import Ints


def apportion(weights: NDArray[np.float64], total: int, minimum: int = 0) -> Ints:
    """Whole numbers that sum to `total`, in proportion to `weights` (positive, [K]), none below `minimum`.

    Source: the method of largest remainders (Hamilton). Whoever's share lies under the minimum gets the minimum, and
    the others divide the rest in their old proportions. Needs len(weights) * minimum <= total.
    """
    raised = np.zeros(len(weights), dtype=bool)
    while (
        True
    ):  # each turn raises at least one more, and few turns are needed: the rest shrinks only by what was raised
        shares = np.full(len(weights), float(minimum))
        rest = total - minimum * int(raised.sum())
        shares[~raised] = weights[~raised] / weights[~raised].sum() * rest
        low = ~raised & (shares < minimum)
        # When all would be raised the total is met exactly by minima, up to the rounding of the sums.
        if not low.any() or (low | raised).all():
            break
        raised |= low
    numbers: Ints = np.maximum(np.floor(shares), minimum).astype(np.int64)
    missing = total - int(numbers.sum())
    order = np.argsort(np.where(raised, 2.0, numbers - shares), kind="stable")
    numbers[order[:missing]] += 1
    return numbers
