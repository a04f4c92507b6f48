"""A prior that can be solved: a few known images, whose posterior is found by enumeration.

With images f_k of sum 1 and weights w_k, photons x at random places have the posterior p(k | x) ~ w_k prod_i f_ki^x_i,
whatever their number; the next photon's distribution is sum_k p(k | x) f_k. It is what the network should learn
(A. Krull et al., arXiv 2307.06607, section 3).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from noisebook._checks import check_finite, check_positive, check_rank, check_shape, error

SIDE = 8
WEIGHTS = (0.3, 0.25, 0.2, 0.15, 0.1)
"""Chances of the five images."""


@dataclass(frozen=True, eq=False)
class ToyPrior:
    """Images and their chances.

    Attributes:
        images: (K, C, Y, X), each of sum 1, every pixel above 0.
        weights: (K,), of sum 1.

    Raises:
        ValueError: If a shape is wrong, or an image or the weights are not positive and of sum 1.
    """

    images: Tensor
    weights: Tensor

    def __post_init__(self) -> None:
        check_rank("images", self.images, 4, "(K, C, Y, X)")
        check_shape("weights", self.weights, (len(self.images),))
        for name, array in (("images", self.images.flatten(1)), ("weights", self.weights[None])):
            check_finite(name, array)
            if (array <= 0).any() or (array.sum(1) - 1).abs().max() > 1e-5:
                raise error(
                    name,
                    "positive values of sum 1",
                    f"a minimum of {float(array.min()):g} and sums {[round(float(s), 6) for s in array.sum(1)]}",
                )

    def posterior(self, counts: Tensor) -> Tensor:
        """The chance of each image given photons, by enumeration: (B, C, Y, X) to (B, K), float64."""
        check_shape("counts", counts, (None, *self.images.shape[1:]))
        evidence = counts.double().flatten(1) @ self.images.double().flatten(1).log().T
        return (evidence + self.weights.double().log()).softmax(1)

    def next_photon(self, counts: Tensor) -> Tensor:
        """The next photon's distribution, exactly: (B, C, Y, X) to the same shape, float64, each image of sum 1."""
        return torch.einsum("bk,kcyx->bcyx", self.posterior(counts), self.images.double())

    def draw(self, count: int, mean: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Photons of random images: counts (count, C, Y, X) of ``mean`` expected photons a pixel, and k, (count,)."""
        check_positive("count", count)
        check_positive("mean", mean)
        k = torch.multinomial(self.weights, count, replacement=True, generator=generator)
        rates = self.images[k] * (mean * self.images[0].numel())
        return torch.poisson(rates, generator=generator), k


def toy_prior() -> ToyPrior:
    """The five images of 8 x 8: bars that lie and stand, in two places each, and a disc; background 1, figure 4."""
    y, x = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    disc = (y - 3.5) ** 2 + (x - 3.5) ** 2 <= 6
    figures = ((y >= 1) & (y <= 2), (y >= 5) & (y <= 6), (x >= 1) & (x <= 2), (x >= 5) & (x <= 6), disc)
    images = 1 + 3 * torch.stack(figures)[:, None].float()
    return ToyPrior(images / images.sum((1, 2, 3), keepdim=True), torch.tensor(WEIGHTS))


class ExactPredictor(nn.Module):
    """Stands in for a perfectly trained network: the logarithm of `ToyPrior.next_photon`."""

    def __init__(self, prior: ToyPrior) -> None:
        super().__init__()
        self.prior = prior

    def forward(self, counts: Tensor) -> Tensor:
        """(B, C, Y, X) to the same shape."""
        return self.prior.next_photon(counts).log().to(counts.dtype)
