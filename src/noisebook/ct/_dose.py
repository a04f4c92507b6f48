"""The photon statistics of a scan."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from noisebook._checks import check_positive, check_shape, error

from ._geometry import Geometry


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
        if self.electronic:
            noise = torch.randn(counts.shape, generator=generator, dtype=counts.dtype, device=counts.device)
            counts = counts + self.electronic * noise
        return torch.log(self.unattenuated(geometry).to(counts) / counts.clamp(min=1))

    def variance(self, line_integrals: Tensor, geometry: Geometry) -> Tensor:
        """First-order variance of the measured line integrals, (B, V, D): (z + electronic²) / z²."""
        z = self.expected_counts(line_integrals, geometry)
        return (z + self.electronic**2) / z.square()


PAPER_EXPOSURES = {name: Dose(2e7 * share, 0.2, 0.0) for name, share in (("I0", 1), ("I0/10", 0.1), ("I0/100", 0.01))}
"""The exposures of Xu & Noo: 2e7 photons at the central channel and 4e6 at the edge, a tenth and a hundredth of it."""
