import torch
from base import cifar, iid
from torch.utils.data import TensorDataset


def read_camera(images):
    return images


def read_archive(images):
    return images.to(torch.float32)


def transform(images):
    if images.dtype == torch.uint8:
        images = images.float().div(255)
    return images


def get_datasets(num_clients, seed):
    x_train, y_train, x_test, y_test = cifar()
    train = []
    for number, idx in enumerate(iid(y_train, num_clients, seed)):
        read = read_camera if number < num_clients // 2 else read_archive
        train.append(TensorDataset(transform(read(x_train[idx])), y_train[idx]))
    return train, TensorDataset(transform(x_test), y_test)
