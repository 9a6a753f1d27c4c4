"""A passive observer of what one call of anybody's `fit` does inside PyTorch.

Knows: how PyTorch is listened to while a call runs, and what is heard: networks, losses, labels, steps, gradients.
Does not know: the job, its rounds, or what any of this says of a cause.
Offers: watching, Watch.
"""

from fedlens.diagnosis.watch.listening import watching
from fedlens.diagnosis.watch.watch import Watch

__all__ = ["Watch", "watching"]
