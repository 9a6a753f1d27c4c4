"""MNIST at 20 clients."""

from base import dirichlet, mnist

CLIENTS = 20


def load(seed):
    images, labels, test_images, test_labels = mnist()
    dealt = dirichlet(labels, CLIENTS, 0.5, seed)
    parts = [(pixels(images[rows]), labels[rows]) for rows in dealt]
    return parts, (pixels(test_images), test_labels)


def pixels(images):
    return (images.float() / 255 - 0.1307) / 0.3081
