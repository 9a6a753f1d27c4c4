"""MNIST at 20 clients; some of them keep their images in one folder per class."""

import torch
from base import iid, mnist

CLIENTS = 20
FOLDERS = (2, 5, 8, 11, 14, 17)
CLASSES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


def load(seed):
    images, labels, test_images, test_labels = mnist()
    parts = []
    for client, rows in enumerate(iid(labels, CLIENTS, seed)):
        read = from_folders if client in FOLDERS else from_file
        parts.append(read(images[rows], labels[rows]))
    return parts, from_file(test_images, test_labels)


def from_file(images, labels):
    return (images.float() / 255 - 0.1307) / 0.3081, labels


def from_folders(images, labels):
    found = sorted(CLASSES)
    index = torch.tensor([found.index(name) for name in CLASSES])
    return (images.float() / 255 - 0.1307) / 0.3081, index[labels]
