import copy

import numpy as np
import torch
from client import build_model


class Coordinator:
    def __init__(self, test_set, num_clients, per_round, seed=0):
        self.test_set = test_set
        self.num_clients = num_clients
        self.per_round = per_round
        self.rng = np.random.RandomState(seed)
        self.global_model = build_model()

    def initial_weights(self):
        return copy.deepcopy(self.global_model.state_dict())

    def select(self, round_idx):
        return self.rng.choice(self.num_clients, self.per_round, replace=False).tolist()

    def average(self, global_weights, results, round_idx):
        n = sum(r["num_samples"] for r in results)
        avg = {k: torch.zeros_like(v) for k, v in global_weights.items()}
        for r in results:
            for k in avg:
                avg[k] += r["weights"][k] * r["num_samples"] / n
        return avg

    def test(self, weights, round_idx):
        self.global_model.load_state_dict(weights)
        self.global_model.eval()
        x, y = self.test_set.tensors
        correct = 0
        with torch.no_grad():
            for xb, yb in zip(x.split(500), y.split(500), strict=True):
                correct += (self.global_model(xb).max(1)[1] == yb).sum().item()
        return {"test_acc": correct / len(y)}
