"""Two-dimensional CT: scan geometries, filtered back-projection and its exact adjoint, and the dose model.

Sources: A. C. Kak, M. Slaney, *Principles of Computerized Tomographic Imaging*, IEEE Press 1988, chapter 3 (parallel
beam: section 3.3; equiangular fan beam: section 3.4.1); J. Xu, F. Noo, "Linearized analysis of noise and
resolution for DL-based image generation", IEEE TMI 2022, doi 10.1109/TMI.2022.3214475 (exposures; appendix II, the
adjoint of fan-beam reconstruction).

Images are (B, Y, X) with row index along +y and column index along +x; sinograms are (B, V, D) line integrals over
views and channels. Every function keeps dtype and device of what it is given.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from noisebook._checks import check_finite, check_one_of, check_positive, check_shape, error

MU_WATER_PER_MM = 0.0192
"""Linear attenuation coefficient of water, 1/mm, at the effective energy of a 120 kV beam."""


def hu_to_mu(hu: Tensor) -> Tensor:
    """Linear attenuation in 1/mm of an image in HU, any shape."""
    return (hu / 1000 + 1) * MU_WATER_PER_MM


def mu_to_hu(mu: Tensor) -> Tensor:
    """Hounsfield units of a linear attenuation in 1/mm, any shape."""
    return (mu / MU_WATER_PER_MM - 1) * 1000


def _check_count(name: str, value: int) -> None:
    if value != int(value) or value < 1:
        raise error(name, "a whole number above zero", value)


def _check_door(name: str, array: Tensor, shape: tuple[int | None, ...], geometry: Geometry, grid: Grid) -> None:
    """Raise unless shape, dtype and values of ``array`` are good and the source lies outside the image."""
    check_shape(name, array, shape)
    if array.dtype not in (torch.float32, torch.float64):
        raise error(name, "float32 or float64", array.dtype, "Convert it first.")
    check_finite(name, array)
    corner = grid.pixels * grid.spacing_mm / math.sqrt(2)
    if geometry.beam == "fan" and geometry.source_mm <= corner:
        raise error("source_mm", f"more than the {corner:g} mm from the axis to the image's corner", geometry.source_mm)


@dataclass(frozen=True)
class Grid:
    """A square image of ``pixels`` x ``pixels`` with ``spacing_mm``, centred on the axis of rotation."""

    pixels: int = 512
    spacing_mm: float = 0.75

    def __post_init__(self) -> None:
        _check_count("pixels", self.pixels)
        check_positive("spacing_mm", self.spacing_mm)

    def axis_mm(self, dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu") -> Tensor:
        """Pixel centres along one axis, (pixels,), mm."""
        index = torch.arange(self.pixels, dtype=dtype, device=device)
        return (index - (self.pixels - 1) / 2) * self.spacing_mm


@dataclass(frozen=True)
class Geometry:
    """One circular scan.

    Args:
        beam: ``"fan"`` (equiangular channels on an arc about the source, views over 2 pi) or ``"parallel"``
            (views over pi).
        views: Number of equally spaced views.
        channels: Number of detector channels.
        pitch: Channel pitch: rad for a fan beam, mm for a parallel beam.
        source_mm: Distance from source to axis of rotation (fan beam only).
    """

    beam: str = "fan"
    views: int = 580
    channels: int = 672
    pitch: float = 1.2858 / 1085.6
    source_mm: float = 595.0

    def __post_init__(self) -> None:
        check_one_of("beam", self.beam, ("fan", "parallel"))
        _check_count("views", self.views)
        _check_count("channels", self.channels)
        check_positive("pitch", self.pitch)
        check_positive("source_mm", self.source_mm)
        if self.beam == "fan" and self.channels * self.pitch >= math.pi:
            raise error("fan angle", "below pi rad", self.channels * self.pitch, "Give the pitch of a fan beam in rad.")

    @property
    def sinogram_shape(self) -> tuple[int, int]:
        """(views, channels)."""
        return self.views, self.channels

    def angles_rad(self) -> Tensor:
        """View angles, (views,), float64."""
        span = 2 * math.pi if self.beam == "fan" else math.pi
        return torch.arange(self.views, dtype=torch.float64) * (span / self.views)

    def channel_coordinates(self) -> Tensor:
        """Fan angle in rad (fan beam) or signed distance from the axis in mm (parallel beam), (channels,), float64."""
        return (torch.arange(self.channels, dtype=torch.float64) - (self.channels - 1) / 2) * self.pitch

    def rays(self) -> tuple[Tensor, Tensor]:
        """Start points in mm and unit directions of all rays, both (views, channels, 2) as (x, y), float64."""
        beta, s = self.angles_rad()[:, None], self.channel_coordinates()[None]
        if self.beam == "parallel":
            normal = torch.stack([torch.cos(beta), torch.sin(beta)], -1)
            along = torch.stack([-torch.sin(beta), torch.cos(beta)], -1)
            return s[..., None] * normal, along.expand(-1, self.channels, -1)
        source = self.source_mm * torch.stack([-torch.sin(beta), torch.cos(beta)], -1)
        heading = torch.stack([torch.sin(beta + s), -torch.cos(beta + s)], -1)
        return source.expand(-1, self.channels, -1), heading


def _quarters(geometry: Geometry) -> int:
    """Number of views that one set of indices serves: a quarter turn maps a centred square grid onto itself."""
    turns = 4 if geometry.beam == "fan" else 2
    return turns if geometry.views % turns == 0 else 1


def _footprints(geometry: Geometry, grid: Grid, like: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """For each view of the first quarter turn: lower channel (P,) and the two interpolation weights (P, 2).

    Channels are those of a sinogram with one channel of zeros added before and two behind, so that pixels outside the
    fan see zero. The weights hold the distance weighting and the angular quadrature of Kak & Slaney.
    """
    axis = grid.axis_mm(like.dtype, like.device)
    y, x = (c.reshape(-1) for c in torch.meshgrid(axis, axis, indexing="ij"))
    angles = geometry.angles_rad().tolist()
    for beta in angles[: geometry.views // _quarters(geometry)]:
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
    _check_door("sinogram", sinogram, (None, *geometry.sinogram_shape), geometry, grid)
    turns, n = _quarters(geometry), grid.pixels
    batch, step = len(sinogram), geometry.views // turns
    rows = F.pad(sinogram, (1, 2)).reshape(batch, turns, step, -1).permute(2, 3, 1, 0).flatten(2).contiguous()
    image = sinogram.new_zeros(n * n, turns * batch)
    for view, (lower, weights) in zip(rows, _footprints(geometry, grid, sinogram), strict=True):
        pair = torch.stack([lower, lower + 1], 1)
        image += F.embedding_bag(pair, view, mode="sum", per_sample_weights=weights)
    parts = image.reshape(n, n, turns, batch).permute(2, 3, 0, 1)
    return torch.stack([torch.rot90(part, -k, (1, 2)) for k, part in enumerate(parts)]).sum(0)


def back_project_adjoint(image: Tensor, geometry: Geometry, grid: Grid) -> Tensor:
    """The exact adjoint of :func:`back_project`: (B, Y, X) to (B, V, D).

    Raises:
        ValueError: If shape, dtype or values are bad, or the source lies inside the image.
    """
    _check_door("image", image, (None, grid.pixels, grid.pixels), geometry, grid)
    turns, batch = _quarters(geometry), len(image)
    step, width = geometry.views // turns, geometry.channels + 3
    values = torch.stack([torch.rot90(image, k, (1, 2)) for k in range(turns)]).reshape(turns * batch, -1)
    out = image.new_zeros(step, turns * batch, width)
    for view, (lower, weights) in zip(out, _footprints(geometry, grid, image), strict=True):
        view.index_add_(1, lower, values * weights[:, 0])
        view.index_add_(1, lower + 1, values * weights[:, 1])
    full = out.reshape(step, turns, batch, width).permute(2, 1, 0, 3).reshape(batch, geometry.views, width)
    return full[..., 1:-2].contiguous()


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
    _check_door("sinogram", sinogram, (None, *geometry.sinogram_shape), geometry, grid)
    return back_project(_filter(sinogram * _cosine(geometry, sinogram), geometry, cutoff), geometry, grid)


def fbp_adjoint(image: Tensor, geometry: Geometry, grid: Grid, *, cutoff: float = 1.0) -> Tensor:
    """The exact adjoint of :func:`fbp`: (B, Y, X) to (B, V, D).

    Source: Xu & Noo 2022, appendix II: adjoint back-projection, ramp (self-adjoint), cosine weights.
    """
    filtered = _filter(back_project_adjoint(image, geometry, grid), geometry, cutoff)
    return filtered * _cosine(geometry, image)


@dataclass(frozen=True)
class Dose:
    """The photon statistics of a scan: Poisson counts behind a bow-tie filter, and electronic noise.

    Args:
        photons: Expected unattenuated photons of the central ray, per ray.
        edge_share: Share of ``photons`` that the bow-tie leaves at the outermost channel (Xu & Noo: 4e6 of 2e7).
        electronic: Standard deviation of the electronic noise, in counts.
    """

    photons: float = 2.0e5
    edge_share: float = 0.2
    electronic: float = 5.0

    def __post_init__(self) -> None:
        check_positive("photons", self.photons)
        if not 0 < self.edge_share <= 1:
            raise error("edge_share", "within (0, 1]", self.edge_share)
        if not self.electronic >= 0:
            raise error("electronic", "at least 0", self.electronic)

    def unattenuated(self, geometry: Geometry) -> Tensor:
        """Expected photons per ray without an object, (D,), float64: a cosine-shaped bow-tie."""
        s = geometry.channel_coordinates()
        share = torch.cos(s / s.abs().max().clamp(min=1e-12) * (math.pi / 2)) ** 2
        return self.photons * (self.edge_share + (1 - self.edge_share) * share)

    def expected_counts(self, line_integrals: Tensor, geometry: Geometry) -> Tensor:
        """Beer's law: expected counts of line integrals (B, V, D), the same shape."""
        check_shape("line_integrals", line_integrals, (None, *geometry.sinogram_shape))
        return self.unattenuated(geometry).to(line_integrals) * torch.exp(-line_integrals)

    def log_transform(self, counts: Tensor, geometry: Geometry, generator: torch.Generator) -> Tensor:
        """Measured line integrals of photon counts (B, V, D): add electronic noise, floor at one count, take -log."""
        noise = torch.randn(counts.shape, generator=generator, dtype=counts.dtype, device=counts.device)
        measured = (counts + self.electronic * noise).clamp(min=1)
        return torch.log(self.unattenuated(geometry).to(counts) / measured)

    def variance(self, line_integrals: Tensor, geometry: Geometry) -> Tensor:
        """First-order variance of the measured line integrals, (B, V, D): (z + electronic²) / z²."""
        z = self.expected_counts(line_integrals, geometry)
        return (z + self.electronic**2) / z.square()
