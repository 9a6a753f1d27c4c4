"""One client's work: steps of an optimiser on batches, and the evaluation of a model on examples.

Knows: a module, a batch, a rate.
Does not know: how many clients exist, which method runs, who else trains.
Offers: Local, Schedule (settings); Bench, train, Trained, Diverged; evaluate, Evaluation.
"""

from fedlens.local.evaluate import Evaluation, evaluate
from fedlens.local.optimizer import Optimizer
from fedlens.local.settings import Local, Schedule
from fedlens.local.step import Batch, Diverged, Trained, Work, train

__all__ = ["Batch", "Diverged", "Evaluation", "Local", "Optimizer", "Schedule", "Trained", "Work", "evaluate", "train"]
