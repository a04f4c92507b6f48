"""Evaluating a network on images larger than memory: in tiles that overlap by a halo, on the network's own grid."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noisebook._checks import check_finite, check_positive, check_rank, check_tensor, error, model_takes


def tiled(model: nn.Module, image: Tensor, *, tile: int, halo: int, stride: int = 1) -> Tensor:
    """Evaluate ``model`` tile by tile; equal to the whole image at once where the halo covers the receptive field.

    Args:
        model: From (B, C, Y, X) to the same height and width. Not for networks with global statistics (instance
            normalisation, attention, global pooling): no halo makes those exact.
        image: (B, C, Y, X); sides of any length: they are padded by reflection to multiples of ``stride`` and the
            result is cropped back.
        tile: Side of the tiles' interiors, a multiple of ``stride``.
        halo: Pixels added on each side of a tile, a multiple of ``stride``; at least the reach of the network.
        stride: The network's pooling grid; tiles start on it.

    Returns:
        (B, C', Y, X).

    Raises:
        ValueError: If ``tile`` or ``halo`` is not a multiple of ``stride``, or the image is no floating tensor, not
            finite, too small, or not what the model takes.
    """
    check_tensor("image", image)
    check_rank("image", image, 4, "(B, C, Y, X)")
    check_finite("image", image)
    check_positive("stride", stride)
    for name, value in (("tile", tile), ("halo", halo)):
        if value % stride or value < 0 or tile <= 0:
            raise error(name, f"a positive multiple of the stride {stride}", value)
    height, width = image.shape[2:]
    below, right = -height % stride, -width % stride
    if below >= height or right >= width:
        raise error("image", f"sides of more than half the stride {stride}", f"{height} x {width}")
    padded = F.pad(image, (0, right, 0, below), mode="reflect") if below or right else image
    output: Tensor | None = None
    with torch.no_grad():
        for top in range(0, padded.shape[2], tile):
            for left in range(0, padded.shape[3], tile):
                up, back = min(halo, top), min(halo, left)
                crop = padded[:, :, top - up : top + tile + halo, left - back : left + tile + halo]
                with model_takes(crop):
                    part = model(crop)[:, :, up : up + tile, back : back + tile]
                if output is None:
                    output = part.new_empty(*part.shape[:2], *padded.shape[2:])
                output[:, :, top : top + tile, left : left + tile] = part
    assert output is not None  # the loop runs at least once
    return output[:, :, :height, :width]
