"""Whether the network, the loss and the local step can learn at all, apart from any federation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Learning:
    """`first_loss`: the job's own loss of the initial model on a batch, `uniform`: log C (M14). `sums_to_one`: outputs
    of the network are probabilities already; `log_probabilities`: they are log probabilities; `outputs`: width of the
    head. `nonnegative`: outputs never below 0 (a ReLU behind the head). `negative`: the loss is below 0.
    `grows`: ratio of the loss of a batch to that of its half, minus 1 (0: a mean, 1: a sum; H4).

    `zero_gradients`: parameters whose gradient is 0 but for rounding, `frozen`: that ask for none; `dead`: module ->
    share of units that are 0 for all inputs of a batch (K3); `constant_init`: weights that all start equal (H7);
    `identical`: outputs are the same for all inputs. `smallest`: spatial size of the last feature map before pooling,
    (height, width) at `half_way` and at the end (K4); None for networks without convolutions.

    `overfit`: accuracy on a batch of `overfit_n` examples after `overfit_steps` steps of the job's own loss and local
    rate (M13), `overfit_best`: with the best of several rates; `best_rate` that one. `parameters`: how many.
    """

    first_loss: float | None = None
    uniform: float | None = None
    sums_to_one: bool = False
    log_probabilities: bool = False
    outputs: int | None = None
    nonnegative: bool = False
    negative: bool = False
    grows: float | None = None
    zero_gradients: tuple[str, ...] = ()
    frozen: tuple[str, ...] = ()
    dead: Mapping[str, float]
    constant_init: tuple[str, ...] = ()
    identical: bool = False
    half_way: tuple[int, int] | None = None
    smallest: tuple[int, int] | None = None
    overfit: float | None = None
    overfit_best: float | None = None
    best_rate: float | None = None
    overfit_n: int = 0
    overfit_steps: int = 0
    parameters: int = 0


@dataclass(frozen=True, kw_only=True)
class Evaluating:
    """What the author's `evaluate` says of models, beside what the doctor measures (M27).

    Of each model examined, in order: `reported` (the metric named `metric`), `measured` on all test data in evaluation
    mode and, where the reported values are not those, `measured_train` in training mode, `on_train` on the pooled
    training data, `hold_out` on the last part of each client's data. `n`: test examples; `error`: standard error of
    `measured` at the last. `quantum`: the number of examples that the reported values are consistent with (M24), None
    if no number up to `n` is. `matches`: which measurement the reported values are ("test", "train", "client 7",
    "clients' mean", "hold-outs" of all clients together, "train mode", "part of the test set", "count", "percent",
    "another model" where it remembers, "undetermined" where the state is not the whole model, "none"). `steady`: the
    same model evaluated twice differs by this much. `remembers`: it reports the same for different models.
    `loss_ratio`: reported loss by measured, the nearer of the mean cross-entropy and of the job's own loss.
    `mean_of_clients`: the unweighted mean over clients, where that is what is reported (E4). `training`: kinds of
    layers whose answers depend on their mode and which evaluate calls in training mode alone (M31).
    `label_sets`: of every comparison of answers with labels in one evaluation, the number of labels and of classes.
    `altered`: where nothing else matches and evaluate asks for just the test labels, the share of test inputs that it
    does not show the network as they are.
    """

    metric: str
    reported: tuple[float, ...]
    measured: tuple[float, ...]
    measured_train: tuple[float, ...] = ()
    on_train: tuple[float, ...] = ()
    hold_out: tuple[float, ...] = ()
    n: int = 0
    error: float = 0.0
    quantum: int | None = None
    matches: str = "test"
    steady: float = 0.0
    remembers: bool = False
    loss_ratio: float | None = None
    mean_of_clients: float | None = None
    training: tuple[str, ...] = ()
    label_sets: tuple[tuple[int, int], ...] = ()
    altered: float | None = None
    where: str = ""


@dataclass(frozen=True, kw_only=True)
class Log:
    """What printed accuracies give away alone. `values`: as printed, in order; `claimed`: size of the test set they are
    said to be of. `n`: the smallest size that explains all of them (M24); `scale`: what they are ("fraction",
    "percent", "count"); `scale_max`: the count that would be perfect. `flat`: all equal to all digits. `constant`:
    share of rounds whose value is what a constant classifier gets (M25), of `priors`; `digits`: most digits shown;
    `tails`: digit strings that different values share (M26). `rising`: slope of the last fifth, per round, and
    `rising_error` its standard error; `noise`: standard deviation of the last ten around their line; `last`, `best`,
    `mean_last`; `collapsed`: rounds whose value is no number. `chance`: 1 / classes where known.
    """

    values: tuple[float, ...]
    claimed: int | None = None
    n: int | None = None
    scale: str = "fraction"
    scale_max: float | None = None
    flat: bool = False
    constant: float = 0.0
    priors: tuple[float, ...] = ()
    digits: int = 0
    tails: tuple[str, ...] = ()
    rising: float | None = None
    rising_error: float | None = None
    noise: float | None = None
    last: float | None = None
    best: float | None = None
    mean_last: float | None = None
    collapsed: tuple[int, ...] = ()
    chance: float | None = None
    duplicated: bool = False
