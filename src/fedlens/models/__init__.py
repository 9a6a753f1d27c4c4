"""Networks for images, small and well known, with the normalisation that is asked for.

Knows: image shapes, layers, normalisation, values read from a file, what a network costs.
Does not know: anything federated; data, devices, training.
Offers: Model (settings), MODELS (the table), build, swap_norm, lasting, cost, Cost. The last layer of each is called
`head`.
"""

from functools import partial

from torch import nn

from fedlens.models.assemble import Entry, assemble
from fedlens.models.cnn import cifar_cnn, cnn, lenet, small_cnn
from fedlens.models.cost import Cost, cost
from fedlens.models.logistic import logistic
from fedlens.models.mlp import mlp
from fedlens.models.mobilenet import mobilenet_mnist, mobilenetv2
from fedlens.models.norm import swap_norm
from fedlens.models.resnet import resnet18, resnet50, thin_resnet
from fedlens.models.settings import Model
from fedlens.models.start import lasting, started

_DIGIT, _MNIST, _CIFAR = (1, 8, 8), (1, 28, 28), (3, 32, 32)

MODELS: dict[str, Entry] = {
    "logistic": Entry(logistic, "none", _MNIST, 1, "one linear layer: multinomial logistic regression"),
    "mlp": Entry(mlp, "none", _MNIST, 1, "one hidden layer of 200 (McMahan et al. 2017, their 2NN less one layer)"),
    "cnn": Entry(cnn, "none", _MNIST, 4, "two 5x5 convolutions and 512 units (McMahan et al. 2017)"),
    "cifar-cnn": Entry(cifar_cnn, "none", _CIFAR, 6, "two 3x3 convolutions and 128 units (after Reddi et al. 2021)"),
    "lenet": Entry(lenet, "none", _CIFAR, 16, "two 5x5 convolutions, 120 and 84 units (after LeCun et al. 1998)"),
    "small-cnn": Entry(small_cnn, "group", _DIGIT, 4, "two 3x3 convolutions, for 8 x 8 digits (ours)"),
    "resnet8": Entry(partial(thin_resnet, 1), "batch", _CIFAR, 1, "16-32-64, 1 block a stage (He et al. 2016)"),
    "resnet20": Entry(partial(thin_resnet, 3), "batch", _CIFAR, 1, "16-32-64, 3 blocks a stage (He et al. 2016)"),
    "resnet56": Entry(partial(thin_resnet, 9), "batch", _CIFAR, 1, "16-32-64, 9 blocks a stage (He et al. 2016)"),
    "resnet18": Entry(resnet18, "batch", _CIFAR, 1, "64 to 512, basic blocks, 3x3 stem (He et al. 2016)"),
    "resnet50": Entry(resnet50, "batch", _CIFAR, 1, "64 to 512, bottleneck blocks, 3x3 stem (He et al. 2016)"),
    "mobilenet-mnist": Entry(mobilenet_mnist, "batch", _MNIST, 1, "two separable convolutions (source document 004)"),
    "mobilenetv2": Entry(mobilenetv2, "batch", _CIFAR, 1, "inverted residuals, stride-1 stem (Sandler et al. 2018)"),
}


def build(model: Model, shape: tuple[int, ...], classes: int) -> nn.Module:
    """The network of `model`, float32, for images [N, *shape] (shape is C, H, W) and logits [N, classes].

    Initial weights come from PyTorch's global generator, which the caller seeds; batch, group and layer forms of one
    model start from the same weights under one seed. Values of `model.start` then take their place, and what
    `model.freeze` names takes no gradient. Raises ConfigurationError for an unknown name, images the model cannot take,
    groups that do not divide a layer's channels, a file that does not fit, and whatever fails in a user's own function.
    """
    return started(assemble(MODELS, model, shape, classes), model)


__all__ = ["MODELS", "Cost", "Entry", "Model", "build", "cost", "lasting", "swap_norm"]
