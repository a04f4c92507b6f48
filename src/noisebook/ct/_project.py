"""Projection of voxel images by Joseph's method (IEEE TMI 1982), and its exact adjoint."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from ._geometry import Geometry, Grid, by_turn, by_view, check_door, quarters, turned, unturned


def _crossings(geometry: Geometry, grid: Grid, like: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """For each view of the first quarter turn: pixels (D, 2 n) that a ray interpolates between, and their weights.

    A ray marches along the axis that it is closer to and interpolates across it; the pixels are those of an image with
    a frame of one pixel of zeros, so that a ray outside sees zero.
    """
    n = grid.pixels
    steps = torch.arange(n, dtype=like.dtype, device=like.device)
    first = [axis[0] for axis in grid.axes_mm(like.dtype, like.device)]
    starts, headings = (rays.to(like) for rays in geometry.rays())
    for start, heading in zip(starts, headings[: geometry.views // quarters(geometry, grid)], strict=False):
        steep = heading[:, 1].abs() > heading[:, 0].abs()
        main, cross = ((first[1 - k] + 0 * start[:, 0]).where(steep, first[k]) for k in (0, 1))
        main_start, cross_start = start[:, 1].where(steep, start[:, 0]), start[:, 0].where(steep, start[:, 1])
        slope = (heading[:, 0] / heading[:, 1]).where(steep, heading[:, 1] / heading[:, 0])
        origin = (cross_start + (main - main_start) * slope - cross) / grid.spacing_mm
        place = (origin[:, None] + slope[:, None] * steps + 1).clamp(0, n + 1)
        lower = place.floor().clamp(max=n)
        upper = place - lower
        length = grid.spacing_mm * (1 + slope.square()).sqrt()[:, None]
        along, across = (steps + 1).long().expand_as(lower), lower.long()
        stride = torch.where(steep[:, None], 1, n + 2)
        pixel = torch.where(steep[:, None], along * (n + 2) + across, across * (n + 2) + along)
        yield torch.cat([pixel, pixel + stride], 1), torch.cat([(1 - upper) * length, upper * length], 1)


def project(image: Tensor, geometry: Geometry, grid: Grid) -> Tensor:
    """Line integrals of voxel images, by Joseph's method.

    Args:
        image: (B, Y, X), linear attenuation in 1/mm.
        geometry: The scan.
        grid: The image grid.

    Returns:
        (B, V, D), dimensionless line integrals.

    Raises:
        ValueError: If shape, dtype or values are bad, or the source lies inside the image.

    Source: Joseph 1982. The paper projects with the distance-driven method; both interpolate linearly.
    """
    check_door("image", image, (None, grid.pixels, grid.pixels), geometry, grid)
    turns = quarters(geometry, grid)
    table = F.pad(turned(image, turns), (1, 1, 1, 1)).flatten(1).T.contiguous()
    out = [
        F.embedding_bag(pixels, table, mode="sum", per_sample_weights=weights)
        for pixels, weights in _crossings(geometry, grid, image)
    ]
    return by_view(torch.stack(out), turns).contiguous()


def project_adjoint(sinogram: Tensor, geometry: Geometry, grid: Grid) -> Tensor:
    """The exact adjoint of :func:`project`: (B, V, D) to (B, Y, X).

    Raises:
        ValueError: If shape, dtype or values are bad, or the source lies inside the image.
    """
    check_door("sinogram", sinogram, (None, *geometry.sinogram_shape), geometry, grid)
    turns, side = quarters(geometry, grid), grid.pixels + 2
    rows = by_turn(sinogram, turns)
    image = sinogram.new_zeros(side * side, rows.shape[2])
    for view, (pixels, weights) in zip(rows, _crossings(geometry, grid, sinogram), strict=True):
        image.index_add_(0, pixels.flatten(), (weights[..., None] * view[:, None]).flatten(0, 1))
    return unturned(image.T.reshape(-1, side, side)[:, 1:-1, 1:-1], turns)
