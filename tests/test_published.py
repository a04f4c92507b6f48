"""Every published network has the authors' names and shapes, which stand in ``published.py``."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import published
import pytest
import torch
from torch import nn

from noisebook.papers import cyclegan, gap, linearized, regularity, xray

FAMILIES: dict[str, tuple[int, Callable[[], nn.Module], published.Shapes]] = {
    **{
        f"regularity s = {s}": (
            130,
            lambda s=s: regularity.model.UNet(s),
            {name: tuple(value.shape) for name, value in published.regularity(s, device="meta").items()},
        )
        for s in (1, 2, 3)
    },
    "generator": (32, cyclegan.model.Generator, published.GENERATOR),
    "discriminator": (5, cyclegan.model.Discriminator, published.DISCRIMINATOR),
    "gap 2-D": (78, gap.model.UNet, published.gap(published.GAP_2D, 2)),
    "gap 2-D, concat": (78, lambda: gap.model.UNet(merge="concat"), published.gap(published.GAP_2D, 2, concat=True)),
    "gap 3-D": (50, lambda: gap.model.UNet(3, depth=4), published.gap(published.GAP_3D, 3)),
    "gap 3-D, z stage 1": (
        50,
        lambda: gap.model.UNet(3, depth=4, z_conv_stage=1),
        published.gap(published.GAP_3D, 3, z_conv_stage=1),
    ),
    "linearized": (118, linearized.model.FBPConvNet, dict(published.fbpconvnet())),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_names_and_shapes_are_the_published_ones(name: str) -> None:
    """So many tensors; no name is missing or left over, and every shape is the authors'."""
    count, build, wanted = FAMILIES[name]
    with torch.device("meta"):
        found = {key: tuple(value.shape) for key, value in build().state_dict().items()}
    assert found == wanted
    assert len(found) == count


def as_keras(net: nn.Module) -> Iterator[tuple[int, ...]]:
    """Shapes of a net's weights in Keras' axes and order."""
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            yield tuple(layer.weight.permute(2, 3, 1, 0).shape if layer.weight.ndim == 4 else layer.weight.T.shape)
            yield tuple(layer.bias.shape)
        elif isinstance(layer, nn.BatchNorm2d):
            values: list[Any] = [layer.weight, layer.bias, layer.running_mean, layer.running_var]
            yield from (tuple(value.shape) for value in values)


@pytest.mark.parametrize(("name", "count"), [("ae-64", 2_525_719), ("ae-128", 692_811), ("residual", 12_634_631)])
def test_keras_layers_have_the_published_shapes(name: str, count: int) -> None:
    """Layer by layer in the order of the forward pass; not of the VAE: ours has a normalisation more than theirs."""
    with torch.device("meta"):
        net = xray.model.ResidualAutoencoder() if name == "residual" else xray.model.Autoencoder(int(name[3:]))
    assert list(as_keras(net)) == published.KERAS[name]
    assert sum(map(math.prod, published.KERAS[name])) == count
