"""Tiled evaluation equals the whole image."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from noisebook.inference import tiled
from noisebook.papers.linearized.model import FBPConvNet


def net() -> FBPConvNet:
    """A three-level U-Net with random weights."""
    torch.manual_seed(0)
    model = FBPConvNet(2, 3).eval().double()
    nn.init.normal_(model.last.weight)
    return model


@pytest.mark.parametrize("size", [(96, 128), (90, 75)], ids=["on the grid", "odd"])
def test_tiles_equal_the_whole(size: tuple[int, int]) -> None:
    """With the network's halo and stride, tiles equal one pass over the (reflected and cropped) whole."""
    model, image = net(), 50 * torch.randn(1, 1, *size, dtype=torch.float64)
    whole = tiled(model, image, tile=256, halo=0, stride=model.stride)
    parts = tiled(model, image, tile=32, halo=model.halo, stride=model.stride)
    assert parts.shape == image.shape
    torch.testing.assert_close(parts, whole, rtol=0, atol=1e-10)


def test_the_halo_is_needed() -> None:
    """Without a halo tiles differ from the whole, so the test above can fail."""
    model, image = net(), 50 * torch.randn(1, 1, 64, 64, dtype=torch.float64)
    difference = tiled(model, image, tile=32, halo=0, stride=4) - tiled(model, image, tile=64, halo=0, stride=4)
    assert difference.abs().max() > 1e-3


def test_bad_tiles_are_refused() -> None:
    """Tiles off the pooling grid, NaN and images below half a stride raise."""
    model = net()
    image = torch.zeros(1, 1, 32, 32, dtype=torch.float64)
    with pytest.raises(ValueError, match="tile: expected a positive multiple of the stride 4, got 30"):
        tiled(model, image, tile=30, halo=4, stride=4)
    with pytest.raises(ValueError, match="halo: expected a positive multiple of the stride 4, got 3"):
        tiled(model, image, tile=32, halo=3, stride=4)
    with pytest.raises(ValueError, match="image: expected finite values"):
        tiled(model, image + math.nan, tile=32, halo=4, stride=4)
    with pytest.raises(ValueError, match="image: expected sides of more than half the stride 16"):
        tiled(model, image[..., :5, :], tile=32, halo=16, stride=16)


def test_tiles_of_a_volume_equal_the_whole() -> None:
    """A stack of 3-D convolutions is the same in tiles, with tile, halo and stride given for each axis."""
    torch.manual_seed(1)
    layers = (nn.Conv3d(1, 3, 3, padding=1), nn.ReLU(), nn.AvgPool3d((1, 2, 2)), nn.Upsample(scale_factor=(1, 2, 2)))
    model = nn.Sequential(*layers, nn.Conv3d(3, 2, (1, 3, 3), padding=(0, 1, 1))).double()
    image = torch.randn(2, 1, 7, 11, 14, dtype=torch.float64)
    whole = tiled(model, image, tile=64, halo=0, stride=(1, 2, 2))
    parts = tiled(model, image, tile=(2, 4, 6), halo=(1, 4, 4), stride=(1, 2, 2))
    assert parts.shape == (2, 2, 7, 11, 14)
    torch.testing.assert_close(parts, whole, rtol=0, atol=1e-12)


def test_wrong_ranks_and_numbers_of_sides_are_refused() -> None:
    """An image without batch axis, and two sides for three axes, raise."""
    with pytest.raises(ValueError, match=r"image: expected 4 axes \(B, C, Y, X\) or 5 axes"):
        tiled(nn.Identity(), torch.zeros(3, 4, 4), tile=4, halo=0)
    with pytest.raises(ValueError, match="tile: expected one number, or one for each of 3 axes"):
        tiled(nn.Identity(), torch.zeros(1, 1, 4, 4, 4), tile=(4, 4), halo=0)
