"""When and where clients' work runs.

Knows: cohorts, batches, order, failures, simulated seconds.
Does not know: what a method means, what a run folder is.
Offers: Visit, Draw, Federated and Pooled (who does what in a round), AnySelection, SELECTIONS and the kinds in it,
Network and Journey (simulated time), Trainer (one visit), Sequential (the oracle), Engine (settings).
"""

from fedlens.engine.auto import Settled, Trial, settle
from fedlens.engine.cuda import Cuda, check_cuda, suited
from fedlens.engine.failures import Void
from fedlens.engine.gkt import Exchange
from fedlens.engine.network import Journey, Network
from fedlens.engine.plan import Draw, Federated, Plan, Pooled, Visit
from fedlens.engine.select import SELECTIONS, AnySelection, BySize, PowerOfChoice, Uniform
from fedlens.engine.sender import Sender
from fedlens.engine.sequential import Outcome, Sequential
from fedlens.engine.settings import Engine, cores
from fedlens.engine.trainer import Record, Trainer
from fedlens.engine.workers import Workers, check_workers

__all__ = [
    "SELECTIONS",
    "AnySelection",
    "BySize",
    "Cuda",
    "Draw",
    "Engine",
    "Exchange",
    "Federated",
    "Journey",
    "Network",
    "Outcome",
    "Plan",
    "Pooled",
    "PowerOfChoice",
    "Record",
    "Sender",
    "Sequential",
    "Settled",
    "Trainer",
    "Trial",
    "Uniform",
    "Visit",
    "Void",
    "Workers",
    "check_cuda",
    "check_workers",
    "cores",
    "settle",
    "suited",
]
