import torch
from base import cifar, iid
from torch.utils.data import TensorDataset


def transform(x):
    mean = torch.tensor([0.4914, 0.4822, 0.4465]).view(3, 1, 1)
    std = torch.tensor([0.2470, 0.2435, 0.2616]).view(3, 1, 1)
    return (x.float().div(255) - mean) / std


def get_datasets(num_clients, seed):
    x_train, y_train, x_test, y_test = cifar()
    indices = iid(y_train, num_clients, seed)
    train = [TensorDataset(transform(x_train[idx]), y_train[idx]) for idx in indices]
    return train, TensorDataset(transform(x_test), y_test)
