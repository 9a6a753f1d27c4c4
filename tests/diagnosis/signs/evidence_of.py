"""Healthy evidence to vary: ten clients, four a round, two parameters and the three buffers of one BatchNorm layer.

Every function takes the fields that differ: `aggregation(weights=(1.0, 0.0, 0.0))`. `job` puts sections together:
`job(aggregation=aggregation(...), declared={"server_lr": 0.5})`.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fedlens.diagnosis import Declared, Evidence
from fedlens.diagnosis.evidence import (
    Aggregation,
    DataAudit,
    Effect,
    Entry,
    Evaluating,
    Exam,
    Facts,
    Handling,
    Inputs,
    LabelAudit,
    Learning,
    Log,
    Outcome,
    Participation,
    Round,
    Trials,
    Visit,
    Watched,
)

CLIENTS, COHORT, ROUNDS, CLASSES = 10, 4, 20, 10
ENTRIES = {
    "0.weight": Entry((16, 8), "float32", "parameter"),
    "1.weight": Entry((16, 16), "float32", "parameter"),
    "2.running_mean": Entry((16,), "float32", "statistic"),
    "2.running_var": Entry((16,), "float32", "statistic"),
    "2.num_batches_tracked": Entry((), "int64", "counter"),
}
BUFFERS = ("2.running_mean", "2.running_var", "2.num_batches_tracked")
WHERE = {"fit": "job.py:10", "aggregate": "job.py:20", "evaluate": "job.py:30", "sample": "job.py:40"}


def facts(declared: Mapping[str, Any] | None = None, **changes: Any) -> Facts:
    """A job of 10 clients that offers everything; `declared`: what its author says."""
    base = Facts(
        clients=CLIENTS,
        cohort=COHORT,
        rounds=ROUNDS,
        classes=CLASSES,
        declared=Declared(**{"weighting": "examples", **(declared or {})}),
        entries=ENTRIES,
        offers=frozenset({"model", "loss", "train_data", "test_data"}),
        payload="weights",
        norms={"BatchNorm1d": 1},
        where=WHERE,
    )
    return replace(base, **changes)


def aggregation(**changes: Any) -> Aggregation:
    """The mean weighted by 1, 2 and 5 examples."""
    shares = (1 / 8, 2 / 8, 5 / 8)
    base = Aggregation(
        examples=(1, 2, 5),
        weights=shares,
        wanted=shares,
        current=1.0,
        residual=1e-7,
        landed={},
        fates=dict.fromkeys(ENTRIES, "mean"),
        ones={},
        dtypes={},
        non_finite="refused",
        empty="refused",
    )
    return replace(base, **changes)


def watched(**changes: Any) -> Watched:
    """Ten steps of SGD on shuffled batches of 20."""
    base = Watched(
        start=0.0,
        steps=10,
        samples=200,
        batches=(20,) * 10,
        rates=(0.1,) * 10,
        optimizer="SGD",
        settings={"lr": 0.1, "momentum": 0.0, "weight_decay": 0.0},
        carried=False,
        loss_first=2.3,
        loss_last=1.8,
        loss="cross_entropy",
        loss_where="job.py:15",
        probabilities=False,
        logits=False,
        reduction="mean",
        ignored=0.0,
        labels=10,
        label_low=0,
        label_high=9,
        outputs=10,
        run=1.0,
        updating=True,
        gradient_norm=1.0,
        clipped=0.0,
        input_low=0.0,
        input_high=1.0,
        input_mean=0.3,
        input_std=0.3,
    )
    return replace(base, **changes)


def visit(client: int, **changes: Any) -> Visit:
    """A client of 200 examples that learns."""
    base = Visit(
        client=client, examples=200.0, size=0.05, norm=0.5 + 0.02 * client, gain=0.3, accuracy=0.6, watched=watched()
    )
    return replace(base, **changes)


def exam(accuracy: float = 0.85, **changes: Any) -> Exam:
    """Of 1000 balanced test examples."""
    return Exam(accuracy, 0.5, 0.99, 0.12, (accuracy,) * CLASSES, 1000)._replace(**changes)


def round_of(number: int, **changes: Any) -> Round:
    """Round `number` of a plain weighted mean over four clients of equal size."""
    asked = tuple((number * COHORT + k) % CLIENTS for k in range(COHORT))
    asked = tuple(one.client for one in changes["visits"]) if "visits" in changes else asked
    base = Round(
        number=number,
        asked=asked,
        visits=tuple(visit(client) for client in asked),
        wanted=(0.25,) * COHORT,
        weights=(0.25,) * COHORT,
        total=1.0,
        effective=1.0,
        residual=1e-7,
        rounding=1e-6,
        unexplained=1e-7,
        cosine=1.0,
        coherence=0.6,
        past=0.0,
        moved=0.04,
        mean_norm=0.4,
        norm=10.0,
        fates=dict.fromkeys(BUFFERS, "mean"),
        reported={"accuracy": 0.85},
        exam=exam(),
        exam_batch=exam(0.84),
        gain=0.28,
    )
    return replace(base, **changes)


def rounds(count: int = 4, **changes: Any) -> tuple[Round, ...]:
    """The first `count` rounds, all with the same changes."""
    return tuple(round_of(number, **changes) for number in range(1, count + 1))


def handling(**changes: Any) -> Handling:
    """Clients start from what they receive; the order of visits changes nothing."""
    base = Handling(
        heeds={0: 0.98, 3: 0.95},
        heeds_error={0: 0.01, 3: 0.01},
        follows={0: 0.2, 3: 0.2},
        order=0.0,
        leaks=0.0,
        carries=0.0,
        repeats=0.0,
    )
    return replace(base, **changes)


def participation(**changes: Any) -> Participation:
    """Everybody is asked as often as chance has it."""
    base = Participation(distinct=CLIENTS, expected=9.9, p=0.6, sizes=(COHORT, COHORT), repeated=0.0)
    return replace(base, **changes)


def data(**changes: Any) -> DataAudit:
    """200 examples a client, dealt IID, in the test set's form."""
    one = Inputs((0.3,), (0.3,), 0.0, 1.0, 0.0, True)
    base = DataAudit(
        looked_at=tuple(range(CLIENTS)),
        sizes=dict.fromkeys(range(CLIENTS), 200),
        counts=dict.fromkeys(range(CLIENTS), (20,) * CLASSES),
        low=0,
        high=9,
        skew=0.09,
        skew_null=0.09,
        skew_high=0.11,
        inputs=dict.fromkeys(range(CLIENTS), one),
        test=one,
        test_size=1000,
        test_counts=(100,) * CLASSES,
        apart={},
        scaled={},
        shapes=((1, 8, 8),),
        order_run=dict.fromkeys(range(CLIENTS), 1.0),
    )
    return replace(base, **changes)


def labels(**changes: Any) -> LabelAudit:
    """Labels that say something, the same everywhere."""
    base = LabelAudit(
        learnable=0.85,
        chance=0.1,
        error=0.008,
        n=2000,
        identity=dict.fromkeys(range(CLIENTS), 0.8),
        best=dict.fromkeys(range(CLIENTS), 0.8),
        gain=dict.fromkeys(range(CLIENTS), 0.0),
        maps={client: tuple(range(CLASSES)) for client in range(CLIENTS)},
        test_identity=0.84,
        test_best=0.84,
    )
    return replace(base, **changes)


def learning(**changes: Any) -> Learning:
    """A network that can be overfitted."""
    base = Learning(
        first_loss=2.31,
        uniform=2.303,
        outputs=CLASSES,
        grows=0.0,
        dead={"1": 0.1},
        overfit=1.0,
        overfit_best=1.0,
        best_rate=0.1,
        overfit_n=32,
        overfit_steps=100,
        parameters=384,
    )
    return replace(base, **changes)


def evaluating(**changes: Any) -> Evaluating:
    """The author reports the accuracy on the whole test set."""
    values = (0.1, 0.5, 0.85)
    base = Evaluating(
        metric="accuracy",
        reported=values,
        measured=values,
        measured_train=(0.1, 0.49, 0.84),
        on_train=(0.1, 0.52, 0.88),
        n=1000,
        error=0.011,
        quantum=1000,
        loss_ratio=1.0,
        where="job.py:30",
    )
    return replace(base, **changes)


def log(**changes: Any) -> Log:
    """A curve that rose and levelled; its mean is left out, so that the trials alone say what the job reaches."""
    values = (0.3, 0.5, 0.7, 0.8, 0.83, 0.85, 0.845, 0.851, 0.849, 0.85)
    base = Log(
        values=values,
        claimed=1000,
        n=1000,
        digits=3,
        rising=0.0,
        rising_error=0.002,
        noise=0.004,
        last=0.85,
        best=0.851,
        chance=0.1,
    )
    return replace(base, **changes)


def outcome(accuracy: float, *, spread: float = 0.002, n: int = 3, **changes: Any) -> Outcome:
    """Accuracies of `n` seeds about `accuracy`."""
    values = tuple(accuracy + spread * (k - (n - 1) / 2) for k in range(n))
    return Outcome(values, ROUNDS, 1.0)._replace(**changes)


def effect(gain: float, error: float = 0.003, n: int = 3) -> Effect:
    """A paired difference over `n` seeds."""
    return Effect(gain, error, n)


def trials(**changes: Any) -> Trials:
    """The job does what the reference does, and pooled training little more."""
    base = Trials(
        job=outcome(0.85),
        reference=outcome(0.852),
        own_clients=outcome(0.851),
        own_server=outcome(0.85),
        knobs={"iid": outcome(0.855), "pooled-samples": outcome(0.86), "noise-off": outcome(0.852)},
        effects={"iid": effect(0.003), "lr*3": effect(-0.02), "lr/3": effect(-0.01)},
        best=0.86,
        rate=0.1,
        best_rate=0.1,
        best_rate_outcome=outcome(0.853),
        chance=0.1,
        error=0.011,
    )
    return replace(base, **changes)


def job(declared: Mapping[str, Any] | None = None, **sections: Any) -> Evidence:
    """All sections healthy but those given; None leaves one out."""
    base = Evidence(
        facts=facts(declared),
        log=log(),
        participation=participation(),
        aggregation=aggregation(),
        handling=handling(),
        rounds=rounds(),
        data=data(),
        labels=labels(),
        learning=learning(),
        evaluating=evaluating(),
        trials=trials(),
    )
    return replace(base, **sections)


def bare(**sections: Any) -> Evidence:
    """Evidence of which nothing but the facts is known."""
    return Evidence(facts=facts(), **sections)
