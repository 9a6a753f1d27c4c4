"""fedlens: federated learning for PyTorch that tells you why.

Names are loaded when they are first used, so that `fedlens --help` does not wait for torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

from fedlens._version import __version__

if TYPE_CHECKING:
    from fedlens.data import Data, Dataset, Split
    from fedlens.diagnosis import Certainty, Declared, Finding, Job, Upload
    from fedlens.engine import Engine, Network
    from fedlens.errors import ConfigurationError, DataError, FedlensError, RunError
    from fedlens.front import Run, diagnose, run
    from fedlens.local import Local, Schedule
    from fedlens.methods import (
        Method,
        ditto,
        fedadagrad,
        fedadam,
        fedasam,
        fedavg,
        fedavgm,
        fedbabu,
        fedbn,
        feddyn,
        fedexp,
        fedgkt,
        fedlc,
        fednova,
        fedntd,
        fedper,
        fedprox,
        fedrep,
        fedrs,
        fedsam,
        fedsgd,
        fedyogi,
        lgfedavg,
        moon,
        scaffold,
    )
    from fedlens.models import Model
    from fedlens.partition import IID, Classes, Dirichlet, Natural, Quantity, Shards, UnbalancedShards
    from fedlens.runs import Clients, Experiment, Privacy, References, initial_model, load_experiment, stream
    from fedlens.server import Communication, Server

_ROOMS = {
    "data": ("Data", "Dataset", "Split"),
    "diagnosis": ("Certainty", "Declared", "Finding", "Job", "Upload"),
    "engine": ("Engine", "Network"),
    "errors": ("ConfigurationError", "DataError", "FedlensError", "RunError"),
    "front": ("Run", "diagnose", "run"),
    "local": ("Local", "Schedule"),
    "methods": (
        "Method",
        "ditto",
        "fedadagrad",
        "fedadam",
        "fedasam",
        "fedavg",
        "fedavgm",
        "fedbabu",
        "fedbn",
        "feddyn",
        "fedexp",
        "fedgkt",
        "fedlc",
        "fednova",
        "fedntd",
        "fedper",
        "fedprox",
        "fedrep",
        "fedrs",
        "fedsam",
        "fedsgd",
        "fedyogi",
        "lgfedavg",
        "moon",
        "scaffold",
    ),
    "models": ("Model",),
    "partition": ("IID", "Classes", "Dirichlet", "Natural", "Quantity", "Shards", "UnbalancedShards"),
    "runs": ("Clients", "Experiment", "Privacy", "References", "initial_model", "load_experiment", "stream"),
    "server": ("Communication", "Server"),
}
_ROOM_OF = {name: room for room, names in _ROOMS.items() for name in names}

__all__ = ["__version__", *_ROOM_OF]


def __getattr__(name: str) -> Any:
    if name not in _ROOM_OF:
        raise AttributeError(f"module 'fedlens' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"fedlens.{_ROOM_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
