"""One client's work: steps of an optimiser on batches, and the evaluation of a model on examples.

Knows: a module, a batch, a rate.
Does not know: how many clients exist, which method runs, who else trains.
Offers: Local, Schedule, AnyAttack (settings); Work, train, Trained, Diverged, Broken; evaluate, Evaluation.
"""

from fedlens.local.attack import AnyAttack
from fedlens.local.evaluate import Evaluation, evaluate
from fedlens.local.optimizer import Optimizer
from fedlens.local.settings import Local, Schedule
from fedlens.local.step import Batch, Broken, Diverged, Trained, Work, train

__all__ = [
    "AnyAttack",
    "Batch",
    "Broken",
    "Diverged",
    "Evaluation",
    "Local",
    "Optimizer",
    "Schedule",
    "Trained",
    "Work",
    "evaluate",
    "train",
]
