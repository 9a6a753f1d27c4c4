"""What distinguishes one federated algorithm from another: small pure functions over flat vectors.

Knows: formulas.
Does not know: devices, loaders, sampling, files, who calls.
Offers: Method (the contract) with Client, Lesson, Server, Reduced; METHODS (the table); each method by name.
"""

from collections.abc import Callable

from fedlens.methods.adaptive import fedadagrad, fedadam, fedavgm, fedyogi
from fedlens.methods.fedavg import fedavg, fedsgd
from fedlens.methods.feddyn import feddyn
from fedlens.methods.fedexp import fedexp
from fedlens.methods.fedgkt import Transfer, fedgkt
from fedlens.methods.fednova import fednova
from fedlens.methods.fedprox import fedprox
from fedlens.methods.fedsam import fedasam, fedsam
from fedlens.methods.labelskew import fedlc, fedntd, fedrs
from fedlens.methods.method import Answers, Client, Lesson, Method, Phase, Reduced, Server
from fedlens.methods.moon import moon
from fedlens.methods.personal import ditto, fedbabu, fedbn, fedper, fedrep, lgfedavg
from fedlens.methods.scaffold import scaffold

METHODS: dict[str, Callable[..., Method]] = {
    "fedavg": fedavg,
    "fedsgd": fedsgd,
    "fedprox": fedprox,
    "scaffold": scaffold,
    "fednova": fednova,
    "feddyn": feddyn,
    "fedexp": fedexp,
    "fedavgm": fedavgm,
    "fedadagrad": fedadagrad,
    "fedadam": fedadam,
    "fedyogi": fedyogi,
    "fedsam": fedsam,
    "fedasam": fedasam,
    "fedlc": fedlc,
    "fedrs": fedrs,
    "fedntd": fedntd,
    "moon": moon,
    "fedbn": fedbn,
    "fedper": fedper,
    "fedrep": fedrep,
    "fedbabu": fedbabu,
    "lg-fedavg": lgfedavg,
    "ditto": ditto,
    "fedgkt": fedgkt,
}

__all__ = [
    "METHODS",
    "Answers",
    "Client",
    "Lesson",
    "Method",
    "Phase",
    "Reduced",
    "Server",
    "Transfer",
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
]
