"""Evaluating a network on images larger than memory: in tiles that overlap by a halo, on the network's own grid."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noisebook._checks import check_finite, check_positive, check_tensor, error, model_takes

Sides = int | Sequence[int]
"""One number for every spatial axis, or one for each."""


def tiled(model: nn.Module, image: Tensor, *, tile: Sides, halo: Sides, stride: Sides = 1) -> Tensor:
    """Evaluate ``model`` tile by tile; equal to the whole image at once where the halo covers the receptive field.

    Args:
        model: From (B, C, Y, X) to the same height and width, or from (B, C, Z, Y, X) to the same volume. Not for
            networks with global statistics (instance normalisation, attention, global pooling): no halo makes those
            exact.
        image: (B, C, Y, X) or (B, C, Z, Y, X); sides of any length: they are padded by reflection to multiples of
            ``stride`` and the result is cropped back.
        tile: Side of the tiles' interiors, a multiple of ``stride``; a single number or one for each spatial axis.
        halo: Pixels added on each side of a tile, a multiple of ``stride``; at least the reach of the network.
        stride: The network's pooling grid; tiles start on it.

    Returns:
        (B, C', Y, X) or (B, C', Z, Y, X).

    Raises:
        ValueError: If ``tile`` or ``halo`` is not a multiple of ``stride``, or the image is no floating tensor, not
            finite, too small, or not what the model takes.
    """
    check_tensor("image", image)
    if image.ndim not in (4, 5):
        raise error("image", "4 axes (B, C, Y, X) or 5 axes (B, C, Z, Y, X)", f"shape {tuple(image.shape)}")
    check_finite("image", image)
    sides = tuple(image.shape[2:])
    grid, inner, around = (
        _each(name, n, len(sides)) for name, n in (("stride", stride), ("tile", tile), ("halo", halo))
    )
    for axis, step in enumerate(grid):
        check_positive("stride", step)
        for name, value in (("tile", inner[axis]), ("halo", around[axis])):
            if value % step or value < 0 or inner[axis] <= 0:
                raise error(name, f"a positive multiple of the stride {step}", value)
    more = [-side % step for side, step in zip(sides, grid, strict=True)]
    if any(pad >= side for pad, side in zip(more, sides, strict=True)):
        raise error("image", f"sides of more than half the stride {stride}", " x ".join(map(str, sides)))
    ends = [n for pad in reversed(more) for n in (0, pad)]
    padded = F.pad(image, ends, mode="reflect") if any(more) else image
    return _tiles(model, padded, inner, around)[_spatial((0, side) for side in sides)]


def _each(name: str, value: Sides, axes: int) -> tuple[int, ...]:
    values = (value,) * axes if isinstance(value, int) else tuple(value)
    if len(values) != axes:
        raise error(name, f"one number, or one for each of {axes} axes", value)
    return values


def _spatial(ends: Iterable[tuple[int, int]]) -> tuple[Any, ...]:
    """The index of a box: (start, end) of each spatial axis."""
    return (..., *(slice(start, end) for start, end in ends))


def _tiles(model: nn.Module, padded: Tensor, tile: tuple[int, ...], halo: tuple[int, ...]) -> Tensor:
    output: Tensor | None = None
    starts = [range(0, side, step) for side, step in zip(padded.shape[2:], tile, strict=True)]
    with torch.no_grad():
        for corner in itertools.product(*starts):
            before = [min(h, at) for h, at in zip(halo, corner, strict=True)]
            places = list(zip(corner, before, tile, halo, strict=True))
            crop = padded[_spatial((at - b, at + t + h) for at, b, t, h in places)]
            with model_takes(crop):
                part = model(crop)[_spatial((b, b + t) for _, b, t, _ in places)]
            if output is None:
                output = part.new_empty(*part.shape[:2], *padded.shape[2:])
            output[_spatial((at, at + t) for at, _, t, _ in places)] = part
    assert output is not None  # the loop runs at least once
    return output
