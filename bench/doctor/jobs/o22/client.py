import torch
import torch.nn.functional as F
from base import mlp
from torch.utils.data import DataLoader


def build_model():
    return mlp()


def criterion(output, target):
    return F.cross_entropy(output, target)


class LocalUpdate:
    def __init__(self, args, datasets):
        self.args = args
        self.datasets = datasets

    def train(self, idx, global_weights, round_idx):
        net = build_model()
        net.load_state_dict(global_weights)
        net.train()
        loader = DataLoader(self.datasets[idx], batch_size=self.args["batch"], shuffle=True)
        opt = torch.optim.SGD(net.parameters(), lr=self.args["lr"])
        losses = []
        for _epoch in range(self.args["epochs"]):
            for x, y in loader:
                opt.zero_grad()
                batch_loss = criterion(net(x), y)
                batch_loss.backward()
                opt.step()
                losses.append(batch_loss.item())
        return {
            "weights": net.state_dict(),
            "num_samples": len(self.datasets[idx]),
            "metrics": {"train_loss": sum(losses) / len(losses)},
        }
