"""The scan and the image grid: where rays and pixels lie."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

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


def check_door(name: str, array: Tensor, shape: tuple[int | None, ...], geometry: Geometry, grid: Grid) -> None:
    """Raise unless shape, dtype and values of ``array`` are good and the source lies outside the image."""
    check_shape(name, array, shape)
    if array.dtype not in (torch.float32, torch.float64):
        raise error(name, "float32 or float64", array.dtype, "Convert it first.")
    check_finite(name, array)
    corner = grid.pixels * grid.spacing_mm / math.sqrt(2) + math.hypot(*grid.centre_mm)
    if geometry.beam == "fan" and geometry.source_mm <= corner:
        raise error("source_mm", f"more than the {corner:g} mm from the axis to the image's corner", geometry.source_mm)


@dataclass(frozen=True)
class Grid:
    """A square image of ``pixels`` x ``pixels``.

    Args:
        pixels: Its side.
        spacing_mm: Distance of the pixel centres.
        centre_mm: The image's centre (x, y) from the axis of rotation; off the axis it is a target reconstruction.
    """

    pixels: int = 512
    spacing_mm: float = 0.75
    centre_mm: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        _check_count("pixels", self.pixels)
        check_positive("spacing_mm", self.spacing_mm)
        if len(self.centre_mm) != 2 or not all(map(math.isfinite, self.centre_mm)):
            raise error("centre_mm", "two finite numbers (x, y)", self.centre_mm)

    def axes_mm(self, dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
        """Pixel centres x of the columns and y of the rows, both (pixels,), mm."""
        index = torch.arange(self.pixels, dtype=dtype, device=device)
        axis = (index - (self.pixels - 1) / 2) * self.spacing_mm
        return axis + self.centre_mm[0], axis + self.centre_mm[1]

    def part(self, rows: slice, columns: slice) -> Grid:
        """The grid of a square part of this image.

        Args:
            rows: First and one past the last row.
            columns: Likewise, equally many.

        Raises:
            ValueError: If the part is not a square inside the image.
        """
        inside = all(0 <= s.start < s.stop <= self.pixels for s in (rows, columns))
        side = rows.stop - rows.start
        if not inside or side != columns.stop - columns.start:
            raise error("part", f"a square of an image of {self.pixels} x {self.pixels}", (rows, columns))
        middle = [s.start + (side - 1) / 2 - (self.pixels - 1) / 2 for s in (columns, rows)]
        x, y = (c + m * self.spacing_mm for c, m in zip(self.centre_mm, middle, strict=True))
        return Grid(side, self.spacing_mm, (x, y))


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

    def sparse(self, every: int) -> Geometry:
        """The scan that keeps only every so-manieth view.

        Raises:
            ValueError: If ``every`` does not divide the number of views.
        """
        _check_count("every", every)
        if self.views % every:
            raise error("every", f"a divisor of the {self.views} views", every)
        return replace(self, views=self.views // every)


def quarters(geometry: Geometry, grid: Grid) -> int:
    """Number of views that one set of indices serves: a quarter turn maps a centred square grid onto itself."""
    turns = 4 if geometry.beam == "fan" else 2
    return turns if geometry.views % turns == 0 and grid.centre_mm == (0.0, 0.0) else 1


def turned(image: Tensor, turns: int) -> Tensor:
    """An image (B, Y, X) as each quarter turn sees it, (turns * B, Y, X)."""
    return torch.cat([torch.rot90(image, k, (1, 2)) for k in range(turns)])


def unturned(images: Tensor, turns: int) -> Tensor:
    """The adjoint of `turned`: (turns * B, Y, X) to the sum (B, Y, X)."""
    return torch.stack([torch.rot90(part, -k, (1, 2)) for k, part in enumerate(images.chunk(turns))]).sum(0)


def by_turn(sinogram: Tensor, turns: int) -> Tensor:
    """Views of a sinogram (B, V, D) that share indices, side by side: (V / turns, D, turns * B)."""
    batch, views, channels = sinogram.shape
    return sinogram.reshape(batch, turns, views // turns, channels).permute(2, 3, 1, 0).flatten(2).contiguous()


def by_view(shared: Tensor, turns: int) -> Tensor:
    """The inverse of `by_turn`: (V / turns, D, turns * B) to (B, V, D)."""
    step, channels, both = shared.shape
    full = shared.reshape(step, channels, turns, both // turns).permute(3, 2, 0, 1)
    return full.reshape(both // turns, turns * step, channels)
