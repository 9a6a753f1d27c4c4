"""When and where clients' work runs.

Knows: cohorts, batches, order, failures.
Does not know: what a method means, what a run folder is.
Offers: Visit, Federated and Pooled (who does what in a round), Trainer (one visit), Sequential (the oracle),
Engine (settings).
"""

from fedlens.engine.plan import Federated, Plan, Pooled, Visit
from fedlens.engine.sequential import Outcome, Record, Sequential
from fedlens.engine.settings import Engine
from fedlens.engine.trainer import Trainer

__all__ = ["Engine", "Federated", "Outcome", "Plan", "Pooled", "Record", "Sequential", "Trainer", "Visit"]
