import numpy as np
import torch
from client import get_parameters, make_net, set_parameters


class Strategy:
    def __init__(self, num_clients, num_selected, x_test, y_test):
        self.num_clients, self.num_selected = num_clients, num_selected
        self.x_test, self.y_test = x_test, y_test
        self.net = make_net()
        self.initial = get_parameters(self.net)

    def initialize_parameters(self):
        return [array.copy() for array in self.initial]

    def configure_fit(self, server_round):
        return [int(cid) for cid in torch.randperm(self.num_clients)[: self.num_selected]]

    def aggregate_fit(self, parameters, results, server_round):
        counts = [num_examples for _, num_examples, _ in results]
        layers = zip(*(arrays for arrays, _, _ in results), strict=True)
        return [np.average(np.stack(layer), axis=0, weights=counts).astype(layer[0].dtype) for layer in layers]

    def evaluate(self, parameters, server_round):
        set_parameters(self.net, parameters)
        self.net.eval()
        with torch.inference_mode():
            logits = self.net(self.x_test)
        accuracy = float((logits.argmax(-1) == self.y_test).float().mean())
        return {"test_accuracy": accuracy}
