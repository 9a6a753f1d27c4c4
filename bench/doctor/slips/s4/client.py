"""Local training with a teacher: the client's own answers of its last visit."""

import torch
import torch.nn.functional as F
from base import mlp
from torch.utils.data import DataLoader, TensorDataset

loss = F.cross_entropy
network = mlp


class Trainer:
    def __init__(self, parts, lr, batch, epochs, optimizer="sgd", method="distillation", weight=1.0, temperature=2.0):
        self.parts, self.lr, self.epochs = parts, lr, epochs
        self.weight, self.temperature = weight, temperature
        self.loaders = [DataLoader(TensorDataset(*part), batch_size=batch, shuffle=True) for part in parts]
        self.teacher_logits = [{} for _ in parts]

    def divergence(self, logits, teacher):
        student = F.log_softmax(logits / self.temperature, dim=1)
        target = F.softmax(teacher / self.temperature, dim=1)
        return F.kl_div(student, target, reduction="batchmean") * self.temperature**2

    def fit(self, client, received, round):
        model = network()
        model.load_state_dict(received)
        model.train()
        optimizer = torch.optim.SGD(model.parameters(), lr=self.lr)
        teacher = self.teacher_logits[client]
        for _ in range(self.epochs):
            for index, (inputs, labels) in enumerate(self.loaders[client]):
                logits = model(inputs)
                objective = loss(logits, labels)
                if index in teacher:
                    objective = objective + self.weight * self.divergence(logits, teacher[index])
                optimizer.zero_grad()
                objective.backward()
                optimizer.step()
        self.teacher_logits[client] = self.answers(model, self.loaders[client])
        return model.state_dict(), len(self.parts[client][1])

    @torch.no_grad()
    def answers(self, model, loader):
        model.eval()
        return {index: model(inputs) for index, (inputs, _) in enumerate(loader)}
