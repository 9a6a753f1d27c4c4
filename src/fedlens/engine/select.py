"""Which clients are invited to a round, of those that can be reached."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

import numpy as np
from pydantic import BeforeValidator, Field

from fedlens.errors import ConfigurationError
from fedlens.partition.partition import Ints
from fedlens.settings import Count, settings
from fedlens.short import spelled_out

Losses = Callable[[Ints], np.ndarray]
"""The current global model's mean loss on each of some clients' own examples: ids i64 [d] -> f64 [d]."""


class _AnyCohort:
    """What a rule that works for every cohort need not say."""

    def check(self, m: int) -> None:
        """Raise ConfigurationError where a cohort of `m` is more than the rule can choose."""


@settings
class Uniform(_AnyCohort):
    """m of the available clients without replacement, all equally likely.

    Source: McMahan et al. 2017, Algorithm 1; with weights by examples, scheme II of Li et al., "On the convergence of
    FedAvg on non-IID data", ICLR 2020, up to their normalisation over all clients in place of the cohort.
    """

    kind: Literal["uniform"] = "uniform"

    def choose(self, available: Ints, sizes: Ints, m: int, rng: np.random.Generator, losses: Losses) -> Ints:
        """At most `m` of the ids `available`, sorted; all of them where there are no more. `sizes`: n_i, i64 [K]."""
        if len(available) <= m:
            return available
        return np.sort(rng.choice(available, m, replace=False))


@settings
class BySize(_AnyCohort):
    """m of the available clients, drawn one after another with probability proportional to n_i.

    Source: scheme I of Li et al., "On the convergence of FedAvg on non-IID data", ICLR 2020, also FedProx (Li et al.,
    MLSys 2020, Algorithm 2). Both average the cohort plainly: set server.weights = "uniform". With weights by examples
    a large client counts twice, as it is drawn more often and weighs more when drawn.
    Differs from the paper: without replacement, so that a client trains once a round; a client of a large share is
    then drawn a little less often than m times its share.
    """

    kind: Literal["by-size"] = "by-size"

    def choose(self, available: Ints, sizes: Ints, m: int, rng: np.random.Generator, losses: Losses) -> Ints:
        """At most `m` of the ids `available`, sorted; all of them where there are no more. `sizes`: n_i, i64 [K]."""
        if len(available) <= m:
            return available
        return np.sort(_by_size(available, sizes, m, rng))


@settings
class PowerOfChoice:
    """The m clients of highest loss among `candidates` (d), which are drawn as by-size draws.

    Source: Cho, Wang, Joshi, "Towards understanding biased client selection in federated learning", AISTATS 2022
    (arXiv 2010.01243), the strategy pow-d. It is biased on purpose: clients with high loss are seen more often, so
    that the model goes to another optimum than that of the mean loss, the further the larger d. The paper averages
    the cohort plainly: set server.weights = "uniform".
    Differs from the paper: the loss is the caller's, whatever it is computed on; asking the candidates takes no
    simulated time, though a run counts their downloads. Between equal losses the candidate drawn first is taken; a
    loss that is not a number counts as the highest.
    """

    candidates: Count = 20
    kind: Literal["power-of-choice"] = "power-of-choice"

    def check(self, m: int) -> None:
        """Raise ConfigurationError where a cohort of `m` is more than the candidates."""
        if self.candidates < m:
            raise ConfigurationError(
                "there are fewer candidates than clients to choose",
                where=self.kind,
                seen=f"candidates = {self.candidates}, {m} clients to invite",
                do=f"Set candidates to {m} or more, or lower clients.cohort.",
            )

    def choose(self, available: Ints, sizes: Ints, m: int, rng: np.random.Generator, losses: Losses) -> Ints:
        """At most `m` of the ids `available`, sorted; all of them where there are no more. `sizes`: n_i, i64 [K].

        `losses` is asked once, for the candidates, and not at all where everybody is taken.
        """
        self.check(m)
        if len(available) <= m:
            return available
        asked = _by_size(available, sizes, min(self.candidates, len(available)), rng)
        height = np.nan_to_num(np.asarray(losses(asked), dtype=np.float64), nan=np.inf)
        return np.sort(asked[np.argsort(-height, kind="stable")[:m]])


def _by_size(available: Ints, sizes: Ints, count: int, rng: np.random.Generator) -> Ints:
    """`count` of `available` without replacement, in the order drawn."""
    share = sizes[available] / sizes[available].sum()
    return rng.choice(available, count, replace=False, p=share)


SELECTIONS: dict[str, type] = {"uniform": Uniform, "by-size": BySize, "power-of-choice": PowerOfChoice}

AnySelection = Annotated[
    Uniform | BySize | PowerOfChoice,
    Field(discriminator="kind"),
    BeforeValidator(lambda value: spelled_out(value, SELECTIONS, "selection")),
]
