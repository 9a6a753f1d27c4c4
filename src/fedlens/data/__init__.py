"""Data: examples in memory, from wherever they lie.

Knows: where bytes are, how they are decoded, what the classes are called.
Does not know: clients, models.
Offers: Data (settings), Augment (names of augmentations), load, check_source, known_sources, SOURCES, Known; Dataset,
Split, check, moments.
"""

from fedlens.data.dataset import Dataset, Split, check, moments
from fedlens.data.known import SOURCES, Known
from fedlens.data.source import Augment, Data, check_source, known_sources, load

__all__ = [
    "SOURCES",
    "Augment",
    "Data",
    "Dataset",
    "Known",
    "Split",
    "check",
    "check_source",
    "known_sources",
    "load",
    "moments",
]
