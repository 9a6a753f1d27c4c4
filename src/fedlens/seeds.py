"""Random numbers as data: a generator for every (seed, purpose, round, client), and no global state.

Knows: how to derive independent streams from one seed.
Does not know: what they are used for.
Offers: generator, torch_seed.
"""

from __future__ import annotations

import zlib

import numpy as np


def _sequence(seed: int, purpose: str, coordinates: tuple[int, ...]) -> np.random.SeedSequence:
    # crc32 and not hash(): Python salts string hashes, and a run must repeat in another process.
    return np.random.SeedSequence(seed, spawn_key=(zlib.crc32(purpose.encode()), *coordinates))


def generator(seed: int, purpose: str, *coordinates: int) -> np.random.Generator:
    """An independent generator for `purpose` at `coordinates` (round, client, step ...).

    Equal arguments give equal streams in every process, on every platform and in any order of use.
    Source: NumPy's SeedSequence (O'Neill's seed_seq design), which mixes the seed with the coordinates.
    """
    return np.random.Generator(np.random.PCG64(_sequence(seed, purpose, coordinates)))


def torch_seed(seed: int, purpose: str, *coordinates: int) -> int:
    """A 63-bit seed for a torch generator, derived like `generator`."""
    return int(_sequence(seed, purpose, coordinates).generate_state(1, np.uint64)[0] >> np.uint64(1))
