"""Filtered back-projection and its exact adjoint (Kak & Slaney 1988, sections 3.3 and 3.4.1)."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from noisebook._checks import check_positive

from ._geometry import Geometry, Grid, by_turn, by_view, check_door, quarters, turned, unturned


def _footprints(geometry: Geometry, grid: Grid, like: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """For each view of the first quarter turn: lower channel (P,) and the two interpolation weights (P, 2).

    Channels are those of a sinogram with one channel of zeros added before and two behind, so that pixels outside the
    fan see zero. The weights hold the distance weighting and the angular quadrature of Kak & Slaney.
    """
    columns, rows = grid.axes_mm(like.dtype, like.device)
    y, x = (c.reshape(-1) for c in torch.meshgrid(rows, columns, indexing="ij"))
    angles = geometry.angles_rad().tolist()
    for beta in angles[: geometry.views // quarters(geometry, grid)]:
        across = x * math.cos(beta) + y * math.sin(beta)
        if geometry.beam == "parallel":
            position, weight = across, torch.full_like(across, math.pi / geometry.views)
        else:
            depth = geometry.source_mm + x * math.sin(beta) - y * math.cos(beta)
            position = torch.atan2(across, depth)
            weight = (2 * math.pi / geometry.views) / (across.square() + depth.square())
        channel = (position / geometry.pitch + (geometry.channels + 1) / 2).clamp(0, geometry.channels + 1)
        lower = channel.floor()
        upper = (channel - lower) * weight
        yield lower.long(), torch.stack([weight - upper, upper], 1)


def back_project(sinogram: Tensor, geometry: Geometry, grid: Grid) -> Tensor:
    """Distance-weighted back-projection with linear interpolation between channels.

    Args:
        sinogram: (B, V, D), filtered line integrals.
        geometry: The scan.
        grid: The image grid.

    Returns:
        (B, Y, X): the sum over views with the angular quadrature (parallel: pi/V; fan: 2 pi/V / L²).

    Raises:
        ValueError: If shape, dtype or values are bad, or the source lies inside the image.

    Source: Kak & Slaney, sections 3.3 and 3.4.1. Views a quarter turn apart share their indices.
    """
    check_door("sinogram", sinogram, (None, *geometry.sinogram_shape), geometry, grid)
    turns, n = quarters(geometry, grid), grid.pixels
    rows = by_turn(F.pad(sinogram, (1, 2)), turns)
    image = sinogram.new_zeros(n * n, rows.shape[2])
    for view, (lower, weights) in zip(rows, _footprints(geometry, grid, sinogram), strict=True):
        pair = torch.stack([lower, lower + 1], 1)
        image += F.embedding_bag(pair, view, mode="sum", per_sample_weights=weights)
    return unturned(image.T.reshape(-1, n, n), turns)


def back_project_adjoint(image: Tensor, geometry: Geometry, grid: Grid) -> Tensor:
    """The exact adjoint of :func:`back_project`: (B, Y, X) to (B, V, D).

    Raises:
        ValueError: If shape, dtype or values are bad, or the source lies inside the image.
    """
    check_door("image", image, (None, grid.pixels, grid.pixels), geometry, grid)
    turns = quarters(geometry, grid)
    values = turned(image, turns).flatten(1)
    out = image.new_zeros(geometry.views // turns, len(values), geometry.channels + 3)
    for view, (lower, weights) in zip(out, _footprints(geometry, grid, image), strict=True):
        view.index_add_(1, lower, values * weights[:, 0])
        view.index_add_(1, lower + 1, values * weights[:, 1])
    return by_view(out.transpose(1, 2), turns)[..., 1:-2].contiguous()


def _ramp(geometry: Geometry, cutoff: float, like: Tensor) -> Tensor:
    """Transfer function (rfft) of the band-limited ramp under a Hann window that ends at ``cutoff`` x Nyquist."""
    length = 2 ** math.ceil(math.log2(2 * geometry.channels))
    n = torch.arange(length, dtype=torch.float64)
    n = torch.minimum(n, length - n)
    spacing = geometry.pitch * n
    distance = torch.sin(spacing) if geometry.beam == "fan" else spacing
    kernel = torch.where(n % 2 == 1, -1 / (math.pi * distance).square(), torch.zeros(()).double())
    kernel[0] = 1 / (4 * geometry.pitch**2)
    kernel[n >= geometry.channels] = 0
    if geometry.beam == "fan":
        kernel = kernel / 2  # a full turn measures every line twice
    frequency = torch.fft.rfftfreq(length, 0.5).double() / cutoff
    window = torch.where(frequency < 1, 0.5 + 0.5 * torch.cos(math.pi * frequency), torch.zeros(()).double())
    transfer: Tensor = torch.fft.rfft(kernel * geometry.pitch).real * window
    return transfer.to(like.device, like.dtype)


def _filter(sinogram: Tensor, geometry: Geometry, cutoff: float) -> Tensor:
    """Ramp-filter the channels of (B, V, D); self-adjoint, because the kernel is even."""
    check_positive("cutoff", cutoff)
    transfer = _ramp(geometry, cutoff, sinogram)
    length = 2 * (len(transfer) - 1)
    filtered: Tensor = torch.fft.irfft(torch.fft.rfft(sinogram, length) * transfer, length)
    return filtered[..., : geometry.channels]


def _cosine(geometry: Geometry, like: Tensor) -> Tensor | float:
    """The weight source distance x cos(fan angle), (D,); 1 for parallel rays."""
    if geometry.beam == "parallel":
        return 1.0
    return (geometry.source_mm * torch.cos(geometry.channel_coordinates())).to(like.device, like.dtype)


def fbp(sinogram: Tensor, geometry: Geometry, grid: Grid, *, cutoff: float = 1.0) -> Tensor:
    """Filtered back-projection: line integrals (B, V, D) to linear attenuation (B, Y, X) in 1/mm.

    Args:
        sinogram: (B, V, D), dimensionless line integrals of the linear attenuation.
        geometry: The scan.
        grid: The image grid.
        cutoff: Where the Hann window of the ramp ends, as a share of the Nyquist frequency.

    Raises:
        ValueError: If shapes disagree, a value is not finite, or ``cutoff`` is not positive.

    Source: Kak & Slaney, section 3.3 (parallel) and 3.4.1 (equiangular fan).
    """
    check_door("sinogram", sinogram, (None, *geometry.sinogram_shape), geometry, grid)
    return back_project(_filter(sinogram * _cosine(geometry, sinogram), geometry, cutoff), geometry, grid)


def fbp_adjoint(image: Tensor, geometry: Geometry, grid: Grid, *, cutoff: float = 1.0) -> Tensor:
    """The exact adjoint of :func:`fbp`: (B, Y, X) to (B, V, D).

    Source: Xu & Noo 2022, appendix II: adjoint back-projection, ramp (self-adjoint), cosine weights.
    """
    filtered = _filter(back_project_adjoint(image, geometry, grid), geometry, cutoff)
    return filtered * _cosine(geometry, image)
