"""What an aggregator does with uploads that were made up: exact, and without data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Fate = Literal["mean", "uniform", "kept", "one", "missing", "cast", "sum", "other"]


@dataclass(frozen=True, kw_only=True)
class Aggregation:
    """The made-up cohort has unequal counts `examples`; its uploads differ from the current model in independent
    directions, so that the result's coefficients are exact.

    `weights`: the coefficient of each upload's update in the change of the model; `wanted`: what the declaration says;
    `current`: how much of the current model stays in it beside (1 for weights that add up, 0 where it is replaced by
    uploads); `residual`: the part of the change, relative to the mean update, that no combination of updates explains.

    Relative differences, 0 where all is well: `order` (the same uploads in another order), `copies` (the aggregate of
    one upload many times against that upload), `again` (the same call twice), `twice` (an upload listed twice against
    one of twice the examples), `scale` (all counts doubled).

    `landed`: entries that got what was sent under another name. `fates`: what became of each entry: the weighted mean,
    the uniform mean, "kept" as it was, that of "one" upload (`ones`: its place), "missing", "cast" to another type,
    a "sum", "other". `dtypes`: entries whose type changed. `truncated`: values are cut to whole numbers or a grid of
    `grid`. `extra`: names that nobody sent. `non_finite`: what a NaN upload does. `changes_input`: the uploads or the
    current model were written to. `rule`: the reduction that these coefficients are, "mean" (any fixed
    coefficients) or a robust rule, "norm-clip", "adaptive" (steps that have only the mean's signs), "other".

    `wrote`: what was written to, "current" or "upload 0" and so on. `noise`: standard deviation, by number, of what the
    random state alone changes; the coefficients are without it, `residual` is with it. `rounding`: what the entries'
    own precision may leave of `residual`. `by_cohort`: (uploads, sum of coefficients) for cohorts of two sizes.

    Of a second round on the same server, from the result of the first: `carried`: how far its result is, relative to
    the mean update, from what the first round's coefficients make of its uploads; `past`: the coefficient in it of the
    first round's change (a server's momentum).
    """

    examples: tuple[int, ...]
    weights: tuple[float, ...]
    wanted: tuple[float, ...]
    current: float
    residual: float
    order: float = 0.0
    copies: float = 0.0
    again: float = 0.0
    twice: float = 0.0
    scale: float = 0.0
    landed: Mapping[str, str]
    fates: Mapping[str, Fate]
    ones: Mapping[str, int]
    dtypes: Mapping[str, tuple[str, str]]
    truncated: bool = False
    grid: float = 0.0
    extra: tuple[str, ...] = ()
    non_finite: Literal["refused", "left out", "passed on", "untried"] = "untried"
    empty: Literal["refused", "unchanged", "passed on", "untried"] = "untried"
    changes_input: bool = False
    rule: str = "mean"
    wrote: tuple[str, ...] = ()
    noise: float = 0.0
    rounding: float = 0.0
    by_cohort: tuple[tuple[int, float], ...] = ()
    carried: float = 0.0
    past: float = 0.0

    @property
    def total(self) -> float:
        """The sum of the coefficients: the server's rate."""
        return sum(self.weights)
