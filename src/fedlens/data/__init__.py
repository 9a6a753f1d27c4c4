"""Data: examples, from wherever they lie.

Knows: where bytes are, how they are decoded, what the classes are called.
Does not know: clients, models.
Offers: Data and Synthetic (settings), Augment (names of augmentations), load, check_source, known_sources, SOURCES,
Known; Dataset, Split, check, moments; Rows and Runs, for examples that are not in memory.
"""

from fedlens.data.dataset import Dataset, Split, check, moments
from fedlens.data.known import SOURCES, Known
from fedlens.data.rows import Rows, Runs
from fedlens.data.source import Augment, Data, check_source, known_sources, load
from fedlens.data.synthetic import Synthetic

__all__ = [
    "SOURCES",
    "Augment",
    "Data",
    "Dataset",
    "Known",
    "Rows",
    "Runs",
    "Split",
    "Synthetic",
    "check",
    "check_source",
    "known_sources",
    "load",
    "moments",
]
