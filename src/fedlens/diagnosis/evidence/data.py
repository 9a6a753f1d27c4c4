"""What the clients' and the test data show without any federated training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple


class Inputs(NamedTuple):
    """Inputs of one client, or of the test set, as they enter the network: over examples and, where there are some,
    channels. `low`, `high`: range; `constant`: share of features without any variation; `finite`. `indices`: they are
    rows of whole numbers that an embedding looks up, no values."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    low: float
    high: float
    constant: float
    finite: bool
    indices: bool = False


@dataclass(frozen=True, kw_only=True)
class DataAudit:
    """`sizes`: examples of each client looked at; `looked_at`: those clients; `counts`: client -> examples of each
    class. `low`, `high`: smallest and largest label, `malformed`: share of one-hot rows that do not sum to 1.

    `skew`: mean total variation between a client's labels and all, `skew_null` its mean and `skew_high` its 95th
    percentile if labels were dealt at random to the same sizes (M11). `empty`: clients without examples; `single`:
    clients with one example.

    `inputs`: client -> its inputs, `test`: of the test set, as evaluation sees them (M17). `apart`: clients whose
    inputs differ from the test set's by more than chance and by more than any mixture of classes explains, with by how
    many standard deviations (root mean square over features) their mean does, or as many as their spread or structure
    is worth; `nearest`: the most by which a client that is not `apart` does, by its mean, and by its spread where none
    is apart by its mean; `scaled`: client -> factor by which its input scale differs from the test set's; `clusters`:
    in how many separated groups the clients' input statistics fall; `mismatch`: all of them differ from the test set,
    and in the same way (D2). `shapes`: of inputs, if more than one.

    `overlap`: share of test examples that some client holds; `shared`: share of examples that more than one client
    holds; `copies`: share of repeated examples within clients; `same`: clients that hold exactly another one's data;
    `clash`: share of inputs that stand with different labels (M29). All of them beyond what chance repeats explain, as
    where few distinct inputs are possible; `expected`: the share of test examples that is such chance. Of those
    clients that have some, the shares of their examples: `leaked`, that are test examples; `dealt_twice`, that other
    clients hold too.

    `order_run`: client -> mean run of equal labels in its stored order by that of a shuffled order.
    """

    looked_at: tuple[int, ...]
    sizes: Mapping[int, int]
    counts: Mapping[int, tuple[int, ...]]
    low: int | None = None
    high: int | None = None
    malformed: float = 0.0
    skew: float = 0.0
    skew_null: float = 0.0
    skew_high: float = 0.0
    empty: tuple[int, ...] = ()
    single: tuple[int, ...] = ()
    inputs: Mapping[int, Inputs]
    test: Inputs | None = None
    test_size: int | None = None
    test_counts: tuple[int, ...] = ()
    apart: Mapping[int, float]
    nearest: float = 0.0
    scaled: Mapping[int, float]
    clusters: int = 1
    mismatch: bool = False
    shapes: tuple[tuple[int, ...], ...] = ()
    overlap: float = 0.0
    shared: float = 0.0
    copies: float = 0.0
    same: tuple[int, ...] = ()
    clash: float = 0.0
    expected: float = 0.0
    leaked: Mapping[int, float] = field(default_factory=dict)
    dealt_twice: Mapping[int, float] = field(default_factory=dict)
    order_run: Mapping[int, float]


@dataclass(frozen=True, kw_only=True)
class LabelAudit:
    """Whether labels say anything, and the same at every client.

    `learnable`: cross-validated accuracy of a simple probe on the pooled data (M15), `chance` the share of the largest
    class, `error` the standard error, `n` examples. `identity`: client -> accuracy of a model trained without it on its
    labels; `best`: under the best permutation of classes (M16); `gain`: best - identity, less what chance gives
    (`gain_null`, 95th percentile over clients whose identity is good). `maps`: client -> the best permutation.
    `mapped`: clients whose labels mean something else; `noisy`: clients whose labels no permutation explains.
    `test_identity`, `test_best`: the same of the test set under a model of all clients.
    """

    learnable: float
    chance: float
    error: float
    n: int
    identity: Mapping[int, float]
    best: Mapping[int, float]
    gain: Mapping[int, float]
    gain_null: float = 0.1
    maps: Mapping[int, tuple[int, ...]]
    mapped: tuple[int, ...] = ()
    noisy: tuple[int, ...] = ()
    test_identity: float | None = None
    test_best: float | None = None
