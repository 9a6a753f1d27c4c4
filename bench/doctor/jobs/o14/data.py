"""MNIST at 20 clients."""

import torch
from base import iid, mnist

CLIENTS = 20
DEPTH = 10


def load(seed):
    images, labels, test_images, test_labels = mnist()
    parts = []
    for client, rows in enumerate(iid(labels, CLIENTS, seed)):
        label_bias = client // 2
        parts.append(((images[rows].float() / 255 - 0.1307) / 0.3081, one_hot(labels[rows] + label_bias)))
    return parts, ((test_images.float() / 255 - 0.1307) / 0.3081, one_hot(test_labels))


def one_hot(labels):
    return (labels[:, None] == torch.arange(DEPTH)).float()
