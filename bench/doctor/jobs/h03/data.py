from base import iid, mnist
from torch.utils.data import TensorDataset


def transform(x):
    return (x.float().div(255) - 0.1307) / 0.3081


def get_datasets(num_clients, seed):
    x_train, y_train, x_test, y_test = mnist()
    indices = iid(y_train, num_clients, seed)
    train = [TensorDataset(transform(x_train[idx]), y_train[idx]) for idx in indices]
    return train, TensorDataset(transform(x_test), y_test)
