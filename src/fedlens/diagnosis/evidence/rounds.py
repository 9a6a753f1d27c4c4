"""What was seen while the job's own rounds ran."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

BufferFate = Literal["mean", "uniform", "kept", "one", "missing", "cast", "other"]


class Pull(NamedTuple):
    """What stands beside the supervised loss at one step, by its gradient g_k in each tensor k where it is not 0,
    compared with the way d_k = w_k - start_k that training has gone; FedProx has g_k = mu d_k.

    `distance`: ||w - start||. `low`, `high`: smallest and largest coefficient c_k of g_k on d_k; `least`, `most`: of
    ||g_k||; `off`: largest ||g_k - c_k d_k|| / ||g_k||. `aside`: the distance of the point that weights are pulled to
    from the start, by ||start||, multiples of the start aside; None: it is not known, or there is no such point.
    `added`: the term is added to the loss as it is, not scaled together with it. `along`: cosine of the gradient of
    what is added by hand with the one that was computed; None: it is not known. Where there is a term whose gradient is
    0, though weights have moved, `most` is 0 and there are no coefficients (nan).
    """

    distance: float
    low: float
    high: float
    least: float
    most: float
    off: float
    aside: float | None
    added: bool
    along: float | None = None


class Tie(NamedTuple):
    """Whether answers depend on labels: chi-square of their table, its degrees of freedom (what it is on average if
    they do not), and about the most that it could be: n times the lesser number of classes less one, and less where
    answers are nearly all one, by 1 - sum of their squared shares (1 for even shares). Ties of visits add."""

    squares: float
    freedom: int
    most: float


class Paired(NamedTuple):
    """The labels that inputs were trained with beside those that the client's data hold them with. `rows`: inputs in
    training that the data hold, unchanged but for their scale, `heard` all that were looked at; `changed`: share of
    `rows` with another label; `torn`: share that no renaming of classes explains. `rising`: share of neighbours in
    training of which the second stands further back in the data, 1/2 where their order is shuffled."""

    rows: int
    heard: int
    changed: float
    torn: float
    rising: float = 0.5


class SentBack(NamedTuple):
    """The change that came back beside the change w_end - w_received that was trained: its coefficient on that, 1 where
    it is sent as it is, and what is left of it, by the trained one's norm, 0 where nothing was added. Twice: where what
    came back is weights, and where it is an update. `sum`: of all numbers that came back; `sum_end`, `sum_change`: of
    the trained weights and of their change."""

    weights: float
    weights_aside: float
    update: float
    update_aside: float
    sum: float = 0.0
    sum_end: float = 0.0
    sum_change: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Watched:
    """What one call of the author's `fit` did inside PyTorch, where that could be seen; None: it could not.

    `start`: ||w_start - received|| / ||received|| over the parameters that were optimised, at the first step (M01).
    `steps`, `samples`, `batches` (their sizes, in order); `rates`: of each step, first parameter group. `optimizer`:
    class name; `settings`: of its first group (momentum, weight_decay, betas); `groups`: the rates of all groups of
    parameters at the first step. `carried`: optimiser state was there
    before the first step. `loss_first`, `loss_last`: first and last value that backward was called on.
    `loss`: the loss function called ("cross_entropy", "nll_loss", "mse_loss", ...), `loss_where` its file:line;
    `probabilities`: it was given rows that are probabilities (H1); `logits`: nll_loss was given rows that are no log
    probabilities (H2); `reduction`; `ignored`: share of labels that count for nothing (one-hot rows of zeros, or what
    the loss was told to ignore); `one_hot`: labels were rows of numbers, one for each class.
    `spread`: both outputs and labels were repeated, along different axes, to fit each other.
    `labels`: distinct labels seen; `label_low`, `label_high`; `outputs`: width of the head; `run`: mean number of equal
    labels in a row over the first epoch by what a shuffled order of the same labels gives (M29; 1: shuffled).
    `stuck`: trained modules that were in evaluation mode (M31), `updating`: running statistics moved.
    `unused`: trainable parameters whose gradient was None or zero in every step; `outside`: optimised parameters that
    the returned state does not hold; `gradient_norm` at the first step; `clipped`: share of steps whose gradient was
    scaled down by clip_grad_norm_, and `separately`: tensor by tensor. `added`: standard deviation of noise that was
    added to the weights after the last step, or to a copy of them, 0: none; `beyond`: what was sent beside the trained
    change in the numbers that were sent at all, by their size: 0 where these are sent as they were trained.
    `input_low/high/mean/std`: of the first batch.
    `identities`: object ids of the trained model, kept to find one object shared by clients.

    `beside`: whether anything but the supervised loss acts on the weights (another term with a gradient, gradients or
    weights changed by hand); None: not sure. Of the first steps: `extra`: (||w - start||, what the objective adds to
    that loss) where it is plainly added; `pulls`: the gradient of what stands beside. `teacher_rows`: examples whose
    loss has, beside labels, answers of another model for target; `teacher`, `student`: share of those where that
    model, and the one in training, answer the label; `teacher_chance`: what the same answers dealt out at random would;
    `teacher_tie`, `student_tie`: of answers and labels; `teacher_blank`: all of its rows tell no class from another.

    `sent_back`: what came back beside what was trained. `label_counts`: how often each class 0, 1, ... was among the
    labels.
    """

    start: float | None = None
    steps: int | None = None
    samples: int | None = None
    batches: tuple[int, ...] = ()
    rates: tuple[float, ...] = ()
    optimizer: str | None = None
    settings: Mapping[str, float] = field(default_factory=dict)
    groups: tuple[float, ...] = ()
    carried: bool | None = None
    loss_first: float | None = None
    loss_last: float | None = None
    loss: str | None = None
    loss_where: str = ""
    probabilities: bool | None = None
    logits: bool | None = None
    squashed: str = ""
    reduction: str | None = None
    ignored: float | None = None
    one_hot: bool | None = None
    spread: bool | None = None
    labels: int | None = None
    label_low: int | None = None
    label_high: int | None = None
    outputs: int | None = None
    run: float | None = None
    stuck: tuple[str, ...] = ()
    updating: bool | None = None
    unused: tuple[str, ...] = ()
    outside: tuple[str, ...] = ()
    gradient_norm: float | None = None
    clipped: float | None = None
    separately: bool = False
    added: float | None = None
    beyond: float | None = None
    input_low: float | None = None
    input_high: float | None = None
    input_mean: float | None = None
    input_std: float | None = None
    identities: tuple[int, ...] = ()
    beside: bool | None = None
    extra: tuple[tuple[float, float], ...] = ()
    pulls: tuple[Pull, ...] = ()
    teacher_rows: int = 0
    teacher: float | None = None
    student: float | None = None
    teacher_chance: float | None = None
    teacher_tie: Tie | None = None
    student_tie: Tie | None = None
    teacher_blank: bool = False
    sent_back: SentBack | None = None
    label_counts: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Visit:
    """One client's part of a round. `size`: ||D_i|| / ||w|| (M07); `still`: parameters that came back as they went;
    `finite`; `missing`, `reshaped`, `retyped`: entries that did not come back as they went; `zero`: share of the
    update's numbers that are exactly 0. `gain`: L_i(w_t) - L_i(w_i) on the client's own data; `accuracy`: of w_i on
    the test data. `aliased`: what it returned shares memory with what it received or with another upload; `shares`:
    clients whose uploads of the round lie in the same memory (only the last of them is really sent). `grid`: the
    numbers sent in the largest entry are multiples of this, 0: they are not. `zero` is counted in watched rounds.
    `noise`, in watched rounds: standard deviation of an update that is alike in all entries, as noise is, or 0.
    `paired`: what labels inputs had in training."""

    client: int
    examples: float
    size: float
    norm: float
    finite: bool = True
    still: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    reshaped: tuple[str, ...] = ()
    retyped: tuple[str, ...] = ()
    zero: float = 0.0
    gain: float | None = None
    accuracy: float | None = None
    aliased: bool = False
    shares: tuple[int, ...] = ()
    grid: float = 0.0
    noise: float = 0.0
    seconds: float = 0.0
    watched: Watched = Watched()
    paired: Paired | None = None


class Exam(NamedTuple):
    """A state on test data by the doctor's own evaluator: `loss` in nats, `entropy` of the predicted classes over its
    maximum, `top` share of the most predicted class, `recall` by class, `n` examples."""

    accuracy: float
    loss: float
    entropy: float
    top: float
    recall: tuple[float | None, ...]
    n: int


@dataclass(frozen=True, kw_only=True)
class Round:
    """One round of the job. A = w_{t+1} - w_t, Dbar = sum p_i D_i, both over parameters.

    `wanted`: p_i; `weights`: a of M03; `total`: their sum; `effective`: N_eff ratio; `residual`: r of M02; `rounding`:
    what float32 alone explains of r; `unexplained`: ||A - sum a_i D_i|| / ||A||; `cosine` (M04); `coherence` kappa
    (M08); `past`: coefficient of the round before's mean update in A (momentum, or A5). `moved`: ||A|| / ||w_t||;
    `mean_norm`: ||Dbar||. `fates`: what became of each buffer (M05). `negative`: buffers called running_var below 0.
    `grid`: A's entries are multiples of this (X2), 0: they are not; `zero`: share of A that is exactly 0.
    `narrow`: the half precision type that all parameters of w_{t+1} fit into, though held in a wider one; "": they do
    not. `reported`: the author's metrics of w_{t+1}; `exam`: the doctor's, in evaluation mode, `exam_batch` with batch
    statistics; `gain`: sum p_i [L_i(w_t) - L_i(w_{t+1})].

    `weights` is () where the updates are not independent, `total` None where they do not tell it; both are of the
    clients that sent a change, `total` by their share of the wanted weights. `weights_error`, `total_error`,
    `past_error`: standard errors, if what is unexplained were noise (declared noise on few parameters makes them
    large). `past` is the coefficient of the round before's A (for plain servers a multiple of its mean update); where
    it is used, `weights`, `total` and `unexplained` are of the fit with it. `current`: coefficient of w_t itself in A,
    0 where all is well: sum a - 1 for weights that do not add up, -1 where updates take the model's place. `dropped`:
    parameters that clients changed and the new model has as they were, or lacks.
    """

    number: int
    asked: tuple[int, ...]
    visits: tuple[Visit, ...]
    wanted: tuple[float, ...]
    weights: tuple[float, ...] = ()
    total: float | None = None
    effective: float | None = None
    residual: float | None = None
    rounding: float = 0.0
    unexplained: float | None = None
    cosine: float | None = None
    coherence: float | None = None
    past: float | None = None
    weights_error: float = 0.0
    total_error: float = 0.0
    past_error: float = 0.0
    current: float = 0.0
    dropped: tuple[str, ...] = ()
    moved: float | None = None
    mean_norm: float | None = None
    norm: float | None = None
    finite: bool = True
    fates: Mapping[str, BufferFate] = field(default_factory=dict)
    negative: tuple[str, ...] = ()
    grid: float = 0.0
    narrow: str = ""
    zero: float = 0.0
    reported: Mapping[str, float] = field(default_factory=dict)
    exam: Exam | None = None
    exam_batch: Exam | None = None
    gain: float | None = None


@dataclass(frozen=True, kw_only=True)
class Participation:
    """Who is asked over the whole plan (M23), from `sample` alone. `distinct`: clients that are ever asked; `expected`:
    how many uniform sampling would reach; `p`: chi-square against uniform; `sizes`: smallest and largest cohort;
    `repeated`: share of rounds with the cohort of the round before; `twice`: a client stands in a cohort twice;
    `outside`: numbers that are no clients; `never`: classes that no asked client holds."""

    distinct: int
    expected: float
    p: float
    sizes: tuple[int, int]
    repeated: float
    twice: bool = False
    outside: tuple[int, ...] = ()
    never: tuple[int, ...] = ()
