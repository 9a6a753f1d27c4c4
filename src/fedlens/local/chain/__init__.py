"""Many clients of a small fully connected model at once, without automatic differentiation.

Knows: Linear and ReLU in a line, batches of several clients, sums of their updates.
Does not know: methods, uploads, who the clients are.
Offers: Chain, Stacked, chain_of (dense); Chunk (batches laid out); pays, sums, walk (without first-layer weights).
"""

from fedlens.local.chain.chain import Chain, Stacked, chain_of
from fedlens.local.chain.chunk import Chunk
from fedlens.local.chain.dual import pays, sums, walk

__all__ = ["Chain", "Chunk", "Stacked", "chain_of", "pays", "sums", "walk"]
