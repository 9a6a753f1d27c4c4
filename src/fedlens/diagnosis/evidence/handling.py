"""What small experiments on `fit` and on the loop showed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Handling:
    """What small experiments on `fit` and the loop show, each on a fresh copy of the job.

    `heeds`: client -> how much of a displacement delta of what it is sent comes back, <fit(w + delta) - fit(w), delta>
    / ||delta||^2, after the client was visited before (M01 as a black box): about 1 where it starts from what it
    receives, less the more its training contracts, about 0 where it does not; `heeds_error`: its standard error.
    `unheeded`: entries of which nothing comes back from any of these clients. `follows`: the distance of the result
    from what it received, over that from its own last result.

    `order`: relative difference of the mean update of a round whose clients were visited in another order (M32);
    `order_uploads`: client -> of its own update. `order_noise`: of a client's update when it is visited first, and
    after one other client. `leaks`: how much of a displacement that was sent to the client before comes back from the
    next one, which did not receive it: 0 where clients are apart even if they share a random generator, about 1 where
    they train one model (B3) and load it once a round. `carries`: how much of the update of the client before lies in
    the difference that it makes to the next one's: about 1 where they train one model, whether they load or not, 0 or
    below where they only share a generator. `repeats`: relative difference of the updates when all is done again from
    a fresh copy.

    `crossed`: entries that came back as another entry of the same shape was sent (M06): entry -> that other.
    `writes`: fit changed the received state itself. `evaluate_writes`: evaluate changed the model it was given;
    `evaluate_moves`: relative difference of a client's update when evaluate was called before it. `examples_wrong`:
    client -> (reported, in its data). `shared`: clients whose training used one model object.
    """

    heeds: Mapping[int, float] = field(default_factory=dict)
    heeds_error: Mapping[int, float] = field(default_factory=dict)
    unheeded: tuple[str, ...] = ()
    follows: Mapping[int, float] = field(default_factory=dict)
    order: float | None = None
    order_uploads: Mapping[int, float] = field(default_factory=dict)
    order_noise: float | None = None
    leaks: float | None = None
    carries: float | None = None
    repeats: float | None = None
    crossed: Mapping[str, str] = field(default_factory=dict)
    writes: bool = False
    evaluate_writes: bool = False
    evaluate_moves: float | None = None
    examples_wrong: Mapping[int, tuple[float, int]] = field(default_factory=dict)
    shared: tuple[int, ...] = ()
