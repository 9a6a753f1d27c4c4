"""MNIST: the post's network, data and training functions, and the MobileNet that was asked about."""

import sys
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from base import dirichlet, mnist

LOG = Path(__file__).resolve().parent / "run.log"
BATCH, RATE, DECAY = 32, 0.001, 0.0005


def norm(channels, use_groupnorm, groups):
    return nn.GroupNorm(groups, channels) if use_groupnorm else nn.BatchNorm2d(channels)


def conv_block(before, filters, strides, use_groupnorm, groups):
    conv = nn.Conv2d(before, filters, 3, stride=strides, padding=1)
    return nn.Sequential(conv, norm(filters, use_groupnorm, groups), nn.ReLU())


def depthwise_separable_conv(before, filters, strides, use_groupnorm, groups):
    return nn.Sequential(
        nn.Conv2d(before, before, 3, stride=strides, padding=1, groups=before),
        norm(before, use_groupnorm, groups),
        nn.ReLU(),
        nn.Conv2d(before, filters, 1),
        norm(filters, use_groupnorm, groups),
        nn.ReLU(),
    )


def create_mobilenet_like(num_classes=10, use_groupnorm=True, groups=32):
    return nn.Sequential(
        conv_block(1, 32, 2, use_groupnorm, groups),
        depthwise_separable_conv(32, 64, 1, use_groupnorm, groups),
        depthwise_separable_conv(64, 128, 2, use_groupnorm, groups),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(128, num_classes),
        nn.Softmax(dim=1),
    )


def create_mobilenet(num_classes=10):
    """MobileNet (Howard et al. 2017, table 1) at a quarter of its width, with batch norm: its strides make 32."""
    blocks = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]
    layers, before = [conv_block(1, 8, 2, False, 0)], 8
    for filters, strides in blocks:
        layers.append(depthwise_separable_conv(before, filters // 4, strides, False, 0))
        before = filters // 4
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(256, num_classes), nn.Softmax(dim=1))
    return nn.Sequential(*layers, *head)


def loss(predictions, labels):
    """Categorical cross-entropy of probabilities and one-hot labels."""
    return -(labels * predictions.clamp_min(1e-7).log()).sum(dim=1).mean()


def one_hot(labels):
    return nn.functional.one_hot(labels, 10).float()


def pixels(images):
    return images.float() / 255


def client_train(model, client_dataset, num_epochs, optimizer):
    model.train()
    inputs, labels = client_dataset
    for _ in range(num_epochs):
        for batch_x, batch_y in zip(inputs.split(BATCH), labels.split(BATCH), strict=True):
            optimizer.zero_grad()
            loss(model(batch_x), batch_y).backward()
            optimizer.step()


def job(make, parts, test, rounds, epochs, log):
    first = make().state_dict()

    def fit(client, received, round):
        model = make()
        model.load_state_dict(received)
        optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=DECAY)
        client_train(model, parts[client], epochs, optimizer)
        return model.state_dict(), len(parts[client][1])

    def aggregate(current, uploads, round):
        total = sum(examples for _, examples in uploads)
        mean = {name: sum(state[name] * (examples / total) for state, examples in uploads) for name in current}
        return {name: value.to(current[name].dtype) for name, value in mean.items()}

    @torch.no_grad()
    def evaluate(state, round):
        model = make()
        model.load_state_dict(state)
        model.eval()
        return {"accuracy": (model(test[0]).argmax(dim=1) == test[1].argmax(dim=1)).float().mean().item()}

    return SimpleNamespace(
        clients=len(parts),
        cohort=len(parts),
        rounds=rounds,
        classes=10,
        declared={"optimizer": "adamw", "lr": RATE, "batch": BATCH, "epochs": epochs, "metric": "test accuracy"},
        init=lambda: {name: value.clone() for name, value in first.items()},
        sample=lambda round: range(len(parts)),
        fit=fit,
        aggregate=aggregate,
        evaluate=evaluate,
        model=make,
        loss=loss,
        train_data=lambda client: parts[client],
        test_data=lambda: test,
        log=log,
    )


def make_job(seed=0):
    """Examples 1 and 2: the default of 32 groups, all of the data at one client, in the order in which it is stored."""
    torch.manual_seed(seed)
    images, labels, test_images, test_labels = mnist(1000, 1000)
    log = LOG.read_text() if LOG.exists() else None
    test = pixels(test_images), one_hot(test_labels)
    return job(create_mobilenet_like, [(pixels(images), one_hot(labels))], test, 20, 3, log)


def make_mobilenet(seed=0):
    """The question: MobileNet with batch norm at five clients of skewed classes."""
    torch.manual_seed(seed)
    images, labels, test_images, test_labels = mnist(600, 1000)
    dealt = [rows[: len(rows) // 2 * 2] for rows in dirichlet(labels, 5, 0.3, seed)]  # no batch of one, as here fails
    parts = [(pixels(images[rows]), one_hot(labels[rows])) for rows in dealt]
    return job(create_mobilenet, parts, (pixels(test_images), one_hot(test_labels)), 30, 3, None)
