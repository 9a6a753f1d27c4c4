"""A quick classifier, its answers on examples it has not seen, and what permutations of the classes make of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, eigh  # type: ignore[import-untyped]
from scipy.linalg.lapack import dpotri  # type: ignore[import-untyped]
from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped]

from fedlens.diagnosis.probes.examples.tables import Floats, Whole

Doubles = NDArray[np.float64]
COMPONENTS = 50
AXES = 2_000  # rows that the components are taken of, about
FEW = 100  # columns below which they have units of their own
LARGE = 1e15  # numbers whose squares single precision cannot hold
RIDGE = 1e-2
DRAWS = 60


def reduced(rows: Floats, trusted: NDArray[np.bool_], most: int = COMPONENTS) -> Doubles:
    """Rows [N, d] as the first principal components of some `trusted` ones, scaled to mean square length 1; [N, k]."""
    trusted = trusted if trusted.sum() > 1 else np.ones(len(rows), bool)
    width = rows.shape[1]
    exact = np.float64 if width < FEW or np.abs(rows).max() > LARGE else np.float32
    values = rows.astype(exact) - rows[trusted].mean(axis=0, dtype=np.float64).astype(exact)
    if width < FEW:  # a table's columns have units of their own, pixels have one
        spread = values[trusted].std(axis=0)
        values = values / np.where(spread > 0, spread, 1.0)
    if width > most:
        own = values[trusted]
        own = own[:: max(1, len(own) // AXES)]
        products = (own.T @ own).astype(np.float64)
        values = values @ eigh(products, subset_by_index=[width - most, width - 1])[1].astype(exact)
    found: Doubles = values.astype(np.float64)
    found /= max(1e-30, float(np.sqrt((found[trusted] ** 2).sum(axis=1).mean())))
    return found


def kernel(rows: Doubles, others: Doubles) -> Doubles:
    """Gaussian kernel [N, M] whose width is half of the mean squared distance of rows whose mean square length is 1."""
    distance = (rows**2).sum(axis=1)[:, None] + (others**2).sum(axis=1)[None] - 2 * rows @ others.T
    found: Doubles = np.exp(-2.0 * np.maximum(distance, 0.0))
    return found


class Fitted(NamedTuple):
    """Least-squares kernel classification, regularised, of one-hot `targets` [N, C]: `inverse` [N, N] is
    (K + lambda)^-1, `weights` [N, C] are its coefficients."""

    inverse: Doubles
    targets: Doubles
    weights: Doubles

    def left_out(self, groups: Whole) -> Whole:
        """The class that a classifier fitted without an example's group says of each example; -1 for group -1.

        Exact: without the rows I the answers on I are Y_I - (G_II)^-1 (G Y)_I, G = (K + lambda)^-1.
        """
        said = np.full(len(groups), -1, np.int64)
        for group in np.unique(groups[groups >= 0]):
            own = np.flatnonzero(groups == group)
            answers = self.targets[own] - np.linalg.solve(self.inverse[np.ix_(own, own)], self.weights[own])
            said[own] = answers.argmax(axis=1)
        return said


def fitted(rows: Doubles, labels: Whole, classes: int) -> Fitted:
    """A classifier of `rows` [N, k] with `labels` [N] of `classes`."""
    inverse, targets = _inverse(kernel(rows, rows)), _targets(labels, classes)
    return Fitted(inverse, targets, inverse @ targets)


def _inverse(gram: Doubles) -> Doubles:
    """(K + lambda)^-1 from its Cholesky factor: a fifth less time than solving for every column."""
    upper = dpotri(cho_factor(gram + RIDGE * np.eye(len(gram)))[0], overwrite_c=True)[0]
    found: Doubles = np.triu(upper) + np.triu(upper, 1).T
    return found


def _targets(labels: Whole, classes: int) -> Doubles:
    """One-hot, less the mean, so that an example far from all others gets the shares of the classes."""
    rows = np.eye(classes)[labels]
    targets: Doubles = rows - rows.mean(axis=0) * 0.5
    return targets


class Reading(NamedTuple):
    """Answers [C, C] (rows: labels, columns: what was said). `identity`, `best`: counts right as they stand and
    under the best permutation; `map`: class -> what it would have to be called; `moved`: held classes that it moves,
    `held`: how many examples those have."""

    identity: int
    best: int
    map: tuple[int, ...]
    moved: tuple[int, ...]
    held: int


def confusion(labels: Whole, said: Whole, classes: int) -> Whole:
    """Counts [C, C] of labels (rows) by answers (columns)."""
    return np.bincount(labels * classes + said, minlength=classes * classes).reshape(classes, classes)


def reading(table: Whole) -> Reading:
    """The best permutation of the classes (Kuhn's assignment), ties going to no change."""
    classes = len(table)
    columns = linear_sum_assignment(2.0 * classes * table + np.eye(classes), maximize=True)[1]
    moved = np.flatnonzero((columns != np.arange(classes)) & (table.sum(axis=1) > 0))
    best = int(table[np.arange(classes), columns].sum())
    return Reading(int(np.trace(table)), best, tuple(columns.tolist()), tuple(moved.tolist()), int(table[moved].sum()))


def chance_gain(sizes: Whole, shares: Doubles, random: np.random.Generator) -> tuple[float, float, float]:
    """Mean, standard deviation and 95th percentile of best - identity, in examples, of a client that holds `sizes` [C]
    examples and is answered as `shares` [C, C] (rows sum to 1) say."""
    held, gains = np.flatnonzero(sizes), []
    for _ in range(DRAWS):
        table = np.zeros(shares.shape, np.int64)
        for one in held:
            table[one] = random.multinomial(sizes[one], shares[one])
        drawn = reading(table)
        gains.append(drawn.best - drawn.identity)
    return float(np.mean(gains)), float(np.std(gains)), float(np.quantile(gains, 0.95))


def shares_of(tables: Sequence[Whole]) -> Doubles:
    """Answers by label over several confusion tables, [C, C], rows sum to 1; a class without examples is answered as
    the others are right on average."""
    total = np.sum(tables, axis=0).astype(np.float64)
    held = total.sum(axis=1)
    classes = len(total)
    right = np.trace(total) / max(1.0, held.sum())
    rest = np.full((classes, classes), (1 - right) / max(1, classes - 1))
    np.fill_diagonal(rest, right if classes > 1 else 1.0)
    weight = 2.0  # examples' worth of the average in every class
    found: Doubles = (total + weight * rest) / (held[:, None] + weight)
    return found
