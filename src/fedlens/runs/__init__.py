"""Experiments: what a person asks for, made ready, run round by round, kept on disk, summed up.

Knows: the order of rounds, files, what a run is compared with.
Does not know: how a step is computed, how anything is drawn.
Offers: Experiment and its sections, load_experiment, execute, stream, prepare.
"""

from fedlens.runs.configuration import as_toml, load_experiment
from fedlens.runs.experiment import Clients, Experiment, Privacy, References
from fedlens.runs.federation import Federation
from fedlens.runs.loop import State, stream
from fedlens.runs.prepare import initial_model, prepare
from fedlens.runs.run import Interrupted, Progress, execute

__all__ = [
    "Clients",
    "Experiment",
    "Federation",
    "Interrupted",
    "Privacy",
    "Progress",
    "References",
    "State",
    "as_toml",
    "execute",
    "initial_model",
    "load_experiment",
    "prepare",
    "stream",
]
