"""Photon counts: simulated tissue and a user's own, how they are divided into input and target, and a solvable prior.

A. Krull et al., "Image Denoising and the Generative Accumulation of Photons", arXiv 2307.06607.

The prior is a few known images f_k of sum 1 with weights w_k. Photons x at random places have the posterior
p(k | x) ~ w_k prod_i f_ki^x_i, whatever their number; the next photon's distribution is sum_k p(k | x) f_k. It is what
the network should learn (section 3).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from noisebook import datasets
from noisebook._checks import check_finite, check_positive, check_rank, check_shape, error
from noisebook.phantoms import Cells

FIRST_TRAINING_SEED = 1000
"""Tissues for training have seeds from here on; those below are held out."""
CAP = 0.99
"""The largest share of the photons that may become the input."""
SIDE = 8
WEIGHTS = (0.3, 0.25, 0.2, 0.15, 0.1)
"""Probabilities of the five images."""


def tissues(seeds: Iterable[int], size: tuple[int, ...], mean: float) -> Tensor:
    """Planes or stacks of simulated tissue, one a seed: (N, 1, ...), expected photons."""
    planes = [Cells(k).image(size, mean) if len(size) == 2 else Cells(k).volume(size, mean) for k in seeds]  # type: ignore[arg-type]
    return torch.stack(planes)[:, None]


def drawn(seed: int, shape: tuple[int, ...], level_db: float) -> tuple[Tensor, Tensor]:
    """A held-out tissue and its photons, both (1, 1, Y, X) or (1, 1, Z, Y, X), at a pseudo-PSNR in dB."""
    truth = tissues([seed], shape, 10 ** (level_db / 10))
    return truth, torch.poisson(truth, generator=torch.Generator().manual_seed(seed))


def own_counts(path: str | Path, name: str = "") -> np.ndarray:
    """Photon counts of a user, (Y, X) or (Z, Y, X), as `noisebook.datasets.read_counts` reads them.

    Raises:
        ValueError: If the file is none of counts, by `noisebook.datasets.count_report`, or has other axes.
    """
    array = datasets.read_counts(path, name)
    if not (report := datasets.count_report(array)).counts:
        raise error(str(path), "photon counts", report.verdict)
    if array.ndim not in (2, 3):
        raise error(str(path), "an image (Y, X) or a stack (Z, Y, X)", f"shape {array.shape}")
    return array


@dataclass(frozen=True, eq=False)
class Split:
    """Counts divided in two.

    Attributes:
        input: The photons that the network sees, the counts' shape.
        target: The photons whose places it should predict, the same shape.
        capped: (B,) bool: whether the level drawn from the whole range asked for more than 0.99 of an image's photons.
    """

    input: Tensor
    target: Tensor
    capped: Tensor


def split(counts: Tensor, low_db: float, high_db: float, generator: torch.Generator) -> Split:
    """Divide each image's photons at a random level: pseudo-PSNR of the input uniform from ``low_db`` to ``high_db``.

    The authors cap the share of the input at 0.99, which piles the levels of dim images up at the cap. Here such an
    image's range ends at the cap instead and its level stays uniform; how often the cap would have acted is reported.

    Args:
        counts: (B, C, ...), float, not checked again.
        low_db: Lowest level, dB.
        high_db: Highest level, dB.
        generator: On the counts' device.

    Raises:
        ValueError: If the range is empty or not finite.

    Source: Krull et al. 2023: level = 10^(U / 10) / (mean + 1e-5), input ~ Binomial(x, level), target = x - input.
    """
    if not -math.inf < low_db <= high_db < math.inf:
        raise error("low_db, high_db", "two finite levels in rising order", f"{low_db} and {high_db}")
    mean = counts.flatten(1).mean(1) + 1e-5
    highest = 10 * (CAP * mean).log10()
    uniform = torch.rand(len(counts), generator=generator, device=counts.device)
    capped = low_db + uniform * (high_db - low_db) > highest
    top = highest.clamp(min=low_db, max=high_db)
    level = (10 ** ((low_db + uniform * (top - low_db)) / 10) / mean).clamp(max=CAP)
    share = level.reshape(-1, *[1] * (counts.ndim - 1)).expand_as(counts)
    kept = torch.binomial(counts, share.contiguous(), generator=generator)
    return Split(kept, counts - kept, capped)


def augmented(images: Tensor, generator: torch.Generator) -> Tensor:
    """Turn and mirror each image at random; z is mirrored, but never becomes y or x.

    Args:
        images: (B, C, Y, X): one of the 8 symmetries of the square each, of the 4 of a rectangle if sides differ; or
            (B, C, Z, Y, X): the same in every plane, and the order of the planes reversed or not.
        generator: Of any device.

    Returns:
        The same shape.
    """
    result = images
    axes = [*range(2, images.ndim)] + ([0] if images.shape[-1] == images.shape[-2] else [])  # 0: exchange y and x
    for axis in axes:
        chosen = torch.rand(len(images), generator=generator, device=generator.device) < 0.5
        turned = result.transpose(-1, -2) if axis == 0 else result.flip(axis)
        result = torch.where(chosen.to(images.device).reshape(-1, *[1] * (images.ndim - 1)), turned, result)
    return result


def thinned(
    image: Tensor, share: float | None, level: float, repeats: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Repeated Poisson draws of one image, each divided in input and target: claim G1.

    Args:
        image: (Y, X), expected photons.
        share: A fixed share of the photons becomes the input; if None, the authors' share level / mean(x), which
            depends on the draw.
        level: Photons per pixel that the authors' input should have.
        repeats: Draws.
        generator: Of the draws.

    Returns:
        Input and target, each (repeats, Y, X), counts.
    """
    drawn = torch.poisson(image.expand(repeats, *image.shape), generator=generator)
    mean = drawn.flatten(1).mean(1)[:, None, None]
    shares = torch.full_like(mean, share) if share is not None else (level / (mean + 1e-5)).clamp(max=CAP)
    kept = torch.binomial(drawn, shares.expand_as(drawn).contiguous(), generator=generator)
    return kept, drawn - kept


@dataclass(frozen=True, eq=False)
class ToyPrior:
    """Images and their probabilities.

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
                sums = [round(float(s), 6) for s in array.sum(1)]
                raise error(name, "positive values of sum 1", f"a minimum of {float(array.min()):g} and sums {sums}")

    def posterior(self, counts: Tensor) -> Tensor:
        """The probability of each image given photons, by enumeration: (B, C, Y, X) to (B, K), float64."""
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
