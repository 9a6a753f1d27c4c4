"""What distinguishes one federated algorithm from another: small pure functions over flat vectors.

Knows: formulas.
Does not know: devices, loaders, sampling, files, who calls.
Offers: Method (the contract), METHODS (the table), fedavg, fedsgd.
"""

from collections.abc import Callable

from fedlens.methods.fedavg import fedavg, fedsgd
from fedlens.methods.method import Method

METHODS: dict[str, Callable[..., Method]] = {
    "fedavg": fedavg,
    "fedsgd": fedsgd,
}

__all__ = ["METHODS", "Method", "fedavg", "fedsgd"]
