import numpy as np
import torch
from base import logistic


class Measurements:
    """Readings of 60 sensors and one of ten states, at 30 sites."""

    def __init__(self, seed=0):
        made = logistic(clients=30, features=60, seed=seed)
        sizes = [len(labels) for _, labels in made]
        x = torch.cat([inputs for inputs, _ in made])
        y = torch.cat([labels for _, labels in made])
        rng = np.random.default_rng(seed)
        x, y = x[rng.permutation(len(x))], y[rng.permutation(len(y))]
        self.x, self.y = x.split(sizes), y.split(sizes)

    def __getitem__(self, cid):
        return self.training(self.x[cid]), self.training(self.y[cid])

    @staticmethod
    def training(values):
        return values[: int(0.8 * len(values))]

    def test(self):
        rest = [int(0.8 * len(values)) for values in self.x]
        x = torch.cat([values[cut:] for values, cut in zip(self.x, rest, strict=True)])
        y = torch.cat([values[cut:] for values, cut in zip(self.y, rest, strict=True)])
        return x, y
